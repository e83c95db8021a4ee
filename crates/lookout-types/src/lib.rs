//! The words of Lookout, as types that cannot be wrong.
//!
//! Does: parse, print and check chain ids, addresses, hashes, amounts and block references.
//! Does not: read a disk, a network or the clock of the machine (see [`Clock`]).
//! Units: amounts in the asset's smallest unit (wei, satoshi); times in milliseconds since 1970 UTC.
//! Errors: each parse error says what was expected and, where it can, the right form.
//! Source: EIP-55 (address checksums), CAIP-2 (chain ids), the Ethereum JSON-RPC quantity encoding.
#![warn(missing_docs)]

mod address;
mod amount;
mod block;
mod chain_id;
mod clock;
mod error;
mod frame;
mod frame_codec;
mod secret;
mod transfer;

pub use address::{Address, AddressError, Hash, HashError};
pub use amount::{Amount, AmountError, ETHER_DECIMALS, format_units};
pub use block::{BlockRef, BlockSelector, BlockSelectorError, Height, parse_quantity};
pub use chain_id::{ChainId, ChainIdError};
pub use clock::{Clock, FixedClock, SystemClock, UnixMillis};
pub use error::ErrorKind;
pub use frame::{Asset, Cursor, Frame, Log, Outcome, Step, Transaction, Transfer, UnixSeconds};
pub use frame_codec::{
    CodecError, Content, LogRef, TOPICS_MAX, decode_frame, encode_content, encode_frame,
};
pub use secret::Secret;
pub use transfer::{
    OddLog, OddReason, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE, TransfersOf, is_transfer_topic,
    transfers,
};
