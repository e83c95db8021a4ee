//! Strict readers of a node's JSON: hex texts, and objects that notice foreign and repeated keys.
//!
//! Serde's derive forgets unknown keys, which is where a chain of its own shows itself; and a
//! lenient reader would accept two forms of one value, of which a client may read the other.

use std::fmt;
use std::marker::PhantomData;

use alloy_primitives::{Address, Bytes, FixedBytes, U256, hex};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::VerifyError;

/// Longest text of a parse problem that is passed on: serde repeats what it found in full.
const PROBLEM_CHARACTERS_MAX: usize = 200;

/// A value written as 0x-prefixed hex.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hex<T>(pub(super) T);

impl<T: fmt::Debug> fmt::Debug for Hex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a value reads from the digits behind `0x`.
pub(super) trait FromDigits: Sized {
    /// What is expected, for the error.
    const EXPECTED: &'static str;

    /// `None` when the digits are not of that form.
    fn from_digits(digits: &str) -> Option<Self>;
}

impl<const N: usize> FromDigits for FixedBytes<N> {
    const EXPECTED: &'static str = "`0x` and exactly as many hex digits as the field is long";

    fn from_digits(digits: &str) -> Option<Self> {
        let mut bytes = [0; N];
        // The length is compared first: the decoder would skip a second `0x`.
        (digits.len() == 2 * N).then(|| hex::decode_to_slice(digits, &mut bytes).ok())??;
        Some(Self(bytes))
    }
}

impl FromDigits for Address {
    const EXPECTED: &'static str = "`0x` and 40 hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        FixedBytes::from_digits(digits).map(Self)
    }
}

impl FromDigits for Bytes {
    const EXPECTED: &'static str = "`0x` and an even number of hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        let bytes = hex::decode(digits).ok()?;
        // Otherwise the decoder has skipped a second `0x`.
        (bytes.len() * 2 == digits.len()).then(|| bytes.into())
    }
}

impl FromDigits for U256 {
    const EXPECTED: &'static str = "a number below 2^256 as `0x` and hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| Self::from_str_radix(digits, 16).ok())?
    }
}

impl FromDigits for u128 {
    const EXPECTED: &'static str = "a number below 2^128 as `0x` and hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        // The standard parser takes a leading `+`.
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| Self::from_str_radix(digits, 16).ok())?
    }
}

impl FromDigits for u64 {
    const EXPECTED: &'static str = "a number below 2^64 as `0x` and hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        u128::from_digits(digits)?.try_into().ok()
    }
}

impl FromDigits for u8 {
    const EXPECTED: &'static str = "a number below 256 as `0x` and hex digits";

    fn from_digits(digits: &str) -> Option<Self> {
        u128::from_digits(digits)?.try_into().ok()
    }
}

impl<'de, T: FromDigits> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<T: FromDigits> Visitor<'_> for Text<T> {
            type Value = Hex<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                text.strip_prefix("0x")
                    .and_then(T::from_digits)
                    .map(Hex)
                    .ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// Seconds since 1970 UTC that a node adds of its own: as hex, or (anvil) as a number.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(u64::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let seconds = text.strip_prefix("0x").and_then(u64::from_digits);
                seconds.map(Seconds).ok_or_else(|| E::custom(u64::EXPECTED))
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Self::Value, E> {
                Ok(Seconds(seconds))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// An object's key, borrowed where it has no escapes.
pub(super) struct Key<'a>(pub(super) std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(text.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// What [`json_object`] knows of an object besides its members.
pub(super) trait JsonObject {
    /// Whether it has keys that Ethereum does not know.
    fn has_foreign_keys(&self) -> bool;
}

/// Declares an object of optional members (absent and `null` are the same), refusing repeated
/// keys. Keys that are neither members nor `harmless`
/// are foreign.
macro_rules! json_object {
    (
        $(#[$meta:meta])*
        $name:ident { $($field:ident: $type:ty = $key:literal,)* }
        harmless { $($harmless:literal),* }
    ) => {
        $(#[$meta])*
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: Option<$type>,)*
            foreign: bool,
            source: ::std::marker::PhantomData<&'a [u8]>,
        }

        impl $crate::verify::json::JsonObject for $name<'_> {
            fn has_foreign_keys(&self) -> bool {
                self.foreign
            }
        }

        impl<'de: 'a, 'a> ::serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: ::serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct Object<'a>(::std::marker::PhantomData<&'a [u8]>);

                impl<'de: 'a, 'a> ::serde::de::Visitor<'de> for Object<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<M: ::serde::de::MapAccess<'de>>(
                        self,
                        mut map: M,
                    ) -> Result<Self::Value, M::Error> {
                        $(let mut $field: Option<Option<$type>> = None;)*
                        const HARMLESS: &[&str] = &[$($harmless),*];
                        let mut foreign = false;
                        while let Some(key) = map.next_key::<$crate::verify::json::Key<'de>>()? {
                            match key.0.as_ref() {
                                $($key => {
                                    if $field.replace(map.next_value()?).is_some() {
                                        return Err(::serde::de::Error::duplicate_field($key));
                                    }
                                })*
                                name => {
                                    foreign |= !HARMLESS.contains(&name);
                                    map.next_value::<::serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($name {
                            $($field: $field.flatten(),)*
                            foreign,
                            source: ::std::marker::PhantomData,
                        })
                    }
                }

                input.deserialize_map(Object(::std::marker::PhantomData))
            }
        }
    };
}
pub(super) use json_object;

/// Parses `json`; an error names the member below `path`.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], path: &str) -> Result<T, VerifyError> {
    serde_json::from_slice(json).map_err(|plain| {
        // Only a failed parse is worth a second pass that keeps track of the path.
        let deserializer = &mut serde_json::Deserializer::from_slice(json);
        let located = serde_path_to_error::deserialize::<_, T>(deserializer).err();
        let (inner, problem) = match located {
            Some(error) => (error.path().to_string(), error.inner().to_string()),
            None => (".".to_owned(), plain.to_string()),
        };
        let field = match (path, inner.as_str()) {
            (outer, ".") => outer.to_owned(),
            ("", inner) => inner.to_owned(),
            (outer, inner) => format!("{outer}.{inner}"),
        };
        VerifyError::Malformed {
            field: field.chars().take(PROBLEM_CHARACTERS_MAX).collect(),
            problem: problem.chars().take(PROBLEM_CHARACTERS_MAX).collect(),
        }
    })
}

/// The value of a member that must be there.
pub(super) fn need<T>(member: Option<T>, path: &str, field: &str) -> Result<T, VerifyError> {
    member.ok_or_else(|| VerifyError::Missing { field: join(path, field) })
}

/// `path.field`, or `field` at the top.
pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Requires that a member says what is known from elsewhere.
pub(super) fn require<T: PartialEq + fmt::Debug>(
    said: &T,
    known: &T,
    path: &str,
    field: &str,
) -> Result<(), VerifyError> {
    if said == known {
        return Ok(());
    }
    let (said, known) = (format!("{said:?}"), format!("{known:?}"));
    Err(VerifyError::Disagrees { field: join(path, field), said, known })
}
