//! What a rule would have done over blocks that are held: its matches, and the alerts made of them.
//!
//! The same matcher as in live following, stepped over the same frames, as if the rule had been
//! saved before the first of them: windows are empty there.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use lookout_abi::DecodeError;
use lookout_types::{BlockRef, ChainId, Frame, Height, UnixSeconds};

use crate::error::EvalError;
use crate::evaluate::RecordKey;
use crate::matcher::Matcher;
use crate::message::Message;
use crate::rule::Rule;
use crate::window::WindowError;

/// Blocks after which windows forget what no record can bring back; nothing is undone here.
const PRUNE_BLOCKS: u64 = 256;
const DAY_S: u64 = 86_400;
const MINUTE_S: u64 = 60;
const MINUTE_MS: u64 = 60_000;

/// How fast a kind of channel takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPace {
    /// The kind of channel.
    pub channel: &'static str,
    /// Messages a minute.
    pub per_minute: u64,
}

/// The limits that the services publish: Telegram's FAQ for bots (20 a minute in a group, 1 a second
/// in a private chat), Slack's for incoming webhooks (1 a second), Discord's for webhooks (30 a minute).
const PACES: [ChannelPace; 4] = [
    ChannelPace { channel: "telegramGroup", per_minute: 20 },
    ChannelPace { channel: "telegramPrivate", per_minute: 60 },
    ChannelPace { channel: "slack", per_minute: 60 },
    ChannelPace { channel: "discord", per_minute: 30 },
];

/// What the alerts would have met on one kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The channel and its limit.
    pub channel: ChannelPace,
    /// Minutes with more alerts than it takes.
    pub minutes_exceeded: u64,
    /// Longest time that an alert would have waited for those before it, in seconds.
    pub longest_wait_s: u64,
}

/// One match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its block.
    pub block: BlockRef,
    /// The block's time.
    pub block_time: UnixSeconds,
    /// Its record.
    pub record: RecordKey,
    /// What the alert would say.
    pub message: Message,
}

/// What came of a backtest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacktestReport {
    /// Lowest and highest block matched; `None` when there was none.
    pub heights: Option<(Height, Height)>,
    /// Blocks matched.
    pub blocks: u64,
    /// Matches.
    pub matches: u64,
    /// The first of them.
    pub samples: Vec<Sample>,
    /// Matches with enough blocks on top, each of which is an alert.
    pub alerts: u64,
    /// Alerts by day since 1970, days without left out.
    pub days: Vec<(u64, u64)>,
    /// Most alerts within a minute of the clock.
    pub peak_per_minute: u64,
    /// What they would have met, by kind of channel.
    pub paces: Vec<Pace>,
    /// Records on which the rule had no answer, by reason.
    pub failures: Vec<Unanswered>,
}

/// Records on which a rule had no answer, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// The reason.
    pub error: EvalError,
    /// How many records.
    pub count: u64,
    /// The height of the newest.
    pub height: Height,
    /// The newest.
    pub record: RecordKey,
    /// Why it does not decode, if that is the reason.
    pub decode: Option<Arc<DecodeError>>,
}

/// A backtest under way.
#[derive(Debug)]
pub struct Backtest {
    rule: Arc<Rule>,
    matcher: Matcher,
    range: RangeInclusive<Height>,
    /// The block taken last.
    last: Option<BlockRef>,
    confirmations: u64,
    samples_max: usize,
    /// Matches that wait for a height, oldest first: at most one entry per block of confirmations.
    waiting: VecDeque<(Height, u64)>,
    days: BTreeMap<u64, u64>,
    minute: (u64, u64),
    clocks: Vec<(Pace, Clock)>,
    failures: BTreeMap<EvalError, Unanswered>,
    report: BacktestReport,
}

/// When a channel is free again, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Clock(u64);

impl Backtest {
    /// Of a rule over a range of its chain; an alert has this many blocks on top of its own, and the
    /// first `samples_max` matches are kept.
    pub fn new(
        rule: Arc<Rule>,
        chain: ChainId,
        range: RangeInclusive<Height>,
        confirmations: u64,
        samples_max: usize,
    ) -> Self {
        let mut matcher = Matcher::new(chain);
        matcher.insert(rule.clone(), *range.start());
        let clock =
            |channel| (Pace { channel, minutes_exceeded: 0, longest_wait_s: 0 }, Clock::default());
        Self {
            rule,
            matcher,
            range,
            last: None,
            confirmations,
            samples_max,
            waiting: VecDeque::new(),
            days: BTreeMap::new(),
            minute: (0, 0),
            clocks: PACES.into_iter().map(clock).collect(),
            failures: BTreeMap::new(),
            report: BacktestReport {
                heights: None,
                blocks: 0,
                matches: 0,
                samples: Vec::new(),
                alerts: 0,
                days: Vec::new(),
                peak_per_minute: 0,
                paces: Vec::new(),
                failures: Vec::new(),
            },
        }
    }

