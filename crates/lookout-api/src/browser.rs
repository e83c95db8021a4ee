//! What only some clients ask for: compressed answers, and permission across origins.

use std::time::Duration;

use axum::extract::Request;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderName, Method};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::state::State;

/// Smaller bodies fit in one packet anyway.
const COMPRESS_ABOVE_BYTES: u64 = 1024;
/// How long a browser may remember a preflight; Chromium's own upper limit.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7200);

/// Headers that a page may send.
const REQUEST_HEADERS: [&str; 6] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-api-key",
    "x-request-id",
];
/// Headers that a page may read.
const RESPONSE_HEADERS: [&str; 12] = [
    "x-request-id",
    "idempotency-replayed",
    "location",
    "retry-after",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "lookout-level",
    "lookout-block-number",
    "lookout-block-hash",
    "lookout-upstream",
    "lookout-cache",
];

/// Whether a page of another origin asks, on a server that lets some of them.
pub(crate) fn crosses_origins(state: &State, request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(ORIGIN)
        // An OPTIONS that is no preflight is answered like any other.
        && (request.method() != Method::OPTIONS
            || headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD))
        && !state.live().config.cors_origins.is_empty()
}

type WorthIt = And<And<SizeAbove, NotForContentType>, NotForContentType>;

pub(crate) fn compression() -> CompressionLayer<WorthIt> {
    let worth_it = SizeAbove::new(COMPRESS_ABOVE_BYTES)
        .and(NotForContentType::IMAGES)
        // A compressor holds back what a live stream wants to show at once.
        .and(NotForContentType::SSE);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

pub(crate) fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    let names = |names: &[&'static str]| -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(names(&REQUEST_HEADERS))
        .expose_headers(names(&RESPONSE_HEADERS))
        .max_age(PREFLIGHT_AGE)
}
