//! Values as people write them, and the topics that they are searched by.

use lookout_types::{Address, Amount, Hash};
use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

use crate::{AbiText, AbiType, FixedBytes, I256, Value};

/// Text that is no value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiteralError {
    /// The text is no value of the type.
    #[error("`{text}` is not a value of {expected}: expected {form}")]
    NotOne {
        /// The text, shortened to 80 characters.
        text: String,
        /// The type.
        expected: String,
        /// How its values are written.
        form: String,
    },
    /// Values of the type cannot be written in one piece.
    #[error("a value of {0} cannot be compared; only single words, strings and bytes can")]
    Composite(String),
}

impl Value {
    /// Reads a value: a number in decimal or 0x-hex, an address, `true`, 0x-hex bytes, or text as it
    /// is for a string.
    ///
    /// # Errors
    /// [`LiteralError`] says how values of the type are written.
    pub fn parse(text: &str, ty: &AbiType) -> Result<Self, LiteralError> {
        let wrong = |form: String| LiteralError::NotOne {
            text: text.chars().take(80).collect(),
            expected: ty.to_string(),
            form,
        };
        match ty {
            AbiType::Bool => match text {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => Err(wrong("true or false".to_owned())),
            },
            AbiType::Uint(bits) => {
                let value = text.parse::<Amount>().ok().filter(|v| v.0.bit_len() <= (*bits).into());
                let form = || format!("a decimal or 0x-hex number below 2^{bits}");
                value.map(|value| Self::Uint(value.0)).ok_or_else(|| wrong(form()))
            }
            AbiType::Int(bits) => signed(text, *bits).map(Self::Int).ok_or_else(|| {
                wrong(format!("a decimal number from -2^{0} to 2^{0} - 1", bits - 1))
            }),
            AbiType::Address => {
                let parsed = Address::parse_lenient(text);
                parsed.map(Self::Address).map_err(|error| wrong(format!("an address; {error}")))
            }
            AbiType::FixedBytes(size) => {
                let form = || format!("0x and {} hex digits", 2 * u32::from(*size));
                let value = bytes(text).and_then(|bytes| fixed(&bytes, *size));
                value.map(Self::FixedBytes).ok_or_else(|| wrong(form()))
            }
            AbiType::Bytes => bytes(text)
                .map(|bytes| Self::Bytes(bytes.into()))
                .ok_or_else(|| wrong("0x and hex digits, two for each byte".to_owned())),
            AbiType::String => Ok(Self::String(AbiText::from(text))),
            AbiType::Array(_) | AbiType::FixedArray(..) | AbiType::Tuple(_) => {
                Err(LiteralError::Composite(ty.to_string()))
            }
        }
    }

    /// The topic under which a log has this value as an indexed argument: the word itself, or the
    /// Keccak-256 of a string or bytes. `None` for arrays and structs.
    pub fn to_topic(&self) -> Option<Hash> {
        Some(Hash(match self {
            Self::Bool(value) => U256::from(u8::from(*value)).to_be_bytes(),
            Self::Uint(value) => value.to_be_bytes(),
            Self::Int(value) => value.to_bits().to_be_bytes(),
            Self::Address(address) => {
                let mut word = [0; 32];
                word[12..].copy_from_slice(&address.0);
                word
            }
            Self::FixedBytes(value) => {
                let mut word = [0; 32];
                let bytes = value.as_slice();
                word[..bytes.len()].copy_from_slice(bytes);
                word
            }
            Self::Bytes(bytes) => Keccak256::digest(bytes).into(),
            Self::String(text) => Keccak256::digest(&text.0).into(),
            Self::Hash(hash) => hash.0,
            Self::Array(_) | Self::Tuple(_) => return None,
        }))
    }
}

fn signed(text: &str, bits: u16) -> Option<I256> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let magnitude = digits.parse::<Amount>().ok()?.0;
    let value = I256::from_parts(negative, magnitude)?;
    let bound = U256::from(1) << usize::from(bits - 1);
    let fits = if negative { magnitude <= bound } else { magnitude < bound };
    fits.then_some(value)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    const_hex::decode(text.strip_prefix("0x")?).ok()
}

