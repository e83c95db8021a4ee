//! All routes, each with who may call it.
//!
//! A route is registered once, here; the document and the metrics follow from that.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{Method, StatusCode};
use lookout_store::Scope;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{OpenApi, RefOr};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::document;
use crate::error::{ApiError, Code};
use crate::idempotency;
use crate::metrics::RouteMetrics;
use crate::middleware::Front;
use crate::routes::{
    abis, alerts, chains, channels, compat, dashboard, deliveries, docs, events, follow, jobs,
    keys, labels, ops, rpc, rules, silences, stream, transfers,
};
use crate::state::Shared;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, as often as they like: probes and scrapers.
    Probe,
    /// Everybody, within the address's rate: pages and documents without any tenant's data.
    Page,
    /// Callers with the scope.
    Scope(Scope),
    /// Any admitted caller; the handler asks for scopes.
    Caller,
}

/// What the middleware knows about a route.
#[derive(Debug)]
pub(crate) struct RouteInfo {
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// Whether the handler waits for chains, so that its time is limited.
    pub(crate) waits: bool,
    /// Whether JSON-RPC clients read the answers.
    pub(crate) rpc: bool,
    /// Whether its writes take an `Idempotency-Key`.
    pub(crate) keyed: bool,
    pub(crate) metrics: RouteMetrics,
    /// Its methods, each with the names of its query parameters, from the documentation.
    pub(crate) operations: Vec<(Method, BTreeSet<String>)>,
    /// Whether query parameters are nobody's business: assets that pages fetch.
    any_query: bool,
}

impl RouteInfo {
    pub(crate) fn new(path: &'static str, access: Access) -> Self {
        let metrics = RouteMetrics::new(path);
        Self {
            path,
            access,
            waits: false,
            rpc: false,
            keyed: idempotency::is_taken_by(path),
            metrics,
            operations: Vec::new(),
            any_query: access == Access::Page,
        }
    }

    /// Whether the route has the method.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.operations.iter().any(|(of, _)| of == method)
    }

    /// Refuses query parameters that are not documented.
    pub(crate) fn check_query(&self, method: &Method, query: &str) -> Result<(), ApiError> {
        if self.any_query {
            return Ok(());
        }
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let known = self.operations.iter().find(|(of, _)| of == method).map(|(_, names)| names);
        let Some(known) = known else { return Ok(()) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or(pair);
            if !known.contains(name) {
                return Err(unknown_parameter(name, known));
            }
        }
        Ok(())
    }
}

fn unknown_parameter(name: &str, known: &BTreeSet<String>) -> ApiError {
    let name: String = name.chars().take(80).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, &name), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(2));
    let list: Vec<&str> = known.iter().map(String::as_str).collect();
    let detail = match (nearest, list.as_slice()) {
        (_, []) => format!("unknown query parameter `{name}`; this route takes none"),
        (Some((_, nearest)), _) => {
            format!("unknown query parameter `{name}`; did you mean `{nearest}`?")
        }
        (None, list) => {
            format!("unknown query parameter `{name}`; this route takes: {}", list.join(", "))
        }
    };
    ApiError::new(Code::UnknownParameter, detail)
}

/// The routes while they are put together. Without a state it yields only the document.
struct Surface {
    state: Option<Shared>,
    router: OpenApiRouter<Shared>,
}

/// Chain routes wait for upstreams, queries for the warehouse.
const WAITS: bool = true;
/// Everything else answers from memory or the store.
const PROMPT: bool = false;

impl Surface {
    fn route(self, access: Access, waits: bool, handlers: UtoipaMethodRouter<Shared>) -> Self {
        let probes_only = self.state.as_ref().is_some_and(|state| state.probes_only);
        if probes_only && access != Access::Probe {
            return self;
        }
        let (schemas, mut paths, handlers) = handlers;
        let handlers = handlers.fallback(wrong_method);
        let Some((path, item)) = paths.paths.first_key_value() else { return self };
        // Leaked once per route and process: metric labels live as long as the process.
        let path: &'static str = path.clone().leak();
        let mut info = RouteInfo::new(path, access);
        info.waits = waits;
        info.rpc = path.starts_with("/v1/rpc/");
        info.operations = document::operations_of(item)
            .map(|(method, operation)| (method, query_names(operation)))
            .collect();
        if let Some(item) = paths.paths.get_mut(path) {
            document::complete(item, path, access, waits);
        }
        let handlers = match self.state.clone() {
            Some(state) => handlers.layer(Front { state, route: Arc::new(info) }),
            None => handlers,
        };
        Self { router: self.router.routes((schemas, paths, handlers)), ..self }
    }
}

fn query_names(operation: &utoipa::openapi::path::Operation) -> BTreeSet<String> {
    let parameters = operation.parameters.iter().flatten();
    let names = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
            Some(parameter.name.clone())
        }
        _ => None,
    });
    names.collect()
}

