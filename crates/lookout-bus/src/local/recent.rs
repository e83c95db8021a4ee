//! The frames published last, so that consumers at the tail share them instead of decoding their own.

use std::collections::VecDeque;
use std::sync::Arc;

use lookout_types::Frame;

/// Encoded size of the frames kept; in memory they take about three times that.
const RECENT_BYTES: usize = 16 << 20;
/// Most frames, and about how many encoded bytes, of one answer.
const BATCH_FRAMES: usize = 4096;
const BATCH_BYTES: usize = 8 << 20;

/// Contiguous frames up to the tail.
#[derive(Debug, Default)]
pub(super) struct Recent {
    frames: VecDeque<(Arc<Frame>, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, frame: Arc<Frame>, size: usize) {
        self.bytes += size;
        self.frames.push_back((frame, size));
        while self.bytes > RECENT_BYTES {
            let Some((_, size)) = self.frames.pop_front() else { break };
            self.bytes -= size;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Frames from `sequence` on, if that one is still here.
    pub(super) fn since(&self, sequence: u64) -> Option<Vec<Arc<Frame>>> {
        let (first, _) = self.frames.front()?;
        let skip = usize::try_from(sequence.checked_sub(first.sequence)?).ok()?;
        let mut bytes = 0;
        let frames: Vec<_> = self
            .frames
            .iter()
            .skip(skip)
            .take(BATCH_FRAMES)
            .take_while(|(_, size)| {
                let fits = bytes < BATCH_BYTES;
                bytes += size;
                fits
            })
            .map(|(frame, _)| Arc::clone(frame))
            .collect();
        if frames.is_empty() { None } else { Some(frames) }
    }
}
