//! One channel's turn: lease, send, settle, again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lookout_store::{
    ChannelSettings, DeliveryKind, LeaseAsk, Leased, LeasedItem, LeasedParcel, Outcome, StoreError,
    Turn,
};
use lookout_types::{ErrorKind, UnixMillis};

use super::{Shared, backoff, meters, millis};
use crate::send::{Item, Parcel, ParcelKind, Receipt, SendError, Sender};

/// Parcels in a row before other channels get the task's place.
const PARCELS_PER_TURN: usize = 50;
/// Longest turn, a parcel under way aside: a receiver that answers slowly does not keep its place.
const TURN_MAX: Duration = Duration::from_secs(2);
/// Most characters of alerts in one parcel: bounds the memory that hostile texts can take.
const PARCEL_CHARS_MAX: i64 = 4 << 20;
/// Longest that sending may take, whatever the sender does; below the lease's length.
const SEND_MAX: Duration = Duration::from_secs(35);
/// How long to try to write down how sending ended, when the store fails for good. Giving up repeats
/// the message once the lease has ended.
const SETTLE_MAX: Duration = Duration::from_secs(6);
/// First wait between such tries; it doubles, up to the longest.
const SETTLE_WAIT: Duration = Duration::from_millis(200);
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a channel rests after the store failed, in milliseconds.
const STORE_PAUSE_MS: i64 = 1_000;

/// How long a channel rests after nothing was due, in milliseconds.
const NOTHING_PAUSE_MS: i64 = 10;
/// Longest rest before the store is asked again, in milliseconds: another instance may be done, a
/// destination that was held back may be another one now.
const ASK_AGAIN_MS: i64 = 5_000;

/// What is remembered of a channel between its turns. How long its receiver is left alone is in the
/// store, for all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pause {
    /// Not before.
    pub(super) until: UnixMillis,
    /// Most items of a parcel, after a bigger one was refused.
    items_max: Option<usize>,
    /// The store failed last time, and that was said.
    store_failed: bool,
}

impl Pause {
    pub(super) fn until(until: UnixMillis) -> Self {
        Self { until, ..Self::default() }
    }
}

/// What a turn leaves behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) channel: String,
    /// The channel's, as far as the turn knows.
    pub(super) revision: i64,
    pub(super) pause: Pause,
    /// A destination that asked to be left alone.
    pub(super) ready: Option<(String, UnixMillis)>,
}

/// Which channel's turn it is.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) tenant: String,
    pub(super) channel: String,
    pub(super) kind: String,
    pub(super) revision: i64,
    pub(super) lease_ms: i64,
}

/// One channel's turn.
#[derive(Debug)]
pub(super) struct Work {
    whose: Whose,
    settings: ChannelSettings,
    /// A reason where the server cannot send to such channels.
    sender: Result<Arc<dyn Sender>, String>,
    turns: Vec<Turn>,
    /// The host it goes to, where others may be sent to on the same.
    host: Option<String>,
    /// The destination that a wait which its receiver asks for is about: the slowest.
    slowest: Option<String>,
    pause: Pause,
    ready: Option<(String, UnixMillis)>,
}

impl Work {
    pub(super) fn new(
        whose: Whose,
        settings: ChannelSettings,
        sender: Result<Arc<dyn Sender>, String>,
        pause: Pause,
    ) -> Self {
        let paces = match &sender {
            Ok(sender) => sender.paces(&settings.config, &settings.secrets),
            Err(_) => Vec::new(),
        };
        let host = paces.iter().find(|pace| pace.is_host).map(|pace| pace.destination.clone());
        let held = paces.iter().filter(|pace| !pace.is_host).max_by_key(|pace| pace.every);
        let slowest = held.map(|pace| pace.destination.clone());
        let turn = |pace: crate::send::Pace| Turn {
            destination: pace.destination,
            every_ms: millis(pace.every),
        };
        let turns = paces.into_iter().map(turn).collect();
        Self { whose, settings, sender, turns, host, slowest, pause, ready: None }
    }

    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Sends until nothing is due, the channel has to wait, or its turn is over.
    pub(super) async fn run(mut self, shared: Arc<Shared>) -> Ended {
        let began = Instant::now();
        for _ in 0..PARCELS_PER_TURN {
            let is_over = shared.stop.is_cancelled() || began.elapsed() >= TURN_MAX;
            if is_over || !self.step(&shared).await {
                break;
            }
        }
        let Whose { channel, revision, .. } = self.whose;
        Ended { channel, revision, pause: self.pause, ready: self.ready }
    }

