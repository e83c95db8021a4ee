//! Settling a parcel: what became of it, written only while its lease is held.

use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row};

use super::sweep::CHANNEL_DELETED;
use super::{Lease, Outcome};
use crate::audit::NewAudit;
use crate::{Actor, Store, StoreError, pacing};

/// Ids in one statement: several round trips less than one each, and far from the engines' limits
/// on parameters.
pub(super) const IDS_PER_STATEMENT: usize = 200;
/// Longest reason kept, in characters.
const REASON_CHARS_MAX: usize = 500;

const SETTLING: &str = "settling deliveries";

impl Store {
    /// Writes how a parcel ended, and holds its destinations back for so many milliseconds. Returns
    /// how many deliveries it changed: fewer than were leased when the lease had ended.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is changed then.
    pub async fn settle_parcel(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        holds: &[(String, i64)],
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin_write(SETTLING).await?;
        let now = self.shared_now(&mut tx).await?;
        let done = match outcome {
            Outcome::Sent { message_id } => {
                calm(&mut tx, lease).await?;
                end_lease(&mut tx, lease, "sent", message_id.clone(), None, now).await?
            }
            Outcome::Dead { reason } => {
                end_lease(&mut tx, lease, "dead", None, Some(short(reason)), now).await?
            }
            Outcome::Retry { .. } | Outcome::Gone { .. } => {
                self.settle_failed(&mut tx, lease, outcome, now).await?
            }
        };
        let ready = holds
            .iter()
            .map(|(destination, wait_ms)| (destination.clone(), now.saturating_add(*wait_ms)));
        pacing::hold(&mut tx, &ready.collect::<Vec<_>>()).await?;
        tx.commit().await.map_err(StoreError::database(SETTLING))?;
        Ok(done)
    }

    /// What did not work is tried again, as far as its channel is still there and the same.
    async fn settle_failed(
        &self,
        tx: &mut AnyConnection,
        lease: &Lease,
        outcome: &Outcome,
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let Some(revision) = self.lock_channel(tx, lease).await? else {
            if matches!(outcome, Outcome::Retry { counts: true, .. }) {
                mark_told(tx, lease).await?;
            }
            let error = Some(CHANNEL_DELETED.to_owned());
            return end_lease(tx, lease, "cancelled", None, error, now).await;
        };
        let is_same = revision == lease.revision;
        match outcome {
            Outcome::Retry { reason, tries, counts, wait_ms } => {
                let retry = Retry { reason: &short(reason), counts: *counts, is_same };
                let is_throttled = !counts && wait_ms.is_some();
                let done = retry.run(tx, lease, (tries, is_throttled), now).await?;
                if let Some(wait_ms) = wait_ms.filter(|_| is_same) {
                    wait(tx, lease, now.saturating_add(wait_ms)).await?;
                }
                Ok(done)
            }
            Outcome::Gone { reason } => {
                let reason = short(reason);
                // Whoever changed it meanwhile did so to mend it.
                if is_same {
                    let (tenant, channel) = (&lease.tenant, &lease.channel);
                    self.switch_channel_off(tx, tenant, channel, &reason, now).await?;
                }
                give_back(tx, lease, &reason, now).await
            }
            Outcome::Sent { .. } | Outcome::Dead { .. } => Ok(0),
        }
    }

    /// The revision of a channel, which no other transaction changes until this one has ended;
    /// `None` when it is deleted.
    async fn lock_channel(
        &self,
        connection: &mut AnyConnection,
        lease: &Lease,
    ) -> Result<Option<i64>, StoreError> {
        let sql = format!(
            "SELECT revision FROM channels WHERE tenant_id = $1 AND id = $2 \
             AND deleted_at IS NULL{}",
            self.engine().lock_row()
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(lease.tenant.clone())
            .bind(lease.channel.clone())
            .fetch_optional(connection)
            .await
            .map_err(StoreError::database(SETTLING))?;
        let revision = row.map(|row| row.try_get("revision")).transpose();
        revision.map_err(StoreError::database(SETTLING))
    }

    /// Disables a channel with a reason; what is queued for it waits until it is enabled. Tells
    /// whether it was active.
    pub(crate) async fn switch_channel_off(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        channel: &str,
        reason: &str,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE channels SET state = 'disabled', reason = $1, updated_at = $2, \
             revision = revision + 1 \
             WHERE tenant_id = $3 AND id = $4 AND state <> 'disabled' AND deleted_at IS NULL",
        )
        .bind(reason.to_owned())
        .bind(now)
        .bind(tenant.to_owned())
        .bind(channel.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(SETTLING))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let (actor, detail) = (&Actor::System("deliver"), &json!({ "reason": reason }));
        let action = "channel.disable";
        let row = NewAudit { tenant, actor, action, target: channel, detail };
        self.insert_audit(connection, row, now).await?;
        Ok(true)
    }
}

