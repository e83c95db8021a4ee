//! Whole blocks: three that an anvil mined, whose every root recomputes.

use lookout_types::ChainId;
use serde_json::{Value, json};

use super::node::{Node, Served, over};
use super::scene::Block;
use crate::verify::tests::data::{anvil, value};
use crate::{Chain, PoolSettings, Source, SourceError, Wants};
use std::sync::Arc;

const WHOLE: Wants =
    Wants { whole: true, addresses: Vec::new(), topics: Vec::new(), confirmed: false };

fn blocks() -> Vec<Block> {
    let block = |number: u64, receipts: Value| {
        let header = value(&anvil(&format!("block{number}")));
        let logs = receipts.as_array().unwrap().iter();
        let logs = logs.flat_map(|receipt| receipt["logs"].as_array().unwrap().clone()).collect();
        let hash = header["hash"].as_str().unwrap().to_owned();
        Block { number, hash, header, logs, receipts }
    };
    let receipts = |name: &str| value(&anvil(name));
    vec![block(1, receipts("receipts1")), block(2, receipts("receipts2"))]
}

async fn of(nodes: &[&Node]) -> (Arc<dyn Source>, Arc<Chain>) {
    let settings = PoolSettings {
        poll_interval: std::time::Duration::from_millis(50),
        ..PoolSettings::default()
    };
    over(nodes, settings, ChainId(1)).await
}

#[tokio::test]
async fn blocks_recompute_and_carry_every_transaction_with_its_outcome() {
    let blocks = blocks();
    let node = Node::start(Served::honest(&blocks)).await;
    let (source, _chain) = of(&[&node]).await;
    let range = source.range(1..=2, &WHOLE).await.unwrap();
    assert_eq!(range.len(), 2);
    for (own, told) in range.iter().zip(&blocks) {
        let by_hash = source.block(own.header.block, &WHOLE).await.unwrap();
        assert_eq!(&by_hash, own);
        let listed = told.header["transactions"].as_array().unwrap();
        assert_eq!(own.transactions.len(), listed.len());
        assert_eq!(own.logs.len(), told.logs.len());
        let receipts = told.receipts.as_array().unwrap();
        for ((tx, listed), receipt) in own.transactions.iter().zip(listed).zip(receipts) {
            let outcome = tx.outcome.unwrap();
            let hex = |number: u64| json!(format!("{number:#x}"));
            assert_eq!(json!(tx.hash.to_string()), listed["hash"]);
            assert_eq!(json!(tx.from.to_string().to_lowercase()), listed["from"]);
            assert_eq!(hex(tx.nonce), listed["nonce"]);
            assert_eq!(json!(format!("{:#x}", tx.value.0)), listed["value"]);
            assert_eq!(hex(outcome.gas_used), receipt["gasUsed"]);
            assert_eq!(json!(format!("{:#x}", outcome.gas_price.0)), receipt["effectiveGasPrice"]);
            assert_eq!(outcome.success, receipt["status"] == "0x1");
            let created = outcome.created.map(|address| address.to_string().to_lowercase());
            // A creation that failed created nothing, whatever the receipt says.
            let told = if outcome.success { &receipt["contractAddress"] } else { &Value::Null };
            assert_eq!(&json!(created), told);
        }
    }
    assert_eq!(node.calls("eth_getTransactionReceipt"), 0);
}

#[tokio::test]
async fn receipts_are_fetched_one_by_one_where_no_upstream_gives_them_all() {
    let blocks = blocks();
    let all: Vec<Value> =
        blocks.iter().flat_map(|block| block.receipts.as_array().unwrap().clone()).collect();
    let node = Node::start(Served::honest(&blocks).with(move |method, params, answer| {
        *answer = match method {
            "eth_getBlockReceipts" => {
                json!({"error": {"code": -32601, "message": "unknown method"}})
            }
            "eth_getTransactionReceipt" => {
                json!({"result": all.iter().find(|r| r["transactionHash"] == params[0])})
            }
            _ => return,
        }
    }))
    .await;
    let (source, _chain) = of(&[&node]).await;
    let honest = Node::start(Served::honest(&blocks)).await;
    let (other, _other) = of(&[&honest]).await;
    for _ in 0..2 {
        let own = source.range(1..=2, &WHOLE).await.unwrap();
        assert_eq!(own, other.range(1..=2, &WHOLE).await.unwrap());
    }
    // Two blocks of the first range may have found it out at the same time.
    assert!(node.calls("eth_getBlockReceipts") <= 2);
}

