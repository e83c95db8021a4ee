//! Publishing, case by case.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lookout_chain::Wants;
use lookout_types::{Cursor, ErrorKind, Step};
use tokio::sync::watch;

use super::fakes::Trimmed;
use super::{CHAIN, Place, assert_is_chain, frames, limits, reached, replay, source, within};
use crate::consume::ConsumerState;
use crate::publish::{
    Ended, Limits, Phase, PublishError, Publisher, PublisherState, Standby, Start,
};
use crate::sim::{Faults, Shape, SimSource};

pub(super) async fn place() -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    (folder, place)
}

/// How many frames take blocks back.
pub(super) async fn undone(place: &Place) -> usize {
    frames(&place.bus).await.iter().filter(|frame| frame.step == Step::Undo).count()
}

#[tokio::test]
async fn every_height_gets_a_frame_from_the_first_one_on() {
    let (_folder, place) = place().await;
    let source = source(1, 100);
    let parts = place.publisher(&source, Start::Height(10));
    let state = Publisher::new(place.publisher(&source, Start::Latest)).state();
    assert!(matches!(state.borrow().phase, Phase::Waiting { .. }));
    place.publish(parts, &source).await;
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 10);
    assert_eq!(place.bus.tail(CHAIN).await.unwrap().sequence, 90);
    // Going on, the first height that is asked for no longer counts.
    source.extend(3);
    source.announce();
    place.publish(place.publisher(&source, Start::Latest), &source).await;
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 10);
}

#[tokio::test]
async fn without_a_first_height_the_head_is_the_first_block() {
    let (_folder, place) = place().await;
    let source = source(1, 30);
    let publisher = Publisher::new(place.publisher(&source, Start::Latest));
    let state = publisher.state();
    let following = async {
        let tip = source.tip();
        reached(state.clone(), |state| state.head == tip).await;
        source.extend(2);
        source.announce();
        let tip = source.tip();
        let state = reached(state, |state| state.head == tip && state.phase == Phase::Following);
        state.await
    };
    let state = within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            state = following => state,
        }
    }))
    .await;
    assert_eq!((state.first, state.target), (Some(29), Some(31)));
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 29);
}

#[tokio::test]
async fn logs_alone_are_published_where_blocks_are_not_wanted_whole() {
    let (_folder, place) = place().await;
    let source = source(1, 20);
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.wants = Wants::default();
    place.publish(parts, &source).await;
    let frames = frames(&place.bus).await;
    assert!(frames.iter().all(|frame| frame.transactions.is_empty()));
    assert!(frames.iter().any(|frame| !frame.logs.is_empty()));
}

#[tokio::test]
async fn reorgs_of_every_depth_and_back_again_are_undone() {
    let (_folder, place) = place().await;
    let source = source(2, 100);
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    let mut before = 0;
    for depth in [1, 2, 5, 31, 32, 33, 64] {
        let left = source.reorg(depth, depth + 1).unwrap();
        source.announce();
        place.publish(place.publisher(&source, Start::Height(0)), &source).await;
        assert_eq!(undone(&place).await - before, depth);
        let there = source.tip().unwrap();
        source.switch_to(left);
        source.extend(2);
        source.announce();
        place.publish(place.publisher(&source, Start::Height(0)), &source).await;
        source.switch_to(there);
        source.extend(3);
        source.announce();
        place.publish(place.publisher(&source, Start::Height(0)), &source).await;
        assert_is_chain(&replay(&frames(&place.bus).await), &source, 0);
        before = undone(&place).await;
    }
}

#[tokio::test]
async fn blocks_that_the_bus_has_let_go_of_are_undone_from_the_warehouse() {
    let (_folder, mut place) = place().await;
    let source = source(3, 700);
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    place.consume(place.consumer()).await.unwrap();
    let whole = Arc::clone(&place.bus);
    // From both: 20 blocks are on the bus, 580 are not.
    let trimmed = Trimmed::new(&whole, 681);
    place.bus = Arc::<Trimmed>::clone(&trimmed);
    source.reorg(600, 601);
    source.announce();
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    let all = frames(&whole).await;
    assert_is_chain(&replay(&all), &source, 0);
    assert_eq!(all.iter().filter(|frame| frame.step == Step::Undo).count(), 600);
    // What neither has any more cannot be undone, and that is said.
    place.warehouse.truncate(CHAIN).await.unwrap();
    trimmed.oldest.store(1_890, Ordering::Relaxed);
    source.reorg(300, 301);
    source.announce();
    let publisher = Publisher::new(place.publisher(&source, Start::Latest));
    let error = within(Box::pin(publisher.run())).await.unwrap_err();
    assert!(matches!(error, PublishError::Forgotten { .. }), "{error}");
}

