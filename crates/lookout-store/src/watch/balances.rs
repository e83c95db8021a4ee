//! Balances as rules see them: read by a job, asked about by the consumer, kept to compare with.
//!
//! What was read waits apart from what rules were asked about. The consumer takes it over with the
//! alerts that come of it, in the transaction of its cursor; so a reading counts once, and goes
//! with its block.

use lookout_types::{BlockRef, ChainId, Height};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::rows::{Bound, Insert};
use super::steps::Writer;
use super::{NewAlert, NewRuleFailure, RULES, WatchedBlock, to_count, to_hash, to_number};
use crate::{Store, StoreError};

const READING: &str = "reading balances that rules watch";
const KEEPING: &str = "keeping balances";

/// A balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBalance {
    /// The account, as text.
    pub account: String,
    /// The asset, as text.
    pub asset: String,
    /// The balance in smallest units, decimal.
    pub balance: String,
}

/// Balances that rules were not asked about yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshReadings {
    /// The round in which they were read.
    pub batch: String,
    /// The block at which they were read; it stands.
    pub block: WatchedBlock,
    /// The balances, each with the height and the balance of the newest reading below.
    pub balances: Vec<(ReadBalance, Option<(Height, String)>)>,
}

/// Balances that rules are asked about now, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenReadings {
    /// The round in which they were read.
    pub batch: String,
    /// The block at which they were read.
    pub block: BlockRef,
    /// The height of the consumer's head.
    pub head: Height,
    /// The balances.
    pub balances: Vec<ReadBalance>,
    /// What matched.
    pub alerts: Vec<NewAlert>,
}

impl Store {
    /// The newest block of a chain on which rules stand, for balances to be read at. `None` before
    /// the first, and while alerts are rebuilt.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn readings_block(&self, chain: ChainId) -> Result<Option<WatchedBlock>, StoreError> {
        let row = sqlx::query(
            "SELECT w.height, w.hash, w.block_time FROM watched_blocks w JOIN consumers c \
             ON c.chain_id = w.chain_id AND c.name = $1 AND c.rebuild_sequence IS NULL \
             WHERE w.chain_id = $2 AND w.undone = 0 ORDER BY w.height DESC LIMIT 1",
        )
        .bind(RULES)
        .bind(to_number(chain.0)?)
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        row.as_ref().map(block_of).transpose()
    }

    /// Leaves balances that were read at a block for the rules, and counts what could not be read.
    /// `false`, and nothing is left, when the block does not stand any more.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left then.
    pub async fn put_readings(
        &self,
        chain: ChainId,
        block: BlockRef,
        balances: &[ReadBalance],
        failures: &[NewRuleFailure],
    ) -> Result<bool, StoreError> {
        let failed = StoreError::database(KEEPING);
        let now = self.now();
        let mut tx = self.begin_write(KEEPING).await?;
        let stands = sqlx::query(
            "SELECT height FROM watched_blocks \
             WHERE chain_id = $1 AND height = $2 AND hash = $3 AND undone = 0",
        )
        .bind(to_number(chain.0)?)
        .bind(to_number(block.number)?)
        .bind(block.hash.0.to_vec())
        .fetch_optional(&mut *tx)
        .await
        .map_err(&failed)?;
        if stands.is_none() {
            return Ok(false);
        }
        let batch = self.next_id(now);
        let insert = Insert {
            before: "INSERT INTO fresh_readings \
                     (batch, account, asset, balance, chain_id, height, block_hash)",
            columns: 7,
            after: "ON CONFLICT DO NOTHING",
            doing: KEEPING,
        };
        let (chain_id, height) = (to_number(chain.0)?, to_number(block.number)?);
        let bind = |query: Bound, read: &ReadBalance| {
            Ok(query
                .bind(batch.clone())
                .bind(read.account.clone())
                .bind(read.asset.clone())
                .bind(read.balance.clone())
                .bind(chain_id)
                .bind(height)
                .bind(block.hash.0.to_vec()))
        };
        insert.run(self.engine(), &mut tx, balances, bind).await?;
        Writer::beside(self, &mut tx, chain, now).failures(failures).await?;
        tx.commit().await.map_err(failed)?;
        self.signals().readings.raise();
        Ok(true)
    }

    /// The oldest balances of a chain that rules were not asked about, of those whose block stands.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn fresh_readings(
        &self,
        chain: ChainId,
    ) -> Result<Option<FreshReadings>, StoreError> {
        let failed = StoreError::database(READING);
        let row = sqlx::query(
            "SELECT f.batch, w.height, w.hash, w.block_time FROM fresh_readings f \
             JOIN watched_blocks w ON w.chain_id = f.chain_id AND w.height = f.height \
             AND w.hash = f.block_hash AND w.undone = 0 \
             WHERE f.chain_id = $1 ORDER BY f.height, f.batch LIMIT 1",
        )
        .bind(to_number(chain.0)?)
        .fetch_optional(self.pool())
        .await
        .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let batch: String = row.try_get("batch").map_err(&failed)?;
        let block = block_of(&row)?;
        let rows = sqlx::query(
            "SELECT f.account, f.asset, f.balance, b.height AS before_height, \
             b.balance AS before_balance FROM fresh_readings f LEFT JOIN balance_readings b \
             ON b.chain_id = f.chain_id AND b.account = f.account AND b.asset = f.asset \
             AND b.height = (SELECT MAX(n.height) FROM balance_readings n \
              WHERE n.chain_id = f.chain_id AND n.account = f.account AND n.asset = f.asset) \
             WHERE f.batch = $1 ORDER BY f.account, f.asset",
        )
        .bind(batch.clone())
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let mut balances = Vec::with_capacity(rows.len());
        for row in &rows {
            let before = before_of(row)?;
            // Read slowly, and another round at a later block was faster: rules have gone on.
            if before.as_ref().is_some_and(|(height, _)| *height >= block.block.number) {
                continue;
            }
            let account = row.try_get("account").map_err(&failed)?;
            let asset = row.try_get("asset").map_err(&failed)?;
            let balance = row.try_get("balance").map_err(&failed)?;
            balances.push((ReadBalance { account, asset, balance }, before));
        }
        Ok(Some(FreshReadings { batch, block, balances }))
    }
}

