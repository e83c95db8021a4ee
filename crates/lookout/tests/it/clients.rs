//! Real client libraries, pointed at `/v1/rpc/{chain}`, run their ordinary calls unchanged.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use lookout_test::anvil::{DEV_ADDRESSES, DEV_KEYS};
use lookout_test::{Anvil, TestApp, Token, part};
use tokio::process::Command;

use crate::{CHAIN, caught_up, rig};

/// A client's whole run takes seconds; a hang must not take the suite with it.
const RUN_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn ethers_runs_unchanged() {
    let found = part::tool("ethers/node_modules/ethers", "dev/get-clients")
        .and_then(|_| part::tool("ethers", "dev/get-clients"));
    let Some(folder) = part::require("ethers", found) else { return };
    let Some(node) = part::require("Node.js", part::on_path("node")) else { return };
    let Some((anvil, app, token)) = prepared().await else { return };
    let script = script("ethers.mjs");
    let before: [&OsStr; 2] = [script.as_ref(), folder.as_ref()];
    run(&node, &before, &app, &token).await;
    drop(anvil);
}

#[tokio::test]
async fn web3_py_runs_unchanged() {
    let found = part::tool("web3/bin/python", "dev/get-clients");
    let Some(python) = part::require("web3.py", found) else { return };
    let Some((anvil, app, token)) = prepared().await else { return };
    run(&python, &[script("web3_client.py").as_ref()], &app, &token).await;
    drop(anvil);
}

async fn prepared() -> Option<(Anvil, TestApp, Token)> {
    let (anvil, app) = rig().await?;
    anvil.mine(12).await.unwrap();
    let token = anvil.deploy_demo_token().await.unwrap();
    anvil.transfer(0, anvil.account(2), "0x1").await.unwrap();
    caught_up(&app, &anvil).await;
    Some((anvil, app, token))
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn run(program: &Path, before: &[&OsStr], app: &TestApp, token: &Token) {
    let mut command = Command::new(program);
    command.args(before).args([
        app.rpc(CHAIN).url(),
        &token.address,
        DEV_KEYS[0],
        DEV_ADDRESSES[1],
    ]);
    let output = tokio::time::timeout(RUN_WITHIN, command.kill_on_drop(true).output())
        .await
        .expect("the client ends")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("batches ok"), "{said}\n{complained}");
}
