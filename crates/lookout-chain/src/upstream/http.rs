//! Calls over HTTP: one pooled client per upstream, with a timeout and a cap on every answer.

use std::sync::Once;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use url::Url;

use super::Request;
use super::fault::Fault;
use crate::redact;
use crate::wire::{self, Reply};

/// Longest wait for a connection, so that a dead host costs little of a request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections kept per upstream; more than that are in use only under load.
const IDLE_MAX: usize = 64;

/// An HTTP or HTTPS endpoint.
pub(super) struct HttpTransport {
    client: reqwest::Client,
    url: Url,
    response_bytes_max: usize,
}

impl std::fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL's path or query may be a key.
        f.debug_struct("HttpTransport").field("url", &redact(&self.url)).finish_non_exhaustive()
    }
}

impl HttpTransport {
    pub(super) fn new(url: Url, response_bytes_max: usize) -> Self {
        install_tls_provider();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .tcp_nodelay(true)
            // A redirect could send keys to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lookout/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the client's options are constants that build");
        Self { client, url, response_bytes_max }
    }

    pub(super) async fn call(
        &self,
        method: &str,
        params: &str,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, Fault> {
        let body = match request {
            Request::Batch => wire::batch_body(method, params),
            Request::One | Request::Range(_) => wire::request_body(wire::ID, method, params),
        };
        let exchange = self.exchange(body, request);
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Timeout(timeout)),
        }
    }

    async fn exchange(&self, body: Vec<u8>, request: Request) -> Result<Reply, Fault> {
        let sent = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        let mut response = sent.map_err(|e| transport_fault(&e))?;
        let status = response.status();
        if matches!(status.as_u16(), 429 | 503) {
            let retry_after = retry_after(response.headers());
            if status.as_u16() == 429 || retry_after.is_some() {
                return Err(Fault::RateLimited { retry_after });
            }
        }
        let body = self.read(&mut response).await?;
        let reply = match request {
            Request::One => wire::parse_reply(&body),
            Request::Batch => wire::parse_batch_reply(&body),
            Request::Range(_) => wire::parse_open_reply(&body),
        };
        match reply {
            // Several nodes send JSON-RPC errors with a 4xx status; the error is what counts.
            Ok(reply @ Reply::Error(_)) => Ok(reply),
            _ if status.as_u16() == 413 => Err(Fault::Refused(413)),
            _ if request == Request::Batch && matches!(status.as_u16(), 400 | 405 | 422) => {
                Err(Fault::Refused(status.as_u16()))
            }
            _ if !status.is_success() => Err(Fault::Status(status.as_u16())),
            Ok(reply) => Ok(reply),
            Err(wrong) => Err(wrong.into()),
        }
    }

    async fn read(&self, response: &mut reqwest::Response) -> Result<Bytes, Fault> {
        let announced = response.content_length().unwrap_or(0);
        let cap = self.response_bytes_max;
        if usize::try_from(announced).is_ok_and(|length| length > cap) {
            return Err(Fault::TooLarge(cap));
        }
        let Some(first) = response.chunk().await.map_err(|e| transport_fault(&e))? else {
            return Ok(Bytes::new());
        };
        // Small answers come in one piece and need no second buffer.
        let Some(second) = response.chunk().await.map_err(|e| transport_fault(&e))? else {
            return if first.len() > cap { Err(Fault::TooLarge(cap)) } else { Ok(first) };
        };
        // An announced length is at most the cap here.
        let room = usize::try_from(announced).unwrap_or(0).max(first.len() + second.len());
        let mut whole = BytesMut::with_capacity(room);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = response.chunk().await.map_err(|e| transport_fault(&e))? {
            if whole.len() + chunk.len() > cap {
                return Err(Fault::TooLarge(cap));
            }
            whole.extend_from_slice(&chunk);
        }
        if whole.len() > cap { Err(Fault::TooLarge(cap)) } else { Ok(whole.freeze()) }
    }
}

/// Sorts a transport error without its text, which would contain the URL and its keys.
fn transport_fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() { Fault::Connect } else { Fault::Broken }
}

/// `Retry-After` in seconds; its date form is rare on RPC endpoints and read as "no time named".
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Chooses ring as rustls' provider, once per process.
pub(super) fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Failing means that someone else installed one already, which serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
