//! Keys over HTTP: made, used, revoked, audited, and never another tenant's.

use http::Method;
use serde_json::{Value, json};

use crate::testing::{Got, TestApi, config};

async fn create(api: &TestApi, key: Option<&str>, body: &Value) -> Got {
    let headers: Vec<_> = key.iter().map(|key| ("x-api-key", *key)).collect();
    api.call(Method::POST, "/v1/keys", &headers, &body.to_string()).await
}

#[tokio::test]
async fn a_key_lives_and_ends_over_http() {
    let api = TestApi::start(config()).await;
    let wanted = json!({ "name": "admin", "scopes": ["*"] });
    let got = create(&api, None, &wanted).await;
    assert_eq!(got.status, 201, "{}", got.text);
    assert_eq!(got.header("cache-control"), "no-store");
    let made = got.json();
    let admin = made["key"].as_str().unwrap().to_owned();
    assert_eq!((&made["tenant"], &made["scopes"]), (&"default".into(), &json!(["*"])));
    assert_eq!(made["createdAt"], "2025-10-09T08:53:20Z");

    let wanted = json!({
        "name": "reader", "scopes": ["chains:read", "keys:read"], "expiresAt": "2036-01-01T00:00:00Z",
    });
    let reader = create(&api, Some(&admin), &wanted).await.json();
    assert_eq!(reader["expiresAt"], "2036-01-01T00:00:00Z");
    let reader_key = reader["key"].as_str().unwrap();
    let headers = [("x-api-key", reader_key)];
    let list = api.call(Method::GET, "/v1/keys", &headers, "").await;
    assert!(!list.text.contains(&admin) && !list.text.contains(reader_key), "secrets are shown");
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 2);

    let path = format!("/v1/keys/{}", reader["id"].as_str().unwrap());
    api.call(Method::DELETE, &path, &headers, "").await.problem(403, "missing_scope");
    let by_admin = [("x-api-key", admin.as_str())];
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, &by_admin, "").await.status, 204);
    }
    api.call(Method::GET, "/v1/keys", &headers, "").await.problem(401, "unauthenticated");
    let audit = api.call(Method::GET, "/v1/audit", &by_admin, "").await.json();
    let items = audit["items"].as_array().unwrap();
    let actions: Vec<&str> = items.iter().map(|item| item["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.revoke", "key.create", "key.create", "tenant.create"]);
    assert_eq!(items[0]["target"], reader["id"]);
    assert!(items[0]["actor"].as_str().unwrap().starts_with("key:"));
}

#[tokio::test]
async fn a_key_cannot_hand_out_more_than_it_has() {
    let api = TestApi::start(config()).await;
    let key = api.key("acme", "keys:write,chains:read").await;
    for (wanted, status, code) in [
        (json!({ "name": "x", "scopes": ["chains:send"] }), 403, "missing_scope"),
        (json!({ "name": "x", "scopes": ["*"] }), 403, "missing_scope"),
        (
            json!({ "name": "x", "scopes": ["chains:read"], "tenant": "other" }),
            403,
            "missing_scope",
        ),
        (json!({ "name": "x", "scopes": ["chains:reed"] }), 400, "invalid_body"),
        (json!({ "name": "x", "scopes": [] }), 400, "invalid_body"),
        (json!({ "name": "x" }), 400, "invalid_body"),
        (json!({ "name": "x", "scopes": ["chains:read"], "extra": 1 }), 400, "invalid_body"),
        (json!({ "name": "", "scopes": ["chains:read"] }), 400, "invalid_body"),
        (
            json!({ "name": "x", "scopes": ["chains:read"], "expiresAt": "soon" }),
            400,
            "invalid_body",
        ),
        (
            json!({ "name": "x", "scopes": ["chains:read"], "expiresAt": "2020-01-01T00:00:00Z" }),
            400,
            "invalid_body",
        ),
    ] {
        create(&api, Some(&key), &wanted).await.problem(status, code);
    }
    let headers = [("x-api-key", key.as_str())];
    api.call(Method::POST, "/v1/keys", &headers, "{").await.problem(400, "malformed_json");
    let got = create(&api, Some(&key), &json!({ "name": "x", "scopes": ["chains:read"] })).await;
    assert_eq!((got.status.as_u16(), &got.json()["tenant"]), (201, &"acme".into()));
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let api = TestApi::start(config()).await;
    let acme = api.key("acme", "*").await;
    let other = api.key("other", "*").await;
    let as_acme = [("x-api-key", acme.as_str())];
    let as_other = [("x-api-key", other.as_str())];
    let keys = api.call(Method::GET, "/v1/keys", &as_other, "").await.json();
    let id = keys["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(keys["items"].as_array().unwrap().len(), 1);
    let path = format!("/v1/keys/{id}");
    api.call(Method::DELETE, &path, &as_acme, "").await.problem(404, "not_found");
    for id in ["x", "%00", "0198c0de-0000-7000-8000-000000000000"] {
        let path = format!("/v1/keys/{id}");
        api.call(Method::DELETE, &path, &as_acme, "").await.problem(404, "not_found");
    }
    let tenants = api.call(Method::GET, "/v1/tenants", &as_acme, "").await.json();
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1);
    assert_eq!(tenants["items"][0]["id"], "acme");
    assert_eq!(api.call(Method::GET, "/v1/keys", &as_other, "").await.status, 200);
}

#[tokio::test]
async fn pages_follow_one_another_without_gap_or_repeat() {
    let api = TestApi::start(config()).await;
    let key = api.key("default", "*").await;
    for _ in 0..4 {
        api.clock.advance(1);
        api.key("default", "chains:read").await;
    }
    let headers = [("x-api-key", key.as_str())];
    let mut seen = Vec::new();
    let mut path = "/v1/keys?limit=2".to_owned();
    loop {
        let page = api.call(Method::GET, &path, &headers, "").await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|key| key["id"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/keys?limit=2&cursor={next}");
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice: {seen:?}");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=zz", "cursor="] {
        let path = format!("/v1/keys?{query}");
        api.call(Method::GET, &path, &headers, "").await.problem(400, "invalid_parameter");
    }
}
