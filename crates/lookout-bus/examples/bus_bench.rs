//! Measures the local bus: frames published, read behind the tail, and read at it.
//!
//! `cargo run --release -p lookout-bus --example bus_bench [transfers] [batch frames]`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to run")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lookout_bus::BusUrl;
use lookout_types::{Address, BlockRef, ChainId, Frame, Hash, Log, Step, TRANSFER};

const PER_BLOCK: u64 = 100;
const CHAIN: ChainId = ChainId(1);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let total = arguments.next().unwrap_or(1_000_000) / PER_BLOCK;
    let batch = arguments.next().unwrap_or(200);
    let folder = std::env::temp_dir().join(format!("lookout-bus-{}", std::process::id()));
    let bus = lookout_bus::open(&BusUrl::Local(folder.clone())).await.unwrap();
    let claim = bus.claim(CHAIN).await.unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut parent = Hash([0; 32]);
    let mut at_tail = bus.subscribe(CHAIN, 0);
    let (mut publishing, mut following) = (Duration::ZERO, Duration::ZERO);
    for start in (1..=total).step_by(usize::try_from(batch).unwrap()) {
        let end = (start + batch).min(total + 1);
        let frames: Vec<_> = (start..end).map(|n| frame(&mut random, n, &mut parent)).collect();
        let count = frames.len();
        let started = Instant::now();
        bus.publish(&claim, frames).await.unwrap();
        publishing += started.elapsed();
        let started = Instant::now();
        let mut seen = 0;
        while seen < count {
            seen += at_tail.next().await.unwrap().unwrap().len();
        }
        following += started.elapsed();
    }
    let started = Instant::now();
    let mut behind = bus.subscribe(CHAIN, 0);
    let mut seen = 0;
    while seen < usize::try_from(total).unwrap() {
        seen += behind.next().await.unwrap().unwrap().len();
    }
    let reading = started.elapsed();
    let chain = folder.join(CHAIN.to_string());
    let bytes: u64 =
        std::fs::read_dir(chain).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    println!("{} transfers in batches of {batch} frames", total * PER_BLOCK);
    println!("{} bytes a transfer", bytes / (total * PER_BLOCK));
    for (name, spent) in [
        ("published, each batch flushed", publishing),
        ("read at the tail", following),
        ("read from the files", reading),
    ] {
        println!("{name}: {spent:.2?}, {:.0} a second", rate(total * PER_BLOCK, spent));
    }
    bus.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(count: u64, spent: Duration) -> f64 {
    count as f64 / spent.as_secs_f64()
}

fn frame(random: &mut fastrand::Rng, number: u64, parent: &mut Hash) -> Arc<Frame> {
    let mut hash = || {
        let mut hash = [0; 32];
        random.fill(&mut hash);
        Hash(hash)
    };
    let party = |mut hash: Hash| {
        hash.0[..12].fill(0);
        hash
    };
    let block = BlockRef { number, hash: hash() };
    let logs = (0..u32::try_from(PER_BLOCK).unwrap()).map(|n| {
        let mut amount = hash().0;
        amount[..22].fill(0);
        Log {
            address: Address([u8::try_from(n % 4).unwrap() + 1; 20]),
            topics: vec![TRANSFER, party(hash()), party(hash())],
            data: amount.to_vec().into(),
            transaction_hash: hash(),
            transaction_index: n,
            log_index: n,
        }
    });
    let logs = logs.collect();
    let parent = std::mem::replace(parent, block.hash);
    Arc::new(Frame {
        chain: CHAIN,
        sequence: number,
        step: Step::Apply,
        block,
        parent,
        timestamp: number * 12,
        transactions: Vec::new(),
        logs,
    })
}
