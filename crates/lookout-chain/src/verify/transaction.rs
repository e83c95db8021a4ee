//! Transactions: their hash and sender.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use lookout_types::{BlockRef, Hash};

use super::envelope::{AnyTransactionJson, Encoded, TransactionJson, encode, require_own_fields};
use super::json::{JsonObject, need, parse, require};
use super::{Finding, VerifyError};

/// EIP-7702, the newest transaction type that Ethereum has.
const KIND_MAX: u64 = 4;

const UNKNOWN_TYPE: &str = "a transaction is of a type that Ethereum does not have";
const UNSIGNED: &str = "a transaction carries no signature of a sender";
const FOREIGN_FIELDS: &str = "a transaction has fields that Ethereum's rules do not hash";
const FOREIGN_CHAIN: &str = "the chain hashes in its own way";

/// Where a transaction says that it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) block_hash: Option<B256>,
    pub(super) block_number: Option<u64>,
    pub(super) block_timestamp: Option<u64>,
    pub(super) index: Option<u64>,
}

/// A transaction after its check.
pub(super) struct Checked {
    pub(super) hash: B256,
    pub(super) place: Place,
    pub(super) content: Content,
}

/// What of it can be relied on.
pub(super) enum Content {
    /// Its hash and its sender follow from its fields.
    Sound(Box<Sound>),
    /// Its hash cannot be recomputed; why.
    Unverifiable(&'static str),
}

/// A transaction whose hash commits to these.
pub(super) struct Sound {
    /// EIP-2718 bytes, the leaf below the transactions root.
    pub(super) encoded: Vec<u8>,
    pub(super) kind: u64,
    pub(super) from: Address,
    pub(super) to: Option<Address>,
    pub(super) nonce: u64,
    pub(super) value: U256,
    pub(super) input: Bytes,
    /// Most gas that it may use.
    pub(super) gas: u64,
    pub(super) blobs: usize,
    /// Wei per gas: the stated price, or the most that may be paid.
    pub(super) fee_max: u128,
    /// Wei per gas for the proposer, of the types that pay the base fee apart.
    pub(super) tip_max: Option<u128>,
    /// The JSON's `gasPrice`, which nothing commits to where there is a `tip_max`.
    pub(super) gas_price: Option<u128>,
}

impl Sound {
    /// Wei per gas that the sender pays in a block; `None` where the block has no base fee.
    pub(super) fn price_at(&self, base_fee: Option<u64>) -> Option<u128> {
        match (self.tip_max, base_fee) {
            (None, _) => Some(self.fee_max),
            (Some(tip), Some(base)) => Some(self.fee_max.min(tip.saturating_add(u128::from(base)))),
            (Some(_), None) => None,
        }
    }
}

/// Checks one transaction by hash: every field that it signs, and its sender.
///
/// A transaction's hash commits neither to its block and position nor, from type 2 on, to its
/// `gasPrice` (the price paid, which follows from the block's base fee): [`super::check_block`]
/// checks those.
///
/// # Errors
/// Names the field that is malformed or missing, or what contradicts the hash.
pub(crate) fn check_transaction(tx_json: &[u8], asked: Hash) -> Result<Finding, VerifyError> {
    let checked = check(tx_json, "", false)?;
    let asked = B256::new(asked.0);
    if checked.hash != asked {
        return Err(VerifyError::WrongTransaction { asked, got: checked.hash });
    }
    Ok(match checked.content {
        Content::Sound(_) => Finding::Verified,
        Content::Unverifiable(why) => Finding::Unverifiable(why),
    })
}

/// Bor's hash of the transaction that stands for a sprint's state syncs.
///
/// It is listed with the block's transactions, receipts and logs but is under none of its roots.
pub(crate) fn bor_state_sync_hash(block: BlockRef) -> B256 {
    let number = block.number.to_be_bytes();
    keccak256([b"matic-bor-receipt-".as_slice(), &number, &block.hash.0].concat())
}

/// Checks one transaction. On a `foreign_chain` a contradiction is no proof of a lie.
pub(super) fn check(json: &[u8], path: &str, foreign_chain: bool) -> Result<Checked, VerifyError> {
    let tx: TransactionJson<'_> = match parse(json, path) {
        Ok(tx) => tx,
        // The shape of an unknown type may be anything.
        Err(error) => match parse::<AnyTransactionJson<'_>>(json, path) {
            Ok(any) if any.kind.as_ref().is_some_and(|kind| kind.0 > KIND_MAX) => {
                return unknown(&any, path);
            }
            _ => return Err(error),
        },
    };
    let hash = need(tx.hash.as_ref(), path, "hash")?.0;
    let place = Place {
        block_hash: tx.block_hash.as_ref().map(|v| v.0),
        block_number: tx.block_number.as_ref().map(|v| v.0),
        block_timestamp: tx.block_timestamp.as_ref().map(|v| v.0),
        index: tx.transaction_index.as_ref().map(|v| v.0),
    };
    let unverifiable = |why| Ok(Checked { hash, place, content: Content::Unverifiable(why) });
    let kind = tx.kind.as_ref().map_or(0, |kind| kind.0);
    if kind > KIND_MAX {
        return unverifiable(UNKNOWN_TYPE);
    }
    if tx.r.as_ref().is_none_or(|r| r.0.is_zero()) && tx.s.as_ref().is_none_or(|s| s.0.is_zero()) {
        return unverifiable(UNSIGNED);
    }
    let has_foreign_fields = tx.has_foreign_keys();
    match sound(tx, hash, kind, path) {
        Ok(sound) => Ok(Checked { hash, place, content: Content::Sound(Box::new(sound)) }),
        Err(_) if has_foreign_fields => unverifiable(FOREIGN_FIELDS),
        Err(_) if foreign_chain => unverifiable(FOREIGN_CHAIN),
        Err(error) => Err(error),
    }
}

