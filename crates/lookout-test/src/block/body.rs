//! What is below a header: signed transactions, their receipts, and the roots over both.

use alloy_consensus::proofs::ordered_trie_root_encoded;
use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{
    Eip658Value, Receipt, ReceiptWithBloom, SignableTransaction, TxEip1559, TxEip2930, TxLegacy,
};
use alloy_primitives::{Address, B256, Bloom, Log, LogData, Signature, TxKind, U256, keccak256};
use alloy_rlp::Encodable as _;

use super::header::BASE_FEE;
use super::{Call, Kind, Signer};

/// Wei per gas that is bid above the base fee, and at most paid.
pub(super) const TIP: u128 = 2;
pub(super) const FEE_MAX: u128 = 40;

/// A signed transaction with its receipt.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) call: Call,
    pub(crate) hash: [u8; 32],
    pub(super) chain_id: u64,
    pub(super) nonce: u64,
    pub(super) from: Address,
    pub(super) signature: Signature,
    pub(super) cumulative_gas_used: u64,
    pub(super) bloom: Bloom,
    /// Position in the block of the first of its logs.
    pub(super) first_log: u64,
}

/// The transactions of a block, and what the header says of them.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) transactions: Vec<Sealed>,
    pub(super) transactions_root: B256,
    pub(super) receipts_root: B256,
    pub(super) bloom: Bloom,
    pub(super) gas_used: u64,
}

impl Body {
    /// Signs the calls, the first of them with this nonce.
    pub(crate) fn seal(signer: &Signer, chain_id: u64, nonce: u64, calls: Vec<Call>) -> Self {
        let (mut leaves, mut receipts) = (Vec::new(), Vec::new());
        let (mut gas_used, mut logs, mut bloom) = (0, 0, Bloom::ZERO);
        let mut transactions = Vec::with_capacity(calls.len());
        for (nonce, call) in (nonce..).zip(calls) {
            let (leaf, signature) = sign(signer, chain_id, nonce, &call);
            gas_used += call.gas_used;
            let receipt = receipt(&call, gas_used);
            bloom.accrue_bloom(&receipt.logs_bloom);
            transactions.push(Sealed {
                hash: keccak256(&leaf).0,
                chain_id,
                nonce,
                from: signer.address,
                signature,
                cumulative_gas_used: gas_used,
                bloom: receipt.logs_bloom,
                first_log: logs,
                call,
            });
            logs += receipt.receipt.logs.len() as u64;
            receipts.push(encode(transactions.last().map_or(0, Sealed::type_byte), &receipt));
            leaves.push(leaf);
        }
        Self {
            transactions,
            transactions_root: ordered_trie_root_encoded(&leaves),
            receipts_root: ordered_trie_root_encoded(&receipts),
            bloom,
            gas_used,
        }
    }

    /// The logs in order: the index of the transaction that each is of, and its place in that.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (usize, usize)> {
        let lists = self.transactions.iter().map(|sealed| sealed.call.events.len());
        lists.enumerate().flat_map(|(at, count)| (0..count).map(move |log| (at, log)))
    }
}

impl Sealed {
    /// The EIP-2718 type.
    pub(super) fn type_byte(&self) -> u8 {
        match self.call.kind {
            Kind::Legacy => 0,
            Kind::AccessList => 1,
            Kind::DynamicFee => 2,
        }
    }

    pub(super) fn gas_limit(&self) -> u64 {
        gas_limit(&self.call)
    }

    /// Wei per gas that is paid.
    pub(super) fn price(&self) -> u128 {
        u128::from(BASE_FEE) + TIP
    }
}

/// What fails takes all of its gas, as before EIP-658 clients had to conclude.
fn gas_limit(call: &Call) -> u64 {
    if call.succeeds { call.gas_used * 2 } else { call.gas_used }
}

fn sign(signer: &Signer, chain_id: u64, nonce: u64, call: &Call) -> (Vec<u8>, Signature) {
    let to = call.to.map_or(TxKind::Create, |to| TxKind::Call(to.into()));
    let (value, input) = (U256::from(call.value), call.input.clone().into());
    let (gas_limit, access_list) = (gas_limit(call), Default::default());
    let gas_price = u128::from(BASE_FEE) + TIP;
    match call.kind {
        Kind::Legacy => {
            let chain_id = Some(chain_id);
            seal(signer, &TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input })
        }
        Kind::AccessList => seal(
            signer,
            &TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input },
        ),
        Kind::DynamicFee => seal(
            signer,
            &TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: FEE_MAX,
                max_priority_fee_per_gas: TIP,
                to,
                value,
                access_list,
                input,
            },
        ),
    }
}

/// The leaf below the transactions root, and the signature in it.
fn seal<T>(signer: &Signer, transaction: &T) -> (Vec<u8>, Signature)
where
    T: RlpEcdsaEncodableTx + SignableTransaction<Signature>,
{
    let signature = signer.sign(transaction.signature_hash());
    let mut leaf = Vec::with_capacity(transaction.eip2718_encoded_length(&signature));
    transaction.eip2718_encode(&signature, &mut leaf);
    (leaf, signature)
}

fn receipt(call: &Call, cumulative_gas_used: u64) -> ReceiptWithBloom<Receipt> {
    let logs: Vec<Log> = call
        .events
        .iter()
        .map(|event| {
            let topics = event.topics.iter().map(|topic| B256::new(*topic)).collect();
            let data = LogData::new_unchecked(topics, event.data.clone().into());
            Log { address: event.address.into(), data }
        })
        .collect();
    let bloom = alloy_primitives::logs_bloom(&logs);
    let status = Eip658Value::Eip658(call.succeeds);
    ReceiptWithBloom::new(Receipt { status, cumulative_gas_used, logs }, bloom)
}

/// The leaf below the receipts root.
fn encode(type_byte: u8, receipt: &ReceiptWithBloom<Receipt>) -> Vec<u8> {
    let mut leaf = Vec::with_capacity(receipt.length() + 1);
    if type_byte > 0 {
        leaf.push(type_byte);
    }
    receipt.encode(&mut leaf);
    leaf
}
