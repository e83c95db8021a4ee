//! Each behaviour is seen from outside, in front of a real node.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::{Anvil, Rpc};

const SEED: u64 = 11;

struct Rig {
    anvil: Anvil,
    fleet: Fleet,
    rpc: Rpc,
}

async fn rig() -> Option<Rig> {
    let anvil = Anvil::for_test().await?;
    anvil.mine(20).await.unwrap();
    let fleet = Fleet::start(anvil.url(), 1, SEED).await.unwrap();
    let rpc = Rpc::new(fleet[0].url());
    Some(Rig { anvil, fleet, rpc })
}

async fn raw(rpc: &Rpc) -> Result<(u16, Option<String>, String), reqwest::Error> {
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "eth_chainId", "params": []});
    let client = crate::rpc::http_client();
    let answer = client.post(rpc.url()).body(call.to_string()).send().await?;
    let status = answer.status().as_u16();
    let header = |name| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
    let retry_after = header("retry-after");
    Ok((status, retry_after, answer.text().await?))
}

#[tokio::test]
async fn healthy_forwards_and_counts() {
    let Some(Rig { anvil, fleet, rpc }) = rig().await else { return };
    let direct = anvil.block(3).await.unwrap();
    assert_eq!(rpc.call("eth_getBlockByNumber", json!(["0x3", true])).await.unwrap(), direct);
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []},
        {"jsonrpc": "2.0", "id": "b", "method": "eth_nothing", "params": []},
    ]);
    let direct = anvil.client().exchange(&batch).await.unwrap();
    assert_eq!(rpc.exchange(&batch).await.unwrap(), direct);
    // The same through the path that takes answers apart.
    fleet[0].set([Behaviour::MissingLogs]);
    assert_eq!(rpc.exchange(&batch).await.unwrap(), direct);

    assert_eq!(fleet.calls("eth_blockNumber"), 2);
    assert_eq!(fleet[0].requests(), 3);
    fleet.reset_counts();
    assert_eq!(fleet[0].all_calls().len(), 0);
}

#[tokio::test]
async fn a_frozen_head_knows_nothing_above() {
    let Some(Rig { anvil, fleet, rpc }) = rig().await else { return };
    let paid = anvil.transfer(0, anvil.account(1), "0x5").await.unwrap();
    fleet[0].set([Behaviour::FrozenHead { height: 10 }]);
    assert_eq!(rpc.number("eth_blockNumber", json!([])).await.unwrap(), 10);
    let latest = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await.unwrap();
    assert_eq!(latest["number"], "0xa");
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0xb", false])),
        ("eth_getBlockByHash", json!([paid["blockHash"], false])),
        ("eth_getTransactionByHash", json!([paid["transactionHash"]])),
        ("eth_getTransactionReceipt", json!([paid["transactionHash"]])),
        ("eth_getBlockReceipts", json!([paid["blockHash"]])),
    ] {
        assert_eq!(rpc.call(method, params).await.unwrap(), Value::Null, "{method}");
    }
    for block in
        [json!("0x15"), json!({"blockHash": paid["blockHash"]}), json!({"blockNumber": "0x15"})]
    {
        let outcome =
            rpc.outcome("eth_getBalance", json!([anvil.account(1), block])).await.unwrap();
        assert_eq!(outcome.unwrap_err()["message"], "header not found");
    }
    let old = rpc.call("eth_getBalance", json!([anvil.account(1)])).await.unwrap();
    let new = anvil.rpc("eth_getBalance", json!([anvil.account(1), "latest"])).await.unwrap();
    assert_ne!(old, new);
    fleet[0].set([Behaviour::Lag { blocks: 2 }]);
    assert_eq!(rpc.number("eth_blockNumber", json!([])).await.unwrap(), 19);
    fleet[0].set([Behaviour::StaleThenFresh { blocks: 5, calls: 2 }]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(rpc.number("eth_blockNumber", json!([])).await.unwrap());
    }
    assert_eq!(seen, [16, 16, 21]);
}

#[tokio::test]
async fn logs_end_at_the_view_and_can_go_missing() {
    let Some(Rig { anvil, fleet, rpc }) = rig().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    let receipt = token.transfer(&anvil, 0, anvil.account(1), 7).await.unwrap();
    let count = async |filter: Value| {
        rpc.call("eth_getLogs", json!([filter])).await.unwrap().as_array().unwrap().len()
    };
    let all = json!({"fromBlock": "0x0", "toBlock": "latest", "address": token.address});
    assert_eq!(count(all.clone()).await, 2);
    fleet[0].set([Behaviour::Lag { blocks: 1 }]);
    assert_eq!(count(all.clone()).await, 1);
    assert_eq!(count(json!({"fromBlock": "latest"})).await, 1);
    let by_hash = json!([{"blockHash": receipt["blockHash"]}]);
    assert!(rpc.outcome("eth_getLogs", by_hash).await.unwrap().is_err());
    fleet[0].set([Behaviour::MissingLogs]);
    assert_eq!(count(all).await, 1);
    let hash = json!([receipt["transactionHash"]]);
    let lied = rpc.call("eth_getTransactionReceipt", hash).await.unwrap();
    assert_eq!(lied["logs"], json!([]));
    assert_eq!(lied["logsBloom"], receipt["logsBloom"]);
}

