//! Beginning again from the frames, without telling anybody anything twice.
//!
//! A reset forgets the cursor, the windows and the failures of a chain. It keeps what versions of
//! rules watch, the alerts, their deliveries, and which blocks were seen. The frames then bring the
//! alerts again under their old ids. Until they come to where the consumer stood, or to a block
//! that it had not seen, nothing is told: no delivery is queued, and an alert whose block is undone
//! waits for the block to come back, as it may have done before. At that point an alert that the
//! frames did not bring back is retracted as any other. Alerts below the first frame that is left
//! stay as they are, and so do those of windows that begin below it. Balances were read from the chain, not from frames: their alerts, and the
//! readings, stay as long as their block does.

use lookout_rules::{RuleSource, WindowDocument};
use lookout_types::{BlockRef, ChainId, Cursor, Hash, Height};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use std::collections::{HashMap, HashSet};

use super::deliveries::{AlertRef, Withdrawn};
use super::rows::{LIST, bind_list, with_list};
use super::steps::Writer;
use super::{RULES, WatchedBlock, head_of, to_count, to_hash, to_number};
use crate::{Store, StoreError};

const RESETTING: &str = "resetting the rules consumer";
const REBUILDING: &str = "rebuilding alerts";

/// Where the consumer stood before it was reset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    sequence: u64,
    head: Option<BlockRef>,
    /// Blocks below were all seen.
    floor: Height,
}

/// Alerts that were there before a reset, by id: whether they were retracted.
pub(super) type Before = HashMap<String, bool>;

impl Target {
    pub(super) fn read(row: &AnyRow) -> Result<Option<Self>, StoreError> {
        let sequence: Option<i64> =
            row.try_get("rebuild_sequence").map_err(StoreError::database(REBUILDING))?;
        let Some(sequence) = sequence else { return Ok(None) };
        let head = head_of(row, "rebuild_height", "rebuild_hash")?;
        let floor: Option<i64> =
            row.try_get("rebuild_floor").map_err(StoreError::database(REBUILDING))?;
        let floor = floor.map_or(Ok(0), to_count)?;
        Ok(Some(Self { sequence: to_count(sequence)?, head, floor }))
    }

    /// Whether a cursor is the very one that the consumer had.
    pub(super) fn is_reached(&self, cursor: &Cursor) -> bool {
        self.sequence == cursor.sequence && self.head == cursor.head
    }
}

impl Store {
    /// Makes the rules of a chain begin again from the frames.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reset_watch(&self, chain: ChainId) -> Result<(), StoreError> {
        let failed = StoreError::database(RESETTING);
        let mut tx = self.begin_write(RESETTING).await?;
        let chain = to_number(chain.0)?;
        // A rebuild that did not end has the same place to come to.
        sqlx::query(
            "UPDATE consumers SET rebuild_height = CASE WHEN rebuild_sequence IS NULL \
             THEN head_height ELSE rebuild_height END, rebuild_hash = CASE \
             WHEN rebuild_sequence IS NULL THEN head_hash ELSE rebuild_hash END, \
             rebuild_floor = CASE WHEN rebuild_sequence IS NULL THEN \
             (SELECT MIN(height) FROM watched_blocks WHERE chain_id = $2) ELSE rebuild_floor END, \
             rebuild_sequence = COALESCE(rebuild_sequence, sequence), \
             sequence = 0, first_height = NULL, first_time = NULL, base_height = NULL, head_height = NULL, head_hash = NULL \
             WHERE name = $1 AND chain_id = $2",
        )
        .bind(RULES)
        .bind(chain)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        for statement in [
            "UPDATE watched_blocks SET undone = 1 WHERE chain_id = $1",
            "DELETE FROM window_snapshots WHERE chain_id = $1",
            "DELETE FROM window_parts WHERE chain_id = $1",
            // Those of the versions on this chain: a rule may have been moved since.
            "DELETE FROM rule_failures WHERE EXISTS (SELECT 1 FROM rule_versions v \
             WHERE v.tenant_id = rule_failures.tenant_id AND v.rule_id = rule_failures.rule_id \
             AND v.version = rule_failures.rule_version AND v.chain_id = $1)",
            "UPDATE alerts SET replayed = 0 WHERE chain_id = $1 AND is_reading = 0",
        ] {
            sqlx::query(statement).bind(chain).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(failed)
    }
}

