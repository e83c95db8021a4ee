//! A whole API in process, on an empty store and chains whose upstreams nobody listens on.

use std::sync::{Arc, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode};
use lookout_bus::{Bus, BusUrl};
use lookout_chain::{ChainSpec, Chains, PoolSettings, UpstreamSpec, Wants};
use lookout_store::{Actor, JobKinds, NewKey, Scopes, Store, StoreUrl};
use lookout_types::{ChainId, FixedClock, Frame};
use lookout_warehouse::{Warehouse, WarehouseUrl};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Map, Value};
use tower::ServiceExt;

use crate::{Api, ApiConfig, ApiParts, ChainProgress, Limits, Progress};

/// What every test's clock shows: 2025-10-09.
pub(crate) const NOW_MS: i64 = 1_760_000_000_000;

/// The API and what it stands on.
pub(crate) struct TestApi {
    pub(crate) api: Api,
    pub(crate) store: Store,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) bus: Arc<dyn Bus>,
    router: Router,
    _folder: tempfile::TempDir,
}

/// The kinds of jobs of this API: `count`, with the one setting `step`, and `purge`.
#[derive(Debug)]
struct Kinds;

impl JobKinds for Kinds {
    fn names(&self) -> Vec<&'static str> {
        vec!["count", "purge"]
    }

    fn check(&self, kind: &str, settings: &Map<String, Value>) -> Option<Result<(), String>> {
        let unknown = settings.keys().find(|name| kind != "count" || *name != "step");
        let result = unknown.map_or(Ok(()), |name| Err(format!("no setting `{name}`")));
        self.names().contains(&kind).then_some(result)
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Settings under which no test is slowed or refused by a limit that it is not about.
pub(crate) fn config() -> ApiConfig {
    let limits = Limits { per_key_per_second: 0, per_address_per_second: 0, burst: 1 };
    ApiConfig { limits, ..ApiConfig::default() }
}

/// A chain without a single reachable upstream: port 9 of loopback discards.
fn unreachable(name: &str, id: u64) -> ChainSpec {
    let url = "http://127.0.0.1:9".parse().unwrap();
    ChainSpec {
        name: name.into(),
        id: ChainId(id),
        upstreams: vec![UpstreamSpec { name: "nobody".into(), url, requests_per_second: None }],
        settings: PoolSettings {
            call_timeout: Duration::from_millis(100),
            request_timeout: Duration::from_millis(200),
            ..PoolSettings::default()
        },
    }
}

/// Nothing follows anything.
#[derive(Debug)]
struct Idle;

impl Progress for Idle {
    fn of(&self, _: ChainId) -> ChainProgress {
        ChainProgress::default()
    }
}

impl TestApi {
    /// With the chains `ethereum` (1), followed whole, and `polygon` (137), not followed.
    pub(crate) async fn start(config: ApiConfig) -> Self {
        // Upstream clients speak TLS by the process's provider; a second installation is refused.
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider().install_default().ok();
        });
        let clock = Arc::new(FixedClock::at(NOW_MS));
        let store = Store::open(&StoreUrl::SqliteMemory, clock.clone()).await.unwrap();
        store.migrate().await.unwrap();
        let warehouse = lookout_warehouse::open(&WarehouseUrl::SqliteMemory).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bus = lookout_bus::open(&BusUrl::Local(folder.path().join("bus"))).await.unwrap();
        let whole = Wants { whole: true, ..Wants::default() };
        let specs = vec![unreachable("ethereum", 1), unreachable("polygon", 137)];
        let api = Api::new(ApiParts {
            chains: Chains::start(specs, 1 << 20),
            store: store.clone(),
            warehouse: warehouse.clone(),
            bus: bus.clone(),
            job_kinds: Arc::new(Kinds),
            follows: [(ChainId(1), whole)].into(),
            progress: Arc::new(Idle),
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
            config,
            clock: clock.clone(),
            version: "0.0.0-test",
            probes_only: false,
        });
        let router = api.router();
        Self { api, store, clock, warehouse, bus, router, _folder: folder }
    }

    /// A new key of the tenant.
    pub(crate) async fn key(&self, tenant: &str, scopes: &str) -> String {
        let scopes: Scopes = scopes.parse().unwrap();
        let new = NewKey { tenant: tenant.into(), name: "test".into(), scopes, expires_at: None };
        let (_, secret) = self.store.create_key(new, &Actor::Cli).await.unwrap();
        secret.expose().to_owned()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Got { status: parts.status, headers: parts.headers, text }
    }

    /// An answer whose body is still to be read.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// Commits frames as frames of chain 1, in the warehouse and on the bus.
    pub(crate) async fn feed(&self, frames: &[Arc<Frame>]) {
        let of_chain =
            |frame: &Arc<Frame>| Arc::new(Frame { chain: ChainId(1), ..(**frame).clone() });
        let frames: Vec<_> = frames.iter().map(of_chain).collect();
        self.warehouse.apply(frames.clone()).await.unwrap();
        let claim = self.bus.claim(ChainId(1)).await.unwrap();
        self.bus.publish(&claim, frames).await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.call(Method::GET, path, &[], "").await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a whole problem with that status and code; gives its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:lookout:problem:{code}"));
        assert_eq!(body["requestId"], self.header("x-request-id"));
        assert!(body["title"].is_string() && body["instance"].is_string());
        body["detail"].as_str().unwrap().to_owned()
    }
}

/// Waits until the condition holds, and not for ever.
pub(crate) async fn comes(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to pass");
}
