//! What a batch of frames comes to, until it is committed.

use std::collections::BTreeMap;

use lookout_rules::{EvalError, Failure, Match, Matcher, RecordKey, Stepped, Undecodable};
use lookout_store::{
    AlertKey, FreshReadings, KeptWindows, NewAlert, NewRuleFailure, TakenReadings, TakenUp,
    WatchCommit, WatchStep, WatchedBlock,
};
use lookout_types::{Cursor, Frame, Height, Step};

use super::{facts, record};

/// Most frames of one commit: what is done again when it fails.
const FRAMES_MAX: usize = 1024;
/// About how many alerts of one commit, unless one block has more.
const ALERTS_MAX: usize = 20_000;
/// About how many bytes of messages in one commit, unless one block has more.
const BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Plan {
    after: u64,
    cursor: Cursor,
    steps: Vec<WatchStep>,
    frames: usize,
    alerts: usize,
    bytes: usize,
    pub(super) taken_up: Vec<TakenUp>,
    pub(super) failures: Vec<NewRuleFailure>,
    pub(super) windows: Option<KeptWindows>,
    pub(super) final_height: Option<Height>,
    /// The lowest block of the chain at the cursor.
    pub(super) base: Option<Height>,
}

impl Plan {
    /// A plan that stands on what is committed.
    pub(super) fn new(committed: Cursor) -> Self {
        Self {
            after: committed.sequence,
            cursor: committed,
            steps: Vec::new(),
            frames: 0,
            alerts: 0,
            bytes: 0,
            taken_up: Vec::new(),
            failures: Vec::new(),
            windows: None,
            final_height: None,
            base: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.taken_up.is_empty() && self.failures.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames >= FRAMES_MAX || self.alerts >= ALERTS_MAX || self.bytes >= BYTES_MAX
    }

    /// Adds a frame and what came of it.
    pub(super) fn add(&mut self, frame: &Frame, stepped: Stepped, matcher: &Matcher, at: Cursor) {
        self.frames += 1;
        self.cursor = at;
        match frame.step {
            Step::Undo => self.undo(frame.block.number),
            Step::Apply => self.apply(frame, &stepped.matches, matcher),
        }
        let height = frame.block.number;
        self.failures.extend(stepped.failures.iter().filter_map(|each| failure(each, height)));
        self.failures.extend(stepped.undecodable.iter().map(|each| undecodable(each, height)));
        if self.failures.len() > ALERTS_MAX {
            self.merge_failures();
        }
    }

    /// Adds balances that rules were asked about before any frame of the plan, and what came of it.
    pub(super) fn add_read(&mut self, fresh: FreshReadings, stepped: &Stepped, matcher: &Matcher) {
        let FreshReadings { batch, block, balances } = fresh;
        let height = block.block.number;
        self.failures.extend(stepped.failures.iter().filter_map(|each| failure(each, height)));
        let alerts = stepped.matches.iter().filter_map(|found| alert(&block, found, matcher));
        self.steps.push(WatchStep::Read(TakenReadings {
            batch,
            block: block.block,
            head: self.cursor.head.map_or(height, |head| head.number),
            balances: balances.into_iter().map(|(read, _)| read).collect(),
            alerts: alerts.collect(),
        }));
    }

    fn undo(&mut self, height: Height) {
        match self.steps.last_mut() {
            Some(WatchStep::Undone { from }) => *from = height.min(*from),
            _ => self.steps.push(WatchStep::Undone { from: height }),
        }
    }

    fn apply(&mut self, frame: &Frame, matches: &[Match], matcher: &Matcher) {
        if !matches!(self.steps.last(), Some(WatchStep::Applied { .. })) {
            let (blocks, alerts) = (Vec::new(), Vec::new());
            self.steps.push(WatchStep::Applied { blocks, alerts });
        }
        let Some(WatchStep::Applied { blocks, alerts }) = self.steps.last_mut() else { return };
        let block = WatchedBlock { block: frame.block, time: frame.timestamp };
        blocks.push(block);
        for found in matches {
            if let Some(alert) = alert(&block, found, matcher) {
                self.alerts += 1;
                self.bytes += alert.text.len() + alert.facts.len();
                alerts.push(alert);
            }
        }
    }

    /// A rule that fails on every record of many blocks is one failure all the same.
    fn merge_failures(&mut self) {
        let mut merged: BTreeMap<(String, u32, String), NewRuleFailure> = BTreeMap::new();
        for failure in self.failures.drain(..) {
            let (rule, reason) = (failure.rule_id.clone(), failure.reason.clone());
            let count = merged
                .remove(&(rule.clone(), failure.rule_version, reason.clone()))
                .map_or(0, |before| before.count);
            let count = count.saturating_add(failure.count);
            let key = (rule, failure.rule_version, reason);
            merged.insert(key, NewRuleFailure { count, ..failure });
        }
        self.failures = merged.into_values().collect();
    }

    pub(super) fn finish(self) -> WatchCommit {
        WatchCommit {
            after: self.after,
            cursor: self.cursor,
            base: self.base,
            steps: self.steps,
            windows: self.windows,
            taken_up: self.taken_up,
            failures: self.failures,
            final_height: self.final_height,
        }
    }
}

fn alert(at: &WatchedBlock, found: &Match, matcher: &Matcher) -> Option<NewAlert> {
    // A match is of a version that the matcher holds.
    let rule = matcher.rule(found.rule, found.version)?;
    let message = rule.template().render(&found.values);
    Some(NewAlert {
        key: AlertKey {
            rule_id: found.rule.to_string(),
            rule_version: found.version,
            chain: found.chain,
            block_hash: at.block.hash,
            block_time: at.time,
            record: record::bytes(&found.record),
        },
        height: at.block.number,
        rule_name: rule.name().to_owned(),
        record: record::json(&found.record),
        is_reading: matches!(found.record, RecordKey::Balance { .. }),
        spans: facts::spans(&message.spans),
        text: message.text,
        facts: facts::facts(rule.template().names(), &found.values),
    })
}

/// A failure of one rule. What fails for all rules on a record is for the meters; what does not
/// decode comes once more for each rule.
fn failure(failure: &Failure, height: Height) -> Option<NewRuleFailure> {
    let (rule, rule_version) = failure.rule?;
    Some(NewRuleFailure {
        rule_id: rule.to_string(),
        rule_version,
        reason: failure.error.to_string(),
        count: failure.count,
        height,
        record: record::json(&failure.first),
    })
}

/// One reason for all that does not decode, so that a chain cannot make up new ones without end; what
/// exactly was wrong is told of the newest.
fn undecodable(undecodable: &Undecodable, height: Height) -> NewRuleFailure {
    NewRuleFailure {
        rule_id: undecodable.rule.to_string(),
        rule_version: undecodable.version,
        reason: EvalError::Undecodable.to_string(),
        count: undecodable.count,
        height,
        record: record::undecoded(&undecodable.last, &undecodable.error),
    }
}
