//! A rule as clients write it: the JSON document, and all that a version is compiled from.

mod builtin;
mod duration;
mod labels;
mod source;
mod text;

use lookout_types::Address;
use serde::{Deserialize, Serialize};

use crate::error::RuleError;

pub use builtin::builtin_abi;
pub use duration::DurationS;
pub use source::RuleSource;

/// Most channels that one rule alerts: more people belong into one group.
pub const MAX_CHANNELS: usize = 20;
/// Most confirmations: a day and a half of Ethereum's blocks. What takes longer is no alert.
pub const MAX_CONFIRMATIONS: u64 = 10_000;

/// Longest name, signature or human-readable form of an event or function, in bytes: an event of 64
/// arguments has about 2,000.
pub const MAX_SIGNATURE_BYTES: usize = 4 << 10;

/// A rule as its owner writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleDocument {
    /// Its name, for lists and messages.
    pub name: String,
    /// The chain: its configured name, its id, or its CAIP-2 id.
    pub chain: String,
    /// The records that it watches.
    pub watch: WatchDocument,
    /// Which of them match; empty for all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// Over which time they are taken together, if at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowDocument>,
    /// Blocks on top of a match's own before its alert is sent.
    #[serde(default)]
    pub confirmations: u64,
    /// The message of its alerts; one that lists everything when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Ids of the channels that are told.
    #[serde(default)]
    pub channels: Vec<String>,
}

/// What a rule watches. An empty list of addresses means any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum WatchDocument {
    /// Logs of one event.
    Event {
        /// An ABI: the name or id of an uploaded one, or `erc20`, `erc721`, `erc1155`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        abi: Option<String>,
        /// The event's name or signature; without an ABI, its human-readable form.
        event: String,
        /// The contracts that emit it.
        #[serde(default, skip_serializing_if = "Vec::is_empty", with = "text::addresses")]
        addresses: Vec<Address>,
    },
    /// Transactions, or calls of one function.
    Transaction {
        /// The recipients.
        #[serde(default, skip_serializing_if = "Vec::is_empty", with = "text::addresses")]
        addresses: Vec<Address>,
        /// An ABI, as for events.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        abi: Option<String>,
        /// The function's name or signature; without an ABI, its human-readable form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        function: Option<String>,
    },
    /// Transfers of the native coin or of tokens.
    Transfer {
        /// What moves.
        asset: WatchedAssetDocument,
    },
    /// Readings of balances.
    Balance {
        /// The accounts.
        #[serde(with = "text::addresses")]
        addresses: Vec<Address>,
    },
}

/// The assets of a transfer rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum WatchedAssetDocument {
    /// Everything.
    Any,
    /// The native coin.
    Native,
    /// These token contracts.
    #[serde(with = "text::addresses")]
    Tokens(Vec<Address>),
}

/// Taking records together over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum WindowDocument {
    /// Matches when the number of records begins to fulfil a condition.
    Count {
        /// Length of the window.
        over: DurationS,
        /// On `count`.
        condition: String,
    },
    /// Matches when the sum of a value begins to fulfil a condition.
    Sum {
        /// Length of the window.
        over: DurationS,
        /// The value of one record.
        of: String,
        /// On `sum` and `count`.
        condition: String,
    },
    /// Matches when there was no record for a time.
    Silence {
        /// How long.
        #[serde(rename = "for")]
        for_: DurationS,
    },
}

impl RuleDocument {
    /// Checks what no compiler sees: name, confirmations, channels.
    ///
    /// # Errors
    /// [`RuleError::Invalid`] names the member, the reason and the limit.
    pub fn check(&self) -> Result<(), RuleError> {
        let wrong = |reason: String| Err(RuleError::Invalid(reason));
        if self.name.trim().is_empty() {
            return wrong(
                "the rule has no name; give it one, it stands in its messages".to_owned(),
            );
        }
        if self.name.chars().any(char::is_control) {
            return wrong("the rule's name holds control characters; leave them out".to_owned());
        }
        let signature = match &self.watch {
            WatchDocument::Event { event, .. } => event.len(),
            WatchDocument::Transaction { function, .. } => function.as_ref().map_or(0, String::len),
            WatchDocument::Transfer { .. } | WatchDocument::Balance { .. } => 0,
        };
        if signature > MAX_SIGNATURE_BYTES {
            return wrong(format!(
                "the event or function is named by {signature} bytes, the limit is \
                 {MAX_SIGNATURE_BYTES}"
            ));
        }
        if self.confirmations > MAX_CONFIRMATIONS {
            return wrong(format!(
                "the rule waits for {} confirmations, the limit is {MAX_CONFIRMATIONS}",
                self.confirmations
            ));
        }
        if self.channels.len() > MAX_CHANNELS {
            return wrong(format!(
                "the rule names {} channels, the limit is {MAX_CHANNELS}; use a group",
                self.channels.len()
            ));
        }
        Ok(())
    }

    /// The name or id of the ABI that it refers to, if any.
    pub fn abi(&self) -> Option<&str> {
        match &self.watch {
            WatchDocument::Event { abi, .. } | WatchDocument::Transaction { abi, .. } => {
                abi.as_deref()
            }
            WatchDocument::Transfer { .. } | WatchDocument::Balance { .. } => None,
        }
    }

    /// The names of the labels that its texts use, sorted. A text that does not parse names none:
    /// compiling it says why.
    pub fn label_names(&self) -> Vec<String> {
        let summed = match &self.window {
            Some(WindowDocument::Sum { of, .. }) => Some(of.as_str()),
            _ => None,
        };
        labels::named_in(std::iter::once(self.condition.as_str()).chain(summed))
    }

    /// The document without what may change while its matches stay the same: who is told, and how
    /// sure they want to be.
    #[must_use]
    pub fn watched(&self) -> Self {
        Self { channels: Vec::new(), confirmations: 0, ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
