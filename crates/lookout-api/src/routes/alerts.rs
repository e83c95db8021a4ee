//! `/v1/alerts`: what rules found.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use lookout_store::{AlertFilter, AlertState, Scope};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::BlockName;
use crate::state::Shared;

/// An alert.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AlertPath {
    /// Id of an alert of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// Which alerts.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertsQuery {
    /// Only of this rule.
    #[param(value_type = String, required = false, pattern = "^[0-9a-f-]{36}$")]
    rule: Option<String>,
    /// Only of this chain: name, decimal id or CAIP-2 id.
    #[param(value_type = String, required = false, pattern = "^[A-Za-z0-9:._-]{1,64}$")]
    chain: Option<String>,
    /// Only in this state.
    #[param(value_type = AlertStateName, required = false, inline)]
    state: Option<AlertStateName>,
    /// Only of blocks of this time or later (RFC 3339).
    #[param(value_type = String, required = false, format = DateTime, example = "2026-01-01T00:00:00Z")]
    from: Option<String>,
    /// Only of blocks before this time (RFC 3339).
    #[param(value_type = String, required = false, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
}

/// What became of a match.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AlertStateName {
    /// It waits for its confirmations.
    Pending,
    /// It was sent, or is about to be.
    Confirmed,
    /// Its block was undone after it was sent.
    Retracted,
}

/// One match of a rule, and what became of it.
///
/// The same object is the `data` of the live stream's `alert` messages and of webhooks. The store
/// writes it; this describes it for the document, and a test holds them together.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described, never made")]
pub(crate) struct Alert {
    /// Its id; the same whenever the same block is matched.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
    /// `pending` until it is confirmed, `retracted` when its block was undone after that.
    #[schema(example = "confirmed")]
    state: &'static str,
    /// The rule.
    rule_id: String,
    /// The rule's version that matched.
    rule_version: u32,
    /// The rule's name then.
    #[schema(example = "Large USDC transfer")]
    rule_name: String,
    /// EIP-155 id of the chain.
    #[schema(example = 1)]
    chain_id: u64,
    /// The block.
    block: BlockName,
    /// The block's time.
    #[schema(format = DateTime)]
    block_time: String,
    /// Which record.
    #[schema(value_type = Object)]
    record: serde_json::Value,
    /// 1, or more when the same block came back after the alert was retracted.
    occurrence: u32,
    /// The message, plain text.
    text: String,
    /// Marked stretches of the message, in UTF-16 units.
    #[schema(value_type = Vec<Object>)]
    spans: serde_json::Value,
    /// The values in the message, by name.
    #[schema(value_type = Object)]
    facts: serde_json::Value,
    /// Height of the head at which it is confirmed.
    confirms_at: u64,
    /// When it was found.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was confirmed; `null` until it is.
    confirmed_at: Option<String>,
    /// When it was retracted; `null` until it is.
    retracted_at: Option<String>,
}

/// Your alerts
///
/// Newest block first. Needs scope `alerts:read`.
#[utoipa::path(
    get, path = "/v1/alerts", tag = "alerts", operation_id = "listAlerts",
    params(PageQuery, AlertsQuery),
    responses(
        (status = 200, description = "The alerts", body = Items<Alert>),
        (status = 404, description = "No such chain",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PageQuery>,
    UrlQuery(query): UrlQuery<AlertsQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::AlertsRead)?;
    let page = page.page()?;
    if query.rule.as_ref().is_some_and(|rule| uuid::Uuid::try_parse(rule).is_err()) {
        return Err(ApiError::new(Code::InvalidParameter, "`rule` is the id of a rule"));
    }
    let chain = query.chain.map(|chain| state.chain(&chain)).transpose()?;
    let filter = AlertFilter {
        rule: query.rule,
        chain: chain.map(|chain| chain.id()),
        state: query.state.map(|state| match state {
            AlertStateName::Pending => AlertState::Pending,
            AlertStateName::Confirmed => AlertState::Confirmed,
            AlertStateName::Retracted => AlertState::Retracted,
        }),
        from: query.from.map(|text| seconds("from", &text)).transpose()?,
        to: query.to.map(|text| seconds("to", &text)).transpose()?,
    };
    let alerts = state.store.list_alerts(caller.tenant(), &filter, &page).await?;
    body::json_of(&Items::page(alerts, &page, |alert| &alert.id))
}

/// An alert
///
/// Needs scope `alerts:read`.
#[utoipa::path(
    get, path = "/v1/alerts/{id}", tag = "alerts", operation_id = "getAlert",
    params(AlertPath),
    responses((status = 200, description = "The alert", body = Alert))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<AlertPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::AlertsRead)?;
    if uuid::Uuid::try_parse(&path.id).is_err() {
        let shown: String = path.id.chars().take(80).collect();
        return Err(ApiError::new(Code::NotFound, format!("no alert `{shown}`")));
    }
    body::json_of(&state.store.get_alert(caller.tenant(), &path.id).await?)
}

/// A time of the URL in whole seconds; blocks have no finer one. Before 1970 there are no blocks.
fn seconds(name: &str, text: &str) -> Result<u64, ApiError> {
    let time: Timestamp = text.parse().map_err(|_| {
        let detail = format!("`{name}` is a time such as 2026-01-01T00:00:00Z (RFC 3339)");
        ApiError::new(Code::InvalidParameter, detail)
    })?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    Ok(u64::try_from(time.as_second().saturating_add(up)).unwrap_or(0))
}

#[cfg(test)]
mod tests;
