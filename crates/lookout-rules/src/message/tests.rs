//! Cases for `message`.

use bytes::Bytes;
use lookout_abi::I256;
use lookout_types::{Address, Hash};
use proptest::prelude::*;

use super::*;
use crate::evaluate::tests::{event, labels, spec};
use crate::{Rule, RuleSpec};

fn compile(name: &str, template: &str) -> Result<Rule, String> {
    let template = Some(template.to_owned());
    let spec = RuleSpec { template, ..spec(event(name), "") };
    Rule::compile(spec, &labels()).map_err(|error| error.to_string())
}

fn render(name: &str, template: &str, values: &[Value]) -> Message {
    compile(name, template).unwrap().template().render(values)
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

#[test]
fn values_are_filled_in_and_marked() {
    let from = Value::Address(Address([0xab; 20]));
    let message = render(
        "Transfer",
        "💰 {{ value | units(6, USDC) | bold }} from {{ from | short }} to {{from}}",
        &[Value::Uint(U256::from(1_500_000)), from.clone(), from],
    );
    assert_eq!(
        message.text,
        "💰 1.5 USDC from 0xABaB…ABaB to 0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
    );
    assert_eq!(
        message.spans,
        [
            // The bag of money is two UTF-16 units.
            Span { offset: 3, length: 8, kind: SpanKind::Bold },
            Span { offset: 17, length: 11, kind: SpanKind::Code },
            Span { offset: 32, length: 42, kind: SpanKind::Code },
        ]
    );
}

#[test]
fn formats_write_exactly() {
    let minus = Value::Int(I256::from(-1_500_000_000_000_000_000));
    for (name, template, value, expected) in [
        ("Moved", "{{ delta | ether }}", minus, "-1.5 ETH"),
        (
            "Moved",
            "{{delta}}",
            Value::Int(I256::MIN),
            "-57896044618658097711785492504343953926634992332820282019728792003956564819968",
        ),
        ("Moved", "{{ up }}", Value::Bool(true), "true"),
        (
            "Transfer",
            "{{ block.timestamp | time }}",
            Value::Uint(U256::from(1_700_000_000)),
            "2023-11-14T22:13:20Z",
        ),
        (
            "Transfer",
            "{{ block.timestamp | time }}",
            Value::Uint(U256::MAX),
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
        ),
        ("Transfer", "{{ value | units(0) }}", Value::Uint(U256::from(7)), "7"),
        ("Transfer", "{{ tx.hash | short }}", Value::Hash(Hash([0x12; 32])), "0x1212…1212"),
        (
            "Said",
            "{{ numbers }}",
            Value::Array(vec![Value::Uint(U256::from(1)), text("a.com")]),
            "[1, a[.]com]",
        ),
    ] {
        assert_eq!(render(name, template, &[value]).text, expected);
    }
}

#[test]
fn templates_are_checked_when_they_are_saved() {
    for (template, expected) in [
        (
            "a {{ vaule }}",
            "message template, line 1, column 6, at `vaule`: no argument or value is called `vaule`; did you mean `value`?",
        ),
        (
            "a\n {{ value",
            "message template, line 2, column 2, at `{{`: the placeholder is not closed; end it with }}",
        ),
        (
            "{{ }}",
            "message template, line 1, column 3, at ` `: the placeholder is empty; name a value in it",
        ),
        (
            "{{ value + 1 }}",
            "message template, line 1, column 4, at `value + 1`: a placeholder holds the name of a value, nothing computed",
        ),
        (
            "{{ value | short }}",
            "message template, line 1, column 12, at `short`: `short` shows an address or bytes, this is a uint256",
        ),
        (
            "{{ from | units(6) }}",
            "message template, line 1, column 11, at `units(6)`: `units(6)` shows a number, this is an address",
        ),
        (
            "{{ value | units(99) }}",
            "message template, line 1, column 12, at `units(99)`: the decimals are a number from 0 to 77",
        ),
        (
            "{{ value | loud }}",
            "message template, line 1, column 12, at `loud`: no format is called `loud`; there are units(6), units(6, USDC), ether, short, time, bold",
        ),
        (
            "{{ value | ether | ether }}",
            "message template, line 1, column 20, at `ether`: a value has one format, and perhaps `bold`",
        ),
        (
            "{{ count }}",
            "message template, line 1, column 4, at `count`: no argument or value is called `count`",
        ),
    ] {
        let found = compile("Transfer", template).unwrap_err();
        assert!(found.starts_with(expected), "{found}");
    }
    assert!(compile("Transfer", &"x".repeat(9000)).unwrap_err().contains("the limit is 8192"));
    let many = "{{value}}".repeat(65);
    assert!(compile("Transfer", &many).unwrap_err().contains("more than 64 placeholders"));
    assert_eq!(render("Transfer", "no } { value", &[]).text, "no } { value");
}

#[test]
fn a_rule_without_a_template_lists_its_values() {
    let rule = Rule::compile(spec(event("Clash"), ""), &labels()).unwrap();
    let names: Vec<_> = rule.template().names().collect();
    assert_eq!(
        names,
        [
            "rule.name",
            "address",
            "args.address",
            "args.tx",
            "args.logIndex",
            "block.number",
            "tx.hash"
        ]
    );
}

#[test]
fn hostile_text_becomes_harmless() {
    for (hostile, expected) in [
        ("[x](https://evil.com)", "[x](https[:]//evil[.]com)"),
        ("<b>t.me/scam</b> *bold* `code`", "<b>t[.]me/scam</b> *bold* `code`"),
        ("claim at www.evil。com now", "claim at www[.]evil[.]com now"),
        ("a\u{202e}moc.live\u{2066}", "a\u{fffd}moc[.]live\u{fffd}"),
        ("zero\u{200b}width\0null\u{7f}", "zero\u{fffd}width\u{fffd}null\u{fffd}"),
        ("two\nlines\r\n\tand\u{2028}more", "two lines   and more"),
        ("@everyone", "[@]everyone"),
        ("v1.5 and USD.e and 3.14", "v1.5 and USD.e and 3.14"),
        ("Z\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}!", "Z\u{301}\u{301}\u{301}!"),
        ("\u{e0041}tag", "\u{fffd}tag"),
        ("", ""),
    ] {
        let message = render("Said", "{{ text }}", &[text(hostile)]);
        assert_eq!(message.text, expected, "{hostile:?}");
        let length = message.text.encode_utf16().count();
        let whole = Span { offset: 0, length, kind: SpanKind::Code };
        assert_eq!(message.spans, if length == 0 { vec![] } else { vec![whole] });
    }
    let invalid = Value::String(AbiText(Bytes::from_static(&[b'a', 0xff, b'b'])));
    assert_eq!(render("Said", "{{ text }}", &[invalid]).text, "a\u{fffd}b");
}

#[test]
fn a_megabyte_is_cut() {
    let long = text(&"a".repeat(1 << 20));
    let message = render("Said", "{{ text }}", &[long]);
    assert_eq!(message.text, format!("{}…", "a".repeat(MAX_VALUE_CHARS)));
    let bytes = Value::Bytes(vec![0xab; 1 << 20].into());
    assert_eq!(render("Said", "{{ text }}", &[bytes]).text.chars().count(), MAX_VALUE_CHARS + 3);
    let full = render("Said", &"{{ text }}".repeat(60), &vec![text(&"💥".repeat(300)); 60]);
    assert_eq!(full.text.encode_utf16().count(), MAX_MESSAGE_UNITS);
    assert!(full.text.ends_with('…'));
    let exact = render("Said", &"x".repeat(MAX_MESSAGE_UNITS), &[]);
    assert_eq!(exact.text.len(), MAX_MESSAGE_UNITS);
    let over =
        render("Said", &format!("{}{{{{text}}}}", "x".repeat(MAX_MESSAGE_UNITS)), &[text("y")]);
    assert!(over.text.ends_with("x…") && over.text.encode_utf16().count() == MAX_MESSAGE_UNITS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn spans_lie_within_the_text_and_cover_what_came_from_the_chain(
        hostile in prop::collection::vec(any::<char>(), 0..400),
        before in "[a-z💥]{0,20}",
    ) {
        let hostile: String = hostile.into_iter().collect();
        let message = render("Said", &format!("{before}{{{{ text }}}}"), &[text(&hostile)]);
        let units: Vec<u16> = message.text.encode_utf16().collect();
        prop_assert!(units.len() <= MAX_MESSAGE_UNITS);
        for span in &message.spans {
            let inside = units.get(span.offset..span.offset + span.length).expect("inside");
            // A span never cuts a character in two.
            prop_assert!(String::from_utf16(inside).is_ok());
            prop_assert_eq!(span.offset, before.encode_utf16().count());
            prop_assert_eq!(span.offset + span.length, units.len());
        }
        let shown: String = message.text.chars().skip(before.chars().count()).collect();
        prop_assert!(!shown.contains("://") && !shown.chars().any(char::is_control));
        let reversing = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        prop_assert!(!shown.chars().any(reversing));
    }
}
