//! What trials answer.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};
use lookout_chain::Chain;
use lookout_rules::{
    Pace, RecordKey, Rule, RuleError, RuleSource, Sample, SpanKind, Unanswered, Watch, WatchedAsset,
};
use lookout_types::{Address, Height};
use serde::Serialize;
use utoipa::ToSchema;

use super::run::Ran;
use crate::error::ApiError;
use crate::provenance::{BlockName, ChainName, rfc3339_seconds};
use crate::routes::rules::shapes::RuleNeeds;

/// What a rule is, and what it matches where blocks were named.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckAnswer {
    /// What it watches.
    watches: Watched,
    /// What has to be read for it besides logs.
    needs: RuleNeeds,
    /// What you should know about it.
    notes: Vec<String>,
    /// The labels that it uses.
    labels: Vec<String>,
    /// What it matches in the blocks named; `null` when none were.
    pub(super) trial: Option<BacktestAnswer>,
}

/// The records that a rule watches.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Watched {
    /// `event`, `transaction`, `transfer` or `balance`.
    #[schema(example = "event")]
    kind: &'static str,
    /// The signature of the event or function, if it is one.
    #[schema(example = "Transfer(address,address,uint256)")]
    signature: Option<String>,
    /// First topic of the event, or selector of the function.
    #[schema(example = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")]
    selector: Option<String>,
    /// Emitters, recipients, tokens or accounts; empty for any.
    addresses: Vec<String>,
}

/// What a rule would have found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BacktestAnswer {
    /// The chain.
    chain: ChainName,
    /// The blocks of it that are held.
    held: Heights,
    /// The blocks that were asked for and are held.
    range: Heights,
    /// Whether all of them were read; if not, time ran out after `readTo`.
    complete: bool,
    /// The highest block read; `null` when there was none.
    read_to: Option<u64>,
    /// How many were read.
    blocks: u64,
    /// How many matches there are.
    matches: u64,
    /// The first of them.
    items: Vec<TrialMatch>,
    /// Matches with enough blocks on top, each of which is an alert.
    alerts: u64,
    /// Alerts by day (UTC), days without left out.
    alerts_per_day: Vec<Day>,
    /// Most alerts within a minute of the clock.
    peak_per_minute: u64,
    /// What the alerts would have met, by kind of channel.
    channels: Vec<ChannelLoad>,
    /// Records that the rule had no answer for.
    failures: Vec<Reason>,
}

/// A range of blocks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Heights {
    /// The first.
    from: u64,
    /// The last.
    to: u64,
}

/// One match.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrialMatch {
    /// The block.
    block: BlockName,
    /// The block's time.
    #[schema(format = DateTime)]
    block_time: String,
    /// The record.
    record: TrialRecord,
    /// What the alert would say.
    text: String,
    /// Marked stretches of it.
    spans: Vec<TrialSpan>,
}

/// Which record of a block; alerts name theirs in the same form.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub(crate) enum TrialRecord {
    /// A log.
    Log {
        /// Its transaction.
        transaction: String,
        /// Its position in the block.
        log_index: u32,
    },
    /// A transaction.
    Transaction {
        /// Its hash.
        transaction: String,
    },
    /// A transfer.
    Transfer {
        /// Its transaction.
        transaction: String,
        /// Its log; `null` for a native transfer.
        log_index: Option<u32>,
        /// Its position in an ERC-1155 batch.
        batch_index: u32,
    },
    /// A balance.
    Balance {
        /// Whose.
        account: String,
    },
    /// No record: the block at which a silence became too long.
    Block,
}

/// A stretch of a message, in UTF-16 units.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialSpan {
    /// Where it starts.
    offset: usize,
    /// How long it is.
    length: usize,
    /// `bold` or `code`.
    kind: &'static str,
}

/// Alerts of a day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Day {
    /// The day (UTC).
    #[schema(example = "2026-01-31", format = Date)]
    day: String,
    /// How many.
    alerts: u64,
}

/// What the alerts would have met on one kind of channel.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChannelLoad {
    /// `telegramGroup`, `telegramPrivate`, `slack` or `discord`.
    #[schema(example = "telegramGroup")]
    channel: &'static str,
    /// Messages a minute that it takes.
    #[schema(example = 20)]
    limit_per_minute: u64,
    /// Minutes with more alerts than that; they would be grouped or wait.
    minutes_exceeded: u64,
    /// Longest time that one would have waited for those before it, ungrouped.
    longest_wait_seconds: u64,
}

/// Records without an answer, as a saved rule has its failures.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reason {
    /// Why.
    #[schema(example = "division by zero")]
    reason: String,
    /// How many.
    count: u64,
    /// Height of the newest.
    last_height: u64,
    /// The newest; with a `decodeError` where it does not decode.
    #[schema(value_type = Object)]
    last_record: serde_json::Value,
}

