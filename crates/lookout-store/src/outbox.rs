//! The outbox: which deliveries are due, who is sending them, and how it ended.
//!
//! A parcel is what goes to one channel in one message. It is leased with its destinations' pace in
//! one transaction, so that a crash between sending and settling repeats at most that one message
//! and never breaks a limit.

mod lease;
mod plan;
mod settle;
mod sweep;

pub use sweep::{QUEUE_WAITS_MS, Swept};

pub(crate) use sweep::{forget_throttling, make_due};

use lookout_types::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::pacing::Turn;
use crate::{Alert, ChannelConfig, ChannelSecrets, DeliveryKind, Store, StoreError};

/// Most channels looked at in one go: several rounds of what is sent side by side.
const CHANNELS_MAX: i64 = 1_000;
/// Most of them that are one tenant's: more than it may be sent to side by side, and what is being
/// sent to is among them.
const CHANNELS_PER_TENANT_MAX: i64 = 64;

const LOOKING: &str = "looking for due deliveries";

/// A channel's next delivery is due when it has waited for its receiver, but a test need not wait;
/// a mute holds back both.
const DUE_CHANNELS: &str = "WITH queued AS MATERIALIZED (\
     SELECT tenant_id, id, kind, config, secrets, revision, failures, \
     COALESCE(muted_until, 0) AS muted, COALESCE(wait_until, 0) AS waits, \
     (SELECT MIN(due_at) FROM deliveries d WHERE d.channel_id = c.id \
      AND d.state = 'queued') AS first_due, \
     (SELECT MIN(due_at) FROM deliveries d WHERE d.channel_id = c.id \
      AND d.state = 'queued' AND d.kind = 'test') AS test_due \
     FROM channels c WHERE state = 'active' AND deleted_at IS NULL AND EXISTS \
      (SELECT 1 FROM tenants t WHERE t.tenant_id = c.tenant_id AND t.deleted_at IS NULL)), \
     waited AS (SELECT queued.*, \
      CASE WHEN waits > first_due THEN waits ELSE first_due END AS waited_at \
      FROM queued WHERE first_due IS NOT NULL), \
     tested AS (SELECT waited.*, \
      CASE WHEN test_due < waited_at THEN test_due ELSE waited_at END AS open_at FROM waited), \
     timed AS (SELECT tested.*, \
      CASE WHEN muted > open_at THEN muted ELSE open_at END AS due_at FROM tested), \
     sorted AS (SELECT timed.*, CASE WHEN due_at <= $1 THEN 0 ELSE 1 END AS is_early, \
      CASE WHEN failures > 0 THEN 1 ELSE 0 END AS is_failing FROM timed), \
     placed AS (SELECT sorted.*, ROW_NUMBER() OVER (PARTITION BY tenant_id \
      ORDER BY is_early, is_failing, due_at, id) AS place FROM sorted) \
     SELECT tenant_id, id, kind, config, secrets, revision, failures, due_at FROM placed \
     WHERE place <= $2 ORDER BY is_early, is_failing, place, due_at, id LIMIT $3";

/// What a channel needs to be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// What its owner set.
    pub config: ChannelConfig,
    /// Its tokens and keys.
    pub secrets: ChannelSecrets,
}

impl ChannelSettings {
    /// Reads the two columns of a channel.
    pub(crate) fn parse(id: &str, config: &str, secrets: &str) -> Result<Self, StoreError> {
        let config = ChannelConfig::read(config, id)?;
        let secrets = ChannelSecrets::read(secrets, id)?;
        Ok(Self { config, secrets })
    }
}

/// What is due, and what will be.
#[derive(Debug)]
pub struct DueChannels {
    /// The time by which all instances agree.
    pub now: UnixMillis,
    /// What can be sent to now comes first.
    pub channels: Vec<DueChannel>,
}

/// An active channel with queued deliveries.
#[derive(Debug)]
pub struct DueChannel {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// telegram, slack, discord, webhook, email.
    pub kind: String,
    /// When its next delivery can be sent: a mute and the channel's wait are over by then.
    pub due_at: UnixMillis,
    /// Counts changes of the channel.
    pub revision: i64,
    /// Tries in a row that did not work.
    pub failures: i64,
    /// How to send there; an error when the row cannot be read.
    pub settings: Result<ChannelSettings, StoreError>,
}

/// Which parcel to lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAsk<'a> {
    /// Whose channel.
    pub tenant: &'a str,
    /// Which channel.
    pub channel: &'a str,
    /// Most deliveries in the parcel, from 1.
    pub items_max: usize,
    /// Most characters of alerts in the parcel; one alert always fits.
    pub chars_max: i64,
    /// How long the parcel may take to be sent, in milliseconds.
    pub lease_ms: i64,
    /// The destinations that must be ready.
    pub turns: &'a [Turn],
}

