//! `/v1/silences`: alerts that are not to be sent for a time.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use lookout_store::{NewSilence, Scope, SilenceInfo, SilenceMatcher};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::channels::of_body;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::rfc3339_millis;
use crate::state::Shared;

/// A silence.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SilencePath {
    /// Id of a silence of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// A silence to be made. It holds back what fits each list that is not empty; without lists,
/// everything.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SilenceRequest {
    /// Ids of rules.
    #[serde(default)]
    #[schema(max_items = 100)]
    rules: Vec<String>,
    /// Ids of channels.
    #[serde(default)]
    #[schema(max_items = 100)]
    channels: Vec<String>,
    /// Names or ids of chains.
    #[serde(default)]
    #[schema(max_items = 100, example = json!(["ethereum"]))]
    chains: Vec<String>,
    /// Why, for others and for later.
    #[serde(default)]
    #[schema(example = "planned upgrade", max_length = 500)]
    comment: String,
    /// From when (RFC 3339); now when left out.
    #[schema(format = DateTime, example = "2036-01-01T00:00:00Z")]
    starts_at: Option<String>,
    /// Until when (RFC 3339), within a year.
    #[schema(format = DateTime, example = "2036-01-01T02:00:00Z")]
    ends_at: String,
}

/// Alerts that are not to be sent for a time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Silence {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
    /// Whether it holds something back now.
    active: bool,
    /// Ids of rules; empty for all.
    rules: Vec<String>,
    /// Ids of channels; empty for all.
    channels: Vec<String>,
    /// EIP-155 ids of chains; empty for all.
    chains: Vec<u64>,
    /// Why.
    comment: String,
    /// From when.
    #[schema(format = DateTime)]
    starts_at: String,
    /// Until when.
    #[schema(format = DateTime)]
    ends_at: String,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
}

impl Silence {
    fn of(info: SilenceInfo, now_ms: i64) -> Result<Self, ApiError> {
        Ok(Self {
            active: info.is_active(now_ms),
            id: info.id,
            rules: info.matcher.rules,
            channels: info.matcher.channels,
            chains: info.matcher.chains,
            comment: info.comment,
            starts_at: rfc3339_millis(info.starts_at)?,
            ends_at: rfc3339_millis(info.ends_at)?,
            created_at: rfc3339_millis(info.created_at)?,
        })
    }
}

/// Your silences
///
/// Newest first, those that have ended included. Needs scope `channels:read`.
#[utoipa::path(
    get, path = "/v1/silences", tag = "channels", operation_id = "listSilences",
    params(PageQuery),
    responses((status = 200, description = "The silences", body = Items<Silence>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsRead)?;
    let page = page.page()?;
    let now = state.clock.now();
    let silences = state.store.list_silences(caller.tenant(), &page).await?;
    let items = silences.into_iter().map(|info| Silence::of(info, now));
    let items = items.collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |silence: &Silence| &silence.id))
}

/// Make a silence
///
/// Alerts that it fits are kept but not sent while it lasts. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/silences", tag = "channels", operation_id = "createSilence",
    request_body(content = SilenceRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The silence", body = Silence),
        (status = 404, description = "No such chain",
            body = crate::problem::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The tenant has as many silences as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let bytes_max = state.live().config.body_bytes_max;
    let body = body::read(request.into_body(), bytes_max).await?;
    let wanted: SilenceRequest = serde_json::from_slice(&body).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        ApiError::new(code, format!("the body is no silence: {error}"))
    })?;
    for (what, ids) in [("rules", &wanted.rules), ("channels", &wanted.channels)] {
        if ids.iter().any(|id| uuid::Uuid::try_parse(id).is_err()) {
            let detail = format!("`{what}` holds ids, which are UUIDs");
            return Err(ApiError::new(Code::InvalidBody, detail));
        }
    }
    let chains = wanted.chains.iter().map(|chain| Ok(state.chain(chain)?.id().0));
    let chains = chains.collect::<Result<_, ApiError>>()?;
    let new = NewSilence {
        tenant: caller.tenant().to_owned(),
        matcher: SilenceMatcher { rules: wanted.rules, channels: wanted.channels, chains },
        comment: wanted.comment,
        starts_at: wanted.starts_at.map(|text| time("startsAt", &text)).transpose()?,
        ends_at: time("endsAt", &wanted.ends_at)?,
    };
    let info = state.store.create_silence(new, &caller.actor()).await.map_err(of_body)?;
    let mut response = body::json_of(&Silence::of(info, state.clock.now())?)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn time(member: &str, text: &str) -> Result<i64, ApiError> {
    let time: Timestamp = text.parse().map_err(|_| {
        let detail = format!("`{member}` is a time such as 2036-01-01T00:00:00Z (RFC 3339)");
        ApiError::new(Code::InvalidBody, detail)
    })?;
    Ok(time.as_millisecond())
}

/// End a silence
///
/// What comes from now on is sent. Ending it again changes nothing. Needs scope `channels:write`.
#[utoipa::path(
    delete, path = "/v1/silences/{id}", tag = "channels", operation_id = "deleteSilence",
    params(SilencePath),
    responses((status = 204, description = "It is ended"))
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<SilencePath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    if uuid::Uuid::try_parse(&path.id).is_err() {
        let shown: String = path.id.chars().take(80).collect();
        return Err(ApiError::new(Code::NotFound, format!("no silence `{shown}`")));
    }
    state.store.delete_silence(caller.tenant(), &path.id, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
