//! Who gets the places of those that are sent to side by side.
//!
//! A place is kept for as long as a receiver takes, so that what must not happen is decided before
//! it is given: that a tenant, a host or what does not work takes them all.

use std::collections::HashMap;

use lookout_store::DueChannel;

/// One channel being sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) tenant: String,
    /// The host it goes to, where others may be sent to on the same.
    pub(super) host: Option<String>,
    /// Its last try did not work.
    pub(super) is_failing: bool,
}

/// The channels being sent to, by their ids.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    busy: HashMap<String, Busy>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self { most, busy: HashMap::new() }
    }

    pub(super) fn is_busy(&self, channel: &str) -> bool {
        self.busy.contains_key(channel)
    }

    /// Whether there is a place. A tenant gets no more than it leaves free, so that another always
    /// finds one; what does not work, and any one host, get half of them at most.
    pub(super) fn admits(&self, busy: &Busy) -> bool {
        let count = |of: &dyn Fn(&Busy) -> bool| self.busy.values().filter(|one| of(one)).count();
        let free = self.most.saturating_sub(self.busy.len());
        let half = self.most.div_ceil(2);
        count(&|one| one.tenant == busy.tenant) < free
            && (!busy.is_failing || count(&|one| one.is_failing) < half)
            && (busy.host.is_none() || count(&|one| one.host == busy.host) < half)
    }

    pub(super) fn take(&mut self, channel: String, busy: Busy) {
        self.busy.insert(channel, busy);
    }

    pub(super) fn free(&mut self, channel: &str) {
        self.busy.remove(channel);
    }

    pub(super) fn clear(&mut self) {
        self.busy.clear();
    }

    /// Sorts what may be sent to: what works before what does not, then tenants in turn, those with
    /// the fewest places first; within a tenant the order stays.
    pub(super) fn in_turn<T>(&self, due: &mut [T], channel: impl Fn(&T) -> &DueChannel) {
        let mut places: HashMap<String, usize> = HashMap::new();
        for busy in self.busy.values() {
            *places.entry(busy.tenant.clone()).or_default() += 1;
        }
        let mut order: HashMap<String, (bool, usize)> = HashMap::new();
        due.sort_by_key(|one| channel(one).failures > 0);
        for one in &*due {
            let DueChannel { id, tenant, failures, .. } = channel(one);
            let place = places.entry(tenant.clone()).or_default();
            order.insert(id.clone(), (*failures > 0, *place));
            *place += 1;
        }
        due.sort_by_key(|one| order.get(&channel(one).id).copied().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use lookout_store::{ChannelConfig, ChannelSecrets, ChannelSettings};

    use super::*;

    fn busy(tenant: &str, host: Option<&str>, is_failing: bool) -> Busy {
        Busy { tenant: tenant.to_owned(), host: host.map(str::to_owned), is_failing }
    }

    /// How many more like this one get a place.
    fn fill(slots: &mut Slots, one: &Busy) -> usize {
        let mut taken = 0;
        while slots.admits(one) {
            slots.take(format!("{one:?}{taken}"), one.clone());
            taken += 1;
        }
        taken
    }

    #[test]
    fn no_tenant_no_host_and_nothing_that_fails_takes_all_places() {
        let mut slots = Slots::new(64);
        assert_eq!(fill(&mut slots, &busy("a", None, false)), 32);
        assert_eq!(fill(&mut slots, &busy("b", None, false)), 16);
        assert_eq!(fill(&mut slots, &busy("c", None, false)), 8);
        let mut slots = Slots::new(64);
        let failing: usize =
            (0..100).map(|n| fill(&mut slots, &busy(&n.to_string(), None, true))).sum();
        assert_eq!(failing, 32);
        assert_eq!(fill(&mut slots, &busy("x", None, false)), 16);
        let mut slots = Slots::new(64);
        let on_host: usize =
            (0..100).map(|n| fill(&mut slots, &busy(&n.to_string(), Some("h"), false))).sum();
        assert_eq!(on_host, 32);
        assert!(slots.admits(&busy("x", Some("other"), false)));
        slots.clear();
        assert!(slots.admits(&busy("a", Some("h"), true)));
    }

    #[test]
    fn tenants_take_turns_and_what_fails_comes_last() {
        let due = |tenant: &str, id: &str, failures: i64| DueChannel {
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            kind: "slack".to_owned(),
            due_at: 0,
            revision: 0,
            failures,
            settings: Ok(ChannelSettings {
                config: ChannelConfig::Slack {},
                secrets: ChannelSecrets::default(),
            }),
        };
        let mut slots = Slots::new(8);
        slots.take("a0".to_owned(), busy("a", None, false));
        let mut all = [
            due("b", "b1", 3),
            due("a", "a1", 0),
            due("a", "a2", 0),
            due("b", "b2", 0),
            due("b", "b3", 0),
            due("c", "c1", 0),
        ];
        slots.in_turn(&mut all, |one| one);
        let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["b2", "c1", "a1", "b3", "a2", "b1"]);
    }
}
