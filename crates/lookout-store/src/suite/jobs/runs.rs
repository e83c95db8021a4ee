//! Runs: one row per tick, leases and fences, and what the history says.

use serde_json::{Value, json};

use super::*;
use crate::{ClaimedRun, Ended, Run, RunState};

on_all!(
    a_tick_is_one_row,
    waiting_runs_are_bounded,
    runs_go_one_at_a_time,
    a_silent_worker_is_replaced_and_fenced,
    a_run_that_takes_workers_down_is_given_up,
    failures_are_retried_with_growing_pauses,
    released_runs_go_on_at_once,
    triggers_and_ticks_are_one_run,
    deleted_jobs_run_no_more,
    runs_of_deleted_jobs_end,
    a_clock_that_was_wrong_stops_nothing,
    many_instances_insert_and_claim_at_once,
);
suite!(postgres_only, crate::suite::on_postgres, [time_is_the_databases]);

const LEASE_MS: i64 = 30_000;

async fn runs(store: &Store, name: &str) -> Vec<Run> {
    let mut runs = store.list_runs("acme", name, None, &Page::first(1000)).await.unwrap();
    runs.sort_by_key(|run| run.scheduled_at);
    runs
}

async fn claim(store: &Store) -> Option<ClaimedRun> {
    store.claim_run("count", LEASE_MS).await.unwrap()
}

async fn a_tick_is_one_row(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "hourly").await;
    assert_eq!(store.until_next_due().await.unwrap(), Some(400_000));
    advance(rig, &store, 399_999).await;
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 0);
    advance(rig, &store, 1).await;
    assert_eq!(store.until_next_due().await.unwrap(), Some(0));
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 1);
    assert_eq!(store.insert_due_runs().await.unwrap(), Due::default());
    let job = store.get_job("acme", "hourly").await.unwrap();
    assert_eq!(job.next_at, Some(NINE + 60 * MINUTE));
    // Someone whose transaction read the job before it moved on inserts nothing twice.
    let back = sqlx::query("UPDATE jobs SET next_at = $1").bind(NINE);
    back.execute(store.pool()).await.unwrap();
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 0);

    let all = runs(&store, "hourly").await;
    assert_eq!(all.len(), 1);
    let run = &all[0];
    assert_eq!((run.scheduled_at, run.cause.as_str(), run.attempt), (NINE, "cron", 0));
    assert_eq!((run.state, run.created_at), (RunState::Queued, NINE));

    // After an outage of five hours the newest three of the missed, and the rest counted.
    advance(rig, &store, 5 * 60 * MINUTE + 30 * MINUTE).await;
    assert_eq!(store.insert_due_runs().await.unwrap(), Due { inserted: 3, missed: 2, more: false });
    let ticks: Vec<_> = runs(&store, "hourly").await.iter().map(|r| r.scheduled_at).collect();
    assert_eq!(ticks, [0, 3, 4, 5].map(|hours| NINE + hours * 60 * MINUTE));
    assert_eq!(store.get_job("acme", "hourly").await.unwrap().missed, 2);
}

async fn waiting_runs_are_bounded(rig: &Rig) {
    let store = store(rig).await;
    let mut dense = spec("dense");
    (dense.schedule, dense.misfire) = ("* * * * * *".into(), Misfire::All(100));
    store.create_job("acme", dense, &Actor::Cli).await.unwrap();
    let mut missed = 0;
    for _ in 0..5 {
        advance(rig, &store, 30_000).await;
        missed += store.insert_due_runs().await.unwrap().missed;
    }
    assert_eq!(missed, 50);
    assert_eq!(runs(&store, "dense").await.len(), 100);
    let error = store.trigger_run("acme", "dense", None, &Actor::Cli).await.unwrap_err();
    // The last tick has its run or not; another moment has none.
    assert!(error.to_string().starts_with("100 runs of job `dense` wait"), "{error}");
}

