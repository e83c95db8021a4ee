//! A stand-in for what webhooks are sent to: a receiver of Standard Webhooks, Slack, Discord.
//!
//! The path decides which: `/services/…` is Slack, `/api/webhooks/…` Discord, the rest a receiver
//! of Standard Webhooks. Each keeps the rules of the real one, and a journal.

mod rules;
mod signature;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::rules::Paces;

/// Longest wait for messages that a test expects.
const ARRIVE_WITHIN: Duration = Duration::from_secs(30);

/// One thing wrong with a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Waits before it answers.
    Delay(Duration),
    /// Accepts the request and never answers.
    Silent,
    /// Answers this status instead of taking the message.
    Status {
        /// For example 503.
        code: u16,
        /// The `Retry-After` header.
        retry_after: Option<String>,
    },
    /// Answers 307 to this URL.
    Redirect(String),
    /// Takes the message and closes the connection instead of answering.
    DropAfterAccepting,
    /// Answers 200 with this many bytes.
    LongAnswer(usize),
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Its path and query.
    pub path: String,
    /// Its headers, names in lowercase.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// Whether the message was taken.
    pub accepted: bool,
    /// Of each signature in the header, whether one of the receiver's keys made it.
    pub signatures: Vec<bool>,
    /// Which rules of the service it broke.
    pub violations: Vec<String>,
}

impl Received {
    /// Its body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// The stand-in, on a port of its own; it ends with this value.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    _running: DropGuard,
}

#[derive(Debug)]
struct State {
    keys: Mutex<Vec<String>>,
    faults: Mutex<Vec<Fault>>,
    next: Mutex<VecDeque<Fault>>,
    journal: Mutex<Vec<Received>>,
    paces: Mutex<Paces>,
    count: watch::Sender<usize>,
}

impl Receiver {
    /// Starts one without faults.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            keys: Mutex::default(),
            faults: Mutex::default(),
            next: Mutex::default(),
            journal: Mutex::default(),
            paces: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let token = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&state), token.clone()));
        Ok(Self { address, state, _running: token.drop_guard() })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it answers.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The keys with which it checks signatures: `whsec_…` or `whpk_…`.
    pub fn trust(&self, keys: impl IntoIterator<Item = String>) {
        *self.state.keys.lock() = keys.into_iter().collect();
    }

    /// Replaces all faults at once; none means healthy.
    pub fn set(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.state.faults.lock() = faults.into_iter().collect();
    }

    /// Faults of the next requests, one each, before those that were set.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.next.lock().extend(faults);
    }

    /// Forgets how fast it was sent to, and the journal.
    pub fn reset(&self) {
        *self.state.paces.lock() = Paces::default();
        self.state.journal.lock().clear();
    }

    /// All requests so far, in the order in which they arrived.
    pub fn journal(&self) -> Vec<Received> {
        self.state.journal.lock().clone()
    }

    /// The messages that it took.
    pub fn accepted(&self) -> Vec<Received> {
        self.journal().into_iter().filter(|received| received.accepted).collect()
    }

    /// Waits until it has taken this many messages.
    ///
    /// # Errors
    /// When they do not arrive within half a minute.
    pub async fn wait_for(&self, messages: usize) -> Result<Vec<Received>> {
        let mut count = self.state.count.subscribe();
        let all = async {
            loop {
                let accepted = self.accepted();
                if accepted.len() >= messages || count.changed().await.is_err() {
                    return accepted;
                }
            }
        };
        let Ok(accepted) = tokio::time::timeout(ARRIVE_WITHIN, all).await else {
            bail!("{messages} messages were expected, the journal is {:#?}", self.journal());
        };
        Ok(accepted)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A client that is gone before it is greeted is no concern of a stand-in.
        let Ok((stream, _)) = accepted else { continue };
        // Answers are small; waiting to fill a packet would add 40 ms to each.
        drop(stream.set_nodelay(true));
        let state = Arc::clone(&state);
        let serve = async move {
            let service = hyper::service::service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { answer(&state, request).await }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // Broken connections are what faults are for.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        };
        tokio::spawn(token.clone().run_until_cancelled_owned(serve));
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let headers: BTreeMap<String, String> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut faults: Vec<Fault> = state.next.lock().pop_front().into_iter().collect();
    faults.extend(state.faults.lock().iter().cloned());
    for fault in &faults {
        match fault {
            Fault::Delay(wait) => tokio::time::sleep(*wait).await,
            Fault::Silent => std::future::pending().await,
            _ => {}
        }
    }
    let signatures = signature::check(&state.keys.lock(), &headers, &body);
    let verdict = rules::judge(&path, &headers, &body, &mut state.paces.lock());
    let canned = faults.iter().find_map(canned);
    let accepted = match &canned {
        Some(canned) => canned.accepts,
        None => verdict.status < 300,
    };
    let received = Received {
        at: Instant::now(),
        path,
        headers,
        body,
        accepted,
        signatures,
        violations: verdict.violations.clone(),
    };
    state.journal.lock().push(received);
    state.count.send_modify(|count| *count += 1);
    match canned {
        Some(Canned { response: Some(response), .. }) => Ok(response),
        Some(Canned { response: None, .. }) => Err(io::ErrorKind::ConnectionAborted.into()),
        None => Ok(verdict.response()),
    }
}

/// An answer that a fault gives.
struct Canned {
    accepts: bool,
    /// `None` closes the connection.
    response: Option<Response<Full<Bytes>>>,
}

fn canned(fault: &Fault) -> Option<Canned> {
    let response = |code: u16, name: header::HeaderName, value: &str, body: Bytes| {
        let builder = Response::builder().status(code).header(name, value);
        Some(builder.body(Full::new(body)).expect("tests set valid answers"))
    };
    match fault {
        Fault::Delay(_) | Fault::Silent => None,
        Fault::Status { code, retry_after } => {
            let (name, value) = match retry_after {
                Some(value) => (header::RETRY_AFTER, value.as_str()),
                None => (header::CONTENT_TYPE, "text/plain"),
            };
            let body = Bytes::from_static(b"not now");
            Some(Canned { accepts: *code < 300, response: response(*code, name, value, body) })
        }
        Fault::Redirect(to) => {
            let response = response(307, header::LOCATION, to, Bytes::new());
            Some(Canned { accepts: false, response })
        }
        Fault::DropAfterAccepting => Some(Canned { accepts: true, response: None }),
        Fault::LongAnswer(bytes) => {
            let body = Bytes::from(vec![b'x'; *bytes]);
            let response = response(200, header::CONTENT_TYPE, "text/plain", body);
            Some(Canned { accepts: true, response })
        }
    }
}
