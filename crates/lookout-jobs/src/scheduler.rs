//! One instance of the scheduler: inserts due runs, takes runs up, keeps workers at them.
//!
//! Instances know nothing of each other; the store decides who gets what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lookout_store::{JobKinds, Store, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::meters;
use crate::task::Tasks;
use crate::worker::{self, LEASE_MS, STOP_GRACE};

/// Runs of one instance at once: they share the store and the upstreams with everything else.
const RUNS_AT_ONCE_MAX: usize = 4;
/// Longest sleep: changes made by other instances are seen by looking.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Shortest sleep, while what is due is in another instance's hands.
const SLEEP_MIN: Duration = Duration::from_millis(20);
/// Between two looks whether jobs are planned further ahead than they can be.
const PULL_BACK_EVERY: Duration = Duration::from_secs(3600);
/// How long the end waits for workers beyond their own grace, to write down how far they came.
const END_MARGIN: Duration = Duration::from_secs(2);

/// What a scheduler is made of.
#[derive(Debug)]
pub struct SchedulerParts {
    /// Where jobs and runs are.
    pub store: Store,
    /// What it can run; runs of other kinds are left to other instances.
    pub tasks: Arc<Tasks>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// A scheduler; any number of them may share a store.
#[derive(Debug)]
pub struct Scheduler {
    parts: SchedulerParts,
    kinds: Vec<&'static str>,
    pulled_back_at: Option<Instant>,
}

impl Scheduler {
    /// Puts the parts together; nothing runs yet.
    pub fn new(parts: SchedulerParts) -> Self {
        meters::describe();
        let kinds = parts.tasks.names();
        Self { parts, kinds, pulled_back_at: None }
    }

    /// Runs until told to stop, then gives workers a few seconds to end or to give their runs back.
    pub async fn run(mut self) {
        let mut workers = JoinSet::new();
        let stop = self.parts.stop.clone();
        let mut warned = false;
        while !stop.is_cancelled() {
            // Before looking, so that what comes in between is not slept through.
            let mut changed = self.parts.store.signals().jobs.listen();
            let pause = match self.step(&mut workers).await {
                Ok(pause) => {
                    warned = false;
                    pause
                }
                Err(error) => {
                    if !warned {
                        tracing::warn!(%error, "cannot look for due jobs; trying on");
                    }
                    warned = true;
                    SLEEP_MAX
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                // The sender lives in the store, so that this never fails.
                _ = changed.changed() => {}
                Some(_) = workers.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE + END_MARGIN, all).await.is_err() {
            tracing::warn!("runs of jobs were cut off; their leases end by themselves");
        }
        workers.shutdown().await;
    }

    /// Does what is due; how long there will be nothing to do.
    async fn step(&mut self, workers: &mut JoinSet<()>) -> Result<Duration, StoreError> {
        while workers.try_join_next().is_some() {}
        let store = &self.parts.store;
        if self.pulled_back_at.is_none_or(|at| at.elapsed() >= PULL_BACK_EVERY) {
            let pulled = store.pull_back_jobs().await?;
            if pulled > 0 {
                tracing::warn!(
                    pulled,
                    "jobs were planned by a clock that was wrong; planned again"
                );
            }
            self.pulled_back_at = Some(Instant::now());
        }
        loop {
            let due = store.insert_due_runs().await?;
            if due.missed > 0 {
                meters::missed(due.missed);
                tracing::warn!(ticks = due.missed, "ticks of jobs were missed");
            }
            if !due.more {
                break;
            }
        }
        // Another kind is first each time, lest one keep all workers.
        if !self.kinds.is_empty() {
            self.kinds.rotate_left(1);
        }
        for kind in &self.kinds {
            let Some(task) = self.parts.tasks.get(kind) else { continue };
            while workers.len() < RUNS_AT_ONCE_MAX
                && let Some(run) = store.claim_run(kind, LEASE_MS).await?
            {
                let (store, task) = (store.clone(), Arc::clone(task));
                workers.spawn(worker::work(store, task, run, self.parts.stop.clone()));
            }
        }
        let pause = store.until_next_due().await?.map_or(SLEEP_MAX, Duration::from_millis);
        Ok(pause.clamp(SLEEP_MIN, SLEEP_MAX))
    }
}
