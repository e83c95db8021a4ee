//! `/v1/chains` with provenance.

use serde_json::{Value, json};

use crate::{CHAIN, caught_up, rig};

#[tokio::test]
async fn head_blocks_and_transactions() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(4).await.unwrap();
    let paid = anvil.transfer(0, anvil.account(1), "0x5").await.unwrap();
    let height = caught_up(&app, &anvil).await;
    let truth = anvil.block(height).await.unwrap();

    let head = app.get(&format!("/v1/chains/{CHAIN}/head")).await.json();
    assert_eq!(head["data"]["latest"], json!({"number": height, "hash": truth["hash"]}));
    let hash = truth["hash"].as_str().unwrap();
    for block in ["latest", &height.to_string(), &format!("{height:#x}"), hash] {
        let answer = app.get(&format!("/v1/chains/{CHAIN}/blocks/{block}")).await;
        assert_eq!(answer.status, 200, "{block}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["data"], truth, "{block}");
        assert_eq!(answer["block"]["hash"], truth["hash"]);
        assert!(answer["verification"]["level"].is_string(), "{answer}");
    }
    let short = app.get(&format!("/v1/chains/{CHAIN}/blocks/{height}?transactions=hashes")).await;
    assert_eq!(short.json()["data"]["transactions"], json!([paid["transactionHash"]]));

    let transaction = paid["transactionHash"].as_str().unwrap();
    let answer = app.get(&format!("/v1/chains/{CHAIN}/transactions/{transaction}")).await.json();
    assert_eq!(answer["data"]["transaction"], truth["transactions"][0]);
    assert_eq!(answer["data"]["receipt"], paid);
    // A chain goes by its name, its id, and its CAIP-2 id.
    for chain in ["31337", "eip155:31337"] {
        assert_eq!(app.get(&format!("/v1/chains/{chain}/head")).await.status, 200, "{chain}");
    }
}

#[tokio::test]
async fn balances_of_coins_and_tokens() {
    let Some((anvil, app)) = rig().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    token.transfer(&anvil, 0, anvil.account(1), 1_500_000).await.unwrap();
    let height = caught_up(&app, &anvil).await;
    let path =
        |query: &str| format!("/v1/chains/{CHAIN}/addresses/{}/balance{query}", anvil.account(1));
    let coin = app.get(&path("")).await.json();
    assert_eq!(coin["data"]["amount"], "10000000000000000000000");
    assert_eq!(
        (&coin["data"]["decimals"], &coin["data"]["formatted"]),
        (&json!(18), &json!("10000"))
    );
    assert_eq!(coin["data"]["asset"], Value::Null);
    assert_eq!(coin["block"]["number"], height);

    let held = app.get(&path(&format!("?asset={}", token.address))).await.json();
    assert_eq!(held["data"]["amount"], "1500000");
    assert_eq!((&held["data"]["decimals"], &held["data"]["formatted"]), (&json!(6), &json!("1.5")));
    let before = height - 1;
    let earlier = app.get(&path(&format!("?asset={}&block={before}", token.address))).await.json();
    assert_eq!(earlier["data"]["amount"], "0");

    let proved = app.get(&path("?verify=proof")).await.json();
    assert_eq!(proved["verification"]["level"], "proof");
    assert_eq!(proved["data"], coin["data"]);
    let unproved = app.get(&path("?verify=quorum")).await;
    assert_ne!(unproved.status, 500, "{}", unproved.text());
    assert_ne!(unproved.json()["verification"]["level"], "single");
}

#[tokio::test]
async fn upstreams_show_their_health() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(2).await.unwrap();
    caught_up(&app, &anvil).await;
    let answer = app.get(&format!("/v1/chains/{CHAIN}/upstreams")).await.json();
    let upstream = &answer["items"][0];
    assert_eq!(upstream["name"], "anvil-0");
    assert_eq!(upstream["state"], "healthy");
    assert_eq!(upstream["endpoint"], anvil.url());
    assert!(upstream["calls"].as_u64().unwrap() > 0);
    let chains = app.get("/v1/chains").await.json();
    assert_eq!(chains["items"].as_array().unwrap().len(), 1);
    assert_eq!(chains["items"][0]["name"], CHAIN);
}
