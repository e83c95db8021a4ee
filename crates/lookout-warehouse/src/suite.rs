//! What every warehouse must do alike.
//!
//! Each case takes a [`Rig`] with an empty place of its own. What queries must answer is computed
//! from the frames by the plainest means ([`World`]), so a backend is checked against that, and not
//! against another backend.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed case is a failed test"
)]

pub(crate) mod model;

use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use lookout_types::{Address, Amount, ErrorKind, Frame, Hash, Step, TRANSFER};

use crate::{
    AssetFilter, Event, EventFilter, EventGroup, OddEvent, Order, PageRequest, Side, Span, Total,
    TransferEvent, TransferFilter, Warehouse, WarehouseError, export_events, export_transfers,
};
pub use model::{CHAIN, World};

/// Opens the same warehouse again and again.
#[async_trait]
pub trait Rig: Sync {
    /// Opens it; the instance before is closed or dropped.
    async fn open(&self) -> Arc<dyn Warehouse>;

    /// Whether what was committed is still there when it is opened again.
    fn keeps(&self) -> bool;
}

/// All that a warehouse answers about the chain of the cases.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    frames: Vec<Frame>,
    events: Vec<Event>,
    transfers: Vec<TransferEvent>,
    odd: Vec<OddEvent>,
}

async fn answers(warehouse: &Arc<dyn Warehouse>) -> Answers {
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let after = frames.last().map(|frame| frame.block);
        let some = warehouse.frames(CHAIN, 0..=u64::MAX, after).await.unwrap();
        if some.is_empty() {
            break;
        }
        frames.extend(some);
    }
    Answers {
        frames,
        events: all_events(warehouse, EventFilter::all(CHAIN), Order::OldestFirst).await,
        transfers: all_transfers(warehouse, TransferFilter::all(CHAIN), Order::OldestFirst).await,
        odd: warehouse.odd_logs(CHAIN, &oldest_first(1000)).await.unwrap().items,
    }
}

async fn all_events(
    warehouse: &Arc<dyn Warehouse>,
    filter: EventFilter,
    order: Order,
) -> Vec<Event> {
    export_events(Arc::clone(warehouse), filter, order).try_concat().await.unwrap()
}

async fn all_transfers(
    warehouse: &Arc<dyn Warehouse>,
    filter: TransferFilter,
    order: Order,
) -> Vec<TransferEvent> {
    export_transfers(Arc::clone(warehouse), filter, order).try_concat().await.unwrap()
}

fn oldest_first(limit: u32) -> PageRequest {
    PageRequest { limit, order: Order::OldestFirst, cursor: None }
}

fn expected(world: &World) -> Answers {
    Answers {
        frames: world.final_frames(),
        events: world.events(),
        transfers: world.transfers(),
        odd: world.odd(),
    }
}

async fn check(warehouse: &Arc<dyn Warehouse>, world: &World) {
    let cursor = warehouse.cursor(CHAIN).await.unwrap();
    assert_eq!(cursor.sequence, u64::try_from(world.frames.len()).unwrap());
    assert_eq!(cursor.head, world.blocks.last().map(|frame| frame.block));
    let held = world.blocks.first().zip(world.blocks.last());
    let held: Vec<_> = held.map(|(a, b)| a.block.number..=b.block.number).into_iter().collect();
    assert_eq!(warehouse.coverage(CHAIN).await.unwrap(), held);
    let (found, told) = (answers(warehouse).await, expected(world));
    assert_eq!(found.frames, told.frames);
    assert_eq!(found, told);
}

/// A chain that is not known is empty, not an error.
pub async fn an_unknown_chain_is_empty(rig: &dyn Rig) {
    let warehouse = rig.open().await;
    check(&warehouse, &World::new(0)).await;
    assert_eq!(warehouse.retain(CHAIN, 5).await.unwrap(), 0);
    warehouse.truncate(CHAIN).await.unwrap();
    let all = EventFilter::all(CHAIN);
    assert_eq!(warehouse.event_stats(&all, None, EventGroup::All).await.unwrap(), []);
}

