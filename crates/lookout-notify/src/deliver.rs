//! The engine: takes what is due from the outbox to the senders, many channels side by side, one
//! parcel at a time on each.
//!
//! Grouping is in the manner of Alertmanager, with no wait before the first message: an alert goes
//! out at once, and what piles up while its destination must rest goes out together.

mod backoff;
mod channel;
mod meters;
mod slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use lookout_store::{DueChannel, Store, StoreError, Swept};
use lookout_types::{Clock, UnixMillis};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::channel::{Ended, Pause, Whose, Work};
use self::slots::{Busy, Slots};
use crate::send::Senders;

/// Channels sent to side by side: most of the time goes into waiting for receivers.
const CHANNELS_AT_ONCE: usize = 64;
/// How long a parcel may take to be sent: above the most that sending takes, short enough that an
/// alert whose sender was killed does not come much later.
const LEASE: Duration = Duration::from_secs(45);
/// Between two looks at the outbox when nothing is known to become due; signals come sooner.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks for deliveries whose sender was killed, in milliseconds.
const REQUEUE_EVERY_MS: i64 = 5_000;
/// Between two looks for deliveries that nobody will send, in milliseconds.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Between two counts of the queue, in milliseconds.
const COUNT_EVERY_MS: i64 = 10_000;
/// Between two clean-ups of what is remembered about destinations, in milliseconds.
const FORGET_EVERY_MS: i64 = 3_600_000;

/// How long a channel rests whose row cannot be read, in milliseconds: it is reported as often.
const UNREADABLE_PAUSE_MS: i64 = 60_000;

/// What the engine is made of.
#[derive(Debug)]
pub struct DelivererParts {
    /// Holds the outbox.
    pub store: Store,
    /// How to send.
    pub senders: Senders,
    /// The store's clock.
    pub clock: Arc<dyn Clock>,
    /// Ends it; what is being sent is finished.
    pub stop: CancellationToken,
}

/// Delivers alerts until it is stopped.
#[derive(Debug)]
pub struct Deliverer {
    shared: Arc<Shared>,
    look_every: Duration,
    lease_ms: i64,
}

/// What the tasks of channels share.
#[derive(Debug)]
struct Shared {
    store: Store,
    senders: Senders,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    /// How far the time by which all instances agree is ahead of the clock, in milliseconds.
    ahead: AtomicI64,
    /// Parcels that were sent, and of which the store does not know it yet.
    unsettled: AtomicUsize,
}

impl Shared {
    /// The time by which all instances agree, as of the last look.
    fn now(&self) -> UnixMillis {
        self.clock.now().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Learns that it was `agreed` at some moment since the clock showed `before`.
    fn set_time(&self, before: UnixMillis, agreed: UnixMillis) {
        // Between the two it may have been right: then nothing is known to be wrong.
        let ahead = match agreed {
            early if early < before => early.saturating_sub(before),
            late => late.saturating_sub(self.clock.now()).max(0),
        };
        self.ahead.store(ahead, Ordering::Relaxed);
    }
}

/// What is remembered between looks.
struct Memory {
    slots: Slots,
    /// Channels that rest, with the revision that this is about.
    pauses: HashMap<String, (i64, Pause)>,
    /// When destinations are ready, as far as known here: spares asking the store in vain.
    ready: HashMap<String, UnixMillis>,
    requeue_at: UnixMillis,
    sweep_at: UnixMillis,
    count_at: UnixMillis,
    forget_at: UnixMillis,
    /// The store failed last time, and that was said.
    store_failed: bool,
}

impl Memory {
    /// Says once that the store fails; until it does what is asked of it most again.
    fn failed(&mut self, error: &StoreError, message: &str) {
        if !self.store_failed {
            tracing::error!(%error, "{message}; trying on");
        }
        self.store_failed = true;
    }
}

impl Deliverer {
    /// An engine; [`Deliverer::run`] starts it.
    pub fn new(parts: DelivererParts) -> Self {
        let DelivererParts { store, senders, clock, stop } = parts;
        let (ahead, unsettled) = (AtomicI64::default(), AtomicUsize::default());
        let shared = Arc::new(Shared { store, senders, clock, stop, ahead, unsettled });
        Self { shared, look_every: LOOK_EVERY, lease_ms: millis(LEASE) }
    }

    /// Looks at the outbox so often though no signal came; for clocks that run fast.
    #[must_use]
    pub fn looking_every(self, look_every: Duration) -> Self {
        Self { look_every, ..self }
    }

    /// Lets a parcel take so long to be sent; for clocks that run fast.
    #[must_use]
    pub fn leasing_for(self, lease: Duration) -> Self {
        Self { lease_ms: millis(lease), ..self }
    }

