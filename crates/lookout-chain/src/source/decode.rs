//! `eth_getLogs` answers, read straight into logs by block and checked on the way. Pure.
//!
//! A range holds hundreds of thousands of logs, so nothing is kept between the answer's bytes and
//! the records: no tree of JSON, no text, no allocation of a log but its topics, and one buffer of
//! data a block.

pub(super) mod quick;

use std::fmt;

use bytes::Bytes;
use lookout_types::{Hash, Height, Log};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::collect::{Collector, Found, Place};
use super::filter::Filter;
use crate::heads::Followed;
use quick::Quick;

/// Most topics of a log: `LOG4` is the highest of the EVM.
const TOPICS_MAX: usize = 4;

/// Why an answer is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It contradicts the question, itself or the headers.
    Lie(String),
    /// It is about another block at this height than the headers are.
    Moved(Height),
}

/// Reads the logs of the blocks with these headers, which are in order without gaps.
///
/// # Errors
/// [`Wrong`], naming the first log that is.
pub(super) fn logs(
    json: &[u8],
    headers: &[Followed],
    filter: &Filter,
) -> Result<Vec<Found>, Wrong> {
    let mut collector = Collector::new(headers, filter);
    if Quick::new(json).logs(&mut collector).is_some() {
        return collector.finish();
    }
    strict(json, headers, filter)
}

/// Reads whatever is JSON, and names what is wrong.
pub(super) fn strict(
    json: &[u8],
    headers: &[Followed],
    filter: &Filter,
) -> Result<Vec<Found>, Wrong> {
    let mut collector = Collector::new(headers, filter);
    let mut input = serde_json::Deserializer::from_slice(json);
    let read = List(&mut collector).deserialize(&mut input).and_then(|()| input.end());
    match (collector.wrong.take(), read) {
        (Some(wrong), _) => Err(wrong),
        (None, Err(error)) => Err(Wrong::Lie(format!("malformed logs: {error}"))),
        (None, Ok(())) => collector.finish(),
    }
}

/// The whole answer.
struct List<'c, 'a>(&'c mut Collector<'a>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of logs")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element_seed(One(self.0))?.is_some() {}
        Ok(())
    }
}

/// One log.
struct One<'c, 'a>(&'c mut Collector<'a>);

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let (mut place, mut seen) = (Place::default(), 0_u16);
        let mut log = Log {
            address: lookout_types::Address::default(),
            topics: Vec::new(),
            data: Bytes::new(),
            transaction_hash: Hash::default(),
            transaction_index: 0,
            log_index: 0,
        };
        let data = self.0.data();
        while let Some(member) = map.next_key_seed(Key)? {
            let bit = 1_u16 << member as u8;
            if member != Member::Other && seen & bit != 0 {
                return Err(M::Error::custom(format_args!("{member:?} stands twice")));
            }
            seen |= bit;
            match member {
                Member::Address => map.next_value_seed(Fixed(&mut log.address.0))?,
                Member::Topics => map.next_value_seed(Topics(&mut log.topics))?,
                Member::Data => map.next_value_seed(Data(data))?,
                Member::BlockHash => map.next_value_seed(Fixed(&mut place.block.0))?,
                Member::BlockNumber => place.height = map.next_value_seed(Quantity)?,
                Member::TransactionHash => {
                    map.next_value_seed(Fixed(&mut log.transaction_hash.0))?;
                }
                Member::TransactionIndex => {
                    log.transaction_index = small(map.next_value_seed(Quantity)?)?;
                }
                Member::LogIndex => log.log_index = small(map.next_value_seed(Quantity)?)?,
                Member::Removed => {
                    if map.next_value::<Option<bool>>()? == Some(true) {
                        return Err(M::Error::custom("a log is one that a reorg removed"));
                    }
                }
                Member::BlockTimestamp => place.timestamp = map.next_value_seed(Timestamp)?,
                Member::Other => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        if let Some(missing) = Member::REQUIRED.iter().find(|m| seen & (1 << **m as u8) == 0) {
            return Err(M::Error::custom(format_args!("a log has no {missing:?}")));
        }
        self.0.take(log, place).map_err(|()| M::Error::custom("a log is wrong"))
    }
}

fn small<E: Error>(number: u64) -> Result<u32, E> {
    number.try_into().map_err(|_| E::custom("a position in a block that no block can have"))
}

/// A member of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Member {
    Address,
    Topics,
    Data,
    BlockHash,
    BlockNumber,
    TransactionHash,
    TransactionIndex,
    LogIndex,
    Removed,
    BlockTimestamp,
    Other,
}

impl Member {
    const REQUIRED: [Self; 8] = [
        Self::Address,
        Self::Topics,
        Self::Data,
        Self::BlockHash,
        Self::BlockNumber,
        Self::TransactionHash,
        Self::TransactionIndex,
        Self::LogIndex,
    ];

