//! Cases for `window`.

use std::sync::Arc;

use lookout_abi::Value;
use proptest::prelude::*;
use ruint::aliases::U256;

use super::*;
use crate::evaluate::tests::{compile, event, frame, spec, transfer_log, word};
use crate::{Rule, RuleSpec, Window, evaluate};

fn rule(id: u128, condition: &str, window: Window) -> Arc<Rule> {
    compile(RuleSpec {
        id: RuleId(id),
        window: Some(window),
        template: Some("{{ rule.name }}".to_owned()),
        ..spec(event("Transfer"), condition)
    })
}

fn count(over_s: u64, condition: &str) -> Window {
    Window::Count { over_s, condition: condition.to_owned() }
}

fn sum(over_s: u64, condition: &str) -> Window {
    Window::Sum { over_s, of: "value".to_owned(), condition: condition.to_owned() }
}

fn rule_set(rules: &[Arc<Rule>]) -> RuleSet {
    let mut set = RuleSet::new();
    for rule in rules {
        set.insert(rule.clone());
    }
    set
}

/// A block with a hash of its own, transfers of some values, at a time.
fn block(number: u64, hash: u64, parent: u64, timestamp: u64, values: &[u64]) -> Frame {
    let logs = values.iter().zip(0..).map(|(value, log_index)| lookout_types::Log {
        log_index,
        ..transfer_log(1, 2, U256::from(*value))
    });
    Frame {
        block: BlockRef { number, hash: word(hash) },
        parent: word(parent),
        timestamp,
        ..frame(logs.collect())
    }
}

fn advance(state: &mut WindowState, rules: &RuleSet, frame: &Frame) -> Vec<Match> {
    let found = evaluate(rules, frame, &[]);
    state.advance(rules, frame, &found.contributions).unwrap().0
}

/// Blocks at given times with given values; the numbers of the blocks at which the rule matched.
fn matched_at(rule: &Arc<Rule>, blocks: &[(u64, &[u64])]) -> Vec<u64> {
    let rules = rule_set(std::slice::from_ref(rule));
    let mut state = WindowState::new(ChainId(1));
    let mut found = Vec::new();
    for ((time, values), number) in blocks.iter().zip(1..) {
        let frame = block(number, number, number - 1, *time, values);
        found.extend(advance(&mut state, &rules, &frame).iter().map(|found| found.block.number));
    }
    found
}

#[test]
fn a_count_matches_when_it_is_reached_and_again_after_it_was_not() {
    let three = rule(1, "value > 0", count(10, "count >= 3"));
    for (blocks, expected) in [
        (&[(0, &[1, 1][..]), (9, &[1])][..], vec![2]),
        // The window is 10 s long: what happened 10 s ago is out of it.
        (&[(0, &[1, 1]), (10, &[1])], vec![]),
        (&[(0, &[1, 1, 1, 1]), (1, &[1, 1])], vec![1]),
        (&[(0, &[1, 1, 1]), (20, &[1]), (21, &[1, 1]), (22, &[1])], vec![1, 3]),
        (&[(0, &[0, 0, 0])], vec![]),
    ] {
        assert_eq!(matched_at(&three, blocks), expected, "{blocks:?}");
    }
}

#[test]
fn a_sum_counts_exactly_and_says_when_it_cannot() {
    let ten = rule(1, "", sum(10, "sum > 10 && count > 1"));
    assert_eq!(matched_at(&ten, &[(0, &[11]), (1, &[1]), (2, &[5]), (50, &[6, 5])]), [2, 4]);

    let rules = rule_set(&[ten]);
    let mut state = WindowState::new(ChainId(1));
    let mut huge = block(1, 1, 0, 0, &[0, 0]);
    for log in &mut huge.logs {
        log.data = vec![0xff; 32].into();
    }
    let found = evaluate(&rules, &huge, &[]);
    let (matches, failures) = state.apply(&rules, &huge, &found.contributions).unwrap();
    assert_eq!((matches.len(), failures.len()), (0, 1));
    assert_eq!(failures[0].error, EvalError::Overflow);
    assert_eq!(state.tally(RuleId(1), 1), Some((2, None)));
    // What overflowed leaves the window exactly.
    let later = block(2, 2, 1, 20, &[6, 5]);
    assert_eq!(advance(&mut state, &rules, &later).len(), 1);
    assert_eq!(state.tally(RuleId(1), 1), Some((2, Some(U256::from(11)))));
}

