//! Labels over HTTP.

use http::Method;
use serde_json::json;

use crate::testing::{TestApi, config};

const ONE: &str = "0x0000000000000000000000000000000000000001";
const TWO: &str = "0x0000000000000000000000000000000000000002";

#[tokio::test]
async fn a_label_is_set_used_and_deleted() {
    let api = TestApi::start(config()).await;
    let put = async |name: &str, body: &str| {
        api.call(Method::PUT, &format!("/v1/labels/{name}"), &[], body).await
    };
    let made = put("treasury", &json!({"addresses": [TWO, ONE, ONE]}).to_string()).await.json();
    assert_eq!((&made["name"], &made["rules"]), (&"treasury".into(), &0.into()));
    assert_eq!(made["addresses"], json!([ONE, TWO]));
    let rule = json!({
        "name": "a", "chain": "ethereum", "condition": "from in labels[\"treasury\"]",
        "watch": {"kind": "transfer", "asset": "any"},
    });
    let rule = api.call(Method::POST, "/v1/rules", &[], &rule.to_string()).await.json();
    let got = put("treasury", &json!({"addresses": [ONE]}).to_string()).await;
    assert_eq!(got.json()["rules"], 1);
    let path = format!("/v1/rules/{}", rule["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.json()["version"], 2);
    let list = api.get("/v1/labels?limit=1").await.json();
    assert_eq!(list["items"][0]["addresses"], json!([ONE]));
    let next = format!("/v1/labels?cursor={}", list["next"].as_str().unwrap());
    assert_eq!(api.get(&next).await.json(), json!({"items": [], "next": null}));

    let got = api.call(Method::DELETE, "/v1/labels/treasury", &[], "").await;
    assert!(got.problem(409, "conflict").contains("is used by 1 rules"));
    api.call(Method::DELETE, &path, &[], "").await;
    assert_eq!(api.call(Method::DELETE, "/v1/labels/treasury", &[], "").await.status, 204);
    api.call(Method::DELETE, "/v1/labels/treasury", &[], "").await.problem(404, "not_found");
}

#[tokio::test]
async fn wrong_labels_are_refused() {
    let api = TestApi::start(config()).await;
    for (name, body, code, reason) in [
        ("x", json!({"addresses": ["0x1"]}), "invalid_address", "`addresses[0]` is `0x1`"),
        ("x", json!({"addresses": []  , "more": 1}), "invalid_body", "unknown field `more`"),
        ("x", json!({"addresses": vec![ONE; 20_001]}), "", ""),
        ("%00", json!({"addresses": []}), "invalid_request", "printable ASCII"),
        ("%C3%A9", json!({"addresses": []}), "invalid_request", "printable ASCII"),
    ] {
        let path = format!("/v1/labels/{name}");
        let got = api.call(Method::PUT, &path, &[], &body.to_string()).await;
        if code.is_empty() {
            // Twenty thousand times the same address is one address.
            assert_eq!(got.json()["addresses"], json!([ONE]));
            continue;
        }
        let detail = got.problem(400, code);
        assert!(detail.contains(reason), "{detail}");
    }
    let many: Vec<_> = (0..10_001).map(|n| format!("0x{n:040x}")).collect();
    let body = json!({"addresses": many}).to_string();
    let got = api.call(Method::PUT, "/v1/labels/x", &[], &body).await;
    assert!(got.problem(400, "invalid_request").contains("at most 10000 addresses"));
}
