//! What is wanted of the logs, ready to be asked for and to be checked.

use std::collections::BTreeSet;
use std::fmt::Write;

use alloy_primitives::map::{AddressSet, B256Set};
use alloy_primitives::{B256, Bloom};
use lookout_types::{Address, Hash, Height, Log};

use super::Wants;
use super::bloom::Bits;

/// The filter of a follower's logs.
#[derive(Debug)]
pub(crate) struct Filter {
    addresses: AddressSet,
    topics: B256Set,
    address_bits: Vec<Bits>,
    topic_bits: Vec<Bits>,
    /// Whether no upstream's word alone will do.
    pub(super) confirmed: bool,
    /// The members of the filter's JSON besides the blocks, each with a comma in front.
    members: String,
}

impl Filter {
    pub(crate) fn of(wants: &Wants) -> Self {
        // Sorted and without repetitions, so that equal wants are asked in equal words.
        let addresses: BTreeSet<Address> = wants.addresses.iter().copied().collect();
        let topics: BTreeSet<Hash> = wants.topics.iter().copied().collect();
        let mut members = String::new();
        if !addresses.is_empty() {
            let list = addresses.iter().map(|address| {
                // Not in its EIP-55 form, which costs a hash each and tells a node nothing.
                alloy_primitives::hex::encode_prefixed(address.0)
            });
            append(&mut members, ",\"address\":[", list, "]");
        }
        if !topics.is_empty() {
            append(&mut members, ",\"topics\":[[", topics.iter().map(Hash::to_string), "]]");
        }
        Self {
            address_bits: addresses.iter().map(|address| Bits::of(&address.0)).collect(),
            topic_bits: topics.iter().map(|topic| Bits::of(&topic.0)).collect(),
            addresses: addresses.into_iter().map(|address| address.0.into()).collect(),
            topics: topics.into_iter().map(|topic| B256::new(topic.0)).collect(),
            confirmed: wants.confirmed,
            members,
        }
    }

    /// Whether every log is wanted.
    pub(super) fn is_everything(&self) -> bool {
        self.addresses.is_empty() && self.topics.is_empty()
    }

    /// Whether such a log is wanted.
    pub(super) fn wants(&self, address: Address, topics: &[Hash]) -> bool {
        (self.addresses.is_empty()
            || self.addresses.contains(&alloy_primitives::Address::new(address.0)))
            && (self.topics.is_empty()
                || topics.first().is_some_and(|topic| self.topics.contains(&B256::new(topic.0))))
    }

    /// How many kinds of wanted logs may be in a block with this bloom: pairs of contract and
    /// first topic, or one of the two where the other is not limited.
    pub(super) fn kinds_that_may_be_in(&self, bloom: &Bloom) -> usize {
        let may = |bits: &[Bits]| match bits.len() {
            0 => 1,
            _ => bits.iter().filter(|bits| bits.may_be_in(bloom)).count(),
        };
        may(&self.address_bits) * may(&self.topic_bits)
    }

    /// How many kinds there are among these logs.
    pub(super) fn kinds_among(&self, logs: &[Log]) -> usize {
        let kind = |log: &Log| {
            let address = (!self.addresses.is_empty()).then_some(log.address);
            let topic = if self.topics.is_empty() { None } else { log.topics.first().copied() };
            (address, topic)
        };
        let mut kinds: Vec<_> = logs.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len()
    }

    /// Parameters of `eth_getLogs` for a range.
    pub(super) fn on_range(&self, from: Height, to: Height) -> String {
        let members = &self.members;
        format!("[{{\"fromBlock\":\"{from:#x}\",\"toBlock\":\"{to:#x}\"{members}}}]")
    }

    /// Parameters of `eth_getLogs` for one block.
    pub(super) fn on_block(&self, hash: &Hash) -> String {
        let members = &self.members;
        format!("[{{\"blockHash\":\"{hash}\"{members}}}]")
    }
}

fn append(text: &mut String, open: &str, items: impl Iterator<Item = String>, close: &str) {
    text.push_str(open);
    for (at, item) in items.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(text, "{comma}\"{item}\"").expect("writing to a text does not fail");
    }
    text.push_str(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(address: u8, topic: u8) -> Log {
        Log {
            address: Address([address; 20]),
            topics: vec![Hash([topic; 32])],
            data: bytes::Bytes::new(),
            transaction_hash: Hash::default(),
            transaction_index: 0,
            log_index: 0,
        }
    }

    #[test]
    fn questions_are_spelled_as_nodes_read_them() {
        let nothing = Filter::of(&Wants::default());
        assert_eq!(nothing.on_range(1, 255), r#"[{"fromBlock":"0x1","toBlock":"0xff"}]"#);
        let wants = Wants {
            whole: false,
            addresses: vec![Address([2; 20]), Address([1; 20]), Address([2; 20])],
            topics: vec![Hash([3; 32])],
            confirmed: false,
        };
        let (one, two) = ("01".repeat(20), "02".repeat(20));
        let (topic, block) = ("03".repeat(32), "04".repeat(32));
        let expected = format!(
            r#"[{{"blockHash":"0x{block}","address":["0x{one}","0x{two}"],"topics":[["0x{topic}"]]}}]"#
        );
        assert_eq!(Filter::of(&wants).on_block(&Hash([4; 32])), expected);
    }

    #[test]
    fn kinds_are_pairs_where_both_are_limited() {
        let (addresses, topics) = (vec![Address([1; 20]), Address([2; 20])], vec![Hash([3; 32])]);
        let logs = [log(1, 3), log(1, 3), log(2, 3)];
        let mut bloom = Bloom::ZERO;
        Bits::of(&[1; 20]).accrue(&mut bloom);
        let both = Filter::of(&Wants { addresses: addresses.clone(), topics, ..Wants::default() });
        assert_eq!((both.kinds_among(&logs), both.kinds_that_may_be_in(&bloom)), (2, 0));
        Bits::of(&[3; 32]).accrue(&mut bloom);
        assert_eq!(both.kinds_that_may_be_in(&bloom), 1);
        let by_address = Filter::of(&Wants { addresses, ..Wants::default() });
        assert_eq!(
            (by_address.kinds_among(&logs), by_address.kinds_that_may_be_in(&bloom)),
            (2, 1)
        );
        assert!(both.wants(Address([1; 20]), &[Hash([3; 32])]));
        assert!(!both.wants(Address([1; 20]), &[]) && by_address.wants(Address([1; 20]), &[]));
        assert!(!both.wants(Address([9; 20]), &[Hash([3; 32])]));
    }
}
