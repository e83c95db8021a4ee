//! Windows and silences: what rules remember, in the time of the blocks.
//!
//! A window at time t holds the records of (t - length, t]. It matches at the record that makes its
//! condition hold, and again only after the condition stopped holding. So a window's matches depend
//! on nothing but the records in it, and a state can be rebuilt from the frames of one window back.

mod prune;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lookout_types::{BlockRef, ChainId, ErrorKind, Frame, Hash, Height, Step, UnixSeconds};
use ruint::Uint;
use ruint::aliases::U256;

use crate::error::EvalError;
use crate::evaluate::{Contribution, Failure, Match, RecordKey};
use crate::index::RuleSet;
use crate::rule::{CompiledWindow, RuleId, holds_for};
use crate::view::{Subject, View};

/// 2^64 values below 2^256 stay below 2^320: a sum never overflows, so taking away is exact.
type Wide = Uint<320, 5>;
type StateKey = (RuleId, u32);

/// Why a frame does not fit a window state. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The frame is of another chain.
    #[error("the windows are of chain {expected}, the frame is of chain {found}")]
    OtherChain {
        /// The state's chain.
        expected: ChainId,
        /// The frame's.
        found: ChainId,
    },
    /// The frame does not follow the last one.
    #[error(
        "block {} does not follow the last block seen; rebuild the windows from the frames",
        .block.number
    )]
    Gap {
        /// The frame's block.
        block: BlockRef,
    },
    /// Bytes that are no snapshot.
    #[error("the stored windows cannot be read: {0}; rebuild them from the frames")]
    Snapshot(&'static str),
    /// The block is older than what can be undone.
    #[error(
        "block {} is older than what the windows remember; rebuild them from the frames",
        .block.number
    )]
    TooDeep {
        /// The frame's block.
        block: BlockRef,
    },
}

impl WindowError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherChain { .. } | Self::Snapshot(_) => ErrorKind::Internal,
            Self::Gap { .. } | Self::TooDeep { .. } => ErrorKind::Conflict,
        }
    }
}

/// What the windows of one chain remember.
///
/// Undoing a block gives exactly the state before it. Blocks that became final are forgotten by
/// [`WindowState::prune`], which must be called now and then to keep the state small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowState {
    chain: ChainId,
    /// Time of the newest block; never runs backwards within a branch.
    time: UnixSeconds,
    tallies: BTreeMap<StateKey, Tally>,
    silences: BTreeMap<StateKey, Silence>,
    /// When each silence that has not matched yet becomes too long.
    deadlines: BTreeSet<(UnixSeconds, StateKey)>,
    journal: VecDeque<Undo>,
    taken_up: TakenUp,
}

/// Mark of the set of silences that was taken up last: it saves work and is no part of the state.
#[derive(Debug, Clone, Copy)]
struct TakenUp(Option<u64>);

impl PartialEq for TakenUp {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TakenUp {}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally {
    /// One per block with records, oldest first. Those that left the window stay until final.
    entries: VecDeque<TallyEntry>,
    /// How many entries in front were forgotten, and how many are outside the window, both
    /// counted from the first ever.
    forgotten: u64,
    outside: u64,
    count: u64,
    sum: Wide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TallyEntry {
    height: Height,
    time: UnixSeconds,
    count: u64,
    sum: Wide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Silence {
    last_seen: UnixSeconds,
    for_s: u64,
    matched: bool,
}

/// How to take back one block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Undo {
    block: BlockRef,
    parent: Hash,
    time: UnixSeconds,
    time_before: UnixSeconds,
    /// Outside, count and sum before; the block's own entry is the last.
    tallies: Vec<(StateKey, u64, u64, Wide)>,
    /// `None` where the silence was taken up by this block.
    silences: Vec<(StateKey, Option<Silence>)>,
}

impl WindowState {
    /// Empty windows.
    pub fn new(chain: ChainId) -> Self {
        Self {
            chain,
            time: 0,
            tallies: BTreeMap::new(),
            silences: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            journal: VecDeque::new(),
            taken_up: TakenUp(None),
        }
    }

    /// Takes a frame: an apply with what [`crate::evaluate()`] gave for it, or an undo.
    ///
    /// # Errors
    /// [`WindowError`] when the frame does not fit; nothing has changed then.
    pub fn advance(
        &mut self,
        rules: &RuleSet,
        frame: &Frame,
        contributions: &[Contribution],
    ) -> Result<(Vec<Match>, Vec<Failure>), WindowError> {
        match frame.step {
            Step::Apply => self.apply(rules, frame, contributions),
            Step::Undo => self.undo(frame).map(|()| (Vec::new(), Vec::new())),
        }
    }

