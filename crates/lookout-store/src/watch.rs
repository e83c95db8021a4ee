//! What the rules consumer keeps: where it stands, alerts, and the deliveries that they lead to.
//!
//! A batch of frames is one transaction: alerts, their deliveries, the blocks, the windows and the
//! cursor commit together or not at all.

mod alert_id;
mod balances;
mod commit;
mod deliveries;
mod rebuild;
mod routes;
mod rows;
mod steps;
mod versions;
mod windows;

use lookout_types::{BlockRef, ChainId, Cursor, Hash, Height, UnixSeconds};
use sqlx::Row;
use sqlx::any::AnyRow;

pub use alert_id::{AlertKey, alert_id};
pub use balances::{FreshReadings, ReadBalance, TakenReadings};
pub use versions::{RuleVersion, TakenUp, VersionsAfter};

use crate::{Store, StoreError};

/// Heights of which blocks are kept, the newest of each chain: deeper than any reorg that chains
/// outside of laboratories have seen.
pub const WATCHED_BLOCKS: u64 = 1024;

/// The name of the rules consumer among the consumers.
const RULES: &str = "rules";

const READING: &str = "reading where the rules stand";

/// Where the rules of a chain stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    /// The last frame whose effects are committed.
    pub cursor: Cursor,
    /// The lowest block of the chain that the cursor's head ends; `None` while there is no head.
    pub base: Option<Height>,
    /// The windows as they were after a frame, not later than the cursor's.
    pub snapshot: Option<WindowSnapshot>,
    /// While it is rebuilt after a reset: the sequence of the cursor that it had. A commit must end
    /// there, as far as the frames are the same.
    pub rebuilding: Option<u64>,
}

/// Windows of rules as bytes, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSnapshot {
    /// The frame after which they were like this.
    pub cursor: Cursor,
    /// The lowest block of the chain at that frame.
    pub base: Option<Height>,
    /// Parts with their names, in the order of these; none where no rule had a window.
    pub parts: Vec<(String, Vec<u8>)>,
}

/// What changed of the windows since they were kept last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptWindows {
    /// Parts that are new or differ.
    pub changed: Vec<(String, Vec<u8>)>,
    /// Names of parts that are gone.
    pub gone: Vec<String>,
}

/// What a batch of frames comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchCommit {
    /// Sequence of the cursor that it stands on; it is refused when another has moved that.
    pub after: u64,
    /// Where it leads, with the chain.
    pub cursor: Cursor,
    /// The lowest block of the chain there; it counts only where there are steps.
    pub base: Option<Height>,
    /// What happened, in order.
    pub steps: Vec<WatchStep>,
    /// What changed of the windows up to the last frame, when they are to be kept.
    pub windows: Option<KeptWindows>,
    /// Versions of rules that begin or end to watch.
    pub taken_up: Vec<TakenUp>,
    /// Records without an answer.
    pub failures: Vec<NewRuleFailure>,
    /// Blocks up to here are never undone: what is kept for that goes.
    pub final_height: Option<Height>,
}

/// Blocks applied, or undone, or balances looked at in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStep {
    /// Blocks were applied, each on the one before.
    Applied {
        /// The blocks, lowest first; never none.
        blocks: Vec<WatchedBlock>,
        /// What matched in them.
        alerts: Vec<NewAlert>,
    },
    /// All blocks from a height on were undone.
    Undone {
        /// The lowest of them.
        from: Height,
    },
    /// Rules were asked about balances that were read at a block which stands.
    Read(TakenReadings),
}

/// A block that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchedBlock {
    /// The block.
    pub block: BlockRef,
    /// Its time.
    pub time: UnixSeconds,
}

/// A match about to become an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// What it is about.
    pub key: AlertKey,
    /// The height of its block.
    pub height: Height,
    /// The rule's name.
    pub rule_name: String,
    /// Which record, as JSON.
    pub record: String,
    /// Whether it is of a balance that was read: frames alone do not bring it again.
    pub is_reading: bool,
    /// The message's text.
    pub text: String,
    /// The message's spans: a JSON array.
    pub spans: String,
    /// The values in the message by name: a JSON object.
    pub facts: String,
}

/// Records that a version of a rule had no answer for, counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRuleFailure {
    /// The rule's id.
    pub rule_id: String,
    /// The rule's version.
    pub rule_version: u32,
    /// What went wrong.
    pub reason: String,
    /// How many records.
    pub count: u64,
    /// The height of the newest.
    pub height: Height,
    /// The newest, as JSON.
    pub record: String,
}

