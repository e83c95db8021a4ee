//! `/v1/jobs`: what runs when, and what became of it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use lookout_store::{Actor, JobSpec, Misfire, Run, RunState, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::auth::Caller;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::problem::Problem;
use crate::state::{Shared, State as Parts};

mod shapes;

use shapes::{
    JobAnswer, JobPath, JobRequest, JobsQuery, MisfireName, NewJob, RunAnswer, RunPath, RunsQuery,
    StateName, TriggerRequest,
};

/// How many missed ticks are run when the owner does not say.
const CATCH_UP_DEFAULT: u32 = 10;

/// Jobs
///
/// Your jobs, by name, or the deleted ones. Needs scope `jobs:read`.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(JobsQuery),
    responses((status = 200, description = "The jobs", body = Items<JobAnswer>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<JobsQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsRead)?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let deleted = query.deleted.unwrap_or(false);
    let jobs = state.store.list_jobs(caller.tenant(), deleted, &page).await?;
    let items = jobs.into_iter().map(JobAnswer::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |job: &JobAnswer| &job.name))
}

/// Make a job
///
/// It is first due at its next tick. Each tick gets exactly one run, whatever the number of
/// instances; the runs of one job go one at a time. Effects outside of Lookout happen at least
/// once, under a key that is the same for every attempt at a tick. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", operation_id = "createJob",
    request_body(content = NewJob, content_type = "application/json"),
    responses(
        (status = 201, description = "The job, with its next ticks", body = JobAnswer),
        (status = 409, description = "The name is taken, also by a deleted job; or you have as \
            many jobs as you can; or the `Idempotency-Key` is in use",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let mut wanted: Map<String, Value> = read(&state, request, "job").await?;
    let Some(Value::String(name)) = wanted.remove("name") else {
        return Err(at("name", "`name` is missing, or no text".to_owned()));
    };
    let spec = checked(&state, name, parse(Value::Object(wanted))?)?;
    let job = state.store.create_job(caller.tenant(), spec, &caller.actor()).await?;
    let location = format!("/v1/jobs/{}", job.spec.name);
    answer(StatusCode::CREATED, &JobAnswer::try_from(job)?, &location)
}

/// A job
///
/// With its next ticks. Needs scope `jobs:read`.
#[utoipa::path(
    get, path = "/v1/jobs/{name}", tag = "jobs", operation_id = "getJob",
    params(JobPath),
    responses((status = 200, description = "The job", body = JobAnswer))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsRead)?;
    let job = state.store.get_job(caller.tenant(), &path.name).await?;
    body::json_of(&JobAnswer::try_from(job)?)
}

/// Change a job
///
/// Replaces all of it but its name; what is left out takes its default. Its next tick stays while
/// its schedule does. Needs scope `jobs:write`.
#[utoipa::path(
    put, path = "/v1/jobs/{name}", tag = "jobs", operation_id = "replaceJob",
    params(JobPath),
    request_body(content = JobRequest, content_type = "application/json"),
    responses((status = 200, description = "The job as it is now", body = JobAnswer))
)]
pub(crate) async fn replace(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    // A name that cannot be one is not there, rather than wrong.
    state.store.get_job(caller.tenant(), &path.name).await?;
    let wanted: Map<String, Value> = read(&state, request, "job").await?;
    let spec = checked(&state, path.name, parse(Value::Object(wanted))?)?;
    let job = state.store.replace_job(caller.tenant(), spec, &caller.actor()).await?;
    body::json_of(&JobAnswer::try_from(job)?)
}

/// Delete a job
///
/// Until it is restored, or purged after a while. Runs that wait are failed; one under way ends.
/// Needs scope `jobs:write`.
#[utoipa::path(
    delete, path = "/v1/jobs/{name}", tag = "jobs", operation_id = "deleteJob",
    params(JobPath),
    responses((status = 204, description = "It is deleted"))
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    state.store.delete_job(caller.tenant(), &path.name, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Restore a job
///
/// Brings a deleted job back, scheduled from now on. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/restore", tag = "jobs", operation_id = "restoreJob",
    params(JobPath),
    responses((status = 200, description = "The job", body = JobAnswer))
)]
pub(crate) async fn restore(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let job = state.store.restore_job(caller.tenant(), &path.name, &caller.actor()).await?;
    body::json_of(&JobAnswer::try_from(job)?)
}

