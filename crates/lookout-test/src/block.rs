//! Real blocks for the chains that tests and measurements make up: signed transactions with their
//! receipts and logs below a header, so that a client which recomputes every hash, root, bloom filter
//! and sender finds nothing wrong.
//!
//! What the EVM would have done is the caller's to say; nothing is executed, so `stateRoot` is that
//! of an empty state. Source: the Yellow Paper, EIP-155, EIP-658, EIP-1559, EIP-2718, EIP-2930.

mod body;
mod header;
mod json;
mod signer;

pub(crate) use body::Body;
use body::Sealed;
pub(crate) use header::{Place, header, header_json};
pub(crate) use json::{Detail, log_json, quantity, receipt_json, receipts_json, transactions_json};
pub(crate) use signer::Signer;

/// Selector of `transferFrom(address,address,uint256)`.
const TRANSFER_FROM: [u8; 4] = [0x23, 0xb8, 0x72, 0xdd];
/// About what a token's transfer takes.
const TRANSFER_GAS: u64 = 50_000;

/// A log to emit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) address: [u8; 20],
    pub(crate) topics: Vec<[u8; 32]>,
    pub(crate) data: Vec<u8>,
}

/// The form in which a transaction is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With the chain's id in the signature (EIP-155).
    Legacy,
    /// With an access list, here an empty one (EIP-2930).
    AccessList,
    /// With a fee market's prices (EIP-1559).
    DynamicFee,
}

/// A transaction to sign, and what is to have come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    /// `None` creates a contract.
    pub(crate) to: Option<[u8; 20]>,
    /// In wei.
    pub(crate) value: u64,
    pub(crate) input: Vec<u8>,
    pub(crate) succeeds: bool,
    /// Gas of its own.
    pub(crate) gas_used: u64,
    pub(crate) events: Vec<Event>,
}

impl Call {
    /// `transferFrom` of an ERC-20 token, which emits one event.
    pub(crate) fn transfer(kind: Kind, event: Event, from: [u8; 20], to: [u8; 20]) -> Self {
        let mut input = TRANSFER_FROM.to_vec();
        for address in [from, to] {
            input.extend([0; 12]);
            input.extend(address);
        }
        input.extend(&event.data);
        let (to, events) = (Some(event.address), vec![event]);
        Self { kind, to, value: 0, input, succeeds: true, gas_used: TRANSFER_GAS, events }
    }
}
