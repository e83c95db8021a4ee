//! Finds recorded answers, and the places in them that can be corrupted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::value::RawValue;

/// The eleven consecutive mainnet blocks with full transactions, across the Prague fork.
pub(super) const MAINNET: std::ops::RangeInclusive<u64> = 22_431_080..=22_431_090;

/// A recorded file, or `None` with a loud note when the recorded data are not here.
#[expect(clippy::disallowed_methods, reason = "where test data are is not configuration")]
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn recorded(path: &str) -> Option<Vec<u8>> {
    let root = std::env::var("LOOKOUT_TEST_DATA").map_or_else(
        |_| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let file = root.join("evm").join(path);
    if let Ok(bytes) = std::fs::read(&file) {
        return Some(bytes);
    }
    let required = std::env::var("LOOKOUT_TEST_REQUIRE").is_ok_and(|what| what == "all");
    assert!(!required, "recorded data are required but {} cannot be read", file.display());
    eprintln!("SKIPPED: no recorded data at {}; set LOOKOUT_TEST_DATA", file.display());
    None
}

pub(super) fn mainnet_block(height: u64) -> Option<Vec<u8>> {
    recorded(&format!("mainnet-22431080/{height}.json"))
}

/// The recorded blocks that have their transactions as objects.
pub(super) fn full_blocks() -> Vec<Vec<u8>> {
    let paths = MAINNET.map(|height| format!("mainnet-22431080/{height}.json"));
    paths.chain(["proof_block.json".to_owned()]).filter_map(|path| recorded(&path)).collect()
}

/// One of the answers of an anvil 1.7.1 that mined three blocks.
pub(crate) fn anvil(answer: &str) -> Vec<u8> {
    let all = include_str!("../../../testdata/anvil-1.7.1.json");
    let all: BTreeMap<&str, &RawValue> = serde_json::from_str(all).unwrap();
    all[answer].get().as_bytes().to_vec()
}

pub(crate) fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// A 0x-prefixed text inside a JSON answer.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// As `transactions[3].accessList[0].address`.
    pub(super) path: String,
    /// Offset of its first digit.
    pub(super) start: usize,
    /// How many digits it has; at least one.
    pub(super) digits: usize,
}

impl Text {
    /// The path without the numbers of list entries: `transactions[].accessList[].address`.
    pub(super) fn pattern(&self) -> String {
        self.path.chars().filter(|c| !c.is_ascii_digit()).collect()
    }

    /// A copy of the answer in which one digit is another.
    pub(super) fn corrupt(&self, json: &[u8], digit: usize, by: u32) -> Vec<u8> {
        let mut copy = json.to_vec();
        let at = &mut copy[self.start + digit];
        let old = char::from(*at).to_digit(16).unwrap();
        let new = char::from_digit((old + by) % 16, 16).unwrap();
        *at = u8::try_from(new).unwrap();
        copy
    }
}

/// Every 0x-prefixed text with digits in a JSON answer.
pub(super) fn texts(json: &[u8]) -> Vec<Text> {
    fn walk(base: *const u8, item: &RawValue, path: &str, found: &mut Vec<Text>) {
        let text = item.get();
        match text.as_bytes()[0] {
            b'{' => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap();
                for (key, member) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(base, member, &format!("{path}{dot}{key}"), found);
                }
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                for (i, item) in items.into_iter().enumerate() {
                    walk(base, item, &format!("{path}[{i}]"), found);
                }
            }
            b'"' if text.starts_with("\"0x") && text.len() > 4 => found.push(Text {
                path: path.to_owned(),
                start: text.as_ptr().addr() - base.addr() + 3,
                digits: text.len() - 4,
            }),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let root: &RawValue = serde_json::from_slice(json).unwrap();
    walk(json.as_ptr(), root, "", &mut found);
    found
}