async fn runs_go_one_at_a_time(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    make(&store, "b").await;
    assert_eq!(claim(&store).await, None);
    advance(rig, &store, 3 * 60 * MINUTE).await;
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 6);
    assert_eq!(store.claim_run("other kind", LEASE_MS).await.unwrap(), None);
    let a = claim(&store).await.unwrap();
    let b = claim(&store).await.unwrap();
    assert_eq!((a.job.as_str(), b.job.as_str(), claim(&store).await), ("a", "b", None));
    assert_eq!((a.scheduled_at, a.attempt, a.settings["step"].clone()), (NINE, 1, json!(2)));
    assert!(store.end_run(&a, Ended::Done(json!({ "n": 1 }))).await.unwrap());
    let next = claim(&store).await.unwrap();
    assert_eq!((next.job.as_str(), next.scheduled_at), ("a", NINE + 60 * MINUTE));
    let run = store.get_run("acme", "a", &a.id).await.unwrap();
    assert_eq!((run.state, run.result), (RunState::Done, Some(json!({ "n": 1 }))));
    assert_eq!((run.due_at, run.finished_at.is_some()), (None, true));
    let done = store.list_runs("acme", "a", Some(RunState::Done), &Page::default()).await.unwrap();
    assert_eq!(done.len(), 1);
}

async fn a_silent_worker_is_replaced_and_fenced(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    advance(rig, &store, 400_000).await;
    store.insert_due_runs().await.unwrap();
    let first = claim(&store).await.unwrap();
    advance(rig, &store, LEASE_MS - 1).await;
    assert_eq!(claim(&store).await, None);
    assert!(store.heartbeat_run(&first, LEASE_MS, Some(&json!("half"))).await.unwrap());
    advance(rig, &store, LEASE_MS - 1).await;
    assert!(store.heartbeat_run(&first, LEASE_MS, None).await.unwrap());
    assert_eq!(runs(&store, "a").await[0].progress, Some(json!("half")));
    advance(rig, &store, LEASE_MS).await;
    let second = claim(&store).await.unwrap();
    assert_eq!((second.id.as_str(), second.attempt), (first.id.as_str(), 2));
    // Whatever the first one writes now counts for nothing.
    assert!(!store.heartbeat_run(&first, LEASE_MS, Some(&json!("all"))).await.unwrap());
    for ended in [
        Ended::Done(json!(1)),
        Ended::Failed("x".into()),
        Ended::Retry("x".into()),
        Ended::Released,
    ] {
        assert!(!store.end_run(&first, ended).await.unwrap());
    }
    assert!(store.end_run(&second, Ended::Done(json!(2))).await.unwrap());
    assert!(!store.end_run(&second, Ended::Done(json!(3))).await.unwrap());
    let all = runs(&store, "a").await;
    assert_eq!((all.len(), &all[0].result, all[0].attempt), (1, &Some(json!(2)), 2));
}

async fn a_run_that_takes_workers_down_is_given_up(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    advance(rig, &store, 400_000).await;
    store.insert_due_runs().await.unwrap();
    for attempt in 1..=10 {
        assert_eq!(claim(&store).await.unwrap().attempt, attempt);
        advance(rig, &store, LEASE_MS).await;
    }
    assert_eq!(claim(&store).await, None);
    let run = &runs(&store, "a").await[0];
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(run.error.as_deref(), Some("its worker fell silent 10 times"));
    // Its owner can still have it tried again.
    store.retry_run("acme", "a", &run.id, &Actor::Cli).await.unwrap();
    let again = claim(&store).await.unwrap();
    assert_eq!((again.cause.as_str(), again.scheduled_at), ("retry", NINE));
    assert!(again.attempt > 10);
    assert!(store.end_run(&again, Ended::Done(Value::Null)).await.unwrap());
    let error = store.retry_run("acme", "a", &run.id, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().ends_with("is done; only a failed one is retried"), "{error}");
}

async fn failures_are_retried_with_growing_pauses(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    advance(rig, &store, 400_000).await;
    store.insert_due_runs().await.unwrap();
    for (pause_ms, failure) in [(10_000, "one"), (20_000, "two")] {
        let run = claim(&store).await.unwrap();
        assert!(store.end_run(&run, Ended::Retry(failure.into())).await.unwrap());
        let run = &runs(&store, "a").await[0];
        assert_eq!((run.state, run.error.as_deref()), (RunState::Queued, Some(failure)));
        advance(rig, &store, pause_ms - 1).await;
        assert_eq!(claim(&store).await, None);
        assert_eq!(store.until_next_due().await.unwrap(), Some(1));
        advance(rig, &store, 1).await;
    }
    let run = claim(&store).await.unwrap();
    assert!(store.end_run(&run, Ended::Retry("é".repeat(3_000))).await.unwrap());
    let run = &runs(&store, "a").await[0];
    assert_eq!((run.state, run.attempt), (RunState::Failed, 3));
    assert_eq!(run.error.as_ref().unwrap().chars().count(), 2_000);
    // A failure for good is not retried at all.
    advance(rig, &store, 60 * MINUTE).await;
    store.insert_due_runs().await.unwrap();
    let run = claim(&store).await.unwrap();
    assert!(store.end_run(&run, Ended::Failed("no".into())).await.unwrap());
    assert_eq!(claim(&store).await, None);
    assert_eq!(runs(&store, "a").await[1].state, RunState::Failed);
}

