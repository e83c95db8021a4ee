//! What HTTP receivers answer, and what it means for another try.

use std::error::Error as _;
use std::time::{Duration, UNIX_EPOCH};

use lookout_types::UnixMillis;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};

use super::SendError;
use super::guard::Blocked;

/// Longest wait that a receiver can ask for: a day. Beyond, its clock or its unit is wrong.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest part of an answer that is shown to the channel's owner, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// An answer, as much of it as was wanted.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The beginning of the body as one line without control characters.
    pub(crate) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .filter(|c| !c.is_control())
            .take(SHOWN_CHARS_MAX)
            .collect();
        line.trim().to_owned()
    }

    /// The status with what the receiver said about it.
    pub(crate) fn told(&self) -> String {
        let (status, shown) = (self.status.as_u16(), self.shown());
        if shown.is_empty() {
            format!("the receiver answered {status}")
        } else {
            format!("the receiver answered {status}: {shown}")
        }
    }
}

/// Sends a request and reads up to `body_bytes_max` of the answer.
pub(crate) async fn fetch(
    request: RequestBuilder,
    body_bytes_max: usize,
) -> Result<Answer, SendError> {
    let mut response = request.send().await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    // The status decides; a body that breaks off takes nothing back.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = body_bytes_max.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= body_bytes_max {
            break;
        }
    }
    Ok(Answer { status, headers, body })
}

/// A request without an answer. No text of it holds the URL, which may be secret.
fn failed(error: reqwest::Error) -> SendError {
    let mut cause = error.source();
    let mut innermost = None;
    while let Some(inner) = cause {
        if let Some(blocked) = inner.downcast_ref::<Blocked>() {
            return SendError::refused(blocked.to_string());
        }
        innermost = Some(inner.to_string());
        cause = inner.source();
    }
    if error.is_timeout() {
        return SendError::retry("the receiver did not answer in time");
    }
    let what =
        if error.is_connect() { "cannot connect to the receiver" } else { "the connection broke" };
    let without = innermost.unwrap_or_else(|| error.without_url().to_string());
    SendError::retry(format!("{what}: {without}"))
}

/// `Retry-After`: seconds, whole or not, or a time. `None` when that is no wait.
pub(crate) fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = seconds(text).or_else(|| {
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(u64::try_from(now).ok()?);
        Some(at.saturating_sub(now))
    })?;
    Some(wait.min(RETRY_AFTER_MAX)).filter(|wait| !wait.is_zero())
}

/// A decimal number of seconds, rounded up to a millisecond.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // What does not fit is longer than every limit.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX);
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    let mut millis: u64 = thousandths.parse().ok()?;
    if fraction.bytes().skip(3).any(|digit| digit != b'0') {
        millis += 1;
    }
    let wait = Duration::from_secs(whole).saturating_add(Duration::from_millis(millis));
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_exactly_and_rounded_up() {
        for (text, millis) in [
            ("0", 0),
            ("1", 1_000),
            ("0.65", 650),
            ("1.0001", 1_001),
            ("2.500000", 2_500),
            (" 3 ", 3_000),
            ("99999999999999999999999", 86_400_000),
        ] {
            assert_eq!(seconds(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "-1", "1e3", "x", ".5", "1.2.3", "NaN"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_to_come_back_is_a_wait_from_now() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            // 1994-11-06T08:49:37Z
            retry_after(&headers, 784_111_777_000)
        };
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:00 GMT"), Some(Duration::from_secs(23)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(wait("Mon, 06 Nov 2034 08:00:00 GMT"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("0"), None);
    }

    #[test]
    fn what_a_receiver_says_becomes_one_short_line() {
        let body = format!(" no\r\n\u{1b}[2Jway\0{}", "x".repeat(1000)).into_bytes();
        let answer = Answer { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new(), body };
        let told = answer.told();
        assert!(told.starts_with("the receiver answered 400: no  [2Jwayxx"), "{told}");
        assert!(told.chars().count() < 240 && !told.chars().any(char::is_control));
    }
}
