//! A small chain of blocks with logs, whose headers, blooms and receipts recompute.

use alloy_consensus::proofs::ordered_trie_root_encoded;
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Eip658Value, Header, Receipt, ReceiptWithBloom};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, LogData, keccak256, logs_bloom};
use alloy_rlp::Encodable;
use alloy_trie::EMPTY_ROOT_HASH;
use serde_json::{Value, json};

/// `Transfer(address,address,uint256)`.
pub(crate) const TRANSFER: &str =
    "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// One block as a node gives it.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// Its height.
    pub(crate) number: u64,
    /// Its hash, 0x-prefixed.
    pub(crate) hash: String,
    /// The answer to `eth_getBlockBy…` with transactions as hashes.
    pub(crate) header: Value,
    /// Its logs as `eth_getLogs` gives them, each in a transaction of its own.
    pub(crate) logs: Vec<Value>,
    /// The answer to `eth_getBlockReceipts`.
    pub(crate) receipts: Value,
}

/// A log to emit: of one of the tokens 1, 2, …, between two numbered holders.
pub(crate) fn transfer(token: u8, from: u64, to: u64, amount: u64) -> Log {
    let holder = |number: u64| B256::left_padding_from(&keccak256(number.to_be_bytes())[12..]);
    let topics = vec![TRANSFER.parse().expect("32 bytes"), holder(from), holder(to)];
    let data = B256::left_padding_from(&amount.to_be_bytes());
    Log { address: token_address(token), data: LogData::new_unchecked(topics, data.into()) }
}

/// The address of a token.
pub(crate) fn token_address(token: u8) -> Address {
    Address::repeat_byte(token)
}

/// A chain from this height on; each list of logs makes a block.
pub(crate) fn chain(start: u64, branch: u8, logs: &[Vec<Log>]) -> Vec<Block> {
    let mut parent = B256::repeat_byte(7);
    let blocks = (start..).zip(logs).map(|(number, logs)| {
        let block = block(number, branch, parent, logs);
        parent = block.hash.parse().expect("a hash");
        block
    });
    blocks.collect()
}

fn block(number: u64, branch: u8, parent: B256, logs: &[Log]) -> Block {
    let transaction = |at: u64| keccak256([number.to_be_bytes(), at.to_be_bytes()].concat());
    let gas = |at: usize| 50_000 * (at as u64 + 1);
    let leaves: Vec<Vec<u8>> = logs
        .iter()
        .enumerate()
        .map(|(at, log)| {
            let status = Eip658Value::Eip658(true);
            let logs = vec![log.clone()];
            let bloom = logs_bloom(&logs);
            let receipt = Receipt { status, cumulative_gas_used: gas(at), logs };
            let mut leaf = Vec::new();
            ReceiptWithBloom::new(receipt, bloom).encode(&mut leaf);
            leaf
        })
        .collect();
    let header = Header {
        parent_hash: parent,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: Address::repeat_byte(branch),
        transactions_root: if logs.is_empty() { EMPTY_ROOT_HASH } else { B256::repeat_byte(9) },
        receipts_root: ordered_trie_root_encoded(&leaves),
        logs_bloom: logs_bloom(logs),
        number,
        gas_limit: 30_000_000,
        gas_used: gas(logs.len()),
        timestamp: 1_700_000_000 + 12 * number,
        base_fee_per_gas: Some(7),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        ..Header::default()
    };
    let hash = header.hash_slow();
    let place = |at: u64| (format!("{:#x}", at), transaction(at).to_string());
    let entries: Vec<Value> = (0_u64..)
        .zip(logs)
        .map(|(at, log)| {
            let (at, transaction) = place(at);
            json!({
                "address": hex_of(log.address.as_slice()), "topics": log.topics(),
                "data": log.data.data, "blockNumber": format!("{number:#x}"),
                "transactionHash": transaction, "transactionIndex": at,
                "blockHash": hash, "logIndex": at, "removed": false,
            })
        })
        .collect();
    let receipts: Vec<Value> = entries
        .iter()
        .enumerate()
        .map(|(at, log)| {
            json!({
                "type": "0x0", "status": "0x1", "cumulativeGasUsed": format!("{:#x}", gas(at)),
                "gasUsed": "0xc350", "logs": [log], "logsBloom": null,
                "transactionHash": log["transactionHash"], "transactionIndex": log["logIndex"],
                "blockHash": hash, "blockNumber": format!("{number:#x}"),
            })
        })
        .collect();
    let transactions = entries.iter().map(|log| log["transactionHash"].clone()).collect();
    let header = header_json(&header, hash, transactions);
    Block { number, hash: hash.to_string(), header, logs: entries, receipts: json!(receipts) }
}

fn header_json(header: &Header, hash: B256, transactions: Vec<Value>) -> Value {
    json!({
        "hash": hash, "parentHash": header.parent_hash, "sha3Uncles": header.ommers_hash,
        "miner": hex_of(header.beneficiary.as_slice()), "stateRoot": header.state_root,
        "transactionsRoot": header.transactions_root, "receiptsRoot": header.receipts_root,
        "logsBloom": bloom_hex(&header.logs_bloom), "difficulty": "0x0",
        "number": format!("{:#x}", header.number), "gasLimit": format!("{:#x}", header.gas_limit),
        "gasUsed": format!("{:#x}", header.gas_used),
        "timestamp": format!("{:#x}", header.timestamp), "extraData": "0x",
        "mixHash": header.mix_hash, "nonce": header.nonce, "baseFeePerGas": "0x7",
        "withdrawalsRoot": header.withdrawals_root, "withdrawals": [], "uncles": [],
        "transactions": transactions, "size": "0x400",
    })
}

fn bloom_hex(bloom: &Bloom) -> String {
    hex_of(bloom.as_slice())
}

fn hex_of(bytes: &[u8]) -> String {
    Bytes::copy_from_slice(bytes).to_string()
}
