//! What all reads of a chain share: pool, follower, cache and the calls under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lookout_types::{BlockRef, ChainId, Hash, Height};
use metrics::{Counter, counter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, CacheKey, Entry};
use crate::check::{Check, Checked};
use crate::coalesce::Coalesce;
use crate::heads::{Canonical, Followed, Follower, HeaderRules, Standing};
use crate::methods::{Method, Shape};
use crate::pool::{Call, Lost, Pool, Reject, Won};
use crate::upstream::{Identity, Request, Upstream};
use crate::{Answer, AnswerMeta, ChainError, ChainSpec, Heads, Level};

/// Longest wait for upstreams to report a head that an answer has just told of.
pub(crate) const REFRESH_LIMIT: Duration = Duration::from_millis(750);
/// Longest wait for a first head when every upstream has already failed to give one.
const AWAY_LIMIT: Duration = Duration::from_millis(500);
/// JSON-RPC code of a parameter that the node does not take.
const INVALID_PARAMS: i64 = -32602;
/// Hash under which answers about settled heights are kept, with the height in its last bytes.
const SETTLED_TAG: [u8; 24] = *b"lookout: settled height ";

/// An answer fetched from upstreams, before it is put into a reply.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) result: Bytes,
    pub(crate) checked: Checked,
    pub(crate) upstream: Arc<str>,
    pub(crate) took: Duration,
}

/// The block that a question is about.
#[derive(Debug, Clone)]
pub(crate) enum About {
    /// A block of the followed window.
    Followed(Followed),
    /// A block by hash that the window does not hold.
    Hash(Hash),
    /// A height that is settled, so that no reorg changes the answer.
    Settled(Height),
    /// Whatever block a transaction turns out to be in.
    Inclusion,
}

/// One question to an upstream whose answer may be kept.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) method: &'static Method,
    /// JSON text of the parameter array.
    pub(crate) params: String,
    /// The same by number, for upstreams that do not take a block's hash (EIP-1898).
    pub(crate) by_number: Option<String>,
    pub(crate) about: About,
    pub(crate) key: CacheKey,
    pub(crate) check: Check,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: ChainId,
    pub(crate) pool: Arc<Pool>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) rules: Arc<HeaderRules>,
    cache: Arc<dyn Cache>,
    flights: Coalesce<CacheKey, Result<Fetched, Lost>>,
    /// Set when an upstream turned out not to take a block's hash (EIP-1898) but its number.
    asks_by_number: AtomicBool,
    hits: Counter,
    misses: Counter,
}

impl Core {
    pub(crate) fn start(spec: &ChainSpec, cache: Arc<dyn Cache>, stop: &CancellationToken) -> Self {
        let pool = Arc::new(Pool::new(spec, stop));
        let rules = Arc::new(HeaderRules::of(spec.id));
        let follower = Arc::new(Follower::new(pool.clone(), spec.id, rules.clone()));
        follower.start(stop);
        let count = |outcome: &'static str| counter!("lookout_cache_requests_total", "chain" => spec.name.clone(), "outcome" => outcome);
        Self {
            id: spec.id,
            pool,
            follower,
            rules,
            cache,
            flights: Coalesce::default(),
            asks_by_number: AtomicBool::new(false),
            hits: count("hit"),
            misses: count("miss"),
        }
    }

    pub(crate) fn name(&self) -> String {
        self.pool.chain.to_string()
    }

    pub(crate) fn canonical(&self) -> Arc<Canonical> {
        self.follower.canonical()
    }

    /// The agreed heads, waiting for the first ones.
    pub(crate) async fn wait_heads(&self) -> Result<Heads, ChainError> {
        if let Some(heads) = self.follower.heads() {
            return Ok(heads);
        }
        let mut heads = self.follower.watch_heads();
        let arrived = heads.wait_for(Option::is_some);
        // Upstreams that are known to be away are not waited for as long as those that start.
        let hopeless = self.pool.upstreams.iter().all(|upstream| upstream.is_away());
        let limit = if hopeless { AWAY_LIMIT } else { self.pool.settings.call_timeout };
        match tokio::time::timeout(limit, arrived).await {
            Ok(Ok(found)) => found.ok_or_else(|| self.unavailable()),
            Ok(Err(_)) | Err(_) => Err(self.unavailable()),
        }
    }

