//! What the chain metrics mean, for whoever reads `/metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Registers the help texts. Doing so again changes nothing.
pub(crate) fn describe() {
    describe_counter!("lookout_cache_requests_total", "Cacheable reads, by outcome: hit or miss");
    describe_counter!("lookout_upstream_calls_total", "Calls sent to an upstream");
    describe_counter!(
        "lookout_upstream_errors_total",
        "Calls that an upstream failed, by class: connection, timeout, status, range, \
         rate_limit, garbage, too_large, internal, unsupported, not_found, off_branch, lie"
    );
    describe_counter!(
        "lookout_upstream_hedges_total",
        "Second calls sent because the first was slower than its 95th percentile"
    );
    describe_histogram!(
        "lookout_upstream_call_duration_seconds",
        Unit::Seconds,
        "Time of one call to an upstream"
    );
    describe_gauge!("lookout_upstream_head_lag_blocks", "Blocks behind the agreed head");
    describe_gauge!("lookout_chain_head_number", "Height of the agreed head");
    describe_counter!("lookout_chain_reorgs_total", "Reorgs followed");
    describe_counter!(
        "lookout_source_doubts_total",
        "Blocks whose bloom may contain more logs than an upstream gave, by how that was settled: \
         confirmed by another upstream, proved by receipts, completed by another answer"
    );
    describe_counter!(
        "lookout_source_unproved_blocks_total",
        "Blocks taken on an upstream's word, as they cannot be recomputed or confirmed"
    );
    describe_histogram!("lookout_chain_reorg_depth_blocks", "Blocks that a reorg abandoned");
}
