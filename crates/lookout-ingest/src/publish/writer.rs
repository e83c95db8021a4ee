//! Numbers frames and appends them to the bus, under the lease and the claim.

use std::sync::Arc;

use lookout_bus::{BusError, Claim};
use lookout_chain::SourceBlock;
use lookout_types::{BlockRef, Cursor, Frame, Height, Step};

use super::Limits;
use super::error::Problem;
use super::lease::LeaseKeeper;
use super::meters::Meters;
use super::past::{Past, Standing, size_of_frame};
use super::state::StateKeeper;
use crate::backoff::Backoff;

/// The end of the chain's frames, with those that wait to be published.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) past: Past,
    claim: Claim,
    lease: LeaseKeeper,
    /// What the bus has.
    published: Cursor,
    /// The last frame, published or waiting.
    sequence: u64,
    /// The head after it.
    pub(super) head: Option<BlockRef>,
    /// The first height followed, as far as it is known.
    pub(super) first: Option<Height>,
    batch: Vec<Arc<Frame>>,
    batch_bytes: usize,
    limits: Limits,
}

impl Writer {
    /// Claims the chain on the bus and goes on from its tail.
    pub(super) async fn open(
        past: Past,
        lease: LeaseKeeper,
        limits: Limits,
    ) -> Result<Self, Problem> {
        let claim = past.bus.claim(past.chain).await?;
        // Only now: what a holder before had under way is over.
        let published = past.bus.tail(past.chain).await?;
        if published.sequence == 0 {
            past.check_empty().await?;
        }
        let first = past.first(&published).await?;
        Ok(Self {
            past,
            claim,
            lease,
            published,
            sequence: published.sequence,
            head: published.head,
            first,
            batch: Vec::new(),
            batch_bytes: 0,
            limits,
        })
    }

    /// Returns once the lease can no longer be relied on.
    pub(super) async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Appends the child of the head.
    pub(super) fn apply(&mut self, block: SourceBlock) -> Result<(), Problem> {
        let SourceBlock { header, transactions, logs } = block;
        if let Some(head) = self.head
            && (header.block.number != head.number + 1 || header.parent != head.hash)
        {
            return Err(Problem::Fork);
        }
        let frame = Arc::new(Frame {
            chain: self.past.chain,
            sequence: self.sequence + 1,
            step: Step::Apply,
            block: header.block,
            parent: header.parent,
            timestamp: header.timestamp,
            transactions,
            logs,
        });
        let bytes = size_of_frame(&frame);
        self.past.push(&frame, bytes);
        if self.head.is_none() {
            self.first = Some(frame.block.number);
        }
        self.head = Some(frame.block);
        self.push(frame, bytes);
        Ok(())
    }

    /// Takes back the head. When its frame has to be read again, what waits is published before.
    pub(super) async fn undo(
        &mut self,
        state: &mut StateKeeper,
        meters: &Meters,
    ) -> Result<(), Problem> {
        let Some(head) = self.head else { return Ok(()) };
        if !self.past.has_frame() {
            self.flush(state, meters).await?;
        }
        let frame = self.past.pop(&self.published).await?;
        if frame.block != head {
            return Err(Problem::Retry(format!("block {} is not the one to undo", head.number)));
        }
        let below = head.number.checked_sub(1).filter(|_| self.first != Some(head.number));
        self.head = below.map(|number| BlockRef { number, hash: frame.parent });
        let undo = Frame { sequence: self.sequence + 1, step: Step::Undo, ..Frame::clone(&frame) };
        let bytes = size_of_frame(&undo);
        self.push(Arc::new(undo), bytes);
        Ok(())
    }

    fn push(&mut self, frame: Arc<Frame>, bytes: usize) {
        self.sequence = frame.sequence;
        self.batch.push(frame);
        self.batch_bytes += bytes;
    }

    /// The last frame, published or waiting.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether as much waits as one publication carries.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= self.limits.batch_frames || self.batch_bytes >= self.limits.batch_bytes
    }

    /// The block of the published branch at a height. Nothing may wait to be published.
    pub(super) async fn block_at(&mut self, height: Height) -> Result<BlockRef, Problem> {
        self.past.block_at(height, &self.published).await
    }

    /// How a block below the head stands to the published branch. Nothing may wait to be published.
    pub(super) async fn standing(&mut self, block: BlockRef) -> Result<Standing, Problem> {
        self.past.standing(block, self.first, &self.published).await
    }

    /// Publishes what waits, and returns once it is durable. A full disk is waited for.
    pub(super) async fn flush(
        &mut self,
        state: &mut StateKeeper,
        meters: &Meters,
    ) -> Result<(), Problem> {
        let mut backoff = Backoff::new(self.limits.backoff_base, self.limits.backoff_max);
        let mut warned = false;
        while !self.batch.is_empty() {
            if !self.lease.is_held() {
                return Err(Problem::Lost("its lease ran out".to_owned()));
            }
            let bus = Arc::clone(&self.past.bus);
            match bus.publish(&self.claim, self.batch.clone()).await {
                Ok(tail) => self.kept(tail, state, meters),
                Err(error @ (BusError::File { .. } | BusError::Full)) => {
                    meters.retries.increment(1);
                    if !warned {
                        tracing::error!(chain = %self.past.name, %error, "frames are not kept; trying on");
                        state.wait(error.to_string());
                        warned = true;
                    }
                    backoff.wait().await;
                    // Some of them may have been kept.
                    let tail = bus.tail(self.past.chain).await?;
                    self.kept(tail, state, meters);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Forgets the waiting frames up to the bus's tail.
    fn kept(&mut self, tail: Cursor, state: &mut StateKeeper, meters: &Meters) {
        let count = self.batch.partition_point(|frame| frame.sequence <= tail.sequence);
        let undone = self.batch[..count].iter().filter(|frame| frame.step == Step::Undo).count();
        let [applied, undone] = [count - undone, undone].map(|n| u64::try_from(n).unwrap_or(0));
        self.batch.drain(..count);
        if self.batch.is_empty() {
            self.batch_bytes = 0;
        }
        self.published = tail;
        meters.applied.increment(applied);
        meters.undone.increment(undone);
        let first = self.first;
        state.change(|state| {
            state.head = tail.head;
            state.first = first;
        });
        state.count(applied);
    }

    /// Gives the lease back.
    pub(super) async fn end(self) {
        self.lease.give_back().await;
    }
}
