//! Compares what the warehouse holds with the chain, read anew.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use lookout_chain::{Source, SourceBlock, SourceError, Wants};
use lookout_types::{ChainId, ErrorKind, Frame, Hash, Height};
use lookout_warehouse::{Warehouse, WarehouseError};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::publish::Limits;
use crate::publish::ranges::{check, load_of};
use crate::publish::sizing::Sizing;

/// Tries at a range before it counts as unreadable.
const TRIES: u32 = 8;
/// Differences described one by one; all are counted, and in the ranges.
const DIFFERENCES_MAX: usize = 1_000;
/// Looks at a block that differs before it counts as different: at the head a reorg may be on its
/// way through the pipeline.
const LOOKS: u32 = 3;
/// Blocks looked at again; with more of them it is no passing reorg.
const LOOKED_AT_AGAIN_MAX: u32 = 64;

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The chain.
    pub chain: ChainId,
    /// The heights compared.
    pub heights: RangeInclusive<Height>,
    /// How many are as on the chain.
    pub ok: u64,
    /// Heights of which nothing is held.
    pub missing: Vec<RangeInclusive<Height>>,
    /// Heights at which something else is held.
    pub different: Vec<RangeInclusive<Height>>,
    /// What differs, for the first ones.
    pub differences: Vec<Difference>,
}

/// A block that is not held as it is on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its height.
    pub height: Height,
    /// What differs.
    pub what: Differs,
}

/// What of a block differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// It is another block.
    Block {
        /// The hash held.
        held: Hash,
        /// The hash on the chain.
        chain: Hash,
    },
    /// Its parent or its time.
    Header,
    /// Its transactions.
    Transactions {
        /// How many are held.
        held: usize,
        /// How many there are on the chain.
        chain: usize,
    },
    /// Its logs.
    Logs {
        /// How many are held.
        held: usize,
        /// How many there are on the chain.
        chain: usize,
    },
}

/// Why a range cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The chain cannot be read.
    #[error("blocks {} to {} cannot be read from the chain: {source}", .heights.start(), .heights.end())]
    Source {
        /// The heights asked for.
        heights: RangeInclusive<Height>,
        /// The reason.
        source: SourceError,
    },
    /// The warehouse cannot be read.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

impl VerifyError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source { source: SourceError::Chain(error), .. } => error.kind(),
            Self::Source { .. } => ErrorKind::Upstream,
            Self::Warehouse(error) => error.kind(),
        }
    }
}

impl VerifyReport {
    /// Whether everything is held as it is on the chain.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty()
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { held, chain } => write!(f, "block {held} is held, the chain has {chain}"),
            Self::Header => f.write_str("its parent or its time differs"),
            Self::Transactions { held, chain } => {
                write!(f, "its transactions differ: {held} are held, the chain has {chain}")
            }
            Self::Logs { held, chain } => {
                write!(f, "its logs differ: {held} are held, the chain has {chain}")
            }
        }
    }
}

/// Compares the blocks of `heights` with the chain, which is followed with these `wants`.
///
/// `progress` is told the next height, after each range.
///
/// # Errors
/// [`VerifyError`] when either side cannot be read, also after some tries.
pub async fn verify_range(
    source: &dyn Source,
    wants: &Wants,
    warehouse: &dyn Warehouse,
    heights: RangeInclusive<Height>,
    limits: &Limits,
    progress: &(dyn Fn(Height) + Sync),
) -> Result<VerifyReport, VerifyError> {
    let mut verify = Verify {
        source,
        wants,
        warehouse,
        sizing: Sizing::new(limits, wants.whole),
        backoff: Backoff::new(limits.backoff_base, limits.backoff_max),
        report: VerifyReport {
            chain: source.chain(),
            heights: heights.clone(),
            ok: 0,
            missing: Vec::new(),
            different: Vec::new(),
            differences: Vec::new(),
        },
        looked: 0,
    };
    let held = warehouse.coverage(source.chain()).await?;
    let (mut next, last) = heights.into_inner();
    while next <= last {
        // What is not held need not be read.
        let range = held.iter().find(|range| *range.end() >= next);
        let (from, end) = range.map_or((Height::MAX, last), |range| (*range.start(), *range.end()));
        if from > next {
            let gap = next..=last.min(from - 1);
            next = gap.end().saturating_add(1);
            verify.report.missing.push(gap);
        } else {
            next = verify.range(next, last.min(end)).await?;
        }
        progress(next);
    }
    Ok(verify.report)
}

struct Verify<'a> {
    source: &'a dyn Source,
    wants: &'a Wants,
    warehouse: &'a dyn Warehouse,
    sizing: Sizing,
    backoff: Backoff,
    report: VerifyReport,
    /// Blocks looked at again so far.
    looked: u32,
}

