//! Jobs: what is to be run when, and the runs, of which there is one per tick.
//!
//! The row of a tick is unique, and it is inserted in the transaction that moves its job to the
//! next tick. A run is taken up for a lease; its attempt number goes up each time, and what an
//! older attempt writes is refused. All times are those of the database, where instances share one.

use lookout_types::UnixMillis;
use serde_json::{Map, Value};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::StoreError;

mod catch_up;
mod claim;
mod definitions;
mod due;
mod history;
mod pull_back;
mod schedule;
mod spec;

pub use claim::{ClaimedRun, Ended};
pub use due::Due;
pub use history::Triggered;
pub use schedule::{Schedule, ScheduleError};
pub use spec::{FieldError, JobKinds, JobSpec, Misfire};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What its owner wants.
    pub spec: JobSpec,
    /// Its next tick; `None` while it is paused or deleted, and when there is none.
    pub next_at: Option<UnixMillis>,
    /// How many ticks were not run; long outages are counted up to a thousand each.
    pub missed: i64,
    /// Why it is no longer scheduled although it is not paused.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When its owner changed it last.
    pub updated_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It waits for its turn.
    Queued,
    /// A worker is at it.
    Running,
    /// It ended well.
    Done,
    /// It ended with an error and is not tried again.
    Failed,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Done, Self::Failed];

    /// Its name in the database and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id, a `UUIDv7`.
    pub id: String,
    /// The name of its job.
    pub job: String,
    /// The tick it is for.
    pub scheduled_at: UnixMillis,
    /// Why it is there: `cron`, `api`, or `retry` when someone had a failed run tried again.
    pub cause: String,
    /// Where it is.
    pub state: RunState,
    /// How often it was taken up.
    pub attempt: i64,
    /// When a queued run is tried at the earliest, when the lease of a running one ends.
    pub due_at: Option<UnixMillis>,
    /// When its worker was last heard of.
    pub heartbeat_at: Option<UnixMillis>,
    /// What the task last told of itself.
    pub progress: Option<Value>,
    /// When its row was inserted.
    pub created_at: UnixMillis,
    /// When the newest attempt began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
    /// What went wrong last, also while it is tried again.
    pub error: Option<String>,
    /// What the task answered.
    pub result: Option<Value>,
}

fn no_job(name: &str) -> StoreError {
    StoreError::NotFound { what: "job", id: name.escape_debug().take(100).collect() }
}

fn corrupt(what: &str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{what}: {reason}"))
}

fn read_settings(job: &str, text: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(text).map_err(|e| corrupt(&format!("settings of job `{job}`"), e))
}

fn read_misfire(job: &str, name: &str, most: i64) -> Result<Misfire, StoreError> {
    Misfire::of_columns(name, most)
        .ok_or_else(|| corrupt(&format!("job `{job}`"), format!("misfire `{name}` {most}")))
}

/// Columns of a job, as [`read_job`] takes them.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT name, kind, settings, schedule, zone, misfire, catch_up_max, timeout_ms, \
             retries, paused, next_at, missed, error, created_at, updated_at, deleted_at \
             FROM jobs ",
            $rest
        )
    };
}
use select_jobs;

fn read_job(row: &AnyRow) -> Result<Job, StoreError> {
    let failed = StoreError::database("reading a job");
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(&failed);
    let name = text("name")?;
    let retries = number("retries")?;
    let paused: i16 = row.try_get("paused").map_err(&failed)?;
    Ok(Job {
        spec: JobSpec {
            kind: text("kind")?,
            settings: read_settings(&name, &text("settings")?)?,
            schedule: text("schedule")?,
            zone: text("zone")?,
            misfire: read_misfire(&name, &text("misfire")?, number("catch_up_max")?)?,
            timeout_ms: number("timeout_ms")?,
            retries: u32::try_from(retries)
                .map_err(|_| corrupt(&format!("job `{name}`"), format!("{retries} retries")))?,
            paused: paused != 0,
            name,
        },
        next_at: time("next_at")?,
        missed: number("missed")?,
        error: row.try_get("error").map_err(&failed)?,
        created_at: number("created_at")?,
        updated_at: number("updated_at")?,
        deleted_at: time("deleted_at")?,
    })
}

/// Columns of a run, as [`read_run`] takes them.
macro_rules! select_runs {
    ($rest:literal) => {
        concat!(
            "SELECT id, job, scheduled_at, cause, state, attempt, due_at, heartbeat_at, progress, \
             created_at, started_at, finished_at, error, result FROM job_runs ",
            $rest
        )
    };
}
use select_runs;

fn read_run(row: &AnyRow) -> Result<Run, StoreError> {
    let failed = StoreError::database("reading a run");
    let text = |column| row.try_get::<String, _>(column).map_err(&failed);
    let number = |column| row.try_get::<i64, _>(column).map_err(&failed);
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(&failed);
    let (id, state) = (text("id")?, text("state")?);
    let json = |column| {
        let text: Option<String> = row.try_get(column).map_err(&failed)?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|e| corrupt(&format!("{column} of run `{id}`"), e))
    };
    let known = RunState::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(Run {
        state: known.ok_or_else(|| corrupt(&format!("state of run `{id}`"), &state))?,
        job: text("job")?,
        scheduled_at: number("scheduled_at")?,
        cause: text("cause")?,
        attempt: number("attempt")?,
        due_at: time("due_at")?,
        heartbeat_at: time("heartbeat_at")?,
        progress: json("progress")?,
        created_at: number("created_at")?,
        started_at: time("started_at")?,
        finished_at: time("finished_at")?,
        error: row.try_get("error").map_err(&failed)?,
        result: json("result")?,
        id,
    })
}