    /// Delivers until it is stopped; returns once nothing is being sent any more.
    pub async fn run(self) {
        meters::describe();
        let mut signal = self.shared.store.signals().deliveries.listen();
        let mut memory = Memory {
            slots: Slots::new(CHANNELS_AT_ONCE),
            pauses: HashMap::new(),
            ready: HashMap::new(),
            requeue_at: 0,
            sweep_at: 0,
            count_at: 0,
            forget_at: 0,
            store_failed: false,
        };
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        while !self.shared.stop.is_cancelled() {
            self.keep_house(&mut memory).await;
            let next = self.start_due(&mut memory, &mut tasks).await;
            let wait = next.map_or(self.look_every, |at| {
                let wait = u64::try_from(at.saturating_sub(self.shared.now())).unwrap_or(0);
                Duration::from_millis(wait).min(self.look_every)
            });
            tokio::select! {
                () = self.shared.stop.cancelled() => {}
                // The sender lives as long as the store.
                changed = signal.changed() => drop(changed),
                Some(ended) = tasks.join_next() => finish(&mut memory, ended),
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(ended) = tasks.try_join_next() {
                finish(&mut memory, ended);
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Starts on every channel that can be sent to; when to look again, if that is known.
    async fn start_due(
        &self,
        memory: &mut Memory,
        tasks: &mut JoinSet<Ended>,
    ) -> Option<UnixMillis> {
        let before = self.shared.clock.now();
        let due = match self.shared.store.due_channels().await {
            Ok(due) => due,
            Err(error) => {
                memory.failed(&error, "cannot look for due deliveries");
                return None;
            }
        };
        self.shared.set_time(before, due.now);
        let now = self.shared.now();
        let mut next: Option<UnixMillis> = None;
        let mut look_at = |at: UnixMillis| next = Some(next.map_or(at, |next| next.min(at)));
        let mut ready = Vec::new();
        for channel in due.channels {
            // Ends with a task, which is waited for anyway.
            if memory.slots.is_busy(&channel.id) {
                continue;
            }
            // What was learned of an earlier setting is not about this one.
            let pause = memory.pauses.get(&channel.id);
            let pause = pause.filter(|(revision, _)| *revision == channel.revision);
            let pause = pause.map(|(_, pause)| *pause).unwrap_or_default();
            let at = channel.due_at.max(pause.until);
            if at > now { look_at(at) } else { ready.push((channel, pause)) }
        }
        memory.slots.in_turn(&mut ready, |(channel, _)| channel);
        for (channel, pause) in ready {
            let (id, revision) = (channel.id.clone(), channel.revision);
            let (tenant, is_failing) = (channel.tenant.clone(), channel.failures > 0);
            let mut busy = Busy { tenant, host: None, is_failing };
            if !memory.slots.admits(&busy) {
                continue;
            }
            let Some(work) = self.prepare(channel, pause) else {
                let pause = Pause::until(now.saturating_add(UNREADABLE_PAUSE_MS));
                memory.pauses.insert(id, (revision, pause));
                continue;
            };
            busy.host = work.host().map(str::to_owned);
            let known = work.turns().iter().filter_map(|turn| memory.ready.get(&turn.destination));
            match known.max() {
                Some(at) if *at > now => look_at(*at),
                _ if memory.slots.admits(&busy) => {
                    for turn in work.turns() {
                        let at = now.saturating_add(turn.every_ms);
                        memory.ready.insert(turn.destination.clone(), at);
                    }
                    memory.slots.take(id, busy);
                    tasks.spawn(work.run(Arc::clone(&self.shared)));
                }
                _ => {}
            }
        }
        next
    }

    /// What is to be done for a channel; `None` when its row cannot be read.
    fn prepare(&self, channel: DueChannel, pause: Pause) -> Option<Work> {
        let settings = match channel.settings {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(%error, channel = channel.id, "cannot send to a channel");
                return None;
            }
        };
        let sender = self.shared.senders.of(&settings.config).map(Arc::clone);
        let sender = sender.map_err(|error| error.to_string());
        let whose = Whose {
            tenant: channel.tenant,
            channel: channel.id,
            kind: channel.kind,
            revision: channel.revision,
            lease_ms: self.lease_ms,
        };
        Some(Work::new(whose, settings, sender, pause))
    }

    async fn keep_house(&self, memory: &mut Memory) {
        let (store, now) = (&self.shared.store, self.shared.now());
        // What waits to be settled looks lost once its lease is over, and must not be sent again.
        if now >= memory.requeue_at && self.shared.unsettled.load(Ordering::Relaxed) == 0 {
            memory.requeue_at = now.saturating_add(REQUEUE_EVERY_MS);
            match store.requeue_expired().await {
                Ok(0) => memory.store_failed = false,
                Ok(count) => {
                    tracing::warn!(count, "deliveries whose sender ended are queued again")
                }
                Err(error) => memory.failed(&error, "cannot queue deliveries again"),
            }
        }
        if now >= memory.sweep_at {
            memory.sweep_at = now.saturating_add(SWEEP_EVERY_MS);
            match store.sweep_queues().await {
                Ok(Swept { cancelled: 0, dead: 0 }) => {}
                Ok(Swept { cancelled, dead }) => {
                    tracing::warn!(
                        cancelled,
                        dead,
                        "deliveries ended on channels that are not sent to"
                    );
                }
                Err(error) => memory.failed(&error, "cannot end deliveries that nobody will send"),
            }
        }
        if now >= memory.count_at {
            memory.count_at = now.saturating_add(COUNT_EVERY_MS);
            match store.queue_depth().await {
                Ok(depth) => meters::queue(depth),
                Err(error) => memory.failed(&error, "cannot count the queue"),
            }
        }
        if now >= memory.forget_at {
            memory.forget_at = now.saturating_add(FORGET_EVERY_MS);
            memory.ready.retain(|_, at| *at > now);
            memory.pauses.retain(|_, (_, pause)| pause.until > now);
            if let Err(error) = store.purge_pacing().await {
                memory.failed(&error, "cannot forget idle destinations");
            }
        }
    }
}

fn finish(memory: &mut Memory, ended: Result<Ended, tokio::task::JoinError>) {
    match ended {
        Ok(ended) => {
            memory.slots.free(&ended.channel);
            if let Some((destination, at)) = ended.ready {
                let known = memory.ready.entry(destination).or_default();
                *known = at.max(*known);
            }
            if ended.pause == Pause::default() {
                memory.pauses.remove(&ended.channel);
            } else {
                memory.pauses.insert(ended.channel, (ended.revision, ended.pause));
            }
        }
        Err(error) => {
            // Which channel it was is not known; its lease ends by itself.
            tracing::error!(%error, "a task that sends to a channel failed");
            memory.slots.clear();
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
