//! `/v1/keys`, `/v1/tenants`, `/v1/audit`: who may call, and who changed what.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use lookout_store::{KeyInfo, NewKey, Scope, Scopes};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::rfc3339_millis;
use crate::state::Shared;

/// Longest name of a key: a line in a list.
const NAME_CHARACTERS_MAX: usize = 100;

/// A key.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyPath {
    /// Id of a key of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// A name for people.
    #[schema(example = "ci", max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    name: String,
    /// What it may do; no more than your own credentials. `*` for everything.
    #[schema(value_type = Vec<ScopeName>, example = json!(["chains:read"]), min_items = 1)]
    scopes: Vec<String>,
    /// The tenant it belongs to; your own when left out. Others only while no key exists.
    #[schema(example = "default", pattern = "^[a-z0-9_-]{1,63}$")]
    tenant: Option<String>,
    /// When it stops working (RFC 3339); never when left out.
    #[schema(example = "2036-01-01T00:00:00Z", format = DateTime)]
    expires_at: Option<String>,
}

/// What a key may do.
#[derive(Serialize, ToSchema)]
#[expect(dead_code, reason = "lists the scopes in the OpenAPI document")]
pub(crate) enum ScopeName {
    /// Everything.
    #[serde(rename = "*")]
    All,
    /// Read chains: blocks, balances, JSON-RPC reads.
    #[serde(rename = "chains:read")]
    ChainsRead,
    /// Send signed transactions.
    #[serde(rename = "chains:send")]
    ChainsSend,
    /// List keys and tenants.
    #[serde(rename = "keys:read")]
    KeysRead,
    /// Make and revoke keys.
    #[serde(rename = "keys:write")]
    KeysWrite,
    /// Read the audit log.
    #[serde(rename = "audit:read")]
    AuditRead,
    /// Read events, transfers, their statistics and the stream of them.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Read rules, labels and ABIs; try rules out.
    #[serde(rename = "rules:read")]
    RulesRead,
    /// Change rules, labels and ABIs.
    #[serde(rename = "rules:write")]
    RulesWrite,
    /// Read alerts and their deliveries.
    #[serde(rename = "alerts:read")]
    AlertsRead,
    /// Read channels and silences, without secrets.
    #[serde(rename = "channels:read")]
    ChannelsRead,
    /// Change channels and silences, test them, replay deliveries.
    #[serde(rename = "channels:write")]
    ChannelsWrite,
    /// Read jobs and their runs.
    #[serde(rename = "jobs:read")]
    JobsRead,
    /// Change jobs and trigger runs.
    #[serde(rename = "jobs:write")]
    JobsWrite,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
    /// The tenant it belongs to.
    #[schema(example = "default")]
    tenant: String,
    /// A name for people.
    #[schema(example = "ci")]
    name: String,
    /// The public start of the key, by which people recognise it.
    #[schema(example = "lk_4fTq8ZpX2m1c")]
    prefix: String,
    /// What it may do.
    #[schema(value_type = Vec<ScopeName>, example = json!(["chains:read"]))]
    scopes: Vec<&'static str>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it stops working; `null` for never.
    expires_at: Option<String>,
    /// When it was revoked; `null` while it is not.
    revoked_at: Option<String>,
}

/// A new key with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewKeyAnswer {
    /// The whole key: keep it now, it cannot be shown again.
    #[schema(example = "lk_…")]
    key: String,
    /// What is known of it from now on.
    #[serde(flatten)]
    info: Key,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tenant {
    /// Its id, which is its name.
    #[schema(example = "default")]
    id: String,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was deleted; `null` while it is not.
    deleted_at: Option<String>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    /// Its id.
    id: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// By whom: `key:<id>`, `token:<sub>`, `cli`, or `open` while no key exists.
    #[schema(example = "cli")]
    actor: String,
    /// What was done.
    #[schema(example = "key.create")]
    action: String,
    /// The id of the thing.
    target: String,
    /// More about it.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl TryFrom<KeyInfo> for Key {
    type Error = ApiError;

    fn try_from(info: KeyInfo) -> Result<Self, ApiError> {
        Ok(Self {
            id: info.id,
            tenant: info.tenant,
            name: info.name,
            prefix: info.prefix,
            scopes: info.scopes.names(),
            created_at: rfc3339_millis(info.created_at)?,
            expires_at: info.expires_at.map(rfc3339_millis).transpose()?,
            revoked_at: info.revoked_at.map(rfc3339_millis).transpose()?,
        })
    }
}

/// Your keys
///
/// The keys of your tenant, newest first, revoked ones included. Needs scope `keys:read`.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "listKeys",
    params(PageQuery),
    responses((status = 200, description = "The keys", body = Items<Key>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::KeysRead)?;
    let page = query.page()?;
    let keys = state.store.list_keys(Some(caller.tenant()), &page).await?;
    let items = keys.into_iter().map(Key::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |key: &Key| &key.id))
}

