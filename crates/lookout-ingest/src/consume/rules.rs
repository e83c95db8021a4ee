//! Rules on frames: what matches becomes an alert, and a confirmed alert is put into the outbox.
//!
//! Frames go through a [`Matcher`](lookout_rules::Matcher) in memory; what they come to commits in
//! one transaction with the cursor. Windows are kept as a snapshot now and then: after a restart
//! the frames since then pass through the matcher again, and nothing is written for them.
//!
//! A rule that is new, changed or paused is taken up between two frames: it watches (or watches no
//! longer) from the height after the committed head on, and that height is stored. So what matches
//! is a function of the frames and the versions of the rules, also in a rebuild; changes made during
//! one wait for its end.

mod facts;
mod kept_parts;
mod meters;
mod plan;
mod readings;
mod record;
mod rounds;
mod state;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lookout_rules::{Kept, WindowError};
use lookout_store::{Store, WatchCommitted};
use lookout_types::{BlockRef, ChainId, Cursor, Frame, Height, Step};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

pub use self::rounds::{BalanceReader, ReadError, Round, RoundLimits, Rounds, Unread};

use self::meters::Meters;
use self::plan::Plan;
use self::state::ChainState;
use super::{ConsumeError, Consumer};

/// Longest time between two looks for changed rules: other instances' changes raise no signal here.
const LOOK: Duration = Duration::from_secs(1);
/// Blocks that can be undone at first: deeper than any reorg that chains outside of laboratories
/// have seen. It doubles with each rebuild that was asked for because it did not suffice.
const DEPTH: u64 = 1024;

/// Takes frames, and makes alerts of what rules match.
#[derive(Debug)]
pub struct RulesConsumer {
    store: Store,
    chains: Mutex<HashMap<ChainId, Arc<AsyncMutex<Watched>>>>,
    names: HashMap<ChainId, Arc<str>>,
    kept: HashMap<ChainId, Arc<Kept>>,
}

/// One chain.
#[derive(Debug)]
struct Watched {
    chain: ChainId,
    meters: Meters,
    /// What is kept of its blocks; `None` where that is everything.
    kept: Option<Arc<Kept>>,
    /// How many blocks can be undone.
    depth: u64,
    /// `None` before the first use and after a failure: it is read from the store then.
    state: Option<ChainState>,
}

impl RulesConsumer {
    /// A consumer that keeps its state in a store. `names` are the chains' configured names, for
    /// metrics; a chain without one goes by its id.
    pub fn new(store: Store, names: impl IntoIterator<Item = (ChainId, Arc<str>)>) -> Self {
        let names = names.into_iter().collect();
        Self { store, chains: Mutex::default(), names, kept: HashMap::new() }
    }

    /// Tells the owners of rules that can match nothing of what is kept of their chains.
    #[must_use]
    pub fn with_kept(self, kept: impl IntoIterator<Item = (ChainId, Kept)>) -> Self {
        let kept = kept.into_iter().map(|(chain, kept)| (chain, Arc::new(kept)));
        Self { kept: kept.collect(), ..self }
    }

    /// Takes up changed rules of a chain, and balances that were read, while no frames come, until
    /// told to stop: a rule is live within a second of being saved.
    pub async fn follow_rules(&self, chain: ChainId, stop: CancellationToken) {
        let mut changed = self.store.signals().rules.listen();
        let mut read = self.store.signals().readings.listen();
        let mut warned = false;
        let watch = async {
            loop {
                // Any of them wakes it; a signal's end cannot come before the store's.
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = read.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                match self.apply_to(chain, Vec::new()).await {
                    Ok(_) => warned = false,
                    Err(error) if !warned => {
                        warned = true;
                        tracing::warn!(chain = chain.0, %error, "changed rules wait to be taken up");
                    }
                    Err(_) => {}
                }
            }
        };
        stop.run_until_cancelled(watch).await;
    }

