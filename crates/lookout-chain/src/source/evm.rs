//! The EVM's source: blocks out of a chain's pool of upstreams.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lookout_types::{BlockRef, ChainId, Height};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::filter::Filter;
use super::{Source, SourceBlock, SourceError, SourceHeader, Wants};
use crate::core::Core;
use crate::heads::{Followed, Standing};
use crate::pool::{Lost, Pool};
use crate::{Chain, ChainError, Heads};

/// Calls in one batch: enough that the round trip does not count, and within what the common
/// providers take (100 to 1000).
const BATCH_MAX: usize = 100;
/// A smaller batch is tried after a refusal: the size is divided by this, down to single calls.
const BATCH_DIVISOR: usize = 4;
/// Batches that must pass before a larger one is tried again.
const BATCHES_BEFORE_GROWTH: usize = 1000;
/// Blocks that earn one proof by receipts, so that proofs add little to the calls.
const BLOCKS_PER_PROOF: u64 = 16;
/// Proofs that may be saved up.
const PROOFS_SAVED_MAX: u64 = 16;
/// How long a method is not asked for again that no upstream offers; nodes get upgraded.
const ABSENT_FOR: Duration = Duration::from_mins(10);

/// Reads a chain's blocks through its pool, checked.
#[derive(Debug)]
pub(super) struct EvmSource {
    /// Keeps the chain's tasks running.
    pub(super) chain: Arc<Chain>,
    pub(super) batch: BatchSize,
    pub(super) proofs: Proofs,
    /// Until when `eth_getBlockReceipts` is not asked for.
    pub(super) no_block_receipts: Mutex<Option<Instant>>,
    /// What was said already of blocks that are taken on an upstream's word.
    pub(super) told: Mutex<HashSet<&'static str>>,
    pub(super) meters: Meters,
}

#[derive(Debug)]
pub(super) struct Meters {
    /// Doubts that were settled, by how.
    pub(super) confirmed: Counter,
    pub(super) proved: Counter,
    pub(super) completed: Counter,
    /// Blocks that were taken on an upstream's word.
    pub(super) unproved: Counter,
}

impl Meters {
    fn new(chain: &str) -> Self {
        let doubts = |outcome: &'static str| counter!("lookout_source_doubts_total", "chain" => chain.to_owned(), "outcome" => outcome);
        Self {
            confirmed: doubts("confirmed"),
            proved: doubts("proved"),
            completed: doubts("completed"),
            unproved: counter!("lookout_source_unproved_blocks_total", "chain" => chain.to_owned()),
        }
    }
}

/// The size to try after one that was refused.
pub(super) fn smaller_batch(size: usize) -> usize {
    (size / BATCH_DIVISOR).max(1)
}

/// How many calls go into one batch.
#[derive(Debug)]
pub(super) struct BatchSize {
    size: AtomicUsize,
    passed: AtomicUsize,
}

impl BatchSize {
    pub(super) fn get(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// A batch of this size was refused.
    pub(super) fn refused(&self, size: usize) {
        self.passed.store(0, Ordering::Relaxed);
        self.size.fetch_min(smaller_batch(size), Ordering::Relaxed);
    }

    /// A batch passed.
    pub(super) fn passed(&self) {
        if self.get() < BATCH_MAX
            && self.passed.fetch_add(1, Ordering::Relaxed) >= BATCHES_BEFORE_GROWTH
        {
            self.passed.store(0, Ordering::Relaxed);
            let larger = self.get().saturating_mul(BATCH_DIVISOR).min(BATCH_MAX);
            self.size.store(larger, Ordering::Relaxed);
        }
    }
}

/// A budget of proofs by receipts, earned by blocks.
#[derive(Debug)]
pub(super) struct Proofs(Mutex<u64>);

impl Proofs {
    pub(super) fn earn(&self, blocks: u64) {
        let mut saved = self.0.lock();
        *saved = saved.saturating_add(blocks).min(PROOFS_SAVED_MAX * BLOCKS_PER_PROOF);
    }

    /// Takes one proof; `false` when there is none left.
    pub(super) fn take(&self) -> bool {
        let mut saved = self.0.lock();
        let left = saved.checked_sub(BLOCKS_PER_PROOF);
        *saved = left.unwrap_or(*saved);
        left.is_some()
    }
}

impl Chain {
    /// The chain's blocks as ingest takes them.
    pub fn source(self: &Arc<Self>) -> Arc<dyn Source> {
        Arc::new(EvmSource {
            batch: BatchSize { size: AtomicUsize::new(BATCH_MAX), passed: AtomicUsize::new(0) },
            proofs: Proofs(Mutex::new(PROOFS_SAVED_MAX * BLOCKS_PER_PROOF)),
            no_block_receipts: Mutex::default(),
            told: Mutex::default(),
            meters: Meters::new(self.name()),
            chain: self.clone(),
        })
    }
}

impl EvmSource {
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.chain.core
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.chain.core.pool
    }

