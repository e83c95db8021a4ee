//! Reading contents, whole or log by log.

use bytes::Bytes;

use super::bytes::{EncodedData, Input};
use super::encode::{
    LOG_DATA_SHIFT, LOG_HASH_IN_BLOCK, LOG_NEXT_INDEX, LOG_SAME_TRANSACTION, LOG_TOPICS,
    TX_CREATED, TX_OUTCOME, TX_SUCCESS, TX_TO,
};
use super::{CONTENT_VERSION, CodecError, TOPICS_MAX};
use crate::{
    Address, BlockRef, ChainId, Frame, Hash, Log, Outcome, Step, Transaction, UnixSeconds,
};

/// An encoded content, opened: its head is read, its records wait.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The block.
    pub block: BlockRef,
    /// Its parent's hash.
    pub parent: Hash,
    /// Its time.
    pub timestamp: UnixSeconds,
    addresses: &'a [[u8; 20]],
    signatures: &'a [[u8; 32]],
    transaction_hashes: &'a [[u8; 32]],
    transactions: &'a [u8],
    log_count: usize,
    logs: &'a [u8],
}

/// A log whose data is still encoded.
#[derive(Debug, Clone, Copy)]
pub struct LogRef<'a> {
    /// The contract that emitted it.
    pub address: Address,
    topics: [Hash; TOPICS_MAX],
    topic_count: usize,
    /// The transaction that emitted it.
    pub transaction_hash: Hash,
    /// Position of that transaction in the block.
    pub transaction_index: u32,
    /// Position in the block.
    pub log_index: u32,
    data: EncodedData<'a>,
}

impl<'a> Content<'a> {
    /// Opens an encoded content.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes cannot be one.
    pub fn read(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != CONTENT_VERSION {
            return Err(CodecError::Version(version));
        }
        let number = input.number()?;
        let hash = input.hash()?;
        let parent = input.hash()?;
        let timestamp = input.number()?;
        let count = input.length()?;
        let addresses = input.arrays(count)?;
        let count = input.length()?;
        let signatures = input.arrays(count)?;
        let count = input.length()?;
        let transaction_hashes = input.arrays(count)?;
        let length = input.length()?;
        let transactions = input.take(length)?;
        let log_count = input.length()?;
        // A log takes two bytes at least.
        if log_count > input.0.len() {
            return Err(CodecError::Short);
        }
        Ok(Self {
            block: BlockRef { number, hash },
            parent,
            timestamp,
            addresses,
            signatures,
            transaction_hashes,
            transactions,
            log_count,
            logs: input.0,
        })
    }

    /// How many logs it has.
    pub fn log_count(&self) -> usize {
        self.log_count
    }

    /// How many transactions it has.
    pub fn transaction_count(&self) -> usize {
        self.transaction_hashes.len()
    }

