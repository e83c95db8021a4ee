//! What bounds a publisher.

use std::time::Duration;

/// Bounds of one publisher. The defaults suit a public chain on a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a lease lasts: what another instance waits after a crash of this one.
    pub lease: Duration,
    /// Longest first wait after a failure; it doubles with each further one.
    pub backoff_base: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
    /// How long the head must stay on another branch below what was published before blocks are taken
    /// back for it; and after which upstreams that are behind are told of in the log: after a start the
    /// first one to answer is often one that lags.
    pub rollback_after: Duration,
    /// Ranges asked for at the same time: enough to hide an upstream's latency, few enough that a
    /// public endpoint does not limit the rate.
    pub parallel: usize,
    /// About how many bytes of blocks may wait to be written, besides the range that is next.
    pub buffer_bytes: usize,
    /// Blocks of the first range.
    pub range_blocks_start: u64,
    /// Most blocks of a range: each costs a header, whatever it holds.
    pub range_blocks_max: u64,
    /// Most blocks of a range of whole blocks, of which some are a thousand times larger than others.
    pub range_whole_blocks_max: u64,
    /// Records that a range should hold: below the 10,000 at which public endpoints refuse.
    pub range_records: u64,
    /// Bytes that a range should hold.
    pub range_bytes: u64,
    /// How long a range should take, so that a failure costs little.
    pub range_time: Duration,
    /// Most frames of one publication, which is flushed to the disk once.
    pub batch_frames: usize,
    /// About how many bytes of one publication.
    pub batch_bytes: usize,
    /// Frames that a backfill may be ahead of the consumers it keeps pace with: about what the local bus
    /// keeps in memory, so that they need not read it from the disk.
    pub ahead_frames: u64,
    /// How many blocks below the head still count as following it.
    pub near_blocks: u64,
    /// A chain of which no more blocks than this are held may be replaced from its first one on;
    /// with more, that is taken for an upstream of another chain.
    pub young_blocks: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            rollback_after: Duration::from_secs(10),
            parallel: 4,
            buffer_bytes: 16 << 20,
            range_blocks_start: 50,
            range_blocks_max: 2_000,
            range_whole_blocks_max: 32,
            range_records: 8_000,
            range_bytes: 4 << 20,
            range_time: Duration::from_secs(1),
            batch_frames: 256,
            batch_bytes: 8 << 20,
            ahead_frames: 512,
            near_blocks: 64,
            young_blocks: 128,
        }
    }
}
