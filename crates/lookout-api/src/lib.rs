//! The HTTP surface: routes, auth, limits, errors, OpenAPI.
//!
//! Does: serve chains, keys and operation over HTTP; admit callers; describe itself.
//! Does not: read chains or databases by itself, read configuration files, write to a terminal.
//! Units: amounts in the smallest unit as decimal strings; times RFC 3339 UTC; JSON in camelCase.
//! Errors: `application/problem+json` with a stable `code`; internal causes go to the log only.
//! Source: RFC 9110 (HTTP), RFC 9457 (problems), RFC 6750 (bearer), JSON-RPC 2.0, EIP-1474,
//! draft-ietf-httpapi-idempotency-key-header.

mod abi_cache;
mod auth;
mod body;
mod browser;
mod client;
mod config;
mod document;
mod error;
mod extract;
mod idempotency;
mod limit;
mod metrics;
mod middleware;
mod oidc;
mod origin;
mod page;
mod piped;
mod problem;
mod progress;
mod provenance;
mod request_id;
mod router;
mod routes;
mod server;
mod slots;
mod state;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use axum::Router;
use lookout_bus::Bus;
use lookout_chain::{Chains, Wants};
use lookout_store::{JobKinds, NewChannel, Store};
use lookout_types::{ChainId, Clock, UnixMillis};
use lookout_warehouse::Warehouse;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{ApiConfig, ChannelSettings, ConfigError, Limits, OidcConfig};
pub use progress::{Activity, ChainProgress, Progress, PublisherProgress, STOPPED};

/// What the HTTP surface is made of.
#[derive(Debug)]
pub struct ApiParts {
    /// The chains to read.
    pub chains: Chains,
    /// Keys, tenants and the audit log.
    pub store: Store,
    /// Events and transfers of the followed chains.
    pub warehouse: Arc<dyn Warehouse>,
    /// The frames of the followed chains.
    pub bus: Arc<dyn Bus>,
    /// The kinds of jobs there are.
    pub job_kinds: Arc<dyn JobKinds>,
    /// What of each followed chain is kept; chains that are not followed are missing.
    pub follows: HashMap<ChainId, Wants>,
    /// How the parts that follow chains are doing.
    pub progress: Arc<dyn Progress>,
    /// What `/metrics` shows; its recorder must be installed before [`Api::new`].
    pub prometheus: PrometheusHandle,
    /// Settings; [`ApiConfig::check`] tells beforehand whether they can be used.
    pub config: ApiConfig,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Version of the binary.
    pub version: &'static str,
    /// Whether only health and metrics are served.
    pub probes_only: bool,
}

/// The HTTP surface.
#[derive(Debug)]
pub struct Api {
    state: state::Shared,
}

impl Api {
    /// Puts the parts together. Opens nothing yet.
    pub fn new(parts: ApiParts) -> Self {
        metrics::describe();
        Self { state: state::State::new(parts) }
    }

    /// Swaps the settings as a whole; requests under way keep those they began with.
    pub fn reload(&self, config: ApiConfig) {
        self.state.reload(config);
    }

    /// Serves connections until cancelled, then up to ten seconds those still busy.
    ///
    /// # Errors
    /// None today; kept for a listener that fails for good.
    pub async fn serve(&self, listener: TcpListener, cancel: CancellationToken) -> io::Result<()> {
        server::serve(self.state.clone(), self.router(), listener, cancel).await
    }

    /// All routes with the middleware, for calling them in process.
    pub fn router(&self) -> Router {
        router::router(&self.state)
    }
}

/// The channel that a body of `POST /v1/channels` asks for, for the command line.
///
/// # Errors
/// A sentence that says what is wrong with the body.
pub fn new_channel(
    tenant: &str,
    body: &serde_json::Value,
    settings: &ChannelSettings,
    now: UnixMillis,
) -> Result<NewChannel, String> {
    let body = body.to_string();
    let read = routes::channels::new_channel(tenant, body.as_bytes(), settings, now);
    read.map_err(|error| error.detail.to_string())
}

/// The OpenAPI 3.1 document, indented, as `lookout openapi` prints it.
pub fn openapi_json() -> String {
    let text = router::openapi().to_pretty_json();
    // The document is made of constants, so a failure would fail every test.
    text.unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
