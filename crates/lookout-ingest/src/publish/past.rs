//! The branch that was published, newest blocks in memory, older ones read again when a reorg needs
//! them: from the bus, or from the warehouse once the bus has let go of them.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use lookout_bus::{Bus, BusError};
use lookout_types::{BlockRef, ChainId, Cursor, Frame, Hash, Height, Step};
use lookout_warehouse::Warehouse;

use super::error::{Problem, PublishError};

/// Blocks whose place is remembered: deeper reorgs than this are read again from further back.
const PLACES_MAX: usize = 16_384;
/// Frames kept in memory, of which most share what the bus keeps anyway: nearly every reorg.
const FRAMES_MAX: usize = 128;
const FRAMES_BYTES: usize = 8 << 20;
/// Frames read back from the bus at first; eight times as many with each further try.
const LOOK_BACK: u64 = 512;
/// Blocks read back from the warehouse at a time.
const ARCHIVE_BLOCKS: u64 = 256;
/// Frames to be undone that are read again at a time.
const UNDO_AT_ONCE: usize = 32;

/// One block of the branch.
#[derive(Debug, Clone)]
struct Placed {
    block: BlockRef,
    parent: Hash,
    place: Place,
    /// Kept for the newest ones.
    frame: Option<(Arc<Frame>, usize)>,
}

/// Where a block's frame can be read again.
#[derive(Debug, Clone, Copy)]
enum Place {
    Bus(u64),
    Warehouse,
}

/// How a block stands to the branch that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is on it.
    Published,
    /// Another one has its height.
    Other,
    /// What was published there is too far down, or no longer held.
    Unknown,
}

/// The branch that was published, up to its head.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) name: Arc<str>,
    pub(super) chain: ChainId,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    /// Contiguous, oldest first, up to the head; empty when nothing was read yet.
    blocks: VecDeque<Placed>,
    /// How many of the newest have their frame.
    framed: usize,
    framed_bytes: usize,
}

impl Past {
    pub(super) fn new(
        name: Arc<str>,
        chain: ChainId,
        bus: Arc<dyn Bus>,
        warehouse: Arc<dyn Warehouse>,
    ) -> Self {
        let blocks = VecDeque::new();
        Self { name, chain, bus, warehouse, blocks, framed: 0, framed_bytes: 0 }
    }

    /// Remembers a frame that applies a block.
    pub(super) fn push(&mut self, frame: &Arc<Frame>, bytes: usize) {
        self.blocks.push_back(Placed {
            block: frame.block,
            parent: frame.parent,
            place: Place::Bus(frame.sequence),
            frame: Some((Arc::clone(frame), bytes)),
        });
        self.framed += 1;
        self.framed_bytes += bytes;
        while self.framed > FRAMES_MAX || (self.framed > 1 && self.framed_bytes > FRAMES_BYTES) {
            let oldest = self.blocks.len() - self.framed;
            if let Some((_, bytes)) = self.blocks[oldest].frame.take() {
                self.framed_bytes -= bytes;
            }
            self.framed -= 1;
        }
        if self.blocks.len() > PLACES_MAX {
            self.blocks.pop_front();
        }
    }

    /// Refuses to begin a chain anew of which the warehouse holds something.
    pub(super) async fn check_empty(&self) -> Result<(), Problem> {
        let frames = self.warehouse.cursor(self.chain).await?.sequence;
        let held = self.warehouse.coverage(self.chain).await?;
        match held.first() {
            Some(range) if frames > 0 => Err(Problem::Stop(PublishError::BusLost {
                name: self.name.to_string(),
                frames,
                first: *range.start(),
            })),
            _ => Ok(()),
        }
    }

    /// The first height that is followed, as far as that can still be told.
    pub(super) async fn first(&self, tail: &Cursor) -> Result<Option<Height>, Problem> {
        if tail.sequence == 0 {
            return Ok(None);
        }
        let known = match tail.head {
            // Everything was undone, the first block last.
            None => tail.sequence,
            Some(_) => 1,
        };
        if self.bus.oldest(self.chain).await? <= known {
            let frames = self.read(known, known, |_| true).await?;
            return Ok(frames.first().map(|frame| frame.block.number));
        }
        let held = self.warehouse.coverage(self.chain).await?;
        Ok(held.first().map(|range| *range.start()))
    }

    /// The block of the published branch at a height, at most the head's. `tail` is the bus's.
    pub(super) async fn block_at(
        &mut self,
        height: Height,
        tail: &Cursor,
    ) -> Result<BlockRef, Problem> {
        loop {
            if let Some(head) = tail.head
                && head.number == height
            {
                return Ok(head);
            }
            if let Some(lowest) = self.blocks.front() {
                if lowest.block.number == height + 1 {
                    return Ok(BlockRef { number: height, hash: lowest.parent });
                }
                if let Some(at) = height.checked_sub(lowest.block.number) {
                    let placed = usize::try_from(at).ok().and_then(|at| self.blocks.get(at));
                    return placed
                        .map(|placed| placed.block)
                        .ok_or_else(|| Problem::Retry(format!("block {height} is not published")));
                }
            }
            self.extend_down(tail).await?;
        }
    }

