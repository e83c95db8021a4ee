//! `/v1/abis`: what contracts say, uploaded once and used by name.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lookout_abi::{Abi, builtin};
use lookout_store::{AbiInfo, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::abi_cache::is_abi_name;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::rfc3339_millis;
use crate::state::Shared;

/// An ABI.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AbiPath {
    /// Id or name of an ABI of your tenant, or a built-in name: `erc20`, `erc721`, `erc1155`.
    #[param(pattern = "^[0-9a-z][0-9a-z._-]{0,63}$", example = "vault")]
    id: String,
}

/// An uploaded ABI.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AbiIdPath {
    /// Id of an ABI of your tenant; a name might stand for another one a moment later.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// An ABI to be kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AbiRequest {
    /// The name under which queries and rules use it.
    #[schema(example = "vault", pattern = "^[0-9a-z][0-9a-z._-]{0,63}$")]
    name: String,
    /// A JSON array of entries, a compiler's output with an `abi` member, or a text: either of them
    /// as JSON, or declarations such as `event Sent(address indexed to, uint256 value)`, one a line.
    #[schema(
        value_type = AbiSource,
        example = json!(["event Sent(address indexed to, uint256 value)"])
    )]
    abi: Value,
}

/// An ABI as it can be given.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) enum AbiSource {
    /// Entries as a compiler writes them, or declarations as text.
    Entries(Vec<Value>),
    /// A compiler's output.
    #[schema(value_type = Object)]
    Artifact(Value),
    /// Declarations, one a line, or JSON as text.
    Text(String),
}

/// An ABI, without its text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AbiSummary {
    /// Its id.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
    /// The name under which queries and rules use it.
    #[schema(example = "vault")]
    name: String,
    /// When it was uploaded.
    #[schema(format = DateTime)]
    created_at: String,
}

/// An ABI with all that is in it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AbiDetail {
    /// Its id; `null` for a built-in one.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    id: Option<String>,
    /// The name under which queries and rules use it.
    #[schema(example = "vault")]
    name: String,
    /// When it was uploaded; `null` for a built-in one.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// Its events.
    events: Vec<AbiEvent>,
    /// Signatures of its functions.
    #[schema(example = json!(["transfer(address,uint256)"]))]
    functions: Vec<String>,
    /// Its text as it was uploaded.
    abi: String,
}

/// An event of an ABI.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AbiEvent {
    /// Name and types.
    #[schema(example = "Transfer(address,address,uint256)")]
    signature: String,
    /// The first topic of its logs; `null` for an anonymous one.
    topic0: Option<String>,
    /// Its arguments, in order.
    arguments: Vec<AbiArgument>,
}

/// An argument of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AbiArgument {
    /// Its name; `arg0`, `arg1` … where the ABI gives none.
    #[schema(example = "to")]
    name: String,
    /// Its type.
    #[schema(example = "address")]
    r#type: String,
    /// Whether it is a topic, by which logs are found fast.
    indexed: bool,
}

impl TryFrom<AbiInfo> for AbiSummary {
    type Error = ApiError;

    fn try_from(info: AbiInfo) -> Result<Self, ApiError> {
        Ok(Self { created_at: rfc3339_millis(info.created_at)?, id: info.id, name: info.name })
    }
}

fn detail(name: String, info: Option<AbiInfo>, text: String) -> Result<AbiDetail, ApiError> {
    let abi = Abi::parse(&text).map_err(ApiError::internal)?;
    let events = abi.events().iter().map(|event| AbiEvent {
        signature: event.signature.clone(),
        topic0: (!event.anonymous).then(|| event.topic0.to_string()),
        arguments: event
            .params
            .iter()
            .map(|param| AbiArgument {
                name: param.name.clone(),
                r#type: param.ty.to_string(),
                indexed: param.indexed,
            })
            .collect(),
    });
    Ok(AbiDetail {
        events: events.collect(),
        functions: abi.functions().iter().map(|function| function.signature.clone()).collect(),
        created_at: info.as_ref().map(|info| rfc3339_millis(info.created_at)).transpose()?,
        id: info.map(|info| info.id),
        name,
        abi: text,
    })
}

