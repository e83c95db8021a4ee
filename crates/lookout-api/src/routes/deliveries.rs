//! `/v1/deliveries`: each alert's way to each channel.

use axum::extract::State;
use axum::response::Response;
use lookout_store::{DeliveryFilter, DeliveryInfo, DeliveryKind, DeliveryState, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::{Items, PageQuery};
use crate::provenance::rfc3339_millis;
use crate::state::Shared;

/// A delivery.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DeliveryPath {
    /// Id of a delivery of your tenant.
    #[param(pattern = "^[0-9a-f-]{36}$", example = "0198c0de-0000-7000-8000-000000000000")]
    id: String,
}

/// Which deliveries.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveriesQuery {
    /// Only to this channel.
    #[param(value_type = String, required = false, pattern = "^[0-9a-f-]{36}$")]
    channel: Option<String>,
    /// Only of this alert.
    #[param(value_type = String, required = false, pattern = "^[0-9a-f-]{36}$")]
    alert: Option<String>,
    /// Only in this state; `dead` is what failed for good.
    #[param(value_type = DeliveryStateName, required = false, inline)]
    state: Option<DeliveryStateName>,
    /// Only of this kind.
    #[param(value_type = DeliveryKindName, required = false, inline)]
    kind: Option<DeliveryKindName>,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryStateName {
    /// It waits for its time.
    Queued,
    /// It is being sent.
    Sending,
    /// The receiver has taken it.
    Sent,
    /// A silence held it back.
    Silenced,
    /// Its alert or its channel went away before.
    Cancelled,
    /// All tries failed, or the receiver refused it; it can be replayed.
    Dead,
}

/// What a delivery carries.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeliveryKindName {
    /// A confirmed alert.
    Alert,
    /// The retraction of one that was sent.
    Retraction,
    /// A message to try the channel with.
    Test,
}

impl From<DeliveryStateName> for DeliveryState {
    fn from(name: DeliveryStateName) -> Self {
        match name {
            DeliveryStateName::Queued => Self::Queued,
            DeliveryStateName::Sending => Self::Sending,
            DeliveryStateName::Sent => Self::Sent,
            DeliveryStateName::Silenced => Self::Silenced,
            DeliveryStateName::Cancelled => Self::Cancelled,
            DeliveryStateName::Dead => Self::Dead,
        }
    }
}

impl From<DeliveryKindName> for DeliveryKind {
    fn from(name: DeliveryKindName) -> Self {
        match name {
            DeliveryKindName::Alert => Self::Alert,
            DeliveryKindName::Retraction => Self::Retraction,
            DeliveryKindName::Test => Self::Test,
        }
    }
}

/// One alert's way to one channel.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delivery {
    /// Its id; receivers of webhooks see it as `webhook-id`, the same for every try.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    pub(crate) id: String,
    /// The channel.
    channel_id: String,
    /// The alert; `null` for a test.
    alert_id: Option<String>,
    /// `alert`, `retraction` or `test`.
    #[schema(example = "alert")]
    kind: &'static str,
    /// `queued`, `sending`, `sent`, `silenced`, `cancelled` or `dead`.
    #[schema(example = "sent")]
    state: &'static str,
    /// Tries so far.
    #[schema(minimum = 0)]
    attempts: i64,
    /// What went wrong last, in words; `null` when nothing did.
    error: Option<String>,
    /// The receiver's name of the message, where it gives one.
    message_id: Option<String>,
    /// Not tried before.
    #[schema(format = DateTime)]
    due_at: String,
    /// When it was queued first.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it came to its end; `null` until then.
    ended_at: Option<String>,
}

impl TryFrom<DeliveryInfo> for Delivery {
    type Error = ApiError;

    fn try_from(info: DeliveryInfo) -> Result<Self, ApiError> {
        Ok(Self {
            id: info.id,
            channel_id: info.channel_id,
            alert_id: info.alert_id,
            kind: info.kind.as_str(),
            state: info.state.as_str(),
            attempts: info.attempts,
            error: info.error,
            message_id: info.message_id,
            due_at: rfc3339_millis(info.due_at)?,
            created_at: rfc3339_millis(info.created_at)?,
            ended_at: info.ended_at.map(rfc3339_millis).transpose()?,
        })
    }
}

/// Your deliveries
///
/// Newest first. `?state=dead` is what failed for good and can be replayed. Needs scope
/// `alerts:read`.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "channels", operation_id = "listDeliveries",
    params(PageQuery, DeliveriesQuery),
    responses((status = 200, description = "The deliveries", body = Items<Delivery>))
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PageQuery>,
    UrlQuery(query): UrlQuery<DeliveriesQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::AlertsRead)?;
    let page = page.page()?;
    for (what, id) in [("channel", &query.channel), ("alert", &query.alert)] {
        if id.as_ref().is_some_and(|id| uuid::Uuid::try_parse(id).is_err()) {
            let detail = format!("`{what}` is the id of one: a UUID");
            return Err(ApiError::new(Code::InvalidParameter, detail));
        }
    }
    let filter = DeliveryFilter {
        channel: query.channel,
        alert: query.alert,
        state: query.state.map(DeliveryState::from),
        kind: query.kind.map(DeliveryKind::from),
    };
    let deliveries = state.store.list_deliveries(caller.tenant(), &filter, &page).await?;
    let items = deliveries.into_iter().map(Delivery::try_from).collect::<Result<_, _>>()?;
    body::json_of(&Items::page(items, &page, |delivery: &Delivery| &delivery.id))
}

/// A delivery
///
/// Needs scope `alerts:read`.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "channels", operation_id = "getDelivery",
    params(DeliveryPath),
    responses((status = 200, description = "The delivery", body = Delivery))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<DeliveryPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::AlertsRead)?;
    let info = state.store.get_delivery(caller.tenant(), path.id()?).await?;
    body::json_of(&Delivery::try_from(info)?)
}

/// Replay a delivery
///
/// Queues a dead one again, as if it had never been tried. Needs scope `channels:write`.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/replay", tag = "channels", operation_id = "replayDelivery",
    params(DeliveryPath),
    responses(
        (status = 200, description = "The delivery, queued", body = Delivery),
        (status = 409, description = "It is not dead, or its alert was retracted",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<DeliveryPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::ChannelsWrite)?;
    let info = state.store.replay_delivery(caller.tenant(), path.id()?, &caller.actor()).await?;
    body::json_of(&Delivery::try_from(info)?)
}

impl DeliveryPath {
    /// The id; what cannot be one is not there.
    fn id(&self) -> Result<&str, ApiError> {
        if uuid::Uuid::try_parse(&self.id).is_err() {
            let shown: String = self.id.chars().take(80).collect();
            return Err(ApiError::new(Code::NotFound, format!("no delivery `{shown}`")));
        }
        Ok(&self.id)
    }
}

#[cfg(test)]
mod tests;