/// A channel that works waits no longer, and none of its deliveries was asked to wait.
async fn calm(connection: &mut AnyConnection, lease: &Lease) -> Result<(), StoreError> {
    if lease.failures == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE channels SET wait_until = NULL, failures = 0 \
         WHERE tenant_id = $1 AND id = $2 AND revision = $3",
    )
    .bind(lease.tenant.clone())
    .bind(lease.channel.clone())
    .bind(lease.revision)
    .execute(&mut *connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    sqlx::query(
        "UPDATE deliveries SET throttled_since = NULL \
         WHERE channel_id = $1 AND state = 'queued' AND throttled_since IS NOT NULL",
    )
    .bind(lease.channel.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    Ok(())
}

/// Leaves a channel alone for a time.
async fn wait(
    connection: &mut AnyConnection,
    lease: &Lease,
    until: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE channels SET wait_until = $1, failures = failures + 1 \
         WHERE tenant_id = $2 AND id = $3",
    )
    .bind(until)
    .bind(lease.tenant.clone())
    .bind(lease.channel.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    Ok(())
}

async fn end_lease(
    connection: &mut AnyConnection,
    lease: &Lease,
    state: &str,
    message_id: Option<String>,
    error: Option<String>,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE deliveries SET state = $1, message_id = $2, error = $3, ended_at = $4, \
         lease = NULL, lease_until = NULL \
         WHERE channel_id = $5 AND state = 'sending' AND lease_until = $6 AND lease = $7",
    )
    .bind(state.to_owned())
    .bind(message_id)
    .bind(error)
    .bind(now)
    .bind(lease.channel.clone())
    .bind(lease.until)
    .bind(lease.token.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    Ok(done.rows_affected())
}

/// Queues the deliveries of a lease again: the receiver has none of them. A test is not of use later.
async fn give_back(
    connection: &mut AnyConnection,
    lease: &Lease,
    reason: &str,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "UPDATE deliveries SET state = CASE WHEN kind = 'test' THEN 'dead' ELSE 'queued' END, \
         ended_at = CASE WHEN kind = 'test' THEN $1 END, \
         attempts = CASE WHEN kind = 'test' THEN attempts ELSE attempts - 1 END, \
         due_at = $1, error = $2, lease = NULL, lease_until = NULL \
         WHERE channel_id = $3 AND state = 'sending' AND lease_until = $4 AND lease = $5",
    )
    .bind(now)
    .bind(reason.to_owned())
    .bind(lease.channel.clone())
    .bind(lease.until)
    .bind(lease.token.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    Ok(done.rows_affected())
}

/// The receiver may have what is being sent: should the channel come back, it is told of a
/// retraction.
async fn mark_told(connection: &mut AnyConnection, lease: &Lease) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET maybe_told = 1 \
         WHERE channel_id = $1 AND state = 'sending' AND lease_until = $2 AND lease = $3",
    )
    .bind(lease.channel.clone())
    .bind(lease.until)
    .bind(lease.token.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(SETTLING))?;
    Ok(())
}

/// How deliveries are tried again.
struct Retry<'a> {
    reason: &'a str,
    counts: bool,
    /// The channel was not changed meanwhile; otherwise the next try is due at once.
    is_same: bool,
}

impl Retry<'_> {
    async fn run(
        &self,
        connection: &mut AnyConnection,
        lease: &Lease,
        (tries, is_throttled): (&[(String, Option<i64>)], bool),
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let mut done = 0;
        let told = if self.counts { ", maybe_told = 1" } else { "" };
        let throttled_at = is_throttled.then_some(now);
        // Deliveries of one parcel mostly have the same past and so the same next try.
        for group in tries.chunk_by(|a, b| a.1 == b.1) {
            let Some((_, wait_ms)) = group.first() else { continue };
            let wait_ms = wait_ms.or((!self.is_same).then_some(0));
            let (state, ended_at) = match wait_ms {
                Some(_) => ("queued", None),
                None => ("dead", Some(now)),
            };
            let wait_ms = wait_ms.filter(|_| self.is_same).unwrap_or(0);
            let ids: Vec<&str> = group.iter().map(|(id, _)| id.as_str()).collect();
            done += change_in_chunks(connection, &ids, SETTLING, |count| {
                let sql = format!(
                    "UPDATE deliveries SET state = $1, due_at = $2, ended_at = $3, error = $4, \
                     attempts = attempts - $5, lease = NULL, lease_until = NULL, \
                     throttled_since = COALESCE(throttled_since, $8){told} \
                     WHERE state = 'sending' AND lease = $6 AND tenant_id = $7 AND id IN ({})",
                    values(9, count)
                );
                sqlx::query(AssertSqlSafe(sql))
                    .bind(state.to_owned())
                    .bind(now.saturating_add(wait_ms))
                    .bind(ended_at)
                    .bind(self.reason.to_owned())
                    .bind(i64::from(!self.counts))
                    .bind(lease.token.clone())
                    .bind(lease.tenant.clone())
                    .bind(throttled_at)
            })
            .await?;
        }
        Ok(done)
    }
}

fn short(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

/// `VALUES ($first), …`: a table of so many values. Postgres joins it by index, also before it has
/// statistics; a plain list it compares with every row.
pub(super) fn values(first: usize, count: usize) -> String {
    let rows: Vec<_> = (first..first + count).map(|n| format!("(${n})")).collect();
    format!("VALUES {}", rows.join(", "))
}

/// Runs a statement over ids, some hundred at a time; the query ends in the ids' values.
pub(super) async fn change_in_chunks<'q>(
    connection: &mut AnyConnection,
    ids: &[&str],
    doing: &'static str,
    query: impl Fn(usize) -> Query<'q, Any, AnyArguments>,
) -> Result<u64, StoreError> {
    let mut done = 0;
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let mut query = query(chunk.len());
        for id in chunk {
            query = query.bind((*id).to_owned());
        }
        let result = query.execute(&mut *connection).await;
        done += result.map_err(StoreError::database(doing))?.rows_affected();
    }
    Ok(done)
}
