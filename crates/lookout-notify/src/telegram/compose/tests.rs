//! What parcels look like, and that nothing in them can be more than text.

use lookout_rules::MAX_MESSAGE_UNITS;
use lookout_store::{AlertSpan, AlertState};
use lookout_types::{BlockRef, Hash};
use proptest::prelude::*;
use serde_json::Value;

use super::super::text::{ENTITIES_MAX, Entity, units};
use super::*;
use crate::send::Item;

fn alert(rule: &str, text: &str, spans: &[(usize, usize, SpanKind)]) -> Alert {
    let spans = spans.iter();
    Alert {
        id: "a".into(),
        rule_id: rule.into(),
        rule_name: rule.into(),
        rule_version: 1,
        chain: ChainId(137),
        block: BlockRef { number: 10, hash: Hash([0; 32]) },
        block_time: 0,
        record: Value::Null,
        occurrence: 1,
        facts: Value::Null,
        text: text.into(),
        spans: spans.map(|&(offset, length, kind)| AlertSpan { kind, offset, length }).collect(),
        confirms_at: 10,
        state: AlertState::Confirmed,
        created_at: 0,
        confirmed_at: Some(0),
        retracted_at: None,
    }
}

fn parcel(kind: ParcelKind, alerts: Vec<Alert>) -> Parcel {
    let item = |alert| Item { delivery: "d".into(), alert: Some(alert) };
    let items = alerts.into_iter().map(item).collect();
    Parcel { id: "d".into(), kind, items, reply_to: None }
}

fn text_of(kind: ParcelKind, alerts: Vec<Alert>) -> String {
    compose(&parcel(kind, alerts)).text().to_owned()
}

fn entity(offset: usize, length: usize, kind: SpanKind) -> Entity {
    Entity { offset, length, kind }
}

use SpanKind::{Bold, Code};

#[test]
fn one_alert_is_its_text_and_spans() {
    let one = alert("r", "Whale 🐳 0xab", &[(0, 5, Bold), (9, 4, Code)]);
    let message = compose(&parcel(ParcelKind::Alert, vec![one]));
    assert_eq!(message.text(), "Whale 🐳 0xab");
    assert_eq!(message.entities(), [entity(0, 5, Bold), entity(9, 4, Code)]);
}

#[test]
fn several_follow_each_other_with_moved_spans() {
    let two = vec![alert("r", "🐳 a", &[(3, 1, Code)]), alert("r", "b", &[(0, 1, Bold)])];
    let message = compose(&parcel(ParcelKind::Alert, two));
    assert_eq!(message.text(), "🐳 a\n\nb");
    assert_eq!(message.entities(), [entity(3, 1, Code), entity(6, 1, Bold)]);
}

#[test]
fn too_many_become_a_summary() {
    let mut many: Vec<_> =
        (0..9_000).map(|n| alert("big", &format!("\nfirst {n}\nmore"), &[])).collect();
    many.extend((0..1_000).map(|_| alert("small", "x", &[])));
    let text = text_of(ParcelKind::Alert, many);
    let start = "10,000 alerts\n9,000 × big\n1,000 × small\n\nfirst 0\nfirst 1\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with("\nfirst 9\nand 9,990 more: GET /v1/alerts"), "{text}");
    let rules: Vec<_> =
        (0..200).map(|n| alert(&format!("r{n:03}"), &"y".repeat(500), &[])).collect();
    let text = text_of(ParcelKind::Alert, rules);
    assert!(text.contains("\n180 of 180 more rules\n"), "{text}");
}

#[test]
fn retractions_say_what_and_why() {
    let text = text_of(ParcelKind::Retraction, vec![alert("r", "moved 5\nmore", &[])]);
    assert_eq!(
        text,
        "Retracted: block 10 of chain 137 was undone, what this alert told is not on the chain.\n\nmoved 5"
    );
    let many = (0..30).map(|_| alert("r", "moved", &[])).collect();
    let text = text_of(ParcelKind::Retraction, many);
    let start = "Retracted: 30 alerts. Block 10 of chain 137 was undone, what they told";
    assert!(text.starts_with(start), "{text}");
}

/// Without a template, a message begins with the rule's name.
#[test]
fn one_line_tells_more_than_the_rules_name() {
    let listing = "r\nfrom: 0xab\nblock 7";
    let spans = [(0, 1, Bold), (8, 4, Code)];
    let one = compose(&parcel(ParcelKind::Retraction, vec![alert("r", listing, &spans)]));
    assert!(one.text().ends_with(".\n\nr from: 0xab block 7"), "{}", one.text());
    let start = units(one.text()) - units(listing);
    assert_eq!(one.entities().last(), Some(&entity(start + 8, 4, Code)));
    let bare = text_of(ParcelKind::Retraction, vec![alert("r", "r", &[])]);
    assert!(bare.ends_with(".\n\nr"), "{bare}");
}

#[test]
fn a_message_is_never_blank() {
    for blank in ["", " \n\t", "\u{a0}"] {
        let text = text_of(ParcelKind::Alert, vec![alert("r", blank, &[])]);
        assert_eq!(text, "alert of rule r");
    }
    assert!(text_of(ParcelKind::Test, vec![]).starts_with("Test message"));
    assert_eq!(
        text_of(ParcelKind::Alert, vec![alert(" ", "", &[])]),
        "alert of rule without a name"
    );
}

