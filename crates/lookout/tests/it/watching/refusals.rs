//! Bad input gets a clear answer, and a receiver that refuses stops nobody else.

use http::Method;
use lookout_test::receiver::Fault;
use lookout_test::{Receiver, TestApp};
use serde_json::{Value, json};

use super::scene::{
    SIM, Scene, TRANSFER, all, created, follow, linked, rule, telegram, telegram_section, transfer,
    until, webhook,
};

/// A rule that is right, but for one member.
fn with(member: &str, value: Value) -> Value {
    let mut rule =
        json!({"name": "x", "chain": SIM, "watch": {"kind": "event", "event": TRANSFER}});
    rule[member] = value;
    rule
}

#[tokio::test]
async fn rules_channels_and_abis_that_are_wrong_are_refused_with_the_reason() {
    let scene = Scene::new(12, 3, 1).await;
    // Webhooks as they are by default: to the public internet only.
    let builder =
        TestApp::builder(crate::LOOKOUT).chain(SIM, super::scene::SIM_ID, &[scene.node.url()]);
    let app = builder.chain_extra("follow = \"logs\"\nfollow_from = 0").start().await.unwrap();
    let above = format!("value > 1{}", "0".repeat(78));
    let window = |over: &str| json!({"kind": "count", "over": over, "condition": "count > 1"});
    let event = |text: &str| json!({"kind": "event", "event": text});
    let of_abi = json!({"kind": "event", "abi": "erc20", "event": "Transfered"});
    let million = format!("value > {}", "1".repeat(1_000_000));
    for (rule, reason) in [
        (with("condition", json!("value >")), "line 1"),
        (with("condition", json!("amount > 1")), "amount"),
        (with("condition", json!("value > \"100\"")), "uint256"),
        (with("condition", json!(above)), "256"),
        (with("condition", json!(million)), "the limit is 65536"),
        (with("watch", of_abi), "Transfered"),
        (with("watch", event("event (")), "event"),
        (with("window", window("0s")), "window"),
        (with("window", window("90d")), "31"),
        (with("chain", json!("nosuch")), "nosuch"),
        (with("template", json!("{{ nosuch }}")), "nosuch"),
        (with("channels", json!(["0198c0de-0000-7000-8000-000000000000"])), "channel"),
    ] {
        let answer = app.post("/v1/rules", &rule).await;
        assert_eq!(answer.status, 400, "{reason}: {}", answer.text());
        let problem = answer.json();
        assert_eq!(problem["code"], "invalid_rule", "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "no {reason:?} in {detail}");
        assert!(detail.len() < 2000, "a problem for people: {} bytes", detail.len());
    }
    for (body, reason) in [
        (json!({"kind": "webhook", "name": "x", "url": "https://127.0.0.1/x"}), "127.0.0.1"),
        (json!({"kind": "webhook", "name": "x", "url": "http://example.com/x"}), "https"),
        (json!({"kind": "webhook", "name": "x", "url": "https://[::ffff:10.0.0.1]/x"}), "10.0.0.1"),
        (json!({"kind": "telegram", "name": "x", "token": "nonsense"}), "token"),
        (json!({"kind": "pigeon", "name": "x"}), "is one of telegram, slack"),
    ] {
        let answer = app.post("/v1/channels", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{reason}: {problem}");
    }
    for abi in [json!("nonsense"), json!([{"type": "event"}]), json!(7)] {
        let answer = app.post("/v1/abis", &json!({"name": "x", "abi": abi})).await;
        assert_eq!(answer.status, 400, "{abi}: {}", answer.text());
    }
    assert_eq!(all(&app, "/v1/rules").await, Vec::<Value>::new());
    assert_eq!(all(&app, "/v1/channels").await, Vec::<Value>::new());
}

#[tokio::test]
async fn receivers_that_refuse_are_named_and_the_others_are_told() {
    let scene = Scene::new(13, 3, 0).await;
    let telegram = telegram().await;
    let (good, bad, trap) = (
        Receiver::start().await.unwrap(),
        Receiver::start().await.unwrap(),
        Receiver::start().await.unwrap(),
    );
    let app = follow(&[scene.node.url()]).config_extra(&telegram_section(&telegram));
    let app = app.start().await.unwrap();
    scene.settled(&app).await;
    let (well, redirects) = (webhook(&app, &good).await, webhook(&app, &bad).await);
    bad.set([Fault::Redirect(trap.url("/trap"))]);
    let blocked = linked(&app, &telegram, 1).await;
    telegram.forbid(1);
    // The stand-in knows no such bot.
    let stranger = json!({"kind": "telegram", "name": "stranger", "chatId": 1,
        "token": "999999:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"});
    let stranger = created(&app.post("/v1/channels", &stranger).await);
    let stranger = stranger["channel"]["id"].as_str().unwrap().to_owned();
    let all_of_them = json!([well, redirects, blocked, stranger]);
    rule(&app, &with("channels", all_of_them)).await;
    scene.chain.push(vec![transfer(7)]);
    good.wait_for(1).await.unwrap();
    for (channel, reason) in [(&blocked, "blocked by the user"), (&stranger, "Unauthorized")] {
        until("the channel is disabled", async || {
            let shown = app.get(&format!("/v1/channels/{channel}")).await.json();
            let said = shown["reason"].as_str()?.to_lowercase();
            assert!(said.contains(&reason.to_lowercase()) || said.contains("token"), "{shown}");
            (shown["state"] == "disabled").then_some(())
        })
        .await;
    }
    until("the redirect is given up", async || {
        let dead = all(&app, &format!("/v1/deliveries?channel={redirects}&state=dead")).await;
        let [one] = &dead[..] else { return None };
        let error = one["error"].as_str().unwrap();
        assert!(error.contains("redirect"), "{error}");
        Some(())
    })
    .await;
    assert!(trap.journal().is_empty(), "a redirect was followed");
    let metrics = app.send(Method::GET, "/metrics", &[], None).await.unwrap();
    assert_eq!(metrics.status, 200);
    scene.chain.push(vec![transfer(8)]);
    good.wait_for(2).await.unwrap();
}