/// Random frames with random reorgs, in random batches, with crashes: the answers are those of the
/// final chain.
pub async fn any_history_ends_in_the_final_chain(rig: &dyn Rig, seed: u64) {
    let mut world = World::new(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut warehouse = rig.open().await;
    for _ in 0..random.usize(1..5) {
        world.run(random.usize(1..60));
        loop {
            let cursor = warehouse.cursor(CHAIN).await.unwrap();
            let done = usize::try_from(cursor.sequence).unwrap();
            if done == world.frames.len() {
                break;
            }
            // Some that were committed come again, as after a crash of the publisher.
            let from = done.saturating_sub(random.usize(0..4));
            let end = world.frames.len().min(done + random.usize(1..25));
            let mut batch = world.frames[from..end].to_vec();
            if random.u8(0..4) == 0 {
                // A batch that fails at its end leaves nothing of itself.
                let mut wrong = Frame::clone(&batch[batch.len() - 1]);
                wrong.sequence += 2;
                batch.push(Arc::new(wrong));
                let error = warehouse.apply(batch).await.unwrap_err();
                assert!(matches!(error, WarehouseError::Gap { .. }), "{error}");
                assert_eq!(warehouse.cursor(CHAIN).await.unwrap(), cursor);
            } else {
                let applied = warehouse.apply(batch).await.unwrap();
                assert_eq!(applied.frames, u64::try_from(end - done).unwrap());
                assert_eq!(applied.repeated, u64::try_from(done - from).unwrap());
            }
            if rig.keeps() && random.u8(0..6) == 0 {
                drop(warehouse);
                warehouse = rig.open().await;
            }
        }
        check(&warehouse, &world).await;
    }
}

/// Forgetting a chain and reading its frames again gives the same answers.
pub async fn a_rebuild_is_the_same(rig: &dyn Rig) {
    let mut world = World::new(21);
    world.run(200);
    world.extend(30);
    let warehouse = rig.open().await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    check(&warehouse, &world).await;
    warehouse.truncate(CHAIN).await.unwrap();
    check(&warehouse, &World::new(0)).await;
    for batch in world.frames.chunks(3) {
        warehouse.apply(batch.to_vec()).await.unwrap();
    }
    check(&warehouse, &world).await;
    // And so does building it from what another warehouse says the chain is.
    let frames = world.final_frames().into_iter().map(Arc::new).collect::<Vec<_>>();
    warehouse.truncate(CHAIN).await.unwrap();
    warehouse.apply(frames).await.unwrap();
    assert_eq!(answers(&warehouse).await, expected(&world));
}

/// Frames that do not follow are refused, by what is wrong with them.
pub async fn wrong_frames_are_refused(rig: &dyn Rig) {
    let mut world = World::new(22);
    world.extend(6);
    let warehouse = rig.open().await;
    let change = |at: usize, change: fn(&mut Frame)| {
        let mut frame = Frame::clone(&world.frames[at]);
        change(&mut frame);
        vec![Arc::new(frame)]
    };
    let refuse = async |frames: Vec<Arc<Frame>>, part: &str, kind: ErrorKind| {
        let before = warehouse.cursor(CHAIN).await.unwrap();
        let error = warehouse.apply(frames).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(warehouse.cursor(CHAIN).await.unwrap(), before);
    };
    let conflict = ErrorKind::Conflict;
    refuse(vec![], "at least one frame", ErrorKind::Invalid).await;
    refuse(change(2, |_| {}), "frame 3 does not follow the cursor at frame 0", conflict).await;
    refuse(change(0, |f| f.step = Step::Undo), "the head is no block at all", conflict).await;
    warehouse.apply(world.frames[..4].to_vec()).await.unwrap();
    refuse(change(4, |f| f.parent = Hash([3; 32])), "frame 5 cannot apply block", conflict).await;
    refuse(change(4, |f| f.block.number += 1), "the head is block", conflict).await;
    refuse(change(4, |f| f.step = Step::Undo), "frame 5 cannot undo block", conflict).await;
    refuse(change(4, |f| f.sequence = 6), "frame 6 does not follow", conflict).await;
    refuse(change(1, |f| f.block.hash = Hash([3; 32])), "was committed as that frame", conflict)
        .await;
    refuse(change(1, |f| f.step = Step::Undo), "frame 2 is undo 0x", conflict).await;
    refuse(change(4, |f| f.timestamp = u64::MAX), "the highest is 2^63", ErrorKind::Invalid).await;
    let topics = |f: &mut Frame| f.logs = vec![model::odd_log(5)];
    refuse(change(4, topics), "5 topics", ErrorKind::Invalid).await;
    let mixed = [change(4, |_| {}), change(5, |f| f.chain.0 += 1)].concat();
    refuse(mixed, "frames of one chain", ErrorKind::Invalid).await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    check(&warehouse, &world).await;
}

/// Each filter finds what the plainest search finds, in both orders and in pages of any size.
pub async fn filters_find_what_matches(rig: &dyn Rig) {
    let mut world = World::new(23);
    world.run(400);
    let warehouse = rig.open().await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    let mut random = fastrand::Rng::with_seed(23);
    let (mut events, mut transfers) = (0, 0);
    for _ in 0..150 {
        let filter = world.random_event_filter(&mut random);
        let mut told: Vec<_> =
            world.events().into_iter().filter(|e| model::event_matches(&filter, e)).collect();
        events += told.len();
        assert_eq!(all_events(&warehouse, filter.clone(), Order::OldestFirst).await, told);
        told.reverse();
        assert_eq!(paged_events(&warehouse, &filter, random.u32(1..40)).await, told, "{filter:?}");

        let filter = world.random_transfer_filter(&mut random);
        let mut told: Vec<_> =
            world.transfers().into_iter().filter(|t| model::transfer_matches(&filter, t)).collect();
        transfers += told.len();
        assert_eq!(all_transfers(&warehouse, filter.clone(), Order::OldestFirst).await, told);
        told.reverse();
        assert_eq!(all_transfers(&warehouse, filter, Order::NewestFirst).await, told);
    }
    assert!(events > 1000 && transfers > 1000, "{events} {transfers}: too little was found");
}

async fn paged_events(
    warehouse: &Arc<dyn Warehouse>,
    filter: &EventFilter,
    limit: u32,
) -> Vec<Event> {
    let mut page = PageRequest::first(limit);
    let mut all = Vec::new();
    loop {
        let found = warehouse.events(filter, &page).await.unwrap();
        assert!(found.items.len() <= usize::try_from(limit).unwrap());
        all.extend(found.items);
        match found.next {
            Some(next) => page.cursor = Some(next),
            None => return all,
        }
    }
}

/// Counts and sums are those of the records, whatever the buckets.
pub async fn stats_add_up(rig: &dyn Rig) {
    let mut world = World::new(24);
    world.run(300);
    let warehouse = rig.open().await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    let mut random = fastrand::Rng::with_seed(24);
    for round in 0..60 {
        let bucket =
            [None, NonZeroU64::new(1), NonZeroU64::new(100), NonZeroU64::new(3600)][round % 4];
        let filter = world.random_event_filter(&mut random);
        let group = [EventGroup::All, EventGroup::Address, EventGroup::Event][round % 3];
        let found = warehouse.event_stats(&filter, bucket, group).await.unwrap();
        let told = world.events().iter().filter(|e| model::event_matches(&filter, e)).count();
        assert_eq!(found.iter().map(|row| row.count).sum::<u64>(), u64::try_from(told).unwrap());
        assert_eq!(found, world.event_stats(&filter, bucket, group));
        let filter = world.random_transfer_filter(&mut random);
        let found = warehouse.transfer_stats(&filter, bucket).await.unwrap();
        assert_eq!(found, world.transfer_stats(&filter, bucket));
    }
}

/// Sums are exact up to 2^256 - 1, and say so when they pass it.
pub async fn sums_are_exact_or_say_that_they_overflow(rig: &dyn Rig) {
    let warehouse = rig.open().await;
    let mut world = World::new(25);
    let max = Amount::default().0.wrapping_sub("1".parse::<Amount>().unwrap().0);
    let party = Address([1; 20]);
    world.extend_with(vec![
        model::erc20(Address([0xa0; 20]), party, party, Amount(max)),
        model::erc20(Address([0xb0; 20]), party, party, Amount(max)),
    ]);
    world.extend_with(vec![model::erc20(Address([0xb0; 20]), party, party, "1".parse().unwrap())]);
    warehouse.apply(world.frames.clone()).await.unwrap();
    let stats = warehouse.transfer_stats(&TransferFilter::all(CHAIN), None).await.unwrap();
    let totals: Vec<_> = stats.iter().map(|row| (row.count, row.total)).collect();
    assert_eq!(totals, [(1, Total::Exact(Amount(max))), (2, Total::Overflow)]);
}

/// A cursor goes on where its page ended, also when a reorg came in between.
pub async fn pages_survive_reorgs_or_say_so(rig: &dyn Rig) {
    let warehouse = rig.open().await;
    let mut world = World::new(26);
    let erc20 = |n: u8| {
        model::erc20(Address([n; 20]), Address([1; 20]), Address([2; 20]), Amount::default())
    };
    for n in 1..=6 {
        world.extend_with(vec![erc20(n), erc20(n + 100)]);
    }
    warehouse.apply(world.frames.clone()).await.unwrap();
    let filter = EventFilter::all(CHAIN);
    let (newest, oldest) = (PageRequest::first(3), oldest_first(9));
    let down = warehouse.events(&filter, &newest).await.unwrap();
    let up = warehouse.events(&filter, &oldest).await.unwrap();
    let low = warehouse.events(&filter, &oldest_first(3)).await.unwrap();
    let contracts =
        |events: &[Event]| events.iter().map(|e| e.log.address.0[0]).collect::<Vec<_>>();
    assert_eq!(contracts(&down.items), [106, 6, 105]);
    assert_eq!(contracts(&up.items), [1, 101, 2, 102, 3, 103, 4, 104, 5]);

    let done = world.frames.len();
    world.undo(2);
    world.extend_with(vec![erc20(55), erc20(155)]);
    world.extend_with(vec![erc20(66)]);
    warehouse.apply(world.frames[done..].to_vec()).await.unwrap();
    // Downwards, the block it stood in was replaced: all of the new one is new.
    let next = PageRequest { cursor: down.next, ..PageRequest::first(4) };
    let page = warehouse.events(&filter, &next).await.unwrap();
    assert_eq!(contracts(&page.items), [155, 55, 104, 4]);
    // Upwards, records that were read are gone; that must not pass in silence.
    let next = PageRequest { cursor: up.next, ..oldest_first(9) };
    let error = warehouse.events(&filter, &next).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Stale(_)), "{error}");
    let next = PageRequest { cursor: low.next, ..oldest_first(2) };
    assert_eq!(contracts(&warehouse.events(&filter, &next).await.unwrap().items), [102, 3]);
    let after = Some(world.frames[4].block);
    let error = warehouse.frames(CHAIN, 0..=u64::MAX, after).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Stale(_)), "{error}");
    // A cursor of another query, or none at all.
    let cursor = warehouse.events(&filter, &newest).await.unwrap().next;
    let mut other = filter.clone();
    other.addresses = vec![Address([1; 20])];
    for (filter, page) in [
        (&other, PageRequest { cursor: cursor.clone(), ..newest.clone() }),
        (&filter, PageRequest { cursor, ..oldest }),
        (&filter, PageRequest { cursor: Some("x".into()), ..newest.clone() }),
        (&filter, PageRequest::first(0)),
        (&filter, PageRequest::first(1001)),
    ] {
        let error = warehouse.events(filter, &page).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    other.topics[3] = vec![TRANSFER; 257];
    let error = warehouse.events(&other, &newest).await.unwrap_err();
    assert_eq!(error.to_string(), "a query takes at most 256 topics, not 257");
}