impl Writer<'_> {
    /// Takes over balances that rules were asked about.
    pub(super) async fn read(&mut self, taken: &TakenReadings) -> Result<(), StoreError> {
        let gone = sqlx::query("DELETE FROM fresh_readings WHERE batch = $1")
            .bind(taken.batch.clone())
            .execute(&mut *self.connection)
            .await
            .map_err(StoreError::database(KEEPING))?;
        // Another instance stands at the same frame, and has taken them.
        if gone.rows_affected() == 0 {
            return Ok(());
        }
        let insert = Insert {
            before: "INSERT INTO balance_readings \
                     (chain_id, account, asset, height, block_hash, balance)",
            columns: 6,
            after: "ON CONFLICT (chain_id, account, asset, height) \
                    DO UPDATE SET block_hash = excluded.block_hash, balance = excluded.balance",
            doing: KEEPING,
        };
        let (chain, height) = (to_number(self.chain.0)?, to_number(taken.block.number)?);
        let bind = |query: Bound, read: &ReadBalance| {
            Ok(query
                .bind(chain)
                .bind(read.account.clone())
                .bind(read.asset.clone())
                .bind(height)
                .bind(taken.block.hash.0.to_vec())
                .bind(read.balance.clone()))
        };
        insert.run(self.store.engine(), self.connection, &taken.balances, bind).await?;
        if taken.alerts.is_empty() {
            return Ok(());
        }
        self.insert(&taken.alerts, taken.head).await
    }
}

fn block_of(row: &AnyRow) -> Result<WatchedBlock, StoreError> {
    let failed = StoreError::database(READING);
    let number = to_count(row.try_get("height").map_err(&failed)?)?;
    let hash = to_hash(row.try_get("hash").map_err(&failed)?)?;
    let time = to_count(row.try_get("block_time").map_err(&failed)?)?;
    Ok(WatchedBlock { block: BlockRef { number, hash }, time })
}

fn before_of(row: &AnyRow) -> Result<Option<(Height, String)>, StoreError> {
    let failed = StoreError::database(READING);
    let height: Option<i64> = row.try_get("before_height").map_err(&failed)?;
    let balance: Option<String> = row.try_get("before_balance").map_err(&failed)?;
    let Some((height, balance)) = height.zip(balance) else { return Ok(None) };
    Ok(Some((to_count(height)?, balance)))
}

/// Forgets readings from a height on.
pub(super) async fn undo(
    connection: &mut AnyConnection,
    chain: ChainId,
    from: Height,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM fresh_readings WHERE chain_id = $1 AND height >= $2",
        "DELETE FROM balance_readings WHERE chain_id = $1 AND height >= $2",
    ] {
        sqlx::query(statement)
            .bind(to_number(chain.0)?)
            .bind(to_number(from)?)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::database(KEEPING))?;
    }
    Ok(())
}

/// Forgets readings that no undo can bring back: those with a newer one that is final, and those
/// that came too late to be asked about.
pub(super) async fn prune(
    connection: &mut AnyConnection,
    chain: ChainId,
    final_height: Height,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM balance_readings WHERE chain_id = $1 AND height < $2 AND EXISTS \
         (SELECT 1 FROM balance_readings newer WHERE newer.chain_id = balance_readings.chain_id \
          AND newer.account = balance_readings.account AND newer.asset = balance_readings.asset \
          AND newer.height > balance_readings.height AND newer.height <= $2)",
        "DELETE FROM fresh_readings WHERE chain_id = $1 AND height <= $2",
    ] {
        sqlx::query(statement)
            .bind(to_number(chain.0)?)
            .bind(to_number(final_height)?)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::database(KEEPING))?;
    }
    Ok(())
}
