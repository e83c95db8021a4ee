//! What the consumer holds of one chain in memory.

use std::sync::Arc;
use std::time::Instant;

use lookout_rules::{Kept, Matcher, RuleId, RuleSource};
use lookout_store::{NewRuleFailure, RuleVersion, Store, TakenUp, VersionsAfter};
use lookout_types::{ChainId, Cursor, Height};
use tokio::sync::watch;

use super::kept_parts::KeptParts;
use super::plan::Plan;
use super::{ConsumeError, LOOK};

/// Frames between two snapshots of the windows at least: what a restart passes through again.
const SNAPSHOT_FRAMES: u64 = 64;
/// And at most, however large the windows are: half of what the bus keeps behind the cursor.
const SNAPSHOT_FRAMES_MAX: u64 = 512;
/// Bytes of windows that are written for each frame on average: little beside a block's own.
const SNAPSHOT_BYTES_PER_FRAME: usize = 16 << 10;
/// Characters of a reason that is stored.
const REASON_CHARS: usize = 500;
/// How the reason begins where a rule needs what is not kept of its chain.
const NOT_KEPT: &str = "the rule can match nothing: ";

/// One chain, as far as its frames were seen.
#[derive(Debug)]
pub(super) struct ChainState {
    pub(super) matcher: Matcher,
    /// What is kept of its blocks; `None` where that is everything.
    records: Option<Arc<Kept>>,
    /// What the store has.
    pub(super) committed: Cursor,
    /// What the matcher has passed: behind `committed` after a restart, until it caught up.
    pub(super) seen: Cursor,
    /// The lowest block of the chain that was seen; `None` while there is no head.
    pub(super) base: Option<Height>,
    /// While alerts are rebuilt after a reset: the frame at which a commit has to end.
    pub(super) rebuilding: Option<u64>,
    /// The frame after which windows were kept or pruned last, and how many to wait.
    kept_at: u64,
    keep_every: u64,
    /// The parts of the windows that the store has.
    kept: KeptParts,
    /// The change of rules seen last.
    after: VersionsAfter,
    revision: i64,
    /// The place before the first change that waits for the end of a rebuild.
    waiting: Option<VersionsAfter>,
    /// `None` where it is time to look again.
    looked: Option<Instant>,
    changed: watch::Receiver<u64>,
    /// The same for balances that were read.
    pub(super) readings: watch::Receiver<u64>,
    pub(super) readings_looked: Instant,
    /// What the rules read at the start come to; part of the first commit.
    pending: (Vec<TakenUp>, Vec<NewRuleFailure>),
}

impl ChainState {
    /// Reads where a chain stands, with the rules that can still matter.
    pub(super) async fn load(
        store: &Store,
        chain: ChainId,
        records: Option<Arc<Kept>>,
        depth: u64,
    ) -> Result<Self, ConsumeError> {
        // From now on, so that no change between reading and listening is missed.
        let changed = store.signals().rules.listen();
        let mut readings = store.signals().readings.listen();
        // Some may have been read while nobody listened.
        readings.mark_changed();
        let stored = store.watch_state(chain).await?;
        let committed = stored.cursor;
        let mut state = Self {
            matcher: Matcher::new(chain),
            records,
            committed,
            seen: Cursor { chain, sequence: 0, head: None },
            base: None,
            rebuilding: stored.rebuilding,
            kept_at: committed.sequence,
            keep_every: SNAPSHOT_FRAMES,
            kept: KeptParts::default(),
            after: VersionsAfter::default(),
            revision: 0,
            waiting: None,
            looked: Some(Instant::now()),
            changed,
            readings,
            readings_looked: Instant::now(),
            pending: Default::default(),
        };
        let final_height = state.final_height(depth);
        if let Some(height) = final_height
            && store.has_ended_versions(chain, height).await?
        {
            state.matcher.forget(height);
        }
        // What is kept may be more since the last start; what is still missing is found again.
        store.forget_rule_failures(chain, NOT_KEPT).await?;
        let mut plan = Plan::new(committed);
        state.read_versions(store, depth, &mut plan).await?;
        state.pending = (plan.taken_up, plan.failures);
        if let Some(snapshot) = stored.snapshot {
            state.kept.have(&snapshot.parts);
            let whole: Vec<u8> = snapshot.parts.into_iter().flat_map(|(_, part)| part).collect();
            match state.matcher.restore(&whole) {
                Ok(()) => {
                    state.kept_at = snapshot.cursor.sequence;
                    state.seen = snapshot.cursor;
                    state.base = snapshot.base;
                }
                Err(error) => {
                    tracing::warn!(chain = chain.0, %error, "the windows of rules are rebuilt");
                }
            }
        }
        Ok(state)
    }

