//! Standard Webhooks: one alert a request, signed, with an id that stays over all tries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lookout_store::{Alert, AlertState, ChannelConfig, ChannelSecrets};
use lookout_types::{Clock, UnixMillis};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::answer::{Answer, fetch, retry_after};
use super::{
    Guard, Pace, Parcel, ParcelKind, Receipt, SendError, Sender, digest, signature, wrong_kind,
};

/// How much of an answer is read: enough to say what was wrong.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Between two requests to one host: 50 a second are no burden to any receiver, and no tenant can
/// turn the server against somebody.
const PACE: Duration = Duration::from_millis(20);

/// Sends to receivers of Standard Webhooks.
pub struct Webhook {
    guard: Guard,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Through this guard.
    pub fn new(guard: Guard, clock: Arc<dyn Clock>) -> Self {
        Self { guard, clock }
    }
}

#[async_trait]
impl Sender for Webhook {
    async fn send(
        &self,
        config: &ChannelConfig,
        secrets: &ChannelSecrets,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let ChannelConfig::Webhook { url } = config else { return Err(wrong_kind(config)) };
        let url = self.guard.check(url)?;
        let now = self.clock.now();
        let body = body(parcel, now)?;
        let signatures = signature::header(&secrets.signing, &parcel.id, &body, now)
            .map_err(|error| SendError::refused(error.to_string()))?;
        if signatures.is_empty() {
            return Err(SendError::refused("the channel has no signing key; rotate it once"));
        }
        let request = self
            .guard
            .client()
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &parcel.id)
            .header("webhook-timestamp", signature::timestamp(now))
            .header("webhook-signature", signatures)
            .body(body);
        judge(&fetch(request, ANSWER_BYTES_MAX).await?, now)
    }

    fn items_max(&self, _: &ChannelConfig) -> usize {
        // One id, one signature, one thing that happened.
        1
    }

    fn paces(&self, config: &ChannelConfig, _: &ChannelSecrets) -> Vec<Pace> {
        let ChannelConfig::Webhook { url } = config else { return Vec::new() };
        let origin = url.parse::<url::Url>().map(|url| url.origin().ascii_serialization());
        // A URL that cannot be read is refused when it is sent to.
        vec![Pace::of_host("webhook", &origin.unwrap_or_default(), PACE)]
    }
}

/// What an answer means. Receivers deploy, so that nothing but "gone" is for good.
fn judge(answer: &Answer, now: UnixMillis) -> Result<Receipt, SendError> {
    let status = answer.status;
    match status {
        _ if status.is_success() => Ok(Receipt::default()),
        StatusCode::GONE => Err(SendError::ChannelGone { reason: answer.told() }),
        _ if status.is_redirection() => Err(SendError::refused(format!(
            "the receiver answered {}, and redirects are not followed; set the channel's url to \
             where it leads",
            status.as_u16()
        ))),
        StatusCode::TOO_MANY_REQUESTS => {
            Err(SendError::too_many(retry_after(&answer.headers, now), answer.told()))
        }
        _ => Err(SendError::Retry {
            after: retry_after(&answer.headers, now),
            reason: answer.told(),
        }),
    }
}

/// The body of a request, as Standard Webhooks suggests.
#[derive(Serialize)]
struct Body<T> {
    #[serde(rename = "type")]
    name: &'static str,
    timestamp: String,
    data: T,
}

/// The body; the same for every try, because the signature is over it and receivers compare.
fn body(parcel: &Parcel, now: UnixMillis) -> Result<String, SendError> {
    let [item] = parcel.items.as_slice() else {
        return Err(SendError::refused("a webhook carries exactly one alert"));
    };
    let name = match parcel.kind {
        ParcelKind::Alert => "alert.confirmed",
        ParcelKind::Retraction => "alert.retracted",
        ParcelKind::Test => "channel.test",
    };
    let timestamp = time(created_at(&parcel.id).unwrap_or(now))?;
    let body = match &item.alert {
        Some(alert) => {
            serde_json::to_string(&Body { name, timestamp, data: told(alert, parcel.kind) })
        }
        None => {
            let data = json!({ "text": digest::TEST_TEXT });
            serde_json::to_string(&Body { name, timestamp, data })
        }
    };
    body.map_err(|error| SendError::refused(format!("the alert cannot be written: {error}")))
}

/// The alert as it was when the delivery was made: whatever has become of it since is told by
/// another.
fn told(alert: &Alert, kind: ParcelKind) -> Alert {
    let mut told = alert.clone();
    match kind {
        ParcelKind::Alert => (told.state, told.retracted_at) = (AlertState::Confirmed, None),
        ParcelKind::Retraction => told.state = AlertState::Retracted,
        ParcelKind::Test => {}
    }
    told
}

/// When the delivery was made: its id, a `UUIDv7`, begins with the time.
fn created_at(id: &str) -> Option<UnixMillis> {
    let (seconds, nanos) = Uuid::try_parse(id).ok()?.get_timestamp()?.to_unix();
    let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?;
    millis.checked_add(i64::from(nanos / 1_000_000))
}

fn time(millis: UnixMillis) -> Result<String, SendError> {
    let time = Timestamp::from_millisecond(millis);
    time.map(|time| time.to_string())
        .map_err(|error| SendError::refused(format!("a time of the alert is none: {error}")))
}
