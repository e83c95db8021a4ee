//! Contract ABIs: what an event log or a call's data means.
//!
//! Does: parse JSON and human-readable ABIs, find events and functions, decode logs and call data.
//! Does not: read a disk, a network or a registry; encode; decode return values.
//! Units: numbers as 256-bit integers, in JSON as decimal strings; offsets in bytes.
//! Errors: [`AbiError`] names the entry of the ABI, [`DecodeError`] the argument; nothing panics.
//! Source: the Solidity contract ABI specification; the fields of solc's JSON ABI.

mod abi;
mod builtin;
mod decode;
mod error;
mod event;
mod int;
mod literal;
mod types;
mod value;

pub use abi::{Abi, MAX_ABI_BYTES, MAX_ENTRIES, MAX_PARAMS};
pub use builtin::{BUILTIN_NAMES, builtin};
pub use decode::{decode_params, word_at};
pub use error::{AbiError, DecodeError};
pub use event::{Event, Function, Location, Param};
pub use int::I256;
pub use literal::LiteralError;
pub use types::{AbiType, MAX_HEAD_WORDS, MAX_TYPE_DEPTH, TupleField};
pub use value::{AbiText, FixedBytes, Value};
