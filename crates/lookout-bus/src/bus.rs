//! The bus as the rest of Lookout sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lookout_types::{ChainId, Cursor, Frame};

use crate::local::LocalBus;
use crate::{BusError, BusUrl};

/// Frames as they become readable, some at a time, never empty. Ends when the bus is closed.
pub type FrameStream = BoxStream<'static, Result<Vec<Arc<Frame>>, BusError>>;

/// The right to publish the frames of one chain, until someone else claims it.
#[derive(Debug)]
pub struct Claim {
    pub(crate) chain: ChainId,
    pub(crate) token: u64,
}

impl Claim {
    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.chain
    }
}

/// Carries frames from the one who makes them to those who consume them.
///
/// A consumer commits its cursor together with its effects, and subscribes after that cursor when
/// it starts again; the bus needs to know nothing about it. One that is to be rebuilt forgets its
/// cursor and subscribes after 0, or after what [`Bus::oldest`] says once frames were trimmed.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// Takes the right to publish a chain's frames. An earlier claim is over then.
    async fn claim(&self, chain: ChainId) -> Result<Claim, BusError>;

    /// Appends frames, and returns the tail once they are durable.
    ///
    /// They follow the tail without a gap, and each block is the child of the head that it is
    /// applied to. After an error, [`Bus::tail`] says how many were kept: always the first ones.
    async fn publish(&self, claim: &Claim, frames: Vec<Arc<Frame>>) -> Result<Cursor, BusError>;

    /// Every frame after `sequence`, those kept first, then those to come.
    fn subscribe(&self, chain: ChainId, sequence: u64) -> FrameStream;

    /// The last frame published. It is where a new publisher goes on.
    async fn tail(&self, chain: ChainId) -> Result<Cursor, BusError>;

    /// Sequence of the oldest frame kept; one above the tail's when none is.
    async fn oldest(&self, chain: ChainId) -> Result<u64, BusError>;

    /// Lets go of frames below `sequence`, which every consumer has committed. Some may be kept, as
    /// space is freed in large pieces. Returns the oldest kept.
    async fn trim(&self, chain: ChainId, sequence: u64) -> Result<u64, BusError>;

    /// Forgets all frames of the claimed chain; the next one published is number 1 again.
    async fn reset(&self, claim: &Claim) -> Result<(), BusError>;

    /// Ends subscriptions and gives the files back; later calls fail.
    async fn close(&self);
}

/// Opens the bus at `url`.
///
/// # Errors
/// [`BusError::InUse`] when another instance has it, and whatever else keeps it from opening.
pub async fn open(url: &BusUrl) -> Result<Arc<dyn Bus>, BusError> {
    match url {
        BusUrl::Local(folder) => Ok(Arc::new(LocalBus::open(folder.clone()).await?)),
        BusUrl::Kafka { shown } => Err(BusError::Unsupported(shown.clone())),
    }
}
