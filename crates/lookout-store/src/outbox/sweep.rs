//! What time does to deliveries: senders that do not come back, channels that are not there any more.

use lookout_types::UnixMillis;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::{Store, StoreError};

/// Sends of one delivery that ended with neither a result nor an error before it is given up: as
/// many as there are tries.
const LOST_SENDERS_MAX: i64 = 10;
/// How long deliveries wait for a channel that is disabled or not linked yet, in milliseconds: as
/// long as they are tried on one that does not answer, 75 hours.
pub const QUEUE_WAITS_MS: i64 = 75 * 3_600_000;
/// Deliveries that one transaction ends: a fraction of a second, so that others can write.
const SWEPT_AT_ONCE: i64 = 1_000;

/// Why a delivery does not go out although nothing went wrong.
pub(super) const CHANNEL_DELETED: &str = "the channel was deleted";
const CHANNEL_INACTIVE: &str = "its channel was disabled or without a chat for 75 hours";

const SWEEPING: &str = "ending deliveries that nobody will send";

/// What a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Deliveries to deleted channels.
    pub cancelled: u64,
    /// Deliveries that waited too long for their channel; they can be replayed.
    pub dead: u64,
}

impl Store {
    /// Queues deliveries again whose sender has not come back in time; how many they were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn requeue_expired(&self) -> Result<u64, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(SWEEPING))?;
        let now = self.shared_now(&mut connection).await?;
        requeue(&mut connection, now, now).await
    }

    /// Queues everything again that is being sent. Only for who knows that nobody else sends: at the
    /// start of the one instance that serves from an embedded store.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn requeue_orphans(&self) -> Result<u64, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(SWEEPING))?;
        let now = self.shared_now(&mut connection).await?;
        requeue(&mut connection, UnixMillis::MAX, now).await
    }

    /// Ends, some at a time, what is queued for deleted channels, and what has waited for
    /// [`QUEUE_WAITS_MS`] on one that is not active: a queue that nobody reads must not grow.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn sweep_queues(&self) -> Result<Swept, StoreError> {
        let mut tx = self.begin_write(SWEEPING).await?;
        let now = self.shared_now(&mut tx).await?;
        let no_channel = "c.deleted_at IS NOT NULL";
        let cancelled = (no_channel, "cancelled", CHANNEL_DELETED, UnixMillis::MAX);
        let cancelled = self.end_queued(&mut tx, cancelled, now).await?;
        let waiting = "c.deleted_at IS NULL AND c.state <> 'active'";
        let before = now.saturating_sub(QUEUE_WAITS_MS);
        let dead = (waiting, "dead", CHANNEL_INACTIVE, before);
        let dead = self.end_queued(&mut tx, dead, now).await?;
        tx.commit().await.map_err(StoreError::database(SWEEPING))?;
        Ok(Swept { cancelled, dead })
    }

    async fn end_queued(
        &self,
        connection: &mut AnyConnection,
        (channels, state, error, before): (&str, &str, &str, UnixMillis),
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        // Made of constants and placeholders alone. SQLite keeps the order of a cross join: by
        // channel, rather than through all that is queued.
        let sql = format!(
            "UPDATE deliveries SET state = $1, error = $2, ended_at = $3 \
             WHERE state = 'queued' AND (tenant_id, id) IN (\
             SELECT d.tenant_id, d.id FROM channels c CROSS JOIN deliveries d WHERE {channels} \
             AND d.channel_id = c.id AND d.state = 'queued' AND d.due_at < $4 LIMIT $5{})",
            self.engine().skip_locked_of("d")
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(state.to_owned())
            .bind(error.to_owned())
            .bind(now)
            .bind(before)
            .bind(SWEPT_AT_ONCE)
            .execute(connection)
            .await
            .map_err(StoreError::database(SWEEPING))?;
        Ok(done.rows_affected())
    }
}

/// Nobody knows how far the sender came, so that the receiver may have it.
async fn requeue(
    connection: &mut AnyConnection,
    leased_until: UnixMillis,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE deliveries SET lease = NULL, lease_until = NULL, due_at = $1, maybe_told = 1, \
         state = CASE WHEN NOT EXISTS (SELECT 1 FROM channels c \
          WHERE c.tenant_id = deliveries.tenant_id AND c.id = deliveries.channel_id \
          AND c.deleted_at IS NULL) THEN 'cancelled' \
          WHEN attempts < $2 THEN 'queued' ELSE 'dead' END, \
         ended_at = CASE WHEN attempts < $2 AND EXISTS (SELECT 1 FROM channels c \
          WHERE c.tenant_id = deliveries.tenant_id AND c.id = deliveries.channel_id \
          AND c.deleted_at IS NULL) THEN NULL ELSE $1 END, \
         error = 'its sender ended without a result' \
         WHERE state = 'sending' AND lease_until <= $3",
    )
    .bind(now)
    .bind(LOST_SENDERS_MAX)
    .bind(leased_until)
    .execute(connection)
    .await
    .map_err(StoreError::database("queueing deliveries again"))?;
    Ok(done.rows_affected())
}

/// What is queued for a channel that was changed: due at once, as if nobody had asked to wait.
pub(crate) async fn make_due(
    connection: &mut AnyConnection,
    tenant: &str,
    channel: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    forget_throttling(connection, tenant, channel).await?;
    sqlx::query(
        "UPDATE deliveries SET due_at = $1 \
         WHERE tenant_id = $2 AND channel_id = $3 AND state = 'queued' AND due_at > $1",
    )
    .bind(now)
    .bind(tenant.to_owned())
    .bind(channel.to_owned())
    .execute(connection)
    .await
    .map_err(StoreError::database(SWEEPING))?;
    Ok(())
}

/// The time in which a channel could not be sent to anyway is not what its receiver asked for.
pub(crate) async fn forget_throttling(
    connection: &mut AnyConnection,
    tenant: &str,
    channel: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET throttled_since = NULL WHERE tenant_id = $1 AND channel_id = $2 \
         AND state = 'queued' AND throttled_since IS NOT NULL",
    )
    .bind(tenant.to_owned())
    .bind(channel.to_owned())
    .execute(connection)
    .await
    .map_err(StoreError::database(SWEEPING))?;
    Ok(())
}
