//! Rules over HTTP: saved, changed, tried out, refused with the place of the mistake.

use std::sync::Arc;

use http::Method;
use lookout_chain::Wants;
use lookout_rules::{RuleDocument, RuleId, RuleSource, builtin_abi};
use lookout_types::{
    Address, BlockRef, ChainId, Frame, Hash, Log, Step, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE,
};
use serde_json::{Value, json};

use super::fit::require_kept;
use crate::testing::{Got, TestApi, config};

const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

fn usdc() -> Value {
    json!({
        "name": "Large USDC transfer", "chain": "ethereum",
        "watch": {"kind": "event", "abi": "erc20", "event": "Transfer", "addresses": [USDC]},
        "condition": "value > units(\"1000000\", 6)", "confirmations": 3, "channels": [],
    })
}

fn with(member: &str, value: Value) -> Value {
    let mut rule = usdc();
    rule[member] = value;
    rule
}

async fn post(api: &TestApi, path: &str, body: &Value) -> Got {
    api.call(Method::POST, path, &[], &body.to_string()).await
}

async fn save(api: &TestApi, rule: &Value) -> Value {
    let got = post(api, "/v1/rules", rule).await;
    assert_eq!(got.status, 201, "{}", got.text);
    got.json()
}

/// Block `n` of a chain, 12 seconds after the one before, with a transfer of USDC of `n` million.
fn block(n: u64) -> Arc<Frame> {
    let hash = |n: u64| {
        let mut hash = Hash::default();
        hash.0[24..].copy_from_slice(&n.to_be_bytes());
        hash
    };
    let log = Log {
        address: USDC.parse().unwrap(),
        topics: vec![TRANSFER, hash(7), hash(8)],
        data: hash(n * 1_000_000_000_000).0.to_vec().into(),
        transaction_hash: hash(n + 1000),
        transaction_index: 0,
        log_index: 0,
    };
    Arc::new(Frame {
        chain: ChainId(1),
        sequence: n - 99,
        step: Step::Apply,
        block: BlockRef { number: n, hash: hash(n) },
        parent: hash(n - 1),
        timestamp: 1_700_000_000 + 12 * (n - 100),
        transactions: Vec::new(),
        logs: vec![log],
    })
}

/// Blocks 100 to 119.
async fn with_blocks() -> TestApi {
    let api = TestApi::start(config()).await;
    api.warehouse.apply((100..120).map(block).collect()).await.unwrap();
    api
}

