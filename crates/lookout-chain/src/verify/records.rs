//! Reads checked answers into the records that frames are made of.

use alloy_primitives::{Address, B256, Bytes, U256};
use lookout_types::{Amount, Hash, Log, Outcome, Transaction};
use serde_json::value::RawValue;

use super::VerifyError;
use super::header::BlockJson;
use super::json::{Hex, json_object, need, parse, require};
use super::logs::LogJson;
use super::receipt::{Receipt, ReceiptJson};
use super::transaction::Content;

/// Gas of a transaction that does nothing but move value.
const TRANSFER_GAS: u64 = 21_000;

json_object! {
    /// What is kept of a transaction of any type, also of other chains' own.
    KeptJson {
        hash: Hex<B256> = "hash",
        from: Hex<Address> = "from",
        to: Hex<Address> = "to",
        value: Hex<U256> = "value",
        nonce: Hex<u64> = "nonce",
        gas: Hex<u64> = "gas",
        gas_price: Hex<u128> = "gasPrice",
        input: Hex<Bytes> = "input",
        data: Hex<Bytes> = "data",
    }
    harmless {}
}

/// A block's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) logs: Vec<Log>,
}

/// Reads the hashes of a block's transactions, whether it lists objects or only these.
///
/// # Errors
/// Names the field that is malformed or missing.
pub(crate) fn read_transaction_hashes(block_json: &[u8]) -> Result<Vec<Hash>, VerifyError> {
    let block: BlockJson<'_> = parse(block_json, "")?;
    let list = need(block.transactions, "", "transactions")?.get().as_bytes();
    let items: Vec<&RawValue> = parse(list, "transactions")?;
    if items.first().is_some_and(|item| item.get().starts_with('"')) {
        let hashes: Vec<Hex<B256>> = parse(list, "transactions")?;
        return Ok(hashes.into_iter().map(|hash| Hash(hash.0.0)).collect());
    }
    let mut hashes = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let path = format!("transactions[{i}]");
        let kept: KeptJson<'_> = parse(item.get().as_bytes(), &path)?;
        hashes.push(Hash(need(kept.hash, &path, "hash")?.0.0));
    }
    Ok(hashes)
}

/// Reads the logs of receipts that were checked.
///
/// # Errors
/// Names the field that is malformed or missing.
pub(crate) fn read_logs(receipts_json: &[u8]) -> Result<Vec<Log>, VerifyError> {
    let receipts: Vec<ReceiptJson<'_>> = parse(receipts_json, "")?;
    let mut logs = Vec::new();
    for (i, receipt) in receipts.into_iter().enumerate() {
        logs_of(receipt, &format!("[{i}]"), &mut logs)?;
    }
    Ok(logs)
}

/// Reads the transactions and logs of a block and its receipts that were checked, or of which the
/// chain's own rules leave nothing to check.
///
/// # Errors
/// Names the field that is malformed or missing.
pub(crate) fn read_records(
    block_json: &[u8],
    receipts_json: &[u8],
) -> Result<Records, VerifyError> {
    let block: BlockJson<'_> = parse(block_json, "")?;
    let list = need(block.transactions, "", "transactions")?.get().as_bytes();
    let kept: Vec<KeptJson<'_>> = parse(list, "transactions")?;
    let receipts: Vec<ReceiptJson<'_>> = parse(receipts_json, "")?;
    require(&receipts.len(), &kept.len(), "", "receipts.length")?;
    let (mut transactions, mut logs) = (Vec::with_capacity(kept.len()), Vec::new());
    let mut gas_before = 0;
    for (i, (kept, receipt)) in kept.into_iter().zip(receipts).enumerate() {
        let path = format!("[{i}]");
        let hash = need(receipt.transaction_hash, &path, "transactionHash")?.0;
        require(&Some(hash), &kept.hash.map(|hash| hash.0), &path, "transactionHash")?;
        let told = Told {
            succeeded: receipt.status.map(|status| status.0 == 1),
            gas_used: receipt.gas_used.map(|gas| gas.0),
            cumulative_gas_used: receipt.cumulative_gas_used.map(|gas| gas.0),
            price: receipt.effective_gas_price.or(kept.gas_price).map(|price| price.0),
            gas: kept.gas.map(|gas| gas.0),
            created: receipt.contract_address.map(|address| address.0),
        };
        let outcome = told.outcome(gas_before, &path)?;
        gas_before = receipt.cumulative_gas_used.map_or(gas_before, |gas| gas.0);
        transactions.push(Transaction {
            hash: Hash(hash.0),
            index: small(u64::try_from(i).unwrap_or(u64::MAX), &path, "transactionIndex")?,
            from: lookout_types::Address(need(kept.from, &path, "from")?.0.0.0),
            to: kept.to.map(|to| lookout_types::Address(to.0.0.0)),
            value: Amount(kept.value.map_or(U256::ZERO, |value| value.0)),
            nonce: kept.nonce.map_or(0, |nonce| nonce.0),
            input: kept.input.or(kept.data).map(|input| input.0.0).unwrap_or_default(),
            outcome: Some(outcome),
        });
        logs_of(receipt, &path, &mut logs)?;
    }
    Ok(Records { transactions, logs })
}

