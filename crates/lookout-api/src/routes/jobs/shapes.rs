//! What jobs and runs look like in requests and answers.

use lookout_store::{Job, Misfire, Run, RunState, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiError;
use crate::provenance::rfc3339_millis;

/// Ticks to come that an answer shows.
const NEXT_RUNS: usize = 5;

/// A job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct JobPath {
    /// Name of a job of your tenant.
    #[param(pattern = "^[a-z0-9_-]{1,63}$", example = "purge")]
    pub(crate) name: String,
}

/// A run of a job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RunPath {
    /// Name of a job of your tenant.
    #[param(pattern = "^[a-z0-9_-]{1,63}$", example = "purge")]
    pub(crate) name: String,
    /// Id of a run of the job.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    pub(crate) id: String,
}

/// Which jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsQuery {
    /// Most items to return.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<u32>,
    /// The `next` of the page before; leave it out for the first page.
    #[param(
        value_type = String, required = false, max_length = 256,
        pattern = "^([2-6][0-9a-f]|7[0-9a-e]){1,128}$"
    )]
    pub(crate) cursor: Option<String>,
    /// `true` for the deleted jobs, which can be restored.
    #[param(value_type = bool, required = false, default = false)]
    pub(crate) deleted: Option<bool>,
}

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunsQuery {
    /// Most items to return.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<u32>,
    /// The `next` of the page before; leave it out for the first page.
    #[param(
        value_type = String, required = false, max_length = 256,
        pattern = "^([2-6][0-9a-f]|7[0-9a-e]){1,128}$"
    )]
    pub(crate) cursor: Option<String>,
    /// Only runs in this state.
    #[param(inline, required = false)]
    pub(crate) state: Option<StateName>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StateName {
    /// It waits for its turn, or to be tried again.
    Queued,
    /// A worker is at it.
    Running,
    /// It ended well.
    Done,
    /// It ended with an error and is not tried again by itself.
    Failed,
}

/// What becomes of ticks that nobody was there to run.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MisfireName {
    /// Nothing.
    Skip,
    /// One run, for the newest, stands for all of them.
    #[default]
    Once,
    /// Each is run, at most `catchUpMax`, the newest.
    All,
}

/// A job to be made; describes the body that `create` reads.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewJob {
    /// Its name, unique among your jobs; deleted ones keep theirs.
    #[schema(example = "nightly-check", pattern = "^[a-z0-9_-]{1,63}$")]
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) rest: JobRequest,
}

/// What a job does and when.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JobRequest {
    /// Which task it runs.
    #[schema(example = "purge")]
    pub(crate) kind: String,
    /// The task's settings.
    #[serde(default)]
    #[schema(value_type = Object, required = false, example = json!({ "olderThan": "30d" }))]
    pub(crate) settings: Map<String, Value>,
    /// When: `minute hour day month weekday`, with seconds in front if wanted, or one of
    /// `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`.
    #[schema(example = "17 3 * * *", max_length = 200)]
    pub(crate) schedule: String,
    /// The IANA time zone in which that is read. A local time that a change of clock leaves out is
    /// due at the first moment after the gap, once; one that comes twice is due the first time. A
    /// schedule whose hour is `*` or `*/n` is due in both passes.
    #[serde(default = "utc")]
    #[schema(required = false, default = "UTC", example = "Europe/Berlin", max_length = 64)]
    pub(crate) zone: String,
    /// What becomes of ticks that are more than a minute late.
    #[serde(default)]
    #[schema(required = false, default = "once")]
    pub(crate) misfire: MisfireName,
    /// How many missed ticks are run, with `misfire` `all`.
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100, default = 10)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) catch_up_max: Option<u32>,
    /// How long a run may take.
    #[serde(default = "ten_minutes")]
    #[schema(required = false, minimum = 1, maximum = 86400, default = 600)]
    pub(crate) timeout_seconds: u32,
    /// How often a run that failed is tried again, after pauses of 10 s, 20 s, 40 s and so on.
    #[serde(default = "three")]
    #[schema(required = false, minimum = 0, maximum = 10, default = 3)]
    pub(crate) retries: u32,
    /// Whether its ticks pass without a run.
    #[serde(default)]
    #[schema(required = false, default = false)]
    pub(crate) paused: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn ten_minutes() -> u32 {
    600
}

fn three() -> u32 {
    3
}

/// For which tick to run a job.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TriggerRequest {
    /// The tick (RFC 3339, to the millisecond), of the last 7 days or the next 24 hours; now when
    /// left out.
    #[schema(example = "2026-03-29T01:00:00Z", format = DateTime)]
    pub(crate) scheduled_at: Option<String>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobAnswer {
    /// Its name.
    #[schema(example = "purge")]
    pub(crate) name: String,
    /// What it does and when.
    #[serde(flatten)]
    pub(crate) spec: JobRequest,
    /// Its next ticks; none while it is paused.
    pub(crate) next_runs: Vec<Tick>,
    /// How many ticks were not run; long outages are counted up to 1000 each.
    #[schema(minimum = 0)]
    pub(crate) missed_ticks: i64,
    /// Why it is no longer scheduled although it is not paused.
    pub(crate) error: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    pub(crate) updated_at: String,
    /// When it was deleted; `null` while it is not.
    pub(crate) deleted_at: Option<String>,
}

