//! Follows the head: backfills what is missing, takes back what a reorg has replaced.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use lookout_chain::{Heads, SourceBlock, SourceError};
use lookout_types::{BlockRef, Hash, Height};
use tokio::sync::watch;
use tokio::time::Instant;

use super::behind::Behind;
use super::error::{Problem, PublishError};
use super::meters::Meters;
use super::ranges::{Ranges, check};
use super::sizing::Sizing;
use super::state::StateKeeper;
use super::writer::Writer;
use super::{Ended, Phase, PublisherParts, Start};
use crate::backoff::Backoff;
use crate::consume::ConsumerState;

/// Failures after which the head is looked at again: the blocks asked for may be gone.
const TRIES_IN_PLACE: u32 = 3;
/// Failures in a row after which they are worth a line in the log: one or two pass with the next
/// look, as in a reorg.
const TRIES_IN_SILENCE: u32 = 5;
/// Blocks of a new branch that are read before the old one is taken back, so that no one sees the
/// chain shortened while they are being read. A longer branch goes on from there.
const BRANCH_FIRST: u64 = 64;

/// One tenure of a publisher.
#[derive(Debug)]
pub(super) struct Follow<'a> {
    parts: &'a PublisherParts,
    state: &'a mut StateKeeper,
    meters: &'a Meters,
    writer: Writer,
    heads: watch::Receiver<Option<Heads>>,
    sizing: Sizing,
    backoff: Backoff,
    /// Where an empty chain begins, once that is settled.
    start: Option<Height>,
    /// How the head is below what was published, while it is.
    behind: Option<Behind>,
    /// Failures since the last success, and whether they were told of.
    failures: u32,
    /// The last block that could not be proved complete.
    unproved: Option<Height>,
    /// Parents on the branch that a reorg leads to, so that a failure does not begin the walk anew.
    parents: HashMap<Hash, Hash>,
    pace: Vec<watch::Receiver<ConsumerState>>,
}

/// What to do next.
enum Next {
    /// Look again at once.
    Go,
    /// Look again when the heads change, or at this time.
    Wait(Option<Instant>),
}

impl<'a> Follow<'a> {
    pub(super) fn new(
        parts: &'a PublisherParts,
        state: &'a mut StateKeeper,
        meters: &'a Meters,
        writer: Writer,
    ) -> Self {
        let limits = &parts.limits;
        Self {
            parts,
            state,
            meters,
            heads: parts.source.heads(),
            sizing: Sizing::new(limits, parts.wants.whole),
            backoff: Backoff::new(limits.backoff_base, limits.backoff_max),
            start: writer.first,
            writer,
            behind: None,
            failures: 0,
            unproved: None,
            parents: HashMap::new(),
            pace: parts.pace.clone(),
        }
    }

    pub(super) fn into_writer(self) -> Writer {
        self.writer
    }

    /// Follows until the last height is published, or a problem ends this tenure.
    pub(super) async fn run(&mut self) -> Result<Ended, Problem> {
        loop {
            let latest = self.heads.borrow_and_update().map(|heads| heads.latest);
            if let (Some(until), Some(head)) = (self.parts.until, self.writer.head)
                && head.number >= until
            {
                return Ok(Ended::Reached);
            }
            let done = match latest {
                Some(latest) => self.step(latest).await,
                None => {
                    self.state.wait("no upstream has told its head yet");
                    Ok(Next::Wait(None))
                }
            };
            match done {
                Ok(Next::Go) => self.well(),
                Ok(Next::Wait(until)) => {
                    self.well();
                    self.wait(until).await?;
                }
                Err(problem) => self.pause(problem).await?,
            }
        }
    }

