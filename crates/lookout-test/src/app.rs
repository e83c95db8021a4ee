//! The real `lookout` binary, running in a temporary folder.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::part::environment;
use crate::process::Process;
use crate::rpc::{Rpc, http_client};

/// It starts in well under a second; a machine busy with compiling may be far slower.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for anything that the server was told to do.
pub const DONE_WITHIN: Duration = Duration::from_secs(30);
/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Heads are polled often, so that tests do not wait for them.
const POLL_INTERVAL_MS: u64 = 50;

/// A running server; it and its folder end with this value. A panicking test prints its log.
pub struct TestApp {
    builder: Builder,
    folder: TempDir,
    process: Process,
    address: SocketAddr,
    http: reqwest::Client,
}

/// Options of a server to start.
#[derive(Debug, Clone)]
pub struct Builder {
    binary: PathBuf,
    listen: String,
    chains: String,
    extra: String,
    environment: Vec<(String, String)>,
    wait_ready: bool,
    roles: Option<String>,
    store: Option<PathBuf>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in the answer {:?}: {}", self.status, self.text())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Builder {
    /// Reads this chain from these upstreams, named `<chain>-0`, `<chain>-1` and so on.
    #[must_use]
    pub fn chain<U: AsRef<str>>(mut self, name: &str, id: u64, urls: &[U]) -> Self {
        let upstreams: Vec<String> = urls
            .iter()
            .enumerate()
            .map(|(n, url)| format!("  {{ name = \"{name}-{n}\", url = \"{}\" }},\n", url.as_ref()))
            .collect();
        let section = format!(
            "\n[chains.{name}]\nid = {id}\npoll_interval_ms = {POLL_INTERVAL_MS}\n\
             upstreams = [\n{}]\n",
            upstreams.concat()
        );
        self.chains.push_str(&section);
        self
    }

    /// Adds keys to the last chain, as TOML.
    #[must_use]
    pub fn chain_extra(mut self, toml: &str) -> Self {
        writeln!(self.chains, "{toml}").expect("a string takes everything");
        self
    }

    /// Adds sections, as TOML.
    #[must_use]
    pub fn config_extra(mut self, toml: &str) -> Self {
        writeln!(self.extra, "\n{toml}").expect("a string takes everything");
        self
    }

    /// Sets an environment variable; the server sees no others but `PATH` and `HOME`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Listens here instead of on a free port; only for people, never for tests.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Does not wait until a chain has a head, for tests of what happens before.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Takes only these roles, comma-separated.
    #[must_use]
    pub fn roles(mut self, roles: &str) -> Self {
        self.roles = Some(roles.to_owned());
        self
    }

    /// Keeps the store in this folder instead of the server's own.
    #[must_use]
    pub fn store_in(mut self, folder: &Path) -> Self {
        self.store = Some(folder.to_owned());
        self
    }

    /// Keeps events in this folder instead of the server's own.
    #[must_use]
    pub fn warehouse_in(self, folder: &Path) -> Self {
        self.config_extra(&format!("[warehouse]\nurl = \"sqlite:{}/events.db\"", folder.display()))
    }

    /// Keeps frames in this folder instead of the server's own.
    #[must_use]
    pub fn bus_in(self, folder: &Path) -> Self {
        self.config_extra(&format!("[bus]\nurl = \"local:{}/frames\"", folder.display()))
    }

    /// The configuration file that this makes.
    pub fn config(&self) -> String {
        let store = self.store.as_deref().unwrap_or(Path::new("")).join("lookout.db");
        format!(
            "[server]\nlisten = \"{}\"\n\n[store]\nurl = \"sqlite:{}\"\n\n[log]\n\
             format = \"json\"\n{}{}",
            self.listen,
            store.display(),
            self.extra,
            self.chains
        )
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start; the error holds its last lines.
    pub async fn start(self) -> Result<TestApp> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        std::fs::write(folder.path().join("lookout.toml"), self.config())?;
        let (process, address) = spawn(&self, folder.path()).await?;
        let app = TestApp { builder: self, folder, process, address, http: http_client() };
        app.wait_ready().await?;
        Ok(app)
    }

