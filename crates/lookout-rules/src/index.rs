//! The compiled index: what a record can match is found without asking every rule.
//!
//! A record probes at most four groups, by (chain, contract or any, signature or any). A group
//! knows which sets of fields its rules compare for equality; one hash lookup per set finds a node.
//! A node holds the rules that need no more, and those with a bound in arrays sorted by it.
//!
//! Everything large is behind an `Arc` and split into shards, so that a clone costs a few thousand
//! reference counts, and a change to a clone copies only the shards that it touches.

mod sharded;
mod sorted;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use lookout_types::{Address, ChainId};

use self::sharded::{Sharded, Spread};
use self::sorted::Sorted;
use crate::access::{Access, Bound, MAX_JOINED, Side};
use crate::expr::Key;
use crate::rule::{CompiledWindow, Layout, Rule, RuleId};
use crate::scope::Field;

/// What kind of record a group holds rules for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RecordKind {
    Log,
    Transaction,
    /// Of any asset, or of the token that is the group's address.
    Transfer,
    NativeTransfer,
    Balance,
}

/// The records that a group of rules watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) chain: ChainId,
    pub(crate) kind: RecordKind,
    /// Emitter, recipient, token or account; `None` for any.
    pub(crate) address: Option<Address>,
    /// Topic 0 or function selector; `None` for any.
    pub(crate) selector: Option<[u8; 32]>,
}

/// The rules of one group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) layouts: Vec<LayoutGroup>,
}

/// The rules of one group that read arguments alike.
#[derive(Debug, Clone)]
pub(crate) struct LayoutGroup {
    pub(crate) layout: Layout,
    pub(crate) sets: Vec<FieldSet>,
    rules: usize,
}

/// Fields that some rules compare for equality; none for rules that compare nothing.
#[derive(Debug, Clone)]
pub(crate) struct FieldSet {
    id: u32,
    pub(crate) fields: Arc<[Field]>,
    rules: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EqualKey {
    set: u32,
    keys: [Key; MAX_JOINED],
}

/// Rules that need no more than the values that led here, and rules with a bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) always: Vec<Arc<Rule>>,
    pub(crate) bounds: Vec<BoundRules>,
}

#[derive(Debug, Clone)]
pub(crate) struct BoundRules {
    pub(crate) field: Field,
    side: Side,
    sorted: Sorted,
}

/// All rules, indexed. A clone shares everything; see [`RuleSet::insert`] for what a change costs.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Sharded<RuleId, Arc<Rule>>,
    groups: Sharded<GroupKey, Arc<Group>>,
    nodes: Sharded<EqualKey, Node>,
    silences: Arc<BTreeMap<RuleId, Arc<Rule>>>,
    next_set: u32,
    /// Tells sets of rules with a silence apart, by content.
    silences_mark: u64,
}

// By hand, because a derived hash feeds the arrays in pieces: every record pays for three of these.
impl Hash for GroupKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.chain.0);
        state.write_u8(self.kind as u8);
        if let Some(address) = &self.address {
            state.write(&address.0);
        }
        if let Some(selector) = &self.selector {
            state.write(selector);
        }
    }
}

impl Hash for EqualKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.set);
        state.write(self.keys.as_flattened());
    }
}

fn mark(rule: &Rule) -> u64 {
    sharded::SEED.hash_one((rule.id(), rule.version()))
}

/// The sum of bytes of which at least one varies in every kind of key.
fn fold(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(*byte))
}

impl Spread for GroupKey {
    fn shard(&self) -> u8 {
        fold(self.address.as_ref().map_or(&[][..], |address| &address.0[12..]))
    }
}

impl Spread for EqualKey {
    fn shard(&self) -> u8 {
        let [first, ..] = &self.keys;
        fold(&first[24..])
            .wrapping_add(fold(&first[..4]))
            .wrapping_add(fold(&self.set.to_le_bytes()))
    }
}

impl Spread for RuleId {
    fn shard(&self) -> u8 {
        fold(&self.0.to_le_bytes())
    }
}

impl RuleSet {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule, or replaces the one with its id.
    ///
    /// On a set that shares nothing this is a few hash operations per indexed value. On a clone it
    /// also copies the shards touched: about 1/256 of the rules' entries.
    pub fn insert(&mut self, rule: Arc<Rule>) {
        self.remove(rule.id());
        for key in &rule.groups {
            self.link(*key, &rule);
        }
        if matches!(rule.window, Some(CompiledWindow::Silence { .. })) {
            Arc::make_mut(&mut self.silences).insert(rule.id(), rule.clone());
            self.silences_mark ^= mark(&rule);
        }
        self.rules.insert(rule.id(), rule);
    }

    /// Removes a rule; gives it back if it was there.
    pub fn remove(&mut self, id: RuleId) -> Option<Arc<Rule>> {
        let rule = self.rules.remove(&id)?;
        for key in &rule.groups {
            self.unlink(*key, &rule);
        }
        if self.silences.contains_key(&id) {
            Arc::make_mut(&mut self.silences).remove(&id);
            self.silences_mark ^= mark(&rule);
        }
        Some(rule)
    }

    /// The rule of an id.
    pub fn get(&self, id: RuleId) -> Option<&Arc<Rule>> {
        self.rules.get(&id)
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rules, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values()
    }

