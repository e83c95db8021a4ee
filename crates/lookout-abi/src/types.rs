//! Solidity types, as the ABI writes them.

use std::fmt;
use std::sync::Arc;

/// Nesting of arrays and tuples that is accepted; bounds the decoder's recursion.
pub const MAX_TYPE_DEPTH: usize = 16;

/// Words that the static part of one argument may take: a fixed array of 4,096 words is 128 KiB,
/// more than any event carries.
pub const MAX_HEAD_WORDS: usize = 4096;

/// A Solidity type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AbiType {
    /// `bool`
    Bool,
    /// `uintN`; the width in bits.
    Uint(u16),
    /// `intN`; the width in bits.
    Int(u16),
    /// `address`
    Address,
    /// `bytesN`; the width in bytes. A `function` value is `bytes24`.
    FixedBytes(u8),
    /// `bytes`
    Bytes,
    /// `string`
    String,
    /// `T[]`
    Array(Arc<AbiType>),
    /// `T[n]`
    FixedArray(Arc<AbiType>, usize),
    /// A struct.
    Tuple(Arc<[TupleField]>),
}

/// One member of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TupleField {
    /// Its name; `arg0`, `arg1` … where the ABI gives none.
    pub name: String,
    /// Its type.
    pub ty: AbiType,
}

impl AbiType {
    /// Parses a type as JSON ABIs write it; `components` are the members of a `tuple`.
    pub(crate) fn parse(text: &str, components: Vec<TupleField>) -> Result<Self, String> {
        let base_end = text.find('[').unwrap_or(text.len());
        let (base, mut suffix) = text.split_at(base_end);
        let mut ty = Self::parse_base(base, components)?;
        while !suffix.is_empty() {
            let close = suffix.find(']').ok_or_else(|| unknown(text))?;
            let (length, rest) = suffix.split_at(close);
            let length = length.strip_prefix('[').ok_or_else(|| unknown(text))?;
            suffix = rest.strip_prefix(']').unwrap_or_default();
            ty = if length.is_empty() {
                Self::Array(Arc::new(ty))
            } else {
                let items = length.parse().map_err(|_| unknown(text))?;
                if items == 0 {
                    return Err(format!("`{text}` is an array of no items"));
                }
                Self::FixedArray(Arc::new(ty), items)
            };
        }
        if ty.depth() > MAX_TYPE_DEPTH {
            return Err(format!("`{text}` is nested deeper than {MAX_TYPE_DEPTH}"));
        }
        match ty.checked_words() {
            Some(words) if words <= MAX_HEAD_WORDS => Ok(ty),
            _ => Err(format!("`{text}` takes more than {MAX_HEAD_WORDS} words")),
        }
    }

    fn parse_base(text: &str, components: Vec<TupleField>) -> Result<Self, String> {
        let bits = |digits: &str| match digits {
            "" => Ok(256),
            digits => match digits.parse() {
                Ok(bits @ 8..=256) if bits % 8 == 0 && !digits.starts_with(['0', '+']) => Ok(bits),
                _ => Err(unknown(text)),
            },
        };
        match text {
            "bool" => Ok(Self::Bool),
            "address" => Ok(Self::Address),
            "bytes" => Ok(Self::Bytes),
            "string" => Ok(Self::String),
            "function" => Ok(Self::FixedBytes(24)),
            "tuple" if components.is_empty() => Err("a tuple without components".to_owned()),
            "tuple" => Ok(Self::Tuple(components.into())),
            _ => {
                if let Some(digits) = text.strip_prefix("uint") {
                    bits(digits).map(Self::Uint)
                } else if let Some(digits) = text.strip_prefix("int") {
                    bits(digits).map(Self::Int)
                } else if let Some(digits) = text.strip_prefix("bytes") {
                    match digits.parse() {
                        Ok(size @ 1..=32) if !digits.starts_with(['0', '+']) => {
                            Ok(Self::FixedBytes(size))
                        }
                        _ => Err(unknown(text)),
                    }
                } else {
                    Err(unknown(text))
                }
            }
        }
    }

    /// Whether its encoding is an offset to a tail.
    pub fn is_dynamic(&self) -> bool {
        match self {
            Self::Bytes | Self::String | Self::Array(_) => true,
            Self::FixedArray(item, _) => item.is_dynamic(),
            Self::Tuple(fields) => fields.iter().any(|field| field.ty.is_dynamic()),
            _ => false,
        }
    }

    /// Whether it is neither array, tuple, bytes nor string: one word, and in a topic itself.
    pub fn is_word(&self) -> bool {
        matches!(
            self,
            Self::Bool | Self::Uint(_) | Self::Int(_) | Self::Address | Self::FixedBytes(_)
        )
    }

    /// Words that it takes in the head.
    pub fn head_words(&self) -> usize {
        self.checked_words().unwrap_or(MAX_HEAD_WORDS)
    }

    fn checked_words(&self) -> Option<usize> {
        if self.is_dynamic() {
            // The items of a dynamic fixed array have heads too, behind the offset.
            return match self {
                Self::FixedArray(item, items) => {
                    item.checked_words()?.checked_mul(*items).filter(|w| *w <= MAX_HEAD_WORDS)?;
                    Some(1)
                }
                _ => Some(1),
            };
        }
        match self {
            Self::FixedArray(item, items) => item.checked_words()?.checked_mul(*items),
            Self::Tuple(fields) => fields
                .iter()
                .try_fold(0usize, |sum, field| sum.checked_add(field.ty.checked_words()?)),
            _ => Some(1),
        }
    }

    fn depth(&self) -> usize {
        1 + match self {
            Self::Array(item) | Self::FixedArray(item, _) => item.depth(),
            Self::Tuple(fields) => fields.iter().map(|field| field.ty.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

fn unknown(text: &str) -> String {
    format!("`{}` is not a type of the ABI", text.chars().take(60).collect::<String>())
}

impl fmt::Display for AbiType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Uint(bits) => write!(f, "uint{bits}"),
            Self::Int(bits) => write!(f, "int{bits}"),
            Self::Address => f.write_str("address"),
            Self::FixedBytes(size) => write!(f, "bytes{size}"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Array(item) => write!(f, "{item}[]"),
            Self::FixedArray(item, items) => write!(f, "{item}[{items}]"),
            Self::Tuple(fields) => {
                f.write_str("(")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    field.ty.fmt(f)?;
                }
                f.write_str(")")
            }
        }
    }
}