fn surface(state: Option<Shared>) -> Surface {
    use Access::{Caller, Page, Probe};
    const READ: Access = Access::Scope(Scope::ChainsRead);
    let router = OpenApiRouter::with_openapi(document::frame());
    Surface { state, router }
        .route(READ, WAITS, routes!(compat::block_number))
        .route(READ, WAITS, routes!(compat::block))
        .route(READ, WAITS, routes!(compat::balance))
        .route(READ, PROMPT, routes!(chains::list))
        .route(READ, PROMPT, routes!(chains::get))
        .route(READ, WAITS, routes!(chains::head))
        .route(READ, WAITS, routes!(chains::block))
        .route(READ, WAITS, routes!(chains::transaction))
        .route(READ, WAITS, routes!(chains::balance))
        .route(READ, PROMPT, routes!(chains::upstreams))
        .route(Caller, WAITS, routes!(events::list))
        .route(Caller, WAITS, routes!(events::stats::stats))
        .route(Caller, WAITS, routes!(events::odd))
        .route(Caller, WAITS, routes!(transfers::list))
        .route(Caller, PROMPT, routes!(follow::get))
        .route(Caller, PROMPT, routes!(stream::open))
        .route(Caller, PROMPT, routes!(abis::list, abis::create))
        .route(Caller, PROMPT, routes!(abis::get, abis::delete))
        .route(Caller, PROMPT, routes!(abis::restore))
        .route(Caller, WAITS, routes!(rpc::call))
        .route(Caller, PROMPT, routes!(rules::list, rules::create))
        .route(Caller, WAITS, routes!(rules::trial::check))
        .route(Caller, WAITS, routes!(rules::trial::backtest))
        .route(Caller, PROMPT, routes!(rules::get, rules::replace, rules::delete))
        .route(Caller, PROMPT, routes!(rules::restore))
        .route(Caller, PROMPT, routes!(rules::pause))
        .route(Caller, PROMPT, routes!(rules::resume))
        .route(Caller, WAITS, routes!(rules::trial::backtest_saved))
        .route(Caller, PROMPT, routes!(labels::list))
        .route(Caller, PROMPT, routes!(labels::set, labels::delete))
        .route(Caller, PROMPT, routes!(alerts::list))
        .route(Caller, PROMPT, routes!(alerts::get))
        .route(Caller, PROMPT, routes!(channels::list, channels::create))
        .route(Caller, PROMPT, routes!(channels::get, channels::replace, channels::delete))
        .route(Caller, PROMPT, routes!(channels::acts::restore))
        .route(Caller, PROMPT, routes!(channels::acts::enable))
        .route(Caller, PROMPT, routes!(channels::acts::link))
        .route(Caller, PROMPT, routes!(channels::acts::rotate))
        .route(Caller, WAITS, routes!(channels::acts::test))
        .route(Caller, PROMPT, routes!(channels::acts::replay))
        .route(Caller, PROMPT, routes!(deliveries::list))
        .route(Caller, PROMPT, routes!(deliveries::get))
        .route(Caller, PROMPT, routes!(deliveries::replay))
        .route(Caller, PROMPT, routes!(silences::list, silences::create))
        .route(Caller, PROMPT, routes!(silences::delete))
        .route(Caller, PROMPT, routes!(keys::list, keys::create))
        .route(Caller, PROMPT, routes!(keys::revoke))
        .route(Caller, PROMPT, routes!(keys::tenants))
        .route(Caller, PROMPT, routes!(keys::audit))
        .route(Caller, PROMPT, routes!(jobs::list, jobs::create))
        .route(Caller, PROMPT, routes!(jobs::get, jobs::replace, jobs::delete))
        .route(Caller, PROMPT, routes!(jobs::restore))
        .route(Caller, PROMPT, routes!(jobs::pause))
        .route(Caller, PROMPT, routes!(jobs::resume))
        .route(Caller, PROMPT, routes!(jobs::runs, jobs::trigger))
        .route(Caller, PROMPT, routes!(jobs::run))
        .route(Caller, PROMPT, routes!(jobs::retry))
        .route(Probe, PROMPT, routes!(ops::healthz))
        .route(Probe, WAITS, routes!(ops::readyz))
        .route(Probe, PROMPT, routes!(ops::metrics))
        .route(Page, PROMPT, routes!(docs::openapi))
        .route(Page, PROMPT, routes!(docs::redirect))
        .route(Page, PROMPT, routes!(docs::index))
        .route(Page, PROMPT, routes!(docs::file))
        .route(Page, PROMPT, routes!(dashboard::page))
        .route(Page, PROMPT, routes!(dashboard::asset))
}

/// The router, with everything around it.
pub(crate) fn router(state: &Shared) -> Router {
    let (router, _) = surface(Some(state.clone())).router.split_for_parts();
    let mut info = RouteInfo::new("unknown", Access::Page);
    info.any_query = true;
    let unknown = any(unknown_route).layer(Front { state: state.clone(), route: Arc::new(info) });
    router.fallback_service(unknown).with_state(state.clone())
}

/// The OpenAPI document of the routes.
pub(crate) fn openapi() -> OpenApi {
    document::finish(surface(None).router.into_openapi())
}

async fn unknown_route(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(Code::UnknownRoute, format!("no route `{path}`; /docs lists all of them"))
}

/// Any method that a route does not have. The router adds `Allow`.
async fn wrong_method(request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let method: String = request.method().as_str().chars().take(20).collect();
    let detail = format!("this route does not take {method}; the Allow header lists what it takes");
    ApiError::new(Code::MethodNotAllowed, detail).into_response()
}

#[cfg(test)]
mod tests;
