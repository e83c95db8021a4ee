//! A hash map in shards behind `Arc`s: cloned at once, copied shard by shard when changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Shards; a change to a shared map copies one.
const SHARDS: usize = 256;

/// Which shard holds a key. Any even spread will do: it bounds what a change copies, no more.
pub(super) trait Spread {
    fn shard(&self) -> u8;
}

/// Hashing is seeded alike in every run: no order of the map ever shows.
pub(super) const SEED: FixedState = FixedState::with_seed(0x6c6f_6f6b_6f75_7421);

type Shard<K, V> = HashMap<K, V, FixedState>;

#[derive(Debug, Clone)]
pub(super) struct Sharded<K, V> {
    shards: Vec<Arc<Shard<K, V>>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::with_hasher(SEED));
        Self { shards: vec![empty; SHARDS], len: 0 }
    }
}

impl<K: Hash + Eq + Clone + Spread, V: Clone> Sharded<K, V> {
    fn place(key: &K) -> usize {
        usize::from(key.shard())
    }

    fn shard(&mut self, key: &K) -> &mut Shard<K, V> {
        let place = Self::place(key);
        // `place` is a byte, so it is below `SHARDS`.
        Arc::make_mut(&mut self.shards[place])
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.shards.get(Self::place(key))?.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.shard(&key).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let place = Self::place(&key);
        let shard = Arc::make_mut(&mut self.shards[place]);
        if !shard.contains_key(&key) {
            self.len += 1;
        }
        shard.entry(key).or_default()
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.get(key)?;
        let removed = self.shard(key).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }
}