/// A tick to come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tick {
    /// In UTC.
    #[schema(format = DateTime, example = "2026-03-29T01:00:00Z")]
    pub(crate) scheduled_at: String,
    /// As clocks in the job's zone show it, with the offset of that moment.
    #[schema(format = DateTime, example = "2026-03-29T03:00:00+02:00")]
    pub(crate) local: String,
}

/// One run of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunAnswer {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    pub(crate) id: String,
    /// The name of its job.
    #[schema(example = "purge")]
    pub(crate) job: String,
    /// The tick it is for; a tick has one run.
    #[schema(format = DateTime)]
    pub(crate) scheduled_at: String,
    /// Where it is.
    pub(crate) state: StateName,
    /// Why it is there: `cron`, `api`, or `retry`.
    #[schema(example = "cron")]
    pub(crate) trigger: String,
    /// How often it was taken up; more than once when it failed or its worker was lost.
    #[schema(minimum = 0)]
    pub(crate) attempt: i64,
    /// When a queued run is taken up at the earliest.
    pub(crate) not_before: Option<String>,
    /// Until when a running one is its worker's without a further heartbeat.
    pub(crate) lease_until: Option<String>,
    /// When its worker was last heard of.
    pub(crate) heartbeat_at: Option<String>,
    /// What the task last told of itself.
    #[schema(value_type = Option<Value>)]
    pub(crate) progress: Option<Value>,
    /// When it was inserted.
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
    /// When the newest attempt began.
    pub(crate) started_at: Option<String>,
    /// When it ended.
    pub(crate) finished_at: Option<String>,
    /// What went wrong last, also while it is tried again.
    pub(crate) error: Option<String>,
    /// What the task answered.
    #[schema(value_type = Option<Value>)]
    pub(crate) result: Option<Value>,
}

impl TryFrom<Job> for JobAnswer {
    type Error = ApiError;

    fn try_from(job: Job) -> Result<Self, ApiError> {
        let next_runs = next_runs(&job)?;
        let (misfire, catch_up_max) = match job.spec.misfire {
            Misfire::Skip => (MisfireName::Skip, None),
            Misfire::Once => (MisfireName::Once, None),
            Misfire::All(most) => (MisfireName::All, Some(most)),
        };
        let timeout_seconds =
            u32::try_from(job.spec.timeout_ms / 1_000).map_err(ApiError::internal)?;
        Ok(Self {
            name: job.spec.name,
            spec: JobRequest {
                kind: job.spec.kind,
                settings: job.spec.settings,
                schedule: job.spec.schedule,
                zone: job.spec.zone,
                misfire,
                catch_up_max,
                timeout_seconds,
                retries: job.spec.retries,
                paused: job.spec.paused,
            },
            next_runs,
            missed_ticks: job.missed,
            error: job.error,
            created_at: rfc3339_millis(job.created_at)?,
            updated_at: rfc3339_millis(job.updated_at)?,
            deleted_at: job.deleted_at.map(rfc3339_millis).transpose()?,
        })
    }
}

fn next_runs(job: &Job) -> Result<Vec<Tick>, ApiError> {
    let Some(next_at) = job.next_at else { return Ok(Vec::new()) };
    // A zone that has vanished from this machine: the scheduler will say so of the job.
    let Ok(schedule) = Schedule::parse(&job.spec.schedule, &job.spec.zone) else {
        return Ok(Vec::new());
    };
    let further = schedule.upcoming(next_at, NEXT_RUNS - 1).map_err(ApiError::internal)?;
    let tick = |at| {
        let local = schedule.local(at).map_err(ApiError::internal)?;
        Ok(Tick { scheduled_at: rfc3339_millis(at)?, local })
    };
    std::iter::once(next_at).chain(further).map(tick).collect()
}

impl TryFrom<Run> for RunAnswer {
    type Error = ApiError;

    fn try_from(run: Run) -> Result<Self, ApiError> {
        let time = |at: Option<i64>| at.map(rfc3339_millis).transpose();
        let due = |state| run.due_at.filter(|_| run.state == state);
        Ok(Self {
            scheduled_at: rfc3339_millis(run.scheduled_at)?,
            state: match run.state {
                RunState::Queued => StateName::Queued,
                RunState::Running => StateName::Running,
                RunState::Done => StateName::Done,
                RunState::Failed => StateName::Failed,
            },
            not_before: time(due(RunState::Queued))?,
            lease_until: time(due(RunState::Running))?,
            heartbeat_at: time(run.heartbeat_at)?,
            created_at: rfc3339_millis(run.created_at)?,
            started_at: time(run.started_at)?,
            finished_at: time(run.finished_at)?,
            id: run.id,
            job: run.job,
            trigger: run.cause,
            attempt: run.attempt,
            progress: run.progress,
            error: run.error,
            result: run.result,
        })
    }
}
