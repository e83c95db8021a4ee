//! Waiting after failures: longer each time, and never in step with others.

use std::time::Duration;

/// Doublings after which the wait is at its longest whatever the base.
const DOUBLINGS_MAX: u32 = 20;

/// Full jitter: a random wait up to a bound that doubles.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits after a failure.
    pub(crate) async fn wait(&mut self) {
        let bound = self.base.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(bound.mul_f64(fastrand::f64())).await;
    }
}
