//! What an upstream lets us ask: our own rate for it, and its word when it says "later".

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Pause after a rate limit that names no time; doubled while they keep coming.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Longest pause that an upstream can ask for, so that a wrong header cannot retire it.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// The rate budget of one upstream.
#[derive(Debug)]
pub(crate) struct Budget {
    limiter: Option<DefaultDirectRateLimiter>,
    pause: Mutex<Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    in_a_row: u32,
}

impl Budget {
    pub(crate) fn new(requests_per_second: Option<u32>) -> Self {
        let limiter = requests_per_second
            .and_then(NonZeroU32::new)
            .map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        Self { limiter, pause: Mutex::default() }
    }

    /// When the upstream may be asked again, if not now.
    pub(crate) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.lock().until.filter(|until| *until > now)
    }

    /// Takes one request from the budget; `false` when there is none left.
    pub(crate) fn take(&self) -> bool {
        self.limiter.as_ref().is_none_or(|limiter| limiter.check().is_ok())
    }

    /// The upstream said "too many"; `retry_after` is its own word for when.
    pub(crate) fn limited(&self, retry_after: Option<Duration>, now: Instant) {
        let mut pause = self.pause.lock();
        let guess = PAUSE_FIRST.saturating_mul(1 << pause.in_a_row.min(8));
        let wait = retry_after.unwrap_or(guess).min(PAUSE_MAX);
        let until = now + wait;
        pause.until = Some(pause.until.map_or(until, |old| old.max(until)));
        pause.in_a_row = pause.in_a_row.saturating_add(1);
    }

    /// A call went through.
    pub(crate) fn succeeded(&self, now: Instant) {
        let mut pause = self.pause.lock();
        if pause.until.is_none_or(|until| now >= until) {
            *pause = Pause::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_honoured_up_to_its_limit() {
        let (budget, now) = (Budget::new(None), Instant::now());
        assert_eq!(budget.paused_until(now), None);
        budget.limited(Some(Duration::from_secs(7)), now);
        assert_eq!(budget.paused_until(now), Some(now + Duration::from_secs(7)));
        budget.limited(None, now);
        assert_eq!(budget.paused_until(now), Some(now + Duration::from_secs(7)), "never earlier");
        budget.limited(Some(Duration::from_hours(24)), now);
        assert_eq!(budget.paused_until(now), Some(now + PAUSE_MAX));
        assert_eq!(budget.paused_until(now + PAUSE_MAX), None);
    }

    #[test]
    fn our_own_rate_is_kept() {
        let budget = Budget::new(Some(3));
        let taken = (0..10).filter(|_| budget.take()).count();
        assert!((3..=4).contains(&taken), "{taken}");
        assert!((0..1000).all(|_| Budget::new(None).take()));
    }
}
