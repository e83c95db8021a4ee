//! Each bad input gets a clear problem with the right status, and the process lives on.

use http::Method;
use lookout_test::anvil::DEV_ADDRESSES;
use lookout_test::{Behaviour, Fleet, TestApp};
use serde_json::{Value, json};

use crate::{CHAIN, LOOKOUT, caught_up, rig};

/// Asserts a problem document with this status and code, whose detail says this.
fn check(answer: &lookout_test::app::Answer, about: &str, status: u16, code: &str, says: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{about}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{about}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{about}: {text}");
    assert_eq!(problem["code"], code, "{about}: {text}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(says), "{about}: `{detail}` does not say `{says}`");
}

#[tokio::test]
async fn addresses() {
    let Some((_anvil, app)) = rig().await else { return };
    let right = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
    let (bad, sum) = ("invalid_address", "invalid_checksum");
    for (address, code, says) in [
        ("c94770007dda54cF92009BFF0dE90c06F603a09f", bad, "0x"),
        ("0xc94770007dda54cF92009BFF0dE90c06F603a0", bad, "40"),
        ("0xc94770007dda54cF92009BFF0dE90c06F603a09f00", bad, "40"),
        ("0xg94770007dda54cF92009BFF0dE90c06F603a09f", bad, "`g`"),
        ("0x", bad, "40"),
        ("vitalik.eth", bad, "0x"),
        ("0xc94770007dDa54cF92009BFF0dE90c06F603a09f", sum, right),
        ("0xc94770007dda54cf92009bff0de90c06f603a09f", sum, right),
        ("0xC94770007DDA54CF92009BFF0DE90C06F603A09F", sum, right),
    ] {
        let answer = app.get(&format!("/address/balance/{address}")).await;
        check(&answer, address, 400, code, says);
    }
    assert_eq!(app.get(&format!("/address/balance/{right}")).await.status, 200);
    // The versioned route takes lowercase too, but no wrong checksum.
    let versioned = |address: &str| format!("/v1/chains/{CHAIN}/addresses/{address}/balance");
    assert_eq!(app.get(&versioned(&right.to_lowercase())).await.status, 200);
    let wrong = "0xc94770007dDa54cF92009BFF0dE90c06F603a09f";
    check(&app.get(&versioned(wrong)).await, wrong, 400, sum, right);
    let asset = format!("{}?asset=0x12", versioned(right));
    check(&app.get(&asset).await, "asset", 400, bad, "40");
}

#[tokio::test]
async fn blocks() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(5).await.unwrap();
    caught_up(&app, &anvil).await;
    let bad = "invalid_block";
    for (block, status, code, says) in [
        ("-1", 400, bad, "-1"),
        ("1.5", 400, bad, "1.5"),
        ("abc", 400, bad, "abc"),
        ("0x", 400, bad, "0x"),
        ("1e3", 400, bad, "1e3"),
        ("%20", 400, bad, "not a block"),
        ("18446744073709551616", 400, bad, "2^64"),
        ("0x10000000000000000", 400, bad, "2^64"),
        ("18446744073709551615", 404, "not_found", "18446744073709551615"),
        ("6", 404, "not_found", "6"),
        ("1000000", 404, "not_found", "1000000"),
    ] {
        check(&app.get(&format!("/block/{block}")).await, block, status, code, says);
        let versioned = format!("/v1/chains/{CHAIN}/blocks/{block}");
        check(&app.get(&versioned).await, &versioned, status, code, says);
        let balance = format!("/address/balance/{}?block={block}", DEV_ADDRESSES[0]);
        check(&app.get(&balance).await, &balance, status, code, says);
    }
    let unknown = format!("/v1/chains/{CHAIN}/blocks/0x{}", "ab".repeat(32));
    check(&app.get(&unknown).await, "unknown hash", 404, "not_found", "");
}

