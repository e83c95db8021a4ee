//! `lookout serve`: starts every part, waits for the end, ends every part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lookout_api::{Api, ApiParts};
use lookout_bus::Bus;
use lookout_chain::Chains;
use lookout_jobs::Tasks;
use lookout_store::Store;
use lookout_warehouse::Warehouse;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::cli::{Role, ServeArgs};
use crate::config::Settings;
use crate::exposure;
use crate::failure::Failure;
use crate::reload::{self, Running};
use crate::telemetry::Telemetry;
use crate::watch::{self, Ground, Instance, Progress};

/// Longest wait for requests under way at the end: container runtimes kill after 10 seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// How often histograms fold what was recorded since; between two scrapes at the usual 15 seconds.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
pub(crate) async fn serve(app: &App, args: ServeArgs) -> Result<String, Failure> {
    let settings = app.settings()?;
    let telemetry = Telemetry::start(&settings, app.log_override())?;
    let result = run(app, args, settings, &telemetry).await;
    telemetry.stop().await;
    result.map(|()| String::new())
}

async fn run(
    app: &App,
    args: ServeArgs,
    settings: Settings,
    telemetry: &Telemetry,
) -> Result<(), Failure> {
    settings.notices.iter().for_each(|notice| tracing::info!("{notice}"));
    let listen = args.listen.unwrap_or_else(|| settings.listen());
    let instance = Instance::claim(&settings)?;
    let parts = Parts::open(app, &settings).await?;
    exposure::check(listen, &settings, parts.store.has_keys().await?)?;
    let (listener, bound) = bind(listen).await?;
    // Before the first line that others may wait for, so that a signal sent then is heard.
    let mut ends = [listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?];
    let hangup = listen_for(SignalKind::hangup())?;

    let api = Arc::new(parts.api(app, &args, &settings, telemetry));
    tracing::info!(
        address = %bound,
        chains = settings.chains.len(),
        store = %settings.store(),
        "listening on http://{bound}"
    );

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(upkeep(telemetry.prometheus.clone(), stop.clone()));
    let Parts { chains, store, warehouse, bus, kinds, progress } = &parts;
    let mut publishers = watch::start(&Ground {
        settings: &settings,
        args: &args,
        chains,
        store,
        warehouse,
        bus,
        clock: &app.clock,
        instance: &instance,
        kinds,
        progress,
        tasks: &tasks,
        stop: &stop,
    })
    .await?;
    let server = {
        let (api, stop) = (Arc::clone(&api), stop.clone());
        tasks.spawn(async move { api.serve(listener, stop).await })
    };
    let running =
        Running { chains, publishers: &mut publishers, api: &api, store, telemetry, listen: bound };
    let ended = tokio::select! {
        () = reload::watch(app, settings, running, hangup) => Ok(()),
        result = server => server_ended(result),
        name = first(&mut ends) => {
            tracing::info!(signal = name, "ending after the requests under way");
            Ok(())
        }
    };
    stop.cancel();
    tasks.close();
    drain(&tasks, &mut ends).await;
    end(chains, store, &**warehouse, &**bus).await;
    ended
}

/// What every part of the server stands on.
struct Parts {
    chains: Chains,
    store: Store,
    warehouse: Arc<dyn Warehouse>,
    bus: Arc<dyn Bus>,
    kinds: Arc<Tasks>,
    progress: Arc<Progress>,
}

impl Parts {
    async fn open(app: &App, settings: &Settings) -> Result<Self, Failure> {
        let store = app.store(settings).await?;
        let warehouse = lookout_warehouse::open(settings.warehouse()).await?;
        let bus = lookout_bus::open(settings.bus()).await?;
        let chains = Chains::start(settings.chains.clone(), settings.cache_bytes_max());
        let kinds = Arc::new(watch::tasks(settings, &chains, &store, &warehouse));
        Ok(Self { chains, store, warehouse, bus, kinds, progress: Arc::default() })
    }

    fn api(&self, app: &App, args: &ServeArgs, settings: &Settings, telemetry: &Telemetry) -> Api {
        Api::new(ApiParts {
            chains: self.chains.clone(),
            store: self.store.clone(),
            warehouse: Arc::clone(&self.warehouse),
            bus: Arc::clone(&self.bus),
            job_kinds: Arc::clone(&self.kinds) as _,
            follows: settings.follows.iter().map(|f| (f.id, f.wants.clone())).collect(),
            progress: Arc::clone(&self.progress) as _,
            prometheus: telemetry.prometheus.clone(),
            config: settings.api(),
            clock: Arc::clone(&app.clock),
            version: env!("CARGO_PKG_VERSION"),
            probes_only: !args.takes(Role::Api),
        })
    }
}

/// Listens, and says where: the port may have been left open.
async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("cannot listen on {listen}: {e}"));
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::failed(format!("cannot listen for signals: {e}")))
}

/// Waits for the first of SIGTERM and SIGINT; its name.
async fn first(ends: &mut [Signal; 2]) -> &'static str {
    let [terminate, interrupt] = ends;
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

fn server_ended(
    result: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> Result<(), Failure> {
    match result {
        Ok(Ok(())) => Err(Failure::failed("the HTTP server ended by itself")),
        Ok(Err(e)) => Err(Failure::failed(format!("the HTTP server failed: {e}"))),
        Err(e) => Err(Failure::failed(format!("the HTTP server failed: {e}"))),
    }
}

/// Waits for the requests under way, up to the limit or a second signal.
async fn drain(tasks: &TaskTracker, ends: &mut [Signal; 2]) {
    tokio::select! {
        () = tasks.wait() => {}
        () = tokio::time::sleep(DRAIN_TIMEOUT) => {
            tracing::warn!(limit_ms = DRAIN_TIMEOUT.as_millis(), "requests under way were cut off");
        }
        name = first(ends) => {
            tracing::warn!(signal = name, "second signal: requests under way were cut off");
        }
    }
}

async fn end(chains: &Chains, store: &Store, warehouse: &dyn Warehouse, bus: &dyn Bus) {
    let parts = async {
        chains.stop();
        bus.close().await;
        warehouse.close().await;
        store.close().await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, parts).await.is_err() {
        tracing::warn!("not every part ended in time");
    }
    tracing::info!("ended");
}

/// Keeps the memory of histograms bounded where nobody scrapes them.
async fn upkeep(prometheus: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        prometheus.run_upkeep();
    }
}