#[test]
fn the_message_of_a_window_knows_count_and_sum() {
    let rule = compile(RuleSpec {
        window: Some(sum(60, "sum > 5")),
        template: Some("{{ count }} of {{ sum }}, last {{ value }}".to_owned()),
        ..spec(event("Transfer"), "")
    });
    let rules = rule_set(std::slice::from_ref(&rule));
    let mut state = WindowState::new(ChainId(1));
    let found = advance(&mut state, &rules, &block(1, 1, 0, 0, &[2, 4, 9]));
    assert_eq!(found.len(), 1);
    assert_eq!(rule.template().render(&found[0].values).text, "2 of 6, last 4");
    assert!(matches!(found[0].record, RecordKey::Log { log_index: 1, .. }));
}

#[test]
fn a_silence_matches_once_per_silence() {
    let quiet = rule(1, "value > 0", Window::Silence { for_s: 10 });
    for (blocks, expected) in [
        // It begins with the first block seen.
        (&[(100, &[][..]), (109, &[])][..], vec![]),
        (&[(100, &[]), (110, &[]), (130, &[])], vec![2]),
        (&[(100, &[]), (105, &[1]), (114, &[]), (115, &[])], vec![4]),
        // The record that ends a silence does not unmake it.
        (&[(100, &[]), (120, &[1]), (125, &[0]), (130, &[])], vec![2, 4]),
    ] {
        assert_eq!(matched_at(&quiet, blocks), expected, "{blocks:?}");
    }
    let template = "{{ rule.name }}: nothing since {{ lastSeen | time }}";
    let quiet = compile(RuleSpec {
        window: Some(Window::Silence { for_s: 10 }),
        template: Some(template.to_owned()),
        ..spec(event("Transfer"), "")
    });
    let rules = rule_set(std::slice::from_ref(&quiet));
    let mut state = WindowState::new(ChainId(1));
    advance(&mut state, &rules, &block(1, 1, 0, 100, &[]));
    let found = advance(&mut state, &rules, &block(2, 2, 1, 200, &[]));
    assert_eq!(found[0].values[0], Value::String("test".into()));
    assert_eq!(
        quiet.template().render(&found[0].values).text,
        "test: nothing since 1970-01-01T00:01:40Z"
    );
}

#[test]
fn frames_that_do_not_fit_change_nothing() {
    let rules = rule_set(&[rule(1, "", count(10, "count > 1"))]);
    let mut state = WindowState::new(ChainId(1));
    let first = block(1, 1, 0, 0, &[1]);
    assert!(matches!(state.undo(&first), Err(WindowError::TooDeep { .. })));
    advance(&mut state, &rules, &first);
    let before = state.clone();
    let other = Frame { chain: ChainId(2), ..block(2, 2, 1, 5, &[]) };
    assert!(matches!(state.apply(&rules, &other, &[]), Err(WindowError::OtherChain { .. })));
    let gap = block(3, 3, 2, 5, &[]);
    assert!(matches!(state.apply(&rules, &gap, &[]), Err(WindowError::Gap { .. })));
    assert!(matches!(state.undo(&block(1, 7, 0, 0, &[])), Err(WindowError::Gap { .. })));
    assert_eq!(state, before);
    state.prune(&rules, 1);
    assert!(matches!(state.undo(&first), Err(WindowError::TooDeep { .. })));
}

#[test]
fn rules_that_go_are_forgotten_and_late_ones_are_taken_up() {
    let quiet = rule(1, "", Window::Silence { for_s: 10 });
    let tally = rule(2, "", count(10, "count > 1"));
    let mut rules = rule_set(&[tally]);
    let mut state = WindowState::new(ChainId(1));
    advance(&mut state, &rules, &block(1, 1, 0, 100, &[1]));
    rules.insert(quiet);
    advance(&mut state, &rules, &block(2, 2, 1, 150, &[]));
    assert_eq!(advance(&mut state, &rules, &block(3, 3, 2, 160, &[])).len(), 1);
    rules.remove(RuleId(1));
    rules.remove(RuleId(2));
    assert_eq!(advance(&mut state, &rules, &block(4, 4, 3, 200, &[])).len(), 0);
    state.prune(&rules, 4);
    assert!(state.tallies.is_empty() && state.silences.is_empty() && state.deadlines.is_empty());
}

#[test]
fn what_was_forgotten_does_not_count_after_an_undo() {
    let rules = rule_set(&[rule(1, "", count(10, "count >= 2"))]);
    let mut state = WindowState::new(ChainId(1));
    advance(&mut state, &rules, &block(1, 1, 0, 0, &[1]));
    advance(&mut state, &rules, &block(2, 2, 1, 90, &[]));
    let last = block(3, 3, 2, 100, &[1]);
    advance(&mut state, &rules, &last);
    state.prune(&rules, 2);
    state.undo(&last).unwrap();
    assert_eq!(advance(&mut state, &rules, &block(3, 4, 2, 95, &[1])).len(), 0);
    assert_eq!(advance(&mut state, &rules, &block(4, 5, 4, 96, &[1])).len(), 1);
}

