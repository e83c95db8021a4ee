//! A changed configuration reaches what is followed, and what must not be changed is refused aloud.

use lookout_test::{Behaviour, FakeUpstream, TestApp};
use serde_json::Value;

use super::scene::{SIM, Scene, follow, until};

const LOGS_MAX: usize = 3;

/// Replaces something in the server's configuration file, which makes it reload.
fn change(app: &TestApp, what: &str, by: &str) {
    let file = app.folder().join("lookout.toml");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(what), "no {what} in {text}");
    app.write_config(&text.replace(what, by)).unwrap();
}

async fn publisher(app: &TestApp) -> Value {
    app.get(&format!("/v1/chains/{SIM}/follow")).await.json()["publisher"].clone()
}

#[tokio::test]
async fn new_upstreams_are_followed_from_without_a_restart() {
    let scene = Scene::new(11, 20, LOGS_MAX).await;
    let old = FakeUpstream::start("old", scene.node.url(), 1).await.unwrap();
    let app = follow(&[old.url()]).start().await.unwrap();
    scene.settled(&app).await;
    assert_eq!(publisher(&app).await["state"], "following");
    assert_eq!(app.get("/readyz").await.json()["chains"][0]["following"], "ok");
    // As after a key was revoked.
    old.set([Behaviour::status(401)]);
    scene.chain.extend(3, LOGS_MAX);
    change(&app, &old.url(), scene.node.url());
    scene.settled(&app).await;
    old.reset_counts();
    scene.chain.extend(2, LOGS_MAX);
    scene.settled(&app).await;
    assert_eq!(old.calls("eth_getLogs"), 0, "the old one is left alone");
}

#[tokio::test]
async fn what_was_followed_for_something_else_is_not_mixed_and_that_is_told() {
    let scene = Scene::new(12, 20, LOGS_MAX).await;
    let mut app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    let token = "0x1010101010101010101010101010101010101010";
    let narrower = format!("follow = \"logs\"\nfollow_addresses = [\"{token}\"]");
    change(&app, "follow = \"logs\"", &narrower);
    app.wait_log("need a restart").await.unwrap();
    app.restart().await.unwrap();
    let told = until("the publisher says why it does not go on", async || {
        let publisher = publisher(&app).await;
        (publisher["state"] == "stopped").then_some(publisher)
    })
    .await;
    let problem = told["problem"].as_str().unwrap();
    for part in ["followed for `logs`", token, "lookout backfill --chain sim", "--rebuild"] {
        assert!(problem.to_lowercase().contains(part), "no {part} in {problem}");
    }
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 200, "what is held can be asked for all the same");
    let ready = ready.json();
    assert_eq!(
        (&ready["status"], &ready["chains"][0]["following"]),
        (&"degraded".into(), &"troubled".into())
    );
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("lookout_ingest_up{chain=\"sim\"} 0"), "{metrics}");
    // Set back, it goes on.
    change(&app, &narrower, "follow = \"logs\"");
    app.restart().await.unwrap();
    scene.chain.extend(2, LOGS_MAX);
    scene.settled(&app).await;
}
