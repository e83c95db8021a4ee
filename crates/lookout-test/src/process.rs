//! A child process that cannot outlive the test that started it.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Lines kept of a process's output: whole logs of a test, but not of a runaway process.
const LINES_MAX: usize = 50_000;

/// A running child. Dropping it kills it; a guard kills it too when this process dies uncleanly.
pub struct Process {
    name: String,
    child: Child,
    /// Waits on a pipe that only this process holds open, then kills the child.
    guard: Child,
    output: Arc<Output>,
    changes: watch::Receiver<Progress>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
}

/// What a waiting reader needs to know: that there is something new, or that nothing will come.
#[derive(Clone, Copy)]
struct Progress {
    lines: u64,
    open_streams: u8,
}

impl Process {
    /// Starts the command, in a process group of its own, and collects its output by lines.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A ctrl-C in the terminal is for us; we end our children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("the process ended at once")?;
        let guard = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -9 \"$1\" 2>/dev/null", "guard", &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the guard of a child process")?;
        let output = Arc::new(Output::default());
        let (sender, changes) = watch::channel(Progress { lines: 0, open_streams: 2 });
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        tokio::spawn(collect(stdout, Arc::clone(&output), sender.clone()));
        tokio::spawn(collect(stderr, Arc::clone(&output), sender));
        Ok(Self { name: name.to_owned(), child, guard, output, changes })
    }

    /// Waits for a line that `pick` accepts, from the start of the output.
    ///
    /// # Errors
    /// When time runs out or the process ends before; the error holds the last lines.
    pub async fn line<T>(&self, within: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut changes = self.changes.clone();
        let search = async {
            loop {
                let open = changes.borrow_and_update().open_streams > 0;
                if let Some(found) = self.output.lines.lock().iter().find_map(|line| pick(line)) {
                    return Some(found);
                }
                if !open || changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        let why = match tokio::time::timeout(within, search).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "it ended first".to_owned(),
            Err(_) => format!("nothing within {within:?}"),
        };
        Err(anyhow!("{} did not say what was waited for: {why}; {}", self.name, self.tail()))
    }

    /// Everything said so far, oldest first, up to a limit.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines.lock().iter().cloned().collect()
    }

    /// The last few lines, for error messages.
    pub fn tail(&self) -> String {
        let lines = self.output.lines.lock();
        let last: Vec<&str> = lines.iter().rev().take(20).map(String::as_str).collect();
        format!("its last lines:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// The process id; `None` once it has been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal by name, for example `TERM` or `HUP`.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.id().with_context(|| format!("{} is gone", self.name))?;
        // The workspace forbids unsafe code, so the signal goes through the shell's command.
        let status = Command::new("/bin/sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "signal", signal, &pid.to_string()])
            .status()
            .await
            .context("cannot run kill")?;
        if !status.success() {
            bail!("cannot send {signal} to {}", self.name);
        }
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it is still running after the time given.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let status = tokio::time::timeout(within, self.child.wait())
            .await
            .map_err(|_| anyhow!("{} still runs after {within:?}; {}", self.name, self.tail()))??;
        // Its process id may now become another's.
        self.guard.kill().await.context("cannot end the guard")?;
        Ok(status)
    }

    /// Kills the process as a crash would (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))?;
        self.guard.kill().await.context("cannot end the guard")
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

async fn collect(
    stream: impl AsyncRead + Unpin,
    output: Arc<Output>,
    tell: watch::Sender<Progress>,
) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let mut kept = output.lines.lock();
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
        drop(kept);
        tell.send_modify(|progress| progress.lines += 1);
    }
    tell.send_modify(|progress| progress.open_streams -= 1);
}

#[cfg(test)]
mod tests;