#[test]
fn damaged_snapshots_are_refused() {
    let rules = rule_set(&windows());
    let mut state = WindowState::new(ChainId(1));
    advance(&mut state, &rules, &block(1, 1, 0, 100, &[1, 5]));
    advance(&mut state, &rules, &block(2, 2, 1, 120, &[3]));
    let bytes = state.to_bytes();
    assert!(WindowState::from_bytes(&bytes).is_ok());
    for cut in 0..bytes.len() {
        assert!(matches!(WindowState::from_bytes(&bytes[..cut]), Err(WindowError::Snapshot(_))));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(WindowState::from_bytes(&longer).is_err());
    let mut newer = bytes;
    newer[0] += 1;
    let error = WindowState::from_bytes(&newer).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
}

fn windows() -> Vec<Arc<Rule>> {
    vec![
        rule(1, "value > 2", count(7, "count >= 2")),
        rule(2, "", sum(20, "sum >= 12")),
        rule(3, "value == 5", Window::Silence { for_s: 9 }),
        rule(4, "", Window::Silence { for_s: 3 }),
        rule(5, "value < 4", sum(1, "sum > 3 || count > 2")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Random walks over a tree of blocks: whatever was undone, the state is that of a fresh run
    /// over the branch, and so are the matches.
    #[test]
    fn undo_equals_a_fresh_run(
        steps in prop::collection::vec(
            (0usize..6, 0u64..6, prop::collection::vec(0u64..8, 0..4)), 1..40),
        prune_at in prop::option::of(0usize..40),
    ) {
        let rules = rule_set(&windows());
        let mut state = WindowState::new(ChainId(1));
        let mut branch: Vec<(Frame, Vec<Match>)> = Vec::new();
        let mut pruned = 0;
        for (step, (undone, gap, values)) in steps.iter().enumerate() {
            let next_hash = u64::try_from(step).unwrap() + 1;
            if undone % 3 == 0 {
                for _ in 0..*undone {
                    if branch.len() <= pruned {
                        break;
                    }
                    let (mut frame, _) = branch.pop().unwrap();
                    frame.step = Step::Undo;
                    state.advance(&rules, &frame, &[]).unwrap();
                }
            }
            let (parent, time) = branch.last().map_or((0, 1000), |(frame, _)| {
                (u64::from_be_bytes(*frame.block.hash.0.last_chunk().unwrap()), frame.timestamp)
            });
            let number = u64::try_from(branch.len()).unwrap() + 1;
            let frame = block(number, next_hash, parent, time + gap, values);
            let found = advance(&mut state, &rules, &frame);
            branch.push((frame, found));
            if prune_at == Some(step) {
                pruned = branch.len().saturating_sub(2);
                state.prune(&rules, u64::try_from(pruned).unwrap());
                prop_assert_eq!(state.depth(), branch.len() - pruned);
            }
        }
        let mut fresh = WindowState::new(ChainId(1));
        for (frame, found) in &branch {
            prop_assert_eq!(&advance(&mut fresh, &rules, frame), found);
        }
        let restored = WindowState::from_bytes(&state.to_bytes()).unwrap();
        prop_assert_eq!(&restored, &state);
        if pruned == 0 {
            prop_assert_eq!(&state, &fresh);
        } else {
            prop_assert_eq!(&state.silences, &fresh.silences);
        }
        // A block with records of every rule brings all windows up to date.
        let (parent, time) = branch.last().map_or((0, 0), |(frame, _)| {
            (u64::from_be_bytes(*frame.block.hash.0.last_chunk().unwrap()), frame.timestamp)
        });
        let last = block(u64::try_from(branch.len()).unwrap() + 1, 9999, parent, time + 2, &[1, 3, 5]);
        let mut twin = WindowState::from_bytes(&state.to_bytes()).unwrap();
        let expected = advance(&mut fresh, &rules, &last);
        for state in [&mut state, &mut twin] {
            prop_assert_eq!(&advance(state, &rules, &last), &expected);
            for rule in windows() {
                prop_assert_eq!(state.tally(rule.id(), 1), fresh.tally(rule.id(), 1));
            }
            state.undo(&last).unwrap();
        }
        while let Some((mut frame, _)) = branch.pop() {
            if branch.len() < pruned {
                break;
            }
            frame.step = Step::Undo;
            state.advance(&rules, &frame, &[]).unwrap();
        }
        if pruned == 0 {
            prop_assert_eq!(state, WindowState::new(ChainId(1)));
        }
    }
}
