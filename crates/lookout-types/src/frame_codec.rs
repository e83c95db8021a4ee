//! Frames as compact bytes, for every place that keeps or carries them.
//!
//! A *content* is a frame's block, parent, time, transactions and logs: what stays true of a block
//! whichever way it reached the chain. A frame is its step, chain and sequence before its content.
//! The bytes are a function of the value alone, so equal contents are equal bytes. Damage is for
//! the keeper's checksum to find: decoding damaged bytes gives an error or another frame, but never
//! a panic and never more memory than a small multiple of the bytes.
//!
//! Numbers are LEB128. Addresses and event signatures stand once per block in a table. Words of
//! 32 bytes are written without their leading zeros.

mod bytes;
mod content;
mod encode;

pub use content::{Content, LogRef};
pub use encode::{encode_content, encode_frame};

use crate::{ChainId, Frame, Step};
use bytes::Input;

/// Most topics of a log, as the EVM has it.
pub const TOPICS_MAX: usize = 4;

/// First byte of a content; a new layout gets a new one.
const CONTENT_VERSION: u8 = 1;
/// First byte of a frame.
const FRAME_VERSION: u8 = 1;

/// Why bytes are no frame, or a frame cannot become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The first byte is of another layout.
    #[error(
        "the frame is encoded in version {0}, this lookout reads version 1; run a newer lookout"
    )]
    Version(u8),
    /// The bytes end too early.
    #[error("the encoded frame ends too early")]
    Short,
    /// The bytes go on after the frame.
    #[error("the encoded frame has {0} bytes too many")]
    Long(usize),
    /// A field has a value that it cannot have.
    #[error("the encoded frame has a wrong {0}")]
    Wrong(&'static str),
    /// A log with more topics than the EVM allows.
    #[error("log {log_index} has {topics} topics, the most is 4")]
    Topics {
        /// Its position in the block.
        log_index: u32,
        /// How many it has.
        topics: usize,
    },
}

/// The frame that `bytes` hold.
///
/// # Errors
/// [`CodecError`] when they are not exactly one frame.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame, CodecError> {
    let mut input = Input(bytes);
    let version = input.byte()?;
    if version != FRAME_VERSION {
        return Err(CodecError::Version(version));
    }
    let step = match input.byte()? {
        0 => Step::Apply,
        1 => Step::Undo,
        _ => return Err(CodecError::Wrong("step")),
    };
    let chain = ChainId(input.number()?);
    let sequence = input.number()?;
    Content::read(input.0)?.to_frame(chain, sequence, step)
}

#[cfg(test)]
mod tests;