    /// The contracts that emitted its logs, each once.
    pub fn addresses(&self) -> &'a [[u8; 20]] {
        self.addresses
    }

    /// The first topics of its logs, each once.
    pub fn signatures(&self) -> &'a [[u8; 32]] {
        self.signatures
    }

    /// Its logs, in order; ends after the first that cannot be read.
    pub fn logs(&self) -> impl Iterator<Item = Result<LogRef<'a>, CodecError>> + use<'a> {
        let content = *self;
        let mut input = Input(content.logs);
        let mut left = content.log_count;
        let mut before: Option<LogRef<'a>> = None;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            left -= 1;
            let mut log = content.read_log(&mut input, before.as_ref());
            if left == 0
                && let Err(error) = input.end()
            {
                log = log.and(Err(error));
            }
            match &log {
                Ok(log) => before = Some(*log),
                Err(_) => left = 0,
            }
            Some(log)
        })
    }

    fn read_log(
        &self,
        input: &mut Input<'a>,
        before: Option<&LogRef<'a>>,
    ) -> Result<LogRef<'a>, CodecError> {
        let flags = input.byte()?;
        let address = *self.addresses.get(input.length()?).ok_or(CodecError::Wrong("address"))?;
        let topic_count = usize::from(flags & LOG_TOPICS);
        if topic_count > TOPICS_MAX {
            return Err(CodecError::Wrong("count of topics"));
        }
        let mut topics = [Hash::default(); TOPICS_MAX];
        if topic_count > 0 {
            let place = input.length()?;
            topics[0] = Hash(*self.signatures.get(place).ok_or(CodecError::Wrong("topic"))?);
        }
        for topic in topics.iter_mut().take(topic_count).skip(1) {
            *topic = Hash(input.word()?);
        }
        let (transaction_index, transaction_hash) = if flags & LOG_SAME_TRANSACTION != 0 {
            let before = before.ok_or(CodecError::Wrong("transaction"))?;
            (before.transaction_index, before.transaction_hash)
        } else {
            let index = input.number_u32()?;
            let hash = if flags & LOG_HASH_IN_BLOCK == 0 {
                input.hash()?
            } else {
                let at = usize::try_from(index).map_err(|_| CodecError::Wrong("transaction"))?;
                Hash(*self.transaction_hashes.get(at).ok_or(CodecError::Wrong("transaction"))?)
            };
            (index, hash)
        };
        let log_index = if flags & LOG_NEXT_INDEX == 0 {
            input.number_u32()?
        } else {
            let next = before.map_or(Some(0), |before| before.log_index.checked_add(1));
            next.ok_or(CodecError::Wrong("log index"))?
        };
        let data = EncodedData::read(input, flags >> LOG_DATA_SHIFT)?;
        Ok(LogRef {
            address: Address(address),
            topics,
            topic_count,
            transaction_hash,
            transaction_index,
            log_index,
            data,
        })
    }

    /// Its transactions, in order.
    ///
    /// # Errors
    /// [`CodecError`] when one cannot be read.
    pub fn transactions(&self) -> Result<Vec<Transaction>, CodecError> {
        let mut input = Input(self.transactions);
        let mut transactions = Vec::with_capacity(self.transaction_hashes.len());
        for hash in self.transaction_hashes {
            transactions.push(read_transaction(&mut input, Hash(*hash))?);
        }
        input.end()?;
        Ok(transactions)
    }

    /// The frame that has this content.
    ///
    /// # Errors
    /// [`CodecError`] when a record cannot be read.
    pub fn to_frame(&self, chain: ChainId, sequence: u64, step: Step) -> Result<Frame, CodecError> {
        if self.log_count == 0 {
            Input(self.logs).end()?;
        }
        let mut logs = Vec::with_capacity(self.log_count);
        for log in self.logs() {
            logs.push(log?.to_log()?);
        }
        Ok(Frame {
            chain,
            sequence,
            step,
            block: self.block,
            parent: self.parent,
            timestamp: self.timestamp,
            transactions: self.transactions()?,
            logs,
        })
    }
}

fn read_transaction(input: &mut Input<'_>, hash: Hash) -> Result<Transaction, CodecError> {
    let flags = input.byte()?;
    let index = input.number_u32()?;
    let from = Address(*input.array()?);
    let to = if flags & TX_TO == 0 { None } else { Some(Address(*input.array()?)) };
    let value = input.amount()?;
    let nonce = input.number()?;
    let data = EncodedData::read(input, flags >> LOG_DATA_SHIFT)?.expand()?;
    let outcome = if flags & TX_OUTCOME == 0 {
        None
    } else {
        Some(Outcome {
            success: flags & TX_SUCCESS != 0,
            gas_used: input.number()?,
            gas_price: input.amount()?,
            created: match flags & TX_CREATED {
                0 => None,
                _ => Some(Address(*input.array()?)),
            },
        })
    };
    Ok(Transaction { hash, index, from, to, value, nonce, input: Bytes::from(data), outcome })
}

impl LogRef<'_> {
    /// Its topics.
    pub fn topics(&self) -> &[Hash] {
        &self.topics[..self.topic_count]
    }

    /// The log in full.
    ///
    /// # Errors
    /// [`CodecError`] when its data cannot be read.
    pub fn to_log(&self) -> Result<Log, CodecError> {
        Ok(Log {
            address: self.address,
            topics: self.topics().to_vec(),
            data: self.data.expand()?.into(),
            transaction_hash: self.transaction_hash,
            transaction_index: self.transaction_index,
            log_index: self.log_index,
        })
    }
}
