//! Where a live stream stands, as the opaque text that resumes it.

use std::collections::BTreeMap;

use lookout_store::AlertPosition;
use lookout_types::{ChainId, Frame, Step};

/// First byte of a cursor; a new layout gets a new one.
const VERSION: u8 = 1;
/// Longest cursor in bytes: far more chains than anyone follows.
const BYTES_MAX: usize = 2 << 10;
/// Every record of a frame.
const WHOLE: u32 = u32::MAX;

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    pub(super) chains: BTreeMap<ChainId, ChainAt>,
    /// The last alert that was told; `None` where alerts are not asked for.
    pub(super) alerts: Option<AlertPosition>,
}

/// Where a stream stands in the frames of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainAt {
    /// The last frame of which something was told; 0 before the first.
    pub(super) sequence: u64,
    /// How many of its messages were told, or passed over.
    pub(super) told: u32,
    /// Which frame that was: tells whether the bus still holds the same history.
    pub(super) mark: Mark,
}

/// The start of a frame's block hash, turned over for an undo; zero where it is not known.
pub(super) type Mark = [u8; 8];

/// The mark of a frame.
pub(super) fn mark_of(frame: &Frame) -> Mark {
    let mark: &Mark = frame.block.hash.0.first_chunk().expect("a hash is longer than 8 bytes");
    match frame.step {
        Step::Apply => *mark,
        Step::Undo => mark.map(|byte| !byte),
    }
}

impl ChainAt {
    /// Behind all of a frame.
    pub(super) fn behind(sequence: u64, mark: Mark) -> Self {
        Self { sequence, told: WHOLE, mark }
    }

    /// Whether nothing of its frame is left to tell.
    pub(super) fn is_whole(&self) -> bool {
        self.told == WHOLE
    }
}

impl Cursor {
    pub(super) fn encode(&self) -> String {
        let mut bytes = vec![VERSION, u8::try_from(self.chains.len()).unwrap_or(u8::MAX)];
        for (chain, at) in &self.chains {
            bytes.extend(chain.0.to_be_bytes());
            bytes.extend(at.sequence.to_be_bytes());
            bytes.extend(at.told.to_be_bytes());
            bytes.extend(at.mark);
        }
        if let Some(alerts) = &self.alerts {
            bytes.extend(alerts.changed.to_be_bytes());
            bytes.extend(alerts.id.as_bytes());
        }
        const_hex::encode(bytes)
    }

    /// Reads a cursor; `None` when it is none of ours.
    pub(super) fn decode(text: &str) -> Option<Self> {
        if text.len() > 2 * BYTES_MAX {
            return None;
        }
        let bytes = const_hex::decode(text).ok()?;
        let (&[version, chains], mut rest) = bytes.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let mut cursor = Self::default();
        for _ in 0..chains {
            let (chain, after) = rest.split_first_chunk()?;
            let (sequence, after) = after.split_first_chunk()?;
            let (told, after) = after.split_first_chunk()?;
            let (mark, after) = after.split_first_chunk()?;
            rest = after;
            let chain = ChainId(u64::from_be_bytes(*chain));
            let sequence = u64::from_be_bytes(*sequence);
            let at = ChainAt { sequence, told: u32::from_be_bytes(*told), mark: *mark };
            cursor.chains.insert(chain, at);
        }
        if !rest.is_empty() {
            let (changed, id) = rest.split_first_chunk()?;
            let id = std::str::from_utf8(id).ok()?;
            // Ids are printable ASCII; Postgres would refuse a NUL with an error of its own.
            if !id.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return None;
            }
            let changed = i64::from_be_bytes(*changed);
            cursor.alerts = Some(AlertPosition { changed, id: id.to_owned() });
        }
        Some(cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back(
            chains in prop::collection::btree_map(
                any::<u64>(), (any::<u64>(), any::<u32>(), any::<[u8; 8]>()), 0..5),
            alerts in prop::option::of((any::<i64>(), "[0-9a-f-]{0,36}")),
        ) {
            let at = |(sequence, told, mark)| ChainAt { sequence, told, mark };
            let chains = chains.into_iter().map(|(id, place)| (ChainId(id), at(place))).collect();
            let alerts = alerts.map(|(changed, id)| AlertPosition { changed, id });
            let cursor = Cursor { chains, alerts };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f]{0,200}|.{0,40}") {
            if let Some(cursor) = Cursor::decode(&text) {
                prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
            }
        }
    }

    #[test]
    fn other_texts_are_no_cursors() {
        for text in ["", "zz", "00", "0200", "0101", "0100ff", &"01".repeat(3000)] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
        assert_eq!(Cursor::decode("0100"), Some(Cursor::default()));
    }
}