fn fixed(bytes: &[u8], size: u8) -> Option<FixedBytes> {
    let mut word = [0; 32];
    (bytes.len() == usize::from(size))
        .then(|| word.get_mut(..bytes.len()))??
        .copy_from_slice(bytes);
    FixedBytes::from_word(word, size)
}

#[cfg(test)]
mod tests {
    use lookout_types::Log;
    use proptest::prelude::*;

    use super::*;
    use crate::Abi;

    /// Decodes a topic as the indexed argument of that type.
    fn decoded(ty: &str, topic: Hash) -> Value {
        let abi = Abi::parse(&format!(r#"["event A({ty} indexed x)"]"#)).unwrap();
        let topics = vec![abi.events()[0].topic0, topic];
        let log = Log {
            address: Address::default(),
            topics,
            data: bytes::Bytes::new(),
            transaction_hash: Hash::default(),
            transaction_index: 0,
            log_index: 0,
        };
        abi.decode_log(&log).unwrap().1.remove(0)
    }

    fn parsed(text: &str, ty: &str) -> Result<Value, String> {
        let abi = Abi::parse(&format!(r#"["event A({ty} x)"]"#)).unwrap();
        Value::parse(text, &abi.events()[0].params[0].ty).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_found_under_the_topic_that_it_decodes_from() {
        let address = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
        for (text, ty) in [
            ("true", "bool"),
            ("false", "bool"),
            ("255", "uint8"),
            ("0xff", "uint8"),
            (
                "115792089237316195423570985008687907853269984665640564039457584007913129639935",
                "uint256",
            ),
            ("-1", "int8"),
            ("-128", "int8"),
            ("127", "int8"),
            (address, "address"),
            ("0xabcd", "bytes2"),
        ] {
            let value = parsed(text, ty).unwrap();
            assert_eq!(decoded(ty, value.to_topic().unwrap()), value, "{ty} {text}");
        }
        // Of these a log has only the hash: Keccak-256 of "abc" and of nothing.
        let abc = "0x4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45";
        for (text, ty) in [("abc", "string"), ("0x616263", "bytes")] {
            assert_eq!(parsed(text, ty).unwrap().to_topic().unwrap().to_string(), abc);
        }
    }

    #[test]
    fn other_text_is_refused_with_the_form_that_is_expected() {
        for (text, ty, reason) in [
            ("yes", "bool", "expected true or false"),
            ("256", "uint8", "below 2^8"),
            ("-1", "uint256", "below 2^256"),
            ("128", "int8", "from -2^7 to 2^7 - 1"),
            ("-129", "int8", "from -2^7"),
            ("--1", "int8", "from -2^7"),
            ("", "int256", "from -2^255"),
            ("0xC94770007dda54cF92009BFF0dE90c06F603a09f", "address", "the right form is 0xc947"),
            ("0xabc", "bytes2", "0x and 4 hex digits"),
            ("abcd", "bytes2", "0x and 4 hex digits"),
            ("0xabcdef", "bytes2", "0x and 4 hex digits"),
            ("0xa", "bytes", "two for each byte"),
            ("1", "uint8[]", "a value of uint8[] cannot be compared"),
        ] {
            let error = parsed(text, ty).unwrap_err();
            assert!(error.contains(reason), "{ty} {text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn numbers_of_every_width_come_back(word in any::<[u8; 32]>(), bytes in 1_u16..=32) {
            let bits = bytes * 8;
            let value = U256::from_be_bytes(word) >> usize::from(256 - bits);
            let ty = format!("uint{bits}");
            prop_assert_eq!(parsed(&value.to_string(), &ty).unwrap(), Value::Uint(value));
            let int = match decoded("int256", Hash(word)) {
                Value::Int(value) => value,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(parsed(&int.to_string(), "int256").unwrap(), Value::Int(int));
        }
    }
}