/// Your ABIs
///
/// Those of your tenant, newest first, without the built-in `erc20`, `erc721` and `erc1155`. Needs
/// scope `rules:read`.
#[utoipa::path(
    get, path = "/v1/abis", tag = "events", operation_id = "listAbis",
    params(PageQuery),
    responses((status = 200, description = "The ABIs", body = Items<AbiSummary>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<PageQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let page = query.page()?;
    let abis = state.store.list_abis(caller.tenant(), &page).await?;
    let items = abis.into_iter().map(AbiSummary::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |abi: &AbiSummary| &abi.id))
}

/// Upload an ABI
///
/// It is checked whole: what is wrong with which entry stands in the problem. An uploaded ABI never
/// changes; to replace it, delete it and upload another under its name. Needs scope `rules:write`.
#[utoipa::path(
    post, path = "/v1/abis", tag = "events", operation_id = "createAbi",
    request_body(content = AbiRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The ABI", body = AbiSummary),
        (status = 409, description = "The name is taken, or the tenant has as many ABIs as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let bytes_max = state.live().config.body_bytes_max;
    let body = body::read(request.into_body(), bytes_max).await?;
    let wanted: AbiRequest = serde_json::from_slice(&body).map_err(|error| {
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        ApiError::new(code, format!("the body is no ABI request: {error}"))
    })?;
    let text = match wanted.abi {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let made = state.store.create_abi(caller.tenant(), &wanted.name, &text, &caller.actor()).await;
    let mut response = body::json_of(&AbiSummary::try_from(made.map_err(of_body)?)?)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// What the store finds wrong with an ABI is wrong with the body.
fn of_body(error: lookout_store::StoreError) -> ApiError {
    let mut error = ApiError::from(error);
    if error.code == Code::InvalidRequest {
        error.code = Code::InvalidBody;
    }
    error
}

/// An ABI
///
/// With its events, the topics by which their logs are found, and its text. Needs scope
/// `rules:read`.
#[utoipa::path(
    get, path = "/v1/abis/{id}", tag = "events", operation_id = "getAbi",
    params(AbiPath),
    responses((status = 200, description = "The ABI", body = AbiDetail))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<AbiPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    if let Some(text) = builtin(&path.id) {
        return body::json_of(&detail(path.id, None, text.to_owned())?);
    }
    if !is_abi_name(&path.id) {
        return Err(no_abi(&path.id));
    }
    let tenant = caller.tenant();
    let info = state.store.find_abi(tenant, &path.id).await?.ok_or_else(|| no_abi(&path.id))?;
    let text = state.store.abi_text(tenant, &info.id).await?.ok_or_else(|| no_abi(&path.id))?;
    body::json_of(&detail(info.name.clone(), Some(info), text)?)
}

/// Delete an ABI
///
/// Queries cannot name it any more; rules that were saved with it go on. It can be restored until it
/// is purged. Needs scope `rules:write`.
#[utoipa::path(
    delete, path = "/v1/abis/{id}", tag = "events", operation_id = "deleteAbi",
    params(AbiIdPath),
    responses((status = 204, description = "It is deleted"))
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<AbiIdPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let id = id_of(&path.id)?;
    state.store.delete_abi(caller.tenant(), id, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Restore an ABI
///
/// Takes a deletion back, unless its name is taken by now. Needs scope `rules:write`.
#[utoipa::path(
    post, path = "/v1/abis/{id}/restore", tag = "events", operation_id = "restoreAbi",
    params(AbiIdPath),
    responses(
        (status = 200, description = "The ABI", body = AbiSummary),
        (status = 409, description = "The name is taken by another ABI",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn restore(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<AbiIdPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesWrite)?;
    let id = id_of(&path.id)?;
    let info = state.store.restore_abi(caller.tenant(), id, &caller.actor()).await?;
    body::json_of(&AbiSummary::try_from(info)?)
}

fn id_of(id: &str) -> Result<&str, ApiError> {
    if uuid::Uuid::try_parse(id).is_err() { Err(no_abi(id)) } else { Ok(id) }
}

fn no_abi(id: &str) -> ApiError {
    let shown: String = id.escape_debug().take(80).collect();
    ApiError::new(Code::NotFound, format!("no ABI `{shown}`"))
}

#[cfg(test)]
mod tests;
