//! Block headers: their hash, and the link to the parent.

use alloy_consensus::{EMPTY_ROOT_HASH, Header};
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, keccak256};
use lookout_types::{BlockRef, Hash};
use serde_json::value::RawValue;

use super::json::{Hex, JsonObject, json_object, need, parse};
use super::{Finding, VerifyError};

/// Fields that Ethereum does not hash make the hash another chain's own affair.
const FOREIGN_FIELDS: &str = "the header has fields that Ethereum's rules do not hash";

/// The header fields that checks of other answers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderInfo {
    /// Height and claimed hash.
    pub(crate) reference: BlockRef,
    /// The parent's hash.
    pub(crate) parent: Hash,
    /// Block time in seconds since 1970 UTC.
    pub(crate) timestamp: u64,
    /// Root of the accounts after the block.
    pub(crate) state_root: Hash,
    /// Root of its transactions.
    pub(crate) transactions_root: Hash,
    /// Root of its receipts.
    pub(crate) receipts_root: Hash,
    /// Bloom filter over its logs' addresses and topics.
    pub(crate) logs_bloom: Bloom,
    /// Whether it has fields of its own. Such a chain may also compute its roots in its own way,
    /// so a mismatch below it is no proof of a lie.
    pub(crate) foreign: bool,
}

impl HeaderInfo {
    /// Whether its root says that nothing is under it; a chain may list transactions of its own even so.
    pub(crate) fn has_no_transactions(&self) -> bool {
        self.transactions_root.0 == EMPTY_ROOT_HASH.0
    }
}

json_object! {
    /// A block as `eth_getBlockBy*` gives it.
    BlockJson {
        hash: Hex<B256> = "hash",
        parent_hash: Hex<B256> = "parentHash",
        ommers_hash: Hex<B256> = "sha3Uncles",
        beneficiary: Hex<Address> = "miner",
        state_root: Hex<B256> = "stateRoot",
        transactions_root: Hex<B256> = "transactionsRoot",
        receipts_root: Hex<B256> = "receiptsRoot",
        logs_bloom: Hex<alloy_primitives::FixedBytes<256>> = "logsBloom",
        difficulty: Hex<U256> = "difficulty",
        number: Hex<u64> = "number",
        gas_limit: Hex<u64> = "gasLimit",
        gas_used: Hex<u64> = "gasUsed",
        timestamp: Hex<u64> = "timestamp",
        extra_data: Hex<Bytes> = "extraData",
        mix_hash: Hex<B256> = "mixHash",
        nonce: Hex<B64> = "nonce",
        base_fee_per_gas: Hex<u64> = "baseFeePerGas",
        withdrawals_root: Hex<B256> = "withdrawalsRoot",
        blob_gas_used: Hex<u64> = "blobGasUsed",
        excess_blob_gas: Hex<u64> = "excessBlobGas",
        parent_beacon_block_root: Hex<B256> = "parentBeaconBlockRoot",
        requests_hash: Hex<B256> = "requestsHash",
        block_access_list_hash: Hex<B256> = "blockAccessListHash",
        slot_number: Hex<u64> = "slotNumber",
        transactions: &'a RawValue = "transactions",
        withdrawals: &'a RawValue = "withdrawals",
        uncles: &'a RawValue = "uncles",
    }
    // Computed by the node for the answer; no hash commits to them.
    harmless { "size", "totalDifficulty", "author" }
}

/// Reads a header without checking its hash; ignores the transactions.
///
/// # Errors
/// [`VerifyError::Malformed`] or [`VerifyError::Missing`], naming the field.
pub(crate) fn parse_header(block_json: &[u8]) -> Result<HeaderInfo, VerifyError> {
    info(&parse(block_json, "")?)
}

/// Reads a header and recomputes its hash from its fields.
///
/// Nothing commits to `size`, `totalDifficulty` and `author`.
///
/// # Errors
/// Names the field that is malformed or missing, or both hashes where they differ.
pub(crate) fn check_header(block_json: &[u8]) -> Result<(HeaderInfo, Finding), VerifyError> {
    check_parsed(&parse(block_json, "")?)
}

/// Requires that the header is the one asked for by hash.
///
/// # Errors
/// [`VerifyError::WrongBlock`].
pub(crate) fn check_asked(header: &HeaderInfo, asked: Hash) -> Result<(), VerifyError> {
    let got = header.reference.hash;
    if got == asked {
        return Ok(());
    }
    Err(VerifyError::WrongBlock { asked: B256::new(asked.0), got: B256::new(got.0) })
}

/// Requires that `child` follows directly on `parent`.
///
/// # Errors
/// [`VerifyError::ParentLink`].
pub(crate) fn check_parent(child: &HeaderInfo, parent: BlockRef) -> Result<(), VerifyError> {
    let height = child.reference.number;
    if child.parent == parent.hash && height.checked_sub(1) == Some(parent.number) {
        return Ok(());
    }
    Err(VerifyError::ParentLink {
        child: B256::new(child.reference.hash.0),
        claimed: B256::new(child.parent.0),
        claimed_height: height.saturating_sub(1),
        parent: B256::new(parent.hash.0),
        parent_height: parent.number,
    })
}

