//! The ABI decoder: one pass, cost linear in the data, strings and bytes without copying.

use bytes::Bytes;
use lookout_types::{Address, Log};
use ruint::aliases::U256;

use crate::{AbiText, AbiType, DecodeError, FixedBytes, I256, Location, Param, Value};

/// The word at a byte offset; `None` beyond the end.
pub fn word_at(data: &[u8], offset: usize) -> Option<[u8; 32]> {
    data.get(offset..)?.first_chunk().copied()
}

/// Decodes a parameter list: the data of a log, or call data behind its selector.
///
/// # Errors
/// [`DecodeError`] naming the argument that does not decode.
pub fn decode_params(types: &[(String, AbiType)], data: &Bytes) -> Result<Vec<Value>, DecodeError> {
    let mut values = Vec::with_capacity(types.len());
    let mut decoder = Decoder { data, left: data.len(), argument: "" };
    let mut head = 0;
    for (name, ty) in types {
        decoder.argument = name;
        values.push(decoder.member(ty, head, 0)?);
        head += 32 * ty.head_words();
    }
    Ok(values)
}

/// The value in a word, or `None` when bits that the type does not use are set.
fn word_value(ty: &AbiType, word: [u8; 32]) -> Option<Value> {
    if !word_fits(ty, &word) {
        return None;
    }
    Some(match ty {
        AbiType::Bool => Value::Bool(word[31] == 1),
        AbiType::Uint(_) => Value::Uint(U256::from_be_bytes(word)),
        AbiType::Int(_) => Value::Int(I256::from_bits(U256::from_be_bytes(word))),
        AbiType::Address => Value::Address(address(&word)),
        AbiType::FixedBytes(size) => Value::FixedBytes(FixedBytes::from_word(word, *size)?),
        _ => return None,
    })
}

fn address(word: &[u8; 32]) -> Address {
    let mut address = Address::default();
    address.0.copy_from_slice(&word[12..]);
    address
}

/// Whether a word is a value of a one-word type.
fn word_fits(ty: &AbiType, word: &[u8; 32]) -> bool {
    let filled_with = |bytes: &[u8], fill: u8| bytes.iter().all(|byte| *byte == fill);
    match ty {
        AbiType::Bool => word[31] <= 1 && filled_with(&word[..31], 0),
        AbiType::Uint(256) | AbiType::Int(256) => true,
        AbiType::Uint(bits) => filled_with(&word[..32 - usize::from(bits / 8)], 0),
        AbiType::Int(bits) => {
            let unused = 32 - usize::from(bits / 8);
            let sign = word.get(unused).is_some_and(|byte| byte & 0x80 != 0);
            filled_with(&word[..unused], if sign { 0xff } else { 0 })
        }
        AbiType::Address => word[..12] == [0; 12],
        AbiType::FixedBytes(size) => filled_with(&word[usize::from(*size)..], 0),
        _ => false,
    }
}

fn located_word(param: &Param, log: &Log) -> Option<[u8; 32]> {
    match param.location {
        Location::Topic(index) => log.topics.get(index).map(|topic| topic.0),
        Location::Data(offset) => word_at(&log.data, offset),
    }
}

fn short(param: &Param, log: &Log) -> DecodeError {
    DecodeError::Short { argument: param.name.clone(), size_bytes: log.data.len() }
}

fn bad_word(param: &Param) -> DecodeError {
    DecodeError::Word { argument: param.name.clone(), expected: param.ty.to_string() }
}

/// Decodes an argument that is one word, or an indexed one of any type.
pub(crate) fn decode_word(param: &Param, log: &Log) -> Result<Value, DecodeError> {
    let word = located_word(param, log).ok_or_else(|| short(param, log))?;
    if param.indexed && !param.ty.is_word() {
        return Ok(Value::Hash(lookout_types::Hash(word)));
    }
    word_value(&param.ty, word).ok_or_else(|| bad_word(param))
}

