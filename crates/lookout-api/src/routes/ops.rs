//! Probes and metrics.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::chains::{UpstreamCount, count};
use crate::body;
use crate::error::{ApiError, Code};
use crate::progress::ChainProgress;
use crate::state::Shared;

/// Longest wait for the store in a probe; orchestrators give probes a second or a few.
const PING_MAX: Duration = Duration::from_secs(2);

/// That the process can serve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Readiness of everything that Lookout depends on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or `degraded` when some chain is not well.
    #[schema(example = "ready")]
    status: &'static str,
    /// Lookout's version.
    version: &'static str,
    /// The store.
    store: Part,
    /// The chains, by name.
    chains: Vec<ChainReadiness>,
}

/// One dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Part {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// One chain's readiness.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainReadiness {
    /// Its configured name.
    #[schema(example = "ethereum")]
    name: String,
    /// `ok`; `degraded` when some upstream is not healthy, or following it is troubled; `down` without
    /// a head.
    #[schema(example = "ok")]
    status: &'static str,
    /// Whether everything of this process that follows it is at work: `ok`, or `troubled` when a part
    /// waits or has stopped, as `/v1/chains/{chain}/follow` says in full; `null` when none does.
    #[schema(example = "ok")]
    following: Option<&'static str>,
    /// Height of the newest agreed block.
    head: Option<u64>,
    /// Its upstreams, counted.
    upstreams: UpstreamCount,
}

/// Alive
///
/// 200 while the process can serve. Asks nothing else.
#[utoipa::path(
    get, path = "/healthz", tag = "compatible", operation_id = "healthz",
    responses((status = 200, description = "It can", body = Health))
)]
pub(crate) async fn healthz() -> Result<Response, ApiError> {
    body::json_of(&Health { status: "ok" })
}

/// Ready
///
/// Each dependency with its state. 503 when the store is down or no chain has a head; a chain that
/// is not well alone does not fail readiness. Open to everybody: it names chains, never upstreams
/// or URLs.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "readyz",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready: the members of the 200 answer, as a problem",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn readyz(State(state): State<Shared>) -> Result<Response, ApiError> {
    let store = match tokio::time::timeout(PING_MAX, state.store.ping()).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", PING_MAX.as_millis())),
    };
    let chains = state.chains.list();
    let chains: Vec<_> = chains
        .iter()
        .map(|chain| {
            let upstreams = count(&chain.upstreams());
            let head = chain.heads().map(|heads| heads.latest.number);
            let progress = state.progress.of(chain.id());
            chain_readiness(chain.name(), head, upstreams, following(&progress))
        })
        .collect();
    answer(readiness(state.version, store.is_ok(), chains), store.err())
}

fn following(progress: &ChainProgress) -> Option<&'static str> {
    if *progress == ChainProgress::default() {
        return None;
    }
    Some(if progress.is_troubled() { "troubled" } else { "ok" })
}

fn chain_readiness(
    name: &str,
    head: Option<u64>,
    upstreams: UpstreamCount,
    following: Option<&'static str>,
) -> ChainReadiness {
    let well = upstreams.healthy == upstreams.total && following != Some("troubled");
    let status = match head {
        None => "down",
        Some(_) if well => "ok",
        Some(_) => "degraded",
    };
    ChainReadiness { name: name.to_owned(), status, following, head, upstreams }
}

fn readiness(version: &'static str, store: bool, chains: Vec<ChainReadiness>) -> Readiness {
    let status = if !store || chains.iter().all(|chain| chain.head.is_none()) {
        "unavailable"
    } else if chains.iter().any(|chain| chain.status != "ok") {
        "degraded"
    } else {
        "ready"
    };
    let store = Part { status: if store { "ok" } else { "down" } };
    Readiness { status, version, store, chains }
}

fn answer(report: Readiness, store_failure: Option<String>) -> Result<Response, ApiError> {
    if report.status != "unavailable" {
        return body::json_of(&report);
    }
    let detail = if report.store.status == "down" {
        "the store cannot be reached"
    } else {
        "no chain has a head yet"
    };
    let mut error = ApiError::new(Code::Unavailable, detail);
    error.internal = store_failure;
    let Readiness { version, store, chains, .. } = report;
    for (name, value) in
        [("version", json!(version)), ("store", json!(store)), ("chains", json!(chains))]
    {
        error.members.insert(name.to_owned(), value);
    }
    Err(error)
}

/// Metrics
///
/// Prometheus text. Open to everybody who can reach the server, like the probes: scrapers rarely
/// carry credentials, and there is nothing of a tenant in it. Keep the path behind the proxy if
/// the server faces the internet.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses((status = 200, description = "The metrics", body = String,
        content_type = "text/plain; version=0.0.4"))
)]
pub(crate) async fn metrics(State(state): State<Shared>) -> Response {
    let text = state.prometheus.render();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Activity, STOPPED};

    fn chain(head: Option<u64>, healthy: usize) -> ChainReadiness {
        chain_readiness("a", head, UpstreamCount { total: 2, healthy }, None)
    }

    #[test]
    fn a_chain_whose_consumer_waits_is_degraded() {
        let activity =
            |problem: Option<&str>| Activity { state: "running", problem: problem.map(Into::into) };
        let of = |problem| ChainProgress { publisher: None, consumers: vec![("rules", problem)] };
        for (progress, expected, status) in [
            (ChainProgress::default(), None, "ok"),
            (of(activity(None)), Some("ok"), "ok"),
            (of(activity(Some("the disk is full"))), Some("troubled"), "degraded"),
            (of(Activity { state: STOPPED, problem: None }), Some("troubled"), "degraded"),
        ] {
            let following = following(&progress);
            assert_eq!(following, expected);
            let count = UpstreamCount { total: 1, healthy: 1 };
            assert_eq!(chain_readiness("a", Some(1), count, following).status, status);
        }
    }

    #[test]
    fn readiness_follows_the_store_and_the_heads() {
        for (store, chains, status) in [
            (true, vec![chain(Some(1), 2)], "ready"),
            (true, vec![chain(Some(1), 1)], "degraded"),
            (true, vec![chain(Some(1), 2), chain(None, 0)], "degraded"),
            (true, vec![chain(None, 0)], "unavailable"),
            (true, vec![], "unavailable"),
            (false, vec![chain(Some(1), 2)], "unavailable"),
        ] {
            let report = readiness("0", store, chains);
            assert_eq!(report.status, status, "{report:?}");
            assert_eq!(answer(report, None).is_ok(), status != "unavailable");
        }
    }

    #[test]
    fn an_unready_answer_lists_the_parts_and_hides_the_cause() {
        let report = readiness("0", false, vec![chain(None, 0)]);
        let error = answer(report, Some("disk of host db1 is full".into())).unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        assert_eq!(error.members["store"]["status"], "down");
        assert_eq!(error.members["chains"][0]["status"], "down");
        assert!(!error.detail.contains("db1"));
    }
}
