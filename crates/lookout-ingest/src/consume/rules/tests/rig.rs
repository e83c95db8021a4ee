//! A store with rules and channels, and frames to send through the consumer.

use std::sync::Arc;

use lookout_store::testing::{execute, rows};
use lookout_store::{Store, StoreUrl};
use lookout_types::{Address, BlockRef, ChainId, FixedClock, Frame, Hash, Log, Step, TRANSFER};
use serde_json::{Value, json};

use super::super::{Consumer, RulesConsumer};

pub(super) const CHAIN: ChainId = ChainId(1);
const NOW: i64 = 1_760_000_000_000;
/// Everything of an alert that a fresh run over the final chain must give alike.
pub(super) const ALERT: &str = "tenant_id, id, rule_id, CAST(rule_version AS TEXT), rule_name, \
     CAST(height AS TEXT), hex(block_hash), CAST(block_time AS TEXT), record, text, spans, facts, \
     CAST(confirms_at AS TEXT), state, CAST(occurrence AS TEXT)";

pub(super) struct Rig {
    pub(super) store: Store,
    pub(super) clock: Arc<FixedClock>,
    revision: i64,
}

/// The id of a rule or a channel.
pub(super) fn uuid(number: u64) -> String {
    format!("01990000-0000-7000-8000-{number:012}")
}

/// A rule on transfers of a token, by its condition and whatever else it has.
pub(super) fn document(condition: &str, more: Value) -> Value {
    let mut document = json!({
        "name": "test", "chain": "1", "condition": condition,
        "watch": {"kind": "event",
                  "event": "event Transfer(address indexed from, address indexed to, uint256 value)"},
        "template": "{{ rule.name }} {{ block.number }}",
    });
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

impl Rig {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(FixedClock::at(NOW));
        let store = Store::open(&StoreUrl::SqliteMemory, Arc::<FixedClock>::clone(&clock)).await;
        let store = store.unwrap();
        store.migrate().await.unwrap();
        execute(&store, "INSERT INTO tenants (tenant_id, created_at) VALUES ('acme', 0)").await;
        Self { store, clock, revision: 0 }
    }

    /// A consumer that knows nothing but what the store has.
    pub(super) fn consumer(&self) -> RulesConsumer {
        RulesConsumer::new(self.store.clone(), [])
    }

    pub(super) async fn channel(&self, number: u64) {
        let id = uuid(number);
        let statement = format!(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
             updated_at) VALUES ('acme', '{id}', 'c', 'webhook', '{{}}', '{{}}', 'active', 0, 0)"
        );
        execute(&self.store, &statement).await;
    }

    /// A rule without versions.
    pub(super) async fn rule(&self, number: u64, confirmations: u64, channels: &[u64]) {
        let channels: Vec<_> = channels.iter().map(|number| uuid(*number)).collect();
        let statement = format!(
            "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
             confirmations, created_at, updated_at) VALUES ('acme', '{}', 'r', 1, '', 1, 0, '{}', \
             {confirmations}, 0, 0)",
            uuid(number),
            json!(channels)
        );
        execute(&self.store, &statement).await;
    }

    /// A new version of a rule; `None` pauses it.
    pub(super) async fn version(&mut self, number: u64, version: u32, document: Option<&Value>) {
        self.version_on(CHAIN, number, version, document).await;
    }

    /// The same on a chain: a rule may be moved.
    pub(super) async fn version_on(
        &mut self,
        chain: ChainId,
        number: u64,
        version: u32,
        document: Option<&Value>,
    ) {
        self.revision += 1;
        let (id, revision) = (uuid(number), self.revision);
        let retire = format!(
            "UPDATE rule_versions SET retired = 1, revision = {revision} \
             WHERE rule_id = '{id}' AND retired = 0"
        );
        execute(&self.store, &retire).await;
        if let Some(document) = document {
            let source =
                json!({"chain": chain.0, "document": document}).to_string().replace('\'', "''");
            let insert = format!(
                "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, retired, \
                 revision, created_at) VALUES ('acme', '{id}', {version}, {chain}, '{source}', 0, \
                 {revision}, 0)"
            );
            execute(&self.store, &insert).await;
        }
        execute(&self.store, &format!("UPDATE rule_revision SET revision = {revision}")).await;
        self.store.signals().rules.raise();
    }

    /// The same rules and channels, with the heights that they watch, in a new store.
    pub(super) async fn twin(&self) -> Self {
        let twin = Self { revision: self.revision, ..Self::new().await };
        for table in ["channels", "rules", "rule_versions"] {
            let columns =
                rows(&self.store, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let columns: Vec<_> = columns.into_iter().flatten().collect();
            let quoted: Vec<_> = columns.iter().map(|name| format!("quote({name})")).collect();
            let query = format!("SELECT {} FROM {table}", quoted.join(", "));
            for row in rows(&self.store, &query).await {
                let columns = columns.join(", ");
                let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", row.join(", "));
                execute(&twin.store, &insert).await;
            }
        }
        execute(&twin.store, &format!("UPDATE rule_revision SET revision = {}", self.revision))
            .await;
        twin
    }

    pub(super) async fn rows(&self, query: &str) -> Vec<Vec<String>> {
        rows(&self.store, query).await
    }

    /// One column of text.
    pub(super) async fn column(&self, query: &str) -> Vec<String> {
        self.rows(query).await.into_iter().flatten().collect()
    }

    pub(super) async fn execute(&self, statement: &str) -> u64 {
        execute(&self.store, statement).await
    }

    /// States of alerts in the order of their heights, as `height state`.
    pub(super) async fn states(&self) -> Vec<String> {
        self.column("SELECT height || ' ' || state FROM alerts ORDER BY height, id").await
    }

    /// Deliveries as `channel kind state`, sorted.
    pub(super) async fn deliveries(&self) -> Vec<String> {
        let query = "SELECT CAST(CAST(substr(channel_id, -3) AS INTEGER) AS TEXT) \
                     || ' ' || kind || ' ' || state FROM deliveries ORDER BY 1";
        self.column(query).await
    }
}

