//! One object for an alert, byte for byte, wherever a client meets it.

use std::collections::BTreeMap;

use lookout_test::rpc::http_client;
use lookout_test::{Anvil, Receiver, TestApp, Token};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::scene::{rule, run_job, until, webhook};
use crate::{CHAIN, on};

/// Longer than the silence that a rule waits for.
const SILENT_SECONDS: u64 = 120;
/// Which records alerts are about: those of the rules, in order.
const KINDS: [&str; 6] = ["event", "transaction", "transfer", "balance", "window", "silence"];

/// Alerts as they came, by id.
type Told = BTreeMap<String, String>;

/// An object whose members stay as they were written.
type Members = BTreeMap<String, Box<RawValue>>;

fn add(told: &mut Told, alert: &str) {
    assert_eq!(told.insert(id_of(alert), alert.to_owned()), None, "told twice: {alert}");
}

/// All alerts as the list has them, each the same as when it is asked for alone.
async fn asked(app: &TestApp) -> Told {
    let list: Members = serde_json::from_str(&app.get("/v1/alerts").await.text()).unwrap();
    let items: Vec<&RawValue> = serde_json::from_str(list["items"].get()).unwrap();
    let mut told = Told::new();
    for item in items {
        add(&mut told, item.get());
    }
    for (id, item) in &told {
        assert_eq!(app.get(&format!("/v1/alerts/{id}")).await.text(), *item);
    }
    told
}

fn id_of(alert: &str) -> String {
    let known: Value = serde_json::from_str(alert).unwrap();
    known["id"].as_str().unwrap().to_owned()
}

/// Some alerts as webhooks of a type carried them. Others may come along: on another branch it is
/// silent, too.
async fn carried(receiver: &Receiver, name: &str, some: &Told) -> Told {
    until(&format!("{name} is carried"), async || {
        let mut told = Told::new();
        for received in receiver.accepted() {
            let body: Members = serde_json::from_str(&received.body).unwrap();
            let alert = body["data"].get();
            if body["type"].get() == format!("\"{name}\"") && some.contains_key(&id_of(alert)) {
                add(&mut told, alert);
            }
        }
        (told.len() == some.len()).then_some(told)
    })
    .await
}

/// Some alerts as the stream's next messages tell of them.
async fn streamed(stream: &mut reqwest::Response, text: &mut String, some: &Told) -> Told {
    let mut told = Told::new();
    loop {
        while let Some((message, rest)) = text.split_once("\n\n") {
            let data = message.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(alert) = data.filter(|alert| some.contains_key(&id_of(alert))) {
                add(&mut told, alert);
            }
            *text = rest.to_owned();
        }
        if told.len() == some.len() {
            return told;
        }
        let piece = stream.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

/// A rule of each kind; a transfer of the token after a silence meets them all.
fn rules(anvil: &Anvil, token: &Token, channel: &str) -> [Value; 6] {
    let event = json!({"kind": "event", "abi": "erc20", "event": "Transfer"});
    let watches = [
        event.clone(),
        json!({"kind": "transaction", "addresses": [token.address]}),
        json!({"kind": "transfer", "asset": {"tokens": [token.address]}}),
        json!({"kind": "balance", "addresses": [anvil.account(0)]}),
        event.clone(),
        json!({"kind": "event", "abi": "erc20", "event": "Approval"}),
    ];
    let mut rules = watches.map(
        |watch| json!({"chain": CHAIN, "watch": watch, "confirmations": 1, "channels": [channel]}),
    );
    for (rule, kind) in rules.iter_mut().zip(KINDS) {
        rule["name"] = json!(kind);
    }
    rules[0]["template"] = json!("{{ value | bold }} to {{ to | short }} 🐳 \"quoted\"");
    rules[3]["condition"] = json!("change < 0");
    rules[4]["window"] = json!({"kind": "count", "over": "1m", "condition": "count >= 1"});
    rules[5]["window"] = json!({"kind": "silence", "for": "1m"});
    rules
}

/// Waits until this many alerts are in this state.
async fn alerts_are(app: &TestApp, state: &str) {
    until(&format!("all alerts are {state}"), async || {
        let list = app.get(&format!("/v1/alerts?state={state}")).await.json();
        (list["items"].as_array()?.len() == KINDS.len()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_alert_is_the_same_object_in_answers_the_stream_and_webhooks() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    let receiver = Receiver::start().await.unwrap();
    let app = on(&anvil)
        .chain_extra("follow = \"blocks\"\nfollow_from = 0")
        .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]")
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
        .start()
        .await
        .unwrap();
    // Balances are read when the test says so.
    let job = format!("balances-{CHAIN}");
    let paused = app.post(&format!("/v1/jobs/{job}/pause"), &json!({})).await;
    assert_eq!(paused.status, 200, "{}", paused.text());
    let channel = webhook(&app, &receiver).await;
    for one in rules(&anvil, &token, &channel) {
        rule(&app, &one).await;
    }
    let stream = http_client().get(app.url("/v1/stream?topics=alerts")).send().await;
    let (mut stream, mut text) = (stream.unwrap(), String::new());
    // The rules begin, and a first balance is read.
    anvil.mine(1).await.unwrap();
    followed(&app, &anvil).await;
    run_job(&app, &job).await;
    anvil.rpc("evm_increaseTime", json!([SILENT_SECONDS])).await.unwrap();
    token.transfer(&anvil, 0, anvil.account(1), 5).await.unwrap();
    followed(&app, &anvil).await;
    run_job(&app, &job).await;
    alerts_are(&app, "pending").await;
    let pending = asked(&app).await;
    let mut kinds: Vec<String> = pending
        .values()
        .map(|alert| serde_json::from_str::<Value>(alert).unwrap()["ruleName"].to_string())
        .collect();
    kinds.sort();
    let mut expected = KINDS.map(|kind| format!("\"{kind}\""));
    expected.sort();
    assert_eq!(kinds, expected);

    anvil.mine(1).await.unwrap();
    alerts_are(&app, "confirmed").await;
    let confirmed = asked(&app).await;
    assert_eq!(confirmed.keys().collect::<Vec<_>>(), pending.keys().collect::<Vec<_>>());
    assert_eq!(streamed(&mut stream, &mut text, &confirmed).await, confirmed);
    assert_eq!(carried(&receiver, "alert.confirmed", &confirmed).await, confirmed);

    // The block of the transfer, and the one that confirmed it.
    anvil.reorg(2).await.unwrap();
    alerts_are(&app, "retracted").await;
    let mut retracted = asked(&app).await;
    retracted.retain(|id, _| confirmed.contains_key(id));
    assert_eq!(streamed(&mut stream, &mut text, &confirmed).await, retracted);
    assert_eq!(carried(&receiver, "alert.retracted", &confirmed).await, retracted);
    for (id, alert) in &retracted {
        assert_ne!(*alert, confirmed[id], "its state is another");
    }
}

/// Waits until the rules have read the node's head.
async fn followed(app: &TestApp, anvil: &Anvil) {
    let height = anvil.height().await.unwrap();
    until("everything is followed", async || {
        let follow = app.get(&format!("/v1/chains/{CHAIN}/follow")).await.json();
        let consumers = follow["consumers"].as_array()?;
        let there = |c: &Value| c["name"] == "rules" && c["head"]["number"] == height;
        consumers.iter().any(there).then_some(())
    })
    .await;
}
