//! `/v1/rules`: what a tenant watches.

mod fit;
mod shapes;
pub(crate) mod trial;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lookout_rules::RuleDocument;
use lookout_store::{RuleFilter, RuleInfo, RuleState, Scope};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::state::{Shared, State as Parts};

use shapes::{Rule, SavedRule};

/// A rule.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RulePath {
    /// Id of a rule of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// Which rules.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RulesQuery {
    /// Only of this chain: name, decimal id or CAIP-2 id.
    #[param(value_type = String, required = false, pattern = "^[A-Za-z0-9:._-]{1,64}$")]
    chain: Option<String>,
    /// Only in this state; deleted ones are listed only when asked for.
    #[param(value_type = StateName, required = false, inline)]
    state: Option<StateName>,
}

/// Whether a rule watches.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StateName {
    /// It does.
    Active,
    /// Not until it is resumed.
    Paused,
    /// Not until it is restored.
    Deleted,
}

impl From<StateName> for RuleState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Active => Self::Active,
            StateName::Paused => Self::Paused,
            StateName::Deleted => Self::Deleted,
        }
    }
}

/// Your rules
///
/// Newest first; without deleted ones unless `state=deleted`. Needs scope `rules:read`.
#[utoipa::path(
    get, path = "/v1/rules", tag = "rules", operation_id = "listRules",
    params(PageQuery, RulesQuery),
    responses(
        (status = 200, description = "The rules", body = Items<SavedRule>),
        (status = 404, description = "No such chain",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PageQuery>,
    UrlQuery(query): UrlQuery<RulesQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let page = page.page()?;
    let chain = query.chain.map(|chain| state.chain(&chain)).transpose()?;
    let filter = RuleFilter {
        chain: chain.map(|chain| chain.id()),
        state: query.state.map(RuleState::from),
    };
    let rules = state.store.list_rules(caller.tenant(), &filter, &page).await?;
    let failures = match (rules.last(), rules.first()) {
        (Some(oldest), Some(newest)) => {
            state.store.rule_failures(caller.tenant(), &oldest.id, &newest.id).await?
        }
        _ => Vec::new(),
    };
    let items = rules.into_iter().map(|rule| SavedRule::of(rule, &failures));
    let items = items.collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |rule: &SavedRule| &rule.id))
}