/// Retention deletes what is below, keeps the rest as it was, and is no obstacle to what comes.
pub async fn retention_keeps_the_rest(rig: &dyn Rig) {
    let warehouse = rig.open().await;
    let mut world = World::new(27);
    world.extend(700);
    warehouse.apply(world.frames.clone()).await.unwrap();
    let first = world.blocks[0].block.number;
    assert_eq!(warehouse.retain(CHAIN, first).await.unwrap(), 0);
    assert_eq!(warehouse.retain(CHAIN, first + 500).await.unwrap(), 500);
    assert_eq!(warehouse.retain(CHAIN, first + 500).await.unwrap(), 0);
    world.blocks.drain(..500);
    check(&warehouse, &world).await;
    let done = world.frames.len();
    world.undo(100);
    world.extend(120);
    warehouse.apply(world.frames[done..].to_vec()).await.unwrap();
    check(&warehouse, &world).await;
    // The lowest block left has lost its parent.
    let done = world.frames.len();
    let mut gone = world.clone();
    gone.undo(220);
    let error = warehouse.apply(gone.frames[done..].to_vec()).await.unwrap_err();
    assert!(error.to_string().contains("retention"), "{error}");
    check(&warehouse, &world).await;
    // The head stays, whatever is asked for.
    assert_eq!(warehouse.retain(CHAIN, u64::MAX).await.unwrap(), 219);
    world.blocks.drain(..219);
    check(&warehouse, &world).await;
}

