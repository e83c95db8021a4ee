//! Whole blocks: transactions, withdrawals and uncles below a header.

use std::collections::HashSet;

use alloy_consensus::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::proofs::{calculate_withdrawals_root, ordered_trie_root_encoded};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256};
use alloy_trie::EMPTY_ROOT_HASH;
use serde_json::value::RawValue;

use super::header::{self, BlockJson, HeaderInfo};
use super::json::{Hex, json_object, need, parse, require};
use super::receipt::{self, Receipt};
use super::records::{self, Records};
use super::transaction::{self, Checked, Content, Sound, bor_state_sync_hash};
use super::{Finding, VerifyError};

const HASHES_ONLY: &str = "the block lists its transactions by hash only";
const STATE_SYNC: &str = "the block lists a state-sync transaction, which is under no root";
const UNCLES: &str = "the block lists uncles by hash only";
const FOREIGN_CHAIN: &str = "the chain computes its roots in its own way";

/// Gas of one EIP-4844 blob.
const GAS_PER_BLOB: u64 = 131_072;

json_object! {
    /// An EIP-4895 withdrawal.
    WithdrawalJson {
        index: Hex<u64> = "index",
        validator_index: Hex<u64> = "validatorIndex",
        address: Hex<Address> = "address",
        amount: Hex<u64> = "amount",
    }
    harmless {}
}

/// Checks a block's header and everything below it that the header commits to: each
/// transaction's fields, hash, sender, position and price, the withdrawals, that there are no uncles.
///
/// Nothing commits to `size`, `totalDifficulty` and `author`. A block that lists transactions by
/// hash only is [`Finding::Unverifiable`] unless it has none.
///
/// # Errors
/// Names the field or root that contradicts the rest.
pub(crate) fn check_block(block_json: &[u8]) -> Result<(HeaderInfo, Finding), VerifyError> {
    let CheckedBlock { info, finding, .. } = read_block(block_json)?;
    Ok((info, finding))
}

/// Checks all receipts of a block against the block itself, with what the receipts root alone
/// does not commit to: transaction hashes, senders, recipients, created contracts, prices paid.
///
/// `block_json` needs transactions as objects, otherwise the finding is `Unverifiable`. Still
/// nothing is said about `blobGasPrice`.
///
/// # Errors
/// Names the field or root that contradicts the rest, in the block or in the receipts.
pub(crate) fn check_receipts_in_block(
    receipts_json: &[u8],
    block_json: &[u8],
) -> Result<Finding, VerifyError> {
    Ok(read_block(block_json)?.check_receipts(receipts_json)?.1)
}

/// A block after its check.
pub(crate) struct CheckedBlock {
    info: HeaderInfo,
    finding: Finding,
    transactions: Transactions,
}

impl CheckedBlock {
    /// Checks all its receipts as [`check_receipts_in_block`] does and gives the records of both;
    /// no records where the chain's own rules leave something unproved, for which there is
    /// [`super::read_records`].
    ///
    /// # Errors
    /// Names the field or root of the receipts that contradicts the rest.
    pub(crate) fn with_receipts(
        self,
        receipts_json: &[u8],
    ) -> Result<(Finding, Option<Records>), VerifyError> {
        let (receipts, finding) = self.check_receipts(receipts_json)?;
        let records = match finding {
            Finding::Verified => records::of_checked(self.transactions.contents, receipts)?,
            Finding::Unverifiable(_) => None,
        };
        Ok((finding, records))
    }

