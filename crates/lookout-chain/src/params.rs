//! What a client's parameters say about blocks. Pure.

use lookout_types::{Address, BlockSelector, Hash, Height};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The parameter array of a call, its elements byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Params<'a>(pub(crate) Vec<&'a RawValue>);

impl<'a> Params<'a> {
    /// `None` for parameters by name, which go to the node as they are.
    pub(crate) fn parse(raw: Option<&'a RawValue>) -> Option<Self> {
        let Some(raw) = raw else { return Some(Self(Vec::new())) };
        match raw.get() {
            "null" => Some(Self(Vec::new())),
            text => serde_json::from_str(text).ok().map(Self),
        }
    }

    pub(crate) fn get(&self, i: usize) -> Option<&'a str> {
        self.0.get(i).map(|raw| raw.get())
    }

    /// The array with element `at` replaced or, where it was left out, appended.
    pub(crate) fn with(&self, at: usize, value: &str) -> String {
        let mut parts: Vec<&str> = self.0.iter().map(|raw| raw.get()).collect();
        match parts.get_mut(at) {
            Some(part) => *part = value,
            None => parts.push(value),
        }
        array(&parts)
    }

    /// All elements but `at`: what the question is, apart from the block.
    pub(crate) fn without(&self, at: usize) -> Vec<&'a str> {
        let elements = self.0.iter().enumerate();
        elements.filter(|(i, _)| *i != at).map(|(_, raw)| raw.get()).collect()
    }

    /// The block in element `at`, in any form. Left out, it is the node's to say what is meant.
    pub(crate) fn block(&self, at: usize) -> Option<BlockSelector> {
        self.get(at).and_then(parse_block)
    }

    /// The block in element 0, where only a number or tag will do.
    pub(crate) fn block_by_number(&self) -> Option<BlockSelector> {
        self.get(0).and_then(parse_number_or_tag)
    }

    /// The block in element 0, where only a hash will do.
    pub(crate) fn block_by_hash(&self) -> Option<BlockSelector> {
        let text: &str = serde_json::from_str(self.get(0)?).ok()?;
        text.parse().ok().map(BlockSelector::Hash)
    }
}

/// A JSON array of JSON texts.
pub(crate) fn array(parts: &[&str]) -> String {
    format!("[{}]", parts.join(","))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockObject<'a> {
    #[serde(default)]
    block_hash: Option<&'a str>,
    #[serde(default)]
    block_number: Option<&'a str>,
    #[serde(default)]
    require_canonical: bool,
}

/// The block that a JSON value names (EIP-1898 included); `None` for `pending` and for what only
/// the node can judge.
pub(crate) fn parse_block(json: &str) -> Option<BlockSelector> {
    if json.starts_with('{') {
        let object: BlockObject<'_> = serde_json::from_str(json).ok()?;
        return match (object.block_hash, object.block_number, object.require_canonical) {
            (Some(hash), None, false) => hash.parse().ok().map(BlockSelector::Hash),
            (None, Some(number), false) => parse_number(number).map(BlockSelector::Number),
            _ => None,
        };
    }
    let hash = || serde_json::from_str::<&str>(json).ok()?.parse().ok().map(BlockSelector::Hash);
    parse_number_or_tag(json).or_else(hash)
}

/// A number or tag, as JSON; `None` for `pending` and for what only the node can judge.
fn parse_number_or_tag(json: &str) -> Option<BlockSelector> {
    let text: &str = serde_json::from_str(json).ok()?;
    match text {
        "earliest" => Some(BlockSelector::Number(0)),
        "latest" => Some(BlockSelector::Latest),
        "safe" => Some(BlockSelector::Safe),
        "finalized" => Some(BlockSelector::Finalized),
        _ => parse_number(text).map(BlockSelector::Number),
    }
}

/// A height as JSON-RPC writes it, in hex only; anything else is the node's to refuse.
fn parse_number(text: &str) -> Option<Height> {
    // Nodes refuse leading zeros, so a height with them must reach the node unchanged.
    let canonical = text == "0x0" || !text.starts_with("0x0");
    if text.starts_with("0x") && canonical {
        lookout_types::parse_quantity(text).ok()
    } else {
        None
    }
}