/// What a commit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchChanges {
    /// Alerts that are new.
    pub matched: u64,
    /// Alerts that became confirmed.
    pub confirmed: u64,
    /// Alerts that were confirmed and are retracted.
    pub retracted: u64,
    /// Alerts that went without a trace: their block was undone before they were confirmed.
    pub dropped: u64,
    /// Deliveries that wait to be sent.
    pub queued: u64,
    /// Deliveries that need not be sent any more.
    pub cancelled: u64,
    /// Whether a rebuild has ended: from here on everything is told again.
    pub rebuilt: bool,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchCommitted {
    /// It is committed.
    Done(WatchChanges),
    /// Nothing is: another instance has moved the cursor, to this sequence.
    Elsewhere(u64),
}

impl Store {
    /// Where the rules of a chain stand; sequence 0 before the first frame.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn watch_state(&self, chain: ChainId) -> Result<WatchState, StoreError> {
        let failed = StoreError::database(READING);
        let row = sqlx::query(
            "SELECT c.sequence, c.head_height, c.head_hash, c.base_height, c.rebuild_sequence, \
             s.sequence AS windows_at, s.head_height AS windows_height, \
             s.head_hash AS windows_hash, s.base_height AS windows_base \
             FROM consumers c LEFT JOIN window_snapshots s ON s.chain_id = c.chain_id \
             WHERE c.name = $1 AND c.chain_id = $2",
        )
        .bind(RULES)
        .bind(to_number(chain.0)?)
        .fetch_optional(self.pool())
        .await
        .map_err(&failed)?;
        let Some(row) = row else {
            let cursor = Cursor { chain, sequence: 0, head: None };
            return Ok(WatchState { cursor, base: None, snapshot: None, rebuilding: None });
        };
        let height = |column: &str| -> Result<Option<Height>, StoreError> {
            let height: Option<i64> = row.try_get(column).map_err(&failed)?;
            height.map(to_count).transpose()
        };
        let base = height("base_height")?;
        let sequence = to_count(row.try_get("sequence").map_err(&failed)?)?;
        let cursor = Cursor { chain, sequence, head: head_of(&row, "head_height", "head_hash")? };
        let windows_at: Option<i64> = row.try_get("windows_at").map_err(&failed)?;
        let snapshot = match windows_at {
            None => None,
            Some(at) => {
                let parts = self.window_parts(chain, at).await?;
                let head = head_of(&row, "windows_height", "windows_hash")?;
                let cursor = Cursor { chain, sequence: to_count(at)?, head };
                Some(WindowSnapshot { cursor, base: height("windows_base")?, parts })
            }
        };
        let rebuilding = height("rebuild_sequence")?;
        Ok(WatchState { cursor, base, snapshot, rebuilding })
    }

    /// The newest blocks on which the rules of a chain stand, highest first, about
    /// [`WATCHED_BLOCKS`].
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn watched_blocks(&self, chain: ChainId) -> Result<Vec<WatchedBlock>, StoreError> {
        let failed = StoreError::database(READING);
        let rows = sqlx::query(
            "SELECT height, hash, block_time FROM watched_blocks \
             WHERE chain_id = $1 AND undone = 0 ORDER BY height DESC LIMIT $2",
        )
        .bind(to_number(chain.0)?)
        .bind(to_number(WATCHED_BLOCKS)?)
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let read = |row: &AnyRow| {
            let number = to_count(row.try_get("height").map_err(&failed)?)?;
            let hash = to_hash(row.try_get("hash").map_err(&failed)?)?;
            let time = to_count(row.try_get("block_time").map_err(&failed)?)?;
            Ok(WatchedBlock { block: BlockRef { number, hash }, time })
        };
        rows.iter().map(read).collect()
    }
}

fn head_of(row: &AnyRow, height: &str, hash: &str) -> Result<Option<BlockRef>, StoreError> {
    let failed = StoreError::database(READING);
    let height: Option<i64> = row.try_get(height).map_err(&failed)?;
    let hash: Option<Vec<u8>> = row.try_get(hash).map_err(&failed)?;
    match (height, hash) {
        (Some(height), Some(hash)) => {
            Ok(Some(BlockRef { number: to_count(height)?, hash: to_hash(hash)? }))
        }
        _ => Ok(None),
    }
}

/// A height, sequence or count as the database holds it.
fn to_number(value: u64) -> Result<i64, StoreError> {
    let wrong = || StoreError::Invalid(format!("the store holds numbers up to 2^63, not {value}"));
    i64::try_from(value).map_err(|_| wrong())
}

fn to_count(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("a count is {value}")))
}

fn to_hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    let length = bytes.len();
    let wrong = |_| StoreError::Corrupt(format!("a block hash has {length} bytes"));
    bytes.try_into().map(Hash).map_err(wrong)
}
