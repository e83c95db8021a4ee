//! Stand-ins: a bus that has let go of frames, and a consumer that fails as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use lookout_bus::{Bus, BusError, Claim, FrameStream};
use lookout_types::{BlockRef, ChainId, Cursor, Frame, Step};
use parking_lot::Mutex;

use crate::consume::{ConsumeError, Consumer};

/// A bus whose frames below `oldest` are gone, and whose disk is full now and then.
#[derive(Debug)]
pub(super) struct Trimmed {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) oldest: AtomicU64,
    /// So many of the next publications keep the first half of their frames, and fail.
    pub(super) full: AtomicU64,
}

impl Trimmed {
    pub(super) fn new(bus: &Arc<dyn Bus>, oldest: u64) -> Arc<Self> {
        Arc::new(Self {
            bus: Arc::clone(bus),
            oldest: AtomicU64::new(oldest),
            full: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Bus for Trimmed {
    async fn claim(&self, chain: ChainId) -> Result<Claim, BusError> {
        self.bus.claim(chain).await
    }

    async fn publish(&self, claim: &Claim, frames: Vec<Arc<Frame>>) -> Result<Cursor, BusError> {
        let less = |full: u64| full.checked_sub(1);
        if self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            return self.bus.publish(claim, frames).await;
        }
        let half = frames[..frames.len() / 2].to_vec();
        self.bus.publish(claim, half).await?;
        let source = std::io::ErrorKind::StorageFull.into();
        Err(BusError::File { doing: "write", file: "frames".into(), source })
    }

    fn subscribe(&self, chain: ChainId, sequence: u64) -> FrameStream {
        let oldest = self.oldest.load(Ordering::Relaxed);
        if sequence + 1 < oldest {
            let error = BusError::Trimmed { chain, asked: sequence + 1, oldest };
            return stream::once(std::future::ready(Err(error))).boxed();
        }
        self.bus.subscribe(chain, sequence)
    }

    async fn tail(&self, chain: ChainId) -> Result<Cursor, BusError> {
        self.bus.tail(chain).await
    }

    async fn oldest(&self, chain: ChainId) -> Result<u64, BusError> {
        Ok(self.bus.oldest(chain).await?.max(self.oldest.load(Ordering::Relaxed)))
    }

    async fn trim(&self, _: ChainId, sequence: u64) -> Result<u64, BusError> {
        Ok(self.oldest.fetch_max(sequence, Ordering::Relaxed).max(sequence))
    }

    async fn reset(&self, claim: &Claim) -> Result<(), BusError> {
        self.bus.reset(claim).await
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

/// A consumer that keeps the branch in memory.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) state: Mutex<Kept>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) branch: Vec<BlockRef>,
    pub(super) resets: u32,
    pub(super) batches: u32,
    /// What the next calls of `apply` say, last first.
    pub(super) errors: Vec<ConsumeError>,
    /// Whether a failing call has committed all the same.
    pub(super) commits: bool,
}

impl Kept {
    fn cursor(&self, chain: ChainId) -> Cursor {
        Cursor { chain, sequence: self.sequence, head: self.branch.last().copied() }
    }
}

#[async_trait]
impl Consumer for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    async fn cursor(&self, chain: ChainId) -> Result<Cursor, ConsumeError> {
        Ok(self.state.lock().cursor(chain))
    }

    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Cursor, ConsumeError> {
        let mut state = self.state.lock();
        let error = state.errors.pop();
        if let Some(error) = &error
            && !state.commits
        {
            return Err(error.clone());
        }
        let chain = frames[0].chain;
        for frame in frames {
            assert!(state.sequence == 0 || frame.sequence == state.sequence + 1);
            state.sequence = frame.sequence;
            match frame.step {
                Step::Apply => state.branch.push(frame.block),
                Step::Undo => assert_eq!(state.branch.pop(), Some(frame.block)),
            }
        }
        state.batches += 1;
        error.map_or(Ok(state.cursor(chain)), Err)
    }

    async fn reset(&self, _: ChainId) -> Result<(), ConsumeError> {
        let mut state = self.state.lock();
        (state.sequence, state.branch) = (0, Vec::new());
        state.resets += 1;
        Ok(())
    }
}
