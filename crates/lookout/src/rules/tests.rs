//! `lookout rules` on files in a folder of their own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use lookout_rules::Kept;
use lookout_store::{Page, RuleFilter, RuleState, Store, StoreUrl};
use lookout_types::{Address, BlockRef, FixedClock, Frame, Hash, Log, Step, TRANSFER};
use serde_json::{Value, json};

use super::import::{ImportOz, import_oz};
use super::*;

const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

fn chains() -> Chains {
    vec![("ethereum".to_owned(), ChainId(1)), ("polygon".to_owned(), ChainId(137))]
}

fn rule(condition: &str) -> Value {
    json!({
        "name": "big", "chain": "ethereum", "condition": condition,
        "watch": {"kind": "event", "abi": "erc20", "event": "Transfer", "addresses": [USDC]},
        "template": "{{ value }}\nmoved",
    })
}

fn write(folder: &Path, name: &str, value: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

fn args(folder: &Path, files: Vec<PathBuf>) -> TestRules {
    TestRules {
        files,
        block: None,
        from: None,
        to: None,
        chain: None,
        chains: chains(),
        warehouse: WarehouseUrl::SqliteFile(folder.join("events.db")),
    }
}

fn block(number: u64) -> Arc<Frame> {
    let hash = |n: u64| {
        let mut hash = Hash::default();
        hash.0[24..].copy_from_slice(&n.to_be_bytes());
        hash
    };
    let log = Log {
        address: USDC.parse().unwrap(),
        topics: vec![TRANSFER, hash(7), hash(8)],
        data: hash(number).0.to_vec().into(),
        transaction_hash: hash(number + 1000),
        transaction_index: 0,
        log_index: 0,
    };
    Arc::new(Frame {
        chain: ChainId(1),
        sequence: number - 99,
        step: Step::Apply,
        block: BlockRef { number, hash: hash(number) },
        parent: hash(number - 1),
        timestamp: 1_700_000_000 + 12 * number,
        transactions: Vec::new(),
        logs: vec![log],
    })
}

#[tokio::test]
async fn right_files_are_checked_without_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "labels.json", &json!({"team": [USDC], "unused": []}));
    write(folder, "mine.json", &json!(["event Sent(uint256 address, uint256 a)"]));
    let mut mine = rule("a > 1 && tx.status");
    mine["watch"] = json!({"kind": "event", "abi": "mine", "event": "Sent"});
    mine["template"] = Value::Null;
    let files = vec![
        write(folder, "a.json", &rule("from in labels[\"team\"]")),
        write(folder, "b.json", &json!([rule(""), mine])),
    ];
    let said = test(args(folder, files)).await.unwrap();
    assert_eq!(said.matches("ok: big").count(), 3, "{said}");
    assert!(said.contains("needs transactions and receipts"), "{said}");
    assert!(said.contains("note: `address` is Lookout's own"), "{said}");
    assert!(!folder.join("events.db").exists());
}

#[tokio::test]
async fn wrong_files_end_with_code_1_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut chain = rule("");
    chain["chain"] = "etherium".into();
    let mut abi = rule("");
    abi["watch"]["abi"] = "mine".into();
    let mut far = rule("");
    far["watch"]["abi"] = "../x".into();
    let files = vec![
        write(folder, "a.json", &json!([rule("valu > 1"), rule(""), {"name": "x"}])),
        write(folder, "b.json", &rule("from in labels[\"team\"]")),
        write(folder, "c.json", &chain),
        write(folder, "d.json", &abi),
        write(folder, "e.json", &far),
        write(folder, "f.json", &json!({"name": "x"})),
        folder.join("none.json"),
    ];
    let failure = test(args(folder, files)).await.unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    let said = failure.to_string();
    for part in [
        "8 of 9 rules are wrong: ",
        "a.json, rule `big`: condition, line 1, column 1, at `valu`",
        "a.json, item 2 is no rule: missing field `chain`",
        "labels that it uses stand in a file beside it: cannot read",
        "no chain `etherium` is configured; there are ethereum, polygon",
        "ABI `mine` is not built in, and its file beside the rule is missing",
        "`../x` is no name of an ABI",
        "f.json is no rule: missing field `chain` at line 1 column 12",
        "none.json`: ",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[tokio::test]
async fn rules_are_tried_on_held_blocks_and_their_messages_printed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files = vec![write(folder, "a.json", &rule("value >= 118"))];
    let ask = |block, from, to| TestRules { block, from, to, ..args(folder, files.clone()) };
    let failure = test(ask(None, Some(1), None)).await.unwrap_err();
    assert!(failure.to_string().contains("no block of chain 1 is held yet"), "{failure}");
    let warehouse = lookout_warehouse::open(&args(folder, vec![]).warehouse).await.unwrap();
    warehouse.apply((100..220).map(block).collect()).await.unwrap();
    let failure = test(ask(None, Some(1), None)).await.unwrap_err();
    assert!(failure.to_string().contains("POST /v1/rules/backtest"), "{failure}");
    warehouse.close().await;

    let said = test(ask(None, Some(110), Some(119))).await.unwrap();
    assert!(said.contains("\nblock 118\n  118\n  moved\n\nblock 119\n  119\n"), "{said}");
    assert!(
        said.contains("2 matches in 10 blocks (110 to 119), 2 alerts, at most 1 a minute"),
        "{said}"
    );
    let said = test(ask(Some(117), None, None)).await.unwrap();
    assert!(said.contains("0 matches in 1 blocks"), "{said}");
    let said = test(ask(None, Some(0), None)).await.unwrap();
    assert!(said.contains("… and 2 more matches"), "{said}");
    for (block, from, to, code, reason) in [
        (Some(1), Some(1), None, 2, "name one --block"),
        (None, None, Some(1), 2, "name one --block"),
        (None, Some(2), Some(1), 2, "--from is above --to"),
        (Some(7), None, None, 1, "blocks 100 to 219 are"),
    ] {
        let failure = test(ask(block, from, to)).await.unwrap_err();
        assert_eq!(failure.exit_code(), code);
        assert!(failure.to_string().contains(reason), "{failure}");
    }
    let elsewhere = TestRules { chain: Some("137".to_owned()), ..ask(Some(117), None, None) };
    let failure = test(elsewhere).await.unwrap_err();
    assert!(failure.to_string().contains("no block of chain 137"), "{failure}");
}

