//! Types of the condition language.

use std::fmt;
use std::sync::Arc;

use lookout_abi::{AbiType, TupleField};

/// What an expression gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    /// Any `uintN`; 256 bits.
    Uint,
    /// Any `intN`; 256 bits.
    Int,
    Address,
    /// `bytes`, or `bytesN` with its size.
    Bytes(Option<u8>),
    Text,
    List(Box<Type>),
    Tuple(Arc<[TupleField]>),
    Null,
}

impl Type {
    pub(crate) fn of(ty: &AbiType) -> Self {
        match ty {
            AbiType::Bool => Self::Bool,
            AbiType::Uint(_) => Self::Uint,
            AbiType::Int(_) => Self::Int,
            AbiType::Address => Self::Address,
            AbiType::FixedBytes(size) => Self::Bytes(Some(*size)),
            AbiType::Bytes => Self::Bytes(None),
            AbiType::String => Self::Text,
            AbiType::Array(item) | AbiType::FixedArray(item, _) => {
                Self::List(Box::new(Self::of(item)))
            }
            AbiType::Tuple(fields) => Self::Tuple(fields.clone()),
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Uint | Self::Int)
    }

    /// Whether its values have a 32-byte key, by which the index finds and sorts them.
    pub(crate) fn has_key(&self) -> bool {
        matches!(self, Self::Uint | Self::Int | Self::Address | Self::Bytes(Some(_)) | Self::Bool)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("a bool"),
            Self::Uint => f.write_str("a uint256"),
            Self::Int => f.write_str("an int256"),
            Self::Address => f.write_str("an address"),
            Self::Bytes(None) => f.write_str("bytes"),
            Self::Bytes(Some(size)) => write!(f, "bytes{size}"),
            Self::Text => f.write_str("a string"),
            Self::List(_) => f.write_str("a list"),
            Self::Tuple(_) => f.write_str("a tuple"),
            Self::Null => f.write_str("null"),
        }
    }
}
