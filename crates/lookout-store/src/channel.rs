//! What a channel is: where it leads, what opens it, and in which state it is.

use lookout_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{SignatureScheme, SigningKey, StoreError};

/// Where alerts are sent, as its owner set it, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ChannelConfig {
    /// A Telegram chat; known once somebody said `/start` there, or named by its owner.
    Telegram {
        /// The chat's id; negative for groups.
        chat_id: Option<i64>,
        /// The chat's title, or the name of the person.
        chat_title: Option<String>,
        /// What kind of chat it is, which decides how fast it may be sent to.
        chat_kind: Option<ChatKind>,
    },
    /// A Slack incoming webhook; its URL is a secret.
    Slack {},
    /// A Discord webhook; its URL is a secret.
    Discord {},
    /// A receiver of Standard Webhooks.
    Webhook {
        /// Where it listens.
        url: String,
    },
    /// Mail.
    Email {
        /// The recipients.
        to: Vec<String>,
    },
}

/// Kinds of chats on Telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChatKind {
    /// With one person.
    Private,
    /// A small group.
    Group,
    /// A large group.
    Supergroup,
    /// A broadcast channel.
    Channel,
}

/// What opens a channel. `Debug` shows none of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSecrets {
    /// The token of a Telegram bot of the tenant's own; `None` for the server's.
    #[serde(default, with = "optional_secret", skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The URL of a Slack or Discord webhook.
    #[serde(default, with = "optional_secret", skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The keys with which webhooks are signed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing: Vec<SigningKey>,
}

/// Secrets in the column that is for them.
pub(crate) mod plain_secret {
    use lookout_types::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

mod optional_secret {
    use lookout_types::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde's `with` asks for")]
    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

/// Whether a channel is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// A Telegram chat that has not said `/start` yet.
    Unlinked,
    /// It is sent to.
    Active,
    /// Its other end is gone; its deliveries wait until it is enabled again, up to 75 hours.
    Disabled,
}

impl ChannelState {
    /// Its name in the store and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unlinked => "unlinked",
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        let all = [Self::Unlinked, Self::Active, Self::Disabled];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| StoreError::Corrupt(format!("`{text}` is no state of a channel")))
    }
}

/// A channel, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its id, a `UUIDv7`.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// A name for people.
    pub name: String,
    /// Where it leads.
    pub config: ChannelConfig,
    /// Whether it has a Telegram bot of its own.
    pub own_bot: bool,
    /// The keys with which it signs, without their secrets, oldest first.
    pub signing: Vec<SigningKeyInfo>,
    /// Whether it is sent to.
    pub state: ChannelState,
    /// Why it is disabled.
    pub reason: Option<String>,
    /// Alerts are held back until then.
    pub muted_until: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// When it was deleted; `None` while it is not.
    pub deleted_at: Option<UnixMillis>,
}

/// A signing key as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyInfo {
    /// How it signs.
    pub scheme: SignatureScheme,
    /// For ed25519, the key that receivers check with, as `whpk_…`.
    pub public_key: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it stops signing; `None` for never.
    pub ends_at: Option<UnixMillis>,
}

/// A channel to be made.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// The tenant it belongs to; created when unknown.
    pub tenant: String,
    /// A name for people.
    pub name: String,
    /// Where it leads.
    pub config: ChannelConfig,
    /// What opens it.
    pub secrets: ChannelSecrets,
}

/// What becomes of a channel; it keeps its kind.
#[derive(Debug, Clone)]
pub struct ChannelChange {
    /// Its name from now on.
    pub name: String,
    /// Where it leads from now on. A Telegram chat without an id keeps the one it has.
    pub config: ChannelConfig,
    /// A new token; `None` keeps the old one.
    pub token: Option<Secret>,
    /// A new secret URL; `None` keeps the old one.
    pub url: Option<Secret>,
}

