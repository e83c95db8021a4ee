//! What the engine measures.

use lookout_store::QueueDepth;
use lookout_types::UnixMillis;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Registers the help texts. Doing so again changes nothing.
pub(super) fn describe() {
    describe_counter!(
        "lookout_deliveries_total",
        "Deliveries by kind of channel and outcome: sent, retried, throttled, dead, gone, silenced, \
         cancelled"
    );
    describe_histogram!(
        "lookout_delivery_latency_seconds",
        Unit::Seconds,
        "Time from the queueing of a delivery to its receiver's answer"
    );
    describe_gauge!("lookout_deliveries_queued", "Deliveries that wait");
    describe_gauge!("lookout_deliveries_due", "Deliveries that wait and could be sent by now");
}

pub(super) fn count(kind: &str, outcome: &'static str, deliveries: usize) {
    if deliveries > 0 {
        let deliveries = u64::try_from(deliveries).unwrap_or(u64::MAX);
        metrics::counter!("lookout_deliveries_total", "kind" => kind.to_owned(), "outcome" => outcome)
            .increment(deliveries);
    }
}

pub(super) fn latency(kind: &str, created_at: UnixMillis, now: UnixMillis) {
    let millis = u32::try_from(now.saturating_sub(created_at).max(0)).unwrap_or(u32::MAX);
    metrics::histogram!("lookout_delivery_latency_seconds", "kind" => kind.to_owned())
        .record(f64::from(millis) / 1_000.0);
}

pub(super) fn queue(depth: QueueDepth) {
    let gauge = |count: i64| f64::from(u32::try_from(count.max(0)).unwrap_or(u32::MAX));
    metrics::gauge!("lookout_deliveries_queued").set(gauge(depth.queued));
    metrics::gauge!("lookout_deliveries_due").set(gauge(depth.due));
}
