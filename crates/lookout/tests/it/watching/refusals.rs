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
    assert_eq!(all(&app, "/v1/rules").await, Vec::<Value>::new());
    assert_eq!(all(&app, "/v1/channels").await, Vec::<Value>::new());
}

/// A tuple in a tuple, so many times.
fn nested(depth: usize) -> Value {
    let mut inner = json!({"name": "x", "type": "uint256"});
    for _ in 0..depth {
        inner = json!({"name": "x", "type": "tuple", "components": [inner]});
    }
    json!([{"type": "function", "name": "deep", "inputs": [inner], "outputs": [],
        "stateMutability": "view"}])
}

#[tokio::test]
async fn abis_that_are_none_are_refused_with_the_entry_and_the_reason() {
    let scene = Scene::new(14, 3, 1).await;
    let app = scene.server().start().await.unwrap();
    let twice = ["function a(uint256 x)", "function a(uint256 y)"];
    let (wide, many) = (vec!["uint8"; 65].join(","), vec!["event E()"; 5000]);
    for (abi, code, reason) in [
        (json!("nonsense"), "invalid_body", "not a JSON array of entries"),
        (json!(7), "invalid_body", "neither array nor object"),
        (json!({"openapi": "3.1.0"}), "invalid_body", "no `abi` member"),
        (json!({"abi": {"x": 1}}), "invalid_body", "`abi` member is not an array"),
        (json!([{"type": "event"}]), "invalid_body", "entry 0"),
        (json!(["event Fine()", {"type": "pigeon"}]), "invalid_body", "entry 1"),
        (json!(["event E(uint7 x)"]), "invalid_body", "uint7"),
        (
            json!([
                "event E(uint a)",
                "event F(uint indexed a, uint indexed b, uint indexed c, uint indexed d)"
            ]),
            "invalid_body",
            "at most 3",
        ),
        (nested(17), "invalid_body", "nested deeper than 16"),
        (nested(100), "", ""),
        (json!([format!("event E({wide})")]), "invalid_body", "more than 64"),
        (json!(many), "invalid_body", "the limit is 4096"),
        (
            json!(format!("[\"{}\"]", "x".repeat(10 << 20))),
            "body_too_large",
            "at most 2097152 bytes",
        ),
    ] {
        let answer = app.post("/v1/abis", &json!({"name": "x", "abi": abi})).await;
        let problem = answer.json();
        let status = if code == "body_too_large" { 413 } else { 400 };
        assert_eq!(answer.status, status, "{reason}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "no {reason:?} in {problem}");
        assert!(code.is_empty() || problem["code"] == code, "{problem}");
        assert!(detail.len() < 1000, "a problem for people: {} bytes", detail.len());
    }
    // The same function twice is one; two events of a name are told apart by their signatures.
    created(&app.post("/v1/abis", &json!({"name": "twice", "abi": twice})).await);
    let two = ["event Sent(address a)", "event Sent(uint256 a, uint256 a)"];
    created(&app.post("/v1/abis", &json!({"name": "two", "abi": two})).await);
    let watch = |event: &str| json!({"kind": "event", "abi": "two", "event": event});
    let answer = app.post("/v1/rules", &with("watch", watch("Sent"))).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_rule")));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    for part in ["give the full signature", "Sent(address)", "Sent(uint256,uint256)"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    // Arguments of one name get names that conditions can use.
    let mut named = with("watch", watch("Sent(uint256,uint256)"));
    named["condition"] = json!("a < a_1");
    rule(&app, &named).await;
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