/// The check that [`decode_word`] makes, without the value.
pub(crate) fn check_word(param: &Param, log: &Log) -> Result<(), DecodeError> {
    let word = located_word(param, log).ok_or_else(|| short(param, log))?;
    let hash = param.indexed && !param.ty.is_word();
    if hash || word_fits(&param.ty, &word) { Ok(()) } else { Err(bad_word(param)) }
}

struct Decoder<'a> {
    data: &'a Bytes,
    /// Bytes not yet accounted for. An honest encoding uses each byte once; one whose offsets
    /// overlap could claim a value exponentially larger than itself.
    left: usize,
    argument: &'a str,
}

impl Decoder<'_> {
    fn short(&self) -> DecodeError {
        DecodeError::Short { argument: self.argument.to_owned(), size_bytes: self.data.len() }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| DecodeError::Overlapping {
            argument: self.argument.to_owned(),
            size_bytes: self.data.len(),
        })?;
        Ok(())
    }

    fn word(&mut self, at: usize) -> Result<[u8; 32], DecodeError> {
        let word = word_at(self.data, at).ok_or_else(|| self.short())?;
        self.spend(32)?;
        Ok(word)
    }

    /// An offset or length: anything beyond the data is out of range anyway.
    fn size(&mut self, at: usize) -> Result<usize, DecodeError> {
        let word = U256::from_be_bytes(self.word(at)?);
        match usize::try_from(word) {
            Ok(size) if size <= self.data.len() => Ok(size),
            _ => Err(self.short()),
        }
    }

    /// A member of a sequence that starts at `base`, with its head at `head`.
    fn member(&mut self, ty: &AbiType, head: usize, base: usize) -> Result<Value, DecodeError> {
        if ty.is_dynamic() {
            let offset = self.size(head)?;
            self.value(ty, base + offset)
        } else {
            self.value(ty, head)
        }
    }

    fn value(&mut self, ty: &AbiType, at: usize) -> Result<Value, DecodeError> {
        match ty {
            AbiType::Bytes => Ok(Value::Bytes(self.tail(at)?)),
            AbiType::String => Ok(Value::String(AbiText(self.tail(at)?))),
            AbiType::Array(item) => {
                let items = self.size(at)?;
                self.items(item, items, at + 32)
            }
            AbiType::FixedArray(item, items) => self.items(item, *items, at),
            AbiType::Tuple(fields) => {
                let mut values = Vec::with_capacity(fields.len());
                let mut head = at;
                for field in fields.iter() {
                    values.push(self.member(&field.ty, head, at)?);
                    head += 32 * field.ty.head_words();
                }
                Ok(Value::Tuple(values))
            }
            word => {
                let bytes = self.word(at)?;
                word_value(word, bytes).ok_or_else(|| DecodeError::Word {
                    argument: self.argument.to_owned(),
                    expected: word.to_string(),
                })
            }
        }
    }

    fn items(&mut self, item: &AbiType, items: usize, base: usize) -> Result<Value, DecodeError> {
        let step = 32 * item.head_words();
        // Checked before anything is allocated for a length that the data cannot hold.
        let end = items.checked_mul(step).and_then(|size| size.checked_add(base));
        if end.is_none_or(|end| end > self.data.len()) {
            return Err(self.short());
        }
        let mut values = Vec::with_capacity(items.min(self.left / 32));
        for index in 0..items {
            values.push(self.member(item, base + index * step, base)?);
        }
        Ok(Value::Array(values))
    }

    fn tail(&mut self, at: usize) -> Result<Bytes, DecodeError> {
        let size = self.size(at)?;
        let start = at + 32;
        let end = start.checked_add(size).filter(|end| *end <= self.data.len());
        let end = end.ok_or_else(|| self.short())?;
        self.spend(size)?;
        Ok(self.data.slice(start..end))
    }
}

#[cfg(test)]
mod tests;
