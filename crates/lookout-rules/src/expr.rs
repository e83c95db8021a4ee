//! The typed form that conditions are lowered to.

use std::sync::Arc;

use lookout_abi::{I256, Value};
use lookout_types::Address;
use regex::bytes::Regex;
use ruint::aliases::U256;

use crate::scope::Field;
use crate::syntax::{ArithmeticOp, CompareOp};

/// A 32-byte form of a value whose byte order is the value's own order.
pub(crate) type Key = [u8; 32];

/// A checked expression. Numbers are exact; types were decided when it was lowered.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Const(Const),
    Field(Field),
    /// A member of a tuple.
    Member {
        of: Box<Expr>,
        position: usize,
    },
    /// An item of a list.
    Item {
        of: Box<Expr>,
        index: Box<Expr>,
    },
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Choice {
        condition: Box<Expr>,
        yes: Box<Expr>,
        no: Box<Expr>,
    },
    /// A constant stands on the right.
    Compare {
        op: CompareOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    InSet {
        item: Box<Expr>,
        set: Arc<ConstSet>,
    },
    InList {
        item: Box<Expr>,
        list: Box<Expr>,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Negate(Box<Expr>),
    ToInt(Box<Expr>),
    ToUint(Box<Expr>),
    Size(Box<Expr>),
    Search {
        op: SearchOp,
        of: Box<Expr>,
        needle: Box<Expr>,
    },
    Matches {
        of: Box<Expr>,
        pattern: Regex,
    },
    Has(Field),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Const {
    Bool(bool),
    Uint(U256),
    Int(I256),
    Address(Address),
    Bytes(Arc<[u8]>),
    Text(Arc<str>),
    Null,
}

/// The constants of an `in`, sorted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConstSet {
    Keys(Vec<Key>),
    Bytes(Vec<Arc<[u8]>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchOp {
    StartsWith,
    EndsWith,
    Contains,
}

/// A value while an expression is evaluated; borrows from record and expression.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Datum<'a> {
    Bool(bool),
    Uint(U256),
    Int(I256),
    Address(Address),
    /// `bytesN`, in its word.
    Fixed(Key, u8),
    Bytes(&'a [u8]),
    Text(&'a [u8]),
    Values(&'a [Value]),
    /// A value that the record does not have.
    Absent(&'static str),
}

pub(crate) fn uint_key(value: &U256) -> Key {
    value.to_be_bytes()
}

/// The sign bit flipped, so that negative keys sort below the others.
pub(crate) fn int_key(value: I256) -> Key {
    let mut key: Key = value.to_bits().to_be_bytes();
    key[0] ^= 0x80;
    key
}

pub(crate) fn address_key(value: &Address) -> Key {
    let mut key = [0; 32];
    key[12..].copy_from_slice(&value.0);
    key
}

pub(crate) fn bytes_key(value: &[u8]) -> Option<Key> {
    let mut key = [0; 32];
    key.get_mut(..value.len())?.copy_from_slice(value);
    Some(key)
}

impl Const {
    pub(crate) fn datum(&self) -> Datum<'_> {
        match self {
            Self::Bool(value) => Datum::Bool(*value),
            Self::Uint(value) => Datum::Uint(*value),
            Self::Int(value) => Datum::Int(*value),
            Self::Address(value) => Datum::Address(*value),
            Self::Bytes(value) => Datum::Bytes(value),
            Self::Text(value) => Datum::Text(value.as_bytes()),
            Self::Null => Datum::Absent("null"),
        }
    }

    /// Its key, once it has the type of what it is compared with.
    pub(crate) fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(value) => Some(uint_key(&U256::from(u8::from(*value)))),
            Self::Uint(value) => Some(uint_key(value)),
            Self::Int(value) => Some(int_key(*value)),
            Self::Address(value) => Some(address_key(value)),
            Self::Bytes(value) => bytes_key(value),
            Self::Text(_) | Self::Null => None,
        }
    }
}

impl<'a> Datum<'a> {
    /// The value of a decoded argument.
    pub(crate) fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Uint(value) => Self::Uint(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Address(value) => Self::Address(*value),
            Value::FixedBytes(value) => Self::Bytes(value.as_slice()),
            Value::Bytes(value) => Self::Bytes(value),
            Value::String(value) => Self::Text(&value.0),
            Value::Array(values) | Value::Tuple(values) => Self::Values(values),
            Value::Hash(hash) => Self::Fixed(hash.0, 32),
        }
    }

    /// Its key; `None` for what has no fixed size, and for what is absent.
    pub(crate) fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(value) => Some(uint_key(&U256::from(u8::from(*value)))),
            Self::Uint(value) => Some(uint_key(value)),
            Self::Int(value) => Some(int_key(*value)),
            Self::Address(value) => Some(address_key(value)),
            Self::Fixed(word, _) => Some(*word),
            Self::Bytes(value) => bytes_key(value),
            Self::Text(_) | Self::Values(_) | Self::Absent(_) => None,
        }
    }

    /// The bytes of a string or of bytes.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(value) | Self::Text(value) => Some(value),
            Self::Fixed(word, size) => word.get(..usize::from(*size)),
            _ => None,
        }
    }
}
