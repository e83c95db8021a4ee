//! What a publisher tells the metrics.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

#[derive(Debug)]
pub(super) struct Meters {
    /// 1 while it publishes or waits for blocks, 0 without its lease or when it has stopped.
    pub(super) up: Gauge,
    pub(super) head: Gauge,
    pub(super) lag: Gauge,
    pub(super) applied: Counter,
    pub(super) undone: Counter,
    pub(super) undo_depth: Histogram,
    pub(super) range_blocks: Gauge,
    pub(super) buffer_bytes: Gauge,
    pub(super) refused: Counter,
    pub(super) retries: Counter,
    pub(super) unproved: Counter,
}

impl Meters {
    pub(super) fn new(chain: &str) -> Self {
        let chain = || chain.to_owned();
        Self {
            up: gauge!("lookout_ingest_up", "chain" => chain()),
            head: gauge!("lookout_ingest_head_number", "chain" => chain()),
            lag: gauge!("lookout_ingest_head_lag_blocks", "chain" => chain()),
            applied: counter!("lookout_ingest_frames_total", "chain" => chain(), "step" => "apply"),
            undone: counter!("lookout_ingest_frames_total", "chain" => chain(), "step" => "undo"),
            undo_depth: histogram!("lookout_ingest_undo_depth_blocks", "chain" => chain()),
            range_blocks: gauge!("lookout_ingest_range_blocks", "chain" => chain()),
            buffer_bytes: gauge!("lookout_ingest_buffer_bytes", "chain" => chain()),
            refused: counter!("lookout_ingest_refused_ranges_total", "chain" => chain()),
            retries: counter!("lookout_ingest_retries_total", "chain" => chain()),
            unproved: counter!("lookout_ingest_unproved_total", "chain" => chain()),
        }
    }
}