    pub(crate) fn unavailable(&self) -> ChainError {
        let upstreams = &self.pool.upstreams;
        let wrong = upstreams.iter().filter(|u| u.identity() == Identity::Wrong).count();
        let reason = if wrong == upstreams.len() {
            "every upstream serves another chain".to_owned()
        } else {
            let failed = |u: &Arc<Upstream>| {
                u.status().last_failure.map(|failure| format!("`{}` {failure}", u.name))
            };
            let failures: Vec<_> = upstreams.iter().filter_map(failed).collect();
            match failures.join("; ") {
                none if none.is_empty() => "no upstream has reported a head yet".to_owned(),
                failures => format!("no upstream has reported a head yet: {failures}"),
            }
        };
        ChainError::Unavailable { chain: self.name(), reason }
    }

    /// The key of an answer about a block.
    pub(crate) fn key(&self, about: &About, method: &str, params: &[&str]) -> CacheKey {
        let block = match about {
            About::Followed(block) => block.block().hash,
            About::Hash(hash) => *hash,
            About::Settled(height) => {
                let mut tag = [0; 32];
                tag[..24].copy_from_slice(&SETTLED_TAG);
                tag[24..].copy_from_slice(&height.to_be_bytes());
                Hash(tag)
            }
            About::Inclusion => Hash::default(),
        };
        CacheKey::new(self.id, block, method, params)
    }

    /// A kept answer that still holds on the followed chain.
    pub(crate) async fn kept(&self, key: &CacheKey) -> Option<Answer> {
        let entry = match self.cache.get(key).await {
            Ok(entry) => entry?,
            Err(error) => {
                tracing::warn!(chain = %self.pool.chain, "{error}");
                return None;
            }
        };
        if !self.canonical().still_holds(entry.block, entry.generation) {
            return None;
        }
        self.hits.increment(1);
        let known = entry.block.hash != Hash::default();
        Some(Answer {
            result: entry.result,
            meta: AnswerMeta {
                block: known.then_some(entry.block),
                level: entry.level,
                note: entry.note,
                upstream: Some(entry.upstream),
                cached: true,
                upstream_time: Duration::ZERO,
            },
        })
    }

    /// Answers a question from the cache, from a call under way, or from an upstream.
    pub(crate) async fn answer(self: &Arc<Self>, question: Question) -> Result<Answer, Lost> {
        match self.kept(&question.key).await {
            Some(kept) => Ok(kept),
            // Boxed: a hit should not carry the space of a miss around.
            None => Box::pin(self.fetch_shared(question)).await,
        }
    }

    /// Answers a question from a call under way, or from an upstream.
    pub(crate) async fn fetch_shared(self: &Arc<Self>, question: Question) -> Result<Answer, Lost> {
        self.misses.increment(1);
        let (core, key, about) = (self.clone(), question.key, question.about.clone());
        let work = async move {
            let fetched = core.fetch(&question).await?;
            core.keep(&question, &fetched).await;
            Ok(fetched)
        };
        let fetched = self.flights.run(key, work).await.unwrap_or_else(|| Err(self.defect()))?;
        Ok(reply(fetched, &about))
    }

    fn defect(&self) -> Lost {
        Lost::Failed(ChainError::Unavailable {
            chain: self.name(),
            reason: "the call failed unexpectedly".to_owned(),
        })
    }

    async fn fetch(&self, question: &Question) -> Result<Fetched, Lost> {
        let begun = Instant::now();
        let canonical = self.canonical();
        let height = match &question.about {
            About::Followed(block) => Some(block.block().number),
            About::Settled(height) => Some(*height),
            About::Hash(_) | About::Inclusion => canonical.head().map(|h| h.block().number),
        };
        let call = Call {
            method: question.method,
            params: &question.params,
            height,
            request: Request::One,
            deadline: self.pool.deadline(),
            except: &[],
        };
        // The chain may have moved while the call was under way, so each check loads it anew.
        let accept = |json: &Bytes| question.check.run(json, &self.rules, &self.canonical());
        let won = match &question.by_number {
            Some(params) => self.ask_either_way(call, params, &question.about, accept).await,
            None => self.pool.ask(call, accept).await,
        };
        let Won { result, value, upstream } = won?;
        Ok(Fetched { result, checked: value, upstream, took: begun.elapsed() })
    }

    /// Asks by hash and, where nodes know no EIP-1898, by number.
    async fn ask_either_way(
        &self,
        by_hash: Call<'_>,
        params: &str,
        about: &About,
        accept: impl Fn(&Bytes) -> Result<Checked, Reject>,
    ) -> Result<Won<Checked>, Lost> {
        let by_number = Call { params, ..by_hash };
        // No hash binds such an answer, so the number must still point to the same block.
        let still_there = |json: &Bytes| match about {
            About::Followed(block)
                if self.canonical().standing(block.block()) == Standing::Abandoned =>
            {
                Err(Reject::OffBranch)
            }
            _ => accept(json),
        };
        if self.asks_by_number.load(Ordering::Relaxed) {
            return self.pool.ask(by_number, still_there).await;
        }
        match self.pool.ask(by_hash, &accept).await {
            // The node may mean the block's hash or the client's own parameters.
            Err(Lost::Failed(ChainError::Node(error))) if error.code == INVALID_PARAMS => {
                let won = self.pool.ask(by_number, still_there).await?;
                self.asks_by_number.store(true, Ordering::Relaxed);
                Ok(won)
            }
            outcome => outcome,
        }
    }

