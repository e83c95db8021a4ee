//! The live server keeps what its OpenAPI document promises, whatever is thrown at it.

use std::time::Duration;

use lookout_test::part;
use serde_json::json;
use tokio::process::Command;

use crate::{CHAIN, caught_up, on};
use lookout_test::Anvil;

/// Generated cases for each operation and phase: enough to find what is wrong, few enough for CI.
const EXAMPLES_MAX: &str = "40";
const SEED: &str = "7";
const RUN_WITHIN: Duration = Duration::from_secs(600);

#[tokio::test]
async fn the_document_is_kept() {
    let found = part::tool("schemathesis/bin/schemathesis", "dev/get-schemathesis");
    let Some(schemathesis) = part::require("schemathesis", found) else { return };
    let Some(anvil) = Anvil::for_test().await else { return };
    anvil.mine(5).await.unwrap();
    anvil.transfer(0, anvil.account(1), "0x1").await.unwrap();
    // Limits answer 429 to a flood, which would hide everything behind them.
    let limits = "[limits]\nrequests_per_second_per_key = 0\nrequests_per_second_per_address = 0";
    let app = on(&anvil).config_extra(limits).start().await.unwrap();
    caught_up(&app, &anvil).await;
    // With a key of its own the run cannot lock itself out by making the first one.
    let made = app.run(&["keys", "create", "--scopes", "*", "--name", "schemathesis"]).await;
    let key = String::from_utf8(made.unwrap().stdout).unwrap();

    let mut command = Command::new(schemathesis);
    command
        .current_dir(app.folder())
        .args(["run", &app.url("/openapi.json"), "--seed", SEED, "--max-examples", EXAMPLES_MAX])
        .args(["--checks", CHECKS, "--header", &format!("Authorization: Bearer {}", key.trim())])
        .args(["--no-color", "--continue-on-failure", "--generation-database", "none"])
        .kill_on_drop(true);
    let output = tokio::time::timeout(RUN_WITHIN, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    // It lived through all of that.
    let head = app.call(CHAIN, "eth_blockNumber", json!([])).await;
    assert!(head.is_err(), "a call without a key was answered: {head:?}");
    assert_eq!(app.get("/healthz").await.status, 200);
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";
