//! Documents: what they mean, what they refuse, and that they come back as they were.

use std::collections::BTreeMap;

use lookout_types::ChainId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::RuleId;

const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

fn usdc() -> Value {
    json!({
        "name": "Large USDC transfer", "chain": "ethereum",
        "watch": {"kind": "event", "abi": "erc20", "event": "Transfer", "addresses": [USDC]},
        "condition": "value > units(\"1000000\", 6)",
        "window": {"kind": "count", "over": "1h", "condition": "count >= 5"},
        "confirmations": 3, "template": "{{ value | units(6, USDC) }}", "channels": ["c"]
    })
}

fn source(document: Value) -> RuleSource {
    let document: RuleDocument = serde_json::from_value(document).unwrap();
    let abi = document.abi().and_then(builtin_abi).map(str::to_owned);
    let treasury = vec![Address([1; 20])];
    let labels = BTreeMap::from([("treasury".to_owned(), treasury)]);
    RuleSource { chain: ChainId(1), document, abi, labels }
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut document = usdc();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    document
}

#[track_caller]
fn refused(document: Value, reason: &str) {
    let error = source(document).compile(RuleId(1), 1).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn every_kind_of_rule_compiles_and_comes_back() {
    for document in [
        usdc(),
        json!({"name": "a", "chain": "1", "watch": {"kind": "event",
            "event": "event Transfer(address indexed from, address indexed to, uint256 value)"},
            "condition": "from in labels[\"treasury\"]"}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transaction", "addresses": [USDC]}}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transaction", "abi": "erc20",
            "function": "transfer"}, "condition": "args.value > 5"}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transaction",
            "function": "function pause(bool on)"}, "condition": "on"}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transfer", "asset": "any"}}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transfer", "asset": "native"},
            "window": {"kind": "sum", "over": "5m", "of": "amount", "condition": "sum > 5"}}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "transfer",
            "asset": {"tokens": [USDC]}}, "window": {"kind": "silence", "for": "7d"}}),
        json!({"name": "a", "chain": "1", "watch": {"kind": "balance", "addresses": [USDC]},
            "condition": "balance < ether(\"1\")"}),
    ] {
        let source = source(document.clone());
        source.compile(RuleId(7), 3).unwrap_or_else(|error| panic!("{document}: {error}"));
        let text = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<RuleSource>(&text).unwrap(), source, "{text}");
    }
    // What was written comes back, with defaults spelled out only where they are short.
    assert_eq!(serde_json::to_value(source(usdc()).document).unwrap(), usdc());
}

#[test]
fn wrong_documents_are_refused_with_the_place() {
    refused(with(&[("/condition", json!("value >"))]), "condition, line 1, column 8");
    refused(with(&[("/condition", json!("valu > 1"))]), "did you mean `value`?");
    refused(with(&[("/condition", json!("\n value > \"1\""))]), "condition, line 2, column 10");
    refused(with(&[("/watch/event", json!("Transfers"))]), "the ABI has no event `Transfers`");
    refused(with(&[("/window/over", json!("0s"))]), "the window lasts 0 seconds");
    refused(with(&[("/window/condition", json!("count"))]), "window condition, line 1, column 1");
    refused(with(&[("/template", json!("{{ nobody }}"))]), "message template, line 1, column 4");
    refused(with(&[("/name", json!(" "))]), "has no name");
    refused(with(&[("/name", json!("a\u{0}"))]), "control characters");
    refused(with(&[("/confirmations", json!(10_001))]), "the limit is 10000");
    refused(with(&[("/channels", json!(vec!["c"; 21]))]), "the limit is 20");
    refused(with(&[("/condition", json!("x".repeat(1_000_000)))]), "the limit is 65536");
    let huge = format!("value > {}", "9".repeat(79));
    refused(with(&[("/condition", json!(huge))]), "column 9");
    refused(with(&[("/watch", json!({"kind": "event", "event": "Transfer"}))]), "names no ABI");
    let bad = json!({"kind": "event", "event": "event Transfer(addres who)"});
    refused(with(&[("/watch", bad)]), "event Transfer");
    let bad = json!({"kind": "transaction", "abi": "erc20"});
    refused(with(&[("/watch", bad), ("/window", Value::Null)]), "names an ABI but no function");
    refused(with(&[("/watch/abi", json!("mine"))]), "there is no ABI `mine`");
    let none = json!({"kind": "balance", "addresses": []});
    refused(with(&[("/watch", none), ("/window", Value::Null)]), "names the accounts");
}

