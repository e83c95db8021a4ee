//! One RPC endpoint: how to call it, how it is doing, and what it is known not to do.

mod breaker;
mod budget;
mod fault;
mod http;
mod latency;
mod refusal;
mod ws;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use lookout_types::BlockRef;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::methods::{self, Method};
use crate::model::{PoolSettings, UpstreamSpec, UpstreamState, UpstreamStatus, redact};
use crate::wire::Reply;
use breaker::Breaker;
use budget::Budget;
pub(crate) use fault::{Fault, NodeVerdict, judge};
pub(crate) use latency::{PeakEwma, TailLatency};
pub(crate) use refusal::{Refusal, range_refusal};
pub(crate) use ws::Subscription;

/// How long a method that was refused is not asked of this upstream again; nodes get upgraded.
const UNSUPPORTED_FOR: Duration = Duration::from_mins(10);
/// How long the widest range that an upstream said it takes is believed; plans get upgraded.
const RANGE_MAX_FOR: Duration = Duration::from_mins(10);
/// Polls without an answer before an upstream counts as out of touch.
const POLLS_MISSED_MAX: u32 = 5;

#[derive(Debug)]
enum Transport {
    Http(http::HttpTransport),
    Ws(ws::WsTransport),
}

/// How a call's parameters are sent, and what it may fail of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// One call; its parameters are a JSON array.
    One,
    /// Several calls of one method in one request: a parameter array a line. The answer is the
    /// whole JSON array of answers, for [`crate::wire::parse_batch`].
    Batch,
    /// One call about a range of so many blocks, of which an upstream may refuse the width and
    /// for which it must have the last block. The answer is for a strict reader: it may be
    /// followed by what is no JSON.
    Range(u64),
}

/// Whether the upstream serves the configured chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Identity {
    Unknown = 0,
    Right = 1,
    Wrong = 2,
}

/// What the head tracker last saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenHead {
    pub(crate) block: BlockRef,
    /// When it was first seen at this block.
    pub(crate) since: Instant,
    /// When the upstream last answered.
    pub(crate) heard: Instant,
}

/// One RPC endpoint of a chain.
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    endpoint: String,
    transport: Transport,
    call_timeout: Duration,
    poll_interval: Duration,
    budget: Budget,
    breaker: Breaker,
    method_breakers: Vec<Breaker>,
    /// Per method: until when it is not asked, as the node said that it does not know it.
    unsupported: Vec<Mutex<Option<Instant>>>,
    /// The most blocks that it said it takes in one range, and until when that is believed.
    range_max: Mutex<Option<(u64, Instant)>>,
    latency: PeakEwma,
    in_flight: AtomicU32,
    identity: AtomicU32,
    head: ArcSwapOption<SeenHead>,
    lagging: AtomicBool,
    calls: AtomicU64,
    failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    chain: Arc<str>,
    calls: Counter,
    seconds: Histogram,
    lag: Gauge,
}