    /// How a block below the head stands to the published branch. `tail` is the bus's.
    pub(super) async fn standing(
        &mut self,
        block: BlockRef,
        first: Option<Height>,
        tail: &Cursor,
    ) -> Result<Standing, Problem> {
        let depth = tail.head.map_or(0, |head| head.number.saturating_sub(block.number));
        // An upstream that begins anew at block 0 is no reason to read everything again.
        let is_far = usize::try_from(depth).map_or(true, |depth| depth > PLACES_MAX);
        if is_far || first.is_some_and(|first| block.number < first) {
            return Ok(Standing::Unknown);
        }
        match self.block_at(block.number, tail).await {
            Ok(own) if own == block => Ok(Standing::Published),
            Ok(_) => Ok(Standing::Other),
            Err(Problem::Stop(PublishError::Forgotten { .. })) => Ok(Standing::Unknown),
            Err(problem) => Err(problem),
        }
    }

    /// Whether the head's frame is in memory.
    pub(super) fn has_frame(&self) -> bool {
        self.framed > 0
    }

    /// Takes away the head and returns the frame that applied it. `tail` is the bus's, and nothing
    /// may wait to be published that was not remembered here.
    pub(super) async fn pop(&mut self, tail: &Cursor) -> Result<Arc<Frame>, Problem> {
        if self.blocks.is_empty() {
            self.extend_down(tail).await?;
        }
        if self.framed == 0 {
            if self.is_trimmed().await? {
                self.blocks.clear();
                self.extend_down(tail).await?;
            }
            self.read_frames().await?;
        }
        let popped = self.blocks.pop_back().and_then(|placed| placed.frame);
        let (frame, bytes) =
            popped.ok_or_else(|| Problem::Retry("a frame to undo is not there".to_owned()))?;
        self.framed -= 1;
        self.framed_bytes -= bytes;
        Ok(frame)
    }

    /// Whether the bus has let go of frames that are to be read next since their places were noted.
    async fn is_trimmed(&self) -> Result<bool, Problem> {
        let lowest = self.blocks.get(self.blocks.len().saturating_sub(UNDO_AT_ONCE));
        match lowest.map(|placed| placed.place) {
            Some(Place::Bus(sequence)) => Ok(sequence < self.bus.oldest(self.chain).await?),
            Some(Place::Warehouse) | None => Ok(false),
        }
    }

    /// Reads the places of some blocks below those that are known.
    async fn extend_down(&mut self, tail: &Cursor) -> Result<(), Problem> {
        let (top, last) = match (self.blocks.front(), tail.head) {
            (Some(lowest), _) => {
                let number = lowest.block.number.checked_sub(1);
                let number = number.ok_or_else(|| Problem::Retry("below block 0".to_owned()))?;
                let last = match lowest.place {
                    Place::Bus(sequence) => sequence - 1,
                    Place::Warehouse => 0,
                };
                (BlockRef { number, hash: lowest.parent }, last)
            }
            (None, Some(head)) => (head, tail.sequence),
            (None, None) => return Err(Problem::Retry("no block is held".to_owned())),
        };
        let mut found = self.on_bus(last).await?;
        if found.is_empty() {
            found = self.in_warehouse(top, tail).await?;
        }
        if found.last().map(|placed| placed.block) != Some(top) {
            let reason = format!("block {} is not at its place in the past", top.number);
            return Err(Problem::Retry(reason));
        }
        for placed in found.into_iter().rev() {
            self.blocks.push_front(placed);
        }
        Ok(())
    }

    /// The newest blocks of the branch as frame `last` left it; empty when the bus has none of them.
    async fn on_bus(&self, last: u64) -> Result<Vec<Placed>, Problem> {
        let oldest = self.bus.oldest(self.chain).await?;
        let mut span = LOOK_BACK;
        if last < oldest {
            return Ok(Vec::new());
        }
        loop {
            let from = last.saturating_sub(span).saturating_add(1).max(oldest);
            let mut branch = Vec::new();
            self.each(from, last, |frame| match frame.step {
                Step::Apply => branch.push(Placed {
                    block: frame.block,
                    parent: frame.parent,
                    place: Place::Bus(frame.sequence),
                    frame: None,
                }),
                // It may take back a block that was applied before the first frame read.
                Step::Undo => drop(branch.pop()),
            })
            .await?;
            if !branch.is_empty() || from == oldest {
                return Ok(branch);
            }
            span = span.saturating_mul(8);
        }
    }

