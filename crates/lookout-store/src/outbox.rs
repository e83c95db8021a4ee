//! The outbox: which deliveries are due, who is sending them, and how it ended.
//!
//! A parcel is what goes to one channel in one message. It is leased with its destinations' pace in
//! one transaction, so that a crash between sending and settling repeats at most that one message
//! and never breaks a limit.

mod lease;
mod plan;
mod settle;

use lookout_types::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::pacing::Turn;
use crate::{Alert, ChannelConfig, ChannelSecrets, DeliveryKind, Store, StoreError};

/// How long a parcel may take to be sent, in milliseconds: above every sender's own timeout, short
/// enough that an alert whose sender was killed does not come much later.
pub(crate) const LEASE_MS: i64 = 45_000;
/// Most channels looked at in one go: several rounds of what is sent side by side.
const CHANNELS_MAX: i64 = 1_000;
/// Sends of one delivery that ended with neither a result nor an error before it is given up: as
/// many as there are tries.
const LOST_SENDERS_MAX: i64 = 10;

const LOOKING: &str = "looking for due deliveries";

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

/// An active channel with queued deliveries.
#[derive(Debug)]
pub struct DueChannel {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// telegram, slack, discord, webhook, email.
    pub kind: String,
    /// When its next delivery is due, a mute included.
    pub due_at: UnixMillis,
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
    /// A destination is not ready, the channel is muted or another instance is sending: ask again
    /// then.
    NotBefore(UnixMillis),
    /// Deliveries were silenced or cancelled, and more may be waiting: ask again at once.
    Again,
    /// Nothing is due.
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
        /// When to try each delivery again; `None` when it was the last time.
        tries: Vec<(String, Option<UnixMillis>)>,
        /// Whether the try counts: not when the receiver only asked to wait.
        counts: bool,
    },
    /// The receiver will never take it.
    Dead {
        /// Why.
        reason: String,
    },
    /// The channel is gone: it is disabled and all that is queued for it is dead.
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
    /// Active channels with queued deliveries, the longest due first. Its cost grows with the
    /// channels, not with the deliveries.
    ///
    /// # Errors
    /// [`StoreError::Database`]; a channel that cannot be read is in the list with its error.
    pub async fn due_channels(&self) -> Result<Vec<DueChannel>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM (SELECT tenant_id, id, kind, config, secrets, muted_until, \
             (SELECT MIN(due_at) FROM deliveries d WHERE d.channel_id = c.id \
              AND d.state = 'queued') AS due_at \
             FROM channels c WHERE state = 'active' AND deleted_at IS NULL AND EXISTS \
              (SELECT 1 FROM tenants t WHERE t.tenant_id = c.tenant_id AND t.deleted_at IS NULL)) q \
             WHERE due_at IS NOT NULL \
             ORDER BY CASE WHEN muted_until > due_at THEN muted_until ELSE due_at END, id LIMIT $1",
        )
        .bind(CHANNELS_MAX)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(LOOKING))?;
        rows.iter().map(read_due).collect()
    }

    /// Queues deliveries again whose sender has not come back in time; how many they were.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn requeue_expired(&self) -> Result<u64, StoreError> {
        self.requeue(self.now()).await
    }

    /// Queues everything again that is being sent. Only for who knows that nobody else sends: at the
    /// start of the one instance that serves from an embedded store.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn requeue_orphans(&self) -> Result<u64, StoreError> {
        self.requeue(UnixMillis::MAX).await
    }

    async fn requeue(&self, leased_until: UnixMillis) -> Result<u64, StoreError> {
        let now = self.now();
        let done = sqlx::query(
            "UPDATE deliveries SET lease = NULL, lease_until = NULL, due_at = $1, \
             state = CASE WHEN attempts < $2 THEN 'queued' ELSE 'dead' END, \
             ended_at = CASE WHEN attempts < $3 THEN NULL ELSE $4 END, \
             error = 'its sender ended without a result' \
             WHERE state = 'sending' AND lease_until <= $5",
        )
        .bind(now)
        .bind(LOST_SENDERS_MAX)
        .bind(LOST_SENDERS_MAX)
        .bind(now)
        .bind(leased_until)
        .execute(self.pool())
        .await
        .map_err(StoreError::database("queueing deliveries again"))?;
        Ok(done.rows_affected())
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
    let time =
        |column| row.try_get::<Option<i64>, _>(column).map_err(StoreError::database(LOOKING));
    let id = text("id")?;
    let settings = ChannelSettings::parse(&id, &text("config")?, &text("secrets")?);
    let due_at = time("due_at")?.max(time("muted_until")?).unwrap_or_default();
    Ok(DueChannel { tenant: text("tenant_id")?, id, kind: text("kind")?, due_at, settings })
}
