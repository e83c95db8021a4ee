//! Writing frames.

use std::collections::HashMap;

use super::bytes::{data_form, put_data, put_length, put_number, put_word};
use super::{CONTENT_VERSION, CodecError, FRAME_VERSION, TOPICS_MAX};
use crate::{Frame, Log, Step, Transaction};

/// Flags of a log: its count of topics in the lowest three bits, its data's form in the highest two.
pub(super) const LOG_SAME_TRANSACTION: u8 = 1 << 3;
pub(super) const LOG_HASH_IN_BLOCK: u8 = 1 << 4;
pub(super) const LOG_NEXT_INDEX: u8 = 1 << 5;
pub(super) const LOG_TOPICS: u8 = 0b111;
pub(super) const LOG_DATA_SHIFT: u8 = 6;

/// Flags of a transaction.
pub(super) const TX_TO: u8 = 1;
pub(super) const TX_OUTCOME: u8 = 1 << 1;
pub(super) const TX_SUCCESS: u8 = 1 << 2;
pub(super) const TX_CREATED: u8 = 1 << 3;

/// Appends `frame` to `out`.
///
/// # Errors
/// [`CodecError::Topics`] for a log with more topics than the EVM allows; `out` is then as before.
pub fn encode_frame(frame: &Frame, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.push(FRAME_VERSION);
    out.push(match frame.step {
        Step::Apply => 0,
        Step::Undo => 1,
    });
    put_number(out, frame.chain.0);
    put_number(out, frame.sequence);
    encode_content(frame, out).inspect_err(|_| out.truncate(start))
}

/// Appends the content of `frame` to `out`: all but its chain, sequence and step.
///
/// # Errors
/// [`CodecError::Topics`] for a log with more topics than the EVM allows; `out` is then as before.
pub fn encode_content(frame: &Frame, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if let Some(log) = frame.logs.iter().find(|log| log.topics.len() > TOPICS_MAX) {
        return Err(CodecError::Topics { log_index: log.log_index, topics: log.topics.len() });
    }
    out.reserve(128 + 128 * frame.logs.len() + 256 * frame.transactions.len());
    out.push(CONTENT_VERSION);
    put_number(out, frame.block.number);
    out.extend_from_slice(&frame.block.hash.0);
    out.extend_from_slice(&frame.parent.0);
    put_number(out, frame.timestamp);

    let mut addresses = Table::default();
    let mut signatures = Table::default();
    let places: Vec<(u64, u64)> = frame
        .logs
        .iter()
        .map(|log| {
            let signature = log.topics.first().map_or(0, |topic| signatures.place(&topic.0));
            (addresses.place(&log.address.0), signature)
        })
        .collect();
    addresses.put(out);
    signatures.put(out);
    put_transactions(out, &frame.transactions);
    put_logs(out, frame, &places);
    Ok(())
}

/// Distinct values in the order in which they first came.
struct Table<'a, const N: usize> {
    values: Vec<&'a [u8; N]>,
    places: HashMap<&'a [u8; N], u64>,
    last: u64,
}

impl<const N: usize> Default for Table<'_, N> {
    fn default() -> Self {
        Self { values: Vec::new(), places: HashMap::new(), last: 0 }
    }
}

impl<'a, const N: usize> Table<'a, N> {
    fn place(&mut self, value: &'a [u8; N]) -> u64 {
        // Runs of one value are common; they need no hashing.
        let same = usize::try_from(self.last).ok().and_then(|last| self.values.get(last));
        if same != Some(&value) {
            let next = u64::try_from(self.values.len()).expect("a length fits 64 bits");
            self.last = *self.places.entry(value).or_insert(next);
            if self.last == next {
                self.values.push(value);
            }
        }
        self.last
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, self.values.len());
        for value in &self.values {
            out.extend_from_slice(*value);
        }
    }
}

fn put_transactions(out: &mut Vec<u8>, transactions: &[Transaction]) {
    put_length(out, transactions.len());
    for transaction in transactions {
        out.extend_from_slice(&transaction.hash.0);
    }
    let (mut rest, mut scratch) = (Vec::new(), Vec::new());
    for transaction in transactions {
        let mut flags = u8::from(transaction.to.is_some()) * TX_TO;
        if let Some(outcome) = &transaction.outcome {
            flags |= TX_OUTCOME;
            flags |= u8::from(outcome.success) * TX_SUCCESS;
            flags |= u8::from(outcome.created.is_some()) * TX_CREATED;
        }
        flags |= data_form(&transaction.input) << LOG_DATA_SHIFT;
        rest.push(flags);
        put_number(&mut rest, u64::from(transaction.index));
        rest.extend_from_slice(&transaction.from.0);
        if let Some(to) = &transaction.to {
            rest.extend_from_slice(&to.0);
        }
        put_word(&mut rest, &transaction.value.0.to_be_bytes());
        put_number(&mut rest, transaction.nonce);
        put_data(&mut rest, &transaction.input, &mut scratch);
        if let Some(outcome) = &transaction.outcome {
            put_number(&mut rest, outcome.gas_used);
            put_word(&mut rest, &outcome.gas_price.0.to_be_bytes());
            if let Some(created) = &outcome.created {
                rest.extend_from_slice(&created.0);
            }
        }
    }
    // So that a reader of logs passes over it in one step.
    put_length(out, rest.len());
    out.append(&mut rest);
}

fn put_logs(out: &mut Vec<u8>, frame: &Frame, places: &[(u64, u64)]) {
    put_length(out, frame.logs.len());
    let mut before: Option<&Log> = None;
    let mut scratch = Vec::new();
    for (log, (address, signature)) in frame.logs.iter().zip(places) {
        let same_transaction = before.is_some_and(|b| {
            b.transaction_index == log.transaction_index
                && b.transaction_hash == log.transaction_hash
        });
        let hash_in_block = !same_transaction
            && usize::try_from(log.transaction_index)
                .ok()
                .and_then(|at| frame.transactions.get(at))
                .is_some_and(|t| t.hash == log.transaction_hash);
        let next = before.map_or(Some(0), |b| b.log_index.checked_add(1));
        let next_index = next == Some(log.log_index);

        let mut flags = u8::try_from(log.topics.len()).expect("checked to be at most 4");
        flags |= u8::from(same_transaction) * LOG_SAME_TRANSACTION;
        flags |= u8::from(hash_in_block) * LOG_HASH_IN_BLOCK;
        flags |= u8::from(next_index) * LOG_NEXT_INDEX;
        flags |= data_form(&log.data) << LOG_DATA_SHIFT;
        out.push(flags);
        put_number(out, *address);
        if !log.topics.is_empty() {
            put_number(out, *signature);
        }
        for topic in log.topics.iter().skip(1) {
            put_word(out, &topic.0);
        }
        if !same_transaction {
            put_number(out, u64::from(log.transaction_index));
            if !hash_in_block {
                out.extend_from_slice(&log.transaction_hash.0);
            }
        }
        if !next_index {
            put_number(out, u64::from(log.log_index));
        }
        put_data(out, &log.data, &mut scratch);
        before = Some(log);
    }
}
