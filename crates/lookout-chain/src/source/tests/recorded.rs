//! Blocks 17173049 and 17173050 of mainnet through both kinds of sources.
//!
//! Their exported form lacks `mixHash` and signatures, so the headers are hashed anew without the
//! one, and transactions are taken without the other.

use alloy_consensus::Header;
use alloy_primitives::{B256, Bloom, Bytes};
use lookout_types::{Asset, BlockRef, ChainId, Frame, Hash, Step, Transfer};
use serde_json::{Value, json};

use super::node::{Node, Served, source};
use super::scene::Block;
use crate::verify::tests::data::{recorded, value};
use crate::{SourceBlock, Wants};

const FIRST: u64 = 17_173_049;

fn lines(name: &str) -> Option<Vec<Value>> {
    let text = String::from_utf8(recorded(&format!("mainnet-17173049/{name}.json"))?).unwrap();
    let quoted = text.lines().map(|line| quoted(&quoted(line, "value"), "gas_price"));
    Some(quoted.map(|line| value(line.as_bytes())).collect())
}

/// The line with a number in quotes that may have more than 64 bits.
fn quoted(line: &str, name: &str) -> String {
    let Some((before, after)) = line.split_once(&format!("\"{name}\": ")) else {
        return line.to_owned();
    };
    let (number, rest) = after.split_once(',').unwrap();
    format!("{before}\"{name}\": \"{number}\",{rest}")
}

fn hex(number: &Value) -> Value {
    json!(format!("{:#x}", number.as_u64().unwrap()))
}

/// A 256-bit number that the exporter wrote in decimal.
fn big(line: &Value, name: &str) -> String {
    format!("{:#x}", line[name].as_str().unwrap().parse::<ruint::aliases::U256>().unwrap())
}

/// The header as a node writes it, with the hash that it then has.
fn header(line: &Value, parent: B256) -> (Value, B256) {
    let root = |name: &str| line[name].as_str().unwrap().parse::<B256>().unwrap();
    let number = |name: &str| line[name].as_u64().unwrap();
    let header = Header {
        parent_hash: parent,
        ommers_hash: root("sha3_uncles"),
        beneficiary: line["miner"].as_str().unwrap().parse().unwrap(),
        state_root: root("state_root"),
        transactions_root: root("transactions_root"),
        receipts_root: root("receipts_root"),
        logs_bloom: line["logs_bloom"].as_str().unwrap().parse::<Bloom>().unwrap(),
        number: number("number"),
        gas_limit: number("gas_limit"),
        gas_used: number("gas_used"),
        timestamp: number("timestamp"),
        extra_data: line["extra_data"].as_str().unwrap().parse::<Bytes>().unwrap(),
        base_fee_per_gas: Some(number("base_fee_per_gas")),
        withdrawals_root: Some(root("withdrawals_root")),
        ..Header::default()
    };
    let hash = header.hash_slow();
    let json = json!({
        "hash": hash, "parentHash": parent, "sha3Uncles": line["sha3_uncles"],
        "miner": line["miner"], "stateRoot": line["state_root"],
        "transactionsRoot": line["transactions_root"], "receiptsRoot": line["receipts_root"],
        "logsBloom": line["logs_bloom"], "difficulty": "0x0", "number": hex(&line["number"]),
        "gasLimit": hex(&line["gas_limit"]), "gasUsed": hex(&line["gas_used"]),
        "timestamp": hex(&line["timestamp"]), "extraData": line["extra_data"],
        "mixHash": B256::ZERO, "nonce": "0x0000000000000000",
        "baseFeePerGas": hex(&line["base_fee_per_gas"]),
        "withdrawalsRoot": line["withdrawals_root"], "withdrawals": null, "uncles": [],
    });
    (json, hash)
}

fn transaction(line: &Value, hash: B256) -> Value {
    json!({
        "hash": line["hash"], "type": hex(&line["transaction_type"]),
        "nonce": hex(&line["nonce"]), "from": line["from_address"], "to": line["to_address"],
        "value": big(line, "value"), "gas": hex(&line["gas"]), "gasPrice": big(line, "gas_price"),
        "input": line["input"], "blockHash": hash, "blockNumber": hex(&line["block_number"]),
        "transactionIndex": hex(&line["transaction_index"]),
    })
}

fn log(line: &Value, hash: B256) -> Value {
    json!({
        "address": line["address"], "topics": line["topics"], "data": line["data"],
        "blockHash": hash, "blockNumber": hex(&line["block_number"]),
        "transactionHash": line["transaction_hash"],
        "transactionIndex": hex(&line["transaction_index"]), "logIndex": hex(&line["log_index"]),
    })
}

