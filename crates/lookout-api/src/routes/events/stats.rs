//! `/v1/chains/{chain}/events/stats`: counts and sums over time.

use axum::extract::State;
use axum::response::Response;
use lookout_store::Scope;
use lookout_types::UnixSeconds;
use lookout_warehouse::{EventGroup, EventStat, Total, TransferStat};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::EventsAsk;
use super::ask::{SpanQuery, bucket, invalid};
use super::item::{AssetItem, Held};
use crate::body;
use crate::error::ApiError;
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::provenance::rfc3339_seconds;
use crate::routes::chains::ChainPath;
use crate::routes::follow::{held, require_followed};
use crate::routes::transfers::TransfersQuery;
use crate::state::Shared;

/// What to count.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatsQuery {
    /// Count events, or count and sum transfers.
    #[param(value_type = StatsKind, required = false, inline)]
    kind: Option<StatsKind>,
    /// Length of a bucket, from `60s` to `31d`, in `s`, `m`, `h`, `d` or `w`; without it, one bucket
    /// over everything. Buckets count from 1970; empty ones are left out.
    #[param(
        value_type = String, required = false, example = "1h", pattern = "^[0-9]{1,7}[smhdw]$"
    )]
    bucket: Option<String>,
    /// What counts of events are apart by. Transfers are always apart by asset.
    #[param(value_type = GroupName, required = false, inline)]
    group: Option<GroupName>,
}

/// What to count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "events")]
pub(crate) enum StatsKind {
    /// Events.
    #[default]
    Events,
    /// Transfers, with their sums.
    Transfers,
}

/// What counts are apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum GroupName {
    /// The contract.
    Address,
    /// The first topic.
    Event,
    /// Both.
    AddressEvent,
}

/// Counts over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// By time, then by group.
    items: Vec<StatItem>,
    /// The heights of the chain that are held. What lies outside was not counted.
    held: Vec<Held>,
}

/// A count in one bucket of one group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum StatItem {
    /// Of events.
    Events(EventCount),
    /// Of transfers.
    Transfers(TransferSum),
}

/// How many events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventCount {
    /// Start of the bucket; `null` without buckets.
    #[schema(format = DateTime)]
    from_time: Option<String>,
    /// The contract, where counts are apart by it.
    address: Option<String>,
    /// The first topic, where counts are apart by it; anonymous events have none.
    topic0: Option<String>,
    /// How many.
    #[schema(minimum = 0)]
    count: u64,
}

/// How many transfers of an asset, and how much.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TransferSum {
    /// Start of the bucket; `null` without buckets.
    #[schema(format = DateTime)]
    from_time: Option<String>,
    /// The asset; a collection is counted with all its tokens.
    asset: AssetItem,
    /// How many.
    #[schema(minimum = 0)]
    count: u64,
    /// How much, in the asset's smallest unit; `null` when that is 2^256 or more.
    #[schema(example = "1500000")]
    total: Option<String>,
    /// Whether the sum is 2^256 or more: some contract claims to have moved more than can exist.
    overflow: bool,
}

/// Counts of events and transfers
///
/// With `kind=events` (the default) of the events that the filters of the events route find; with
/// `kind=transfers` of the transfers that those of the transfers route find, with their sums. A sum
/// of 2^256 or more is said, never wrapped. At most 10,000 rows. Needs scope `events:read`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/events/stats", tag = "events", operation_id = "countEvents",
    params(
        ChainPath, StatsQuery, super::EventsQuery,
        ("where" = Option<Vec<String>>, Query,
            description = "An indexed argument of the `event` and its value, as `name:value`.",
            example = json!(["to:0xc94770007dda54cf92009bff0de90c06f603a09f"])),
        TransfersQuery,
        SpanQuery,
    ),
    responses(
        (status = 200, description = "The counts", body = Stats),
        (status = 409, description = "The chain is not followed", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stats(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<StatsQuery>,
    ask: EventsAsk,
    UrlQuery(of_transfers): UrlQuery<TransfersQuery>,
) -> Result<Response, ApiError> {
    caller.require(Scope::EventsRead)?;
    let bucket_s = query.bucket.as_deref().map(bucket).transpose()?;
    let followed = state.chain(&path.chain)?;
    let chain = followed.id();
    let items = if query.kind.unwrap_or_default() == StatsKind::Events {
        if of_transfers.is_about_transfers() {
            return Err(invalid("`side` and `asset` go with kind=transfers"));
        }
        let (filter, decoding) = ask.resolve(&state, caller.tenant(), chain).await?;
        if let Some(decoding) = &decoding {
            decoding.require_topics_only()?;
        }
        require_followed(&state, &followed)?;
        let _turn = state.tallies.acquire().await.map_err(ApiError::internal)?;
        let rows = state.warehouse.event_stats(&filter, bucket_s, group(query.group)).await?;
        rows.into_iter().map(event_count).collect::<Result<_, _>>()?
    } else {
        if ask.is_about_events() || query.group.is_some() {
            let detail =
                "topics, `abi`, `event`, `decode`, `where` and `group` go with kind=events";
            return Err(invalid(detail));
        }
        let filter = of_transfers.filter(chain, ask.query.address.as_deref(), &ask.span)?;
        require_followed(&state, &followed)?;
        let _turn = state.tallies.acquire().await.map_err(ApiError::internal)?;
        let rows = state.warehouse.transfer_stats(&filter, bucket_s).await?;
        rows.into_iter().map(transfer_sum).collect::<Result<_, _>>()?
    };
    body::json_of(&Stats { items, held: held(&state, chain).await? })
}

fn group(name: Option<GroupName>) -> EventGroup {
    match name {
        None => EventGroup::All,
        Some(GroupName::Address) => EventGroup::Address,
        Some(GroupName::Event) => EventGroup::Event,
        Some(GroupName::AddressEvent) => EventGroup::AddressEvent,
    }
}

fn time(from: Option<UnixSeconds>) -> Result<Option<String>, ApiError> {
    from.map(rfc3339_seconds).transpose()
}

fn event_count(stat: EventStat) -> Result<StatItem, ApiError> {
    Ok(StatItem::Events(EventCount {
        from_time: time(stat.from_time)?,
        address: stat.address.map(|address| address.to_string()),
        topic0: stat.topic0.map(|topic| topic.to_string()),
        count: stat.count,
    }))
}

fn transfer_sum(stat: TransferStat) -> Result<StatItem, ApiError> {
    let total = match stat.total {
        Total::Exact(amount) => Some(amount.to_string()),
        Total::Overflow => None,
    };
    Ok(StatItem::Transfers(TransferSum {
        from_time: time(stat.from_time)?,
        asset: stat.asset.into(),
        count: stat.count,
        overflow: total.is_none(),
        total,
    }))
}