#[test]
fn code_wins_over_bold_and_split_characters_are_taken_whole() {
    let spans = [(0, 8, Bold), (2, 2, Code), (20, 5, Code), (7, 90, Code), (4, 0, Bold)];
    let message = compose(&parcel(ParcelKind::Alert, vec![alert("r", "ab🐳cd🐳", &spans)]));
    // The last code begins within a pair, and ends past the text.
    assert_eq!(message.entities(), [entity(2, 2, Code), entity(6, 2, Code)]);
}

#[test]
fn bare_text_offers_nothing_to_click() {
    let one = alert("r", "/start @ada #tag $ABC a/b 1$ user@x", &[]);
    let bare = compose(&parcel(ParcelKind::Alert, vec![one])).bare();
    assert_eq!(bare, "∕start ＠ada ＃tag ＄ABC a/b 1$ user＠x");
}

#[test]
fn limits_are_telegrams() {
    assert_eq!(UNITS_MAX, MAX_MESSAGE_UNITS);
}

/// Pieces of what somebody might put on a chain to be clicked, hidden or misread.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<b>".to_owned()),
        Just("[x](https://evil.example)".to_owned()),
        Just("*_`~|\\".to_owned()),
        Just("https://evil.example/?a=1".to_owned()),
        Just("/mute@Bot 7d".to_owned()),
        Just("@admin #tag".to_owned()),
        Just("\0\u{7}\u{1b}[2J".to_owned()),
        Just("\u{202e}\u{2066}\u{200f}\u{feff}".to_owned()),
        Just("\u{e0041}\u{e007f}".to_owned()),
        Just("👩‍👩‍👧‍👦🐳".to_owned()),
        Just("e\u{301}\u{301}\u{301}\u{301}".to_owned()),
        Just("\n\n\r\n".to_owned()),
        Just("\u{fffd}x".repeat(600)),
        proptest::collection::vec(any::<char>(), 0..40).prop_map(|c| c.into_iter().collect()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn spans() -> impl Strategy<Value = Vec<(usize, usize, SpanKind)>> {
    let kind = prop_oneof![Just(Bold), Just(Code)];
    let number = prop_oneof![4 => 0_usize..60, 1 => 0_usize..6_000, 1 => Just(usize::MAX)];
    proptest::collection::vec((number.clone(), number, kind), 0..20)
}

/// Nothing that Telegram would refuse, and nothing hidden.
fn check(message: &Styled) {
    let text: Vec<u16> = message.text().encode_utf16().collect();
    assert_eq!(text.len(), message.units());
    assert!((1..=UNITS_MAX).contains(&text.len()));
    assert!(!message.text().trim().is_empty());
    assert!(message.entities().len() <= ENTITIES_MAX);
    let low = |at: usize| text.get(at).is_some_and(|unit| (0xdc00..0xe000).contains(unit));
    let mut end = 0;
    for entity in message.entities() {
        assert!(entity.length > 0 && entity.offset >= end, "{entity:?} after {end}");
        end = entity.offset + entity.length;
        assert!(end <= text.len() && !low(entity.offset) && !low(end), "{entity:?}");
    }
    let hidden = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || ('\u{200b}'..='\u{200f}').contains(&c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!message.text().contains(hidden), "{:?}", message.text());
}

// 2,500 cases of 4 texts on average: ten thousand texts.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn hostile_text_stays_inert(
        parts in proptest::collection::vec((hostile(), spans()), 1..8),
        copies in prop_oneof![20 => Just(1_usize), 1 => Just(40)],
        is_retraction in any::<bool>(),
    ) {
        let one: Vec<_> =
            parts.iter().map(|(text, spans)| alert(text, text, spans)).collect();
        let many = one.iter().cycle().take(one.len() * copies).cloned().collect();
        let kind = if is_retraction { ParcelKind::Retraction } else { ParcelKind::Alert };
        let message = compose(&parcel(kind, many));
        check(&message);
        prop_assert!(units(&message.bare()) <= UNITS_MAX);
        let bare = message.bare();
        prop_assert!(!bare.contains('@') && !bare.contains(" /mute"), "{bare:?}");
        // What a span marks as verbatim stays so wherever the text is shown whole.
        if let ([(text, spans)], 1, false) = (parts.as_slice(), copies, is_retraction)
            && units(text) < UNITS_MAX && !text.trim().is_empty()
        {
            for (offset, length, kind) in spans {
                let end = offset.saturating_add(*length).min(units(text));
                if *kind == Code && offset < &end {
                    let covered = |at: usize| message.entities().iter().any(|e| {
                        e.kind == Code && (e.offset..e.offset + e.length).contains(&at)
                    });
                    prop_assert!(covered(*offset), "{offset}");
                }
            }
        }
    }
}

#[test]
fn a_megabyte_of_text_is_cut() {
    let long = alert("r", &"🐳".repeat(250_000), &[(0, 500_000, Code)]);
    let message = compose(&parcel(ParcelKind::Alert, vec![long]));
    check(&message);
    assert!(message.text().ends_with('…') && message.units() >= UNITS_MAX - 1);
    assert_eq!(message.entities()[0].kind, Code);
}
