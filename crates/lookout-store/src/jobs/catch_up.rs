//! Which of the ticks that have come are run, and which are missed.

use std::collections::VecDeque;

use lookout_types::UnixMillis;

use super::schedule::{Schedule, ScheduleError};
use super::spec::Misfire;

/// A tick that is at most this late is on time: a restart, a leap of the database to its standby.
pub(super) const GRACE_MS: i64 = 60_000;
/// Up to how many missed ticks are counted at once; a long outage of a dense schedule would
/// otherwise take long to count.
pub(super) const MISSED_COUNTED_MAX: usize = 1_000;

/// What becomes of the ticks up to now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    /// To be run, oldest first.
    pub(super) run: Vec<UnixMillis>,
    /// Not run; counted up to [`MISSED_COUNTED_MAX`].
    pub(super) missed: i64,
    /// The first one after now.
    pub(super) next: Option<UnixMillis>,
}

/// Divides the ticks from `next_at` to `now`. At most `run_max` are run, the newest.
pub(super) fn divide(
    schedule: &Schedule,
    next_at: UnixMillis,
    now: UnixMillis,
    misfire: Misfire,
    run_max: usize,
) -> Result<Ticks, ScheduleError> {
    let next = schedule.next_after(now)?;
    let on_time_from = now.saturating_sub(GRACE_MS);
    let recent = between(schedule, next_at.max(on_time_from), now.saturating_add(1), next_at)?;
    let (late, counted) = late(schedule, next_at, on_time_from, misfire.catch_up_max(&recent))?;
    let mut run = late;
    run.extend(&recent);
    let mut missed = (counted + recent.len()).saturating_sub(run.len());
    let excess = run.len().saturating_sub(run_max);
    run.drain(..excess);
    missed += excess;
    Ok(Ticks { run, missed: i64::try_from(missed).unwrap_or(i64::MAX), next })
}

/// The newest `wanted` ticks from `next_at` to before `until`, and how many there are.
fn late(
    schedule: &Schedule,
    next_at: UnixMillis,
    until: UnixMillis,
    wanted: usize,
) -> Result<(Vec<UnixMillis>, usize), ScheduleError> {
    if next_at >= until {
        return Ok((Vec::new(), 0));
    }
    let mut ticks = vec![next_at];
    let mut at = next_at;
    while let Some(tick) = schedule.next_after(at)?.filter(|tick| *tick < until) {
        if ticks.len() >= MISSED_COUNTED_MAX {
            return Ok((newest(schedule, next_at, until, wanted)?, ticks.len()));
        }
        ticks.push(tick);
        at = tick;
    }
    let counted = ticks.len();
    Ok((ticks.split_off(counted.saturating_sub(wanted)), counted))
}

/// The newest `wanted` of many ticks: looked for in ever longer spans before `until`.
fn newest(
    schedule: &Schedule,
    next_at: UnixMillis,
    until: UnixMillis,
    wanted: usize,
) -> Result<Vec<UnixMillis>, ScheduleError> {
    let mut span_ms = 1_000_i64.saturating_mul(i64::try_from(wanted).unwrap_or(i64::MAX));
    if wanted == 0 {
        return Ok(Vec::new());
    }
    loop {
        let from = until.saturating_sub(span_ms).max(next_at);
        let mut ticks: VecDeque<_> = between(schedule, from, until, next_at)?.into();
        if ticks.len() >= wanted || from == next_at {
            ticks.drain(..ticks.len().saturating_sub(wanted));
            return Ok(ticks.into());
        }
        span_ms = span_ms.saturating_mul(4);
    }
}

