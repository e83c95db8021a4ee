//! `/docs` and `/openapi.json`: the API described by itself, offline.

use std::sync::{Arc, LazyLock};

use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_swagger_ui::{Config, serve};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::UrlPath;

static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(crate::openapi_json()));
static SWAGGER: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json").try_it_out_enabled(true)));

/// A file of the interactive documentation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct FilePath {
    /// Name of the file.
    #[param(pattern = "^[a-z0-9.-]{1,64}$", example = "swagger-ui.css")]
    file: String,
}

/// This document
///
/// OpenAPI 3.1, generated from the handlers.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", operation_id = "openapi",
    responses((status = 200, description = "The document", body = serde_json::Value))
)]
pub(crate) async fn openapi() -> Response {
    body::json([OPENAPI.clone()])
}

/// Interactive documentation
///
/// Redirects to `/docs/`.
#[utoipa::path(
    get, path = "/docs", tag = "operation", operation_id = "docs",
    responses((status = 308, description = "To `/docs/`",
        headers(("location" = String, description = "`/docs/`"))))
)]
pub(crate) async fn redirect() -> Redirect {
    Redirect::permanent("/docs/")
}

/// Interactive documentation, the page
///
/// Try any route from the browser. Everything it needs is in the binary.
#[utoipa::path(
    get, path = "/docs/", tag = "operation", operation_id = "docsPage",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn index() -> Result<Response, ApiError> {
    asset("index.html")
}

/// Interactive documentation, its files
#[utoipa::path(
    get, path = "/docs/{file}", tag = "operation", operation_id = "docsFile",
    params(FilePath),
    responses((status = 200, description = "The file", content(
        (String = "text/html"), (String = "text/css"), (String = "text/javascript"),
        (String = "image/png"), (String = "application/json"),
    )))
)]
pub(crate) async fn file(UrlPath(path): UrlPath<FilePath>) -> Result<Response, ApiError> {
    asset(&path.file)
}

fn asset(name: &str) -> Result<Response, ApiError> {
    let file = serve(name, SWAGGER.clone()).map_err(ApiError::internal)?;
    let Some(file) = file else {
        let shown: String = name.chars().take(80).collect();
        return Err(ApiError::new(Code::NotFound, format!("no file `{shown}`")));
    };
    let mut response = file.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::try_from(file.content_type).map_err(ApiError::internal)?;
    headers.insert(CONTENT_TYPE, kind);
    // The files change with the binary only.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    if file.gzpipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