fn installation(folder: &Path) {
    write(
        folder,
        "networks/eth.json",
        &json!({"network_type": "EVM", "slug": "eth", "name": "Ethereum", "chain_id": 1,
            "confirmation_blocks": 2, "cron_schedule": "x"}),
    );
    let spec = json!([{"type": "event", "name": "Paused", "inputs": [
        {"name": "by", "type": "address", "indexed": false}]}]);
    for (name, paused) in [("one", false), ("two", true)] {
        write(
            folder,
            &format!("monitors/{name}.json"),
            &json!({"name": name, "paused": paused, "networks": ["eth"], "triggers": ["chat", "page"],
                "addresses": [{"address": USDC, "contract_spec": spec}],
                "match_conditions": {"events": [{"signature": "Paused(address)"}]}}),
        );
    }
    write(
        folder,
        "triggers/all.json",
        &json!({
            "chat": {"name": "Chat", "trigger_type": "slack", "config": {
                "slack_url": {"type": "plain", "value": "https://hooks.slack.com/services/SECRET"}}},
            "page": {"name": "Page", "trigger_type": "webhook", "config": {
                "url": {"type": "plain", "value": "https://pages.example"}}},
        }),
    );
    std::fs::write(folder.join("monitors/readme.txt"), "no monitor").unwrap();
}

#[tokio::test]
async fn an_import_is_printed_without_secrets_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    installation(folder.path());
    let args = ImportOz {
        folder: folder.path().to_owned(),
        chains: chains(),
        kept: HashMap::new(),
        apply: None,
    };
    let said = import_oz(args, async |_| panic!("no channel is made")).await.unwrap();
    assert!(said.contains("networks/eth.json: eth: dropped: `cron_schedule`"), "{said}");
    assert!(!said.contains("SECRET") && said.contains("https://pages.example"), "{said}");
    let (_, json) = said.split_once("\n{").unwrap();
    let json: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
    assert_eq!(json["rules"][0]["rule"]["watch"]["event"], "event Paused(address by)");
    assert_eq!(
        (&json["rules"][0]["rule"]["chain"], &json["rules"][1]["paused"]),
        (&"ethereum".into(), &true.into())
    );

    let none = ImportOz {
        folder: folder.path().join("x"),
        chains: chains(),
        kept: HashMap::new(),
        apply: None,
    };
    let failure = import_oz(none, async |_| panic!("no channel is made")).await.unwrap_err();
    assert!(failure.to_string().contains("holds no monitors/*.json"), "{failure}");
}

#[tokio::test]
async fn an_import_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    installation(folder.path());
    let store = Store::open(&StoreUrl::SqliteMemory, Arc::new(FixedClock::at(1_760_000_000_000)));
    let store = store.await.unwrap();
    store.migrate().await.unwrap();
    let asked = RefCell::new(Vec::new());
    // At first nothing is kept that the rules could match.
    let kept = RefCell::new(HashMap::from([(
        ChainId(1),
        Kept {
            chain: "ethereum".to_owned(),
            whole: false,
            addresses: vec![Address([7; 20])],
            topics: Vec::new(),
        },
    )]));
    let run = async || {
        let apply = Some((store.clone(), "default".to_owned()));
        let args = ImportOz {
            folder: folder.path().to_owned(),
            chains: chains(),
            kept: kept.borrow().clone(),
            apply,
        };
        import_oz(args, async |request| {
            asked.borrow_mut().push(request["kind"].as_str().unwrap().to_owned());
            Err(Failure::failed("no such kind"))
        })
        .await
    };
    let failure = run().await.unwrap_err().to_string();
    let told = "rule `one`: the rule watches";
    assert!(failure.contains("saved 0 rules") && failure.contains(told), "{failure}");
    asked.borrow_mut().clear();
    kept.borrow_mut().clear();
    let failure = run().await.unwrap_err().to_string();
    let told = "saved 2 rules and 0 channels of tenant `default`; 0 rules of these names were there \
                already; not saved: channel `chat`: no such kind; channel `page`: no such kind";
    assert!(failure.contains(told), "{failure}");
    assert_eq!(*asked.borrow(), ["slack", "webhook"]);
    let rules =
        store.list_rules("default", &RuleFilter::default(), &Page::default()).await.unwrap();
    let states: Vec<_> = rules.iter().map(|r| (r.document.name.as_str(), r.state())).collect();
    assert_eq!(states, [("two", RuleState::Paused), ("one", RuleState::Active)]);
    assert_eq!(rules[1].document.confirmations, 2);
    // A second run saves nothing twice, and makes no channel for nobody.
    let said = run().await.unwrap();
    assert!(said.contains("saved 0 rules and 0 channels"), "{said}");
    assert_eq!(asked.borrow().len(), 2);
}
