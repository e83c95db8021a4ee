//! A replaying upstream: a synthetic chain of token transfers, served from memory as fast as a
//! socket takes it, so that a measurement of whoever reads it measures the reader.
//!
//! The chain is consistent: hashes, parents, blooms, roots and senders recompute, and logs are those of
//! the receipts. In one thing it is unlike any chain: to sign costs as much as to check, so there are 64
//! different blocks, and the transactions of one come again in the 64th after it. So no single
//! transaction can be asked for.

mod answer;
mod chain;
mod filter;
mod stencil;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::block::Detail;
use chain::Chain;

/// Most bytes of a request; a batch of a thousand calls is a tenth of it.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What chain to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySpec {
    /// The EIP-155 id.
    pub chain_id: u64,
    /// Blocks above the genesis; the highest is `latest`, `safe` and `finalized` at once.
    pub blocks: u64,
    /// ERC-20 transfers in each block, each in a transaction of its own.
    pub transfers_per_block: u32,
    /// Token contracts that the transfers are of; at most 255.
    pub tokens: u8,
    /// Decides who sends what to whom.
    pub seed: u64,
}

impl Default for ReplaySpec {
    fn default() -> Self {
        Self { chain_id: 31_337, blocks: 5000, transfers_per_block: 100, tokens: 4, seed: 1 }
    }
}

/// A running replay; ends when dropped.
pub struct Replay {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

struct State {
    chain: Chain,
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Replay {
    /// Makes the chain and serves it on a free port, on the runtime of the caller.
    ///
    /// # Errors
    /// When the spec makes no chain, or no port can be bound.
    pub async fn start(spec: ReplaySpec) -> Result<Self> {
        Self::start_on(spec, 0).await
    }

    /// The same on this port; 0 for a free one.
    ///
    /// # Errors
    /// When the spec makes no chain, or the port cannot be bound.
    pub async fn start_on(spec: ReplaySpec, port: u16) -> Result<Self> {
        ensure!(spec.tokens > 0, "a chain of transfers needs a token");
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("no port to bind")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { chain: Chain::make(&spec), calls: Mutex::default() });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&state), stop.clone()));
        Ok(Self { address, state, stop })
    }

    /// Its HTTP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The highest block.
    pub fn head(&self) -> u64 {
        self.state.chain.head()
    }

    /// The addresses of the tokens, 0x-prefixed, in the order of their numbers.
    pub fn tokens(&self) -> Vec<String> {
        self.state.chain.tokens()
    }

    /// Calls of this method that it was asked; each of a batch counts.
    pub fn calls(&self, method: &str) -> u64 {
        self.state.calls.lock().get(method).copied().unwrap_or(0)
    }

    /// Calls by method that it was asked.
    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        self.state.calls.lock().clone()
    }
}

/// The blocks of such a chain above the genesis as a client is told them, without a server: each with
/// its transactions as objects, and its receipts.
pub fn whole_blocks(spec: &ReplaySpec) -> Vec<(Vec<u8>, Vec<u8>)> {
    let chain = Chain::make(spec);
    let blocks = (1..=chain.head()).map(|height| {
        let (mut block, mut receipts) = (Vec::new(), Vec::new());
        chain.write_block(height, Detail::Objects, &mut block);
        chain.write_receipts(height, &mut receipts);
        (block, receipts)
    });
    blocks.collect()
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A client that is gone before it is greeted misses nothing.
        let Ok((stream, _)) = accepted else { continue };
        let serving = serve(stream, Arc::clone(&state));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // Waiting to fill a packet would add 40 ms to each small answer.
    drop(stream.set_nodelay(true));
    let service = hyper::service::service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(&state, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // A reader that hangs up has read enough.
    drop(connection.serve_connection(TokioIo::new(stream), service).await);
}

async fn respond(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let limited = http_body_util::Limited::new(request.into_body(), REQUEST_BYTES_MAX);
    let (status, body) = match limited.collect().await {
        Ok(body) => (200, answer::answer(&state.chain, &body.to_bytes(), &state.calls)),
        Err(_) => (413, Vec::new()),
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("the status and the header are constants")
}

#[cfg(test)]
mod tests;