    /// Adds a block's records and gives the matches that they bring about.
    ///
    /// # Errors
    /// [`WindowError`] when the block does not follow the last one.
    pub fn apply(
        &mut self,
        rules: &RuleSet,
        frame: &Frame,
        contributions: &[Contribution],
    ) -> Result<(Vec<Match>, Vec<Failure>), WindowError> {
        self.require_chain(frame)?;
        if self.journal.back().is_some_and(|last| last.block.hash != frame.parent) {
            return Err(WindowError::Gap { block: frame.block });
        }
        let time_before = self.time;
        self.time = self.time.max(frame.timestamp);
        let mut undo = Undo {
            block: frame.block,
            parent: frame.parent,
            time: self.time,
            time_before,
            tallies: Vec::new(),
            silences: Vec::new(),
        };
        let mut matches = Vec::new();
        let mut failures: BTreeMap<(StateKey, EvalError), Failure> = BTreeMap::new();
        self.take_up_silences(rules, &mut undo);
        self.end_silences(rules, frame, &mut undo, &mut matches);
        for contribution in contributions {
            let rule = &contribution.rule;
            let key = (rule.id(), rule.version());
            match &rule.window {
                Some(CompiledWindow::Tally { over_s, condition, .. }) => {
                    let tally = self.tallies.entry(key).or_default();
                    tally.open(key, *over_s, &mut undo);
                    let before = tally.holds(condition);
                    tally.add(contribution.amount);
                    match (before, tally.holds(condition)) {
                        (Ok(false) | Err(_), Ok(true)) => {
                            let (count, sum) = (U256::from(tally.count), tally.sum());
                            let mut values = contribution.values.clone();
                            rule.template.set_window(&mut values, count, sum.unwrap_or_default());
                            let record = contribution.record;
                            matches.push(of_block(key, frame, record, values));
                        }
                        (_, Err(error)) => {
                            let first = contribution.record;
                            let failure = failures.entry((key, error)).or_insert(Failure {
                                rule: Some(key),
                                error,
                                decode: None,
                                first,
                                count: 0,
                            });
                            failure.count += 1;
                        }
                        _ => {}
                    }
                }
                Some(CompiledWindow::Silence { for_s }) => self.seen(key, *for_s, &mut undo),
                None => {}
            }
        }
        self.journal.push_back(undo);
        Ok((matches, failures.into_values().collect()))
    }

    /// Takes back the block that was applied last.
    ///
    /// # Errors
    /// [`WindowError::TooDeep`] when it is not remembered, [`WindowError::Gap`] when it is not the
    /// last one.
    pub fn undo(&mut self, frame: &Frame) -> Result<(), WindowError> {
        self.require_chain(frame)?;
        match self.journal.back() {
            None => return Err(WindowError::TooDeep { block: frame.block }),
            Some(last) if last.block != frame.block => {
                return Err(WindowError::Gap { block: frame.block });
            }
            Some(_) => {}
        }
        let Some(undo) = self.journal.pop_back() else { return Ok(()) };
        self.time = undo.time_before;
        for (key, outside, count, sum) in undo.tallies {
            if let Some(tally) = self.tallies.get_mut(&key) {
                tally.entries.pop_back();
                (tally.outside, tally.count, tally.sum) = (outside, count, sum);
                if tally.entries.is_empty() && tally.forgotten == 0 {
                    self.tallies.remove(&key);
                }
            }
        }
        for (key, before) in undo.silences.into_iter().rev() {
            self.set_silence(key, before);
            if before.is_none() {
                // Taken up again by the block that follows instead.
                self.taken_up = TakenUp(None);
            }
        }
        Ok(())
    }

    /// Whether no window holds anything and no silence has begun.
    pub(crate) fn is_blank(&self) -> bool {
        self.tallies.is_empty() && self.silences.is_empty()
    }

    /// The chain.
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// Number of blocks that can be undone.
    pub fn depth(&self) -> usize {
        self.journal.len()
    }

    /// The block applied last, as far as it is remembered.
    pub fn head(&self) -> Option<BlockRef> {
        self.journal.back().map(|last| last.block)
    }

    /// Count and sum of a rule's window at the last block with one of its records.
    pub fn tally(&self, rule: RuleId, version: u32) -> Option<(u64, Option<U256>)> {
        self.tallies.get(&(rule, version)).map(|tally| (tally.count, tally.sum()))
    }

    fn require_chain(&self, frame: &Frame) -> Result<(), WindowError> {
        if frame.chain == self.chain {
            return Ok(());
        }
        Err(WindowError::OtherChain { expected: self.chain, found: frame.chain })
    }