    /// Whether nothing is left of any rule.
    #[cfg(test)]
    pub(crate) fn is_drained(&self) -> bool {
        [self.rules.len(), self.groups.len(), self.nodes.len(), self.silences.len()] == [0; 4]
    }

    pub(crate) fn silences(&self) -> &BTreeMap<RuleId, Arc<Rule>> {
        &self.silences
    }

    pub(crate) fn silences_mark(&self) -> u64 {
        self.silences_mark
    }

    pub(crate) fn group(&self, key: &GroupKey) -> Option<&Arc<Group>> {
        self.groups.get(key)
    }

    /// The node for a set of fields and their keys, in the set's order.
    pub(crate) fn node(&self, set: &FieldSet, keys: [Key; MAX_JOINED]) -> Option<&Node> {
        self.nodes.get(&EqualKey { set: set.id, keys })
    }

    fn link(&mut self, key: GroupKey, rule: &Arc<Rule>) {
        let group = Arc::make_mut(self.groups.get_or_default(key));
        let position = group.layouts.iter().position(|known| known.layout.same(&rule.layout));
        let position = position.unwrap_or_else(|| {
            let layout = rule.layout.clone();
            group.layouts.push(LayoutGroup { layout, sets: Vec::new(), rules: 0 });
            group.layouts.len() - 1
        });
        let Some(layout) = group.layouts.get_mut(position) else { return };
        layout.rules += 1;
        for access in &rule.accesses {
            let fields: Vec<_> = access.equal.iter().map(|(field, _)| field.clone()).collect();
            let id = match layout.sets.iter_mut().find(|set| *set.fields == *fields) {
                Some(set) => {
                    set.rules += 1;
                    set.id
                }
                None => {
                    let id = self.next_set;
                    self.next_set += 1;
                    layout.sets.push(FieldSet { id, fields: fields.into(), rules: 1 });
                    id
                }
            };
            for keys in combinations(access) {
                self.nodes.get_or_default(EqualKey { set: id, keys }).add(access, rule);
            }
        }
    }

    fn unlink(&mut self, key: GroupKey, rule: &Rule) {
        let group = Arc::make_mut(self.groups.get_or_default(key));
        if let Some(layout) = group.layouts.iter_mut().find(|known| known.layout.same(&rule.layout))
        {
            layout.rules -= 1;
            for access in &rule.accesses {
                let same = |set: &&mut FieldSet| {
                    let fields = access.equal.iter().map(|(field, _)| field);
                    set.fields.iter().eq(fields)
                };
                let Some(set) = layout.sets.iter_mut().find(same) else { continue };
                set.rules -= 1;
                for keys in combinations(access) {
                    let key = EqualKey { set: set.id, keys };
                    let node = self.nodes.get_or_default(key);
                    node.remove(access, rule.id());
                    if node.is_empty() {
                        self.nodes.remove(&key);
                    }
                }
            }
            layout.sets.retain(|set| set.rules > 0);
        }
        group.layouts.retain(|layout| layout.rules > 0);
        if group.layouts.is_empty() {
            self.groups.remove(&key);
        }
    }
}

/// The keys under which an access is found: one per value of its only list.
fn combinations(access: &Access) -> Vec<[Key; MAX_JOINED]> {
    let mut all = vec![[[0; 32]; MAX_JOINED]];
    for (slot, (_, keys)) in access.equal.iter().enumerate() {
        let mut next = Vec::with_capacity(all.len() * keys.len());
        for partial in &all {
            for key in keys {
                let mut filled = *partial;
                if let Some(place) = filled.get_mut(slot) {
                    *place = *key;
                }
                next.push(filled);
            }
        }
        all = next;
    }
    all
}

impl Node {
    fn is_empty(&self) -> bool {
        self.always.is_empty() && self.bounds.is_empty()
    }

    fn add(&mut self, access: &Access, rule: &Arc<Rule>) {
        let Some(Bound { field, side, key }) = &access.bound else {
            self.always.push(rule.clone());
            return;
        };
        let known = |rules: &BoundRules| rules.field == *field && rules.side == *side;
        let position = self.bounds.iter().position(known).unwrap_or_else(|| {
            let (field, side, sorted) = (field.clone(), *side, Sorted::default());
            self.bounds.push(BoundRules { field, side, sorted });
            self.bounds.len() - 1
        });
        if let Some(rules) = self.bounds.get_mut(position) {
            rules.sorted.insert(*key, rule.clone());
        }
    }

    fn remove(&mut self, access: &Access, id: RuleId) {
        let Some(Bound { field, side, key }) = &access.bound else {
            self.always.retain(|rule| rule.id() != id);
            return;
        };
        for rules in &mut self.bounds {
            if rules.field == *field && rules.side == *side {
                rules.sorted.remove(key, id);
            }
        }
        self.bounds.retain(|rules| !rules.sorted.is_empty());
    }
}

impl BoundRules {
    /// The rules whose bound a value keeps: exactly those, by one binary search.
    pub(crate) fn kept_by(&self, value: &Key) -> impl Iterator<Item = &Arc<Rule>> {
        match self.side {
            Side::AtLeast => self.sorted.up_to(value),
            Side::AtMost => self.sorted.from(value),
        }
    }
}

#[cfg(test)]
mod tests;
