//! Traces to an OpenTelemetry collector: OTLP over HTTP with protobuf.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Endpoint;
use crate::failure::Failure;

/// Longest that the collector may take for one batch; traces are not worth waiting for.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The path of traces under a collector's address, as OTLP over HTTP fixes it.
const TRACES_PATH: &str = "/v1/traces";

/// Starts sending to the collector. Must be called inside the runtime.
pub(crate) fn provider(endpoint: &Endpoint) -> Result<SdkTracerProvider, Failure> {
    let mut url = endpoint.0.clone();
    if url.path() == "/" {
        url.set_path(TRACES_PATH);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(url.as_str())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|_| Failure::usage(format!("cannot send traces to {endpoint}")))?;
    let exporter = RuntimeExporter {
        inner: Arc::new(exporter),
        runtime: Handle::current(),
        collector: endpoint.to_string(),
        failing: AtomicBool::new(false),
    };
    let resource = Resource::builder()
        .with_service_name("lookout")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    Ok(builder.with_batch_exporter(exporter).build())
}

/// Turns spans into traces.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("lookout"));
    // What sends the traces may not add to them.
    let own = ["opentelemetry", "hyper", "h2", "reqwest"];
    layer
        .with_filter(filter_fn(move |meta| !own.iter().any(|part| meta.target().starts_with(part))))
}

/// The batching thread of the SDK is outside the runtime, which the HTTP client needs: each export
/// runs on the runtime while that thread waits.
#[derive(Debug)]
struct RuntimeExporter {
    inner: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    /// Where it sends, without secrets.
    collector: String,
    /// Whether the last export failed: said once, not for every batch.
    failing: AtomicBool,
}

impl SpanExporter for RuntimeExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let inner = Arc::clone(&self.inner);
        let task = self.runtime.spawn(async move { inner.export(batch).await });
        let result =
            task.await.unwrap_or_else(|e| Err(OTelSdkError::InternalFailure(e.to_string())));
        let failed = result.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            let collector = self.collector.as_str();
            if failed {
                tracing::warn!(collector, "the collector does not take traces; they are dropped");
            } else {
                tracing::info!(collector, "the collector takes traces again");
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Called once, before any export shares the exporter.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_span_reaches_the_collector_before_the_shutdown_ends() {
        // Another test may have been faster; either way it is there.
        rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
            while !request.windows(8).any(|part| part == b"a-thing!") {
                let length = socket.read(&mut chunk).await.unwrap();
                assert_ne!(length, 0, "the request ended early");
                request.extend_from_slice(&chunk[..length]);
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let provider = provider(&format!("http://{address}").parse().unwrap()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("request", what = "a-thing!").in_scope(|| {});
        });
        let stopped = tokio::task::spawn_blocking(move || provider.shutdown());
        stopped.await.unwrap().unwrap();
        let request = collector.await.unwrap();
        assert!(request.starts_with("POST /v1/traces HTTP/1.1"), "{request}");
        assert!(request.contains("service.name"), "{request}");
    }
}