/// Counts a call as under way until dropped, also when its caller goes away.
struct InFlight<'a>(&'a AtomicU32);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("transport", &self.transport)
            .field("identity", &self.identity())
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Upstream {
    pub(crate) fn new(
        chain: &Arc<str>,
        spec: &UpstreamSpec,
        settings: &PoolSettings,
        stop: &CancellationToken,
    ) -> Self {
        let cap = settings.response_bytes_max;
        let transport = if spec.url.scheme().starts_with("ws") {
            Transport::Ws(ws::WsTransport::start(spec.url.clone(), cap, stop.clone()))
        } else {
            Transport::Http(http::HttpTransport::new(spec.url.clone(), cap))
        };
        let name: Arc<str> = spec.name.as_str().into();
        let labels = [("chain", chain.to_string()), ("upstream", name.to_string())];
        let meters = Meters {
            chain: chain.clone(),
            calls: counter!("lookout_upstream_calls_total", &labels),
            seconds: histogram!("lookout_upstream_call_duration_seconds", &labels),
            lag: gauge!("lookout_upstream_head_lag_blocks", &labels),
        };
        Self {
            name,
            endpoint: redact(&spec.url),
            transport,
            call_timeout: settings.call_timeout,
            poll_interval: settings.poll_interval,
            budget: Budget::new(spec.requests_per_second),
            breaker: Breaker::default(),
            method_breakers: (0..methods::COUNT).map(|_| Breaker::default()).collect(),
            unsupported: (0..methods::COUNT).map(|_| Mutex::default()).collect(),
            range_max: Mutex::default(),
            latency: PeakEwma::default(),
            in_flight: AtomicU32::new(0),
            identity: AtomicU32::new(Identity::Unknown as u32),
            head: ArcSwapOption::empty(),
            lagging: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
            meters,
        }
    }

    /// Sends one call and keeps the books: latency, breakers, budget, counters.
    pub(crate) async fn call(&self, method: &'static Method, params: &str) -> Result<Reply, Fault> {
        self.call_as(method, params, Request::One).await
    }

    /// The same for any form of call.
    pub(crate) async fn call_as(
        &self,
        method: &'static Method,
        params: &str,
        request: Request,
    ) -> Result<Reply, Fault> {
        let start = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.meters.calls.increment(1);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let under_way = InFlight(&self.in_flight);
        let sent = match &self.transport {
            Transport::Http(http) => {
                http.call(method.name, params, request, self.call_timeout).await
            }
            Transport::Ws(ws) => ws.call_as(method.name, params, request, self.call_timeout).await,
        };
        drop(under_way);
        let sent = sent.map_err(|fault| match (request, fault) {
            // Too much to read, or to send: fewer blocks may pass.
            (Request::Range(2..), Fault::TooLarge(_) | Fault::Refused(_)) => {
                Fault::Wide(Refusal::default())
            }
            (_, fault) => fault,
        });
        let now = Instant::now();
        let took = now - start;
        self.meters.seconds.record(took.as_secs_f64());
        let reply = sent.inspect_err(|fault| self.note_fault(method, fault))?;
        self.latency.record(took, now);
        if let Reply::Error(error) = &reply
            && let NodeVerdict::Fault(fault) = judge(error)
        {
            self.note_fault(method, &fault);
        } else {
            self.note_success(method, now);
        }
        Ok(reply)
    }

    fn note_success(&self, method: &Method, now: Instant) {
        self.breaker.succeeded();
        self.method_breakers[method.index].succeeded();
        self.budget.succeeded(now);
    }

    /// Books a fault, also one that only verification found.
    pub(crate) fn note_fault(&self, method: &Method, fault: &Fault) {
        let now = Instant::now();
        let class = fault.class();
        counter!(
            "lookout_upstream_errors_total",
            "chain" => self.meters.chain.to_string(),
            "upstream" => self.name.to_string(),
            "class" => class
        )
        .increment(1);
        if fault.condemns_upstream() {
            self.breaker.failed(now);
        }
        if fault.counts() {
            self.method_breakers[method.index].failed(now);
            self.failures.fetch_add(1, Ordering::Relaxed);
            *self.last_failure.lock() = Some(fault.to_string());
        }
        match fault {
            Fault::RateLimited { retry_after } => self.budget.limited(*retry_after, now),
            Fault::Unsupported => {
                *self.unsupported[method.index].lock() = Some(now + UNSUPPORTED_FOR);
            }
            Fault::Wide(Refusal { stated: Some(blocks), .. }) => {
                *self.range_max.lock() = Some((*blocks, now + RANGE_MAX_FOR));
            }
            // A peak of the timeout's size steers the next calls elsewhere.
            Fault::Timeout(limit) => self.latency.record(*limit, now),
            _ => {}
        }
    }

    /// Whether a call of `method` may be sent now, leaving the budget aside.
    pub(crate) fn ready(&self, method: &Method, now: Instant) -> bool {
        self.breaker.allows(now)
            && self.method_breakers[method.index].allows(now)
            && self.unsupported[method.index].lock().is_none_or(|until| now >= until)
            && self.budget.paused_until(now).is_none()
    }

    /// Whether a range of so many blocks is within what it said it takes.
    pub(crate) fn takes_range(&self, blocks: u64, now: Instant) -> bool {
        self.range_max.lock().is_none_or(|(max, until)| now >= until || blocks <= max)
    }

    /// Takes one call from the rate budget.
    pub(crate) fn take_budget(&self) -> bool {
        self.budget.take()
    }

    /// When a rate limit that the upstream declared ends.
    pub(crate) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.budget.paused_until(now)
    }

    /// Expected wait of one more call, in seconds: latency times queue.
    pub(crate) fn cost(&self) -> f64 {
        let queue = f64::from(self.in_flight.load(Ordering::Relaxed)) + 1.0;
        self.latency.or_unseen().as_secs_f64() * queue
    }

    pub(crate) fn identity(&self) -> Identity {
        match self.identity.load(Ordering::Relaxed) {
            1 => Identity::Right,
            2 => Identity::Wrong,
            _ => Identity::Unknown,
        }
    }

    /// Whether it has been tried and has not shown itself to be the right chain.
    pub(crate) fn is_away(&self) -> bool {
        match self.identity() {
            Identity::Right => false,
            Identity::Wrong => true,
            Identity::Unknown => self.failures.load(Ordering::Relaxed) > 0,
        }
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        self.identity.store(identity as u32, Ordering::Relaxed);
    }

    pub(crate) fn head(&self) -> Option<SeenHead> {
        self.head.load().as_deref().copied()
    }

    /// The upstream answered with this head. A new one replaces an old one, higher or not.
    pub(crate) fn saw_head(&self, block: BlockRef, now: Instant) {
        let since = match self.head() {
            Some(old) if old.block == block => old.since,
            _ => now,
        };
        self.head.store(Some(Arc::new(SeenHead { block, since, heard: now })));
    }

    /// Whether its head was heard of recently enough to count.
    pub(crate) fn in_touch(&self, now: Instant) -> bool {
        // A call may take its whole timeout before it counts as missed.
        let patience = self.poll_interval * POLLS_MISSED_MAX + self.call_timeout;
        self.identity() == Identity::Right
            && self.breaker.allows(now)
            && self.head().is_some_and(|seen| now.saturating_duration_since(seen.heard) <= patience)
    }

    /// Books how many blocks its head is behind the agreed one, and whether that is too many.
    pub(crate) fn set_lag(&self, lag_blocks: u64, lag_max: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge; lags are far below 2^52")]
        self.meters.lag.set(lag_blocks as f64);
        self.lagging.store(lag_blocks > lag_max, Ordering::Relaxed);
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Relaxed)
    }

    /// The `newHeads` feed, where the transport offers one.
    pub(crate) fn subscription(&self) -> Option<watch::Receiver<Subscription>> {
        match &self.transport {
            Transport::Ws(ws) => Some(ws.subscription()),
            Transport::Http(_) => None,
        }
    }

    pub(crate) fn status(&self) -> UpstreamStatus {
        let now = Instant::now();
        let state = match self.identity() {
            Identity::Wrong => UpstreamState::WrongChain,
            _ if !self.breaker.allows(now) => UpstreamState::Broken,
            Identity::Unknown if self.is_away() => UpstreamState::Broken,
            Identity::Unknown => UpstreamState::Starting,
            Identity::Right if self.is_lagging() => UpstreamState::Lagging,
            Identity::Right => UpstreamState::Healthy,
        };
        UpstreamStatus {
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            state,
            head: self.head().map(|seen| seen.block),
            subscribed: self.subscription().is_some_and(|s| s.borrow().active),
            latency: self.latency.get(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().clone(),
        }
    }
}
