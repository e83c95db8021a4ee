//! Bloom filters of logs, with the hash of each address and topic taken once.
//!
//! Source: the Yellow Paper, section 4.3.1: three bits of 2048, from the first six bytes of the
//! Keccak-256 hash, counted from the end.

use alloy_primitives::map::{AddressMap, B256Map};
use alloy_primitives::{Address, B256, Bloom, keccak256};

/// Addresses and topics whose bits are remembered; about 6 MB, and more than a range repeats.
const REMEMBERED_MAX: usize = 1 << 16;

/// The three bits of one address or topic: byte and mask each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits([(u8, u8); 3]);

impl Bits {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let hash = keccak256(bytes);
        let bit = |at: usize| {
            let position = (u16::from(hash[at]) << 8 | u16::from(hash[at + 1])) & 2047;
            let [high, low] = position.to_be_bytes();
            (255 - (high << 5 | low >> 3), 1_u8 << (low & 7))
        };
        Self([bit(0), bit(2), bit(4)])
    }

    pub(super) fn accrue(self, bloom: &mut Bloom) {
        for (byte, mask) in self.0 {
            bloom.0.0[usize::from(byte)] |= mask;
        }
    }

    /// Whether whatever has these bits may have gone into the filter.
    pub(super) fn may_be_in(self, bloom: &Bloom) -> bool {
        self.0.iter().all(|(byte, mask)| bloom.0.0[usize::from(*byte)] & mask != 0)
    }
}

/// Remembers the bits of what came lately.
#[derive(Debug, Default)]
pub(super) struct Memory {
    addresses: AddressMap<Bits>,
    topics: B256Map<Bits>,
}

impl Memory {
    pub(super) fn address(&mut self, address: [u8; 20]) -> Bits {
        if self.addresses.len() >= REMEMBERED_MAX {
            self.addresses.clear();
        }
        *self.addresses.entry(Address::new(address)).or_insert_with(|| Bits::of(&address))
    }

    pub(super) fn topic(&mut self, topic: [u8; 32]) -> Bits {
        if self.topics.len() >= REMEMBERED_MAX {
            self.topics.clear();
        }
        *self.topics.entry(B256::new(topic)).or_insert_with(|| Bits::of(&topic))
    }
}

/// Whether everything in `part` is in `whole`.
pub(super) fn contains(whole: &Bloom, part: &Bloom) -> bool {
    whole.0.iter().zip(part.0.iter()).all(|(whole, part)| part & !whole == 0)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::BloomInput;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_those_of_the_reference(address: [u8; 20], topic: [u8; 32], other: [u8; 32]) {
            let mut memory = Memory::default();
            for _ in 0..2 {
                let (mut own, mut reference) = (Bloom::ZERO, Bloom::ZERO);
                memory.address(address).accrue(&mut own);
                reference.accrue(BloomInput::Raw(&address));
                prop_assert_eq!(own, reference);
                memory.topic(topic).accrue(&mut own);
                reference.accrue(BloomInput::Raw(&topic));
                prop_assert_eq!(own, reference);
                prop_assert!(Bits::of(&topic).may_be_in(&own));
                let may = reference.contains_input(BloomInput::Raw(&other));
                prop_assert_eq!(Bits::of(&other).may_be_in(&own), may);
                let mut more = own;
                memory.topic(other).accrue(&mut more);
                prop_assert!(contains(&more, &own));
                prop_assert_eq!(contains(&own, &more), may);
            }
        }
    }
}
