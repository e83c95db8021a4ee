//! Rules sorted by a key, in chunks behind `Arc`s.

use std::sync::Arc;

use crate::expr::Key;
use crate::rule::{Rule, RuleId};

/// Entries of a chunk before it is split: 10 KiB, moved in about a microsecond.
const CHUNK: usize = 256;

type Chunk = Vec<(Key, Arc<Rule>)>;

#[derive(Debug, Clone, Default)]
pub(super) struct Sorted {
    /// None is empty; keys ascend within and across chunks.
    chunks: Vec<Arc<Chunk>>,
}

impl Sorted {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The first chunk that ends at or above a key.
    fn chunk_for(&self, key: &Key) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last < key))
    }

    pub(super) fn insert(&mut self, key: Key, rule: Arc<Rule>) {
        let at = self.chunk_for(&key).min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![(key, rule)]));
            return;
        };
        let chunk = Arc::make_mut(chunk);
        let place = chunk.partition_point(|(known, _)| *known <= key);
        chunk.insert(place, (key, rule));
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, key: &Key, id: RuleId) {
        let mut at = self.chunk_for(key);
        while let Some(chunk) = self.chunks.get_mut(at) {
            if chunk.first().is_none_or(|(first, _)| first > key) {
                return;
            }
            let found = chunk.iter().position(|(known, rule)| known == key && rule.id() == id);
            if let Some(place) = found {
                let chunk = Arc::make_mut(chunk);
                chunk.remove(place);
                if chunk.is_empty() {
                    self.chunks.remove(at);
                }
                return;
            }
            at += 1;
        }
    }

    /// The rules with keys at or below a value.
    pub(super) fn up_to(&self, value: &Key) -> Range<'_> {
        let end_chunk = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last <= value));
        let end_place = self
            .chunks
            .get(end_chunk)
            .map_or(0, |chunk| chunk.partition_point(|(key, _)| key <= value));
        Range { sorted: self, chunk: 0, place: 0, end: (end_chunk, end_place) }
    }

    /// The rules with keys at or above a value.
    pub(super) fn from(&self, value: &Key) -> Range<'_> {
        let chunk = self.chunk_for(value);
        let place =
            self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(|(key, _)| key < value));
        Range { sorted: self, chunk, place, end: (self.chunks.len(), 0) }
    }
}

/// A stretch of the sorted rules.
pub(super) struct Range<'a> {
    sorted: &'a Sorted,
    chunk: usize,
    place: usize,
    end: (usize, usize),
}

impl<'a> Iterator for Range<'a> {
    type Item = &'a Arc<Rule>;

    fn next(&mut self) -> Option<Self::Item> {
        while (self.chunk, self.place) < self.end {
            let chunk = self.sorted.chunks.get(self.chunk)?;
            match chunk.get(self.place) {
                Some((_, rule)) => {
                    self.place += 1;
                    return Some(rule);
                }
                None => (self.chunk, self.place) = (self.chunk + 1, 0),
            }
        }
        None
    }
}
