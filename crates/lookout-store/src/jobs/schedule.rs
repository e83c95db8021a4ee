//! When a job is due: cron fields, read in an IANA zone.
//!
//! The fields are searched on civil time, which knows no zones; what a zone's changes of clock do
//! to the ticks is decided here alone. Between two changes the offset is constant, so that the
//! search goes from change to change.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{Offset, TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp};
use lookout_types::UnixMillis;

/// Longest cron text, in bytes: six fields with a few lists.
const CRON_BYTES_MAX: usize = 200;
/// Longest name of a zone, in bytes; the longest there is has 38.
const ZONE_BYTES_MAX: usize = 64;
/// Changes of clock that a search crosses: two a year, so that a tick has 50 years to come.
const CHANGES_MAX: usize = 100;
const SHORTHANDS: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Why a schedule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron text is wrong.
    #[error(
        "`{text}` is no schedule: {reason}; expected `minute hour day month weekday`, with seconds in front if wanted, or one of {}",
        SHORTHANDS.join(", ")
    )]
    Cron {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such zone.
    #[error(
        "`{zone}` is no IANA time zone{}; expected a name such as `Europe/Berlin` or `UTC`",
        .nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
    )]
    Zone {
        /// What was given.
        zone: String,
        /// The known name most like it.
        nearest: Option<String>,
    },
    /// The fields name a time that never comes, such as 30 February.
    #[error("`{text}` names a time that does not come within 50 years")]
    Never {
        /// What was given.
        text: String,
    },
    /// The search failed.
    #[error("cannot tell when `{text}` is due next: {reason}")]
    Search {
        /// The cron text.
        text: String,
        /// What went wrong.
        reason: String,
    },
}

/// Cron fields in a zone. Ticks are whole seconds.
///
/// A local time that a change of clock leaves out is due at the first moment after the gap, once,
/// however many such times fall into it. A local time that comes twice is due the first time only.
/// But a schedule whose hour is `*` or `*/n` means every so often rather than a time of day: where
/// the clock goes back, it is due in both passes, lest it stop for an hour.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: TimeZone,
    any_hour: bool,
}

/// The search's position: from here on, or only after it.
#[derive(Clone, Copy)]
struct From {
    at: Timestamp,
    inclusive: bool,
}

impl Schedule {
    /// Reads five or six cron fields (or a shorthand such as `@daily`) and the name of a zone.
    ///
    /// # Errors
    /// [`ScheduleError::Cron`] or [`ScheduleError::Zone`], by which of the two is wrong.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let text = cron.trim().to_owned();
        let cron = parse_cron(&text)?;
        let any_hour = names_no_hour(&text);
        Ok(Self { text, cron, zone: parse_zone(zone)?, any_hour })
    }

    /// The first tick after a moment; `None` when none comes within 50 years.
    ///
    /// # Errors
    /// [`ScheduleError::Search`] when the time is outside the calendar.
    pub fn next_after(&self, after: UnixMillis) -> Result<Option<UnixMillis>, ScheduleError> {
        let at = Timestamp::from_millisecond(after).map_err(|e| self.failed(&e))?;
        let mut from = self.past_repeated(From { at, inclusive: false })?;
        for _ in 0..CHANGES_MAX {
            let offset = self.zone.to_offset(from.at);
            let change = self.zone.following(from.at).next();
            let civil = offset.to_datetime(from.at);
            let civil = match self.cron.find_next_occurrence(&civil, from.inclusive) {
                Ok(civil) => civil,
                Err(CronError::TimeSearchLimitExceeded) => return Ok(None),
                Err(e) => return Err(self.failed(&e)),
            };
            let tick = offset.to_timestamp(civil).map_err(|e| self.failed(&e))?;
            let Some(change) = change.filter(|change| change.timestamp() <= tick) else {
                return Ok(Some(tick.as_millisecond()));
            };
            let end = change.timestamp();
            if civil < change.offset().to_datetime(end) {
                // The clock was put forward past it.
                return Ok(Some(end.as_millisecond()));
            }
            from = self.after_change(offset, &change)?;
        }
        Ok(None)
    }

    /// The first ticks after a moment, at most `count`.
    ///
    /// # Errors
    /// As [`Schedule::next_after`].
    pub fn upcoming(
        &self,
        after: UnixMillis,
        count: usize,
    ) -> Result<Vec<UnixMillis>, ScheduleError> {
        let mut ticks = Vec::with_capacity(count);
        let mut at = after;
        while ticks.len() < count {
            let Some(tick) = self.next_after(at)? else { break };
            ticks.push(tick);
            at = tick;
        }
        Ok(ticks)
    }

    /// A moment as the schedule's zone writes it: RFC 3339 with the zone's offset.
    ///
    /// # Errors
    /// [`ScheduleError::Search`] when the time is outside the calendar.
    pub fn local(&self, at: UnixMillis) -> Result<String, ScheduleError> {
        let at = Timestamp::from_millisecond(at).map_err(|e| self.failed(&e))?;
        Ok(at.display_with_offset(self.zone.to_offset(at)).to_string())
    }

    fn failed(&self, reason: &impl std::fmt::Display) -> ScheduleError {
        ScheduleError::Search { text: self.text.clone(), reason: reason.to_string() }
    }

    /// Where the search goes on after a change of clock from `offset`.
    fn after_change(
        &self,
        offset: Offset,
        change: &TimeZoneTransition<'_>,
    ) -> Result<From, ScheduleError> {
        let end = change.timestamp();
        let local_end = offset.to_datetime(end);
        if self.any_hour || local_end <= change.offset().to_datetime(end) {
            return Ok(From { at: end, inclusive: true });
        }
        // The clock was put back: what comes again is left out.
        let at = change.offset().to_timestamp(local_end).map_err(|e| self.failed(&e))?;
        Ok(From { at, inclusive: true })
    }

    /// Moves a search that begins amid times that come for the second time to their end.
    fn past_repeated(&self, from: From) -> Result<From, ScheduleError> {
        // Longer than any change of clock, among them a day left out or repeated at the date line.
        let day = SignedDuration::from_hours(25);
        let Ok(earlier) = from.at.checked_sub(day) else { return Ok(from) };
        let changes = self.zone.following(earlier);
        for change in changes.take_while(|change| change.timestamp() <= from.at) {
            let before = change.timestamp().checked_sub(SignedDuration::from_secs(1));
            let before = self.zone.to_offset(before.map_err(|e| self.failed(&e))?);
            let end = self.after_change(before, &change)?;
            if end.at > from.at {
                return Ok(end);
            }
        }
        Ok(from)
    }
}

