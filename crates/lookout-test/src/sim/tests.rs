//! The simulated chain is one that a strict reader takes, and whose upstreams cannot lie about blocks
//! that are read whole.

use std::collections::BTreeSet;

use lookout_chain::{SourceError, Wants, stage};
use lookout_types::ChainId;
use serde_json::{Value, json};

use super::*;
use crate::fleet::{Behaviour, Fleet};
use crate::reader::reader;
use crate::rpc::Rpc;

const ID: u64 = 4242;
const WHOLE: Wants =
    Wants { whole: true, addresses: Vec::new(), topics: Vec::new(), confirmed: false };

async fn call(rpc: &Rpc, method: &str, params: Value) -> Value {
    rpc.call(method, params).await.unwrap()
}

#[tokio::test]
async fn blocks_of_every_branch_recompute_and_hold_all_kinds_of_transactions() {
    let chain = SimChain::new(ID, 3);
    chain.extend(40, 3);
    let mut blocks = chain.canonical();
    chain.reorg(30, 35, 3);
    chain.push(vec![SimLog::noted([7; 20], b"words")]);
    blocks.extend(chain.canonical());
    let node = SimNode::start(chain.clone()).await.unwrap();
    let rpc = Rpc::new(node.url());
    let mut kinds = BTreeSet::new();
    for block in blocks {
        let hash = format!("0x{}", const_hex::encode(block.hash));
        let full = call(&rpc, "eth_getBlockByHash", json!([hash, true])).await;
        let receipts = call(&rpc, "eth_getBlockReceipts", json!([hash])).await;
        let (block_json, receipts_json) = (full.to_string(), receipts.to_string());
        let found = stage::whole(ChainId(ID), block_json.as_bytes(), receipts_json.as_bytes());
        let found = found.unwrap();
        assert_eq!(found.logs.len(), block.logs.len());
        for (at, log) in found.logs.iter().enumerate() {
            assert_eq!(log.transaction_hash.0, block.transaction_hash(at));
            assert_eq!(log.data, block.logs[at].data());
        }
        let logs = call(&rpc, "eth_getLogs", json!([{"blockHash": hash}])).await;
        let receipts = receipts.as_array().unwrap();
        let own: Value =
            receipts.iter().flat_map(|r| r["logs"].as_array().unwrap()).cloned().collect();
        assert_eq!(logs, own);
        for (receipt, transaction) in receipts.iter().zip(full["transactions"].as_array().unwrap())
        {
            let (logs, created) = (&receipt["logs"], !receipt["contractAddress"].is_null());
            kinds.insert((transaction["type"].to_string(), receipt["status"].to_string()));
            kinds.insert(("logs".to_owned(), logs.as_array().unwrap().len().to_string()));
            kinds.insert(("created".to_owned(), created.to_string()));
            let alone =
                call(&rpc, "eth_getTransactionReceipt", json!([receipt["transactionHash"]]));
            // A transaction may be on both branches; what is served then is the one's.
            let alone = alone.await;
            assert!(alone.is_null() || alone["blockHash"] != json!(hash) || alone == *receipt);
        }
    }
    assert_eq!(kinds.len(), 6 + 3 + 2, "{kinds:?}");
}

#[tokio::test]
async fn whole_blocks_come_through_every_lie_about_blocks_and_receipts() {
    let chain = SimChain::new(ID, 5);
    chain.extend(12, 3);
    let node = SimNode::start(chain.clone()).await.unwrap();
    let (_honest, reading) = reader(&[node.url().to_owned()], ID, 12).await;
    let expected = reading.source().range(1..=12, &WHOLE).await.unwrap();
    let logs: Vec<_> = expected.iter().map(|block| block.logs.len()).collect();
    assert_eq!(logs, chain.canonical()[1..].iter().map(|b| b.logs.len()).collect::<Vec<_>>());

    let fleet = Fleet::start(node.url(), 2, 5).await.unwrap();
    let receipts = [
        "status",
        "type",
        "cumulativeGasUsed",
        "gasUsed",
        "effectiveGasPrice",
        "from",
        "to",
        "logsBloom",
        "transactionHash",
        "transactionIndex",
        "blockHash",
        "blockNumber",
        "logs.0.address",
        "logs.0.topics.1",
        "logs.0.data",
        "logs.0.logIndex",
        "logs.0.transactionHash",
        "logs.0.transactionIndex",
    ];
    let blocks = [
        "transactionsRoot",
        "receiptsRoot",
        "transactions.0.value",
        "transactions.0.to",
        "transactions.0.from",
        "transactions.0.nonce",
        "transactions.0.input",
        "transactions.0.gasPrice",
        "transactions.0.r",
        "transactions.0.hash",
    ];
    let only_full: &[&str] = &["eth_getBlockByHash", "eth_getBlockByNumber"];
    let lies = receipts.map(|field| Behaviour::FlippedReceipt { field }).into_iter();
    let lies = lies.chain(blocks.map(|field| Behaviour::FlippedDigit { field }.only(only_full)));
    let not_all = Behaviour::NullResults.only(&["eth_getBlockReceipts"]);
    for lie in lies.chain([Behaviour::MissingLogs, not_all.clone()]) {
        // Anew for each: one that was caught lying is not asked again for a while.
        fleet.heal();
        let (_both, both) = reader(&fleet.urls(), ID, 12).await;
        let (_alone, alone) = reader(&[fleet[0].url()], ID, 12).await;
        fleet[0].set([lie.clone()]);
        let found = both.source().range(1..=12, &WHOLE).await;
        assert_eq!(found.unwrap(), expected, "{lie:?}");
        let error = alone.source().range(1..=12, &WHOLE).await.unwrap_err();
        let named = matches!(error, SourceError::Unproved { .. } | SourceError::Chain(_));
        assert!(named, "{lie:?}: {error}");
    }
}
