//! From ticks to rows: each due job gets its runs and moves on, in one transaction.

use lookout_types::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::catch_up::{self, Ticks};
use super::{Schedule, read_misfire};
use crate::{Store, StoreError};

/// Jobs that one transaction moves on: short enough for those who wait for the lock.
const JOBS_AT_ONCE_MAX: i64 = 50;
/// Most runs of one job that wait. A job slower than its ticks must not pile them up without end.
pub(super) const QUEUED_MAX: i64 = 100;

const INSERTING: &str = "inserting due runs";
const LOOKING: &str = "looking for due jobs";

/// What came of looking for due jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Rows inserted.
    pub inserted: u64,
    /// Ticks that are not run.
    pub missed: i64,
    /// Whether there may be more due jobs.
    pub more: bool,
}

impl Store {
    /// Inserts a run for each tick that has come, as far as its job's policy wants it, and moves
    /// the jobs on. Any number of instances may call this at any time: each tick gets one row.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is changed then.
    pub async fn insert_due_runs(&self) -> Result<Due, StoreError> {
        // Most of the time there is none, and then no lock is needed.
        if !self.is_due("SELECT MIN(next_at) AS due FROM jobs WHERE next_at IS NOT NULL").await? {
            return Ok(Due::default());
        }
        let mut tx = self.begin_write(INSERTING).await?;
        let now = self.shared_now(&mut tx).await?;
        let rows = sqlx::query(self.engine().select_due_jobs())
            .bind(now)
            .bind(JOBS_AT_ONCE_MAX)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::database(LOOKING))?;
        let full = i64::try_from(rows.len()).is_ok_and(|jobs| jobs >= JOBS_AT_ONCE_MAX);
        let mut due = Due { more: full, ..Due::default() };
        for row in &rows {
            self.move_on(&mut tx, row, now, &mut due).await?;
        }
        tx.commit().await.map_err(StoreError::database(INSERTING))?;
        if due.inserted > 0 {
            self.signals().jobs.raise();
        }
        Ok(due)
    }

    async fn move_on(
        &self,
        tx: &mut AnyConnection,
        row: &AnyRow,
        now: UnixMillis,
        due: &mut Due,
    ) -> Result<(), StoreError> {
        let failed = StoreError::database(LOOKING);
        let text = |column| row.try_get::<String, _>(column).map_err(&failed);
        let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
        let (tenant, name) = (text("tenant_id")?, text("name")?);
        let next_at = number("next_at")?;
        let misfire = read_misfire(&name, &text("misfire")?, number("catch_up_max")?)?;
        let room = QUEUED_MAX.saturating_sub(count_queued(tx, &tenant, &name).await?);
        let room = usize::try_from(room).unwrap_or(0);
        let ticks = Schedule::parse(&text("schedule")?, &text("zone")?)
            .and_then(|schedule| catch_up::divide(&schedule, next_at, now, misfire, room));
        // A zone can vanish from the machine's data: that ends this job's ticks, not the others'.
        let (ticks, error) = match ticks {
            Ok(ticks) => (ticks, None),
            Err(e) => (Ticks { run: Vec::new(), missed: 1, next: None }, Some(e.to_string())),
        };
        for tick in &ticks.run {
            due.inserted += self.insert_run(tx, (&tenant, &name), *tick, "cron", now).await?;
        }
        due.missed = due.missed.saturating_add(ticks.missed);
        sqlx::query(
            "UPDATE jobs SET next_at = $1, missed = missed + $2, error = $3 \
             WHERE tenant_id = $4 AND name = $5 AND next_at = $6",
        )
        .bind(ticks.next)
        .bind(ticks.missed)
        .bind(error)
        .bind(tenant)
        .bind(name)
        .bind(next_at)
        .execute(tx)
        .await
        .map_err(StoreError::database(INSERTING))?;
        Ok(())
    }

    /// Inserts the run of a tick, unless it has one; the number of rows inserted.
    pub(super) async fn insert_run(
        &self,
        connection: &mut AnyConnection,
        (tenant, job): (&str, &str),
        scheduled_at: UnixMillis,
        cause: &'static str,
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "INSERT INTO job_runs (tenant_id, job, scheduled_at, id, cause, state, attempt, \
             failures, losses, due_at, created_at) \
             VALUES ($1, $2, $3, $4, $5, 'queued', 0, 0, 0, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.to_owned())
        .bind(job.to_owned())
        .bind(scheduled_at)
        .bind(self.next_id(now))
        .bind(cause)
        // Older ticks come first; one that was announced ahead of its time comes now.
        .bind(scheduled_at.min(now))
        .bind(now)
        .execute(connection)
        .await
        .map_err(StoreError::database(INSERTING))?;
        Ok(done.rows_affected())
    }

    /// Milliseconds until a tick comes, or a run may be taken up that may not yet; `None` when
    /// nothing is planned.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn until_next_due(&self) -> Result<Option<u64>, StoreError> {
        let failed = StoreError::database(LOOKING);
        let mut connection = self.pool().acquire().await.map_err(&failed)?;
        let now = self.shared_now(&mut connection).await?;
        let row = sqlx::query(
            "SELECT MIN(due) AS due FROM (\
             SELECT MIN(next_at) AS due FROM jobs WHERE next_at IS NOT NULL UNION ALL \
             SELECT MIN(due_at) AS due FROM job_runs WHERE due_at > $1) planned",
        )
        .bind(now)
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
        let due: Option<i64> = row.try_get("due").map_err(&failed)?;
        Ok(due.map(|due| u64::try_from(due.saturating_sub(now)).unwrap_or(0)))
    }

    /// Whether the time that a query finds as `due` has come.
    pub(super) async fn is_due(&self, query: &'static str) -> Result<bool, StoreError> {
        let failed = StoreError::database(LOOKING);
        let mut connection = self.pool().acquire().await.map_err(&failed)?;
        let row = sqlx::query(query).fetch_one(&mut *connection).await.map_err(&failed)?;
        let due: Option<i64> = row.try_get("due").map_err(&failed)?;
        let Some(due) = due else { return Ok(false) };
        Ok(due <= self.shared_now(&mut connection).await?)
    }
}

pub(super) async fn count_queued(
    connection: &mut AnyConnection,
    tenant: &str,
    job: &str,
) -> Result<i64, StoreError> {
    let failed = StoreError::database(LOOKING);
    let row = sqlx::query(
        "SELECT COUNT(*) AS queued FROM job_runs \
         WHERE tenant_id = $1 AND job = $2 AND due_at IS NOT NULL AND state = 'queued'",
    )
    .bind(tenant.to_owned())
    .bind(job.to_owned())
    .fetch_one(connection)
    .await
    .map_err(&failed)?;
    row.try_get("queued").map_err(failed)
}
