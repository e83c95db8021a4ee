//! Jobs as their owners see them: make, change, pause, delete, restore.

use lookout_types::UnixMillis;
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row};

use super::{Job, JobSpec, Misfire, Schedule, no_job, read_job, select_jobs};
use crate::audit::NewAudit;
use crate::tenants::{check_tenant, ensure_tenant};
use crate::{Actor, Page, Store, StoreError};

/// Most jobs of one tenant, deleted ones included: far above what people keep an overview of.
const JOBS_PER_TENANT_MAX: i64 = 1_000;

const CREATING: &str = "creating a job";
const CHANGING: &str = "changing a job";
const LISTING: &str = "listing jobs";

/// What happens to a job that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Pause,
    Resume,
    Delete,
    Restore,
}

impl Change {
    fn action(self) -> &'static str {
        match self {
            Self::Pause => "job.pause",
            Self::Resume => "job.resume",
            Self::Delete => "job.delete",
            Self::Restore => "job.restore",
        }
    }

    /// Applies it; tells whether it changed anything.
    fn apply(self, job: &mut Job, now: UnixMillis) -> bool {
        let before = (job.spec.paused, job.deleted_at.is_some());
        match self {
            Self::Pause => job.spec.paused = true,
            Self::Resume => job.spec.paused = false,
            Self::Delete => job.deleted_at = Some(job.deleted_at.unwrap_or(now)),
            Self::Restore => job.deleted_at = None,
        }
        before != (job.spec.paused, job.deleted_at.is_some())
    }
}

