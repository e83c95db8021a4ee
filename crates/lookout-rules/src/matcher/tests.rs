//! Cases for `matcher`.

use std::collections::HashMap;

use lookout_types::{BlockRef, Hash};
use proptest::prelude::*;
use ruint::aliases::U256;

use super::*;
use crate::evaluate::tests::{CHAIN, compile, event, frame, spec, transfer_log, word};
use crate::{RuleSpec, Window};

fn rule(id: u128, version: u32, condition: &str, window: Option<Window>) -> Arc<Rule> {
    let template = Some("{{ rule.name }}".to_owned());
    let (id, base) = (RuleId(id), spec(event("Transfer"), condition));
    compile(RuleSpec { id, version, window, template, ..base })
}

fn balance(id: u128, version: u32, condition: &str, addresses: &[Address]) -> Arc<Rule> {
    let watch = crate::Watch::Balance { addresses: addresses.to_vec() };
    compile(RuleSpec { id: RuleId(id), version, ..spec(watch, condition) })
}

fn block(number: u64, hash: u64, parent: u64, timestamp: u64, values: &[u64]) -> Frame {
    let logs = values.iter().zip(0..).map(|(value, log_index)| lookout_types::Log {
        log_index,
        ..transfer_log(1, 2, U256::from(*value))
    });
    Frame {
        block: BlockRef { number, hash: word(hash) },
        parent: word(parent),
        timestamp,
        transactions: Vec::new(),
        ..frame(logs.collect())
    }
}

fn undo(frame: &Frame) -> Frame {
    Frame { step: Step::Undo, ..frame.clone() }
}

/// The versions that match a frame.
fn versions(matcher: &mut Matcher, frame: &Frame) -> Vec<u32> {
    let stepped = matcher.step(frame).unwrap();
    stepped.matches.iter().map(|found| found.version).collect()
}

#[test]
fn each_version_watches_its_own_heights_whichever_way_the_chain_goes() {
    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(rule(1, 1, "", None), 2);
    let blocks: Vec<_> = (1..=5).map(|n| block(n, n, n - 1, n, &[1])).collect();
    let found: Vec<_> = blocks[..4].iter().map(|block| versions(&mut matcher, block)).collect();
    assert_eq!(found, [vec![], vec![1], vec![1], vec![1]]);
    matcher.insert(rule(1, 2, "", None), 5);
    assert_eq!(versions(&mut matcher, &blocks[4]), [2]);
    for block in blocks.iter().rev() {
        assert!(versions(&mut matcher, &undo(block)).is_empty());
    }
    let again: Vec<_> = (1..=6).map(|n| block(n, n + 100, n + 99, n, &[1])).collect();
    let found: Vec<_> = again.iter().map(|block| versions(&mut matcher, block)).collect();
    assert_eq!(found, [vec![], vec![1], vec![1], vec![1], vec![2], vec![2]]);
    matcher.retire(RuleId(1), 2, 7);
    assert!(versions(&mut matcher, &block(7, 107, 106, 7, &[1])).is_empty());
    assert_eq!(matcher.active().len(), 0);
}

#[test]
fn a_version_retired_lower_down_takes_the_earlier_ones_with_it() {
    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(rule(1, 1, "", None), 0);
    matcher.insert(rule(1, 2, "", None), 10);
    // The chain has gone back to 5, and the rule is changed there.
    matcher.insert(rule(1, 3, "", None), 6);
    let found: Vec<_> =
        (5..=11).map(|n| versions(&mut matcher, &block(n, n, n - 1, n, &[1]))).collect();
    assert_eq!(found, [vec![1], vec![3], vec![3], vec![3], vec![3], vec![3], vec![3]]);
}

