//! Calls to the Bot API. The token is part of every URL, so no error may show one.

use std::time::Duration;

use lookout_types::Secret;
use serde::Deserialize;
use serde_json::Value;

/// Longest answer read, in bytes: a hundred updates with the longest texts.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest reason taken over from an answer, in characters.
const REASON_CHARS_MAX: usize = 300;

/// A Bot API server.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
}

/// Why a call did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// Telegram answered, and says no.
    #[error("Telegram answers {code}: {description}")]
    Refused {
        code: u16,
        description: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// The number that a group has now.
        moved_to: Option<i64>,
    },
    /// No answer, or none that can be understood.
    #[error("{0}")]
    Unreachable(String),
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    result: Value,
    error_code: Option<u16>,
    description: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Api {
    pub(crate) fn new(http: reqwest::Client, base: &str) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned() }
    }

    /// The result of a method.
    pub(crate) async fn call(
        &self,
        token: &Secret,
        method: &str,
        request: &Value,
        timeout: Duration,
    ) -> Result<Value, ApiError> {
        // Anything else could lead to another path of the server.
        if !is_token(token.expose()) {
            let description = "it does not have the form of a token".to_owned();
            return Err(ApiError::Refused {
                code: 401,
                description,
                retry_after: None,
                moved_to: None,
            });
        }
        let url = format!("{}/bot{}/{method}", self.base, token.expose());
        let post = self.http.post(url).timeout(timeout);
        let post = post.header("content-type", "application/json").body(request.to_string());
        let unreachable = |error: reqwest::Error| {
            let reason = if error.is_timeout() {
                format!("Telegram did not answer within {} s", timeout.as_secs())
            } else {
                let error = error.without_url();
                format!("Telegram cannot be reached: {}", causes(&error))
            };
            ApiError::Unreachable(clean(&reason, token))
        };
        let mut response = post.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                let reason = format!("Telegram's answer has more than {ANSWER_BYTES_MAX} bytes");
                return Err(ApiError::Unreachable(reason));
            }
        }
        let Ok(answer) = serde_json::from_slice::<Answer>(&bytes) else {
            let reason = format!("Telegram's answer is not JSON, its status {status}");
            return Err(ApiError::Unreachable(reason));
        };
        if answer.ok {
            return Ok(answer.result);
        }
        Err(ApiError::Refused {
            code: answer.error_code.unwrap_or(status),
            description: clean(answer.description.as_deref().unwrap_or("no reason"), token),
            retry_after: answer.parameters.retry_after.map(Duration::from_secs),
            moved_to: answer.parameters.migrate_to_chat_id,
        })
    }
}

/// `123456:ABC-def_…`
fn is_token(token: &str) -> bool {
    let Some((id, key)) = token.split_once(':') else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_digit())
        && !key.is_empty()
        && key.bytes().all(plain)
        && token.len() <= 256
}

/// An error and what caused it, in one line.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Somebody else's words: short, on one line, and without the token.
fn clean(text: &str, token: &Secret) -> String {
    let text = text.replace(token.expose(), "***");
    text.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}
