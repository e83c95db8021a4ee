//! Transfers: what a frame's transactions and logs say moved, exactly.

use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

use crate::{Address, Amount, Asset, Frame, Hash, Log, Transaction, Transfer};

/// `Transfer(address,address,uint256)`, of ERC-20 (three topics) and ERC-721 (four).
pub const TRANSFER: Hash =
    Hash(topic(b"ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"));
/// `TransferSingle(address,address,address,uint256,uint256)`, of ERC-1155.
pub const TRANSFER_SINGLE: Hash =
    Hash(topic(b"c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62"));
/// `TransferBatch(address,address,address,uint256[],uint256[])`, of ERC-1155.
pub const TRANSFER_BATCH: Hash =
    Hash(topic(b"4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb"));

/// Bytes of an ABI word.
const WORD_BYTES: usize = 32;

/// What [`transfers`] found in one frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransfersOf {
    /// By transaction; within one, the native transfer first, then by log and batch position.
    pub transfers: Vec<Transfer>,
    /// Logs that carry a transfer's topic but do not decode as one.
    pub odd: Vec<OddLog>,
}

/// A log that looks like a transfer but is none that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OddLog {
    /// Its position in the block.
    pub log_index: u32,
    /// What is wrong with it.
    pub reason: OddReason,
}

/// Why a log with a transfer's topic is none that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum OddReason {
    /// `Transfer` has two or three topics besides the event's; ERC-1155's events have three.
    #[error("the number of topics fits no transfer")]
    Topics = 1,
    /// The data is not of the length that the event has.
    #[error("the length of the data fits no transfer")]
    DataLength = 2,
    /// A topic that should hold an address has more than 20 bytes set.
    #[error("a topic that should be an address is none")]
    NotAnAddress = 3,
    /// The offset of an array points outside the data.
    #[error("an array of the batch lies outside the data")]
    Offset = 4,
    /// The batch has not as many ids as amounts.
    #[error("the batch has not as many ids as amounts")]
    BatchLengths = 5,
}

impl OddReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Topics, Self::DataLength, Self::NotAnAddress, Self::Offset, Self::BatchLengths];
}

/// The transfers of a frame, and the logs that look like transfers but do not decode.
///
/// Native transfers are those of the transactions themselves (value above 0, succeeded); a value
/// that a contract passes on leaves no log and is not among them. Where the frame carries no
/// transactions, or they carry no outcome, there are no native transfers to tell.
pub fn transfers(frame: &Frame) -> TransfersOf {
    let mut found = TransfersOf::default();
    found.transfers.extend(frame.transactions.iter().filter_map(native));
    let natives = found.transfers.len();
    for log in &frame.logs {
        if let Err(reason) = of_log(log, &mut found.transfers) {
            found.odd.push(OddLog { log_index: log.log_index, reason });
        }
    }
    if natives > 0 {
        // Stable, so that the positions in a batch keep their order.
        found
            .transfers
            .sort_by_key(|t| (t.transaction_index, t.log_index.map_or(0, |i| u64::from(i) + 1)));
    }
    found
}

/// Whether a log's first topic is one of the transfer events'.
pub fn is_transfer_topic(topic0: &Hash) -> bool {
    *topic0 == TRANSFER || *topic0 == TRANSFER_SINGLE || *topic0 == TRANSFER_BATCH
}

fn native(transaction: &Transaction) -> Option<Transfer> {
    let outcome = transaction.outcome?;
    if !outcome.success || transaction.value.0.is_zero() {
        return None;
    }
    let to = transaction
        .to
        .or(outcome.created)
        .unwrap_or_else(|| created_address(&transaction.from, transaction.nonce));
    Some(Transfer {
        asset: Asset::Native,
        from: transaction.from,
        to,
        amount: transaction.value,
        transaction_hash: transaction.hash,
        transaction_index: transaction.index,
        log_index: None,
        batch_index: 0,
    })
}

/// The address that a transaction without a recipient creates: keccak(rlp([sender, nonce])).
fn created_address(from: &Address, nonce: u64) -> Address {
    let bytes = nonce.to_be_bytes();
    let digits = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    let mut list = vec![0x80 + 20];
    list.extend_from_slice(&from.0);
    match digits {
        [small @ 0x01..0x80] => list.push(*small),
        _ => {
            list.push(0x80 + u8::try_from(digits.len()).expect("a nonce has at most 8 bytes"));
            list.extend_from_slice(digits);
        }
    }
    list.insert(0, 0xc0 + u8::try_from(list.len()).expect("at most 30 bytes"));
    let hash = Keccak256::digest(&list);
    Address(*hash.last_chunk().expect("a hash is longer than an address"))
}

