//! Slack's incoming webhooks: plain text in blocks, so that nothing in it is markup.

use std::time::Duration;

use async_trait::async_trait;
use lookout_store::{ChannelConfig, ChannelSecrets};
use lookout_types::Secret;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use url::Url;

use super::answer::{Answer, fetch, seconds};
use super::digest::{cut, pieces, subject, units};
use super::guard::plain_client;
use super::{Guard, Pace, Parcel, Receipt, SendError, Sender, SetupError, wrong_kind};

/// Longest text of a section block, in characters.
const SECTION_MAX: usize = 3000;
/// Longest message over all its blocks: above about 13,000 Slack answers `msg_too_long`.
const MESSAGE_MAX: usize = 10_000;
/// Longest text of the notification that goes with the blocks.
const NOTIFICATION_MAX: usize = 200;
/// Most alerts of one message: each has a block, of which 50 are allowed.
const ITEMS_MAX: usize = 20;
/// Slack's documented rate of a webhook.
const PACE: Duration = Duration::from_secs(1);
/// Slack answers with a word.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Sends to Slack.
#[derive(Debug)]
pub struct Slack {
    client: reqwest::Client,
    instead: Option<Url>,
}

impl Slack {
    /// Through this guard; or to another server than Slack, wherever it is.
    ///
    /// # Errors
    /// [`SetupError::Client`].
    pub fn new(guard: &Guard, instead: Option<Url>) -> Result<Self, SetupError> {
        let client = if instead.is_some() { plain_client()? } else { guard.client().clone() };
        Ok(Self { client, instead })
    }
}

#[async_trait]
impl Sender for Slack {
    async fn send(
        &self,
        config: &ChannelConfig,
        secrets: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let ChannelConfig::Slack {} = config else { return Err(wrong_kind(config)) };
        let url = service_url(config, secrets, self.instead.as_ref())?;
        let body = message(parcel).to_string();
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        judge(&fetch(request, ANSWER_BYTES_MAX).await?)
    }

    fn items_max(&self, _: &ChannelConfig) -> usize {
        ITEMS_MAX
    }

    fn paces(&self, _: &ChannelConfig, secrets: &ChannelSecrets) -> Vec<Pace> {
        let url = secrets.url.as_ref().map_or("", Secret::expose);
        vec![Pace::new("slack", url, PACE)]
    }
}

/// The secret URL of a channel, with the service replaced where the operator says so. It is
/// checked again: what is in the store is no reason to trust it.
pub(super) fn service_url(
    config: &ChannelConfig,
    secrets: &ChannelSecrets,
    instead: Option<&Url>,
) -> Result<Url, SendError> {
    let mut url =
        config.service_url(secrets).map_err(|error| SendError::refused(error.to_string()))?;
    if let Some(instead) = instead {
        let moved = url.set_scheme(instead.scheme()).is_ok()
            && url.set_host(instead.host_str()).is_ok()
            && url.set_port(instead.port()).is_ok();
        if !moved {
            return Err(SendError::refused("the server to send to instead cannot be used"));
        }
    }
    Ok(url)
}

/// The three characters that mean something to Slack in every text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cost(text: &str) -> usize {
    units(&escape(text))
}

fn message(parcel: &Parcel) -> Value {
    let blocks: Vec<Value> = pieces(parcel, MESSAGE_MAX, cost)
        .iter()
        .flat_map(|piece| sections(piece))
        .map(|text| {
            // Plain text knows no markup; `emoji` would still turn `:x:` into a picture.
            let text = json!({ "type": "plain_text", "text": escape(&text), "emoji": false });
            json!({ "type": "section", "text": text })
        })
        .collect();
    json!({
        "text": escape(&cut(&subject(parcel), NOTIFICATION_MAX, cost)),
        "blocks": blocks,
        "mrkdwn": false,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// A text in parts that fit a block each.
fn sections(text: &str) -> Vec<String> {
    let mut sections = Vec::new();
    let (mut current, mut size) = (String::new(), 0);
    for character in text.chars() {
        let more = cost(character.encode_utf8(&mut [0; 4]));
        if size + more > SECTION_MAX {
            sections.push(std::mem::take(&mut current));
            size = 0;
        }
        current.push(character);
        size += more;
    }
    // Slack refuses a block without text.
    sections.push(current);
    sections.retain(|section| !section.trim().is_empty());
    if sections.is_empty() {
        sections.push("(no text)".to_owned());
    }
    sections
}

fn judge(answer: &Answer) -> Result<Receipt, SendError> {
    let status = answer.status;
    match status {
        _ if status.is_success() => Ok(Receipt::default()),
        StatusCode::TOO_MANY_REQUESTS => {
            let after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Err(SendError::too_many(after.and_then(seconds), answer.told()))
        }
        // action_prohibited, channel_not_found, no_service, channel_is_archived, invalid_token
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(SendError::ChannelGone { reason: answer.told() })
        }
        _ if status.is_client_error() || status.is_redirection() => {
            Err(SendError::refused(answer.told()))
        }
        _ => Err(SendError::retry(answer.told())),
    }
}
