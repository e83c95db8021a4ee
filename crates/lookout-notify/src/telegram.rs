//! Telegram: plain text with entities, at the pace that Telegram allows.

mod api;
mod bot;
mod commands;
mod compose;
mod text;

use std::time::Duration;

use async_trait::async_trait;
use lookout_store::{BotKey, ChannelConfig, ChannelSecrets, ChatKind, Store};
use lookout_types::Secret;
use serde_json::{Value, json};

pub use self::bot::{Bots, BotsParts};

use self::api::{Api, ApiError};
use self::text::Styled;
use crate::send::{Pace, Parcel, ParcelKind, Receipt, SendError, Sender};

/// Telegram's own server.
pub const TELEGRAM_API_URL: &str = "https://api.telegram.org";
/// Longest that one call takes, long polls aside.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Most alerts of one message, which summarises them when they are more than fit: a block's worth
/// of matches ends in a few messages, and their texts take little memory.
const ITEMS_MAX: usize = 2_500;
/// Between two messages of a bot: it may send 30 a second, and ways that take differently long must
/// not make more of fewer.
const BOT_EVERY: Duration = Duration::from_millis(40);
/// Between two messages to a person: 1 a second, and a margin for a way that takes longer once.
const PRIVATE_EVERY: Duration = Duration::from_millis(1_050);
/// Between two messages to a group: 20 a minute, and the same margin.
const GROUP_EVERY: Duration = Duration::from_millis(3_100);
/// Before another try when the server's own token is wrong: its operator has to act first, and the
/// channels of all tenants depend on it.
const SERVER_TOKEN_PAUSE: Duration = Duration::from_secs(60);
/// How long to wait where Telegram asks to wait and does not say how long.
const WAIT_UNKNOWN: Duration = Duration::from_secs(5);

/// What Telegram says, with status 400, about chats that will not take a message until somebody
/// acts there.
const GONE: [&str; 9] = [
    "chat not found",
    "group chat was deactivated",
    "peer_id_invalid",
    "chat_write_forbidden",
    "not enough rights",
    "have no rights",
    "need administrator rights",
    "user is deactivated",
    "topic_closed",
];

/// How to reach Telegram.
#[derive(Debug, Clone)]
pub struct TelegramSettings {
    /// The Bot API server, [`TELEGRAM_API_URL`] or one's own.
    pub api_url: String,
    /// The token of the server's bot, for channels without one of their own.
    pub token: Option<Secret>,
}

/// Sends to Telegram chats.
#[derive(Debug)]
pub struct Telegram {
    api: Api,
    server_token: Option<Secret>,
    store: Store,
}

impl Telegram {
    /// A sender; `store` keeps the new number of a chat that moves.
    pub fn new(settings: TelegramSettings, http: reqwest::Client, store: Store) -> Self {
        let api = Api::new(http, &settings.api_url);
        Self { api, server_token: settings.token, store }
    }

    /// The bot that serves a channel.
    fn bot(&self, secrets: &ChannelSecrets) -> Option<BotKey> {
        match (&secrets.token, &self.server_token) {
            (Some(token), _) => Some(BotKey { token: token.clone(), is_server: false }),
            (None, Some(token)) => Some(BotKey { token: token.clone(), is_server: true }),
            (None, None) => None,
        }
    }

    /// Sends one message.
    async fn post(&self, bot: &BotKey, message: &Value) -> Result<Receipt, ApiError> {
        let result = self.api.call(&bot.token, "sendMessage", message, CALL_TIMEOUT).await?;
        let message_id = result.get("message_id").and_then(Value::as_i64);
        Ok(Receipt { message_id: message_id.map(|id| id.to_string()) })
    }

