//! Follows the head of a chain: what each upstream reports, what they agree on, which blocks
//! that makes canonical.

mod agree;
mod canonical;
mod header;
mod tracker;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use lookout_types::{BlockRef, ChainId, Hash, Height};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::methods;
use crate::pool::{Call, Lost, Pool, Reject};
use crate::upstream::Request;
use crate::verify::{self, VerifyError};
use crate::{Heads, Level};
use agree::Vote;
pub(crate) use canonical::{Canonical, Followed, Standing};
pub(crate) use header::HeaderRules;

/// Longest branch that is walked to its common ancestor; a longer gap starts the window anew.
const WALK_MAX: usize = 1024;
/// Blocks that the head may jump ahead and still be walked to; more is a pause of this process
/// (a laptop asleep), not a reorg, and walking it would hold the head up.
const GAP_MAX: u64 = 256;
/// Reported headers kept so that a new branch rarely needs fetching.
const RECENT_MAX: usize = 256;
/// How long all heads must be below ours before answers are of the highest of them: a block that no
/// upstream in touch has cannot be read. What was published of it is not taken back for that.
const ROLLBACK_AFTER: Duration = Duration::from_secs(5);

/// The head follower of one chain. The snapshot is read without locks.
#[derive(Debug)]
pub(crate) struct Follower {
    pool: Arc<Pool>,
    chain_id: ChainId,
    rules: Arc<HeaderRules>,
    canonical: ArcSwap<Canonical>,
    heads: watch::Sender<Option<Heads>>,
    inbox: Mutex<Inbox>,
    /// One decision at a time; each sees the outcome of the one before.
    turn: tokio::sync::Mutex<Turn>,
    extending: tokio::sync::Mutex<()>,
    /// When the last refresh began; those who asked before it are served by it.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    head: Gauge,
    reorgs: Counter,
    reorg_depth: Histogram,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Headers that upstreams reported lately, by hash, with the order they came in.
    recent: HashMap<Hash, Followed>,
    order: VecDeque<Hash>,
    /// Per upstream: the hashes it reported by height.
    histories: Vec<BTreeMap<Height, Hash>>,
    /// Per upstream: its `safe` and `finalized` blocks.
    finality: Vec<(Option<BlockRef>, Option<BlockRef>)>,
}

#[derive(Debug, Default)]
struct Turn {
    /// Since when every upstream's head has been below ours.
    below_since: Option<Instant>,
}

impl Follower {
    pub(crate) fn new(pool: Arc<Pool>, chain_id: ChainId, rules: Arc<HeaderRules>) -> Self {
        let count = pool.upstreams.len();
        let label = || pool.chain.to_string();
        let meters = Meters {
            head: gauge!("lookout_chain_head_number", "chain" => label()),
            reorgs: counter!("lookout_chain_reorgs_total", "chain" => label()),
            reorg_depth: histogram!("lookout_chain_reorg_depth_blocks", "chain" => label()),
        };
        let inbox = Inbox {
            histories: vec![BTreeMap::new(); count],
            finality: vec![(None, None); count],
            ..Inbox::default()
        };
        Self {
            pool,
            chain_id,
            rules,
            canonical: ArcSwap::default(),
            heads: watch::Sender::new(None),
            inbox: Mutex::new(inbox),
            turn: tokio::sync::Mutex::default(),
            extending: tokio::sync::Mutex::default(),
            refreshed: tokio::sync::Mutex::default(),
            meters,
        }
    }

