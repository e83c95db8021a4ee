//! The consumers of frames: each commits its effects together with its cursor.
//!
//! A consumer is told frames in order and from where it stands; [`run()`] does the telling, the waiting
//! and the rebuilding, so that a consumer holds nothing but what its frames mean.

mod rebuild;
mod rules;
mod run;
mod trim;
mod warehouse;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lookout_bus::BusError;
use lookout_store::StoreError;
use lookout_types::{ChainId, Cursor, ErrorKind, Frame, Height};
use lookout_warehouse::WarehouseError;

pub use rules::{BalanceReader, ReadError, Round, RoundLimits, Rounds, RulesConsumer, Unread};
pub use run::{ConsumeLimits, ConsumerState, RunParts, run};
pub use trim::{KEEP_FRAMES, Reader, TrimParts, trim};
pub use warehouse::WarehouseConsumer;

/// What reads frames and keeps what they mean.
///
/// Its state is a function of the frames alone. Whatever it does outside of its own store is done
/// later, from what it has committed.
#[async_trait]
pub trait Consumer: Send + Sync + fmt::Debug {
    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;

    /// The last frame whose effects are committed.
    async fn cursor(&self, chain: ChainId) -> Result<Cursor, ConsumeError>;

    /// Applies frames in order and commits their effects with the cursor: all or none.
    ///
    /// The first one follows the cursor. After [`Consumer::reset`] it may have any sequence: that of
    /// the oldest block that is still held somewhere.
    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Cursor, ConsumeError>;

    /// Forgets everything of the chain, so that it can be rebuilt from frame 1 (or the oldest frames).
    async fn reset(&self, chain: ChainId) -> Result<(), ConsumeError>;

    /// The lowest height whose records would be gone for good after a reset that is not followed by
    /// frames from there on. `None` where nothing would be missed.
    async fn lowest(&self, chain: ChainId) -> Result<Option<Height>, ConsumeError> {
        let _ = chain;
        Ok(None)
    }
}

/// Why a consumer does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// Passes by itself: the database is away, or the disk is full. Tried again for as long as it
    /// takes.
    #[error("{0}")]
    Retry(String),
    /// Does not pass: the consumer ends.
    #[error("{0}")]
    Fatal(String),
    /// What is held does not fit the frames: forget it and build it again.
    #[error("{0}")]
    Rebuild(String),
}

impl From<WarehouseError> for ConsumeError {
    fn from(error: WarehouseError) -> Self {
        let reason = error.to_string();
        match error {
            WarehouseError::Full | WarehouseError::Stale(_) => Self::Retry(reason),
            WarehouseError::Gap { .. }
            | WarehouseError::Differs { .. }
            | WarehouseError::TooOld { .. }
            | WarehouseError::Unlinked { .. }
            | WarehouseError::Corrupt { .. } => Self::Rebuild(reason),
            // The driver's own errors are of the disk or the file: nothing was committed.
            WarehouseError::Database { .. } => Self::Retry(reason),
            _ => Self::Fatal(reason),
        }
    }
}

impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> Self {
        let reason = error.to_string();
        match error {
            StoreError::Database { .. } | StoreError::Open { .. } => Self::Retry(reason),
            _ if error.kind() == ErrorKind::Unavailable => Self::Retry(reason),
            _ => Self::Fatal(reason),
        }
    }
}

impl From<BusError> for ConsumeError {
    fn from(error: BusError) -> Self {
        let reason = error.to_string();
        match error {
            BusError::File { .. } | BusError::Full => Self::Retry(reason),
            BusError::Trimmed { .. } | BusError::Ahead { .. } => Self::Rebuild(reason),
            _ => Self::Fatal(reason),
        }
    }
}
