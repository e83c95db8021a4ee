//! Channels in answers.

use lookout_store::{
    ChannelConfig, ChannelInfo, ChatKind, SignatureScheme, SigningKey, SigningKeyInfo,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::provenance::rfc3339_millis;

/// A channel, without its secrets. Which of the members behind `deletedAt` there are follows from
/// `kind`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Channel {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    pub(crate) id: String,
    /// `telegram`, `slack`, `discord`, `webhook` or `email`.
    #[schema(example = "webhook")]
    kind: &'static str,
    /// A name for people.
    #[schema(example = "ops")]
    name: String,
    /// `active`; `unlinked` while no chat has said `/start`; `disabled` when the other end is gone.
    #[schema(example = "active")]
    state: &'static str,
    /// Why it is disabled; `null` while it is not.
    reason: Option<String>,
    /// Alerts are held back until then; `null` when they are not.
    muted_until: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it was deleted; `null` while it is not.
    deleted_at: Option<String>,
    /// Of a webhook: where it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.com/hook")]
    url: Option<String>,
    /// Of a webhook: the keys that sign, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<ChannelKey>>,
    /// Of mail: the recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Vec<String>>,
    /// Of Telegram: whether it has a bot of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_bot: Option<bool>,
    /// Of Telegram: the chat's id, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_id: Option<i64>,
    /// Of Telegram: the chat's title, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_title: Option<String>,
    /// Of Telegram: `private`, `group`, `supergroup` or `channel`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_kind: Option<&'static str>,
}

/// A key with which a webhook is signed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChannelKey {
    /// `v1` (HMAC-SHA256) or `v1a` (ed25519).
    #[schema(example = "v1a")]
    signature: &'static str,
    /// Of `v1a`: what receivers check with; `null` for `v1`.
    #[schema(example = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")]
    public_key: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it stops signing; `null` for never.
    ends_at: Option<String>,
}

/// A channel with what is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeChannel {
    /// The channel.
    pub(crate) channel: Channel,
    /// The secret with which a receiver checks `v1` signatures; `null` for other channels and for
    /// `v1a`, whose public key is in the channel.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub(crate) signing_key: Option<String>,
    /// How a Telegram chat is linked; `null` when none has to be.
    pub(crate) link: Option<ChatLink>,
}

/// How a chat becomes that of a Telegram channel.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatLink {
    /// What the bot must be sent from the chat. It works once, and not for long.
    #[schema(example = "/start 6FkQ0gkqWzYtRbdh9nG3vT")]
    command: String,
    /// Opens a private chat with the bot and sends it; `null` when the bot's name is not known.
    #[schema(example = "https://t.me/lookout_bot?start=6FkQ0gkqWzYtRbdh9nG3vT")]
    url: Option<String>,
    /// Adds the bot to a group and sends it there; `null` when the bot's name is not known.
    #[schema(example = "https://t.me/lookout_bot?startgroup=6FkQ0gkqWzYtRbdh9nG3vT")]
    group_url: Option<String>,
}

impl ChatLink {
    pub(crate) fn new(code: String, bot: Option<&str>) -> Self {
        let link = |how: &str| bot.map(|bot| format!("https://t.me/{bot}?{how}={code}"));
        let (url, group_url) = (link("start"), link("startgroup"));
        Self { command: format!("/start {code}"), url, group_url }
    }
}

/// The secret that the receiver must be told, where it needs one.
pub(crate) fn shared_key(key: &SigningKey) -> Option<String> {
    let shared = matches!(key.scheme(), Ok(SignatureScheme::Hmac));
    shared.then(|| key.key.expose().to_owned())
}

impl TryFrom<ChannelInfo> for Channel {
    type Error = ApiError;

    fn try_from(info: ChannelInfo) -> Result<Self, ApiError> {
        let mut channel = Self {
            id: info.id,
            kind: info.config.kind(),
            name: info.name,
            state: info.state.as_str(),
            reason: info.reason,
            muted_until: info.muted_until.map(rfc3339_millis).transpose()?,
            created_at: rfc3339_millis(info.created_at)?,
            updated_at: rfc3339_millis(info.updated_at)?,
            deleted_at: info.deleted_at.map(rfc3339_millis).transpose()?,
            url: None,
            keys: None,
            to: None,
            own_bot: None,
            chat_id: None,
            chat_title: None,
            chat_kind: None,
        };
        match info.config {
            ChannelConfig::Slack {} | ChannelConfig::Discord {} => {}
            ChannelConfig::Email { to } => channel.to = Some(to),
            ChannelConfig::Webhook { url } => {
                let keys = info.signing.into_iter().map(ChannelKey::try_from);
                channel.keys = Some(keys.collect::<Result<_, _>>()?);
                channel.url = Some(url);
            }
            ChannelConfig::Telegram { chat_id, chat_title, chat_kind } => {
                channel.own_bot = Some(info.own_bot);
                (channel.chat_id, channel.chat_title) = (chat_id, chat_title);
                channel.chat_kind = chat_kind.map(|kind| match kind {
                    ChatKind::Private => "private",
                    ChatKind::Group => "group",
                    ChatKind::Supergroup => "supergroup",
                    ChatKind::Channel => "channel",
                });
            }
        }
        Ok(channel)
    }
}

impl TryFrom<SigningKeyInfo> for ChannelKey {
    type Error = ApiError;

    fn try_from(info: SigningKeyInfo) -> Result<Self, ApiError> {
        Ok(Self {
            signature: info.scheme.as_str(),
            public_key: info.public_key,
            created_at: rfc3339_millis(info.created_at)?,
            ends_at: info.ends_at.map(rfc3339_millis).transpose()?,
        })
    }
}
