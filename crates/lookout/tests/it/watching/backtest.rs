//! A backtest says what following has found.

use serde_json::{Value, json};

use super::scene::{SIM, Scene, TRANSFER, all, rule};

/// Most transfers of a block.
const LOGS_MAX: usize = 4;

#[tokio::test]
async fn a_backtest_finds_what_following_found() {
    let scene = Scene::new(60, 20, LOGS_MAX).await;
    let mut app = scene.server().roles("api").start().await.unwrap();
    let watch = json!({"kind": "event", "event": TRANSFER});
    let token = format!("0x{}", "10".repeat(20));
    let one_token = json!({"kind": "event", "event": TRANSFER, "addresses": [token]});
    let rules = [
        json!({"name": "large", "chain": SIM, "watch": watch, "condition": "value > 500000"}),
        json!({"name": "one", "chain": SIM, "watch": one_token, "condition": "value % 2 == 0",
            "confirmations": 4, "template": "{{ value }} to {{ to }} in {{ block.number }}"}),
        json!({"name": "own", "chain": SIM, "watch": {"kind": "transfer", "asset": {"tokens": [token]}},
            "condition": "from == to"}),
        json!({"name": "many", "chain": SIM, "watch": watch,
            "window": {"kind": "count", "over": "1m", "condition": "count >= 8"}}),
        json!({"name": "much", "chain": SIM, "watch": one_token, "confirmations": 1,
            "window": {"kind": "sum", "over": "2m", "of": "value", "condition": "sum > 2000000"}}),
    ];
    let mut ids = Vec::new();
    for one in &rules {
        ids.push(rule(&app, one).await);
    }
    // The rules were there before the first block; from here on it follows.
    app.set_roles(None);
    app.restart().await.unwrap();
    scene.settled(&app).await;
    let old = scene.chain.reorg(9, 12, LOGS_MAX);
    scene.settled(&app).await;
    scene.chain.switch_to(old);
    scene.chain.extend(18, LOGS_MAX);
    scene.settled(&app).await;
    for _ in 0..5 {
        scene.chain.extend(5, LOGS_MAX);
        scene.settled(&app).await;
        scene.chain.reorg(3, 4, LOGS_MAX);
        scene.settled(&app).await;
    }
    assert!(scene.chain.head().number >= 60);

    for (one, id) in rules.iter().zip(&ids) {
        let body = json!({"from": 0, "limit": 1000});
        let tried = app.post(&format!("/v1/rules/{id}/backtest"), &body).await;
        assert_eq!(tried.status, 200, "{}", tried.text());
        let tried = tried.json();
        assert_eq!(tried["complete"], true);
        let live = all(&app, &format!("/v1/alerts?rule={id}")).await;
        let live: Vec<_> = live.into_iter().filter(|a| a["state"] != "retracted").collect();
        let confirmed = live.iter().filter(|alert| alert["state"] == "confirmed").count();
        let found = sorted(tried["items"].as_array().unwrap());
        assert!(!found.is_empty(), "the rule {one} is one that matches");
        assert_eq!(sorted(&live), found, "{one}");
        assert_eq!(tried["matches"], live.len(), "{one}");
        assert_eq!(tried["alerts"], confirmed, "{one}");
    }
}

/// What both sides say of matches, in the order of the chain.
fn sorted(matches: &[Value]) -> Vec<Value> {
    let mut all: Vec<_> = matches
        .iter()
        .map(|found| {
            json!({
                "block": found["block"], "blockTime": found["blockTime"], "text": found["text"],
                "record": found["record"], "spans": found["spans"],
            })
        })
        .collect();
    all.sort_by_key(|found| (found["block"]["number"].as_u64(), found.to_string()));
    all
}
