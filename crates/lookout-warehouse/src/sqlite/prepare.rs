//! What a frame writes, computed off the writer's thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use lookout_types::{BlockRef, Frame, Hash, Step, UnixSeconds, encode_content, transfers};

use super::keys::{Key, keys_of};
use crate::WarehouseError;

/// Frames prepared ahead of the writer: enough that neither side waits, little enough that full
/// mainnet blocks (60 kB each) stay within a few megabytes.
const AHEAD: usize = 64;

/// A frame, ready to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sequence: u64,
    pub(super) step: Step,
    pub(super) block: BlockRef,
    pub(super) parent: Hash,
    pub(super) timestamp: UnixSeconds,
    /// The checksum, then the content. Empty for an undo, which writes none.
    pub(super) content: Vec<u8>,
    /// Empty for an undo: what to delete is computed from what was written.
    pub(super) keys: Vec<Key>,
    pub(super) odd_logs: u64,
}

/// Prepares frames one after the other in a task of their own, while the writer writes.
///
/// The channel carries as many items as there are frames, or ends with an error; anything less
/// means that the task died.
pub(super) fn in_background(frames: Vec<Arc<Frame>>) -> Batch {
    let (sender, prepared) = sync_channel(AHEAD);
    let count = frames.len();
    tokio::task::spawn_blocking(move || {
        for frame in frames {
            let prepared = prepare(&frame);
            let failed = prepared.is_err();
            if sender.send(prepared).is_err() || failed {
                return;
            }
        }
    });
    Batch { count, prepared }
}

/// Frames on their way to the writer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) count: usize,
    pub(super) prepared: Receiver<Result<Prepared, WarehouseError>>,
}

fn prepare(frame: &Frame) -> Result<Prepared, WarehouseError> {
    for (what, value) in
        [("sequence", frame.sequence), ("height", frame.block.number), ("time", frame.timestamp)]
    {
        if i64::try_from(value).is_err() {
            return Err(WarehouseError::Invalid(format!(
                "chain {}: frame {} has the {what} {value}, the highest is 2^63 - 1",
                frame.chain, frame.sequence
            )));
        }
    }
    let (mut content, mut keys, mut odd_logs) = (Vec::new(), Vec::new(), 0);
    if frame.step == Step::Apply {
        content.extend_from_slice(&[0; CHECKSUM_BYTES]);
        encode_content(frame, &mut content).map_err(|source| WarehouseError::Frame {
            chain: frame.chain,
            sequence: frame.sequence,
            source,
        })?;
        let checksum = crc32fast::hash(&content[CHECKSUM_BYTES..]);
        content[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        let found = transfers(frame);
        keys = keys_of(frame, &found);
        odd_logs = u64::try_from(found.odd.len()).expect("a length fits 64 bits");
    }
    Ok(Prepared {
        sequence: frame.sequence,
        step: frame.step,
        block: frame.block,
        parent: frame.parent,
        timestamp: frame.timestamp,
        content,
        keys,
        odd_logs,
    })
}

const CHECKSUM_BYTES: usize = 4;

/// The content behind its checksum, if the checksum is right.
pub(super) fn checked(stored: &[u8]) -> Result<&[u8], &'static str> {
    let (checksum, content) = stored.split_first_chunk().ok_or("it is too short")?;
    if crc32fast::hash(content) == u32::from_le_bytes(*checksum) {
        Ok(content)
    } else {
        Err("its checksum is wrong")
    }
}