/// The records of a block and its receipts that were checked against each other; `None` where a
/// transaction is of the chain's own kind.
pub(super) fn of_checked(
    contents: Vec<Content>,
    receipts: Vec<Receipt>,
) -> Result<Option<Records>, VerifyError> {
    let (mut transactions, mut logs) = (Vec::with_capacity(receipts.len()), Vec::new());
    let mut gas_before = 0;
    for (index, (content, receipt)) in (0_u32..).zip(contents.into_iter().zip(receipts)) {
        let Content::Sound(sound) = content else { return Ok(None) };
        let path = format!("[{index}]");
        let told = Told {
            succeeded: receipt.succeeded,
            gas_used: receipt.gas_used,
            cumulative_gas_used: Some(receipt.cumulative_gas_used),
            price: receipt.effective_gas_price.or(sound.gas_price),
            gas: Some(sound.gas),
            created: receipt.contract_address,
        };
        let outcome = Some(told.outcome(gas_before, &path)?);
        gas_before = receipt.cumulative_gas_used;
        let hash = Hash(receipt.transaction_hash.0);
        transactions.push(Transaction {
            hash,
            index,
            from: lookout_types::Address(sound.from.0.0),
            to: sound.to.map(|to| lookout_types::Address(to.0.0)),
            value: Amount(sound.value),
            nonce: sound.nonce,
            input: sound.input.0,
            outcome,
        });
        for (log_index, log) in (receipt.first_log_index.unwrap_or(0)..).zip(receipt.logs) {
            let (topics, data) = log.data.split();
            logs.push(Log {
                address: lookout_types::Address(log.address.0.0),
                topics: topics.into_iter().map(|topic| Hash(topic.0)).collect(),
                data: data.0,
                transaction_hash: hash,
                transaction_index: index,
                log_index: small(log_index, &path, "logs[].logIndex")?,
            });
        }
    }
    Ok(Some(Records { transactions, logs }))
}

/// What is said of a transaction's outcome.
struct Told {
    succeeded: Option<bool>,
    gas_used: Option<u64>,
    cumulative_gas_used: Option<u64>,
    /// Wei per gas.
    price: Option<u128>,
    /// Most gas that it may use.
    gas: Option<u64>,
    created: Option<Address>,
}

impl Told {
    fn outcome(self, gas_before: u64, path: &str) -> Result<Outcome, VerifyError> {
        let own = self.cumulative_gas_used.and_then(|gas| gas.checked_sub(gas_before));
        let gas_used = need(self.gas_used.or(own), path, "gasUsed")?;
        // Before Byzantium (EIP-658) there is no status, but whatever failed took all of its gas.
        let success = self.succeeded.unwrap_or_else(|| {
            self.gas.is_none_or(|gas| gas_used < gas || gas_used == TRANSFER_GAS)
        });
        Ok(Outcome {
            success,
            gas_used,
            gas_price: Amount(U256::from(need(self.price, path, "effectiveGasPrice")?)),
            created: self
                .created
                .filter(|address| success && !address.is_zero())
                .map(|address| lookout_types::Address(address.0.0)),
        })
    }
}

fn logs_of(receipt: ReceiptJson<'_>, path: &str, logs: &mut Vec<Log>) -> Result<(), VerifyError> {
    for (i, log) in need(receipt.logs, path, "logs")?.into_iter().enumerate() {
        logs.push(log_of(log, &format!("{path}.logs[{i}]"))?);
    }
    Ok(())
}

fn log_of(log: LogJson<'_>, path: &str) -> Result<Log, VerifyError> {
    let place = log.place(path, None)?;
    let alloy_primitives::Log { address, data } = log.into_log(path)?;
    Ok(Log {
        address: lookout_types::Address(address.0.0),
        topics: data.topics().iter().map(|topic| Hash(topic.0)).collect(),
        data: data.data.0,
        transaction_hash: Hash(place.transaction_hash.0),
        transaction_index: small(place.transaction_index, path, "transactionIndex")?,
        log_index: small(place.log_index, path, "logIndex")?,
    })
}

fn small(number: u64, path: &str, field: &str) -> Result<u32, VerifyError> {
    let fits = u32::try_from(number);
    fits.map_err(|_| VerifyError::Malformed {
        field: super::json::join(path, field),
        problem: "no block has so many".to_owned(),
    })
}
