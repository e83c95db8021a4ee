//! Transfers of recorded mainnet blocks, and of logs that only look like transfers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{BlockRef, ChainId, Outcome, Step};

/// The recorded blocks, or a note that they are absent.
#[expect(clippy::disallowed_methods, reason = "where the recorded blocks are")]
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn recorded(path: &str) -> Option<String> {
    let folder = std::env::var_os("LOOKOUT_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    match std::fs::read_to_string(folder.join("evm").join(path)) {
        Ok(text) => Some(text),
        Err(error) => {
            let must = std::env::var("LOOKOUT_TEST_REQUIRE").is_ok_and(|v| v == "all");
            assert!(!must, "recorded blocks are required: {error}");
            eprintln!("SKIPPED: set LOOKOUT_TEST_DATA to the folder with evm/{path}");
            None
        }
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}"))
}

/// A JSON number of any size (`serde_json` keeps what fits 64 bits), or hex.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(hex) => crate::parse_quantity(hex).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

fn bytes(hex: &str) -> Bytes {
    const_hex::decode(hex).unwrap().into()
}

fn log_of(value: &Value, snake: bool) -> Log {
    let key =
        |snake_name: &'static str, camel: &'static str| if snake { snake_name } else { camel };
    let topics = value["topics"].as_array().unwrap();
    Log {
        address: text(value, "address").parse().unwrap(),
        topics: topics.iter().map(|t| t.as_str().unwrap().parse().unwrap()).collect(),
        data: bytes(text(value, "data")),
        transaction_hash: text(value, key("transaction_hash", "transactionHash")).parse().unwrap(),
        transaction_index: u32::try_from(number(
            &value[key("transaction_index", "transactionIndex")],
        ))
        .unwrap(),
        log_index: u32::try_from(number(&value[key("log_index", "logIndex")])).unwrap(),
    }
}

fn frame(logs: Vec<Log>) -> Frame {
    Frame {
        chain: ChainId(1),
        sequence: 1,
        step: Step::Apply,
        block: BlockRef { number: 1, hash: Hash([1; 32]) },
        parent: Hash([0; 32]),
        timestamp: 0,
        transactions: Vec::new(),
        logs,
    }
}

/// `value` exactly as it is written, past the number type of the JSON parser.
fn decimal<'a>(line: &'a str, key: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{key}\": ")).unwrap();
    rest.split([',', '}']).next().unwrap()
}

#[test]
fn two_recorded_blocks_decode_to_exactly_their_recorded_transfers() {
    let Some(logs) = recorded("mainnet-17173049/logs.json") else { return };
    let told = recorded("mainnet-17173049/token_transfers.json").unwrap();
    let mut blocks: BTreeMap<u64, Vec<Log>> = BTreeMap::new();
    for line in lines(&logs) {
        blocks.entry(number(&line["block_number"])).or_default().push(log_of(&line, true));
    }
    let mut found = Vec::new();
    for (height, logs) in blocks {
        let of = transfers(&frame(logs));
        assert_eq!(of.odd, [], "block {height}");
        found.extend(of.transfers.into_iter().map(|t| (height, t)));
    }
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told.len(), 291);
    // The recorder knew ERC-20 and ERC-721 only; the blocks hold one transfer of ERC-1155 besides.
    let multi: Vec<_> =
        found.extract_if(.., |(_, t)| matches!(t.asset, Asset::Erc1155 { .. })).collect();
    assert_eq!(multi.len(), 1);
    assert_eq!((multi[0].0, multi[0].1.log_index), (17_173_050, Some(336)));
    assert_eq!(found.len(), 291);
    for (line, (height, transfer)) in told.iter().zip(found) {
        let value: Value = serde_json::from_str(line).unwrap();
        let (contract, amount) = match transfer.asset {
            Asset::Native | Asset::Erc1155 { .. } => panic!("neither is recorded"),
            Asset::Erc20(contract) => (contract, transfer.amount),
            // The recorder puts the token id where the amount stands.
            Asset::Erc721 { contract, id } => (contract, id),
        };
        let told = (
            number(&value["block_number"]),
            text(&value, "token_address").parse().unwrap(),
            text(&value, "from_address").parse().unwrap(),
            text(&value, "to_address").parse().unwrap(),
            decimal(line, "value").parse().unwrap(),
            text(&value, "transaction_hash").parse().unwrap(),
            u32::try_from(number(&value["log_index"])).ok(),
        );
        let found = (
            height,
            contract,
            transfer.from,
            transfer.to,
            amount,
            transfer.transaction_hash,
            transfer.log_index,
        );
        assert_eq!(found, told);
    }
}

