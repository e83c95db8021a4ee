//! A worker's side of a run: take it up, stay at it, end it.

use lookout_types::UnixMillis;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::read_settings;
use crate::{Store, StoreError};

/// How often the worker of a run may fall silent: by then the run is what takes workers down.
const LOSSES_MAX: i64 = 10;
/// Pause before a run that failed is tried again, in milliseconds; doubled each time up to the most.
const RETRY_PAUSE_MS: i64 = 10_000;
pub(super) const RETRY_PAUSE_MAX_MS: i64 = 600_000;
/// How often a claim is tried again when another instance takes the run first.
const CLAIM_TRIES_MAX: usize = 5;
/// Longest error that is kept, in characters: a sentence and its causes.
const ERROR_CHARACTERS_MAX: usize = 2_000;
/// Longest result and progress that are kept, as JSON, in bytes.
const RESULT_BYTES_MAX: usize = 64 << 10;

const CLAIMING: &str = "taking up a run";
const ENDING: &str = "ending a run";

/// A run that this worker has taken up. What it writes counts while no one else has.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedRun {
    /// Whose job it is.
    pub tenant: String,
    /// The job's name.
    pub job: String,
    /// The task it runs.
    pub kind: String,
    /// The task's settings.
    pub settings: Map<String, Value>,
    /// The run's id.
    pub id: String,
    /// The tick it is for.
    pub scheduled_at: UnixMillis,
    /// Why it is there: `cron`, `api`, `retry`.
    pub cause: String,
    /// How often it was taken up, this time included: the fencing token.
    pub attempt: i64,
    /// How long it may take, in milliseconds.
    pub timeout_ms: i64,
    /// When it was taken up, by the database's clock.
    pub started_at: UnixMillis,
    failures: i64,
    retries: i64,
}

/// How a worker leaves a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It is done, with this result.
    Done(Value),
    /// It failed for good.
    Failed(String),
    /// It failed; it is tried again as far as its job allows.
    Retry(String),
    /// It was not finished, through no fault of its own; someone else takes it up at once.
    Released,
}

/// What became of a candidate.
enum Taken {
    Run(Box<ClaimedRun>),
    /// Its worker fell silent once too often.
    GivenUp,
}

impl Store {
    /// Takes up the run of a kind that has waited longest, or one whose worker fell silent. The
    /// runs of one job go one at a time. `None` when there is nothing to do.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_run(
        &self,
        kind: &str,
        lease_ms: i64,
    ) -> Result<Option<ClaimedRun>, StoreError> {
        if !self.is_due("SELECT MIN(due_at) AS due FROM job_runs WHERE due_at IS NOT NULL").await? {
            return Ok(None);
        }
        for _ in 0..CLAIM_TRIES_MAX {
            let mut tx = self.begin_write(CLAIMING).await?;
            let now = self.shared_now(&mut tx).await?;
            let row = sqlx::query(self.engine().select_claimable_run())
                .bind(now)
                .bind(kind.to_owned())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::database(CLAIMING))?;
            let Some(row) = row else {
                // Something is due all the same; were it nobody's, all would look for it for ever.
                end_of_deleted(&mut tx, now).await?;
                tx.commit().await.map_err(StoreError::database(CLAIMING))?;
                return Ok(None);
            };
            match take(&mut tx, &row, kind, now, lease_ms).await {
                Ok(Taken::Run(run)) => {
                    tx.commit().await.map_err(StoreError::database(CLAIMING))?;
                    return Ok(Some(*run));
                }
                Ok(Taken::GivenUp) => {
                    tx.commit().await.map_err(StoreError::database(CLAIMING))?;
                }
                // Another instance took up another run of the same job in this moment.
                Err(StoreError::Database { source: sqlx::Error::Database(e), .. })
                    if e.is_unique_violation() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Prolongs the lease of a run and keeps what the task tells of itself. `false` when the run is
    /// no longer this worker's: it must stop.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn heartbeat_run(
        &self,
        run: &ClaimedRun,
        lease_ms: i64,
        progress: Option<&Value>,
    ) -> Result<bool, StoreError> {
        let doing = "prolonging the lease of a run";
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(doing))?;
        let now = self.shared_now(&mut connection).await?;
        let done = sqlx::query(
            "UPDATE job_runs SET heartbeat_at = $1, due_at = $2, \
             progress = COALESCE($3, progress) WHERE tenant_id = $4 AND job = $5 \
             AND scheduled_at = $6 AND attempt = $7 AND state = 'running'",
        )
        .bind(now)
        .bind(now.saturating_add(lease_ms))
        .bind(progress.map(kept))
        .bind(run.tenant.clone())
        .bind(run.job.clone())
        .bind(run.scheduled_at)
        .bind(run.attempt)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(doing))?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a run, or gives it back. `false` when it is no longer this worker's: then nothing of it
    /// is kept, whoever has it now decides.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_run(&self, run: &ClaimedRun, ended: Ended) -> Result<bool, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(ENDING))?;
        let now = self.shared_now(&mut connection).await?;
        let (state, failed, pause_ms, error, result) = match ended {
            Ended::Done(result) => ("done", 0, None, None, Some(kept(&result))),
            Ended::Released => ("queued", 0, Some(0), None, None),
            Ended::Retry(error) if run.failures < run.retries => {
                ("queued", 1, Some(retry_pause_ms(run.failures)), Some(error), None)
            }
            Ended::Failed(error) | Ended::Retry(error) => ("failed", 1, None, Some(error), None),
        };
        let error = error.map(|text| text.chars().take(ERROR_CHARACTERS_MAX).collect::<String>());
        let done = sqlx::query(
            "UPDATE job_runs SET state = $1, failures = failures + $2, due_at = $3, \
             finished_at = $4, error = $5, result = $6 WHERE tenant_id = $7 AND job = $8 \
             AND scheduled_at = $9 AND attempt = $10 AND state = 'running'",
        )
        .bind(state)
        .bind(failed)
        .bind(pause_ms.map(|pause| now.saturating_add(pause)))
        .bind(pause_ms.is_none().then_some(now))
        .bind(error)
        .bind(result)
        .bind(run.tenant.clone())
        .bind(run.job.clone())
        .bind(run.scheduled_at)
        .bind(run.attempt)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(ENDING))?;
        // Also when another tick of the job waits for this one to end.
        self.signals().jobs.raise();
        Ok(done.rows_affected() > 0)
    }
}

