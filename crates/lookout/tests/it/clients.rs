//! Real client libraries, unchanged, pointed at `/v1/rpc/{chain}` as they would be at a node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lookout_test::anvil::{DEV_KEYS, hex};
use lookout_test::rpc::parse_quantity;
use lookout_test::{Anvil, TestApp, Token, part};
use serde_json::{Value, json};
use tokio::process::Command;

/// Nobody's account, so that it begins with nothing.
const RECEIVER: &str = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
/// Within this a script has long ended, even where compiling goes on beside it.
const WITHIN: Duration = Duration::from_secs(120);
/// As slow as a real chain's: a client that sees its effects does so because Lookout catches up
/// with what it answered, not because it polls all the time.
const POLL_INTERVAL_MS: &str = "2000";

/// A node with a token, Lookout on it, and what the node says before the client begins.
struct Scene {
    anvil: Anvil,
    app: TestApp,
    token: Token,
    height: u64,
}

impl Scene {
    async fn start() -> Option<Self> {
        let anvil = Anvil::for_test().await?;
        let token = anvil.deploy_demo_token().await.unwrap();
        anvil.mine(3).await.unwrap();
        // The newest block holds a transaction, so that blocks with transactions are compared.
        token.transfer(&anvil, 0, anvil.account(1), 50).await.unwrap();
        let app = TestApp::builder(env!("CARGO_BIN_EXE_lookout"))
            .chain("anvil", anvil.chain_id(), &[anvil.url()])
            .env("LOOKOUT_CHAINS__ANVIL__POLL_INTERVAL_MS", POLL_INTERVAL_MS)
            .start()
            .await
            .unwrap();
        let height = anvil.height().await.unwrap();
        Some(Self { anvil, app, token, height })
    }

    fn url(&self) -> String {
        self.app.url("/v1/rpc/anvil")
    }

    /// What the node answers about the state of the last block before the client began.
    async fn node(&self, method: &str, params: Value) -> Value {
        self.anvil.rpc(method, params).await.unwrap()
    }

    async fn decimal(&self, method: &str, params: Value) -> String {
        let answer = self.node(method, params).await;
        let digits = answer.as_str().unwrap().strip_prefix("0x").unwrap();
        u128::from_str_radix(digits, 16).unwrap().to_string()
    }

    /// The expectations that hold for every client, from the node itself.
    async fn expectations(&self) -> BTreeMap<&'static str, Value> {
        let (sender, token) = (self.anvil.account(0), self.token.address.as_str());
        let block = self.anvil.block(self.height).await.unwrap();
        let hashes: Vec<&Value> =
            block["transactions"].as_array().unwrap().iter().map(|tx| &tx["hash"]).collect();
        let nonce = self.node("eth_getTransactionCount", json!([sender, "latest"])).await;
        let fees = self.node("eth_feeHistory", json!(["0x2", "latest", [50]])).await;
        let estimate = json!([{
            "from": sender, "to": token, "data": Token::transfer_data(RECEIVER, 1).unwrap(),
        }]);
        let estimate = self.node("eth_estimateGas", estimate).await;
        let storage = json!([token, "0x7", "latest"]);
        BTreeMap::from([
            ("blockNumber", json!(self.height)),
            ("block", json!({"hash": block["hash"], "transactions": hashes})),
            ("blockByHash", json!(self.height)),
            ("balance", json!(self.decimal("eth_getBalance", json!([sender, "latest"])).await)),
            ("nonce", json!(parse_quantity(&nonce).unwrap())),
            ("code", self.node("eth_getCode", json!([token, "latest"])).await),
            ("storage", self.node("eth_getStorageAt", storage).await),
            ("feeHistory", fees["baseFeePerGas"].clone()),
            ("estimateGas", json!(parse_quantity(&estimate).unwrap())),
            ("payment", json!({"status": 1, "received": "250000000000000000"})),
            ("transaction", json!(true)),
            ("tokenBalance", json!("777")),
        ])
    }

    /// What the client left behind, asked of the node: it really sent what it says.
    async fn assert_sent(&self) {
        let received = self.decimal("eth_getBalance", json!([RECEIVER, "latest"])).await;
        assert_eq!(received, "250000000000000000");
        assert_eq!(self.token.balance_of(&self.anvil, RECEIVER).await.unwrap(), 777);
        assert_eq!(self.anvil.height().await.unwrap(), self.height + 2);
    }
}

/// Runs a client to its end; its steps by name.
async fn run(mut command: Command) -> BTreeMap<String, Value> {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(WITHIN, output).await.expect("the client ends").unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the client failed: {}\n{err}\nafter:\n{out}", output.status);
    out.lines()
        .map(|line| {
            let step: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            (step["step"].as_str().unwrap().to_owned(), step["value"].clone())
        })
        .collect()
}