/// The ticks from `from` to before `until`. `next_at` is one even if the schedule has no such tick:
/// it had when it was written down.
fn between(
    schedule: &Schedule,
    from: UnixMillis,
    until: UnixMillis,
    next_at: UnixMillis,
) -> Result<Vec<UnixMillis>, ScheduleError> {
    let mut ticks = Vec::new();
    let mut at = from.saturating_sub(1);
    if from == next_at && next_at < until {
        ticks.push(next_at);
        at = next_at;
    }
    while let Some(tick) = schedule.next_after(at)?.filter(|tick| *tick < until) {
        ticks.push(tick);
        at = tick;
    }
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    #[track_caller]
    fn check(cron: &str, (next_at, now): (i64, i64), misfire: Misfire, run: &[i64], missed: i64) {
        let schedule = Schedule::parse(cron, "UTC").unwrap();
        let ticks = divide(&schedule, next_at, now, misfire, 100).unwrap();
        assert_eq!((ticks.run.as_slice(), ticks.missed), (run, missed), "{cron} {misfire:?}");
        assert_eq!(ticks.next, schedule.next_after(now).unwrap());
    }

    #[test]
    fn a_tick_on_time_runs_whatever_the_policy() {
        for misfire in [Misfire::Skip, Misfire::Once, Misfire::All(10)] {
            check("0 * * * *", (HOUR, HOUR), misfire, &[HOUR], 0);
            check("0 * * * *", (HOUR, HOUR + MINUTE), misfire, &[HOUR], 0);
            // A dense schedule loses nothing in a short pause either.
            check(
                "*/20 * * * * *",
                (HOUR, HOUR + 45_000),
                misfire,
                &[HOUR, HOUR + 20_000, HOUR + 40_000],
                0,
            );
        }
    }

    #[test]
    fn missed_ticks_are_skipped_merged_or_caught_up() {
        let hourly = "0 * * * *";
        let half_past_five = (HOUR, 5 * HOUR + 30 * MINUTE);
        check(hourly, half_past_five, Misfire::Skip, &[], 5);
        check(hourly, half_past_five, Misfire::Once, &[5 * HOUR], 4);
        check(hourly, half_past_five, Misfire::All(2), &[4 * HOUR, 5 * HOUR], 3);
        check(hourly, half_past_five, Misfire::All(9), &[1, 2, 3, 4, 5].map(|h| h * HOUR), 0);
        // A tick that is on time stands for the missed ones.
        let at_five = (HOUR, 5 * HOUR);
        check(hourly, at_five, Misfire::Skip, &[5 * HOUR], 4);
        check(hourly, at_five, Misfire::Once, &[5 * HOUR], 4);
        check(hourly, at_five, Misfire::All(2), &[3, 4, 5].map(|h| h * HOUR), 2);
    }

    #[test]
    fn a_long_outage_of_a_dense_schedule_is_cheap_and_keeps_the_newest() {
        let now = 400 * 24 * HOUR;
        let late = now - GRACE_MS;
        let schedule = Schedule::parse("* * * * * *", "UTC").unwrap();
        let ticks = divide(&schedule, HOUR, now, Misfire::All(3), 100).unwrap();
        assert_eq!(ticks.run.len(), 3 + 61);
        assert_eq!(ticks.run[..3], [late - 3_000, late - 2_000, late - 1_000]);
        assert_eq!(ticks.missed, 1_000 - 3);
        // No more than there is room for, and again the newest.
        let ticks = divide(&schedule, HOUR, now, Misfire::All(3), 5).unwrap();
        assert_eq!(ticks.run, [4, 3, 2, 1, 0].map(|s| now - s * 1_000));
        // Dense for a minute a day only: the spans grow until they reach it.
        let schedule = Schedule::parse("* 5 0 * * *", "UTC").unwrap();
        let ticks = divide(&schedule, HOUR, now - HOUR, Misfire::All(2), 100).unwrap();
        let minute = now - 24 * HOUR + 5 * MINUTE;
        assert_eq!(ticks.run, [minute + 58_000, minute + 59_000]);
    }

    #[test]
    fn a_next_tick_that_the_schedule_no_longer_has_still_runs() {
        check("0 0 1 1 *", (HOUR, HOUR + 5), Misfire::Skip, &[HOUR], 0);
    }
}