async fn released_runs_go_on_at_once(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    advance(rig, &store, 400_000).await;
    store.insert_due_runs().await.unwrap();
    for attempt in 1..=20 {
        let run = claim(&store).await.unwrap();
        assert_eq!(run.attempt, attempt);
        assert!(store.end_run(&run, Ended::Released).await.unwrap());
    }
    let big = json!("x".repeat(70_000));
    let run = claim(&store).await.unwrap();
    assert!(store.end_run(&run, Ended::Done(big)).await.unwrap());
    let result = runs(&store, "a").await[0].result.clone().unwrap();
    assert_eq!(result, json!({ "notKept": "70002 bytes, more than 65536" }));
}

async fn triggers_and_ticks_are_one_run(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    // From outside, a second early; then from inside, on time.
    advance(rig, &store, 399_000).await;
    let outside = store.trigger_run("acme", "a", Some(NINE), &Actor::Open).await.unwrap();
    assert!(outside.new && outside.run.cause == "api");
    let claimed = claim(&store).await.unwrap();
    assert_eq!(claimed.id, outside.run.id);
    assert!(store.end_run(&claimed, Ended::Done(Value::Null)).await.unwrap());
    advance(rig, &store, 1_000).await;
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 0);
    // From inside first, then from outside, twice.
    advance(rig, &store, 60 * MINUTE).await;
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 1);
    let tick = Some(NINE + 60 * MINUTE);
    for _ in 0..2 {
        let again = store.trigger_run("acme", "a", tick, &Actor::Open).await.unwrap();
        assert!(!again.new && again.run.cause == "cron");
    }
    assert_eq!(runs(&store, "a").await.len(), 2);
    // For now, also while paused.
    store.pause_job("acme", "a", &Actor::Cli).await.unwrap();
    advance(rig, &store, 5).await;
    let now = store.trigger_run("acme", "a", None, &Actor::Open).await.unwrap();
    assert!(now.new);
    assert_eq!(now.run.scheduled_at, NINE + 60 * MINUTE + 5);
    for far in [-8 * 24 * 60, 24 * 60 + 1] {
        let tick = Some(now.run.scheduled_at + far * MINUTE);
        let error = store.trigger_run("acme", "a", tick, &Actor::Cli).await.unwrap_err();
        assert!(error.to_string().contains("the last 7 days"), "{error}");
    }
    let log = store.audit_log("acme", &Page::first(1)).await.unwrap();
    assert_eq!(
        (log[0].action.as_str(), &log[0].detail["run"]),
        ("job.trigger", &json!(now.run.id))
    );
}

async fn deleted_jobs_run_no_more(rig: &Rig) {
    let store = store(rig).await;
    make(&store, "a").await;
    advance(rig, &store, 2 * 60 * MINUTE).await;
    store.insert_due_runs().await.unwrap();
    let under_way = claim(&store).await.unwrap();
    store.delete_job("acme", "a", &Actor::Cli).await.unwrap();
    assert_eq!(claim(&store).await, None);
    assert!(store.end_run(&under_way, Ended::Done(Value::Null)).await.unwrap());
    store.trigger_run("acme", "a", None, &Actor::Cli).await.unwrap_err();
    store.restore_job("acme", "a", &Actor::Cli).await.unwrap();
    let all = runs(&store, "a").await;
    assert_eq!(
        all.iter().map(|run| run.state).collect::<Vec<_>>(),
        [RunState::Done, RunState::Failed]
    );
    assert_eq!(all[1].error.as_deref(), Some("the job was deleted"));
    assert_eq!(claim(&store).await, None);
}

/// Whatever their workers do.
async fn runs_of_deleted_jobs_end(rig: &Rig) {
    let store = store(rig).await;
    for (name, ended) in [
        ("silent", None),
        ("released", Some(Ended::Released)),
        ("failed", Some(Ended::Retry("no".into()))),
    ] {
        make(&store, name).await;
        store.trigger_run("acme", name, None, &Actor::Cli).await.unwrap();
        let run = claim(&store).await.unwrap();
        store.delete_job("acme", name, &Actor::Cli).await.unwrap();
        if let Some(ended) = ended {
            assert!(store.end_run(&run, ended).await.unwrap());
        }
        advance(rig, &store, LEASE_MS).await;
        assert_eq!(claim(&store).await, None);
        assert_eq!(store.until_next_due().await.unwrap(), None, "{name}");
        store.restore_job("acme", name, &Actor::Cli).await.unwrap();
        let run = runs(&store, name).await.remove(0);
        assert_eq!((run.state, run.due_at), (RunState::Failed, None), "{name}");
        assert_eq!(run.error.as_deref(), Some("the job was deleted"));
        store.delete_job("acme", name, &Actor::Cli).await.unwrap();
    }
}

