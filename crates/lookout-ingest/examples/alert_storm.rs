//! What a block costs in which thousands of records match, up to the commit of its deliveries:
//! `cargo run --release -p lookout-ingest --example alert_storm`.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lookout_ingest::consume::Consumer;
use lookout_ingest::consume::RulesConsumer;
use lookout_store::testing::execute;
use lookout_store::{Store, StoreUrl};
use lookout_types::{Address, BlockRef, ChainId, Frame, Hash, Log, Step, SystemClock, TRANSFER};
use serde_json::json;

const RULE: &str = "01990000-0000-7000-8000-000000000001";
const CHANNEL: &str = "01990000-0000-7000-8000-000000000901";
const MATCHES: u32 = 10_000;

fn word(number: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    Hash(word)
}

fn frame(number: u64, logs: u32) -> Arc<Frame> {
    let log = |log_index: u32| Log {
        address: Address([0xaa; 20]),
        topics: vec![TRANSFER, word(1), word(2)],
        data: word(log_index.into()).0.to_vec().into(),
        transaction_hash: word(number << 8),
        transaction_index: 0,
        log_index,
    };
    Arc::new(Frame {
        chain: ChainId(1),
        sequence: number,
        step: Step::Apply,
        block: BlockRef { number, hash: word(number) },
        parent: word(number - 1),
        timestamp: 1_700_000_000 + number,
        transactions: Vec::new(),
        logs: (0..logs).map(log).collect(),
    })
}

async fn set_up(store: &Store) {
    let document = json!({
        "name": "storm", "chain": "1",
        "watch": {"kind": "event",
                  "event": "event Transfer(address indexed from, address indexed to, uint256 value)"},
        "template": "{{ from | short }} sent {{ value }} to {{ to | short }} in {{ tx.hash }}",
    });
    let source = json!({"chain": 1, "document": document});
    for statement in [
        "INSERT INTO tenants (tenant_id, created_at) VALUES ('acme', 0)".to_owned(),
        format!(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
             updated_at) VALUES ('acme', '{CHANNEL}', 'c', 'webhook', '', '', 'active', 0, 0)"
        ),
        format!(
            "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
             confirmations, created_at, updated_at) VALUES ('acme', '{RULE}', 'r', 1, '', 1, 0, \
             '[\"{CHANNEL}\"]', 0, 0, 0)"
        ),
        format!(
            "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, retired, \
             revision, created_at) VALUES ('acme', '{RULE}', 1, 1, '{source}', 0, 1, 0)"
        ),
        "UPDATE rule_revision SET revision = 1".to_owned(),
    ] {
        execute(store, &statement).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_owned());
    let path = std::path::Path::new(&folder).join(format!("storm-{}.db", std::process::id()));
    let url = StoreUrl::SqliteFile(path.clone());
    let store = Store::open(&url, Arc::new(SystemClock)).await.expect("a folder");
    store.migrate().await.expect("a new file");
    set_up(&store).await;
    let consumer = RulesConsumer::new(store.clone(), []);
    let mut sequence = 0;
    for logs in [0, 1, MATCHES, MATCHES, MATCHES] {
        let mut took = Duration::ZERO;
        let rounds = if logs < 2 { 100 } else { 1 };
        for _ in 0..rounds {
            sequence += 1;
            let frame = frame(sequence, logs);
            let begun = Instant::now();
            consumer.apply(vec![frame]).await.expect("a frame that follows");
            took += begun.elapsed();
        }
        println!("{logs} matches in a block: {:.2} ms", (took / rounds).as_secs_f64() * 1e3);
    }
    store.close().await;
    for end in ["", "-wal", "-shm"] {
        // Left over side files are gone with the last connection, most of the time.
        std::fs::remove_file(format!("{}{end}", path.display())).unwrap_or_default();
    }
}
