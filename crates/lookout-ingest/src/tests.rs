//! The pipeline from a simulated chain to the warehouse, as a whole.

mod behind;
mod consume;
mod fakes;
mod lease;
mod property;
mod publish;
mod verify;
mod wants;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lookout_bus::{Bus, BusError, BusUrl};
use lookout_chain::Wants;
use lookout_store::{Store, StoreUrl};
use lookout_types::{ChainId, FixedClock, Frame, Height, Step};
use lookout_warehouse::{
    Event, EventFilter, Order, PageRequest, Span, TransferEvent, TransferFilter, Warehouse,
    WarehouseError, WarehouseUrl,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::consume::{ConsumeError, ConsumeLimits, RunParts, WarehouseConsumer, run};
use crate::publish::{Ended, Limits, Publisher, PublisherParts, Standby, Start};
use crate::sim::{Shape, SimSource};

pub(crate) const CHAIN: ChainId = ChainId(31_337);
/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A place with a bus, a warehouse and a store.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<FixedClock>,
}

pub(crate) async fn memory_store(clock: &Arc<FixedClock>) -> Store {
    let store =
        Store::open(&StoreUrl::SqliteMemory, Arc::<FixedClock>::clone(clock)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

impl Place {
    pub(crate) async fn open(folder: &Path) -> Self {
        let clock = Arc::new(FixedClock::at(1_800_000_000_000));
        let store = memory_store(&clock).await;
        Self::open_with(folder, store, clock).await
    }

    /// Waits for an instance before that is on its way out.
    pub(crate) async fn open_with(folder: &Path, store: Store, clock: Arc<FixedClock>) -> Self {
        let bus = loop {
            match lookout_bus::open(&BusUrl::Local(folder.join("bus"))).await {
                Ok(bus) => break bus,
                Err(BusError::InUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let warehouse = loop {
            let url = WarehouseUrl::SqliteFile(folder.join("events.db"));
            match lookout_warehouse::open(&url).await {
                Ok(warehouse) => break warehouse,
                Err(WarehouseError::InUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        Self { bus, warehouse, store, clock }
    }

    pub(crate) fn publisher(&self, source: &SimSource, start: Start) -> PublisherParts {
        PublisherParts {
            name: "sim".into(),
            source: Arc::new(source.clone()),
            bus: Arc::clone(&self.bus),
            warehouse: Arc::clone(&self.warehouse),
            store: self.store.clone(),
            wants: Wants { whole: true, ..Wants::default() },
            start,
            until: None,
            holder: "a".to_owned(),
            standby: Standby::Refuse,
            pace: Vec::new(),
            limits: limits(),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn consumer(&self) -> RunParts {
        RunParts {
            consumer: Arc::new(WarehouseConsumer::new(Arc::clone(&self.warehouse))),
            bus: Arc::clone(&self.bus),
            chain: CHAIN,
            name: "sim".into(),
            archive: None,
            clock: Arc::<FixedClock>::clone(&self.clock),
            limits: ConsumeLimits {
                batch_frames: 11,
                batch_records: 40,
                backoff_base: Duration::from_millis(1),
                backoff_max: Duration::from_millis(4),
            },
            state: watch::Sender::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Publishes until the bus's head is the chain's, and returns how it ended.
    pub(crate) async fn publish(&self, parts: PublisherParts, source: &SimSource) {
        let stop = parts.stop.clone();
        let publisher = Publisher::new(parts);
        let state = publisher.state();
        let wanted = source.tip();
        let running = publisher.run();
        let watching = async {
            reached(state, |state| state.head == wanted).await;
            stop.cancel();
        };
        let (ended, ()) = within(Box::pin(async { tokio::join!(running, watching) })).await;
        assert_eq!(ended.unwrap(), Ended::Stopped);
    }

    /// Consumes until the bus's tail.
    pub(crate) async fn consume(&self, parts: RunParts) -> Result<(), ConsumeError> {
        let stop = parts.stop.clone();
        let state = parts.state.subscribe();
        let tail = self.bus.tail(parts.chain).await.unwrap();
        let running = run(parts);
        let watching = async {
            reached(state, |state| state.cursor == Some(tail)).await;
            stop.cancel();
        };
        within(async {
            tokio::select! {
                biased;
                ended = running => ended,
                () = watching => Ok(()),
            }
        })
        .await
    }

    /// Everything that the warehouse answers, for comparison.
    pub(crate) async fn held(&self) -> Held {
        let warehouse = &self.warehouse;
        let (mut events, mut transfers, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        let mut page = PageRequest { limit: 1_000, order: Order::OldestFirst, ..request() };
        loop {
            let found = warehouse.events(&every_event(), &page).await.unwrap();
            events.extend(found.items);
            page.cursor = found.next;
            if page.cursor.is_none() {
                break;
            }
        }
        loop {
            let found = warehouse.transfers(&every_transfer(), &page).await.unwrap();
            transfers.extend(found.items);
            page.cursor = found.next;
            if page.cursor.is_none() {
                break;
            }
        }
        let mut after = None;
        loop {
            let found = warehouse.frames(CHAIN, 0..=Height::MAX, after).await.unwrap();
            let Some(last) = found.last() else { break };
            after = Some(last.block);
            frames.extend(found);
        }
        let coverage = warehouse.coverage(CHAIN).await.unwrap();
        Held { events, transfers, frames, coverage }
    }
}

/// What a warehouse holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Held {
    events: Vec<Event>,
    transfers: Vec<TransferEvent>,
    pub(crate) frames: Vec<Frame>,
    coverage: Vec<std::ops::RangeInclusive<Height>>,
}

fn request() -> PageRequest {
    PageRequest { limit: 1_000, order: Order::OldestFirst, cursor: None }
}

fn every_event() -> EventFilter {
    EventFilter {
        chain: CHAIN,
        addresses: Vec::new(),
        topics: Default::default(),
        span: Span::default(),
    }
}

fn every_transfer() -> TransferFilter {
    TransferFilter {
        chain: CHAIN,
        parties: Vec::new(),
        side: lookout_warehouse::Side::Either,
        assets: Vec::new(),
        span: Span::default(),
    }
}

/// Bounds small enough that a short chain meets all of them.
pub(crate) fn limits() -> Limits {
    Limits {
        lease: Duration::from_secs(60),
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        rollback_after: Duration::from_millis(2),
        parallel: 3,
        range_blocks_start: 5,
        range_whole_blocks_max: 32,
        batch_frames: 13,
        ahead_frames: 20,
        near_blocks: 8,
        young_blocks: u64::MAX,
        ..Limits::default()
    }
}

pub(crate) fn source(seed: u64, blocks: usize) -> SimSource {
    let source = SimSource::new(CHAIN, seed, Shape::default());
    source.extend(blocks);
    source.announce();
    source
}

/// Waits for a state.
pub(crate) async fn reached<T: Clone + std::fmt::Debug>(
    mut state: watch::Receiver<T>,
    is_it: impl Fn(&T) -> bool,
) -> T {
    let reached = state.wait_for(|state| is_it(state)).await.expect("the state is kept");
    reached.clone()
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANGS, work).await.expect("it hangs")
}

/// Every frame of the bus.
pub(crate) async fn frames(bus: &Arc<dyn Bus>) -> Vec<Arc<Frame>> {
    let tail = bus.tail(CHAIN).await.unwrap();
    let mut stream = bus.subscribe(CHAIN, bus.oldest(CHAIN).await.unwrap() - 1);
    let mut frames: Vec<Arc<Frame>> = Vec::new();
    while frames.last().map_or(0, |frame| frame.sequence) < tail.sequence {
        frames.extend(stream.next().await.unwrap().unwrap());
    }
    frames
}

/// The branch that frames from the first one on leave, after checking that each follows the others
/// and that undos carry what was applied.
pub(crate) fn replay(frames: &[Arc<Frame>]) -> Vec<Arc<Frame>> {
    let mut branch: Vec<Arc<Frame>> = Vec::new();
    for (at, frame) in (1..).zip(frames) {
        assert_eq!((frame.chain, frame.sequence), (CHAIN, at));
        match frame.step {
            Step::Apply => {
                if let Some(head) = branch.last() {
                    assert_eq!(frame.block.number, head.block.number + 1);
                    assert_eq!(frame.parent, head.block.hash);
                }
                branch.push(Arc::clone(frame));
            }
            Step::Undo => {
                let applied = branch.pop().expect("something is applied");
                let undone =
                    Frame { step: Step::Apply, sequence: applied.sequence, ..Frame::clone(frame) };
                assert_eq!(undone, *applied);
            }
        }
    }
    branch
}

/// Whether a branch is the chain from its first block on.
pub(crate) fn assert_is_chain(branch: &[Arc<Frame>], source: &SimSource, start: Height) {
    let blocks = source.blocks();
    let blocks = blocks.iter().filter(|block| block.header.block.number >= start);
    let mut count = 0;
    for (frame, block) in branch.iter().zip(blocks.clone()) {
        assert_eq!(frame.block, block.header.block);
        assert_eq!(frame.transactions, block.transactions);
        assert_eq!(frame.logs, block.logs);
        count += 1;
    }
    assert_eq!((count, branch.len()), (blocks.count(), count));
}