/// Appends what `log` moved; nothing when it is no transfer event.
fn of_log(log: &Log, found: &mut Vec<Transfer>) -> Result<(), OddReason> {
    let Some(topic0) = log.topics.first() else { return Ok(()) };
    match *topic0 {
        TRANSFER => of_token(log, found),
        TRANSFER_SINGLE => of_single(log, found),
        TRANSFER_BATCH => of_batch(log, found),
        _ => Ok(()),
    }
}

fn of_token(log: &Log, found: &mut Vec<Transfer>) -> Result<(), OddReason> {
    let (from, to, asset, amount) = match log.topics.as_slice() {
        [_, from, to] => {
            let word = log.data.as_ref().try_into().map_err(|_| OddReason::DataLength)?;
            (from, to, Asset::Erc20(log.address), Amount(U256::from_be_bytes::<32>(word)))
        }
        [_, from, to, id] => {
            if !log.data.is_empty() {
                return Err(OddReason::DataLength);
            }
            let id = Amount(U256::from_be_bytes(id.0));
            (from, to, Asset::Erc721 { contract: log.address, id }, Amount(U256::ONE))
        }
        _ => return Err(OddReason::Topics),
    };
    found.push(transfer(log, asset, address(from)?, address(to)?, amount, 0));
    Ok(())
}

fn of_single(log: &Log, found: &mut Vec<Transfer>) -> Result<(), OddReason> {
    let (from, to) = parties_1155(log)?;
    if log.data.len() != 2 * WORD_BYTES {
        return Err(OddReason::DataLength);
    }
    let (Some(id), Some(amount)) = (word(&log.data, 0), word(&log.data, WORD_BYTES)) else {
        return Err(OddReason::DataLength);
    };
    let asset = Asset::Erc1155 { contract: log.address, id: Amount(id) };
    found.push(transfer(log, asset, from, to, Amount(amount), 0));
    Ok(())
}

fn of_batch(log: &Log, found: &mut Vec<Transfer>) -> Result<(), OddReason> {
    let (from, to) = parties_1155(log)?;
    if log.data.len() < 2 * WORD_BYTES {
        return Err(OddReason::DataLength);
    }
    let ids = array(&log.data, 0)?;
    let amounts = array(&log.data, WORD_BYTES)?;
    if ids.len() != amounts.len() {
        return Err(OddReason::BatchLengths);
    }
    for (at, (id, amount)) in ids.iter().zip(amounts).enumerate() {
        let asset = Asset::Erc1155 { contract: log.address, id: Amount(U256::from_be_bytes(*id)) };
        let amount = Amount(U256::from_be_bytes(*amount));
        let batch_index = u32::try_from(at).map_err(|_| OddReason::DataLength)?;
        found.push(transfer(log, asset, from, to, amount, batch_index));
    }
    Ok(())
}

/// The elements of the dynamic array whose offset stands at `head`. Never longer than the data.
fn array(data: &[u8], head: usize) -> Result<&[[u8; WORD_BYTES]], OddReason> {
    let number = |at: usize| -> Result<usize, OddReason> {
        let value = word(data, at).ok_or(OddReason::Offset)?;
        usize::try_from(value).map_err(|_| OddReason::Offset)
    };
    let start = number(head)?;
    let length = number(start)?;
    let elements = start
        .checked_add(WORD_BYTES)
        .and_then(|at| data.get(at..))
        .map(|rest| rest.as_chunks::<WORD_BYTES>().0)
        .ok_or(OddReason::Offset)?;
    elements.get(..length).ok_or(OddReason::Offset)
}

/// The word that starts at byte `at`, if the data reaches that far.
fn word(data: &[u8], at: usize) -> Option<U256> {
    let bytes = data.get(at..)?.first_chunk::<WORD_BYTES>()?;
    Some(U256::from_be_bytes(*bytes))
}

fn parties_1155(log: &Log) -> Result<(Address, Address), OddReason> {
    let [_, _operator, from, to] = log.topics.as_slice() else { return Err(OddReason::Topics) };
    Ok((address(from)?, address(to)?))
}

fn address(topic: &Hash) -> Result<Address, OddReason> {
    match topic.0.split_first_chunk::<12>() {
        Some((&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], rest)) => {
            rest.try_into().map(Address).map_err(|_| OddReason::NotAnAddress)
        }
        _ => Err(OddReason::NotAnAddress),
    }
}

fn transfer(
    log: &Log,
    asset: Asset,
    from: Address,
    to: Address,
    amount: Amount,
    batch_index: u32,
) -> Transfer {
    Transfer {
        asset,
        from,
        to,
        amount,
        transaction_hash: log.transaction_hash,
        transaction_index: log.transaction_index,
        log_index: Some(log.log_index),
        batch_index,
    }
}

const fn topic(hex: &[u8; 64]) -> [u8; 32] {
    match const_hex::const_decode_to_array(hex) {
        Ok(bytes) => bytes,
        Err(_) => panic!("64 hex digits"),
    }
}

#[cfg(test)]
mod tests;