#[tokio::test]
async fn frames_that_the_bus_lets_go_of_while_a_publisher_runs_are_undone_from_the_warehouse() {
    let (_folder, mut place) = place().await;
    let whole = Arc::clone(&place.bus);
    let trimmed = Trimmed::new(&whole, 1);
    place.bus = Arc::<Trimmed>::clone(&trimmed);
    let source = source(3, 700);
    let publisher = Publisher::new(place.publisher(&source, Start::Height(0)));
    let state = publisher.state();
    let reorging = async {
        let tip = source.tip();
        reached(state.clone(), |state| state.head == tip).await;
        place.consume(place.consumer()).await.unwrap();
        // It knows where on the bus all of them were.
        for (oldest, depth) in [(500, 400), (1_400, 300), (1_990, 500)] {
            trimmed.oldest.store(oldest, Ordering::Relaxed);
            source.reorg(depth, depth + 1);
            source.announce();
            let tip = source.tip();
            reached(state.clone(), |state| state.head == tip).await;
            place.consume(place.consumer()).await.unwrap();
        }
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            () = reorging => {}
        }
    }))
    .await;
    let all = frames(&whole).await;
    assert_is_chain(&replay(&all), &source, 0);
    assert_eq!(all.iter().filter(|frame| frame.step == Step::Undo).count(), 1_200);
}

#[tokio::test]
async fn a_fork_below_the_first_block_stops_an_old_chain_and_restarts_a_young_one() {
    let (_folder, place) = place().await;
    let source = source(4, 40);
    place.publish(place.publisher(&source, Start::Height(30)), &source).await;
    source.reorg(20, 25);
    source.announce();
    let mut parts = place.publisher(&source, Start::Height(30));
    parts.limits = Limits { young_blocks: 9, ..limits() };
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    let error = within(Box::pin(publisher.run())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let said = "forks below block 30, the first one held (10 blocks are)";
    assert!(error.to_string().contains(said), "{error}");
    assert!(error.to_string().contains("lookout backfill --chain sim --from 30 --to 44 --rebuild"));
    assert_eq!(state.borrow().phase, Phase::Stopped { reason: error.to_string() });
    assert_eq!(undone(&place).await, 0);

    let mut parts = place.publisher(&source, Start::Height(30));
    parts.limits = Limits { young_blocks: 10, ..limits() };
    place.publish(parts, &source).await;
    assert_eq!(undone(&place).await, 10);
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 30);
    place.consume(place.consumer()).await.unwrap();
    assert_eq!(place.warehouse.coverage(CHAIN).await.unwrap(), [30..=44]);
}

#[tokio::test]
async fn an_upstream_that_answers_wrongly_delays_and_nothing_else() {
    for faults in [
        Faults { wrong: 60, ..Faults::default() },
        Faults { away: 60, ..Faults::default() },
        Faults { moved: 60, ..Faults::default() },
        Faults { unproved: 60, ..Faults::default() },
    ] {
        let (_folder, place) = place().await;
        let source = source(6, 60);
        source.set_faults(faults);
        let parts = place.publisher(&source, Start::Height(0));
        place.publish(parts, &source).await;
        source.reorg(20, 22);
        source.announce();
        let publisher = Publisher::new(place.publisher(&source, Start::Height(0)));
        let state = publisher.state();
        let tip = source.tip();
        let state = within(Box::pin(async {
            tokio::select! {
                ended = publisher.run() => panic!("{ended:?}"),
                state = reached(state, |state| state.head == tip) => state,
            }
        }))
        .await;
        assert_eq!(state.unproved > 0, faults.unproved > 0);
        assert_is_chain(&replay(&frames(&place.bus).await), &source, 0);
    }
}

