//! How the parts that follow chains are doing, for the routes that tell it.

use std::fmt;

use lookout_types::{ChainId, Height};

/// Tells how the parts of this process are doing that follow chains.
pub trait Progress: Send + Sync + fmt::Debug {
    /// Of one chain.
    fn of(&self, chain: ChainId) -> ChainProgress;
}

/// The parts that follow one chain in this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainProgress {
    /// What publishes its frames; `None` when no part of this process does.
    pub publisher: Option<PublisherProgress>,
    /// What reads them, by name.
    pub consumers: Vec<(&'static str, Activity)>,
}

/// How one part is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// `stopped` when it does not go on by itself; otherwise what it is doing.
    pub state: &'static str,
    /// What is wrong, or what it waits for.
    pub problem: Option<String>,
}

/// How a publisher is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherProgress {
    /// What it is doing.
    pub activity: Activity,
    /// Where it is going: the head of the chain.
    pub target: Option<Height>,
    /// Blocks published in the last second or so.
    pub blocks_per_second: u64,
}

/// The state of a part that does not go on by itself.
pub const STOPPED: &str = "stopped";

impl ChainProgress {
    /// Whether some part has something wrong.
    pub(crate) fn is_troubled(&self) -> bool {
        let publisher = self.publisher.iter().map(|publisher| &publisher.activity);
        let mut all = publisher.chain(self.consumers.iter().map(|(_, activity)| activity));
        all.any(|activity| activity.state == STOPPED || activity.problem.is_some())
    }
}
