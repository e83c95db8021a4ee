//! The header over a body.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header};
use alloy_primitives::B256;
use serde_json::{Value, json};

use super::Body;
use super::json::{hex, quantity};

/// Gas limit of every block: room for the largest that tests make.
const GAS_LIMIT: u64 = 1_000_000_000;
/// Base fee of every block, in wei per gas.
pub(super) const BASE_FEE: u64 = 7;

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
}

/// The header of a block, with the fields of the Shanghai fork; `salt` tells blocks apart that are
/// otherwise the same.
pub(crate) fn header(
    parent: [u8; 32],
    number: u64,
    timestamp: u64,
    salt: &[u8],
    body: &Body,
) -> Header {
    Header {
        parent_hash: B256::new(parent),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root: EMPTY_ROOT_HASH,
        transactions_root: body.transactions_root,
        receipts_root: body.receipts_root,
        logs_bloom: body.bloom,
        number,
        gas_limit: GAS_LIMIT,
        gas_used: body.gas_used,
        timestamp,
        extra_data: salt.to_vec().into(),
        base_fee_per_gas: Some(BASE_FEE),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        ..Header::default()
    }
}

/// A block as `eth_getBlockBy…` gives it.
pub(crate) fn header_json(header: &Header, hash: [u8; 32], transactions: Value) -> Value {
    json!({
        "number": quantity(header.number), "hash": hex(hash),
        "parentHash": hex(header.parent_hash), "sha3Uncles": hex(header.ommers_hash),
        "miner": hex(header.beneficiary), "stateRoot": hex(header.state_root),
        "transactionsRoot": hex(header.transactions_root),
        "receiptsRoot": hex(header.receipts_root), "logsBloom": hex(header.logs_bloom),
        "difficulty": "0x0", "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used), "timestamp": quantity(header.timestamp),
        "extraData": hex(&header.extra_data), "mixHash": hex(header.mix_hash),
        "nonce": hex(header.nonce), "baseFeePerGas": quantity(BASE_FEE),
        "withdrawalsRoot": hex(EMPTY_ROOT_HASH), "withdrawals": [], "uncles": [],
        "size": "0x400", "transactions": transactions,
    })
}