pub(super) fn info(block: &BlockJson<'_>) -> Result<HeaderInfo, VerifyError> {
    let hash = |member: &Option<Hex<B256>>, field| {
        need(member.as_ref(), "", field).map(|hex| Hash(hex.0.0))
    };
    let number = |member: &Option<Hex<u64>>, field| need(member.as_ref(), "", field).map(|n| n.0);
    Ok(HeaderInfo {
        reference: BlockRef {
            number: number(&block.number, "number")?,
            hash: hash(&block.hash, "hash")?,
        },
        parent: hash(&block.parent_hash, "parentHash")?,
        timestamp: number(&block.timestamp, "timestamp")?,
        state_root: hash(&block.state_root, "stateRoot")?,
        transactions_root: hash(&block.transactions_root, "transactionsRoot")?,
        receipts_root: hash(&block.receipts_root, "receiptsRoot")?,
        logs_bloom: Bloom(need(block.logs_bloom.as_ref(), "", "logsBloom")?.0),
        foreign: block.has_foreign_keys(),
    })
}

pub(super) fn check_parsed(block: &BlockJson<'_>) -> Result<(HeaderInfo, Finding), VerifyError> {
    let mut info = info(block)?;
    match hash_matches(block, &info) {
        Ok(()) => {
            // Its own fields are then outside the hash, and all else is as in Ethereum.
            info.foreign = false;
            Ok((info, Finding::Verified))
        }
        Err(_) if block.has_foreign_keys() => Ok((info, Finding::Unverifiable(FOREIGN_FIELDS))),
        Err(error) => Err(error),
    }
}

fn hash_matches(block: &BlockJson<'_>, info: &HeaderInfo) -> Result<(), VerifyError> {
    fork_order(block)?;
    let computed = keccak256(alloy_rlp::encode(consensus_header(block, info)?));
    let claimed = B256::new(info.reference.hash.0);
    if computed == claimed { Ok(()) } else { Err(VerifyError::HeaderHash { claimed, computed }) }
}

/// Later fields are told apart by position alone, so a gap would let one value pass under
/// another's name with the same hash.
fn fork_order(block: &BlockJson<'_>) -> Result<(), VerifyError> {
    let fields = [
        ("baseFeePerGas", block.base_fee_per_gas.is_some()),
        ("withdrawalsRoot", block.withdrawals_root.is_some()),
        ("blobGasUsed", block.blob_gas_used.is_some()),
        ("excessBlobGas", block.excess_blob_gas.is_some()),
        ("parentBeaconBlockRoot", block.parent_beacon_block_root.is_some()),
        ("requestsHash", block.requests_hash.is_some()),
        ("blockAccessListHash", block.block_access_list_hash.is_some()),
        ("slotNumber", block.slot_number.is_some()),
    ];
    for pair in fields.windows(2) {
        let [(earlier, has_earlier), (later, has_later)] = pair else { continue };
        if *has_later && !*has_earlier {
            return Err(VerifyError::HeaderGap { earlier, later });
        }
    }
    Ok(())
}

fn consensus_header(block: &BlockJson<'_>, info: &HeaderInfo) -> Result<Header, VerifyError> {
    Ok(Header {
        parent_hash: B256::new(info.parent.0),
        ommers_hash: need(block.ommers_hash.as_ref(), "", "sha3Uncles")?.0,
        beneficiary: need(block.beneficiary.as_ref(), "", "miner")?.0,
        state_root: B256::new(info.state_root.0),
        transactions_root: B256::new(info.transactions_root.0),
        receipts_root: B256::new(info.receipts_root.0),
        logs_bloom: info.logs_bloom,
        difficulty: need(block.difficulty.as_ref(), "", "difficulty")?.0,
        number: info.reference.number,
        gas_limit: need(block.gas_limit.as_ref(), "", "gasLimit")?.0,
        gas_used: need(block.gas_used.as_ref(), "", "gasUsed")?.0,
        timestamp: info.timestamp,
        extra_data: need(block.extra_data.as_ref(), "", "extraData")?.0.clone(),
        mix_hash: need(block.mix_hash.as_ref(), "", "mixHash")?.0,
        nonce: need(block.nonce.as_ref(), "", "nonce")?.0,
        base_fee_per_gas: block.base_fee_per_gas.as_ref().map(|v| v.0),
        withdrawals_root: block.withdrawals_root.as_ref().map(|v| v.0),
        blob_gas_used: block.blob_gas_used.as_ref().map(|v| v.0),
        excess_blob_gas: block.excess_blob_gas.as_ref().map(|v| v.0),
        parent_beacon_block_root: block.parent_beacon_block_root.as_ref().map(|v| v.0),
        requests_hash: block.requests_hash.as_ref().map(|v| v.0),
        block_access_list_hash: block.block_access_list_hash.as_ref().map(|v| v.0),
        slot_number: block.slot_number.as_ref().map(|v| v.0),
    })
}