#[test]
fn what_is_forgotten_cannot_be_undone_and_nothing_else_is() {
    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(rule(1, 1, "", None), 0);
    let blocks: Vec<_> = (1..=6).map(|n| block(n, n, n - 1, n, &[1])).collect();
    for block in &blocks[..4] {
        versions(&mut matcher, block);
    }
    matcher.prune(4);
    versions(&mut matcher, &undo(&blocks[3]));
    versions(&mut matcher, &blocks[3]);
    matcher.insert(rule(1, 2, "", Some(Window::Silence { for_s: 100 })), 5);
    assert!(matcher.snapshot().is_empty(), "no block has been seen with a window");
    versions(&mut matcher, &blocks[4]);
    versions(&mut matcher, &blocks[5]);
    assert!(!matcher.snapshot().is_empty());
    matcher.prune(5);
    versions(&mut matcher, &undo(&blocks[5]));
    let before = matcher.snapshot();
    let error = matcher.step(&undo(&blocks[4])).unwrap_err();
    assert_eq!(error, WindowError::TooDeep { block: blocks[4].block });
    assert_eq!(matcher.snapshot(), before);
    assert!(matcher.rule(RuleId(1), 1).is_none() && matcher.rule(RuleId(1), 2).is_some());
    let mut late = Matcher::new(CHAIN);
    late.restore(&before).unwrap();
    assert!(late.step(&undo(&blocks[4])).is_err());
    for bad in [&before[..1], &before[..9], &[9; 40]] {
        assert!(matches!(late.restore(bad), Err(WindowError::Snapshot(_))));
    }
    assert!(matches!(
        Matcher::new(ChainId(2)).restore(&before),
        Err(WindowError::OtherChain { .. })
    ));
}

#[test]
fn balance_rules_say_what_to_read_and_match_what_was_read() {
    let (one, two) = (Address([1; 20]), Address([2; 20]));
    let token = Address([9; 20]);
    let cases: [(&str, &[Asset]); 5] = [
        ("", &[Asset::Native]),
        ("balance < ether(\"1\")", &[Asset::Native]),
        (
            "token == 0x0909090909090909090909090909090909090909 && balance > 5",
            &[Asset::Erc20(token)],
        ),
        (
            "change < 0 && (kind == \"native\" || token == 0x0909090909090909090909090909090909090909)",
            &[Asset::Native, Asset::Erc20(token)],
        ),
        ("token in [0x0909090909090909090909090909090909090909]", &[Asset::Erc20(token)]),
    ];
    for (condition, assets) in cases {
        let expected: Vec<_> = assets.iter().map(|asset| (one, *asset)).collect();
        assert_eq!(balance(1, 1, condition, &[one]).reads(), expected, "{condition}");
    }
    assert!(rule(1, 1, "", None).reads().is_empty());

    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(balance(1, 1, "balance < 5", &[one, two]), 3);
    matcher.insert(balance(1, 2, "balance < 3", &[one, two]), 9);
    matcher.insert(rule(2, 1, "", None), 0);
    let reading = |account, balance: u64| Reading {
        account,
        asset: Asset::Native,
        balance: Amount(U256::from(balance)),
        before: None,
    };
    let readings = [reading(one, 4), reading(two, 6)];
    let found = |matcher: &Matcher, number| {
        let read = matcher.read(block(number, number, 1, 1, &[]).block, 1, &readings);
        read.matches.iter().map(|found| (found.rule.0, found.version)).collect::<Vec<_>>()
    };
    assert_eq!(found(&matcher, 2), []);
    assert_eq!(found(&matcher, 3), [(1, 1)]);
    // Blocks above were applied meanwhile, and versions taken up: the height alone decides.
    matcher.step(&block(12, 12, 11, 1, &[])).unwrap();
    assert_eq!(found(&matcher, 8), [(1, 1)]);
    assert_eq!(found(&matcher, 9), []);
    matcher.retire(RuleId(1), 2, 5);
    assert_eq!((found(&matcher, 4), found(&matcher, 5)), (vec![(1, 1)], vec![]));
}

