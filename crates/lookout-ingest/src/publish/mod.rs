//! From a source to frames on the bus: follow, backfill, undo.
//!
//! The bus's tail is the checkpoint, and nothing else is stored: whoever holds the chain's lease and
//! the bus's claim goes on from there. Every height gets a frame, so that each block is the child of
//! the one before and no gap can pass.

mod behind;
mod error;
mod follow;
mod held;
mod lease;
mod limits;
mod meters;
pub(crate) mod past;
pub(crate) mod ranges;
pub(crate) mod sizing;
mod state;
mod writer;

use std::sync::Arc;

use lookout_bus::Bus;
use lookout_chain::{Source, Wants};
use lookout_store::{Store, StoreError};
use lookout_types::{ErrorKind, Height};
use lookout_warehouse::Warehouse;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::PublishError;
pub use held::{Held, forget, held};
pub use limits::Limits;
pub use state::{Phase, PublisherState};

use crate::backoff::Backoff;
use crate::consume::ConsumerState;
use error::Problem;
use follow::Follow;
use lease::LeaseKeeper;
use meters::Meters;
use past::Past;
use state::StateKeeper;
use writer::Writer;

/// Where a chain of which nothing is held begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the head as it is then.
    #[default]
    Latest,
    /// At a height.
    Height(Height),
}

/// What to do while another instance holds the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standby {
    /// Wait for it, to take over when that one ends.
    #[default]
    Wait,
    /// Give up at once.
    Refuse,
}

/// Why a publisher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The last height that was asked for is published.
    Reached,
}

/// What a publisher is made of.
#[derive(Debug)]
pub struct PublisherParts {
    /// The chain's configured name.
    pub name: Arc<str>,
    /// Its blocks.
    pub source: Arc<dyn Source>,
    /// Where frames go, and where published ones are read again for an undo.
    pub bus: Arc<dyn Bus>,
    /// Where they are read again once the bus has let go of them.
    pub warehouse: Arc<dyn Warehouse>,
    /// Keeps the lease.
    pub store: Store,
    /// What of the blocks is wanted.
    pub wants: Wants,
    /// Where to begin when nothing is held.
    pub start: Start,
    /// The last height to publish; `None` to follow for good.
    pub until: Option<Height>,
    /// Name of this instance in the lease. Two that run at the same time must differ; one that starts
    /// again after a crash under the same name need not wait for the lease to end.
    pub holder: String,
    /// What to do while another instance holds the lease.
    pub standby: Standby,
    /// Consumers that a backfill does not run away from; one that has ended is not waited for.
    pub pace: Vec<watch::Receiver<ConsumerState>>,
    /// Bounds.
    pub limits: Limits,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Publishes the frames of one chain.
#[derive(Debug)]
pub struct Publisher {
    parts: PublisherParts,
    state: StateKeeper,
    meters: Meters,
}

impl Publisher {
    /// Makes a publisher; nothing happens before [`Publisher::run`].
    pub fn new(parts: PublisherParts) -> Self {
        let state = StateKeeper::new(parts.source.chain(), Arc::clone(&parts.name));
        let meters = Meters::new(&parts.name);
        Self { parts, state, meters }
    }

    /// What it is doing, also after it has ended.
    pub fn state(&self) -> watch::Receiver<PublisherState> {
        self.state.subscribe()
    }

    /// Publishes until it is told to stop, or has reached its last height.
    ///
    /// Dropping the future is like a crash: what was published stays, and the next run goes on there.
    ///
    /// # Errors
    /// [`PublishError`] when going on makes no sense before something is done about it. What passes
    /// by itself is waited for.
    pub async fn run(mut self) -> Result<Ended, PublishError> {
        self.meters.up.set(0.0);
        let ended = self.sessions().await;
        let reason = match &ended {
            Ok(Ended::Stopped) => "it was told to".to_owned(),
            Ok(Ended::Reached) => "the last height is published".to_owned(),
            Err(error) => {
                tracing::error!(chain = %self.parts.name, %error, "publishing has stopped");
                error.to_string()
            }
        };
        self.state.change(|state| {
            state.phase = Phase::Stopped { reason };
            state.blocks_per_second = 0;
            state.problem = None;
        });
        ended
    }

