//! What can go wrong on the bus, by what the caller can do about it.

use std::path::PathBuf;

use lookout_types::{BlockRef, ChainId, CodecError, ErrorKind, Step};

use crate::BusUrlError;

/// Why a bus operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL names no bus.
    #[error(transparent)]
    Url(#[from] BusUrlError),
    /// The backend is planned but not there.
    #[error("the bus {0} is not supported yet; use local:FOLDER")]
    Unsupported(String),
    /// Another process, or another part of this one, has the folder.
    #[error(
        "the bus folder `{}` is in use by another lookout; stop that one or change bus.url", .folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Someone else has claimed the chain since.
    #[error("chain {0} is published by someone else now; claim it again to take over")]
    Fenced(ChainId),
    /// A frame that does not follow the tail.
    #[error("chain {chain}: frame {given} does not follow the tail of the bus at frame {tail}")]
    Gap {
        /// The chain.
        chain: ChainId,
        /// Sequence of the last frame kept.
        tail: u64,
        /// Sequence of the frame given.
        given: u64,
    },
    /// A frame that does not fit the head: its block is no child of it, or not the one to undo.
    #[error("chain {chain}: frame {sequence} cannot {step} block {} {}: the head is {head}", block.number, block.hash)]
    Unlinked {
        /// The chain.
        chain: ChainId,
        /// The frame's sequence.
        sequence: u64,
        /// What the frame does.
        step: Step,
        /// Its block.
        block: BlockRef,
        /// The head as text.
        head: String,
    },
    /// A subscriber asks for frames that were let go.
    #[error(
        "chain {chain}: frame {asked} is no longer on the bus, the oldest is {oldest}; rebuild the consumer from the chain or the warehouse"
    )]
    Trimmed {
        /// The chain.
        chain: ChainId,
        /// Sequence asked for.
        asked: u64,
        /// Sequence of the oldest frame kept.
        oldest: u64,
    },
    /// A subscriber is further than the bus, so they hold different histories.
    #[error(
        "chain {chain}: a consumer has read frame {cursor}, but the bus ends at frame {tail}; the bus was replaced or lost frames, rebuild the consumer"
    )]
    Ahead {
        /// The chain.
        chain: ChainId,
        /// The consumer's cursor.
        cursor: u64,
        /// Sequence of the last frame kept.
        tail: u64,
    },
    /// A frame that the bus cannot keep.
    #[error("chain {chain}: frame {sequence} cannot be kept: {source}")]
    Frame {
        /// The chain.
        chain: ChainId,
        /// The frame's sequence.
        sequence: u64,
        /// The reason.
        source: CodecError,
    },
    /// An argument is wrong; the message says which and what is expected.
    #[error("{0}")]
    Invalid(String),
    /// A file of the bus is damaged where it was whole before.
    #[error(
        "the bus file `{}` is damaged at byte {offset}: {reason}; move the chain's folder away to rebuild it from the chain", .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} the bus file `{}`: {source}", .file.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// No space is left.
    #[error("the disk of the bus is full; no frame is lost, free some space and it goes on")]
    Full,
    /// An earlier write failed in a way that cannot be taken back.
    #[error("the bus takes no more frames of chain {0} after a failed write; restart lookout")]
    Broken(ChainId),
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    /// A file that could not be worked with, or no more than a disk without space.
    pub(crate) fn file(doing: &'static str, file: PathBuf, source: std::io::Error) -> Self {
        if is_full(&source) { Self::Full } else { Self::File { doing, file, source } }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url(_) | Self::Unsupported(_) | Self::Invalid(_) | Self::Frame { .. } => {
                ErrorKind::Invalid
            }
            Self::Fenced(_)
            | Self::Gap { .. }
            | Self::Unlinked { .. }
            | Self::Trimmed { .. }
            | Self::Ahead { .. } => ErrorKind::Conflict,
            Self::InUse { .. }
            | Self::File { .. }
            | Self::Full
            | Self::Broken(_)
            | Self::Closed => ErrorKind::Unavailable,
            Self::Damaged { .. } => ErrorKind::Internal,
        }
    }
}

/// Whether there is no space: on the disk, or for this user.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
