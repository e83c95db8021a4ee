//! Sends a call to the upstream most likely to answer it well, and on to others if it does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lookout_types::Height;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::methods::{self, Method, Shape};
use crate::model::{ChainSpec, PoolSettings};
use crate::upstream::{Fault, Identity, NodeVerdict, Request, TailLatency, Upstream, judge};
use crate::wire::Reply;
use crate::{Attempt, ChainError, NodeError};

/// Times all upstreams are gone through before giving up.
const ROUNDS: u32 = 3;
/// Pause before another round: full jitter up to this, doubled each time.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Shortest wait before a hedge, so that a fast upstream's own jitter sends none.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(2);
/// Hedges that may be saved up in quiet times.
const HEDGES_SAVED_MAX: f64 = 10.0;

/// JSON-RPC code of a limit that was exceeded, of whatever kind (EIP-1474).
pub(crate) const LIMIT_EXCEEDED: i64 = -32005;

/// Upstreams whose "nothing" is believed. A client that waits for a receipt asks often, so two
/// must do there; a block that is known to exist is worth asking everyone.
fn words_for_nothing(method: &Method) -> usize {
    match method.shape {
        Shape::Transaction | Shape::Receipt | Shape::Logs => 2,
        _ => usize::MAX,
    }
}

/// Whether a node says that it has the transaction, in the words of geth, erigon, nethermind,
/// besu and anvil.
fn knows_already(error: &NodeError) -> bool {
    let text = error.message.to_ascii_lowercase();
    ["already known", "already imported", "known transaction", "alreadyknown"]
        .iter()
        .any(|words| text.contains(words))
}

/// The upstreams of one chain.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) chain: Arc<str>,
    pub(crate) settings: PoolSettings,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    tails: Vec<TailLatency>,
    hedges: Mutex<f64>,
    hedged: Counter,
}

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'static Method,
    /// JSON text of the parameter array.
    pub(crate) params: &'a str,
    /// The answer needs an upstream that has at least this block.
    pub(crate) height: Option<Height>,
    pub(crate) request: Request,
    pub(crate) deadline: Instant,
    /// Upstreams that have said their word already and are not asked again.
    pub(crate) except: &'a [Arc<str>],
}

/// Why an answer is not good enough.
#[derive(Debug)]
pub(crate) enum Reject {
    /// Empty, although the asked thing should be there; others may have it.
    Missing,
    /// It is about a block that is not on the followed chain: a reorg is under way, or the
    /// upstream is behind one.
    OffBranch,
    /// It contradicts what is known.
    Lie(String),
    /// It is an error after all, of a call in a batch.
    Error(NodeError),
}

/// An accepted answer.
#[derive(Debug)]
pub(crate) struct Won<T> {
    pub(crate) result: Bytes,
    /// What the check made of it.
    pub(crate) value: T,
    pub(crate) upstream: Arc<str>,
}

/// No accepted answer.
#[derive(Debug, Clone)]
pub(crate) enum Lost {
    /// Upstreams answered, but with nothing (`null`, or an empty answer that was doubted).
    Nothing(Bytes, Arc<str>),
    /// No upstream has the block or state; the last error that said so.
    Absent(NodeError),
    /// Upstreams answered about blocks that are not on the followed chain.
    OffBranch(ChainError),
    /// No upstream takes a request of this form or size; a smaller one may pass.
    Refused(ChainError),
    /// A transaction that an earlier try seems to have sent: the network knows it already.
    SentBefore(NodeError),
    /// Anything else.
    Failed(ChainError),
}

impl Lost {
    /// As an error, with `missing` for what no upstream has.
    pub(crate) fn or_missing(self, missing: impl FnOnce() -> ChainError) -> ChainError {
        match self {
            Self::Nothing(..) | Self::Absent(_) => missing(),
            Self::SentBefore(error) => ChainError::Node(error),
            Self::OffBranch(error) | Self::Refused(error) | Self::Failed(error) => error,
        }
    }
}

/// What one round of tries left behind.
#[derive(Default)]
struct Tries {
    tried: Vec<usize>,
    attempts: Vec<Attempt>,
    /// Whether anything failed that may work at the next try; a lie stays one.
    may_pass: bool,
    off_branch: bool,
    refused: bool,
    nothing: Option<(Bytes, Arc<str>)>,
    node_error: Option<(NodeError, Fault)>,
    /// The node's word on the request itself; final.
    client_error: Option<NodeError>,
}