#[tokio::test]
async fn lies_are_told_about_what_they_are_about() {
    let Some(Rig { anvil, fleet, rpc }) = rig().await else { return };
    let holder = anvil.account(1);
    let truth = anvil.rpc("eth_getBalance", json!([holder, "latest"])).await.unwrap();
    let block = anvil.block(4).await.unwrap();
    fleet[0].set([Behaviour::WrongBalance { delta: 1 }, Behaviour::WrongChainId { id: 5 }]);
    assert_ne!(rpc.call("eth_getBalance", json!([holder, "latest"])).await.unwrap(), truth);
    let proof = rpc.call("eth_getProof", json!([holder, [], "latest"])).await.unwrap();
    assert_ne!(proof["balance"], truth);
    assert_eq!(rpc.number("eth_chainId", json!([])).await.unwrap(), 5);
    let seen = rpc.call("eth_getBlockByNumber", json!(["0x4", true])).await.unwrap();
    assert_eq!(seen, block);
    for (behaviour, field) in [
        (Behaviour::WrongBlockHash, "hash"),
        (Behaviour::FlippedDigit { field: "stateRoot" }, "stateRoot"),
    ] {
        fleet[0].set([behaviour]);
        let mut seen = rpc.call("eth_getBlockByNumber", json!(["0x4", true])).await.unwrap();
        assert_ne!(seen[field], block[field]);
        seen[field] = block[field].clone();
        assert_eq!(seen, block);
    }
}

#[tokio::test]
async fn failing_answers_look_like_the_real_ones() {
    let Some(Rig { anvil: _anvil, fleet, rpc }) = rig().await else { return };
    fleet[0].set([Behaviour::Status { code: 429, retry_after_seconds: Some(3) }]);
    let (status, retry_after, _) = raw(&rpc).await.unwrap();
    assert_eq!((status, retry_after.as_deref()), (429, Some("3")));
    for (behaviour, starts) in [
        (Behaviour::Html, "<!DOCTYPE html>"),
        (Behaviour::NotJson, "{\"jsonrpc\""),
        (Behaviour::EmptyResponse, ""),
    ] {
        fleet[0].set([behaviour.clone()]);
        let (status, _, body) = raw(&rpc).await.unwrap();
        assert!(status == 200 && body.starts_with(starts), "{behaviour:?}: {status} {body}");
        assert!(serde_json::from_str::<Value>(&body).is_err(), "{behaviour:?}");
    }
    fleet[0].set([Behaviour::OversizedBody { megabytes: 3 }]);
    assert!(raw(&rpc).await.unwrap().2.len() > 3 << 20);
    for (behaviour, code) in
        [(Behaviour::RpcRateLimit, -32005), (Behaviour::ErrorInside200, -32603)]
    {
        fleet[0].set([behaviour]);
        let error = rpc.outcome("eth_chainId", json!([])).await.unwrap().unwrap_err();
        assert_eq!(error["code"], code);
    }
    fleet[0].set([Behaviour::NullResults]);
    assert_eq!(rpc.call("eth_chainId", json!([])).await.unwrap(), Value::Null);
    for behaviour in [Behaviour::TruncatedBody, Behaviour::ConnectionReset] {
        fleet[0].set([behaviour.clone()]);
        assert!(raw(&rpc).await.is_err(), "{behaviour:?}");
    }
    fleet.heal();
    assert_eq!(raw(&rpc).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let Some(Rig { anvil: _anvil, fleet, rpc }) = rig().await else { return };
    fleet[0].set([Behaviour::ConnectionReset]);
    let error = raw(&rpc).await.unwrap_err();
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    assert!(causes.iter().any(|cause| cause.contains("reset")), "{causes:?}");
}

#[tokio::test]
async fn time_passes_as_told() {
    let Some(Rig { anvil: _anvil, fleet, rpc }) = rig().await else { return };
    fleet[0].set([Behaviour::latency(Duration::from_millis(20)), Behaviour::Slower { factor: 10 }]);
    let began = Instant::now();
    rpc.call("eth_chainId", json!([])).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    fleet[0].set([Behaviour::Silent.only(&["eth_chainId"])]);
    assert!(rpc.call("eth_blockNumber", json!([])).await.is_ok());
    let silent = tokio::time::timeout(Duration::from_millis(100), raw(&rpc)).await;
    assert!(silent.is_err());
}

#[tokio::test]
async fn dies_and_returns_on_the_same_port() {
    let Some(Rig { anvil: _anvil, fleet, rpc }) = rig().await else { return };
    let url = fleet[0].url();
    fleet[0].die();
    assert!(raw(&rpc).await.is_err());
    fleet[0].revive().await.unwrap();
    assert_eq!(fleet[0].url(), url);
    assert_eq!(raw(&rpc).await.unwrap().0, 200);
}

#[tokio::test]
async fn chance_repeats_with_its_seed() {
    let Some(Rig { anvil, .. }) = rig().await else { return };
    let run = async |seed| {
        let fleet = Fleet::start(anvil.url(), 1, seed).await.unwrap();
        fleet[0].set([Behaviour::status(500).sometimes(0.5)]);
        let rpc = Rpc::new(fleet[0].url());
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(raw(&rpc).await.unwrap().0);
        }
        statuses
    };
    let first = run(SEED).await;
    assert_eq!(first, run(SEED).await);
    assert_ne!(first, run(SEED + 1).await);
    assert!(first.contains(&200) && first.contains(&500));
}