/// Save a rule
///
/// It is checked against its ABI, its labels and what is kept of its chain; a problem points at the
/// member, line and column. It watches from the next block on. Try it first with
/// `POST /v1/rules/check` and `POST /v1/rules/backtest`. Needs scope `rules:write`.
#[utoipa::path(
    post, path = "/v1/rules", tag = "rules", operation_id = "createRule",
    request_body(content = Rule, content_type = "application/json"),
    responses(
        (status = 201, description = "The saved rule", body = SavedRule),
        (status = 409, description = "What is kept of the chain is not enough for the rule, or the tenant has as many rules as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let document: RuleDocument = read(&state, request, "rule").await?;
    let chain = fit::chain_of(&state, &document)?;
    fit::require(&state, caller.tenant(), &chain, &document).await?;
    let (tenant, actor) = (caller.tenant(), caller.actor());
    let info = state.store.create_rule(tenant, chain.id(), &document, &actor).await?;
    let mut response = body::json_of(&SavedRule::of(info, &[])?)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// A rule
///
/// Deleted ones too, until they are purged. Needs scope `rules:read`.
#[utoipa::path(
    get, path = "/v1/rules/{id}", tag = "rules", operation_id = "getRule",
    params(RulePath),
    responses((status = 200, description = "The rule", body = SavedRule))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let info = state.store.get_rule(caller.tenant(), checked(&path.id)?).await?;
    answer(&state, caller.tenant(), info).await
}

/// Change a rule
///
/// Replaces the whole document. What is watched gets a new version, which watches from the next block
/// on with empty windows; other channels or confirmations alone make none. Needs scope `rules:write`.
#[utoipa::path(
    put, path = "/v1/rules/{id}", tag = "rules", operation_id = "replaceRule",
    params(RulePath),
    request_body(content = Rule, content_type = "application/json"),
    responses(
        (status = 200, description = "The rule as it is now", body = SavedRule),
        (status = 409, description = "The rule is deleted, or what is kept of the chain is not enough for it",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replace(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let id = checked(&path.id)?;
    let tenant = caller.tenant();
    // An unknown id is told before a wrong document.
    state.store.get_rule(tenant, id).await?;
    let document: RuleDocument = read(&state, request, "rule").await?;
    let chain = fit::chain_of(&state, &document)?;
    fit::require(&state, tenant, &chain, &document).await?;
    let actor = caller.actor();
    let info = state.store.update_rule(tenant, id, chain.id(), &document, &actor).await?;
    answer(&state, tenant, info).await
}

/// Delete a rule
///
/// It stops watching and leaves the lists; `POST /v1/rules/{id}/restore` brings it back until it is
/// purged. Its alerts stay. Deleting it again changes nothing. Needs scope `rules:write`.
#[utoipa::path(
    delete, path = "/v1/rules/{id}", tag = "rules", operation_id = "deleteRule",
    params(RulePath),
    responses((status = 204, description = "It is deleted"))
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    state.store.delete_rule(caller.tenant(), checked(&path.id)?, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Restore a rule
///
/// Brings a deleted rule back as it was, watching or paused; it watches from the next block on, with
/// the labels and the ABI of now. Needs scope `rules:write`.
#[utoipa::path(
    post, path = "/v1/rules/{id}/restore", tag = "rules", operation_id = "restoreRule",
    params(RulePath),
    responses(
        (status = 200, description = "The rule as it is now", body = SavedRule),
        (status = 409, description = "What is kept of the chain is not enough for the rule, or the tenant has as many rules as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn restore(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let (tenant, id) = (caller.tenant(), checked(&path.id)?);
    let before = state.store.get_rule(tenant, id).await?;
    if !before.paused {
        fit::require_saved(&state, tenant, &before).await?;
    }
    let info = state.store.restore_rule(tenant, id, &caller.actor()).await?;
    answer(&state, tenant, info).await
}

/// Pause a rule
///
/// It watches nothing until it is resumed. Pausing it again changes nothing. Needs scope
/// `rules:write`.
#[utoipa::path(
    post, path = "/v1/rules/{id}/pause", tag = "rules", operation_id = "pauseRule",
    params(RulePath),
    responses(
        (status = 200, description = "The rule as it is now", body = SavedRule),
        (status = 409, description = "The rule is deleted",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let (tenant, id) = (caller.tenant(), checked(&path.id)?);
    let info = state.store.pause_rule(tenant, id, &caller.actor()).await?;
    answer(&state, tenant, info).await
}

/// Resume a rule
///
/// A paused rule watches again, from the next block on, as a new version with the labels and the ABI
/// of now. Resuming one that watches changes nothing. Needs scope `rules:write`.
#[utoipa::path(
    post, path = "/v1/rules/{id}/resume", tag = "rules", operation_id = "resumeRule",
    params(RulePath),
    responses(
        (status = 200, description = "The rule as it is now", body = SavedRule),
        (status = 409, description = "The rule is deleted, or what is kept of the chain is not enough for it",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn resume(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let (tenant, id) = (caller.tenant(), checked(&path.id)?);
    let before = state.store.get_rule(tenant, id).await?;
    if before.state() == RuleState::Paused {
        fit::require_saved(&state, tenant, &before).await?;
    }
    let info = state.store.resume_rule(tenant, id, &caller.actor()).await?;
    answer(&state, tenant, info).await
}

async fn answer(state: &Parts, tenant: &str, info: RuleInfo) -> Result<Response, ApiError> {
    let failures = state.store.rule_failures(tenant, &info.id, &info.id).await?;
    body::json_of(&SavedRule::of(info, &failures)?)
}

/// An id that the store can be asked for: Postgres refuses some texts with errors of its own.
fn checked(id: &str) -> Result<&str, ApiError> {
    if uuid::Uuid::try_parse(id).is_ok() {
        return Ok(id);
    }
    let shown: String = id.chars().take(80).collect();
    Err(ApiError::new(Code::NotFound, format!("no rule `{shown}`")))
}

/// The body as JSON of one shape.
pub(super) async fn read<T: DeserializeOwned>(
    state: &Parts,
    request: Request,
    what: &str,
) -> Result<T, ApiError> {
    let bytes_max = state.live().config.body_bytes_max;
    let body = body::read(request.into_body(), bytes_max).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        ApiError::new(code, format!("the body is no {what}: {error}"))
    })
}

#[cfg(test)]
mod tests;
