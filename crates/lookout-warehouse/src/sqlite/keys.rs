//! The index: which blocks hold an address, an event or a topic.
//!
//! An entry is one 64-bit integer and nothing else: 16 bits of epoch, 34 bits of a hash of what is
//! indexed (the key), 14 bits of the block's offset from the epoch's first height. So the index is
//! a plain integer b-tree, the cheapest thing SQLite can write. Keys may collide; the records decide
//! what matches, so a collision costs a wasted look and changes no answer.

use lookout_types::{Address, Frame, Hash, TransfersOf};

/// An epoch ends with the block that brings it to this many entries: 2^18 entries are some four
/// megabytes, which one batch rewrites without effort; smaller epochs would make old chains slower
/// to search.
pub(super) const EPOCH_ENTRIES: u64 = 1 << 18;
/// Most blocks of an epoch, by the bits of the offset.
pub(super) const EPOCH_BLOCKS: u64 = 1 << OFFSET_BITS;
/// Most epochs of a chain, by the bits of the epoch: 17 billion entries.
pub(super) const EPOCHS_MAX: u64 = 1 << (64 - KEY_BITS - OFFSET_BITS);

const KEY_BITS: u32 = 34;
const OFFSET_BITS: u32 = 14;

/// A hash of one thing that records can be searched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

impl Key {
    /// Below every other key.
    pub(super) const LOWEST: Self = Self(0);
    /// Above every other key.
    pub(super) const HIGHEST: Self = Self((1 << KEY_BITS) - 1);

    /// Logs of a contract.
    pub(super) fn address(address: &Address) -> Self {
        Self::of(1, &[&address.0])
    }

    /// Logs of an event.
    pub(super) fn event(topic0: &Hash) -> Self {
        Self::of(2, &[&topic0.0])
    }

    /// Logs of an event of a contract: where both are frequent, their meeting may be rare.
    pub(super) fn address_event(address: &Address, topic0: &Hash) -> Self {
        Self::of(3, &[&address.0, &topic0.0])
    }

    /// Logs with this as their second, third or fourth topic.
    pub(super) fn topic(topic: &Hash) -> Self {
        Self::of(4, &[&topic.0])
    }

    /// Transfers from or to an address; the same key as of the topic that names it.
    pub(super) fn party(address: &Address) -> Self {
        let mut topic = [0; 32];
        topic[12..].copy_from_slice(&address.0);
        Self::topic(&Hash(topic))
    }

    /// Blocks with native transfers.
    pub(super) fn native() -> Self {
        Self::of(5, &[])
    }

    /// Blocks with logs in quarantine.
    pub(super) fn odd() -> Self {
        Self::of(6, &[])
    }

    /// A multiply-and-fold hash in the manner of wyhash. It is part of the file format.
    fn of(kind: u64, parts: &[&[u8]]) -> Self {
        const A: u64 = 0xa076_1d64_78bd_642f;
        const B: u64 = 0xe703_7ed1_a0b4_28db;
        let mut hash = A ^ kind;
        for part in parts {
            for chunk in part.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                hash = fold(hash ^ u64::from_le_bytes(word), B);
            }
        }
        Self(fold(hash ^ B, A) >> (64 - KEY_BITS))
    }

    /// The entry of this key for the block at `offset` of `epoch`.
    pub(super) fn entry(self, epoch: u64, offset: u64) -> Entry {
        Entry(((epoch << KEY_BITS | self.0) << OFFSET_BITS) | offset)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
    u64::try_from(low ^ high).expect("64 bits")
}

/// One entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64);

impl Entry {
    /// As SQLite's signed integers, in the same order.
    pub(super) fn to_sql(self) -> i64 {
        (self.0 ^ 1 << 63).cast_signed()
    }

    /// The offset of the block that an entry read from SQLite is about.
    pub(super) fn offset_of(sql: i64) -> u64 {
        sql.cast_unsigned() & (EPOCH_BLOCKS - 1)
    }
}

/// What a frame's records are found by, each once.
pub(super) fn keys_of(frame: &Frame, found: &TransfersOf) -> Vec<Key> {
    let mut keys = Vec::with_capacity(4 * frame.logs.len() + 2);
    let mut last: Option<(&Address, Option<&Hash>)> = None;
    for log in &frame.logs {
        let contract = (&log.address, log.topics.first());
        if last != Some(contract) {
            last = Some(contract);
            keys.push(Key::address(&log.address));
            if let Some(topic0) = log.topics.first() {
                keys.push(Key::event(topic0));
                keys.push(Key::address_event(&log.address, topic0));
            }
        }
        keys.extend(log.topics.iter().skip(1).map(Key::topic));
    }
    // The parties of token transfers are topics already.
    for native in found.transfers.iter().filter(|t| t.log_index.is_none()) {
        keys.extend([Key::native(), Key::party(&native.from), Key::party(&native.to)]);
    }
    if !found.odd.is_empty() {
        keys.push(Key::odd());
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_epoch_then_key_then_offset() {
        let key = Key::native();
        let (low, high) = (Key::LOWEST, Key::HIGHEST);
        let ordered = [
            low.entry(0, 0),
            key.entry(0, 5),
            key.entry(0, EPOCH_BLOCKS - 1),
            high.entry(0, EPOCH_BLOCKS - 1),
            low.entry(1, 0),
            low.entry(EPOCHS_MAX / 2, 0),
            high.entry(EPOCHS_MAX - 1, EPOCH_BLOCKS - 1),
        ];
        let sql = ordered.map(Entry::to_sql);
        assert!(sql.is_sorted_by(|a, b| a < b), "{sql:?}");
        assert_eq!(sql[0], i64::MIN);
        assert_eq!(sql[6], i64::MAX);
        assert_eq!(Entry::offset_of(sql[1]), 5);
        assert_eq!(Entry::offset_of(sql[6]), EPOCH_BLOCKS - 1);
    }

    #[test]
    fn keys_spread_and_never_change() {
        let mut keys: Vec<Key> = (0..100_000_u32)
            .map(|n| {
                let mut address = [0; 20];
                address[16..].copy_from_slice(&n.to_be_bytes());
                Key::party(&Address(address))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert!(keys.len() > 99_990, "{}", keys.len());
        // Files hold these; another hash needs another schema version.
        assert_eq!(Key::native(), Key(7_566_223_843));
        assert_eq!(Key::party(&Address([7; 20])), Key(7_285_560_920));
    }
}
