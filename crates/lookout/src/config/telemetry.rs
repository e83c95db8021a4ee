//! `[telemetry]`: where traces go.

use super::endpoint::Endpoint;
use super::section::{Check, section};

section! {
    /// Where traces go.
    TelemetrySection {
        /// OTLP collector, over HTTP with protobuf, such as `http://localhost:4318`; `/v1/traces`
        /// is added when it has no path. Not set: no traces are sent.
        otlp_endpoint: Option<Endpoint> = None,
    }
}

impl Check for TelemetrySection {}
