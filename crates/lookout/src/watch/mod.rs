//! The parts of `lookout serve` that watch chains: publishers, consumers, delivery, jobs.

mod balances;
mod defaults;
mod delivery;
mod instance;
mod progress;
mod publishers;
mod sole;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use lookout_bus::Bus;
use lookout_chain::Chains;
use lookout_ingest::consume::{
    self, ConsumeLimits, Consumer, ConsumerState, KEEP_FRAMES, Reader, RulesConsumer, RunParts,
    TrimParts, WarehouseConsumer,
};
use lookout_ingest::publish::Start;
use lookout_jobs::{Scheduler, SchedulerParts, Tasks};
use lookout_store::Store;
use lookout_types::Clock;
use lookout_warehouse::Warehouse;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::{Role, ServeArgs};
use crate::config::{Follow, FollowFrom, Settings};
use crate::failure::Failure;
use publishers::PublisherGround;

pub(crate) use instance::Instance;
pub(crate) use progress::Progress;
pub(crate) use publishers::Publishers;
pub(crate) use tasks::tasks;

/// How often frames that everyone has read are let go of.
pub(crate) const TRIM_EVERY: Duration = Duration::from_secs(60);

/// What watching stands on.
pub(crate) struct Ground<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) args: &'a ServeArgs,
    pub(crate) chains: &'a Chains,
    pub(crate) store: &'a Store,
    pub(crate) warehouse: &'a Arc<dyn Warehouse>,
    pub(crate) bus: &'a Arc<dyn Bus>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) instance: &'a Instance,
    pub(crate) kinds: &'a Arc<Tasks>,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) tasks: &'a TaskTracker,
    pub(crate) stop: &'a CancellationToken,
}

/// Starts what the roles of this process ask for. Everything ends when `stop` is cancelled.
pub(crate) async fn start(ground: &Ground<'_>) -> Result<Publishers, Failure> {
    sole::claim(ground).await?;
    let names = ground.settings.follows.iter().map(|f| (f.id, Arc::from(f.chain.as_str())));
    let kept = ground.settings.follows.iter().map(|follow| (follow.id, follow.kept()));
    let rules = Arc::new(RulesConsumer::new(ground.store.clone(), names).with_kept(kept));
    let mut publishers = Publishers::new(ground.publishers());
    for follow in &ground.settings.follows {
        let chain = ground.chains.get(&follow.chain);
        let chain = chain.map_err(|error| Failure::failed(error.to_string()))?;
        let pace = ground.consumers(follow, &rules);
        if ground.args.takes(Role::Ingest) {
            publishers.start(follow.clone(), chain, pace);
        }
    }
    if ground.args.takes(Role::Deliver) {
        delivery::start(ground).await?;
    }
    if ground.args.takes(Role::Schedule) {
        let followed = ground.settings.follows.iter().map(|follow| follow.chain.clone());
        let followed: Vec<_> = followed.collect();
        defaults::ensure(ground.store, &followed).await?;
        let (store, stop) = (ground.store.clone(), ground.stop.clone());
        ground.tasks.spawn(defaults::keep(store.clone(), followed, stop.clone()));
        let tasks = Arc::clone(ground.kinds);
        let scheduler = Scheduler::new(SchedulerParts { store, tasks, stop });
        ground.tasks.spawn(scheduler.run());
    }
    Ok(publishers)
}

impl Ground<'_> {
    fn publishers(&self) -> PublisherGround {
        PublisherGround {
            bus: Arc::clone(self.bus),
            warehouse: Arc::clone(self.warehouse),
            store: self.store.clone(),
            holder: self.instance.name.clone(),
            progress: Arc::clone(self.progress),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Starts the consumers of one chain; how far they are.
    fn consumers(
        &self,
        follow: &Follow,
        rules: &Arc<RulesConsumer>,
    ) -> Vec<Receiver<ConsumerState>> {
        let name: Arc<str> = follow.chain.as_str().into();
        let warehouse: Arc<dyn Consumer> =
            Arc::new(WarehouseConsumer::new(Arc::clone(self.warehouse)));
        let mut pace = Vec::new();
        if self.args.takes(Role::Ingest) {
            pace.push(self.consume(follow, &name, &warehouse, None));
        }
        let mut readers = vec![Reader { consumer: warehouse, run: None }];
        if self.args.takes(Role::Rules) {
            let consumer: Arc<dyn Consumer> = Arc::<RulesConsumer>::clone(rules);
            let archive = Some(Arc::clone(self.warehouse));
            let run = self.consume(follow, &name, &consumer, archive);
            pace.push(run.clone());
            readers.push(Reader { consumer, run: Some(run) });
            let (rules, id, stop) = (Arc::clone(rules), follow.id, self.stop.clone());
            self.tasks.spawn(async move { rules.follow_rules(id, stop).await });
        }
        if self.args.takes(Role::Ingest) || self.args.takes(Role::Rules) {
            self.tasks.spawn(consume::trim(TrimParts {
                bus: Arc::clone(self.bus),
                chain: follow.id,
                name,
                readers,
                keep_frames: KEEP_FRAMES,
                interval: TRIM_EVERY,
                stop: self.stop.clone(),
            }));
        }
        pace
    }

    fn consume(
        &self,
        follow: &Follow,
        name: &Arc<str>,
        consumer: &Arc<dyn Consumer>,
        archive: Option<Arc<dyn Warehouse>>,
    ) -> Receiver<ConsumerState> {
        let state = Sender::default();
        let seen = state.subscribe();
        self.progress.add_consumer(follow.id, consumer.name(), seen.clone());
        let parts = RunParts {
            consumer: Arc::clone(consumer),
            bus: Arc::clone(self.bus),
            chain: follow.id,
            name: Arc::clone(name),
            archive,
            clock: Arc::clone(self.clock),
            limits: ConsumeLimits::default(),
            state,
            stop: self.stop.clone(),
        };
        // It says itself why it ended; the other consumers go on.
        self.tasks.spawn(async move { consume::run(parts).await.is_ok() });
        seen
    }
}

/// Where a chain begins.
pub(crate) fn start_of(from: FollowFrom) -> Start {
    match from {
        FollowFrom::Latest => Start::Latest,
        FollowFrom::Height(height) => Start::Height(height),
    }
}
