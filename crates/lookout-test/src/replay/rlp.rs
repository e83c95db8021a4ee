//! As much of RLP as a header needs, and its hash.

use sha3::{Digest, Keccak256};

/// Keccak-256.
pub(super) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// A list under construction.
#[derive(Default)]
pub(super) struct List(Vec<u8>);

impl List {
    /// Appends bytes.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        match bytes {
            [single @ 0..0x80] => self.0.push(*single),
            _ => {
                prefix(0x80, bytes.len(), &mut self.0);
                self.0.extend_from_slice(bytes);
            }
        }
        self
    }

    /// Appends a number: big-endian without leading zeros.
    pub(super) fn number(self, number: u64) -> Self {
        let bytes = number.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.bytes(&bytes[zeros..])
    }

    /// The hash of the whole list.
    pub(super) fn hash(self) -> [u8; 32] {
        let mut encoded = Vec::with_capacity(self.0.len() + 9);
        prefix(0xc0, self.0.len(), &mut encoded);
        encoded.extend_from_slice(&self.0);
        keccak(&encoded)
    }
}

fn prefix(kind: u8, length: usize, into: &mut Vec<u8>) {
    let bytes = length.to_be_bytes();
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match digits {
        [] => into.push(kind),
        [short @ ..56] => into.push(kind + short),
        _ => {
            into.push(kind + 55 + u8::try_from(digits.len()).expect("at most 8"));
            into.extend_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: List, hash: &str) {
        assert_eq!(const_hex::encode(list.hash()), hash);
    }

    #[test]
    fn known_hashes() {
        // The hash of the empty list, which headers without uncles carry.
        check(List::default(), "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
        assert_eq!(List::default().number(0).0, [0x80]);
        assert_eq!(List::default().number(127).number(128).0, [0x7f, 0x81, 0x80]);
        assert_eq!(List::default().bytes(&[1; 56]).0[..3], [0xb8, 56, 1]);
        assert_eq!(List::default().bytes(&[1; 256]).0[..4], [0xb9, 1, 0, 1]);
    }
}
