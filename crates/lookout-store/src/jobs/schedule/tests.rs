//! Schedules across changes of clock, against tables and against the definition.

use croner::parser::CronParser;
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan, Zoned};
use proptest::prelude::*;

use super::*;

const BERLIN: &str = "Europe/Berlin";
const NEW_YORK: &str = "America/New_York";
const LORD_HOWE: &str = "Australia/Lord_Howe";

fn millis(text: &str) -> UnixMillis {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The ticks after a moment, as the zone writes them.
#[track_caller]
fn check(cron: &str, zone: &str, after: &str, expected: &[&str]) {
    let schedule = Schedule::parse(cron, zone).unwrap();
    let ticks = schedule.upcoming(millis(after), expected.len()).unwrap();
    let ticks: Vec<_> = ticks.into_iter().map(|tick| schedule.local(tick).unwrap()).collect();
    assert_eq!(ticks, expected, "{cron} in {zone} after {after}");
}

#[test]
fn fields_are_read_in_the_zone() {
    check(
        "30 9 * * MON-FRI",
        BERLIN,
        "2026-01-02T12:00:00Z",
        &["2026-01-05T09:30:00+01:00", "2026-01-06T09:30:00+01:00"],
    );
    check(
        "15 30 9 1 */6 *",
        "UTC",
        "2026-01-01T09:30:15Z",
        &["2026-07-01T09:30:15+00:00", "2027-01-01T09:30:15+00:00"],
    );
    check("@daily", NEW_YORK, "2026-01-01T05:00:00Z", &["2026-01-02T00:00:00-05:00"]);
    check("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", &["2028-02-29T00:00:00+00:00"]);
    check("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00+00:00"]);
    // A day of the month or a day of the week, as in every cron.
    check(
        "0 0 13 * FRI",
        "UTC",
        "2026-02-07T00:00:00Z",
        &["2026-02-13T00:00:00+00:00", "2026-02-20T00:00:00+00:00"],
    );
    // Milliseconds do not repeat a tick, nor lose one.
    check("* * * * * *", "UTC", "2026-01-01T00:00:00.001Z", &["2026-01-01T00:00:01+00:00"]);
    check("* * * * * *", "UTC", "2025-12-31T23:59:59.999Z", &["2026-01-01T00:00:00+00:00"]);
}