/// Compares every step: none may be missing, none may go unlooked-at.
fn compare(mut steps: BTreeMap<String, Value>, expected: &BTreeMap<&str, Value>) {
    for (step, expected) in expected {
        let value = steps.remove(*step);
        assert_eq!(value.as_ref(), Some(expected), "step `{step}`");
    }
    assert!(steps.is_empty(), "nothing was expected of {steps:#?}");
}

fn script(name: &str) -> PathBuf {
    part::repository().join("crates/lookout/tests/clients").join(name)
}

#[tokio::test]
async fn ethers_works_unchanged() {
    let found = part::tool("ethers/node_modules", "dev/get-clients");
    let found = found.and_then(|modules| Ok((modules, part::on_path("node")?)));
    let Some((modules, node)) = part::require("ethers", found) else { return };
    let Some(scene) = Scene::start().await else { return };
    let mut expected = scene.expectations().await;
    let mut command = Command::new(node);
    command.arg(script("ethers.mjs")).arg(modules);
    command.args([&scene.url(), DEV_KEYS[0], &scene.token.address, RECEIVER]);
    let mut steps = run(command).await;

    let methods = steps.remove("methods").unwrap();
    let methods: Vec<&str> = methods.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(methods.contains(&"eth_newFilter"), "it tried a filter: {methods:?}");
    assert!(!methods.contains(&"eth_getFilterChanges"), "and fell back to polling: {methods:?}");
    let fees = steps.remove("feeData").unwrap();
    for name in ["gasPrice", "maxFeePerGas"] {
        let fee: u64 = fees[name].as_str().unwrap().parse().unwrap();
        assert!(fee > 0, "{name} of {fees}");
    }
    let batch = steps.remove("batch").unwrap();
    assert!(batch["size"].as_u64().unwrap() > 1, "it sent a batch: {batch}");
    assert_eq!(batch["right"], true, "{batch}");
    let reverted = json!({
        "code": "CALL_EXCEPTION", "reason": "transfer to the zero address", "data": "0x08c379a0",
    });
    let estimate = expected["estimateGas"].to_string();
    expected.extend([
        ("chainId", json!("31337")),
        ("token", json!({"name": "Lookout Demo", "decimals": "6", "balance": "999999999999950"})),
        ("estimateGas", json!(estimate)),
        ("queryFilter", json!(["1000000000000000", "50"])),
        ("reverted", reverted.clone()),
        ("revertedEstimate", reverted),
        ("refused", json!({"code": "NONCE_EXPIRED"})),
        ("unknownBlock", Value::Null),
    ]);
    let event = steps.remove("event").unwrap();
    assert_eq!((&event["value"], &event["to"]), (&json!("777"), &json!(RECEIVER)), "{event}");
    assert_eq!(event["hash"], true, "the event is of the transaction that was sent: {event}");
    compare(steps, &expected);
    scene.assert_sent().await;
}

#[tokio::test]
async fn web3_py_works_unchanged() {
    let found = part::tool("web3/bin/python", "dev/get-clients");
    let Some(python) = part::require("web3.py", found) else { return };
    let Some(scene) = Scene::start().await else { return };
    let mut expected = scene.expectations().await;
    let block = scene.node("eth_getBlockByNumber", json!([hex(scene.height), false])).await;
    let mut command = Command::new(python);
    command.arg(script("web3_client.py"));
    command.args([&scene.url(), DEV_KEYS[0], &scene.token.address, RECEIVER]);
    let mut steps = run(command).await;

    let reason = "execution reverted: transfer to the zero address";
    for (step, kind, message) in [
        ("reverted", "ContractLogicError", reason),
        ("revertedEstimate", "ContractLogicError", reason),
        ("refused", "Web3RPCError", "nonce too low"),
        ("filter", "MethodUnavailable", "does not exist/is not available"),
        ("unknownBlock", "BlockNotFound", "not found"),
        ("unknownTransaction", "TransactionNotFound", "not found"),
    ] {
        let failure = steps.remove(step).unwrap();
        assert_eq!(failure["error"], kind, "{step}: {failure}");
        assert!(failure["message"].as_str().unwrap().contains(message), "{step}: {failure}");
    }
    let balance = expected["balance"].clone();
    expected.extend([
        ("isConnected", json!(true)),
        ("chainId", json!(31337)),
        ("transactionCount", json!(block["transactions"].as_array().unwrap().len())),
        ("gasPrice", json!(true)),
        ("proof", balance),
        ("token", json!({"name": "Lookout Demo", "balance": "999999999999950"})),
        ("getLogs", json!(["1000000000000000", "50"])),
        ("nonceAfter", json!(1)),
        ("event", json!(["777"])),
        ("logsOfBlock", json!(1)),
        ("batch", json!(true)),
    ]);
    compare(steps, &expected);
    scene.assert_sent().await;
}
