//! Building a consumer again: from the bus where it still has everything, else from the warehouse.

use std::sync::Arc;

use futures_util::StreamExt;
use lookout_bus::Bus;
use lookout_types::{ChainId, Cursor, Frame, Height};
use lookout_warehouse::Warehouse;

use super::ConsumeError;
use super::run::{RunParts, Running};

/// Forgets what a consumer holds and leaves it where frames of the bus follow.
///
/// Nothing is forgotten before it is clear what it is built from, and that this reaches as far down as
/// what is held.
pub(super) async fn rebuild(running: &Running, reason: &str) -> Result<(), ConsumeError> {
    let RunParts { consumer, bus, chain, name, archive, .. } = &running.parts;
    let (oldest, tail) = (bus.oldest(*chain).await?, bus.tail(*chain).await?);
    let lowest = consumer.lowest(*chain).await?;
    if tail.sequence == 0 && lowest.is_none() {
        // Emptied, and not begun anew yet. Nothing can be lost, and the first frame says more.
        let waits = format!("the bus is empty; the first frame is waited for ({reason})");
        return Err(ConsumeError::Retry(waits));
    }
    let mut why = "the bus is empty".to_owned();
    if tail.sequence > 0 && oldest == 1 {
        let first = first_height(bus.as_ref(), *chain).await?;
        if lowest.is_none_or(|lowest| first <= lowest) {
            tracing::warn!(chain = %name, consumer = consumer.name(), reason, "built again from frame 1 of the bus");
            return running.reset().await;
        }
        why = format!("the bus begins at block {first} only");
    } else if tail.sequence > 0 {
        why = format!("the bus begins at frame {oldest} only");
    }
    if let Some(archive) = archive {
        let cursor = archive.cursor(*chain).await?;
        let held = archive.coverage(*chain).await?;
        let low = held.first().map(|range| *range.start());
        let meets = oldest <= cursor.sequence + 1 && cursor.sequence <= tail.sequence;
        match (low, cursor.head) {
            (Some(low), Some(_)) if meets && lowest.is_none_or(|lowest| low <= lowest) => {
                tracing::warn!(chain = %name, consumer = consumer.name(), height = low, reason, "built again from the warehouse");
                running.reset().await?;
                return from_archive(running, archive.as_ref(), cursor, low).await;
            }
            _ => why.push_str(", and the warehouse does not reach as far"),
        }
    }
    let from = lowest.map_or_else(|| "N".to_owned(), |lowest| lowest.to_string());
    let consumer = consumer.name();
    Err(ConsumeError::Fatal(format!(
        "chain `{name}`: the consumer `{consumer}` cannot go on ({reason}) and cannot be built again: {why}; stop lookout and run `lookout backfill --chain {name} --from {from} --to M --rebuild`"
    )))
}

/// The height of frame 1.
async fn first_height(bus: &dyn Bus, chain: ChainId) -> Result<Height, ConsumeError> {
    let frames = bus.subscribe(chain, 0).next().await;
    let frames = frames.ok_or_else(|| ConsumeError::Fatal("the bus is closed".to_owned()))??;
    let first = frames.first().map(|frame| frame.block.number);
    first.ok_or_else(|| ConsumeError::Retry("the bus gave no frame".to_owned()))
}

/// Applies the blocks that the warehouse holds, numbered so that the last one has the sequence that the
/// warehouse has reached: there the bus goes on.
async fn from_archive(
    running: &Running,
    archive: &dyn Warehouse,
    reached: Cursor,
    low: Height,
) -> Result<(), ConsumeError> {
    let RunParts { consumer, chain, .. } = &running.parts;
    let Some(head) = reached.head else { return Ok(()) };
    // Every block took a frame of its own.
    let skipped = (head.number - low + 1).checked_sub(reached.sequence);
    if skipped.is_some_and(|skipped| skipped > 0) {
        return Err(ConsumeError::Fatal(format!(
            "the warehouse holds {} blocks after {} frames; rebuild it",
            head.number - low + 1,
            reached.sequence
        )));
    }
    let base = reached.sequence - (head.number - low + 1);
    let (mut after, mut cursor) = (None, None);
    loop {
        // A reorg in between makes it stale, and everything begins again.
        let page = archive.frames(*chain, low..=head.number, after).await?;
        let Some(last) = page.last() else { break };
        let time = last.timestamp;
        after = Some(last.block);
        let number = |frame: Frame| {
            let sequence = base + (frame.block.number - low) + 1;
            Arc::new(Frame { sequence, ..frame })
        };
        let applied = consumer.apply(page.into_iter().map(number).collect()).await?;
        running.tell(applied, Some(time)).await;
        cursor = Some(applied);
    }
    match cursor {
        Some(cursor) if cursor.head == Some(head) => Ok(()),
        _ => Err(ConsumeError::Rebuild("a reorg came while it was built again".to_owned())),
    }
}
