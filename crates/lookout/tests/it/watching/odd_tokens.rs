//! Contracts that are watched as tokens and are none.

use lookout_test::anvil::DEV_ADDRESSES;
use lookout_test::{Anvil, Receiver};
use serde_json::{Value, json};

use super::scene::{TRANSFER, all, rule, run_job, until, webhook};
use crate::{CHAIN, on};

/// What a contract answers to everything, as its code.
const ODD: [(&str, &str, &str); 4] = [
    ("0x0000000000000000000000000000000000003100", "0x601f6000f3", "31 bytes"),
    ("0x0000000000000000000000000000000000003200", "0x00", "nothing"),
    ("0x0000000000000000000000000000000000003300", "0x60006000fd", "a revert"),
    ("0x0000000000000000000000000000000000003400", "0x", "no contract at all"),
];

#[tokio::test]
async fn tokens_that_are_none_are_named_and_stop_nothing() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let holder = DEV_ADDRESSES[1];
    for (address, code, _) in ODD {
        anvil.rpc("anvil_setCode", json!([address, code])).await.unwrap();
    }
    anvil.mine(2).await.unwrap();
    let token = anvil.deploy_demo_token().await.unwrap();
    let receiver = Receiver::start().await.unwrap();
    let app = on(&anvil)
        .chain_extra("follow = \"logs\"\nfollow_from = 0")
        .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]")
        .start()
        .await
        .unwrap();
    let hook = webhook(&app, &receiver).await;
    let watching = |name: &str, watch: Value, condition: String| {
        json!({"name": name, "chain": CHAIN, "watch": watch, "condition": condition,
            "channels": [hook]})
    };
    let mut odd = Vec::new();
    for (address, _, what) in ODD {
        let path = format!("/v1/chains/{CHAIN}/addresses/{holder}/balance?asset={address}");
        let answer = app.get(&path).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap();
        let says = detail.contains("does not answer `balanceOf`") || detail.contains("revert");
        assert!(says && problem["code"].is_string(), "{what}: {problem}");
        let watch = json!({"kind": "balance", "addresses": [holder]});
        let condition = format!("token == {address} && balance > 0");
        odd.push(rule(&app, &watching(what, watch, condition)).await);
    }
    let event = json!({"kind": "event", "event": TRANSFER, "addresses": [token.address]});
    let good = rule(&app, &watching("good", event, "value > 5".to_owned())).await;
    for units in [6, 7, 8] {
        token.transfer(&anvil, 0, holder, units).await.unwrap();
    }
    receiver.wait_for(3).await.unwrap();
    assert_eq!(all(&app, &format!("/v1/alerts?rule={good}")).await.len(), 3);
    run_job(&app, &format!("balances-{CHAIN}")).await;
    for (rule, (_, _, what)) in odd.iter().zip(ODD) {
        let failure = until("the failure is shown", async || {
            let shown = app.get(&format!("/v1/rules/{rule}")).await.json();
            shown["failures"].get(0).cloned()
        })
        .await;
        let reason = failure["reason"].as_str().unwrap();
        assert!(reason.contains("balance could not be read"), "{what}: {reason}");
        assert_eq!(all(&app, &format!("/v1/alerts?rule={rule}")).await, Vec::<Value>::new());
    }
    // The token itself has a balance, with its decimals.
    let path = format!("/v1/chains/{CHAIN}/addresses/{holder}/balance?asset={}", token.address);
    let balance = app.get(&path).await.json();
    let data = &balance["data"];
    assert_eq!((&data["amount"], &data["decimals"]), (&json!("21"), &json!(6)), "{balance}");
    let transfers =
        all(&app, &format!("/v1/chains/{CHAIN}/transfers?address={holder}&side=to")).await;
    assert_eq!(transfers.len(), 3);
}