    /// One parcel; whether there may be another at once.
    async fn step(&mut self, shared: &Shared) -> bool {
        let sender_max =
            self.sender.as_ref().map_or(1, |sender| sender.items_max(&self.settings.config));
        let items_max = self.pause.items_max.unwrap_or(usize::MAX).min(sender_max).max(1);
        let ask = LeaseAsk {
            tenant: &self.whose.tenant,
            channel: &self.whose.channel,
            items_max,
            chars_max: PARCEL_CHARS_MAX,
            lease_ms: self.whose.lease_ms,
            turns: &self.turns,
        };
        let leasing = match shared.store.lease_parcel(ask).await {
            Ok(leasing) => leasing,
            Err(error) => {
                let channel = &self.whose.channel;
                if !self.pause.store_failed {
                    tracing::error!(%error, channel, "cannot lease deliveries; trying on");
                }
                self.pause.store_failed = true;
                self.pause.until = shared.now().saturating_add(STORE_PAUSE_MS);
                return false;
            }
        };
        self.pause.store_failed = false;
        meters::count(&self.whose.kind, "silenced", leasing.silenced);
        meters::count(&self.whose.kind, "cancelled", leasing.cancelled);
        match leasing.leased {
            Leased::Parcel(parcel) => self.deliver(shared, *parcel, sender_max).await,
            Leased::Again => true,
            Leased::NotBefore(at) => {
                self.pause.until = at.min(shared.now().saturating_add(ASK_AGAIN_MS));
                false
            }
            Leased::Nothing => {
                // What looked due is another instance's: it is not asked for at once again.
                self.pause.until = shared.now().saturating_add(NOTHING_PAUSE_MS);
                false
            }
        }
    }

    async fn deliver(&mut self, shared: &Shared, leased: LeasedParcel, sender_max: usize) -> bool {
        let LeasedParcel { lease, kind, reply_to, items } = leased;
        let facts: Vec<Tried> = items.iter().map(Tried::of).collect();
        let parcel = parcel(kind, reply_to, items);
        let result = match &self.sender {
            Ok(sender) => {
                let (config, secrets) = (&self.settings.config, &self.settings.secrets);
                let send = sender.send(config, secrets, &parcel);
                tokio::time::timeout(SEND_MAX, send).await.unwrap_or_else(|_| {
                    let reason = format!("no result within {} s", SEND_MAX.as_secs());
                    Err(SendError::Retry { after: None, reason })
                })
            }
            Err(reason) => Err(SendError::Retry { after: None, reason: reason.clone() }),
        };
        let now = shared.now();
        let is_sent = result.is_ok();
        let tried = Parceled { items: &facts, failures: lease.failures, sender_max };
        let (outcome, asked_ms) = self.judge(result, &tried, now);
        if is_sent {
            for item in &facts {
                meters::latency(&self.whose.kind, item.created_at, now);
            }
        }
        // The pace counts from the end of a call too: one that took long must not be followed at
        // once.
        let rest = |turn: &Turn| (turn.destination.clone(), turn.every_ms);
        let mut holds: Vec<_> = self.turns.iter().map(rest).collect();
        if let (Some(wait_ms), Some(slowest)) = (asked_ms, &self.slowest) {
            holds.push((slowest.clone(), wait_ms));
            self.ready = Some((slowest.clone(), now.saturating_add(wait_ms)));
        }
        match settle(shared, &lease, &outcome, &holds).await {
            Ok(done) if done == facts.len() as u64 => {}
            Ok(done) => {
                let (channel, leased) = (&self.whose.channel, facts.len());
                tracing::warn!(channel, leased, done, "a lease ended while its parcel was sent");
            }
            Err(error) => {
                let channel = &self.whose.channel;
                tracing::error!(%error, channel, "cannot settle deliveries");
                self.pause.until = now.saturating_add(STORE_PAUSE_MS);
                return false;
            }
        }
        if kind == DeliveryKind::Test {
            // Somebody is waiting for it to end.
            shared.store.signals().deliveries.raise();
        }
        // Anything but success may have changed the channel: its settings are read again first.
        is_sent
    }

