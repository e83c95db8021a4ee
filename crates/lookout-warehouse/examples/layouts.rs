//! Measures what the warehouse's layout is worth: the same ERC-20 transfers in rows with indexes.
//!
//! `cargo run --release -p lookout-warehouse --example layouts [transfers] [accounts]`
//!
//! Each layout can answer by contract and event, by sender and by recipient. All run on one thread,
//! in the same batches, with the same settings of SQLite; Lookout's own also encodes, checksums and
//! derives, on a second one.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people to run")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lookout_types::{Address, BlockRef, ChainId, Frame, Hash, Log, Step, TRANSFER};
use lookout_warehouse::WarehouseUrl;
use rusqlite::{Connection, Statement};

const PER_BLOCK: u64 = 100;
const BATCH_BLOCKS: u64 = 200;

/// One way to keep logs in rows.
struct Layout {
    name: &'static str,
    tables: &'static str,
    indexes: &'static str,
    indexes_last: bool,
    transfers_too: bool,
}

const LOGS: &str =
    "CREATE TABLE logs (height INTEGER, log_index INTEGER, address BLOB, topic0 BLOB,
    topic1 BLOB, topic2 BLOB, data BLOB, transaction_hash BLOB, PRIMARY KEY (height, log_index))
    WITHOUT ROWID;";
const LOG_INDEXES: &str = "CREATE INDEX a ON logs (address, topic0, height);
    CREATE INDEX b ON logs (topic1, height); CREATE INDEX c ON logs (topic2, height);";

const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "logs and transfers, each with its indexes",
        tables: "CREATE TABLE logs (height INTEGER, log_index INTEGER, address BLOB, topic0 BLOB,
            topic1 BLOB, topic2 BLOB, data BLOB, transaction_hash BLOB,
            PRIMARY KEY (height, log_index)) WITHOUT ROWID;
            CREATE TABLE transfers (height INTEGER, log_index INTEGER, asset BLOB, sender BLOB,
            recipient BLOB, amount BLOB, PRIMARY KEY (height, log_index)) WITHOUT ROWID;",
        indexes: "CREATE INDEX a ON logs (address, topic0, height);
            CREATE INDEX b ON logs (topic1, height); CREATE INDEX c ON logs (topic2, height);
            CREATE INDEX d ON transfers (sender, height);
            CREATE INDEX e ON transfers (recipient, height);
            CREATE INDEX f ON transfers (asset, height);",
        indexes_last: false,
        transfers_too: true,
    },
    Layout {
        name: "logs with indexes, transfers read from them",
        tables: LOGS,
        indexes: LOG_INDEXES,
        indexes_last: false,
        transfers_too: false,
    },
    Layout {
        name: "the same, indexes made at the end",
        tables: LOGS,
        indexes: LOG_INDEXES,
        indexes_last: true,
        transfers_too: false,
    },
    Layout {
        name: "logs clustered by contract and event",
        tables: "CREATE TABLE logs (height INTEGER, log_index INTEGER, address BLOB, topic0 BLOB,
            topic1 BLOB, topic2 BLOB, data BLOB, transaction_hash BLOB,
            PRIMARY KEY (address, topic0, height, log_index)) WITHOUT ROWID;",
        // By height for undo; the others as above.
        indexes: "CREATE INDEX a ON logs (height); CREATE INDEX b ON logs (topic1, height);
            CREATE INDEX c ON logs (topic2, height);",
        indexes_last: false,
        transfers_too: false,
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let total = arguments.next().unwrap_or(500_000);
    let accounts = arguments.next().unwrap_or(100_000);
    let folder = std::env::temp_dir().join(format!("lookout-layouts-{}", std::process::id()));
    println!("{total} transfers, {PER_BLOCK} a block, 4 tokens, {accounts} accounts");
    for layout in &LAYOUTS {
        std::fs::create_dir_all(&folder).unwrap();
        rows(&folder, layout, total, accounts);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(lookout(&folder, total, accounts));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Times the batches of one layout: all of them, and the last quarter.
#[derive(Default)]
struct Times(Vec<f64>, f64);

impl Times {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn print(&self, name: &str, folder: &Path, total: u64) {
        let all: f64 = self.0.iter().sum::<f64>() + self.1;
        let last = &self.0[self.0.len() * 3 / 4..];
        let last_rate =
            (last.len() as u64 * BATCH_BLOCKS * PER_BLOCK) as f64 / last.iter().sum::<f64>();
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap());
        let bytes: u64 = files
            .filter(|f| f.file_name().to_string_lossy().ends_with(".db"))
            .map(|f| f.metadata().unwrap().len())
            .sum();
        println!(
            "{name}: {:.0} a second (last quarter {last_rate:.0}), {} bytes each",
            total as f64 / all,
            bytes / total,
        );
    }
}

