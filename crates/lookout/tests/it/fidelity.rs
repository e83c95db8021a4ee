//! `/v1/rpc/{chain}` answers what the node answers, field for field, errors included.

use lookout_test::app::DONE_WITHIN;
use lookout_test::{Anvil, Token};
use serde_json::{Value, json};

use crate::{CHAIN, caught_up, rig};

/// What the calls are about: a chain with a bit of everything on it.
struct Scene {
    anvil: Anvil,
    token: Token,
    /// A token transfer's receipt.
    receipt: Value,
    height: u64,
}

impl Scene {
    async fn play(anvil: Anvil) -> Self {
        anvil.mine(5).await.unwrap();
        let token = anvil.deploy_demo_token().await.unwrap();
        anvil.transfer(0, anvil.account(1), "0xde0b6b3a7640000").await.unwrap();
        let receipt = token.transfer(&anvil, 0, anvil.account(1), 1_000).await.unwrap();
        anvil.mine(3).await.unwrap();
        let height = anvil.height().await.unwrap();
        Self { anvil, token, receipt, height }
    }

    fn blocks(&self) -> Vec<(&'static str, Value)> {
        let block = &self.receipt["blockNumber"];
        let hash = &self.receipt["blockHash"];
        let unknown = json!(format!("0x{}", "77".repeat(32)));
        let above = json!(format!("{:#x}", self.height + 10));
        vec![
            ("eth_blockNumber", json!([])),
            ("eth_getBlockByNumber", json!(["latest", true])),
            ("eth_getBlockByNumber", json!(["latest", false])),
            ("eth_getBlockByNumber", json!(["earliest", false])),
            ("eth_getBlockByNumber", json!(["safe", false])),
            ("eth_getBlockByNumber", json!(["finalized", true])),
            ("eth_getBlockByNumber", json!(["0x0", true])),
            ("eth_getBlockByNumber", json!([block, true])),
            ("eth_getBlockByNumber", json!([above, true])),
            ("eth_getBlockByHash", json!([hash, true])),
            ("eth_getBlockByHash", json!([hash, false])),
            ("eth_getBlockByHash", json!([unknown, false])),
            ("eth_getBlockTransactionCountByNumber", json!([block])),
            ("eth_getBlockTransactionCountByHash", json!([hash])),
            ("eth_getUncleCountByBlockNumber", json!([block])),
            ("eth_getUncleCountByBlockHash", json!([hash])),
            ("eth_getUncleByBlockNumberAndIndex", json!([block, "0x0"])),
            ("eth_getUncleByBlockHashAndIndex", json!([hash, "0x0"])),
            ("eth_getBlockReceipts", json!([block])),
            ("eth_getBlockReceipts", json!([hash])),
            ("eth_getBlockReceipts", json!(["latest"])),
            ("eth_getBlockReceipts", json!([above])),
        ]
    }

    fn transactions(&self) -> Vec<(&'static str, Value)> {
        let (block, hash) = (&self.receipt["blockNumber"], &self.receipt["blockHash"]);
        let transaction = &self.receipt["transactionHash"];
        let unknown = json!(format!("0x{}", "77".repeat(32)));
        vec![
            ("eth_getTransactionByHash", json!([transaction])),
            ("eth_getTransactionByHash", json!([unknown])),
            ("eth_getTransactionReceipt", json!([transaction])),
            ("eth_getTransactionReceipt", json!([unknown])),
            ("eth_getTransactionByBlockNumberAndIndex", json!([block, "0x0"])),
            ("eth_getTransactionByBlockNumberAndIndex", json!([block, "0x5"])),
            ("eth_getTransactionByBlockHashAndIndex", json!([hash, "0x0"])),
            ("eth_getLogs", json!([{"fromBlock": "0x0", "toBlock": "latest"}])),
            ("eth_getLogs", json!([{"fromBlock": "0x0", "address": self.token.address}])),
            ("eth_getLogs", json!([{"blockHash": hash}])),
            (
                "eth_getLogs",
                json!([{"blockHash": hash, "topics": [lookout_test::token::TRANSFER_TOPIC]}]),
            ),
            ("eth_getLogs", json!([{"fromBlock": block, "toBlock": block, "topics": [[], null]}])),
            ("eth_getLogs", json!([{"fromBlock": "0x1", "toBlock": "0x2"}])),
            ("eth_getLogs", json!([{}])),
        ]
    }

    fn state(&self) -> Vec<(&'static str, Value)> {
        let (holder, token) = (self.anvil.account(1), &self.token.address);
        let block = &self.receipt["blockNumber"];
        let by_hash = json!({"blockHash": self.receipt["blockHash"]});
        let mut calls = Vec::new();
        for at in
            [json!("latest"), json!("0x1"), block.clone(), by_hash, json!({"blockNumber": block})]
        {
            calls.extend([
                ("eth_getBalance", json!([holder, at])),
                ("eth_getCode", json!([token, at])),
                ("eth_getTransactionCount", json!([self.anvil.account(0), at])),
                ("eth_getStorageAt", json!([token, "0x0", at])),
                ("eth_getProof", json!([holder, [], at])),
                ("eth_call", json!([self.call_balance(), at])),
            ]);
        }
        calls.extend([
            ("eth_getProof", json!([token, ["0x0"], "latest"])),
            ("eth_getBalance", json!([holder])),
            ("eth_call", json!([self.call_balance()])),
            ("eth_estimateGas", json!([self.call_transfer(5)])),
            ("eth_estimateGas", json!([self.call_transfer(5), "latest"])),
            ("eth_createAccessList", json!([self.call_transfer(5), "latest"])),
            ("eth_feeHistory", json!(["0x3", "latest", [25, 75]])),
            ("eth_feeHistory", json!(["0x2", block, []])),
            ("eth_gasPrice", json!([])),
            ("eth_maxPriorityFeePerGas", json!([])),
            ("eth_blobBaseFee", json!([])),
            ("eth_chainId", json!([])),
            ("eth_syncing", json!([])),
            ("eth_accounts", json!([])),
            ("net_version", json!([])),
            ("net_listening", json!([])),
            ("web3_clientVersion", json!([])),
        ]);
        calls
    }

