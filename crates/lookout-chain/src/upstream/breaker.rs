//! Stops calling what keeps failing, and finds out when it works again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Outcomes remembered; enough to tell a bad patch from one bad call.
const WINDOW: u32 = 16;
/// Fewest outcomes before the breaker may open, so that one failure at the start decides nothing.
const SAMPLES_MIN: u32 = 4;
/// First pause once open; doubled at each failed trial.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Longest pause, so that a recovered upstream is used again within half a minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A circuit breaker over the last calls: opens when half of them failed.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// One bit an outcome, newest lowest, set = failed.
    failures: u16,
    seen: u32,
    open_until: Option<Instant>,
    /// Times opened in a row; sets the pause.
    opened: u32,
}

impl Breaker {
    /// Whether calls may go through. After the pause they may, as a trial.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.0.lock().open_until.is_none_or(|until| now >= until)
    }

    /// A call worked: whatever was open is closed.
    pub(crate) fn succeeded(&self) {
        let mut state = self.0.lock();
        if state.open_until.is_some() {
            *state = State::default();
        }
        state.push(false);
    }

    /// A call failed; opens when half of the last calls did, or when a trial did.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.push(true);
        let trial_failed = state.open_until.is_some_and(|until| now >= until);
        let half = state.seen >= SAMPLES_MIN && state.failures.count_ones() * 2 >= state.seen;
        if trial_failed || (half && state.open_until.is_none()) {
            let pause = PAUSE_FIRST.saturating_mul(1 << state.opened.min(8)).min(PAUSE_MAX);
            state.open_until = Some(now + jittered(pause));
            state.opened += 1;
        }
    }
}

impl State {
    fn push(&mut self, failed: bool) {
        self.failures = (self.failures << 1) | u16::from(failed);
        self.seen = (self.seen + 1).min(WINDOW);
    }
}

/// Between half of `pause` and all of it, so that many breakers do not try at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_at_half_failed_and_closes_after_a_good_trial() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            breaker.failed(now);
        }
        assert!(breaker.allows(now), "three calls are too few to judge");
        breaker.failed(now);
        assert!(!breaker.allows(now));
        let later = now + PAUSE_FIRST;
        assert!(breaker.allows(later), "a trial goes through after the pause");
        breaker.failed(later);
        assert!(!breaker.allows(later + PAUSE_FIRST / 2), "a failed trial pauses longer");
        breaker.succeeded();
        assert!(breaker.allows(later));
    }

    #[test]
    fn a_few_failures_among_successes_do_not_open() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for i in 0..100 {
            if i % 3 == 0 { breaker.failed(now) } else { breaker.succeeded() }
        }
        assert!(breaker.allows(now));
    }

    #[test]
    fn the_pause_never_exceeds_its_limit() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..50 {
            breaker.failed(now);
            now += PAUSE_MAX;
            assert!(breaker.allows(now));
        }
    }
}
