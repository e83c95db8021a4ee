//! Discord's webhooks: everything that would be markup is escaped, and nobody is mentioned.

use std::time::Duration;

use async_trait::async_trait;
use lookout_store::{ChannelConfig, ChannelSecrets};
use lookout_types::Secret;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use url::Url;

use super::answer::{Answer, fetch, seconds};
use super::digest::{BETWEEN, pieces, units};
use super::guard::plain_client;
use super::slack::service_url;
use super::{Guard, Pace, Parcel, Receipt, SendError, Sender, SetupError, wrong_kind};

/// Longest message, in UTF-16 units.
const MESSAGE_MAX: usize = 2000;
/// Most alerts of one message; more would hardly get a line each.
const ITEMS_MAX: usize = 20;
/// A webhook may send 5 times in 2 seconds and 30 times a minute; this keeps both.
const PACE: Duration = Duration::from_secs(2);
/// The answer is the message as Discord keeps it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Message flag: no previews of links.
const SUPPRESS_EMBEDS: u32 = 1 << 2;
/// What Discord's markdown gives a meaning to somewhere. A backslash in front of any of them
/// takes it away.
const MARKUP: &str = "\\*_~`|<>#-+[]():";

/// Sends to Discord.
#[derive(Debug)]
pub struct Discord {
    client: reqwest::Client,
    instead: Option<Url>,
}

impl Discord {
    /// Through this guard; or to another server than Discord, wherever it is.
    ///
    /// # Errors
    /// [`SetupError::Client`].
    pub fn new(guard: &Guard, instead: Option<Url>) -> Result<Self, SetupError> {
        let client = if instead.is_some() { plain_client()? } else { guard.client().clone() };
        Ok(Self { client, instead })
    }
}

#[async_trait]
impl Sender for Discord {
    async fn send(
        &self,
        config: &ChannelConfig,
        secrets: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let ChannelConfig::Discord {} = config else { return Err(wrong_kind(config)) };
        let mut url = service_url(config, secrets, self.instead.as_ref())?;
        // Otherwise the answer is empty, and nobody knows what became of the message.
        url.query_pairs_mut().append_pair("wait", "true");
        let body = message(parcel).to_string();
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        judge(&fetch(request, ANSWER_BYTES_MAX).await?)
    }

    fn items_max(&self, _: &ChannelConfig) -> usize {
        ITEMS_MAX
    }

    fn paces(&self, _: &ChannelConfig, secrets: &ChannelSecrets) -> Vec<Pace> {
        let url = secrets.url.as_ref().map_or("", Secret::expose);
        vec![Pace::new("discord", url, PACE)]
    }
}

/// The same text for a reader, without any meaning for Discord.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    // `1.` begins a list where only digits stand in front of it on its line.
    let (mut blank, mut digits) = (true, false);
    for character in text.chars() {
        match character {
            // No backslash helps against `@everyone`; a space without width does.
            '@' => escaped.push_str("@\u{200b}"),
            '.' if digits => escaped.push_str("\\."),
            markup if MARKUP.contains(markup) => escaped.extend(['\\', markup]),
            plain => escaped.push(plain),
        }
        match character {
            '\n' => (blank, digits) = (true, false),
            space if space.is_whitespace() && blank => {}
            digit if digit.is_ascii_digit() && (blank || digits) => (blank, digits) = (false, true),
            _ => (blank, digits) = (false, false),
        }
    }
    escaped
}

fn message(parcel: &Parcel) -> Value {
    let pieces = pieces(parcel, MESSAGE_MAX, |text| units(&escape(text)));
    let escaped: Vec<String> = pieces.iter().map(|piece| escape(piece)).collect();
    let mut content = escaped.join(BETWEEN);
    // Discord refuses a message without text.
    if content.trim().is_empty() {
        content = "\\(no text\\)".to_owned();
    }
    json!({
        "content": content,
        "allowed_mentions": { "parse": [] },
        "flags": SUPPRESS_EMBEDS,
    })
}

fn judge(answer: &Answer) -> Result<Receipt, SendError> {
    let status = answer.status;
    match status {
        _ if status.is_success() => {
            // Without an id the message is there all the same.
            let message: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            Ok(Receipt { message_id: message["id"].as_str().map(str::to_owned) })
        }
        StatusCode::TOO_MANY_REQUESTS => Err(SendError::too_many(wait(answer), answer.told())),
        // A deleted webhook. Going on would get the whole server's address banned.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            Err(SendError::ChannelGone { reason: answer.told() })
        }
        _ if status.is_client_error() || status.is_redirection() => {
            Err(SendError::refused(answer.told()))
        }
        _ => Err(SendError::retry(answer.told())),
    }
}

/// How long Discord wants to be left alone: the longest of what it says.
fn wait(answer: &Answer) -> Option<Duration> {
    let header = |name: &str| seconds(answer.headers.get(name)?.to_str().ok()?);
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let in_body = body["retry_after"].as_number().and_then(|wait| seconds(&wait.to_string()));
    let all = [in_body, header(RETRY_AFTER.as_str()), header("x-ratelimit-reset-after")];
    all.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_and_plain_text_is_left() {
        for (text, expected) in [
            ("1.5 ETH to 0xab", "1\\.5 ETH to 0xab"),
            ("sum 1.5, 2.5", "sum 1.5, 2.5"),
            ("1. a\n  2. b", "1\\. a\n  2\\. b"),
            ("**b** @everyone <@1>", "\\*\\*b\\*\\* @\u{200b}everyone \\<@\u{200b}1\\>"),
            ("[x](https://evil.example)", "\\[x\\]\\(https\\://evil.example\\)"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }
}
