//! What a job is asked to do, and the check of it.

use std::fmt::Debug;

use lookout_types::UnixMillis;
use serde_json::{Map, Value};

use super::schedule::{Schedule, ScheduleError};

/// Longest name of a job: fits a path segment and a DNS label.
const NAME_BYTES_MAX: usize = 63;
/// Longest settings as JSON, in bytes: the audit log keeps them with room to spare.
const SETTINGS_BYTES_MAX: usize = 8 << 10;
/// Most missed ticks that are caught up: more would keep the job busy with the past.
const CATCH_UP_MAX: u32 = 100;
/// Most further attempts of a run; with the growing pauses between them about an hour.
const RETRIES_MAX: u32 = 10;
/// Shortest and longest time a run may take, in milliseconds: a second, a day.
const TIMEOUT_MS: std::ops::RangeInclusive<i64> = 1_000..=86_400_000;

/// What becomes of ticks that nobody was there to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// Nothing.
    Skip,
    /// One run, for the newest, stands for all of them.
    Once,
    /// Each is run, at most so many, the newest.
    All(u32),
}

impl Misfire {
    /// How many missed ticks are run beside those on time.
    pub(super) fn catch_up_max(self, on_time: &[UnixMillis]) -> usize {
        match self {
            Self::Skip => 0,
            Self::Once => usize::from(on_time.is_empty()),
            Self::All(most) => usize::try_from(most).unwrap_or(usize::MAX),
        }
    }

    /// Its name in the database, and its number there.
    pub(super) fn columns(self) -> (&'static str, i64) {
        match self {
            Self::Skip => ("skip", 0),
            Self::Once => ("once", 0),
            Self::All(most) => ("all", i64::from(most)),
        }
    }

    pub(super) fn of_columns(name: &str, most: i64) -> Option<Self> {
        match name {
            "skip" => Some(Self::Skip),
            "once" => Some(Self::Once),
            "all" => u32::try_from(most).ok().map(Self::All),
            _ => None,
        }
    }
}

/// A job as its owner wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name, unique within the tenant: lowercase letters, digits, `-` and `_`.
    pub name: String,
    /// Which task it runs.
    pub kind: String,
    /// The task's settings.
    pub settings: Map<String, Value>,
    /// Cron fields, as [`Schedule::parse`] reads them.
    pub schedule: String,
    /// The IANA zone in which they are read.
    pub zone: String,
    /// What becomes of missed ticks.
    pub misfire: Misfire,
    /// How long a run may take, in milliseconds.
    pub timeout_ms: i64,
    /// How often a run that failed is tried again.
    pub retries: u32,
    /// Whether its ticks pass without a run.
    pub paused: bool,
}

/// A member that is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {reason}")]
pub struct FieldError {
    /// The member, as the API names it.
    pub field: &'static str,
    /// What is wrong with it and what is expected.
    pub reason: String,
}

/// The kinds of jobs there are.
pub trait JobKinds: Send + Sync + Debug {
    /// Their names.
    fn names(&self) -> Vec<&'static str>;

    /// Checks the settings of a job of a kind; `None` when there is no such kind.
    fn check(&self, kind: &str, settings: &Map<String, Value>) -> Option<Result<(), String>>;
}

impl JobSpec {
    /// Checks every member, the kind's settings among them, and reads the schedule.
    ///
    /// # Errors
    /// [`FieldError`] on the first that is wrong.
    pub fn check(&self, kinds: &dyn JobKinds, now: UnixMillis) -> Result<Schedule, FieldError> {
        let schedule = self.check_shape(now)?;
        match kinds.check(&self.kind, &self.settings) {
            Some(Ok(())) => Ok(schedule),
            Some(Err(reason)) => Err(FieldError { field: "settings", reason }),
            None => {
                let kind: String = self.kind.escape_debug().take(NAME_BYTES_MAX).collect();
                let known = kinds.names().join("`, `");
                let reason = format!("no kind `{kind}`; there are: `{known}`");
                Err(FieldError { field: "kind", reason })
            }
        }
    }

    /// Everything that can be checked without knowing the kinds.
    pub(super) fn check_shape(&self, now: UnixMillis) -> Result<Schedule, FieldError> {
        let wrong = |field, reason| Err(FieldError { field, reason });
        if !is_name(&self.name) {
            let name: String = self.name.escape_debug().take(NAME_BYTES_MAX).collect();
            let reason = format!(
                "`{name}` is no name of a job: expected 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _"
            );
            return wrong("name", reason);
        }
        let schedule = Schedule::parse(&self.schedule, &self.zone).and_then(|schedule| {
            let comes = schedule.next_after(now)?.is_some();
            comes
                .then_some(schedule)
                .ok_or_else(|| ScheduleError::Never { text: self.schedule.trim().to_owned() })
        });
        let schedule = schedule.map_err(|error| FieldError {
            field: if matches!(error, ScheduleError::Zone { .. }) { "zone" } else { "schedule" },
            reason: error.to_string(),
        })?;
        if let Misfire::All(most) = self.misfire
            && !(1..=CATCH_UP_MAX).contains(&most)
        {
            let reason = format!("from 1 to {CATCH_UP_MAX} ticks are caught up, not {most}");
            return wrong("catchUpMax", reason);
        }
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            let reason = format!(
                "a run may take from 1 to {} seconds, not {}",
                TIMEOUT_MS.end() / 1_000,
                self.timeout_ms / 1_000
            );
            return wrong("timeoutSeconds", reason);
        }
        if self.retries > RETRIES_MAX {
            let reason = format!("a run is retried at most {RETRIES_MAX} times");
            return wrong("retries", reason);
        }
        let settings_bytes = Value::Object(self.settings.clone()).to_string().len();
        if settings_bytes > SETTINGS_BYTES_MAX {
            let reason = format!(
                "settings have at most {SETTINGS_BYTES_MAX} bytes as JSON, these {settings_bytes}"
            );
            return wrong("settings", reason);
        }
        Ok(schedule)
    }
}

/// Whether this can be the name of a job.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}
