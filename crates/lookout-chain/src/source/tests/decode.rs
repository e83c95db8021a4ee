//! Which log answers are taken, without any upstream.

use alloy_primitives::{Bytes, Log, LogData};
use lookout_types::{Address, ChainId, Frame, Hash, Step};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scene::{Block, TRANSFER, chain, token_address, transfer};
use crate::Wants;
use crate::heads::{Followed, HeaderRules};
use crate::source::collect::{Collector, Found, Standing};
use crate::source::decode::quick::Quick;
use crate::source::decode::{Wrong, logs, strict};
use crate::source::filter::Filter;

/// Three blocks from height 10: three transfers of two tokens, none, two of one token.
fn blocks() -> Vec<Block> {
    let first = vec![transfer(1, 1, 2, 10), transfer(2, 2, 3, 20), transfer(1, 3, 4, 30)];
    chain(10, 0, &[first, Vec::new(), vec![transfer(2, 5, 6, 40), transfer(2, 6, 7, 50)]])
}

fn headers(blocks: &[Block]) -> Vec<Followed> {
    let rules = HeaderRules::of(ChainId(1));
    blocks.iter().map(|b| rules.check(b.header.to_string().as_bytes()).unwrap()).collect()
}

fn all(blocks: &[Block]) -> Vec<Value> {
    blocks.iter().flat_map(|block| block.logs.clone()).collect()
}

fn read(blocks: &[Block], answer: &Value, wants: &Wants) -> Result<Vec<Found>, Wrong> {
    logs(answer.to_string().as_bytes(), &headers(blocks), &Filter::of(wants))
}

/// How the blocks stand when the answer is `change`d.
fn standings(change: impl FnOnce(&mut Vec<Value>)) -> Result<Vec<Standing>, Wrong> {
    let blocks = blocks();
    let mut answer = all(&blocks);
    change(&mut answer);
    let found = read(&blocks, &json!(answer), &Wants::default())?;
    Ok(found.into_iter().map(|found| found.standing).collect())
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Vec<Value>), why: &str) {
    match standings(change) {
        Err(Wrong::Lie(what)) => assert!(what.contains(why), "{what}"),
        other => panic!("{other:?} instead of {why}"),
    }
}

fn token(number: u8) -> Address {
    Address(token_address(number).0.0)
}

fn by_token(number: u8) -> Wants {
    Wants { addresses: vec![token(number)], ..Wants::default() }
}

#[test]
fn every_field_is_read_into_its_block() {
    let blocks = blocks();
    let found = read(&blocks, &json!(all(&blocks)), &Wants::default()).unwrap();
    assert!(found.iter().all(|found| found.standing == Standing::Whole));
    assert_eq!(found.iter().map(|found| found.logs.len()).collect::<Vec<_>>(), [3, 0, 2]);
    for (block, found) in blocks.iter().zip(&found) {
        for (told, log) in block.logs.iter().zip(&found.logs) {
            let own = json!({
                "address": alloy_primitives::Address::from(log.address.0).to_string().to_lowercase(),
                "topics": log.topics.iter().map(Hash::to_string).collect::<Vec<_>>(),
                "data": Bytes::from(log.data.clone()),
                "transactionHash": log.transaction_hash.to_string(),
                "transactionIndex": format!("{:#x}", log.transaction_index),
                "logIndex": format!("{:#x}", log.log_index),
                "blockNumber": told["blockNumber"], "blockHash": told["blockHash"],
                "removed": false,
            });
            assert_eq!(&own, told);
        }
    }
}

#[test]
fn left_out_logs_are_missed() {
    for (left_out, block) in [(0, 0), (1, 0), (2, 0), (3, 2), (4, 2)] {
        let standings = standings(|logs| drop(logs.remove(left_out))).unwrap();
        for (at, standing) in standings.into_iter().enumerate() {
            let lacking = matches!(standing, Standing::Lacking(_));
            assert_eq!(lacking, at == block, "log {left_out}, block {at}");
        }
    }
    let none = standings(Vec::clear).unwrap();
    assert!(matches!(none[..], [Standing::Lacking(_), Standing::Whole, Standing::Lacking(_)]));
}

