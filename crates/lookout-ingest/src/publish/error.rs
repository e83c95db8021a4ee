//! Why publishing ends, or goes on after a pause.

use lookout_bus::BusError;
use lookout_chain::SourceError;
use lookout_store::StoreError;
use lookout_types::{BlockRef, ErrorKind, Height};
use lookout_warehouse::WarehouseError;

/// Why a publisher ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The lease: another instance has it, or the store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus takes no more frames.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The warehouse does not give back what is to be undone.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// The chain forks below everything that is held.
    #[error(
        "chain `{name}` forks below block {first}, the first one held ({blocks} blocks are): its upstreams follow another chain, or its history was replaced; check the upstreams, then run `lookout backfill --chain {name} --from {first} --to {to} --rebuild`"
    )]
    ForkBelow {
        /// The chain's name.
        name: String,
        /// The first height held.
        first: Height,
        /// How many blocks are held.
        blocks: u64,
        /// The head of the new branch.
        to: Height,
    },
    /// A reorg takes back blocks whose records are no longer held anywhere.
    #[error(
        "chain `{name}`: block {} {} is to be undone, but its records are neither on the bus nor in the warehouse; run `lookout backfill --chain {name} --from N --to M --rebuild`", block.number, block.hash
    )]
    Forgotten {
        /// The chain's name.
        name: String,
        /// The block.
        block: BlockRef,
    },
    /// The warehouse has read frames that the bus does not know of.
    #[error(
        "the bus holds no frame of chain `{name}`, but the warehouse has read {frames}: the bus was replaced or emptied; bring it back, or run `lookout backfill --chain {name} --from {first} --to M --rebuild`"
    )]
    BusLost {
        /// The chain's name.
        name: String,
        /// Frames that the warehouse has read.
        frames: u64,
        /// The lowest height that it holds.
        first: Height,
    },
    /// The blocks held were followed for something else.
    #[error(
        "chain `{name}`: what is held was followed for `{before}`, and it is now to be followed for `{wants}`, which the older blocks may lack; set follow, follow_addresses and follow_topics in [chains.{name}] back, or read the chain anew: `lookout backfill --chain {name} --from N --to M --rebuild`"
    )]
    OtherWants {
        /// The chain's name.
        name: String,
        /// What the blocks held were followed for.
        before: String,
        /// What is wanted now.
        wants: String,
    },
    /// Something that passes, told to one who does not wait for it.
    #[error("chain `{name}`: {reason}; try again")]
    Passing {
        /// The chain's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl PublishError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Bus(error) => error.kind(),
            Self::Warehouse(error) => error.kind(),
            Self::ForkBelow { .. }
            | Self::Forgotten { .. }
            | Self::BusLost { .. }
            | Self::OtherWants { .. } => ErrorKind::Conflict,
            Self::Passing { .. } => ErrorKind::Unavailable,
        }
    }
}

/// What interrupts publishing.
#[derive(Debug)]
pub(super) enum Problem {
    /// The next block is no child of the last one published.
    Fork,
    /// Passes by itself: look again after a pause.
    Retry(String),
    /// As before, and it is a block that cannot be proved complete.
    Unproved(Height, String),
    /// This instance publishes no longer: begin with the lease again.
    Lost(String),
    /// Does not pass.
    Stop(PublishError),
}

impl Problem {
    /// As an error for one who does not wait for what passes.
    pub(super) fn into_error(self, name: &str) -> PublishError {
        let reason = match self {
            Self::Stop(error) => return error,
            Self::Fork => "a block has changed".to_owned(),
            Self::Retry(reason) | Self::Lost(reason) => reason,
            Self::Unproved(height, reason) => format!("block {height}: {reason}"),
        };
        PublishError::Passing { name: name.to_owned(), reason }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unproved { height, reason } => Self::Unproved(height, reason),
            SourceError::TooLarge { .. } | SourceError::Moved { .. } | SourceError::Chain(_) => {
                Self::Retry(error.to_string())
            }
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Fenced(_) => Self::Lost(error.to_string()),
            // Trimmed: between looking and reading.
            BusError::File { .. } | BusError::Full | BusError::Trimmed { .. } => {
                Self::Retry(error.to_string())
            }
            _ => Self::Stop(error.into()),
        }
    }
}

impl From<WarehouseError> for Problem {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Stale(_) | WarehouseError::Full => Self::Retry(error.to_string()),
            WarehouseError::Database { .. } if error.kind() == ErrorKind::Unavailable => {
                Self::Retry(error.to_string())
            }
            _ => Self::Stop(error.into()),
        }
    }
}