    /// Waits for other heads.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), Problem> {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.heads.changed() => {
                changed.map_err(|_| Problem::Retry("the chain is no longer followed".to_owned()))
            }
            () = timer => Ok(()),
            () = self.writer.lost() => Err(Problem::Lost("its lease ran out".to_owned())),
        }
    }

    /// Forgets what was wrong.
    fn well(&mut self) {
        self.backoff.reset();
        self.failures = 0;
        self.state.change(|state| state.problem = None);
    }

    /// Waits after a problem that passes; gives back one that ends the tenure.
    async fn pause(&mut self, problem: Problem) -> Result<(), Problem> {
        match problem {
            Problem::Fork => return Ok(()),
            Problem::Retry(reason) => self.tell_failure(reason),
            Problem::Unproved(height, reason) => {
                self.tell_unproved(height, &reason);
                self.state
                    .change(|state| state.problem = Some(format!("block {height}: {reason}")));
            }
            Problem::Lost(_) | Problem::Stop(_) => return Err(problem),
        }
        self.meters.retries.increment(1);
        tokio::select! {
            () = self.backoff.wait() => Ok(()),
            () = self.writer.lost() => Err(Problem::Lost("its lease ran out".to_owned())),
        }
    }

    fn tell_failure(&mut self, reason: String) {
        self.failures += 1;
        let chain = &self.parts.name;
        if self.failures == TRIES_IN_SILENCE {
            tracing::warn!(%chain, reason, "publishing waits, and tries on");
        } else {
            tracing::debug!(%chain, reason, "publishing pauses");
        }
        self.state.change(|state| state.problem = Some(reason));
    }

    fn tell_unproved(&mut self, height: Height, reason: &str) {
        self.meters.unproved.increment(1);
        self.state.change(|state| state.unproved += 1);
        if self.unproved != Some(height) {
            tracing::warn!(
                chain = %self.parts.name, height, reason,
                "a block cannot be proved complete and is waited for; nothing above it is published"
            );
            self.unproved = Some(height);
        }
    }

    async fn step(&mut self, latest: BlockRef) -> Result<Next, Problem> {
        let goal = latest.number.min(self.parts.until.unwrap_or(Height::MAX));
        let lag = goal.saturating_sub(self.writer.head.map_or(0, |head| head.number));
        self.meters.lag.set(meter(lag));
        let Some(head) = self.writer.head else { return self.begin(latest, goal).await };
        if latest.number < head.number {
            return self.below(head, latest, goal).await;
        }
        self.behind = None;
        if head == latest {
            self.tell(Phase::Following, goal);
            return Ok(Next::Wait(None));
        }
        if latest.number > head.number {
            let heights = head.number + 1..=goal;
            return match self.advance(heights, latest).await {
                Ok(()) => Ok(Next::Go),
                Err(Problem::Fork) => self.reorg(head, latest, goal).await,
                Err(problem) => Err(problem),
            };
        }
        self.reorg(head, latest, goal).await
    }

    /// The head is below the last block published.
    async fn below(
        &mut self,
        head: BlockRef,
        latest: BlockRef,
        goal: Height,
    ) -> Result<Next, Problem> {
        self.writer.flush(self.state, self.meters).await?;
        let standing = self.writer.standing(latest).await?;
        let behind = Behind::go_on(self.behind.take(), latest, standing);
        let behind = self.behind.insert(behind);
        let end = behind.since + self.parts.limits.rollback_after;
        let is_due = Instant::now() >= end;
        if is_due && behind.is_growing_branch(latest) {
            return self.reorg(head, latest, goal).await;
        }
        let reason = behind.reason(head, latest);
        if is_due && !std::mem::replace(&mut behind.told, true) {
            tracing::warn!(chain = %self.parts.name, reason, "nothing is published, nor taken back");
        }
        self.state.wait(reason);
        Ok(Next::Wait((!is_due).then_some(end)))
    }

    /// The first blocks of an empty chain.
    async fn begin(&mut self, latest: BlockRef, goal: Height) -> Result<Next, Problem> {
        let start = *self.start.get_or_insert(match self.parts.start {
            Start::Latest => latest.number,
            Start::Height(height) => height,
        });
        if start > goal {
            self.state.wait(format!("the head of the chain is below block {start}"));
            return Ok(Next::Wait(None));
        }
        self.advance(start..=goal, latest).await?;
        Ok(Next::Go)
    }

    fn tell(&self, phase: Phase, goal: Height) {
        self.state.change(|state| {
            state.phase = phase;
            state.target = Some(goal);
        });
    }

    /// Publishes a stretch above the head. What was written is published whatever comes.
    async fn advance(
        &mut self,
        heights: RangeInclusive<Height>,
        latest: BlockRef,
    ) -> Result<(), Problem> {
        let near = heights.end() - heights.start() < self.parts.limits.near_blocks;
        let phase = if near { Phase::Following } else { Phase::Backfilling };
        self.tell(phase, *heights.end());
        let done = if *heights.start() == latest.number {
            match self.parts.source.block(latest, &self.parts.wants).await {
                Ok(block) => self.writer.apply(block),
                Err(error) => Err(error.into()),
            }
        } else {
            self.read_ranges(heights, latest).await
        };
        let flushed = self.writer.flush(self.state, self.meters).await;
        if let Some(head) = self.writer.head {
            self.meters.head.set(meter(head.number));
            self.meters.lag.set(meter(latest.number.saturating_sub(head.number)));
        }
        done.and(flushed)
    }

    async fn read_ranges(
        &mut self,
        heights: RangeInclusive<Height>,
        latest: BlockRef,
    ) -> Result<(), Problem> {
        let PublisherParts { source, wants, limits, .. } = self.parts;
        let mut ranges = Ranges::new(source, wants, limits, &mut self.sizing, heights);
        let mut failures = 0;
        loop {
            if !ranges.is_ready() {
                // Nothing to do but wait for the upstream: others should have what there is.
                self.writer.flush(self.state, self.meters).await?;
            }
            let Some(blocks) = ranges.next().await else { return Ok(()) };
            self.meters.refused.increment(ranges.take_refused());
            self.meters.range_blocks.set(meter(ranges.size()));
            self.meters.buffer_bytes.set(meter(ranges.held_bytes()));
            let blocks = match blocks {
                Ok(blocks) => blocks,
                Err(error) => {
                    failures += 1;
                    let passes = matches!(error, SourceError::Chain(_));
                    if !passes || failures >= TRIES_IN_PLACE {
                        return Err(error.into());
                    }
                    self.meters.retries.increment(1);
                    self.backoff.wait().await;
                    continue;
                }
            };
            failures = 0;
            self.backoff.reset();
            if let Some(last) = blocks.last().map(|block| block.header.block)
                && last.number == latest.number
                && last != latest
            {
                return Err(Problem::Retry(format!("block {} has changed", last.number)));
            }
            for block in blocks {
                self.writer.apply(block)?;
                if self.writer.is_full() {
                    self.writer.flush(self.state, self.meters).await?;
                }
            }
            for consumer in &mut self.pace {
                while is_behind(consumer, self.writer.sequence(), limits.ahead_frames) {
                    self.writer.flush(self.state, self.meters).await?;
                    tokio::select! {
                        changed = consumer.changed() => if changed.is_err() { break },
                        () = self.writer.lost() => {
                            return Err(Problem::Lost("its lease ran out".to_owned()));
                        }
                    }
                }
            }
        }
    }

    /// Goes over to the branch of `latest`.
    async fn reorg(
        &mut self,
        head: BlockRef,
        latest: BlockRef,
        goal: Height,
    ) -> Result<Next, Problem> {
        self.tell(Phase::Following, goal);
        self.writer.flush(self.state, self.meters).await?;
        let ancestor = self.ancestor(head, latest).await?;
        let (depth, from) = match (ancestor, self.writer.first) {
            (Some(ancestor), _) => (head.number - ancestor.number, ancestor.number + 1),
            (None, first) => {
                let first = first.unwrap_or(0);
                let blocks = head.number - first + 1;
                if blocks > self.parts.limits.young_blocks {
                    let name = self.parts.name.to_string();
                    let to = latest.number;
                    let below = PublishError::ForkBelow { name, first, blocks, to };
                    return Err(Problem::Stop(below));
                }
                (blocks, first)
            }
        };
        if depth == 0 {
            let reason = format!("block {from} was given with another parent than it has");
            return Err(Problem::Retry(reason));
        }
        let branch = self.branch(from, latest, goal).await?;
        if let (Some(block), Some(ancestor)) = (branch.first(), ancestor)
            && block.header.parent != ancestor.hash
        {
            return Err(Problem::Retry(format!("block {from} has changed")));
        }
        tracing::info!(
            chain = %self.parts.name, depth, height = head.number, "a reorg takes blocks back"
        );
        for _ in 0..depth {
            self.writer.undo(self.state, self.meters).await?;
            if self.writer.is_full() {
                self.writer.flush(self.state, self.meters).await?;
            }
        }
        self.meters.undo_depth.record(meter(depth));
        for block in branch {
            self.writer.apply(block)?;
        }
        self.writer.flush(self.state, self.meters).await?;
        self.behind = None;
        self.parents = HashMap::new();
        Ok(Next::Go)
    }

    /// The highest block that the published branch and that of `latest` share; `None` when they
    /// differ in the first block held.
    async fn ancestor(
        &mut self,
        head: BlockRef,
        latest: BlockRef,
    ) -> Result<Option<BlockRef>, Problem> {
        let top = head.number.min(latest.number);
        let mut theirs = if latest.number == top {
            latest
        } else {
            self.parts.source.header_at(top).await?.block
        };
        let first = self.writer.first.unwrap_or(0);
        while theirs.number >= first {
            if self.writer.block_at(theirs.number).await? == theirs {
                return Ok(Some(theirs));
            }
            let parent = match self.parents.get(&theirs.hash) {
                Some(parent) => *parent,
                None => {
                    let parent = self.parts.source.header(theirs).await?.parent;
                    self.parents.insert(theirs.hash, parent);
                    parent
                }
            };
            let Some(number) = theirs.number.checked_sub(1) else { break };
            theirs = BlockRef { number, hash: parent };
        }
        Ok(None)
    }

    /// The first blocks of a branch from a height up; empty when it ends below.
    async fn branch(
        &mut self,
        from: Height,
        latest: BlockRef,
        goal: Height,
    ) -> Result<Vec<SourceBlock>, Problem> {
        let PublisherParts { source, wants, .. } = self.parts;
        let mut blocks = BRANCH_FIRST.min(self.sizing.size());
        loop {
            if from > goal {
                return Ok(Vec::new());
            }
            if from == latest.number {
                return Ok(vec![source.block(latest, wants).await?]);
            }
            let heights = from..=goal.min(from.saturating_add(blocks - 1));
            match source.range(heights.clone(), wants).await {
                Ok(found) => {
                    let found = check(found, &heights)?;
                    let last = found.last().map(|block| block.header.block);
                    return match last {
                        Some(last) if last.number == latest.number && last != latest => {
                            Err(Problem::Retry(format!("block {} has changed", last.number)))
                        }
                        _ => Ok(found),
                    };
                }
                Err(SourceError::TooLarge { blocks: suggestion, .. }) if blocks > 1 => {
                    self.meters.refused.increment(1);
                    self.sizing.refused(blocks, false, suggestion);
                    blocks = blocks.min(self.sizing.size()).min(blocks / 2).max(1);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether a consumer is so far behind that a backfill waits for it.
fn is_behind(
    consumer: &mut watch::Receiver<ConsumerState>,
    sequence: u64,
    ahead_frames: u64,
) -> bool {
    let cursor = consumer.borrow_and_update().cursor;
    cursor.is_some_and(|cursor| sequence > cursor.sequence.saturating_add(ahead_frames))
}

/// A number for a meter.
#[expect(clippy::cast_precision_loss, reason = "meters are floats; heights are far below 2^53")]
fn meter(value: u64) -> f64 {
    value as f64
}
