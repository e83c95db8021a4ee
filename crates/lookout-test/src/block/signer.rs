//! Who sends the transactions of made-up chains.

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use secp256k1::ecdsa::RecoveryId;
use secp256k1::{Message, SECP256K1, SecretKey};

/// An account whose key is known.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    key: SecretKey,
    pub(crate) address: Address,
}

impl Signer {
    /// The account with this number.
    pub(crate) fn numbered(number: u64) -> Self {
        let secret = keccak256([b"signer".as_slice(), &number.to_be_bytes()].concat());
        let key = SecretKey::from_byte_array(secret.0).expect("below the curve's order");
        let public = key.public_key(SECP256K1).serialize_uncompressed();
        Self { key, address: Address::from_raw_public_key(&public[1..]) }
    }

    pub(crate) fn sign(&self, hash: B256) -> Signature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key);
        let (recovery, bytes) = signature.serialize_compact();
        let half = |at: usize| U256::from_be_slice(&bytes[at..at + 32]);
        // The other two of the four stand for an `r` that is one in 2^128.
        Signature::new(half(0), half(32), recovery == RecoveryId::One)
    }
}
