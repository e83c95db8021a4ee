//! Alerts over HTTP. What is in the table is tested with the store, which fills it.

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
