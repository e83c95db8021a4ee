//! `/v1/channels`: where alerts go.

pub(crate) mod acts;
mod forms;
mod shapes;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use lookout_store::{ChannelConfig, ChannelInfo, ChannelSecrets, NewChannel, Scope, StoreError};
use lookout_types::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use self::forms::{ChannelRequest, Wanted};
use self::shapes::{Channel, ChatLink, MadeChannel};
use crate::ChannelSettings;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::state::Shared;

/// A channel.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ChannelPath {
    /// Id of a channel of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

impl ChannelPath {
    /// The id; what cannot be one is not there.
    fn id(&self) -> Result<&str, ApiError> {
        if uuid::Uuid::try_parse(&self.id).is_err() {
            let shown: String = self.id.chars().take(80).collect();
            return Err(ApiError::new(Code::NotFound, format!("no channel `{shown}`")));
        }
        Ok(&self.id)
    }
}

/// Which channels.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChannelsQuery {
    /// Those that are deleted and can be restored, instead of those that are not.
    #[param(value_type = bool, required = false, default = false)]
    deleted: Option<bool>,
}

/// Your channels
///
/// Newest first, without their secrets. Needs scope `channels:read`.
#[utoipa::path(
    get, path = "/v1/channels", tag = "channels", operation_id = "listChannels",
    params(PageQuery, ChannelsQuery),
    responses((status = 200, description = "The channels", body = Items<Channel>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PageQuery>,
    UrlQuery(query): UrlQuery<ChannelsQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsRead)?;
    let page = page.page()?;
    let deleted = query.deleted.unwrap_or(false);
    let channels = state.store.list_channels(caller.tenant(), deleted, &page).await?;
    let items = channels.into_iter().map(Channel::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |channel: &Channel| &channel.id))
}

/// Make a channel
///
/// Five kinds: `telegram`, `slack`, `discord`, `webhook` and `email`. Tokens and secret URLs are
/// never shown again. A webhook's signing key is in this answer and in none after it. A Telegram
/// channel is `unlinked` until somebody sends the bot the code of this answer from the chat that is
/// meant; the link opens Telegram with it. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/channels", tag = "channels", operation_id = "createChannel",
    request_body(content = ChannelRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The new channel, with what is shown this once", body = MadeChannel),
        (status = 409, description = "The tenant has as many channels as it can",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let live = state.live();
    let settings = &live.config.channels;
    let bytes = body::read(request.into_body(), live.config.body_bytes_max).await?;
    let new = new_channel(caller.tenant(), &bytes, settings, state.clock.now())?;
    let made = state.store.create_channel(new, &settings.guard, &caller.actor()).await;
    let (info, secrets) = made.map_err(of_body)?;
    let signing_key = secrets.signing.last().and_then(shapes::shared_key);
    let link = match &info.config {
        ChannelConfig::Telegram { chat_id: None, .. } => {
            Some(link_of(&state, caller.tenant(), &info).await?)
        }
        _ => None,
    };
    let made = MadeChannel { channel: info.try_into()?, signing_key, link };
    shown_once(StatusCode::CREATED, &made)
}

/// The channel that a body asks for.
pub(crate) fn new_channel(
    tenant: &str,
    body: &[u8],
    settings: &ChannelSettings,
    now: UnixMillis,
) -> Result<NewChannel, ApiError> {
    let Wanted { name, config, token, url, signature } = forms::read(body)?;
    if matches!(config, ChannelConfig::Email { .. }) && !settings.mail {
        let detail = "this server sends no mail; its operator can configure a mail server";
        return Err(ApiError::new(Code::InvalidBody, detail));
    }
    let signing = signature.map(|scheme| forms::key(scheme, now)).transpose()?;
    let secrets = ChannelSecrets { token, url, signing: signing.into_iter().collect() };
    Ok(NewChannel { tenant: tenant.to_owned(), name, config, secrets })
}

/// A channel
///
/// Without its secrets. Needs scope `channels:read`.
#[utoipa::path(
    get, path = "/v1/channels/{id}", tag = "channels", operation_id = "getChannel",
    params(ChannelPath),
    responses((status = 200, description = "The channel", body = Channel))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsRead)?;
    let info = state.store.get_channel(caller.tenant(), path.id()?).await?;
    body::json_of(&Channel::try_from(info)?)
}

/// Change a channel
///
/// Replaces its name and where it leads. A channel keeps its kind. A secret that is left out stays
/// as it is, and so does a linked chat; keys are changed by rotating them. Needs scope
/// `channels:write`.
#[utoipa::path(
    put, path = "/v1/channels/{id}", tag = "channels", operation_id = "replaceChannel",
    params(ChannelPath),
    request_body(content = ChannelRequest, content_type = "application/json"),
    responses((status = 200, description = "The channel as it is now", body = Channel))
)]
pub(crate) async fn replace(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let id = path.id()?;
    let live = state.live();
    let bytes = body::read(request.into_body(), live.config.body_bytes_max).await?;
    let wanted = forms::read(&bytes)?;
    if wanted.signature.is_some() {
        let detail = "`signature` is for new channels; rotate the key of this one instead";
        return Err(ApiError::new(Code::InvalidBody, detail));
    }
    let (guard, actor) = (&live.config.channels.guard, caller.actor());
    let changed = state.store.update_channel(caller.tenant(), id, wanted.into(), guard, &actor);
    let info = changed.await.map_err(of_body)?;
    body::json_of(&Channel::try_from(info)?)
}

/// Delete a channel
///
/// It can be restored. What is queued for it is cancelled and stays so. Deleting it again changes
/// nothing. Needs scope `channels:write`.
#[utoipa::path(
    delete, path = "/v1/channels/{id}", tag = "channels", operation_id = "deleteChannel",
    params(ChannelPath),
    responses((status = 204, description = "It is deleted"))
)]
pub(crate) async fn delete(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChannelPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    state.store.delete_channel(caller.tenant(), path.id()?, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A new code for a chat, with the link that carries it where the bot's name is known.
async fn link_of(state: &Shared, tenant: &str, info: &ChannelInfo) -> Result<ChatLink, ApiError> {
    let code = state.store.make_link_code(tenant, &info.id).await?;
    let live = state.live();
    let configured = live.config.channels.telegram_bot.as_deref().filter(|_| !info.own_bot);
    if let Some(bot) = configured {
        return Ok(ChatLink::new(code, Some(bot)));
    }
    // The bot has told its name when it was first listened for.
    let url = state.store.link_url(tenant, &info.id, &code).await?;
    let bot = url.as_deref().and_then(|url| url.strip_prefix("https://t.me/")?.split('?').next());
    Ok(ChatLink::new(code, bot))
}

/// An answer with something secret in it.
fn shown_once(status: StatusCode, answer: &impl Serialize) -> Result<Response, ApiError> {
    let mut response = body::json_of(answer)?;
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the store refuses here came with the body.
pub(super) fn of_body(error: StoreError) -> ApiError {
    match error {
        StoreError::Invalid(detail) => ApiError::new(Code::InvalidBody, detail),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests;
