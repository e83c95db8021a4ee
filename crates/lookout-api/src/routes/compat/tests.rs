//! The compatible shapes, and what bad input gets.

use std::time::Duration;

use lookout_chain::{AnswerMeta, Level};
use lookout_types::{Amount, BlockRef, Hash};
use serde_json::json;

use super::*;
use crate::testing::{TestApi, config};

const RIGHT: &str = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";

fn meta(cached: bool) -> AnswerMeta {
    AnswerMeta {
        block: Some(BlockRef { number: 16, hash: Hash([0xab; 32]) }),
        level: Level::Single,
        note: None,
        upstream: Some("one".into()),
        cached,
        upstream_time: Duration::from_micros(12_900),
    }
}

fn shown(amount: &str, cached: bool) -> serde_json::Value {
    let amount: Amount = amount.parse().unwrap();
    let balance = Balance { amount, decimals: Some(18), meta: meta(cached) };
    let address = RIGHT.parse().unwrap();
    let answer = balance_answer(address, MAINNET, BlockSelector::Latest, &balance, 17);
    serde_json::to_value(answer).unwrap()
}

#[test]
fn a_balance_has_exactly_the_fields_that_clients_read() {
    assert_eq!(
        shown("1500000000000000000", false),
        json!({
            "address": RIGHT,
            "network": "mainnet",
            "blockTag": "latest",
            "balance": "1.5",
            "balanceWei": "1500000000000000000",
            "rpcLatencyMs": 12,
            "headBlockNumber": "0x11",
            "blockNumber": 16,
            "blockHash": format!("0x{}", "ab".repeat(32)),
            "level": "single",
            "note": null,
            "upstream": "one",
            "cached": false,
        })
    );
    assert_eq!(shown("0", true)["rpcLatencyMs"], 0);
}

#[test]
fn amounts_are_right_to_the_wei() {
    let huge = "1606938044258990275541962092341162602522202993782792835301376";
    for (wei, ether) in [
        ("0", "0"),
        ("1", "0.000000000000000001"),
        (huge, "1606938044258990275541962092341162602522202.993782792835301376"),
    ] {
        let shown = shown(wei, false);
        assert_eq!((&shown["balanceWei"], &shown["balance"]), (&wei.into(), &ether.into()));
    }
}

#[tokio::test]
async fn blocks_are_spliced_into_the_envelope_byte_for_byte() {
    assert_eq!(number_envelope(0), r#"{"jsonrpc":"2.0","id":1,"result":"0x0"}"#);
    assert_eq!(number_envelope(255), r#"{"jsonrpc":"2.0","id":1,"result":"0xff"}"#);
    let result = Bytes::from_static(b"{\"number\": \"0x10\" }");
    let response = block_response(Answer { result, meta: meta(true) });
    assert_eq!(response.headers()["lookout-cache"], "hit");
    assert_eq!(response.headers()["lookout-block-number"], "16");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(body, r#"{"jsonrpc":"2.0","id":1,"result":{"number": "0x10" }}"#);
}

#[tokio::test]
async fn what_is_no_height_is_refused_before_any_upstream_is_asked() {
    let api = TestApi::start(config()).await;
    for bad in ["-1", "1.5", "abc", "0x", "0xzz", "latest", "%201", "+1", "1e3"] {
        let detail = api.get(&format!("/block/{bad}")).await.problem(400, "invalid_block");
        assert!(detail.contains("decimal or 0x-hex"), "{bad}: {detail}");
    }
    for high in ["18446744073709551616", "0x10000000000000000"] {
        let detail = api.get(&format!("/block/{high}")).await.problem(400, "invalid_block");
        assert!(detail.contains("below 2^64"), "{detail}");
    }
}

#[tokio::test]
async fn a_wrong_address_is_told_what_is_wrong_with_it() {
    let api = TestApi::start(config()).await;
    for (address, code, says) in [
        ("0xc94770007dDa54cF92009BFF0dE90c06F603a09f", "invalid_checksum", RIGHT),
        ("0xc94770007dda54cf92009bff0de90c06f603a09f", "invalid_checksum", RIGHT),
        ("0xC94770007DDA54CF92009BFF0DE90C06F603A09F", "invalid_checksum", RIGHT),
        ("c94770007dda54cF92009BFF0dE90c06F603a09f", "invalid_address", "starts with `0x`"),
        ("0xc94770", "invalid_address", "this one has 6"),
        ("0xg94770007dda54cF92009BFF0dE90c06F603a09f", "invalid_address", "`g` at position 3"),
    ] {
        let got = api.get(&format!("/address/balance/{address}")).await;
        let detail = got.problem(400, code);
        assert!(detail.contains(says), "{address}: {detail}");
    }
    let got = api.get(&format!("/address/balance/{RIGHT}?block=pending")).await;
    assert!(got.problem(400, "invalid_block").contains("`pending`"));
    // The versioned route takes any capitalisation that claims nothing wrong.
    let path = |address: &str| format!("/v1/chains/1/addresses/{address}/balance");
    let got = api.get(&path("0xc94770007dDa54cF92009BFF0dE90c06F603a09f")).await;
    assert!(got.problem(400, "invalid_checksum").contains(RIGHT));
    let got = api.get(&path(&RIGHT.to_ascii_lowercase())).await;
    assert!(got.status.is_server_error(), "the chain is asked: {}", got.text);
}
