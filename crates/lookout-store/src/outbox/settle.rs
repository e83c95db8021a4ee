//! Settling a parcel: what became of it, written only while its lease is held.

use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

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
    /// Writes how a parcel ended, and holds its destinations back until the given times. Returns
    /// how many deliveries it changed: fewer than were leased when the lease had ended.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is changed then.
    pub async fn settle_parcel(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        ready: &[(String, UnixMillis)],
    ) -> Result<u64, StoreError> {
        let now = self.now();
        let mut tx = self.begin_write(SETTLING).await?;
        let done = match outcome {
            Outcome::Sent { message_id } => {
                end_lease(&mut tx, lease, "sent", message_id.clone(), None, now).await?
            }
            Outcome::Dead { reason } => {
                end_lease(&mut tx, lease, "dead", None, Some(short(reason)), now).await?
            }
            Outcome::Retry { reason, tries, counts } => {
                let reason = short(reason);
                retry(&mut tx, lease, &reason, tries, *counts, now).await?
            }
            Outcome::Gone { reason } => {
                let reason = short(reason);
                let done =
                    end_lease(&mut tx, lease, "dead", None, Some(reason.clone()), now).await?;
                let (tenant, channel) = (&lease.tenant, &lease.channel);
                self.switch_channel_off(&mut tx, tenant, channel, &reason, now).await?;
                done
            }
        };
        pacing::hold(&mut tx, ready).await?;
        tx.commit().await.map_err(StoreError::database(SETTLING))?;
        Ok(done)
    }

    /// Disables a channel with a reason; what is queued for it is dead, to be seen and replayed.
    /// Tells whether it was active.
    pub(crate) async fn switch_channel_off(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        channel: &str,
        reason: &str,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE channels SET state = 'disabled', reason = $1, updated_at = $2 \
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
        sqlx::query(
            "UPDATE deliveries SET state = 'dead', error = $1, ended_at = $2 \
             WHERE tenant_id = $3 AND channel_id = $4 AND state = 'queued'",
        )
        .bind(reason.to_owned())
        .bind(now)
        .bind(tenant.to_owned())
        .bind(channel.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(SETTLING))?;
        let (actor, detail) = (&Actor::System("deliver"), &json!({ "reason": reason }));
        let action = "channel.disable";
        let row = NewAudit { tenant, actor, action, target: channel, detail };
        self.insert_audit(connection, row, now).await?;
        Ok(true)
    }
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

async fn retry(
    connection: &mut AnyConnection,
    lease: &Lease,
    reason: &str,
    tries: &[(String, Option<UnixMillis>)],
    counts: bool,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let mut done = 0;
    // Deliveries of one parcel mostly have the same past and so the same next try.
    for group in tries.chunk_by(|a, b| a.1 == b.1) {
        let Some((_, due_at)) = group.first() else { continue };
        let (state, ended_at) = match due_at {
            Some(_) => ("queued", None),
            None => ("dead", Some(now)),
        };
        let ids: Vec<&str> = group.iter().map(|(id, _)| id.as_str()).collect();
        done += change_in_chunks(connection, &ids, SETTLING, |count| {
            let sql = format!(
                "UPDATE deliveries SET state = $1, due_at = $2, ended_at = $3, error = $4, \
                 attempts = attempts - $5, lease = NULL, lease_until = NULL \
                 WHERE state = 'sending' AND lease = $6 AND tenant_id = $7 AND id IN ({})",
                values(8, count)
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(state.to_owned())
                .bind(due_at.unwrap_or(now))
                .bind(ended_at)
                .bind(reason.to_owned())
                .bind(i64::from(!counts))
                .bind(lease.token.clone())
                .bind(lease.tenant.clone())
        })
        .await?;
    }
    Ok(done)
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