impl Tries {
    fn believes_nothing(&self, method: &Method) -> bool {
        self.nothing.is_some() && self.tried.len() >= words_for_nothing(method)
    }
}

impl Tries {
    /// Notes a node's error and what it means for routing; `None` when it is the last word.
    fn note_error(&mut self, error: NodeError) -> Option<Fault> {
        match judge(&error) {
            NodeVerdict::Client => {
                self.client_error = Some(error);
                None
            }
            NodeVerdict::Fault(fault) => {
                self.node_error = Some((error, fault.clone()));
                Some(fault)
            }
        }
    }
}

impl Pool {
    pub(crate) fn new(spec: &ChainSpec, stop: &CancellationToken) -> Self {
        let chain: Arc<str> = spec.name.as_str().into();
        let open = |u| Arc::new(Upstream::new(&chain, u, &spec.settings, stop));
        Self {
            upstreams: spec.upstreams.iter().map(open).collect(),
            tails: (0..methods::COUNT).map(|_| TailLatency::default()).collect(),
            hedges: Mutex::new(HEDGES_SAVED_MAX),
            hedged: counter!("lookout_upstream_hedges_total", "chain" => chain.to_string()),
            settings: spec.settings.clone(),
            chain,
        }
    }

    /// When a request that starts now must be done.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.request_timeout
    }

    /// Makes a call until an answer passes `accept`.
    pub(crate) async fn ask<T>(
        &self,
        call: Call<'_>,
        accept: impl Fn(&Bytes) -> Result<T, Reject>,
    ) -> Result<Won<T>, Lost> {
        match tokio::time::timeout_at(call.deadline, self.rounds(call, accept)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Lost::Failed(ChainError::Timeout {
                chain: self.chain.to_string(),
                millis: self.settings.request_timeout.as_millis(),
            })),
        }
    }

    async fn rounds<T>(
        &self,
        call: Call<'_>,
        accept: impl Fn(&Bytes) -> Result<T, Reject>,
    ) -> Result<Won<T>, Lost> {
        let mut tries = Tries::default();
        for round in 0..ROUNDS {
            if round > 0 {
                let pause = ROUND_PAUSE.saturating_mul(1 << round).mul_f64(fastrand::f64());
                tokio::time::sleep(pause).await;
                tries.tried.clear();
            }
            while !tries.believes_nothing(call.method)
                && let Some(first) = self.pick(call, &tries.tried).await
            {
                if let Some(won) = self.race(first, call, &accept, &mut tries).await {
                    return Ok(won);
                }
                if let Some(error) = tries.client_error.take() {
                    let resent = call.method.shape == Shape::Send && !tries.attempts.is_empty();
                    return Err(if resent && knows_already(&error) {
                        Lost::SentBefore(error)
                    } else {
                        Lost::Failed(ChainError::Node(error))
                    });
                }
            }
            let settled = tries.nothing.is_some()
                || !tries.may_pass
                || matches!(tries.node_error, Some((_, Fault::Missing | Fault::Unsupported)));
            if settled || call.method.shape == Shape::Send {
                break;
            }
        }
        Err(self.lost(call, tries))
    }

    /// Runs the call on `first`, and on a second upstream when the first is slow.
    async fn race<T>(
        &self,
        first: usize,
        call: Call<'_>,
        accept: &impl Fn(&Bytes) -> Result<T, Reject>,
        tries: &mut Tries,
    ) -> Option<Won<T>> {
        let params: Arc<str> = call.params.into();
        let start = |i: usize| {
            let (upstream, params) = (self.upstreams[i].clone(), params.clone());
            async move {
                let begun = Instant::now();
                (i, begun, upstream.call_as(call.method, &params, call.request).await)
            }
        };
        let mut under_way = FuturesUnordered::new();
        tries.tried.push(first);
        under_way.push(start(first));
        self.save_hedge();
        let mut hedge_at = self.hedge_at(call);
        loop {
            let hedge = async {
                match hedge_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answered = under_way.next() => {
                    let (i, begun, outcome) = answered?;
                    if let Some(won) = self.weigh(i, call, outcome, accept, tries) {
                        if call.request == Request::One {
                            self.tails[call.method.index].record(begun.elapsed());
                        }
                        if !under_way.is_empty() {
                            // A loser that is dropped is never timed, and so never avoided.
                            tokio::spawn(async move { while under_way.next().await.is_some() {} });
                        }
                        return Some(won);
                    }
                    if tries.client_error.is_some() || under_way.is_empty() {
                        return None;
                    }
                }
                () = hedge => {
                    hedge_at = None;
                    if let Some(second) = self.hedge(call, &tries.tried) {
                        tries.tried.push(second);
                        under_way.push(start(second));
                    }
                }
            }
        }
    }

    /// Sorts an outcome: accepted, or noted in `tries` so that the next upstream is asked.
    fn weigh<T>(
        &self,
        i: usize,
        call: Call<'_>,
        outcome: Result<Reply, Fault>,
        accept: &impl Fn(&Bytes) -> Result<T, Reject>,
        tries: &mut Tries,
    ) -> Option<Won<T>> {
        let (upstream, method) = (&self.upstreams[i], call.method);
        let fault = match outcome {
            Ok(Reply::Result(result)) => match accept(&result) {
                Ok(value) => return Some(Won { result, value, upstream: upstream.name.clone() }),
                Err(Reject::Missing) => {
                    tries.nothing = Some((result, upstream.name.clone()));
                    return None;
                }
                Err(Reject::OffBranch) => {
                    tries.off_branch = true;
                    Fault::OffBranch
                }
                Err(Reject::Lie(what)) => {
                    let fault = Fault::Lie(what);
                    upstream.note_fault(method, &fault);
                    tracing::warn!(chain = %self.chain, upstream = %upstream.name,
                        method = method.name, "rejected an answer: {fault}");
                    fault
                }
                Err(Reject::Error(error)) => {
                    let fault = tries.note_error(error)?;
                    upstream.note_fault(method, &fault);
                    fault
                }
            },
            Ok(Reply::Error(error)) => tries.note_error(error)?,
            Err(fault) => fault,
        };
        tries.refused |= match call.request {
            Request::One => false,
            // Some answer a batch as if it were one call, and badly.
            Request::Batch => {
                matches!(fault, Fault::TooLarge(_) | Fault::Refused(_) | Fault::Wire(_))
            }
            Request::Range(_) => matches!(fault, Fault::Wide(_)),
        };
        tries.may_pass |= !matches!(
            fault,
            Fault::Lie(_) | Fault::TooLarge(_) | Fault::Refused(_) | Fault::Wide(_)
        );
        let attempt = Attempt { upstream: upstream.name.to_string(), problem: fault.to_string() };
        // Further rounds mostly repeat what the first one said.
        if !tries.attempts.contains(&attempt) {
            tries.attempts.push(attempt);
        }
        None
    }

    /// Books a lie that was found only after the answer was accepted.
    pub(crate) fn note_lie(&self, upstream: &str, method: &'static Method, what: &str) {
        let Some(upstream) = self.upstreams.iter().find(|own| &*own.name == upstream) else {
            return;
        };
        let fault = Fault::Lie(what.to_owned());
        upstream.note_fault(method, &fault);
        tracing::warn!(chain = %self.chain, upstream = %upstream.name,
            method = method.name, "rejected an answer: {fault}");
    }

    fn lost(&self, call: Call<'_>, mut tries: Tries) -> Lost {
        if let Some((result, upstream)) = tries.nothing.take() {
            return Lost::Nothing(result, upstream);
        }
        let chain = self.chain.to_string();
        match tries.node_error.take() {
            Some((error, Fault::Missing)) => Lost::Absent(error),
            // The node's own error tells a client more than ours would. A rate limit does not:
            // it is between us and the upstream.
            Some((error, Fault::Unsupported | Fault::Internal | Fault::Wide(_))) => {
                Lost::Failed(ChainError::Node(error))
            }
            // "limit exceeded" may mean the width of the range as well.
            Some((error, Fault::RateLimited { .. }))
                if error.code == LIMIT_EXCEEDED && matches!(call.request, Request::Range(2..)) =>
            {
                Lost::Failed(ChainError::Node(error))
            }
            _ if tries.attempts.is_empty() => Lost::Failed(ChainError::Unavailable {
                chain,
                reason: "no upstream may be called now".to_owned(),
            }),
            _ => {
                let attempts = std::mem::take(&mut tries.attempts);
                let error = ChainError::Upstreams { chain, attempts };
                match tries {
                    Tries { off_branch: true, .. } => Lost::OffBranch(error),
                    Tries { refused: true, .. } => Lost::Refused(error),
                    _ => Lost::Failed(error),
                }
            }
        }
    }

    /// The next upstream to ask; waits for a declared rate limit to end if nothing else is left.
    async fn pick(&self, call: Call<'_>, tried: &[usize]) -> Option<usize> {
        if let Some(i) = self.best(call, tried, true).or_else(|| self.best(call, tried, false)) {
            return Some(i);
        }
        if !tried.is_empty() {
            return None;
        }
        let now = Instant::now();
        let resume = self.upstreams.iter().filter_map(|u| u.paused_until(now)).min()?;
        if resume >= call.deadline {
            return None;
        }
        tokio::time::sleep_until(resume).await;
        self.best(call, tried, false)
    }

    /// Power of two choices among the upstreams that pass the gates. With `strict` off, open
    /// breakers and heads that are behind are overlooked: better a doubtful try than none.
    fn best(&self, call: Call<'_>, tried: &[usize], strict: bool) -> Option<usize> {
        let now = Instant::now();
        let open = |i: &usize| {
            let upstream = &self.upstreams[*i];
            // An upstream that has not shown its chain id could answer for another chain.
            let seen = upstream.head().map(|seen| seen.block.number);
            let reaches = || call.height.is_none_or(|height| seen.is_some_and(|own| own >= height));
            // Logs above an upstream's head are none, which looks like an answer.
            let pinned = matches!(call.request, Request::Range(_));
            let allowed = upstream.identity() == Identity::Right
                && (!pinned || reaches())
                && upstream.paused_until(now).is_none()
                && !call.except.contains(&upstream.name);
            let strictly = || {
                let narrow = match call.request {
                    Request::Range(blocks) => upstream.takes_range(blocks, now),
                    Request::One | Request::Batch => true,
                };
                upstream.ready(call.method, now) && !upstream.is_lagging() && reaches() && narrow
            };
            !tried.contains(i) && allowed && (!strict || strictly())
        };
        let mut candidates: Vec<usize> = (0..self.upstreams.len()).filter(open).collect();
        while candidates.len() > 1 {
            let a = candidates.swap_remove(fastrand::usize(..candidates.len()));
            let b = candidates[fastrand::usize(..candidates.len())];
            let chosen = if self.upstreams[a].cost() <= self.upstreams[b].cost() { a } else { b };
            if self.upstreams[chosen].take_budget() {
                return Some(chosen);
            }
            candidates.retain(|i| *i != chosen);
            if chosen != a {
                candidates.push(a);
            }
        }
        candidates.pop().filter(|i| self.upstreams[*i].take_budget())
    }

    /// When to send a second call: at the tail of what this method took lately.
    fn hedge_at(&self, call: Call<'_>) -> Option<Instant> {
        // A long answer takes its time: a second one would take as long.
        let single = call.request == Request::One && call.method.shape != Shape::Send;
        if !single || self.upstreams.len() < 2 {
            return None;
        }
        let p95 = self.tails[call.method.index].p95()?;
        Some(Instant::now() + p95.max(HEDGE_AFTER_MIN))
    }

    fn save_hedge(&self) {
        let mut saved = self.hedges.lock();
        *saved = (*saved + self.settings.hedge_budget).min(HEDGES_SAVED_MAX);
    }

    /// The upstream for a second call, if there is one and the budget allows it.
    fn hedge(&self, call: Call<'_>, tried: &[usize]) -> Option<usize> {
        let mut saved = self.hedges.lock();
        if *saved < 1.0 {
            return None;
        }
        let second = self.best(call, tried, true)?;
        *saved -= 1.0;
        self.hedged.increment(1);
        Some(second)
    }
}

#[cfg(test)]
mod tests;
