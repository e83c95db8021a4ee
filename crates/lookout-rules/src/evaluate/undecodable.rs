//! Records that do not decode, and the rules that they concern.

use std::collections::HashMap;
use std::sync::Arc;

use lookout_abi::DecodeError;

use super::RecordKey;
use crate::index::{GroupKey, RuleSet};
use crate::rule::{Layout, Rule, RuleId};

/// Records of a frame that are what a rule watches, by place and signature, and do not decode by its
/// ABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The rule.
    pub rule: RuleId,
    /// Its version.
    pub version: u32,
    /// How many records.
    pub count: u64,
    /// The last of them.
    pub last: RecordKey,
    /// Why that one does not decode.
    pub error: Arc<DecodeError>,
}

/// What of a frame does not decode, by how rules read it.
#[derive(Default)]
pub(super) struct Broken<'a> {
    groups: HashMap<GroupKey, Vec<Records<'a>>>,
    count: u64,
}

/// Records of one group that one layout does not decode.
struct Records<'a> {
    layout: &'a Layout,
    count: u64,
    last: RecordKey,
    /// The last one's place among all of the frame.
    at: u64,
    error: Arc<DecodeError>,
}

impl<'a> Broken<'a> {
    /// Takes a record: the same work however many rules read by the layout.
    pub(super) fn add(
        &mut self,
        key: &GroupKey,
        layout: &'a Layout,
        last: RecordKey,
        error: DecodeError,
    ) {
        self.count += 1;
        let (at, error) = (self.count, Arc::new(error));
        let known = self.groups.entry(*key).or_default();
        match known.iter_mut().find(|known| std::ptr::eq(known.layout, layout)) {
            Some(known) => {
                (known.last, known.at, known.error) = (last, at, error);
                known.count += 1;
            }
            None => known.push(Records { layout, count: 1, last, at, error }),
        }
    }

    /// Tells each rule what of its records does not decode: one pass over the rules, and only of a
    /// frame that has such records.
    pub(super) fn of_rules(&self, rules: &RuleSet) -> Vec<Undecodable> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> = rules.iter().filter_map(|rule| self.of_rule(rule)).collect();
        found.sort_by_key(|undecodable| undecodable.rule);
        found
    }

    /// A record reaches a rule by one of its groups at most, so that none is counted twice.
    fn of_rule(&self, rule: &Rule) -> Option<Undecodable> {
        let groups = rule.groups.iter().filter_map(|key| self.groups.get(key)).flatten();
        let own = groups.filter(|records| records.layout.same(&rule.layout));
        let (mut count, mut newest) = (0, None::<&Records<'_>>);
        for records in own {
            count += records.count;
            if newest.is_none_or(|newest| newest.at < records.at) {
                newest = Some(records);
            }
        }
        let Records { last, error, .. } = newest?;
        let (last, error) = (*last, Arc::clone(error));
        Some(Undecodable { rule: rule.id(), version: rule.version(), count, last, error })
    }
}
