//! Logs that two upstreams must have alike.

use serde_json::{Value, json};

use super::node::{Node, Served, source};
use super::scene::{Block, chain, transfer};
use crate::{SourceError, Wants};

/// Ten blocks of three transfers, the last of which repeats the first one: no bloom filter shows
/// its loss.
fn scene() -> Vec<Block> {
    let repeated = |i: u64| vec![transfer(1, i, i, 7), transfer(2, i, i, 7), transfer(1, i, i, 7)];
    let logs: Vec<_> = (1..=10).map(repeated).collect();
    chain(1, 0, &logs)
}

fn confirmed() -> Wants {
    Wants { confirmed: true, ..Wants::default() }
}

/// Leaves out the last log of every answer with logs, and what else is told.
fn liar(method: &'static str) -> impl Fn(&str, &Value, &mut Value) + Send + Sync {
    move |called, _, answer| {
        if called == "eth_getLogs" {
            answer["result"].as_array_mut().map(Vec::pop);
        }
        if called == method {
            *answer = json!({"error": {"code": -32601, "message": "unknown method"}});
        }
    }
}

fn without_receipts(called: &str, _: &Value, answer: &mut Value) {
    if called == "eth_getBlockReceipts" || called == "eth_getTransactionReceipt" {
        *answer = json!({"error": {"code": -32601, "message": "unknown method"}});
    }
}

fn counts(blocks: &[crate::SourceBlock]) -> Vec<usize> {
    blocks.iter().map(|block| block.logs.len()).collect()
}

#[tokio::test]
async fn a_bloom_filter_alone_does_not_show_the_loss_of_a_repeated_log() {
    let node = Node::start(Served::honest(&scene()).with(liar(""))).await;
    let (source, _chain) = source(&[&node]).await;
    let blocks = source.range(1..=10, &Wants::default()).await.unwrap();
    assert_eq!(counts(&blocks)[9], 2, "if it did, nobody would need a second upstream");
}

#[tokio::test]
async fn two_that_differ_are_settled_by_receipts() {
    let honest = Node::start(Served::honest(&scene())).await;
    let lying = Node::start(Served::honest(&scene()).with(liar(""))).await;
    let (source, chain) = source(&[&lying, &honest]).await;
    for _ in 0..5 {
        let blocks = source.range(1..=10, &confirmed()).await.unwrap();
        assert_eq!(counts(&blocks), [3; 10]);
        let head = blocks[9].header.block;
        assert_eq!(source.block(head, &confirmed()).await.unwrap().logs.len(), 3);
    }
    assert!(honest.calls("eth_getLogs") > 0 && lying.calls("eth_getLogs") > 0);
    assert_eq!(chain.upstreams()[1].failures, 0, "the honest one is not blamed");
    assert!(chain.upstreams()[0].failures > 0, "the other is");
}

#[tokio::test]
async fn two_that_agree_are_believed_without_receipts() {
    let nodes = [
        Node::start(Served::honest(&scene()).with(without_receipts)).await,
        Node::start(Served::honest(&scene()).with(without_receipts)).await,
    ];
    let (source, _chain) = source(&[&nodes[0], &nodes[1]]).await;
    assert_eq!(counts(&source.range(1..=10, &confirmed()).await.unwrap()), [3; 10]);
    for node in &nodes {
        assert_eq!(node.calls("eth_getLogs"), 1, "one call of each for all ten blocks");
    }
}

#[tokio::test]
async fn what_nobody_confirms_is_not_taken() {
    let honest = Node::start(Served::honest(&scene()).with(without_receipts)).await;
    let (alone, _chain) = source(&[&honest]).await;
    let error = alone.range(1..=10, &confirmed()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unproved { height: 1, .. }), "{error}");
    assert!(error.to_string().contains("no upstream besides `u0`"), "{error}");

    let lying = Node::start(Served::honest(&scene()).with(move |called, params, answer| {
        liar("eth_getBlockReceipts")(called, params, answer);
        without_receipts(called, params, answer);
    }))
    .await;
    let (both, _chain) = source(&[&honest, &lying]).await;
    let error = both.range(10..=10, &confirmed()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unproved { height: 10, .. }), "{error}");
    assert!(error.to_string().contains("disagree on its logs"), "{error}");
}