/// Pause a job
///
/// Its ticks pass without a run; it can still be triggered. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/pause", tag = "jobs", operation_id = "pauseJob",
    params(JobPath),
    responses((status = 200, description = "The job", body = JobAnswer))
)]
pub(crate) async fn pause(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let job = state.store.pause_job(caller.tenant(), &path.name, &caller.actor()).await?;
    body::json_of(&JobAnswer::try_from(job)?)
}

/// Resume a job
///
/// It is scheduled again, from now on. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/resume", tag = "jobs", operation_id = "resumeJob",
    params(JobPath),
    responses((status = 200, description = "The job", body = JobAnswer))
)]
pub(crate) async fn resume(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let job = state.store.resume_job(caller.tenant(), &path.name, &caller.actor()).await?;
    body::json_of(&JobAnswer::try_from(job)?)
}

/// The runs of a job
///
/// Newest first. Needs scope `jobs:read`.
#[utoipa::path(
    get, path = "/v1/jobs/{name}/runs", tag = "jobs", operation_id = "listRuns",
    params(JobPath, RunsQuery),
    responses((status = 200, description = "The runs", body = Items<RunAnswer>))
)]
pub(crate) async fn runs(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<RunsQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsRead)?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.page()?;
    let of = query.state.map(|name| match name {
        StateName::Queued => RunState::Queued,
        StateName::Running => RunState::Running,
        StateName::Done => RunState::Done,
        StateName::Failed => RunState::Failed,
    });
    let runs = state.store.list_runs(caller.tenant(), &path.name, of, &page).await?;
    let items = runs.into_iter().map(RunAnswer::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |run: &RunAnswer| &run.id))
}

/// Run a job
///
/// For a tick, or for now: for schedulers outside, such as `EventBridge` or cron. A tick has one run,
/// so that one triggered from outside and from inside, or twice, is run once; the answer is that
/// run, wherever it is. The body may be left out. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/runs", tag = "jobs", operation_id = "triggerRun",
    params(JobPath),
    request_body(content = Option<TriggerRequest>, content_type = "application/json"),
    responses(
        (status = 202, description = "The run of the tick", body = RunAnswer),
        (status = 409, description = "Too many runs of the job wait; or the `Idempotency-Key` is \
            in use", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trigger(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<JobPath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let wanted: Option<TriggerRequest> = read(&state, request, "trigger").await?;
    let scheduled_at = wanted.and_then(|wanted| wanted.scheduled_at);
    let scheduled_at = scheduled_at.map(|text| tick(&text)).transpose()?;
    let run = triggered(&state, &caller, &path.name, scheduled_at, &caller.actor()).await?;
    let location = format!("/v1/jobs/{}/runs/{}", run.job, run.id);
    answer(StatusCode::ACCEPTED, &RunAnswer::try_from(run)?, &location)
}

/// A run
///
/// Needs scope `jobs:read`.
#[utoipa::path(
    get, path = "/v1/jobs/{name}/runs/{id}", tag = "jobs", operation_id = "getRun",
    params(RunPath),
    responses((status = 200, description = "The run", body = RunAnswer))
)]
pub(crate) async fn run(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RunPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsRead)?;
    let run = state.store.get_run(caller.tenant(), &path.name, &path.id).await?;
    body::json_of(&RunAnswer::try_from(run)?)
}

