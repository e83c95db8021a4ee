//! A clock that runs faster than the machine's.

use std::time::Instant;

use lookout_types::{Clock, UnixMillis};

/// A clock whose time passes so many times as fast.
#[derive(Debug)]
pub struct FastClock {
    began: Instant,
    start: UnixMillis,
    factor: u32,
}

impl FastClock {
    /// A clock that shows `start` now.
    pub fn new(start: UnixMillis, factor: u32) -> Self {
        Self { began: Instant::now(), start, factor }
    }
}

impl Clock for FastClock {
    fn now(&self) -> UnixMillis {
        let passed = self.began.elapsed().saturating_mul(self.factor).as_millis();
        self.start.saturating_add(UnixMillis::try_from(passed).unwrap_or(UnixMillis::MAX))
    }
}