    /// The height up to which blocks are taken as final.
    fn final_height(&self, depth: u64) -> Option<Height> {
        self.committed.head.and_then(|head| head.number.checked_sub(depth))
    }

    /// Plans what rules that changed watch from now on, when it is time to look for them.
    pub(super) async fn take_up(
        &mut self,
        store: &Store,
        depth: u64,
        plan: &mut Plan,
    ) -> Result<(), ConsumeError> {
        let (taken_up, failures) = std::mem::take(&mut self.pending);
        plan.taken_up.extend(taken_up);
        plan.failures.extend(failures);
        // The sender lives in the store, which outlives this.
        let signalled = self.changed.has_changed().unwrap_or(false);
        if !signalled && self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        self.changed.mark_unchanged();
        self.looked = Some(Instant::now());
        self.read_versions(store, depth, plan).await
    }

    /// Reads versions that changed since the last time.
    async fn read_versions(
        &mut self,
        store: &Store,
        depth: u64,
        plan: &mut Plan,
    ) -> Result<(), ConsumeError> {
        let revision = store.rules_revision().await?;
        if revision == self.revision {
            return Ok(());
        }
        let final_height = self.final_height(depth);
        loop {
            let chain = self.committed.chain;
            let page = store.rule_versions(chain, &self.after, final_height).await?;
            if page.is_empty() {
                break;
            }
            for version in page {
                self.read_version(&version, plan);
                self.after = version.place();
                // Compiling takes microseconds; many take a while.
                tokio::task::yield_now().await;
            }
        }
        self.revision = revision;
        Ok(())
    }

    /// Reads again what waited for the end of a rebuild, with the next frames.
    pub(super) fn rebuilt(&mut self) {
        self.rebuilding = None;
        if let Some(place) = self.waiting.take() {
            self.after = place;
            self.revision = 0;
            self.looked = None;
        }
    }

