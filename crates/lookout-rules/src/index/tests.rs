//! Cases for `index`.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::evaluate::tests::{compile, event, spec};
use crate::{RuleSpec, expr::uint_key};

fn key(value: u16) -> Key {
    uint_key(&ruint::aliases::U256::from(value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn sorted_rules_are_those_of_a_plain_list(
        entries in prop::collection::vec(0u16..500, 0..1200),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..600),
        probes in prop::collection::vec(0u16..510, 1..20),
    ) {
        let rule = |id: usize| {
            let id = RuleId(u128::try_from(id).unwrap());
            compile(RuleSpec { id, ..spec(event("Transfer"), "") })
        };
        let mut sorted = Sorted::default();
        let mut plain: Vec<(u16, Arc<Rule>)> = Vec::new();
        for (id, value) in entries.iter().enumerate() {
            let rule = rule(id);
            sorted.insert(key(*value), rule.clone());
            plain.push((*value, rule));
        }
        let full = sorted.clone();
        let all = plain.clone();
        for at in removed {
            if !plain.is_empty() {
                let (value, rule) = plain.swap_remove(at.index(plain.len()));
                sorted.remove(&key(value), rule.id());
            }
        }
        prop_assert_eq!(sorted.is_empty(), plain.is_empty());
        for probe in probes {
            for (sorted, plain) in [(&sorted, &plain), (&full, &all)] {
                let ids = |rules: &mut dyn Iterator<Item = &Arc<Rule>>| {
                    let mut ids: Vec<_> = rules.map(|rule| rule.id()).collect();
                    ids.sort();
                    ids
                };
                let kept = |keep: &dyn Fn(u16) -> bool| {
                    ids(&mut plain.iter().filter(|(v, _)| keep(*v)).map(|(_, rule)| rule))
                };
                prop_assert_eq!(ids(&mut sorted.up_to(&key(probe))), kept(&|v| v <= probe));
                prop_assert_eq!(ids(&mut sorted.from(&key(probe))), kept(&|v| v >= probe));
            }
        }
    }
}

#[test]
fn a_changed_clone_leaves_the_original_alone() {
    let rule = |id: u128, condition: &str| {
        compile(RuleSpec { id: RuleId(id), ..spec(event("Transfer"), condition) })
    };
    let mut rules = RuleSet::new();
    for id in 0..100 {
        rules.insert(rule(id, &format!("value == {id}")));
    }
    let mut next = rules.clone();
    next.remove(RuleId(5));
    next.insert(rule(6, "value > 6"));
    next.insert(rule(200, "value == 5"));
    assert_eq!((rules.len(), next.len()), (100, 100));
    assert!(rules.get(RuleId(5)).is_some() && next.get(RuleId(5)).is_none());
    let sorted = |set: &RuleSet| {
        let mut ids: Vec<_> = set.iter().map(|rule| rule.id().0).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(&rules), (0..100).collect::<Vec<_>>());
    assert_eq!(next.remove(RuleId(5)).map(|rule| rule.id()), None);
    for id in (0..100).chain([200]) {
        next.remove(RuleId(id));
    }
    assert!(next.is_drained() && next.is_empty() && !rules.is_drained());
}
