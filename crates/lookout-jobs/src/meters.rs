//! What the scheduler counts.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

const RUNS: &str = "lookout_job_runs_total";
const MISSED: &str = "lookout_job_ticks_missed_total";
const LATENESS: &str = "lookout_job_start_lateness_seconds";
const DURATION: &str = "lookout_job_run_duration_seconds";

pub(crate) fn describe() {
    describe_counter!(RUNS, "Attempts at runs of jobs, by kind and how they ended");
    describe_counter!(MISSED, "Ticks of jobs that were not run");
    describe_histogram!(LATENESS, Unit::Seconds, "From a tick to the first attempt at its run");
    describe_histogram!(DURATION, Unit::Seconds, "How long attempts at runs took");
}

pub(crate) fn missed(ticks: i64) {
    counter!(MISSED).increment(u64::try_from(ticks).unwrap_or(0));
}

pub(crate) fn started(kind: &'static str, late: Duration) {
    histogram!(LATENESS, "kind" => kind).record(late);
}

pub(crate) fn ended(kind: &'static str, outcome: &'static str, took: Duration) {
    counter!(RUNS, "kind" => kind, "outcome" => outcome).increment(1);
    histogram!(DURATION, "kind" => kind).record(took);
}