#[test]
fn native_transfers_are_those_of_successful_transactions_with_value() {
    let Some(recorded) = recorded("mainnet-17173049/transactions.json") else { return };
    let (mut transactions, mut expected) = (Vec::new(), Vec::new());
    let mut failed = 0;
    for line in recorded.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let to = value["to_address"].as_str().map(|to| to.parse().unwrap());
        let success = number(&value["receipt_status"]) == 1;
        failed += usize::from(!success);
        let amount: Amount = decimal(line, "value").parse().unwrap();
        if success && amount.0 != U256::ZERO {
            expected.push((text(&value, "hash").parse::<Hash>().unwrap(), amount));
        }
        let created = value["receipt_contract_address"].as_str().map(|a| a.parse().unwrap());
        if let Some(created) = created {
            let from = text(&value, "from_address").parse().unwrap();
            assert_eq!(created_address(&from, number(&value["nonce"])), created);
        }
        transactions.push(Transaction {
            hash: text(&value, "hash").parse().unwrap(),
            index: u32::try_from(number(&value["transaction_index"])).unwrap(),
            from: text(&value, "from_address").parse().unwrap(),
            to,
            value: amount,
            nonce: number(&value["nonce"]),
            input: bytes(text(&value, "input")),
            outcome: Some(Outcome {
                success,
                gas_used: number(&value["receipt_gas_used"]),
                gas_price: decimal(line, "receipt_effective_gas_price").parse().unwrap(),
                created,
            }),
        });
    }
    assert_eq!((transactions.len(), failed), (298, 9));
    let mut frame = frame(Vec::new());
    frame.transactions = transactions;
    let mut found: Vec<_> =
        transfers(&frame).transfers.iter().map(|t| (t.transaction_hash, t.amount)).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(found.len() > 50, "{}", found.len());
    for transaction in &mut frame.transactions {
        transaction.outcome = None;
    }
    assert_eq!(transfers(&frame).transfers, []);
}

#[test]
fn a_recorded_block_has_all_three_kinds_of_tokens() {
    let Some(receipts) = recorded("mainnet-21925176/receipts.json") else { return };
    let receipts: Vec<Value> = serde_json::from_str(&receipts).unwrap();
    let logs = receipts.iter().flat_map(|r| r["logs"].as_array().unwrap());
    let of = transfers(&frame(logs.map(|log| log_of(log, false)).collect()));
    let count = |kind: fn(&Asset) -> bool| of.transfers.iter().filter(|t| kind(&t.asset)).count();
    assert_eq!(count(|a| matches!(a, Asset::Erc20(_))), 225);
    assert_eq!(count(|a| matches!(a, Asset::Erc721 { .. })), 8);
    assert_eq!(count(|a| matches!(a, Asset::Erc1155 { .. })), 1);
    assert_eq!(of.odd, []);
}

#[test]
fn the_topics_are_the_hashes_of_their_events() {
    for (topic, event) in [
        (TRANSFER, "Transfer(address,address,uint256)"),
        (TRANSFER_SINGLE, "TransferSingle(address,address,address,uint256,uint256)"),
        (TRANSFER_BATCH, "TransferBatch(address,address,address,uint256[],uint256[])"),
    ] {
        assert_eq!(topic.0, *Keccak256::digest(event), "{event}");
        assert!(is_transfer_topic(&topic));
    }
}

fn words(words: &[u64]) -> Bytes {
    words.iter().flat_map(|w| U256::from(*w).to_be_bytes::<32>()).collect::<Vec<_>>().into()
}

fn party(n: u8) -> Hash {
    let mut word = [0; 32];
    word[31] = n;
    Hash(word)
}

fn log(topics: &[Hash], data: Bytes) -> Log {
    Log {
        address: Address([9; 20]),
        topics: topics.to_vec(),
        data,
        transaction_hash: Hash([7; 32]),
        transaction_index: 3,
        log_index: 5,
    }
}

