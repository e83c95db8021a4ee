//! `lookout backfill`: publishes a stretch of a chain and keeps it in the warehouse, or compares what
//! is kept with the chain.
//!
//! It is the same publisher and the same consumer as under `lookout serve`, and what they have done is
//! where the next run goes on: stopping it, in whatever way, loses nothing.

mod progress;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lookout_bus::{Bus, BusError, BusUrl};
use lookout_chain::{Source, Wants};
use lookout_ingest::consume::{
    ConsumeLimits, Consumer, ConsumerState, KEEP_FRAMES, Reader, RulesConsumer, RunParts,
    TrimParts, WarehouseConsumer, run, trim,
};
use lookout_ingest::publish::{
    Ended, Held, Limits, PublishError, Publisher, PublisherParts, PublisherState, Standby, Start,
    forget, held,
};
use lookout_ingest::verify::verify_range;
use lookout_store::Store;
use lookout_types::{BlockRef, Clock, Height};
use lookout_warehouse::{Warehouse, WarehouseError, WarehouseUrl};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::watch::TRIM_EVERY;
use progress::Progress;

/// Longest wait for the first agreed head: an upstream that answers does so in a second.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a backfill is made of.
#[derive(Debug)]
pub(crate) struct Backfill {
    /// The chain's configured name.
    pub(crate) chain: String,
    /// Its blocks.
    pub(crate) source: Arc<dyn Source>,
    /// What of them is wanted; the same as under `lookout serve`.
    pub(crate) wants: Wants,
    /// The first height.
    pub(crate) from: Height,
    /// The last height.
    pub(crate) to: Height,
    /// Compare only.
    pub(crate) verify: bool,
    /// Forget what is held of the chain first.
    pub(crate) rebuild: bool,
    /// Where frames go.
    pub(crate) bus: BusUrl,
    /// Where their records go.
    pub(crate) warehouse: WarehouseUrl,
    /// Keeps the lease.
    pub(crate) store: Store,
    /// Name of this instance in the lease.
    pub(crate) holder: String,
    /// Bounds of publishing.
    pub(crate) limits: Limits,
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// Ends it, as on ctrl-C; what was done stays.
    pub(crate) stop: CancellationToken,
}

/// The backends while they are open.
struct Open {
    bus: Arc<dyn Bus>,
    warehouse: Arc<dyn Warehouse>,
}

/// Runs the command and returns what it prints.
pub(crate) async fn backfill(parts: Backfill) -> Result<String, Failure> {
    if parts.from > parts.to {
        let reason = format!("--from {} is above --to {}", parts.from, parts.to);
        return Err(Failure::usage(reason));
    }
    let open = Open::open(&parts).await?;
    let stop = parts.stop.clone();
    let done = if parts.verify {
        stop.run_until_cancelled(verify(&parts, &open)).await.unwrap_or_else(|| Err(stopped()))
    } else {
        fill(&parts, &open).await
    };
    open.warehouse.close().await;
    open.bus.close().await;
    done
}

