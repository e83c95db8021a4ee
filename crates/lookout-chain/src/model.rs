//! What goes into a chain pool and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lookout_types::{Amount, BlockRef, ChainId};
use url::Url;

/// One chain to read, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSpec {
    /// Name in routes and logs, for example `ethereum`.
    pub name: String,
    /// The id every upstream must answer to `eth_chainId`.
    pub id: ChainId,
    /// Where to read it; at least one.
    pub upstreams: Vec<UpstreamSpec>,
    /// How the pool behaves.
    pub settings: PoolSettings,
}

/// One RPC endpoint, as configured.
#[derive(Clone, PartialEq)]
pub struct UpstreamSpec {
    /// Name in metrics, logs and answers; unique within the chain.
    pub name: String,
    /// `http`, `https`, `ws` or `wss`. May hold keys, so it never appears in logs or answers.
    pub url: Url,
    /// Requests a second that this upstream allows; `None` for no limit of ours.
    pub requests_per_second: Option<u32>,
}

impl std::fmt::Debug for UpstreamSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamSpec")
            .field("name", &self.name)
            .field("url", &redact(&self.url))
            .field("requests_per_second", &self.requests_per_second)
            .finish()
    }
}

/// Scheme, host and port of a URL: without userinfo, path or query, where vendors put keys.
pub fn redact(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// How a pool behaves; the defaults suit a public chain over the internet.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// Longest that one upstream may take for one call.
    pub call_timeout: Duration,
    /// Longest that one request may take over all its tries.
    pub request_timeout: Duration,
    /// How often a head is polled where no subscription is offered.
    pub poll_interval: Duration,
    /// Largest answer read from an upstream, in bytes.
    pub response_bytes_max: usize,
    /// Upstreams that must agree on a head, as far as that many are live.
    pub quorum: usize,
    /// Blocks that an upstream may lag behind the highest before it stops counting for the head.
    pub head_lag_max: u64,
    /// Share of calls that may be sent a second time to cut the tail, from 0 to 1.
    pub hedge_budget: f64,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(25),
            poll_interval: Duration::from_secs(1),
            response_bytes_max: 64 << 20,
            quorum: 2,
            head_lag_max: 16,
            hedge_budget: 0.05,
        }
    }
}

/// How far an answer can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One upstream said so.
    Single,
    /// At least two upstreams said the same, or the content hashes to a block that they agree on.
    Quorum,
    /// A Merkle proof leads from the value to the state root of a recomputed header.
    Proof,
}

impl Level {
    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Quorum => "quorum",
            Self::Proof => "proof",
        }
    }
}

/// How hard to check a value before answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The cheap checks that always run.
    #[default]
    Standard,
    /// Ask until two upstreams agree.
    Quorum,
    /// `eth_getProof` against the state root of the block's header.
    Proof,
}

/// Where an answer comes from and how far it can be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerMeta {
    /// The block that the answer is about, where it is about one.
    pub block: Option<BlockRef>,
    /// How far it can be trusted.
    pub level: Level,
    /// Why the level is not higher, where that is worth saying (for example a header with
    /// fields of its own that cannot be hashed).
    pub note: Option<Arc<str>>,
    /// The upstream that gave it; for a cached answer, the one that gave it then.
    pub upstream: Option<Arc<str>>,
    /// Whether it came from the cache.
    pub cached: bool,
    /// Time spent waiting for upstreams; zero for a cached answer.
    pub upstream_time: Duration,
}

/// A node's result, byte for byte, with its provenance.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The JSON of the `result` member, as the node wrote it.
    pub result: Bytes,
    /// Provenance.
    pub meta: AnswerMeta,
}

/// A balance read.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// In the asset's smallest unit.
    pub amount: Amount,
    /// Decimals of the asset, where known: 18 for the native one, `decimals()` for a token.
    pub decimals: Option<u8>,
    /// Provenance; `block` is always there.
    pub meta: AnswerMeta,
}

/// The blocks that the pool agrees on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Newest agreed block.
    pub latest: BlockRef,
    /// Newest safe block, where the chain has that notion.
    pub safe: Option<BlockRef>,
    /// Newest final block, where the chain has that notion.
    pub finalized: Option<BlockRef>,
    /// Level of `latest`.
    pub level: Level,
    /// Block time of `latest`, in seconds since 1970 UTC.
    pub timestamp: u64,
}

/// Whether calls are sent to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// Not heard of yet.
    Starting,
    /// Takes calls.
    Healthy,
    /// Takes calls, but its head is behind.
    Lagging,
    /// Its breaker is open after failures; probed from time to time.
    Broken,
    /// It answers another chain's id; never used.
    WrongChain,
}

impl UpstreamState {
    /// The word used in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Lagging => "lagging",
            Self::Broken => "broken",
            Self::WrongChain => "wrong_chain",
        }
    }
}

/// One upstream's health, for people and dashboards.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamStatus {
    /// Its configured name.
    pub name: Arc<str>,
    /// Scheme, host and port; no keys.
    pub endpoint: String,
    /// Whether calls are sent to it.
    pub state: UpstreamState,
    /// Its own newest block.
    pub head: Option<BlockRef>,
    /// Whether `newHeads` is subscribed (otherwise it is polled).
    pub subscribed: bool,
    /// Peak-sensitive moving average of its latency.
    pub latency: Option<Duration>,
    /// Calls under way.
    pub in_flight: u32,
    /// Calls sent since the start.
    pub calls: u64,
    /// Calls that failed through its fault since the start.
    pub failures: u64,
    /// The last such failure, in words, without keys.
    pub last_failure: Option<String>,
}