/// Two logs of one kind between the same holders have one bloom; their numbers tell.
#[test]
fn a_log_that_adds_nothing_to_the_bloom_is_missed_by_its_number() {
    let same = || transfer(1, 1, 2, 10);
    let blocks = chain(10, 0, &[vec![same(), same(), transfer(1, 2, 1, 5)]]);
    let mut answer = all(&blocks);
    answer.remove(0);
    let found = read(&blocks, &json!(answer), &Wants::default()).unwrap();
    assert!(matches!(found[0].standing, Standing::Lacking(_)));
}

#[test]
fn answers_that_contradict_the_question_are_refused() {
    refused(|logs| logs.swap(0, 1), "repeats the number");
    refused(|logs| logs.insert(1, logs[0].clone()), "repeats the number");
    refused(|logs| logs.swap(2, 3), "after logs of a later block");
    refused(|logs| logs[4]["blockNumber"] = json!("0xd"), "outside the range");
    refused(|logs| logs[0]["blockNumber"] = json!("0x9"), "outside the range");
    refused(|logs| logs[1]["removed"] = json!(true), "removed");
    refused(|logs| logs[1]["blockTimestamp"] = json!("0x1"), "another time");
    refused(|logs| logs[1]["transactionIndex"] = json!("0x0"), "does not fit the one before");
    refused(|logs| logs[1]["transactionHash"] = logs[0]["transactionHash"].clone(), "does not fit");
    refused(|logs| logs[2]["transactionIndex"] = json!("0x0"), "does not fit");
    // The holder 99 is in no block, so not in the bloom.
    refused(|logs| logs[1]["topics"] = json!(transfer(1, 1, 99, 0).topics()), "bloom");
    let one = blocks();
    let unwanted = read(&one, &json!(all(&one)), &by_token(1)).unwrap_err();
    assert!(matches!(unwanted, Wrong::Lie(what) if what.contains("not asked for")));
}

#[test]
fn another_blocks_hash_is_a_move_not_a_lie() {
    let moved = standings(|logs| logs[3]["blockHash"] = json!(format!("0x{}", "5".repeat(64))));
    assert_eq!(moved, Err(Wrong::Moved(12)));
}

#[test]
fn malformed_answers_are_refused() {
    for member in [
        "address",
        "topics",
        "data",
        "blockHash",
        "blockNumber",
        "transactionHash",
        "transactionIndex",
        "logIndex",
    ] {
        refused(|logs| drop(logs[0].as_object_mut().unwrap().remove(member)), "a log has no");
        refused(|logs| logs[0][member] = Value::Null, "malformed");
        refused(|logs| logs[0][member] = json!(7), "malformed");
        refused(|logs| logs[0][member] = json!("0xzz"), "malformed");
        refused(|logs| logs[0][member] = json!("12"), "malformed");
    }
    refused(|logs| logs[0]["data"] = json!("0x123"), "even number of hex digits");
    refused(|logs| logs[0]["data"] = json!("0x0x12"), "even number of hex digits");
    refused(|logs| logs[0]["logIndex"] = json!("0x100000000"), "position");
    refused(|logs| logs[0]["blockNumber"] = json!("0x11112222333344445"), "below 2^64");
    refused(|logs| logs[0]["topics"] = json!(vec![TRANSFER; 5]), "more than 4 topics");
    refused(|logs| logs[0] = json!([]), "malformed");
    let blocks = blocks();
    let text = json!(all(&blocks)).to_string();
    let twice = text.replacen("\"removed\":false", "\"removed\":false,\"data\":\"0x\"", 1);
    for bad in [twice.as_str(), "{}", "[", "", "[],[]", &format!("{text}]")] {
        let read = logs(bad.as_bytes(), &headers(&blocks), &Filter::of(&Wants::default()));
        assert!(matches!(read, Err(Wrong::Lie(_))), "{bad}");
    }
}

