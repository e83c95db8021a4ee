//! A record as conditions see it.

use std::cell::OnceCell;

use bytes::Bytes;
use lookout_abi::{AbiText, FixedBytes, I256, Value, word_at};
use lookout_types::{Address, Asset, Frame, Hash, Log, Transaction, Transfer};
use ruint::aliases::U256;

use crate::error::EvalError;
use crate::evaluate::BalanceReading;
use crate::expr::{Datum, Key, bytes_key};
use crate::scope::{Builtin, Field, Place, WordKind};

/// What the record is.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Log(&'a Log),
    Transaction(&'a Transaction),
    Transfer(&'a Transfer),
    Balance(&'a BalanceReading),
    /// A window or a silence at the end of a block.
    Block,
}

/// A record with everything that a name can read from it.
pub(crate) struct View<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) subject: Subject<'a>,
    /// The record's transaction; `None` where the chain is followed by logs alone.
    pub(crate) transaction: Option<&'a Transaction>,
    pub(crate) topics: &'a [Hash],
    /// Encoded arguments: a log's data, or call data behind the selector.
    pub(crate) data: &'a [u8],
    /// Decoded arguments, where not all are words.
    pub(crate) values: Option<&'a [Value]>,
    pub(crate) rule_name: &'a str,
    /// Count, sum and time last seen of a window.
    pub(crate) window: (U256, U256, u64),
    asset_text: OnceCell<String>,
}

impl<'a> View<'a> {
    pub(crate) fn new(frame: &'a Frame, subject: Subject<'a>) -> Self {
        let (topics, data): (&[Hash], &[u8]) = match subject {
            Subject::Log(log) => (&log.topics, &log.data),
            Subject::Transaction(tx) => (&[], tx.input.get(4..).unwrap_or_default()),
            _ => (&[], &[]),
        };
        let transaction = match subject {
            Subject::Log(log) => find(frame, log.transaction_index, &log.transaction_hash),
            Subject::Transaction(tx) => Some(tx),
            Subject::Transfer(t) => find(frame, t.transaction_index, &t.transaction_hash),
            Subject::Balance(_) | Subject::Block => None,
        };
        Self {
            frame,
            subject,
            transaction,
            topics,
            data,
            values: None,
            rule_name: "",
            window: (U256::ZERO, U256::ZERO, 0),
            asset_text: OnceCell::new(),
        }
    }

