//! Forgetting what no block can bring back.

use std::collections::BTreeMap;

use lookout_types::{Height, UnixSeconds};

use super::{StateKey, TakenUp, WindowState};
use crate::index::RuleSet;

impl WindowState {
    /// Forgets what only blocks up to `final_height` could bring back, and rules that are gone.
    pub fn prune(&mut self, rules: &RuleSet, final_height: Height) {
        self.prune_by(final_height, |(id, version)| {
            let rule = rules.get(id).filter(|rule| rule.version() == version)?;
            Some(rule.window_s().unwrap_or_default())
        });
    }

    /// The same where `length` knows the window's length, in seconds, of every version that counts.
    pub(crate) fn prune_by(
        &mut self,
        final_height: Height,
        length: impl Fn(StateKey) -> Option<u64>,
    ) {
        let mut final_time = None;
        while let Some(oldest) = self.journal.front() {
            if oldest.block.number > final_height {
                break;
            }
            final_time = Some(oldest.time);
            self.journal.pop_front();
        }
        if let Some(final_time) = final_time {
            self.forget(&length, final_time);
        }
        self.tallies.retain(|key, tally| {
            // An empty tally may go once no remembered block refers to it.
            length(*key).is_some() && !(tally.entries.is_empty() && tally.count == 0)
        });
        self.silences.retain(|key, _| length(*key).is_some());
        self.deadlines.retain(|(_, key)| length(*key).is_some());
        // A rule that comes back is taken up again.
        self.taken_up = TakenUp(None);
    }

    fn forget(&mut self, length: &impl Fn(StateKey) -> Option<u64>, final_time: UnixSeconds) {
        let mut dropped = BTreeMap::new();
        for (key, tally) in &mut self.tallies {
            let over_s = length(*key).unwrap_or_default();
            let entries = tally.forget(final_time, over_s);
            if !entries.is_empty() {
                dropped.insert(*key, entries);
            }
        }
        // Entries leave a window late, with the record after them. A state to go back to may still
        // count some that are gone now, although no later record would.
        for undo in &mut self.journal {
            for (key, outside, count, sum) in &mut undo.tallies {
                for (index, entry) in dropped.get(key).into_iter().flatten() {
                    if index >= outside {
                        *outside = index + 1;
                        *count -= entry.count;
                        *sum -= entry.sum;
                    }
                }
            }
        }
    }
}