fn unknown(tx: &AnyTransactionJson<'_>, path: &str) -> Result<Checked, VerifyError> {
    let place = Place {
        block_hash: tx.block_hash.as_ref().map(|v| v.0),
        block_number: tx.block_number.as_ref().map(|v| v.0),
        block_timestamp: None,
        index: tx.transaction_index.as_ref().map(|v| v.0),
    };
    let hash = need(tx.hash.as_ref(), path, "hash")?.0;
    Ok(Checked { hash, place, content: Content::Unverifiable(UNKNOWN_TYPE) })
}

fn sound(tx: TransactionJson<'_>, hash: B256, kind: u64, path: &str) -> Result<Sound, VerifyError> {
    require_own_fields(&tx, kind, path)?;
    let (to, from) = (tx.to.as_ref().map(|to| to.0), need(tx.from.as_ref(), path, "from")?.0);
    let nonce = need(tx.nonce.as_ref(), path, "nonce")?.0;
    let gas_price = tx.gas_price.map(|price| price.0);
    let (fee_max, tip_max) = if kind < 2 {
        (need(gas_price, path, "gasPrice")?, None)
    } else {
        let fee = need(tx.max_fee_per_gas.as_ref(), path, "maxFeePerGas")?.0;
        let tip = need(tx.max_priority_fee_per_gas.as_ref(), path, "maxPriorityFeePerGas")?.0;
        (fee, Some(tip))
    };
    if let Some(price) = gas_price.filter(|price| *price > fee_max) {
        require(&price, &fee_max, path, "gasPrice")?;
    }
    let blobs = tx.blob_versioned_hashes.as_ref().map_or(0, Vec::len);
    let Encoded { bytes, signing_hash, signature, value, input, gas } = encode(tx, kind, path)?;
    let computed = keccak256(&bytes);
    if computed != hash {
        return Err(VerifyError::TransactionHash { claimed: hash, computed });
    }
    let signer = signature
        .recover_address_from_prehash(&signing_hash)
        .map_err(|_| VerifyError::Signature { transaction: hash })?;
    if signer != from {
        return Err(VerifyError::Sender { transaction: hash, claimed: from, signer });
    }
    let encoded = bytes;
    Ok(Sound {
        encoded,
        kind,
        from,
        to,
        nonce,
        value,
        input,
        gas,
        blobs,
        fee_max,
        tip_max,
        gas_price,
    })
}
