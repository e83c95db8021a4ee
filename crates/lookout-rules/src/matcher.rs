//! Frames in, matches out: the rules of one chain with the heights that each version watches.
//!
//! The live consumer and the backtest step through the same matcher, so both find the same matches.
//! At every block the index holds exactly the versions that watch its height: a change of a rule
//! costs when the chain passes the height of the change, in either direction, and no frame asks the
//! other rules. So what matches at a block is a function of its branch alone, windows included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Frame, Hash, Height, OddLog, Step, UnixSeconds,
    transfers,
};

use crate::evaluate::{BalanceReading, Failure, Match, Undecodable, evaluate, evaluate_balances};
use crate::index::RuleSet;
use crate::rule::{Rule, RuleId};
use crate::window::{WindowError, WindowState};

/// First byte of a snapshot; a new layout gets a new one.
const SNAPSHOT_VERSION: u8 = 1;

/// The versions of rules that watch one chain, and their windows.
#[derive(Debug, Clone)]
pub struct Matcher {
    chain: ChainId,
    versions: BTreeMap<(RuleId, u32), Watched>,
    /// Heights at which a version of a rule begins or ends.
    edges: BTreeMap<Height, BTreeSet<RuleId>>,
    /// The versions that watch `at`, at most one of a rule.
    active: RuleSet,
    active_windows: usize,
    /// The height of the block applied last; `None` before the first.
    at: Option<Height>,
    windows: WindowState,
    /// Blocks up to here cannot be undone: something that they need is gone.
    forgotten: Option<Height>,
}

/// A version and the heights that it watches: `from` on, below `until`.
#[derive(Debug, Clone)]
struct Watched {
    rule: Arc<Rule>,
    from: Height,
    until: Option<Height>,
}

/// A balance read at a block, with the reading before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Whose.
    pub account: Address,
    /// Of what.
    pub asset: Asset,
    /// The balance at the block.
    pub balance: Amount,
    /// Height and balance of the newest reading below; `None` at the first.
    pub before: Option<(Height, Amount)>,
}

impl Reading {
    /// As a version sees it that knows the reading before, or does not.
    fn told(&self, knows: bool) -> BalanceReading {
        let Self { account, asset, balance, before } = *self;
        let previous = before.filter(|_| knows).map_or(balance, |(_, balance)| balance);
        BalanceReading { account, asset, balance, previous }
    }
}

impl Watched {
    fn watches(&self, height: Height) -> bool {
        self.from <= height && self.until.is_none_or(|until| height < until)
    }
}

/// What came of a frame, or of readings.
#[derive(Debug, Clone, Default)]
pub struct Stepped {
    /// The matches: those without a window by record, then those of windows.
    pub matches: Vec<Match>,
    /// Records without an answer, counted together by rule and error.
    pub failures: Vec<Failure>,
    /// Records that do not decode, for each rule that they concern; the failures have them without a
    /// rule.
    pub undecodable: Vec<Undecodable>,
    /// Logs that look like transfers but do not decode as one.
    pub odd: Vec<OddLog>,
    /// How many rules were looked at, over all records.
    pub candidates: u64,
}

impl Matcher {
    /// A matcher without rules.
    pub fn new(chain: ChainId) -> Self {
        Self {
            chain,
            versions: BTreeMap::new(),
            edges: BTreeMap::new(),
            active: RuleSet::new(),
            active_windows: 0,
            at: None,
            windows: WindowState::new(chain),
            forgotten: None,
        }
    }

    /// Adds a version that watches blocks from `from_height` on. Earlier versions of the rule end
    /// there at the latest.
    ///
    /// Its window begins with the next block applied, so a version with a window is added before
    /// the first block that it watches.
    pub fn insert(&mut self, rule: Arc<Rule>, from_height: Height) {
        let (id, version) = (rule.id(), rule.version());
        if let Some(before) = version.checked_sub(1) {
            self.retire(id, before, from_height);
        }
        self.versions.insert((id, version), Watched { rule, from: from_height, until: None });
        self.edge(from_height, id);
        if let Some(at) = self.at {
            self.refresh(id, at);
        }
    }

    /// Ends a version, and every earlier one that still watches, below `until_height`.
    ///
    /// It is kept for reorgs that go back below that height, until [`Matcher::prune`] drops it.
    pub fn retire(&mut self, id: RuleId, version: u32, until_height: Height) {
        let mut ended = false;
        for (_, watched) in self.versions.range_mut((id, 0)..=(id, version)) {
            if watched.until.is_none_or(|until| until > until_height) {
                watched.until = Some(until_height);
                ended = true;
            }
        }
        if !ended {
            return;
        }
        self.edge(until_height, id);
        if let Some(at) = self.at {
            self.refresh(id, at);
        }
    }

