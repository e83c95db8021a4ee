//! JSON-RPC framing: what clients send, and what they must get back.

use std::time::Duration;

use http::Method;
use lookout_chain::{AnswerMeta, Attempt, Level, NodeError};
use lookout_store::{Scope, Scopes};
use serde_json::Value;

use super::*;
use crate::testing::{Got, TestApi, config};
use crate::{ApiConfig, Limits};

async fn post(api: &TestApi, body: &str) -> Got {
    api.call(Method::POST, "/v1/rpc/ethereum", &[], body).await
}

fn joined(parts: [Bytes; 3]) -> String {
    parts.iter().map(|part| std::str::from_utf8(part).unwrap()).collect()
}

fn check_invalid(request: &str, id: &str) {
    let raw: &RawValue = serde_json::from_str(request).unwrap();
    let Err(invalid) = read(raw) else { panic!("{request} was taken") };
    assert_eq!(invalid.id, id, "{request}");
    let error: Value = serde_json::from_str(invalid.error.get()).unwrap();
    assert_eq!(error["code"], RPC_INVALID_REQUEST, "{request}");
}

#[test]
fn ids_and_params_are_kept_as_they_came() {
    for id in ["1", "\"a\\u0062\"", "null", "123456789012345678901234567890", "1.50", "-0"] {
        let text = format!(r#"{{"id":{id},"jsonrpc":"2.0","method":"m","params":[ 1.0, {{}} ]}}"#);
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        let Ok((got, valid)) = read(raw) else { panic!("{id} was refused") };
        assert_eq!(got, Some(id));
        assert_eq!(valid.method, "m");
        assert_eq!(valid.params.unwrap().get(), "[ 1.0, {} ]");
    }
    let raw: &RawValue =
        serde_json::from_str(r#"{"jsonrpc":"2.0","method":"m","params":null}"#).unwrap();
    let Ok((id, valid)) = read(raw) else { panic!("refused") };
    assert!(id.is_none() && valid.params.is_none());
}

#[test]
fn requests_of_a_wrong_form_are_invalid_under_their_id() {
    for (request, id) in [
        ("1", "null"),
        ("\"eth_blockNumber\"", "null"),
        ("null", "null"),
        ("{}", "null"),
        (r#"{"jsonrpc":"2.0","id":7}"#, "7"),
        (r#"{"jsonrpc":"2.0","id":7,"method":1}"#, "7"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"m","params":"x"}"#, "7"),
        (r#"{"jsonrpc":"1.0","id":"a","method":"m"}"#, "\"a\""),
        (r#"{"id":7,"method":"m"}"#, "7"),
        (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, "null"),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"m"}"#, "null"),
        (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, "null"),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, "null"),
    ] {
        check_invalid(request, id);
    }
}

#[test]
fn results_and_errors_are_the_nodes_own_byte_for_byte() {
    let meta = AnswerMeta {
        block: None,
        level: Level::Single,
        note: None,
        upstream: None,
        cached: false,
        upstream_time: Duration::ZERO,
    };
    let result = Bytes::from_static(b"{ \"a\" : 1e400 }");
    assert_eq!(
        joined(entry("\"x\"", &Ok(Answer { result, meta }))),
        r#"{"jsonrpc":"2.0","id":"x","result":{ "a" : 1e400 }}"#
    );
    let text = r#"{ "code":3, "message":"execution reverted", "data":"0x08c3", "extra":[] }"#;
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    let node = NodeError { code: 3, message: "execution reverted".into(), raw };
    assert_eq!(
        joined(entry("null", &Err(chain_error(&ChainError::Node(node))))),
        format!(r#"{{"jsonrpc":"2.0","id":null,"error":{text}}}"#)
    );
}

#[test]
fn own_errors_have_the_codes_that_clients_know() {
    let check = |error: ChainError, code: i64, message: &str| {
        let got: Value = serde_json::from_str(chain_error(&error).get()).unwrap();
        assert_eq!(got["code"], code);
        assert_eq!(got["message"], message);
    };
    check(
        ChainError::Method("eth_mine".into()),
        -32601,
        "the method eth_mine does not exist/is not available",
    );
    check(ChainError::Invalid("no block `x`".into()), -32602, "no block `x`");
    check(ChainError::NotFound("no block 9".into()), -32001, "no block 9");
    let attempts = vec![Attempt { upstream: "one".into(), problem: "timed out".into() }];
    check(
        ChainError::Upstreams { chain: "a".into(), attempts },
        -32603,
        "no upstream of chain `a` could answer: `one` timed out",
    );
}

#[tokio::test]
async fn problems_of_the_whole_request_speak_to_both_kinds_of_client() {
    let api = TestApi::start(ApiConfig { batch_max: 3, body_bytes_max: 2000, ..config() }).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"eth_mine"}"#;
    let four = format!("[{call},{call},{call},{call}]");
    let big = format!("[{}]", " ".repeat(2000));
    for (body, status, code, rpc_code, says) in [
        ("{", 400, "malformed_json", RPC_PARSE_CODE, "line 1"),
        ("", 400, "malformed_json", RPC_PARSE_CODE, "not JSON"),
        ("[1,", 400, "malformed_json", RPC_PARSE_CODE, "not JSON"),
        ("[]", 400, "empty_batch", RPC_INVALID_REQUEST, "at least one"),
        (four.as_str(), 413, "batch_too_large", RPC_LIMIT, "at most 3 requests, this one 4"),
        (big.as_str(), 413, "body_too_large", RPC_LIMIT, "2000 bytes"),
    ] {
        let got = post(&api, body).await;
        assert!(got.problem(status, code).contains(says), "{}", got.text);
        let body = got.json();
        assert_eq!((&body["jsonrpc"], &body["id"]), (&"2.0".into(), &Value::Null));
        assert_eq!(body["error"]["code"], rpc_code);
        assert_eq!(body["error"]["message"], body["detail"]);
    }
    let got = api.call(Method::POST, "/v1/rpc/etherium", &[], call).await;
    assert!(got.problem(404, "unknown_chain").contains("ethereum"));
    assert_eq!(got.json()["jsonrpc"], "2.0");
}

const RPC_PARSE_CODE: i64 = crate::error::RPC_PARSE;

#[tokio::test]
async fn a_batch_fails_in_part_and_keeps_its_order() {
    let api = TestApi::start(config()).await;
    let body = r#" [ {"jsonrpc":"2.0","id":"a","method":7}, 5,
        {"jsonrpc":"2.0","id":"b","params":[]},
        {"jsonrpc":"1","method":"m"} ]"#;
    let got = post(&api, body).await;
    assert_eq!(got.status, 200);
    let entries = got.json();
    let ids: Vec<&Value> = entries.as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
    assert_eq!(ids, [&Value::from("a"), &Value::Null, &Value::from("b"), &Value::Null]);
    for entry in entries.as_array().unwrap() {
        assert_eq!(entry["error"]["code"], RPC_INVALID_REQUEST);
        assert_eq!(entry["jsonrpc"], "2.0");
    }
}

#[tokio::test]
async fn notifications_get_no_answer() {
    let api = TestApi::start(config()).await;
    let note = r#"{"jsonrpc":"2.0","method":"eth_mine"}"#;
    for body in [note.to_owned(), format!("[{note},{note}]")] {
        let got = post(&api, &body).await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (204, ""));
    }
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let api = TestApi::start(config()).await;
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("content-type", kind)];
        let got = api.call(Method::POST, "/v1/rpc/1", &headers, "5").await;
        assert_eq!(
            (got.status.as_u16(), &got.json()["error"]["code"]),
            (200, &RPC_INVALID_REQUEST.into())
        );
    }
}