/// A log filter, as far as it can be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter {
    pub(crate) addresses: Vec<Address>,
    /// Per position the accepted topics; empty accepts all.
    pub(crate) topics: Vec<Vec<Hash>>,
    pub(crate) from: BlockSelector,
    pub(crate) to: BlockSelector,
    /// Set for a filter on one block by hash.
    pub(crate) block: Option<Hash>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterObject<'a> {
    #[serde(default)]
    address: Option<OneOrMany<String>>,
    #[serde(default)]
    topics: Option<Vec<Option<OneOrMany<Option<String>>>>>,
    #[serde(default, borrow)]
    from_block: Option<&'a RawValue>,
    #[serde(default, borrow)]
    to_block: Option<&'a RawValue>,
    #[serde(default)]
    block_hash: Option<String>,
}

impl LogFilter {
    /// `None` for what only the node can judge.
    pub(crate) fn parse(json: &str) -> Option<Self> {
        // Serde would read an array as the filter's members in order.
        let json = Some(json).filter(|json| json.starts_with('{'))?;
        let object: FilterObject<'_> = serde_json::from_str(json).ok()?;
        let addresses = match object.address {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one.parse().ok()?],
            Some(OneOrMany::Many(many)) => {
                many.iter().map(|a| a.parse().ok()).collect::<Option<_>>()?
            }
        };
        let topics = object
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(topic_position)
            .collect::<Option<Vec<_>>>()?;
        let bound = |raw: Option<&RawValue>| match raw.map(RawValue::get) {
            None | Some("null") => Some(BlockSelector::Latest),
            Some(text) => parse_number_or_tag(text),
        };
        let block = match object.block_hash {
            Some(_) if object.from_block.is_some() || object.to_block.is_some() => return None,
            Some(hash) => Some(hash.parse().ok()?),
            None => None,
        };
        let (from, to) = (bound(object.from_block)?, bound(object.to_block)?);
        Some(Self { addresses, topics, from, to, block })
    }

    /// The filter without its blocks, in one spelling, for the cache key.
    pub(crate) fn question(&self) -> String {
        format!("{:?}{:?}", self.addresses, self.topics)
    }

    /// The filter on one block by its hash.
    pub(crate) fn on_block(&self, hash: &Hash) -> String {
        format!("[{{{}\"blockHash\":\"{hash}\"}}]", self.conditions())
    }

    /// The filter on a range of heights.
    pub(crate) fn on_range(&self, from: Height, to: Height) -> String {
        let conditions = self.conditions();
        format!("[{{{conditions}\"fromBlock\":\"{from:#x}\",\"toBlock\":\"{to:#x}\"}}]")
    }

    fn conditions(&self) -> String {
        let quoted = |list: &[String]| format!("[{}]", list.join(","));
        let mut text = String::new();
        if !self.addresses.is_empty() {
            let each: Vec<_> = self.addresses.iter().map(|a| format!("\"{a}\"")).collect();
            text = format!("\"address\":{},", quoted(&each));
        }
        if !self.topics.is_empty() {
            let position = |accepted: &Vec<Hash>| {
                let each: Vec<_> = accepted.iter().map(|h| format!("\"{h}\"")).collect();
                if each.is_empty() { "null".to_owned() } else { quoted(&each) }
            };
            let each: Vec<_> = self.topics.iter().map(position).collect();
            text.push_str(&format!("\"topics\":{},", quoted(&each)));
        }
        text
    }
}

fn topic_position(position: Option<OneOrMany<Option<String>>>) -> Option<Vec<Hash>> {
    match position {
        None | Some(OneOrMany::One(None)) => Some(Vec::new()),
        Some(OneOrMany::One(Some(topic))) => Some(vec![topic.parse().ok()?]),
        Some(OneOrMany::Many(many)) if many.iter().any(Option::is_none) => Some(Vec::new()),
        Some(OneOrMany::Many(many)) => {
            many.iter().flatten().map(|topic| topic.parse().ok()).collect()
        }
    }
}

#[cfg(test)]
mod tests;