/// Nothing commits to a log's data, so any length is taken; no transfer is made of a wrong one.
#[test]
fn data_of_31_bytes_makes_no_transfer() {
    let short = |logs: &mut Vec<Value>| logs[0]["data"] = json!(format!("0x{}", "1".repeat(62)));
    let blocks = blocks();
    let mut answer = all(&blocks);
    short(&mut answer);
    let found = read(&blocks, &json!(answer), &Wants::default()).unwrap();
    let frame = Frame {
        chain: ChainId(1),
        sequence: 1,
        step: Step::Apply,
        block: headers(&blocks)[0].block(),
        parent: Hash::default(),
        timestamp: 0,
        transactions: Vec::new(),
        logs: found[0].logs.clone(),
    };
    let of = lookout_types::transfers(&frame);
    assert_eq!((of.transfers.len(), of.odd.len()), (2, 1));
    assert_eq!(of.odd[0].reason, lookout_types::OddReason::DataLength);
}

#[test]
fn logs_without_topics_are_logs_but_topics_cannot_be_left_out() {
    let anonymous = Log {
        address: token_address(3),
        data: LogData::new_unchecked(Vec::new(), Bytes::from_static(&[1, 2, 3])),
    };
    let blocks = chain(5, 0, &[vec![anonymous, transfer(1, 1, 2, 3)]]);
    let found = read(&blocks, &json!(all(&blocks)), &Wants::default()).unwrap();
    assert_eq!(found[0].standing, Standing::Whole);
    assert_eq!((found[0].logs[0].topics.len(), &found[0].logs[0].data[..]), (0, &[1, 2, 3][..]));
    let stripped = standings(|logs| logs[0]["topics"] = json!([])).unwrap();
    assert!(matches!(stripped[0], Standing::Lacking(_)));
}

#[test]
fn filtered_answers_are_whole_when_every_kind_that_may_be_there_is() {
    let blocks = blocks();
    let of = |number: u8| {
        let address = json!(token_address(number).to_string().to_lowercase());
        json!(all(&blocks).into_iter().filter(|l| l["address"] == address).collect::<Vec<_>>())
    };
    let standing = |answer: &Value, wants: &Wants| {
        let found = read(&blocks, answer, wants).unwrap();
        found.into_iter().map(|found| found.standing).collect::<Vec<_>>()
    };
    assert_eq!(standing(&of(1), &by_token(1)), [Standing::Whole; 3]);
    assert_eq!(standing(&of(2), &by_token(2)), [Standing::Whole; 3]);
    let none = standing(&json!([]), &by_token(1));
    assert_eq!(none, [Standing::InDoubt, Standing::Whole, Standing::Whole]);
    let topic = TRANSFER.parse().unwrap();
    let by_topic = Wants { topics: vec![topic], ..Wants::default() };
    assert_eq!(standing(&json!(all(&blocks)), &by_topic), [Standing::Whole; 3]);
    let none = standing(&json!([]), &by_topic);
    assert_eq!(none, [Standing::InDoubt, Standing::Whole, Standing::InDoubt]);
    // Both kinds of the first block are wanted, one came.
    let both = Wants { addresses: vec![token(1), token(2)], ..by_topic };
    let some = standing(&of(2), &both);
    assert_eq!(some, [Standing::InDoubt, Standing::Whole, Standing::Whole]);
}

/// A header that is not hashed by Ethereum's rules proves nothing, so nothing in it is a lie.
#[test]
fn what_contradicts_a_foreign_header_is_foreign() {
    let blocks = blocks();
    let mut headers = headers(&blocks);
    for header in &mut headers {
        header.unverifiable = Some("a chain of its own");
    }
    let mut answer = all(&blocks);
    answer.pop();
    answer[0]["topics"] = json!(transfer(1, 1, 99, 0).topics());
    let answer = json!(answer).to_string();
    let found = logs(answer.as_bytes(), &headers, &Filter::of(&Wants::default())).unwrap();
    let standings: Vec<_> = found.into_iter().map(|found| found.standing).collect();
    assert_eq!(standings, [Standing::Foreign, Standing::Whole, Standing::Foreign]);
}

