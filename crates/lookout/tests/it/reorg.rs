//! Once a new head is followed, nothing answers from the abandoned branch.

use lookout_test::{Anvil, TestApp, Token, part};
use serde_json::{Value, json};

use crate::{CHAIN, caught_up, on};

const SEED: u64 = 64;
/// The deepest reorg that must be survived.
const DEPTH_MAX: u64 = 64;

#[tokio::test]
async fn no_method_answers_from_an_abandoned_branch() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    let app = on(&anvil)
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
        .start()
        .await
        .unwrap();
    let mut rng = fastrand::Rng::with_seed(part::seed(SEED));
    let mut depths: Vec<u64> = (1..=DEPTH_MAX).collect();
    rng.shuffle(&mut depths);
    for depth in depths {
        grow(&anvil, &token, depth, &mut rng).await;
        let head = caught_up(&app, &anvil).await;
        let calls = calls(&anvil, &token, head, depth, &mut rng).await;
        // Fills the cache with the branch that is about to be abandoned.
        same(&app, &anvil, &calls, depth).await;

        reorganise(&anvil, &token, depth, &mut rng).await;
        let new_head = caught_up(&app, &anvil).await;
        assert!(new_head >= head, "anvil itself went back at depth {depth}");
        same(&app, &anvil, &calls, depth).await;
    }
}

/// Adds at least `depth` blocks with something in them.
async fn grow(anvil: &Anvil, token: &Token, depth: u64, rng: &mut fastrand::Rng) {
    anvil.mine(rng.u64(0..=depth)).await.unwrap();
    let busy = rng.u64(1..=4);
    for _ in 0..busy {
        anvil.transfer(0, anvil.account(1), &format!("{:#x}", rng.u64(1..1000))).await.unwrap();
        token.transfer(anvil, 0, anvil.account(1), rng.u64(1..1000)).await.unwrap();
    }
    anvil.mine(depth.saturating_sub(2 * busy)).await.unwrap();
}

/// Replaces the last blocks by others with other transfers in some of them.
async fn reorganise(anvil: &Anvil, token: &Token, depth: u64, rng: &mut fastrand::Rng) {
    let mut pairs = Vec::new();
    for block in 0..depth.min(3) {
        let data = Token::transfer_data(anvil.account(2), rng.u64(1..1000)).unwrap();
        let call =
            json!({"from": anvil.account(3), "to": token.address, "data": data, "gas": "0x30000"});
        let pay = json!({"from": anvil.account(4), "to": anvil.account(1), "value": "0x9"});
        pairs.push((if rng.bool() { call } else { pay }, block));
    }
    anvil.reorg_with(depth, &pairs).await.unwrap();
}

/// Calls about the blocks that a reorg of this depth replaces, and a few below.
async fn calls(
    anvil: &Anvil,
    token: &Token,
    head: u64,
    depth: u64,
    rng: &mut fastrand::Rng,
) -> Vec<(&'static str, Value)> {
    let lowest = head.saturating_sub(depth + 2);
    let hex = |height: u64| format!("{height:#x}");
    let mut calls = Vec::new();
    for height in lowest..=head {
        calls.push(("eth_getBlockByNumber", json!([hex(height), rng.bool()])));
    }
    for _ in 0..3 {
        let height = rng.u64(lowest..=head);
        let block = anvil.block(height).await.unwrap();
        let at = hex(height);
        calls.extend([
            ("eth_getBlockReceipts", json!([at])),
            ("eth_getBlockTransactionCountByNumber", json!([at])),
            ("eth_getTransactionByBlockNumberAndIndex", json!([at, "0x0"])),
            ("eth_getBalance", json!([anvil.account(1), at])),
            ("eth_getTransactionCount", json!([anvil.account(0), at])),
            ("eth_getStorageAt", json!([token.address, "0x0", at])),
            ("eth_call", json!([balance_call(anvil, token), at])),
            ("eth_getLogs", json!([{"fromBlock": at, "toBlock": hex(head)}])),
            (
                "eth_getLogs",
                json!([{"fromBlock": hex(lowest), "toBlock": at, "address": token.address}]),
            ),
        ]);
        for transaction in block["transactions"].as_array().unwrap() {
            calls.push(("eth_getTransactionByHash", json!([transaction["hash"]])));
            calls.push(("eth_getTransactionReceipt", json!([transaction["hash"]])));
        }
    }
    calls.extend([
        ("eth_blockNumber", json!([])),
        ("eth_getBlockByNumber", json!(["latest", true])),
        ("eth_getBlockReceipts", json!(["latest"])),
        ("eth_getBalance", json!([anvil.account(1), "latest"])),
        ("eth_getTransactionCount", json!([anvil.account(0), "latest"])),
        ("eth_call", json!([balance_call(anvil, token), "latest"])),
        ("eth_getLogs", json!([{"fromBlock": hex(lowest), "toBlock": "latest"}])),
    ]);
    calls
}

fn balance_call(anvil: &Anvil, token: &Token) -> Value {
    let data = Token::balance_data(anvil.account(1)).unwrap();
    json!({"to": token.address, "data": data})
}

/// Asserts that every call is answered as the node answers it now, by every route there is.
async fn same(app: &TestApp, anvil: &Anvil, calls: &[(&str, Value)], depth: u64) {
    let rpc = app.rpc(CHAIN);
    for (method, params) in calls {
        let ours = rpc.outcome(method, params.clone()).await.unwrap();
        let node = anvil.client().outcome(method, params.clone()).await.unwrap();
        // The words of an error about a missing block differ; that there is one does not.
        let equal = ours == node || (ours.is_err() && node.is_err());
        assert!(equal, "depth {depth}: {method} {params}\n  node {node:?}\n  ours {ours:?}");
        if *method == "eth_getBlockByNumber" && params[0] != "latest" {
            let height = lookout_test::rpc::parse_quantity(&params[0]).unwrap();
            let answer = app.get(&format!("/block/{height}")).await.json();
            let block = anvil.block(height).await.unwrap();
            assert_eq!(answer["result"]["hash"], block["hash"], "depth {depth}: /block/{height}");
        }
    }
}
