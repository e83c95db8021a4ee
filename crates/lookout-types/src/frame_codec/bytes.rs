//! The small parts that the encoding is made of.

use ruint::aliases::U256;

use super::CodecError;
use crate::{Amount, Hash};

/// Bytes of a word.
const WORD_BYTES: usize = 32;

/// How a byte string is written: these two bits stand in its first number or its log's flags.
pub(super) const DATA_EMPTY: u8 = 0;
pub(super) const DATA_WORD: u8 = 1;
pub(super) const DATA_WORDS: u8 = 2;
pub(super) const DATA_RAW: u8 = 3;

/// Bytes still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, CodecError> {
        let (first, rest) = self.0.split_first().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// `count` arrays of `N` bytes.
    pub(super) fn arrays<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], CodecError> {
        let length = count.checked_mul(N).ok_or(CodecError::Short)?;
        Ok(self.take(length)?.as_chunks::<N>().0)
    }

    pub(super) fn number(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(CodecError::Wrong("number"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Wrong("number"))
    }

    pub(super) fn number_u32(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.number()?).map_err(|_| CodecError::Wrong("number"))
    }

    /// A length that the bytes at hand can still hold.
    pub(super) fn length(&mut self) -> Result<usize, CodecError> {
        usize::try_from(self.number()?).map_err(|_| CodecError::Short)
    }

    pub(super) fn word(&mut self) -> Result<[u8; WORD_BYTES], CodecError> {
        let length = usize::from(self.byte()?);
        let mut word = [0; WORD_BYTES];
        let start = WORD_BYTES.checked_sub(length).ok_or(CodecError::Wrong("word"))?;
        word[start..].copy_from_slice(self.take(length)?);
        Ok(word)
    }

    pub(super) fn hash(&mut self) -> Result<Hash, CodecError> {
        Ok(Hash(*self.array()?))
    }

    pub(super) fn amount(&mut self) -> Result<Amount, CodecError> {
        Ok(Amount(U256::from_be_bytes(self.word()?)))
    }

    pub(super) fn end(self) -> Result<(), CodecError> {
        match self.0.len() {
            0 => Ok(()),
            more => Err(CodecError::Long(more)),
        }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("7 bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("7 bits"));
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_number(out, u64::try_from(length).expect("a length fits 64 bits"));
}

pub(super) fn put_word(out: &mut Vec<u8>, word: &[u8; WORD_BYTES]) {
    let zeros = leading_zeros(word);
    out.push(u8::try_from(WORD_BYTES - zeros).expect("at most 32"));
    out.extend_from_slice(&word[zeros..]);
}

/// Zero bytes in front, eight at a time.
fn leading_zeros(word: &[u8; WORD_BYTES]) -> usize {
    let mut zeros = 0;
    for part in word.as_chunks::<8>().0 {
        let part = u64::from_be_bytes(*part);
        if part != 0 {
            return zeros + usize::try_from(part.leading_zeros() / 8).expect("at most 7");
        }
        zeros += 8;
    }
    zeros
}

/// Which form `data` is written in.
pub(super) fn data_form(data: &[u8]) -> u8 {
    match data.len() {
        0 => DATA_EMPTY,
        WORD_BYTES => DATA_WORD,
        length if length.is_multiple_of(WORD_BYTES) => DATA_WORDS,
        _ => DATA_RAW,
    }
}

/// Writes `data` in its form. `scratch` is empty before and after.
pub(super) fn put_data(out: &mut Vec<u8>, data: &[u8], scratch: &mut Vec<u8>) {
    match data_form(data) {
        DATA_EMPTY => {}
        DATA_WORD => put_word(out, data.try_into().expect("a word has 32 bytes")),
        DATA_WORDS => {
            let words = data.as_chunks::<WORD_BYTES>().0;
            for word in words {
                put_word(scratch, word);
            }
            put_length(out, words.len());
            // So that a reader can pass over it in one step.
            put_length(out, scratch.len());
            out.append(scratch);
        }
        _ => {
            put_length(out, data.len());
            out.extend_from_slice(data);
        }
    }
}

/// Data as it is encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedData<'a> {
    form: u8,
    bytes: &'a [u8],
    words: usize,
}

impl<'a> EncodedData<'a> {
    /// Passes over data in `form`.
    pub(super) fn read(input: &mut Input<'a>, form: u8) -> Result<Self, CodecError> {
        let mut words = 0;
        let bytes = match form {
            DATA_EMPTY => &[][..],
            DATA_WORD => {
                let length = usize::from(*input.0.first().ok_or(CodecError::Short)?);
                input.take(length + 1)?
            }
            DATA_WORDS => {
                words = input.length()?;
                let length = input.length()?;
                input.take(length)?
            }
            _ => {
                let length = input.length()?;
                input.take(length)?
            }
        };
        // A word takes one byte at least, which also bounds what `expand` allocates.
        if words > bytes.len() {
            return Err(CodecError::Wrong("word count"));
        }
        Ok(Self { form, bytes, words })
    }

    pub(super) fn expand(self) -> Result<Vec<u8>, CodecError> {
        let mut input = Input(self.bytes);
        let words = match self.form {
            DATA_EMPTY => 0,
            DATA_WORD => 1,
            DATA_WORDS => self.words,
            _ => return Ok(self.bytes.to_vec()),
        };
        let mut data = Vec::with_capacity(words * WORD_BYTES);
        for _ in 0..words {
            data.extend_from_slice(&input.word()?);
        }
        input.end()?;
        Ok(data)
    }
}