#[test]
fn a_reading_of_before_a_version_began_is_none_to_it() {
    let account = Address([1; 20]);
    let mut matcher = Matcher::new(CHAIN);
    for (number, from) in [(1, 3), (2, 5), (3, 6)] {
        matcher.insert(balance(number, 1, "change < 0 && previous == 9", &[account]), from);
    }
    let read = |before: Option<(Height, u64)>| {
        let before = before.map(|(height, balance)| (height, Amount(U256::from(balance))));
        let balance = Amount(U256::from(4));
        let readings = [Reading { account, asset: Asset::Native, balance, before }];
        let read = matcher.read(block(8, 8, 7, 1, &[]).block, 1, &readings);
        read.matches.iter().map(|found| found.rule.0).collect::<Vec<_>>()
    };
    assert_eq!(read(None), []);
    assert_eq!(read(Some((2, 9))), []);
    assert_eq!(read(Some((4, 9))), [1]);
    assert_eq!(read(Some((5, 9))), [1, 2]);
    assert_eq!(read(Some((7, 9))), [1, 2, 3]);
    assert_eq!(read(Some((7, 4))), []);
}

#[test]
fn a_window_begins_anew_with_each_version() {
    let count =
        |condition: &str| Some(Window::Count { over_s: 100, condition: condition.to_owned() });
    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(rule(1, 1, "", count("count >= 2")), 0);
    assert!(versions(&mut matcher, &block(1, 1, 0, 1, &[1])).is_empty());
    matcher.insert(rule(1, 2, "", count("count >= 3")), 2);
    let (two, three) = (block(2, 2, 1, 2, &[1, 1]), block(3, 3, 2, 3, &[1]));
    assert!(versions(&mut matcher, &two).is_empty());
    assert_eq!(versions(&mut matcher, &three), [2]);
    for block in [&three, &two] {
        versions(&mut matcher, &undo(block));
    }
    versions(&mut matcher, &undo(&block(1, 1, 0, 1, &[1])));
    assert_eq!(versions(&mut matcher, &block(1, 11, 0, 1, &[1, 1])), [1]);
    assert_eq!(versions(&mut matcher, &block(2, 12, 11, 2, &[1, 1, 1])), [2]);
}

/// What a change makes of a rule; some with windows, some without, one paused.
fn version_of(id: u128, version: u32, kind: u8) -> Option<Arc<Rule>> {
    let window = |over_s, condition: &str| {
        let (of, condition) = ("value".to_owned(), condition.to_owned());
        Some(Window::Sum { over_s, of, condition })
    };
    let (condition, window) = match kind {
        0 => ("value > 3", None),
        1 => ("value % 2 == 0", None),
        2 => ("", window(7, "sum >= 6")),
        3 => ("value < 5", window(20, "count >= 3")),
        4 => ("value == 5", Some(Window::Silence { for_s: 9 })),
        _ => return None,
    };
    Some(rule(id, version, condition, window))
}

fn number(hash: &Hash) -> u64 {
    u64::from_be_bytes(*hash.0.last_chunk().unwrap())
}

/// One change of a rule: its id, version, what it is from then on, and from which height.
type Change = (u128, u32, Option<Arc<Rule>>, Height);