    fn errors(&self) -> Vec<(&'static str, Value)> {
        let holder = self.anvil.account(1);
        let too_much = self.call_transfer(u64::MAX);
        let poor = json!({"from": "0x00000000000000000000000000000000000000aa", "to": holder, "value": "0x1"});
        vec![
            ("eth_call", json!([too_much, "latest"])),
            ("eth_estimateGas", json!([too_much])),
            ("eth_estimateGas", json!([poor])),
            ("eth_sendRawTransaction", json!(["0x00"])),
            ("eth_sendRawTransaction", json!(["0x"])),
            ("eth_getTransactionByHash", json!(["0x12"])),
            ("eth_feeHistory", json!(["0x2", "latest", [90, 10]])),
        ]
    }

    fn call_balance(&self) -> Value {
        let data = Token::balance_data(self.anvil.account(1)).unwrap();
        json!({"to": self.token.address, "data": data})
    }

    fn call_transfer(&self, units: u64) -> Value {
        let data = Token::transfer_data(self.anvil.account(2), units).unwrap();
        json!({"from": self.anvil.account(1), "to": self.token.address, "data": data})
    }
}

#[tokio::test]
async fn every_read_method_is_the_nodes_own() {
    let Some((anvil, app)) = rig().await else { return };
    let scene = Scene::play(anvil).await;
    caught_up(&app, &scene.anvil).await;
    let rpc = app.rpc(CHAIN);
    let mut wrong = Vec::new();
    let calls = [scene.blocks(), scene.transactions(), scene.state(), scene.errors()].concat();
    for (method, params) in calls {
        let direct = scene.anvil.client().outcome(method, params.clone()).await.unwrap();
        // Twice: from the node, and from whatever was kept of that.
        for _ in 0..2 {
            let ours = rpc.outcome(method, params.clone()).await.unwrap();
            if ours != direct {
                wrong.push(format!("{method} {params}\n  node {direct:?}\n  ours {ours:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_with_its_ids() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(3).await.unwrap();
    caught_up(&app, &anvil).await;
    let call = |id: Value, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let batch = json!([
        call(json!(7), "eth_getBlockByNumber", json!(["0x2", false])),
        call(json!("name"), "eth_chainId", json!([])),
        call(json!(7), "eth_getBlockByNumber", json!(["0x1", false])),
        call(json!(-1), "eth_getBalance", json!([anvil.account(0), "latest"])),
    ]);
    let direct = anvil.client().exchange(&batch).await.unwrap();
    assert_eq!(app.rpc(CHAIN).exchange(&batch).await.unwrap(), direct);

    let mixed = json!([
        call(json!(1), "eth_chainId", json!([])),
        call(json!(2), "evm_mine", json!([])),
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        42,
    ]);
    let (status, answers) = app.rpc(CHAIN).exchange(&mixed).await.unwrap();
    assert_eq!(status, 200);
    let codes: Vec<&Value> =
        answers.as_array().unwrap().iter().map(|answer| &answer["error"]["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!(-32601), &json!(-32600)], "{answers}");
}

#[tokio::test]
async fn a_sent_transaction_is_there_at_once() {
    let Some((anvil, app)) = rig().await else { return };
    // Signed by anvil's first account: nonce 0, chain 31337, one wei to its second.
    let signed = anvil
        .rpc(
            "eth_signTransaction",
            json!([{
                "from": anvil.account(0), "to": anvil.account(1), "value": "0x1", "nonce": "0x0",
                "gas": "0x5208", "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1",
                "chainId": "0x7a69",
            }]),
        )
        .await
        .unwrap();
    let before = app.call(CHAIN, "eth_getBalance", json!([anvil.account(1), "latest"])).await;
    let hash = app.call(CHAIN, "eth_sendRawTransaction", json!([signed])).await.unwrap();
    let mined = async {
        loop {
            let receipt =
                app.call(CHAIN, "eth_getTransactionReceipt", json!([hash])).await.unwrap();
            if receipt.is_object() {
                return receipt;
            }
            tokio::task::yield_now().await;
        }
    };
    let receipt = tokio::time::timeout(DONE_WITHIN, mined).await.unwrap();
    // Whoever has seen the receipt sees its effects.
    let height = app.rpc(CHAIN).number("eth_blockNumber", json!([])).await.unwrap();
    assert_eq!(format!("{height:#x}"), receipt["blockNumber"]);
    let after = app.call(CHAIN, "eth_getBalance", json!([anvil.account(1), "latest"])).await;
    assert_ne!(after.unwrap(), before.unwrap());
    // Sent again, the node says what it thinks of that.
    let ours = app.rpc(CHAIN).outcome("eth_sendRawTransaction", json!([signed])).await.unwrap();
    let direct = anvil.client().outcome("eth_sendRawTransaction", json!([signed])).await.unwrap();
    assert_eq!(ours, direct);
}