/// A byte in place of another; `None` takes one out.
fn damage() -> impl Strategy<Value = Option<u8>> {
    prop::option::of(prop::sample::select(b"\"\\,:[]{} x0aF".as_slice()))
}

/// Whether the quick reader takes an answer.
fn is_quick(json: &[u8]) -> bool {
    let (headers, filter) = (headers(&blocks()), Filter::of(&Wants::default()));
    let mut collector = Collector::new(&headers, &filter);
    Quick::new(json).logs(&mut collector).is_some()
}

#[test]
fn compact_answers_are_read_quickly_and_others_as_well() {
    let blocks = blocks();
    let (answer, headers) = (json!(all(&blocks)), headers(&blocks));
    let filter = Filter::of(&Wants::default());
    let compact = answer.to_string();
    let expected = strict(compact.as_bytes(), &headers, &filter).unwrap();
    let first = answer[0].to_string();
    let first = first.strip_prefix('{').unwrap();
    let others = [
        (true, compact.clone()),
        // Another order in one log, and what some nodes add.
        (true, compact.replacen(first, &format!("\"blockTimestamp\":\"0x6553f178\",{first}"), 1)),
        (false, compact.replacen(first, &format!("\"blockTimestamp\":1700000120,{first}"), 1)),
        (false, compact.replacen(first, &format!("\"l1BatchNumber\":null,{first}"), 1)),
        (false, compact.replace(":false", ":null")),
        (false, compact.replacen("\"address\"", "\"\\u0061ddress\"", 1)),
        (false, serde_json::to_string_pretty(&answer).unwrap()),
    ];
    for (quick, text) in others {
        assert_eq!(is_quick(text.as_bytes()), quick, "{text}");
        assert_eq!(logs(text.as_bytes(), &headers, &filter).as_ref(), Ok(&expected), "{text}");
    }
    assert!(is_quick(b"[]"));
}

proptest! {
    /// Damage anywhere: the quick reader takes nothing that the strict one does not, nor otherwise.
    #[test]
    fn what_is_read_quickly_is_what_is_there(
        damage in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..3),
    ) {
        let blocks = blocks();
        let mut text = json!(all(&blocks)).to_string().into_bytes();
        for (at, damage) in damage {
            let at = at.index(text.len());
            match damage {
                Some(byte) => text[at] = byte,
                None => drop(text.remove(at)),
            }
        }
        let (headers, filter) = (headers(&blocks), Filter::of(&Wants::default()));
        prop_assert_eq!(logs(&text, &headers, &filter), strict(&text, &headers, &filter));
    }

    /// Whatever part of the logs is left out: it is seen, but for logs at the end of a block that
    /// add nothing to its bloom.
    #[test]
    fn no_subset_passes_for_the_whole(
        transfers in prop::collection::vec((1..3_u8, 0..4_u64, 0..4_u64), 1..12),
        kept in prop::collection::vec(any::<bool>(), 12),
    ) {
        let emitted: Vec<Log> =
            transfers.iter().map(|(token, from, to)| transfer(*token, *from, *to, 1)).collect();
        let blocks = chain(1, 0, std::slice::from_ref(&emitted));
        let answer: Vec<Value> = all(&blocks)
            .into_iter()
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .map(|(log, _)| log)
            .collect();
        let count = answer.len();
        let prefix = kept.iter().take(emitted.len()).take_while(|kept| **kept).count();
        let bloom = alloy_primitives::logs_bloom(&emitted[..prefix]);
        let passes = count == prefix && bloom == alloy_primitives::logs_bloom(&emitted);
        let found = read(&blocks, &json!(answer), &Wants::default()).unwrap();
        prop_assert_eq!(found[0].standing == Standing::Whole, passes);
    }
}