    fn read_version(&mut self, stored: &RuleVersion, plan: &mut Plan) {
        let Some(id) = rule_id(&stored.rule_id) else {
            // Ids are made by the store; one that is none cannot be matched to anything.
            tracing::error!(rule = stored.rule_id, "a rule has an id that is no UUID");
            return;
        };
        // What is taken up is stored for good. During a rebuild that would be where the rebuild is, far
        // below where the rules were: what was told above would be found no more, and be retracted.
        let retires = stored.retired && stored.until_height.is_none();
        if self.rebuilding.is_some() && (stored.from_height.is_none() || retires) {
            self.waiting.get_or_insert_with(|| self.after.clone());
            if stored.from_height.is_none() {
                return;
            }
        }
        let retires = retires && self.rebuilding.is_none();
        let next = self.committed.head.map_or(0, |head| head.number.saturating_add(1));
        let (version, before) = (stored.version, stored.version.saturating_sub(1));
        let from = stored.from_height.unwrap_or(next);
        let until = stored.until_height.or(retires.then_some(next));
        let ends = |version, until| {
            let (tenant, rule_id) = (stored.tenant.clone(), stored.rule_id.clone());
            TakenUp::Ends { tenant, rule_id, version, until }
        };
        if stored.from_height.is_none() {
            let (tenant, rule_id) = (stored.tenant.clone(), stored.rule_id.clone());
            plan.taken_up.push(TakenUp::Begins { tenant, rule_id, version, from });
            plan.taken_up.push(ends(before, from));
            self.matcher.retire(id, before, from);
        }
        let watches = until.is_none_or(|until| from < until);
        if watches && self.matcher.rule(id, version).is_none() {
            match compile(stored, id) {
                Ok(rule) => {
                    let missing = self.records.as_ref().and_then(|kept| kept.require(&rule).err());
                    if let Some(missing) = missing.filter(|_| until.is_none()) {
                        let reason = format!("{NOT_KEPT}{missing}");
                        plan.failures.push(failure(stored, reason, from));
                    }
                    self.matcher.insert(rule.into(), from);
                }
                Err(reason) => {
                    let rule_id = &stored.rule_id;
                    tracing::warn!(rule = rule_id, version, reason, "a rule is not watched");
                    plan.failures.push(failure(stored, reason, from));
                }
            }
        }
        if let Some(until) = until {
            self.matcher.retire(id, version, until);
            if stored.until_height.is_none() {
                plan.taken_up.push(ends(version, until));
            }
        }
    }

    /// Keeps the windows with the plan when enough frames have passed, and lets go of what only
    /// blocks that are final could bring back.
    pub(super) fn keep_windows(&mut self, plan: &mut Plan, depth: u64) {
        // While it catches up, the windows are behind what is committed.
        if self.seen.sequence < self.committed.sequence {
            return;
        }
        let due = self.seen.sequence.saturating_sub(self.kept_at) >= self.keep_every;
        if due
            && let Some(head) = self.seen.head
            && let Some(final_height) = head.number.checked_sub(depth)
        {
            self.matcher.prune(final_height);
            plan.final_height = Some(final_height);
        }
        if !self.matcher.has_windows() {
            plan.windows = Some(self.kept.changes(&self.matcher));
            self.keep_every = SNAPSHOT_FRAMES;
        } else if due {
            let windows = self.kept.changes(&self.matcher);
            let bytes: usize = windows.changed.iter().map(|(_, part)| part.len()).sum();
            let frames = u64::try_from(bytes / SNAPSHOT_BYTES_PER_FRAME);
            let frames = frames.unwrap_or(SNAPSHOT_FRAMES_MAX);
            self.keep_every = frames.clamp(SNAPSHOT_FRAMES, SNAPSHOT_FRAMES_MAX);
            plan.windows = Some(windows);
        }
        if due {
            self.kept_at = self.seen.sequence;
        }
    }
}

/// A failure of a version as a whole.
fn failure(stored: &RuleVersion, reason: String, height: Height) -> NewRuleFailure {
    NewRuleFailure {
        rule_id: stored.rule_id.clone(),
        rule_version: stored.version,
        reason: reason.chars().take(REASON_CHARS).collect(),
        count: 1,
        height,
        record: r#"{"kind":"rule"}"#.to_owned(),
    }
}

pub(super) fn rule_id(text: &str) -> Option<RuleId> {
    let id = RuleId(u128::from_str_radix(&text.replace('-', ""), 16).ok()?);
    (id.to_string() == text).then_some(id)
}

/// Compiles a version. It was checked when it was saved, by this lookout or by another.
pub(super) fn compile(stored: &RuleVersion, id: RuleId) -> Result<lookout_rules::Rule, String> {
    let shown = |reason: String| -> String {
        let reason = format!("the rule cannot be watched, save it again: {reason}");
        reason.chars().take(REASON_CHARS).collect()
    };
    let source: RuleSource =
        serde_json::from_str(&stored.source).map_err(|error| shown(error.to_string()))?;
    source.compile(id, stored.version).map_err(|error| shown(error.to_string()))
}
