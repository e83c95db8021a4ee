//! Logs a second that a chain's source hands out when its upstream answers at once: a replay on a
//! thread of its own, HTTP over the loopback, every check on; nothing comes after the source.
//!
//! `cargo run --release -p lookout-test --example source_rate`

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use lookout_chain::{ChainSpec, Chains, PoolSettings, UpstreamSpec, Wants};
use lookout_test::replay::{Replay, ReplaySpec};
use lookout_types::ChainId;

/// Blocks of a range, and how many ranges are under way at once.
const RANGE: u64 = 100;
const AT_ONCE: usize = 2;

/// Time that all threads of this process, or only this one, have had a core.
fn cpu_time(of: &str) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{of}/stat"))?;
    let fields = text.rsplit(") ").next().context("no fields")?.split_whitespace();
    // `utime` and `stime`, in hundredths of a second.
    let ticks: u64 = fields.skip(11).take(2).map(|f| f.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(10 * ticks))
}

fn main() -> Result<()> {
    let (told, url) = std::sync::mpsc::channel();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let (cpu, replay_cpu) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let replay = Replay::start(ReplaySpec::default()).await?;
            let before = cpu_time("thread-self")?;
            told.send((replay.url(), replay.head()))?;
            while let Err(std::sync::mpsc::TryRecvError::Empty) = finished.try_recv() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cpu.send(cpu_time("thread-self")?.saturating_sub(before))?;
            Ok(())
        })
    });
    let (url, head) = url.recv()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (logs, wall, all) = runtime.block_on(read(&url, head))?;
    done.send(())?;
    let replay = replay_cpu.recv()?;
    let own = all.saturating_sub(replay);
    let rate = |time: Duration| logs * 1000 / u64::try_from(time.as_millis()).unwrap_or(1).max(1);
    let line = format!(
        "{logs} logs: {}/s by the clock, {}/s of a core's time of the source, {}/s of the replay",
        rate(wall),
        rate(own),
        rate(replay)
    );
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

async fn read(url: &str, head: u64) -> Result<(u64, Duration, Duration)> {
    let spec = ChainSpec {
        name: "replay".into(),
        id: ChainId(31_337),
        upstreams: vec![UpstreamSpec {
            name: "replay".into(),
            url: url.parse()?,
            requests_per_second: None,
        }],
        settings: PoolSettings::default(),
    };
    let chains = Chains::start(vec![spec], 1 << 20);
    let chain = chains.get("replay")?;
    chain.wait_heads().await?;
    let (source, wants) = (chain.source(), Wants::default());
    let (begun, before) = (Instant::now(), cpu_time("self")?);
    let mut logs = 0;
    for _ in 0..4 {
        let ranges = (1..=head)
            .step_by(usize::try_from(RANGE).unwrap_or(1))
            .map(|start| start..=(start + RANGE - 1).min(head));
        let mut blocks = stream::iter(ranges)
            .map(|range| {
                let (source, wants) = (source.clone(), &wants);
                async move { source.range(range, wants).await }
            })
            .buffered(AT_ONCE);
        while let Some(range) = blocks.next().await {
            logs += range?.iter().map(|block| block.logs.len() as u64).sum::<u64>();
        }
    }
    Ok((logs, begun.elapsed(), cpu_time("self")?.saturating_sub(before)))
}