#[tokio::test]
async fn sending_needs_its_own_scope() {
    let send = r#"{"jsonrpc":"2.0","id":9,"method":"eth_sendRawTransaction","params":["0x"]}"#;
    let anonymous = Scopes::from(Scope::ChainsRead);
    let api = TestApi::start(ApiConfig { anonymous, ..config() }).await;
    let got = post(&api, send).await;
    assert!(got.problem(401, "unauthenticated").contains("chains:send"));
    assert_eq!(got.json()["id"], 9);
    assert_eq!(got.json()["error"]["code"], RPC_UNAUTHORIZED);
    let read_key = api.key("default", "chains:read").await;
    let headers = [("x-api-key", read_key.as_str())];
    let got = api.call(Method::POST, "/v1/rpc/1", &headers, send).await;
    got.problem(403, "missing_scope");
    let got = api.call(Method::POST, "/v1/rpc/1", &headers, &format!("[{send}]")).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.json()[0]["error"]["code"], RPC_UNAUTHORIZED);
    assert_eq!(got.json()[0]["id"], 9);
    let none = api.key("default", "audit:read").await;
    let headers = [("x-api-key", none.as_str())];
    let got = api.call(Method::POST, "/v1/rpc/1", &headers, &format!("[{send}]")).await;
    got.problem(403, "missing_scope");
    assert_eq!(scope_of("eth_sendRawTransaction"), Scope::ChainsSend);
    assert_eq!(scope_of("eth_call"), Scope::ChainsRead);
}

#[tokio::test]
async fn a_batch_counts_by_its_calls() {
    let limits = Limits { per_key_per_second: 0, per_address_per_second: 1, burst: 4 };
    let api = TestApi::start(ApiConfig { limits, ..config() }).await;
    assert_eq!(post(&api, "[1,2,3]").await.status, 200);
    let got = post(&api, "[1,2,3]").await;
    got.problem(429, "rate_limited");
    assert_eq!(got.json()["error"]["code"], RPC_LIMIT);
    assert!(!got.header("retry-after").is_empty());
    let other = TestApi::start(ApiConfig { limits, ..config() }).await;
    let got = post(&other, "[1,2,3,4,5,6]").await;
    assert!(got.problem(429, "rate_limited").contains("above the burst of 4"));
}
