//! After a clock that was wrong: what was planned by a time that had not come is planned again.

use lookout_types::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Schedule;
use super::claim::RETRY_PAUSE_MAX_MS;
use crate::{Store, StoreError};

/// Clocks of instances that share one machine's store may differ by this much, in milliseconds: what
/// one of them plans is not wrong for the others.
const MARGIN_MS: i64 = 300_000;
/// Jobs read at once.
const JOBS_AT_ONCE: i64 = 500;

const PLANNING: &str = "planning jobs again";

impl Store {
    /// Brings back what lies further ahead than it can by the time it is: next ticks, of which each
    /// still gets one run, also where it had one already, and the ends of leases and pauses. How
    /// many jobs and runs that were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn pull_back_jobs(&self) -> Result<u64, StoreError> {
        let failed = StoreError::database(PLANNING);
        let mut connection = self.pool().acquire().await.map_err(&failed)?;
        let now = self.shared_now(&mut connection).await?;
        let mut pulled = 0;
        let mut last = (String::new(), String::new());
        loop {
            let rows = sqlx::query(
                "SELECT tenant_id, name, schedule, zone, next_at FROM jobs WHERE next_at > $1 \
                 AND (tenant_id > $2 OR (tenant_id = $2 AND name > $3)) \
                 ORDER BY tenant_id, name LIMIT $4",
            )
            .bind(now.saturating_add(MARGIN_MS))
            .bind(last.0.clone())
            .bind(last.1.clone())
            .bind(JOBS_AT_ONCE)
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
            let Some(newest) = rows.last() else { break };
            let text = |column| newest.try_get::<String, _>(column).map_err(&failed);
            last = (text("tenant_id")?, text("name")?);
            for row in &rows {
                let Some(next_at) = too_far(row, now)? else { continue };
                let text = |column| row.try_get::<String, _>(column).map_err(&failed);
                let planned: i64 = row.try_get("next_at").map_err(&failed)?;
                let done = sqlx::query(
                    "UPDATE jobs SET next_at = $1 \
                     WHERE tenant_id = $2 AND name = $3 AND next_at = $4",
                )
                .bind(next_at)
                .bind(text("tenant_id")?)
                .bind(text("name")?)
                .bind(planned)
                .execute(&mut *connection)
                .await
                .map_err(&failed)?;
                pulled += done.rows_affected();
            }
        }
        // A worker that lives prolongs its lease long before that.
        let latest = now.saturating_add(RETRY_PAUSE_MAX_MS);
        let done = sqlx::query("UPDATE job_runs SET due_at = $1 WHERE due_at > $2")
            .bind(latest)
            .bind(latest.saturating_add(MARGIN_MS))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        pulled += done.rows_affected();
        if pulled > 0 {
            self.signals().jobs.raise();
        }
        Ok(pulled)
    }
}

/// When a job is due, if that is sooner than what is planned.
fn too_far(row: &AnyRow, now: UnixMillis) -> Result<Option<UnixMillis>, StoreError> {
    let failed = StoreError::database(PLANNING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let planned: i64 = row.try_get("next_at").map_err(&failed)?;
    let ticks = Schedule::parse(&text("schedule")?, &text("zone")?).and_then(|schedule| {
        let latest = schedule.next_after(now.saturating_add(MARGIN_MS))?;
        Ok((schedule.next_after(now)?, latest))
    });
    Ok(match ticks {
        Ok((next, Some(latest))) if planned > latest => next,
        Ok(_) => None,
        // Due at once: then its owner is told what is wrong with the schedule.
        Err(_) => Some(now),
    })
}