impl ChannelConfig {
    /// The name of its kind in the store and in answers.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Telegram { .. } => "telegram",
            Self::Slack {} => "slack",
            Self::Discord {} => "discord",
            Self::Webhook { .. } => "webhook",
            Self::Email { .. } => "email",
        }
    }

    /// Whether it leads somewhere yet.
    pub(crate) fn state(&self) -> ChannelState {
        match self {
            Self::Telegram { chat_id: None, .. } => ChannelState::Unlinked,
            _ => ChannelState::Active,
        }
    }

    /// From its column.
    pub(crate) fn read(text: &str, id: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text)
            .map_err(|error| StoreError::Corrupt(format!("settings of channel `{id}`: {error}")))
    }

    /// For its column.
    pub(crate) fn write(&self) -> Result<String, StoreError> {
        serde_json::to_string(self)
            .map_err(|error| StoreError::Invalid(format!("settings of a channel: {error}")))
    }
}

impl ChannelSecrets {
    /// From their column. The error does not show them.
    pub(crate) fn read(text: &str, id: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let reason = format!("secrets of channel `{id}`, line {line}, column {column}");
            StoreError::Corrupt(reason)
        })
    }

    /// For their column.
    pub(crate) fn write(&self) -> Result<String, StoreError> {
        serde_json::to_string(self)
            .map_err(|error| StoreError::Invalid(format!("secrets of a channel: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_and_secrets_come_back_as_they_were() {
        for config in [
            ChannelConfig::Telegram { chat_id: None, chat_title: None, chat_kind: None },
            ChannelConfig::Telegram {
                chat_id: Some(-100_123),
                chat_title: Some("ops".into()),
                chat_kind: Some(ChatKind::Supergroup),
            },
            ChannelConfig::Slack {},
            ChannelConfig::Discord {},
            ChannelConfig::Webhook { url: "https://example.com/".into() },
            ChannelConfig::Email { to: vec!["a@example.com".into()] },
        ] {
            let text = config.write().unwrap();
            assert_eq!(ChannelConfig::read(&text, "c").unwrap(), config, "{text}");
            assert!(text.contains(&format!("\"kind\":\"{}\"", config.kind())), "{text}");
        }
        let secrets = ChannelSecrets {
            token: Some(Secret::new("1:token")),
            url: Some(Secret::new("https://hooks.example/x")),
            signing: vec![SigningKey::generate(SignatureScheme::Ed25519, 5).unwrap()],
        };
        let text = secrets.write().unwrap();
        assert_eq!(ChannelSecrets::read(&text, "c").unwrap(), secrets);
        assert_eq!(ChannelSecrets::read("{}", "c").unwrap(), ChannelSecrets::default());
    }

    #[test]
    fn the_form_in_the_column_is_fixed() {
        let config = ChannelConfig::Telegram {
            chat_id: Some(7),
            chat_title: None,
            chat_kind: Some(ChatKind::Private),
        };
        let expected = json!({
            "kind": "telegram", "chatId": 7, "chatTitle": null, "chatKind": "private",
        });
        assert_eq!(serde_json::to_value(config).unwrap(), expected);
        let slack: ChannelConfig = serde_json::from_value(json!({ "kind": "slack" })).unwrap();
        assert_eq!(slack, ChannelConfig::Slack {});
    }

    #[test]
    fn nothing_secret_shows_in_debug_or_in_errors() {
        let secrets = ChannelSecrets {
            token: Some(Secret::new("hidden-token")),
            url: Some(Secret::new("hidden-url")),
            signing: vec![SigningKey::generate(SignatureScheme::Hmac, 0).unwrap()],
        };
        let shown = format!("{secrets:?}");
        assert!(!shown.contains("hidden") && !shown.contains("whsec"), "{shown}");
        let broken = r#"{"token": {"hidden": 1}}"#;
        let error = ChannelSecrets::read(broken, "c").unwrap_err().to_string();
        assert!(!error.contains("hidden"), "{error}");
    }
}
