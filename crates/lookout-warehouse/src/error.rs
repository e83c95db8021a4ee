//! What can go wrong in the warehouse, by what the caller can do about it.

use std::path::PathBuf;

use lookout_types::{BlockRef, ChainId, CodecError, ErrorKind, Height, Step};

use crate::WarehouseUrlError;

/// Why a warehouse operation failed.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The URL names no warehouse.
    #[error(transparent)]
    Url(#[from] WarehouseUrlError),
    /// The backend is planned but not there.
    #[error("the warehouse {0} is not supported yet; use sqlite:FILE")]
    Unsupported(String),
    /// The database file cannot be opened.
    #[error("cannot open the warehouse file `{}`: {reason}", .file.display())]
    File {
        /// The database file.
        file: PathBuf,
        /// The reason, with the remedy where there is one.
        reason: String,
    },
    /// Another process, or another part of this one, has the file open for writing.
    #[error(
        "the warehouse file `{}` is in use by another lookout; stop that one or change warehouse.url", .file.display()
    )]
    InUse {
        /// The database file.
        file: PathBuf,
    },
    /// Another instance has opened the warehouse since.
    #[error(
        "another lookout has taken over the warehouse; this one writes no more, restart it to take over again"
    )]
    Fenced,
    /// The file was written by another version.
    #[error(
        "the warehouse's schema is at version {found}, this lookout knows {known}; run the lookout that wrote it, or backfill into a new file"
    )]
    Schema {
        /// Version found.
        found: i64,
        /// The version of this binary.
        known: i64,
    },
    /// Frames are missing between the cursor and the first new frame.
    #[error(
        "chain {chain}: frame {given} does not follow the cursor at frame {cursor}; publish the frames in between first"
    )]
    Gap {
        /// The chain.
        chain: ChainId,
        /// Sequence of the last frame committed.
        cursor: u64,
        /// Sequence of the frame given.
        given: u64,
    },
    /// A frame was committed before with this sequence, and it was another.
    #[error(
        "chain {chain}: frame {sequence} is {given}, but {held} was committed as that frame; the bus and the warehouse hold different histories, rebuild one of them"
    )]
    Differs {
        /// The chain.
        chain: ChainId,
        /// The sequence that both have.
        sequence: u64,
        /// What was committed.
        held: String,
        /// What is given now.
        given: String,
    },
    /// A frame so far below the cursor that its identity is no longer kept.
    #[error(
        "chain {chain}: frame {sequence} is too far below the cursor to be compared, the oldest remembered is {oldest}; subscribe after the cursor"
    )]
    TooOld {
        /// The chain.
        chain: ChainId,
        /// The sequence given.
        sequence: u64,
        /// The oldest sequence that can be compared.
        oldest: u64,
    },
    /// A frame that does not fit the head: its block is no child of it, or not the one to undo.
    #[error("chain {chain}: frame {sequence} cannot {} block {} {}: the head is {head}", step, block.number, block.hash)]
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
    /// An undo reaches below what retention has left.
    #[error(
        "chain {chain}: block {height} is the lowest that retention has left and cannot be undone; rebuild the chain"
    )]
    Retained {
        /// The chain.
        chain: ChainId,
        /// The block's height.
        height: Height,
    },
    /// A record that the warehouse cannot keep.
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
    /// A reorg replaced blocks that earlier pages were read from, or retention removed some that were
    /// still to be read.
    #[error(
        "block {0}, to which earlier pages were read, is no longer held: a reorg replaced it, or retention removed it; read again from there"
    )]
    Stale(Height),
    /// An answer is over its limit.
    #[error("{0}")]
    TooLarge(String),
    /// What is stored cannot be read.
    #[error(
        "block {height} of chain {chain} is damaged in the warehouse: {reason}; rebuild the chain"
    )]
    Corrupt {
        /// The chain.
        chain: ChainId,
        /// The block's height.
        height: Height,
        /// What is wrong.
        reason: String,
    },
    /// No space is left.
    #[error(
        "the disk of the warehouse is full; nothing of the batch was committed, free some space"
    )]
    Full,
    /// The warehouse was closed, or its thread has ended.
    #[error("the warehouse is closed")]
    Closed,
    /// A statement failed.
    #[error("the warehouse failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The driver's reason.
        source: rusqlite::Error,
    },
}

impl WarehouseError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url(_) | Self::Unsupported(_) | Self::Invalid(_) | Self::Frame { .. } => {
                ErrorKind::Invalid
            }
            Self::Stale(_)
            | Self::Fenced
            | Self::Gap { .. }
            | Self::Differs { .. }
            | Self::TooOld { .. }
            | Self::Unlinked { .. }
            | Self::Retained { .. } => ErrorKind::Conflict,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::File { .. } | Self::InUse { .. } | Self::Full | Self::Closed => {
                ErrorKind::Unavailable
            }
            Self::Database { source, .. } if is_passing(source) => ErrorKind::Unavailable,
            Self::Schema { .. } | Self::Corrupt { .. } | Self::Database { .. } => {
                ErrorKind::Internal
            }
        }
    }

    /// For `map_err`: a failed statement, with what it was for.
    pub(crate) fn database(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| {
            if is_full(&source) { Self::Full } else { Self::Database { doing, source } }
        }
    }
}

/// Whether no space is left; the index of the write-ahead log says so in its own way.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == rusqlite::ErrorCode::DiskFull
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

/// Whether trying again later can help: the file is in use, or the disk has a bad moment.
fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
        )
    )
}
