//! One channel's turn: lease, send, settle, again.

use std::sync::Arc;
use std::time::Duration;

use lookout_store::{
    ChannelSettings, DeliveryKind, LeaseAsk, Leased, LeasedItem, LeasedParcel, Outcome, Store,
    StoreError, Turn,
};
use lookout_types::UnixMillis;

use super::{Shared, backoff, meters};
use crate::send::{Item, Parcel, ParcelKind, Receipt, SendError, Sender};

/// Parcels in a row before other channels get the task's place.
const PARCELS_PER_TURN: usize = 50;
/// Most characters of alerts in one parcel: bounds the memory that hostile texts can take.
const PARCEL_CHARS_MAX: i64 = 8 << 20;
/// Longest that sending may take, whatever the sender does; below the lease's length.
const SEND_MAX: Duration = Duration::from_secs(35);
/// Tries to write down how sending ended. Giving up repeats the message once the lease has ended.
const SETTLE_TRIES: u32 = 5;
/// First wait between such tries; it doubles.
const SETTLE_WAIT: Duration = Duration::from_millis(200);
/// How long a channel rests after the store failed, in milliseconds.
const STORE_PAUSE_MS: i64 = 1_000;

/// How long a channel rests after nothing was due, in milliseconds.
const NOTHING_PAUSE_MS: i64 = 10;

/// Why a channel waits, and how much it takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pause {
    /// Not before.
    pub(super) until: UnixMillis,
    /// Failures in a row.
    failures: u32,
    /// Most items of a parcel, after a bigger one was refused.
    items_max: Option<usize>,
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
    pub(super) pause: Pause,
    /// A destination that asked to be left alone.
    pub(super) ready: Option<(String, UnixMillis)>,
}

/// One channel's turn.
#[derive(Debug)]
pub(super) struct Work {
    tenant: String,
    channel: String,
    kind: String,
    settings: ChannelSettings,
    /// A reason where the server cannot send to such channels.
    sender: Result<Arc<dyn Sender>, String>,
    turns: Vec<Turn>,
    pause: Pause,
    ready: Option<(String, UnixMillis)>,
}

impl Work {
    pub(super) fn new(
        tenant: String,
        channel: String,
        kind: String,
        settings: ChannelSettings,
        sender: Result<Arc<dyn Sender>, String>,
        pause: Pause,
    ) -> Self {
        let paces = match &sender {
            Ok(sender) => sender.paces(&settings.config, &settings.secrets),
            Err(_) => Vec::new(),
        };
        let turn = |pace: crate::send::Pace| Turn {
            destination: pace.destination,
            every_ms: millis(pace.every),
        };
        let turns = paces.into_iter().map(turn).collect();
        Self { tenant, channel, kind, settings, sender, turns, pause, ready: None }
    }

    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Sends until nothing is due, the channel has to wait, or its turn is over.
    pub(super) async fn run(mut self, shared: Arc<Shared>) -> Ended {
        for _ in 0..PARCELS_PER_TURN {
            if shared.stop.is_cancelled() || !self.step(&shared).await {
                break;
            }
        }
        Ended { channel: self.channel, pause: self.pause, ready: self.ready }
    }

