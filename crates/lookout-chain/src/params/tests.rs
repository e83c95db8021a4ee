//! Blocks and filters in all the spellings that clients use.

use super::*;

#[track_caller]
fn check(json: &str, expected: Option<BlockSelector>) {
    assert_eq!(parse_block(json), expected, "{json}");
}

#[test]
fn blocks_in_every_spelling() {
    let hash = format!("0x{}", "0a".repeat(32));
    let by_hash = Some(BlockSelector::Hash(Hash([0x0a; 32])));
    check("\"latest\"", Some(BlockSelector::Latest));
    check("\"earliest\"", Some(BlockSelector::Number(0)));
    check("\"0x0\"", Some(BlockSelector::Number(0)));
    check("\"0x1b4\"", Some(BlockSelector::Number(436)));
    check(&format!("\"{hash}\""), by_hash);
    check(&format!("{{\"blockHash\":\"{hash}\"}}"), by_hash);
    check("{\"blockNumber\":\"0x10\"}", Some(BlockSelector::Number(16)));
}

#[test]
fn what_only_the_node_can_judge_is_left_to_it() {
    let hash = format!("0x{}", "0a".repeat(32));
    for json in [
        "\"pending\"",
        "\"\"",
        "\"12\"",
        "\"0x\"",
        "\"0x01\"",
        "\"Latest\"",
        "12",
        "null",
        "{}",
        "{\"blockNumber\":\"0x1\",\"x\":1}",
        "\"0x10000000000000000\"",
    ] {
        check(json, None);
    }
    check(&format!("{{\"blockHash\":\"{hash}\",\"requireCanonical\":true}}"), None);
}

#[test]
fn methods_by_number_and_by_hash_take_only_their_own_form() {
    let hash = format!("0x{}", "0a".repeat(32));
    let check = |json: &str, number: bool, by_hash: bool| {
        let raw = RawValue::from_string(format!("[{json}]")).unwrap();
        let params = Params::parse(Some(&raw)).unwrap();
        assert_eq!(params.block_by_number().is_some(), number, "{json}");
        assert_eq!(params.block_by_hash().is_some(), by_hash, "{json}");
    };
    check("\"0x12\"", true, false);
    check("\"safe\"", true, false);
    check(&format!("\"{hash}\""), false, true);
    check(&format!("{{\"blockHash\":\"{hash}\"}}"), false, false);
    check("{\"blockNumber\":\"0x12\"}", false, false);
}

#[test]
fn parameters_are_rewritten_without_touching_the_rest() {
    let raw = RawValue::from_string(r#"[ {"a": 1 }, "latest" ]"#.into()).unwrap();
    let params = Params::parse(Some(&raw)).unwrap();
    assert_eq!(params.with(1, "\"0x1\""), r#"[{"a": 1 },"0x1"]"#);
    assert_eq!(params.without(1), [r#"{"a": 1 }"#]);
    let short = RawValue::from_string(r#"["0xaa"]"#.into()).unwrap();
    let short = Params::parse(Some(&short)).unwrap();
    assert_eq!(short.block(1), None, "what a missing block means differs between nodes");
    assert_eq!(short.with(1, "7"), r#"["0xaa",7]"#);
    let named = RawValue::from_string(r#"{"address":"0x"}"#.into()).unwrap();
    assert!(Params::parse(Some(&named)).is_none());
    assert!(Params::parse(None).unwrap().0.is_empty());
}

#[test]
fn filters_round_trip_with_their_blocks_replaced() {
    let address = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
    let topic = format!("0x{}", "ab".repeat(32));
    let json = format!(
        r#"{{"address":"{}","topics":["{topic}",null,["{topic}"]],"fromBlock":"0x1"}}"#,
        address.to_lowercase()
    );
    let filter = LogFilter::parse(&json).unwrap();
    assert_eq!((filter.from, filter.to), (BlockSelector::Number(1), BlockSelector::Latest));
    assert_eq!(
        filter.on_range(1, 16),
        format!(
            r#"[{{"address":["{address}"],"topics":[["{topic}"],null,["{topic}"]],"fromBlock":"0x1","toBlock":"0x10"}}]"#
        )
    );
    let hash = Hash([1; 32]);
    let on_block = filter.on_block(&hash);
    let again = LogFilter::parse(on_block.trim_matches(['[', ']'])).unwrap();
    assert_eq!(again.block, Some(hash));
    assert_eq!(again.question(), filter.question());
}

#[test]
fn wrong_filters_are_left_to_the_node() {
    for json in [
        "[]",
        "{\"address\":\"0x12\"}",
        "{\"fromBlock\":1}",
        "{\"toBlock\":\"pending\"}",
        "{\"topics\":[\"0x12\"]}",
        "{\"unknown\":1}",
    ] {
        assert_eq!(LogFilter::parse(json), None, "{json}");
    }
}