    /// A silence begins at the first block that is seen with its rule.
    fn take_up_silences(&mut self, rules: &RuleSet, undo: &mut Undo) {
        if self.taken_up.0 == Some(rules.silences_mark()) {
            return;
        }
        self.taken_up = TakenUp(Some(rules.silences_mark()));
        for rule in rules.silences().values() {
            let key = (rule.id(), rule.version());
            if let Some(CompiledWindow::Silence { for_s }) = rule.window
                && !self.silences.contains_key(&key)
                && rule.groups.iter().any(|group| group.chain == self.chain)
            {
                undo.silences.push((key, None));
                let silence = Silence { last_seen: self.time, for_s, matched: false };
                self.set_silence(key, Some(silence));
            }
        }
    }

    /// Silences that lasted long enough by now. They end before the block's own records count.
    fn end_silences(
        &mut self,
        rules: &RuleSet,
        frame: &Frame,
        undo: &mut Undo,
        matches: &mut Vec<Match>,
    ) {
        let due: Vec<_> = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= self.time)
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            let Some(before) = self.silences.get(&key).copied() else { continue };
            undo.silences.push((key, Some(before)));
            self.set_silence(key, Some(Silence { matched: true, ..before }));
            // A rule that is gone, or has another version, is silent for good.
            if let Some(rule) = rules.get(key.0).filter(|rule| rule.version() == key.1) {
                let mut view = View::new(frame, Subject::Block);
                view.rule_name = rule.name();
                view.window.2 = before.last_seen;
                let values = rule.template.capture(&view);
                matches.push(of_block(key, frame, RecordKey::Block, values));
            }
        }
        matches.sort_by_key(|found| found.rule);
    }

    fn seen(&mut self, key: StateKey, for_s: u64, undo: &mut Undo) {
        let before = self.silences.get(&key).copied();
        let after = Silence { last_seen: self.time, for_s, matched: false };
        if before != Some(after) {
            undo.silences.push((key, before));
            self.set_silence(key, Some(after));
        }
    }

    fn set_silence(&mut self, key: StateKey, silence: Option<Silence>) {
        let deadline = |silence: &Silence| (silence.last_seen.saturating_add(silence.for_s), key);
        if let Some(before) = self.silences.remove(&key) {
            self.deadlines.remove(&deadline(&before));
        }
        if let Some(silence) = silence {
            if !silence.matched {
                self.deadlines.insert(deadline(&silence));
            }
            self.silences.insert(key, silence);
        }
    }
}

impl Tally {
    /// Lets old entries leave and opens the entry of the block, once per block.
    fn open(&mut self, key: StateKey, over_s: u64, undo: &mut Undo) {
        let (height, time) = (undo.block.number, undo.time);
        if self.entries.back().is_some_and(|entry| entry.height == height) {
            return;
        }
        undo.tallies.push((key, self.outside, self.count, self.sum));
        while let Some(oldest) = self.entry(self.outside) {
            if oldest.time.saturating_add(over_s) > time {
                break;
            }
            self.outside += 1;
            self.count -= oldest.count;
            self.sum -= oldest.sum;
        }
        self.entries.push_back(TallyEntry { height, time, count: 0, sum: Wide::ZERO });
    }

    fn entry(&self, index: u64) -> Option<TallyEntry> {
        let place = usize::try_from(index.checked_sub(self.forgotten)?).ok()?;
        self.entries.get(place).copied()
    }

    fn add(&mut self, amount: U256) {
        let amount = Wide::from(amount);
        self.count += 1;
        self.sum += amount;
        if let Some(entry) = self.entries.back_mut() {
            entry.count += 1;
            entry.sum += amount;
        }
    }

    fn sum(&self) -> Option<U256> {
        U256::checked_from_limbs_slice(self.sum.as_limbs())
    }

    fn holds(&self, condition: &crate::expr::Expr) -> Result<bool, EvalError> {
        holds_for(condition, U256::from(self.count), self.sum().ok_or(EvalError::Overflow)?)
    }

    /// Drops entries that were outside the window already at a final block, and gives them.
    fn forget(&mut self, final_time: UnixSeconds, over_s: u64) -> Vec<(u64, TallyEntry)> {
        let mut dropped = Vec::new();
        while self.forgotten < self.outside
            && let Some(oldest) = self.entries.front().copied()
            && oldest.time.saturating_add(over_s) <= final_time
        {
            self.entries.pop_front();
            dropped.push((self.forgotten, oldest));
            self.forgotten += 1;
        }
        dropped
    }
}

fn of_block(
    (rule, version): StateKey,
    frame: &Frame,
    record: RecordKey,
    values: Vec<lookout_abi::Value>,
) -> Match {
    Match { rule, version, chain: frame.chain, block: frame.block, record, values }
}

/// A frame without records, where a view needs one.
pub(crate) fn empty_frame() -> Frame {
    Frame {
        chain: ChainId(0),
        sequence: 0,
        step: Step::Apply,
        block: BlockRef { number: 0, hash: Hash([0; 32]) },
        parent: Hash([0; 32]),
        timestamp: 0,
        transactions: Vec::new(),
        logs: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
