//! Probes, metrics, documents.

use std::collections::BTreeSet;

use crate::{CHAIN, LOOKOUT, caught_up, rig};
use lookout_test::TestApp;

#[tokio::test]
async fn readiness_tells_the_parts() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(1).await.unwrap();
    caught_up(&app, &anvil).await;
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["status"], "ready");
    assert_eq!(ready.json()["store"]["status"], "ok");
    assert_eq!(ready.json()["chains"][0]["name"], CHAIN);
}

#[tokio::test]
async fn an_unreachable_upstream_does_not_keep_it_from_starting() {
    // A port that was free a moment ago and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, 31_337, &[format!("http://{address}")])
        .chain_extra("call_timeout_ms = 300\nrequest_timeout_ms = 600")
        .without_waiting()
        .start()
        .await
        .unwrap();
    assert_eq!(app.get("/healthz").await.status, 200);
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(app.get("/block/number").await.status, 502);
    // It says so, with the upstream's name.
    app.wait_for("/healthz", |_| app.logs().iter().any(|line| line.contains("anvil-0")))
        .await
        .unwrap();
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let Some((_anvil, app)) = rig().await else { return };
    app.get("/block/0").await;
    app.get("/block/0").await;
    let text = app.get("/metrics").await.text();
    assert!(text.contains("lookout_http_requests_total{route=\"/block/{number}\""), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("lookout_"), "{line}");
    }
}

#[tokio::test]
async fn the_document_names_every_route_and_works_offline() {
    let Some((_anvil, app)) = rig().await else { return };
    let document = app.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let paths: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    for path in [
        "/block/number",
        "/block/{number}",
        "/address/balance/{address}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/chains",
        "/v1/chains/{chain}/head",
        "/v1/chains/{chain}/blocks/{block}",
        "/v1/chains/{chain}/transactions/{hash}",
        "/v1/chains/{chain}/addresses/{address}/balance",
        "/v1/chains/{chain}/upstreams",
        "/v1/rpc/{chain}",
    ] {
        assert!(paths.contains(path), "{path} is not in {paths:?}");
    }
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(!page.text().contains("src=\"http"), "the page loads from elsewhere: {}", page.text());
    let printed = app.run(&["openapi"]).await.unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed["paths"], document["paths"]);
}
