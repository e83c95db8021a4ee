//! The replay's chain is one that a strict reader takes.

use std::time::Duration;

use lookout_chain::{ChainSpec, Chains, PoolSettings, UpstreamSpec, Wants};
use lookout_types::ChainId;
use serde_json::{Value, json};

use super::*;
use crate::fleet::{Behaviour, Fleet};
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
    let full = rpc.outcome("eth_getBlockByNumber", json!(["0x1", true])).await.unwrap();
    assert_eq!(full.unwrap_err()["code"], -32602);
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
        assert!(seen.insert(log["transactionHash"].to_string()));
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

/// A chain that reads these upstreams, once it follows the replay's head.
async fn reader(urls: &[String], replay: &Replay) -> (Chains, Arc<lookout_chain::Chain>) {
    let upstreams = urls.iter().enumerate().map(|(at, url)| UpstreamSpec {
        name: format!("u{at}"),
        url: url.parse().unwrap(),
        requests_per_second: None,
    });
    let settings =
        PoolSettings { poll_interval: Duration::from_millis(50), ..PoolSettings::default() };
    let (name, id) = ("replay".to_owned(), ChainId(31_337));
    let spec = ChainSpec { name, id, upstreams: upstreams.collect(), settings };
    let chains = Chains::start(vec![spec], 1 << 20);
    let chain = chains.get("replay").unwrap();
    let ready = async {
        while chain.upstreams().iter().any(|u| u.head.is_none_or(|h| h.number < replay.head())) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
    (chains, chain)
}

#[tokio::test]
async fn a_source_takes_every_block_and_finds_no_doubt() {
    let replay = Replay::start(spec()).await.unwrap();
    let (_chains, chain) = reader(&[replay.url()], &replay).await;
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
async fn a_source_outdoes_a_lying_upstream_and_an_absent_one() {
    let replay = Replay::start(spec()).await.unwrap();
    let fleet = Fleet::start(&replay.url(), 3, 5).await.unwrap();
    let (_chains, chain) = reader(&fleet.urls(), &replay).await;
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