    fn chain(&self, chain: ChainId) -> Arc<AsyncMutex<Watched>> {
        let mut chains = self.chains.lock();
        let watched = chains.entry(chain).or_insert_with(|| {
            let name = self.names.get(&chain).cloned();
            let meters = Meters::new(&name.unwrap_or_else(|| chain.to_string().into()));
            let kept = self.kept.get(&chain).cloned();
            Arc::new(AsyncMutex::new(Watched { chain, meters, kept, depth: DEPTH, state: None }))
        });
        Arc::clone(watched)
    }

    async fn apply_to(
        &self,
        chain: ChainId,
        frames: Vec<Arc<Frame>>,
    ) -> Result<Cursor, ConsumeError> {
        let watched = self.chain(chain);
        let mut watched = watched.lock().await;
        let applied = watched.apply(&self.store, frames).await;
        if applied.is_err() {
            // What is in memory may be ahead of what is committed.
            watched.state = None;
        }
        applied
    }
}

#[async_trait]
impl Consumer for RulesConsumer {
    fn name(&self) -> &'static str {
        "rules"
    }

    /// Where frames are wanted from: where the windows were kept last, which may be before the
    /// last frame committed.
    async fn cursor(&self, chain: ChainId) -> Result<Cursor, ConsumeError> {
        let watched = self.chain(chain);
        let mut watched = watched.lock().await;
        Ok(watched.state(&self.store).await?.seen)
    }

    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Cursor, ConsumeError> {
        let Some(first) = frames.first() else {
            return Err(ConsumeError::Fatal("there are no frames to apply".to_owned()));
        };
        self.apply_to(first.chain, frames).await
    }

    /// Begins again from the frames. Alerts and deliveries stay and are found again under their
    /// ids, so nothing is sent twice; see [`Store::reset_watch`].
    async fn reset(&self, chain: ChainId) -> Result<(), ConsumeError> {
        let watched = self.chain(chain);
        let mut watched = watched.lock().await;
        watched.state = None;
        Ok(self.store.reset_watch(chain).await?)
    }
}

impl Watched {
    /// The state in memory, read from the store when there is none.
    async fn state(&mut self, store: &Store) -> Result<&mut ChainState, ConsumeError> {
        let state = match self.state.take() {
            Some(state) => state,
            None => ChainState::load(store, self.chain, self.kept.clone(), self.depth).await?,
        };
        Ok(self.state.insert(state))
    }

    async fn apply(
        &mut self,
        store: &Store,
        frames: Vec<Arc<Frame>>,
    ) -> Result<Cursor, ConsumeError> {
        let depth = self.depth;
        let meters = self.meters.clone();
        let state = self.state(store).await?;
        let mut plan = Plan::new(state.committed);
        state.take_up(store, depth, &mut plan).await?;
        state.expect(&frames)?;
        plan = state.take_readings(store, depth, plan, &meters).await?;
        for frame in &frames {
            if let Err(error) = state.pass(frame, &mut plan, &meters) {
                // What came before is right, and is committed first.
                state.commit(store, plan, depth, &meters).await?;
                if matches!(error, Unfit::Window(WindowError::TooDeep { .. })) {
                    self.depth = depth.saturating_mul(2);
                }
                return Err(ConsumeError::Rebuild(error.to_string()));
            }
            if plan.is_full() || state.rebuilding == Some(state.seen.sequence) {
                let next = Plan::new(state.seen);
                let full = std::mem::replace(&mut plan, next);
                state.commit(store, full, depth, &meters).await?;
            }
            // A frame takes milliseconds; others get their turn in between.
            tokio::task::yield_now().await;
        }
        state.commit(store, plan, depth, &meters).await?;
        meters.watching(state.matcher.active().len());
        Ok(state.seen)
    }
}

