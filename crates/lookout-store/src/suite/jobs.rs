//! Jobs: what their owners may make of them.

use serde_json::{Map, Value, json};
use sqlx::Executor;

use super::shared_time::{advance, on_shared_clock as store};
use super::{NOW, Rig};
use crate::{Actor, Due, Job, JobKinds, JobSpec, Misfire, Page, Store, StoreError};

macro_rules! on_all {
    ($($case:ident),* $(,)?) => {
        suite!(memory, crate::suite::on_memory, [$($case),*]);
        suite!(file, crate::suite::on_file, [$($case),*]);
        suite!(postgres, crate::suite::on_postgres, [$($case),*]);
    };
}

mod runs;

on_all!(
    definitions_live_and_end,
    definitions_are_checked,
    tenants_see_their_own,
    a_changed_schedule_starts_anew,
    a_broken_schedule_stops_alone,
    default_jobs_are_made_once,
);

const MINUTE: i64 = 60_000;

/// NOW is 08:53:20; the first full hour after it.
const NINE: i64 = NOW + 6 * MINUTE + 40_000;

fn spec(name: &str) -> JobSpec {
    JobSpec {
        name: name.into(),
        kind: "count".into(),
        settings: Map::from_iter([("step".into(), json!(2))]),
        schedule: "0 * * * *".into(),
        zone: "Europe/Berlin".into(),
        misfire: Misfire::All(3),
        timeout_ms: 10_000,
        retries: 2,
        paused: false,
    }
}

async fn make(store: &Store, name: &str) -> Job {
    store.create_job("acme", spec(name), &Actor::Cli).await.unwrap()
}

async fn definitions_live_and_end(rig: &Rig) {
    let store = store(rig).await;
    let job = make(&store, "hourly").await;
    assert_eq!((job.next_at, job.missed, job.created_at), (Some(NINE), 0, NOW));
    assert_eq!(store.get_job("acme", "hourly").await.unwrap(), job);
    let error = store.create_job("acme", spec("hourly"), &Actor::Cli).await.unwrap_err();
    assert_eq!(error.to_string(), "there is a job `hourly` already");

    let paused = store.pause_job("acme", "hourly", &Actor::Cli).await.unwrap();
    assert!(paused.spec.paused && paused.next_at.is_none());
    advance(rig, &store, 60 * MINUTE).await;
    assert_eq!(store.insert_due_runs().await.unwrap(), Due::default());
    // From now on, without the ticks that have passed.
    let resumed = store.resume_job("acme", "hourly", &Actor::Cli).await.unwrap();
    assert_eq!((resumed.next_at, resumed.missed), (Some(NINE + 60 * MINUTE), 0));
    assert_eq!(store.resume_job("acme", "hourly", &Actor::Cli).await.unwrap(), resumed);

    let deleted = store.delete_job("acme", "hourly", &Actor::Cli).await.unwrap();
    assert_eq!((deleted.next_at, deleted.deleted_at), (None, Some(NOW + 60 * MINUTE)));
    store.get_job("acme", "hourly").await.unwrap_err();
    store.pause_job("acme", "hourly", &Actor::Cli).await.unwrap_err();
    store.delete_job("acme", "hourly", &Actor::Cli).await.unwrap_err();
    assert_eq!(store.list_jobs("acme", false, &Page::default()).await.unwrap(), []);
    assert_eq!(store.list_jobs("acme", true, &Page::default()).await.unwrap(), [deleted]);
    let error = store.create_job("acme", spec("hourly"), &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().contains("restore it"), "{error}");
    let back = store.restore_job("acme", "hourly", &Actor::Cli).await.unwrap();
    assert_eq!((back.next_at, back.deleted_at), (Some(NINE + 60 * MINUTE), None));

    let log = store.audit_log("acme", &Page::default()).await.unwrap();
    let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["job.restore", "job.delete", "job.resume", "job.pause", "job.create"]);
    assert_eq!(log[4].detail["zone"], "Europe/Berlin");
}

#[derive(Debug)]
struct Kinds;

impl JobKinds for Kinds {
    fn names(&self) -> Vec<&'static str> {
        vec!["count", "sum"]
    }

    fn check(&self, kind: &str, settings: &Map<String, Value>) -> Option<Result<(), String>> {
        let right = settings.keys().all(|name| name == "step");
        let known = self.names().contains(&kind);
        known.then(|| if right { Ok(()) } else { Err("only `step` is known".to_owned()) })
    }
}

async fn definitions_are_checked(rig: &Rig) {
    let store = store(rig).await;
    type Wrong = (fn(&mut JobSpec), &'static str, &'static str);
    let wrong: [Wrong; 14] = [
        (|s| s.name = String::new(), "name", "is no name of a job"),
        (|s| s.name = "A".into(), "name", "is no name of a job"),
        (|s| s.name = "x".repeat(64), "name", "1 to 63"),
        (|s| s.kind = "cout".into(), "kind", "no kind `cout`; there are: `count`, `sum`"),
        (|s| drop(s.settings.insert("x".into(), json!(1))), "settings", "only `step`"),
        (
            |s| drop(s.settings.insert("step".into(), json!("x".repeat(9_000)))),
            "settings",
            "at most 8192 bytes",
        ),
        (|s| s.schedule = "61 * * * *".into(), "schedule", "is no schedule"),
        (|s| s.schedule = "0 0 31 2 *".into(), "schedule", "does not come within 50 years"),
        (|s| s.zone = "Europe/Berln".into(), "zone", "did you mean `Europe/Berlin`?"),
        (|s| s.misfire = Misfire::All(0), "catchUpMax", "from 1 to 100"),
        (|s| s.misfire = Misfire::All(101), "catchUpMax", "from 1 to 100"),
        (|s| s.timeout_ms = 0, "timeoutSeconds", "from 1 to 86400 seconds, not 0"),
        (|s| s.timeout_ms = 86_400_001, "timeoutSeconds", "from 1 to 86400 seconds"),
        (|s| s.retries = 11, "retries", "at most 10"),
    ];
    for (change, field, reason) in wrong {
        let mut spec = spec("x");
        change(&mut spec);
        let error = spec.check(&Kinds, NOW).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.reason.contains(reason), "{error}");
        // The store itself refuses what does not hang on kinds.
        if field != "kind" && !reason.contains("`step`") {
            let refused = store.create_job("acme", spec, &Actor::Cli).await.unwrap_err();
            assert_eq!(refused.to_string(), error.to_string());
        }
    }
    spec("x").check(&Kinds, NOW).unwrap();
    assert_eq!(store.list_jobs("acme", false, &Page::default()).await.unwrap(), []);
}

