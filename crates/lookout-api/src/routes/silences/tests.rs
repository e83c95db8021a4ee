//! Silences over HTTP: made, listed, ended.

use http::Method;
use serde_json::{Value, json};

use crate::testing::{Got, TestApi, config};

async fn post(api: &TestApi, body: &Value) -> Got {
    api.call(Method::POST, "/v1/silences", &[], &body.to_string()).await
}

#[tokio::test]
async fn a_silence_begins_and_ends() {
    let api = TestApi::start(config()).await;
    let wanted = json!({ "chains": ["ethereum", "137"], "comment": "upgrade", "endsAt": "2025-10-09T09:00:00Z" });
    let got = post(&api, &wanted).await;
    assert_eq!(got.status, 201, "{}", got.text);
    let made = got.json();
    assert_eq!((&made["chains"], &made["active"]), (&json!([1, 137]), &json!(true)));
    assert_eq!((&made["rules"], &made["startsAt"]), (&json!([]), &json!("2025-10-09T08:53:20Z")));
    let later =
        json!({ "startsAt": "2025-10-09T10:00:00+01:00", "endsAt": "2025-10-09T11:00:00Z" });
    let later = post(&api, &later).await.json();
    assert_eq!(
        (&later["active"], &later["startsAt"]),
        (&json!(false), &json!("2025-10-09T09:00:00Z"))
    );
    let list = api.get("/v1/silences").await.json();
    assert_eq!(list["items"], json!([later, made]));
    let path = format!("/v1/silences/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, &[], "").await.status, 204);
    }
    assert_eq!(api.get("/v1/silences").await.json()["items"], json!([later]));
    for id in ["x", "0198c0de-0000-7000-8000-000000000000"] {
        let path = format!("/v1/silences/{id}");
        api.call(Method::DELETE, &path, &[], "").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn wrong_silences_are_refused_by_what_is_wrong() {
    let api = TestApi::start(config()).await;
    let end = "2025-10-09T09:00:00Z";
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    for (body, reason) in [
        (json!({}), "missing field `endsAt`"),
        (json!({ "endsAt": "soon" }), "`endsAt` is a time such as"),
        (json!({ "endsAt": end, "startsAt": "now" }), "`startsAt` is a time such as"),
        (json!({ "endsAt": "2025-10-09T08:00:00Z" }), "must end in the future"),
        (json!({ "endsAt": "2035-10-09T08:00:00Z" }), "at most a year"),
        (json!({ "endsAt": end, "channels": [unknown] }), "no channel `0198c0de"),
        (json!({ "endsAt": end, "rules": [unknown] }), "no rule `0198c0de"),
        (json!({ "endsAt": end, "rules": ["all\u{0}"] }), "`rules` holds ids"),
        (json!({ "endsAt": end, "comment": "x".repeat(501) }), "at most 500 bytes"),
        (json!({ "endsAt": end, "for": "1h" }), "unknown field `for`"),
    ] {
        let detail = post(&api, &body).await.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{body}: {detail}");
    }
    post(&api, &json!({ "endsAt": end, "chains": ["etherium"] }))
        .await
        .problem(404, "unknown_chain");
    let key = api.key("acme", "channels:read").await;
    let headers = [("x-api-key", key.as_str())];
    let body = json!({ "endsAt": end }).to_string();
    let got = api.call(Method::POST, "/v1/silences", &headers, &body).await;
    got.problem(403, "missing_scope");
}
