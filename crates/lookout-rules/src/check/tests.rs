//! Cases for `check`.

use proptest::prelude::*;

use crate::evaluate::tests::{event, labels, spec};
use crate::{Labels, Rule, RuleError};

fn error(name: &str, condition: &str) -> String {
    match Rule::compile(spec(event(name), condition), &labels()) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn check(condition: &str, expected: &str) {
    assert_eq!(error("Transfer", condition), format!("condition, {expected}"), "{condition}");
}

#[test]
fn syntax_errors_point_at_the_place() {
    for (condition, expected) in [
        ("value >", "line 1, column 8: the text ends where a value should be"),
        (
            "value > 5 and value < 9",
            "line 1, column 11, at `and`: `and` is not an operator; write `&&`",
        ),
        ("value = 5", "line 1, column 7, at `=`: `=` is not an operator; compare with `==`"),
        (
            "value > 5 &\n value < 9",
            "line 1, column 11, at `&`: `&` is not an operator; write `&&`",
        ),
        ("value > 5 &&\n  (value < 9", "line 2, column 13: the text ends where `)` should be"),
        (
            "value > 1.5",
            "line 1, column 9, at `1.5`: amounts are whole numbers of the smallest unit; write units(\"1.5\", 6) or ether(\"1.5\")",
        ),
        (
            "value > 1_000",
            "line 1, column 9, at `1_000`: this is not a number; write digits only, or 0x and hex digits",
        ),
        ("from == \"0x", "line 1, column 9, at `\"0x`: the string is not closed; end it with \""),
        (
            "value > 5 }",
            "line 1, column 11, at `}`: `}` stands where an operator or the end should be",
        ),
        (
            "{'a': 1}",
            "line 1, column 1, at `{`: maps are not part of conditions; list values in [ ]",
        ),
        ("// nothing", "line 1, column 11: the condition is empty; write one, or leave it out"),
        ("value > “5”", "line 1, column 9, at `“`: `“` is not a quotation mark here; use \" or '"),
        (
            "\"é\" == 5 5",
            "line 1, column 10, at `5`: a number stands where an operator or the end should be",
        ),
    ] {
        check(condition, expected);
    }
}

const TYPE_ERRORS: &[(&str, &str)] = &[
    (
        "vaule > 5",
        "line 1, column 1, at `vaule`: no argument or value is called `vaule`; did you mean `value`?",
    ),
    (
        "tx.form == from",
        "line 1, column 1, at `tx.form`: no argument or value is called `tx.form`; did you mean `tx.from`?",
    ),
    ("from.x == 5", "line 1, column 6, at `x`: an address has no members; remove `.x`"),
    (
        "value > \"100\"",
        "line 1, column 9, at `\"100\"`: this is a string, and it meets a uint256; write 100 without quotes",
    ),
    (
        "value > \"1.5\"",
        "line 1, column 9, at `\"1.5\"`: this is a string, and it meets a uint256; write a number without quotes, or units(\"1.5\", 6)",
    ),
    (
        "value > -1",
        "line 1, column 9, at `-1`: this is negative, and what it is compared with never is; remove the comparison, or convert with int(…)",
    ),
    (
        "value > 1 - 2",
        "line 1, column 9, at `1 - 2`: this is negative, and what it is compared with never is; remove the comparison, or convert with int(…)",
    ),
    (
        "value > 115792089237316195423570985008687907853269984665640564039457584007913129639936",
        "line 1, column 9, at `115792089237316195423570985008687907853269984665640564039457`: this constant is above 2^256 - 1, the greatest uint256",
    ),
    (
        "value > 115792089237316195423570985008687907853269984665640564039457584007913129639935 + 1",
        "line 1, column 9, at `115792089237316195423570985008687907853269984665640564039457`: this constant is outside -2^255 to 2^256 - 1",
    ),
    (
        "value > units(\"1.2345678\", 6)",
        "line 1, column 9, at `units(\"1.2345678\", 6)`: \"1.2345678\" has 7 decimals, the unit has 6",
    ),
    (
        "value > units(\"1,5\", 6)",
        "line 1, column 9, at `units(\"1,5\", 6)`: \"1,5\" is not a decimal number such as \"1.5\"",
    ),
    (
        "value > units(5, 6)",
        "line 1, column 15, at `5`: `units` takes a constant: units(\"1.5\", 6)",
    ),
    (
        "value > units(\"5\")",
        "line 1, column 9, at `units(\"5\")`: `units` takes 2 arguments here, not 1",
    ),
    (
        "value > units(\"5\", 78)",
        "line 1, column 20, at `78`: the decimals are a number from 0 to 77",
    ),
    ("value / 0 > 1", "line 1, column 9, at `0`: division by zero; the rule could never match"),
    (
        "value",
        "line 1, column 1, at `value`: a condition is true or false, this is a uint256; compare it, as in `… > 0`",
    ),
    (
        "value && true",
        "line 1, column 1, at `value`: `&&` joins conditions, this is a uint256; compare it with something",
    ),
    (
        "from > to",
        "line 1, column 1, at `from > to`: an address has no order; compare with == or !=",
    ),
    (
        "from == value",
        "line 1, column 1, at `from == value`: an address is not comparable with a uint256",
    ),
    (
        "from == 5",
        "line 1, column 9, at `5`: this is a number, and it meets an address; write 0x and 40 digits",
    ),
    (
        "from == \"5\"",
        "line 1, column 9, at `\"5\"`: this meets an address: an address starts with `0x`",
    ),
    (
        "from in labels[\"tresury\"]",
        "line 1, column 16, at `\"tresury\"`: there is no label `tresury`; did you mean `treasury`?",
    ),
    (
        "value in labels[\"treasury\"]",
        "line 1, column 1, at `value`: a label holds addresses, this is a uint256",
    ),
    (
        "labels[\"treasury\"] == from",
        "line 1, column 1, at `labels[\"treasury\"]`: labels stand on the right of `in`: `from in labels[\"treasury\"]`",
    ),
    (
        "value in [1, from]",
        "line 1, column 14, at `from`: a list holds constants; compare with `==` and join with `||`",
    ),
    (
        "value in [1, -2]",
        "line 1, column 14, at `-2`: this is negative, and what it is compared with never is; remove the comparison, or convert with int(…)",
    ),
    (
        "[1].all(x, x > 0)",
        "line 1, column 5, at `all`: `all` is a comprehension, whose cost has no bound; use `in`, an index or `size`",
    ),
    (
        "unit(\"1\", 6) == value",
        "line 1, column 1, at `unit`: no function is called `unit`; did you mean `units`?",
    ),
    (
        "startsWith(from, \"0x\")",
        "line 1, column 1, at `startsWith`: write it behind a value: text.startsWith(\"…\")",
    ),
    (
        "tx.hash == \"0x12\"",
        "line 1, column 12, at `\"0x12\"`: bytes are written as `0x` and 64 hex digits",
    ),
    (
        "value == null || from == [1]",
        "line 1, column 26, at `[1]`: a list stands only on the right of `in`",
    ),
    ("value > null", "line 1, column 9, at `null`: null is compared with a value by == or != only"),
    (
        "true ? value : from == to",
        "line 1, column 8, at `value : from == to`: both sides need one type, these are a uint256 and a bool",
    ),
];

#[test]
fn type_errors_say_what_meets_what_and_how_to_write_it() {
    let right = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2";
    let wrong = "0xc02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2";
    assert_eq!(error("Transfer", &format!("from == \"{right}\"")), "no error");
    check(
        &format!("from == \"{wrong}\""),
        &format!(
            "line 1, column 9, at `\"{wrong}\"`: the EIP-55 checksum is wrong; the right form is {right}"
        ),
    );
    for (condition, expected) in TYPE_ERRORS {
        check(condition, expected);
    }
}

const OTHER_ERRORS: &[(&str, &str, &str)] = &[
    (
        "Said",
        "topic == \"swap\"",
        "line 1, column 10, at `\"swap\"`: the argument is an indexed string, so the log has only its hash; compare it with keccak256(\"…\")",
    ),
    (
        "Said",
        "topic.contains(\"swap\")",
        "line 1, column 1, at `topic`: the argument is an indexed string, so the log has only its hash; it can be compared with keccak256(\"…\") alone",
    ),
    (
        "Said",
        "text.matches(\"(\")",
        "line 1, column 14, at `\"(\"`: the pattern is not usable: unclosed group",
    ),
    ("Said", "text.matches(who)", "line 1, column 14, at `who`: a pattern is a constant string"),
    (
        "Said",
        "numbers == 5",
        "line 1, column 1, at `numbers`: a list is not compared as a whole; compare its parts",
    ),
    (
        "Said",
        "text + 1 == 2",
        "line 1, column 1, at `text`: arithmetic needs a number, this is a string; write numbers without quotes, or units(\"1.5\", 6)",
    ),
    (
        "Said",
        "text > 5",
        "line 1, column 8, at `5`: this is a uint256, and it meets a string; use one type",
    ),
    (
        "Said",
        "who in numbers",
        "line 1, column 1, at `who`: the list holds a uint256, not an address",
    ),
    (
        "Moved",
        "delta > 57896044618658097711785492504343953926634992332820282019728792003956564819968",
        "line 1, column 9, at `578960446186580977117854925043439539266349923328202820197287`: this constant is above 2^255 - 1, the greatest int256",
    ),
    (
        "Moved",
        "up > true",
        "line 1, column 1, at `up > true`: a bool has no order; compare with == or !=",
    ),
    (
        "Moved",
        "tag == \"0xdead\"",
        "line 1, column 8, at `\"0xdead\"`: bytes are written as `0x` and 8 hex digits",
    ),
    (
        "Moved",
        "tag == b'\\xff'",
        "line 1, column 8, at `b'\\xff'`: this has 1 bytes, and it meets bytes4",
    ),
    ("Shape", "point.z == 5", "line 1, column 7, at `z`: no member `z`; there are `x`, `owner`"),
    (
        "Shape",
        "point == named",
        "line 1, column 1, at `point`: a tuple is not compared as a whole; compare its parts",
    ),
];

#[test]
fn hashed_arguments_patterns_and_signed_limits_are_explained() {
    for (name, condition, expected) in OTHER_ERRORS {
        assert_eq!(error(name, condition), format!("condition, {expected}"), "{condition}");
    }
    let big = "text.matches(\"(a{1,900}){1,900}\")";
    assert!(error("Said", big).contains("the pattern is not usable"), "{}", error("Said", big));
}

#[test]
fn a_million_characters_are_refused_at_once() {
    let started = std::time::Instant::now();
    for text in ["a", "(", "1+", "from == ", "\"", "//", "!"] {
        let found = error("Transfer", &text.repeat(1_000_000 / text.len()));
        assert!(found.contains("the limit is 65536"), "{found}");
    }
    assert!(started.elapsed().as_millis() < 1000);
}

#[test]
fn the_list_and_label_limits_hold() {
    let wide = labels().into_iter().chain([(
        "wide".to_owned(),
        vec![lookout_types::Address::default(); crate::MAX_LIST_ITEMS + 1].into(),
    )]);
    let wide: Labels = wide.collect();
    let found = Rule::compile(spec(event("Transfer"), "from in labels[\"wide\"]"), &wide);
    let RuleError::At { column, reason, .. } = found.unwrap_err() else { panic!("no place") };
    assert_eq!((column, reason.contains("more than 10000 addresses")), (16, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_condition_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "value", "from", "text", "numbers", "point", ".x", "labels", "[\"treasury\"]", "[1, 2]",
                "[", "]", "(", ")", "&&", "||", "!", "-", "==", "!=", "<", ">", "in", "+", "/", "%",
                "0", "1", "0x01", "\"a\"", "\"0x00\"", "true", "null", "units(\"1\", 6)", "int(", "uint(",
                "size(", "has(", ".size()", ".matches(\"a*\")", ".contains(", "?", ":", "tx.from", "topic",
            ]),
            1..14,
        ),
        name in prop::sample::select(vec!["Transfer", "Moved", "Said", "Shape", "Clash"]),
    ) {
        let condition = words.join(" ");
        if let Err(RuleError::At { line, column, reason, .. }) =
            Rule::compile(spec(event(name), &condition), &labels())
        {
            prop_assert_eq!(line, 1);
            prop_assert!(column <= condition.chars().count() + 1 && !reason.is_empty());
        }
    }
}

#[test]
fn patterns_of_one_rule_are_few() {
    let patterns = |count: usize| vec!["text.matches(\"a{1,9}b\")"; count].join(" || ");
    assert_eq!(error("Said", &patterns(16)), "no error");
    let found = error("Said", &patterns(17));
    assert!(found.ends_with("this is pattern 17, the limit is 16; join them with `|`"), "{found}");
}

#[test]
fn long_names_are_not_compared_with_what_is_not_found() {
    let long = "x".repeat(1 << 20);
    let abi = format!("[\"event Long(uint256 {long}y, uint256 known)\"]");
    let abi = std::sync::Arc::new(lookout_abi::Abi::parse(&abi).unwrap());
    let watch = crate::Watch::Event { abi, event: "Long".to_owned(), addresses: Vec::new() };
    let names = Rule::compile(spec(watch.clone(), "knowm > 1"), &labels()).unwrap_err().to_string();
    assert!(names.ends_with("did you mean `known`?"), "{names}");
    let wrong = format!("{} > 1", "x".repeat(60_000));
    let long = Rule::compile(spec(watch, &wrong), &labels()).unwrap_err().to_string();
    assert!(long.contains("; there are ") && !long.ends_with('y'), "{long}");
}
