//! Alerts over HTTP. What is in the table is tested with the store, which fills it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::testing::{TestApi, config};

#[tokio::test]
async fn filters_are_checked() {
    let api = TestApi::start(config()).await;
    let list = api.get("/v1/alerts?state=retracted&chain=eip155:1&from=2026-01-01T00:00:00Z").await;
    assert_eq!(list.json(), serde_json::json!({"items": [], "next": null}));
    for (query, status, code) in [
        ("rule=x", 400, "invalid_parameter"),
        ("from=yesterday", 400, "invalid_parameter"),
        ("to=1700000000", 400, "invalid_parameter"),
        ("state=gone", 400, "invalid_parameter"),
        ("chain=nope", 404, "unknown_chain"),
        ("limit=0", 400, "invalid_parameter"),
        ("rul=x", 400, "unknown_parameter"),
    ] {
        api.get(&format!("/v1/alerts?{query}")).await.problem(status, code);
    }
    api.get("/v1/alerts/x").await.problem(404, "not_found");
    let unknown = "/v1/alerts/0198c0de-0000-7000-8000-000000000000";
    api.get(unknown).await.problem(404, "not_found");
    let key = api.key("acme", "rules:read").await;
    let headers = [("x-api-key", key.as_str())];
    for path in ["/v1/alerts", unknown] {
        let got = api.call(http::Method::GET, path, &headers, "").await;
        got.problem(403, "missing_scope");
    }
}

/// The store writes the object, the document describes it.
#[tokio::test]
async fn an_alert_is_what_the_document_says() {
    let api = TestApi::start(config()).await;
    let key = api.key("acme", "alerts:read").await;
    let id = "0198c0de-0000-7000-8000-000000000000";
    api.store.put_alert("acme", id, "r1", "confirmed").await.unwrap();
    let path = format!("/v1/alerts/{id}");
    let got = api.call(http::Method::GET, &path, &[("x-api-key", key.as_str())], "").await.json();
    let document = api.get("/openapi.json").await.json();
    let schema = &document["components"]["schemas"]["Alert"];
    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect();
    let members: BTreeSet<String> = names(&got);
    assert_eq!(members, names(&schema["properties"]));
    let list = &api.call(http::Method::GET, "/v1/alerts", &[("x-api-key", key.as_str())], "").await;
    assert_eq!(list.json()["items"][0], got);
}
