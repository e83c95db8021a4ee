//! Which parts of the windows the store has, so that only those that differ are written.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use lookout_rules::Matcher;
use lookout_store::KeptWindows;

/// The parts by name, each as a hash with a key that nobody else knows.
#[derive(Debug, Default)]
pub(super) struct KeptParts {
    parts: HashMap<String, u64>,
    key: RandomState,
}

impl KeptParts {
    /// These are what the store has.
    pub(super) fn have(&mut self, parts: &[(String, Vec<u8>)]) {
        self.parts =
            parts.iter().map(|(name, part)| (name.clone(), self.key.hash_one(part))).collect();
    }

    /// What has to be written, after which the store has the windows of a matcher. When it is not
    /// written after all, this is to be forgotten.
    pub(super) fn changes(&mut self, matcher: &Matcher) -> KeptWindows {
        let mut before = std::mem::take(&mut self.parts);
        let mut changed = Vec::new();
        matcher.snapshot_parts(&mut |name, part| {
            let hash = self.key.hash_one(&part);
            if before.remove(&name) != Some(hash) {
                changed.push((name.clone(), part));
            }
            self.parts.insert(name, hash);
        });
        KeptWindows { changed, gone: before.into_keys().collect() }
    }
}