    const NAMED: [Self; 10] = [
        Self::Address,
        Self::Topics,
        Self::Data,
        Self::BlockHash,
        Self::BlockNumber,
        Self::TransactionHash,
        Self::TransactionIndex,
        Self::LogIndex,
        Self::Removed,
        Self::BlockTimestamp,
    ];

    fn of(name: &[u8]) -> Self {
        Self::NAMED.into_iter().find(|member| member.name() == name).unwrap_or(Self::Other)
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Address => b"address",
            Self::Topics => b"topics",
            Self::Data => b"data",
            Self::BlockHash => b"blockHash",
            Self::BlockNumber => b"blockNumber",
            Self::TransactionHash => b"transactionHash",
            Self::TransactionIndex => b"transactionIndex",
            Self::LogIndex => b"logIndex",
            Self::Removed => b"removed",
            Self::BlockTimestamp => b"blockTimestamp",
            Self::Other => b"",
        }
    }
}

/// Declares a seed that reads a JSON text as bytes, which spares a check for UTF-8 of what must be
/// hex digits anyway.
macro_rules! text_seed {
    ($seed:ty => $value:ty, $expected:literal, |$self:ident, $bytes:ident| $read:expr) => {
        impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<$value, D::Error> {
                input.deserialize_bytes(self)
            }
        }

        impl<'de> Visitor<'de> for $seed {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expected)
            }

            fn visit_bytes<E: Error>($self, $bytes: &[u8]) -> Result<$value, E> {
                $read.ok_or_else(|| E::custom(concat!("expected ", $expected)))
            }
        }
    };
}

struct Key;
text_seed!(Key => Member, "a key", |self, name| Some(Member::of(name)));

/// Bytes of a fixed number.
struct Fixed<'a, const N: usize>(&'a mut [u8; N]);
text_seed!(Fixed<'_, 20> => (), "`0x` and 40 hex digits", |self, text| fixed(text, self.0));
text_seed!(Fixed<'_, 32> => (), "`0x` and 64 hex digits", |self, text| fixed(text, self.0));

#[inline]
fn fixed<const N: usize>(text: &[u8], into: &mut [u8; N]) -> Option<()> {
    let digits = text.strip_prefix(b"0x").filter(|digits| digits.len() == 2 * N)?;
    alloy_primitives::hex::decode_to_slice(digits, into).ok()
}

/// Bytes of any number, appended to a buffer.
struct Data<'a>(&'a mut Vec<u8>);
text_seed!(Data<'_> => (), "`0x` and an even number of hex digits", |self, text| {
    data(text, self.0)
});

fn data(text: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let digits = text.strip_prefix(b"0x").filter(|digits| digits.len().is_multiple_of(2))?;
    let start = into.len();
    into.resize(start + digits.len() / 2, 0);
    // The decoder skips a second `0x`, and then has too little for the room.
    alloy_primitives::hex::decode_to_slice(digits, into.get_mut(start..)?).ok()
}

/// A number below 2^64.
struct Quantity;
text_seed!(Quantity => u64, "a number below 2^64 as `0x` and hex digits", |self, text| {
    quantity(text)
});

fn quantity(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"0x").filter(|digits| (1..=16).contains(&digits.len()))?;
    digits.iter().try_fold(0_u64, |number, digit| {
        Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

/// Seconds that a node adds of its own: as hex, or (anvil) as a number, or not at all.
struct Timestamp;

impl<'de> DeserializeSeed<'de> for Timestamp {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Option<u64>, D::Error> {
        input.deserialize_any(self)
    }
}

impl Visitor<'_> for Timestamp {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since 1970")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<u64>, E> {
        let seconds = quantity(text.as_bytes());
        seconds.map(Some).ok_or_else(|| E::custom("expected seconds since 1970"))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Option<u64>, E> {
        Ok(Some(seconds))
    }

    fn visit_unit<E: Error>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }
}

/// A log's topics.
struct Topics<'a>(&'a mut Vec<Hash>);

impl<'de> DeserializeSeed<'de> for Topics<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Topics<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at most 4 topics")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let (mut topics, mut count) = ([Hash::default(); TOPICS_MAX], 0);
        let mut beyond = [0; 32];
        loop {
            let into = topics.get_mut(count).map_or(&mut beyond, |topic| &mut topic.0);
            if list.next_element_seed(Fixed(into))?.is_none() {
                break;
            }
            count += 1;
            if count > TOPICS_MAX {
                return Err(S::Error::custom("a log has more than 4 topics"));
            }
        }
        // One allocation of just the room that is needed.
        self.0.extend_from_slice(topics.get(..count).unwrap_or(&topics));
        Ok(())
    }
}
