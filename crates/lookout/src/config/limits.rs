//! `[limits]`: how often a caller may call.

use super::section::{Check, section};
use super::tree::{Entry, Problem};

section! {
    /// How often a caller may call.
    LimitsSection {
        /// Requests a second of one key or token.
        requests_per_second_per_key: u32 = 1000,
        /// Requests a second from one client address.
        requests_per_second_per_address: u32 = 1000,
        /// Requests that may come at once before the rate counts.
        burst: u32 = 2000,
    }
}

impl Check for LimitsSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        let limited =
            self.requests_per_second_per_key > 0 || self.requests_per_second_per_address > 0;
        if limited && self.burst == 0 {
            return Err(entry.problem_at("burst", "0 allows no request; expected at least 1"));
        }
        Ok(())
    }
}