    /// Takes a frame.
    ///
    /// An apply gives what its records match. An undo takes the windows back and gives nothing.
    ///
    /// # Errors
    /// [`WindowError`] when the frame does not fit; the windows are unchanged then.
    pub fn step(&mut self, frame: &Frame) -> Result<Stepped, WindowError> {
        if frame.chain != self.chain {
            return Err(WindowError::OtherChain { expected: self.chain, found: frame.chain });
        }
        match frame.step {
            Step::Apply => self.apply(frame),
            Step::Undo => self.undo(frame).map(|()| Stepped::default()),
        }
    }

    /// Evaluates balances that were read at a block, by the versions that watch its height.
    ///
    /// To a version that began after the reading before, there is none: the balance then has not
    /// changed. So what an account was once watched for, by whomever, makes no alert of a new rule.
    pub fn read(&self, block: BlockRef, time: UnixSeconds, readings: &[Reading]) -> Stepped {
        let frame = Frame {
            chain: self.chain,
            sequence: 0,
            step: Step::Apply,
            block,
            parent: Hash([0; 32]),
            timestamp: time,
            transactions: Vec::new(),
            logs: Vec::new(),
        };
        let readers = self.readers(block.number);
        // Accounts are read together, so there are few heights.
        let mut by_before: BTreeMap<Option<Height>, Vec<&Reading>> = BTreeMap::new();
        for reading in readings {
            by_before.entry(reading.before.map(|(height, _)| height)).or_default().push(reading);
        }
        let mut stepped = Stepped::default();
        for (before, readings) in by_before {
            let (mut old, mut new) = (RuleSet::new(), RuleSet::new());
            for reader in &readers {
                let knows = before.is_some_and(|height| reader.from <= height);
                if knows { &mut old } else { &mut new }.insert(Arc::clone(&reader.rule));
            }
            for (rules, knows) in [(&old, true), (&new, false)] {
                let readings: Vec<_> = readings.iter().map(|read| read.told(knows)).collect();
                let found = evaluate_balances(rules, &frame, &readings);
                stepped.matches.extend(found.matches);
                stepped.failures.extend(found.failures);
                stepped.candidates += found.candidates;
            }
        }
        stepped
    }

    /// The versions that watch balances at a height.
    fn readers(&self, height: Height) -> Vec<&Watched> {
        let mut watching: BTreeMap<RuleId, &Watched> = BTreeMap::new();
        for ((id, _), watched) in &self.versions {
            if watched.watches(height) {
                // The newest one comes last.
                watching.insert(*id, watched);
            }
        }
        watching.into_values().filter(|watched| watched.rule.is_of_balances()).collect()
    }

    fn apply(&mut self, frame: &Frame) -> Result<Stepped, WindowError> {
        self.move_to(frame.block.number);
        if self.active.is_empty() && !self.has_windows() {
            return Ok(Stepped::default());
        }
        let moved = transfers(frame);
        let mut found = evaluate(&self.active, frame, &moved.transfers);
        if self.has_windows() {
            let windows = self.windows.apply(&self.active, frame, &found.contributions);
            let (matches, failures) = windows?;
            found.matches.extend(matches);
            found.failures.extend(failures);
        }
        Ok(Stepped {
            matches: found.matches,
            failures: found.failures,
            undecodable: found.undecodable,
            odd: moved.odd,
            candidates: found.candidates,
        })
    }

    fn undo(&mut self, frame: &Frame) -> Result<(), WindowError> {
        if self.forgotten.is_some_and(|forgotten| frame.block.number <= forgotten) {
            return Err(WindowError::TooDeep { block: frame.block });
        }
        // Nothing was in any window at blocks below those that the windows know.
        if self.windows.depth() == 0 { Ok(()) } else { self.windows.undo(frame) }
    }

    /// Forgets what only blocks up to `final_height` could bring back.
    pub fn prune(&mut self, final_height: Height) {
        let known = self.versions.len();
        // No block that such a version watched can be applied again.
        let over = |watched: &Watched| {
            watched.until.is_some_and(|until| until <= final_height.saturating_add(1))
        };
        self.versions.retain(|_, watched| !over(watched));
        let dropped = self.versions.len() < known;
        let remembered = self.windows.depth();
        let versions = &self.versions;
        self.windows.prune_by(final_height, |key| {
            versions.get(&key).map(|watched| watched.rule.window_s().unwrap_or_default())
        });
        let kept = self.edges.split_off(&final_height.saturating_add(2));
        let edges = std::mem::replace(&mut self.edges, kept);
        if dropped || self.windows.depth() < remembered {
            self.forget(final_height);
        }
        // Below an edge that is dropped, the index would hold versions of above.
        if let Some(below) = edges.keys().next_back().and_then(|height| height.checked_sub(1)) {
            self.forget(below);
        }
        if !self.versions.values().any(|watched| watched.rule.window_s().is_some()) {
            self.windows = WindowState::new(self.chain);
        }
        if let (true, Some(at)) = (dropped, self.at) {
            let known = |rule: &&Arc<Rule>| self.rule(rule.id(), rule.version()).is_some();
            let gone = self.active.iter().filter(|rule| !known(rule)).map(|rule| rule.id());
            for id in gone.collect::<Vec<_>>() {
                self.refresh(id, at);
            }
        }
    }

