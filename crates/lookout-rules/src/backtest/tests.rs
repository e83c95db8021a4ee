//! A backtest says what live following would have said.

use lookout_types::{Hash, Step};
use proptest::prelude::*;
use ruint::aliases::U256;

use super::*;
use crate::evaluate::tests::{CHAIN, event, frame, labels, spec, transfer_log, word};
use crate::{RuleId, RuleSpec, Window};

fn block(number: u64, time: u64, values: &[u64]) -> Frame {
    let logs = values.iter().zip(0..).map(|(value, index)| {
        let mut log = transfer_log(1, 2, U256::from(*value));
        log.log_index = index;
        log
    });
    let mut frame = frame(logs.collect());
    frame.block = BlockRef { number, hash: word(number) };
    frame.parent = if number == 0 { Hash::default() } else { word(number - 1) };
    frame.timestamp = time;
    frame.step = Step::Apply;
    frame
}

fn rule(condition: &str, window: Option<Window>) -> Arc<Rule> {
    let spec = RuleSpec { window, ..spec(event("Transfer"), condition) };
    Arc::new(Rule::compile(spec, &labels()).unwrap())
}

fn run(
    rule: Arc<Rule>,
    range: RangeInclusive<u64>,
    confirmations: u64,
    blocks: &[Frame],
) -> BacktestReport {
    let mut backtest = Backtest::new(rule, CHAIN, range, confirmations, 2);
    let reads = backtest.reads();
    for frame in blocks.iter().filter(|frame| reads.contains(&frame.block.number)) {
        backtest.step(frame).unwrap();
    }
    backtest.finish()
}

#[test]
fn matches_are_counted_and_the_first_are_kept_with_their_text() {
    let blocks: Vec<_> = (10..20).map(|n| block(n, n * 12, &[5, 50, 500])).collect();
    let report = run(rule("value >= 50", None), 12..=15, 0, &blocks);
    assert_eq!((report.heights, report.blocks), (Some((12, 15)), 4));
    assert_eq!((report.matches, report.alerts, report.samples.len()), (8, 8, 2));
    assert_eq!(report.samples[0].block.number, 12);
    assert!(report.samples[1].message.text.contains("value: 500"), "{:?}", report.samples[1]);
    assert_eq!(report.days, [(0, 8)]);
    // Blocks 12 to 14 lie in the third minute, block 15 begins the fourth.
    assert_eq!(report.peak_per_minute, 6);
}

#[test]
fn only_what_has_enough_blocks_on_top_is_an_alert_and_at_their_time() {
    let blocks: Vec<_> = (10..=16).map(|n| block(n, n * 86_400, &[1])).collect();
    let report = run(rule("", None), 11..=15, 3, &blocks);
    // The match at 13 has block 16 as its third on top; 14 and 15 wait for blocks not yet there.
    assert_eq!((report.matches, report.alerts), (5, 3));
    assert_eq!(report.days, [(14, 1), (15, 1), (16, 1)]);
}

#[test]
fn limits_of_channels_are_told_by_minutes_and_waits() {
    let burst = vec![1; 45];
    let blocks = [block(1, 60, &burst), block(2, 119, &[1]), block(3, 120, &[1])];
    let report = run(rule("", None), 1..=3, 0, &blocks);
    assert_eq!(report.peak_per_minute, 46);
    let told: Vec<_> = report
        .paces
        .iter()
        .map(|pace| (pace.channel.channel, pace.minutes_exceeded, pace.longest_wait_s))
        .collect();
    assert_eq!(
        told,
        [
            // 45 at one every 3 s: the last waits 132 s, the one at 119 waits until 195.
            ("telegramGroup", 1, 132),
            ("telegramPrivate", 0, 44),
            ("slack", 0, 44),
            ("discord", 1, 88),
        ]
    );
}

#[test]
fn records_without_an_answer_are_counted() {
    let blocks = [block(1, 1, &[1, 0]), block(2, 2, &[0])];
    let report = run(rule("100 / value > 5", None), 1..=2, 0, &blocks);
    let failures: Vec<_> =
        report.failures.iter().map(|each| (each.error, each.count, each.height)).collect();
    assert_eq!((report.matches, failures), (1, vec![(EvalError::DivisionByZero, 2, 2)]));
}

#[test]
fn a_gap_in_the_blocks_is_an_error() {
    let mut backtest = Backtest::new(rule("", None), CHAIN, 1..=9, 0, 0);
    backtest.step(&block(1, 1, &[])).unwrap();
    backtest.step(&block(3, 3, &[])).unwrap_err();
    backtest.step(&block(2, 3, &[])).unwrap();
    // Behind the range as well: another branch confirms nothing.
    let mut backtest = Backtest::new(rule("", None), CHAIN, 1..=1, 5, 0);
    backtest.step(&block(1, 1, &[])).unwrap();
    backtest.step(&block(3, 3, &[])).unwrap_err();
}

proptest! {
    /// Whatever the range, a backtest finds what a matcher that is given the rule at its start finds.
    #[test]
    fn a_backtest_finds_what_live_following_finds(
        times in prop::collection::vec((0_u64..90, prop::collection::vec(0_u64..6, 0..4)), 1..700),
        bounds in (0_usize..700, 0_usize..700),
        kind in 0..4,
    ) {
        let mut now = 1_000_000;
        let blocks: Vec<_> = times.iter().zip(0..).map(|((step, values), number)| {
            now += step;
            block(number, now, values)
        }).collect();
        let (a, b) = (bounds.0 % blocks.len(), bounds.1 % blocks.len());
        let range = (a.min(b) as u64)..=(a.max(b) as u64);
        let window = match kind {
            0 => None,
            1 => Some(Window::Count { over_s: 300, condition: "count >= 4".to_owned() }),
            2 => Some(Window::Sum { over_s: 200, of: "value".to_owned(), condition: "sum > 12".to_owned() }),
            _ => Some(Window::Silence { for_s: 200 }),
        };
        let rule = rule("value > 1", window);
        let report = run(rule.clone(), range.clone(), 0, &blocks);
        let mut live = Matcher::new(CHAIN);
        live.insert(rule.clone(), *range.start());
        let mut found = Vec::new();
        for frame in blocks.iter().filter(|frame| range.contains(&frame.block.number)) {
            found.extend(live.step(frame).unwrap().matches);
        }
        prop_assert_eq!(report.matches, found.len() as u64);
        let first: Vec<_> = found.iter().take(2).map(|m| (m.block, m.record)).collect();
        let kept: Vec<_> = report.samples.iter().map(|s| (s.block, s.record)).collect();
        prop_assert_eq!(kept, first);
        prop_assert_eq!(rule.id(), RuleId(1));
    }
}
