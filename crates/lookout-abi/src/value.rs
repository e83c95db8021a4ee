//! Decoded values and their JSON form.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use lookout_types::{Address, Hash};
use ruint::aliases::U256;
use serde_json::{Map, json};

use crate::{AbiType, I256};

/// A decoded value. Equality is by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `bool`
    Bool(bool),
    /// `uintN`
    Uint(U256),
    /// `intN`
    Int(I256),
    /// `address`
    Address(Address),
    /// `bytesN`
    FixedBytes(FixedBytes),
    /// `bytes`
    Bytes(Bytes),
    /// `string`
    String(AbiText),
    /// `T[]` and `T[n]`
    Array(Vec<Value>),
    /// A struct; its members in order.
    Tuple(Vec<Value>),
    /// The Keccak-256 of an indexed argument that is longer than a word: the log has nothing else.
    Hash(Hash),
}

/// `bytes1` to `bytes32`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedBytes {
    word: [u8; 32],
    size: u8,
}

/// A string from a chain: any bytes at all, meant to be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AbiText(pub Bytes);

impl FixedBytes {
    /// The first `size` bytes of a word; `None` when the rest is not zero or `size` is not 1 to 32.
    pub fn from_word(word: [u8; 32], size: u8) -> Option<Self> {
        let (_, padding) = word.split_at_checked(size.into())?;
        (size > 0 && padding.iter().all(|byte| *byte == 0)).then_some(Self { word, size })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.word.get(..usize::from(self.size)).unwrap_or(&self.word)
    }
}

impl fmt::Debug for FixedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode_prefixed(self.as_slice()))
    }
}

impl AbiText {
    /// The text, with U+FFFD for what is not UTF-8.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The text, when all of it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&str> for AbiText {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for AbiText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), f)
    }
}

impl Value {
    /// Its JSON form: numbers as decimal strings, bytes as 0x-hex, structs as objects.
    ///
    /// A string that is not UTF-8 becomes `{"invalidUtf8": "0x…"}`, so that nothing is lost.
    pub fn to_json(&self, ty: &AbiType) -> serde_json::Value {
        match (self, ty) {
            (Self::Tuple(values), AbiType::Tuple(fields)) => {
                let members = fields.iter().zip(values);
                let members = members.map(|(f, v)| (f.name.clone(), v.to_json(&f.ty)));
                serde_json::Value::Object(members.collect::<Map<_, _>>())
            }
            (Self::Array(values), AbiType::Array(item) | AbiType::FixedArray(item, _)) => {
                values.iter().map(|value| value.to_json(item)).collect()
            }
            _ => self.to_plain_json(),
        }
    }

    /// Its JSON form without a type: structs become arrays.
    pub fn to_plain_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => json!(value),
            Self::Uint(value) => json!(value.to_string()),
            Self::Int(value) => json!(value.to_string()),
            Self::Address(value) => json!(value.to_string()),
            Self::FixedBytes(value) => json!(const_hex::encode_prefixed(value.as_slice())),
            Self::Bytes(value) => json!(const_hex::encode_prefixed(value)),
            Self::Hash(value) => json!(value.to_string()),
            Self::String(text) => match text.as_str() {
                Some(text) => json!(text),
                None => json!({ "invalidUtf8": const_hex::encode_prefixed(&text.0) }),
            },
            Self::Array(values) | Self::Tuple(values) => {
                values.iter().map(Self::to_plain_json).collect()
            }
        }
    }
}
