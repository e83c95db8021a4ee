//! Logs, or transactions of whole blocks, a second that one thread checks and reads out of answers
//! held in memory: the bare stage of a follower, without network and without what comes after it.
//!
//! `cargo run --release -p lookout-chain --example decode_rate [logs|whole]`

#[path = "../src/source/tests/scene.rs"]
#[expect(dead_code, reason = "the tests that it is shared with need more of it")]
mod scene;

use std::io::Write;
use std::time::{Duration, Instant};

use lookout_chain::{Wants, stage};
use lookout_test::replay::{ReplaySpec, whole_blocks};
use lookout_types::{ChainId, Hash};

/// Blocks in the range, transfers in each, tokens and holders that these are among.
const BLOCKS: u64 = 500;
const TRANSFERS: u64 = 100;
const TOKENS: u64 = 4;
/// How long each case is repeated, by the clock on the wall.
const TIME: Duration = Duration::from_secs(3);

struct Answers {
    headers: Vec<Vec<u8>>,
    logs: Vec<u8>,
}

fn answers(holders: u64) -> Answers {
    let mut state = 1_u64;
    let mut number = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut transfer = || {
        let token = u8::try_from(1 + number(TOKENS)).unwrap_or(1);
        scene::transfer(token, number(holders), number(holders), number(1 << 30))
    };
    let blocks: Vec<Vec<_>> =
        (0..BLOCKS).map(|_| (0..TRANSFERS).map(|_| transfer()).collect()).collect();
    let blocks = scene::chain(17_000_000, 1, &blocks);
    let headers = blocks.iter().map(|block| block.header.to_string().into_bytes()).collect();
    let logs: Vec<String> =
        blocks.iter().flat_map(|block| &block.logs).map(ToString::to_string).collect();
    Answers { headers, logs: format!("[{}]", logs.join(",")).into_bytes() }
}

/// Time that this thread has had a core, which a busy machine does not change; `None` where the
/// kernel does not tell.
fn cpu_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(told.split_whitespace().next()?.parse().ok()?))
}

/// What happens in a second of a core's time, when `once` makes so much of it happen.
fn rate(mut once: impl FnMut() -> Result<usize, String>) -> Result<u64, String> {
    let (begun, cpu_before, mut count) = (Instant::now(), cpu_time(), 0);
    while begun.elapsed() < TIME {
        count += once()? as u64;
    }
    let spent = match (cpu_before, cpu_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => begun.elapsed(),
    };
    let micros = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX).max(1);
    Ok(count.saturating_mul(1_000_000) / micros)
}

/// Of logs alone: the rate, and the bytes of JSON that one takes.
fn logs(answers: &Answers, wants: &Wants) -> Result<(u64, u64), String> {
    let headers: Vec<&[u8]> = answers.headers.iter().map(Vec::as_slice).collect();
    let rate = rate(|| {
        let blocks = stage::blocks(ChainId(1), &headers, &answers.logs, wants)?;
        Ok(blocks.iter().map(|block| block.logs.len()).sum())
    })?;
    Ok((rate, answers.logs.len() as u64 / (BLOCKS * TRANSFERS)))
}

/// Of whole blocks, as the replaying upstream gives them, each transaction with one log.
fn whole() -> Result<(u64, u64), String> {
    let spec = ReplaySpec::default();
    let chain = ChainId(spec.chain_id);
    // As many as are different.
    let blocks = whole_blocks(&ReplaySpec { blocks: 64, ..spec });
    let rate = rate(|| {
        blocks.iter().try_fold(0, |sum, (block, receipts)| {
            Ok(sum + stage::whole(chain, block, receipts)?.transactions.len())
        })
    })?;
    let bytes: usize = blocks.iter().map(|(block, receipts)| block.len() + receipts.len()).sum();
    let transactions = blocks.len() as u64 * TRANSFERS;
    Ok((rate, bytes as u64 / transactions))
}

fn main() -> Result<(), String> {
    let only = std::env::args().nth(1);
    let wants = |stage: &str| only.as_deref().is_none_or(|only| only == stage);
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").map_err(|error| error.to_string());
    if wants("logs") {
        let topic: Hash = scene::TRANSFER.parse().map_err(|_| "no topic")?;
        let by_topic = Wants { topics: vec![topic], ..Wants::default() };
        let tokens = (1..=4).map(|token| lookout_types::Address([token; 20])).collect();
        let by_both = Wants { addresses: tokens, ..by_topic.clone() };
        for holders in [1_000, 1_000_000] {
            let answers = answers(holders);
            // The quick reader does not know the space.
            let spaced = [b"[ ", &answers.logs[1..]].concat();
            let spaced = Answers { headers: answers.headers.clone(), logs: spaced };
            for (name, answers, wants) in [
                ("all logs", &answers, &Wants::default()),
                ("by topic", &answers, &by_topic),
                ("by both", &answers, &by_both),
                ("by topic, read strictly", &spaced, &by_topic),
            ] {
                let (rate, bytes) = logs(answers, wants)?;
                say(format!(
                    "{holders:>8} holders, {name}: {rate} logs/s ({bytes} bytes of JSON each)"
                ))?;
            }
        }
    }
    if wants("whole") {
        let (rate, bytes) = whole()?;
        say(format!("whole blocks: {rate} transactions/s ({bytes} bytes of JSON each)"))?;
    }
    Ok(())
}
