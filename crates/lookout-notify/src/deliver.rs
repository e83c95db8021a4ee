//! The engine: takes what is due from the outbox to the senders, many channels side by side, one
//! parcel at a time on each.
//!
//! Grouping is in the manner of Alertmanager, with no wait before the first message: an alert goes
//! out at once, and what piles up while its destination must rest goes out together.

mod backoff;
mod channel;
mod meters;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lookout_store::{DueChannel, Store};
use lookout_types::{Clock, UnixMillis};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::channel::{Ended, Pause, Work};
use crate::send::{SendError, Senders};

/// Channels sent to side by side: most of the time goes into waiting for receivers.
const CHANNELS_AT_ONCE: usize = 32;
/// Between two looks at the outbox when nothing is known to become due; signals come sooner.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks for deliveries whose sender was killed, in milliseconds.
const REQUEUE_EVERY_MS: i64 = 5_000;
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
    channels_at_once: usize,
}

/// What the tasks of channels share.
#[derive(Debug)]
struct Shared {
    store: Store,
    senders: Senders,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

/// What is remembered between looks.
#[derive(Default)]
struct Memory {
    /// Channels being sent to.
    busy: HashSet<String>,
    /// Channels that wait, by their own doing or their receiver's.
    pauses: HashMap<String, Pause>,
    /// When destinations are ready, as far as known here: spares asking the store in vain.
    ready: HashMap<String, UnixMillis>,
    requeue_at: UnixMillis,
    count_at: UnixMillis,
    forget_at: UnixMillis,
}

impl Deliverer {
    /// An engine; [`Deliverer::run`] starts it.
    pub fn new(parts: DelivererParts) -> Self {
        let DelivererParts { store, senders, clock, stop } = parts;
        let shared = Arc::new(Shared { store, senders, clock, stop });
        Self { shared, look_every: LOOK_EVERY, channels_at_once: CHANNELS_AT_ONCE }
    }

    /// Looks at the outbox so often though no signal came; for clocks that run fast.
    #[must_use]
    pub fn looking_every(self, look_every: Duration) -> Self {
        Self { look_every, ..self }
    }

    /// Delivers until it is stopped; returns once nothing is being sent any more.
    pub async fn run(self) {
        meters::describe();
        let mut signal = self.shared.store.signals().deliveries.listen();
        let mut memory = Memory::default();
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        while !self.shared.stop.is_cancelled() {
            let now = self.shared.clock.now();
            self.keep_house(&mut memory, now).await;
            let next = self.start_due(&mut memory, &mut tasks, now).await;
            let wait = next.map_or(self.look_every, |at| {
                let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
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
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        let due = match self.shared.store.due_channels().await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "cannot look for due deliveries");
                return None;
            }
        };
        let mut next: Option<UnixMillis> = None;
        for channel in due {
            // Ends with a task, which is waited for anyway.
            if memory.busy.contains(&channel.id) || memory.busy.len() >= self.channels_at_once {
                continue;
            }
            let pause = memory.pauses.get(&channel.id).copied().unwrap_or_default();
            let mut at = channel.due_at.max(pause.until);
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            let id = channel.id.clone();
            let Some(work) = self.prepare(channel, pause) else {
                memory.pauses.insert(id, Pause::until(now.saturating_add(UNREADABLE_PAUSE_MS)));
                continue;
            };
            for turn in work.turns() {
                at = at.max(memory.ready.get(&turn.destination).copied().unwrap_or(at));
            }
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            for turn in work.turns() {
                memory.ready.insert(turn.destination.clone(), now.saturating_add(turn.every_ms));
            }
            memory.busy.insert(id);
            tasks.spawn(work.run(Arc::clone(&self.shared)));
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
        let sender = sender.map_err(|error| match error {
            SendError::Retry { reason, .. }
            | SendError::Refused { reason }
            | SendError::ChannelGone { reason } => reason,
        });
        Some(Work::new(channel.tenant, channel.id, channel.kind, settings, sender, pause))
    }

    async fn keep_house(&self, memory: &mut Memory, now: UnixMillis) {
        let store = &self.shared.store;
        if now >= memory.requeue_at {
            memory.requeue_at = now.saturating_add(REQUEUE_EVERY_MS);
            match store.requeue_expired().await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::warn!(count, "deliveries whose sender ended are queued again")
                }
                Err(error) => tracing::error!(%error, "cannot queue deliveries again"),
            }
        }
        if now >= memory.count_at {
            memory.count_at = now.saturating_add(COUNT_EVERY_MS);
            match store.queue_depth().await {
                Ok(depth) => meters::queue(depth),
                Err(error) => tracing::error!(%error, "cannot count the queue"),
            }
        }
        if now >= memory.forget_at {
            memory.forget_at = now.saturating_add(FORGET_EVERY_MS);
            memory.ready.retain(|_, at| *at > now);
            memory.pauses.retain(|_, pause| pause.until > now);
            if let Err(error) = store.purge_pacing().await {
                tracing::error!(%error, "cannot forget idle destinations");
            }
        }
    }
}

fn finish(memory: &mut Memory, ended: Result<Ended, tokio::task::JoinError>) {
    match ended {
        Ok(ended) => {
            memory.busy.remove(&ended.channel);
            if let Some((destination, at)) = ended.ready {
                let known = memory.ready.entry(destination).or_default();
                *known = at.max(*known);
            }
            if ended.pause == Pause::default() {
                memory.pauses.remove(&ended.channel);
            } else {
                memory.pauses.insert(ended.channel, ended.pause);
            }
        }
        Err(error) => {
            // Which channel it was is not known; its lease ends by itself.
            tracing::error!(%error, "a task that sends to a channel failed");
            memory.busy.clear();
        }
    }
}

#[cfg(test)]
mod tests;