    /// One parcel; whether there may be another at once.
    async fn step(&mut self, shared: &Shared) -> bool {
        let sender_max =
            self.sender.as_ref().map_or(1, |sender| sender.items_max(&self.settings.config));
        let items_max = self.pause.items_max.unwrap_or(usize::MAX).min(sender_max).max(1);
        let ask = LeaseAsk {
            tenant: &self.tenant,
            channel: &self.channel,
            items_max,
            chars_max: PARCEL_CHARS_MAX,
            turns: &self.turns,
        };
        let leasing = match shared.store.lease_parcel(ask).await {
            Ok(leasing) => leasing,
            Err(error) => {
                tracing::error!(%error, channel = self.channel, "cannot lease deliveries");
                self.pause.until = shared.clock.now().saturating_add(STORE_PAUSE_MS);
                return false;
            }
        };
        meters::count(&self.kind, "silenced", leasing.silenced);
        meters::count(&self.kind, "cancelled", leasing.cancelled);
        match leasing.leased {
            Leased::Parcel(parcel) => self.deliver(shared, *parcel, sender_max).await,
            Leased::Again => true,
            Leased::NotBefore(at) => {
                self.pause.until = at;
                false
            }
            Leased::Nothing => {
                // What looked due is another instance's: it is not asked for at once again.
                self.pause.until = shared.clock.now().saturating_add(NOTHING_PAUSE_MS);
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
        let now = shared.clock.now();
        let is_sent = result.is_ok();
        let outcome = self.judge(result, &facts, now, sender_max);
        if is_sent {
            for item in &facts {
                meters::latency(&self.kind, item.created_at, now);
            }
        }
        let mut ready: Vec<_> = self.turns.iter().map(|turn| rest(turn, now)).collect();
        ready.extend(self.ready.clone());
        match settle(&shared.store, &lease, &outcome, &ready).await {
            Ok(done) if done == facts.len() as u64 => {}
            Ok(done) => {
                let (channel, leased) = (&self.channel, facts.len());
                tracing::warn!(channel, leased, done, "a lease ended while its parcel was sent");
            }
            Err(error) => {
                tracing::error!(%error, channel = self.channel, "cannot settle deliveries");
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

    /// What becomes of a parcel, and of the channel's next.
    fn judge(
        &mut self,
        result: Result<Receipt, SendError>,
        items: &[Tried],
        now: UnixMillis,
        sender_max: usize,
    ) -> Outcome {
        let count = |outcome| meters::count(&self.kind, outcome, items.len());
        match result {
            Ok(receipt) => {
                count("sent");
                let items_max = self.pause.items_max.map(|max| max.saturating_mul(2));
                let items_max = items_max.filter(|max| *max < sender_max);
                self.pause = Pause { items_max, ..Pause::default() };
                Outcome::Sent { message_id: receipt.message_id }
            }
            Err(SendError::Retry { after: Some(after), reason }) => {
                count("throttled");
                let after = millis(after).min(backoff::AFTER_MAX);
                let at = now.saturating_add(after);
                // The slowest destination is the one that was asked too much.
                let slowest = self.turns.iter().max_by_key(|turn| turn.every_ms);
                self.ready = slowest.map(|turn| (turn.destination.clone(), at));
                self.pause.until = at;
                let next = |item: &Tried| backoff::asked_to_wait(item.created_at, now, after);
                let tries = items.iter().map(|item| (item.delivery.clone(), next(item))).collect();
                Outcome::Retry { reason, tries, counts: false }
            }
            Err(SendError::Retry { after: None, reason }) => {
                count("retried");
                self.pause.failures = self.pause.failures.saturating_add(1);
                self.pause.until = now.saturating_add(backoff::pause(self.pause.failures));
                // One chance for all: they stay together.
                let chance = fastrand::i64(0..1_000);
                let next = |item: &Tried| backoff::next_try(item.attempts, now, chance);
                let tries = items.iter().map(|item| (item.delivery.clone(), next(item))).collect();
                tracing::warn!(channel = self.channel, reason, "a parcel was not delivered");
                Outcome::Retry { reason, tries, counts: true }
            }
            // One of them is what is refused: smaller parcels find out which.
            Err(SendError::Refused { reason }) if items.len() > 1 => {
                count("retried");
                self.pause.items_max = Some(items.len() / 2);
                let tries = items.iter().map(|item| (item.delivery.clone(), Some(now))).collect();
                Outcome::Retry { reason, tries, counts: false }
            }
            Err(SendError::Refused { reason }) => {
                count("dead");
                tracing::warn!(channel = self.channel, reason, "a delivery was refused");
                Outcome::Dead { reason }
            }
            Err(SendError::ChannelGone { reason }) => {
                count("gone");
                tracing::warn!(channel = self.channel, reason, "a channel is disabled");
                Outcome::Gone { reason }
            }
        }
    }
}

/// What decides about another try.
#[derive(Debug)]
struct Tried {
    delivery: String,
    attempts: i64,
    created_at: UnixMillis,
}

impl Tried {
    fn of(item: &LeasedItem) -> Self {
        let (attempts, created_at) = (item.attempts, item.created_at);
        Self { delivery: item.delivery.clone(), attempts, created_at }
    }
}

/// The pace counts from the end of a call too: one that took long must not be followed at once.
fn rest(turn: &Turn, now: UnixMillis) -> (String, UnixMillis) {
    (turn.destination.clone(), now.saturating_add(turn.every_ms))
}

async fn settle(
    store: &Store,
    lease: &lookout_store::Lease,
    outcome: &Outcome,
    ready: &[(String, UnixMillis)],
) -> Result<u64, StoreError> {
    let mut wait = SETTLE_WAIT;
    for _ in 1..SETTLE_TRIES {
        if let Ok(done) = store.settle_parcel(lease, outcome, ready).await {
            return Ok(done);
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    store.settle_parcel(lease, outcome, ready).await
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
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
