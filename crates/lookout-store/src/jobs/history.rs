//! Runs as their owners see them: the history, a trigger from outside, one more try.

use lookout_types::UnixMillis;
use serde_json::json;
use sqlx::AnyConnection;

use super::due::{QUEUED_MAX, count_queued};
use super::{Run, RunState, no_job, read_run, select_runs};
use crate::audit::NewAudit;
use crate::{Actor, Page, Store, StoreError};

/// How far ahead of its time a tick may be triggered: clocks differ, days do not.
const AHEAD_MAX_MS: i64 = 86_400_000;
/// How old a tick may be that is triggered. An outside scheduler that was away for longer has more
/// to explain; older runs may have been purged, so that the tick could run a second time.
const BEHIND_MAX_MS: i64 = 7 * 86_400_000;

const LISTING: &str = "listing runs";
const TRIGGERING: &str = "triggering a run";

/// A run that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggered {
    /// The run of the tick.
    pub run: Run,
    /// Whether it was not there before.
    pub new: bool,
}

impl Store {
    /// The runs of a job, newest first, or only those in a state.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such job; [`StoreError::Invalid`] on a wrong
    /// page.
    pub async fn list_runs(
        &self,
        tenant: &str,
        job: &str,
        state: Option<RunState>,
        page: &Page,
    ) -> Result<Vec<Run>, StoreError> {
        self.get_job(tenant, job).await?;
        let query = match state {
            None => sqlx::query(select_runs!(
                "WHERE tenant_id = $1 AND job = $2 AND id < $3 ORDER BY id DESC LIMIT $4"
            )),
            Some(_) => sqlx::query(select_runs!(
                "WHERE tenant_id = $1 AND job = $2 AND id < $3 AND state = $5 \
                 ORDER BY id DESC LIMIT $4"
            )),
        };
        let mut query = query
            .bind(tenant.to_owned())
            .bind(job.to_owned())
            .bind(page.below().to_owned())
            .bind(page.limit()?);
        if let Some(state) = state {
            query = query.bind(state.as_str());
        }
        let rows = query.fetch_all(self.pool()).await.map_err(StoreError::database(LISTING))?;
        rows.iter().map(read_run).collect()
    }

    /// One run of a job.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such job or the job no such run.
    pub async fn get_run(&self, tenant: &str, job: &str, id: &str) -> Result<Run, StoreError> {
        self.get_job(tenant, job).await?;
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(LISTING))?;
        find(&mut connection, tenant, job, id).await
    }

    /// Runs a job for a tick, or for now. A tick that has its run already keeps that one, so that
    /// one triggered from outside and from inside is one run. A paused job can be triggered too.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such job; [`StoreError::Invalid`] when the
    /// tick is too far off; [`StoreError::Limit`] when too many of its runs wait.
    pub async fn trigger_run(
        &self,
        tenant: &str,
        job: &str,
        scheduled_at: Option<UnixMillis>,
        actor: &Actor,
    ) -> Result<Triggered, StoreError> {
        let mut tx = self.begin_write(TRIGGERING).await?;
        let now = self.shared_now(&mut tx).await?;
        let there = sqlx::query(
            "SELECT name FROM jobs WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL",
        )
        .bind(tenant.to_owned())
        .bind(job.to_owned())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::database(TRIGGERING))?;
        there.ok_or_else(|| no_job(job))?;
        let scheduled_at = scheduled_at.unwrap_or(now);
        let near = now.saturating_sub(BEHIND_MAX_MS)..=now.saturating_add(AHEAD_MAX_MS);
        if !near.contains(&scheduled_at) {
            let text = "a run is triggered for a tick of the last 7 days or the next 24 hours";
            return Err(StoreError::Invalid(text.to_owned()));
        }
        if let Some(run) = find_tick(&mut tx, tenant, job, scheduled_at).await? {
            return Ok(Triggered { run, new: false });
        }
        let queued = count_queued(&mut tx, tenant, job).await?;
        if queued >= QUEUED_MAX {
            return Err(StoreError::Limit(format!(
                "{queued} runs of job `{job}` wait, the most there may be; try again later"
            )));
        }
        let inserted = self.insert_run(&mut tx, (tenant, job), scheduled_at, "api", now).await?;
        let run = find_tick(&mut tx, tenant, job, scheduled_at).await?;
        let run = run.ok_or_else(|| {
            StoreError::Corrupt(format!("a run of job `{job}` is gone as soon as inserted"))
        })?;
        if inserted > 0 {
            let detail = json!({ "run": run.id, "scheduledAt": scheduled_at });
            let row =
                NewAudit { tenant, actor, action: "job.trigger", target: job, detail: &detail };
            self.insert_audit(&mut tx, row, now).await?;
        }
        tx.commit().await.map_err(StoreError::database(TRIGGERING))?;
        self.signals().jobs.raise();
        Ok(Triggered { run, new: inserted > 0 })
    }

    /// Has a failed run tried once more, with all its retries. Any other run stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such job or the job no such run;
    /// [`StoreError::Limit`] when the run has not failed.
    pub async fn retry_run(
        &self,
        tenant: &str,
        job: &str,
        id: &str,
        actor: &Actor,
    ) -> Result<Run, StoreError> {
        self.get_job(tenant, job).await?;
        let doing = "retrying a run";
        let mut tx = self.begin_write(doing).await?;
        let now = self.shared_now(&mut tx).await?;
        let done = sqlx::query(
            "UPDATE job_runs SET state = 'queued', cause = 'retry', failures = 0, losses = 0, \
             due_at = $1, finished_at = NULL WHERE tenant_id = $2 AND job = $3 AND id = $4 \
             AND state = 'failed'",
        )
        .bind(now)
        .bind(tenant.to_owned())
        .bind(job.to_owned())
        .bind(id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::database(doing))?;
        let run = find(&mut tx, tenant, job, id).await?;
        if done.rows_affected() == 0 {
            let state = run.state.as_str();
            return Err(StoreError::Limit(format!(
                "run `{id}` is {state}; only a failed one is retried"
            )));
        }
        let detail = json!({ "run": id });
        let row = NewAudit { tenant, actor, action: "job.retry", target: job, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(doing))?;
        self.signals().jobs.raise();
        Ok(run)
    }
}

async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    job: &str,
    id: &str,
) -> Result<Run, StoreError> {
    let row = sqlx::query(select_runs!("WHERE tenant_id = $1 AND job = $2 AND id = $3"))
        .bind(tenant.to_owned())
        .bind(job.to_owned())
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(LISTING))?;
    let row = row.ok_or_else(|| StoreError::NotFound {
        what: "run",
        id: id.escape_debug().take(100).collect(),
    })?;
    read_run(&row)
}

async fn find_tick(
    connection: &mut AnyConnection,
    tenant: &str,
    job: &str,
    scheduled_at: UnixMillis,
) -> Result<Option<Run>, StoreError> {
    let row = sqlx::query(select_runs!("WHERE tenant_id = $1 AND job = $2 AND scheduled_at = $3"))
        .bind(tenant.to_owned())
        .bind(job.to_owned())
        .bind(scheduled_at)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(LISTING))?;
    row.as_ref().map(read_run).transpose()
}