fn parse_cron(text: &str) -> Result<Cron, ScheduleError> {
    let shown: String = text.escape_debug().take(CRON_BYTES_MAX).collect();
    let wrong = |reason: String| ScheduleError::Cron { text: shown.clone(), reason };
    if text.len() > CRON_BYTES_MAX {
        return Err(wrong(format!("it is longer than {CRON_BYTES_MAX} bytes")));
    }
    if text.starts_with('@') {
        if !SHORTHANDS.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(wrong("this shorthand is unknown".to_owned()));
        }
    } else {
        // Checked here: of other characters and counts the parser makes something of its own.
        let plain = |c: char| c.is_ascii_alphanumeric() || " \t*/,-?#+".contains(c);
        if let Some(c) = text.chars().find(|c| !plain(*c)) {
            return Err(wrong(format!("`{}` has no place in it", c.escape_debug())));
        }
        let fields = text.split_ascii_whitespace().count();
        if !(5..=6).contains(&fields) {
            return Err(wrong(format!("it has {fields} fields")));
        }
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
    let cron = parser.parse(text).map_err(|e| {
        let reason = match e {
            CronError::InvalidPattern(reason)
            | CronError::IllegalCharacters(reason)
            | CronError::ComponentError(reason) => reason,
            other => other.to_string(),
        };
        wrong(reason.trim_end_matches('.').to_owned())
    })?;
    Ok(cron)
}

/// Whether the hour is left open, so that the schedule means every so often.
fn names_no_hour(text: &str) -> bool {
    if text.starts_with('@') {
        return text.eq_ignore_ascii_case("@hourly");
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let hour = fields.len().saturating_sub(4);
    fields.get(hour).is_some_and(|field| field.starts_with('*'))
}

fn parse_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let shown: String = name.escape_debug().take(ZONE_BYTES_MAX).collect();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
    let found = Some(name)
        .filter(|name| (1..=ZONE_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain))
        .and_then(|name| TimeZone::get(name).ok())
        .filter(|zone| !zone.is_unknown());
    found.ok_or_else(|| ScheduleError::Zone { nearest: nearest_zone(&shown), zone: shown })
}

fn nearest_zone(name: &str) -> Option<String> {
    let wanted = name.to_ascii_lowercase();
    let names = jiff::tz::db().available().map(|known| known.as_str().to_owned());
    let near = names.map(|known| {
        let lower = known.to_ascii_lowercase();
        // A city alone is the usual slip.
        let city = lower.rsplit('/').next().unwrap_or_default() == wanted;
        let distance = if city { 0 } else { strsim::damerau_levenshtein(&lower, &wanted) };
        (distance, known)
    });
    // A third of the name may be wrong; of short ones everything is near something.
    let most = (wanted.len() / 3).min(3);
    near.min().filter(|(distance, _)| *distance <= most).map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
