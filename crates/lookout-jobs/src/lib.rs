//! Jobs: cron schedules with time zones, exactly one run per tick, leases, history.
//!
//! Does: insert due runs, lease and run them, keep their history; the task `purge`.
//! Does not: know what other tasks do beyond their name and settings; serve HTTP.
//! Units: times in milliseconds since 1970 UTC from the store's clock; schedules in IANA zones.
//! Errors: a failed run is kept with its reason and tried again as far as its job allows.
//! Source: POSIX cron fields, IANA time zones.

mod meters;
mod purge;
mod scheduler;
mod task;
mod worker;

pub use purge::Purge;
pub use scheduler::{Scheduler, SchedulerParts};
pub use task::{Task, TaskContext, TaskError, Tasks};
pub use worker::LEASE_MS;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
