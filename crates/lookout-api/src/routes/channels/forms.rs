//! Channels as their owners write them.

use lookout_store::{ChannelChange, ChannelConfig, SignatureScheme, SigningKey, StoreError};
use lookout_types::{Secret, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, Code};

/// The kinds of channels, as `kind` names them.
const KINDS: [&str; 5] = ["telegram", "slack", "discord", "webhook", "email"];

/// A channel to be made or changed.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) enum ChannelRequest {
    Telegram(TelegramForm),
    Slack(SlackForm),
    Discord(DiscordForm),
    Webhook(WebhookForm),
    Email(EmailForm),
}

/// A chat on Telegram.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TelegramForm {
    /// Always `telegram`.
    #[schema(pattern = "^telegram$", example = "telegram")]
    #[serde(rename = "kind")]
    _kind: String,
    /// A name for people.
    #[schema(example = "ops", min_length = 1, max_length = 100)]
    name: String,
    /// The token of a bot of your own; the server's bot when left out.
    #[schema(
        example = "123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        pattern = "^[0-9]{1,20}:[A-Za-z0-9_-]{30,128}$"
    )]
    token: Option<String>,
    /// The chat of a bot of your own. Left out, it is linked by sending the bot a code.
    #[schema(example = -1_001_234_567_890_i64)]
    chat_id: Option<i64>,
}

/// A Slack incoming webhook.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SlackForm {
    /// Always `slack`.
    #[schema(pattern = "^slack$", example = "slack")]
    #[serde(rename = "kind")]
    _kind: String,
    /// A name for people.
    #[schema(example = "ops", min_length = 1, max_length = 100)]
    name: String,
    /// The URL that Slack gave. Only a change may leave it out, and keeps the old one.
    #[schema(example = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX")]
    url: Option<String>,
}

/// A Discord webhook.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DiscordForm {
    /// Always `discord`.
    #[schema(pattern = "^discord$", example = "discord")]
    #[serde(rename = "kind")]
    _kind: String,
    /// A name for people.
    #[schema(example = "ops", min_length = 1, max_length = 100)]
    name: String,
    /// The URL that Discord gave. Only a change may leave it out, and keeps the old one.
    #[schema(example = "https://discord.com/api/webhooks/123456789012345678/XXXXXXXXXXXX")]
    url: Option<String>,
}

/// A receiver of Standard Webhooks.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WebhookForm {
    /// Always `webhook`.
    #[schema(pattern = "^webhook$", example = "webhook")]
    #[serde(rename = "kind")]
    _kind: String,
    /// A name for people.
    #[schema(example = "ops", min_length = 1, max_length = 100)]
    name: String,
    /// Where it listens: https, on the public internet, without redirects.
    #[schema(example = "https://example.com/hook", max_length = 2048)]
    url: String,
    /// How requests are signed: `v1` (HMAC-SHA256, the default) or `v1a` (ed25519). Not for changes.
    signature: Option<SignatureName>,
}

/// Recipients of mail.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EmailForm {
    /// Always `email`.
    #[schema(pattern = "^email$", example = "email")]
    #[serde(rename = "kind")]
    _kind: String,
    /// A name for people.
    #[schema(example = "ops", min_length = 1, max_length = 100)]
    name: String,
    /// The recipients.
    #[schema(example = json!(["ops@example.com"]), min_items = 1, max_items = 20)]
    to: Vec<String>,
}

/// How a webhook is signed.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SignatureName {
    /// HMAC-SHA256 with a secret that both sides hold.
    V1,
    /// ed25519; the receiver holds the public key.
    V1a,
}

impl From<SignatureName> for SignatureScheme {
    fn from(name: SignatureName) -> Self {
        match name {
            SignatureName::V1 => Self::Hmac,
            SignatureName::V1a => Self::Ed25519,
        }
    }
}

/// What a body asks for.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) config: ChannelConfig,
    pub(crate) token: Option<Secret>,
    pub(crate) url: Option<Secret>,
    pub(crate) signature: Option<SignatureScheme>,
}

impl From<Wanted> for ChannelChange {
    fn from(wanted: Wanted) -> Self {
        let Wanted { name, config, token, url, .. } = wanted;
        Self { name, config, token, url }
    }
}

/// Reads a channel out of a body.
pub(crate) fn read(bytes: &[u8]) -> Result<Wanted, ApiError> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(Code::MalformedJson, format!("the body is no JSON: {error}"))
    })?;
    let kind = body["kind"].as_str().unwrap_or_default();
    let plain = |name, config| Wanted { name, config, token: None, url: None, signature: None };
    Ok(match kind {
        "telegram" => {
            let TelegramForm { name, token, chat_id, .. } = form(&body)?;
            let config = ChannelConfig::Telegram { chat_id, chat_title: None, chat_kind: None };
            Wanted { token: token.map(Secret::new), ..plain(name, config) }
        }
        "slack" => {
            let SlackForm { name, url, .. } = form(&body)?;
            Wanted { url: url.map(Secret::new), ..plain(name, ChannelConfig::Slack {}) }
        }
        "discord" => {
            let DiscordForm { name, url, .. } = form(&body)?;
            Wanted { url: url.map(Secret::new), ..plain(name, ChannelConfig::Discord {}) }
        }
        "webhook" => {
            let WebhookForm { name, url, signature, .. } = form(&body)?;
            let signature = signature.map(SignatureScheme::from);
            Wanted { signature, ..plain(name, ChannelConfig::Webhook { url }) }
        }
        "email" => {
            let EmailForm { name, to, .. } = form(&body)?;
            plain(name, ChannelConfig::Email { to })
        }
        _ => {
            let detail = format!("`kind` is one of {}", KINDS.join(", "));
            return Err(ApiError::new(Code::InvalidBody, detail));
        }
    })
}

/// A part of a body, with the place of what is wrong in it.
pub(crate) fn form<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let (path, reason) = (error.path().to_string(), error.inner());
        let detail = match path.as_str() {
            "." => format!("the body is not as expected: {reason}"),
            path => format!("`{path}`: {reason}"),
        };
        ApiError::new(Code::InvalidBody, detail.chars().take(300).collect::<String>())
    })
}

/// A new key of this kind.
pub(crate) fn key(scheme: SignatureScheme, now: UnixMillis) -> Result<SigningKey, StoreError> {
    SigningKey::generate(scheme, now)
}