#[tokio::test]
async fn names() {
    let Some((_anvil, app)) = rig().await else { return };
    check(&app.get("/v1/chains/etherium/head").await, "chain", 404, "unknown_chain", CHAIN);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    check(&app.post("/v1/rpc/etherium", &call).await, "rpc", 404, "unknown_chain", CHAIN);
    let unknown = "unknown_parameter";
    check(&app.get("/block/number?x=1").await, "parameter", 400, unknown, "`x`");
    let near = format!("/address/balance/{}?blok=1", DEV_ADDRESSES[0]);
    check(&app.get(&near).await, "near", 400, unknown, "`block`");
    check(&app.get("/v1/nothing").await, "route", 404, "unknown_route", "/docs");
    let wrong = app.send(Method::POST, "/block/number", &[], None).await.unwrap();
    check(&wrong, "method", 405, "method_not_allowed", "POST");
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    let hash = format!("/v1/chains/{CHAIN}/transactions/0x12");
    check(&app.get(&hash).await, "hash", 400, "invalid_hash", "0x12");
    let verify = format!("/v1/chains/{CHAIN}/addresses/{}/balance?verify=maybe", DEV_ADDRESSES[0]);
    check(&app.get(&verify).await, "verify", 400, "invalid_parameter", "");
}

#[tokio::test]
async fn json_rpc_bodies() {
    let Some((_anvil, app)) = rig().await else { return };
    let path = format!("/v1/rpc/{CHAIN}");
    let send = async |body: String| {
        let headers = [("content-type", "application/json")];
        app.send(Method::POST, &path, &headers, Some(body)).await.unwrap()
    };
    let answer = send("{\"jsonrpc\":".into()).await;
    check(&answer, "malformed", 400, "malformed_json", "");
    assert_eq!(answer.json()["error"]["code"], -32700);
    check(&send("[]".into()).await, "empty batch", 400, "empty_batch", "");
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
    let batch = Value::Array(vec![call; 10_000]);
    let answer = send(batch.to_string()).await;
    check(&answer, "batch of 10000", 413, "batch_too_large", "10000");
    let huge = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "x".repeat(3 << 20));
    check(&send(huge).await, "oversized", 413, "body_too_large", "");
    for method in ["evm_mine", "anvil_setBalance", "eth_sendTransaction", "personal_sign", "x"] {
        let call = json!({"jsonrpc": "2.0", "id": 3, "method": method, "params": []});
        let answer = send(call.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["error"]["code"], -32601, "{method}: {}", answer.text());
        assert_eq!(answer.json()["id"], 3);
    }
    for body in ["42", "\"x\"", "null", "{}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}"] {
        let answer = send(body.into()).await;
        assert_eq!(answer.json()["error"]["code"], -32600, "{body}: {}", answer.text());
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    // A batch of one thing that is no call.
    let answer = send(deep).await;
    assert_eq!(answer.json()[0]["error"]["code"], -32600, "{}", answer.text());
    assert_eq!(app.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn urls_beyond_any_limit() {
    let Some((_anvil, app)) = rig().await else { return };
    let long = format!("/block/{}", "1".repeat(20_000));
    let answer = app.get(&long).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert_eq!(app.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn upstreams_that_answer_nonsense() {
    let Some(anvil) = lookout_test::Anvil::for_test().await else { return };
    anvil.mine(5).await.unwrap();
    let fleet = Fleet::start(anvil.url(), 1, 5).await.unwrap();
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .chain_extra(
            "call_timeout_ms = 400\nrequest_timeout_ms = 1200\nresponse_bytes_max = 1000000",
        )
        .start()
        .await
        .unwrap();
    // Heads stay as they are: only what clients ask for goes wrong.
    const ASKED: &[&str] = &["eth_getBalance", "eth_getProof", "eth_call"];
    for behaviour in [
        Behaviour::Html,
        Behaviour::TruncatedBody,
        Behaviour::NotJson,
        Behaviour::EmptyResponse,
        Behaviour::ErrorInside200,
        Behaviour::RpcRateLimit,
        Behaviour::status(500),
        Behaviour::status(429),
        Behaviour::OversizedBody { megabytes: 2 },
        Behaviour::ConnectionReset,
        Behaviour::NullResults,
        Behaviour::Silent,
    ] {
        fleet[0].set([behaviour.clone().only(ASKED)]);
        let answer = app.get(&format!("/address/balance/{}", DEV_ADDRESSES[0])).await;
        check(&answer, &format!("{behaviour:?}"), 502, "upstream_failed", "");
        assert!(!answer.text().contains("DOCTYPE"), "{behaviour:?}: {}", answer.text());
    }
    fleet.heal();
    let path = format!("/address/balance/{}", DEV_ADDRESSES[0]);
    app.wait_for(&path, |answer| answer.status == 200).await.unwrap();
}