#[tokio::test]
async fn few_ranges_are_refused_and_a_block_that_is_too_large_alone_is_waited_for() {
    let (_folder, place) = place().await;
    let source = source(7, 6_000);
    source.set_faults(Faults { range_blocks_max: Some(17), ..Faults::default() });
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.limits = Limits { range_blocks_start: 50, parallel: 4, ..limits() };
    place.publish(parts, &source).await;
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 0);
    let calls = source.calls();
    // The limit is below the first size: it is found by a few refusals, which count too.
    assert!(calls.refused <= calls.ranges / 100 + 4, "{calls:?}");
    assert!(calls.ranges < 600, "{calls:?}");
    assert!(calls.blocks < 6_200, "{calls:?}");

    source.set_faults(Faults { range_blocks_max: Some(0), ..Faults::default() });
    source.extend(2);
    source.announce();
    let publisher = Publisher::new(place.publisher(&source, Start::Height(0)));
    let state = publisher.state();
    let tip = source.tip();
    let healing = async {
        while source.calls().refused < calls.refused + 3 {
            tokio::task::yield_now().await;
        }
        source.set_faults(Faults::default());
        reached(state, |state| state.head == tip).await
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            _ = healing => {}
        }
    }))
    .await;
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_published_twice() {
    let (_folder, mut place) = place().await;
    let source = source(16, 100);
    let full = Trimmed::new(&place.bus, 1);
    full.full.store(12, Ordering::Relaxed);
    place.bus = Arc::<Trimmed>::clone(&full);
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    assert_eq!(full.full.load(Ordering::Relaxed), 0);
    full.full.store(5, Ordering::Relaxed);
    source.reorg(30, 31);
    source.announce();
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 0);
}

#[tokio::test]
async fn a_bus_that_lost_everything_does_not_begin_anew_beside_the_warehouse() {
    let (_folder, mut place) = place().await;
    let source = source(17, 20);
    place.publish(place.publisher(&source, Start::Height(3)), &source).await;
    place.consume(place.consumer()).await.unwrap();
    let (_other, fresh) = self::place().await;
    place.bus = fresh.bus;
    let publisher = Publisher::new(place.publisher(&source, Start::Latest));
    let error = within(Box::pin(publisher.run())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let said = "the bus holds no frame of chain `sim`, but the warehouse has read 17";
    assert!(error.to_string().starts_with(said), "{error}");
    // Forgetting all of it is the way out.
    let (bus, warehouse) = (&place.bus, &place.warehouse);
    crate::publish::forget(CHAIN, bus, warehouse, &place.store, "a").await.unwrap();
    let held = crate::publish::held("sim", CHAIN, bus, warehouse).await.unwrap();
    assert_eq!((held.first, held.head, held.frames), (None, None, 0));
    place.publish(place.publisher(&source, Start::Height(3)), &source).await;
    let held = crate::publish::held("sim", CHAIN, bus, warehouse).await.unwrap();
    assert_eq!((held.first, held.head, held.frames), (Some(3), source.tip(), 17));
}

#[tokio::test]
async fn a_backfill_ends_at_its_last_height_and_goes_on_there() {
    let (_folder, place) = place().await;
    let source = source(8, 200);
    for until in [50, 50, 120] {
        let mut parts = place.publisher(&source, Start::Height(20));
        parts.until = Some(until);
        let ended = within(Box::pin(Publisher::new(parts).run())).await.unwrap();
        assert_eq!(ended, Ended::Reached);
        let head = place.bus.tail(CHAIN).await.unwrap().head;
        assert_eq!(head.map(|head| head.number), Some(until));
    }
    // Nothing above was read.
    assert_eq!(source.calls().blocks, 101);
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded() {
    let shape = Shape { lowest: 0, logs_max: 400, transactions_max: 0 };
    let source = SimSource::new(CHAIN, 9, shape);
    source.extend(400);
    source.announce();
    let bytes = |block: &lookout_chain::SourceBlock| {
        crate::publish::past::size_of_records(&block.transactions, &block.logs)
    };
    let largest = source.blocks().iter().map(|block| bytes(block)).max().unwrap();
    let limits = Limits {
        parallel: 8,
        range_blocks_start: 4,
        range_whole_blocks_max: 4,
        buffer_bytes: 12 * largest,
        ..limits()
    };
    let wants = Wants { whole: true, ..Wants::default() };
    let mut sizing = crate::publish::sizing::Sizing::new(&limits, true);
    let reads: Arc<dyn lookout_chain::Source> = Arc::new(source.clone());
    let mut ranges =
        crate::publish::ranges::Ranges::new(&reads, &wants, &limits, &mut sizing, 0..=399);
    let mut next = 0;
    while let Some(blocks) = ranges.next().await {
        for block in blocks.unwrap() {
            assert_eq!(block.header.block.number, next);
            next += 1;
        }
        // However slow the one who writes is, reading on stops at the bound.
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        let held = usize::try_from(ranges.held_bytes()).unwrap();
        assert!(held <= limits.buffer_bytes + 4 * largest, "{held} of {}", limits.buffer_bytes);
    }
    assert_eq!(next, 400);
    assert!(source.calls().blocks <= 400);
}

#[tokio::test]
async fn a_backfill_waits_for_its_consumers_as_long_as_they_live() {
    let (_folder, place) = place().await;
    let source = source(18, 300);
    let slow = watch::Sender::<ConsumerState>::default();
    let at = |sequence| Some(Cursor { chain: CHAIN, sequence, head: None });
    slow.send_modify(|state| state.cursor = at(0));
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.pace = vec![slow.subscribe()];
    parts.limits = Limits { ahead_frames: 50, range_whole_blocks_max: 10, ..limits() };
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    let number = |state: &PublisherState| state.head.map_or(0, |head| head.number);
    let tip = source.tip();
    let consuming = async {
        for sequence in [0, 70, 71, 150] {
            slow.send_modify(|state| state.cursor = at(sequence));
            // It stops within a range of the bound.
            let stopped = reached(state.clone(), |state| number(state) >= sequence + 50).await;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert!(number(&stopped) <= sequence + 60 && number(&state.borrow()) <= sequence + 60);
        }
        drop(slow);
        reached(state, |state| state.head == tip).await;
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            () = consuming => {}
        }
    }))
    .await;
}

