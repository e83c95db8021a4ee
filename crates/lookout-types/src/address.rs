//! EVM addresses with their EIP-55 checksum, and 32-byte hashes.

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};

/// A 20-byte EVM address. Prints in its EIP-55 form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub [u8; 20]);

/// A 32-byte hash. Prints as 0x-prefixed lowercase hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `0x` in front.
    #[error("an address starts with `0x`")]
    NoPrefix,
    /// Not 40 digits behind `0x`.
    #[error("an address has 40 hex digits after `0x`, this one has {0}")]
    Length(usize),
    /// A character that is no hex digit.
    #[error("`{character}` at position {position} is not a hex digit")]
    NotHex {
        /// The offending character.
        character: char,
        /// Its position in the text, counted in characters from 1.
        position: usize,
    },
    /// Right digits, wrong capitals.
    #[error("the EIP-55 checksum is wrong; the right form is {right}")]
    Checksum {
        /// The same address, correctly capitalised.
        right: Address,
    },
}

/// Why a text is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is `0x` and 64 hex digits")]
pub struct HashError;

impl Address {
    /// Parses any capitalisation that is all lowercase, all uppercase, or a right EIP-55 checksum.
    ///
    /// Mixed capitals claim a checksum, so they must be right.
    ///
    /// # Errors
    /// [`AddressError`] names the first thing that is wrong.
    pub fn parse_lenient(text: &str) -> Result<Self, AddressError> {
        let address = Self::parse_digits(text)?;
        let has = |lower: bool| {
            text.bytes()
                .skip(2)
                .any(|b| if lower { b.is_ascii_lowercase() } else { b.is_ascii_uppercase() })
        };
        if has(true) && has(false) { address.require_checksum(text) } else { Ok(address) }
    }

    /// Parses only the EIP-55 form.
    ///
    /// # Errors
    /// [`AddressError`] names the first thing that is wrong; a wrong checksum gives the right form.
    pub fn parse_checksummed(text: &str) -> Result<Self, AddressError> {
        Self::parse_digits(text)?.require_checksum(text)
    }

    fn require_checksum(self, text: &str) -> Result<Self, AddressError> {
        let right = self.checksum();
        if right == text.as_bytes() {
            Ok(self)
        } else {
            Err(AddressError::Checksum { right: self })
        }
    }

    fn parse_digits(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::NoPrefix)?;
        if let Some((at, character)) =
            digits.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit())
        {
            return Err(AddressError::NotHex { character, position: at + 3 });
        }
        let mut bytes = [0; 20];
        const_hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| AddressError::Length(digits.len()))?;
        Ok(Self(bytes))
    }

    /// 0x and lowercase digits as 42 ASCII bytes.
    fn lowercase(self) -> [u8; 42] {
        let mut text = [0; 42];
        text[..2].copy_from_slice(b"0x");
        const_hex::encode_to_slice(self.0, &mut text[2..]).expect("40 digits fit 40 bytes");
        text
    }

    /// The EIP-55 form as 42 ASCII bytes.
    fn checksum(self) -> [u8; 42] {
        let mut text = self.lowercase();
        let hash = Keccak256::digest(&text[2..]);
        for (i, digit) in text[2..].iter_mut().enumerate() {
            let nibble = if i % 2 == 0 { hash[i / 2] >> 4 } else { hash[i / 2] & 0x0f };
            if nibble >= 8 {
                digit.make_ascii_uppercase();
            }
        }
        text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_lenient(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.checksum()).expect("hex digits are ASCII"))
    }
}

/// Prints 0x and lowercase digits, without the price of the checksum (one Keccak-256).
impl fmt::LowerHex for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.lowercase()).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").ok_or(HashError)?;
        let mut bytes = [0; 32];
        const_hex::decode_to_slice(digits, &mut bytes).map_err(|_| HashError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 66];
        text[..2].copy_from_slice(b"0x");
        const_hex::encode_to_slice(self.0, &mut text[2..]).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
