//! Rows for tests of what reads them: written plainly, past the parts that write them otherwise.

use lookout_types::UnixMillis;
use sqlx::Row;

use crate::tenants::ensure_tenant;
use crate::{ChannelConfig, Store, StoreError, TENANT_DEFAULT};

const FILLING: &str = "filling a store for a test";

/// An alert of chain 1 at height 5, of the tenant `default`.
#[derive(Debug, Clone)]
pub struct TestAlert {
    /// Its id.
    pub id: String,
    /// Its rule's id, also used as a name.
    pub rule: String,
    /// Its text.
    pub text: String,
    /// Its spans, as JSON.
    pub spans: String,
    /// pending, confirmed, retracted.
    pub state: String,
}

impl TestAlert {
    /// A confirmed one, without spans.
    pub fn new(id: &str, rule: &str, text: &str) -> Self {
        Self {
            id: id.to_owned(),
            rule: rule.to_owned(),
            text: text.to_owned(),
            spans: "[]".to_owned(),
            state: "confirmed".to_owned(),
        }
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDelivery {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// Tries.
    pub attempts: i64,
    /// When it is due.
    pub due_at: UnixMillis,
    /// The message that carried it.
    pub message_id: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
}

impl Store {
    /// An active channel of the tenant `default`; `secrets` is JSON.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn put_channel(
        &self,
        id: &str,
        kind: &str,
        config: &ChannelConfig,
        secrets: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_write(FILLING).await?;
        ensure_tenant(&mut tx, TENANT_DEFAULT, 0).await?;
        sqlx::query(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
             updated_at) VALUES ('default', $1, 'ops', $2, $3, $4, 'active', 0, 0)",
        )
        .bind(id.to_owned())
        .bind(kind.to_owned())
        .bind(config.write()?)
        .bind(secrets.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(FILLING))?;
        tx.commit().await.map_err(StoreError::database(FILLING))
    }

    /// Alerts, all in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn put_alerts(&self, alerts: &[TestAlert]) -> Result<(), StoreError> {
        let mut tx = self.begin_write(FILLING).await?;
        for alert in alerts {
            sqlx::query(
                "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, \
                 height, block_hash, block_time, record, occurrence, text, spans, facts, \
                 confirms_at, state, created_at) VALUES ('default', $1, $2, 1, $3, 1, 5, $4, 9, \
                 '{\"log\":1}', 1, $5, $6, '{}', 5, $7, 0)",
            )
            .bind(alert.id.clone())
            .bind(alert.rule.clone())
            .bind(alert.rule.clone())
            .bind(vec![0_u8; 32])
            .bind(alert.text.clone())
            .bind(alert.spans.clone())
            .bind(alert.state.clone())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::database(FILLING))?;
        }
        tx.commit().await.map_err(StoreError::database(FILLING))
    }

    /// Queues a delivery of each alert on a channel, due now, all in one transaction; its id is the
    /// kind, the channel and the alert. An empty alert is none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn put_deliveries(
        &self,
        channel: &str,
        kind: &str,
        alerts: &[&str],
    ) -> Result<(), StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(FILLING).await?;
        for alert in alerts {
            sqlx::query(
                "INSERT INTO deliveries (tenant_id, id, channel_id, alert_id, kind, state, \
                 attempts, due_at, created_at) \
                 VALUES ('default', $1, $2, $3, $4, 'queued', 0, $5, $6)",
            )
            .bind(format!("{kind}-{channel}-{alert}"))
            .bind(channel.to_owned())
            .bind((!alert.is_empty()).then(|| (*alert).to_owned()))
            .bind(kind.to_owned())
            .bind(now)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::database(FILLING))?;
        }
        tx.commit().await.map_err(StoreError::database(FILLING))?;
        self.signals().deliveries.raise();
        Ok(())
    }

    /// Runs a statement that nothing else offers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn run_sql(&self, sql: &'static str) -> Result<u64, StoreError> {
        let done = sqlx::query(sql).execute(self.pool()).await;
        Ok(done.map_err(StoreError::database(FILLING))?.rows_affected())
    }

    /// Every delivery, in order of ids.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn all_deliveries(&self) -> Result<Vec<TestDelivery>, StoreError> {
        let failed = StoreError::database(FILLING);
        let rows = sqlx::query(
            "SELECT id, state, attempts, due_at, message_id, error FROM deliveries ORDER BY id",
        )
        .fetch_all(self.pool())
        .await
        .map_err(&failed)?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(TestDelivery {
                id: row.try_get("id")?,
                state: row.try_get("state")?,
                attempts: row.try_get("attempts")?,
                due_at: row.try_get("due_at")?,
                message_id: row.try_get("message_id")?,
                error: row.try_get("error")?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}