    /// What becomes of a parcel, and for how many milliseconds its receiver asked to be left alone.
    fn judge(
        &mut self,
        result: Result<Receipt, SendError>,
        tried: &Parceled<'_>,
        now: UnixMillis,
    ) -> (Outcome, Option<i64>) {
        let (channel, kind) = (&self.whose.channel, &self.whose.kind);
        let count = |outcome| meters::count(kind, outcome, tried.items.len());
        // Longer each time, also where a receiver always asks for the same short wait.
        let pause = backoff::pause(tried.failures.saturating_add(1));
        match result {
            Ok(receipt) => {
                count("sent");
                let items_max = self.pause.items_max.map(|max| max.saturating_mul(2));
                let items_max = items_max.filter(|max| *max < tried.sender_max);
                self.pause = Pause { items_max, ..Pause::default() };
                (Outcome::Sent { message_id: receipt.message_id }, None)
            }
            Err(SendError::Wait { after, reason }) => {
                count("throttled");
                let wait = millis(after).min(backoff::AFTER_MAX).max(pause);
                let tries = tried.tries(|i| backoff::asked_to_wait(i.throttled_since, now, wait));
                let wait_ms = Some(wait);
                (Outcome::Retry { reason, tries, counts: false, wait_ms }, wait_ms)
            }
            Err(SendError::Retry { after, reason }) => {
                count("retried");
                let asked = after.map(|after| millis(after).min(backoff::AFTER_MAX));
                let at_least = asked.unwrap_or(0);
                // One chance for all: they stay together.
                let chance = fastrand::i64(0..1_000);
                let next = |i: &Tried| backoff::next_try(i.attempts, chance);
                let tries = tried.tries(|i| next(i).map(|wait| wait.max(at_least)));
                tracing::warn!(channel, reason, "a parcel was not delivered");
                let wait_ms = Some(pause.max(at_least));
                (Outcome::Retry { reason, tries, counts: true, wait_ms }, asked)
            }
            // One of them is what is refused: smaller parcels find out which.
            Err(SendError::Refused { reason }) if tried.items.len() > 1 => {
                count("retried");
                self.pause.items_max = Some(tried.items.len() / 2);
                let tries = tried.tries(|_| Some(0));
                (Outcome::Retry { reason, tries, counts: false, wait_ms: None }, None)
            }
            Err(SendError::Refused { reason }) => {
                count("dead");
                tracing::warn!(channel, reason, "a delivery was refused");
                (Outcome::Dead { reason }, None)
            }
            Err(SendError::ChannelGone { reason }) => {
                count("gone");
                tracing::warn!(channel, reason, "a channel is disabled");
                (Outcome::Gone { reason }, None)
            }
        }
    }
}

/// What decides about another try.
#[derive(Debug)]
struct Tried {
    delivery: String,
    attempts: i64,
    throttled_since: Option<UnixMillis>,
    created_at: UnixMillis,
}

impl Tried {
    fn of(item: &LeasedItem) -> Self {
        let &LeasedItem { attempts, throttled_since, created_at, .. } = item;
        Self { delivery: item.delivery.clone(), attempts, throttled_since, created_at }
    }
}

/// A parcel that was tried.
struct Parceled<'a> {
    items: &'a [Tried],
    /// The channel's tries in a row, before this one, that did not work.
    failures: i64,
    sender_max: usize,
}

impl Parceled<'_> {
    fn tries(&self, wait_ms: impl Fn(&Tried) -> Option<i64>) -> Vec<(String, Option<i64>)> {
        self.items.iter().map(|item| (item.delivery.clone(), wait_ms(item))).collect()
    }
}

async fn settle(
    shared: &Shared,
    lease: &lookout_store::Lease,
    outcome: &Outcome,
    holds: &[(String, i64)],
) -> Result<u64, StoreError> {
    shared.unsettled.fetch_add(1, Ordering::Relaxed);
    let settled = settle_at_last(shared, lease, outcome, holds).await;
    shared.unsettled.fetch_sub(1, Ordering::Relaxed);
    settled
}

async fn settle_at_last(
    shared: &Shared,
    lease: &lookout_store::Lease,
    outcome: &Outcome,
    holds: &[(String, i64)],
) -> Result<u64, StoreError> {
    let (mut wait, begun) = (SETTLE_WAIT, Instant::now());
    let mut warned = false;
    loop {
        let error = match shared.store.settle_parcel(lease, outcome, holds).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // A store without room, or that is away, gives the row to nobody else either: waiting for it
        // is what keeps the message from being sent again.
        let passes = error.kind() == ErrorKind::Unavailable && !shared.stop.is_cancelled();
        if !passes && begun.elapsed() >= SETTLE_MAX {
            return Err(error);
        }
        if !warned {
            tracing::warn!(%error, "how a delivery ended waits to be written down");
            warned = true;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(SETTLE_WAIT_MAX);
    }
}

fn parcel(kind: DeliveryKind, reply_to: Option<String>, items: Vec<LeasedItem>) -> Parcel {
    let kind = match kind {
        DeliveryKind::Alert => ParcelKind::Alert,
        DeliveryKind::Retraction => ParcelKind::Retraction,
        DeliveryKind::Test => ParcelKind::Test,
    };
    let id = items.first().map(|item| item.delivery.clone()).unwrap_or_default();
    let item = |item: LeasedItem| Item { delivery: item.delivery, alert: item.alert };
    Parcel { id, kind, items: items.into_iter().map(item).collect(), reply_to }
}
