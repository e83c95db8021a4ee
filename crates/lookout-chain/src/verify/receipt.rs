//! Receipts: their root, their blooms and their logs' positions.

use alloy_consensus::proofs::ordered_trie_root_encoded;
use alloy_consensus::{Eip658Value, ReceiptWithBloom};
use alloy_primitives::{Address, B256, Bloom, Bytes, FixedBytes, Log, LogData};
use alloy_rlp::Encodable;

use super::block::first_repeated;
use super::header::HeaderInfo;
use super::json::{Hex, JsonObject, Seconds, json_object, need, parse, require};
use super::logs::LogJson;
use super::transaction::bor_state_sync_hash;
use super::{Finding, VerifyError};

/// EIP-7702, the newest receipt type that Ethereum has.
const KIND_MAX: u64 = 4;

const ALONE: &str = "one receipt alone does not lead to the receipts root";
const UNKNOWN_TYPE: &str = "a receipt is of a type that Ethereum does not have";
const STATUS_AND_ROOT: &str = "a receipt has both a status and a state root";
const FOREIGN_FIELDS: &str = "a receipt has fields that Ethereum's rules do not hash";
const FOREIGN_CHAIN: &str = "the chain computes its roots in its own way";
const STATE_SYNC: &str = "there is a receipt of a state-sync transaction, which is under no root";

json_object! {
    /// A transaction receipt as nodes give it.
    ReceiptJson {
        kind: Hex<u64> = "type",
        status: Hex<u64> = "status",
        root: Hex<Bytes> = "root",
        cumulative_gas_used: Hex<u64> = "cumulativeGasUsed",
        gas_used: Hex<u64> = "gasUsed",
        effective_gas_price: Hex<u128> = "effectiveGasPrice",
        blob_gas_used: Hex<u64> = "blobGasUsed",
        from: Hex<Address> = "from",
        to: Hex<Address> = "to",
        contract_address: Hex<Address> = "contractAddress",
        logs: Vec<LogJson<'a>> = "logs",
        logs_bloom: Hex<FixedBytes<256>> = "logsBloom",
        transaction_hash: Hex<B256> = "transactionHash",
        transaction_index: Hex<u64> = "transactionIndex",
        block_hash: Hex<B256> = "blockHash",
        block_number: Hex<u64> = "blockNumber",
        block_timestamp: Seconds = "blockTimestamp",
    }
    // Follows from the header by rules that change with forks; nothing commits to it.
    harmless { "blobGasPrice" }
}

/// A receipt whose own parts agree with each other.
pub(super) struct Receipt {
    pub(super) transaction_hash: B256,
    pub(super) kind: u64,
    /// `None` before Byzantium.
    pub(super) succeeded: Option<bool>,
    pub(super) from: Option<Address>,
    pub(super) to: Option<Address>,
    pub(super) contract_address: Option<Address>,
    /// Wei per gas.
    pub(super) effective_gas_price: Option<u128>,
    pub(super) blob_gas_used: Option<u64>,
    index: u64,
    pub(super) gas_used: Option<u64>,
    pub(super) cumulative_gas_used: u64,
    /// Position in the block of its first log; the others follow on.
    pub(super) first_log_index: Option<u64>,
    pub(super) logs: Vec<Log>,
    bloom: Bloom,
    /// EIP-2718 bytes, the leaf below the receipts root; or why they are not known.
    leaf: Result<Vec<u8>, &'static str>,
    foreign: bool,
}

/// Checks all receipts of a block (`eth_getBlockReceipts`) against its header: receipts root,
/// each bloom and their union, positions, gas, and the numbering of the logs.
///
/// The root commits to neither transaction hashes, senders, recipients, created contracts nor
/// prices: [`super::check_receipts_in_block`] checks those too.
///
/// # Errors
/// Names the field or root that contradicts the rest.
pub(crate) fn check_receipts(
    receipts_json: &[u8],
    header: &HeaderInfo,
) -> Result<Finding, VerifyError> {
    Ok(check_all(receipts_json, header)?.1)
}

/// Checks one receipt: its logs make up its bloom, which is part of the header's, and its parts
/// agree on where it is.
///
/// Without its siblings nothing leads from it to the receipts root, so the best finding is
/// `Unverifiable`.
///
/// # Errors
/// Names the field that contradicts the rest.
pub(crate) fn check_receipt(
    receipt_json: &[u8],
    header: Option<&HeaderInfo>,
) -> Result<Finding, VerifyError> {
    let receipt = read(parse(receipt_json, "")?, header, "")?;
    let alone = Finding::Unverifiable(ALONE);
    let Some(header) = header else { return Ok(alone) };
    let outside = header.foreign
        || receipt.kind > KIND_MAX
        || receipt.transaction_hash == bor_state_sync_hash(header.reference);
    if !outside && !header.logs_bloom.contains(&receipt.bloom) {
        return Err(VerifyError::NotInBloom { field: "logs".to_owned() });
    }
    Ok(alone)
}

