//! Nothing is lost by a crash, and an end by request is clean.

use http::Method;
use serde_json::json;

use crate::{CHAIN, caught_up, rig};

#[tokio::test]
async fn keys_survive_a_crash() {
    let Some((anvil, mut app)) = rig().await else { return };
    let mut keys = Vec::new();
    for _ in 0..3 {
        let made = app.run(&["keys", "create", "--scopes", "*"]).await.unwrap();
        keys.push(String::from_utf8(made.stdout).unwrap().trim().to_owned());
        app.kill().await.unwrap();
        app.restart().await.unwrap();
    }
    anvil.mine(2).await.unwrap();
    for key in &keys {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        let answer = app.send(Method::GET, "/v1/keys", &headers, None).await.unwrap();
        assert_eq!(answer.json()["items"].as_array().unwrap().len(), 3, "{}", answer.text());
    }
}

#[tokio::test]
async fn an_end_by_request_finishes_what_is_under_way() {
    let Some((anvil, mut app)) = rig().await else { return };
    anvil.mine(5).await.unwrap();
    caught_up(&app, &anvil).await;
    assert!(app.call(CHAIN, "eth_chainId", json!([])).await.is_ok());
    assert_eq!(app.terminate().await.unwrap(), Some(0));
    let ended = app.logs().iter().any(|line| line.contains("\"ended\""));
    assert!(ended, "{:?}", app.logs().last());
    app.restart().await.unwrap();
    assert_eq!(app.get("/block/5").await.status, 200);
}

#[tokio::test]
async fn a_node_that_dies_and_returns_is_found_again() {
    let Some(anvil) = lookout_test::Anvil::for_test().await else { return };
    anvil.mine(5).await.unwrap();
    let fleet = lookout_test::Fleet::start(anvil.url(), 1, 1).await.unwrap();
    let app = lookout_test::TestApp::builder(crate::LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .chain_extra("call_timeout_ms = 300\nrequest_timeout_ms = 1000")
        .start()
        .await
        .unwrap();
    fleet[0].die();
    let unknown = format!("/address/balance/{}", lookout_test::anvil::DEV_ADDRESSES[1]);
    let answer = app.get(&unknown).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(app.get("/healthz").await.status, 200);
    fleet[0].revive().await.unwrap();
    anvil.mine(1).await.unwrap();
    caught_up(&app, &anvil).await;
    app.wait_for(&unknown, |answer| answer.status == 200).await.unwrap();
}