    async fn explain(&self, error: ApiError, bot: &BotKey, chat: i64) -> SendError {
        let reason = error.to_string();
        let (code, description, retry_after, moved_to) = match error {
            ApiError::Unreachable(_) => return SendError::Retry { after: None, reason },
            ApiError::Refused { code, description, retry_after, moved_to } => {
                (code, description.to_lowercase(), retry_after, moved_to)
            }
        };
        if let Some(to) = moved_to {
            return match self.store.move_chat(bot, chat, to).await {
                // A try, so that it ends should the chat go on moving.
                Ok(_) => SendError::Retry { after: None, reason },
                Err(error) => SendError::Retry { after: None, reason: error.to_string() },
            };
        }
        match code {
            429 => {
                let after = retry_after.filter(|after| !after.is_zero());
                SendError::Wait { after: after.unwrap_or(WAIT_UNKNOWN), reason }
            }
            401 | 404 if bot.is_server => {
                let reason = format!("{reason}; the token of the server's Telegram bot is wrong");
                SendError::Wait { after: SERVER_TOKEN_PAUSE, reason }
            }
            401 | 404 => SendError::ChannelGone {
                reason: format!("{reason}; the token of the channel's bot is wrong, set a new one"),
            },
            403 => SendError::ChannelGone { reason },
            400 if GONE.iter().any(|gone| description.contains(gone)) => {
                SendError::ChannelGone { reason }
            }
            400 | 413 => SendError::Refused { reason },
            _ => SendError::Retry { after: retry_after, reason },
        }
    }
}

/// Whether Telegram may take the same text without its entities.
fn is_about_content(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { code: 400, description, moved_to: None, .. } => {
            let description = description.to_lowercase();
            !GONE.iter().any(|gone| description.contains(gone))
        }
        _ => false,
    }
}

/// A message to a chat, without previews of links.
fn message(chat: i64, text: &str) -> Value {
    json!({ "chat_id": chat, "text": text, "link_preview_options": { "is_disabled": true } })
}

fn with_entities(mut message: Value, styled: &Styled) -> Value {
    if let Some(fields) = message.as_object_mut() {
        fields.insert("entities".to_owned(), styled.entities_json());
    }
    message
}

/// Answers a message that was sent, if it is still there.
fn in_reply(mut message: Value, reply_to: Option<&str>) -> Value {
    let id = reply_to.and_then(|id| id.parse::<i64>().ok());
    if let (Some(id), Some(fields)) = (id, message.as_object_mut()) {
        let reply = json!({ "message_id": id, "allow_sending_without_reply": true });
        fields.insert("reply_parameters".to_owned(), reply);
    }
    message
}

/// What one message to a chat counts against.
fn paces(token: &Secret, chat: i64, kind: Option<ChatKind>) -> Vec<Pace> {
    let is_private = match kind {
        Some(kind) => kind == ChatKind::Private,
        None => chat > 0,
    };
    let every = if is_private { PRIVATE_EVERY } else { GROUP_EVERY };
    vec![
        Pace::new("telegram-bot", token.expose(), BOT_EVERY),
        Pace::new("telegram-chat", &format!("{}/{chat}", token.expose()), every),
    ]
}

#[async_trait]
impl Sender for Telegram {
    async fn send(
        &self,
        config: &ChannelConfig,
        secrets: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let ChannelConfig::Telegram { chat_id: Some(chat), .. } = config else {
            let reason = "no chat is linked; send /start with its code to the bot".to_owned();
            return Err(SendError::Retry { after: None, reason });
        };
        let Some(bot) = self.bot(secrets) else {
            let reason = "the server has no Telegram bot; configure its token, or set one for the \
                          channel"
                .to_owned();
            return Err(SendError::Retry { after: None, reason });
        };
        let styled = compose::compose(parcel);
        let is_retraction = parcel.kind == ParcelKind::Retraction;
        let reply_to = parcel.reply_to.as_deref().filter(|_| is_retraction);
        let full = in_reply(with_entities(message(*chat, styled.text()), &styled), reply_to);
        let error = match self.post(&bot, &full).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => error,
        };
        if !is_about_content(&error) {
            return Err(self.explain(error, &bot, *chat).await);
        }
        tracing::warn!(%error, "Telegram refused a message; sending its text alone");
        let bare = in_reply(message(*chat, &styled.bare()), reply_to);
        match self.post(&bot, &bare).await {
            Ok(receipt) => Ok(receipt),
            Err(error) => Err(self.explain(error, &bot, *chat).await),
        }
    }

    fn items_max(&self, _: &ChannelConfig) -> usize {
        ITEMS_MAX
    }

    fn paces(&self, config: &ChannelConfig, secrets: &ChannelSecrets) -> Vec<Pace> {
        let ChannelConfig::Telegram { chat_id: Some(chat), chat_kind, .. } = config else {
            return Vec::new();
        };
        self.bot(secrets).map_or_else(Vec::new, |bot| paces(&bot.token, *chat, *chat_kind))
    }
}

#[cfg(test)]
mod tests;