/// What came of asking for a parcel, and what was ended on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Leasing {
    /// The parcel, or why there is none.
    pub leased: Leased,
    /// Deliveries that a silence holds back.
    pub silenced: usize,
    /// Deliveries that events have overtaken.
    pub cancelled: usize,
}

impl From<Leased> for Leasing {
    fn from(leased: Leased) -> Self {
        Self { leased, silenced: 0, cancelled: 0 }
    }
}

/// A parcel, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Leased {
    /// A parcel, to be settled before its lease ends.
    Parcel(Box<LeasedParcel>),
    /// A destination is not ready or another instance is sending: ask again then.
    NotBefore(UnixMillis),
    /// Deliveries were silenced or cancelled, and more may be waiting: ask again at once.
    Again,
    /// Nothing is due, the channel is muted, or it waits: the next look at the outbox tells.
    Nothing,
}

/// The right to send one parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose channel.
    pub tenant: String,
    /// Which channel.
    pub channel: String,
    /// Fences out a sender whose lease has ended.
    pub token: String,
    /// When it ends.
    pub until: UnixMillis,
    /// The channel's when it was leased.
    pub revision: i64,
    /// The channel's tries in a row, before this one, that did not work.
    pub failures: i64,
}

/// Deliveries that go out in one message.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedParcel {
    /// The right to send them.
    pub lease: Lease,
    /// What they tell, all the same.
    pub kind: DeliveryKind,
    /// The message that a retraction answers.
    pub reply_to: Option<String>,
    /// In the order in which they became due; at least one.
    pub items: Vec<LeasedItem>,
}

/// One delivery of a parcel.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedItem {
    /// Its id.
    pub delivery: String,
    /// Tries so far, this one included.
    pub attempts: i64,
    /// Since when its receiver has asked to wait.
    pub throttled_since: Option<UnixMillis>,
    /// When it was queued.
    pub created_at: UnixMillis,
    /// What it is about; `None` for a test.
    pub alert: Option<Alert>,
}

/// How sending a parcel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Sent {
        /// The receiver's name of the message.
        message_id: Option<String>,
    },
    /// It did not work this time.
    Retry {
        /// Why.
        reason: String,
        /// In how many milliseconds to try each delivery again; `None` when it was the last time.
        tries: Vec<(String, Option<i64>)>,
        /// Whether the try counts, since the receiver may have the message: not when it said that
        /// it has not.
        counts: bool,
        /// How long the channel is left alone, in milliseconds; `None` when it is not its fault.
        wait_ms: Option<i64>,
    },
    /// The receiver will never take it.
    Dead {
        /// Why.
        reason: String,
    },
    /// The channel is gone: it is disabled, unless it was changed meanwhile, and what is queued for
    /// it waits.
    Gone {
        /// Why.
        reason: String,
    },
}

/// How much is waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Deliveries that are queued.
    pub queued: i64,
    /// Those of them that are due.
    pub due: i64,
}

impl Store {
    /// Active channels with queued deliveries: what can be sent to, and of that what works, comes
    /// first; no tenant fills the list. Its cost grows with the channels, not with the deliveries.
    ///
    /// # Errors
    /// [`StoreError::Database`]; a channel that cannot be read is in the list with its error.
    pub async fn due_channels(&self) -> Result<DueChannels, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(LOOKING))?;
        let now = self.shared_now(&mut connection).await?;
        let rows = sqlx::query(DUE_CHANNELS)
            .bind(now)
            .bind(CHANNELS_PER_TENANT_MAX)
            .bind(CHANNELS_MAX)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::database(LOOKING))?;
        let channels = rows.iter().map(read_due).collect::<Result<_, _>>()?;
        Ok(DueChannels { now, channels })
    }

    /// How much is waiting, on channels of every state.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn queue_depth(&self) -> Result<QueueDepth, StoreError> {
        let failed = StoreError::database("counting deliveries");
        let row = sqlx::query(
            "SELECT COUNT(*) AS queued, COUNT(CASE WHEN due_at <= $1 THEN 1 END) AS due \
             FROM deliveries WHERE state = 'queued'",
        )
        .bind(self.now())
        .fetch_one(self.pool())
        .await
        .map_err(&failed)?;
        let number = |column| row.try_get(column).map_err(&failed);
        Ok(QueueDepth { queued: number("queued")?, due: number("due")? })
    }
}

fn read_due(row: &AnyRow) -> Result<DueChannel, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::database(LOOKING));
    let number = |column| row.try_get::<i64, _>(column).map_err(StoreError::database(LOOKING));
    let id = text("id")?;
    let settings = ChannelSettings::parse(&id, &text("config")?, &text("secrets")?);
    Ok(DueChannel {
        tenant: text("tenant_id")?,
        id,
        kind: text("kind")?,
        due_at: number("due_at")?,
        revision: number("revision")?,
        failures: number("failures")?,
        settings,
    })
}