    /// Starts a tracker per upstream, and the clock that settles what only time settles.
    pub(crate) fn start(self: &Arc<Self>, stop: &CancellationToken) {
        for i in 0..self.pool.upstreams.len() {
            let task = tracker::track(self.clone(), i);
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled_owned(task).await });
        }
        let (follower, stop) = (self.clone(), stop.clone());
        let tick = async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                follower.decide().await;
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled_owned(tick).await });
    }

    pub(crate) fn canonical(&self) -> Arc<Canonical> {
        self.canonical.load_full()
    }

    pub(crate) fn heads(&self) -> Option<Heads> {
        *self.heads.borrow()
    }

    pub(crate) fn watch_heads(&self) -> watch::Receiver<Option<Heads>> {
        self.heads.subscribe()
    }

    /// Polls all upstreams now and follows what they say, for at most `limit`.
    pub(crate) async fn refresh(&self, limit: Duration) {
        let asked = Instant::now();
        let mut began = self.refreshed.lock().await;
        if began.is_some_and(|at| at > asked) {
            return;
        }
        *began = Some(Instant::now());
        let polls = (0..self.pool.upstreams.len()).map(|i| tracker::poll(self, i));
        // A slow upstream may miss a refresh; its own tracker asks it again anyway.
        drop(tokio::time::timeout(limit, futures_util::future::join_all(polls)).await);
        self.decide().await;
    }

    /// An upstream reported its head.
    fn report(&self, i: usize, block: Followed) {
        let upstream = &self.pool.upstreams[i];
        let reference = block.block();
        let mut inbox = self.inbox.lock();
        let history = &mut inbox.histories[i];
        history.split_off(&reference.number);
        history.insert(reference.number, reference.hash);
        if let Some(below) = reference.number.checked_sub(1) {
            history.insert(below, block.header.parent);
        }
        while history.len() > RECENT_MAX {
            history.pop_first();
        }
        inbox.remember(block);
        drop(inbox);
        upstream.saw_head(reference, Instant::now());
    }

    fn report_finality(&self, i: usize, safe: Option<BlockRef>, finalized: Option<BlockRef>) {
        self.inbox.lock().finality[i] = (safe, finalized);
    }

    /// Takes stock of all heads and follows the agreed one.
    pub(crate) async fn decide(&self) {
        let mut turn = self.turn.lock().await;
        let now = Instant::now();
        let votes: Vec<Option<Vote>> = self
            .pool
            .upstreams
            .iter()
            .map(|u| {
                u.head().filter(|_| u.in_touch(now)).map(|seen| Vote {
                    block: seen.block,
                    age: now.saturating_duration_since(seen.since),
                })
            })
            .collect();
        let settings = &self.pool.settings;
        let agreed = agree::agree(&votes, settings.quorum, settings.head_lag_max, |i, block| {
            let inbox = self.inbox.lock();
            inbox.histories[i].get(&block.number).is_some_and(|hash| *hash != block.hash)
        });
        let Some(agreed) = agreed else { return };
        self.advance(agreed.block, agreed.level, &votes, &mut turn).await;
        self.settle_finality();
        self.mark_lag(&votes);
        self.publish();
    }

    async fn advance(
        &self,
        target: BlockRef,
        level: Level,
        votes: &[Option<Vote>],
        turn: &mut Turn,
    ) {
        let current = self.canonical();
        let Some(head) = current.head().map(Followed::block) else {
            if let Some(block) = self.reported(&target.hash) {
                self.canonical.store(Arc::new(current.restarted_at(Followed { level, ..block })));
            }
            return;
        };
        if target == head {
            turn.below_since = None;
            if current.head().is_some_and(|own| own.level < level) {
                self.canonical.store(Arc::new(current.with_level(level)));
            }
            return;
        }
        if current.at(target.number).is_some_and(|own| own.block() == target) {
            self.consider_rollback(&current, head.number, votes, turn);
            return;
        }
        turn.below_since = None;
        self.follow_branch(&current, target, level).await;
    }

    /// All upstreams in touch are below our head on our own branch: behind for a moment, or for long.
    fn consider_rollback(
        &self,
        current: &Canonical,
        head: Height,
        votes: &[Option<Vote>],
        turn: &mut Turn,
    ) {
        let highest = votes.iter().flatten().map(|vote| vote.block.number).max();
        let Some(highest) = highest.filter(|height| *height < head) else {
            turn.below_since = None;
            return;
        };
        let since = *turn.below_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= ROLLBACK_AFTER {
            tracing::warn!(chain = %self.pool.chain, from = head, to = highest,
                "no upstream in touch has the head any more, and the highest of their heads is followed");
            self.canonical.store(Arc::new(current.truncated_to(highest)));
            turn.below_since = None;
        }
    }

    /// Walks from `target` back to a followed block, then switches to the branch in one step.
    async fn follow_branch(&self, current: &Canonical, target: BlockRef, level: Level) {
        let mut branch = Vec::new();
        let mut wanted = target.hash;
        let floor = current.low().unwrap_or(0);
        let known = current.head().map_or(0, |head| head.block().number);
        if target.number.saturating_sub(known) > GAP_MAX {
            let Some(block) = self.header(&target.hash, target.number).await else { return };
            tracing::warn!(chain = %self.pool.chain, from = known, to = target.number,
                "the head jumped ahead, the followed window starts anew");
            self.canonical.store(Arc::new(current.restarted_at(Followed { level, ..block })));
            return;
        }
        loop {
            let Some(block) = self.header(&wanted, target.number).await else { return };
            let block = Followed { level, ..block };
            let (number, parent) = (block.block().number, block.header.parent);
            let child = branch.last().map(|child: &Followed| child.header.clone());
            if let Some(Err(error)) = child.map(|c| verify::check_parent(&c, block.block())) {
                tracing::warn!(chain = %self.pool.chain, "rejected a branch: {error}");
                return;
            }
            branch.push(block.clone());
            if number <= floor || branch.len() > WALK_MAX {
                let restart = branch.swap_remove(0);
                tracing::warn!(chain = %self.pool.chain, head = target.number,
                    "the new head does not connect to the followed window, which starts anew");
                self.canonical.store(Arc::new(current.restarted_at(restart)));
                return;
            }
            if current.at(number - 1).is_some_and(|own| own.block().hash == parent) {
                break;
            }
            wanted = parent;
        }
        let Some((next, depth)) = current.with_branch(&branch) else { return };
        self.canonical.store(Arc::new(next.with_level(level)));
        if depth > 0 {
            self.meters.reorgs.increment(1);
            #[expect(clippy::cast_precision_loss, reason = "a depth is far below 2^52")]
            self.meters.reorg_depth.record(depth as f64);
            tracing::info!(chain = %self.pool.chain, depth, head = target.number, "reorg followed");
        }
    }

    /// A header by hash: as reported lately, else from an upstream.
    async fn header(&self, hash: &Hash, height: Height) -> Option<Followed> {
        if let Some(block) = self.reported(hash) {
            return Some(block);
        }
        let params = format!("[\"{hash}\",false]");
        let call = Call {
            method: methods::known("eth_getBlockByHash"),
            params: &params,
            height: Some(height),
            request: Request::One,
            deadline: self.pool.deadline(),
            except: &[],
        };
        let checked = self.pool.ask(call, |json| self.checked(json, hash)).await;
        match checked {
            Ok(won) => {
                self.inbox.lock().remember(won.value.clone());
                Some(won.value)
            }
            Err(Lost::Failed(error)) => {
                tracing::warn!(chain = %self.pool.chain, %hash, "cannot fetch a header: {error}");
                None
            }
            Err(_) => None,
        }
    }

    fn checked(&self, json: &[u8], hash: &Hash) -> Result<Followed, Reject> {
        if json == b"null" {
            return Err(Reject::Missing);
        }
        let lie = |error: VerifyError| Reject::Lie(error.to_string());
        let block = self.rules.check(json).map_err(lie)?;
        verify::check_asked(&block.header, *hash).map_err(lie)?;
        Ok(block)
    }

    fn reported(&self, hash: &Hash) -> Option<Followed> {
        self.inbox.lock().recent.get(hash).cloned()
    }

    /// Adds up to `count` ancestors below the window, so that recent heights resolve. One walk at
    /// a time; the chain goes on being followed meanwhile.
    pub(crate) async fn extend_below(&self, count: u64) {
        let Ok(_walking) = self.extending.try_lock() else { return };
        let current = self.canonical();
        let Some(low) = current.low().and_then(|low| current.at(low)) else { return };
        let (level, number) = (low.level, low.block().number);
        let mut ancestors = Vec::new();
        let mut next = low.header.parent;
        for _ in 0..count.min(number) {
            let Some(block) = self.header(&next, number).await else { break };
            next = block.header.parent;
            ancestors.push(Followed { level, ..block });
        }
        let _turn = self.turn.lock().await;
        let extended = self.canonical().with_ancestors(&ancestors);
        self.canonical.store(Arc::new(extended));
    }

    /// Adopts the `safe` and `finalized` blocks that enough upstreams have reached.
    fn settle_finality(&self) {
        let now = Instant::now();
        let inbox = self.inbox.lock();
        let told: Vec<_> = self
            .pool
            .upstreams
            .iter()
            .zip(&inbox.finality)
            .filter(|(upstream, _)| upstream.in_touch(now) && !upstream.is_lagging())
            .map(|(_, finality)| *finality)
            .collect();
        drop(inbox);
        let reached = |mut blocks: Vec<BlockRef>| {
            blocks.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
            let needed = self.pool.settings.quorum.clamp(1, blocks.len().max(1));
            blocks.get(needed - 1).copied()
        };
        let safe = reached(told.iter().filter_map(|(safe, _)| *safe).collect());
        let finalized = reached(told.iter().filter_map(|(_, fin)| *fin).collect());
        let current = self.canonical();
        if (safe.is_some() && safe != current.safe)
            || (finalized.is_some() && finalized != current.finalized)
        {
            self.canonical.store(Arc::new(current.with_finality(safe, finalized)));
        }
    }

    fn mark_lag(&self, votes: &[Option<Vote>]) {
        let Some(head) = self.canonical.load().head().map(|h| h.block().number) else { return };
        for (upstream, vote) in self.pool.upstreams.iter().zip(votes) {
            // Without a vote it is out of touch, which is worse than behind but not the same.
            let lag = vote.map_or(0, |v| head.saturating_sub(v.block.number));
            upstream.set_lag(lag, self.pool.settings.head_lag_max);
        }
    }

    fn publish(&self) {
        let canonical = self.canonical.load();
        let Some(head) = canonical.head() else { return };
        let heads = Heads {
            latest: head.block(),
            safe: canonical.safe,
            finalized: canonical.finalized,
            level: head.level,
            timestamp: head.header.timestamp,
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge; heights are far below 2^52")]
        self.meters.head.set(heads.latest.number as f64);
        self.heads.send_if_modified(|old| {
            let changed = *old != Some(heads);
            *old = Some(heads);
            changed
        });
    }
}

impl Inbox {
    fn remember(&mut self, block: Followed) {
        let hash = block.block().hash;
        if self.recent.insert(hash, block).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > RECENT_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.recent.remove(&oldest);
            }
        }
    }
}
