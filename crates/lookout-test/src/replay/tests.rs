//! The replay's chain is one that a strict reader takes.

use lookout_chain::{Wants, stage};
use lookout_types::ChainId;
use serde_json::{Value, json};

use super::*;
use crate::fleet::{Behaviour, Fleet};
use crate::reader::reader;
use crate::rpc::{Rpc, parse_quantity};

fn spec() -> ReplaySpec {
    ReplaySpec { chain_id: 31_337, blocks: 70, transfers_per_block: 10, tokens: 3, seed: 7 }
}

async fn block(rpc: &Rpc, height: &str) -> Value {
    rpc.call("eth_getBlockByNumber", json!([height, false])).await.unwrap()
}

#[tokio::test]
async fn blocks_link_and_are_found_by_number_tag_and_hash() {
    let replay = Replay::start(spec()).await.unwrap();
    let rpc = Rpc::new(replay.url());
    assert_eq!(rpc.number("eth_chainId", json!([])).await.unwrap(), 31_337);
    assert_eq!(rpc.number("eth_blockNumber", json!([])).await.unwrap(), replay.head());
    let mut parent = block(&rpc, "0x0").await;
    assert_eq!(parent["transactions"], json!([]));
    for height in 1..=replay.head() {
        let own = block(&rpc, &format!("{height:#x}")).await;
        assert_eq!(parse_quantity(&own["number"]).unwrap(), height);
        assert_eq!(own["parentHash"], parent["hash"]);
        assert_eq!(own["transactions"].as_array().unwrap().len(), 10);
        let by_hash = json!([own["hash"], false]);
        assert_eq!(rpc.call("eth_getBlockByHash", by_hash).await.unwrap(), own);
        parent = own;
    }
    for tag in ["latest", "safe", "finalized"] {
        assert_eq!(block(&rpc, tag).await, parent);
    }
    assert_eq!(block(&rpc, "0x47").await, Value::Null);
    assert_eq!(replay.calls("eth_getBlockByHash"), 70);
}

#[tokio::test]
async fn logs_are_those_of_the_filter_and_fit_their_blocks() {
    let replay = Replay::start(spec()).await.unwrap();
    let rpc = Rpc::new(replay.url());
    let logs = async |filter: Value| match rpc.call("eth_getLogs", json!([filter])).await.unwrap() {
        Value::Array(logs) => logs,
        other => panic!("{other}"),
    };
    let all = logs(json!({"fromBlock": "0x0", "toBlock": "latest"})).await;
    assert_eq!(all.len(), 700);
    let mut seen = std::collections::BTreeSet::new();
    for (at, log) in all.iter().enumerate() {
        assert_eq!(parse_quantity(&log["blockNumber"]).unwrap(), at as u64 / 10 + 1);
        assert_eq!(parse_quantity(&log["logIndex"]).unwrap(), at as u64 % 10);
        // After 64 blocks the transactions come again.
        assert_eq!(seen.insert(log["transactionHash"].to_string()), at < 640);
        assert_eq!(log["topics"].as_array().unwrap().len(), 3);
    }
    let some = block(&rpc, "0x41").await;
    let own: Vec<&Value> = all.iter().filter(|log| log["blockHash"] == some["hash"]).collect();
    let transactions: Vec<&Value> = own.iter().map(|log| &log["transactionHash"]).collect();
    assert_eq!(json!(transactions), some["transactions"]);
    assert_eq!(json!(logs(json!({"blockHash": some["hash"]})).await), json!(own));
    // Token by token, they are all of them.
    let mut count = 0;
    for token in replay.tokens() {
        let filter = json!({"fromBlock": "0x0", "toBlock": "0x46", "address": token,
            "topics": [[all[0]["topics"][0]]]});
        let own = logs(filter).await;
        assert!(own.iter().all(|log| log["address"] == json!(token)));
        count += own.len();
    }
    assert_eq!(count, all.len());
    let (to, from) = (&all[3]["topics"][2], &all[3]["topics"][1]);
    let by_party =
        logs(json!({"fromBlock": "0x1", "toBlock": "0x1", "topics": [null, from, [to]]}));
    assert!(by_party.await.contains(&all[3]));
    for none in [
        json!({"fromBlock": "0x5", "toBlock": "0x4"}),
        json!({"fromBlock": "0x1", "toBlock": "0x9", "topics": [["0x".to_owned() + &"1".repeat(64)]]}),
        json!({"fromBlock": "0x1", "toBlock": "0x9", "topics": [null, null, null, null]}),
    ] {
        assert_eq!(logs(none).await, Vec::<Value>::new());
    }
    let unknown = json!([{"blockHash": "0x".to_owned() + &"1".repeat(64)}]);
    assert!(rpc.outcome("eth_getLogs", unknown).await.unwrap().is_err());
}

