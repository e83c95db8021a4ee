//! Alerts in the order in which they changed, for those who follow them.
//!
//! Every commit that changes alerts takes the one row of `alert_revision` first, so that the numbers
//! become visible in their order: who has read up to one has missed none below it.

use lookout_types::{ChainId, Hash, Height, UnixMillis, UnixSeconds};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{PAGE_LIMIT_MAX, Store, StoreError};

const READING: &str = "reading changed alerts";

/// A place in the order of changes of one tenant's alerts; the default is before the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AlertPosition {
    /// Number of the commit.
    pub changed: i64,
    /// Id of the alert, among those that the commit changed.
    pub id: String,
}

/// An alert as it is after its newest change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedAlert {
    /// Its place in the order of changes.
    pub position: AlertPosition,
    /// The rule that matched.
    pub rule_id: String,
    /// The version of the rule.
    pub rule_version: i64,
    /// The name that the rule had.
    pub rule_name: String,
    /// The chain.
    pub chain: ChainId,
    /// The height of the block.
    pub height: Height,
    /// The block.
    pub block_hash: Hash,
    /// The block's time.
    pub block_time: UnixSeconds,
    /// Which record, as JSON.
    pub record: Value,
    /// The message as plain text.
    pub text: String,
    /// The values in the message by name.
    pub facts: Value,
    /// `confirmed` or `retracted`.
    pub state: String,
    /// When it was found, by the clock of the machine that found it.
    pub created_at: UnixMillis,
    /// When it was confirmed.
    pub confirmed_at: Option<UnixMillis>,
    /// When it was retracted.
    pub retracted_at: Option<UnixMillis>,
}

impl Store {
    /// The alerts of a tenant that changed after a position, at most `limit`, in order of change.
    ///
    /// Each is there once, as it is now: of an alert that changed twice since, only the newer state
    /// is told. Pending ones are not: they may go without a trace.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a limit out of range, [`StoreError::Database`].
    pub async fn alerts_changed(
        &self,
        tenant: &str,
        after: &AlertPosition,
        limit: u32,
    ) -> Result<Vec<ChangedAlert>, StoreError> {
        if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
            let message = format!("from 1 to {PAGE_LIMIT_MAX} alerts are read, not {limit}");
            return Err(StoreError::Invalid(message));
        }
        let rows = sqlx::query(
            "SELECT id, rule_id, rule_version, rule_name, chain_id, height, block_hash, block_time, \
             record, text, facts, state, created_at, confirmed_at, retracted_at, changed \
             FROM alerts WHERE tenant_id = $1 AND changed >= $2 \
             AND (changed > $2 OR id > $3) AND state <> 'pending' \
             ORDER BY changed, id LIMIT $4",
        )
        .bind(tenant.to_owned())
        .bind(after.changed)
        .bind(after.id.clone())
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(read).collect()
    }

    /// The position behind every change that is committed by now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn alerts_tail(&self, tenant: &str) -> Result<AlertPosition, StoreError> {
        let row = sqlx::query(
            "SELECT id, changed FROM alerts WHERE tenant_id = $1 \
             ORDER BY changed DESC, id DESC LIMIT 1",
        )
        .bind(tenant.to_owned())
        .fetch_optional(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        let Some(row) = row else { return Ok(AlertPosition::default()) };
        let position = || -> Result<AlertPosition, sqlx::Error> {
            Ok(AlertPosition { changed: row.try_get("changed")?, id: row.try_get("id")? })
        };
        position().map_err(StoreError::database(READING))
    }
}

fn read(row: &AnyRow) -> Result<ChangedAlert, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(READING));
    let number = |column| row.try_get::<i64, _>(column).map_err(StoreError::database(READING));
    let time =
        |column| row.try_get::<Option<i64>, _>(column).map_err(StoreError::database(READING));
    let id = text("id")?;
    let corrupt =
        |what: &str, why: &str| StoreError::Corrupt(format!("{what} of alert `{id}`: {why}"));
    let natural = |column: &'static str| {
        u64::try_from(number(column)?).map_err(|_| corrupt(column, "it is negative"))
    };
    let json = |column: &'static str| {
        serde_json::from_str(&text(column)?).map_err(|error| corrupt(column, &error.to_string()))
    };
    let hash: Vec<u8> = row.try_get("block_hash").map_err(StoreError::database(READING))?;
    let hash = hash.try_into().map_err(|_| corrupt("block_hash", "it has not 32 bytes"))?;
    Ok(ChangedAlert {
        position: AlertPosition { changed: number("changed")?, id: id.clone() },
        rule_id: text("rule_id")?,
        rule_version: number("rule_version")?,
        rule_name: text("rule_name")?,
        chain: ChainId(natural("chain_id")?),
        height: natural("height")?,
        block_hash: Hash(hash),
        block_time: natural("block_time")?,
        record: json("record")?,
        text: text("text")?,
        facts: json("facts")?,
        state: text("state")?,
        created_at: number("created_at")?,
        confirmed_at: time("confirmed_at")?,
        retracted_at: time("retracted_at")?,
    })
}

/// Puts alerts there without a rule, for tests of those who read them.
#[cfg(any(test, feature = "testing"))]
impl Store {
    /// Inserts an alert or changes the state of one, in a commit of its own.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn put_alert(
        &self,
        tenant: &str,
        id: &str,
        rule: &str,
        state: &str,
    ) -> Result<(), StoreError> {
        let doing = "putting an alert";
        let mut tx = self.begin_write(doing).await?;
        sqlx::query("UPDATE alert_revision SET revision = revision + 1 WHERE id = 1")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::database(doing))?;
        sqlx::query(
            "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, height, \
             block_hash, block_time, record, occurrence, text, spans, facts, confirms_at, state, \
             created_at, changed) \
             VALUES ($1, $2, $3, 1, 'a rule', 1, 7, $5, 100, '{}', 1, 'it happened', '[]', '{}', 8, \
             $4, 5, (SELECT revision FROM alert_revision WHERE id = 1)) \
             ON CONFLICT (tenant_id, id) DO UPDATE SET state = $4, \
             changed = (SELECT revision FROM alert_revision WHERE id = 1)",
        )
        .bind(tenant.to_owned())
        .bind(id.to_owned())
        .bind(rule.to_owned())
        .bind(state.to_owned())
        .bind(vec![7_u8; 32])
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(doing))?;
        tx.commit().await.map_err(StoreError::database(doing))?;
        self.signals().alerts.raise();
        Ok(())
    }
}
