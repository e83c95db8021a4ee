//! One attempt at a run: the task, its heartbeat, its deadline, and what came of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lookout_store::{ClaimedRun, Ended, Store};
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::meters;
use crate::task::{Progress, Task, TaskContext, TaskError};

/// How long a run stays its worker's without a heartbeat, in milliseconds: longer than a restart
/// of the database, short enough for a job to go on soon after its machine is gone.
pub const LEASE_MS: i64 = 30_000;
const LEASE: Duration = Duration::from_millis(LEASE_MS.unsigned_abs());
/// Two heartbeats may be lost before the lease is.
const HEARTBEAT: Duration = Duration::from_millis(LEASE_MS.unsigned_abs() / 3);
/// How long a task may go on after it is told to stop, before its run is given back.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(3);
/// How often the end of a run is written down when the store fails, and the pause in between. After
/// that the lease ends by itself and the run is taken up again.
const END_TRIES: u32 = 5;
const END_PAUSE: Duration = Duration::from_secs(1);

/// Works on a run to its end, whatever that is.
pub(crate) async fn work(
    store: Store,
    task: Arc<dyn Task>,
    run: ClaimedRun,
    stop: CancellationToken,
) {
    let started = Instant::now();
    if run.attempt == 1 && run.cause == "cron" {
        let late = run.started_at.saturating_sub(run.scheduled_at);
        meters::started(task.kind(), Duration::from_millis(u64::try_from(late).unwrap_or(0)));
    }
    let outcome = match attempt(&store, task.as_ref(), &run, &stop).await {
        Some(ended) => end(&store, &run, ended).await,
        None => "lost",
    };
    meters::ended(task.kind(), outcome, started.elapsed());
    let (job, tenant, attempt) = (run.job, run.tenant, run.attempt);
    let duration_ms = started.elapsed().as_millis();
    tracing::info!(tenant, job, attempt, outcome, duration_ms, "run of a job ended");
}

/// Runs the task; `None` when the run is no longer this worker's.
async fn attempt(
    store: &Store,
    task: &dyn Task,
    run: &ClaimedRun,
    stop: &CancellationToken,
) -> Option<Ended> {
    let own_stop = stop.child_token();
    let _cancel_what_the_task_started = own_stop.clone().drop_guard();
    let context = TaskContext::new(run, own_stop);
    let progress = context.progress();
    let mut task = std::pin::pin!(AssertUnwindSafe(task.run(&context)).catch_unwind());
    // Beside the task, never in its place: it may hold the connection that a heartbeat needs.
    let mut lost = std::pin::pin!(keep_lease(store, run, &progress));
    let timeout = Duration::from_millis(u64::try_from(run.timeout_ms).unwrap_or(0));
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let mut grace_over = std::pin::pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    });
    tokio::select! {
        result = &mut task => Some(judge(result, stop.is_cancelled())),
        () = &mut lost => None,
        () = &mut deadline => {
            Some(Ended::Retry(format!("took longer than {} s", timeout.as_secs())))
        }
        () = &mut grace_over => Some(Ended::Released),
    }
}

/// Prolongs the lease until it is lost.
async fn keep_lease(store: &Store, run: &ClaimedRun, progress: &Progress) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, when the lease is as fresh as it can be.
    beats.tick().await;
    let mut kept_at = Instant::now();
    loop {
        beats.tick().await;
        let asked_at = Instant::now();
        match store.heartbeat_run(run, LEASE_MS, progress.take().as_ref()).await {
            Ok(true) => kept_at = asked_at,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(job = run.job, %error, "cannot prolong the lease of a run");
                if kept_at.elapsed() >= LEASE {
                    return;
                }
            }
        }
    }
}

fn judge(result: Result<Result<Value, TaskError>, Box<dyn Any + Send>>, stopping: bool) -> Ended {
    match result {
        Ok(Ok(value)) => Ended::Done(value),
        // Told to stop it may well have failed: someone else shall try.
        Ok(Err(_)) if stopping => Ended::Released,
        Ok(Err(TaskError::Retry(reason))) => Ended::Retry(reason),
        Ok(Err(TaskError::Fail(reason))) => Ended::Failed(reason),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Ended::Retry(format!("the task panicked: {}", text.unwrap_or("without a text")))
        }
    }
}

/// Writes down how it ended; the word for it.
async fn end(store: &Store, run: &ClaimedRun, ended: Ended) -> &'static str {
    let word = match &ended {
        Ended::Done(_) => "done",
        Ended::Failed(_) => "failed",
        Ended::Retry(_) => "retry",
        Ended::Released => "released",
    };
    if let Ended::Failed(reason) | Ended::Retry(reason) = &ended {
        tracing::warn!(
            tenant = run.tenant,
            job = run.job,
            attempt = run.attempt,
            reason,
            "a run failed"
        );
    }
    for _ in 0..END_TRIES {
        match store.end_run(run, ended.clone()).await {
            Ok(true) => return word,
            Ok(false) => return "lost",
            Err(error) => {
                tracing::warn!(job = run.job, %error, "cannot write down the end of a run");
                tokio::time::sleep(END_PAUSE).await;
            }
        }
    }
    "lost"
}