fn rows(folder: &Path, layout: &Layout, total: u64, accounts: u64) {
    let connection = Connection::open(folder.join("rows.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-49152;
            PRAGMA wal_autocheckpoint=16384;",
        )
        .unwrap();
    connection.execute_batch(layout.tables).unwrap();
    if !layout.indexes_last {
        connection.execute_batch(layout.indexes).unwrap();
    }
    let mut chain = Chain::new(accounts);
    let mut times = Times::default();
    let sql = "INSERT INTO logs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert_log = connection.prepare(sql).unwrap();
    let sql = "INSERT INTO transfers VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert_transfer = layout.transfers_too.then(|| connection.prepare(sql).unwrap());
    for _ in 0..total / PER_BLOCK / BATCH_BLOCKS {
        let frames: Vec<_> = (0..BATCH_BLOCKS).map(|_| chain.apply()).collect();
        let started = Instant::now();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for frame in &frames {
            insert(frame, &mut insert_log, insert_transfer.as_mut());
        }
        connection.execute_batch("COMMIT").unwrap();
        times.0.push(started.elapsed().as_secs_f64());
    }
    if layout.indexes_last {
        let started = Instant::now();
        connection.execute_batch(layout.indexes).unwrap();
        times.1 = started.elapsed().as_secs_f64();
    }
    drop((insert_log, insert_transfer));
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").ok();
    times.print(layout.name, folder, total);
}

fn insert(frame: &Frame, log_row: &mut Statement<'_>, transfer_row: Option<&mut Statement<'_>>) {
    let height = frame.block.number.cast_signed();
    for log in &frame.logs {
        log_row
            .execute((
                height,
                log.log_index,
                log.address.0,
                log.topics[0].0,
                &log.topics[1].0[12..],
                &log.topics[2].0[12..],
                &log.data[..],
                log.transaction_hash.0,
            ))
            .unwrap();
    }
    let Some(row) = transfer_row else { return };
    for log in &frame.logs {
        let (from, to) = (&log.topics[1].0[12..], &log.topics[2].0[12..]);
        row.execute((height, log.log_index, log.address.0, from, to, &log.data[..])).unwrap();
    }
}

async fn lookout(folder: &Path, total: u64, accounts: u64) {
    let url = WarehouseUrl::SqliteFile(folder.join("events.db"));
    let warehouse = lookout_warehouse::open(&url).await.unwrap();
    let mut chain = Chain::new(accounts);
    let mut times = Times::default();
    for _ in 0..total / PER_BLOCK / BATCH_BLOCKS {
        let frames: Vec<_> = (0..BATCH_BLOCKS).map(|_| Arc::new(chain.apply())).collect();
        let started = Instant::now();
        warehouse.apply(frames).await.unwrap();
        times.0.push(started.elapsed().as_secs_f64());
    }
    warehouse.close().await;
    times.print("lookout: blocks, and which blocks hold what", folder, total);
}

struct Chain {
    random: fastrand::Rng,
    accounts: u64,
    head: Option<BlockRef>,
}

impl Chain {
    fn new(accounts: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(1), accounts, head: None }
    }

    fn party(&mut self) -> Hash {
        let n = self.random.u64(0..self.accounts);
        let mut topic = [0; 32];
        topic[12..20].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Hash(topic)
    }

    fn hash(&mut self) -> Hash {
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        Hash(hash)
    }

    fn apply(&mut self) -> Frame {
        let number = self.head.map_or(1, |head| head.number + 1);
        let block = BlockRef { number, hash: self.hash() };
        let parent = self.head.map_or(Hash([0; 32]), |head| head.hash);
        let logs = (0..u32::try_from(PER_BLOCK).unwrap()).map(|n| self.log(n)).collect();
        self.head = Some(block);
        Frame {
            chain: ChainId(1),
            sequence: number,
            step: Step::Apply,
            block,
            parent,
            timestamp: number * 12,
            transactions: Vec::new(),
            logs,
        }
    }

    fn log(&mut self, n: u32) -> Log {
        let mut amount = [0; 32];
        amount[22..].copy_from_slice(&self.hash().0[..10]);
        Log {
            address: Address([u8::try_from(n % 4).unwrap() + 1; 20]),
            topics: vec![TRANSFER, self.party(), self.party()],
            data: amount.to_vec().into(),
            transaction_hash: self.hash(),
            transaction_index: n,
            log_index: n,
        }
    }
}
