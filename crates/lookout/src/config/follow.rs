//! The keys of `[chains.NAME]` that say what of a chain is followed.

use lookout_chain::Wants;
use lookout_rules::Kept;
use lookout_types::{Address, ChainId, Hash, Height};

use super::section::{Kind, Setting};
use super::setting::{quoted, quoted_list, texts, word_setting};
use super::tree::{Entry, Problem, Value};

word_setting! {
    /// What of a chain is followed.
    FollowMode {
        /// Nothing.
        Off = "off",
        /// Logs, and so tokens' transfers.
        Logs = "logs",
        /// Whole blocks: transactions, receipts, logs, transfers of the native coin.
        Blocks = "blocks",
    }
}

/// A chain to follow, as configured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Follow {
    /// Its name.
    pub(crate) chain: String,
    /// Its id.
    pub(crate) id: ChainId,
    /// What of it.
    pub(crate) wants: Wants,
    /// From where.
    pub(crate) from: FollowFrom,
}

impl Follow {
    /// What is kept of its blocks, which rules can match.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            chain: self.chain.clone(),
            whole: self.wants.whole,
            addresses: self.wants.addresses.clone(),
            topics: self.wants.topics.clone(),
        }
    }
}

/// The first block followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowFrom {
    /// The head at the first start.
    Latest,
    /// A height.
    Height(Height),
}

impl Setting for FollowFrom {
    const KIND: Kind = Kind::Value("height or `latest`");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        match &entry.value {
            Value::Text(text) | Value::Untyped(text) if text.trim() == "latest" => Ok(Self::Latest),
            Value::Text(_) => Err(entry.problem("expected a height such as 19000000, or `latest`")),
            _ => u64::read(entry).map(Self::Height),
        }
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Latest => quoted("latest"),
            Self::Height(height) => height.to_string(),
        })
    }
}

/// Contracts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Addresses(pub(crate) Vec<Address>);

/// First topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Topics(pub(crate) Vec<Hash>);

/// Most addresses, and most topics, of a filter: what providers take in one call.
const FILTER_MAX: usize = 1000;

fn filter<T>(
    entry: &Entry,
    what: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Problem> {
    let items = texts(entry, what)?;
    if items.len() > FILTER_MAX {
        return Err(entry.problem(format!("more than {FILTER_MAX} values; follow without it")));
    }
    let parse = |(item, text): (&Entry, &str)| read(text).map_err(|reason| item.problem(reason));
    items.into_iter().map(parse).collect()
}

impl Setting for Addresses {
    const KIND: Kind = Kind::Value("list of addresses");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let parse = |text: &str| Address::parse_lenient(text).map_err(|e| e.to_string());
        filter(entry, "an address", parse).map(Self)
    }

    fn show(&self) -> Option<String> {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        Some(quoted_list(texts.iter().map(String::as_str)))
    }
}

impl Setting for Topics {
    const KIND: Kind = Kind::Value("list of topics");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let parse = |text: &str| {
            text.parse::<Hash>()
                .map_err(|_| format!("`{text}` is no topic: expected 0x and 64 hex digits"))
        };
        filter(entry, "a topic", parse).map(Self)
    }

    fn show(&self) -> Option<String> {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        Some(quoted_list(texts.iter().map(String::as_str)))
    }
}

impl Follow {
    /// The keys as a user would write them.
    pub(crate) fn show(&self) -> String {
        let mode = if self.wants.whole { FollowMode::Blocks } else { FollowMode::Logs };
        let keys = [
            ("follow", mode.show()),
            ("follow_from", self.from.show()),
            ("follow_addresses", Addresses(self.wants.addresses.clone()).show()),
            ("follow_topics", Topics(self.wants.topics.clone()).show()),
            ("follow_quorum", self.wants.confirmed.then(|| "2".to_owned())),
        ];
        let shown = keys.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let set = shown.filter(|(_, value)| value != "[]");
        set.map(|(key, value)| format!("{key} = {value}\n")).collect()
    }
}