    async fn in_warehouse(&self, top: BlockRef, tail: &Cursor) -> Result<Vec<Placed>, Problem> {
        let heights = top.number.saturating_sub(ARCHIVE_BLOCKS - 1)..=top.number;
        let (mut branch, mut after) = (Vec::new(), None);
        loop {
            let frames = self.warehouse.frames(self.chain, heights.clone(), after).await?;
            let Some(last) = frames.last() else { break };
            after = Some(last.block);
            branch.extend(frames.iter().map(|frame| Placed {
                block: frame.block,
                parent: frame.parent,
                place: Place::Warehouse,
                frame: None,
            }));
        }
        if branch.last().map(|placed| placed.block) == Some(top) {
            return Ok(branch);
        }
        let reached = self.warehouse.cursor(self.chain).await?.sequence;
        // One that has missed frames which are gone from the bus never gets there.
        if reached < tail.sequence && self.bus.oldest(self.chain).await? <= reached + 1 {
            let reason = format!("the warehouse has not reached block {} yet", top.number);
            return Err(Problem::Retry(reason));
        }
        Err(Problem::Stop(PublishError::Forgotten { name: self.name.to_string(), block: top }))
    }

    /// Reads the frames of the newest blocks again.
    async fn read_frames(&mut self) -> Result<(), Problem> {
        let start = self.blocks.len().saturating_sub(UNDO_AT_ONCE);
        let newest: Vec<_> = self.blocks.range(start..).cloned().collect();
        let (Some(low), Some(top)) = (newest.first(), newest.last()) else { return Ok(()) };
        let frames = match (low.place, top.place) {
            (Place::Bus(low), Place::Bus(top)) => {
                let is_wanted = |frame: &Frame| {
                    newest.iter().any(|p| matches!(p.place, Place::Bus(at) if at == frame.sequence))
                };
                let mut frames = self.read(low, top, is_wanted).await?;
                frames.reverse();
                frames
            }
            (_, Place::Bus(top)) => self.read(top, top, |_| true).await?,
            (_, Place::Warehouse) => self.archived(&newest).await?,
        };
        for (placed, frame) in self.blocks.iter_mut().rev().zip(frames) {
            if placed.block != frame.block {
                break;
            }
            let bytes = size_of_frame(&frame);
            placed.frame = Some((frame, bytes));
            self.framed += 1;
            self.framed_bytes += bytes;
        }
        Ok(())
    }

    /// The frames of these blocks from the warehouse, newest first.
    async fn archived(&self, newest: &[Placed]) -> Result<Vec<Arc<Frame>>, Problem> {
        let (Some(low), Some(top)) = (newest.first(), newest.last()) else { return Ok(Vec::new()) };
        let (mut frames, mut after) = (Vec::new(), None);
        loop {
            let heights = low.block.number..=top.block.number;
            let page = self.warehouse.frames(self.chain, heights, after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.block);
            frames.extend(page.into_iter().map(Arc::new));
        }
        frames.reverse();
        Ok(frames)
    }

    async fn read(
        &self,
        from: u64,
        last: u64,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Vec<Arc<Frame>>, Problem> {
        let mut frames = Vec::new();
        self.each(from, last, |frame| {
            if wanted(frame) {
                frames.push(Arc::clone(frame));
            }
        })
        .await?;
        Ok(frames)
    }

    /// Calls `see` with the frames of the bus from `from` to `last`.
    async fn each(
        &self,
        from: u64,
        last: u64,
        mut see: impl FnMut(&Arc<Frame>),
    ) -> Result<(), Problem> {
        let mut stream = self.bus.subscribe(self.chain, from.saturating_sub(1));
        let mut next = from;
        while next <= last {
            let Some(frames) = stream.next().await else {
                return Err(Problem::Stop(BusError::Closed.into()));
            };
            for frame in frames? {
                if (next..=last).contains(&frame.sequence) {
                    next = frame.sequence + 1;
                    see(&frame);
                }
            }
        }
        Ok(())
    }
}

/// About how many bytes a frame takes in memory.
pub(crate) fn size_of_frame(frame: &Frame) -> usize {
    size_of_records(&frame.transactions, &frame.logs)
}

/// About how many bytes records take in memory.
pub(crate) fn size_of_records(
    transactions: &[lookout_types::Transaction],
    logs: &[lookout_types::Log],
) -> usize {
    /// What a header and the bookkeeping take.
    const BLOCK_BYTES: usize = 200;
    let transactions: usize = transactions
        .iter()
        .map(|transaction| size_of::<lookout_types::Transaction>() + transaction.input.len())
        .sum();
    let logs: usize = logs
        .iter()
        .map(|log| {
            size_of::<lookout_types::Log>() + log.topics.len() * size_of::<Hash>() + log.data.len()
        })
        .sum();
    BLOCK_BYTES + transactions + logs
}
