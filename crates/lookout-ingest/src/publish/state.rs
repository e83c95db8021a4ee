//! What a publisher is doing, for routes, metrics and progress bars.

use std::sync::Arc;

use lookout_types::{BlockRef, ChainId, Height};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Over what time the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// What a publisher is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is published for now.
    Waiting {
        /// What for.
        reason: String,
    },
    /// Far below the head.
    Backfilling,
    /// At the head, or near it.
    Following,
    /// Ended.
    Stopped {
        /// Why; what to do about it where something is wrong.
        reason: String,
    },
}

impl Phase {
    /// The word used in answers and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Backfilling => "backfilling",
            Self::Following => "following",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// A publisher as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherState {
    /// The chain.
    pub chain: ChainId,
    /// Its configured name.
    pub name: Arc<str>,
    /// What is being done.
    pub phase: Phase,
    /// The last block published.
    pub head: Option<BlockRef>,
    /// The first block followed, as far as it is still known.
    pub first: Option<Height>,
    /// Where it is going: the head of the chain, or the end of a backfill.
    pub target: Option<Height>,
    /// Blocks published in the last second or so.
    pub blocks_per_second: u64,
    /// How often a block could not be proved complete since the start.
    pub unproved: u64,
    /// What keeps the next block from being published, while it is tried again.
    pub problem: Option<String>,
}

/// Changes the state.
#[derive(Debug)]
pub(super) struct StateKeeper {
    sender: watch::Sender<PublisherState>,
    since: Instant,
    blocks: u64,
}

impl StateKeeper {
    pub(super) fn new(chain: ChainId, name: Arc<str>) -> Self {
        let state = PublisherState {
            chain,
            name,
            phase: Phase::Waiting { reason: "it has not started".to_owned() },
            head: None,
            first: None,
            target: None,
            blocks_per_second: 0,
            unproved: 0,
            problem: None,
        };
        Self { sender: watch::Sender::new(state), since: Instant::now(), blocks: 0 }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<PublisherState> {
        self.sender.subscribe()
    }

    /// Changes the state; those who watch hear of it when something is different.
    pub(super) fn change(&self, change: impl FnOnce(&mut PublisherState)) {
        self.sender.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    pub(super) fn wait(&self, reason: impl Into<String>) {
        let phase = Phase::Waiting { reason: reason.into() };
        self.change(|state| state.phase = phase);
    }

    /// Counts blocks for the rate.
    pub(super) fn count(&mut self, blocks: u64) {
        self.blocks += blocks;
        let elapsed = self.since.elapsed();
        if elapsed >= RATE_WINDOW {
            let millis = elapsed.as_millis().max(1);
            let rate = u128::from(self.blocks) * 1_000 / millis;
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            self.change(|state| state.blocks_per_second = rate);
            (self.since, self.blocks) = (Instant::now(), 0);
        }
    }
}