/// Falsifies a method's result.
type Lie = (&'static str, fn(&mut Value));

#[tokio::test]
async fn lies_in_blocks_and_receipts_are_outdone_or_refused() {
    let blocks = blocks();
    let lies: [Lie; 4] = [
        ("eth_getBlockBy", |block| block["transactions"][0]["value"] = json!("0x7")),
        ("eth_getBlockBy", |block| drop(block["transactions"].as_array_mut().map(Vec::pop))),
        ("eth_getBlockReceipts", |all| all[0]["status"] = json!("0x0")),
        ("eth_getBlockReceipts", |all| drop(all.as_array_mut().map(Vec::pop))),
    ];
    for (lied_about, lie) in lies {
        let served = Served::honest(&blocks).with(move |method, params, answer| {
            let full = params[1] != json!(false);
            if method.starts_with(lied_about) && full && !answer["result"].is_null() {
                lie(&mut answer["result"]);
            }
        });
        let liar = Node::start(served).await;
        let honest = Node::start(Served::honest(&blocks)).await;
        let (two, _chain) = of(&[&liar, &honest]).await;
        let (right, _right) = of(&[&honest]).await;
        let expected = right.range(1..=2, &WHOLE).await.unwrap();
        for _ in 0..4 {
            assert_eq!(two.range(1..=2, &WHOLE).await.unwrap(), expected);
        }
        let (alone, chain) = of(&[&liar]).await;
        let error = alone.range(1..=2, &WHOLE).await.unwrap_err();
        assert!(matches!(error, SourceError::Unproved { .. }), "{error}");
        assert!(chain.upstreams()[0].failures > 0);
    }
}

#[tokio::test]
async fn a_block_without_its_transactions_is_refused_where_headers_do_not_recompute() {
    let blocks = blocks();
    // A chain with a hash of its own: nothing but the receipts' root speaks against the empty list.
    let node = |lies: bool| {
        let tamper = move |method: &str, params: &Value, answer: &mut Value| {
            if method == "eth_chainId" {
                answer["result"] = json!("0x2710");
            } else if method.starts_with("eth_getBlockBy") && !answer["result"].is_null() {
                answer["result"]["extraData"] = json!("0x01");
                if lies && params[1] == json!(true) {
                    answer["result"]["transactions"] = json!([]);
                }
            }
        };
        Node::start(Served::honest(&blocks).with(tamper))
    };
    let (liar, honest) = tokio::join!(node(true), node(false));
    let settings = PoolSettings {
        poll_interval: std::time::Duration::from_millis(50),
        ..PoolSettings::default()
    };
    let (alone, chain) = over(&[&liar], settings.clone(), ChainId(10_000)).await;
    let asked = std::time::Duration::from_secs(60);
    let answer = tokio::time::timeout(asked, alone.range(1..=2, &WHOLE)).await;
    let error = answer.expect("it asks for ever").unwrap_err();
    assert!(matches!(error, SourceError::Unproved { .. }), "{error}");
    assert!(error.to_string().contains("`u0`"), "{error}");
    assert!(chain.upstreams()[0].failures > 0);
    let (two, _chain) = over(&[&liar, &honest], settings, ChainId(10_000)).await;
    for _ in 0..4 {
        let range = two.range(1..=2, &WHOLE).await.unwrap();
        assert!(range.iter().all(|block| !block.transactions.is_empty()));
    }
}