#[test]
fn what_looks_like_a_transfer_but_is_none_is_told() {
    let (a, b, not) = (party(1), party(2), Hash([1; 32]));
    let max = Bytes::from(vec![0xff; 96]);
    for (topics, data, reason) in [
        (vec![TRANSFER], words(&[1, 2, 3]), OddReason::Topics),
        (vec![TRANSFER, a], words(&[1, 2]), OddReason::Topics),
        (vec![TRANSFER, a, b], Bytes::new(), OddReason::DataLength),
        (vec![TRANSFER, a, b], Bytes::from(vec![0; 31]), OddReason::DataLength),
        (vec![TRANSFER, a, b], words(&[1, 2]), OddReason::DataLength),
        (vec![TRANSFER, a, b, a], words(&[1]), OddReason::DataLength),
        (vec![TRANSFER, not, b], words(&[1]), OddReason::NotAnAddress),
        (vec![TRANSFER, a, not, a], Bytes::new(), OddReason::NotAnAddress),
        (vec![TRANSFER_SINGLE, a, b], words(&[1, 2]), OddReason::Topics),
        (vec![TRANSFER_SINGLE, a, b, b], words(&[1, 2, 3]), OddReason::DataLength),
        (vec![TRANSFER_SINGLE, a, not, b], words(&[1, 2]), OddReason::NotAnAddress),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64]), OddReason::DataLength),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64, 96]), OddReason::Offset),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64, 96, 1, 7]), OddReason::Offset),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64, 128, 1, 7, 0]), OddReason::BatchLengths),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64, u64::MAX, 0]), OddReason::Offset),
        (vec![TRANSFER_BATCH, a, b, b], words(&[u64::MAX - 31, 64, 0]), OddReason::Offset),
        (vec![TRANSFER_BATCH, a, b, b], words(&[64, 64, u64::MAX]), OddReason::Offset),
        (vec![TRANSFER_BATCH, a, b, b], max, OddReason::Offset),
    ] {
        let odd = OddLog { log_index: 5, reason };
        let told = TransfersOf { transfers: Vec::new(), odd: vec![odd] };
        assert_eq!(
            transfers(&frame(vec![log(&topics, data.clone())])),
            told,
            "{topics:?} {data:?}"
        );
    }
    for topics in [vec![], vec![not], vec![not, TRANSFER, a]] {
        assert_eq!(transfers(&frame(vec![log(&topics, words(&[1]))])), TransfersOf::default());
    }
}

#[test]
fn batches_keep_their_order_and_share_one_log() {
    let topics = [TRANSFER_BATCH, party(8), party(1), party(2)];
    // Amounts before ids, as an encoder may lay them out.
    let data = words(&[160, 64, 2, 70, 80, 2, 7, 8]);
    let found = transfers(&frame(vec![log(&topics, data)])).transfers;
    let told: Vec<_> = found.iter().map(|t| (t.asset, t.amount, t.batch_index)).collect();
    let asset = |id: u64| Asset::Erc1155 { contract: Address([9; 20]), id: Amount(U256::from(id)) };
    let amount = |n: u64| Amount(U256::from(n));
    assert_eq!(told, [(asset(7), amount(70), 0), (asset(8), amount(80), 1)]);
    let empty = transfers(&frame(vec![log(&topics, words(&[64, 64, 0]))]));
    assert_eq!(empty, TransfersOf::default());
}

proptest! {
    /// No log makes it panic, and a transfer event gives transfers or is told, never neither
    /// (an empty batch apart).
    #[test]
    fn hostile_logs_are_decoded_or_told(
        kind in 0..3_usize,
        topics in proptest::collection::vec(prop_oneof![Just([0; 32]), any::<[u8; 32]>()], 0..4),
        head in proptest::collection::vec(0..200_u64, 0..8),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut all = vec![[TRANSFER, TRANSFER_SINGLE, TRANSFER_BATCH][kind]];
        all.extend(topics.into_iter().map(Hash));
        let data = [words(&head).as_ref(), &tail].concat();
        let words = data.len() / WORD_BYTES;
        let of = transfers(&frame(vec![log(&all, data.into())]));
        prop_assert!(of.odd.len() <= 1 && of.transfers.len() <= words.max(1));
        prop_assert!(kind == 2 || of.odd.len() + of.transfers.len() == 1);
    }
}
