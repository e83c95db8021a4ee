//! A window state as bytes, for a consumer to store beside its cursor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lookout_types::{BlockRef, ChainId, Hash};

use super::{Silence, StateKey, TakenUp, Tally, TallyEntry, Undo, Wide, WindowError, WindowState};
use crate::rule::RuleId;

/// Counted up when the form changes; an old snapshot is then rebuilt from the frames.
const VERSION: u8 = 1;

/// Entries of a window up to which it is one part.
const ENTRIES_TOGETHER: usize = 256;
/// Heights whose entries of one window are a part: at most 64 KiB, which stay as they are once the
/// chain has gone on.
const HEIGHTS_OF_ENTRIES: u64 = 1024;
/// Heights whose undoing is a part.
const HEIGHTS_OF_UNDO: u64 = 8;

impl WindowState {
    /// The state as bytes, journal included: what is restored can undo as far.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.to_parts(Vec::new(), &mut |_, part| bytes.extend(part));
        bytes
    }

    /// The same in parts with names, in the order of the names; `head` stands in front. Most parts
    /// are the same again after some blocks more.
    pub(crate) fn to_parts(&self, head: Vec<u8>, keep: &mut dyn FnMut(String, Vec<u8>)) {
        let mut out = Writer { part: "0".to_owned(), bytes: head, keep };
        out.bytes.push(VERSION);
        out.number(self.chain.0);
        out.number(self.time);
        out.length(self.tallies.len());
        for (key, tally) in &self.tallies {
            out.tally(*key, tally);
        }
        out.cut("2".to_owned());
        out.length(self.silences.len());
        for (key, silence) in &self.silences {
            out.key(*key);
            out.silence(Some(*silence));
        }
        out.cut("3".to_owned());
        out.length(self.journal.len());
        let mut bucket = None;
        for undo in &self.journal {
            let of = undo.block.number / HEIGHTS_OF_UNDO;
            if bucket.replace(of) != Some(of) {
                out.cut(format!("3/{of:020}"));
            }
            out.undo(undo);
        }
        out.cut(String::new());
    }

    /// Restores what [`WindowState::to_bytes`] gave.
    ///
    /// # Errors
    /// [`WindowError::Snapshot`] when the bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WindowError> {
        let mut input = Reader(bytes);
        if input.byte()? != VERSION {
            return Err(WindowError::Snapshot("they are of another version of lookout"));
        }
        let chain = ChainId(input.number()?);
        let time = input.number()?;
        let tallies: BTreeMap<_, _> = input.many(|input| {
            let key = input.key()?;
            let (forgotten, outside, count) = (input.number()?, input.number()?, input.number()?);
            let sum = input.wide()?;
            let entries: VecDeque<_> = input.many(|input| {
                let (height, time, count) = (input.number()?, input.number()?, input.number()?);
                Ok(TallyEntry { height, time, count, sum: input.wide()? })
            })?;
            Ok((key, Tally { entries, forgotten, outside, count, sum }))
        })?;
        let silences: BTreeMap<_, _> = input.many(|input| {
            let key = input.key()?;
            let silence = input.silence()?;
            Ok((key, silence.ok_or(WindowError::Snapshot("a silence is missing"))?))
        })?;
        let journal: VecDeque<_> = input.many(|input| {
            let number = input.number()?;
            let (hash, parent) = (Hash(input.array()?), Hash(input.array()?));
            let (time, time_before) = (input.number()?, input.number()?);
            let tallies = input.many(|input| {
                Ok((input.key()?, input.number()?, input.number()?, input.wide()?))
            })?;
            let silences = input.many(|input| Ok((input.key()?, input.silence()?)))?;
            let block = BlockRef { number, hash };
            Ok(Undo { block, parent, time, time_before, tallies, silences })
        })?;
        if !input.0.is_empty() {
            return Err(WindowError::Snapshot("there are more bytes than a snapshot has"));
        }
        let waiting = silences.iter().filter(|(_, silence): &(_, &Silence)| !silence.matched);
        let deadlines: BTreeSet<_> = waiting
            .map(|(key, silence)| (silence.last_seen.saturating_add(silence.for_s), *key))
            .collect();
        Ok(Self { chain, time, tallies, silences, deadlines, journal, taken_up: TakenUp(None) })
    }
}