/// A block with a hash of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) hash: u64,
    pub(super) parent: u64,
    pub(super) time: u64,
    pub(super) values: Vec<u64>,
}

pub(super) fn word(number: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    Hash(word)
}

impl Block {
    pub(super) fn frame(&self, sequence: u64, step: Step) -> Arc<Frame> {
        let logs = self.values.iter().zip(0..).map(|(value, log_index)| Log {
            address: Address([0xaa; 20]),
            topics: vec![TRANSFER, word(1), word(2)],
            data: word(*value).0.to_vec().into(),
            transaction_hash: word(self.hash << 8),
            transaction_index: 0,
            log_index,
        });
        Arc::new(Frame {
            chain: CHAIN,
            sequence,
            step,
            block: BlockRef { number: self.number, hash: word(self.hash) },
            parent: word(self.parent),
            timestamp: self.time,
            transactions: Vec::new(),
            logs: logs.collect(),
        })
    }
}

/// Frames as a chain makes them, numbered from 1.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    pub(super) branch: Vec<Block>,
    pub(super) frames: Vec<Arc<Frame>>,
    /// Hashes given out.
    pub(super) hashes: u64,
    /// Height and hash of the block below the first one, of which nothing else is known.
    pub(super) below: (u64, u64),
}

impl Chain {
    fn push(&mut self, block: &Block, step: Step) {
        let sequence = u64::try_from(self.frames.len()).unwrap() + 1;
        self.frames.push(block.frame(sequence, step));
    }

    /// A new block on top.
    pub(super) fn mine(&mut self, seconds: u64, values: &[u64]) {
        self.hashes += 1;
        let below = self.branch.last();
        let block = Block {
            number: below.map_or(self.below.0, |below| below.number) + 1,
            hash: self.hashes,
            parent: below.map_or(self.below.1, |below| below.hash),
            time: below.map_or(1_700_000_000, |below| below.time) + seconds,
            values: values.to_vec(),
        };
        self.apply(block);
    }

    pub(super) fn apply(&mut self, block: Block) {
        self.push(&block, Step::Apply);
        self.branch.push(block);
    }

    /// Cuts the logs of the newest frame, so that they do not decode.
    pub(super) fn spoil(&mut self) {
        let frame = Arc::make_mut(self.frames.last_mut().unwrap());
        for log in &mut frame.logs {
            log.data.truncate(3);
        }
    }

    /// Takes blocks off the top; gives them lowest first.
    pub(super) fn undo(&mut self, depth: usize) -> Vec<Block> {
        let gone = self.branch.split_off(self.branch.len() - depth);
        for block in gone.iter().rev() {
            self.push(block, Step::Undo);
        }
        gone
    }

    /// Lets the next first block have another height and parent.
    pub(super) fn begin_above(&mut self, height: u64) {
        self.hashes += 1;
        self.below = (height, self.hashes);
    }

    /// The frames after a sequence.
    pub(super) fn after(&self, sequence: u64) -> &[Arc<Frame>] {
        &self.frames[usize::try_from(sequence).unwrap()..]
    }
}

/// Sends all frames that a consumer has not seen.
pub(super) async fn feed(consumer: &RulesConsumer, chain: &Chain) {
    let cursor = consumer.cursor(CHAIN).await.unwrap();
    let frames = chain.after(cursor.sequence).to_vec();
    if !frames.is_empty() {
        consumer.apply(frames).await.unwrap();
    }
}