impl ChainState {
    /// Refuses frames that leave out some since the windows were kept: after a failure the state is
    /// read again, perhaps without whoever sends the frames knowing.
    fn expect(&self, frames: &[Arc<Frame>]) -> Result<(), ConsumeError> {
        let next = self.seen.sequence + 1;
        match frames.first() {
            Some(first)
                if self.seen.sequence < self.committed.sequence && first.sequence > next =>
            {
                Err(ConsumeError::Retry(format!(
                    "the rules of chain {} want frames from {next} on, not from {}",
                    first.chain, first.sequence
                )))
            }
            _ => Ok(()),
        }
    }

    /// Takes a frame into memory and into the plan, unless it is committed already.
    fn pass(&mut self, frame: &Frame, plan: &mut Plan, meters: &Meters) -> Result<(), Unfit> {
        if self.seen.sequence > 0 && frame.sequence <= self.seen.sequence {
            return Ok(());
        }
        let (head, base) = self.follow(frame)?;
        let begun = Instant::now();
        let stepped = self.matcher.step(frame).map_err(Unfit::Window)?;
        self.seen = Cursor { chain: frame.chain, sequence: frame.sequence, head };
        self.base = base;
        if self.seen.sequence == self.committed.sequence && head != self.committed.head {
            return Err(Unfit::Replaced { sequence: frame.sequence });
        }
        if self.seen.sequence > self.committed.sequence {
            meters.evaluated(begun.elapsed(), &stepped);
            plan.add(frame, stepped, &self.matcher, self.seen);
        }
        Ok(())
    }

    /// The head after a frame that follows what was seen, and the lowest block of its chain.
    fn follow(&self, frame: &Frame) -> Result<(Option<BlockRef>, Option<Height>), Unfit> {
        let (seen, number) = (&self.seen, frame.block.number);
        let below = number.checked_sub(1);
        let below = below.map(|number| BlockRef { number, hash: frame.parent });
        // The first frame after a reset may be any that adds a block.
        let first = seen.sequence == 0 || frame.sequence == seen.sequence + 1;
        let fits = match (frame.step, seen.head) {
            (Step::Apply, None) => first,
            (Step::Apply, head) => first && head == below,
            (Step::Undo, head) => first && head == Some(frame.block),
        };
        if !fits {
            let (sequence, step, after) = (frame.sequence, frame.step, seen.sequence);
            return Err(Unfit::Gap { sequence, step, block: number, after });
        }
        Ok(match frame.step {
            Step::Apply => (Some(frame.block), self.base.or(Some(number))),
            // Below the lowest block nothing is known, so the next may have any parent.
            Step::Undo if self.base == Some(number) => (None, None),
            Step::Undo => (below, self.base),
        })
    }

    async fn commit(
        &mut self,
        store: &Store,
        mut plan: Plan,
        depth: u64,
        meters: &Meters,
    ) -> Result<(), ConsumeError> {
        if plan.is_empty() {
            return Ok(());
        }
        self.keep_windows(&mut plan, depth);
        // Also of a plan without frames: asking about balances leaves the chain as it is.
        plan.base = self.base;
        let commit = plan.finish();
        match store.commit_watch(&commit).await? {
            WatchCommitted::Done(changes) => {
                self.committed = commit.cursor;
                if changes.rebuilt {
                    self.rebuilt();
                }
                meters.committed(&changes);
                Ok(())
            }
            WatchCommitted::Elsewhere(found) => Err(ConsumeError::Retry(format!(
                "another instance has moved the rules of chain {} from frame {} to frame {found}",
                commit.cursor.chain, commit.after
            ))),
        }
    }
}

/// Why a frame cannot be taken.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("frame {sequence} ({step} block {block}) does not follow frame {after} of the rules")]
    Gap { sequence: u64, step: Step, block: u64, after: u64 },
    #[error("frame {sequence} is not the one that the rules have seen: earlier ones were replaced")]
    Replaced { sequence: u64 },
    #[error("{0}")]
    Window(WindowError),
}

#[cfg(test)]
mod tests;
