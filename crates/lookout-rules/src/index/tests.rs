//! Cases for `index`.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::evaluate::tests::{ABI, compile, event, frame, spec, transfer_log, word};
use crate::{Labels, RuleSpec, Watch, expr::uint_key};

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

#[test]
fn one_rule_takes_a_bounded_part_of_the_index() {
    let addresses: Vec<_> = (0..1_000).map(numbered).collect();
    let crowd: Arc<[Address]> = (0..10_000).map(numbered).collect();
    let labels = Labels::from([("crowd".to_owned(), crowd)]);
    for (watched, condition, entries) in [
        (1, "from in labels[\"crowd\"]", 10_000),
        (2, "from in labels[\"crowd\"]", 20_000),
        // Longer, the list is looked up for each record of the contracts.
        (3, "from in labels[\"crowd\"]", 3),
        (1_000, "from in labels[\"crowd\"] && value > 1", 1_000),
        (1_000, "from in labels[\"crowd\"] && value == 1", 1_000),
        (1_000, "from in labels[\"crowd\"] || value == 1", 1_000),
        (1, "from in labels[\"crowd\"] || to in labels[\"crowd\"]", 20_000),
        (1, "from in labels[\"crowd\"] || to in labels[\"crowd\"] || value == 1", 1),
    ] {
        let watch = Watch::Event {
            abi: ABI.clone(),
            event: "Transfer".to_owned(),
            addresses: addresses[..watched].to_vec(),
        };
        let rule = Arc::new(Rule::compile(spec(watch, condition), &labels).unwrap());
        let mut rules = RuleSet::new();
        rules.insert(rule);
        assert_eq!(rules.nodes.len(), entries, "{watched} contracts, {condition}");
        let log = |from: u64, value: u64| lookout_types::Log {
            address: numbered(0),
            topics: vec![
                ABI.event("Transfer").unwrap().topic0,
                lookout_types::Hash(crate::expr::address_key(&numbered(from))),
                word(1 << 40),
            ],
            ..transfer_log(1, 2, ruint::aliases::U256::from(value))
        };
        let found = |from, value| {
            crate::evaluate(&rules, &frame(vec![log(from, value)]), &[]).matches.len()
        };
        assert_eq!(
            (found(9_999, 7), found(1, 1)),
            match condition {
                _ if condition.contains("value > 1") => (1, 0),
                _ if condition.contains("&& value == 1") => (0, 1),
                _ => (1, 1),
            }
        );
        assert_eq!(found(10_000, 7), 0, "{condition}");
        rules.remove(RuleId(1));
        assert!(rules.is_drained());
    }
}

fn numbered(number: u64) -> Address {
    let mut address = Address::default();
    address.0[12..].copy_from_slice(&(number + 1).to_be_bytes());
    address
}
