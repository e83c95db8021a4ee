//! Logs as nodes spell them: compact, without escapes, member after member as in the log before.
//!
//! Most of a strict reader's time goes into finding out what comes next, which is nearly always what
//! came there last time. This one knows that spelling alone; whatever it does not take, be it another
//! spelling or a fault, is for the strict reader to take or to name. Pure.

use bytes::Bytes;
use lookout_types::{Hash, Log};

use super::{Member, TOPICS_MAX, data, fixed, quantity};
use crate::source::collect::{Collector, Place};

/// Members that one log can have.
const MEMBERS_MAX: usize = 10;
/// Digits of data that is one word, as that of most events.
const WORD_DIGITS: usize = 64;

/// What the answer still has, and the order of members in the log before.
#[derive(Debug)]
pub(in crate::source) struct Quick<'a> {
    rest: &'a [u8],
    order: [Member; MEMBERS_MAX],
}

impl<'a> Quick<'a> {
    pub(in crate::source) fn new(json: &'a [u8]) -> Self {
        Self { rest: json, order: [Member::Address; MEMBERS_MAX] }
    }

    /// Reads the whole answer; `None` where it is not spelled as expected, or wrong.
    pub(in crate::source) fn logs(mut self, collector: &mut Collector<'_>) -> Option<()> {
        self.eat(b"[")?;
        if self.eat(b"]").is_none() {
            loop {
                self.log(collector)?;
                if self.eat(b",").is_none() {
                    break;
                }
            }
            self.eat(b"]")?;
        }
        self.rest.is_empty().then_some(())
    }

    fn log(&mut self, collector: &mut Collector<'_>) -> Option<()> {
        let (mut place, mut seen) = (Place::default(), 0_u16);
        let mut log = Log {
            address: lookout_types::Address::default(),
            topics: Vec::new(),
            data: Bytes::new(),
            transaction_hash: Hash::default(),
            transaction_index: 0,
            log_index: 0,
        };
        self.eat(b"{")?;
        for at in 0..MEMBERS_MAX {
            let member = self.member(at)?;
            let bit = 1_u16 << member as u8;
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
            match member {
                Member::Address => self.fixed(&mut log.address.0)?,
                Member::Topics => log.topics = self.topics()?,
                Member::Data => self.data(collector.data())?,
                Member::BlockHash => self.fixed(&mut place.block.0)?,
                Member::BlockNumber => place.height = self.quantity()?,
                Member::TransactionHash => self.fixed(&mut log.transaction_hash.0)?,
                Member::TransactionIndex => log.transaction_index = self.small()?,
                Member::LogIndex => log.log_index = self.small()?,
                Member::Removed => self.eat(b"false")?,
                Member::BlockTimestamp => place.timestamp = Some(self.quantity()?),
                Member::Other => return None,
            }
            if self.eat(b",").is_none() {
                break;
            }
        }
        self.eat(b"}")?;
        let is_whole = Member::REQUIRED.iter().all(|m| seen & (1 << *m as u8) != 0);
        collector.take(log, place).ok().filter(|()| is_whole)
    }

    fn eat(&mut self, token: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    /// Reads the name of a member and the colon behind it.
    fn member(&mut self, at: usize) -> Option<Member> {
        let expected = self.order.get_mut(at)?;
        let name = expected.name();
        let after = self.rest.strip_prefix(b"\"").and_then(|rest| rest.strip_prefix(name));
        if let Some(rest) = after.and_then(|rest| rest.strip_prefix(b"\":")) {
            self.rest = rest;
            return Some(*expected);
        }
        let text = self.rest.strip_prefix(b"\"")?;
        let (name, rest) = text.split_at(text.iter().position(|byte| *byte == b'"')?);
        *expected = Member::of(name);
        self.rest = rest.strip_prefix(b"\":")?;
        Some(*expected)
    }

    /// A text of this length, and what is between its quotes.
    fn text(&mut self, length: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.rest.strip_prefix(b"\"")?.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(text)
    }

    // None of the readers of text takes anything but hex digits, so that no escape and no quote
    // passes for a part of it.

    fn fixed<const N: usize>(&mut self, into: &mut [u8; N]) -> Option<()> {
        fixed(self.text(2 + 2 * N)?, into)
    }

    fn data(&mut self, into: &mut Vec<u8>) -> Option<()> {
        let text = self.rest.strip_prefix(b"\"")?;
        let word = 2 + WORD_DIGITS;
        let length = match text.get(word) {
            Some(b'"') => word,
            _ => text.iter().position(|byte| *byte == b'"')?,
        };
        data(self.text(length)?, into)
    }

    fn quantity(&mut self) -> Option<u64> {
        let text = self.rest.strip_prefix(b"\"")?;
        let length = text.iter().take(2 + 16 + 1).position(|byte| *byte == b'"')?;
        quantity(self.text(length)?)
    }

    fn small(&mut self) -> Option<u32> {
        self.quantity()?.try_into().ok()
    }

    fn topics(&mut self) -> Option<Vec<Hash>> {
        let (mut topics, mut count) = ([Hash::default(); TOPICS_MAX], 0);
        self.eat(b"[")?;
        if self.eat(b"]").is_none() {
            loop {
                self.fixed(&mut topics.get_mut(count)?.0)?;
                count += 1;
                if self.eat(b",").is_none() {
                    break;
                }
            }
            self.eat(b"]")?;
        }
        // One allocation of just the room that is needed.
        topics.get(..count).map(<[Hash]>::to_vec)
    }
}