    /// Fails where one of the blocks is known not to be on the followed branch.
    pub(super) fn require_followed(&self, headers: &[Followed]) -> Result<(), SourceError> {
        let canonical = self.core().canonical();
        let abandoned = headers
            .iter()
            .map(Followed::block)
            .find(|block| canonical.standing(*block) == Standing::Abandoned);
        match abandoned {
            None => Ok(()),
            Some(block) => Err(SourceError::Moved {
                height: block.number,
                reason: format!("block {} is not on the followed branch", block.hash),
            }),
        }
    }

    /// The chain's word for what no upstream has.
    pub(super) fn absent(&self, what: impl std::fmt::Display) -> ChainError {
        ChainError::NotFound(format!("chain `{}` has no {what}", self.chain.name()))
    }

    /// Counts a block that is taken on an upstream's word, and says so once for each reason.
    pub(super) fn note_unproved(&self, why: &'static str) {
        self.meters.unproved.increment(1);
        if self.told.lock().insert(why) {
            tracing::warn!(chain = %self.pool().chain,
                "blocks of this chain are taken on an upstream's word: {why}");
        }
    }

    /// Notes that no upstream offers `eth_getBlockReceipts`.
    pub(super) fn note_no_block_receipts(&self) {
        *self.no_block_receipts.lock() = Some(Instant::now() + ABSENT_FOR);
    }

    pub(super) fn has_block_receipts(&self) -> bool {
        self.no_block_receipts.lock().is_none_or(|until| Instant::now() >= until)
    }

    async fn require_reached(&self, height: Height) -> Result<(), SourceError> {
        let heads = self.core().wait_heads().await?;
        if height <= heads.latest.number {
            return Ok(());
        }
        let (chain, head) = (self.chain.name(), heads.latest.number);
        Err(SourceError::Chain(ChainError::NotFound(format!(
            "block {height} is above the head of chain `{chain}`, which is {head}"
        ))))
    }
}

/// As the caller sees it.
pub(super) fn told(header: &Followed) -> SourceHeader {
    SourceHeader {
        block: header.block(),
        parent: header.header.parent,
        timestamp: header.header.timestamp,
    }
}

/// What a call that no upstream answered well means.
pub(super) fn failed(lost: Lost, absent: impl FnOnce() -> ChainError) -> SourceError {
    SourceError::Chain(lost.or_missing(absent))
}

#[async_trait]
impl Source for EvmSource {
    fn chain(&self) -> ChainId {
        self.chain.id()
    }

    fn heads(&self) -> watch::Receiver<Option<Heads>> {
        self.core().follower.watch_heads()
    }

    async fn header_at(&self, height: Height) -> Result<SourceHeader, SourceError> {
        self.require_reached(height).await?;
        let headers = self.headers(height..=height).await?;
        self.require_followed(&headers)?;
        headers.first().map(told).ok_or_else(|| self.absent(format_args!("block {height}")).into())
    }

    async fn header(&self, block: BlockRef) -> Result<SourceHeader, SourceError> {
        Ok(told(&self.core().followed_header(block).await?))
    }

    async fn block(&self, block: BlockRef, wants: &Wants) -> Result<SourceBlock, SourceError> {
        self.proofs.earn(1);
        if wants.whole {
            return self.whole_block(block).await;
        }
        let header = self.core().followed_header(block).await?;
        self.logs_of_block(header, Arc::new(Filter::of(wants))).await
    }

    async fn range(
        &self,
        heights: RangeInclusive<Height>,
        wants: &Wants,
    ) -> Result<Vec<SourceBlock>, SourceError> {
        if heights.is_empty() {
            return Ok(Vec::new());
        }
        self.require_reached(*heights.end()).await?;
        let blocks = if wants.whole {
            self.whole_range(heights).await?
        } else {
            self.logs_of_range(heights, Arc::new(Filter::of(wants))).await?
        };
        self.proofs.earn(u64::try_from(blocks.len()).unwrap_or(u64::MAX));
        Ok(blocks)
    }
}
