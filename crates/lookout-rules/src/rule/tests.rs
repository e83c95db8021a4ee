//! Rules as they are saved: what is refused, and what is said.

use std::sync::Arc;

use lookout_types::Address;

use super::*;
use crate::evaluate::tests::{ABI, event, labels, spec};

fn error(spec: RuleSpec) -> String {
    Rule::compile(spec, &labels()).map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

fn windowed(window: Window) -> String {
    error(RuleSpec { window: Some(window), ..spec(event("Transfer"), "") })
}

#[test]
fn what_cannot_be_watched_is_refused_with_the_nearest() {
    assert_eq!(
        error(spec(event("Tranfser"), "")),
        "the ABI has no event `Tranfser`; the nearest are `Transfer(address,address,uint256)`"
    );
    let function = |name: &str| Watch::Transaction {
        addresses: vec![],
        function: Some((ABI.clone(), name.to_owned())),
    };
    assert_eq!(
        error(spec(function("transfers"), "")),
        "the ABI has no function `transfers`; the nearest are `transfer(address,uint256)`"
    );
    assert!(error(spec(event("Whisper"), "")).contains("is anonymous"));
    let none = Watch::Transfer { asset: WatchedAsset::Tokens(vec![]) };
    assert!(error(spec(none, "")).contains("watches no token"));
    let many = Watch::Event {
        abi: ABI.clone(),
        event: "Transfer".to_owned(),
        addresses: vec![Address::default(); MAX_ADDRESSES + 1],
    };
    assert!(error(spec(many, "")).contains("names 1001 addresses, the limit is 1000"));
    let long = RuleSpec { name: "x".repeat(201), ..spec(event("Transfer"), "") };
    assert!(error(long).contains("longer than 200 bytes"));
}

#[test]
fn windows_are_checked() {
    let count = |over_s, condition: &str| Window::Count { over_s, condition: condition.to_owned() };
    let sum = |of: &str, condition: &str| Window::Sum {
        over_s: 60,
        of: of.to_owned(),
        condition: condition.to_owned(),
    };
    for (window, expected) in [
        (count(60, "count >= 3"), "no error"),
        (sum("value", "sum > units(\"1000000\", 6) && count > 2"), "no error"),
        (Window::Silence { for_s: 60 }, "no error"),
        (count(0, "count >= 3"), "the window lasts 0 seconds; give it at least 1, or leave it out"),
        (
            Window::Silence { for_s: 0 },
            "the window lasts 0 seconds; give it at least 1, or leave it out",
        ),
        (
            count(40 * 86_400, "count > 1"),
            "the window lasts 3456000 seconds, the limit is 2678400 (31 days)",
        ),
        (
            count(60, "count < 3"),
            "the window condition `count < 3` holds for an empty window already; to hear when nothing happens, use a silence",
        ),
        (
            count(60, "sum > 3"),
            "window condition, line 1, column 1, at `sum`: no argument or value is called `sum`; there are `count`",
        ),
        (
            count(60, "count >= \"3\""),
            "window condition, line 1, column 10, at `\"3\"`: this is a string, and it meets a uint256; write 3 without quotes",
        ),
        (
            sum("from", "sum > 3"),
            "summed value, line 1, column 1, at `from`: a sum needs an unsigned number, this is an address",
        ),
        (
            sum("int(value)", "sum > 3"),
            "summed value, line 1, column 1, at `int(value)`: a sum needs an unsigned number, this is an int256; convert it with uint(…)",
        ),
    ] {
        assert_eq!(windowed(window), expected);
    }
    let balance = RuleSpec {
        window: Some(Window::Silence { for_s: 60 }),
        ..spec(Watch::Balance { addresses: vec![] }, "")
    };
    assert!(error(balance).contains("a balance rule has no window"));
}

#[test]
fn the_parts_that_the_index_takes_are_not_evaluated_again() {
    let residual = |condition: &str| {
        let rule = Rule::compile(spec(event("Transfer"), condition), &labels()).unwrap();
        let fields =
            rule.accesses.iter().map(|access| access.equal.len()).max().unwrap_or_default();
        let bound = rule.accesses.iter().any(|access| access.bound.is_some());
        (rule.accesses.len(), fields, bound, rule.residual.is_some())
    };
    let a = Address([1; 20]);
    for (condition, expected) in [
        ("value > 5", (1, 0, true, false)),
        ("value > 5 && value < 9", (1, 0, true, true)),
        (&format!("from == \"{a}\" && value > 5"), (1, 1, true, false)),
        (&format!("from == \"{a}\" && to == \"{a}\" && value == 5"), (1, 3, false, false)),
        (&format!("from == \"{a}\" || from == \"{}\"", Address([2; 20])), (1, 1, false, false)),
        (&format!("from == \"{a}\" || to == \"{a}\""), (2, 1, false, true)),
        ("from in labels[\"treasury\"]", (1, 1, false, false)),
        ("value % 2 == 1", (1, 0, false, true)),
        ("", (1, 0, false, false)),
        (
            "value > 115792089237316195423570985008687907853269984665640564039457584007913129639935",
            (1, 0, false, true),
        ),
    ] {
        assert_eq!(residual(condition), expected, "{condition}");
    }
}

#[test]
fn ids_print_as_uuids() {
    let id = RuleId(0x0192_f3c4_0000_7000_8000_0000_0000_00ff);
    assert_eq!(id.to_string(), "0192f3c4-0000-7000-8000-0000000000ff");
    let shared: Arc<Rule> =
        Arc::new(Rule::compile(spec(event("Transfer"), ""), &labels()).unwrap());
    assert_eq!((shared.id(), shared.version(), shared.window_s()), (RuleId(1), 1, None));
}

#[test]
fn a_balance_rule_reads_a_bounded_number_of_balances() {
    let accounts = |count: u16| Watch::Balance {
        addresses: (0..count).map(|number| numbered(u32::from(number))).collect(),
    };
    let tokens: Arc<[Address]> = (0..2_001).map(|number| numbered(1 << 20 | number)).collect();
    let labels = Labels::from([
        ("all".to_owned(), tokens.clone()),
        ("most".to_owned(), tokens[..2_000].into()),
        ("three".to_owned(), tokens[..3].into()),
    ]);
    for (count, condition, expected) in [
        (1_000, "balance < 5", None),
        (1, "token in labels[\"most\"]", None),
        (1, "token in labels[\"all\"]", Some(2_001)),
        (500, "token in labels[\"three\"] || balance == 0", None),
        (501, "token in labels[\"three\"] || balance == 0", Some(2_004)),
        (1_000, "token in labels[\"all\"]", Some(2_002_000)),
    ] {
        let error = Rule::compile(spec(accounts(count), condition), &labels).err();
        let error = error.map(|error| error.to_string());
        let expected = expected.map(|balances| {
            format!(
                "the rule watches {balances} balances (accounts times assets), the limit is 2000; \
                 name fewer accounts or tokens, or split the rule"
            )
        });
        assert_eq!(error, expected, "{condition}");
    }
}

#[test]
fn a_label_is_kept_once_however_often_it_is_named_and_all_of_them_are_bounded() {
    let big = |from: u32| -> Arc<[Address]> { (from..from + 10_000).map(numbered).collect() };
    let labels: Labels = (0..11).map(|of: u32| (format!("l{of}"), big(of * 10_000))).collect();
    let often = vec!["from in labels[\"l0\"]"; 400].join(" && ");
    let rule = Rule::compile(spec(event("Transfer"), &often), &labels).unwrap();
    let Some(Expr::All(parts)) = &rule.condition else { panic!("{:?}", rule.condition) };
    let sets = parts.iter().map(|part| match part {
        Expr::InSet { set, .. } => Arc::as_ptr(set),
        other => panic!("{other:?}"),
    });
    assert_eq!(sets.collect::<std::collections::BTreeSet<_>>().len(), 1);
    let either = often.replace("&&", "||");
    Rule::compile(spec(event("Transfer"), &either), &labels).unwrap();
    let joined = |count| {
        let parts: Vec<_> = (0..count).map(|of| format!("from in labels[\"l{of}\"]")).collect();
        Rule::compile(spec(event("Transfer"), &parts.join(" || ")), &labels)
    };
    joined(10).unwrap();
    let error = joined(11).unwrap_err().to_string();
    assert!(error.contains("hold more than 100000 addresses, the limit of a rule"), "{error}");
}

fn numbered(number: u32) -> Address {
    let mut address = Address::default();
    address.0[16..].copy_from_slice(&(number + 1).to_be_bytes());
    address
}
