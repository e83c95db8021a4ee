//! What can go wrong in the store, by what the caller can do about it.

use std::path::PathBuf;

use lookout_rules::RuleError;
use lookout_types::{ChainId, ErrorKind, UnixMillis};

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder of the database file does not exist.
    #[error("the folder `{}` of the store file `{}` does not exist; create it or change store.url", .folder.display(), .file.display())]
    FolderMissing {
        /// The database file.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The database file cannot be created or read.
    #[error("cannot open the store file `{}`: {source}", .file.display())]
    File {
        /// The database file.
        file: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// The database cannot be reached.
    #[error("cannot open the store {store}: {source}")]
    Open {
        /// The store's URL, without credentials.
        store: String,
        /// The driver's reason.
        source: sqlx::Error,
    },
    /// The schema was written by a newer Lookout.
    #[error(
        "the store's schema is at version {found}, but this lookout knows only up to {known}; run a newer lookout"
    )]
    SchemaNewer {
        /// Version found in the database.
        found: i64,
        /// Newest version in this binary.
        known: i64,
    },
    /// A migration in the database is not the one in this binary.
    #[error(
        "migration {version} of the store differs from this lookout's; the database was written by another build"
    )]
    SchemaDiffers {
        /// Version whose checksum differs.
        version: i64,
    },
    /// An argument is wrong; the message says which and what is expected.
    #[error("{0}")]
    Invalid(String),
    /// The thing is not there, or belongs to another tenant.
    #[error("no {what} `{id}`")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// The id asked for.
        id: String,
    },
    /// The thing is in a state, or in use, so that this cannot be done to it now.
    #[error("{0}")]
    Conflict(String),
    /// A rule does not compile.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A limit of the store is reached.
    #[error("{0}")]
    Limit(String),
    /// Another instance publishes the chain.
    #[error(
        "chain {chain} is published by `{holder}`, whose lease ends in {left_s} s; stop that one, or wait until it has ended"
    )]
    Held {
        /// The chain.
        chain: ChainId,
        /// Who holds the lease.
        holder: String,
        /// When it ends, unless it is renewed (milliseconds since 1970 UTC).
        until: UnixMillis,
        /// Seconds left, rounded up.
        left_s: i64,
    },
    /// The lease ended, or another instance has taken over.
    #[error("the lease of chain {chain} is no longer ours: {reason}")]
    LeaseLost {
        /// The chain.
        chain: ChainId,
        /// What came instead.
        reason: String,
    },
    /// A row in the database cannot be understood.
    #[error("the store holds a row that cannot be read: {0}")]
    Corrupt(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a key: {0}")]
    Random(getrandom::Error),
    /// No space is left.
    #[error("the disk of the store is full: {doing} changed nothing; free some space")]
    Full {
        /// What was being done.
        doing: &'static str,
    },
    /// A statement failed.
    #[error("the store failed while {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The driver's reason.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Rule(_) => ErrorKind::Invalid,
            Self::Limit(_) | Self::Conflict(_) | Self::Held { .. } | Self::LeaseLost { .. } => {
                ErrorKind::Conflict
            }
            Self::FolderMissing { .. }
            | Self::File { .. }
            | Self::Open { .. }
            | Self::Full { .. } => ErrorKind::Unavailable,
            Self::Database { source, .. } if is_passing(source) => ErrorKind::Unavailable,
            Self::SchemaNewer { .. }
            | Self::SchemaDiffers { .. }
            | Self::Corrupt(_)
            | Self::Random(_)
            | Self::Database { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err`: a failed statement, with what it was for.
    pub(crate) fn database(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| {
            if is_full(&source) { Self::Full { doing } } else { Self::Database { doing, source } }
        }
    }
}

/// Whether the database is merely busy or away, so that trying again later can help.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => true,
        // Postgres class 57, "operator intervention".
        sqlx::Error::Database(e) => {
            e.code().is_some_and(|code| code.starts_with("57P") || passes(&code))
        }
        _ => false,
    }
}

/// Whether a code of SQLite is `SQLITE_BUSY` (5), `SQLITE_IOERR` (10) or `SQLITE_CANTOPEN` (14); the low
/// byte of an extended code says of what it is one.
fn passes(code: &str) -> bool {
    // The codes of Postgres have five characters, SQLite's extended ones at most four today.
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| [5, 10, 14].contains(&(code & 0xff)))
}

/// Whether no space is left: `SQLITE_FULL`, `SQLITE_IOERR_SHMSIZE` (the index of the write-ahead log
/// cannot grow), and what Postgres says then.
fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["13", "4874", "53100"].contains(&code.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_sqlite_that_pass_are_told_from_those_of_postgres() {
        for code in ["5", "261", "517", "10", "778", "1034", "14", "526"] {
            assert!(passes(code), "{code}");
        }
        for code in ["1", "11", "19", "2067", "23505", "40001", "42P01", "", "x"] {
            assert!(!passes(code), "{code}");
        }
    }
}
