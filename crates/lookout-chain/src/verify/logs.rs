//! Logs of one block, as `eth_getLogs` gives them.

use alloy_primitives::{Address, B256, Bloom, BloomInput, Bytes};
use lookout_types::Hash;

use super::VerifyError;
use super::header::HeaderInfo;
use super::json::{Hex, Seconds, json_object, need, parse, require};
use super::transaction::bor_state_sync_hash;

json_object! {
    /// A log as nodes give it.
    LogJson {
        address: Hex<Address> = "address",
        topics: Vec<Hex<B256>> = "topics",
        data: Hex<Bytes> = "data",
        block_hash: Hex<B256> = "blockHash",
        block_number: Hex<u64> = "blockNumber",
        block_timestamp: Seconds = "blockTimestamp",
        transaction_hash: Hex<B256> = "transactionHash",
        transaction_index: Hex<u64> = "transactionIndex",
        log_index: Hex<u64> = "logIndex",
        removed: bool = "removed",
    }
    harmless {}
}

/// Where a log says that it is.
pub(super) struct LogPlace {
    pub(super) block_hash: B256,
    pub(super) block_number: u64,
    pub(super) transaction_hash: B256,
    pub(super) transaction_index: u64,
    pub(super) log_index: u64,
}

impl LogJson<'_> {
    /// Its place, with what about it is not a matter of place: not removed, the block's time.
    pub(super) fn place(
        &self,
        path: &str,
        header: Option<&HeaderInfo>,
    ) -> Result<LogPlace, VerifyError> {
        require(&self.removed.unwrap_or(false), &false, path, "removed")?;
        if let (Some(said), Some(header)) = (self.block_timestamp, header) {
            require(&said.0, &header.timestamp, path, "blockTimestamp")?;
        }
        Ok(LogPlace {
            block_hash: need(self.block_hash, path, "blockHash")?.0,
            block_number: need(self.block_number, path, "blockNumber")?.0,
            transaction_hash: need(self.transaction_hash, path, "transactionHash")?.0,
            transaction_index: need(self.transaction_index, path, "transactionIndex")?.0,
            log_index: need(self.log_index, path, "logIndex")?.0,
        })
    }
}

/// What the header's bloom says about a block's logs.
///
/// A bloom can refute but never prove: only the receipts lead to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogsFinding {
    /// Nothing in the header speaks against it.
    Consistent,
    /// Logs may be missing, or some are outside the bloom by the chain's own rules; why, in words.
    Suspicious(&'static str),
}

const MAY_BE_MISSING: &str = "there are no logs, but the header's bloom may contain some";
const ARE_MISSING: &str = "the logs do not make up the header's bloom, so some are missing";
const STATE_SYNC: &str = "there are logs of a state-sync transaction, which no bloom contains";
const FOREIGN_CHAIN: &str = "the chain computes its blooms in its own way";

/// Checks the logs of one block against its header and the filter they were asked with.
///
/// No addresses mean any, an empty set of topics means any at that position. Nothing commits to a
/// log's `data`, its transaction or its indices, short of all receipts ([`super::check_receipts`]).
///
/// # Errors
/// Names the log that is of another block, does not match, is not in the bloom, or is out of order.
pub(crate) fn check_logs(
    logs_json: &[u8],
    block: &HeaderInfo,
    filter_addresses: &[lookout_types::Address],
    filter_topics: &[Vec<Hash>],
) -> Result<LogsFinding, VerifyError> {
    let logs: Vec<LogJson<'_>> = parse(logs_json, "")?;
    let state_sync = bor_state_sync_hash(block.reference);
    let mut finding = LogsFinding::Consistent;
    let mut bloom = Bloom::ZERO;
    let mut previous: Option<LogPlace> = None;
    for (i, log) in logs.iter().enumerate() {
        let path = format!("[{i}]");
        let place = log.place(&path, Some(block))?;
        require(&place.block_hash, &B256::new(block.reference.hash.0), &path, "blockHash")?;
        require(&place.block_number, &block.reference.number, &path, "blockNumber")?;
        if let Some(previous) = &previous {
            require_order(previous, &place, &path)?;
        }
        let address = need(log.address, &path, "address")?.0;
        let topics = need(log.topics.as_ref(), &path, "topics")?;
        need(log.data.as_ref(), &path, "data")?;
        if !matches(address, topics, filter_addresses, filter_topics) {
            return Err(VerifyError::Filter { field: path });
        }
        let mut own = Bloom::ZERO;
        own.accrue(BloomInput::Raw(address.as_slice()));
        for topic in topics {
            own.accrue(BloomInput::Raw(topic.0.as_slice()));
        }
        if block.foreign {
            finding = LogsFinding::Suspicious(FOREIGN_CHAIN);
        } else if place.transaction_hash == state_sync {
            finding = LogsFinding::Suspicious(STATE_SYNC);
        } else if !block.logs_bloom.contains(&own) {
            return Err(VerifyError::NotInBloom { field: path });
        }
        bloom.accrue_bloom(&own);
        previous = Some(place);
    }
    if finding != LogsFinding::Consistent {
        return Ok(finding);
    }
    let everything = filter_addresses.is_empty() && filter_topics.iter().all(Vec::is_empty);
    // A position asked for, even if for any topic, needs a log that has one.
    let everything = everything && filter_topics.is_empty();
    Ok(match logs.is_empty() {
        true if may_contain(&block.logs_bloom, filter_addresses, filter_topics) => {
            LogsFinding::Suspicious(MAY_BE_MISSING)
        }
        false if everything && bloom != block.logs_bloom => LogsFinding::Suspicious(ARE_MISSING),
        _ => LogsFinding::Consistent,
    })
}

fn require_order(previous: &LogPlace, place: &LogPlace, path: &str) -> Result<(), VerifyError> {
    require(&(place.log_index > previous.log_index), &true, path, "logIndex above the previous")?;
    let same_index = place.transaction_index == previous.transaction_index;
    let same_hash = place.transaction_hash == previous.transaction_hash;
    require(&same_index, &same_hash, path, "transactionIndex with its transactionHash")?;
    let in_order = place.transaction_index >= previous.transaction_index;
    require(&in_order, &true, path, "transactionIndex not below the previous")
}

fn matches(
    address: Address,
    topics: &[Hex<B256>],
    filter_addresses: &[lookout_types::Address],
    filter_topics: &[Vec<Hash>],
) -> bool {
    let by_address =
        filter_addresses.is_empty() || filter_addresses.iter().any(|wanted| wanted.0 == address.0);
    by_address
        && filter_topics.len() <= topics.len()
        && filter_topics.iter().zip(topics).all(|(wanted, topic)| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.0 == topic.0.0)
        })
}

/// Whether logs that match the filter may be among those that made up the bloom.
fn may_contain(
    bloom: &Bloom,
    filter_addresses: &[lookout_types::Address],
    filter_topics: &[Vec<Hash>],
) -> bool {
    let contains = |bytes: &[u8]| bloom.contains_input(BloomInput::Raw(bytes));
    !bloom.is_zero()
        && (filter_addresses.is_empty() || filter_addresses.iter().any(|a| contains(&a.0)))
        && filter_topics
            .iter()
            .all(|wanted| wanted.is_empty() || wanted.iter().any(|topic| contains(&topic.0)))
}