async fn a_clock_that_was_wrong_stops_nothing(rig: &Rig) {
    const YEARS: i64 = 3 * 365 * 24 * 60 * MINUTE;
    let store = store(rig).await;
    make(&store, "hourly").await;
    make(&store, "broken").await;
    assert_eq!(store.pull_back_jobs().await.unwrap(), 0);
    advance(rig, &store, YEARS).await;
    store.insert_due_runs().await.unwrap();
    let lost = claim(&store).await.unwrap();
    let mars = "UPDATE jobs SET zone = 'Mars/Olympus' WHERE name = 'broken'";
    store.pool().execute(mars).await.unwrap();
    advance(rig, &store, -YEARS).await;
    assert!(store.until_next_due().await.unwrap() > Some(YEARS as u64 / 2));
    // Both jobs, and three runs of each, of which one has a lease.
    assert_eq!(store.pull_back_jobs().await.unwrap(), 8);
    assert_eq!(store.pull_back_jobs().await.unwrap(), 0);
    store.insert_due_runs().await.unwrap();
    assert!(store.get_job("acme", "broken").await.unwrap().error.is_some());
    let next_at = store.get_job("acme", "hourly").await.unwrap().next_at;
    assert_eq!(next_at, Some(NINE));
    advance(rig, &store, 10 * MINUTE).await;
    assert_eq!(store.insert_due_runs().await.unwrap().inserted, 1);
    let mut again = Vec::new();
    while let Some(run) = claim(&store).await {
        assert!(store.end_run(&run, Ended::Done(Value::Null)).await.unwrap());
        again.push((run.job, run.scheduled_at));
    }
    assert!(again.contains(&(lost.job, lost.scheduled_at)), "{again:?}");
    assert!(again.contains(&("hourly".to_owned(), NINE)), "{again:?}");
}

async fn many_instances_insert_and_claim_at_once(rig: &Rig) {
    let store = store(rig).await;
    for job in 0..6 {
        make(&store, &format!("job-{job}")).await;
    }
    for round in 0..5 {
        advance(rig, &store, 60 * MINUTE).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let store = store.with_clock(rig.clock.clone());
            tasks.spawn(async move {
                let mut inserted = 0;
                loop {
                    let due = store.insert_due_runs().await.unwrap();
                    inserted += due.inserted;
                    let Some(run) = claim(&store).await else { break inserted };
                    assert!(store.end_run(&run, Ended::Done(Value::Null)).await.unwrap());
                }
            });
        }
        assert_eq!(tasks.join_all().await.iter().sum::<u64>(), 6, "round {round}");
    }
    // Whoever gave up while another was at a job left the rest to it.
    while let Some(run) = claim(&store).await {
        store.end_run(&run, Ended::Done(Value::Null)).await.unwrap();
    }
    for job in 0..6 {
        let all = runs(&store, &format!("job-{job}")).await;
        assert_eq!(all.len(), 5);
        assert!(all.iter().all(|run| run.state == RunState::Done && run.attempt == 1), "{all:?}");
    }
}

/// Instances whose clocks are hours apart agree on the time, which is neither's.
async fn time_is_the_databases(rig: &Rig) {
    let here = rig.migrated().await;
    let there = here.with_clock(std::sync::Arc::new(lookout_types::FixedClock::at(NOW * 2)));
    let mut daily = spec("daily");
    daily.schedule = "@daily".into();
    let first = here.create_job("acme", daily.clone(), &Actor::Cli).await.unwrap();
    let second = there.create_job("other", daily, &Actor::Cli).await.unwrap();
    assert!((second.created_at - first.created_at).abs() < 60 * MINUTE);
    assert!(first.created_at > NOW && second.created_at < NOW * 2);
    assert!(first.next_at.unwrap() > first.created_at);
    // Neither the clock that is behind nor the one that is ahead makes anything due.
    assert_eq!(here.insert_due_runs().await.unwrap(), Due::default());
    assert_eq!(there.insert_due_runs().await.unwrap(), Due::default());
}
