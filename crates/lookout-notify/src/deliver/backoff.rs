//! When to try again.

use lookout_types::UnixMillis;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Waits after the first try, the second, and so on, in milliseconds: the schedule that Standard
/// Webhooks recommends, 75 hours in all.
const WAITS: [i64; 9] = [
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
];
/// A wait may be longer by this part of it, so that what failed together does not come back
/// together.
const JITTER_PART: i64 = 10;
/// How long a receiver may go on asking to wait, in milliseconds: a week.
const ASKED_TO_WAIT_MAX: i64 = 7 * 24 * HOUR;
/// Longest wait that a receiver may ask for at once, in milliseconds: a day.
pub(super) const AFTER_MAX: i64 = 24 * HOUR;
/// Longest pause of a channel after failures in a row, in milliseconds: its other deliveries go on
/// being tried, but not one after the other against a receiver that is down.
const PAUSE_MAX: i64 = MINUTE;

/// How long until another try after so many that failed, in milliseconds; `None` after the last.
/// `chance` is from 0 to 999.
pub(super) fn next_try(attempts: i64, chance: i64) -> Option<i64> {
    let past = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0);
    let wait = *WAITS.get(past)?;
    let jitter = wait / JITTER_PART * chance / 1_000;
    Some(wait.saturating_add(jitter))
}

/// How long until another try where the receiver asked to wait, in milliseconds: so long, exactly;
/// `None` when it has asked for too long, counted from when it first did.
pub(super) fn asked_to_wait(
    throttled_since: Option<UnixMillis>,
    now: UnixMillis,
    after_ms: i64,
) -> Option<i64> {
    let has_waited = now.saturating_sub(throttled_since.unwrap_or(now));
    (has_waited < ASKED_TO_WAIT_MAX).then_some(after_ms)
}

/// How long a channel rests after so many failures in a row, in milliseconds.
pub(super) fn pause(failures: i64) -> i64 {
    // 2^6 seconds are more than the most.
    let doublings = u32::try_from(failures.saturating_sub(1).clamp(0, 6)).unwrap_or(0);
    (SECOND << doublings).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_over_75_hours_then_none() {
        let (mut waited, mut tries) = (0, 1);
        while let Some(wait) = next_try(tries, 0) {
            (waited, tries) = (waited + wait, tries + 1);
        }
        assert_eq!((tries, waited / HOUR), (10, 75));
        // As long as deliveries wait for a channel that is not active.
        assert_eq!(lookout_store::QUEUE_WAITS_MS / HOUR, waited / HOUR);
        assert_eq!(next_try(1, 999), Some(5_499));
        assert_eq!(next_try(0, 0), Some(5_000));
        assert_eq!(next_try(i64::MAX, 0), None);
    }

    #[test]
    fn waits_that_were_asked_for_are_exact_and_end() {
        assert_eq!(asked_to_wait(Some(0), 500, 7_000), Some(7_000));
        assert_eq!(asked_to_wait(Some(0), ASKED_TO_WAIT_MAX, 1), None);
        // However old the delivery is.
        assert_eq!(asked_to_wait(None, i64::MAX, 1), Some(1));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<_> = [0, 1, 2, 3, 6, 7, i64::MAX].map(pause).into();
        assert_eq!(pauses, [1_000, 1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
    }
}
