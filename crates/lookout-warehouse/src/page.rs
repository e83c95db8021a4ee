//! Keyset pages, and the opaque cursor that leads from one to the next.

use lookout_types::{Hash, Height};

use crate::WarehouseError;

/// Most items of one page: enough for tools, small enough for one answer in memory.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// First byte of a cursor; a new layout gets a new one.
const CURSOR_VERSION: u8 = 1;

/// Which end of the chain comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// From the head downwards.
    #[default]
    NewestFirst,
    /// From the first block upwards.
    OldestFirst,
}

/// Which part of a list to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items to return, from 1 to [`PAGE_LIMIT_MAX`].
    pub limit: u32,
    /// The order; a cursor continues only in its own.
    pub order: Order,
    /// `next` of the page before; `None` for the first page.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// The first page of `limit` items, newest first.
    pub fn first(limit: u32) -> Self {
        Self { limit, order: Order::NewestFirst, cursor: None }
    }

    pub(crate) fn check_limit(&self) -> Result<usize, WarehouseError> {
        match usize::try_from(self.limit) {
            Ok(limit) if (1..=PAGE_LIMIT_MAX).contains(&self.limit) => Ok(limit),
            _ => Err(WarehouseError::Invalid(format!(
                "a page holds from 1 to {PAGE_LIMIT_MAX} items, not {}",
                self.limit
            ))),
        }
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items. They can be fewer than asked for, even none, while `next` says that more of the
    /// chain is still to be searched.
    pub items: Vec<T>,
    /// Where the next page goes on; `None` at the end.
    pub next: Option<String>,
}

/// What a cursor says: everything up to this record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) height: Height,
    /// The last record read, counted among all records of its kind in the block, plus one.
    pub(crate) record: u32,
    /// Start of the block's hash: tells whether the block is still the one that was read.
    pub(crate) block: [u8; 8],
}

impl Position {
    /// The first bytes of a block's hash.
    pub(crate) fn mark(hash: &Hash) -> [u8; 8] {
        *hash.0.first_chunk().expect("a hash is longer than 8 bytes")
    }

    /// The end of a block: all of it was read.
    pub(crate) fn behind(height: Height, hash: &Hash, order: Order) -> Self {
        let record = match order {
            Order::NewestFirst => 0,
            Order::OldestFirst => u32::MAX,
        };
        Self { height, record, block: Self::mark(hash) }
    }

    /// Whether all of the block was read.
    pub(crate) fn is_done(&self, order: Order) -> bool {
        match order {
            Order::NewestFirst => self.record == 0,
            Order::OldestFirst => self.record == u32::MAX,
        }
    }

    pub(crate) fn encode(&self, order: Order, filter: u32) -> String {
        let mut bytes = vec![CURSOR_VERSION, u8::from(order == Order::OldestFirst)];
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.record.to_be_bytes());
        bytes.extend(self.block);
        bytes.extend(filter.to_be_bytes());
        const_hex::encode(bytes)
    }

    /// Reads a cursor that was made for the same order and filter.
    pub(crate) fn decode(text: &str, order: Order, filter: u32) -> Result<Self, WarehouseError> {
        let wrong = |reason: &str| WarehouseError::Invalid(format!("the cursor {reason}"));
        let mut bytes = [0; 26];
        const_hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| wrong("is not one that this service gave"))?;
        let [version, oldest_first, rest @ ..] = &bytes;
        let (height, rest) = rest.split_first_chunk().expect("26 bytes");
        let (record, rest) = rest.split_first_chunk().expect("26 bytes");
        let (block, made_for) = rest.split_first_chunk().expect("26 bytes");
        if *version != CURSOR_VERSION {
            return Err(wrong("is from another version; start again without it"));
        }
        if made_for != filter.to_be_bytes() {
            return Err(wrong("belongs to another query; start again without it"));
        }
        if (*oldest_first == 1) != (order == Order::OldestFirst) {
            return Err(wrong("belongs to the other order; start again without it"));
        }
        Ok(Self {
            height: Height::from_be_bytes(*height),
            record: u32::from_be_bytes(*record),
            block: *block,
        })
    }
}

/// Tells the filters of cursors apart.
pub(crate) fn fingerprint(filter: &impl std::fmt::Debug) -> u32 {
    crc32fast::hash(format!("{filter:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_continues_only_its_own_query() {
        let position = Position { height: u64::MAX, record: 7, block: [9; 8] };
        let text = position.encode(Order::OldestFirst, 5);
        assert_eq!(Position::decode(&text, Order::OldestFirst, 5).unwrap(), position);
        let short = text.split_at(2).1;
        for (text, order, filter, reason) in [
            (text.as_str(), Order::OldestFirst, 6, "another query"),
            (text.as_str(), Order::NewestFirst, 5, "other order"),
            (short, Order::OldestFirst, 5, "not one that"),
            ("", Order::OldestFirst, 5, "not one that"),
            ("é", Order::OldestFirst, 5, "not one that"),
            (&format!("02{short}"), Order::OldestFirst, 5, "another version"),
        ] {
            let error = Position::decode(text, order, filter).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn limits_are_from_1_to_1000() {
        for limit in [0, 1001, u32::MAX] {
            assert!(PageRequest::first(limit).check_limit().is_err());
        }
        assert_eq!(PageRequest::first(1000).check_limit().unwrap(), 1000);
    }
}
