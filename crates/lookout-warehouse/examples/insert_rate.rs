//! Measures the embedded warehouse: insert rate, memory, a deep reorg, query latencies.
//!
//! `cargo run --release -p lookout-warehouse --example insert_rate [transfers] [accounts] [batch frames] [1: with transactions]`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to run")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Frame, Hash, Log, Outcome, Step, TRANSFER,
    Transaction, transfers,
};
use lookout_warehouse::{
    AssetFilter, EventFilter, Order, PageRequest, Span, TransferFilter, Warehouse, WarehouseUrl,
};

const CHAIN: ChainId = ChainId(1);
const PER_BLOCK: u64 = 100;
const TOKENS: u64 = 4;
const REORG_DEPTH: u64 = 64;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let total = arguments.next().unwrap_or(500_000);
    let accounts = arguments.next().unwrap_or(100_000);
    let batch = arguments.next().unwrap_or(200);
    let whole = arguments.next().is_some_and(|transactions| transactions > 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(total, accounts, usize::try_from(batch).unwrap(), whole));
}

async fn run(total: u64, accounts: u64, batch: usize, whole: bool) {
    let folder = std::env::temp_dir().join(format!("lookout-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("events.db");
    let warehouse = lookout_warehouse::open(&WarehouseUrl::SqliteFile(file.clone())).await.unwrap();
    println!(
        "{total} transfers, {PER_BLOCK} a block, {TOKENS} tokens, {accounts} accounts, batches of {batch} frames"
    );

    let mut chain =
        Chain { random: fastrand::Rng::with_seed(1), accounts, whole, head: None, sequence: 0 };
    insert(&*warehouse, &mut chain, total, batch, "insert").await;
    let before = total;
    if total < 1_000_000 {
        insert(&*warehouse, &mut chain, 1_000_000 - total, batch, "insert up to 1M").await;
    }
    let bytes: u64 =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    let rows = before.max(1_000_000);
    println!("files: {} bytes a transfer", bytes / rows);
    reorg(&*warehouse, &mut chain).await;
    queries(&*warehouse, &mut chain, rows).await;
    println!("memory at the end: {} MiB, at most {} MiB", memory_mib("VmRSS"), memory_mib("VmHWM"));
    warehouse.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn insert(
    warehouse: &dyn Warehouse,
    chain: &mut Chain,
    transfers: u64,
    batch: usize,
    name: &str,
) {
    // Frames are made a few batches at a time, so that the memory measured is the warehouse's.
    let mut left = transfers / PER_BLOCK;
    let mut spent = Duration::ZERO;
    while left > 0 {
        let mut batches = Vec::new();
        while batches.len() < 3 && left > 0 {
            let count = left.min(u64::try_from(batch).unwrap());
            left -= count;
            batches.push((0..count).map(|_| chain.apply()).collect::<Vec<_>>());
        }
        let started = Instant::now();
        // Two under way: one is prepared while the other is written.
        futures_util::stream::iter(batches)
            .map(|frames| warehouse.apply(frames))
            .buffered(2)
            .for_each(|applied| {
                applied.unwrap();
                std::future::ready(())
            })
            .await;
        spent += started.elapsed();
    }
    let rate = f64_of(transfers) / spent.as_secs_f64();
    println!(
        "{name}: {transfers} in {spent:.2?}, {rate:.0} a second; memory {} MiB",
        memory_mib("VmRSS")
    );
}

async fn reorg(warehouse: &dyn Warehouse, chain: &mut Chain) {
    let head = warehouse.cursor(CHAIN).await.unwrap().head.unwrap();
    let held = head.number - REORG_DEPTH + 1..=head.number;
    let mut frames = warehouse.frames(CHAIN, held, None).await.unwrap();
    frames.reverse();
    let mut batch = Vec::new();
    for mut frame in frames {
        chain.sequence += 1;
        frame.step = Step::Undo;
        frame.sequence = chain.sequence;
        chain.head = Some(BlockRef { number: frame.block.number - 1, hash: frame.parent });
        batch.push(Arc::new(frame));
    }
    batch.extend((0..REORG_DEPTH).map(|_| chain.apply()));
    let started = Instant::now();
    warehouse.apply(batch).await.unwrap();
    println!("reorg of {REORG_DEPTH} blocks, undone and replaced: {:.1?}", started.elapsed());
}

async fn queries(warehouse: &dyn Warehouse, chain: &mut Chain, rows: u64) {
    let page = PageRequest { limit: 100, order: Order::NewestFirst, cursor: None };
    let blocks = rows / PER_BLOCK;
    let mut times: [Vec<Duration>; 5] = Default::default();
    for round in 0..300_u64 {
        let account = chain.account();
        let mut by_party = TransferFilter::all(CHAIN);
        by_party.parties = vec![account];
        let mut both = by_party.clone();
        both.assets = vec![AssetFilter::Contract(token(round % TOKENS))];
        let mut by_event = EventFilter::all(CHAIN);
        by_event.addresses = vec![token(round % TOKENS)];
        by_event.topics[0] = vec![TRANSFER];
        let mut by_topic = EventFilter::all(CHAIN);
        by_topic.topics[1] = vec![topic(&account)];
        let from = chain.random.u64(1..blocks);
        let mut in_time = by_event.clone();
        in_time.span = Span {
            from_time: Some(GENESIS + from * 12),
            to_time: Some(GENESIS + from * 12 + 3600),
            ..Span::default()
        };
        let started = Instant::now();
        warehouse.transfers(&by_party, &page).await.unwrap();
        times[0].push(started.elapsed());
        let started = Instant::now();
        warehouse.transfers(&both, &page).await.unwrap();
        times[1].push(started.elapsed());
        let started = Instant::now();
        assert_eq!(warehouse.events(&by_event, &page).await.unwrap().items.len(), 100);
        times[2].push(started.elapsed());
        let started = Instant::now();
        warehouse.events(&by_topic, &page).await.unwrap();
        times[3].push(started.elapsed());
        let started = Instant::now();
        warehouse.events(&in_time, &page).await.unwrap();
        times[4].push(started.elapsed());
    }
    let names = [
        "transfers of an address",
        "… and of a token",
        "events of a contract",
        "events by an argument",
        "events of a contract in an hour",
    ];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort_unstable();
        println!(
            "{name}: p50 {:.2?}, p99 {:.2?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
    let mut all = TransferFilter::all(CHAIN);
    all.span.to_height = Some(1_000_000 / PER_BLOCK);
    let started = Instant::now();
    let stats = warehouse.transfer_stats(&all, None).await.unwrap();
    let count: u64 = stats.iter().map(|row| row.count).sum();
    println!("counts and sums over {count} transfers: {:.0?}", started.elapsed());
}

const GENESIS: u64 = 1_700_000_000;

/// Makes frames as they would come.
struct Chain {
    random: fastrand::Rng,
    accounts: u64,
    /// Whether each transfer's transaction is there, too.
    whole: bool,
    head: Option<BlockRef>,
    sequence: u64,
}

impl Chain {
    fn account(&mut self) -> Address {
        let n = self.random.u64(0..self.accounts);
        let mut address = [0x55; 20];
        address[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Address(address)
    }

    fn hash(&mut self) -> Hash {
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        Hash(hash)
    }

    fn apply(&mut self) -> Arc<Frame> {
        let number = self.head.map_or(1, |head| head.number + 1);
        let block = BlockRef { number, hash: self.hash() };
        let logs: Vec<_> = (0..u32::try_from(PER_BLOCK).unwrap()).map(|n| self.log(n)).collect();
        let transactions = if self.whole {
            logs.iter().map(|log| self.transaction(log)).collect()
        } else {
            Vec::new()
        };
        self.sequence += 1;
        let frame = Frame {
            chain: CHAIN,
            sequence: self.sequence,
            step: Step::Apply,
            block,
            parent: self.head.map_or(Hash([0; 32]), |head| head.hash),
            timestamp: GENESIS + number * 12,
            transactions,
            logs,
        };
        debug_assert!(matches!(transfers(&frame).transfers[0].asset, Asset::Erc20(_)));
        self.head = Some(block);
        Arc::new(frame)
    }

    /// The `transferFrom` that emits a log.
    fn transaction(&mut self, log: &Log) -> Transaction {
        let words = [&log.topics[1].0, &log.topics[2].0, &log.data[..]].concat();
        Transaction {
            hash: log.transaction_hash,
            index: log.transaction_index,
            from: self.account(),
            to: Some(log.address),
            value: Amount::default(),
            nonce: self.sequence,
            input: [&[0x23, 0xb8, 0x72, 0xdd], &words[..]].concat().into(),
            outcome: Some(Outcome {
                success: true,
                gas_used: 50_000,
                gas_price: "9".parse().unwrap(),
                created: None,
            }),
        }
    }

    fn log(&mut self, n: u32) -> Log {
        let mut amount = [0; 32];
        amount[22..].copy_from_slice(&self.hash().0[..10]);
        Log {
            address: token(u64::from(n) % TOKENS),
            topics: vec![TRANSFER, topic(&self.account()), topic(&self.account())],
            data: amount.to_vec().into(),
            transaction_hash: self.hash(),
            transaction_index: n,
            log_index: n,
        }
    }
}

fn token(n: u64) -> Address {
    Address([u8::try_from(n).unwrap() + 1; 20])
}

fn topic(address: &Address) -> Hash {
    let mut topic = [0; 32];
    topic[12..].copy_from_slice(&address.0);
    Hash(topic)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn f64_of(n: u64) -> f64 {
    n as f64
}

/// A field of this process's status, in MiB; 0 where the system has no such file.
fn memory_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