async fn tenants_see_their_own(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    store.create_job("other", spec("a"), &Actor::Cli).await.unwrap();
    store.create_job("other", spec("b"), &Actor::Cli).await.unwrap();
    let theirs = store.trigger_run("other", "b", None, &Actor::Cli).await.unwrap().run;
    let not_found = |error: StoreError, what: &str| {
        assert_eq!(error.kind(), lookout_types::ErrorKind::NotFound);
        assert!(error.to_string().starts_with(what), "{error}");
    };
    not_found(store.get_job("acme", "b").await.unwrap_err(), "no job `b`");
    not_found(store.pause_job("acme", "b", &Actor::Cli).await.unwrap_err(), "no job");
    not_found(store.delete_job("acme", "b", &Actor::Cli).await.unwrap_err(), "no job");
    not_found(store.restore_job("acme", "b", &Actor::Cli).await.unwrap_err(), "no job");
    not_found(store.replace_job("acme", spec("b"), &Actor::Cli).await.unwrap_err(), "no job");
    not_found(store.trigger_run("acme", "b", None, &Actor::Cli).await.unwrap_err(), "no job");
    not_found(store.list_runs("acme", "b", None, &Page::default()).await.unwrap_err(), "no job");
    not_found(store.get_run("acme", "a", &theirs.id).await.unwrap_err(), "no run");
    not_found(store.retry_run("acme", "a", &theirs.id, &Actor::Cli).await.unwrap_err(), "no run");
    assert_eq!(store.list_jobs("acme", false, &Page::default()).await.unwrap().len(), 1);
    let page = Page { limit: 1, after: Some("a".into()) };
    let jobs = store.list_jobs("other", false, &page).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.spec.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

async fn a_changed_schedule_starts_anew(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "x").await;
    let mut other = spec("x");
    other.retries = 5;
    advance(rig, &store, 1_000).await;
    let job = store.replace_job("acme", other.clone(), &Actor::Cli).await.unwrap();
    assert_eq!((job.next_at, job.spec.retries), (Some(NINE), 5));
    other.schedule = "30 * * * *".into();
    let job = store.replace_job("acme", other.clone(), &Actor::Cli).await.unwrap();
    assert_eq!(job.next_at, Some(NINE + 30 * MINUTE));
    other.paused = true;
    assert_eq!(store.replace_job("acme", other.clone(), &Actor::Cli).await.unwrap().next_at, None);
    other.paused = false;
    let job = store.replace_job("acme", other.clone(), &Actor::Cli).await.unwrap();
    assert_eq!(job.next_at, Some(NINE + 30 * MINUTE));
    assert_eq!(store.get_job("acme", "x").await.unwrap(), job);
    let log = store.audit_log("acme", &Page::first(1)).await.unwrap();
    assert_eq!(
        (&log[0].detail["from"]["paused"], &log[0].detail["to"]["retries"]),
        (&json!(true), &json!(5))
    );
}

async fn a_broken_schedule_stops_alone(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "broken").await;
    make(&store, "whole").await;
    let break_it = "UPDATE jobs SET zone = 'Mars/Olympus' WHERE name = 'broken'";
    store.pool().execute(break_it).await.unwrap();
    advance(rig, &store, 400_000).await;
    assert_eq!(store.insert_due_runs().await.unwrap(), Due { inserted: 1, missed: 1, more: false });
    let job = store.get_job("acme", "broken").await.unwrap();
    assert_eq!((job.next_at, job.missed), (None, 1));
    assert!(job.error.unwrap().contains("`Mars/Olympus` is no IANA time zone"));
    let mended = store.replace_job("acme", spec("broken"), &Actor::Cli).await.unwrap();
    assert_eq!((mended.next_at, mended.error), (Some(NINE + 60 * MINUTE), None));
}

async fn default_jobs_are_made_once(rig: &Rig) {
    let store = store(rig).await;
    for _ in 0..2 {
        let followed = ["anvil", "polygon"].into_iter();
        store.ensure_default_jobs("default", followed, &Actor::Cli).await.unwrap();
    }
    let jobs = store.list_jobs("default", false, &Page::default()).await.unwrap();
    let names: Vec<_> = jobs.iter().map(|job| job.spec.name.as_str()).collect();
    assert_eq!(names, ["balances-anvil", "balances-polygon", "purge"]);
    // 03:17 UTC of the next day.
    assert_eq!(jobs[2].next_at, Some(NOW + 66_220_000));
    assert_eq!(jobs[1].spec.settings["chain"], "polygon");
    for job in &jobs {
        store.delete_job("default", &job.spec.name, &Actor::Cli).await.unwrap();
    }
    store.ensure_default_jobs("default", ["anvil"].into_iter(), &Actor::Cli).await.unwrap();
    assert_eq!(store.list_jobs("default", false, &Page::default()).await.unwrap(), []);
}
