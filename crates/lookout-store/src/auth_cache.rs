//! Answers to "whose key is this", kept for seconds so that requests do not wait on the database.

use std::collections::HashMap;
use std::sync::Arc;

use lookout_types::UnixMillis;
use parking_lot::RwLock;

use crate::KeyInfo;
use crate::key::Sha256Hash;

/// How long an answer is kept, in milliseconds. A revocation made by another instance takes
/// effect within this time; longer would be felt by an operator who has just leaked a key.
pub const AUTH_CACHE_TTL_MS: i64 = 5_000;

/// Most keys kept: about 4 MB. Beyond it, answers come from the database.
const KNOWN_MAX: usize = 10_000;
/// Most wrong keys remembered. Kept apart, so that a flood of invented keys displaces no real one.
const UNKNOWN_MAX: usize = 10_000;

/// Which state of the keys an answer was read under; see [`AuthCache::insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

#[derive(Debug, Default)]
pub(crate) struct AuthCache(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    generation: u64,
    known: HashMap<Sha256Hash, Kept<Arc<KeyInfo>>>,
    unknown: HashMap<Sha256Hash, Kept<()>>,
    has_keys: Option<Kept<bool>>,
}

#[derive(Debug, Clone)]
struct Kept<T> {
    value: T,
    at: UnixMillis,
}

impl<T> Kept<T> {
    /// An answer from the future (the clock was set back) is as stale as an old one.
    fn is_fresh(&self, now: UnixMillis) -> bool {
        (0..AUTH_CACHE_TTL_MS).contains(&now.saturating_sub(self.at))
    }
}

impl AuthCache {
    /// The kept answer: `Some(None)` is a key known to be wrong.
    pub(crate) fn get(&self, hash: &Sha256Hash, now: UnixMillis) -> Option<Option<Arc<KeyInfo>>> {
        let state = self.0.read();
        if let Some(kept) = state.known.get(hash).filter(|kept| kept.is_fresh(now)) {
            return Some(Some(Arc::clone(&kept.value)));
        }
        state.unknown.get(hash).filter(|kept| kept.is_fresh(now)).map(|_| None)
    }

    /// To be taken before the database is read.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.0.read().generation)
    }

    /// Keeps an answer, unless keys changed since `read_under`: an answer that was read before a
    /// revocation and arrives after it must not bring the key back.
    pub(crate) fn insert(
        &self,
        hash: Sha256Hash,
        answer: Option<Arc<KeyInfo>>,
        now: UnixMillis,
        read_under: Generation,
    ) {
        let mut state = self.0.write();
        if state.generation != read_under.0 {
            return;
        }
        match answer {
            Some(value) => {
                state.unknown.remove(&hash);
                keep(&mut state.known, KNOWN_MAX, hash, value, now);
            }
            None => {
                state.known.remove(&hash);
                keep(&mut state.unknown, UNKNOWN_MAX, hash, (), now);
            }
        }
    }

    /// Whether there are any keys, if that is known.
    pub(crate) fn has_keys(&self, now: UnixMillis) -> Option<bool> {
        let state = self.0.read();
        state.has_keys.as_ref().filter(|kept| kept.is_fresh(now)).map(|kept| kept.value)
    }

    /// Keeps whether there are any keys; see [`AuthCache::insert`].
    pub(crate) fn insert_has_keys(&self, value: bool, now: UnixMillis, read_under: Generation) {
        let mut state = self.0.write();
        if state.generation == read_under.0 {
            state.has_keys = Some(Kept { value, at: now });
        }
    }

    /// Forgets everything: keys have changed.
    pub(crate) fn clear(&self) {
        let mut state = self.0.write();
        *state = State { generation: state.generation.wrapping_add(1), ..State::default() };
    }
}

fn keep<T>(
    map: &mut HashMap<Sha256Hash, Kept<T>>,
    max: usize,
    hash: Sha256Hash,
    value: T,
    now: UnixMillis,
) {
    if map.len() >= max && !map.contains_key(&hash) {
        map.retain(|_, kept| kept.is_fresh(now));
        if map.len() >= max {
            return;
        }
    }
    map.insert(hash, Kept { value, at: now });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scopes;

    fn info() -> Option<Arc<KeyInfo>> {
        Some(Arc::new(KeyInfo {
            id: "id".into(),
            tenant: "t".into(),
            name: "n".into(),
            prefix: "lk_x".into(),
            scopes: Scopes::ALL,
            created_at: 0,
            expires_at: None,
            revoked_at: None,
        }))
    }

    fn hash(n: usize) -> Sha256Hash {
        crate::key::sha256(&n.to_be_bytes())
    }

    #[test]
    fn answers_last_for_the_time_to_live_and_not_longer() {
        let cache = AuthCache::default();
        let generation = cache.generation();
        cache.insert(hash(1), info(), 1000, generation);
        cache.insert(hash(2), None, 1000, generation);
        cache.insert_has_keys(true, 1000, generation);
        for (now, kept) in [(1000, true), (5999, true), (6000, false), (999, false)] {
            assert_eq!(cache.get(&hash(1), now).is_some(), kept, "{now}");
            assert_eq!(cache.get(&hash(2), now), kept.then_some(None), "{now}");
            assert_eq!(cache.has_keys(now).is_some(), kept, "{now}");
        }
        assert_eq!(cache.get(&hash(3), 1000), None);
    }

    #[test]
    fn an_answer_read_before_a_change_is_not_kept_after_it() {
        let cache = AuthCache::default();
        let before = cache.generation();
        cache.clear();
        cache.insert(hash(1), info(), 0, before);
        cache.insert_has_keys(false, 0, before);
        assert_eq!(cache.get(&hash(1), 0), None);
        assert_eq!(cache.has_keys(0), None);
    }

    #[test]
    fn a_flood_of_wrong_keys_stays_bounded_and_displaces_no_real_one() {
        let cache = AuthCache::default();
        let generation = cache.generation();
        cache.insert(hash(0), info(), 0, generation);
        for n in 1..=UNKNOWN_MAX + 100 {
            cache.insert(hash(n), None, 0, generation);
        }
        assert_eq!(cache.0.read().unknown.len(), UNKNOWN_MAX);
        assert!(matches!(cache.get(&hash(0), 0), Some(Some(_))));
        // Once they are stale, their places are free again.
        cache.insert(hash(1_000_000), None, AUTH_CACHE_TTL_MS, generation);
        assert_eq!(cache.0.read().unknown.len(), 1);
    }
}