    /// Reads a field.
    pub(crate) fn read(&self, field: &Field) -> Result<Datum<'_>, EvalError> {
        match field {
            Field::Builtin(builtin) => self.builtin(*builtin),
            Field::Word(place, kind) => {
                let word = self.word(*place)?;
                Ok(match kind {
                    WordKind::Bool => Datum::Bool(word[31] != 0),
                    WordKind::Uint => Datum::Uint(U256::from_be_bytes(word)),
                    WordKind::Int => Datum::Int(I256::from_bits(U256::from_be_bytes(word))),
                    WordKind::Address => {
                        let mut address = Address::default();
                        address.0.copy_from_slice(&word[12..]);
                        Datum::Address(address)
                    }
                    WordKind::Fixed(size) => Datum::Fixed(word, *size),
                })
            }
            Field::Argument(position) => {
                let value = self.values.and_then(|values| values.get(*position));
                value.map(Datum::of).ok_or(EvalError::Undecodable)
            }
        }
    }

    /// The key of a field, without going through its value where it is a word already.
    pub(crate) fn key(&self, field: &Field) -> Result<Option<Key>, EvalError> {
        match field {
            Field::Word(place, WordKind::Int) => {
                let mut word = self.word(*place)?;
                word[0] ^= 0x80;
                Ok(Some(word))
            }
            Field::Word(place, _) => self.word(*place).map(Some),
            _ => self.read(field).map(|datum| datum.key()),
        }
    }

    fn word(&self, place: Place) -> Result<Key, EvalError> {
        match place {
            Place::Topic(index) => self.topics.get(index).map(|topic| topic.0),
            Place::Data(offset) => word_at(self.data, offset),
        }
        .ok_or(EvalError::Undecodable)
    }

    fn builtin(&self, builtin: Builtin) -> Result<Datum<'_>, EvalError> {
        let block = self.frame.block;
        let number = |value: u64| Ok(Datum::Uint(U256::from(value)));
        match builtin {
            Builtin::Chain => number(self.frame.chain.0),
            Builtin::BlockNumber => number(block.number),
            Builtin::BlockTimestamp => number(self.frame.timestamp),
            Builtin::BlockHash => Ok(Datum::Fixed(block.hash.0, 32)),
            Builtin::RuleName => Ok(Datum::Text(self.rule_name.as_bytes())),
            Builtin::Count => Ok(Datum::Uint(self.window.0)),
            Builtin::Sum => Ok(Datum::Uint(self.window.1)),
            Builtin::LastSeen => number(self.window.2),
            Builtin::LogAddress => match self.subject {
                Subject::Log(log) => Ok(Datum::Address(log.address)),
                _ => Err(EvalError::Absent(builtin.name())),
            },
            Builtin::LogIndex => match self.subject {
                Subject::Log(log) => number(log.log_index.into()),
                Subject::Transfer(transfer) => match transfer.log_index {
                    Some(index) => number(index.into()),
                    None => Ok(Datum::Absent(builtin.name())),
                },
                _ => Err(EvalError::Absent(builtin.name())),
            },
            Builtin::TxHash => match self.subject {
                Subject::Log(log) => Ok(Datum::Fixed(log.transaction_hash.0, 32)),
                Subject::Transaction(tx) => Ok(Datum::Fixed(tx.hash.0, 32)),
                Subject::Transfer(transfer) => Ok(Datum::Fixed(transfer.transaction_hash.0, 32)),
                _ => Err(EvalError::Absent(builtin.name())),
            },
            Builtin::TxFrom
            | Builtin::TxTo
            | Builtin::TxValue
            | Builtin::TxNonce
            | Builtin::TxInput
            | Builtin::TxSelector => self.of_transaction(builtin),
            Builtin::TxStatus | Builtin::TxGasUsed | Builtin::TxFee | Builtin::TxCreated => {
                self.of_outcome(builtin)
            }
            _ => match self.subject {
                Subject::Transfer(transfer) => self.of_transfer(builtin, transfer),
                Subject::Balance(reading) => self.of_balance(builtin, reading),
                _ => Err(EvalError::Absent(builtin.name())),
            },
        }
    }

    fn of_transaction(&self, builtin: Builtin) -> Result<Datum<'_>, EvalError> {
        let name = builtin.name();
        let tx = self.transaction.ok_or(EvalError::Unread(name))?;
        Ok(match builtin {
            Builtin::TxFrom => Datum::Address(tx.from),
            Builtin::TxTo => tx.to.map_or(Datum::Absent(name), Datum::Address),
            Builtin::TxValue => Datum::Uint(tx.value.0),
            Builtin::TxNonce => Datum::Uint(U256::from(tx.nonce)),
            Builtin::TxInput => Datum::Bytes(&tx.input),
            _ => match tx.input.get(..4).and_then(bytes_key) {
                Some(word) => Datum::Fixed(word, 4),
                None => Datum::Absent(name),
            },
        })
    }

    fn of_outcome(&self, builtin: Builtin) -> Result<Datum<'_>, EvalError> {
        let name = builtin.name();
        let outcome = self.transaction.and_then(|tx| tx.outcome).ok_or(EvalError::Unread(name))?;
        Ok(match builtin {
            Builtin::TxStatus => Datum::Bool(outcome.success),
            Builtin::TxGasUsed => Datum::Uint(U256::from(outcome.gas_used)),
            Builtin::TxFee => {
                let fee = outcome.gas_price.0.checked_mul(U256::from(outcome.gas_used));
                Datum::Uint(fee.ok_or(EvalError::Overflow)?)
            }
            _ => outcome.created.map_or(Datum::Absent(name), Datum::Address),
        })
    }

    fn of_transfer(&self, builtin: Builtin, of: &Transfer) -> Result<Datum<'_>, EvalError> {
        Ok(match builtin {
            Builtin::TransferFrom => Datum::Address(of.from),
            Builtin::TransferTo => Datum::Address(of.to),
            Builtin::Amount => Datum::Uint(of.amount.0),
            Builtin::TokenId => match of.asset {
                Asset::Erc721 { id, .. } | Asset::Erc1155 { id, .. } => Datum::Uint(id.0),
                _ => Datum::Absent(builtin.name()),
            },
            _ => return self.of_asset(builtin, &of.asset),
        })
    }

    fn of_balance(&self, builtin: Builtin, of: &BalanceReading) -> Result<Datum<'_>, EvalError> {
        Ok(match builtin {
            Builtin::Account => Datum::Address(of.account),
            Builtin::Balance => Datum::Uint(of.balance.0),
            Builtin::Previous => Datum::Uint(of.previous.0),
            Builtin::Change => {
                let (new, old) = (of.balance.0, of.previous.0);
                let change = I256::from_parts(new < old, new.abs_diff(old));
                Datum::Int(change.ok_or(EvalError::Overflow)?)
            }
            _ => return self.of_asset(builtin, &of.asset),
        })
    }

    fn of_asset(&self, builtin: Builtin, asset: &Asset) -> Result<Datum<'_>, EvalError> {
        Ok(match builtin {
            Builtin::Asset => {
                Datum::Text(self.asset_text.get_or_init(|| asset_text(asset)).as_bytes())
            }
            Builtin::Kind => Datum::Text(kind_text(asset).as_bytes()),
            Builtin::Token => match token(asset) {
                Some(token) => Datum::Address(token),
                None => Datum::Absent(builtin.name()),
            },
            _ => return Err(EvalError::Absent(builtin.name())),
        })
    }

    /// The value of a field, to be kept with a match; absent and failing fields say so.
    pub(crate) fn capture(&self, field: &Field) -> Value {
        let text = |text: &str| Value::String(AbiText::from(text));
        if let Field::Argument(position) = field
            && let Some(value) = self.values.and_then(|values| values.get(*position))
        {
            return value.clone();
        }
        match self.read(field) {
            Ok(Datum::Bool(value)) => Value::Bool(value),
            Ok(Datum::Uint(value)) => Value::Uint(value),
            Ok(Datum::Int(value)) => Value::Int(value),
            Ok(Datum::Address(value)) => Value::Address(value),
            Ok(Datum::Fixed(word, 32)) => Value::Hash(Hash(word)),
            Ok(Datum::Fixed(word, size)) => match FixedBytes::from_word(word, size) {
                Some(value) => Value::FixedBytes(value),
                None => Value::Bytes(Bytes::copy_from_slice(&word)),
            },
            Ok(Datum::Bytes(value)) => Value::Bytes(Bytes::copy_from_slice(value)),
            Ok(Datum::Text(value)) => Value::String(AbiText(Bytes::copy_from_slice(value))),
            Ok(Datum::Values(values)) => Value::Array(values.to_vec()),
            Ok(Datum::Absent(_)) | Err(EvalError::Absent(_)) => text("none"),
            Err(error) => text(&format!("({error})")),
        }
    }
}

