//! The middleware around handlers that misbehave.

use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::ApiConfig;
use crate::testing::{Got, TestApi, config};

/// Puts the middleware around a handler of the test's own.
async fn through<H, T>(config: ApiConfig, waits: bool, handler: H) -> Got
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    let api = TestApi::start(config).await;
    let mut info = RouteInfo::new("/test", Access::Probe);
    info.waits = waits;
    let front = Front { state: api.api.state.clone(), route: Arc::new(info) };
    let router = axum::Router::new().route("/test", get(handler).layer(front));
    let request = Request::get("/test").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Got { status: parts.status, headers: parts.headers, text }
}

#[tokio::test]
async fn a_panic_becomes_a_problem_without_its_text() {
    async fn handler() {
        panic!("secret of row 7");
    }
    let got = through(config(), false, handler).await;
    let detail = got.problem(500, "internal");
    assert!(!got.text.contains("row 7"), "{detail}");
}

#[tokio::test]
async fn a_handler_that_waits_is_cut_off_in_time() {
    let config = ApiConfig { request_timeout: Duration::from_millis(20), ..config() };
    let got = through(config, true, std::future::pending::<()>).await;
    assert!(got.problem(504, "timeout").contains("20 ms"));
}

#[test]
fn requests_are_counted_by_route_method_and_class() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ::metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let api = TestApi::start(config()).await;
            api.get("/healthz").await;
            api.get("/healthz").await;
            api.get("/v1/chains/nope").await;
            api.get("/nowhere").await;
            let wrong = [("x-api-key", "lk_wrong")];
            api.call(Method::GET, "/v1/chains", &wrong, "").await;
        });
    });
    let text = handle.render();
    for line in [
        r#"lookout_http_requests_total{route="/healthz",method="GET",status="2xx"} 2"#,
        r#"lookout_http_requests_total{route="/v1/chains/{chain}",method="GET",status="4xx"} 1"#,
        r#"lookout_http_requests_total{route="unknown",method="GET",status="4xx"} 1"#,
        r#"lookout_auth_failures_total{reason="unknown_key"} 1"#,
        r#"lookout_http_request_duration_seconds_count{route="/healthz"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
