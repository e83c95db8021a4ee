//! Events and transfers as answers show them.

use std::ops::RangeInclusive;

use lookout_types::{Asset, BlockRef, Height, Transfer, UnixSeconds};
use lookout_warehouse::{AssetClass, Event, TransferEvent};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::decoding::Decoding;
use crate::error::ApiError;
use crate::provenance::rfc3339_seconds;

/// A log in its block.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventItem {
    /// Height of the block.
    #[schema(example = 17_173_049, minimum = 0)]
    pub(crate) block_number: Height,
    /// Hash of the block.
    pub(crate) block_hash: String,
    /// Time of the block.
    #[schema(format = DateTime)]
    pub(crate) timestamp: String,
    /// The transaction that emitted it.
    pub(crate) transaction_hash: String,
    /// Position of the transaction in the block.
    #[schema(minimum = 0)]
    pub(crate) transaction_index: u32,
    /// Position of the log in the block.
    #[schema(minimum = 0)]
    pub(crate) log_index: u32,
    /// The contract that emitted it.
    #[schema(example = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48")]
    pub(crate) address: String,
    /// Its topics, up to four.
    pub(crate) topics: Vec<String>,
    /// Its data, as it is.
    #[schema(example = "0x")]
    pub(crate) data: String,
    /// What it says, where an ABI is named and the log decodes by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<DecodedEvent>,
    /// Why it does not decode, where an ABI is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decode_error: Option<String>,
}

/// What a log says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecodedEvent {
    /// Name of the event.
    #[schema(example = "Transfer")]
    pub(crate) name: String,
    /// Its name and types.
    #[schema(example = "Transfer(address,address,uint256)")]
    pub(crate) signature: String,
    /// Its arguments by name: numbers as decimal strings, bytes as 0x-hex, structs as objects; a
    /// string that is not UTF-8 as `{"invalidUtf8":"0x…"}`, an indexed string or array as its hash.
    #[schema(value_type = Object)]
    pub(crate) args: Value,
}

/// A transfer in its block.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransferItem {
    /// Height of the block.
    #[schema(example = 17_173_049, minimum = 0)]
    pub(crate) block_number: Height,
    /// Hash of the block.
    pub(crate) block_hash: String,
    /// Time of the block.
    #[schema(format = DateTime)]
    pub(crate) timestamp: String,
    /// The transaction that made it.
    pub(crate) transaction_hash: String,
    /// Position of the transaction in the block.
    #[schema(minimum = 0)]
    pub(crate) transaction_index: u32,
    /// Position of the log that says so; `null` for a native transfer.
    #[schema(minimum = 0)]
    pub(crate) log_index: Option<u32>,
    /// Position within an ERC-1155 batch; 0 elsewhere.
    #[schema(minimum = 0)]
    pub(crate) batch_index: u32,
    /// What moved.
    pub(crate) asset: AssetItem,
    /// From whom; the zero address mints.
    pub(crate) from: String,
    /// To whom; the zero address burns.
    pub(crate) to: String,
    /// How much, in the asset's smallest unit; 1 for ERC-721.
    #[schema(example = "1500000")]
    pub(crate) amount: String,
}

/// What moved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AssetItem {
    /// Which standard.
    pub(crate) kind: AssetKind,
    /// The token contract; `null` for the chain's own coin.
    pub(crate) contract: Option<String>,
    /// The token of an ERC-721 or ERC-1155 collection.
    pub(crate) token_id: Option<String>,
}

/// Which standard an asset follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AssetKind {
    /// The chain's own coin.
    Native,
    /// A fungible token.
    Erc20,
    /// A token of a collection.
    Erc721,
    /// Units of a token of a collection.
    Erc1155,
}

/// Heights that are held, from one to another.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Held {
    /// Lowest.
    #[schema(minimum = 0)]
    pub(crate) from: Height,
    /// Highest, included.
    #[schema(minimum = 0)]
    pub(crate) to: Height,
}

impl From<RangeInclusive<Height>> for Held {
    fn from(range: RangeInclusive<Height>) -> Self {
        Self { from: *range.start(), to: *range.end() }
    }
}

impl AssetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Erc20 => "erc20",
            Self::Erc721 => "erc721",
            Self::Erc1155 => "erc1155",
        }
    }
}

impl From<AssetClass> for AssetItem {
    fn from(class: AssetClass) -> Self {
        let (kind, contract) = match class {
            AssetClass::Native => (AssetKind::Native, None),
            AssetClass::Erc20(contract) => (AssetKind::Erc20, Some(contract)),
            AssetClass::Erc721(contract) => (AssetKind::Erc721, Some(contract)),
            AssetClass::Erc1155(contract) => (AssetKind::Erc1155, Some(contract)),
        };
        Self { kind, contract: contract.map(|contract| contract.to_string()), token_id: None }
    }
}

impl From<Asset> for AssetItem {
    fn from(asset: Asset) -> Self {
        let token_id = match asset {
            Asset::Native | Asset::Erc20(_) => None,
            Asset::Erc721 { id, .. } | Asset::Erc1155 { id, .. } => Some(id.to_string()),
        };
        Self { token_id, ..AssetClass::from(asset).into() }
    }
}

/// A log of a block, raw.
pub(crate) fn raw_item(
    block: BlockRef,
    timestamp: UnixSeconds,
    log: &lookout_types::Log,
) -> Result<EventItem, ApiError> {
    Ok(EventItem {
        block_number: block.number,
        block_hash: block.hash.to_string(),
        timestamp: rfc3339_seconds(timestamp)?,
        transaction_hash: log.transaction_hash.to_string(),
        transaction_index: log.transaction_index,
        log_index: log.log_index,
        address: log.address.to_string(),
        topics: log.topics.iter().map(ToString::to_string).collect(),
        data: const_hex::encode_prefixed(&log.data),
        event: None,
        decode_error: None,
    })
}

/// An event as it is shown; `None` when its arguments are not those asked for.
pub(crate) fn event_item(
    event: &Event,
    decoding: Option<&Decoding>,
) -> Result<Option<EventItem>, ApiError> {
    let mut item = raw_item(event.block, event.timestamp, &event.log)?;
    if let Some(decoding) = decoding {
        match decoding.read(&event.log) {
            None => return Ok(None),
            Some(Ok((event, values))) => {
                item.event = Some(DecodedEvent {
                    args: event.to_json(&values),
                    name: event.name.clone(),
                    signature: event.signature.clone(),
                });
            }
            Some(Err(error)) => item.decode_error = Some(error.to_string()),
        }
    }
    Ok(Some(item))
}

/// A transfer as it is shown.
pub(crate) fn transfer_item(event: &TransferEvent) -> Result<TransferItem, ApiError> {
    let Transfer {
        asset,
        from,
        to,
        amount,
        transaction_hash,
        transaction_index,
        log_index,
        batch_index,
    } = event.transfer;
    Ok(TransferItem {
        block_number: event.block.number,
        block_hash: event.block.hash.to_string(),
        timestamp: rfc3339_seconds(event.timestamp)?,
        transaction_hash: transaction_hash.to_string(),
        transaction_index,
        log_index,
        batch_index,
        asset: asset.into(),
        from: from.to_string(),
        to: to.to_string(),
        amount: amount.to_string(),
    })
}