impl Verify<'_> {
    /// Compares some blocks from `from` on, and returns the height after them.
    async fn range(&mut self, from: Height, last: Height) -> Result<Height, VerifyError> {
        let blocks = self.read(from, last).await?;
        let end = blocks.last().map_or(from, |block| block.header.block.number);
        let held = self.held(from..=end).await?;
        let mut held = held.iter().peekable();
        for block in &blocks {
            let height = block.header.block.number;
            let frame = held.next_if(|frame| frame.block.number == height);
            let verdict = match compare(frame, block) {
                Verdict::Same => Verdict::Same,
                _ if self.looked < LOOKED_AT_AGAIN_MAX => self.look_again(height).await?,
                verdict => verdict,
            };
            self.add(height, verdict);
        }
        Ok(end.saturating_add(1))
    }

    /// Looks again at one block that was not as on the chain.
    async fn look_again(&mut self, height: Height) -> Result<Verdict, VerifyError> {
        self.looked += 1;
        let mut verdict = Verdict::Missing;
        for _ in 0..LOOKS {
            self.backoff.wait().await;
            let blocks = self.read(height, height).await?;
            let held = self.held(height..=height).await?;
            let Some(block) = blocks.first() else { continue };
            verdict = compare(held.first(), block);
            if matches!(verdict, Verdict::Same) {
                break;
            }
        }
        self.backoff.reset();
        Ok(verdict)
    }

    fn add(&mut self, height: Height, verdict: Verdict) {
        match verdict {
            Verdict::Same => self.report.ok += 1,
            Verdict::Missing => add(&mut self.report.missing, height),
            Verdict::Different(what) => {
                add(&mut self.report.different, height);
                if self.report.differences.len() < DIFFERENCES_MAX {
                    self.report.differences.push(Difference { height, what });
                }
            }
        }
    }

    async fn held(&self, heights: RangeInclusive<Height>) -> Result<Vec<Frame>, WarehouseError> {
        let chain = self.source.chain();
        let mut looks = 0;
        'again: loop {
            let (mut frames, mut after): (Vec<Frame>, _) = (Vec::new(), None);
            loop {
                let page = match self.warehouse.frames(chain, heights.clone(), after).await {
                    Err(WarehouseError::Stale(_)) if looks < LOOKS => {
                        looks += 1;
                        continue 'again;
                    }
                    page => page?,
                };
                let Some(last) = page.last() else { return Ok(frames) };
                after = Some(last.block);
                frames.extend(page);
            }
        }
    }

    /// Some blocks of the chain from `from` on: at least one.
    async fn read(&mut self, from: Height, last: Height) -> Result<Vec<SourceBlock>, VerifyError> {
        let mut tries = 0;
        loop {
            let blocks = self.sizing.size().min((last - from).saturating_add(1));
            let heights = from..=from + (blocks - 1);
            let asked = Instant::now();
            let read = self.source.range(heights.clone(), self.wants).await;
            match read.and_then(|found| check(found, &heights)) {
                Ok(found) => {
                    let took: Duration = asked.elapsed();
                    self.sizing.accepted(blocks, false, load_of(&found), took);
                    return Ok(found);
                }
                Err(SourceError::TooLarge { blocks: suggestion, .. }) if blocks > 1 => {
                    self.sizing.refused(blocks, false, suggestion);
                }
                Err(source) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(VerifyError::Source { heights, source });
                    }
                    self.backoff.wait().await;
                }
            }
        }
    }
}

enum Verdict {
    Same,
    Missing,
    Different(Differs),
}

fn compare(held: Option<&Frame>, block: &SourceBlock) -> Verdict {
    let Some(frame) = held else { return Verdict::Missing };
    let header = &block.header;
    if frame.block != header.block {
        let (held, chain) = (frame.block.hash, header.block.hash);
        return Verdict::Different(Differs::Block { held, chain });
    }
    if (frame.parent, frame.timestamp) != (header.parent, header.timestamp) {
        return Verdict::Different(Differs::Header);
    }
    if frame.transactions != block.transactions {
        let (held, chain) = (frame.transactions.len(), block.transactions.len());
        return Verdict::Different(Differs::Transactions { held, chain });
    }
    if frame.logs != block.logs {
        let (held, chain) = (frame.logs.len(), block.logs.len());
        return Verdict::Different(Differs::Logs { held, chain });
    }
    Verdict::Same
}

/// Adds a height to ranges that are in order.
fn add(ranges: &mut Vec<RangeInclusive<Height>>, height: Height) {
    if let Some(last) = ranges.last_mut()
        && last.end().checked_add(1) == Some(height)
    {
        *last = *last.start()..=height;
    } else {
        ranges.push(height..=height);
    }
}