/// The transaction of a record. Its position is a hint only: a filtered frame may hold some.
fn find<'a>(frame: &'a Frame, index: u32, hash: &Hash) -> Option<&'a Transaction> {
    let hinted = usize::try_from(index).ok().and_then(|index| frame.transactions.get(index));
    match hinted {
        Some(tx) if tx.hash == *hash => Some(tx),
        _ if frame.transactions.is_empty() => None,
        _ => frame.transactions.iter().find(|tx| tx.hash == *hash),
    }
}

pub(crate) fn token(asset: &Asset) -> Option<Address> {
    match asset {
        Asset::Native => None,
        Asset::Erc20(token) => Some(*token),
        Asset::Erc721 { contract, .. } | Asset::Erc1155 { contract, .. } => Some(*contract),
    }
}

fn kind_text(asset: &Asset) -> &'static str {
    match asset {
        Asset::Native => "native",
        Asset::Erc20(_) => "erc20",
        Asset::Erc721 { .. } => "erc721",
        Asset::Erc1155 { .. } => "erc1155",
    }
}

/// The asset as the last part of a CAIP-19 id.
fn asset_text(asset: &Asset) -> String {
    let kind = kind_text(asset);
    match asset {
        Asset::Native => kind.to_owned(),
        Asset::Erc20(token) => format!("{kind}:{token}"),
        Asset::Erc721 { contract, id } | Asset::Erc1155 { contract, id } => {
            format!("{kind}:{contract}/{id}")
        }
    }
}
