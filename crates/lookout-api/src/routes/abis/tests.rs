//! ABIs over HTTP: uploaded, used by name, deleted, restored, and never another tenant's.

use http::Method;
use serde_json::{Value, json};

use crate::testing::{Got, TestApi, config};

async fn upload(api: &TestApi, body: &Value) -> Got {
    api.call(Method::POST, "/v1/abis", &[], &body.to_string()).await
}

#[tokio::test]
async fn an_abi_lives_by_its_name_and_comes_back() {
    let api = TestApi::start(config()).await;
    let text = "event Sent(address indexed to, uint256 value)\nfunction send(address to)";
    let entries = json!([{
        "type": "event", "name": "Sent", "anonymous": false,
        "inputs": [{ "name": "to", "type": "address", "indexed": true }],
    }]);
    for (name, abi) in [
        ("lines", json!(text)),
        ("entries", entries.clone()),
        ("artifact", json!({ "abi": entries, "bytecode": "0x" })),
        ("text", json!(entries.to_string())),
    ] {
        let got = upload(&api, &json!({ "name": name, "abi": abi })).await;
        assert_eq!(got.status, 201, "{}", got.text);
        assert_eq!((&got.json()["name"], got.json()["id"].is_string()), (&name.into(), true));
    }
    let list = api.get("/v1/abis?limit=3").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    assert_eq!(list["items"][0]["name"], "text");
    let got = api.get("/v1/abis/lines").await.json();
    assert_eq!((&got["abi"], &got["functions"]), (&text.into(), &json!(["send(address)"])));
    assert_eq!(got["events"][0]["signature"], "Sent(address,uint256)");
    assert_eq!(got["events"][0]["arguments"][1]["type"], "uint256");
    let id = got["id"].as_str().unwrap().to_owned();
    assert_eq!(api.get(&format!("/v1/abis/{id}")).await.json(), got);

    let path = format!("/v1/abis/{id}");
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, &[], "").await.status, 204);
    }
    api.get("/v1/abis/lines").await.problem(404, "not_found");
    api.get(&path).await.problem(404, "not_found");
    let got = api.get("/v1/chains/1/events?decode=lines").await;
    assert!(got.problem(400, "invalid_parameter").contains("no ABI `lines`"));
    let restore = format!("{path}/restore");
    assert_eq!(api.call(Method::POST, &restore, &[], "").await.status, 200);
    assert_eq!(api.get("/v1/chains/1/events?decode=lines").await.status, 200);
    // Deleted, and the name taken in between.
    api.call(Method::DELETE, &path, &[], "").await;
    assert_eq!(upload(&api, &json!({ "name": "lines", "abi": entries })).await.status, 201);
    api.call(Method::POST, &restore, &[], "").await.problem(409, "conflict");
}

#[tokio::test]
async fn built_in_ones_are_shown_and_stay() {
    let api = TestApi::start(config()).await;
    let got = api.get("/v1/abis/erc20").await.json();
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    assert_eq!((&got["id"], &got["events"][0]["topic0"]), (&Value::Null, &transfer.into()));
    let got = upload(&api, &json!({ "name": "erc20", "abi": ["event A()"] })).await;
    assert!(got.problem(400, "invalid_body").contains("is built in"));
    api.call(Method::DELETE, "/v1/abis/erc20", &[], "").await.problem(404, "not_found");
}

#[tokio::test]
async fn what_is_no_abi_is_refused_with_the_reason() {
    let api = TestApi::start(config()).await;
    for (body, code, reason) in [
        ("{", "malformed_json", "no ABI request"),
        ("{}", "invalid_body", "missing field `name`"),
        (r#"{"name":"a","abi":[],"x":1}"#, "invalid_body", "unknown field `x`"),
        (r#"{"name":"a","abi":5}"#, "invalid_body", "neither array nor object"),
        (r#"{"name":"a","abi":"hello"}"#, "invalid_body", "not a JSON array"),
        (r#"{"name":"a","abi":{"x":1}}"#, "invalid_body", "has no `abi` member"),
        (r#"{"name":"a","abi":["event A(uint7)"]}"#, "invalid_body", "entry 0 of the ABI"),
        (r#"{"name":"a","abi":["event A("]}"#, "invalid_body", "entry 0 of the ABI"),
        (r#"{"name":"a","abi":[{"type":"event"}]}"#, "invalid_body", "entry 0 of the ABI (event)"),
        (r#"{"name":"a","abi":[]}"#, "invalid_body", "neither events nor functions"),
        (r#"{"name":"A b","abi":["event A()"]}"#, "invalid_body", "is not a name of an ABI"),
        (r#"{"name":"a\u0000","abi":["event A()"]}"#, "invalid_body", "is not a name of an ABI"),
    ] {
        let got = api.call(Method::POST, "/v1/abis", &[], body).await;
        let detail = got.problem(400, code);
        assert!(detail.contains(reason), "{body}: {detail}");
    }
    let large = json!({ "name": "a", "abi": "x".repeat(2 << 20) });
    upload(&api, &large).await.problem(413, "body_too_large");
    // Deep nesting ends neither the parser nor the server.
    let deep = format!(r#"{{"name":"a","abi":{}}}"#, "[".repeat(100_000));
    api.call(Method::POST, "/v1/abis", &[], &deep).await.problem(400, "malformed_json");
    assert_eq!(api.get("/v1/abis").await.json()["items"], json!([]));
    for id in ["%00", "a%20b", "..", &"x".repeat(65)] {
        api.get(&format!("/v1/abis/{id}")).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn tenants_and_scopes_are_apart() {
    let api = TestApi::start(config()).await;
    let ours = api.key("acme", "rules:write,rules:read,events:read").await;
    let theirs = api.key("other", "rules:write,rules:read,events:read").await;
    let reader = api.key("acme", "rules:read").await;
    let by = |key: &str| [("x-api-key".to_owned(), key.to_owned())];
    let call = |method: Method, path: String, key: String, body: &'static str| {
        let api = &api;
        async move {
            let headers = by(&key);
            let headers = headers.each_ref().map(|(n, v)| (n.as_str(), v.as_str()));
            api.call(method, &path, &headers, body).await
        }
    };
    let body = r#"{"name":"vault","abi":["event A()"]}"#;
    let list = || "/v1/abis".to_owned();
    call(Method::POST, list(), reader.clone(), body).await.problem(403, "missing_scope");
    let made = call(Method::POST, list(), ours.clone(), body).await.json();
    let path = format!("/v1/abis/{}", made["id"].as_str().unwrap());
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, "/v1/abis/vault".to_owned()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/restore")),
    ] {
        call(method, path, theirs.clone(), "").await.problem(404, "not_found");
    }
    assert_eq!(call(Method::GET, list(), theirs.clone(), "").await.json()["items"], json!([]));
    let used = "/v1/chains/1/events?decode=vault".to_owned();
    call(Method::GET, used.clone(), theirs, "").await.problem(400, "invalid_parameter");
    assert_eq!(call(Method::GET, used, ours, "").await.status, 200);
    assert_eq!(call(Method::GET, path, reader, "").await.status, 200);
}