impl Reason {
    fn of(failure: Unanswered) -> Result<Self, ApiError> {
        let record = TrialRecord::from(failure.record);
        let mut last_record = serde_json::to_value(record).map_err(ApiError::internal)?;
        if let Some(error) = failure.decode {
            last_record["decodeError"] = error.to_string().into();
        }
        let reason = failure.error.to_string();
        Ok(Self { reason, count: failure.count, last_height: failure.height, last_record })
    }
}

impl CheckAnswer {
    pub(super) fn of(source: &RuleSource, rule: &Rule) -> Result<Self, ApiError> {
        Ok(Self {
            watches: Watched::of(&source.watch()?)?,
            needs: rule.needs().into(),
            notes: rule.notes().to_vec(),
            labels: source.labels.keys().cloned().collect(),
            trial: None,
        })
    }
}

impl Watched {
    fn of(watch: &Watch) -> Result<Self, ApiError> {
        let texts = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect();
        let plain = |kind, addresses| Self { kind, signature: None, selector: None, addresses };
        Ok(match watch {
            Watch::Event { abi, event, addresses } => {
                let event = abi.event(event).map_err(RuleError::from)?;
                Self {
                    kind: "event",
                    signature: Some(event.signature.clone()),
                    selector: (!event.anonymous).then(|| event.topic0.to_string()),
                    addresses: texts(addresses),
                }
            }
            Watch::Transaction { addresses, function: None } => {
                plain("transaction", texts(addresses))
            }
            Watch::Transaction { addresses, function: Some((abi, function)) } => {
                let function = abi.function(function).map_err(RuleError::from)?;
                Self {
                    kind: "transaction",
                    signature: Some(function.signature.clone()),
                    selector: Some(const_hex::encode_prefixed(function.selector)),
                    addresses: texts(addresses),
                }
            }
            Watch::Transfer { asset: WatchedAsset::Tokens(tokens) } => {
                plain("transfer", texts(tokens))
            }
            Watch::Transfer { .. } => plain("transfer", Vec::new()),
            Watch::Balance { addresses } => plain("balance", texts(addresses)),
        })
    }
}

impl BacktestAnswer {
    pub(super) fn of(
        chain: &Chain,
        held: RangeInclusive<Height>,
        range: RangeInclusive<Height>,
        ran: Ran,
    ) -> Result<Self, ApiError> {
        let report = ran.report;
        let items = report.samples.into_iter().map(TrialMatch::of).collect::<Result<_, _>>()?;
        let days = report.days.into_iter().map(|(day, alerts)| {
            let seconds = i64::try_from(day.saturating_mul(86_400)).map_err(ApiError::internal)?;
            let time = Timestamp::from_second(seconds).map_err(ApiError::internal)?;
            let day: Date = TimeZone::UTC.to_datetime(time).date();
            Ok(Day { day: day.to_string(), alerts })
        });
        let reasons = report.failures.into_iter();
        Ok(Self {
            chain: chain.into(),
            held: Heights { from: *held.start(), to: *held.end() },
            range: Heights { from: *range.start(), to: *range.end() },
            complete: ran.complete,
            read_to: report.heights.map(|(_, to)| to),
            blocks: report.blocks,
            matches: report.matches,
            items,
            alerts: report.alerts,
            alerts_per_day: days.collect::<Result<_, ApiError>>()?,
            peak_per_minute: report.peak_per_minute,
            channels: report.paces.into_iter().map(ChannelLoad::of).collect(),
            failures: reasons.map(Reason::of).collect::<Result<_, _>>()?,
        })
    }
}

impl ChannelLoad {
    fn of(pace: Pace) -> Self {
        Self {
            channel: pace.channel.channel,
            limit_per_minute: pace.channel.per_minute,
            minutes_exceeded: pace.minutes_exceeded,
            longest_wait_seconds: pace.longest_wait_s,
        }
    }
}

impl TrialMatch {
    fn of(sample: Sample) -> Result<Self, ApiError> {
        let spans = sample.message.spans.iter().map(|span| TrialSpan {
            offset: span.offset,
            length: span.length,
            kind: match span.kind {
                SpanKind::Bold => "bold",
                SpanKind::Code => "code",
            },
        });
        Ok(Self {
            block: sample.block.into(),
            block_time: rfc3339_seconds(sample.block_time)?,
            record: sample.record.into(),
            spans: spans.collect(),
            text: sample.message.text,
        })
    }
}

impl From<RecordKey> for TrialRecord {
    fn from(key: RecordKey) -> Self {
        match key {
            RecordKey::Log { transaction, log_index } => {
                Self::Log { transaction: transaction.to_string(), log_index }
            }
            RecordKey::Transaction { hash } => Self::Transaction { transaction: hash.to_string() },
            RecordKey::Transfer { transaction, log_index, batch_index } => {
                Self::Transfer { transaction: transaction.to_string(), log_index, batch_index }
            }
            RecordKey::Balance { account, .. } => Self::Balance { account: account.to_string() },
            RecordKey::Block => Self::Block,
        }
    }
}
