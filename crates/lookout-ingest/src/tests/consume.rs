//! Consuming, case by case.

use std::sync::Arc;
use std::time::Duration;

use lookout_bus::Bus;
use lookout_types::BlockRef;
use tokio::sync::watch;

use super::fakes::{Keeper, Trimmed};
use super::{CHAIN, Place, reached, source, within};
use crate::consume::{
    ConsumeError, Consumer, ConsumerState, Reader, RunParts, TrimParts, WarehouseConsumer, run,
};
use crate::publish::Start;
use crate::sim::SimSource;

/// A place where a chain with a reorg is published.
async fn published() -> (tempfile::TempDir, Place, SimSource) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(11, 60);
    place.publish(place.publisher(&source, Start::Height(5)), &source).await;
    source.reorg(10, 12);
    source.announce();
    place.publish(place.publisher(&source, Start::Height(5)), &source).await;
    (folder, place, source)
}

fn keeper(place: &Place) -> (Arc<Keeper>, RunParts) {
    let keeper = Arc::new(Keeper::default());
    let consumer: Arc<dyn Consumer> = Arc::<Keeper>::clone(&keeper);
    let archive = Some(Arc::clone(&place.warehouse));
    (keeper, RunParts { consumer, archive, ..place.consumer() })
}

fn again(place: &Place, keeper: &Arc<Keeper>) -> RunParts {
    let consumer: Arc<dyn Consumer> = Arc::<Keeper>::clone(keeper);
    RunParts { consumer, archive: Some(Arc::clone(&place.warehouse)), ..place.consumer() }
}

fn branch(source: &SimSource) -> Vec<BlockRef> {
    source.blocks().iter().map(|block| block.header.block).skip(5).collect()
}

#[tokio::test]
async fn frames_come_in_bounded_batches_and_failures_are_tried_again() {
    let (_folder, place, source) = published().await;
    let (keeper, parts) = keeper(&place);
    keeper.state.lock().errors = vec![ConsumeError::Retry("the database is away".to_owned()); 3];
    let state = parts.state.subscribe();
    place.consume(parts).await.unwrap();
    let tail = place.bus.tail(CHAIN).await.unwrap();
    {
        let kept = keeper.state.lock();
        assert_eq!((kept.branch.clone(), kept.sequence), (branch(&source), tail.sequence));
        // 77 frames, at most 11 in a batch.
        assert!(kept.batches >= 7 && kept.resets == 0, "{kept:?}");
    }
    let state = state.borrow().clone();
    assert_eq!((state.cursor, state.lag_frames, state.problem), (Some(tail), 0, None));
    // The clock stands at 1.8 billion seconds.
    let newest = source.blocks().last().unwrap().header.timestamp;
    assert_eq!(state.age_s, Some(1_800_000_000 - newest));
}

#[tokio::test]
async fn a_batch_that_failed_and_was_committed_all_the_same_is_not_applied_twice() {
    let (_folder, place, source) = published().await;
    let (keeper, parts) = keeper(&place);
    {
        let mut state = keeper.state.lock();
        state.commits = true;
        state.errors = vec![ConsumeError::Retry("the connection broke".to_owned()); 4];
    }
    place.consume(parts).await.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
}

#[tokio::test]
async fn a_fatal_error_ends_the_run_and_is_told() {
    let (_folder, place, _) = published().await;
    let (keeper, parts) = keeper(&place);
    keeper.state.lock().errors = vec![ConsumeError::Fatal("no such table".to_owned())];
    let state = parts.state.subscribe();
    let error = place.consume(parts).await.unwrap_err();
    assert_eq!(error, ConsumeError::Fatal("no such table".to_owned()));
    assert_eq!(state.borrow().problem.as_deref(), Some("no such table"));
}

#[tokio::test]
async fn a_consumer_with_another_history_is_built_again_from_the_bus() {
    let (_folder, place, source) = published().await;
    let (keeper, parts) = keeper(&place);
    let wrong = BlockRef { number: 44, hash: lookout_types::Hash([1; 32]) };
    {
        let mut state = keeper.state.lock();
        (state.sequence, state.branch) = (40, vec![wrong]);
    }
    place.consume(parts).await.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
    assert_eq!(keeper.state.lock().resets, 1);
    // Ahead of the bus: the bus was replaced.
    keeper.state.lock().sequence = 1_000;
    place.consume(again(&place, &keeper)).await.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
    assert_eq!(keeper.state.lock().resets, 2);
    // One that never comes right is not rebuilt for ever.
    keeper.state.lock().errors = vec![ConsumeError::Rebuild("it does not fit".to_owned()); 9];
    keeper.state.lock().sequence = 0;
    keeper.state.lock().branch.clear();
    let error = place.consume(again(&place, &keeper)).await.unwrap_err();
    assert!(error.to_string().contains("rebuilt 5 times and still: it does not fit"), "{error}");
}