#[tokio::test]
async fn batches_are_answered_in_order_and_one_seed_makes_one_chain() {
    let (one, same) = (Replay::start(spec()).await.unwrap(), Replay::start(spec()).await.unwrap());
    let other = Replay::start(ReplaySpec { seed: 8, ..spec() }).await.unwrap();
    let call = |id: u64, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let body = json!([
        call(5, "eth_blockNumber", json!([])),
        call(6, "eth_mine", json!([])),
        call(7, "eth_getBlockByNumber", json!(["latest", false])),
    ]);
    let answers = async |replay: &Replay| Rpc::new(replay.url()).exchange(&body).await.unwrap().1;
    let told = answers(&one).await;
    assert_eq!(told[0], json!({"jsonrpc": "2.0", "id": 5, "result": "0x46"}));
    assert_eq!((&told[1]["id"], &told[1]["error"]["code"]), (&json!(6), &json!(-32601)));
    assert_eq!(told[2]["result"]["number"], "0x46");
    assert_eq!(answers(&same).await, told);
    assert_ne!(answers(&other).await[2]["result"]["hash"], told[2]["result"]["hash"]);
    assert_eq!(one.all_calls().values().sum::<u64>(), 3);
}

#[tokio::test]
async fn receipts_hold_the_logs_and_every_root_recomputes() {
    let replay = Replay::start(spec()).await.unwrap();
    let rpc = Rpc::new(replay.url());
    let told = whole_blocks(&spec());
    assert_eq!(told.len(), 70);
    for (height, (block, receipts)) in (1..).zip(&told) {
        let found = stage::whole(ChainId(31_337), block, receipts).unwrap();
        assert_eq!((found.transactions.len(), found.logs.len()), (10, 10));
        let number = format!("{height:#x}");
        let own = rpc.call("eth_getBlockByNumber", json!([number, true])).await.unwrap();
        assert_eq!(own, serde_json::from_slice::<Value>(block).unwrap());
        let all = rpc.call("eth_getBlockReceipts", json!([own["hash"]])).await.unwrap();
        assert_eq!(all, serde_json::from_slice::<Value>(receipts).unwrap());
        let logs: Value =
            all.as_array().unwrap().iter().map(|receipt| receipt["logs"][0].clone()).collect();
        let by_hash = json!([{"blockHash": own["hash"]}]);
        assert_eq!(rpc.call("eth_getLogs", by_hash).await.unwrap(), logs);
    }
    let genesis = rpc.call("eth_getBlockReceipts", json!(["0x0"])).await.unwrap();
    assert_eq!(genesis, json!([]));
    for unknown in ["0x47".to_owned(), format!("0x{}", "1".repeat(64))] {
        let none = rpc.call("eth_getBlockReceipts", json!([unknown])).await.unwrap();
        assert_eq!(none, Value::Null);
    }
}

#[tokio::test]
async fn a_source_takes_every_block_and_finds_no_doubt() {
    let replay = Replay::start(spec()).await.unwrap();
    let (_chains, chain) = reader(&[replay.url()], 31_337, replay.head()).await;
    let source = chain.source();
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let by_topic = Wants { topics: vec![transfer.parse().unwrap()], ..Wants::default() };
    for wants in [Wants::default(), by_topic] {
        let asked = replay.calls("eth_getLogs");
        let blocks = source.range(0..=replay.head(), &wants).await.unwrap();
        let logs: Vec<usize> = blocks.iter().map(|block| block.logs.len()).collect();
        assert_eq!((logs[0], &logs[1..]), (0, &[10; 70][..]));
        assert_eq!(replay.calls("eth_getLogs") - asked, 1);
    }
    assert_eq!(chain.upstreams()[0].failures, 0);
}

#[tokio::test]
async fn a_source_takes_whole_blocks_with_the_same_logs() {
    let replay = Replay::start(spec()).await.unwrap();
    let (_chains, chain) = reader(&[replay.url()], 31_337, replay.head()).await;
    let source = chain.source();
    let by_logs = source.range(0..=replay.head(), &Wants::default()).await.unwrap();
    let whole = Wants { whole: true, ..Wants::default() };
    let by_blocks = source.range(0..=replay.head(), &whole).await.unwrap();
    for (one, other) in by_blocks.iter().zip(&by_logs) {
        assert_eq!((&one.header, &one.logs), (&other.header, &other.logs));
        assert_eq!(one.transactions.len(), one.logs.len());
    }
    assert_eq!(chain.upstreams()[0].failures, 0);
}

#[tokio::test]
async fn a_source_outdoes_a_lying_upstream_and_an_absent_one() {
    let replay = Replay::start(spec()).await.unwrap();
    let fleet = Fleet::start(&replay.url(), 3, 5).await.unwrap();
    let (_chains, chain) = reader(&fleet.urls(), 31_337, replay.head()).await;
    let source = chain.source();
    let expected = source.range(1..=70, &Wants::default()).await.unwrap();
    fleet[0].set([Behaviour::MissingLogs]);
    fleet[1].set([Behaviour::ConnectionReset.sometimes(0.5)]);
    for _ in 0..6 {
        assert_eq!(source.range(1..=70, &Wants::default()).await.unwrap(), expected);
        let block = expected[30].header.block;
        assert_eq!(source.block(block, &Wants::default()).await.unwrap(), expected[30]);
    }
    fleet.heal();
    fleet[0].set([Behaviour::WrongBlockHash]);
    for _ in 0..6 {
        assert_eq!(source.range(1..=70, &Wants::default()).await.unwrap(), expected);
    }
}
