//! What the rules of a chain do, as metrics.

use std::sync::Arc;
use std::time::Duration;

use lookout_rules::{EvalError, Stepped};
use lookout_store::WatchChanges;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

#[derive(Debug, Clone)]
pub(super) struct Meters {
    chain: Arc<str>,
    matches: Counter,
    candidates: Counter,
    odd: Counter,
    pending: Counter,
    confirmed: Counter,
    retracted: Counter,
    dropped: Counter,
    evaluation: Histogram,
    watching: Gauge,
}

impl Meters {
    pub(super) fn new(chain: &Arc<str>) -> Self {
        let name = || chain.to_string();
        let alerts = |state: &'static str| counter!("lookout_rules_alerts_total", "chain" => name(), "state" => state);
        Self {
            chain: Arc::clone(chain),
            matches: counter!("lookout_rules_matches_total", "chain" => name()),
            candidates: counter!("lookout_rules_candidates_total", "chain" => name()),
            odd: counter!("lookout_rules_odd_logs_total", "chain" => name()),
            pending: alerts("new"),
            confirmed: alerts("confirmed"),
            retracted: alerts("retracted"),
            dropped: alerts("dropped"),
            evaluation: histogram!("lookout_rules_evaluation_seconds", "chain" => name()),
            watching: gauge!("lookout_rules_watching", "chain" => name()),
        }
    }

    /// A frame was evaluated, or a round of readings.
    pub(super) fn evaluated(&self, took: Duration, stepped: &Stepped) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        self.evaluation.record(took.as_secs_f64());
        self.matches.increment(count(stepped.matches.len()));
        self.candidates.increment(stepped.candidates);
        self.odd.increment(count(stepped.odd.len()));
        for failure in &stepped.failures {
            let reason = reason(failure.error);
            counter!(
                "lookout_rules_failures_total",
                "chain" => self.chain.to_string(), "reason" => reason
            )
            .increment(failure.count);
        }
    }

    /// Alerts were committed.
    pub(super) fn committed(&self, changes: &WatchChanges) {
        self.pending.increment(changes.matched);
        self.confirmed.increment(changes.confirmed);
        self.retracted.increment(changes.retracted);
        self.dropped.increment(changes.dropped);
    }

    /// How many versions watch now.
    pub(super) fn watching(&self, versions: usize) {
        // Far below 2^32, up to which a float counts exactly.
        self.watching.set(f64::from(u32::try_from(versions).unwrap_or(u32::MAX)));
    }
}

fn reason(error: EvalError) -> &'static str {
    match error {
        EvalError::Overflow => "overflow",
        EvalError::BelowZero => "below_zero",
        EvalError::DivisionByZero => "division_by_zero",
        EvalError::OutOfRange => "out_of_range",
        EvalError::Absent(_) => "absent",
        EvalError::Unread(_) => "unread",
        EvalError::Undecodable => "undecodable",
    }
}
