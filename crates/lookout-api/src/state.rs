//! What every handler can reach: the parts, and the settings of the moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use lookout_bus::Bus;
use lookout_chain::{Chain, Chains, Wants};
use lookout_store::{JobKinds, Store};
use lookout_types::{ChainId, Clock};
use lookout_warehouse::Warehouse;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ApiParts;
use crate::abi_cache::AbiCache;
use crate::config::{ApiConfig, Network};
use crate::error::ApiError;
use crate::limit::Limiters;
use crate::oidc::Verifier;
use crate::progress::Progress;
use crate::slots::Slots;

/// Exports at once, of one caller and of all: each keeps one of the warehouse's few readers busy.
const EXPORTS_EACH_MAX: u32 = 2;
const EXPORTS_MAX: u32 = 4;
/// Live streams at once, of one caller and of all: one that catches up holds a few megabytes.
const STREAMS_EACH_MAX: u32 = 16;
const STREAMS_MAX: u32 = 512;
/// Statistics counted at once: half of the warehouse's readers, so that pages get theirs.
const TALLIES_MAX: usize = 2;

/// Shared by all handlers; cloning is counting.
pub(crate) type Shared = Arc<State>;

/// The parts behind the routes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) chains: Chains,
    pub(crate) store: Store,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) job_kinds: Arc<dyn JobKinds>,
    /// What of each followed chain is kept.
    pub(crate) follows: HashMap<ChainId, Wants>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) version: &'static str,
    /// Whether only health and metrics are served.
    pub(crate) probes_only: bool,
    /// ABIs by name, parsed.
    pub(crate) abis: AbiCache,
    /// Exports under way.
    pub(crate) exports: Slots,
    /// Live streams under way.
    pub(crate) streams: Slots,
    /// Statistics that may be counted at once; others wait for their turn.
    pub(crate) tallies: Semaphore,
    /// Cancelled when the server ends, so that answers without an end find theirs.
    pub(crate) stopping: CancellationToken,
    live: ArcSwap<Live>,
}

/// What a reload replaces.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) config: ApiConfig,
    pub(crate) limiters: Arc<Limiters>,
    pub(crate) oidc: Option<Arc<Verifier>>,
    proxies: Vec<Network>,
}

impl State {
    pub(crate) fn new(parts: ApiParts) -> Shared {
        let ApiParts { chains, store, warehouse, bus, job_kinds, follows, .. } = parts;
        let ApiParts { progress, prometheus, config, clock, version, probes_only, .. } = parts;
        let live = ArcSwap::from_pointee(Live::new(config, None));
        Arc::new(Self {
            chains,
            store,
            warehouse,
            bus,
            job_kinds,
            progress,
            follows,
            prometheus,
            clock,
            version,
            probes_only,
            abis: AbiCache::new(),
            exports: Slots::new("exports", EXPORTS_EACH_MAX, EXPORTS_MAX),
            streams: Slots::new("streams", STREAMS_EACH_MAX, STREAMS_MAX),
            tallies: Semaphore::new(TALLIES_MAX),
            stopping: CancellationToken::new(),
            live,
        })
    }

    /// The settings of the moment; one request sees one set from its beginning to its end.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Swaps the settings. What did not change keeps its state: buckets stay as full as they are.
    pub(crate) fn reload(&self, config: ApiConfig) {
        let before = self.live();
        self.live.store(Arc::new(Live::new(config, Some(&before))));
    }

    /// The chain of a name, a decimal id or a CAIP-2 id.
    pub(crate) fn chain(&self, text: &str) -> Result<Arc<Chain>, ApiError> {
        let unknown = match self.chains.get(text) {
            Ok(chain) => return Ok(chain),
            Err(error) => error,
        };
        let by_id = text
            .parse::<ChainId>()
            .ok()
            .and_then(|id| self.chains.list().into_iter().find(|chain| chain.id() == id));
        by_id.ok_or_else(|| unknown.into())
    }
}

impl Live {
    fn new(config: ApiConfig, before: Option<&Self>) -> Self {
        if let Err(error) = config.check() {
            tracing::error!(%error, "a setting of the HTTP surface is not used");
        }
        let limiters = match before {
            Some(before) if before.config.limits == config.limits => before.limiters.clone(),
            _ => Arc::new(Limiters::new(config.limits)),
        };
        let oidc = match before {
            Some(before) if before.config.oidc == config.oidc => before.oidc.clone(),
            _ => config.oidc.clone().map(|oidc| Arc::new(Verifier::new(oidc))),
        };
        let proxies = config.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect();
        Self { config, limiters, oidc, proxies }
    }

    /// Whether `X-Forwarded-For` is believed when it comes from here.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }
}
