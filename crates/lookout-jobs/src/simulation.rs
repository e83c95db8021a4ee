//! Several instances over one store, with clocks that differ, cut off at any point: every tick gets
//! one run, every run ends done, and whatever was done twice was done under the same key.
//!
//! The first simulation makes the moves of instances itself and is the same for a seed but for
//! where in a statement the cut falls; the second lets whole schedulers run and kills them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use fastrand::Rng;
use lookout_store::{
    Actor, ClaimedRun, Ended, JobSpec, Misfire, Page, Run, RunState, Schedule, Store, StoreUrl,
};
use lookout_types::FixedClock;
use serde_json::{Map, Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{LEASE_MS, Scheduler, SchedulerParts, Task, TaskContext, TaskError, Tasks};

/// 2025-10-25 23:50 UTC: ten minutes before Berlin's clocks are put back, with an hour of ticks
/// that come twice ahead.
const START: i64 = 1_761_436_200_000;
const SKEW_MS: i64 = 30_000;
const INSTANCES: usize = 4;
const TENANT: &str = "acme";

/// What ran, by job and tick: how many effects there were, under how many keys.
type Effects = Arc<Mutex<BTreeMap<(String, i64), Vec<String>>>>;

fn spec(name: &str, schedule: &str) -> JobSpec {
    JobSpec {
        name: name.into(),
        kind: "count".into(),
        settings: Map::new(),
        schedule: schedule.into(),
        zone: "Europe/Berlin".into(),
        misfire: Misfire::All(100),
        timeout_ms: 60_000,
        retries: 10,
        paused: false,
    }
}

const JOBS: [(&str, &str); 3] =
    [("dense", "*/10 * * * * *"), ("minutely", "* * * * *"), ("named", "*/2 1-3 * * *")];

struct Instance {
    store: Store,
    clock: Arc<FixedClock>,
    held: Vec<ClaimedRun>,
}

impl Instance {
    fn of(base: &Store, now: i64, rng: &mut Rng) -> Self {
        let clock = Arc::new(FixedClock::at(now + rng.i64(-SKEW_MS..=SKEW_MS)));
        Self { store: base.with_clock(clock.clone()), clock, held: Vec::new() }
    }
}

struct World {
    base: Store,
    instances: Vec<Instance>,
    now: i64,
    effects: Effects,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(rng: &mut Rng, on_file: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = if on_file {
            StoreUrl::SqliteFile(folder.path().join("x.db"))
        } else {
            StoreUrl::SqliteMemory
        };
        let base = Store::open(&url, Arc::new(FixedClock::at(START))).await.unwrap();
        base.migrate().await.unwrap();
        for (name, schedule) in JOBS {
            base.create_job(TENANT, spec(name, schedule), &Actor::Cli).await.unwrap();
        }
        let instances = (0..INSTANCES).map(|_| Instance::of(&base, START, rng)).collect();
        Self { base, instances, now: START, effects: Effects::default(), _folder: folder }
    }

    fn advance(&mut self, millis: i64) {
        self.now += millis;
        for instance in &self.instances {
            instance.clock.advance(millis);
        }
    }

    /// One move of one instance; a third of them are cut off somewhere.
    async fn step(&mut self, rng: &mut Rng) {
        let polls = if rng.u8(0..3) == 0 { rng.u32(1..40) } else { u32::MAX };
        let at = rng.usize(0..INSTANCES);
        let kind = rng.u8(0..20);
        let instance = &mut self.instances[at];
        let store = &instance.store;
        match kind {
            0..5 => {
                cut(store.insert_due_runs(), polls).await.map(Result::unwrap);
            }
            5..11 => {
                let claimed = cut(store.claim_run("count", LEASE_MS), polls).await;
                instance.held.extend(claimed.and_then(Result::unwrap));
            }
            11..18 if !instance.held.is_empty() => {
                let run = instance.held.swap_remove(rng.usize(0..instance.held.len()));
                let ended = match rng.u8(0..8) {
                    0 => Ended::Retry("by chance".into()),
                    1 => Ended::Released,
                    _ => {
                        record(&self.effects, &run.job, run.scheduled_at, &key(&run));
                        Ended::Done(json!(run.attempt))
                    }
                };
                // Cut off here, it does not know whether its end was written down.
                cut(store.end_run(&run, ended), polls).await.map(Result::unwrap);
            }
            18 => {
                for run in &instance.held {
                    let progress = json!(1);
                    let beat = store.heartbeat_run(run, LEASE_MS, Some(&progress));
                    cut(beat, polls).await.map(Result::unwrap);
                }
            }
            // Killed: what it held is forgotten, and its successor's clock is another.
            19 => *instance = Instance::of(&self.base, self.now, rng),
            _ => {}
        }
    }

    /// Stops the ticks, ends all runs without further cuts, and checks what became of them.
    async fn settle(mut self, seed: u64) -> usize {
        let mut ticks = BTreeMap::new();
        for instance in &self.instances {
            instance.store.insert_due_runs().await.unwrap();
        }
        for (name, _) in JOBS {
            let job = self.base.get_job(TENANT, name).await.unwrap();
            assert_eq!(job.missed, 0, "seed {seed}: {name}");
            ticks.insert(name, job.next_at.unwrap());
            self.base.pause_job(TENANT, name, &Actor::Cli).await.unwrap();
        }
        while self.open().await > 0 {
            self.advance(LEASE_MS * 2);
            for at in 0..INSTANCES {
                let store = self.instances[at].store.clone();
                while let Some(run) = store.claim_run("count", LEASE_MS).await.unwrap() {
                    record(&self.effects, &run.job, run.scheduled_at, &key(&run));
                    assert!(store.end_run(&run, Ended::Done(json!(run.attempt))).await.unwrap());
                }
            }
        }
        let mut checked = 0;
        for (name, schedule) in JOBS {
            checked += check(&self.base, seed, (name, schedule), ticks[name], &self.effects).await;
        }
        checked
    }

    async fn open(&self) -> usize {
        let mut open = 0;
        for (name, _) in JOBS {
            open += runs(&self.base, name).await.iter().filter(|r| r.due_at.is_some()).count();
        }
        open
    }
}

/// What a task that works on the run sends along.
fn key(run: &ClaimedRun) -> String {
    TaskContext::new(run, CancellationToken::new()).key().to_owned()
}

fn record(effects: &Effects, job: &str, tick: i64, key: &str) {
    effects.lock().unwrap().entry((job.to_owned(), tick)).or_default().push(key.to_owned());
}

/// Polls a future so many times, then drops it.
async fn cut<F: Future>(future: F, mut polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls = polls.saturating_sub(1);
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn runs(store: &Store, job: &str) -> Vec<Run> {
    let mut all = Vec::new();
    let mut page = Page::first(1_000);
    loop {
        let runs = store.list_runs(TENANT, job, None, &page).await.unwrap();
        let Some(last) = runs.last() else { return all };
        page.after = Some(last.id.clone());
        all.extend(runs);
    }
}

/// Checks the runs of a job up to a tick that has not come; their number.
async fn check(
    store: &Store,
    seed: u64,
    (name, schedule): (&str, &str),
    until: i64,
    effects: &Effects,
) -> usize {
    let schedule = Schedule::parse(schedule, "Europe/Berlin").unwrap();
    let mut expected = BTreeSet::new();
    let mut at = START;
    while let Some(tick) = schedule.next_after(at).unwrap().filter(|tick| *tick < until) {
        expected.insert(tick);
        at = tick;
    }
    let runs = runs(store, name).await;
    let ticks: BTreeSet<i64> = runs.iter().map(|run| run.scheduled_at).collect();
    assert_eq!(ticks, expected, "seed {seed}: {name}");
    assert_eq!(runs.len(), expected.len(), "seed {seed}: {name}");
    let effects = effects.lock().unwrap();
    let mut known = BTreeSet::new();
    for run in &runs {
        assert_eq!(run.state, RunState::Done, "seed {seed}: {run:?}");
        assert_eq!(run.result, Some(json!(run.attempt)), "seed {seed}: an older attempt ended it");
        let keys = &effects[&(name.to_owned(), run.scheduled_at)];
        assert!(keys.iter().all(|key| key == &keys[0]), "seed {seed}: {keys:?}");
        assert!(known.insert(&keys[0]), "seed {seed}: {} is another tick's too", keys[0]);
    }
    let strange = effects.keys().filter(|(job, tick)| job == name && !ticks.contains(tick));
    assert_eq!(strange.count(), 0, "seed {seed}: effects without a run");
    runs.len()
}

async fn simulate(seed: u64, on_file: bool, steps: usize) -> usize {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new(&mut rng, on_file).await;
    for _ in 0..steps {
        if rng.u8(0..4) == 0 {
            let millis = rng.i64(1..12_000);
            world.advance(millis);
        }
        world.step(&mut rng).await;
    }
    world.settle(seed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_tick_has_one_run_and_it_ends_done() {
    let mut lanes = JoinSet::new();
    for lane in 0..8 {
        lanes.spawn(async move {
            let mut ticks = 0;
            for seed in lane * 25..(lane + 1) * 25 {
                ticks += simulate(seed, false, 400).await;
            }
            ticks
        });
    }
    let ticks: usize = lanes.join_all().await.iter().sum();
    assert!(ticks > 10_000, "{ticks}");
}

#[tokio::test]
async fn every_tick_has_one_run_in_a_file_too() {
    for seed in 1_000..1_004 {
        assert!(simulate(seed, true, 400).await > 30);
    }
}

/// Counts its effects; now and then it fails, panics, or waits to be told to go on.
struct Counting {
    effects: Effects,
    rng: Mutex<Rng>,
}

#[async_trait]
impl Task for Counting {
    fn kind(&self) -> &'static str {
        "count"
    }

    fn check(&self, _: &Map<String, Value>) -> Result<(), String> {
        Ok(())
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        let chance = self.rng.lock().unwrap().u8(0..40);
        record(&self.effects, &context.job, context.scheduled_at, context.key());
        context.report(json!(chance));
        for _ in 0..chance {
            tokio::task::yield_now().await;
        }
        match chance {
            0 => Err(TaskError::Retry("by chance".into())),
            1 => panic!("by chance"),
            // Holds on until it is killed or told to end.
            2 if context.attempt == 1 => {
                context.stop.cancelled().await;
                Err(TaskError::Retry("told to end".into()))
            }
            _ => Ok(json!(context.attempt)),
        }
    }
}

struct Live {
    store: Store,
    clock: Arc<FixedClock>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(base: &Store, now: i64, effects: &Effects, rng: &mut Rng) -> Live {
    let clock = Arc::new(FixedClock::at(now + rng.i64(-SKEW_MS..=SKEW_MS)));
    let store = base.with_clock(clock.clone());
    let rng = Mutex::new(rng.fork());
    let counting: Arc<dyn Task> = Arc::new(Counting { effects: Arc::clone(effects), rng });
    let (tasks, stop) = (Arc::new(Tasks::new([counting])), CancellationToken::new());
    let parts = SchedulerParts { store: store.clone(), tasks, stop: stop.clone() };
    Live { store, clock, stop, task: tokio::spawn(Scheduler::new(parts).run()) }
}

/// Whole schedulers, killed at any moment. Progress is waited for, not slept for.
async fn live(seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed);
    let World { base, mut now, effects, _folder, .. } = World::new(&mut rng, false).await;
    let mut lives: Vec<_> = (0..INSTANCES).map(|_| start(&base, now, &effects, &mut rng)).collect();
    let mut advance = |lives: &[Live], millis: i64| {
        now += millis;
        for live in lives {
            live.clock.advance(millis);
            live.store.signals().jobs.raise();
        }
        now
    };
    for _ in 0..100 {
        let now = advance(&lives, rng.i64(1..15_000));
        for _ in 0..rng.u8(0..30) {
            tokio::task::yield_now().await;
        }
        if rng.u8(0..4) == 0 {
            let at = rng.usize(0..lives.len());
            let old = std::mem::replace(&mut lives[at], start(&base, now, &effects, &mut rng));
            // Half of them in good order, half in the middle of whatever they do.
            if rng.bool() {
                old.stop.cancel()
            } else {
                old.task.abort()
            }
            drop(old.task.await);
        }
    }
    let mut until = BTreeMap::new();
    for live in &lives {
        live.store.insert_due_runs().await.unwrap();
    }
    for (name, _) in JOBS {
        let job = base.get_job(TENANT, name).await.unwrap();
        assert_eq!(job.missed, 0, "seed {seed}: {name}");
        until.insert(name, job.next_at.unwrap());
        base.pause_job(TENANT, name, &Actor::Cli).await.unwrap();
    }
    // Leases and pauses end; schedulers work off what is left. The last instances hold nothing back.
    loop {
        advance(&lives, LEASE_MS);
        let mut open = 0;
        for (name, _) in JOBS {
            open += runs(&base, name).await.iter().filter(|r| r.due_at.is_some()).count();
        }
        if open == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    for live in lives {
        live.stop.cancel();
        live.task.await.unwrap();
    }
    let mut checked = 0;
    for job in JOBS {
        checked += check(&base, seed, job, until[job.0], &effects).await;
    }
    checked
}

#[tokio::test]
async fn whole_schedulers_may_die_at_any_moment() {
    // Panics on purpose would fill the output.
    for seed in 0..20 {
        let done = tokio::time::timeout(std::time::Duration::from_secs(120), live(seed)).await;
        assert!(done.unwrap_or_else(|_| panic!("seed {seed} does not end")) > 50);
    }
}
