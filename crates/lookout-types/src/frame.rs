//! Frames: the one stream that everything downstream is computed from.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::{Address, Amount, BlockRef, ChainId, Hash};

/// Seconds since 1970 UTC, as block headers carry them.
pub type UnixSeconds = u64;

/// Whether a frame adds its block to the followed chain or takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The block is on the followed chain from here on.
    Apply,
    /// The block, which was applied last, is abandoned.
    Undo,
}

/// One block applied or undone, with its records.
///
/// The frames of a chain are numbered from 1 without gaps. An undo carries the same block and
/// records as the apply that it takes back, and always takes back the last block applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The chain.
    pub chain: ChainId,
    /// Position in the chain's frames, from 1.
    pub sequence: u64,
    /// Apply or undo.
    pub step: Step,
    /// The block.
    pub block: BlockRef,
    /// Its parent's hash.
    pub parent: Hash,
    /// Its time.
    pub timestamp: UnixSeconds,
    /// Its transactions in order; empty where the chain is followed by logs alone.
    pub transactions: Vec<Transaction>,
    /// Its logs in order, as far as the chain's filter wants them.
    pub logs: Vec<Log>,
}

/// How far a consumer has read: the last frame whose effects it has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The chain.
    pub chain: ChainId,
    /// Sequence of the last frame read; 0 before the first.
    pub sequence: u64,
    /// The block that was the head after it.
    pub head: Option<BlockRef>,
}

/// An event log, raw: decoding happens where it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The contract that emitted it.
    pub address: Address,
    /// Up to four topics; the first is the event's signature hash unless the event is anonymous.
    pub topics: Vec<Hash>,
    /// ABI-encoded arguments that are not indexed.
    pub data: Bytes,
    /// The transaction that emitted it.
    pub transaction_hash: Hash,
    /// Position of that transaction in the block.
    pub transaction_index: u32,
    /// Position in the block, over all transactions.
    pub log_index: u32,
}

/// A transaction with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its hash.
    pub hash: Hash,
    /// Position in the block.
    pub index: u32,
    /// The sender.
    pub from: Address,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Native value, in wei.
    pub value: Amount,
    /// The sender's nonce.
    pub nonce: u64,
    /// Call data.
    pub input: Bytes,
    /// What came of it; `None` where receipts were not read.
    pub outcome: Option<Outcome>,
}

/// A transaction's receipt, without its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it succeeded. A failed one still pays its fee, but moves no value.
    pub success: bool,
    /// Gas used by it alone.
    pub gas_used: u64,
    /// Price paid per gas, in wei.
    pub gas_price: Amount,
    /// The contract that it created.
    pub created: Option<Address>,
}

/// What a transfer moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asset {
    /// The chain's own coin.
    Native,
    /// An ERC-20 token.
    Erc20(Address),
    /// One ERC-721 token.
    Erc721 {
        /// The collection.
        contract: Address,
        /// The token.
        id: Amount,
    },
    /// Units of one ERC-1155 token.
    Erc1155 {
        /// The collection.
        contract: Address,
        /// The token.
        id: Amount,
    },
}

/// One movement of an asset between two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// What moves.
    pub asset: Asset,
    /// From whom; the zero address mints.
    pub from: Address,
    /// To whom; the zero address burns.
    pub to: Address,
    /// How much, in the asset's smallest unit; 1 for ERC-721.
    pub amount: Amount,
    /// The transaction.
    pub transaction_hash: Hash,
    /// Position of that transaction in the block.
    pub transaction_index: u32,
    /// The log that says so; `None` for a native transfer.
    pub log_index: Option<u32>,
    /// Position within an ERC-1155 batch; 0 elsewhere.
    pub batch_index: u32,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply",
            Self::Undo => "undo",
        })
    }
}

impl FromStr for Step {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "apply" => Ok(Self::Apply),
            "undo" => Ok(Self::Undo),
            _ => Err(()),
        }
    }
}