#[tokio::test]
async fn a_rule_lives_and_ends_over_http() {
    let api = TestApi::start(config()).await;
    let made = save(&api, &usdc()).await;
    assert_eq!((&made["state"], &made["version"]), (&"active".into(), &1.into()));
    assert_eq!((&made["rule"], &made["fromHeight"]), (&usdc(), &Value::Null));
    assert_eq!(made["needs"], json!({"transactions": false, "receipts": false}));
    assert_eq!((&made["notes"], &made["failures"]), (&json!([]), &json!([])));
    let path = format!("/v1/rules/{}", made["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.json(), made);

    let put = async |rule: &Value| {
        let got = api.call(Method::PUT, &path, &[], &rule.to_string()).await;
        assert_eq!(got.status, 200, "{}", got.text);
        got.json()
    };
    assert_eq!(put(&with("confirmations", 9.into())).await["version"], 1);
    assert_eq!(put(&with("condition", "value > 1".into())).await["version"], 2);
    let paused = post(&api, &format!("{path}/pause"), &json!({})).await.json();
    assert_eq!((&paused["state"], &paused["version"]), (&"paused".into(), &2.into()));
    let resumed = post(&api, &format!("{path}/resume"), &json!({})).await.json();
    assert_eq!((&resumed["state"], &resumed["version"]), (&"active".into(), &3.into()));
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, &[], "").await.status, 204);
    }
    assert_eq!(api.get(&path).await.json()["state"], "deleted");
    assert_eq!(api.get("/v1/rules").await.json()["items"], json!([]));
    let deleted = api.get("/v1/rules?state=deleted").await.json();
    assert_eq!(deleted["items"][0]["id"], made["id"]);
    let got = post(&api, &format!("{path}/pause"), &json!({})).await;
    assert!(got.problem(409, "conflict").contains("is deleted; restore it first"));
    let restored = post(&api, &format!("{path}/restore"), &json!({})).await.json();
    assert_eq!((&restored["state"], &restored["version"]), (&"active".into(), &4.into()));
    let listed = api.get("/v1/rules?chain=1&state=active").await.json();
    assert_eq!(listed["items"], json!([restored]));
    api.get("/v1/rules?chain=nope").await.problem(404, "unknown_chain");
    api.get("/v1/rules?state=gone").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn tenants_and_scopes_are_apart() {
    let api = TestApi::start(config()).await;
    let (acme, other) = (api.key("acme", "*").await, api.key("other", "*").await);
    let reader = api.key("acme", "rules:read").await;
    let call = async |method: Method, path: &str, key: &str, body: &Value| {
        api.call(method, path, &[("x-api-key", key)], &body.to_string()).await
    };
    let got = call(Method::POST, "/v1/rules", &reader, &usdc()).await;
    got.problem(403, "missing_scope");
    let made = call(Method::POST, "/v1/rules", &acme, &usdc()).await.json();
    let path = format!("/v1/rules/{}", made["id"].as_str().unwrap());
    for (method, end) in [
        (Method::GET, ""),
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/restore"),
        (Method::POST, "/backtest"),
    ] {
        let got = call(method, &format!("{path}{end}"), &other, &usdc()).await;
        got.problem(404, "not_found");
    }
    assert_eq!(call(Method::GET, "/v1/rules", &other, &json!(0)).await.json()["items"], json!([]));
    assert_eq!(call(Method::GET, &path, &reader, &json!(0)).await.json(), made);
    api.call(Method::GET, "/v1/rules/%00", &[("x-api-key", &acme)], "")
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn bad_rules_are_refused_with_the_place() {
    let api = TestApi::start(config()).await;
    let column = |column: u64| Some(("condition", column));
    let big = format!("value > {}", "9".repeat(79));
    let event = json!({"kind": "event", "abi": "erc20", "event": "Transfers"});
    let zero = json!({"kind": "count", "over": "0s", "condition": "count >= 5"});
    for (rule, place, reason) in [
        (with("condition", "value >".into()), column(8), "line 1, column 8"),
        (with("condition", "valu > 1".into()), column(1), "did you mean `value`?"),
        (with("condition", "value > \"1\"".into()), column(9), "write 1 without quotes"),
        (with("watch", event), None, "has no event `Transfers`; the nearest are `Transfer("),
        (with("condition", big.into()), column(9), "2^256"),
        (with("window", zero), None, "the window lasts 0 seconds"),
        (with("condition", "x".repeat(1_000_000).into()), column(1), "the limit is 65536"),
        (with("template", "{{ valu }}".into()), Some(("template", 4)), "`value`"),
        (with("chain", "etherium".into()), None, "known chains: ethereum"),
        (with("channels", json!(["c1"])), None, "there is no channel `c1`"),
        (with("condition", "from in labels[\"x\"]".into()), column(16), "no label `x`"),
        (with("name", " ".into()), None, "has no name"),
    ] {
        for path in ["/v1/rules", "/v1/rules/check"] {
            // Channels are only looked at when a rule is saved.
            if path == "/v1/rules/check" && rule["channels"] != json!([]) {
                continue;
            }
            let got = post(&api, path, &rule).await;
            let detail = got.problem(400, "invalid_rule");
            assert!(detail.contains(reason), "{detail}");
            let body = got.json();
            match place {
                Some((member, column)) => {
                    let found = (&body["member"], &body["line"], &body["column"]);
                    assert_eq!(found, (&member.into(), &1.into(), &column.into()), "{detail}");
                    assert!(detail.contains(&format!("column {column}")), "{detail}");
                }
                None => assert_eq!(body["column"], Value::Null, "{detail}"),
            }
        }
    }
    assert_eq!(api.get("/v1/rules").await.json()["items"], json!([]));
    let got = api.call(Method::POST, "/v1/rules", &[], "{").await;
    got.problem(400, "malformed_json");
    let got = post(&api, "/v1/rules", &with("condishun", "".into())).await;
    assert!(got.problem(400, "invalid_body").contains("unknown field `condishun`"));
    let got = post(&api, "/v1/rules", &with("condition", "x".repeat(2 << 20).into())).await;
    got.problem(413, "body_too_large");
    let abi = json!({"kind": "event", "abi": "mine", "event": "Sent"});
    let got = post(&api, "/v1/rules", &with("watch", abi)).await;
    assert!(got.problem(400, "invalid_rule").contains("there is no ABI `mine`; upload it first"));
    let got = post(&api, "/v1/rules", &with("chain", "polygon".into())).await;
    assert!(got.problem(409, "conflict").contains("set chains.polygon.follow"));
}

#[test]
fn what_is_not_kept_of_a_chain_is_refused() {
    let (one, two) = (Address([1; 20]), Address([2; 20]));
    let logs = Wants::default();
    let some = Wants { addresses: vec![one], ..Wants::default() };
    let named = Wants { topics: vec![TRANSFER], ..Wants::default() };
    let whole = Wants { whole: true, ..Wants::default() };
    let transfers =
        Wants { topics: vec![TRANSFER, TRANSFER_SINGLE, TRANSFER_BATCH], ..Wants::default() };
    let event = |addresses: Value| json!({"kind": "event", "abi": "erc20", "event": "Transfer", "addresses": addresses});
    let (one_text, two_text) = (one.to_string(), two.to_string());
    for (wants, watch, condition, reason) in [
        (&logs, event(json!([])), "", None),
        (&logs, event(json!([])), "tx.value > 1", Some("needs transactions, and")),
        (&logs, event(json!([])), "tx.status", Some("needs transactions and receipts, and")),
        (&whole, event(json!([])), "tx.status", None),
        (&logs, json!({"kind": "transaction"}), "", Some("let chains.eth.follow take whole")),
        (&logs, json!({"kind": "transfer", "asset": "native"}), "", Some("and receipts")),
        (&some, event(json!([one_text])), "", None),
        (&some, event(json!([one_text, two_text])), "", Some("add it to chains.eth.follow")),
        (&some, event(json!([])), "", Some("watches any contract")),
        (&named, event(json!([])), "", None),
        (
            &named,
            json!({"kind": "event", "abi": "erc20", "event": "Approval"}),
            "",
            Some("`Approval(address,address,uint256)` (0x8c5be1e5"),
        ),
        (
            &named,
            json!({"kind": "event", "event": "event A(uint256 a) anonymous", "addresses": [one_text]}),
            "",
            Some("is anonymous"),
        ),
        (&transfers, json!({"kind": "transfer", "asset": {"tokens": [one_text]}}), "", None),
        (
            &named,
            json!({"kind": "transfer", "asset": {"tokens": [one_text]}}),
            "",
            Some("`TransferSingle`"),
        ),
        (&some, json!({"kind": "balance", "addresses": [two_text]}), "", None),
    ] {
        let rule = json!({"name": "a", "chain": "eth", "watch": watch, "condition": condition});
        let document: RuleDocument = serde_json::from_value(rule.clone()).unwrap();
        let abi = document.abi().and_then(builtin_abi).map(str::to_owned);
        let source = RuleSource { chain: ChainId(1), document, abi, labels: [].into() };
        let compiled = source.compile(RuleId(1), 1).unwrap();
        let told = require_kept("eth", wants, &compiled);
        match (reason, told) {
            (None, told) => assert!(told.is_ok(), "{rule}: {told:?}"),
            (Some(reason), Err(error)) => {
                assert!(error.detail.contains(reason), "{}", error.detail)
            }
            (Some(_), Ok(())) => panic!("{rule} is taken"),
        }
    }
}

#[tokio::test]
async fn a_check_says_what_a_rule_is_and_matches() {
    let api = with_blocks().await;
    let labels = json!({"addresses": [USDC]});
    let set = api.call(Method::PUT, "/v1/labels/team", &[], &labels.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let rule = with("condition", "value > 1 && !(from in labels[\"team\"])".into());
    let body = post(&api, "/v1/rules/check", &rule).await.json();
    assert_eq!(
        body,
        json!({
            "watches": {
                "kind": "event", "signature": "Transfer(address,address,uint256)",
                "selector": TRANSFER.to_string(), "addresses": [USDC],
            },
            "needs": {"transactions": false, "receipts": false},
            "notes": [], "labels": ["team"], "trial": null,
        })
    );
    let body = post(&api, "/v1/rules/check?block=105", &rule).await.json();
    let trial = &body["trial"];
    assert_eq!((&trial["blocks"], &trial["matches"]), (&1.into(), &1.into()));
    assert_eq!(trial["items"][0]["block"]["number"], 105);
    let hash = format!("0x{:064x}", 1105);
    let record = json!({"kind": "log", "transaction": hash, "logIndex": 0});
    assert_eq!(trial["items"][0]["record"], record);
    assert!(trial["items"][0]["text"].as_str().unwrap().contains("value: 105000000000000"));
    let body = post(&api, "/v1/rules/check?from=110&to=300", &rule).await.json();
    assert_eq!(body["trial"]["range"], json!({"from": 110, "to": 119}));
    for query in ["block=1&from=1", "to=5"] {
        let got = post(&api, &format!("/v1/rules/check?{query}"), &rule).await;
        got.problem(400, "invalid_parameter");
    }
    let got = post(&api, "/v1/rules/check?from=5&to=4", &rule).await;
    assert!(got.problem(400, "invalid_request").contains("above `to`"));
    let got = post(&api, "/v1/rules/check?block=5", &rule).await;
    assert!(got.problem(409, "conflict").contains("blocks 100 to 119 are"));
}

#[tokio::test]
async fn a_backtest_counts_matches_alerts_and_limits() {
    let api = with_blocks().await;
    let rule = with("condition", "value >= units(\"110000000\", 6)".into());
    let body = json!({"rule": rule, "from": 0, "limit": 2});
    let got = post(&api, "/v1/rules/backtest", &body).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let answer = got.json();
    assert_eq!(answer["held"], json!({"from": 100, "to": 119}));
    assert_eq!(answer["range"], answer["held"]);
    assert_eq!((&answer["complete"], &answer["readTo"]), (&true.into(), &119.into()));
    assert_eq!((&answer["blocks"], &answer["matches"]), (&20.into(), &10.into()));
    // Three confirmations: those of blocks 117 to 119 are still to come.
    assert_eq!(answer["alerts"], 7);
    assert_eq!(answer["alertsPerDay"], json!([{"day": "2023-11-14", "alerts": 7}]));
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    assert_eq!(answer["items"][0]["blockTime"], "2023-11-14T22:15:20Z");
    assert_eq!(
        answer["channels"][0],
        json!({
            "channel": "telegramGroup", "limitPerMinute": 20, "minutesExceeded": 0,
            "longestWaitSeconds": 0,
        })
    );
    // The same by time, and of a saved rule.
    let id = save(&api, &rule).await["id"].clone();
    let path = format!("/v1/rules/{}/backtest", id.as_str().unwrap());
    let times = json!({
        "fromTime": "2023-11-14T22:15:20Z", "toTime": "2023-11-14T22:15:43.5Z",
    });
    let answer = post(&api, &path, &times).await.json();
    assert_eq!(answer["range"], json!({"from": 110, "to": 111}));
    assert_eq!((&answer["matches"], &answer["alerts"]), (&2.into(), &2.into()));
}

#[tokio::test]
async fn backtests_that_cannot_be_are_refused() {
    let api = with_blocks().await;
    let balance = json!({
        "name": "a", "chain": "1", "watch": {"kind": "balance", "addresses": [USDC]},
    });
    for (rule, range, status, code, reason) in [
        (usdc(), json!({}), 400, "invalid_body", "name the first block"),
        (usdc(), json!({"from": 1, "fromTime": "x"}), 400, "invalid_body", "not both"),
        (usdc(), json!({"fromTime": "x"}), 400, "invalid_body", "`fromTime` is a time"),
        (usdc(), json!({"from": 1, "limit": 1001}), 400, "invalid_body", "at most 1000"),
        (usdc(), json!({"from": -1}), 400, "invalid_body", "invalid value"),
        (usdc(), json!({"from": 120}), 409, "conflict", "blocks 100 to 119 are"),
        (usdc(), json!({"fromTime": "2036-01-01T00:00:00Z"}), 409, "conflict", "are"),
        (usdc(), json!({"from": 0, "toTime": "2020-01-01T00:00:00Z"}), 409, "conflict", "are"),
        (balance, json!({"from": 1}), 400, "invalid_rule", "watch transfers instead"),
    ] {
        let mut body = range;
        body["rule"] = rule;
        let got = post(&api, "/v1/rules/backtest", &body).await;
        let detail = got.problem(status, code);
        assert!(detail.contains(reason), "{detail}");
    }
    let empty = TestApi::start(config()).await;
    let body = json!({"rule": usdc(), "from": 1});
    let got = post(&empty, "/v1/rules/backtest", &body).await;
    assert!(got.problem(409, "conflict").contains("backfill it first"));
}

#[tokio::test]
async fn a_dry_run_has_a_limit_of_blocks() {
    let api = TestApi::start(config()).await;
    api.warehouse.apply((100..1101).map(block).collect()).await.unwrap();
    let got = post(&api, "/v1/rules/check?from=100&to=1100", &usdc()).await;
    assert!(
        got.problem(400, "invalid_request")
            .contains("1001 blocks are too many, the limit here is 1000")
    );
    let body = json!({"rule": usdc(), "from": 100, "to": 1100, "limit": 0});
    let answer = post(&api, "/v1/rules/backtest", &body).await.json();
    assert_eq!((&answer["blocks"], &answer["items"]), (&1001.into(), &json!([])));
}
