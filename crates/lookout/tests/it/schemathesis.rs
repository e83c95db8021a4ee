//! schemathesis against the running server: no 5xx, and no answer that `/openapi.json` does not say.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use lookout_test::{Anvil, TestApp, part};
use serde_json::Value;
use tokio::process::Command;

/// Fixed, so that a failure repeats.
const SEED: u64 = 20_261;
/// Cases for each operation and phase: under a minute for all, on one core.
const EXAMPLES: &str = "60";
/// All checks but two: no schema says which checksum an address has, or when a key may end, so valid
/// data may be refused; and JSON-RPC refuses inside a 200.
const CHECKS: &str = "
[checks]
positive_data_acceptance.enabled = false

[[operations]]
include-path = \"/v1/rpc/{chain}\"
checks.negative_data_rejection.enabled = false
";
/// Beyond this it hangs.
const WITHIN: Duration = Duration::from_secs(300);

/// A server on a chain with some history, a key for all of it, and schemathesis.
struct Scene {
    app: TestApp,
    key: String,
    python: PathBuf,
    /// A transaction and a token of the chain.
    transaction: String,
    token: String,
    _anvil: Anvil,
}

impl Scene {
    async fn start() -> Option<Self> {
        let python = part::tool("schemathesis/bin/python", "dev/get-schemathesis");
        let python = part::require("schemathesis", python)?;
        let anvil = Anvil::for_test().await?;
        let receipt = anvil.transfer(0, anvil.account(1), "0x1").await.unwrap();
        let token = anvil.deploy_demo_token().await.unwrap().address;
        // Enough that `safe` and `finalized` are blocks of their own.
        anvil.mine(100).await.unwrap();
        let app = TestApp::builder(env!("CARGO_BIN_EXE_lookout"))
            .chain("anvil", anvil.chain_id(), &[anvil.url()])
            .chain_extra("follow = \"blocks\"\nfollow_from = 0")
            // Thousands of requests a second from one key are what this test is.
            .config_extra(
                "[limits]\nrequests_per_second_per_key = 0\nrequests_per_second_per_address = 0",
            )
            .start()
            .await
            .unwrap();
        // It makes keys itself, and from the first key on nobody is let in without one.
        let made = app.run(&["keys", "create", "--scopes", "*"]).await.unwrap();
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        assert!(key.starts_with("lk_"), "{}", String::from_utf8_lossy(&made.stderr));
        let transaction = receipt["transactionHash"].as_str().unwrap().to_owned();
        Some(Self { app, key, python, transaction, token, _anvil: anvil })
    }

    /// Runs it over a document; `parameters` are lines of its configuration.
    async fn run(&self, document: &str, parameters: &str, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("{parameters}{CHECKS}");
        std::fs::write(folder.path().join("schemathesis.toml"), config).unwrap();
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "schemathesis.cli", "run", document, "--url", &self.app.url("")])
            .args(["--header", &format!("Authorization: Bearer {}", self.key)])
            .args(["--phases", "examples,coverage,fuzzing"])
            .args(["--seed", &SEED.to_string(), "--continue-on-failure", "--no-shrink"])
            .args(["--suppress-health-check", "all", "--warnings", "off"])
            // An answer without an end.
            .args(["--exclude-path", "/v1/stream"])
            .args(arguments)
            .current_dir(folder.path())
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .env("PYTHONPATH", hooks())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        let output = tokio::time::timeout(WITHIN, command.output()).await;
        output.expect("schemathesis ends").unwrap()
    }

    async fn document(&self) -> Value {
        self.app.get("/openapi.json").await.json()
    }
}

fn hooks() -> PathBuf {
    part::repository().join("crates/lookout/tests/clients")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// How many cases it says that it tried.
fn cases(text: &str) -> usize {
    let line = text.lines().find(|line| line.contains(" generated, "));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no count of cases in:\n{text}"))
}

#[tokio::test]
async fn every_answer_is_a_documented_one() {
    let Some(scene) = Scene::start().await else { return };
    let document = scene.app.url("/openapi.json");
    // With made-up chains, blocks and tokens almost everything ends early in a 404, with real ones
    // late; both are worth a look.
    let (transaction, token) = (&scene.transaction, &scene.token);
    let chain =
        format!("[parameters]\n\"path.chain\" = \"anvil\"\n\"path.hash\" = \"{transaction}\"\n");
    let block = format!("{chain}\"query.block\" = \"latest\"\n");
    let asset = format!("{block}\"query.asset\" = \"{token}\"\n");
    for (parameters, examples, paths, at_least) in [
        ("", "20", ".*", 500),
        (&chain, EXAMPLES, ".*", 1000),
        (&block, EXAMPLES, "/balance", 50),
        (&asset, EXAMPLES, "/balance", 50),
    ] {
        let arguments = ["--max-examples", examples, "--include-path-regex", paths];
        let output = scene.run(&document, parameters, &arguments).await;
        let text = text(&output);
        assert!(output.status.success(), "schemathesis found:\n{text}");
        assert!(cases(&text) >= at_least, "it hardly tried anything on {paths}:\n{text}");
    }
    let answer = scene.app.get("/healthz").await;
    assert_eq!(answer.status, 200, "the server is as well as before");
}

/// A check that cannot fail is none: the same run over documents that say too little, or other
/// than the server does, must fail, and say where.
#[tokio::test]
async fn an_undocumented_answer_is_found() {
    let Some(scene) = Scene::start().await else { return };
    let document = scene.document().await;
    let folder = tempfile::tempdir().unwrap();
    for (pointer, replacement, finding) in [
        ("/paths/~1block~1{number}/get/responses/404", None, "Undocumented status code"),
        (
            "/components/schemas/BalanceAnswer/properties/balanceWei",
            Some(r#"{"type":"integer"}"#),
            "Response violates schema",
        ),
        (
            "/paths/~1healthz/get/responses/200/content",
            Some(r#"{"text/plain":{}}"#),
            "Undocumented Content-Type",
        ),
    ] {
        let file = folder.path().join("openapi.json");
        write_changed(&file, &document, pointer, replacement);
        let operation = ["--include-path-regex", "^/(block/.number.|address/.*|healthz)$"];
        let arguments = [&operation[..], &["--max-examples", "5"]].concat();
        let output = scene.run(file.to_str().unwrap(), "", &arguments).await;
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{pointer} went unseen:\n{text}");
        assert!(text.contains(finding), "{pointer}: no `{finding}` in:\n{text}");
    }
}

/// Writes the document with one value taken out or replaced.
fn write_changed(file: &Path, document: &Value, pointer: &str, replacement: Option<&str>) {
    let mut changed = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    let members = parent.as_object_mut().unwrap();
    assert!(members.remove(name).is_some(), "no {pointer} in the document");
    if let Some(replacement) = replacement {
        members.insert(name.to_owned(), serde_json::from_str(replacement).unwrap());
    }
    std::fs::write(file, changed.to_string()).unwrap();
}
