//! Senders: each takes a parcel to one kind of channel and says what became of it.

mod answer;
mod digest;
mod discord;
mod email;
mod guard;
mod names;
mod signature;
mod slack;
#[cfg(test)]
mod tests;
mod webhook;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lookout_store::{Alert, ChannelConfig, ChannelSecrets};
use lookout_types::Clock;
use sha2::{Digest, Sha256};
use url::Url;

pub use self::discord::Discord;
pub use self::email::{Email, SmtpSettings, SmtpTls};
pub use self::guard::Guard;
pub use self::names::{Names, SystemNames};
pub use self::slack::Slack;
pub use self::webhook::Webhook;

/// Longest that one request of a sender takes. Standard Webhooks asks for 15 to 30 seconds.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// What goes to a channel in one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    /// Stays the same over all tries: the id of the first item's delivery.
    pub id: String,
    /// What the items are, all the same.
    pub kind: ParcelKind,
    /// At least one.
    pub items: Vec<Item>,
    /// The receiver's name of the message that a retraction takes back.
    pub reply_to: Option<String>,
}

/// What a parcel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParcelKind {
    /// Confirmed alerts.
    Alert,
    /// Alerts that were sent and do not stand any more.
    Retraction,
    /// A message to try the channel with.
    Test,
}

/// One delivery of a parcel.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id.
    pub delivery: String,
    /// What it is about; `None` for a test.
    pub alert: Option<Alert>,
}

/// Why a parcel was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It was not taken, and is to be tried again after a time: that is no failed try.
    #[error("{reason}")]
    Wait {
        /// How long, above zero.
        after: Duration,
        /// What happened, for the channel's owner.
        reason: String,
    },
    /// It may work later. Perhaps it has worked, and only the answer is missing.
    #[error("{reason}")]
    Retry {
        /// When the receiver asked to be tried again.
        after: Option<Duration>,
        /// What happened, for the channel's owner.
        reason: String,
    },
    /// It will not work, however often it is tried.
    #[error("{reason}")]
    Refused {
        /// What happened, for the channel's owner.
        reason: String,
    },
    /// Nothing will ever work on this channel, until its owner changes something.
    #[error("{reason}")]
    ChannelGone {
        /// What happened, for the channel's owner.
        reason: String,
    },
}

impl SendError {
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// Too much was asked of the receiver. One that does not say how long to wait is tried again
    /// like one that failed, lest it be asked without a pause and without an end.
    pub(crate) fn too_many(after: Option<Duration>, reason: String) -> Self {
        match after.filter(|after| !after.is_zero()) {
            Some(after) => Self::Wait { after, reason },
            None => Self::Retry { after: None, reason },
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// Why senders cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No HTTP client can be made.
    #[error("cannot set up the client for webhooks: {0}")]
    Client(#[source] reqwest::Error),
    /// The mail settings cannot be used.
    #[error("cannot send mail from `{from}` through `{host}`: {reason}")]
    Mail {
        /// The sender's address.
        from: String,
        /// The mail server.
        host: String,
        /// What is wrong.
        reason: String,
    },
}

/// What the receiver answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Its name of the message, where it has one.
    pub message_id: Option<String>,
}

/// How fast one destination may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Which destination, without secrets: a kind, a colon and a hash.
    pub destination: String,
    /// Time between two messages.
    pub every: Duration,
    /// It is a host that strangers name and that may serve many of them: what it answers one is no
    /// reason to hold back the others, and they share it fairly.
    pub is_host: bool,
}

impl Pace {
    pub(crate) fn new(kind: &str, destination: &str, every: Duration) -> Self {
        let hash = Sha256::digest(destination.as_bytes());
        let hash = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { destination: format!("{kind}:{hash}"), every, is_host: false }
    }

    pub(crate) fn of_host(kind: &str, host: &str, every: Duration) -> Self {
        Self { is_host: true, ..Self::new(kind, host, every) }
    }
}

/// Takes parcels to one kind of channel.
#[async_trait]
pub trait Sender: Send + Sync + Debug {
    /// Sends a parcel once.
    ///
    /// # Errors
    /// [`SendError`] says whether another try can help.
    async fn send(
        &self,
        config: &ChannelConfig,
        secrets: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError>;

    /// Most items of one parcel, at least 1.
    fn items_max(&self, config: &ChannelConfig) -> usize;

    /// The limits that one parcel counts against.
    fn paces(&self, config: &ChannelConfig, secrets: &ChannelSecrets) -> Vec<Pace>;
}

/// The senders of a server, by kind of channel.
#[derive(Debug, Clone)]
pub struct Senders {
    telegram: Option<Arc<dyn Sender>>,
    slack: Arc<dyn Sender>,
    discord: Arc<dyn Sender>,
    webhook: Arc<dyn Sender>,
    email: Option<Arc<dyn Sender>>,
}

/// What the senders of a server are made of.
#[derive(Debug, Clone, Default)]
pub struct SenderSettings {
    /// What webhooks may reach beyond the public internet.
    pub guard: lookout_store::GuardSettings,
    /// Sent to instead of Slack, for tests.
    pub slack_url: Option<Url>,
    /// Sent to instead of Discord, for tests.
    pub discord_url: Option<Url>,
    /// The mail server; without it, mail channels say that there is none.
    pub smtp: Option<SmtpSettings>,
}

impl Senders {
    /// All senders but Telegram's.
    ///
    /// # Errors
    /// [`SetupError`] when a setting cannot be used.
    pub fn new(settings: &SenderSettings, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let guard = Guard::new(settings.guard.clone(), Arc::new(SystemNames))?;
        let email = settings.smtp.as_ref().map(|smtp| Email::new(smtp, clock.clone()));
        Ok(Self {
            telegram: None,
            slack: Arc::new(Slack::new(&guard, settings.slack_url.clone())?),
            discord: Arc::new(Discord::new(&guard, settings.discord_url.clone())?),
            webhook: Arc::new(Webhook::new(guard, clock)),
            email: email.transpose()?.map(|email| Arc::new(email) as Arc<dyn Sender>),
        })
    }

    /// With a sender for Telegram.
    #[must_use]
    pub fn with_telegram(self, sender: Arc<dyn Sender>) -> Self {
        Self { telegram: Some(sender), ..self }
    }

    /// The sender for a channel.
    ///
    /// # Errors
    /// [`SendError::Retry`] when the server has none: its operator can add one.
    pub fn of(&self, config: &ChannelConfig) -> Result<&Arc<dyn Sender>, SendError> {
        let sender = match config {
            ChannelConfig::Telegram { .. } => self.telegram.as_ref(),
            ChannelConfig::Slack {} => Some(&self.slack),
            ChannelConfig::Discord {} => Some(&self.discord),
            ChannelConfig::Webhook { .. } => Some(&self.webhook),
            ChannelConfig::Email { .. } => self.email.as_ref(),
        };
        let kind = config.kind();
        sender.ok_or_else(|| {
            SendError::retry(format!("this server is not set up to send to {kind} channels"))
        })
    }
}

/// For a sender that was handed another kind of channel.
pub(crate) fn wrong_kind(config: &ChannelConfig) -> SendError {
    SendError::refused(format!("a {} channel came to the wrong sender", config.kind()))
}