pub(super) fn check_all(
    receipts_json: &[u8],
    header: &HeaderInfo,
) -> Result<(Vec<Receipt>, Finding), VerifyError> {
    let parsed: Vec<ReceiptJson<'_>> = parse(receipts_json, "")?;
    let state_sync = bor_state_sync_hash(header.reference);
    let mut receipts = Vec::with_capacity(parsed.len());
    let (mut gas, mut log_index) = (0, 0_u64);
    let mut miscounted = None;
    for (i, receipt) in parsed.into_iter().enumerate() {
        let path = format!("[{i}]");
        let receipt = read(receipt, Some(header), &path)?;
        require(&usize::try_from(receipt.index), &Ok(i), &path, "transactionIndex")?;
        // The state sync costs nothing and repeats no sum.
        if receipt.transaction_hash != state_sync {
            let own = receipt.cumulative_gas_used.checked_sub(gas);
            gas = receipt.cumulative_gas_used;
            let gas_used = require(&receipt.gas_used.or(own), &own, &path, "gasUsed");
            let first = receipt.first_log_index.unwrap_or(log_index);
            let logs = require(&first, &log_index, &path, "logs[0].logIndex");
            miscounted = miscounted.or(gas_used.err()).or(logs.err());
        }
        log_index = log_index.saturating_add(u64::try_from(receipt.logs.len()).unwrap_or(u64::MAX));
        receipts.push(receipt);
    }
    let hashes: Vec<_> = receipts.iter().map(|receipt| receipt.transaction_hash).collect();
    if let Some(i) = first_repeated(&hashes) {
        require(&"repeated", &"unique", &format!("[{i}]"), "transactionHash")?;
    }
    let finding = check_root(&receipts, header, state_sync)?;
    match miscounted {
        // A chain of its own may count in its own way.
        Some(error) if finding == Finding::Verified => Err(error),
        _ => Ok((receipts, finding)),
    }
}

fn check_root(
    receipts: &[Receipt],
    header: &HeaderInfo,
    state_sync: B256,
) -> Result<Finding, VerifyError> {
    if header.foreign {
        return Ok(Finding::Unverifiable(FOREIGN_CHAIN));
    }
    let under_root = receipts.iter().filter(|receipt| receipt.transaction_hash != state_sync);
    let mut leaves = Vec::with_capacity(receipts.len());
    let mut bloom = Bloom::ZERO;
    for receipt in under_root {
        match &receipt.leaf {
            Ok(leaf) => leaves.push(leaf.as_slice()),
            Err(why) => return Ok(Finding::Unverifiable(why)),
        }
        bloom.accrue_bloom(&receipt.bloom);
    }
    let computed = ordered_trie_root_encoded(&leaves);
    let claimed = B256::new(header.receipts_root.0);
    if computed != claimed {
        if receipts.iter().any(|receipt| receipt.foreign) {
            return Ok(Finding::Unverifiable(FOREIGN_FIELDS));
        }
        return Err(VerifyError::ReceiptsRoot { claimed, computed });
    }
    if bloom != header.logs_bloom {
        return Err(VerifyError::Bloom { of: "the block".to_owned() });
    }
    if leaves.len() < receipts.len() {
        return Ok(Finding::Unverifiable(STATE_SYNC));
    }
    Ok(Finding::Verified)
}