fn receipt(line: &Value, logs: &[Value], hash: B256) -> Value {
    let own: Vec<_> = logs.iter().filter(|log| log["transactionHash"] == line["hash"]).collect();
    json!({
        "type": hex(&line["transaction_type"]), "status": hex(&line["receipt_status"]),
        "cumulativeGasUsed": hex(&line["receipt_cumulative_gas_used"]),
        "gasUsed": hex(&line["receipt_gas_used"]), "logs": own, "logsBloom": null,
        "effectiveGasPrice": hex(&line["receipt_effective_gas_price"]),
        "contractAddress": line["receipt_contract_address"],
        "transactionHash": line["hash"], "transactionIndex": hex(&line["transaction_index"]),
        "blockHash": hash, "blockNumber": hex(&line["block_number"]),
        "from": line["from_address"], "to": line["to_address"],
    })
}

fn blocks() -> Option<Vec<Block>> {
    let (blocks, transactions, logs) = (lines("blocks")?, lines("transactions")?, lines("logs")?);
    let mut parent = B256::ZERO;
    let sealed = blocks.iter().map(|line| {
        let (mut header, hash) = header(line, parent);
        parent = hash;
        let of = |list: &[Value]| -> Vec<Value> {
            list.iter().filter(|item| item["block_hash"] == line["hash"]).cloned().collect()
        };
        let logs: Vec<Value> = of(&logs).iter().map(|line| log(line, hash)).collect();
        let lines = of(&transactions);
        header["transactions"] = lines.iter().map(|line| transaction(line, hash)).collect();
        let receipts = lines.iter().map(|line| receipt(line, &logs, hash)).collect();
        let number = line["number"].as_u64().unwrap();
        Block { number, hash: hash.to_string(), header, logs, receipts }
    });
    Some(sealed.collect())
}

fn transfers(blocks: &[SourceBlock]) -> Vec<(BlockRef, Transfer)> {
    let of = |block: &SourceBlock| {
        let frame = Frame {
            chain: ChainId(1),
            sequence: 1,
            step: Step::Apply,
            block: block.header.block,
            parent: block.header.parent,
            timestamp: block.header.timestamp,
            transactions: block.transactions.clone(),
            logs: block.logs.clone(),
        };
        let of = lookout_types::transfers(&frame);
        assert_eq!(of.odd, []);
        of.transfers.into_iter().map(|transfer| (block.header.block, transfer)).collect::<Vec<_>>()
    };
    blocks.iter().flat_map(of).collect()
}

/// The token transfers are the recorded ones and the one of ERC-1155 that the recorder missed.
fn check_transfers(mut found: Vec<(BlockRef, Transfer)>) {
    let told = lines("token_transfers").unwrap();
    found.retain(|(_, transfer)| transfer.asset != Asset::Native);
    let missed: Vec<_> =
        found.extract_if(.., |(_, t)| matches!(t.asset, Asset::Erc1155 { .. })).collect();
    assert_eq!(missed.len(), 1);
    assert_eq!((found.len(), told.len()), (291, 291));
    for (line, (block, transfer)) in told.iter().zip(found) {
        let (contract, amount) = match transfer.asset {
            Asset::Native | Asset::Erc1155 { .. } => panic!("neither is recorded"),
            Asset::Erc20(contract) => (contract, transfer.amount),
            Asset::Erc721 { contract, id } => (contract, id),
        };
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        assert_eq!(block.number, line["block_number"].as_u64().unwrap());
        assert_eq!(contract, address("token_address"));
        assert_eq!((transfer.from, transfer.to), (address("from_address"), address("to_address")));
        assert_eq!(format!("{:#x}", amount.0), big(line, "value"));
        let hash: Hash = line["transaction_hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(transfer.transaction_hash, hash);
        assert_eq!(transfer.log_index.map(u64::from), line["log_index"].as_u64());
    }
}

#[tokio::test]
async fn recorded_blocks_give_the_recorded_transfers() {
    let Some(blocks) = blocks() else { return };
    let node = Node::start(Served::honest(&blocks)).await;
    let (source, _chain) = source(&[&node]).await;
    let range = FIRST..=FIRST + 1;
    let by_logs = source.range(range.clone(), &Wants::default()).await.unwrap();
    let whole = source.range(range, &Wants { whole: true, ..Wants::default() }).await.unwrap();
    check_transfers(transfers(&by_logs));
    check_transfers(transfers(&whole));
    assert!(by_logs.iter().all(|block| block.transactions.is_empty()));
    let transactions: usize = whole.iter().map(|block| block.transactions.len()).sum();
    assert_eq!(transactions, 298);
    for (by_logs, whole) in by_logs.iter().zip(&whole) {
        assert_eq!((by_logs.header, &by_logs.logs), (whole.header, &whole.logs));
    }
    let failed = |block: &SourceBlock| {
        block.transactions.iter().filter(|t| t.outcome.is_some_and(|o| !o.success)).count()
    };
    assert_eq!(whole.iter().map(failed).sum::<usize>(), 9);
    let natives = transfers(&whole).iter().filter(|(_, t)| t.asset == Asset::Native).count();
    let lines = lines("transactions").unwrap();
    let moving = |line: &&Value| line["receipt_status"] == 1 && line["value"] != "0";
    assert_eq!(natives, lines.iter().filter(moving).count());
}
