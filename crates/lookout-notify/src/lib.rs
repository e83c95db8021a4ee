//! Delivery: alerts from the outbox to Telegram, Slack, Discord, webhooks and mail.
//!
//! Does: lease due deliveries, group and pace them, send, try again, give up visibly.
//! Does not: decide what is an alert or whether it is confirmed; serve HTTP.
//! Units: times in milliseconds since 1970 UTC from the store's clock; text lengths in UTF-16 units.
//! Errors: a failed delivery is tried again or dead, with its reason, never lost.
//! Source: Telegram Bot API, Standard Webhooks, RFC 5321 (SMTP), Alertmanager (grouping).

mod deliver;
mod send;
mod telegram;

pub use deliver::{Deliverer, DelivererParts};
pub use lookout_store::GuardSettings;
pub use send::{
    Discord, Email, Guard, Item, Names, Pace, Parcel, ParcelKind, Receipt, SendError, Sender,
    SenderSettings, Senders, SetupError, Slack, SmtpSettings, SmtpTls, SystemNames, Webhook,
};
pub use telegram::{Bots, BotsParts, TELEGRAM_API_URL, Telegram, TelegramSettings};
