//! Workers and the built-in task, one at a time.

use std::sync::Arc;

use async_trait::async_trait;
use lookout_store::{
    Actor, ClaimedRun, JobKinds, JobSpec, Misfire, Page, Run, RunState, Store, StoreUrl,
};
use lookout_types::FixedClock;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    LEASE_MS, Purge, Scheduler, SchedulerParts, Task, TaskContext, TaskError, Tasks, worker,
};

const NOW: i64 = 1_760_000_000_000;
const HOUR: i64 = 3_600_000;

async fn store() -> (Store, Arc<FixedClock>) {
    let clock = Arc::new(FixedClock::at(NOW));
    let store = Store::open(&StoreUrl::SqliteMemory, clock.clone()).await.unwrap();
    store.migrate().await.unwrap();
    (store, clock)
}

fn spec(kind: &str) -> JobSpec {
    JobSpec {
        name: "x".into(),
        kind: kind.into(),
        settings: Map::new(),
        schedule: "@hourly".into(),
        zone: "UTC".into(),
        misfire: Misfire::Once,
        timeout_ms: 60_000,
        retries: 1,
        paused: false,
    }
}

/// What a task does in a test.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answer,
    Fail,
    Panic,
    UntilStopped,
    Forever,
}

#[async_trait]
impl Task for Does {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), String> {
        if settings.is_empty() { Ok(()) } else { Err("no settings are known".to_owned()) }
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        match self {
            Self::Answer => Ok(json!({ "key": context.key(), "attempt": context.attempt })),
            Self::Fail => Err(TaskError::Fail("never".into())),
            Self::Panic => panic!("at the disco"),
            Self::UntilStopped => {
                context.stop.cancelled().await;
                Err(TaskError::Fail("stopped".into()))
            }
            Self::Forever => std::future::pending().await,
        }
    }
}

/// A run that has just been taken up.
async fn claimed(store: &Store) -> ClaimedRun {
    store.create_job("acme", spec("test"), &Actor::Cli).await.unwrap();
    store.trigger_run("acme", "x", None, &Actor::Cli).await.unwrap();
    store.claim_run("test", LEASE_MS).await.unwrap().unwrap()
}

