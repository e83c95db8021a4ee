//! Logs, traces and metrics of this process.

use std::io::IsTerminal as _;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::config::{LogFormat, Settings};
use crate::failure::Failure;
use crate::otlp;

/// Bounds of every `*_seconds` histogram: cached answers take tens of microseconds, an upstream's
/// last chance tens of seconds.
const SECONDS_BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Bounds of every `*_blocks` histogram: reorgs are mostly of one block, at most of some epochs.
const BLOCKS_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// What is traced, whatever the log shows: a span per request is worth exporting, not logging.
const TRACE_FILTER: &str = "info,lookout=debug,lookout_api=debug,lookout_chain=debug";

/// What has been set up, to be changed on reload and ended at exit.
pub(crate) struct Telemetry {
    pub(crate) prometheus: PrometheusHandle,
    filter: Handle<EnvFilter, Registry>,
    /// Whether `LOOKOUT_LOG` stands above the configuration.
    overridden: bool,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets everything up for the process; possible once.
    pub(crate) fn start(settings: &Settings, log_override: Option<&str>) -> Result<Self, Failure> {
        let filter = match log_override {
            Some(text) => EnvFilter::try_new(text)
                .map_err(|e| Failure::usage(format!("LOOKOUT_LOG: not a log filter: {e}")))?,
            None => settings.log_filter(),
        };
        let traces = settings.otlp_endpoint().map(otlp::provider).transpose()?;
        let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
        let spans = || EnvFilter::new(TRACE_FILTER);
        let registry = tracing_subscriber::registry()
            .with(log_layer(settings.log_format()).with_filter(filter))
            .with(traces.as_ref().map(|traces| otlp::layer(traces).with_filter(spans())));
        let twice = |e: &dyn std::fmt::Display| Failure::failed(format!("cannot set up: {e}"));
        registry.try_init().map_err(|e| twice(&e))?;
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                let blocks = Matcher::Suffix("_blocks".to_owned());
                builder.set_buckets_for_metric(blocks, &BLOCKS_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| twice(&e))?;
        Ok(Self { prometheus, filter: handle, overridden: log_override.is_some(), traces })
    }

    /// Takes over the log level of a new configuration.
    pub(crate) fn reload(&self, settings: &Settings) {
        if self.overridden {
            return;
        }
        if let Err(error) = self.filter.reload(settings.log_filter()) {
            tracing::warn!(%error, "cannot change the log level");
        }
    }

    /// Sends what is left of the traces.
    pub(crate) async fn stop(&self) {
        let Some(traces) = self.traces.clone() else { return };
        // It blocks until the collector has answered or its own time limit is over.
        let done = tokio::task::spawn_blocking(move || traces.shutdown()).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces could not be sent"),
            Err(error) => tracing::warn!(%error, "the last traces could not be sent"),
        }
    }
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}
