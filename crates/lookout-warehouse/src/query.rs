//! What can be asked for, and what comes back.

use lookout_types::{
    Address, Amount, BlockRef, ChainId, Hash, Height, Log, OddReason, Transfer, UnixSeconds,
};

use crate::WarehouseError;

/// Most values of one set in a filter: each costs a search of its own in the index.
pub const FILTER_VALUES_MAX: usize = 256;

/// Part of a chain by height and by time; open ends are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Lowest height.
    pub from_height: Option<Height>,
    /// Highest height, included.
    pub to_height: Option<Height>,
    /// Earliest time, included.
    pub from_time: Option<UnixSeconds>,
    /// Latest time, excluded.
    pub to_time: Option<UnixSeconds>,
}

impl Span {
    /// Whether a block's time lies in it.
    pub(crate) fn has_time(&self, time: UnixSeconds) -> bool {
        self.from_time.is_none_or(|from| time >= from) && self.to_time.is_none_or(|to| time < to)
    }
}

/// Which logs. An empty set asks for nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// The chain.
    pub chain: ChainId,
    /// Emitted by one of these.
    pub addresses: Vec<Address>,
    /// The topic at each position is one of these.
    pub topics: [Vec<Hash>; 4],
    /// Where and when.
    pub span: Span,
}

/// Which end of a transfer an address stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// Sender or recipient.
    #[default]
    Either,
    /// Sender.
    From,
    /// Recipient.
    To,
}

/// Which assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetFilter {
    /// The chain's own coin.
    Native,
    /// A token contract, with all its ids.
    Contract(Address),
    /// One token of a collection.
    Token {
        /// The collection.
        contract: Address,
        /// The token.
        id: Amount,
    },
}

/// Which transfers. An empty set asks for nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferFilter {
    /// The chain.
    pub chain: ChainId,
    /// One of these takes part.
    pub parties: Vec<Address>,
    /// At which end.
    pub side: Side,
    /// Of one of these assets.
    pub assets: Vec<AssetFilter>,
    /// Where and when.
    pub span: Span,
}

/// A log in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The block.
    pub block: BlockRef,
    /// The block's time.
    pub timestamp: UnixSeconds,
    /// The log.
    pub log: Log,
}

/// A transfer in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferEvent {
    /// The block.
    pub block: BlockRef,
    /// The block's time.
    pub timestamp: UnixSeconds,
    /// The transfer.
    pub transfer: Transfer,
}

/// A log that looks like a transfer but is none that can be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddEvent {
    /// The log in its block.
    pub event: Event,
    /// What is wrong with it.
    pub reason: OddReason,
}

impl EventFilter {
    /// All logs of a chain.
    pub fn all(chain: ChainId) -> Self {
        Self { chain, addresses: Vec::new(), topics: Default::default(), span: Span::default() }
    }

    pub(crate) fn check(&self) -> Result<(), WarehouseError> {
        check_set("addresses", self.addresses.len())?;
        self.topics.iter().try_for_each(|topics| check_set("topics", topics.len()))
    }
}

impl TransferFilter {
    /// All transfers of a chain.
    pub fn all(chain: ChainId) -> Self {
        Self {
            chain,
            parties: Vec::new(),
            side: Side::Either,
            assets: Vec::new(),
            span: Span::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), WarehouseError> {
        check_set("addresses", self.parties.len())?;
        check_set("assets", self.assets.len())
    }
}

fn check_set(what: &str, values: usize) -> Result<(), WarehouseError> {
    if values > FILTER_VALUES_MAX {
        return Err(WarehouseError::Invalid(format!(
            "a query takes at most {FILTER_VALUES_MAX} {what}, not {values}"
        )));
    }
    Ok(())
}