#[tokio::test]
async fn one_instance_publishes_and_another_waits_or_is_refused() {
    let (_folder, place) = place().await;
    let source = source(10, 30);
    let first = Publisher::new(place.publisher(&source, Start::Height(0)));
    let published = first.state();
    let tip = source.tip();
    let (stop, waits_stop) = {
        let parts = place.publisher(&source, Start::Height(0));
        (parts.stop.clone(), parts.stop)
    };
    drop(stop);
    let both = async {
        reached(published, |state| state.head == tip).await;
        let mut other = place.publisher(&source, Start::Height(0));
        other.holder = "b".to_owned();
        let error = Publisher::new(other).run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("published by `a`"), "{error}");
        let mut other = place.publisher(&source, Start::Height(0));
        other.holder = "b".to_owned();
        other.standby = Standby::Wait;
        other.stop = waits_stop.clone();
        let other = Publisher::new(other);
        let state = other.state();
        let waits = async {
            let is_waiting = |phase: &Phase| matches!(phase, Phase::Waiting { reason } if reason.contains("published by `a`"));
            reached(state, |state| is_waiting(&state.phase)).await;
            waits_stop.cancel();
        };
        let (ended, ()) = tokio::join!(other.run(), waits);
        assert_eq!(ended.unwrap(), Ended::Stopped);
    };
    within(Box::pin(async {
        tokio::select! {
            ended = first.run() => panic!("{ended:?}"),
            () = both => {}
        }
    }))
    .await;
    // It was dropped as in a crash: under its own name it comes back at once.
    source.extend(1);
    source.announce();
    place.publish(place.publisher(&source, Start::Height(0)), &source).await;
    // And it has given the lease back, so another need not wait.
    source.extend(1);
    source.announce();
    let mut other = place.publisher(&source, Start::Height(0));
    other.holder = "b".to_owned();
    place.publish(other, &source).await;
    let tail = place.bus.tail(CHAIN).await.unwrap();
    assert_eq!(tail.head, source.tip());
}