    /// The heights to step over: the range, and the blocks that confirm its last one.
    pub fn reads(&self) -> RangeInclusive<Height> {
        *self.range.start()..=self.range.end().saturating_add(self.confirmations)
    }

    /// Takes the next block. One behind the range only confirms.
    ///
    /// # Errors
    /// [`WindowError`] when it does not follow the last one.
    pub fn step(&mut self, frame: &Frame) -> Result<(), WindowError> {
        // The matcher looks at links only where windows need them.
        if self.last.is_some_and(|last| last.hash != frame.parent) {
            return Err(WindowError::Gap { block: frame.block });
        }
        self.last = Some(frame.block);
        let height = frame.block.number;
        if self.range.contains(&height) {
            self.take(frame)?;
        }
        while let Some((confirms_at, alerts)) = self.waiting.front().copied() {
            if confirms_at > height {
                break;
            }
            self.waiting.pop_front();
            self.send(alerts, frame.timestamp);
        }
        Ok(())
    }

    fn fail(
        &mut self,
        error: EvalError,
        count: u64,
        (height, record): (Height, RecordKey),
        decode: Option<Arc<DecodeError>>,
    ) {
        let before = self.failures.get(&error).map_or(0, |before| before.count);
        let count = before.saturating_add(count);
        self.failures.insert(error, Unanswered { error, count, height, record, decode });
    }

    fn take(&mut self, frame: &Frame) -> Result<(), WindowError> {
        let height = frame.block.number;
        let stepped = self.matcher.step(frame)?;
        // What does not decode comes once more, with the rule that it concerns.
        for failure in stepped.failures.into_iter().filter(|failure| failure.decode.is_none()) {
            self.fail(failure.error, failure.count, (height, failure.first), None);
        }
        for failure in stepped.undecodable {
            let (error, place) = (EvalError::Undecodable, (height, failure.last));
            self.fail(error, failure.count, place, Some(failure.error));
        }
        let found = stepped.matches.len() as u64;
        for one in stepped.matches {
            if self.report.samples.len() == self.samples_max {
                break;
            }
            self.report.samples.push(Sample {
                block: one.block,
                block_time: frame.timestamp,
                record: one.record,
                message: self.rule.template().render(&one.values),
            });
        }
        if found > 0 {
            self.report.matches += found;
            self.waiting.push_back((height.saturating_add(self.confirmations), found));
        }
        self.report.blocks += 1;
        let first = self.report.heights.map_or(height, |(first, _)| first);
        self.report.heights = Some((first, height));
        if height.is_multiple_of(PRUNE_BLOCKS) {
            self.matcher.prune(height.saturating_sub(1));
        }
        Ok(())
    }

    fn send(&mut self, alerts: u64, time: UnixSeconds) {
        self.report.alerts += alerts;
        *self.days.entry(time / DAY_S).or_default() += alerts;
        let minute = time / MINUTE_S;
        if self.minute.0 != minute {
            self.end_minute();
            self.minute = (minute, 0);
        }
        self.minute.1 += alerts;
        let now = time.saturating_mul(1000);
        for (pace, clock) in &mut self.clocks {
            let gap = MINUTE_MS / pace.channel.per_minute;
            // The last of them goes when all before it have gone, one gap after the other.
            let last = clock.0.max(now).saturating_add(gap.saturating_mul(alerts - 1));
            pace.longest_wait_s = pace.longest_wait_s.max((last - now) / 1000);
            clock.0 = last.saturating_add(gap);
        }
    }

    fn end_minute(&mut self) {
        let alerts = self.minute.1;
        self.report.peak_per_minute = self.report.peak_per_minute.max(alerts);
        for (pace, _) in &mut self.clocks {
            pace.minutes_exceeded += u64::from(alerts > pace.channel.per_minute);
        }
    }

    /// What came of the blocks so far.
    #[must_use]
    pub fn finish(mut self) -> BacktestReport {
        self.end_minute();
        BacktestReport {
            days: self.days.into_iter().collect(),
            paces: self.clocks.into_iter().map(|(pace, _)| pace).collect(),
            failures: self.failures.into_values().collect(),
            ..self.report
        }
    }
}

#[cfg(test)]
mod tests;
