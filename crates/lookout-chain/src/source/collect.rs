//! Assigns logs to their blocks and holds each block's logs against its header. Pure.

use alloy_primitives::{B256, Bloom};
use bytes::Bytes;
use lookout_types::{Hash, Height, Log};

use super::bloom::{Memory, contains};
use super::decode::Wrong;
use super::filter::Filter;
use crate::heads::Followed;
use crate::verify::bor_state_sync_hash;

/// Where a log says that it is, besides what is kept of it.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) block: Hash,
    pub(super) height: Height,
    pub(super) timestamp: Option<u64>,
}

/// How a block's logs stand to its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are all: they make up the bloom, or all that is wanted and may be in it is there.
    Whole,
    /// Some are missing for certain; of what kind of sign.
    Lacking(&'static str),
    /// A wanted kind of log that may be in the bloom is not among them.
    InDoubt,
    /// The header is not hashed by Ethereum's rules and its bloom says otherwise.
    Foreign,
}

/// The logs of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) logs: Vec<Log>,
    pub(super) standing: Standing,
}

const NOT_THE_BLOOM: &str = "the logs do not make up the header's bloom";
const NUMBERS_MISSING: &str = "there are gaps in the numbers of the logs";

/// Takes logs in order and gives them by block.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    headers: &'a [Followed],
    filter: &'a Filter,
    memory: Memory,
    done: Vec<Found>,
    /// Of the block under way: its logs, their data end to end, and where each one's ends.
    logs: Vec<Log>,
    data: Vec<u8>,
    ends: Vec<usize>,
    bloom: Bloom,
    /// What is wrong, when [`Self::take`] has failed.
    pub(super) wrong: Option<Wrong>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(headers: &'a [Followed], filter: &'a Filter) -> Self {
        Self {
            headers,
            filter,
            memory: Memory::default(),
            done: Vec::with_capacity(headers.len()),
            logs: Vec::new(),
            data: Vec::new(),
            ends: Vec::new(),
            bloom: Bloom::ZERO,
            wrong: None,
        }
    }

    /// Where the data of the next log goes.
    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Takes a log whose data was appended to [`Self::data`].
    pub(super) fn take(&mut self, log: Log, place: Place) -> Result<(), ()> {
        self.check(log, place).map_err(|wrong| self.wrong = Some(wrong))
    }

    fn check(&mut self, log: Log, place: Place) -> Result<(), Wrong> {
        let lie = |what: &str| {
            let (height, index) = (place.height, log.log_index);
            Err(Wrong::Lie(format!("log {index} of block {height} {what}")))
        };
        let first = self.headers.first().map_or(0, |header| header.block().number);
        let at = place.height.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let Some(at) = at.filter(|at| *at < self.headers.len()) else {
            return lie("is outside the range that was asked for");
        };
        if at < self.done.len() {
            return lie("comes after logs of a later block");
        }
        while self.done.len() < at {
            self.close_carrying_data()?;
        }
        let header = &self.headers[at];
        if place.block != header.block().hash {
            return Err(Wrong::Moved(place.height));
        }
        if place.timestamp.is_some_and(|told| told != header.header.timestamp) {
            return lie("has another time than its block");
        }
        if !self.filter.wants(log.address, &log.topics) {
            return lie("was not asked for");
        }
        if let Some(before) = self.logs.last() {
            let same_index = log.transaction_index == before.transaction_index;
            let same_hash = log.transaction_hash == before.transaction_hash;
            if log.log_index <= before.log_index {
                return lie("repeats the number of the one before it or has a lower one");
            }
            if log.transaction_index < before.transaction_index || same_index != same_hash {
                return lie("has a transaction that does not fit the one before it");
            }
        }
        let repeats = |bytes: fn(&Log) -> Option<&Hash>| {
            self.logs.last().is_some_and(|before| bytes(before) == bytes(&log))
        };
        // Tokens come in runs: most logs repeat the address and the event of the one before.
        let same_event = repeats(|log| log.topics.first());
        if self.logs.last().is_none_or(|before| before.address != log.address) {
            self.memory.address(log.address.0).accrue(&mut self.bloom);
        }
        for topic in log.topics.iter().skip(usize::from(same_event)) {
            self.memory.topic(topic.0).accrue(&mut self.bloom);
        }
        self.ends.push(self.data.len());
        self.logs.push(log);
        Ok(())
    }

    /// Ends the block under way; the data of a log that is not taken yet stay.
    fn close_carrying_data(&mut self) -> Result<(), Wrong> {
        let end = self.ends.last().copied().unwrap_or(0);
        let next = self.data.split_off(end);
        self.close()?;
        self.data = next;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        // As many as the block before had: neighbours are alike.
        let room = self.logs.len();
        let mut logs = std::mem::replace(&mut self.logs, Vec::with_capacity(room));
        if logs.capacity() / 2 > logs.len() {
            logs.shrink_to_fit();
        }
        let data = Bytes::from(std::mem::take(&mut self.data));
        let mut start = 0;
        for (log, end) in logs.iter_mut().zip(self.ends.drain(..)) {
            if end > start {
                log.data = data.slice(start..end);
            }
            start = end;
        }
        let bloom = std::mem::replace(&mut self.bloom, Bloom::ZERO);
        let header = &self.headers[self.done.len()];
        let standing = standing(header, self.filter, &logs, bloom)?;
        self.done.push(Found { logs, standing });
        Ok(())
    }

    /// All blocks, also those without logs.
    pub(super) fn finish(mut self) -> Result<Vec<Found>, Wrong> {
        while self.done.len() < self.headers.len() {
            self.close()?;
        }
        Ok(self.done)
    }
}

/// How logs that have their own places right stand to the header of their block.
pub(super) fn standing(
    header: &Followed,
    filter: &Filter,
    logs: &[Log],
    bloom: Bloom,
) -> Result<Standing, Wrong> {
    let told = &header.header.logs_bloom;
    let soft = header.unverifiable.is_some() || header.header.foreign;
    let bloom = if contains(told, &bloom) { bloom } else { without_state_sync(header, logs) };
    if !contains(told, &bloom) {
        return match soft {
            true => Ok(Standing::Foreign),
            false => Err(Wrong::Lie(format!(
                "logs of block {} are not in its header's bloom",
                header.block().number
            ))),
        };
    }
    if !filter.is_everything() {
        let all = filter.kinds_among(logs) >= filter.kinds_that_may_be_in(told);
        return Ok(if all { Standing::Whole } else { Standing::InDoubt });
    }
    let numbered = (0_u32..).zip(logs).all(|(number, log)| log.log_index == number);
    Ok(match (bloom == *told, numbered) {
        (true, true) => Standing::Whole,
        (false, _) if soft => Standing::Foreign,
        (false, _) => Standing::Lacking(NOT_THE_BLOOM),
        (true, false) => Standing::Lacking(NUMBERS_MISSING),
    })
}

/// The bloom without Bor's state syncs, whose logs are in no header's.
fn without_state_sync(header: &Followed, logs: &[Log]) -> Bloom {
    let state_sync = bor_state_sync_hash(header.block());
    bloom_of(logs.iter().filter(|log| B256::new(log.transaction_hash.0) != state_sync))
}

/// The bloom of some logs.
pub(super) fn bloom_of<'l>(logs: impl Iterator<Item = &'l Log>) -> Bloom {
    let (mut bloom, mut memory) = (Bloom::ZERO, Memory::default());
    for log in logs {
        memory.address(log.address.0).accrue(&mut bloom);
        for topic in &log.topics {
            memory.topic(topic.0).accrue(&mut bloom);
        }
    }
    bloom
}
