//! A chain in memory that grows, forks and fails as a test tells it to.
//!
//! Everything is a function of the seed and of the calls made.
#![expect(clippy::missing_panics_doc, reason = "for tests, which end there")]

mod content;
mod source;

use std::collections::HashMap;
use std::sync::Arc;

use lookout_chain::{Heads, Level, SourceBlock, SourceHeader};
use lookout_types::{BlockRef, ChainId, Hash, Height};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What goes wrong, in percent of the calls where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Ranges of more blocks than this are too large.
    pub range_blocks_max: Option<u64>,
    /// Ranges of several blocks with more logs and transactions than this are too large.
    pub range_records_max: Option<usize>,
    /// Whether the refusal says what would pass.
    pub suggests: bool,
    /// Calls that fail as if the upstreams were away.
    pub away: u8,
    /// Calls that say that the chain has moved.
    pub moved: u8,
    /// Calls that say that a block cannot be proved complete.
    pub unproved: u8,
    /// Ranges that leave a block out, repeat one, or come from another branch.
    pub wrong: u8,
    /// Most times that a call lets others go first.
    pub yields: u8,
}

/// Calls made so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Of `range`, those refused included.
    pub ranges: u64,
    /// Of `range`, those refused as too large.
    pub refused: u64,
    /// Blocks handed out, one by one and in ranges.
    pub blocks: u64,
    /// Of `header` and `header_at`.
    pub headers: u64,
}

/// How the blocks of a chain are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The first height.
    pub lowest: Height,
    /// Most logs of a block.
    pub logs_max: usize,
    /// Most transactions of a block.
    pub transactions_max: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { lowest: 0, logs_max: 6, transactions_max: 3 }
    }
}

/// A chain in memory; clones are the same chain.
#[derive(Debug, Clone)]
pub struct SimSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: ChainId,
    heads: watch::Sender<Option<Heads>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shape: Shape,
    random: fastrand::Rng,
    /// Every block there ever was.
    blocks: HashMap<Hash, Arc<SourceBlock>>,
    /// The followed branch from the lowest height up.
    branch: Vec<Hash>,
    faults: Faults,
    /// Apart from what makes the chain, so that faults change nothing of it.
    luck: fastrand::Rng,
    calls: Calls,
}

impl SimSource {
    /// An empty chain. Nobody knows a head before the first [`SimSource::announce`].
    pub fn new(chain: ChainId, seed: u64, shape: Shape) -> Self {
        let state = State {
            shape,
            random: fastrand::Rng::with_seed(seed),
            blocks: HashMap::new(),
            branch: Vec::new(),
            faults: Faults::default(),
            luck: fastrand::Rng::with_seed(!seed),
            calls: Calls::default(),
        };
        let heads = watch::Sender::new(None);
        Self(Arc::new(Inner { chain, heads, state: Mutex::new(state) }))
    }

    /// The same chain, as it is, without faults and with heads of its own.
    #[must_use]
    pub fn replica(&self) -> Self {
        let state = self.0.state.lock();
        let copy = State {
            shape: state.shape,
            random: state.random.clone(),
            blocks: state.blocks.clone(),
            branch: state.branch.clone(),
            faults: Faults::default(),
            luck: state.luck.clone(),
            calls: Calls::default(),
        };
        let heads = watch::Sender::new(None);
        let source = Self(Arc::new(Inner { chain: self.0.chain, heads, state: Mutex::new(copy) }));
        source.announce();
        source
    }

    /// Adds blocks to the followed branch.
    pub fn extend(&self, count: usize) {
        let mut state = self.0.state.lock();
        for _ in 0..count {
            state.add();
        }
    }

    /// Replaces the newest `depth` blocks by `length` others, and returns the tip before.
    pub fn reorg(&self, depth: usize, length: usize) -> Option<BlockRef> {
        let before = self.tip();
        self.rollback(depth);
        self.extend(length);
        before
    }

    /// Takes the newest `depth` blocks away.
    pub fn rollback(&self, depth: usize) {
        let mut state = self.0.state.lock();
        let left = state.branch.len().saturating_sub(depth);
        state.branch.truncate(left);
    }

    /// Goes back to a branch that was left.
    pub fn switch_to(&self, tip: BlockRef) {
        let mut state = self.0.state.lock();
        let mut branch = vec![tip.hash];
        while let Some(block) = branch.last().and_then(|hash| state.blocks.get(hash))
            && block.header.block.number > state.shape.lowest
        {
            branch.push(block.header.parent);
        }
        branch.reverse();
        state.branch = branch;
    }

    /// The newest block of the followed branch.
    pub fn tip(&self) -> Option<BlockRef> {
        let state = self.0.state.lock();
        state.branch.last().map(|hash| state.blocks[hash].header.block)
    }

    /// The blocks of the followed branch, oldest first.
    pub fn blocks(&self) -> Vec<Arc<SourceBlock>> {
        let state = self.0.state.lock();
        state.branch.iter().map(|hash| Arc::clone(&state.blocks[hash])).collect()
    }

    /// Tells the head as it is.
    pub fn announce(&self) {
        self.announce_lag(0);
    }

    /// Tells a head some blocks below the tip.
    pub fn announce_lag(&self, blocks: usize) {
        let header = {
            let state = self.0.state.lock();
            let Some(hash) = state.branch.iter().rev().nth(blocks).or(state.branch.first()) else {
                return;
            };
            state.blocks[hash].header
        };
        self.0.heads.send_replace(Some(Heads {
            latest: header.block,
            safe: None,
            finalized: None,
            level: Level::Single,
            timestamp: header.timestamp,
        }));
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.state.lock().faults = faults;
    }

    /// The calls made so far.
    pub fn calls(&self) -> Calls {
        self.0.state.lock().calls
    }

    /// A copy of a block with a change, put in its place: for what no honest upstream does.
    pub fn falsify(&self, height: Height, change: impl FnOnce(&mut SourceBlock)) {
        let mut state = self.0.state.lock();
        let hash = state.at(height).expect("the height is on the branch");
        let mut block = SourceBlock::clone(&state.blocks[&hash]);
        change(&mut block);
        state.blocks.insert(hash, Arc::new(block));
    }
}

impl State {
    fn at(&self, height: Height) -> Option<Hash> {
        let at = usize::try_from(height.checked_sub(self.shape.lowest)?).ok()?;
        self.branch.get(at).copied()
    }

    fn add(&mut self) {
        let parent = self.branch.last().copied();
        let number =
            parent.map_or(self.shape.lowest, |hash| self.blocks[&hash].header.block.number + 1);
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        let header = SourceHeader {
            block: BlockRef { number, hash: Hash(hash) },
            parent: parent.unwrap_or(Hash([0; 32])),
            timestamp: 1_700_000_000 + number * 12 + self.random.u64(0..12),
        };
        let block = content::block(&mut self.random, header, &self.shape);
        self.branch.push(header.block.hash);
        self.blocks.insert(header.block.hash, Arc::new(block));
    }
}
