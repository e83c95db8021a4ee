//! What can be done to a channel besides changing it.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use lookout_store::{ChannelConfig, Scope, SignatureScheme};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::forms::{SignatureName, form};
use super::shapes::{Channel, ChatLink, MadeChannel, shared_key};
use super::{ChannelPath, link_of, of_body, shown_once};
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::UrlPath;
use crate::middleware::Visitor;
use crate::routes::deliveries::Delivery;
use crate::state::Shared;

/// How long a replaced key signs on when nothing is said: a day, for a deployment with people in it.
const KEEP_SECONDS_DEFAULT: u32 = 86_400;

/// A change of keys.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RotateRequest {
    /// How the new key signs; as the newest one does when left out.
    signature: Option<SignatureName>,
    /// How long the keys before sign on beside it.
    #[schema(default = 86_400, maximum = 2_592_000)]
    keep_seconds: Option<u32>,
}

/// What a replay did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplayAnswer {
    /// Deliveries that are queued again.
    queued: u64,
    /// Whether more are dead: then call again.
    more: bool,
}

/// Restore a channel
///
/// Takes its deletion back. What the deletion cancelled stays cancelled. Needs scope
/// `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/restore", tag = "channels", operation_id = "restoreChannel",
    params(ChannelPath),
    responses(
        (status = 200, description = "The channel", body = Channel),
        (status = 409, description = "The tenant has as many channels as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn restore(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let info = state.store.restore_channel(caller.tenant(), path.id()?, &caller.actor()).await?;
    body::json_of(&Channel::try_from(info)?)
}

/// Enable a channel
///
/// Sends to a disabled channel again; what waited for it is due at once. What died stays dead until
/// it is replayed. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/enable", tag = "channels", operation_id = "enableChannel",
    params(ChannelPath),
    responses((status = 200, description = "The channel", body = Channel))
)]
pub(crate) async fn enable(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let info = state.store.enable_channel(caller.tenant(), path.id()?, &caller.actor()).await?;
    body::json_of(&Channel::try_from(info)?)
}

/// Link a chat
///
/// A new code for a Telegram channel, to move it to another chat or because the last code has
/// expired. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/link", tag = "channels", operation_id = "linkChannel",
    params(ChannelPath),
    responses(
        (status = 200, description = "The code, with links that carry it", body = ChatLink),
        (status = 409, description = "Only Telegram channels are linked",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn link(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let info = state.store.get_channel(caller.tenant(), path.id()?).await?;
    if !matches!(info.config, ChannelConfig::Telegram { .. }) {
        let detail = format!("a {} channel is not linked to a chat", info.config.kind());
        return Err(ApiError::new(Code::Conflict, detail));
    }
    shown_once(StatusCode::OK, &link_of(&state, caller.tenant(), &info).await?)
}

/// Rotate a signing key
///
/// Adds a key to a webhook. The keys before go on signing beside it for a day, or as long as you
/// say, so that the receiver can change over. The new key is in this answer and in none after it.
/// Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/rotate", tag = "channels", operation_id = "rotateChannelKey",
    params(ChannelPath),
    request_body(content = Option<RotateRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The channel, with its new key", body = MadeChannel),
        (status = 409, description = "Too many keys of this channel still sign",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rotate(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let (tenant, id) = (caller.tenant(), path.id()?);
    let bytes = body::read(request.into_body(), state.live().config.body_bytes_max).await?;
    let wanted = if bytes.is_empty() { json!({}) } else { parse(&bytes)? };
    let RotateRequest { signature, keep_seconds } =
        if wanted.is_null() { RotateRequest::default() } else { form(&wanted)? };
    let before = state.store.get_channel(tenant, id).await?;
    let newest = before.signing.last().map_or(SignatureScheme::Hmac, |key| key.scheme);
    let scheme = signature.map_or(newest, SignatureScheme::from);
    let keep_ms = i64::from(keep_seconds.unwrap_or(KEEP_SECONDS_DEFAULT)) * 1000;
    let actor = caller.actor();
    let rotated = state.store.rotate_channel_key(tenant, id, scheme, keep_ms, &actor);
    let (info, key) = rotated.await.map_err(of_body)?;
    let signing_key = shared_key(&key);
    shown_once(StatusCode::OK, &MadeChannel { channel: info.try_into()?, signing_key, link: None })
}

fn parse(bytes: &[u8]) -> Result<serde_json::Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(Code::MalformedJson, format!("the body is no JSON: {error}"))
    })
}

/// Test a channel
///
/// Sends a message to it now and waits up to ten seconds for what becomes of it: `sent`, or the
/// error in words. 202 when it is not known by then; look at the delivery later. Needs scope
/// `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/test", tag = "channels", operation_id = "testChannel",
    params(ChannelPath),
    responses(
        (status = 200, description = "What became of the first try", body = Delivery),
        (status = 202, description = "Nothing yet", body = Delivery),
        (status = 409, description = "The channel is unlinked or disabled, or other tests wait",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn test(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let (tenant, id) = (caller.tenant(), path.id()?);
    let queued = state.store.queue_test(tenant, id, &caller.actor()).await?;
    let patience = state.live().config.channels.test_patience;
    let ended = state.store.await_delivery(tenant, &queued.id, patience).await?;
    let known = ended.has_outcome();
    let mut response = body::json_of(&Delivery::try_from(ended)?)?;
    *response.status_mut() = if known { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(response)
}

/// Replay what died
///
/// Queues the oldest dead deliveries of a channel again, up to 10,000 a call. Those whose alert was
/// retracted stay dead. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels/{id}/replay", tag = "channels", operation_id = "replayChannel",
    params(ChannelPath),
    responses((status = 200, description = "How many are queued again", body = ReplayAnswer))
)]
pub(crate) async fn replay(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let done = state.store.replay_dead(caller.tenant(), path.id()?, &caller.actor()).await?;
    body::json_of(&ReplayAnswer { queued: done.queued, more: done.more })
}