impl Open {
    async fn open(parts: &Backfill) -> Result<Self, Failure> {
        let bus = lookout_bus::open(&parts.bus).await.map_err(|error| match error {
            BusError::InUse { .. } => in_use(&error),
            error => failed(&error),
        })?;
        let warehouse = lookout_warehouse::open(&parts.warehouse).await;
        let warehouse = warehouse.map_err(|error| match error {
            WarehouseError::InUse { .. } => in_use(&error),
            error => failed(&error),
        })?;
        Ok(Self { bus, warehouse })
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::failed(error.to_string())
}

fn in_use(error: &dyn std::error::Error) -> Failure {
    Failure::failed(format!("{error}: a running `lookout serve` backfills by itself"))
}

fn stopped() -> Failure {
    Failure::failed("stopped before the end; run it again to go on")
}

/// Publishes and keeps what is missing up to the last height.
async fn fill(parts: &Backfill, open: &Open) -> Result<String, Failure> {
    let chain = parts.source.chain();
    let head = head_of(parts).await?;
    if head.number < parts.to {
        return Err(Failure::usage(format!(
            "--to {} is above the head of `{}`, block {}",
            parts.to, parts.chain, head.number
        )));
    }
    let Open { bus, warehouse } = open;
    if parts.rebuild {
        let forgotten = forget(chain, bus, warehouse, &parts.store, &parts.holder).await;
        forgotten.map_err(|error| failed(&error))?;
    }
    let before = held(&parts.chain, chain, bus, warehouse).await;
    let before = before.map_err(|error| failed(&error))?;
    check_held(parts, &before)?;
    let (published, consumed) = pipeline(parts, open, before.head).await?;
    let Some(head) = published else {
        let at = consumed.map_or_else(
            || "before the first block".to_owned(),
            |head| format!("at block {}", head.number),
        );
        return Err(Failure::failed(format!("stopped {at}; run it again to go on")));
    };
    let first = before.first.unwrap_or(parts.from);
    Ok(match before.head {
        Some(before) if before.number >= parts.to => format!(
            "blocks {} to {} of `{}` were held already; {first} to {} are",
            parts.from, parts.to, parts.chain, head.number
        ),
        _ => format!("blocks {first} to {} of `{}` are held", head.number, parts.chain),
    })
}

/// The agreed head, once there is one.
async fn head_of(parts: &Backfill) -> Result<BlockRef, Failure> {
    let mut heads = parts.source.heads();
    let first = heads.wait_for(Option::is_some);
    let first = tokio::select! {
        first = tokio::time::timeout(HEAD_TIMEOUT, first) => first,
        () = parts.stop.cancelled() => return Err(stopped()),
    };
    match first {
        Ok(Ok(heads)) => heads.map(|heads| heads.latest),
        Ok(Err(_)) | Err(_) => None,
    }
    .ok_or_else(|| {
        Failure::failed(format!(
            "no upstream of `{}` has told its head within {} s; check them with `lookout config check --probe`",
            parts.chain,
            HEAD_TIMEOUT.as_secs()
        ))
    })
}

/// Refuses a stretch that would leave a hole below what is held.
fn check_held(parts: &Backfill, held: &Held) -> Result<(), Failure> {
    let Some(head) = held.head else { return Ok(()) };
    match held.first {
        Some(first) if first <= parts.from => Ok(()),
        Some(first) => Err(Failure::failed(format!(
            "blocks {first} to {} of `{}` are held, and blocks below them cannot be added; begin at --from {first}, or add --rebuild to forget them and begin at {}",
            head.number, parts.chain, parts.from
        ))),
        None => Err(Failure::failed(format!(
            "blocks up to {} of `{}` are held, and where they begin is no longer known; add --rebuild to forget them and begin at {}",
            head.number, parts.chain, parts.from
        ))),
    }
}

/// Runs the publisher up to the last height, and the consumer up to the publisher. Returns the head
/// when both have arrived, and how far the warehouse is.
async fn pipeline(
    parts: &Backfill,
    open: &Open,
    before: Option<BlockRef>,
) -> Result<(Option<BlockRef>, Option<BlockRef>), Failure> {
    let chain = parts.source.chain();
    let state = watch::Sender::<ConsumerState>::default();
    let consumed = state.subscribe();
    let publisher = Publisher::new(PublisherParts {
        name: parts.chain.as_str().into(),
        source: Arc::clone(&parts.source),
        bus: Arc::clone(&open.bus),
        warehouse: Arc::clone(&open.warehouse),
        store: parts.store.clone(),
        wants: parts.wants.clone(),
        start: Start::Height(parts.from),
        until: Some(parts.to),
        holder: parts.holder.clone(),
        standby: Standby::Refuse,
        pace: vec![consumed.clone()],
        limits: parts.limits.clone(),
        stop: parts.stop.clone(),
    });
    let published = publisher.state();
    let consumer = RunParts {
        consumer: Arc::new(WarehouseConsumer::new(Arc::clone(&open.warehouse))),
        bus: Arc::clone(&open.bus),
        chain,
        name: parts.chain.as_str().into(),
        archive: None,
        clock: Arc::clone(&parts.clock),
        limits: ConsumeLimits::default(),
        state,
        stop: parts.stop.clone(),
    };
    let start = before.map_or(parts.from, |head| head.number + 1);
    let progress = Progress::new(&parts.chain, start, parts.to);
    let trimming = trimming(parts, open).await?;
    let arriving = arrive(publisher, open, chain, consumed.clone());
    let arrived = tokio::select! {
        arrived = arriving => arrived.map_err(|error| failed(&error))?,
        // It ends only when it is told to, or cannot go on.
        ended = run(consumer) => {
            ended.map_err(|error| failed(&error))?;
            None
        }
        () = watch_progress(&progress, published, consumed.clone()) => None,
        // It ends when the others are told to.
        () = async { trim(trimming).await; std::future::pending().await } => None,
    };
    let reached = consumed.borrow().cursor.and_then(|cursor| cursor.head);
    progress.end(reached);
    Ok((arrived, reached))
}

/// Lets the bus go of what the warehouse has. Rules that have read this bus find what they have not read
/// there; others are built again from the warehouse.
async fn trimming(parts: &Backfill, open: &Open) -> Result<TrimParts, Failure> {
    let chain = parts.source.chain();
    let warehouse = Arc::new(WarehouseConsumer::new(Arc::clone(&open.warehouse)));
    let rules = Arc::new(RulesConsumer::new(parts.store.clone(), []));
    let read = rules.cursor(chain).await.map_err(|error| failed(&error))?.sequence;
    let oldest = open.bus.oldest(chain).await.map_err(|error| failed(&error))?;
    let tail = open.bus.tail(chain).await.map_err(|error| failed(&error))?;
    let mut readers = vec![Reader { consumer: warehouse, run: None }];
    if read > 0 && (oldest..=tail.sequence).contains(&read) {
        readers.push(Reader { consumer: rules, run: None });
    }
    Ok(TrimParts {
        bus: Arc::clone(&open.bus),
        chain,
        name: parts.chain.as_str().into(),
        readers,
        keep_frames: KEEP_FRAMES,
        interval: TRIM_EVERY,
        stop: parts.stop.clone(),
    })
}

/// Publishes to the end, then waits for the warehouse to have it all.
async fn arrive(
    publisher: Publisher,
    open: &Open,
    chain: lookout_types::ChainId,
    mut consumed: watch::Receiver<ConsumerState>,
) -> Result<Option<BlockRef>, PublishError> {
    if publisher.run().await? == Ended::Stopped {
        return Ok(None);
    }
    let tail = open.bus.tail(chain).await?;
    let there = consumed.wait_for(|state| state.cursor == Some(tail)).await.is_ok();
    Ok(tail.head.filter(|_| there))
}

/// Shows how far both are, and never ends.
async fn watch_progress(
    progress: &Progress,
    published: watch::Receiver<PublisherState>,
    consumed: watch::Receiver<ConsumerState>,
) {
    let mut ticks = tokio::time::interval(progress.interval());
    loop {
        ticks.tick().await;
        progress.show(&published.borrow(), &consumed.borrow());
    }
}

/// Compares what is held with the chain.
async fn verify(parts: &Backfill, open: &Open) -> Result<String, Failure> {
    let head = head_of(parts).await?;
    if head.number < parts.to {
        return Err(Failure::usage(format!(
            "--to {} is above the head of `{}`, block {}",
            parts.to, parts.chain, head.number
        )));
    }
    let progress = Progress::new(&parts.chain, parts.from, parts.to);
    let compared = |next| progress.compared(next);
    let report = verify_range(
        parts.source.as_ref(),
        &parts.wants,
        open.warehouse.as_ref(),
        parts.from..=parts.to,
        &parts.limits,
        &compared,
    );
    let report = report.await.map_err(|error| failed(&error));
    progress.end(None);
    let report = report?;
    let text = report::text(&parts.chain, &report);
    if report.is_clean() {
        return Ok(text);
    }
    report::print(&text)?;
    Err(Failure::failed(report::verdict(&parts.chain, &report)))
}