async fn only_run(store: &Store) -> Run {
    let mut runs = store.list_runs("acme", "x", None, &Page::default()).await.unwrap();
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

#[track_caller]
fn check(run: &Run, state: RunState, error: Option<&str>) {
    assert_eq!((run.state, run.error.as_deref()), (state, error));
}

#[tokio::test]
async fn a_run_ends_as_its_task_says() {
    for (does, state, error) in [
        (Does::Answer, RunState::Done, None),
        (Does::Fail, RunState::Failed, Some("never")),
        (Does::Panic, RunState::Queued, Some("the task panicked: at the disco")),
    ] {
        let (store, _) = store().await;
        let run = claimed(&store).await;
        worker::work(store.clone(), Arc::new(does), run, CancellationToken::new()).await;
        let run = only_run(&store).await;
        check(&run, state, error);
        if state == RunState::Done {
            let key = format!("acme/x:{NOW}");
            assert_eq!(run.result, Some(json!({ "key": key, "attempt": 1 })));
        }
    }
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_retried() {
    let (store, _) = store().await;
    let mut run = claimed(&store).await;
    run.timeout_ms = 1;
    worker::work(store.clone(), Arc::new(Does::Forever), run, CancellationToken::new()).await;
    check(&only_run(&store).await, RunState::Queued, Some("took longer than 0 s"));
}

#[tokio::test]
async fn at_the_end_runs_are_given_back_without_a_failure() {
    for does in [Does::UntilStopped, Does::Forever] {
        let (store, _) = store().await;
        let run = claimed(&store).await;
        let stop = CancellationToken::new();
        stop.cancel();
        worker::work(store.clone(), Arc::new(does), run, stop).await;
        check(&only_run(&store).await, RunState::Queued, None);
        // At once, by anyone.
        assert_eq!(store.claim_run("test", LEASE_MS).await.unwrap().unwrap().attempt, 2);
    }
}

#[tokio::test]
async fn a_worker_that_was_replaced_leaves_no_trace() {
    let (store, clock) = store().await;
    let run = claimed(&store).await;
    clock.advance(LEASE_MS);
    store.claim_run("test", LEASE_MS).await.unwrap().unwrap();
    worker::work(store.clone(), Arc::new(Does::Fail), run, CancellationToken::new()).await;
    check(&only_run(&store).await, RunState::Running, None);
}

#[test]
fn tasks_know_their_kinds_and_settings() {
    let test: Arc<dyn Task> = Arc::new(Does::Answer);
    let tasks = Tasks::new([test]);
    assert_eq!(tasks.names(), ["test"]);
    let settings = Map::from_iter([("a".to_owned(), json!(1))]);
    assert_eq!(tasks.check("test", &Map::new()), Some(Ok(())));
    assert_eq!(tasks.check("test", &settings), Some(Err("no settings are known".to_owned())));
    assert_eq!(tasks.check("tst", &Map::new()), None);
    assert_eq!(format!("{tasks:?}"), r#"Tasks(["test"])"#);
}

#[tokio::test]
async fn the_default_purge_runs_by_itself_and_leaves_other_kinds_alone() {
    let (store, clock) = store().await;
    store.ensure_default_jobs("acme", std::iter::empty(), &Actor::Cli).await.unwrap();
    store.create_job("acme", spec("unknown here"), &Actor::Cli).await.unwrap();
    for name in ["gone", "kept"] {
        let spec = JobSpec { name: name.into(), ..spec("test") };
        store.create_job("acme", spec, &Actor::Cli).await.unwrap();
    }
    store.delete_job("acme", "gone", &Actor::Cli).await.unwrap();
    let purge: Arc<dyn Task> = Arc::new(Purge::new(store.clone()));
    let (tasks, stop) = (Arc::new(Tasks::new([purge])), CancellationToken::new());
    let parts = SchedulerParts { store: store.clone(), tasks, stop: stop.clone() };
    let scheduler = tokio::spawn(Scheduler::new(parts).run());
    let mut changed = store.signals().jobs.listen();
    clock.advance(31 * 24 * HOUR);
    store.signals().jobs.raise();
    let run = loop {
        changed.changed().await.unwrap();
        let runs = store.list_runs("acme", "purge", None, &Page::default()).await.unwrap();
        if let [run] = runs.as_slice()
            && run.state == RunState::Done
        {
            break run.clone();
        }
    };
    stop.cancel();
    scheduler.await.unwrap();
    assert_eq!(run.result, Some(json!({ "removed": 1, "tables": { "jobs": 1 } })));
    assert_eq!(store.list_jobs("acme", true, &Page::default()).await.unwrap(), []);
    assert_eq!(store.list_jobs("acme", false, &Page::default()).await.unwrap().len(), 3);
    check(&only_run(&store).await, RunState::Queued, None);
}

#[tokio::test]
async fn settings_of_purge_are_checked() {
    let purge = Purge::new(store().await.0);
    let check = |settings: Value| purge.check(settings.as_object().unwrap());
    for right in [
        json!({}),
        json!({ "olderThan": "30d" }),
        json!({ "olderThan": "0s", "runsOlderThan": "2w", "deliveriesOlderThan": "36h" }),
        json!({ "alertsOlderThan": "P90D" }),
    ] {
        assert_eq!(check(right.clone()), Ok(()), "{right}");
    }
    let such = "is a time such as \"30d\" or \"36h\"";
    for (wrong, reason) in [
        (json!({ "olderthan": "30d" }), "no setting `olderthan`; there are: `olderThan`"),
        (json!({ "olderThan": 30 }), such),
        (json!({ "olderThan": "soon" }), such),
        (json!({ "olderThan": "1mo" }), such),
        (json!({ "olderThan": "9".repeat(100_000) }), such),
        (json!({ "olderThan": "-1d" }), "`olderThan` is from 0d to 3660d, not -1d"),
        (json!({ "olderThan": "4000d" }), "from 0d to 3660d"),
        (json!({ "runsOlderThan": "7d" }), "`runsOlderThan` is from 8d to 3660d, not 7d"),
        (json!({ "deliveriesOlderThan": "23h" }), "from 1d"),
        (json!({ "alertsOlderThan": "6d" }), "from 7d"),
    ] {
        let error = check(wrong.clone()).unwrap_err();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}
