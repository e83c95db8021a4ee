//! `/v1/labels`: named sets of addresses that conditions use.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lookout_store::{LabelInfo, Scope};
use lookout_types::Address;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::rfc3339_millis;
use crate::state::Shared;

/// A label.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct LabelPath {
    /// Its name.
    #[param(example = "treasury", max_length = 100)]
    name: String,
}

/// The addresses of a label.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelRequest {
    /// The addresses, in any order.
    #[schema(max_items = 10_000, example = json!(["0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"]))]
    addresses: Vec<String>,
}

/// A named set of addresses: `from in labels["treasury"]`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Label {
    /// Its name.
    #[schema(example = "treasury")]
    name: String,
    /// Its addresses.
    addresses: Vec<String>,
    /// How many rules use it, paused ones included.
    rules: u64,
    /// When it was set last.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl TryFrom<LabelInfo> for Label {
    type Error = ApiError;

    fn try_from(info: LabelInfo) -> Result<Self, ApiError> {
        Ok(Self {
            name: info.name,
            addresses: info.addresses.iter().map(ToString::to_string).collect(),
            rules: info.rules,
            updated_at: rfc3339_millis(info.updated_at)?,
        })
    }
}

/// Your labels
///
/// By name. Needs scope `rules:read`.
#[utoipa::path(
    get, path = "/v1/labels", tag = "rules", operation_id = "listLabels",
    params(PageQuery),
    responses((status = 200, description = "The labels", body = Items<Label>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let page = query.page()?;
    let labels = state.store.list_labels(caller.tenant(), &page).await?;
    let items = labels.into_iter().map(Label::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |label: &Label| &label.name))
}

/// Set a label
///
/// Makes it, or replaces its addresses. The rules that use it get a new version, which watches from
/// the next block on with empty windows. Needs scope `rules:write`.
#[utoipa::path(
    put, path = "/v1/labels/{name}", tag = "rules", operation_id = "setLabel",
    params(LabelPath),
    request_body(content = LabelRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The label as it is now", body = Label),
        (status = 409, description = "The tenant has as many labels as it can, or too many rules use this one",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<LabelPath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    check_name(&path.name)?;
    let wanted: LabelRequest = super::rules::read(&state, request, "label").await?;
    let addresses = wanted.addresses.iter().enumerate().map(|(index, text)| {
        text.parse::<Address>().map_err(|error| {
            let shown: String = text.chars().take(60).collect();
            let detail = format!("`addresses[{index}]` is `{shown}`: {error}");
            ApiError::new(Code::InvalidAddress, detail)
        })
    });
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let actor = caller.actor();
    let label = state.store.set_label(caller.tenant(), &path.name, &addresses, &actor).await?;
    body::json_of(&Label::try_from(label)?)
}

/// Delete a label
///
/// For good; refused while a rule uses it. Needs scope `rules:write`.
#[utoipa::path(
    delete, path = "/v1/labels/{name}", tag = "rules", operation_id = "deleteLabel",
    params(LabelPath),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 409, description = "Rules use it",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<LabelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    check_name(&path.name)?;
    state.store.delete_label(caller.tenant(), &path.name, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Pages are cut by name, and cursors are printable ASCII.
fn check_name(name: &str) -> Result<(), ApiError> {
    if !name.is_empty() && name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let detail = "the name of a label is printable ASCII";
    Err(ApiError::new(Code::InvalidRequest, detail))
}

#[cfg(test)]
mod tests;
