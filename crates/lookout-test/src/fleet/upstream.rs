//! One fake upstream: its port, its behaviours, its counts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::behaviour::Behaviour;
use super::serve;
use super::socket::{ResetSwitch, Socket};
use crate::rpc::{Rpc, http_client};

/// Longest that a revived fake tries to get its old port back.
const REBIND_WITHIN: Duration = Duration::from_secs(10);

/// A fake upstream on a port of its own; it ends with this value.
pub struct FakeUpstream {
    name: String,
    address: SocketAddr,
    state: Arc<State>,
    /// Present while it listens; cancelling ends the listener and every connection.
    running: Mutex<Option<CancellationToken>>,
}

/// What the connections of one fake share.
pub(super) struct State {
    pub(super) node: Rpc,
    pub(super) http: reqwest::Client,
    behaviours: Mutex<Arc<Vec<Behaviour>>>,
    pub(super) rng: Mutex<fastrand::Rng>,
    calls: Mutex<BTreeMap<String, u64>>,
    requests: AtomicU64,
    /// Calls since the behaviours were last set.
    pub(super) calls_since_set: AtomicU64,
}

impl FakeUpstream {
    /// Starts a healthy one in front of the node at this URL.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(name: &str, node_url: &str, seed: u64) -> Result<Self> {
        let state = State {
            node: Rpc::new(node_url),
            http: http_client(),
            behaviours: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            calls: Mutex::default(),
            requests: AtomicU64::new(0),
            calls_since_set: AtomicU64::new(0),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let fake = Self {
            name: name.to_owned(),
            address,
            state: Arc::new(state),
            running: Mutex::new(None),
        };
        fake.listen(listener);
        Ok(fake)
    }

    /// Its name in the fleet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its HTTP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces all behaviours at once; none means healthy. Requests under way finish as they began.
    pub fn set(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        let mut current = self.state.behaviours.lock();
        self.state.calls_since_set.store(0, Ordering::SeqCst);
        *current = Arc::new(behaviours.into_iter().collect());
    }

    /// Calls of this method that it was asked, whatever it answered.
    pub fn calls(&self, method: &str) -> u64 {
        self.state.calls.lock().get(method).copied().unwrap_or(0)
    }

    /// Calls by method that it was asked, whatever it answered.
    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        self.state.calls.lock().clone()
    }

    /// HTTP requests that it was sent; a batch is one.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Forgets all counts.
    pub fn reset_counts(&self) {
        self.state.calls.lock().clear();
        self.state.requests.store(0, Ordering::SeqCst);
    }

    /// Dies: the port is closed and every connection cut. Does nothing to a dead one.
    pub fn die(&self) {
        if let Some(token) = self.running.lock().take() {
            token.cancel();
        }
    }

    /// Comes back on the same port. Does nothing to a living one.
    ///
    /// # Errors
    /// When another process took the port meanwhile.
    pub async fn revive(&self) -> Result<()> {
        if self.running.lock().is_some() {
            return Ok(());
        }
        let bind = async {
            loop {
                // The old listener's task may still be on its way out.
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let listener = tokio::time::timeout(REBIND_WITHIN, bind)
            .await
            .with_context(|| format!("{} cannot have {} again", self.name, self.address))?;
        self.listen(listener);
        Ok(())
    }

    fn listen(&self, listener: TcpListener) {
        let token = CancellationToken::new();
        *self.running.lock() = Some(token.clone());
        tokio::spawn(accept(listener, Arc::clone(&self.state), token));
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.die();
    }
}

impl State {
    /// Counts a request and gives the behaviours that apply to it.
    pub(super) fn enter(&self, methods: &[String]) -> Vec<Behaviour> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut calls = self.calls.lock();
        for method in methods {
            *calls.entry(method.clone()).or_default() += 1;
        }
        drop(calls);
        let behaviours = Arc::clone(&self.behaviours.lock());
        let mut rng = self.rng.lock();
        behaviours.iter().filter_map(|behaviour| behaviour.apply(methods, &mut rng)).collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, token: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A client that is gone before it is greeted is no concern of a fake.
        let Ok((stream, _)) = accepted else { continue };
        tokio::spawn(
            token.clone().run_until_cancelled_owned(serve_connection(stream, Arc::clone(&state))),
        );
    }
}

async fn serve_connection(stream: tokio::net::TcpStream, state: Arc<State>) {
    // Answers are small; waiting to fill a packet would add 40 ms to each.
    drop(stream.set_nodelay(true));
    let switch = ResetSwitch::default();
    let socket = TokioIo::new(Socket::new(stream, switch.clone()));
    let service = hyper::service::service_fn(move |request| {
        let (state, switch) = (Arc::clone(&state), switch.clone());
        async move { serve::answer(&state, request, &switch).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(socket, service);
    // Broken connections are what fakes are for.
    drop(connection.await);
}