#[test]
fn a_time_that_is_left_out_is_due_at_the_first_moment_after_the_gap() {
    // Berlin leaves out 02:00 to 03:00 on 29 March 2026.
    check(
        "30 2 * * *",
        BERLIN,
        "2026-03-28T00:00:00Z",
        &["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    );
    // Once, however many fall into the gap, and also where the first moment is a tick itself.
    check(
        "*/15 2,3 * * *",
        BERLIN,
        "2026-03-28T03:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00"],
    );
    check(
        "0 2 * * *",
        BERLIN,
        "2026-03-29T00:59:59.999Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    );
    check("0 2 * * *", BERLIN, "2026-03-29T01:00:00Z", &["2026-03-30T02:00:00+02:00"]);
    // New York leaves out 02:00 to 03:00 on 8 March 2026.
    check(
        "59 2 * * *",
        NEW_YORK,
        "2026-03-08T00:00:00Z",
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:59:00-04:00"],
    );
    // Lord Howe leaves out half an hour, 02:00 to 02:30 on 4 October 2026.
    check(
        "15 2 * * *",
        LORD_HOWE,
        "2026-10-03T00:00:00Z",
        &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    );
    check("45 2 * * *", LORD_HOWE, "2026-10-03T00:00:00Z", &["2026-10-04T02:45:00+11:00"]);
    // Samoa left out a whole day, 30 December 2011.
    check(
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"],
    );
}

#[test]
fn a_time_that_comes_twice_is_due_the_first_time() {
    // Berlin has 02:00 to 03:00 twice on 25 October 2026.
    check(
        "30 2 * * *",
        BERLIN,
        "2026-10-25T00:00:00Z",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    );
    // Also for a search that begins in the second pass, where the first is over.
    for after in ["2026-10-25T01:00:00Z", "2026-10-25T01:29:59Z", "2026-10-25T01:59:59Z"] {
        check("*/10 2 * * *", BERLIN, after, &["2026-10-26T02:00:00+01:00"]);
        check("0 2-3 * * *", BERLIN, after, &["2026-10-25T03:00:00+01:00"]);
    }
    // New York has 01:00 to 02:00 twice on 1 November 2026.
    check(
        "0,30 1 * * *",
        NEW_YORK,
        "2026-11-01T00:00:00Z",
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00", "2026-11-02T01:00:00-05:00"],
    );
    // Lord Howe has 01:30 to 02:00 twice on 5 April 2026.
    check(
        "45 1 * * *",
        LORD_HOWE,
        "2026-04-04T00:00:00Z",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    );
    check("15 1 * * *", LORD_HOWE, "2026-04-04T00:00:00Z", &["2026-04-05T01:15:00+11:00"]);
}

#[test]
fn a_schedule_without_an_hour_does_not_stop_while_times_come_again() {
    check(
        "*/30 * * * *",
        BERLIN,
        "2026-10-25T00:15:00Z",
        &[
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T03:00:00+01:00",
        ],
    );
    check(
        "@hourly",
        LORD_HOWE,
        "2026-04-04T13:30:00Z",
        &["2026-04-05T01:00:00+11:00", "2026-04-05T02:00:00+10:30"],
    );
    check(
        "0 */1 * * *",
        NEW_YORK,
        "2026-11-01T04:30:00Z",
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"],
    );
    check(
        "*/30 * * * *",
        BERLIN,
        "2026-03-29T00:15:00Z",
        &["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
    );
}

#[test]
fn wrong_schedules_say_what_is_expected() {
    for (cron, reason) in [
        ("", "it has 0 fields"),
        ("* * * *", "it has 4 fields"),
        ("0 0 0 1 1 * 2026", "it has 7 fields"),
        ("60 * * * *", "`60 * * * *` is no schedule: "),
        ("* 24 * * *", "`* 24 * * *` is no schedule: "),
        ("* * 0 * *", "is no schedule"),
        ("* * * 13 *", "is no schedule"),
        ("*/0 * * * *", "is no schedule"),
        ("5-1 * * * *", "is no schedule"),
        ("a b c d e", "is no schedule"),
        ("@fortnightly", "this shorthand is unknown"),
        ("* * * * *; rm", "`;` has no place in it"),
        ("* * * * \u{202e}", "`\\u{202e}` has no place in it"),
        ("ß * * * *", "has no place in it"),
    ] {
        let error = Schedule::parse(cron, "UTC").unwrap_err().to_string();
        assert!(error.contains(reason), "{cron}: {error}");
        assert!(error.contains("expected `minute hour day month weekday`"), "{error}");
    }
    let long = format!("{} * * * *", "1,".repeat(1_000_000));
    let error = Schedule::parse(&long, "UTC").unwrap_err().to_string();
    assert!(error.contains("longer than 200 bytes") && error.len() < 600, "{error}");
    for (zone, nearest) in [
        ("Europe/Berln", Some("Europe/Berlin")),
        ("berlin", Some("Europe/Berlin")),
        ("", None),
        ("Mars/Olympus", None),
        ("../../etc/passwd", None),
        ("Europe/Berlin\0", Some("Europe/Berlin")),
    ] {
        let error = Schedule::parse("* * * * *", zone).unwrap_err();
        let ScheduleError::Zone { nearest: found, .. } = &error else { panic!("{error}") };
        assert_eq!(found.as_deref(), nearest, "{error}");
        assert!(error.to_string().contains("is no IANA time zone"), "{error}");
    }
}

#[test]
fn a_time_that_never_comes_is_told_in_time() {
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let schedule = Schedule::parse(cron, BERLIN).unwrap();
        assert_eq!(schedule.next_after(millis("2026-01-01T00:00:00Z")).unwrap(), None);
    }
    let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
    schedule.next_after(i64::MAX).unwrap_err();
}

#[test]
fn hours_are_found_in_both_forms() {
    for open in ["5 * * * *", "0 5 * * * *", "5 */2 * * *", "@hourly", " 5  *  * * * "] {
        assert!(names_no_hour(open.trim()), "{open}");
    }
    for named in ["* 5 * * *", "* * 5 * * *", "* 0-23 * * *", "@daily"] {
        assert!(!names_no_hour(named), "{named}");
    }
}

/// The ticks of a day by their definition: each minute of the calendar that the fields name, at
/// the instants at which clocks show it.
fn by_definition(cron: &str, zone: &str, from: DateTime, hours: i64) -> Vec<UnixMillis> {
    let fields = CronParser::new().parse(cron).unwrap();
    let tz = TimeZone::get(zone).unwrap();
    let mut ticks = Vec::new();
    for minute in 0..hours * 60 {
        let civil = from + minute.minutes();
        if !fields.is_time_matching(&civil).unwrap() {
            continue;
        }
        let ambiguous = tz.to_ambiguous_zoned(civil);
        let at = |zoned: Zoned| zoned.timestamp().as_millisecond();
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => ticks.push(at(ambiguous.unambiguous().unwrap())),
            AmbiguousOffset::Fold { .. } => {
                ticks.push(at(ambiguous.clone().earlier().unwrap()));
                if names_no_hour(cron) {
                    ticks.push(at(ambiguous.later().unwrap()));
                }
            }
            AmbiguousOffset::Gap { before, .. } => {
                // Read with the offset before the gap it lies after it; the change was just before.
                let past = before.to_timestamp(civil).unwrap();
                let change = tz.preceding(past + 1.second()).next().unwrap();
                ticks.push(change.timestamp().as_millisecond());
            }
        }
    }
    ticks.sort_unstable();
    ticks.dedup();
    ticks
}

fn field(max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        (0..=max).prop_map(|n| n.to_string()),
        (1..=max).prop_map(|n| format!("*/{n}")),
        (0..=max, 0..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (0..=max, 0..=max).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_search_finds_what_the_definition_says(
        minute in field(59),
        hour in prop_oneof![field(23), field(4)],
        (zone, day) in prop::sample::select(vec![
            (BERLIN, "2026-03-28"), (BERLIN, "2026-10-24"), (NEW_YORK, "2026-03-07"),
            (NEW_YORK, "2026-10-31"), (LORD_HOWE, "2026-04-04"), (LORD_HOWE, "2026-10-03"),
            ("Africa/Casablanca", "2026-02-14"), ("Africa/Cairo", "2026-04-23"),
            ("America/Santiago", "2026-09-05"), ("Asia/Kathmandu", "2026-05-01"),
        ]),
        start in 0_i64..2_880,
    ) {
        let cron = format!("{minute} {hour} * * *");
        let from: DateTime = format!("{day}T00:00:00").parse().unwrap();
        let expected = by_definition(&cron, zone, from, 72);
        let after = from.to_zoned(TimeZone::get(zone).unwrap()).unwrap().timestamp();
        let after = after.as_millisecond() + start * 60_000 - 1;
        let expected: Vec<_> = expected.into_iter().filter(|tick| *tick > after).collect();
        let schedule = Schedule::parse(&cron, zone).unwrap();
        let found = schedule.upcoming(after, expected.len()).unwrap();
        prop_assert_eq!(found, expected, "{} in {}", cron, zone);
    }
}