/// What it holds is there when it is opened again, and a closed one says that it is closed.
pub async fn it_is_there_when_opened_again(rig: &dyn Rig) {
    let mut world = World::new(28);
    world.run(50);
    let warehouse = rig.open().await;
    warehouse.apply(world.frames.clone()).await.unwrap();
    warehouse.close().await;
    let error = warehouse.cursor(CHAIN).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(warehouse.apply(world.frames.clone()).await.is_err());
    drop(warehouse);
    if rig.keeps() {
        check(&rig.open().await, &world).await;
    }
}

/// Times that run backwards, as Bitcoin's do, hide no record from a search by time.
pub async fn disorderly_times_hide_nothing(rig: &dyn Rig) {
    let warehouse = rig.open().await;
    let mut world = World::new(29);
    for time in [100, 90, 300, 150, 120, 400, 350, 500] {
        let log =
            model::erc20(Address([1; 20]), Address([1; 20]), Address([2; 20]), Amount::default());
        world.extend_with(vec![log]);
        world.set_time(time);
    }
    warehouse.apply(world.frames.clone()).await.unwrap();
    for from in (80..520).step_by(10) {
        for to in (from..520).step_by(10) {
            let mut filter = TransferFilter::all(CHAIN);
            filter.side = Side::From;
            filter.assets = vec![AssetFilter::Contract(Address([1; 20]))];
            filter.span = Span { from_time: Some(from), to_time: Some(to), ..Span::default() };
            let told: Vec<_> = world
                .transfers()
                .into_iter()
                .filter(|t| model::transfer_matches(&filter, t))
                .collect();
            assert_eq!(all_transfers(&warehouse, filter, Order::OldestFirst).await, told);
        }
    }
}