    /// Keeps an answer unless the chain has moved away from its block.
    async fn keep(&self, question: &Question, fetched: &Fetched) {
        let canonical = self.canonical();
        let block = match (&question.about, fetched.checked.block) {
            (About::Followed(block), _) => block.block(),
            (_, Some(block)) => block,
            (About::Settled(number), None) => BlockRef { number: *number, hash: Hash::default() },
            (About::Hash(_) | About::Inclusion, None) => return,
        };
        let empty = &fetched.result[..] == b"null";
        if empty || canonical.standing(block) != Standing::Held {
            return;
        }
        if question.method.shape == Shape::Logs
            && !self.logs_are_bound(question, &canonical, &fetched.upstream).await
        {
            return;
        }
        let entry = Entry {
            result: fetched.result.clone(),
            block,
            level: fetched.checked.level,
            note: fetched.checked.note.clone(),
            upstream: fetched.upstream.clone(),
            generation: canonical.generation,
        };
        if let Err(error) = self.cache.put(question.key, entry).await {
            tracing::warn!(chain = %self.pool.chain, "{error}");
        }
    }

    /// Whether logs of a range belong to our branch, although no hash in the request bound them:
    /// the upstream was on our branch before, and has our last block of the range after.
    async fn logs_are_bound(
        &self,
        question: &Question,
        canonical: &Canonical,
        upstream: &str,
    ) -> bool {
        let About::Followed(last) = &question.about else { return true };
        if !matches!(question.check, Check::LogsOfRange) {
            return true;
        }
        let Some(upstream) = self.pool.upstreams.iter().find(|u| &*u.name == upstream) else {
            return false;
        };
        let on_branch = |b: BlockRef| {
            canonical.standing(b) == Standing::Held
                || canonical.head().is_some_and(|head| b.number > head.block().number)
        };
        if !upstream.head().is_some_and(|seen| on_branch(seen.block)) {
            return false;
        }
        let method = crate::methods::known("eth_getBlockByNumber");
        let params = format!("[\"{:#x}\",false]", last.block().number);
        match upstream.call(method, &params).await {
            Ok(crate::wire::Reply::Result(json)) => crate::verify::parse_header(&json)
                .is_ok_and(|header| header.reference == last.block()),
            Ok(crate::wire::Reply::Error(_)) | Err(_) => false,
        }
    }

    /// Passes a call on as it is: nothing kept, identical ones under way made one.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        method: &'static Method,
        params: &str,
    ) -> Result<Answer, ChainError> {
        let key = CacheKey::new(self.id, Hash([0xff; 32]), method.name, &[params]);
        let question = Question {
            method,
            params: params.to_owned(),
            by_number: None,
            about: About::Inclusion,
            key,
            check: Check::Nothing,
        };
        let core = self.clone();
        let work = async move { core.fetch(&question).await };
        match self.flights.run(key, work).await.unwrap_or_else(|| Err(self.defect())) {
            Ok(fetched) => Ok(reply(fetched, &About::Inclusion)),
            Err(Lost::Absent(error)) => Err(ChainError::Node(error)),
            Err(Lost::Nothing(result, upstream)) => Ok(nothing(result, upstream)),
            Err(lost) => Err(lost.or_missing(|| self.unavailable())),
        }
    }
}

/// An empty answer, as the node gave it.
pub(crate) fn nothing(result: Bytes, upstream: Arc<str>) -> Answer {
    let meta = AnswerMeta {
        block: None,
        level: Level::Single,
        note: None,
        upstream: Some(upstream),
        cached: false,
        upstream_time: Duration::ZERO,
    };
    Answer { result, meta }
}

fn reply(fetched: Fetched, about: &About) -> Answer {
    let block = match about {
        About::Followed(block) => Some(block.block()),
        _ => fetched.checked.block,
    };
    Answer {
        result: fetched.result,
        meta: AnswerMeta {
            block,
            level: fetched.checked.level,
            note: fetched.checked.note,
            upstream: Some(fetched.upstream),
            cached: false,
            upstream_time: fetched.took,
        },
    }
}
