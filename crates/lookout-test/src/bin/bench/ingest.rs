//! Backfills from a replaying upstream, of one event or of whole blocks, beside their two bare stages.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lookout_test::process::Process;
use tempfile::TempDir;
use tokio::process::Command;

use crate::plan::Plan;
use crate::process::{self, Cores, Programs};
use crate::report::{Bound, Figure, Report, median};
use crate::stage;

/// Fewest transfers a second by logs, and of the slower bare stage.
const PER_SECOND_MIN: f64 = 225_000.0;
const RATIO_MIN: f64 = 0.6;
/// Largest memory, in megabytes.
const MEMORY_MB_MAX: f64 = 256.0;
/// As everywhere that transfers are counted.
const PER_BLOCK: u64 = 100;
/// Parties of the replay's transfers, so that the bare insert writes as many different ones.
const HOLDERS: &str = "4096";
/// Frames of a batch of the bare insert: what it takes when nothing is said.
const INSERT_FRAMES: &str = "200";
/// How many times longer the long backfill is.
const LONGER: u64 = 10;
/// Name of the chain.
const CHAIN: &str = "replay";
/// `Transfer(address,address,uint256)`.
const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
/// Longest that the replay may take to make its chain.
const REPLAY_WITHIN: Duration = Duration::from_secs(60);
/// Longest backfill, at a fiftieth of the rate that is expected.
const ENDS_WITHIN: Duration = Duration::from_secs(1200);
/// Between two looks at the memory of a backfill; its peak is kept by the system.
const LOOK: Duration = Duration::from_millis(5);

/// How the chain is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// One event, by `eth_getLogs`.
    Event,
    /// Whole blocks, every root recomputed.
    Blocks,
}

impl Follow {
    fn config(self) -> String {
        match self {
            Self::Event => format!("follow = \"logs\"\nfollow_topics = [\"{TRANSFER}\"]\n"),
            Self::Blocks => "follow = \"blocks\"\n".to_owned(),
        }
    }

    /// What its figures are called by.
    fn part(self) -> &'static str {
        match self {
            Self::Event => "ingest",
            Self::Blocks => "whole",
        }
    }

    /// What there is one of for each transfer.
    fn records(self) -> &'static str {
        match self {
            Self::Event => "transfers",
            Self::Blocks => "transactions",
        }
    }
}

/// What one backfill took.
struct Filled {
    per_second: f64,
    /// Processor time for one transfer.
    cpu_us: f64,
    peak_mb: f64,
}

/// Measures backfills of one event by logs, and their bare stages.
pub(crate) async fn measure(programs: &Programs, plan: &Plan, report: &mut Report) -> Result<()> {
    compare(programs, plan, Follow::Event, plan.blocks, report).await
}

/// Measures backfills of whole blocks, and their bare stages.
pub(crate) async fn measure_whole(
    programs: &Programs,
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    compare(programs, plan, Follow::Blocks, plan.whole_blocks, report).await
}

async fn compare(
    programs: &Programs,
    plan: &Plan,
    follow: Follow,
    blocks: u64,
    report: &mut Report,
) -> Result<()> {
    Cores::Free.take_load_side().await?;
    let (decode, insert) = bare(programs, follow, blocks).await?;
    let mut runs = Vec::new();
    for round in 0..plan.backfills {
        // The first is compared with the chain afterwards: a fast backfill of too little is worth nothing.
        runs.push(backfill(programs, follow, blocks, round == 0).await?);
    }
    let (part, records) = (follow.part(), follow.records());
    let rates = || runs.iter().map(|run| run.per_second);
    let rate = median(rates());
    let count = blocks * PER_BLOCK;
    let cpu = median(runs.iter().map(|run| run.cpu_us));
    let stored = Figure::new(format!("{part}: {records} stored"), rate, "/s")
        .spread(rates())
        .note(format!(
            "{count} {records} by `lookout backfill`, from start to exit; {cpu:.2} us of processor each; {}",
            stage::load()
        ));
    report.add(match follow {
        Follow::Event => stored.target(Bound::AtLeast, PER_SECOND_MIN),
        Follow::Blocks => stored,
    });
    report.add(
        Figure::new(format!("{part}: decode alone"), decode, "/s")
            .note("one thread, answers in memory, all checks; by processor time"),
    );
    report.add(Figure::new(format!("{part}: insert alone"), insert, "/s").note("frames in memory"));
    let slower = decode.min(insert);
    report.add(
        Figure::new(format!("{part}: of the slower stage"), rate / slower, "")
            .spread(rates().map(|rate| rate / slower))
            .target(Bound::AtLeast, RATIO_MIN),
    );
    let peaks = || runs.iter().map(|run| run.peak_mb);
    let peak = median(peaks());
    report.add(
        Figure::new(format!("{part}: peak memory"), peak, "MB")
            .spread(peaks())
            .target(Bound::AtMost, MEMORY_MB_MAX),
    );
    let long = backfill(programs, follow, blocks * LONGER, false).await?;
    report.add(
        Figure::new(format!("{part}: peak memory, 10 times the blocks"), long.peak_mb, "MB")
            .target(Bound::AtMost, MEMORY_MB_MAX)
            .note(format!(
                "{:.2} times that of one; {} {records} at {:.0}/s; {}",
                long.peak_mb / peak,
                count * LONGER,
                long.per_second,
                stage::load()
            )),
    );
    Ok(())
}