#[tokio::test]
async fn where_the_bus_was_trimmed_a_consumer_is_built_from_the_warehouse() {
    let (_folder, mut place, source) = published().await;
    place.consume(place.consumer()).await.unwrap();
    // More comes than the warehouse has read: the bus goes on where the warehouse ends.
    source.extend(20);
    source.announce();
    place.publish(place.publisher(&source, Start::Height(5)), &source).await;
    place.bus = Trimmed::new(&place.bus, 60);
    let (keeper, parts) = keeper(&place);
    place.consume(parts).await.unwrap();
    let tail = place.bus.tail(CHAIN).await.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
    assert_eq!(keeper.state.lock().sequence, tail.sequence);
    // Interrupted in the middle, its cursor means nothing to the bus, and it begins again.
    {
        let mut state = keeper.state.lock();
        state.branch.truncate(45);
        state.sequence = 65;
    }
    place.consume(again(&place, &keeper)).await.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
}

#[tokio::test]
async fn on_an_emptied_bus_the_first_frame_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let (keeper, parts) = keeper(&place);
    let gone = BlockRef { number: 44, hash: lookout_types::Hash([1; 32]) };
    {
        let mut state = keeper.state.lock();
        (state.sequence, state.branch) = (40, vec![gone]);
    }
    let (state, stop) = (parts.state.subscribe(), parts.stop.clone());
    let source = source(11, 60);
    let filling = async {
        // More often than it would be built again in vain.
        for _ in 0..8 {
            let mut state = state.clone();
            state.changed().await.unwrap();
            let waits = |state: &ConsumerState| {
                state.problem.as_ref().is_some_and(|problem| problem.contains("the bus is empty"))
            };
            reached(state, waits).await;
        }
        assert_eq!(keeper.state.lock().resets, 0);
        place.publish(place.publisher(&source, Start::Height(5)), &source).await;
        let tail = place.bus.tail(CHAIN).await.unwrap();
        reached(state, |state| state.cursor == Some(tail)).await;
        stop.cancel();
    };
    let (ended, ()) = within(Box::pin(async { tokio::join!(run(parts), filling) })).await;
    ended.unwrap();
    assert_eq!(keeper.state.lock().branch, branch(&source));
    assert_eq!(keeper.state.lock().resets, 1);
}

#[tokio::test]
async fn what_cannot_be_built_again_is_left_as_it_is() {
    let (_folder, mut place, source) = published().await;
    place.consume(place.consumer()).await.unwrap();
    let held = place.held().await;
    // Another bus, of which too little is there.
    let other = tempfile::tempdir().unwrap();
    let fresh = Place::open(other.path()).await;
    for bus in [
        // Empty.
        Arc::clone(&fresh.bus),
        // Begins later than what is held.
        {
            fresh.publish(fresh.publisher(&source, Start::Height(50)), &source).await;
            Arc::clone(&fresh.bus)
        },
        // Has let go of its beginning, and is another one's: its frame 78 is block 27.
        {
            let bus: Arc<dyn Bus> = Trimmed::new(&fresh.bus, 6);
            bus
        },
    ] {
        place.bus = bus;
        let error = place.consume(place.consumer()).await.unwrap_err();
        let said = "lookout backfill --chain sim --from 5 --to M --rebuild";
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(place.held().await, held);
    }
}

#[tokio::test]
async fn the_bus_lets_go_of_what_everyone_has_committed() {
    let (_folder, place, _) = published().await;
    place.consume(place.consumer()).await.unwrap();
    let bus = Trimmed::new(&place.bus, 1);
    let (keeper, _) = keeper(&place);
    let stop = tokio_util::sync::CancellationToken::new();
    let trim = |sequence: u64, run: Option<&watch::Sender<ConsumerState>>| {
        keeper.state.lock().sequence = sequence;
        let slow: Arc<dyn Consumer> = Arc::<Keeper>::clone(&keeper);
        let fast = Arc::new(WarehouseConsumer::new(Arc::clone(&place.warehouse)));
        let bus: Arc<dyn Bus> = Arc::<Trimmed>::clone(&bus);
        let ended = watch::Sender::default().subscribe();
        let run = Some(run.map_or(ended, watch::Sender::subscribe));
        let parts = TrimParts {
            bus,
            chain: CHAIN,
            name: "sim".into(),
            readers: vec![Reader { consumer: fast, run: None }, Reader { consumer: slow, run }],
            keep_frames: 10,
            interval: Duration::from_secs(1),
            stop: stop.clone(),
        };
        async move { parts.trim_once().await.unwrap() }
    };
    let runs = watch::Sender::default();
    for (sequence, oldest) in [(0, 1), (5, 1), (30, 20), (30, 20)] {
        assert_eq!(trim(sequence, Some(&runs)).await, oldest);
    }
    // One that was told to end goes on later; for one that ended by itself nothing is kept.
    let tail = place.bus.tail(CHAIN).await.unwrap().sequence;
    assert_eq!(trim(30, None).await, tail - 10);
    stop.cancel();
    bus.oldest.store(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(trim(30, None).await, 1);
    assert_eq!(trim(70, Some(&runs)).await, 60);
}
