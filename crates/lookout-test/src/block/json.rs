//! Transactions, receipts and logs as nodes write them.

use alloy_primitives::U256;
use serde_json::{Value, json};

use super::body::{FEE_MAX, TIP};
use super::{Body, Kind, Place, Sealed};

/// How a block lists its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Hashes,
    Objects,
}

/// A block's transactions.
pub(crate) fn transactions_json(body: &Body, place: Place, detail: Detail) -> Value {
    let one = |(at, sealed): (usize, &Sealed)| match detail {
        Detail::Hashes => json!(hex(sealed.hash)),
        Detail::Objects => transaction_json(sealed, place, at),
    };
    body.transactions.iter().enumerate().map(one).collect()
}

fn transaction_json(sealed: &Sealed, place: Place, at: usize) -> Value {
    let parity = u64::from(sealed.signature.v());
    let v = match sealed.call.kind {
        Kind::Legacy => 35 + 2 * sealed.chain_id + parity,
        Kind::AccessList | Kind::DynamicFee => parity,
    };
    let mut transaction = json!({
        "hash": hex(sealed.hash), "type": quantity(sealed.type_byte().into()),
        "chainId": quantity(sealed.chain_id), "nonce": quantity(sealed.nonce),
        "from": hex(sealed.from), "to": sealed.call.to.map(hex),
        "value": quantity(sealed.call.value), "gas": quantity(sealed.gas_limit()),
        "gasPrice": wide(U256::from(sealed.price())), "input": hex(&sealed.call.input),
        "v": quantity(v), "r": wide(sealed.signature.r()), "s": wide(sealed.signature.s()),
        "blockHash": hex(place.hash), "blockNumber": quantity(place.number),
        "transactionIndex": quantity(at as u64),
    });
    if sealed.call.kind != Kind::Legacy {
        transaction["accessList"] = json!([]);
        transaction["yParity"] = json!(quantity(parity));
    }
    if sealed.call.kind == Kind::DynamicFee {
        transaction["maxFeePerGas"] = json!(wide(U256::from(FEE_MAX)));
        transaction["maxPriorityFeePerGas"] = json!(wide(U256::from(TIP)));
    }
    transaction
}

/// The answer to `eth_getBlockReceipts`.
pub(crate) fn receipts_json(body: &Body, place: Place) -> Value {
    (0..body.transactions.len()).map(|at| receipt_json(body, place, at)).collect()
}

/// The receipt of the transaction at this index.
pub(crate) fn receipt_json(body: &Body, place: Place, at: usize) -> Value {
    let sealed = &body.transactions[at];
    let logs: Vec<_> =
        (0..sealed.call.events.len()).map(|log| log_json(body, place, (at, log))).collect();
    let creates = sealed.call.to.is_none().then(|| hex(sealed.from.create(sealed.nonce)));
    json!({
        "type": quantity(sealed.type_byte().into()),
        "status": quantity(sealed.call.succeeds.into()),
        "cumulativeGasUsed": quantity(sealed.cumulative_gas_used),
        "gasUsed": quantity(sealed.call.gas_used),
        "effectiveGasPrice": wide(U256::from(sealed.price())),
        "from": hex(sealed.from), "to": sealed.call.to.map(hex), "contractAddress": creates,
        "logs": logs, "logsBloom": hex(sealed.bloom), "transactionHash": hex(sealed.hash),
        "transactionIndex": quantity(at as u64), "blockHash": hex(place.hash),
        "blockNumber": quantity(place.number),
    })
}

/// One log, by its transaction and its place in that; see [`Body::logs`].
pub(crate) fn log_json(body: &Body, place: Place, (at, log): (usize, usize)) -> Value {
    let sealed = &body.transactions[at];
    let event = &sealed.call.events[log];
    let topics: Vec<_> = event.topics.iter().map(hex).collect();
    json!({
        "address": hex(event.address), "topics": topics, "data": hex(&event.data),
        "blockNumber": quantity(place.number), "blockHash": hex(place.hash),
        "transactionHash": hex(sealed.hash), "transactionIndex": quantity(at as u64),
        "logIndex": quantity(sealed.first_log + log as u64), "removed": false,
    })
}

pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    const_hex::encode_prefixed(bytes)
}

/// A number as JSON-RPC has it.
pub(crate) fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

fn wide(number: U256) -> String {
    format!("{number:#x}")
}