/// Ends the runs that would go on, or be taken over, if their job were still there.
async fn end_of_deleted(connection: &mut AnyConnection, now: UnixMillis) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE job_runs SET state = 'failed', due_at = NULL, finished_at = $1, \
         error = 'the job was deleted' WHERE due_at <= $1 AND NOT EXISTS (SELECT 1 FROM jobs j \
         WHERE j.tenant_id = job_runs.tenant_id AND j.name = job_runs.job \
         AND j.deleted_at IS NULL)",
    )
    .bind(now)
    .execute(connection)
    .await
    .map_err(StoreError::database(CLAIMING))?;
    Ok(())
}

fn retry_pause_ms(failures: i64) -> i64 {
    let doublings = u32::try_from(failures).unwrap_or(u32::MAX);
    let factor = 2_i64.checked_pow(doublings).unwrap_or(i64::MAX);
    RETRY_PAUSE_MS.saturating_mul(factor).min(RETRY_PAUSE_MAX_MS)
}

/// JSON as it is kept; one that is too long is replaced by a note of its length.
fn kept(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= RESULT_BYTES_MAX {
        return text;
    }
    serde_json::json!({ "notKept": format!("{} bytes, more than {RESULT_BYTES_MAX}", text.len()) })
        .to_string()
}

async fn take(
    tx: &mut AnyConnection,
    row: &AnyRow,
    kind: &str,
    now: UnixMillis,
    lease_ms: i64,
) -> Result<Taken, StoreError> {
    let failed = StoreError::database(CLAIMING);
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let job = text("job")?;
    let lost = i64::from(text("state")? == "running");
    let losses = number("losses")? + lost;
    let run = ClaimedRun {
        tenant: text("tenant_id")?,
        kind: kind.to_owned(),
        settings: read_settings(&job, &text("settings")?)?,
        id: text("id")?,
        scheduled_at: number("scheduled_at")?,
        cause: text("cause")?,
        attempt: number("attempt")? + 1,
        timeout_ms: number("timeout_ms")?,
        started_at: now,
        failures: number("failures")?,
        retries: number("retries")?,
        job,
    };
    let given_up = losses >= LOSSES_MAX;
    let error = format!("its worker fell silent {LOSSES_MAX} times");
    let done = sqlx::query(
        "UPDATE job_runs SET state = $1, attempt = $2, losses = $3, due_at = $4, \
         started_at = $5, heartbeat_at = $5, finished_at = $6, error = COALESCE($7, error) \
         WHERE tenant_id = $8 AND job = $9 AND scheduled_at = $10 AND attempt = $11",
    )
    .bind(if given_up { "failed" } else { "running" })
    .bind(run.attempt)
    .bind(losses)
    .bind((!given_up).then(|| now.saturating_add(lease_ms)))
    .bind(now)
    .bind(given_up.then_some(now))
    .bind(given_up.then_some(error))
    .bind(run.tenant.clone())
    .bind(run.job.clone())
    .bind(run.scheduled_at)
    .bind(run.attempt - 1)
    .execute(tx)
    .await
    .map_err(&failed)?;
    if given_up || done.rows_affected() == 0 {
        return Ok(Taken::GivenUp);
    }
    Ok(Taken::Run(Box::new(run)))
}