    /// One tenure after the other.
    async fn sessions(&mut self) -> Result<Ended, PublishError> {
        let (stop, limits) = (self.parts.stop.clone(), &self.parts.limits);
        let mut backoff = Backoff::new(limits.backoff_base, limits.backoff_max);
        loop {
            let mut began = false;
            let session = self.session(&mut began).await;
            self.meters.up.set(0.0);
            self.state.change(|state| state.problem = None);
            match session {
                Ok(ended) => return Ok(ended),
                Err(Problem::Stop(error)) => return Err(error),
                Err(Problem::Fork) => {}
                Err(Problem::Lost(reason) | Problem::Retry(reason)) => {
                    tracing::warn!(chain = %self.parts.name, reason, "publishing begins again");
                    self.state.wait(reason);
                }
                Err(Problem::Unproved(height, reason)) => {
                    self.state.wait(format!("block {height}: {reason}"));
                }
            }
            if began {
                backoff.reset();
            }
            self.meters.retries.increment(1);
            if stop.run_until_cancelled(backoff.wait()).await.is_none() {
                return Ok(Ended::Stopped);
            }
        }
    }

    /// From the lease to the end of it.
    async fn session(&mut self, began: &mut bool) -> Result<Ended, Problem> {
        let stop = self.parts.stop.clone();
        let Some(lease) = stop.run_until_cancelled(self.lease()).await else {
            return Ok(Ended::Stopped);
        };
        let lease = lease?;
        let token = lease.token();
        let PublisherParts { name, source, bus, warehouse, limits, .. } = &self.parts;
        let past =
            Past::new(Arc::clone(name), source.chain(), Arc::clone(bus), Arc::clone(warehouse));
        let writer = Writer::open(past, lease, limits.clone()).await?;
        self.check_wants(writer.first.is_some()).await?;
        *began = true;
        self.meters.up.set(1.0);
        let (head, first) = (writer.head, writer.first);
        self.state.change(|state| (state.head, state.first) = (head, first));
        tracing::info!(
            chain = %name,
            height = head.map(|head| head.number),
            token,
            "publishing frames"
        );
        let mut follow = Follow::new(&self.parts, &mut self.state, &self.meters, writer);
        // Told to stop in the middle of something: what was published is whole.
        let ended = stop.run_until_cancelled(follow.run()).await.unwrap_or(Ok(Ended::Stopped));
        follow.into_writer().end().await;
        ended
    }

    /// Refuses to mix blocks that were kept for something else with those to come: who asks for what
    /// is followed only now would not be told that the older ones lack it.
    async fn check_wants(&self, held: bool) -> Result<(), Problem> {
        let PublisherParts { name, source, store, wants, .. } = &self.parts;
        let failed = |error: StoreError| match error.kind() {
            ErrorKind::Unavailable => Problem::Retry(error.to_string()),
            _ => Problem::Stop(error.into()),
        };
        let kept = wants.kept();
        match store.followed_wants(source.chain()).await.map_err(failed)? {
            Some(before) if before == kept => Ok(()),
            Some(before) if held => Err(Problem::Stop(PublishError::OtherWants {
                name: name.to_string(),
                before: shortened(before),
                wants: shortened(kept),
            })),
            _ => store.set_followed_wants(source.chain(), &kept).await.map_err(failed),
        }
    }

    async fn lease(&mut self) -> Result<LeaseKeeper, Problem> {
        let PublisherParts { name, source, store, holder, standby, limits, .. } = &self.parts;
        let mut backoff = Backoff::new(limits.backoff_base, limits.backoff_max);
        let mut warned = false;
        loop {
            let taken =
                LeaseKeeper::take(store.clone(), source.chain(), holder, limits.lease).await;
            let error = match taken {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let passes = match (&error, standby) {
                (StoreError::Held { .. }, standby) => *standby == Standby::Wait,
                _ => error.kind() == ErrorKind::Unavailable,
            };
            if !passes {
                return Err(Problem::Stop(error.into()));
            }
            if !warned {
                tracing::info!(chain = %name, reason = %error, "waiting for the lease");
                warned = true;
            }
            self.state.wait(error.to_string());
            match error {
                StoreError::Held { .. } => tokio::time::sleep(limits.lease / 3).await,
                _ => backoff.wait().await,
            }
        }
    }
}

/// As much of a list as a message bears.
fn shortened(wants: String) -> String {
    /// A few addresses.
    const CHARACTERS_MAX: usize = 200;
    match wants.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{} …", wants.get(..end).unwrap_or_default()),
        None => wants,
    }
}
