//! Measures the engine between a source and the warehouse: blocks that cost nothing to read, ordered,
//! published on a local bus, and consumed into a SQLite warehouse at the same time.
//!
//! `cargo run --release -p lookout-ingest --example ingest_rate [transfers] [transfers a block]`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to run")]

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lookout_bus::BusUrl;
use lookout_chain::{Heads, Level, Source, SourceBlock, SourceError, SourceHeader, Wants};
use lookout_ingest::consume::{ConsumeLimits, RunParts, WarehouseConsumer, run};
use lookout_ingest::publish::{Limits, Publisher, PublisherParts, Standby, Start};
use lookout_store::{Store, StoreUrl};
use lookout_types::{Address, BlockRef, ChainId, FixedClock, Hash, Height, Log, TRANSFER};
use lookout_warehouse::WarehouseUrl;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CHAIN: ChainId = ChainId(1);
/// Blocks of records that are handed out again and again.
const POOL: u64 = 256;

/// A chain whose blocks are made when they are asked for.
#[derive(Debug)]
struct Replay {
    heads: watch::Sender<Option<Heads>>,
    pool: Vec<Vec<Log>>,
}

fn hash(number: u64) -> Hash {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..16].copy_from_slice(&number.to_be_bytes());
    Hash(hash)
}

fn word(random: &mut fastrand::Rng, of: u64) -> Hash {
    let mut word = [0; 32];
    word[12..20].copy_from_slice(&hash(random.u64(0..of)).0[..8]);
    Hash(word)
}

impl Replay {
    fn new(blocks: u64, per_block: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let log = |random: &mut fastrand::Rng, at: u32| {
            let mut data = [0; 32];
            data[24..].copy_from_slice(&random.u64(..).to_be_bytes());
            Log {
                address: Address([u8::try_from(random.u32(0..4)).unwrap(); 20]),
                topics: vec![TRANSFER, word(random, 10_000), word(random, 10_000)],
                data: data.to_vec().into(),
                transaction_hash: hash(random.u64(..)),
                transaction_index: at,
                log_index: at,
            }
        };
        let pool =
            (0..POOL).map(|_| (0..per_block).map(|at| log(&mut random, at)).collect()).collect();
        let latest = BlockRef { number: blocks - 1, hash: hash(blocks - 1) };
        let heads = Heads {
            latest,
            safe: None,
            finalized: None,
            level: Level::Single,
            timestamp: 1_700_000_000 + blocks * 12,
        };
        Self { heads: watch::Sender::new(Some(heads)), pool }
    }

    fn at(&self, number: Height) -> SourceBlock {
        let parent = number.checked_sub(1).map_or(Hash([0; 32]), hash);
        let block = BlockRef { number, hash: hash(number) };
        let header = SourceHeader { block, parent, timestamp: 1_700_000_000 + number * 12 };
        let logs = self.pool[usize::try_from(number % POOL).unwrap()].clone();
        SourceBlock { header, transactions: Vec::new(), logs }
    }
}

#[async_trait]
impl Source for Replay {
    fn chain(&self) -> ChainId {
        CHAIN
    }

    fn heads(&self) -> watch::Receiver<Option<Heads>> {
        self.heads.subscribe()
    }

    async fn header_at(&self, height: Height) -> Result<SourceHeader, SourceError> {
        Ok(self.at(height).header)
    }

    async fn header(&self, block: BlockRef) -> Result<SourceHeader, SourceError> {
        Ok(self.at(block.number).header)
    }

    async fn block(&self, block: BlockRef, _: &Wants) -> Result<SourceBlock, SourceError> {
        Ok(self.at(block.number))
    }

    async fn range(
        &self,
        heights: RangeInclusive<Height>,
        _: &Wants,
    ) -> Result<Vec<SourceBlock>, SourceError> {
        Ok(heights.map(|height| self.at(height)).collect())
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let transfers = arguments.next().unwrap_or(1_000_000);
    let per_block = arguments.next().unwrap_or(100);
    let blocks = transfers.div_ceil(per_block);
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FixedClock::at(1_800_000_000_000));
    let store = Store::open(&StoreUrl::SqliteMemory, Arc::<FixedClock>::clone(&clock));
    let store = store.await.unwrap();
    store.migrate().await.unwrap();
    let bus = lookout_bus::open(&BusUrl::Local(folder.path().join("bus"))).await.unwrap();
    let warehouse = WarehouseUrl::SqliteFile(folder.path().join("events.db"));
    let warehouse = lookout_warehouse::open(&warehouse).await.unwrap();
    let source = Arc::new(Replay::new(blocks, u32::try_from(per_block).unwrap()));
    let reading = {
        let started = Instant::now();
        for number in 0..blocks {
            drop(source.at(number));
        }
        started.elapsed()
    };
    let state = watch::Sender::default();
    let mut consumed = state.subscribe();
    let publisher = Publisher::new(PublisherParts {
        name: "replay".into(),
        source,
        bus: Arc::clone(&bus),
        warehouse: Arc::clone(&warehouse),
        store,
        wants: Wants::default(),
        start: Start::Height(0),
        until: Some(blocks - 1),
        holder: "bench".to_owned(),
        standby: Standby::Refuse,
        pace: vec![consumed.clone()],
        limits: Limits::default(),
        stop: CancellationToken::new(),
    });
    let consuming = tokio::spawn(run(RunParts {
        consumer: Arc::new(WarehouseConsumer::new(Arc::clone(&warehouse))),
        bus: Arc::clone(&bus),
        chain: CHAIN,
        name: "replay".into(),
        archive: None,
        clock,
        limits: ConsumeLimits::default(),
        state,
        stop: CancellationToken::new(),
    }));
    let started = Instant::now();
    tokio::spawn(publisher.run()).await.unwrap().unwrap();
    let published = started.elapsed();
    let tail = bus.tail(CHAIN).await.unwrap();
    consumed.wait_for(|state| state.cursor == Some(tail)).await.unwrap();
    let stored = started.elapsed();
    consuming.abort();
    println!("{transfers} transfers, {per_block} a block");
    show(
        transfers,
        [("made by the source alone", reading), ("published", published), ("stored", stored)],
    );
    warehouse.close().await;
    bus.close().await;
}

fn show(transfers: u64, stages: [(&str, Duration); 3]) {
    for (what, spent) in stages {
        println!("{what}: {spent:.2?}, {:.0} transfers a second", rate(transfers, spent));
    }
    // On a machine with other work, the time of the processors tells more than that of the clock.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat.split(' ').skip(13).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    let spent = Duration::from_millis(ticks * 10);
    println!(
        "processors, the source twice: {spent:.2?}, {:.0} transfers a second",
        rate(transfers, spent)
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(count: u64, spent: Duration) -> f64 {
    count as f64 / spent.as_secs_f64()
}
