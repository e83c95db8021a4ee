//! What the real services refuse.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, header};
use http_body_util::Full;
use serde_json::{Value, json};

/// Slack: one message a second from a webhook.
const SLACK_PACE: (usize, Duration) = (1, Duration::from_secs(1));
/// Discord: five in two seconds, and thirty a minute.
const DISCORD_PACES: [(usize, Duration); 2] =
    [(5, Duration::from_secs(2)), (30, Duration::from_secs(60))];

/// When each webhook was sent to.
#[derive(Debug, Default)]
pub(super) struct Paces {
    taken: BTreeMap<String, VecDeque<Instant>>,
    messages: u64,
}

impl Paces {
    /// Takes a message, or says how long to wait.
    fn take(&mut self, path: &str, limits: &[(usize, Duration)]) -> Result<(), Duration> {
        let now = Instant::now();
        let taken = self.taken.entry(path.to_owned()).or_default();
        for (count, within) in limits {
            let recent = taken.iter().rev().take_while(|at| now.duration_since(**at) < *within);
            let recent: Vec<&Instant> = recent.collect();
            if recent.len() >= *count {
                let oldest = recent.get(count - 1).map_or(now, |at| **at);
                return Err(*within - now.duration_since(oldest));
            }
        }
        taken.push_back(now);
        Ok(())
    }
}

/// What a service says to a message.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) status: u16,
    pub(super) violations: Vec<String>,
    body: String,
    retry_after: Option<String>,
}

impl Verdict {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, violations: Vec::new(), body: body.into(), retry_after: None }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let mut builder = Response::builder().status(self.status);
        if let Some(wait) = &self.retry_after {
            builder = builder.header(header::RETRY_AFTER, wait);
        }
        builder.body(Full::new(Bytes::from(self.body))).expect("constants are valid")
    }
}

pub(super) fn judge(
    path: &str,
    headers: &BTreeMap<String, String>,
    body: &str,
    paces: &mut Paces,
) -> Verdict {
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let json = headers.get("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if path.starts_with("/services/") {
        slack(path, &message, json, paces)
    } else if path.starts_with("/api/webhooks/") {
        discord(path, &message, json, paces)
    } else {
        standard(headers, &message, json)
    }
}

fn slack(path: &str, message: &Value, json: bool, paces: &mut Paces) -> Verdict {
    let mut violations = Vec::new();
    if !json || !message.is_object() {
        violations.push("invalid_payload".to_owned());
    }
    if message["text"].as_str().is_none_or(|text| text.is_empty() || units(text) > 40_000) {
        violations.push("no_text".to_owned());
    }
    let blocks = message["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if blocks.len() > 50 {
        violations.push("invalid_blocks: more than 50".to_owned());
    }
    for block in blocks {
        let text = &block["text"];
        let length = text["text"].as_str().map_or(0, units);
        let kind = text["type"].as_str().unwrap_or_default();
        if block["type"] != "section" || !["plain_text", "mrkdwn"].contains(&kind) {
            violations.push(format!("invalid_blocks: {block}"));
        }
        if !(1..=3000).contains(&length) {
            violations.push(format!("invalid_blocks: a text of {length} characters"));
        }
    }
    let all: usize =
        blocks.iter().filter_map(|block| block["text"]["text"].as_str()).map(units).sum();
    if all > 13_000 {
        violations.push(format!("msg_too_long: {all} characters"));
    }
    if let Err(wait) = paces.take(path, &[SLACK_PACE]) {
        let seconds = wait.as_secs() + 1;
        let mut verdict = Verdict::new(429, "rate_limited");
        verdict.violations.push("rate_limited".to_owned());
        verdict.retry_after = Some(seconds.to_string());
        return verdict;
    }
    match violations.first() {
        None => Verdict::new(200, "ok"),
        Some(first) => {
            Verdict { violations: violations.clone(), ..Verdict::new(400, first.clone()) }
        }
    }
}

fn discord(path: &str, message: &Value, json: bool, paces: &mut Paces) -> Verdict {
    let mut violations = Vec::new();
    let length = message["content"].as_str().map_or(0, units);
    if !json || !(1..=2000).contains(&length) {
        violations.push(format!("content of {length} characters"));
    }
    let webhook = path.split('?').next().unwrap_or_default();
    if let Err(wait) = paces.take(webhook, &DISCORD_PACES) {
        let millis = wait.as_millis() + 1;
        let wait = format!("{}.{:03}", millis / 1000, millis % 1000);
        let number: Value = serde_json::from_str(&wait).unwrap_or_default();
        let told = json!({ "message": "You are being rate limited.", "retry_after": number, "global": false });
        let mut verdict = Verdict::new(429, told.to_string());
        verdict.violations.push("rate limited".to_owned());
        // The header is in whole seconds, rounded up.
        verdict.retry_after = Some(millis.div_ceil(1000).to_string());
        return verdict;
    }
    if let Some(first) = violations.first() {
        let told = json!({ "code": 50035, "message": "Invalid Form Body", "errors": first });
        return Verdict { violations, ..Verdict::new(400, told.to_string()) };
    }
    if !path.contains("wait=true") {
        return Verdict::new(204, "");
    }
    paces.messages += 1;
    let id = 1_000_000_000_000_000_000_u64 + paces.messages;
    Verdict::new(200, json!({ "id": id.to_string(), "content": message["content"] }).to_string())
}

fn standard(headers: &BTreeMap<String, String>, message: &Value, json: bool) -> Verdict {
    let mut violations = Vec::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        if headers.get(name).is_none_or(String::is_empty) {
            violations.push(format!("no {name}"));
        }
    }
    let seconds = headers.get("webhook-timestamp").and_then(|text| text.parse::<u64>().ok());
    if seconds.is_none() {
        violations.push("webhook-timestamp is no number of seconds".to_owned());
    }
    let whole = message["type"].is_string()
        && message["timestamp"].is_string()
        && message["data"].is_object();
    if !json || !whole {
        violations.push("the body has no type, timestamp and data".to_owned());
    }
    let status = if violations.is_empty() { 204 } else { 400 };
    Verdict { violations, ..Verdict::new(status, "") }
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
