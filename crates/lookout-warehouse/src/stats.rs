//! Counts and sums over time.

use lookout_types::{Address, Amount, Asset, Hash, UnixSeconds};
use ruint::aliases::U256;

/// Most rows of an answer: what one answer can hold in memory and a chart can show.
pub const STATS_ROWS_MAX: usize = 10_000;

/// What counts of events are apart by, besides time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EventGroup {
    /// Nothing.
    #[default]
    All,
    /// The contract.
    Address,
    /// The first topic.
    Event,
    /// Both.
    AddressEvent,
}

/// How many events, in one bucket of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStat {
    /// Start of the bucket; `None` where no bucket was asked for.
    pub from_time: Option<UnixSeconds>,
    /// The contract, where counts are apart by it.
    pub address: Option<Address>,
    /// The first topic, where counts are apart by it; anonymous events have none.
    pub topic0: Option<Hash>,
    /// How many.
    pub count: u64,
}

/// An asset without the token's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AssetClass {
    /// The chain's own coin.
    Native,
    /// An ERC-20 token.
    Erc20(Address),
    /// An ERC-721 collection.
    Erc721(Address),
    /// An ERC-1155 collection.
    Erc1155(Address),
}

/// A sum of amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// The sum, exactly.
    Exact(Amount),
    /// 2^256 or more: some contract claims to have moved more than can exist.
    Overflow,
}

/// How many transfers and how much, in one bucket of one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferStat {
    /// Start of the bucket; `None` where no bucket was asked for.
    pub from_time: Option<UnixSeconds>,
    /// The asset.
    pub asset: AssetClass,
    /// How many.
    pub count: u64,
    /// How much; for ERC-721 and ERC-1155 over all ids.
    pub total: Total,
}

impl From<Asset> for AssetClass {
    fn from(asset: Asset) -> Self {
        match asset {
            Asset::Native => Self::Native,
            Asset::Erc20(contract) => Self::Erc20(contract),
            Asset::Erc721 { contract, .. } => Self::Erc721(contract),
            Asset::Erc1155 { contract, .. } => Self::Erc1155(contract),
        }
    }
}

impl Total {
    /// Nothing yet.
    pub const ZERO: Self = Self::Exact(Amount(U256::ZERO));

    /// The sum with one amount more.
    #[must_use]
    pub fn plus(self, amount: Amount) -> Self {
        match self {
            Self::Exact(sum) => {
                sum.0.checked_add(amount.0).map_or(Self::Overflow, |sum| Self::Exact(Amount(sum)))
            }
            Self::Overflow => Self::Overflow,
        }
    }
}

/// Start of the bucket that `time` lies in.
pub(crate) fn bucket_of(time: UnixSeconds, bucket_s: Option<u64>) -> Option<UnixSeconds> {
    bucket_s.map(|length| time - time % length)
}
