//! A window state as bytes, for a consumer to store beside its cursor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lookout_types::{BlockRef, ChainId, Hash};

use super::{Silence, StateKey, TakenUp, Tally, TallyEntry, Undo, Wide, WindowError, WindowState};
use crate::rule::RuleId;

/// Counted up when the form changes; an old snapshot is then rebuilt from the frames.
const VERSION: u8 = 1;

impl WindowState {
    /// The state as bytes, journal included: what is restored can undo as far.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.number(self.chain.0);
        out.number(self.time);
        out.length(self.tallies.len());
        for (key, tally) in &self.tallies {
            out.key(*key);
            out.number(tally.forgotten);
            out.number(tally.outside);
            out.number(tally.count);
            out.wide(tally.sum);
            out.length(tally.entries.len());
            for entry in &tally.entries {
                out.number(entry.height);
                out.number(entry.time);
                out.number(entry.count);
                out.wide(entry.sum);
            }
        }
        out.length(self.silences.len());
        for (key, silence) in &self.silences {
            out.key(*key);
            out.silence(Some(*silence));
        }
        out.length(self.journal.len());
        for undo in &self.journal {
            out.number(undo.block.number);
            out.0.extend(undo.block.hash.0);
            out.0.extend(undo.parent.0);
            out.number(undo.time);
            out.number(undo.time_before);
            out.length(undo.tallies.len());
            for (key, outside, count, sum) in &undo.tallies {
                out.key(*key);
                out.number(*outside);
                out.number(*count);
                out.wide(*sum);
            }
            out.length(undo.silences.len());
            for (key, silence) in &undo.silences {
                out.key(*key);
                out.silence(*silence);
            }
        }
        out.0
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

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        // `usize` is never wider than 64 bits.
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn key(&mut self, (rule, version): StateKey) {
        self.0.extend(rule.0.to_le_bytes());
        self.0.extend(version.to_le_bytes());
    }

    fn wide(&mut self, wide: Wide) {
        wide.as_limbs().iter().for_each(|limb| self.number(*limb));
    }

    fn silence(&mut self, silence: Option<Silence>) {
        let Some(Silence { last_seen, for_s, matched }) = silence else {
            self.0.push(0);
            return;
        };
        self.0.push(if matched { 2 } else { 1 });
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
