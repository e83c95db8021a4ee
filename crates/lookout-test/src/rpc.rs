//! A plain JSON-RPC 2.0 client over HTTP.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Longest that a test waits for one answer; far above anything but a hang.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A JSON-RPC endpoint.
#[derive(Clone)]
pub struct Rpc {
    url: String,
    http: reqwest::Client,
}

impl Rpc {
    /// An endpoint at this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: http_client() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a body as it is and gives the whole answer: status and parsed body.
    ///
    /// # Errors
    /// When there is no answer, or one that is not JSON.
    pub async fn exchange(&self, body: &Value) -> Result<(u16, Value)> {
        let answer = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .with_context(|| format!("no answer from {}", self.url))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.context("the answer broke off")?;
        let value = serde_json::from_slice(&bytes).with_context(|| {
            format!("status {status}, not JSON: {}", String::from_utf8_lossy(&bytes))
        })?;
        Ok((status, value))
    }

    /// One call; the `result` or the `error` as the server wrote it.
    ///
    /// # Errors
    /// When there is no answer, or one that is no JSON-RPC answer.
    pub async fn outcome(&self, method: &str, params: Value) -> Result<Result<Value, Value>> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (status, answer) = self.exchange(&body).await?;
        if let Some(error) = answer.get("error") {
            return Ok(Err(error.clone()));
        }
        match answer.get("result") {
            Some(result) => Ok(Ok(result.clone())),
            None => bail!("{method}: status {status}, no JSON-RPC answer: {answer}"),
        }
    }

    /// One call that is expected to work.
    ///
    /// # Errors
    /// When there is no answer, or an error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        match self.outcome(method, params).await? {
            Ok(result) => Ok(result),
            Err(error) => bail!("{method}: {error}"),
        }
    }

    /// One call whose result is a 0x-number of at most 64 bits.
    ///
    /// # Errors
    /// When there is no answer, an error, or something else than such a number.
    pub async fn number(&self, method: &str, params: Value) -> Result<u64> {
        let result = self.call(method, params).await?;
        parse_quantity(&result).with_context(|| format!("{method} answered {result}"))
    }
}

/// A 0x-number of at most 64 bits, as JSON-RPC writes quantities.
///
/// # Errors
/// When it is something else.
pub fn parse_quantity(value: &Value) -> Result<u64> {
    let text = value.as_str().context("not a string")?;
    let digits = text.strip_prefix("0x").context("no 0x")?;
    u64::from_str_radix(digits, 16).context("not a 64-bit number")
}

/// A client for tests: no redirects, no proxies, own timeouts.
///
/// # Panics
/// When TLS cannot be set up.
pub fn http_client() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // A provider that the test installed before is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client without TLS roots can always be built")
}
