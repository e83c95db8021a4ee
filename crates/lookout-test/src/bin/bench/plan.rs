//! How long everything is measured.

use std::time::Duration;

/// Durations and counts of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Rounds of load on each of the two servers, in turn.
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) round: Duration,
    /// Length of one round of load at half of the highest rate; half as many rounds.
    pub(crate) paced: Duration,
    /// Calls of each method that miss.
    pub(crate) misses: u64,
    pub(crate) starts: usize,
    /// Starts after which memory is looked at too.
    pub(crate) idle_starts: usize,
    /// Rest before memory is looked at.
    pub(crate) idle: Duration,
    /// Blocks of a backfill by logs, and of one by whole blocks: each of these costs what fifty of those do.
    pub(crate) blocks: u64,
    pub(crate) whole_blocks: u64,
    /// How many backfills of either.
    pub(crate) backfills: usize,
    /// Blocks whose alerts are timed, at each interval of polls.
    pub(crate) alerts: usize,
    pub(crate) reorgs: usize,
    /// Measure only what has this in its name.
    pub(crate) only: Option<String>,
}

impl Plan {
    /// Whether something of this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|word| name.contains(word))
    }

    /// For figures: about five minutes.
    pub(crate) fn full() -> Self {
        Self {
            rounds: 6,
            warm_up: Duration::from_millis(500),
            round: Duration::from_secs(2),
            paced: Duration::from_secs(3),
            misses: 20_000,
            starts: 15,
            idle_starts: 3,
            idle: Duration::from_secs(5),
            blocks: 5000,
            whole_blocks: 1000,
            backfills: 5,
            alerts: 200,
            reorgs: 3,
            only: None,
        }
    }

    /// To see that all of it works: some ten seconds, figures worth nothing.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 2,
            warm_up: Duration::from_millis(50),
            round: Duration::from_millis(200),
            paced: Duration::from_millis(300),
            misses: 200,
            starts: 2,
            idle_starts: 1,
            idle: Duration::from_millis(500),
            blocks: 100,
            whole_blocks: 50,
            backfills: 1,
            alerts: 5,
            reorgs: 1,
            only: None,
        }
    }
}
