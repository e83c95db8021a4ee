//! The one function around every handler: request id, admission, timing, problems.
//!
//! Written by hand instead of as a stack of layers because a cached read spends more time in
//! such a stack than in its handler. Compression and CORS are layers, but only a request that
//! asks for one passes through them.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use futures_util::{FutureExt, TryFutureExt};
use http::header::{ACCEPT_ENCODING, HOST, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method};
use tower::{Layer, Service, ServiceExt};
use tracing::Instrument;

use crate::auth::{self, Caller};
use crate::browser;
use crate::client;
use crate::error::{ApiError, Code};
use crate::idempotency::{self, Keyed};
use crate::limit::Allowance;
use crate::metrics;
use crate::problem::{self, Occasion};
use crate::request_id::{self, X_REQUEST_ID};
use crate::router::{Access, RouteInfo};
use crate::state::{Live, Shared};

/// Longest request target. Every route's own fits in a few hundred bytes.
const URL_BYTES_MAX: usize = 8 << 10;

/// Puts the middleware around a route.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) state: Shared,
    pub(crate) route: Arc<RouteInfo>,
}

impl Layer<Route> for Front {
    type Service = Guarded;

    fn layer(&self, inner: Route) -> Guarded {
        Guarded { front: self.clone(), inner, bare: false }
    }
}

/// A route with the middleware around it.
#[derive(Clone)]
pub(crate) struct Guarded {
    front: Front,
    inner: Route,
    /// Whether compression and CORS are already around this one.
    bare: bool,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answering {
        let Self { front, inner, bare } = self.clone();
        let across = !bare && browser::crosses_origins(&front.state, &request);
        let compress = !bare && request.headers().contains_key(ACCEPT_ENCODING);
        if !across && !compress {
            return Box::pin(answer(front, inner, request).map(Ok));
        }
        let live = front.state.live();
        let compressed = browser::compression().layer(Self { front, inner, bare: true });
        if !across {
            return Box::pin(
                compressed.oneshot(request).map_ok(|response| response.map(Body::new)),
            );
        }
        let dressed = browser::cors(&live.config.cors_origins).layer(compressed);
        Box::pin(dressed.oneshot(request).map_ok(|response| response.map(Body::new)))
    }
}

/// Who is behind a request, for handlers that need to know.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) caller: Caller,
    pub(crate) address: IpAddr,
}

/// What admission found out.
struct Admitted {
    visitor: Option<Visitor>,
    allowance: Option<Allowance>,
}

