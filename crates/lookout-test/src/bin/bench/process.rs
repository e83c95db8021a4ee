//! The servers under test as processes: started, pinned, and their time and memory read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lookout_test::part;
use lookout_test::process::Process;
use tokio::process::Command;

/// A server that says nothing for this long after its start hangs.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Ticks a second in `/proc/PID/stat` on every Linux that runs this (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// On which cores the servers and the load run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Servers on core 0, the load on core 1.
    Split,
    /// Wherever the scheduler puts them.
    Free,
}

impl Cores {
    /// Split cores where there are two and `taskset` to pin to them.
    pub(crate) fn available() -> Self {
        // Asked once: later this process may be pinned and see one core only.
        static AVAILABLE: OnceLock<Cores> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            let two = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
            if two && part::on_path("taskset").is_ok() { Self::Split } else { Self::Free }
        })
    }

    /// Moves this process, all its threads, to where the load runs.
    ///
    /// # Errors
    /// When `taskset` fails.
    pub(crate) async fn take_load_side(self) -> Result<()> {
        if Self::available() == Self::Free {
            return Ok(());
        }
        let cores = match self {
            Self::Split => "1".to_owned(),
            Self::Free => format!("0-{}", core_count() - 1),
        };
        let mut command = Command::new("taskset");
        command.args(["-a", "-p", "-c", &cores, &std::process::id().to_string()]);
        let output = command.output().await.context("cannot run taskset")?;
        ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A command that runs on the servers' side.
    pub(crate) fn server(self, program: &Path) -> Command {
        if Self::available() == Self::Free {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        match self {
            Self::Split => command.args(["-c", "0"]),
            Self::Free => command.args(["-c", &format!("0-{}", core_count() - 1)]),
        };
        command.arg(program);
        command
    }
}

fn core_count() -> usize {
    // This process may itself be pinned by now, so the system is asked about all of its cores.
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    listed.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// The programs under test, built beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) lookout: PathBuf,
    pub(crate) replay: PathBuf,
    folder: PathBuf,
}

impl Programs {
    /// Beside this program, as cargo lays them out, except for a given build of the server.
    ///
    /// # Errors
    /// When one is missing; the message says how to build it.
    pub(crate) fn find(lookout: Option<PathBuf>) -> Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.parent().context("this program lies in no folder")?;
        Ok(Self {
            lookout: found(lookout.unwrap_or_else(|| folder.join("lookout")), "-p lookout")?,
            replay: found(folder.join("replay"), "-p lookout-test --bin replay")?,
            folder: folder.to_owned(),
        })
    }

    /// An example of a crate, which measures a part alone.
    ///
    /// # Errors
    /// When it is missing; the message says how to build it.
    pub(crate) fn example(&self, name: &str, of: &str) -> Result<PathBuf> {
        found(self.folder.join("examples").join(name), &format!("-p {of} --example {name}"))
    }
}

fn found(path: PathBuf, how: &str) -> Result<PathBuf> {
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    ensure!(path.is_file(), "no {}; build it: cargo build{release} {how}", path.display());
    Ok(path)
}

/// A server under test.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    pid: u32,
}

impl Server {
    /// Starts a server and reads from its output where it listens.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub(crate) async fn start(name: &str, command: Command) -> Result<Self> {
        let process = Process::spawn(name, command)?;
        let address = process.line(START_WITHIN, listening_address).await?;
        let pid = process.id().with_context(|| format!("{name} has ended"))?;
        Ok(Self { process, address, pid })
    }

    /// Processor time used so far, by all threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.pid.to_string())
    }

    /// Memory in use (resident set), in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmRSS")?.trim().parse::<u64>()? * 1024)
    }

    /// Ends it; its warnings and errors, had it any, fail the benchmark.
    ///
    /// # Errors
    /// When it cannot be ended, or logged that something went wrong.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.process.kill().await?;
        let wrong = |line: &String| line.contains(" ERROR ") || line.contains("panicked");
        match self.process.lines().into_iter().find(wrong) {
            Some(line) => bail!("the server logged: {line}"),
            None => Ok(()),
        }
    }
}

/// Processor time of this process so far.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

/// Processor time that all programs together have used so far, and what the hypervisor took.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn machine_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&stat).context("/proc/stat is not understood")?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Of `cpu user nice system idle iowait irq softirq steal …` all but the two that wait.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let (idle, waiting) = (ticks.get(3)?, ticks.get(4)?);
    Some(ticks.iter().sum::<u64>() - idle - waiting)
}

/// Processor time that a process has used so far, by its id or `self`.
///
/// # Errors
/// When it is gone.
pub(crate) fn cpu_of(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("not understood: {stat}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The address in `… listening on http://ADDRESS …`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_either_log_form() {
        let address = Some("127.0.0.1:41234".parse().unwrap());
        for line in [
            "listening on http://127.0.0.1:41234",
            "2026 INFO lookout::serve: listening on http://127.0.0.1:41234 address=127.0.0.1:41234",
            r#"{"level":"INFO","message":"listening on http://127.0.0.1:41234","chains":1}"#,
        ] {
            assert_eq!(listening_address(line), address, "{line}");
        }
        assert_eq!(listening_address("starting on http://127.0.0.1:1"), None);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 900 0 0 0 120 30 0 0 20 0 4 0 100";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        let machine = "cpu  100 1 50 9000 800 2 3 4 0 0\ncpu0 1 2 3";
        assert_eq!(busy_ticks(machine), Some(160));
        assert_eq!(busy_ticks("intr 1"), None);
        let before = own_cpu().unwrap();
        assert!(own_cpu().unwrap() >= before);
    }
}