/// Retry a run
///
/// Has a failed run tried once more, with all its retries. Needs scope `jobs:write`.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/runs/{id}/retry", tag = "jobs", operation_id = "retryRun",
    params(RunPath),
    responses(
        (status = 202, description = "The run, queued again", body = RunAnswer),
        (status = 409, description = "The run has not failed; or the `Idempotency-Key` is in use",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn retry(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RunPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::JobsWrite)?;
    let store = &state.store;
    let run = store.retry_run(caller.tenant(), &path.name, &path.id, &caller.actor()).await?;
    let location = format!("/v1/jobs/{}/runs/{}", run.job, run.id);
    answer(StatusCode::ACCEPTED, &RunAnswer::try_from(run)?, &location)
}

/// The body as JSON; an empty one is `null`.
async fn read<T: DeserializeOwned>(
    state: &Parts,
    request: Request,
    what: &str,
) -> Result<T, ApiError> {
    let body = body::read(request.into_body(), state.live().config.body_bytes_max).await?;
    let text: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(text).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        ApiError::new(code, format!("the body is no {what}: {error}"))
    })
}

fn parse(wanted: Value) -> Result<JobRequest, ApiError> {
    serde_json::from_value(wanted)
        .map_err(|error| ApiError::new(Code::InvalidBody, format!("the body is no job: {error}")))
}

/// A problem with a member of the body, which `pointer` (RFC 6901) names.
fn at(field: &str, detail: String) -> ApiError {
    let mut error = ApiError::new(Code::InvalidBody, detail);
    error.members.insert("pointer".to_owned(), format!("/{field}").into());
    error
}

fn checked(state: &Parts, name: String, wanted: JobRequest) -> Result<JobSpec, ApiError> {
    let misfire = match (wanted.misfire, wanted.catch_up_max) {
        (MisfireName::All, most) => Misfire::All(most.unwrap_or(CATCH_UP_DEFAULT)),
        (_, Some(_)) => {
            let detail = "`catchUpMax` goes with `\"misfire\": \"all\"` only";
            return Err(at("catchUpMax", detail.to_owned()));
        }
        (MisfireName::Skip, None) => Misfire::Skip,
        (MisfireName::Once, None) => Misfire::Once,
    };
    let spec = JobSpec {
        name,
        kind: wanted.kind,
        settings: wanted.settings,
        schedule: wanted.schedule,
        zone: wanted.zone,
        misfire,
        timeout_ms: i64::from(wanted.timeout_seconds) * 1_000,
        retries: wanted.retries,
        paused: wanted.paused,
    };
    match spec.check(state.job_kinds.as_ref(), state.clock.now()) {
        Ok(_) => Ok(spec),
        Err(error) => Err(at(error.field, error.to_string())),
    }
}

/// A tick, in milliseconds since 1970.
fn tick(text: &str) -> Result<i64, ApiError> {
    let whole = |time: &Timestamp| time.subsec_nanosecond() % 1_000_000 == 0;
    let time = text.parse::<Timestamp>().ok().filter(whole).ok_or_else(|| {
        let detail = "`scheduledAt` is a time such as 2026-03-29T01:00:00Z (RFC 3339), to the \
                      millisecond at most";
        at("scheduledAt", detail.to_owned())
    })?;
    Ok(time.as_millisecond())
}

async fn triggered(
    state: &Parts,
    caller: &Caller,
    name: &str,
    scheduled_at: Option<i64>,
    actor: &Actor,
) -> Result<Run, ApiError> {
    let result = state.store.trigger_run(caller.tenant(), name, scheduled_at, actor).await;
    match result.map_err(ApiError::from) {
        Ok(triggered) => Ok(triggered.run),
        Err(error) if error.code == Code::InvalidRequest => {
            Err(at("scheduledAt", error.detail.into_owned()))
        }
        Err(error) => Err(error),
    }
}

/// A JSON answer that says where the thing is.
fn answer(
    status: StatusCode,
    value: &impl Serialize,
    location: &str,
) -> Result<Response, ApiError> {
    let mut response = body::json_of(value)?;
    *response.status_mut() = status;
    let location = HeaderValue::from_str(location).map_err(ApiError::internal)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

#[cfg(test)]
mod tests;