async fn answer(front: Front, inner: Route, request: Request) -> Response {
    let started = Instant::now();
    let Front { state, route } = front;
    let live = state.live();
    // Apart from its body, which cannot be looked at from two threads.
    let (mut parts, body) = request.into_parts();
    let request_id = request_id::of(&parts.headers, state.clock.now());
    // Needed for problems only, but by then the request is gone.
    let uri = parts.uri.clone();
    let method = parts.method.clone();
    let (mut response, allowance) = match admit(&state, &live, &route, &parts).await {
        Ok(Admitted { visitor, allowance }) => {
            let limit = route.waits.then_some(live.config.request_timeout);
            let key = idempotency::key_of(&route, &parts);
            let keyed = matches!(key, Ok(Some(_)));
            let caller = visitor.as_ref().filter(|_| keyed).map(|visitor| visitor.caller.clone());
            if let Some(visitor) = visitor.filter(|_| route.access == Access::Caller) {
                parts.extensions.insert(visitor);
            }
            let response = match (key, caller) {
                (Ok(Some(key)), Some(caller)) => {
                    let id = request_id.clone();
                    let keyed = Keyed { key, caller, parts, body, request_id: id.clone() };
                    let of = Arc::clone(&route);
                    let run = async move |request| run(inner, request, &of, &id, limit).await;
                    idempotency::once(&state, &route, keyed, run).await
                }
                (Err(error), _) => error.into_response(),
                _ => {
                    let request = Request::from_parts(parts, body);
                    run(inner, request, &route, &request_id, limit).await
                }
            };
            (response, allowance)
        }
        Err(refused) => {
            let (error, allowance) = *refused;
            (error.into_response(), allowance)
        }
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let id = request_id.to_str().unwrap_or("-");
        let occasion = Occasion { path: Some(uri.path()), request_id: Some(id), rpc: route.rpc };
        problem::complete(&mut response, &error, &occasion);
        log(&error, &route, &method, id, started.elapsed());
    }
    let headers = response.headers_mut();
    headers.reserve(6);
    headers.insert(X_REQUEST_ID, request_id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(allowance) = allowance {
        allowance.write(headers);
    }
    route.metrics.record(&method, response.status(), started.elapsed());
    response
}

type Refusal = Box<(ApiError, Option<Allowance>)>;

/// Whether the request may go to its handler.
async fn admit(
    state: &Shared,
    live: &Live,
    route: &RouteInfo,
    request: &Parts,
) -> Result<Admitted, Refusal> {
    // Probes and scrapers get through whatever else is wrong.
    if route.access == Access::Probe {
        check_query(route, request).map_err(|error| Box::new((error, None)))?;
        return Ok(Admitted { visitor: None, allowance: None });
    }
    // The address first: guessing keys is limited too.
    let address = client::address(request, live);
    let by_address = live
        .limiters
        .take_address(address, NonZeroU32::MIN)
        .map_err(|refused| too_many(*refused))?;
    let with =
        |by_address: &Option<Allowance>, error: ApiError| Box::new((error, by_address.clone()));
    check_query(route, request).map_err(|error| with(&by_address, error))?;
    if route.access == Access::Page || request.method == Method::OPTIONS {
        return Ok(Admitted { visitor: None, allowance: by_address });
    }
    let caller = auth::identify(state, live, &request.headers, host(request))
        .await
        .map_err(|error| with(&by_address, error))?;
    let by_key = match caller.bucket() {
        Some(id) => {
            live.limiters.take_key(id, NonZeroU32::MIN).map_err(|refused| too_many(*refused))?
        }
        None => None,
    };
    let allowance = Allowance::tighter(by_address, by_key);
    if let Access::Scope(scope) = route.access {
        caller.require(scope).map_err(|error| with(&allowance, error))?;
    }
    Ok(Admitted { visitor: Some(Visitor { caller, address }), allowance })
}

fn too_many((error, allowance): (ApiError, Allowance)) -> Refusal {
    metrics::rate_limited();
    Box::new((error, Some(allowance)))
}

/// Counts a batch by its calls: takes what exceeds the one cell that admission took.
pub(crate) fn charge(live: &Live, visitor: &Visitor, further_calls: usize) -> Result<(), ApiError> {
    let cells = u32::try_from(further_calls).unwrap_or(u32::MAX);
    let Some(cells) = NonZeroU32::new(cells) else { return Ok(()) };
    let by_address = live.limiters.take_address(visitor.address, cells);
    let taken = by_address.and_then(|_| match visitor.caller.bucket() {
        Some(id) => live.limiters.take_key(id, cells),
        None => Ok(None),
    });
    taken.map(|_| ()).map_err(|refused| {
        metrics::rate_limited();
        refused.0
    })
}

/// The host as the client wrote it: in the request line or in `Host`.
fn host(request: &Parts) -> Option<&str> {
    let in_target = request.uri.authority().map(|authority| authority.as_str());
    in_target.or_else(|| request.headers.get(HOST).map(|host| host.to_str().unwrap_or("?")))
}

/// Refuses long URLs, and query parameters that the route's documentation does not list.
fn check_query(route: &RouteInfo, request: &Parts) -> Result<(), ApiError> {
    let uri = &request.uri;
    let target_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if target_bytes > URL_BYTES_MAX {
        let detail = format!("a URL has at most {URL_BYTES_MAX} bytes, this one {target_bytes}");
        return Err(ApiError::new(Code::UrlTooLong, detail));
    }
    match uri.query() {
        None | Some("") => Ok(()),
        Some(query) => route.check_query(&request.method, query),
    }
}

/// Runs the handler: within its time, and without letting a panic take the connection along.
async fn run(
    mut inner: Route,
    request: Request,
    route: &RouteInfo,
    request_id: &HeaderValue,
    limit: Option<Duration>,
) -> Response {
    let span = tracing::debug_span!(
        "request",
        route = route.path,
        request_id = request_id.to_str().unwrap_or("-")
    );
    let handler = AssertUnwindSafe(inner.call(request)).catch_unwind();
    let handler = async move {
        match handler.await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => ApiError::internal(panic_text(panic.as_ref())).into_response(),
        }
    };
    let timed = async move {
        let Some(limit) = limit else { return handler.await };
        match tokio::time::timeout(limit, handler).await {
            Ok(response) => response,
            Err(_) => {
                let detail = format!("the request took longer than {} ms", limit.as_millis());
                ApiError::new(Code::Timeout, detail).into_response()
            }
        }
    };
    if span.is_disabled() { timed.await } else { timed.instrument(span).await }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("without a text"))
}

/// Logs what is the server's trouble, once; what is the client's is in the metrics.
fn log(error: &ApiError, route: &RouteInfo, method: &Method, request_id: &str, took: Duration) {
    if !error.code.status().is_server_error() {
        return;
    }
    let cause = error.internal.as_deref().unwrap_or(&error.detail);
    let (route, code) = (route.path, error.code.name());
    let duration_ms = took.as_millis();
    if error.code == Code::Internal {
        tracing::error!(%method, route, code, request_id, duration_ms, cause, "request failed");
    } else {
        tracing::warn!(%method, route, code, request_id, duration_ms, cause, "request failed");
    }
}

#[cfg(test)]
mod tests;
