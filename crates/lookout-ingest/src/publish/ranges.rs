//! Blocks of a stretch of the chain: ranges in parallel, handed out in order, within bounds.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lookout_chain::{Source, SourceBlock, SourceError, Wants};
use lookout_types::Height;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Limits;
use super::past::size_of_records;
use super::sizing::{Load, Sizing};

/// A stretch being read.
#[derive(Debug)]
pub(crate) struct Ranges<'a> {
    source: &'a Arc<dyn Source>,
    wants: &'a Wants,
    sizing: &'a mut Sizing,
    parallel: usize,
    buffer_bytes: u64,
    /// In order of height; together they are what is left of the stretch.
    queue: VecDeque<Part>,
    /// Bytes of the blocks that were read and not handed out.
    held: Arc<AtomicU64>,
    refused: u64,
}

#[derive(Debug)]
struct Part {
    heights: RangeInclusive<Height>,
    /// `None` until it is asked for.
    fetch: Option<Fetch>,
}

#[derive(Debug)]
struct Fetch {
    task: AbortOnDropHandle<Fetched>,
    probe: bool,
}

#[derive(Debug)]
struct Fetched {
    result: Result<Vec<SourceBlock>, SourceError>,
    load: Load,
    took: Duration,
    _hold: Hold,
}

/// Counts bytes as held for as long as it lives.
#[derive(Debug)]
struct Hold {
    bytes: u64,
    held: Arc<AtomicU64>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<'a> Ranges<'a> {
    pub(crate) fn new(
        source: &'a Arc<dyn Source>,
        wants: &'a Wants,
        limits: &Limits,
        sizing: &'a mut Sizing,
        heights: RangeInclusive<Height>,
    ) -> Self {
        Self {
            source,
            wants,
            sizing,
            parallel: limits.parallel.max(1),
            buffer_bytes: u64::try_from(limits.buffer_bytes).unwrap_or(u64::MAX),
            queue: VecDeque::from([Part { heights, fetch: None }]),
            held: Arc::default(),
            refused: 0,
        }
    }

    /// Whether the next blocks are there already.
    pub(crate) fn is_ready(&self) -> bool {
        let front = self.queue.front().and_then(|part| part.fetch.as_ref());
        front.is_some_and(|fetch| fetch.task.is_finished())
    }

    /// Ranges refused since the last call.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Bytes that wait to be handed out.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Blocks of a range as it is asked for now.
    pub(crate) fn size(&self) -> u64 {
        self.sizing.size()
    }

    /// The next blocks; `None` at the end. After an error the same blocks come next.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<SourceBlock>, SourceError>> {
        loop {
            self.ask();
            let Part { heights, fetch } = self.queue.front_mut()?;
            let heights = heights.clone();
            // The first part is always asked for.
            let fetch = fetch.as_mut()?;
            let joined = (&mut fetch.task).await;
            let probe = fetch.probe;
            let blocks = length(&heights);
            let Ok(Fetched { result, load, took, _hold }) = joined else {
                // It panicked, which was printed; it is asked for again.
                self.forget_front();
                let reason = "reading it failed inside lookout".to_owned();
                return Some(Err(SourceError::Moved { height: *heights.start(), reason }));
            };
            match result {
                Ok(found) => {
                    self.sizing.accepted(blocks, probe, load, took);
                    self.queue.pop_front();
                    return Some(check(found, &heights));
                }
                Err(SourceError::TooLarge { blocks: suggestion, range }) => {
                    self.sizing.refused(blocks, probe, suggestion);
                    self.refused += 1;
                    self.forget_larger();
                    if blocks == 1 {
                        let suggestion = SourceError::TooLarge { range, blocks: suggestion };
                        return Some(Err(suggestion));
                    }
                }
                Err(error) => {
                    self.sizing.dropped(probe);
                    self.forget_front();
                    return Some(Err(error));
                }
            }
        }
    }

