//! Checks a node's answers against hashes: pure, no IO.
//!
//! Each check takes the raw JSON of an answer. An `Err` means that the answer cannot be true;
//! [`Finding::Unverifiable`] that Ethereum's rules cannot tell, as on chains with rules of their own.
//! A node that lies can always dress its answer up as another chain's, so `Unverifiable` is worth
//! no more than the node's word.
//!
//! Source: the Yellow Paper (headers, receipts, tries), EIP-2718 (typed transactions), EIP-1186.

mod block;
mod envelope;
mod error;
mod header;
mod json;
mod logs;
mod proof;
mod receipt;
mod records;
mod transaction;

pub(crate) use block::{check_block, check_receipts_in_block, read_block};
pub(crate) use error::VerifyError;
pub(crate) use header::{HeaderInfo, check_asked, check_header, check_parent, parse_header};
pub(crate) use logs::{LogsFinding, check_logs};
pub(crate) use proof::check_account_proof;
pub(crate) use receipt::{check_receipt, check_receipts};
pub(crate) use records::{Records, read_logs, read_records, read_transaction_hashes};
pub(crate) use transaction::{bor_state_sync_hash, check_transaction};

/// What a check found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// All that a hash commits to agrees with it.
    Verified,
    /// Nothing contradicts the answer, but its hash cannot be recomputed; why, in words.
    Unverifiable(&'static str),
}

impl Finding {
    /// The weaker of two findings; of two reasons the first.
    fn and(self, other: Self) -> Self {
        if self == Self::Verified { other } else { self }
    }
}

#[cfg(test)]
pub(crate) mod tests;
