//! JSON whose places in the chain are left open, to be filled in as fast as memory is copied.

use serde_json::Value;

/// What stands where a block's own values belong while a stencil is made. Real ones are hashes, too,
/// or far smaller, so that none of these can be met by chance.
pub(super) const HASH: [u8; 32] = [0xb1; 32];
pub(super) const PARENT: [u8; 32] = [0xb2; 32];
pub(super) const NUMBER: u64 = 0xb3b3_b3b3_b3b3_b3b3;
pub(super) const TIMESTAMP: u64 = 0xb4b4_b4b4_b4b4_b4b4;

/// A text with holes.
pub(super) struct Stencil {
    text: Box<[u8]>,
    /// In order: where in the text, and what belongs there.
    holes: Box<[(u32, Hole)]>,
}

#[derive(Debug, Clone, Copy)]
enum Hole {
    Hash,
    Parent,
    Number,
    Timestamp,
}

/// The hex digits for one block's holes.
pub(super) struct Fill {
    hash: String,
    parent: String,
    number: String,
    timestamp: String,
}

impl Fill {
    pub(super) fn new(hash: &[u8; 32], parent: &[u8; 32], number: u64, timestamp: u64) -> Self {
        let (hash, parent) = (const_hex::encode(hash), const_hex::encode(parent));
        Self { hash, parent, number: format!("{number:x}"), timestamp: format!("{timestamp:x}") }
    }

    fn digits(&self, hole: Hole) -> &str {
        match hole {
            Hole::Hash => &self.hash,
            Hole::Parent => &self.parent,
            Hole::Number => &self.number,
            Hole::Timestamp => &self.timestamp,
        }
    }
}

impl Stencil {
    /// Cuts the holes.
    pub(super) fn cut(json: &Value) -> Self {
        let json = json.to_string();
        let marks = [
            (const_hex::encode(HASH), Hole::Hash),
            (const_hex::encode(PARENT), Hole::Parent),
            (format!("{NUMBER:x}"), Hole::Number),
            (format!("{TIMESTAMP:x}"), Hole::Timestamp),
        ];
        let mut found: Vec<(usize, usize, Hole)> = marks
            .iter()
            .flat_map(|(mark, hole)| {
                json.match_indices(mark.as_str()).map(|(at, mark)| (at, mark.len(), *hole))
            })
            .collect();
        found.sort_unstable_by_key(|(at, ..)| *at);
        let (mut text, mut holes, mut rest) = (Vec::new(), Vec::new(), 0);
        for (at, length, hole) in found {
            text.extend_from_slice(&json.as_bytes()[rest..at]);
            holes.push((u32::try_from(text.len()).expect("far below 4 GB"), hole));
            rest = at + length;
        }
        text.extend_from_slice(&json.as_bytes()[rest..]);
        Self { text: text.into(), holes: holes.into() }
    }

    /// Appends the text with its holes filled.
    pub(super) fn write(&self, fill: &Fill, into: &mut Vec<u8>) {
        into.reserve(self.bytes());
        let mut rest = 0;
        for (at, hole) in &self.holes {
            let at = *at as usize;
            into.extend_from_slice(&self.text[rest..at]);
            into.extend_from_slice(fill.digits(*hole).as_bytes());
            rest = at;
        }
        into.extend_from_slice(&self.text[rest..]);
    }

    /// At most so many bytes are written.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + 64 * self.holes.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_hole_is_filled_and_nothing_else_changes() {
        let block = |hash: [u8; 32], parent: [u8; 32], number: u64, time: u64| {
            let hash = const_hex::encode_prefixed(hash);
            json!({
                "hash": hash, "parentHash": const_hex::encode_prefixed(parent), "size": "0x1",
                "number": format!("{number:#x}"), "timestamp": format!("{time:#x}"),
                "transactions": [{"blockHash": hash, "blockNumber": format!("{number:#x}")}],
            })
        };
        let stencil = Stencil::cut(&block(HASH, PARENT, NUMBER, TIMESTAMP));
        for number in [0, 7, u64::MAX] {
            let mut written = b"[".to_vec();
            stencil.write(&Fill::new(&[1; 32], &[2; 32], number, 9), &mut written);
            let expected = format!("[{}", block([1; 32], [2; 32], number, 9));
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            assert!(stencil.bytes() + 1 >= expected.len());
        }
        assert_eq!(Stencil::cut(&json!([])).bytes(), 2);
    }
}
