//! The publishers of the followed chains, and how changed upstreams reach them.

use std::sync::Arc;

use lookout_bus::Bus;
use lookout_chain::{Chain, Chains};
use lookout_ingest::consume::ConsumerState;
use lookout_ingest::publish::{Limits, Publisher, PublisherParts, Standby};
use lookout_store::Store;
use lookout_warehouse::Warehouse;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::progress::Progress;
use super::start_of;
use crate::config::Follow;

/// What every publisher stands on.
#[derive(Debug)]
pub(super) struct PublisherGround {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) store: Store,
    pub(super) holder: String,
    pub(super) progress: Arc<Progress>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// The publishers of this process.
#[derive(Debug)]
pub(crate) struct Publishers {
    ground: PublisherGround,
    running: Vec<Running>,
}

/// One that was started.
#[derive(Debug)]
struct Running {
    follow: Follow,
    pace: Vec<Receiver<ConsumerState>>,
    /// The pool that it reads through.
    chain: Arc<Chain>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Publishers {
    pub(super) fn new(ground: PublisherGround) -> Self {
        Self { ground, running: Vec::new() }
    }

    /// Starts the publisher of a chain.
    pub(super) fn start(
        &mut self,
        follow: Follow,
        chain: Arc<Chain>,
        pace: Vec<Receiver<ConsumerState>>,
    ) {
        let running = self.ground.start(follow, chain, pace);
        self.running.push(running);
    }

    /// Lets the publishers of chains whose upstreams have changed go on with the new ones. One whose
    /// chain is gone goes on as before: what is followed changes with a restart only.
    pub(crate) async fn reload(&mut self, chains: &Chains) {
        let mut running = Vec::with_capacity(self.running.len());
        for before in self.running.drain(..) {
            let chain = match chains.get(&before.follow.chain) {
                Ok(chain) if !Arc::ptr_eq(&chain, &before.chain) => chain,
                _ => {
                    running.push(before);
                    continue;
                }
            };
            before.stop.cancel();
            if before.task.await.is_err() {
                tracing::error!(chain = before.follow.chain, "a publisher ended in a panic");
            }
            running.push(self.ground.start(before.follow, chain, before.pace));
        }
        self.running = running;
    }
}

impl PublisherGround {
    fn start(
        &self,
        follow: Follow,
        chain: Arc<Chain>,
        pace: Vec<Receiver<ConsumerState>>,
    ) -> Running {
        let stop = self.stop.child_token();
        let publisher = Publisher::new(PublisherParts {
            name: follow.chain.as_str().into(),
            source: chain.source(),
            bus: Arc::clone(&self.bus),
            warehouse: Arc::clone(&self.warehouse),
            store: self.store.clone(),
            wants: follow.wants.clone(),
            start: start_of(follow.from),
            until: None,
            holder: self.holder.clone(),
            standby: Standby::Wait,
            pace: pace.clone(),
            limits: Limits::default(),
            stop: stop.clone(),
        });
        self.progress.set_publisher(follow.id, publisher.state());
        // It says itself why it ended; the other chains go on.
        let task = self.tasks.spawn(async move { drop(publisher.run().await) });
        Running { follow, pace, chain, stop, task }
    }
}
