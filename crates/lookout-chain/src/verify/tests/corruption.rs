//! One wrong digit in any field is caught, but for the fields that no hash commits to.

use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::super::*;
use super::data::{Text, anvil, bytes, full_blocks, recorded, texts, value};

/// Fields of a block that no hash commits to, and why that is so.
const BLOCK_UNCOMMITTED: &[(&str, &str)] = &[
    ("size", "counted by the node; nodes differ in what they count"),
    ("totalDifficulty", "a sum over all ancestors, which no header holds"),
];

/// Fields of one transaction by hash, without its block.
const TRANSACTION_UNCOMMITTED: &[(&str, &str)] = &[
    ("blockHash", "which block has it is not part of a transaction; `check_block` checks it"),
    ("blockNumber", "as `blockHash`"),
    ("blockTimestamp", "as `blockHash`"),
    ("transactionIndex", "as `blockHash`"),
    ("gasPrice", "from type 2 on the price paid follows from the block; `check_block` checks it"),
];

/// Fields of receipts that the receipts root does not commit to, all of which
/// `check_receipts_in_block` checks.
const RECEIPTS_UNCOMMITTED: &[(&str, &str)] = &[
    ("[].transactionHash", "a receipt is found by position (its logs must agree, if it has any)"),
    ("[].from", "part of the transaction"),
    ("[].to", "part of the transaction"),
    ("[].contractAddress", "follows from the transaction's sender and nonce"),
    ("[].effectiveGasPrice", "follows from the transaction and the base fee"),
    ("[].blobGasUsed", "follows from the transaction's number of blobs"),
    ("[].blobGasPrice", "follows from the header by rules that change with forks"),
];

fn is_listed(list: &[(&str, &str)], text: &Text) -> bool {
    list.iter().any(|(pattern, _)| *pattern == text.pattern())
}

/// A type that Ethereum does not have makes the answer unverifiable, which is no approval.
fn caught(result: &Result<Finding, VerifyError>, text: &Text) -> bool {
    match result {
        Err(_) => true,
        Ok(Finding::Unverifiable(_)) => text.path.ends_with("type"),
        Ok(Finding::Verified) => false,
    }
}

fn blocks() -> Vec<Vec<u8>> {
    let mut blocks = full_blocks();
    blocks.extend([anvil("block1"), anvil("block2")]);
    blocks
}

#[test]
fn every_digit_of_every_header_is_committed() {
    let mut headers = blocks();
    headers.extend(recorded("mainnet-21925176/block.json"));
    for block in headers {
        let mut header = value(&block);
        for below in ["transactions", "withdrawals", "uncles"] {
            header.as_object_mut().unwrap().remove(below);
        }
        let header = bytes(&header);
        assert_eq!(check_header(&header).unwrap().1, Finding::Verified);
        for text in texts(&header) {
            for digit in 0..text.digits {
                let by = u32::try_from(digit % 15 + 1).unwrap();
                let result = check_header(&text.corrupt(&header, digit, by)).map(|(_, f)| f);
                let committed = !is_listed(BLOCK_UNCOMMITTED, &text);
                assert_eq!(caught(&result, &text), committed, "{} {digit}: {result:?}", text.path);
            }
        }
    }
}

#[test]
fn every_field_of_every_transaction_is_committed() {
    for block in blocks() {
        for (i, tx) in value(&block)["transactions"].as_array().unwrap().iter().enumerate() {
            let asked = tx["hash"].as_str().unwrap().parse().unwrap();
            let priced_by_itself = matches!(tx["type"].as_str(), Some("0x0" | "0x1"));
            let json = bytes(tx);
            for (j, text) in texts(&json).into_iter().enumerate() {
                let committed = !is_listed(TRANSACTION_UNCOMMITTED, &text)
                    || text.path == "gasPrice" && priced_by_itself;
                if !committed {
                    continue;
                }
                let (digit, by) = ((i * 7 + j) % text.digits, u32::try_from(j % 15 + 1).unwrap());
                let result = check_transaction(&text.corrupt(&json, digit, by), asked);
                assert!(caught(&result, &text), "{asked} {}: {result:?}", text.path);
            }
        }
    }
}

/// Draws a text of one of the answers, a digit of it and a change of it.
fn random_corruptions(
    cases: u32,
    answers: &[Vec<u8>],
    mut check: impl FnMut(usize, &Text, &[u8]) -> bool,
) {
    if answers.is_empty() {
        return;
    }
    let texts: Vec<_> = answers.iter().map(|answer| texts(answer)).collect();
    let config = Config { cases, rng_seed: RngSeed::Fixed(22_431_080), ..Config::default() };
    let random =
        (0..answers.len(), proptest::num::usize::ANY, proptest::num::usize::ANY, 1..16_u32);
    let check = std::cell::RefCell::new(&mut check);
    TestRunner::new(config)
        .run(&random, |(answer, text, digit, by)| {
            let text = &texts[answer][text % texts[answer].len()];
            let copy = text.corrupt(&answers[answer], digit % text.digits, by);
            proptest::prop_assert!(
                check.borrow_mut()(answer, text, &copy),
                "{}: {}",
                text.path,
                String::from_utf8_lossy(&copy[text.start..][..text.digits])
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_wrong_digit_anywhere_in_a_block_is_caught() {
    random_corruptions(300, &blocks(), |_, text, copy| {
        let result = check_block(copy).map(|(_, finding)| finding);
        caught(&result, text) != is_listed(BLOCK_UNCOMMITTED, text)
    });
}

#[test]
fn places_and_prices_inside_a_block_are_checked() {
    let block = anvil("block2");
    let fields = ["blockHash", "blockNumber", "blockTimestamp", "transactionIndex", "gasPrice"];
    for text in texts(&block) {
        let field = text.path.rsplit('.').next().unwrap();
        if text.path.starts_with("transactions[") && fields.contains(&field) {
            for digit in 0..text.digits {
                let result = check_block(&text.corrupt(&block, digit, 3)).map(|(_, f)| f);
                assert!(result.is_err(), "{}: {result:?}", text.path);
            }
        }
    }
}

#[test]
fn a_wrong_digit_in_receipts_is_caught() {
    let Some(block) = recorded("mainnet-21925176/block.json") else { return };
    let Some(receipts) = recorded("mainnet-21925176/receipts.json") else { return };
    let header = parse_header(&block).unwrap();
    random_corruptions(300, &[receipts], |_, text, copy| {
        is_listed(RECEIPTS_UNCOMMITTED, text) || caught(&check_receipts(copy, &header), text)
    });
}

#[test]
fn every_field_of_receipts_is_committed_by_root_or_block() {
    for (block, receipts) in [("block1", "receipts1"), ("block2", "receipts2")] {
        let (block, receipts) = (anvil(block), anvil(receipts));
        let header = parse_header(&block).unwrap();
        for text in texts(&receipts) {
            let of_the_block = is_listed(RECEIPTS_UNCOMMITTED, &text);
            let by_the_header_alone = text.path.ends_with("blobGasPrice");
            for digit in 0..text.digits.min(64) {
                let copy = text.corrupt(&receipts, digit, 1);
                let alone = check_receipts(&copy, &header);
                assert!(of_the_block || caught(&alone, &text), "{}: {alone:?}", text.path);
                let in_block = check_receipts_in_block(&copy, &block);
                let is_caught = caught(&in_block, &text);
                assert_ne!(is_caught, by_the_header_alone, "{}: {in_block:?}", text.path);
            }
        }
    }
}
