//! Rules as they travel: what clients send, and what they get.

use lookout_rules::{Needs, RuleDocument};
use lookout_store::{RuleFailure, RuleInfo};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::provenance::rfc3339_millis;

/// A rule as you write it.
// Describes `RuleDocument`, which knows no OpenAPI, as those below describe its parts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    /// Its name, for lists and messages; it is part of what is watched.
    #[schema(example = "Large USDC transfer", max_length = 200)]
    name: String,
    /// Name, decimal id or CAIP-2 id of a followed chain.
    #[schema(example = "ethereum")]
    chain: String,
    /// The records that it watches.
    watch: RuleWatch,
    /// Which of them match, in CEL's syntax; all when left out.
    #[schema(example = "value > units(\"1000000\", 6)", required = false, max_length = 65_536)]
    condition: String,
    /// Over which time they are taken together, if at all.
    window: Option<RuleWindow>,
    /// Blocks on top of a match's own before its alert is sent.
    #[schema(required = false, default = 0, maximum = 10_000, example = 3)]
    confirmations: u64,
    /// The message, with `{{ value | units(6, USDC) }}` for values; one that lists everything when
    /// left out.
    #[schema(max_length = 8192)]
    template: Option<String>,
    /// Ids of the channels that are told.
    #[schema(required = false, max_items = 20)]
    channels: Vec<String>,
}

/// What a rule watches. No addresses means any.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `WatchDocument`")]
pub(crate) enum RuleWatch {
    /// Logs of one event.
    Event {
        /// Name or id of an uploaded ABI, or `erc20`, `erc721`, `erc1155`.
        #[schema(example = "erc20")]
        abi: Option<String>,
        /// The event's name or signature in the ABI; without an ABI its human-readable form, such as
        /// `event Sent(address indexed from, uint256 value)`.
        #[schema(example = "Transfer")]
        event: String,
        /// The contracts that emit it.
        #[schema(required = false)]
        addresses: Vec<String>,
    },
    /// Transactions, or calls of one function.
    Transaction {
        /// The recipients.
        #[schema(required = false)]
        addresses: Vec<String>,
        /// An ABI, as for events.
        abi: Option<String>,
        /// The function's name or signature in the ABI, or its human-readable form.
        function: Option<String>,
    },
    /// Transfers of the native coin or of tokens.
    Transfer {
        /// What moves.
        asset: RuleAsset,
    },
    /// Readings of balances.
    Balance {
        /// The accounts.
        addresses: Vec<String>,
    },
}

/// The assets of a transfer rule.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `WatchedAssetDocument`")]
pub(crate) enum RuleAsset {
    /// Everything.
    Any,
    /// The native coin.
    Native,
    /// These token contracts.
    Tokens(Vec<String>),
}

/// Records taken together over time, by the times of their blocks.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(dead_code, reason = "describes `WindowDocument`")]
pub(crate) enum RuleWindow {
    /// Matches when the number of records begins to fulfil a condition.
    Count {
        /// Length of the window.
        #[schema(example = "1h", pattern = "^[0-9]+[smhd]$")]
        over: String,
        /// On `count`.
        #[schema(example = "count >= 5")]
        condition: String,
    },
    /// Matches when the sum of a value begins to fulfil a condition.
    Sum {
        /// Length of the window.
        #[schema(example = "1h", pattern = "^[0-9]+[smhd]$")]
        over: String,
        /// The value of one record.
        #[schema(example = "value")]
        of: String,
        /// On `sum` and `count`.
        #[schema(example = "sum > units(\"1000000\", 6)")]
        condition: String,
    },
    /// Matches when there was no record for a time.
    Silence {
        /// How long.
        #[serde(rename = "for")]
        #[schema(example = "7d", pattern = "^[0-9]+[smhd]$")]
        for_: String,
    },
}

/// What has to be read for a rule besides logs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleNeeds {
    /// Transactions.
    pub(crate) transactions: bool,
    /// Receipts.
    pub(crate) receipts: bool,
}

/// Records that the rule had no answer for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
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

/// A saved rule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedRule {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    pub(crate) id: String,
    /// Its name.
    #[schema(example = "Large USDC transfer")]
    name: String,
    /// `active`, `paused` or `deleted`.
    #[schema(example = "active")]
    state: &'static str,
    /// Counted up by each change of what is watched.
    #[schema(example = 1, minimum = 1)]
    version: u32,
    /// EIP-155 id of its chain.
    #[schema(example = 1)]
    chain_id: u64,
    /// First height that this version watches; `null` until it was taken up.
    from_height: Option<u64>,
    /// The rule as it was written; `PUT` takes it back.
    #[schema(value_type = Rule)]
    rule: RuleDocument,
    /// What you should know about it.
    notes: Vec<String>,
    /// What has to be read for it.
    needs: RuleNeeds,
    /// Records that this version had no answer for.
    failures: Vec<Failure>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it was deleted; `null` while it is not.
    deleted_at: Option<String>,
}

impl From<Needs> for RuleNeeds {
    fn from(needs: Needs) -> Self {
        Self { transactions: needs.transactions, receipts: needs.receipts }
    }
}

impl SavedRule {
    pub(crate) fn of(info: RuleInfo, failures: &[RuleFailure]) -> Result<Self, ApiError> {
        let own = failures.iter().filter(|failure| failure.rule_id == info.id);
        let failures = own.map(|failure| Failure {
            reason: failure.reason.clone(),
            count: failure.count,
            last_height: failure.last_height,
            last_record: failure.last_record.clone(),
        });
        Ok(Self {
            state: info.state().as_str(),
            failures: failures.collect(),
            name: info.document.name.clone(),
            version: info.version,
            chain_id: info.chain.0,
            from_height: info.from_height,
            rule: info.document,
            notes: info.notes,
            needs: info.needs.into(),
            created_at: rfc3339_millis(info.created_at)?,
            updated_at: rfc3339_millis(info.updated_at)?,
            deleted_at: info.deleted_at.map(rfc3339_millis).transpose()?,
            id: info.id,
        })
    }
}