    /// Tells that versions which ended at `height` or before were never inserted, so that blocks up
    /// to there cannot be undone.
    pub fn forget(&mut self, height: Height) {
        self.forgotten = self.forgotten.max(Some(height));
    }

    /// The windows as bytes; empty while there are none. The rules are not among them.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.snapshot_parts(&mut |_, part| bytes.extend(part));
        bytes
    }

    /// The same in parts with names, for a consumer to keep with its cursor: joined in the order of
    /// their names they are the snapshot. From one to the next most parts stay as they are.
    pub fn snapshot_parts(&self, keep: &mut dyn FnMut(String, Vec<u8>)) {
        if !self.has_windows() {
            return;
        }
        let mut head = vec![SNAPSHOT_VERSION, u8::from(self.forgotten.is_some())];
        head.extend(self.forgotten.unwrap_or_default().to_le_bytes());
        self.windows.to_parts(head, keep);
    }

    /// Restores the windows of [`Matcher::snapshot`]; the rules are inserted apart.
    ///
    /// # Errors
    /// [`WindowError::Snapshot`] when the bytes are damaged or of another version, and
    /// [`WindowError::OtherChain`]. The windows are unchanged then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), WindowError> {
        if bytes.is_empty() {
            self.windows = WindowState::new(self.chain);
            return Ok(());
        }
        let short = WindowError::Snapshot("they end early");
        let (head, rest) = bytes.split_first_chunk::<2>().ok_or(short.clone())?;
        let (height, windows) = rest.split_first_chunk::<8>().ok_or(short)?;
        let forgotten = match head {
            [SNAPSHOT_VERSION, 0] => None,
            [SNAPSHOT_VERSION, 1] => Some(u64::from_le_bytes(*height)),
            _ => return Err(WindowError::Snapshot("they are of another version of lookout")),
        };
        let windows = WindowState::from_bytes(windows)?;
        if windows.chain() != self.chain {
            let (expected, found) = (self.chain, windows.chain());
            return Err(WindowError::OtherChain { expected, found });
        }
        self.windows = windows;
        if let Some(height) = forgotten {
            self.forget(height);
        }
        Ok(())
    }

    /// A version that was inserted and not dropped yet.
    pub fn rule(&self, id: RuleId, version: u32) -> Option<&Arc<Rule>> {
        self.versions.get(&(id, version)).map(|watched| &watched.rule)
    }

    /// The versions that watch the block applied last.
    pub fn active(&self) -> &RuleSet {
        &self.active
    }

    /// Whether a window or a silence is kept, so that [`Matcher::snapshot`] holds something.
    pub fn has_windows(&self) -> bool {
        self.active_windows > 0 || self.windows.depth() > 0 || !self.windows.is_blank()
    }

    fn edge(&mut self, height: Height, id: RuleId) {
        self.edges.entry(height).or_default().insert(id);
    }

    /// Makes the index that of a height.
    fn move_to(&mut self, height: Height) {
        let changed: BTreeSet<RuleId> = match self.at.replace(height) {
            None => self.versions.keys().map(|(id, _)| *id).collect(),
            Some(before) if before == height => return,
            Some(before) => {
                let (low, high) = (before.min(height), before.max(height));
                let passed = self.edges.range(low.saturating_add(1)..=high);
                passed.flat_map(|(_, ids)| ids.iter().copied()).collect()
            }
        };
        for id in changed {
            self.refresh(id, height);
        }
    }

    /// Makes a rule's version in the index the newest one that watches a height.
    fn refresh(&mut self, id: RuleId, height: Height) {
        let versions = self.versions.range((id, 0)..=(id, u32::MAX)).rev();
        let watching = versions.map(|(_, watched)| watched).find(|watched| watched.watches(height));
        let wanted = watching.map(|watched| watched.rule.clone());
        let same = |a: &Arc<Rule>, b: &Arc<Rule>| Arc::ptr_eq(a, b);
        match (self.active.get(id), &wanted) {
            (None, None) => return,
            (Some(is), Some(wanted)) if same(is, wanted) => return,
            _ => {}
        }
        if let Some(gone) = self.active.remove(id) {
            self.active_windows -= usize::from(gone.window_s().is_some());
        }
        if let Some(rule) = wanted {
            self.active_windows += usize::from(rule.window_s().is_some());
            self.active.insert(rule);
        }
    }
}

#[cfg(test)]
mod tests;
