//! Random chains with reorgs, faults and crashes end in the state of a run without any.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lookout_store::{Store, StoreUrl};
use lookout_types::{BlockRef, FixedClock, Frame, Step};

use super::{CHAIN, HANGS, Held, Place, assert_is_chain, frames, reached, replay, within};
use lookout_chain::Source;

use crate::consume::run;
use crate::publish::{Publisher, Start};
use crate::sim::{Faults, Shape, SimSource};

/// Seeds of a usual run; a long one takes as many as `LOOKOUT_TEST_SEEDS` says.
const SEEDS: u64 = 200;
/// Threads that share them: they wait for the disk most of the time.
const THREADS: u64 = 8;

/// Longest wait for a change to be followed: some cannot be, as when the head is below the first
/// height.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long the end may take to be reached: less than what counts as hanging, so as to say more.
const SETTLES: Duration = HANGS.saturating_sub(Duration::from_secs(5));

/// Drops a future after some polls, as a crash would.
async fn mortal<T>(work: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// One change of the chain. Notes in `lost` which blocks were ever off it.
fn change(
    random: &mut fastrand::Rng,
    source: &SimSource,
    left: &mut Vec<BlockRef>,
    lost: &mut HashSet<BlockRef>,
) {
    let before = source.blocks();
    match random.u8(0..10) {
        0..=3 => source.extend(random.usize(1..12)),
        4 | 5 => {
            let depth = random.usize(1..5);
            left.extend(source.reorg(depth, depth + random.usize(0..3)));
        }
        6 => {
            let depth = random.usize(1..=64);
            left.extend(source.reorg(depth, depth + random.usize(1..4)));
        }
        // Back to a branch that was left, and sometimes on from there.
        7 | 8 => {
            if let Some(tip) = left.pop() {
                left.extend(source.tip());
                source.switch_to(tip);
                source.extend(random.usize(0..3));
            }
        }
        _ => source.rollback(random.usize(1..6)),
    }
    let now: HashSet<_> = source.blocks().iter().map(|block| block.header.block).collect();
    lost.extend(before.iter().map(|block| block.header.block).filter(|block| !now.contains(block)));
    match random.u8(0..9) {
        0 => {}
        1 => source.announce_lag(random.usize(1..4)),
        // The good upstream is away, and another one has stopped long ago or has lost its data.
        2 => source.announce_lag(random.usize(1..200)),
        _ => source.announce(),
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    let percent = |random: &mut fastrand::Rng| if random.bool() { random.u8(0..15) } else { 0 };
    Faults {
        range_blocks_max: random.bool().then(|| random.u64(1..20)),
        range_records_max: random.bool().then(|| random.usize(5..60)),
        suggests: random.bool(),
        away: percent(random),
        moved: percent(random),
        unproved: percent(random),
        wrong: percent(random),
        yields: random.u8(0..4),
    }
}

/// A folder in memory where the system has such a place: what the disk does is tested elsewhere.
fn fast_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Checks one seed, and returns how many blocks were taken back.
async fn check_seed(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let lowest = random.u64(0..3) * 1_000;
    let source = SimSource::new(CHAIN, seed, Shape { lowest, ..Shape::default() });
    source.extend(random.usize(1..80));
    let start = lowest + random.u64(0..5);
    let folder = fast_folder();
    let clock = Arc::new(FixedClock::at(1_800_000_000_000));
    // In a file: a database in memory ends with its connection, which a crash takes along.
    let url = StoreUrl::SqliteFile(folder.path().join("store.db"));
    let store = Store::open(&url, Arc::<FixedClock>::clone(&clock)).await.unwrap();
    store.migrate().await.unwrap();
    let (mut left, mut lost) = (Vec::new(), HashSet::new());
    for _ in 0..random.usize(1..5) {
        let place = Place::open_with(folder.path(), store.clone(), Arc::clone(&clock)).await;
        source.set_faults(faults(&mut random));
        let consumer = place.consumer();
        let mut consumed = consumer.state.subscribe();
        let mut parts = place.publisher(&source, Start::Height(start));
        parts.pace = vec![consumed.clone()];
        let publisher = Publisher::new(parts);
        let mut published = publisher.state();
        let changes = random.usize(1..8);
        let changing = async {
            for _ in 0..changes {
                change(&mut random, &source, &mut left, &mut lost);
                let announced = source.heads().borrow().map(|heads| heads.latest);
                if random.u8(0..4) > 0 {
                    let followed = published.wait_for(|state| state.head == announced);
                    drop(tokio::time::timeout(PATIENCE, followed).await);
                }
                if random.u8(0..3) == 0 {
                    let followed = consumed.wait_for(|state| {
                        state.cursor.is_some_and(|cursor| cursor.head == announced)
                    });
                    drop(tokio::time::timeout(PATIENCE, followed).await);
                }
                for _ in 0..random.usize(0..30) {
                    tokio::task::yield_now().await;
                }
            }
        };
        let polls = fastrand::Rng::with_seed(seed ^ 1).usize(1..2_000);
        let life = Box::pin(async {
            tokio::select! {
                ended = publisher.run() => panic!("{ended:?}"),
                ended = run(consumer) => panic!("{ended:?}"),
                () = changing => {}
            }
        });
        within(mortal(life, polls)).await;
        if random.bool() {
            place.bus.close().await;
            place.warehouse.close().await;
        }
    }
    source.set_faults(Faults::default());
    // So that the chain reaches the first height, and the head is no longer below what is published.
    source.extend(90);
    source.announce();
    let place = Place::open_with(folder.path(), store, clock).await;
    Box::pin(settle(&place, &source, start)).await;
    let frames = frames(&place.bus).await;
    let branch = replay(&frames);
    assert_is_chain(&branch, &source, start);

    assert_eq!(place.held().await, fresh_run(&source, start).await);
    undone_of(&frames, &lost)
}

/// How many frames take blocks back. What was on the chain all the time is never taken back, whoever
/// is away.
fn undone_of(frames: &[Arc<Frame>], lost: &HashSet<BlockRef>) -> usize {
    let undone: Vec<_> = frames.iter().filter(|frame| frame.step == Step::Undo).collect();
    for frame in &undone {
        assert!(lost.contains(&frame.block), "block {} was taken back", frame.block.number);
    }
    undone.len()
}

/// What a run without crashes and faults on the chain as it is ends with.
async fn fresh_run(source: &SimSource, start: u64) -> Held {
    let fresh_folder = fast_folder();
    let fresh = Place::open(fresh_folder.path()).await;
    let replica = source.replica();
    let parts = fresh.publisher(&replica, Start::Height(start));
    Box::pin(fresh.publish(parts, &replica)).await;
    fresh.consume(fresh.consumer()).await.unwrap();
    fresh.held().await
}

/// Publishes and consumes side by side until both are at the chain's head.
async fn settle(place: &Place, source: &SimSource, start: u64) {
    let publisher = Publisher::new(place.publisher(source, Start::Height(start)));
    let published = publisher.state();
    let consumer = place.consumer();
    let consumed = consumer.state.subscribe();
    let tip = source.tip();
    let (at_publisher, at_consumer) = (published.clone(), consumed.clone());
    let settled = async {
        reached(published, |state| state.head == tip).await;
        let tail = place.bus.tail(CHAIN).await.unwrap();
        reached(consumed, |state| state.cursor == Some(tail)).await;
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            ended = run(consumer) => panic!("{ended:?}"),
            () = settled => {}
            () = tokio::time::sleep(SETTLES) => {
                panic!(
                    "not settled: {:?}, {:?}, {tip:?}",
                    *at_publisher.borrow(),
                    *at_consumer.borrow()
                );
            }
        }
    }))
    .await;
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a test may take is no configuration")]
fn a_pipeline_that_crashes_ends_as_one_that_does_not() {
    let seeds = std::env::var("LOOKOUT_TEST_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut undone = 0;
                for seed in (thread..seeds).step_by(usize::try_from(THREADS).unwrap()) {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let checked =
                        std::panic::AssertUnwindSafe(|| runtime.block_on(check_seed(seed)));
                    match std::panic::catch_unwind(checked) {
                        Ok(blocks) => undone += blocks,
                        Err(_) => panic!("seed {seed} failed, for the reason above"),
                    }
                }
                undone
            })
        })
        .collect();
    let undone: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    // Else it would have tested little.
    assert!(undone > usize::try_from(seeds).unwrap() * 5, "{undone} blocks were taken back");
}
