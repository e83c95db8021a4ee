//! Block headers: RLP, Keccak-256 and the bloom filter, as the Yellow Paper has them.

use sha3::{Digest, Keccak256};

/// Keccak-256 of an RLP-encoded empty list: the hash of no uncles.
const NO_UNCLES: &str = "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347";
/// Root of an empty trie.
const EMPTY_ROOT: &str = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
/// Gas limit of every block.
pub(super) const GAS_LIMIT: u64 = 30_000_000;
/// Base fee of every block, in wei.
pub(super) const BASE_FEE: u64 = 7;

/// A bloom filter over addresses and topics, 2048 bits.
#[derive(Clone)]
pub(super) struct Bloom(pub(super) [u8; 256]);

impl Bloom {
    pub(super) fn new() -> Self {
        Self([0; 256])
    }

    /// Sets the three bits of an address or a topic.
    pub(super) fn add(&mut self, item: &[u8]) {
        let hash = keccak(item);
        for pair in [0, 2, 4] {
            let bit = (usize::from(hash[pair]) << 8 | usize::from(hash[pair + 1])) & 2047;
            self.0[255 - bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// What varies in the headers of simulated blocks.
pub(super) struct Header<'a> {
    pub(super) parent: [u8; 32],
    pub(super) number: u64,
    pub(super) timestamp: u64,
    /// Tells blocks of different branches apart.
    pub(super) salt: u64,
    pub(super) bloom: &'a Bloom,
    /// Anything, where nobody recomputes it.
    pub(super) receipts_root: [u8; 32],
}

pub(super) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

pub(super) fn no_uncles() -> [u8; 32] {
    fixed(NO_UNCLES)
}

pub(super) fn empty_root() -> [u8; 32] {
    fixed(EMPTY_ROOT)
}

fn fixed(hex: &str) -> [u8; 32] {
    let digit = |at: usize| {
        let text = hex.get(at..at + 2).unwrap_or("00");
        u8::from_str_radix(text, 16).unwrap_or_default()
    };
    std::array::from_fn(|i| digit(2 * i))
}

impl Header<'_> {
    /// The salt as `extraData`.
    pub(super) fn extra(&self) -> [u8; 8] {
        self.salt.to_be_bytes()
    }

    /// The block's hash: Keccak-256 of the header's RLP, with the fields of the London fork.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut fields = Vec::with_capacity(600);
        text(&mut fields, &self.parent);
        text(&mut fields, &no_uncles());
        text(&mut fields, &[0; 20]);
        text(&mut fields, &empty_root());
        text(&mut fields, &empty_root());
        text(&mut fields, &self.receipts_root);
        text(&mut fields, &self.bloom.0);
        for number in [0, self.number, GAS_LIMIT, 0, self.timestamp] {
            integer(&mut fields, number);
        }
        text(&mut fields, &self.extra());
        text(&mut fields, &[0; 32]);
        text(&mut fields, &[0; 8]);
        integer(&mut fields, BASE_FEE);
        let mut list = Vec::with_capacity(fields.len() + 3);
        length(&mut list, 0xc0, fields.len());
        list.extend(fields);
        keccak(&list)
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes {
        [byte] if *byte < 0x80 => out.push(*byte),
        _ => {
            length(out, 0x80, bytes.len());
            out.extend(bytes);
        }
    }
}

fn integer(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    text(out, bytes.get(significant..).unwrap_or_default());
}

#[expect(clippy::cast_possible_truncation, reason = "lengths are cut into bytes")]
fn length(out: &mut Vec<u8>, base: u8, length: usize) {
    if length < 56 {
        out.push(base + length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let bytes = bytes.get(significant..).unwrap_or_default();
    out.push(base + 55 + bytes.len() as u8);
    out.extend(bytes);
}