/// Transfers a second of decoding alone and of inserting alone.
async fn bare(programs: &Programs, follow: Follow, blocks: u64) -> Result<(f64, f64)> {
    let (only, before, after, transactions) = match follow {
        Follow::Event => ("logs", "1000 holders, by topic:", "logs/s", "0"),
        Follow::Blocks => ("whole", "whole blocks:", "transactions/s", "1"),
    };
    let said = stage::run(&programs.example("decode_rate", "lookout-chain")?, &[only]).await?;
    let decode = stage::number(&said, before, after)?;
    let insert = programs.example("insert_rate", "lookout-warehouse")?;
    let transfers = (blocks * PER_BLOCK).to_string();
    let said = stage::run(&insert, &[&transfers, HOLDERS, INSERT_FRAMES, transactions]).await?;
    let line = stage::between(&said, "insert: ", "\n")?;
    Ok((decode, stage::number(line, ", ", " a second")?))
}

async fn backfill(
    programs: &Programs,
    follow: Follow,
    blocks: u64,
    verify: bool,
) -> Result<Filled> {
    let mut upstream = Command::new(&programs.replay);
    upstream.args(["--blocks", &blocks.to_string(), "--transfers", &PER_BLOCK.to_string()]);
    let mut replay = Process::spawn("replay", upstream)?;
    let url = |line: &str| line.starts_with("http://").then(|| line.to_owned());
    let url = replay.line(REPLAY_WITHIN, url).await?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    std::fs::write(folder.path().join("lookout.toml"), config(&url, follow))?;
    let filled = fill(&programs.lookout, &folder, blocks).await?;
    if verify {
        let mut again = command(&programs.lookout, &folder, blocks);
        let output = again.arg("--verify").kill_on_drop(true).output().await?;
        let wrong = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "what was stored differs from the chain: {wrong}");
    }
    replay.kill().await?;
    Ok(filled)
}

fn config(url: &str, follow: Follow) -> String {
    format!(
        "[store]\nurl = \"sqlite:lookout.db\"\n[warehouse]\nurl = \"sqlite:events.db\"\n\
         [bus]\nurl = \"local:frames\"\n[chains.{CHAIN}]\nid = {id}\n\
         upstreams = [{{ url = \"{url}\" }}]\n{follow}",
        id = lookout_test::anvil::CHAIN_ID,
        follow = follow.config(),
    )
}

fn command(lookout: &Path, folder: &TempDir, blocks: u64) -> Command {
    let mut command = Command::new(lookout);
    command.current_dir(folder.path()).args(["backfill", "--config", "lookout.toml"]);
    command.args(["--chain", CHAIN, "--from", "0", "--to", &blocks.to_string()]);
    command
}

/// One backfill into new files, from the start of the process to its end.
async fn fill(lookout: &Path, folder: &TempDir, blocks: u64) -> Result<Filled> {
    let begun = Instant::now();
    let mut process = Process::spawn("lookout", command(lookout, folder, blocks))?;
    let pid = process.id().context("the backfill ended at once")?;
    let (mut peak, mut cpu) = (0.0, Duration::ZERO);
    while process.is_running()? {
        // What is asked of a process that ends just now is not told; the last answer stands.
        peak = stage::peak_megabytes(pid).unwrap_or(peak);
        cpu = process::cpu_of(&pid.to_string()).map_or(cpu, |now| now.max(cpu));
        ensure!(begun.elapsed() < ENDS_WITHIN, "the backfill does not end; {}", process.tail());
        tokio::time::sleep(LOOK).await;
    }
    let spent = begun.elapsed();
    let status = process.wait(ENDS_WITHIN).await?;
    ensure!(status.success(), "the backfill failed; {}", process.tail());
    let count = (blocks * PER_BLOCK) as f64;
    Ok(Filled {
        per_second: count / spent.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
        peak_mb: peak,
    })
}