struct Writer<'a> {
    part: String,
    bytes: Vec<u8>,
    keep: &'a mut dyn FnMut(String, Vec<u8>),
}

impl Writer<'_> {
    /// Ends a part and begins another, whose name is greater.
    fn cut(&mut self, next: String) {
        let (part, bytes) =
            (std::mem::replace(&mut self.part, next), std::mem::take(&mut self.bytes));
        (self.keep)(part, bytes);
    }

    fn tally(&mut self, key: StateKey, tally: &Tally) {
        let name = format!("1/{:032x}/{:010}", key.0.0, key.1);
        self.cut(name.clone());
        self.key(key);
        self.number(tally.forgotten);
        self.number(tally.outside);
        self.number(tally.count);
        self.wide(tally.sum);
        self.length(tally.entries.len());
        let mut bucket = None;
        for entry in &tally.entries {
            let of = entry.height / HEIGHTS_OF_ENTRIES;
            if tally.entries.len() > ENTRIES_TOGETHER && bucket.replace(of) != Some(of) {
                self.cut(format!("{name}/{of:020}"));
            }
            self.number(entry.height);
            self.number(entry.time);
            self.number(entry.count);
            self.wide(entry.sum);
        }
    }

    fn undo(&mut self, undo: &Undo) {
        self.number(undo.block.number);
        self.bytes.extend(undo.block.hash.0);
        self.bytes.extend(undo.parent.0);
        self.number(undo.time);
        self.number(undo.time_before);
        self.length(undo.tallies.len());
        for (key, outside, count, sum) in &undo.tallies {
            self.key(*key);
            self.number(*outside);
            self.number(*count);
            self.wide(*sum);
        }
        self.length(undo.silences.len());
        for (key, silence) in &undo.silences {
            self.key(*key);
            self.silence(*silence);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        // `usize` is never wider than 64 bits.
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn key(&mut self, (rule, version): StateKey) {
        self.bytes.extend(rule.0.to_le_bytes());
        self.bytes.extend(version.to_le_bytes());
    }

    fn wide(&mut self, wide: Wide) {
        wide.as_limbs().iter().for_each(|limb| self.number(*limb));
    }

    fn silence(&mut self, silence: Option<Silence>) {
        let Some(Silence { last_seen, for_s, matched }) = silence else {
            self.bytes.push(0);
            return;
        };
        self.bytes.push(if matched { 2 } else { 1 });
        self.number(last_seen);
        self.number(for_s);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WindowError> {
        let short = WindowError::Snapshot("they end early");
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, WindowError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, WindowError> {
        self.array().map(u64::from_le_bytes)
    }

    fn key(&mut self) -> Result<StateKey, WindowError> {
        let rule = RuleId(u128::from_le_bytes(self.array()?));
        Ok((rule, u32::from_le_bytes(self.array()?)))
    }

    fn wide(&mut self) -> Result<Wide, WindowError> {
        let mut limbs = [0; 5];
        for limb in &mut limbs {
            *limb = self.number()?;
        }
        Ok(Wide::from_limbs(limbs))
    }

    fn silence(&mut self) -> Result<Option<Silence>, WindowError> {
        let matched = match self.byte()? {
            0 => return Ok(None),
            1 => false,
            2 => true,
            _ => return Err(WindowError::Snapshot("a silence is neither open nor matched")),
        };
        let (last_seen, for_s) = (self.number()?, self.number()?);
        Ok(Some(Silence { last_seen, for_s, matched }))
    }

    /// Items behind their number. Each takes bytes, so a false number ends where the bytes do.
    fn many<T, C: FromIterator<T>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, WindowError>,
    ) -> Result<C, WindowError> {
        let length = self.number()?;
        (0..length).map(|_| item(self)).collect()
    }
}