/// Checks that a receipt's parts agree with each other and with the header's block.
fn read(
    receipt: ReceiptJson<'_>,
    header: Option<&HeaderInfo>,
    path: &str,
) -> Result<Receipt, VerifyError> {
    let transaction_hash = need(receipt.transaction_hash, path, "transactionHash")?.0;
    let index = need(receipt.transaction_index, path, "transactionIndex")?.0;
    let block_hash = need(receipt.block_hash, path, "blockHash")?.0;
    let block_number = need(receipt.block_number, path, "blockNumber")?.0;
    if let Some(header) = header {
        require(&block_hash, &B256::new(header.reference.hash.0), path, "blockHash")?;
        require(&block_number, &header.reference.number, path, "blockNumber")?;
        if let Some(said) = receipt.block_timestamp {
            require(&said.0, &header.timestamp, path, "blockTimestamp")?;
        }
    }
    let foreign = receipt.has_foreign_keys();
    let listed = need(receipt.logs, path, "logs")?;
    let first_log_index = listed.first().and_then(|log| log.log_index).map(|index| index.0);
    let mut logs = Vec::with_capacity(listed.len());
    for (i, log) in listed.into_iter().enumerate() {
        let path = super::json::join(path, &format!("logs[{i}]"));
        let place = log.place(&path, header)?;
        require(&place.block_hash, &block_hash, &path, "blockHash")?;
        require(&place.block_number, &block_number, &path, "blockNumber")?;
        require(&place.transaction_hash, &transaction_hash, &path, "transactionHash")?;
        require(&place.transaction_index, &index, &path, "transactionIndex")?;
        let expected = first_log_index.and_then(|first| first.checked_add(u64::try_from(i).ok()?));
        require(&Some(place.log_index), &expected, &path, "logIndex")?;
        logs.push(log.into_log(&path)?);
    }
    let bloom = alloy_primitives::logs_bloom(&logs);
    if receipt.logs_bloom.is_some_and(|said| said.0 != bloom.0) {
        let of = if path.is_empty() { "the receipt" } else { path };
        return Err(VerifyError::Bloom { of: of.to_owned() });
    }
    let kind = receipt.kind.map_or(0, |kind| kind.0);
    let status = status(receipt.status, receipt.root, path)?;
    let cumulative_gas_used = need(receipt.cumulative_gas_used, path, "cumulativeGasUsed")?.0;
    let (leaf, logs) = match (kind, status) {
        (KIND_MAX.., _) if kind > KIND_MAX => (Err(UNKNOWN_TYPE), logs),
        (_, Err(why)) => (Err(why), logs),
        (_, Ok(status)) => {
            let receipt = alloy_consensus::Receipt { status, cumulative_gas_used, logs };
            let receipt = ReceiptWithBloom::new(receipt, bloom);
            (Ok(encode(kind, &receipt)), receipt.receipt.logs)
        }
    };
    Ok(Receipt {
        transaction_hash,
        kind,
        succeeded: match status {
            Ok(Eip658Value::Eip658(succeeded)) => Some(succeeded),
            Ok(Eip658Value::PostState(_)) | Err(_) => None,
        },
        from: receipt.from.map(|from| from.0),
        to: receipt.to.map(|to| to.0),
        contract_address: receipt.contract_address.map(|address| address.0),
        effective_gas_price: receipt.effective_gas_price.map(|price| price.0),
        blob_gas_used: receipt.blob_gas_used.map(|gas| gas.0),
        index,
        gas_used: receipt.gas_used.map(|gas| gas.0),
        cumulative_gas_used,
        first_log_index,
        logs,
        bloom,
        leaf,
        foreign,
    })
}

/// The outcome, or why it is not clear: with both, the root commits to only one of them.
fn status(
    status: Option<Hex<u64>>,
    root: Option<Hex<Bytes>>,
    path: &str,
) -> Result<Result<Eip658Value, &'static str>, VerifyError> {
    // Some nodes write an empty root where there is none.
    let root = root.filter(|root| !root.0.is_empty());
    match (status, root) {
        (Some(status), None) => {
            require(&(status.0 <= 1), &true, path, "status")?;
            Ok(Ok(Eip658Value::Eip658(status.0 == 1)))
        }
        (None, Some(root)) => {
            let root = B256::try_from(root.0.as_ref())
                .map_err(|_| VerifyError::Missing { field: super::json::join(path, "status") })?;
            Ok(Ok(Eip658Value::PostState(root)))
        }
        (Some(_), Some(_)) => Ok(Err(STATUS_AND_ROOT)),
        (None, None) => Err(VerifyError::Missing { field: super::json::join(path, "status") }),
    }
}

fn encode(kind: u64, receipt: &ReceiptWithBloom<alloy_consensus::Receipt>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(receipt.length() + 1);
    if let Some(kind) = u8::try_from(kind).ok().filter(|kind| *kind > 0) {
        bytes.push(kind);
    }
    receipt.encode(&mut bytes);
    bytes
}

impl LogJson<'_> {
    /// The part of a log that the roots commit to.
    pub(super) fn into_log(self, path: &str) -> Result<Log, VerifyError> {
        let address = need(self.address, path, "address")?.0;
        let topics = need(self.topics, path, "topics")?;
        let data = need(self.data, path, "data")?.0;
        let topics = topics.into_iter().map(|topic| topic.0).collect();
        Ok(Log { address, data: LogData::new_unchecked(topics, data) })
    }
}