    /// Asks for as much as the bounds allow, in order.
    fn ask(&mut self) {
        let mut at = 0;
        while at < self.queue.len() && at < self.parallel {
            if self.queue[at].fetch.is_some() {
                at += 1;
                continue;
            }
            let size = match self.sizing.take() {
                Some(size) => size,
                // Nothing is known to pass: the first part must not wait for one behind it.
                None if at == 0 => (self.sizing.size(), false),
                None => return,
            };
            let heights = self.queue[at].heights.clone();
            let (blocks, probe) = (size.0.min(length(&heights)), size.1);
            let expected: u64 = self.under_way().saturating_add(self.sizing.bytes_of(blocks));
            if at > 0 && expected > self.buffer_bytes {
                self.sizing.dropped(probe);
                return;
            }
            let end = heights.start() + (blocks - 1);
            let part = *heights.start()..=end;
            if end < *heights.end() {
                self.queue.insert(at + 1, Part { heights: end + 1..=*heights.end(), fetch: None });
            }
            let task = AbortOnDropHandle::new(tokio::spawn(fetch(
                Arc::clone(self.source),
                part.clone(),
                self.wants.clone(),
                Arc::clone(&self.held),
            )));
            self.queue[at] = Part { heights: part, fetch: Some(Fetch { task, probe }) };
            at += 1;
        }
    }

    /// Bytes read and not handed out, and those expected of what is being read.
    fn under_way(&self) -> u64 {
        let running = self
            .queue
            .iter()
            .filter(|part| part.fetch.as_ref().is_some_and(|fetch| !fetch.task.is_finished()));
        let expected: u64 = running.map(|part| self.sizing.bytes_of(length(&part.heights))).sum();
        self.held_bytes().saturating_add(expected)
    }

    fn forget_front(&mut self) {
        if let Some(part) = self.queue.front_mut() {
            part.fetch = None;
        }
    }

    /// Drops what was asked for in ranges that are now known to be too large.
    fn forget_larger(&mut self) {
        self.forget_front();
        let size = self.sizing.size();
        for part in &mut self.queue {
            if length(&part.heights) > size
                && let Some(fetch) = part.fetch.take()
            {
                self.sizing.dropped(fetch.probe);
            }
        }
    }
}

impl Drop for Ranges<'_> {
    fn drop(&mut self) {
        for fetch in self.queue.iter().filter_map(|part| part.fetch.as_ref()) {
            self.sizing.dropped(fetch.probe);
        }
    }
}

async fn fetch(
    source: Arc<dyn Source>,
    heights: RangeInclusive<Height>,
    wants: Wants,
    held: Arc<AtomicU64>,
) -> Fetched {
    let asked = Instant::now();
    let result = source.range(heights, &wants).await;
    let load = result.as_deref().map(load_of).unwrap_or_default();
    held.fetch_add(load.bytes, Ordering::Relaxed);
    Fetched { result, load, took: asked.elapsed(), _hold: Hold { bytes: load.bytes, held } }
}

pub(crate) fn load_of(blocks: &[SourceBlock]) -> Load {
    blocks.iter().fold(Load::default(), |load, block| {
        let records = block.transactions.len() + block.logs.len();
        let bytes = size_of_records(&block.transactions, &block.logs);
        let add = |sum: u64, more: usize| sum.saturating_add(u64::try_from(more).unwrap_or(0));
        Load { records: add(load.records, records), bytes: add(load.bytes, bytes) }
    })
}

/// Refuses an answer that is not what was asked for: one block for each height, each the parent of
/// the next.
pub(crate) fn check(
    blocks: Vec<SourceBlock>,
    heights: &RangeInclusive<Height>,
) -> Result<Vec<SourceBlock>, SourceError> {
    let moved =
        |height, reason: &str| Err(SourceError::Moved { height, reason: reason.to_owned() });
    let mut parent = None;
    let mut wanted = heights.clone();
    for block in &blocks {
        let header = &block.header;
        if wanted.next() != Some(header.block.number) {
            return moved(header.block.number, "it is not the next one that was asked for");
        }
        if parent.is_some_and(|parent| parent != header.parent) {
            return moved(header.block.number, "it is no child of the one before");
        }
        parent = Some(header.block.hash);
    }
    match wanted.next() {
        Some(missing) => moved(missing, "it is missing in the answer"),
        None => Ok(blocks),
    }
}

fn length(heights: &RangeInclusive<Height>) -> u64 {
    (heights.end() - heights.start()).saturating_add(1)
}