impl Writer<'_> {
    /// The position of the first block that was not seen before the reset.
    pub(super) async fn first_unseen(
        &mut self,
        target: Target,
        blocks: &[WatchedBlock],
    ) -> Result<usize, StoreError> {
        let failed = StoreError::database(REBUILDING);
        let recent = |watched: &WatchedBlock| watched.block.number >= target.floor;
        let Some(from) = blocks.iter().position(recent) else { return Ok(blocks.len()) };
        let recent = blocks.get(from..).unwrap_or_default();
        let lowest = recent.first().map_or(0, |first| first.block.number);
        let rows =
            sqlx::query("SELECT hash FROM watched_blocks WHERE chain_id = $1 AND height >= $2")
                .bind(to_number(self.chain.0)?)
                .bind(to_number(lowest)?)
                .fetch_all(&mut *self.connection)
                .await
                .map_err(&failed)?;
        let mut seen: HashSet<Hash> = HashSet::with_capacity(rows.len());
        for row in &rows {
            seen.insert(to_hash(row.try_get("hash").map_err(&failed)?)?);
        }
        let unseen = recent.iter().position(|watched| !seen.contains(&watched.block.hash));
        Ok(unseen.map_or(blocks.len(), |at| from + at))
    }

    /// The alerts from a height on that the frames have not brought again yet.
    pub(super) async fn before(&mut self, from: Height) -> Result<Before, StoreError> {
        let failed = StoreError::database(REBUILDING);
        let rows = sqlx::query(
            "SELECT id, retracted_at FROM alerts \
             WHERE chain_id = $1 AND replayed = 0 AND height >= $2",
        )
        .bind(to_number(self.chain.0)?)
        .bind(to_number(from)?)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(&failed)?;
        let read = |row: &AnyRow| {
            let retracted: Option<i64> = row.try_get("retracted_at")?;
            Ok((row.try_get("id")?, retracted.is_some()))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Alerts of blocks undone wait for these to come back.
    pub(super) async fn undo_quietly(&mut self, from: Height) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE alerts SET replayed = 0, \
             state = CASE WHEN retracted_at IS NULL THEN state ELSE 'retracted' END \
             WHERE chain_id = $1 AND height >= $2 AND replayed = 1 AND is_reading = 0",
        )
        .bind(to_number(self.chain.0)?)
        .bind(to_number(from)?)
        .execute(&mut *self.connection)
        .await
        .map_err(StoreError::database(REBUILDING))?;
        Ok(())
    }

    /// Alerts that the frames brought again of rules that are purged: as they were.
    pub(super) async fn stand(&mut self, ids: &[String], from: Height) -> Result<(), StoreError> {
        for chunk in ids.chunks(LIST) {
            let statement = "UPDATE alerts SET replayed = 1 \
                             WHERE chain_id = $1 AND height >= $2 AND replayed = 0 AND id IN ({})";
            let query = with_list(statement, 3).bind(to_number(self.chain.0)?);
            bind_list(query.bind(to_number(from)?), chunk.iter().map(String::as_str))
                .execute(&mut *self.connection)
                .await
                .map_err(StoreError::database(REBUILDING))?;
        }
        Ok(())
    }

    /// Windows that begin below the first frame were empty where they had records before. What they
    /// brought up then stands, unless its block is gone.
    async fn keep_cut_off_windows(&mut self, chain: i64) -> Result<(), StoreError> {
        let failed = StoreError::database(REBUILDING);
        let rows = sqlx::query(
            "SELECT v.tenant_id, v.rule_id, v.version, v.source FROM rule_versions v \
             JOIN (SELECT DISTINCT tenant_id, rule_id, rule_version FROM alerts \
             WHERE chain_id = $1 AND replayed = 0 AND height >= \
             (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1)) a \
             ON v.tenant_id = a.tenant_id AND v.rule_id = a.rule_id AND v.version = a.rule_version",
        )
        .bind(chain)
        .bind(RULES)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(&failed)?;
        for row in &rows {
            let source: String = row.try_get("source").map_err(&failed)?;
            let Some(length_s) = window_s(&source) else { continue };
            sqlx::query(
                "UPDATE alerts SET replayed = 1 WHERE chain_id = $1 AND replayed = 0 \
                 AND tenant_id = $3 AND rule_id = $4 AND rule_version = $5 \
                 AND height >= \
                 (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1) \
                 AND block_time < $6 + \
                 (SELECT first_time FROM consumers WHERE name = $2 AND chain_id = $1) \
                 AND NOT EXISTS (SELECT 1 FROM watched_blocks w \
                 WHERE w.chain_id = alerts.chain_id AND w.height = alerts.height \
                 AND w.hash = alerts.block_hash AND w.undone = 1)",
            )
            .bind(chain)
            .bind(RULES)
            .bind(row.try_get::<String, _>("tenant_id").map_err(&failed)?)
            .bind(row.try_get::<String, _>("rule_id").map_err(&failed)?)
            .bind(row.try_get::<i64, _>("version").map_err(&failed)?)
            .bind(to_number(length_s)?)
            .execute(&mut *self.connection)
            .await
            .map_err(&failed)?;
        }
        Ok(())
    }

    /// The frames are where the consumer stood, or beyond: takes back what they did not bring.
    pub(super) async fn end_rebuild(&mut self) -> Result<(), StoreError> {
        let failed = StoreError::database(REBUILDING);
        self.target = None;
        let chain = to_number(self.chain.0)?;
        // What was read stands or falls with its block.
        for statement in [
            "UPDATE alerts SET replayed = 0 WHERE chain_id = $1 AND is_reading = 1 AND EXISTS \
             (SELECT 1 FROM watched_blocks w WHERE w.chain_id = alerts.chain_id \
              AND w.height = alerts.height AND w.hash = alerts.block_hash AND w.undone = 1)",
            "DELETE FROM balance_readings WHERE chain_id = $1 AND EXISTS \
             (SELECT 1 FROM watched_blocks w WHERE w.chain_id = balance_readings.chain_id \
              AND w.height = balance_readings.height AND w.hash = balance_readings.block_hash \
              AND w.undone = 1)",
        ] {
            let query = sqlx::query(statement).bind(chain);
            query.execute(&mut *self.connection).await.map_err(&failed)?;
        }
        self.keep_cut_off_windows(chain).await?;
        let gone = left(self.connection, chain).await?;
        let Withdrawn { queued, cancelled } =
            self.store.withdraw(self.connection, &gone, self.now).await?;
        let retracted = sqlx::query(
            "UPDATE alerts SET state = 'retracted', retracted_at = $3, \
             changed = (SELECT revision FROM alert_revision WHERE id = 1) \
             WHERE chain_id = $1 AND replayed = 0 AND height >= \
             (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1) \
             AND confirmed_at IS NOT NULL AND retracted_at IS NULL",
        )
        .bind(chain)
        .bind(RULES)
        .bind(self.now)
        .execute(&mut *self.connection)
        .await
        .map_err(&failed)?;
        for statement in [
            "DELETE FROM alerts WHERE chain_id = $1 AND replayed = 0 AND height >= \
             (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1) \
             AND confirmed_at IS NULL",
            "UPDATE alerts SET replayed = 1 WHERE chain_id = $1 AND replayed = 0 AND height >= \
             (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1)",
            "UPDATE consumers SET rebuild_sequence = NULL, rebuild_height = NULL, \
             rebuild_floor = NULL, rebuild_hash = NULL WHERE chain_id = $1 AND name = $2",
        ] {
            let query = sqlx::query(statement).bind(chain).bind(RULES);
            query.execute(&mut *self.connection).await.map_err(&failed)?;
        }
        // What was told stands; what was taken back as well has come back after all.
        sqlx::query(
            "UPDATE alerts SET state = 'confirmed', retracted_at = NULL, \
             changed = CASE WHEN retracted_at IS NULL THEN changed \
             ELSE (SELECT revision FROM alert_revision WHERE id = 1) END \
             WHERE chain_id = $1 AND state <> 'retracted' AND confirmed_at IS NOT NULL \
             AND (state = 'pending' OR retracted_at IS NOT NULL)",
        )
        .bind(chain)
        .execute(&mut *self.connection)
        .await
        .map_err(&failed)?;
        self.changes.rebuilt = true;
        self.changes.retracted += retracted.rows_affected();
        self.changes.queued += queued;
        self.changes.cancelled += cancelled;
        Ok(())
    }
}

/// The length of the window of a version, if it has one. A source that cannot be read was watched by
/// nobody since.
fn window_s(source: &str) -> Option<u64> {
    let source: RuleSource = serde_json::from_str(source).ok()?;
    Some(match source.document.window? {
        WindowDocument::Count { over, .. } | WindowDocument::Sum { over, .. } => over.0,
        WindowDocument::Silence { for_ } => for_.0,
    })
}

/// The alerts that were told and not taken back, and that the frames did not bring again.
async fn left(connection: &mut AnyConnection, chain: i64) -> Result<Vec<AlertRef>, StoreError> {
    let failed = StoreError::database(REBUILDING);
    let rows = sqlx::query(
        "SELECT tenant_id, id FROM alerts WHERE chain_id = $1 AND replayed = 0 AND height >= \
         (SELECT first_height FROM consumers WHERE name = $2 AND chain_id = $1) \
         AND confirmed_at IS NOT NULL AND retracted_at IS NULL",
    )
    .bind(chain)
    .bind(RULES)
    .fetch_all(connection)
    .await
    .map_err(&failed)?;
    let read =
        |row: &AnyRow| Ok(AlertRef { tenant: row.try_get("tenant_id")?, id: row.try_get("id")? });
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}
