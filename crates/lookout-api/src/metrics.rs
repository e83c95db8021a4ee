//! Counters of the HTTP surface, with handles made once so that a request allocates nothing.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

const REQUESTS: &str = "lookout_http_requests_total";
const DURATION: &str = "lookout_http_request_duration_seconds";
const RATE_LIMITED: &str = "lookout_rate_limited_total";
const AUTH_FAILURES: &str = "lookout_auth_failures_total";

const DECODE_FAILURES: &str = "lookout_decode_failures_total";

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "DELETE", "PUT", "other"];
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The counters of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    route: &'static str,
    // Made at the first use, so that `/metrics` lists only what has happened.
    requests: [[OnceLock<Counter>; CLASSES.len()]; METHODS.len()],
    duration: OnceLock<Histogram>,
}

impl RouteMetrics {
    pub(crate) fn new(route: &'static str) -> Self {
        Self { route, requests: Default::default(), duration: OnceLock::new() }
    }

    pub(crate) fn record(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::POST => 2,
            Method::DELETE => 3,
            Method::PUT => 4,
            _ => 5,
        };
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        self.requests[method][class]
            .get_or_init(|| {
                counter!(
                    REQUESTS, "route" => self.route,
                    "method" => METHODS[method], "status" => CLASSES[class],
                )
            })
            .increment(1);
        self.duration.get_or_init(|| histogram!(DURATION, "route" => self.route)).record(took);
    }
}

/// Texts of `# HELP`; call once after the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "HTTP requests answered, by route, method and status class");
    describe_histogram!(DURATION, metrics::Unit::Seconds, "Time from request head to answer head");
    describe_counter!(RATE_LIMITED, "Requests refused by a rate limit");
    describe_counter!(AUTH_FAILURES, "Requests refused for their credentials, by reason");
    describe_counter!(DECODE_FAILURES, "Logs shown raw because an ABI that was named does not fit");
}

pub(crate) fn rate_limited() {
    counter!(RATE_LIMITED).increment(1);
}

pub(crate) fn auth_failed(reason: &'static str) {
    counter!(AUTH_FAILURES, "reason" => reason).increment(1);
}

pub(crate) fn decode_failed() {
    counter!(DECODE_FAILURES).increment(1);
}