    fn check_receipts(&self, receipts_json: &[u8]) -> Result<(Vec<Receipt>, Finding), VerifyError> {
        let transactions = &self.transactions;
        let (receipts, receipts_finding) = receipt::check_all(receipts_json, &self.info)?;
        require(&receipts.len(), &transactions.hashes.len(), "", "receipts.length")?;
        let finding = self.finding.and(receipts_finding);
        for (i, (receipt, hash)) in receipts.iter().zip(&transactions.hashes).enumerate() {
            let path = format!("[{i}]");
            require(&receipt.transaction_hash, hash, &path, "transactionHash")?;
            if let Some(Content::Sound(sound)) = transactions.contents.get(i) {
                match receipt_fits(receipt, sound, transactions.base_fee, &path) {
                    Err(error) if finding == Finding::Verified => return Err(error),
                    // Another chain may charge in another way.
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok((receipts, finding))
    }
}

fn receipt_fits(
    receipt: &Receipt,
    transaction: &Sound,
    base_fee: Option<u64>,
    path: &str,
) -> Result<(), VerifyError> {
    require(&receipt.kind, &transaction.kind, path, "type")?;
    if let Some(from) = receipt.from {
        require(&from, &transaction.from, path, "from")?;
    }
    require(&receipt.to, &transaction.to, path, "to")?;
    let created = transaction.to.is_none().then(|| transaction.from.create(transaction.nonce));
    let said = receipt.contract_address.filter(|address| !address.is_zero());
    // Some nodes name no contract when its creation failed.
    if said.is_some() || receipt.succeeded != Some(false) {
        require(&said, &created, path, "contractAddress")?;
    }
    if let (Some(said), Some(price)) = (receipt.effective_gas_price, transaction.price_at(base_fee))
    {
        require(&said, &price, path, "effectiveGasPrice")?;
    }
    if let Some(said) = receipt.blob_gas_used {
        let blobs = u64::try_from(transaction.blobs).unwrap_or(u64::MAX);
        require(&said, &blobs.saturating_mul(GAS_PER_BLOB), path, "blobGasUsed")?;
    }
    Ok(())
}

/// A block's transactions after their check; `contents` is empty where only hashes are listed.
struct Transactions {
    hashes: Vec<B256>,
    contents: Vec<Content>,
    base_fee: Option<u64>,
}

/// Checks a block as [`check_block`] does, and keeps what its receipts are to be held against.
///
/// # Errors
/// Names the field or root that contradicts the rest.
pub(crate) fn read_block(block_json: &[u8]) -> Result<CheckedBlock, VerifyError> {
    let block: BlockJson<'_> = parse(block_json, "")?;
    let (info, header_finding) = header::check_parsed(&block)?;
    let base_fee = block.base_fee_per_gas.map(|fee| fee.0);
    let list = need(block.transactions, "", "transactions")?;
    let items: Vec<&RawValue> = parse(list.get().as_bytes(), "transactions")?;
    let by_hash = items.first().is_some_and(|item| item.get().starts_with('"'));
    let (transactions, finding) = if by_hash {
        let hashes: Vec<Hex<B256>> = parse(list.get().as_bytes(), "transactions")?;
        let hashes: Vec<_> = hashes.into_iter().map(|hash| hash.0).collect();
        check_hashes(&hashes, &info)?;
        let finding = Finding::Unverifiable(HASHES_ONLY);
        (Transactions { hashes, contents: Vec::new(), base_fee }, finding)
    } else {
        check_objects(&items, &info, base_fee)?
    };
    // A chain with transactions of its own may also have its own use for other fields; a list of
    // hashes does not show whether it has.
    let foreign = info.foreign || finding != Finding::Verified;
    let finding = header_finding
        .and(finding)
        .and(check_withdrawals(&block, foreign, by_hash)?)
        .and(check_uncles(&block, info.foreign)?);
    Ok(CheckedBlock { info, finding, transactions })
}

fn check_hashes(hashes: &[B256], info: &HeaderInfo) -> Result<(), VerifyError> {
    if let Some(repeated) = first_repeated(hashes) {
        let field = format!("transactions[{repeated}]");
        return require(&"repeated", &"unique", "", &field);
    }
    let claimed = B256::new(info.transactions_root.0);
    let state_sync = bor_state_sync_hash(info.reference);
    let under_root = hashes.iter().any(|hash| *hash != state_sync);
    if under_root && claimed == EMPTY_ROOT_HASH && !info.foreign {
        // No list of transactions has another's root, so the computed one is not worth naming.
        return require(&hashes.len(), &0, "", "transactions.length");
    }
    Ok(())
}

/// Index of the first hash that was there before.
pub(super) fn first_repeated(hashes: &[B256]) -> Option<usize> {
    let mut seen = HashSet::with_capacity(hashes.len());
    hashes.iter().position(|hash| !seen.insert(hash))
}

fn check_objects(
    items: &[&RawValue],
    info: &HeaderInfo,
    base_fee: Option<u64>,
) -> Result<(Transactions, Finding), VerifyError> {
    let state_sync = bor_state_sync_hash(info.reference);
    let mut finding = Finding::Verified;
    let (mut hashes, mut contents) = (Vec::new(), Vec::new());
    let mut has_state_sync = false;
    for (i, item) in items.iter().enumerate() {
        let path = format!("transactions[{i}]");
        let checked = transaction::check(item.get().as_bytes(), &path, info.foreign)?;
        require_place(&checked, i, info, &path)?;
        match checked.content {
            Content::Unverifiable(_) if checked.hash == state_sync => has_state_sync = true,
            Content::Unverifiable(why) => finding = finding.and(Finding::Unverifiable(why)),
            Content::Sound(_) => {}
        }
        hashes.push(checked.hash);
        contents.push(checked.content);
    }
    if finding == Finding::Verified {
        finding = check_sound(&contents, info, base_fee)?;
    }
    if has_state_sync {
        finding = finding.and(Finding::Unverifiable(STATE_SYNC));
    }
    Ok((Transactions { hashes, contents, base_fee }, finding))
}

fn require_place(
    checked: &Checked,
    index: usize,
    info: &HeaderInfo,
    path: &str,
) -> Result<(), VerifyError> {
    let place = &checked.place;
    let block_hash = need(place.block_hash, path, "blockHash")?;
    require(&block_hash, &B256::new(info.reference.hash.0), path, "blockHash")?;
    let number = need(place.block_number, path, "blockNumber")?;
    require(&number, &info.reference.number, path, "blockNumber")?;
    let said = need(place.index, path, "transactionIndex")?;
    require(&usize::try_from(said), &Ok(index), path, "transactionIndex")?;
    match place.block_timestamp {
        Some(said) => require(&said, &info.timestamp, path, "blockTimestamp"),
        None => Ok(()),
    }
}

/// The root over the transactions, and the prices that follow from the base fee.
fn check_sound(
    contents: &[Content],
    info: &HeaderInfo,
    base_fee: Option<u64>,
) -> Result<Finding, VerifyError> {
    if info.foreign {
        return Ok(Finding::Unverifiable(FOREIGN_CHAIN));
    }
    let sound = contents.iter().enumerate().filter_map(|(i, content)| match content {
        Content::Sound(sound) => Some((i, sound.as_ref())),
        // Only the state sync is left here.
        Content::Unverifiable(_) => None,
    });
    let leaves: Vec<&[u8]> = sound.clone().map(|(_, sound)| sound.encoded.as_slice()).collect();
    let computed = ordered_trie_root_encoded(&leaves);
    let claimed = B256::new(info.transactions_root.0);
    if computed != claimed {
        return Err(VerifyError::TransactionsRoot { claimed, computed });
    }
    for (i, sound) in sound {
        let Some((said, paid)) = sound.gas_price.zip(sound.price_at(base_fee)) else { continue };
        // Older nodes repeat the most that may be paid.
        if said != sound.fee_max {
            require(&said, &paid, &format!("transactions[{i}]"), "gasPrice")?;
        }
    }
    Ok(Finding::Verified)
}

fn check_withdrawals(
    block: &BlockJson<'_>,
    foreign: bool,
    by_hash: bool,
) -> Result<Finding, VerifyError> {
    let listed: Vec<WithdrawalJson<'_>> = match block.withdrawals {
        Some(list) => parse(list.get().as_bytes(), "withdrawals")?,
        None => Vec::new(),
    };
    let mut withdrawals = Vec::with_capacity(listed.len());
    for (i, withdrawal) in listed.iter().enumerate() {
        let path = format!("withdrawals[{i}]");
        let number = |member: Option<Hex<u64>>, field| Ok(need(member, &path, field)?.0);
        withdrawals.push(Withdrawal {
            index: number(withdrawal.index, "index")?,
            validator_index: number(withdrawal.validator_index, "validatorIndex")?,
            address: need(withdrawal.address, &path, "address")?.0,
            amount: number(withdrawal.amount, "amount")?,
        });
    }
    let computed = calculate_withdrawals_root(&withdrawals);
    // Before Shanghai there is no root, and there are none.
    let claimed = block.withdrawals_root.map_or(EMPTY_ROOT_HASH, |root| root.0);
    match computed == claimed {
        true => Ok(Finding::Verified),
        // OP-stack chains have no withdrawals and use the field for another root.
        false if foreign && (!by_hash || listed.is_empty()) => {
            Ok(Finding::Unverifiable(FOREIGN_CHAIN))
        }
        false => Err(VerifyError::WithdrawalsRoot { claimed, computed }),
    }
}

/// `sha3Uncles` commits to the uncles' headers, of which the block lists the hashes only.
fn check_uncles(block: &BlockJson<'_>, foreign: bool) -> Result<Finding, VerifyError> {
    let uncles: Vec<Hex<B256>> = match block.uncles {
        Some(list) => parse(list.get().as_bytes(), "uncles")?,
        None => Vec::new(),
    };
    let claimed = block.ommers_hash.map_or(EMPTY_OMMER_ROOT_HASH, |hash| hash.0);
    let listed = uncles.len();
    match (listed == 0) == (claimed == EMPTY_OMMER_ROOT_HASH) {
        false if foreign => Ok(Finding::Unverifiable(FOREIGN_CHAIN)),
        false => Err(VerifyError::Uncles { listed, claimed }),
        true if listed > 0 => Ok(Finding::Unverifiable(UNCLES)),
        true => Ok(Finding::Verified),
    }
}
