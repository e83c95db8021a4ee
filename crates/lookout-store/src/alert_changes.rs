//! Alerts in the order in which they changed, for those who follow them.
//!
//! Every commit that changes alerts takes the one row of `alert_revision` first, so that the numbers
//! become visible in their order: who has read up to one has missed none below it.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::alerts::{self, select_alerts};
use crate::{Alert, PAGE_LIMIT_MAX, Store, StoreError};

const READING: &str = "reading changed alerts";

/// A place in the order of changes of one tenant's alerts; the default is before the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AlertPosition {
    /// Number of the commit.
    pub changed: i64,
    /// Id of the alert, among those that the commit changed.
    pub id: String,
}

/// An alert as it is after its newest change: confirmed or retracted.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedAlert {
    /// Number of the commit that changed it.
    pub changed: i64,
    /// The alert.
    pub alert: Alert,
}

impl ChangedAlert {
    /// Its place in the order of changes.
    pub fn position(&self) -> AlertPosition {
        AlertPosition { changed: self.changed, id: self.alert.id.clone() }
    }
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
        let rows = sqlx::query(select_alerts!(
            "WHERE tenant_id = $1 AND changed >= $2 AND (changed > $2 OR id > $3) \
             AND state <> 'pending' ORDER BY changed, id LIMIT $4"
        ))
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
    let changed = row.try_get("changed").map_err(StoreError::database(READING))?;
    Ok(ChangedAlert { changed, alert: alerts::read(row)? })
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