fn change(matcher: &mut Matcher, (id, version, rule, from): &Change) {
    match rule {
        Some(rule) => matcher.insert(rule.clone(), *from),
        None => matcher.retire(RuleId(*id), *version, *from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever was undone and whenever rules changed: the matches of the blocks that are left are
    /// those of a matcher that has seen nothing but these blocks, and knew all versions before.
    #[test]
    fn reorged_frames_match_as_the_final_chain_does(
        steps in prop::collection::vec(
            (0usize..8, 0u64..6, prop::collection::vec(0u64..8, 0..4),
             prop::option::weighted(0.3, (1u128..4, 0u8..6))), 1..60),
        keep in 3u64..12,
    ) {
        let mut matcher = Matcher::new(CHAIN);
        let mut changes: Vec<Change> = Vec::new();
        let mut branch: Vec<(Frame, Vec<Match>)> = Vec::new();
        let mut newest: HashMap<u128, u32> = HashMap::new();
        let mut is_final = 0;
        for (hash, (undone, gap, values, edit)) in (1..).zip(&steps) {
            for _ in 0..if undone % 2 == 0 { *undone } else { 0 } {
                if branch.last().is_none_or(|(frame, _)| frame.block.number <= is_final) {
                    break;
                }
                let (frame, _) = branch.pop().unwrap();
                matcher.step(&undo(&frame)).unwrap();
            }
            let height = u64::try_from(branch.len()).unwrap() + 1;
            if let Some((id, kind)) = edit {
                let version = newest.entry(*id).or_default();
                let rule = version_of(*id, *version + 1, *kind);
                *version += u32::from(rule.is_some());
                changes.push((*id, *version, rule, height));
                change(&mut matcher, changes.last().unwrap());
            }
            let (parent, time) = branch.last().map_or((0, 1000), |(frame, _)| {
                (number(&frame.block.hash), frame.timestamp)
            });
            let frame = block(height, hash, parent, time + gap, values);
            let found = matcher.step(&frame).unwrap().matches;
            branch.push((frame, found));
            if undone % 3 == 0 {
                is_final = is_final.max(height.saturating_sub(keep));
                matcher.prune(is_final);
            }
            if undone % 5 == 0 {
                let bytes = matcher.snapshot();
                let mut restored = Matcher::new(CHAIN);
                changes.iter().for_each(|each| change(&mut restored, each));
                restored.forget(is_final);
                restored.restore(&bytes).unwrap();
                prop_assert_eq!(restored.snapshot().is_empty(), bytes.is_empty());
                matcher = restored;
            }
        }
        let mut fresh = Matcher::new(CHAIN);
        changes.iter().for_each(|each| change(&mut fresh, each));
        for (frame, found) in &branch {
            prop_assert_eq!(&fresh.step(frame).unwrap().matches, found);
        }
    }
}

#[test]
fn a_reorg_below_what_is_final_never_finds_a_version_below_its_first_height() {
    let mut matcher = Matcher::new(CHAIN);
    matcher.insert(rule(1, 1, "", None), 50);
    let blocks: Vec<_> = (1..=100).map(|n| block(n, n, n - 1, n, &[1])).collect();
    for block in &blocks {
        matcher.step(block).unwrap();
    }
    matcher.prune(48);
    matcher.clone().step(&undo(&blocks[99])).unwrap();
    // The height at which it begins is forgotten from here on.
    matcher.prune(49);
    for block in blocks[49..].iter().rev() {
        matcher.step(&undo(block)).unwrap();
    }
    let too_deep = matcher.step(&undo(&blocks[48])).unwrap_err();
    assert_eq!(too_deep, WindowError::TooDeep { block: blocks[48].block });
}

#[test]
fn a_snapshot_comes_in_parts_of_which_most_stay_as_they_are() {
    let mut matcher = Matcher::new(CHAIN);
    let long = Window::Count { over_s: 31 * 86_400, condition: "count > 1000000".to_owned() };
    matcher.insert(rule(7, 1, "", Some(long)), 0);
    matcher.insert(rule(7, 2, "", Some(Window::Silence { for_s: 900 })), 9_000_000);
    let parts = |matcher: &Matcher| {
        let mut parts = std::collections::BTreeMap::new();
        let mut last = String::new();
        matcher.snapshot_parts(&mut |name, bytes| {
            assert!(name > last, "{name} comes after {last}");
            last.clone_from(&name);
            parts.insert(name, bytes);
        });
        assert_eq!(parts.values().flatten().copied().collect::<Vec<_>>(), matcher.snapshot());
        parts
    };
    assert!(parts(&matcher).is_empty());
    let step = |matcher: &mut Matcher, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            matcher.step(&block(number, number, number - 1, number * 2, &[1])).unwrap();
        }
    };
    step(&mut matcher, 1..=20_000);
    matcher.prune(19_000);
    let before = parts(&matcher);
    step(&mut matcher, 20_001..=20_064);
    matcher.prune(19_064);
    let after = parts(&matcher);
    assert!(after.values().all(|part| part.len() <= 64 << 10));
    let changed: usize = after
        .iter()
        .filter(|(name, part)| before.get(*name) != Some(part))
        .map(|(_, p)| p.len())
        .sum();
    let all: usize = after.values().map(Vec::len).sum();
    assert!(all > 1_200_000 && changed < 100_000, "{changed} of {all}");
    let mut restored = Matcher::new(CHAIN);
    restored.restore(&matcher.snapshot()).unwrap();
    assert_eq!(parts(&restored).len(), after.len());
}
