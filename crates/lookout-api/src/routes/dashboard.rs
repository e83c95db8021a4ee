//! `/`: one page that shows the chains and their upstreams.

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, Code};
use crate::extract::UrlPath;

const PAGE: &str = include_str!("../dashboard/index.html");
const STYLE: &str = include_str!("../dashboard/style.css");
const SCRIPT: &str = include_str!("../dashboard/script.js");

/// Nothing but the page's own two files and this server's API.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A file of the dashboard.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AssetPath {
    /// Name of the file.
    #[param(pattern = "^(style\\.css|script\\.js)$", example = "style.css")]
    file: String,
}

/// Dashboard
///
/// Chains, heads and upstream health. The page itself holds no data: it asks `/v1/chains`, with the
/// key that you give it where one is needed.
#[utoipa::path(
    get, path = "/", tag = "operation", operation_id = "dashboard",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page() -> Response {
    let mut response = text("text/html; charset=utf-8", PAGE);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Dashboard, its files
#[utoipa::path(
    get, path = "/assets/{file}", tag = "operation", operation_id = "dashboardFile",
    params(AssetPath),
    responses((status = 200, description = "The file",
        content((String = "text/css"), (String = "text/javascript"))))
)]
pub(crate) async fn asset(UrlPath(path): UrlPath<AssetPath>) -> Result<Response, ApiError> {
    match path.file.as_str() {
        "style.css" => Ok(text("text/css; charset=utf-8", STYLE)),
        "script.js" => Ok(text("text/javascript; charset=utf-8", SCRIPT)),
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(ApiError::new(Code::NotFound, format!("no file `{shown}`")))
        }
    }
}

fn text(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