    /// Runs one command of the binary to its end, in this folder.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn run(&self, folder: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(folder);
        command.args(arguments).kill_on_drop(true);
        tokio::time::timeout(START_WITHIN, command.output())
            .await
            .with_context(|| format!("`lookout {}` does not end", arguments.join(" ")))?
            .context("cannot start the binary")
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(folder).env_clear();
        // A developer's own variables must not change what is tested.
        for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
            if let Some(value) = environment(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

async fn spawn(builder: &Builder, folder: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = builder.command(folder);
    command.args(["serve", "--config", "lookout.toml"]);
    if let Some(roles) = &builder.roles {
        command.args(["--roles", roles]);
    }
    let process = Process::spawn("lookout", command)?;
    let address = process.line(START_WITHIN, bound_address).await?;
    Ok((process, address))
}

/// The address in the log line that says where the server listens.
fn bound_address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str().filter(|message| message.contains("listening"))?;
    line["address"].as_str()?.parse().ok()
}

impl TestApp {
    /// Options for a server of this binary, usually `env!("CARGO_BIN_EXE_lookout")`.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder {
            binary: binary.into(),
            listen: "127.0.0.1:0".into(),
            chains: String::new(),
            extra: String::new(),
            environment: Vec::new(),
            wait_ready: true,
            roles: None,
            store: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// JSON-RPC of a chain.
    pub fn rpc(&self, chain: &str) -> Rpc {
        Rpc::new(self.url(&format!("/v1/rpc/{chain}")))
    }

    /// Asks for a path.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await.expect("an answer")
    }

    /// Sends JSON to a path.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, Some(body.to_string())).await.expect("an answer")
    }

    /// Sends any request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.with_context(|| format!("no answer to {path}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("{path} broke off"))?;
        Ok(Answer { status, headers, body })
    }

    /// Waits until the agreed head of a chain is this block, by hash.
    ///
    /// # Errors
    /// When that does not come to pass.
    pub async fn wait_head(&self, chain: &str, hash: &str) -> Result<()> {
        self.wait_for(&format!("/v1/chains/{chain}/head"), |answer| {
            answer.status == 200 && answer.json()["data"]["latest"]["hash"] == hash
        })
        .await
        .with_context(|| format!("the head of {chain} is not {hash}"))
    }

    /// Asks for a path until the answer is as wanted.
    ///
    /// # Errors
    /// When it is not within the time that anything takes.
    pub async fn wait_for(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<()> {
        let wait = async {
            loop {
                if let Ok(answer) = self.send(Method::GET, path, &[], None).await
                    && wanted(&answer)
                {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(DONE_WITHIN, wait)
            .await
            .map_err(|_| anyhow!("{path} does not answer as wanted; {}", self.process.tail()))
    }

    /// Waits for a log line whose message holds this text, and gives its fields.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn wait_log(&self, text: &str) -> Result<Value> {
        self.process
            .line(DONE_WITHIN, |line| {
                let line: Value = serde_json::from_str(line).ok()?;
                line["message"].as_str()?.contains(text).then_some(line)
            })
            .await
    }

    /// Its log so far, one JSON object a line.
    pub fn logs(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Asks it to end (SIGTERM) and gives its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        self.process.signal("TERM").await?;
        Ok(self.process.wait(DONE_WITHIN).await?.code())
    }

    /// Sends it a signal, for example `HUP`.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name).await
    }

    /// Takes these roles from the next start on; all of them with `None`.
    pub fn set_roles(&mut self, roles: Option<&str>) {
        self.builder.roles = roles.map(str::to_owned);
    }

    /// Starts it again in the same folder, on another port, killing it first if it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.begin_restart().await?;
        self.wait_ready().await
    }

    /// As [`TestApp::restart`], but only until it listens: it has yet to catch up with anything.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn begin_restart(&mut self) -> Result<()> {
        if self.process.is_running()? {
            self.process.kill().await?;
        }
        (self.process, self.address) = spawn(&self.builder, self.folder.path()).await?;
        Ok(())
    }

    /// Replaces its configuration file at once, which makes it reload.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, toml: &str) -> Result<()> {
        let new = self.folder.path().join("lookout.toml.new");
        std::fs::write(&new, toml)?;
        std::fs::rename(new, self.folder.path().join("lookout.toml")).context("cannot replace")
    }

    /// Runs one command of the binary to its end, in the server's folder.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.builder.run(self.folder.path(), arguments).await
    }

    /// Waits until the store answers and every chain has a head.
    async fn wait_ready(&self) -> Result<()> {
        if !self.builder.wait_ready {
            return Ok(());
        }
        self.wait_for("/readyz", |answer| {
            answer.status == 200
                && answer.json()["chains"]
                    .as_array()
                    .is_some_and(|chains| chains.iter().all(|chain| !chain["head"].is_null()))
        })
        .await
    }

    /// One JSON-RPC call whose result is expected.
    ///
    /// # Errors
    /// When there is none.
    pub async fn call(&self, chain: &str, method: &str, params: Value) -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.post(&format!("/v1/rpc/{chain}"), &body).await.json();
        answer.get("result").cloned().with_context(|| format!("{method}: {answer}"))
    }
}

impl Drop for TestApp {
    #[expect(clippy::print_stderr, reason = "a failed test needs the server's side of it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of lookout\n{}\n---", self.process.lines().join("\n"));
        }
    }
}
