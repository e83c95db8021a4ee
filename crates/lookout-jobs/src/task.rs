//! What a job runs: a task of a kind, with settings, told what it needs to do its part once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lookout_store::{ClaimedRun, JobKinds};
use lookout_types::UnixMillis;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

/// A kind of work. Outside of the store its effects happen at least once: a worker that dies is
/// replaced, and the next one begins again. [`TaskContext::key`] lets receivers drop the repeat.
#[async_trait]
pub trait Task: Send + Sync {
    /// Its name, by which jobs ask for it.
    fn kind(&self) -> &'static str;

    /// Checks the settings of a job before it is saved.
    ///
    /// # Errors
    /// A sentence that names the setting, what is wrong with it and what is expected.
    fn check(&self, settings: &Map<String, Value>) -> Result<(), String>;

    /// Does the work. The value is kept with the run, up to 64 KiB of JSON.
    ///
    /// # Errors
    /// [`TaskError`] says whether trying again can help.
    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError>;
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It may go well later.
    #[error("{0}")]
    Retry(String),
    /// It will fail again.
    #[error("{0}")]
    Fail(String),
}

/// What a task is told.
#[derive(Debug)]
pub struct TaskContext {
    /// Whose job it is: the task touches no other tenant's things.
    pub tenant: String,
    /// The job's name.
    pub job: String,
    /// The tick it runs for, in milliseconds since 1970 UTC.
    pub scheduled_at: UnixMillis,
    /// How often this tick was taken up, from 1.
    pub attempt: i64,
    /// The job's settings.
    pub settings: Map<String, Value>,
    /// Cancelled when the task is to stop soon: the process ends, or another worker has the run.
    pub stop: CancellationToken,
    key: String,
    progress: Arc<Progress>,
}

impl TaskContext {
    pub(crate) fn new(run: &ClaimedRun, stop: CancellationToken) -> Self {
        Self {
            tenant: run.tenant.clone(),
            job: run.job.clone(),
            scheduled_at: run.scheduled_at,
            attempt: run.attempt,
            settings: run.settings.clone(),
            stop,
            key: format!("{}/{}:{}", run.tenant, run.job, run.scheduled_at),
            progress: Arc::default(),
        }
    }

    /// The same for every attempt at this tick and for no other: `tenant/job:scheduledAt`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Tells how far it is. The newest is kept with the next heartbeat.
    pub fn report(&self, progress: Value) {
        *self.progress.lock() = Some(progress);
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

/// What was reported and is not yet kept.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Value>>);

impl Progress {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Value>> {
        // Nothing can panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Option<Value> {
        self.lock().take()
    }
}

/// The tasks that this instance can run.
#[derive(Clone, Default)]
pub struct Tasks(HashMap<&'static str, Arc<dyn Task>>);

impl Tasks {
    /// Of several tasks of one kind the last counts.
    pub fn new(tasks: impl IntoIterator<Item = Arc<dyn Task>>) -> Self {
        Self(tasks.into_iter().map(|task| (task.kind(), task)).collect())
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Arc<dyn Task>> {
        self.0.get(kind)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tasks").field(&self.names()).finish()
    }
}

impl JobKinds for Tasks {
    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.keys().copied().collect();
        names.sort_unstable();
        names
    }

    fn check(&self, kind: &str, settings: &Map<String, Value>) -> Option<Result<(), String>> {
        self.get(kind).map(|task| task.check(settings))
    }
}