#[test]
fn wrong_json_says_what_is_expected() {
    for (pointer, value, reason) in [
        ("/nam", json!(1), "unknown field `nam`"),
        ("/watch/adresses", json!([]), "unknown field `adresses`"),
        ("/watch/kind", json!("evnt"), "unknown variant `evnt`"),
        ("/watch/addresses", json!(["0x12"]), "`0x12` is not an address: an address has 40"),
        ("/watch/addresses", json!([USDC.replace('A', "a")]), "the right form is 0xA0b8"),
        ("/window/over", json!("soon"), "`soon` is not a length of time"),
        ("/window/over", json!(3600), "expected a string"),
        ("/confirmations", json!(-1), "invalid value"),
    ] {
        let mut document = usdc();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        let error = serde_json::from_value::<RuleDocument>(document).unwrap_err().to_string();
        assert!(error.contains(reason), "{pointer}: {error}");
    }
}

#[test]
fn labels_are_found_wherever_a_condition_uses_them() {
    let named =
        |condition: &str| source(with(&[("/condition", json!(condition))])).document.label_names();
    assert_eq!(
        named("from in labels[\"b\"] && !(to in labels['a'] || to in labels[\"b\"])"),
        ["a", "b"]
    );
    assert_eq!(named("(from in labels[\"x\"] ? 1 : 2) + 1 == 2"), ["x"]);
    assert_eq!(named("from in labels"), Vec::<String>::new());
    assert_eq!(named("not a condition ("), Vec::<String>::new());
    let sum = json!({"kind": "sum", "over": "1h", "of": "to in labels[\"z\"] ? value : 0",
        "condition": "sum > 1"});
    let document = source(with(&[("/window", sum)])).document;
    assert_eq!(document.label_names(), ["z"]);
}

#[test]
fn who_is_told_is_not_part_of_what_is_watched() {
    let document = source(usdc()).document;
    let told = RuleDocument { channels: vec![], confirmations: 9, ..document.clone() };
    assert_eq!(document.watched(), told.watched());
    let renamed = RuleDocument { name: "b".to_owned(), ..document.clone() };
    assert_ne!(document.watched(), renamed.watched());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("value > 1".to_owned()),
        Just("from in labels[\"treasury\"]".to_owned()),
        Just("event Sent(uint256 a)".to_owned()),
        "[ -~]{0,40}",
        "\\PC{0,20}",
        any::<String>(),
    ]
}

fn addresses() -> impl Strategy<Value = Vec<Address>> {
    prop::collection::vec(any::<[u8; 20]>().prop_map(Address), 0..3)
}

fn watch() -> impl Strategy<Value = WatchDocument> {
    let abi = prop::option::of(prop_oneof![Just("erc20".to_owned()), text()]);
    prop_oneof![
        (abi.clone(), text(), addresses())
            .prop_map(|(abi, event, addresses)| WatchDocument::Event { abi, event, addresses }),
        (addresses(), abi, prop::option::of(text())).prop_map(|(addresses, abi, function)| {
            WatchDocument::Transaction { addresses, abi, function }
        }),
        prop_oneof![
            Just(WatchedAssetDocument::Any),
            Just(WatchedAssetDocument::Native),
            addresses().prop_map(WatchedAssetDocument::Tokens),
        ]
        .prop_map(|asset| WatchDocument::Transfer { asset }),
        addresses().prop_map(|addresses| WatchDocument::Balance { addresses }),
    ]
}

fn window() -> impl Strategy<Value = WindowDocument> {
    let length = any::<u64>().prop_map(DurationS);
    prop_oneof![
        (length.clone(), text())
            .prop_map(|(over, condition)| WindowDocument::Count { over, condition }),
        (length.clone(), text(), text()).prop_map(|(over, of, condition)| WindowDocument::Sum {
            over,
            of,
            condition
        }),
        length.prop_map(|for_| WindowDocument::Silence { for_ }),
    ]
}

prop_compose! {
    fn document()(
        name in text(), chain in text(), watch in watch(), condition in text(),
        window in prop::option::of(window()), confirmations in any::<u64>(),
        template in prop::option::of(text()), channels in prop::collection::vec(text(), 0..3),
    ) -> RuleDocument {
        RuleDocument { name, chain, watch, condition, window, confirmations, template, channels }
    }
}

proptest! {
    #[test]
    fn a_document_comes_back_from_json_and_never_panics(document in document()) {
        let text = serde_json::to_string(&document).unwrap();
        let back: RuleDocument = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &document);
        let source = source(serde_json::to_value(&document).unwrap());
        // Whatever it says, it says so without a panic, and the same each time.
        let first = source.compile(RuleId(1), 1).map(|rule| rule.needs());
        prop_assert_eq!(first, source.compile(RuleId(1), 1).map(|rule| rule.needs()));
        document.label_names();
    }
}

#[test]
fn a_signature_has_a_longest_length() {
    let long = "x".repeat(MAX_SIGNATURE_BYTES + 1);
    let reason = "is named by 4097 bytes, the limit is 4096";
    refused(with(&[("/watch/event", json!(long))]), reason);
    refused(with(&[("/watch", json!({"kind": "transaction", "function": long}))]), reason);
}
