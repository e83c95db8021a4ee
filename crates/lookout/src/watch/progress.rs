//! How the parts that follow chains are doing, as the HTTP surface tells it.

use std::collections::HashMap;

use lookout_api::{Activity, ChainProgress, PublisherProgress, STOPPED};
use lookout_ingest::consume::ConsumerState;
use lookout_ingest::publish::{Phase, PublisherState};
use lookout_types::ChainId;
use parking_lot::RwLock;
use tokio::sync::watch::Receiver;

/// Collects what the parts of this process say of themselves.
#[derive(Debug, Default)]
pub(crate) struct Progress(RwLock<HashMap<ChainId, Parts>>);

#[derive(Debug, Default)]
struct Parts {
    publisher: Option<Receiver<PublisherState>>,
    consumers: Vec<(&'static str, Receiver<ConsumerState>)>,
}

impl Progress {
    /// Listens to a chain's publisher from now on, instead of one before it.
    pub(super) fn set_publisher(&self, chain: ChainId, state: Receiver<PublisherState>) {
        self.0.write().entry(chain).or_default().publisher = Some(state);
    }

    /// Listens to a consumer of a chain.
    pub(super) fn add_consumer(
        &self,
        chain: ChainId,
        name: &'static str,
        state: Receiver<ConsumerState>,
    ) {
        self.0.write().entry(chain).or_default().consumers.push((name, state));
    }
}

impl lookout_api::Progress for Progress {
    fn of(&self, chain: ChainId) -> ChainProgress {
        let parts = self.0.read();
        let Some(parts) = parts.get(&chain) else { return ChainProgress::default() };
        let consumers = parts.consumers.iter();
        ChainProgress {
            publisher: parts.publisher.as_ref().map(|state| publisher(&state.borrow())),
            consumers: consumers.map(|(name, state)| (*name, consumer(&state.borrow()))).collect(),
        }
    }
}

fn publisher(state: &PublisherState) -> PublisherProgress {
    let problem = match &state.phase {
        Phase::Waiting { reason } | Phase::Stopped { reason } => Some(reason.clone()),
        Phase::Backfilling | Phase::Following => state.problem.clone(),
    };
    let activity = Activity { state: word(&state.phase), problem };
    PublisherProgress { activity, target: state.target, blocks_per_second: state.blocks_per_second }
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Stopped { .. } => STOPPED,
        phase => phase.as_str(),
    }
}

fn consumer(state: &ConsumerState) -> Activity {
    let word = match (state.stopped, &state.problem) {
        (true, _) => STOPPED,
        (false, Some(_)) => "waiting",
        (false, None) => "running",
    };
    Activity { state: word, problem: state.problem.clone() }
}
