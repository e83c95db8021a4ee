//! What an `eth_getLogs` call asks for.

use std::borrow::Cow;

use serde::Deserialize;

/// A filter as clients write it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter<'a> {
    #[serde(borrow, default)]
    pub(super) from_block: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) to_block: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) block_hash: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    address: Option<Alternatives<'a>>,
    #[serde(borrow, default)]
    topics: Vec<Option<Alternatives<'a>>>,
}

/// One hex text, or several of which any will do.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Alternatives<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Any(#[serde(borrow)] Vec<Cow<'a, str>>),
}

/// A filter in bytes. `None` is no limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) addresses: Option<Vec<[u8; 20]>>,
    pub(super) topics: Vec<Option<Vec<[u8; 32]>>>,
}

impl Filter<'_> {
    /// The filter without its blocks; `None` where a text in it is no address or topic.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        let addresses = match &self.address {
            Some(list) => list.decode()?,
            None => None,
        };
        let topics = self.topics.iter().map(|place| match place {
            Some(list) => list.decode(),
            None => Some(None),
        });
        Some(Wanted { addresses, topics: topics.collect::<Option<_>>()? })
    }
}

impl Alternatives<'_> {
    /// An empty list limits nothing.
    #[expect(clippy::option_option, reason = "the outer says whether it is hex at all")]
    fn decode<const N: usize>(&self) -> Option<Option<Vec<[u8; N]>>> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Any(texts) => texts,
        };
        let bytes = texts.iter().map(|text| const_hex::decode_to_array(&**text).ok());
        let bytes = bytes.collect::<Option<Vec<_>>>()?;
        Some((!bytes.is_empty()).then_some(bytes))
    }
}