impl Store {
    /// Makes a job, first due at its first tick from now on. Its kind and settings are the
    /// caller's to check ([`JobSpec::check`]).
    ///
    /// # Errors
    /// [`StoreError::Invalid`] says what is wrong; [`StoreError::Limit`] when the name is taken,
    /// also by a deleted job, or the tenant has too many jobs.
    pub async fn create_job(
        &self,
        tenant: &str,
        spec: JobSpec,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        check_tenant(tenant)?;
        let mut tx = self.begin_write(CREATING).await?;
        let now = self.shared_now(&mut tx).await?;
        let schedule = shape(&spec, now)?;
        if let Some(there) = find(&mut tx, tenant, &spec.name).await? {
            return Err(taken(&there));
        }
        check_room(&mut tx, tenant).await?;
        ensure_tenant(&mut tx, tenant, now).await?;
        let job = fresh(spec, &schedule, now)?;
        if !insert(&mut tx, tenant, &job).await? {
            // Another instance was faster; its row is not visible to this transaction.
            return Err(taken(&job));
        }
        let (name, detail) = (&job.spec.name, describe(&job.spec));
        let row = NewAudit { tenant, actor, action: "job.create", target: name, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CREATING))?;
        self.signals().jobs.raise();
        Ok(job)
    }

    /// Replaces what a job does and when. While its schedule stays the same so does its next tick.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown, a deleted and another tenant's job;
    /// [`StoreError::Invalid`] says what is wrong.
    pub async fn replace_job(
        &self,
        tenant: &str,
        spec: JobSpec,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        let mut tx = self.begin_write(CHANGING).await?;
        let now = self.shared_now(&mut tx).await?;
        let schedule = shape(&spec, now)?;
        let there = lock(&mut tx, tenant, &spec.name).await?;
        let mut job =
            there.filter(|job| job.deleted_at.is_none()).ok_or_else(|| no_job(&spec.name))?;
        let before = describe(&job.spec);
        let same = job.next_at.is_some()
            && (&job.spec.schedule, &job.spec.zone) == (&spec.schedule, &spec.zone);
        job.spec = spec;
        if !same || job.spec.paused {
            job.next_at = first_tick(&job, &schedule, now)?;
        }
        job.error = None;
        job.updated_at = now;
        update(&mut tx, tenant, &job).await?;
        let (name, detail) = (&job.spec.name, json!({ "from": before, "to": describe(&job.spec) }));
        let row = NewAudit { tenant, actor, action: "job.replace", target: name, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))?;
        self.signals().jobs.raise();
        Ok(job)
    }

    /// The jobs of a tenant by name: those that are there, or the deleted ones.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] on a wrong page, [`StoreError::Database`].
    pub async fn list_jobs(
        &self,
        tenant: &str,
        deleted: bool,
        page: &Page,
    ) -> Result<Vec<Job>, StoreError> {
        let query = if deleted {
            sqlx::query(select_jobs!(
                "WHERE tenant_id = $1 AND name > $2 AND deleted_at IS NOT NULL ORDER BY name LIMIT $3"
            ))
        } else {
            sqlx::query(select_jobs!(
                "WHERE tenant_id = $1 AND name > $2 AND deleted_at IS NULL ORDER BY name LIMIT $3"
            ))
        };
        let rows = query
            .bind(tenant.to_owned())
            .bind(page.above().to_owned())
            .bind(page.limit()?)
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::database(LISTING))?;
        rows.iter().map(read_job).collect()
    }

    /// One job of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown, a deleted and another tenant's.
    pub async fn get_job(&self, tenant: &str, name: &str) -> Result<Job, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(LISTING))?;
        let job = find(&mut connection, tenant, name).await?;
        job.filter(|job| job.deleted_at.is_none()).ok_or_else(|| no_job(name))
    }

    /// Lets the job's ticks pass without a run; runs that wait are still run. Pausing it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown, a deleted and another tenant's.
    pub async fn pause_job(
        &self,
        tenant: &str,
        name: &str,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        self.change_job(tenant, name, Change::Pause, actor).await
    }

    /// Schedules the job again, from now on. Resuming it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown, a deleted and another tenant's.
    pub async fn resume_job(
        &self,
        tenant: &str,
        name: &str,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        self.change_job(tenant, name, Change::Resume, actor).await
    }

    /// Deletes the job until it is restored or purged. Runs that wait are failed; one that is
    /// under way ends.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown and another tenant's, and one that is deleted.
    pub async fn delete_job(
        &self,
        tenant: &str,
        name: &str,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        self.change_job(tenant, name, Change::Delete, actor).await
    }

    /// Brings a deleted job back, scheduled from now on. Restoring it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown, a purged and another tenant's.
    pub async fn restore_job(
        &self,
        tenant: &str,
        name: &str,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        self.change_job(tenant, name, Change::Restore, actor).await
    }

    async fn change_job(
        &self,
        tenant: &str,
        name: &str,
        change: Change,
        actor: &Actor,
    ) -> Result<Job, StoreError> {
        let mut tx = self.begin_write(CHANGING).await?;
        let now = self.shared_now(&mut tx).await?;
        let there = lock(&mut tx, tenant, name).await?;
        let there = there.filter(|job| change == Change::Restore || job.deleted_at.is_none());
        let mut job = there.ok_or_else(|| no_job(name))?;
        if !change.apply(&mut job, now) {
            return Ok(job);
        }
        let schedule = Schedule::parse(&job.spec.schedule, &job.spec.zone);
        let schedule = schedule.map_err(|e| StoreError::Invalid(e.to_string()))?;
        job.next_at = first_tick(&job, &schedule, now)?;
        job.error = None;
        job.updated_at = now;
        update(&mut tx, tenant, &job).await?;
        if change == Change::Delete {
            fail_queued(&mut tx, tenant, name, now).await?;
        }
        let detail = json!({});
        let row =
            NewAudit { tenant, actor, action: change.action(), target: name, detail: &detail };
        self.insert_audit(&mut tx, row, now).await?;
        tx.commit().await.map_err(StoreError::database(CHANGING))?;
        self.signals().jobs.raise();
        Ok(job)
    }

    /// Makes the jobs that every installation has, where the tenant has never had them: `purge`,
    /// daily at 03:17 UTC, and for each followed chain `balances-CHAIN`, every minute. One that its
    /// owner changed or deleted stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ensure_default_jobs(
        &self,
        tenant: &str,
        followed: impl Iterator<Item = &str>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let specs = std::iter::once(purge()).chain(followed.map(balances));
        for spec in specs {
            let mut connection =
                self.pool().acquire().await.map_err(StoreError::database(LISTING))?;
            if find(&mut connection, tenant, &spec.name).await?.is_some() {
                continue;
            }
            drop(connection);
            match self.create_job(tenant, spec, actor).await {
                // Another instance was faster.
                Ok(_) | Err(StoreError::Limit(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn purge() -> JobSpec {
    JobSpec {
        name: "purge".to_owned(),
        kind: "purge".to_owned(),
        settings: Map::new(),
        // Off the full hour, where everybody's jobs are.
        schedule: "17 3 * * *".to_owned(),
        zone: "UTC".to_owned(),
        misfire: Misfire::Once,
        timeout_ms: 3_600_000,
        retries: 3,
        paused: false,
    }
}

fn balances(chain: &str) -> JobSpec {
    JobSpec {
        name: format!("balances-{chain}"),
        kind: "balances".to_owned(),
        settings: Map::from_iter([("chain".to_owned(), json!(chain))]),
        schedule: "* * * * *".to_owned(),
        zone: "UTC".to_owned(),
        // Balances of a minute ago cannot be read now, and the next tick is near.
        misfire: Misfire::Skip,
        timeout_ms: 60_000,
        retries: 0,
        paused: false,
    }
}

fn shape(spec: &JobSpec, now: UnixMillis) -> Result<Schedule, StoreError> {
    spec.check_shape(now).map_err(|error| StoreError::Invalid(error.to_string()))
}

fn taken(job: &Job) -> StoreError {
    let name = &job.spec.name;
    StoreError::Limit(match job.deleted_at {
        None => format!("there is a job `{name}` already"),
        Some(_) => format!("a deleted job is called `{name}`; restore it or choose another name"),
    })
}

fn fresh(spec: JobSpec, schedule: &Schedule, now: UnixMillis) -> Result<Job, StoreError> {
    let (created_at, updated_at, deleted_at) = (now, now, None);
    let mut job =
        Job { spec, next_at: None, missed: 0, error: None, created_at, updated_at, deleted_at };
    job.next_at = first_tick(&job, schedule, now)?;
    Ok(job)
}

fn first_tick(
    job: &Job,
    schedule: &Schedule,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    if job.spec.paused || job.deleted_at.is_some() {
        return Ok(None);
    }
    schedule.next_after(now).map_err(|e| StoreError::Invalid(e.to_string()))
}

/// What the audit log keeps of a job.
fn describe(spec: &JobSpec) -> Value {
    let (misfire, catch_up_max) = spec.misfire.columns();
    json!({
        "kind": spec.kind, "schedule": spec.schedule, "zone": spec.zone, "misfire": misfire,
        "catchUpMax": catch_up_max, "timeoutMs": spec.timeout_ms, "retries": spec.retries,
        "paused": spec.paused,
    })
}

async fn find(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
) -> Result<Option<Job>, StoreError> {
    let row = sqlx::query(select_jobs!("WHERE tenant_id = $1 AND name = $2"))
        .bind(tenant.to_owned())
        .bind(name.to_owned())
        .fetch_optional(connection)
        .await
        .map_err(StoreError::database(LISTING))?;
    row.as_ref().map(read_job).transpose()
}

/// The job, which no other transaction changes until this one has ended.
async fn lock(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
) -> Result<Option<Job>, StoreError> {
    // An update locks a row on every engine.
    sqlx::query("UPDATE jobs SET updated_at = updated_at WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.to_owned())
        .bind(name.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::database(CHANGING))?;
    find(connection, tenant, name).await
}

async fn check_room(connection: &mut AnyConnection, tenant: &str) -> Result<(), StoreError> {
    let failed = StoreError::database(CREATING);
    let row = sqlx::query("SELECT COUNT(*) AS jobs FROM jobs WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_one(connection)
        .await
        .map_err(&failed)?;
    let jobs: i64 = row.try_get("jobs").map_err(failed)?;
    if jobs >= JOBS_PER_TENANT_MAX {
        return Err(StoreError::Limit(format!(
            "tenant `{tenant}` has {jobs} jobs, the most there may be, deleted ones included"
        )));
    }
    Ok(())
}

/// Inserts a job; `false` when its name is taken.
async fn insert(
    connection: &mut AnyConnection,
    tenant: &str,
    job: &Job,
) -> Result<bool, StoreError> {
    let (misfire, catch_up_max) = job.spec.misfire.columns();
    let done = sqlx::query(
        "INSERT INTO jobs (tenant_id, name, kind, settings, schedule, zone, misfire, \
         catch_up_max, timeout_ms, retries, paused, next_at, missed, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $14) \
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.to_owned())
    .bind(job.spec.name.clone())
    .bind(job.spec.kind.clone())
    .bind(Value::Object(job.spec.settings.clone()).to_string())
    .bind(job.spec.schedule.clone())
    .bind(job.spec.zone.clone())
    .bind(misfire)
    .bind(catch_up_max)
    .bind(job.spec.timeout_ms)
    .bind(i64::from(job.spec.retries))
    .bind(i16::from(job.spec.paused))
    .bind(job.next_at)
    .bind(job.created_at)
    .bind(job.updated_at)
    .execute(connection)
    .await
    .map_err(StoreError::database(CREATING))?;
    Ok(done.rows_affected() > 0)
}

async fn update(connection: &mut AnyConnection, tenant: &str, job: &Job) -> Result<(), StoreError> {
    let (misfire, catch_up_max) = job.spec.misfire.columns();
    sqlx::query(
        "UPDATE jobs SET kind = $1, settings = $2, schedule = $3, zone = $4, misfire = $5, \
         catch_up_max = $6, timeout_ms = $7, retries = $8, paused = $9, next_at = $10, \
         error = NULL, updated_at = $11, deleted_at = $12 WHERE tenant_id = $13 AND name = $14",
    )
    .bind(job.spec.kind.clone())
    .bind(Value::Object(job.spec.settings.clone()).to_string())
    .bind(job.spec.schedule.clone())
    .bind(job.spec.zone.clone())
    .bind(misfire)
    .bind(catch_up_max)
    .bind(job.spec.timeout_ms)
    .bind(i64::from(job.spec.retries))
    .bind(i16::from(job.spec.paused))
    .bind(job.next_at)
    .bind(job.updated_at)
    .bind(job.deleted_at)
    .bind(tenant.to_owned())
    .bind(job.spec.name.clone())
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}

async fn fail_queued(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE job_runs SET state = 'failed', due_at = NULL, finished_at = $1, \
         error = 'the job was deleted' WHERE tenant_id = $2 AND job = $3 AND state = 'queued'",
    )
    .bind(now)
    .bind(tenant.to_owned())
    .bind(name.to_owned())
    .execute(connection)
    .await
    .map_err(StoreError::database(CHANGING))?;
    Ok(())
}