/// Make a key
///
/// The answer holds the whole key, this once. A key may do no more than the credentials that make
/// it. **The first key closes the server**: from then on every caller needs one, so give the first
/// one `keys:write`, or keep the command line at hand. Needs scope `keys:write`.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "createKey",
    request_body(content = KeyRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The new key, with its secret", body = NewKeyAnswer),
        (status = 409, description = "The tenant has as many keys as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::KeysWrite)?;
    let bytes_max = state.live().config.body_bytes_max;
    let body = body::read(request.into_body(), bytes_max).await?;
    let wanted: KeyRequest = serde_json::from_slice(&body).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        ApiError::new(code, format!("the body is no key request: {error}"))
    })?;
    let new = checked(wanted, &caller, state.clock.now())?;
    let (info, secret) = state.store.create_key(new, &caller.actor()).await?;
    let answer = NewKeyAnswer { key: secret.expose().to_owned(), info: info.try_into()? };
    let mut response = body::json_of(&answer)?;
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The key that is to be made, as far as this caller may make it.
fn checked(wanted: KeyRequest, caller: &Caller, now_ms: i64) -> Result<NewKey, ApiError> {
    if !(1..=NAME_CHARACTERS_MAX).contains(&wanted.name.chars().count()) {
        let detail = format!("`name` has from 1 to {NAME_CHARACTERS_MAX} characters");
        return Err(ApiError::new(Code::InvalidBody, detail));
    }
    let scopes = Scopes::of_names(wanted.scopes.iter().map(String::as_str))
        .map_err(|error| ApiError::new(Code::InvalidBody, error.to_string()))?;
    if scopes.is_empty() {
        return Err(ApiError::new(Code::InvalidBody, "`scopes` names at least one scope"));
    }
    if !caller.scopes().covers(scopes) {
        let detail = "a key may do no more than the credentials that make it";
        return Err(ApiError::new(Code::MissingScope, detail));
    }
    let tenant = wanted.tenant.unwrap_or_else(|| caller.tenant().to_owned());
    if tenant != caller.tenant() && !matches!(caller, Caller::Open) {
        let detail = "keys for another tenant are made on the server's command line";
        return Err(ApiError::new(Code::MissingScope, detail));
    }
    let expires_at = wanted.expires_at.map(|text| expiry(&text, now_ms)).transpose()?;
    Ok(NewKey { tenant, name: wanted.name, scopes, expires_at })
}

fn expiry(text: &str, now_ms: i64) -> Result<i64, ApiError> {
    let time: Timestamp = text.parse().map_err(|_| {
        let detail = "`expiresAt` is a time such as 2036-01-01T00:00:00Z (RFC 3339)";
        ApiError::new(Code::InvalidBody, detail)
    })?;
    let expires_at = time.as_millisecond();
    if expires_at <= now_ms {
        return Err(ApiError::new(Code::InvalidBody, "`expiresAt` lies in the past"));
    }
    Ok(expires_at)
}

/// Revoke a key
///
/// It stops working at once here, and within seconds on other instances. Revoking it again changes
/// nothing. Another tenant's key is a 404. Needs scope `keys:write`.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revokeKey",
    params(KeyPath),
    responses((status = 204, description = "It is revoked"))
)]
pub(crate) async fn revoke(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<KeyPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::KeysWrite)?;
    if uuid::Uuid::try_parse(&path.id).is_err() {
        let shown: String = path.id.chars().take(80).collect();
        return Err(ApiError::new(Code::NotFound, format!("no key `{shown}`")));
    }
    state.store.revoke_key(caller.tenant(), &path.id, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Tenants
///
/// Your own; while no key exists, all of them. Needs scope `keys:read`.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "keys", operation_id = "listTenants",
    params(PageQuery),
    responses((status = 200, description = "The tenants, by id", body = Items<Tenant>))
)]
pub(crate) async fn tenants(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::KeysRead)?;
    let page = query.page()?;
    let everything = matches!(caller, Caller::Open);
    let mut items = Vec::new();
    for tenant in state.store.list_tenants(&page).await? {
        items.push(Tenant {
            created_at: rfc3339_millis(tenant.created_at)?,
            deleted_at: tenant.deleted_at.map(rfc3339_millis).transpose()?,
            id: tenant.id,
        });
    }
    let mut items = Items::page(items, &page, |tenant: &Tenant| &tenant.id);
    if !everything {
        // Others' names are not even counted: the cursor would betray them.
        items.items.retain(|tenant| tenant.id == caller.tenant());
        items.next = None;
    }
    body::json_of(&items)
}

/// Changes
///
/// What was changed in your tenant and by whom, newest first. Needs scope `audit:read`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "keys", operation_id = "listChanges",
    params(PageQuery),
    responses((status = 200, description = "The changes", body = Items<Change>))
)]
pub(crate) async fn audit(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::AuditRead)?;
    let page = query.page()?;
    let mut items = Vec::new();
    for entry in state.store.audit_log(caller.tenant(), &page).await? {
        items.push(Change {
            at: rfc3339_millis(entry.at)?,
            id: entry.id,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            detail: entry.detail,
        });
    }
    body::json_of(&Items::page(items, &page, |change: &Change| &change.id))
}

#[cfg(test)]
mod tests;
