//! Blocks as ingest takes them: the seam between the kinds of chains and what follows them.

mod bloom;
mod collect;
mod decode;
mod doubt;
mod evm;
mod filter;
mod headers;
mod logs;
#[doc(hidden)]
pub mod stage;
mod whole;

use std::fmt;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use lookout_types::{Address, BlockRef, ChainId, Hash, Height, Log, Transaction, UnixSeconds};
use tokio::sync::watch;

use crate::{ChainError, Heads};

/// What of a chain's blocks is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wants {
    /// Transactions with their receipts, and all logs: whole blocks, their roots recomputed.
    /// Without it, logs alone, by `eth_getLogs`, counted against each block's bloom filter.
    pub whole: bool,
    /// Only logs of these contracts; empty for all. Whole blocks are never filtered.
    pub addresses: Vec<Address>,
    /// Only logs whose first topic is one of these; empty for all. Whole blocks are never filtered.
    pub topics: Vec<Hash>,
    /// Logs are taken only as two upstreams have them alike, or as a block's receipts prove them. A
    /// bloom filter alone does not show the loss of a log whose contract and topics all occur in
    /// other logs of its block. Whole blocks, which are proved anyway, need no second word.
    pub confirmed: bool,
}

impl Wants {
    /// What is kept of blocks, in the same words for the same wants. How it is confirmed is no part of
    /// it: blocks that were kept by another way are no less whole.
    pub fn kept(&self) -> String {
        if self.whole {
            return "blocks".to_owned();
        }
        let list = |name: &str, mut items: Vec<String>| {
            items.sort_unstable();
            items.dedup();
            match items.is_empty() {
                true => String::new(),
                false => format!(", {name} {}", items.join(" ")),
            }
        };
        let addresses = self.addresses.iter().map(ToString::to_string).collect();
        let topics = self.topics.iter().map(ToString::to_string).collect();
        format!("logs{}{}", list("addresses", addresses), list("topics", topics))
    }
}

/// A block's place in the chain, from its checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceHeader {
    /// The block.
    pub block: BlockRef,
    /// Its parent's hash.
    pub parent: Hash,
    /// Its time.
    pub timestamp: UnixSeconds,
}

/// A block with the records that are wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceBlock {
    /// Its place in the chain.
    pub header: SourceHeader,
    /// Its transactions in order; empty where only logs are wanted.
    pub transactions: Vec<Transaction>,
    /// The wanted logs in order.
    pub logs: Vec<Log>,
}

/// Why a source gave no blocks.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The range holds more than an upstream answers at once. Ask for fewer blocks.
    #[error("the range {}..={} is too large for the upstreams", .range.start(), .range.end())]
    TooLarge {
        /// The range asked for.
        range: RangeInclusive<Height>,
        /// How many blocks would pass, where the upstream said so.
        blocks: Option<u64>,
    },
    /// The chain changed under the question, or upstreams disagree: ask again from the head.
    #[error("block {height} is not settled between the upstreams: {reason}")]
    Moved {
        /// The height.
        height: Height,
        /// What was seen.
        reason: String,
    },
    /// What the upstreams say is incomplete or wrong, and none says better.
    #[error("block {height} cannot be proved complete: {reason}")]
    Unproved {
        /// The height.
        height: Height,
        /// What is missing.
        reason: String,
    },
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A chain's blocks, checked, in any order that is asked for.
///
/// Every block handed out is internally whole: its hash is recomputed, its records are complete by
/// roots or bloom. Whether blocks connect to each other is for the caller to see.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// The chain.
    fn chain(&self) -> ChainId;

    /// The agreed heads as they change; `None` before the first.
    fn heads(&self) -> watch::Receiver<Option<Heads>>;

    /// The header at a height of the followed branch.
    async fn header_at(&self, height: Height) -> Result<SourceHeader, SourceError>;

    /// The header of a block by its hash, also of a branch that is not followed (any more).
    async fn header(&self, block: BlockRef) -> Result<SourceHeader, SourceError>;

    /// A block by its hash.
    async fn block(&self, block: BlockRef, wants: &Wants) -> Result<SourceBlock, SourceError>;

    /// The blocks of a range, in order, one for each height, each the parent of the next.
    async fn range(
        &self,
        heights: RangeInclusive<Height>,
        wants: &Wants,
    ) -> Result<Vec<SourceBlock>, SourceError>;
}

#[cfg(test)]
mod tests;
