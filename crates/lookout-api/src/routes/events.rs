//! `/v1/chains/{chain}/events`: the logs of a followed chain, decoded, counted, exported.

pub(super) mod ask;
mod csv;
mod decoding;
pub(super) mod export;
pub(super) mod item;
pub(crate) mod stats;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use lookout_store::Scope;
use lookout_types::ChainId;
use lookout_warehouse::{
    EventFilter, OddEvent, PAGE_LIMIT_MAX, PageRequest, Warehouse, export_events,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::chains::ChainPath;
use super::follow::{held, require_followed};
use crate::body;
use crate::error::ApiError;
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::page::Items;
use crate::state::{self, Shared};
use ask::{PageAsk, PlainPageAsk, SpanQuery, Wanted, Wheres, addresses, hashes, invalid};
use decoding::Decoding;
use export::EventRows;
use item::{EventItem, Held, event_item, raw_item};

/// Pages of the warehouse that one answer searches for arguments that are no topics: ten thousand
/// logs, a fraction of a second.
const SIFTED_PAGES_MAX: u32 = 10;

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Emitted by one of these contracts, separated by commas.
    #[param(
        value_type = String, required = false, example = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
        pattern = "^0x([0-9a-f]{40}|[0-9A-F]{40})(,0x([0-9a-f]{40}|[0-9A-F]{40}))*$"
    )]
    pub(super) address: Option<String>,
    /// The first topic is one of these, separated by commas.
    #[param(
        value_type = String, required = false,
        pattern = "^0x[0-9a-fA-F]{64}(,0x[0-9a-fA-F]{64})*$"
    )]
    topic0: Option<String>,
    /// The second topic is one of these.
    #[param(
        value_type = String, required = false,
        pattern = "^0x[0-9a-fA-F]{64}(,0x[0-9a-fA-F]{64})*$"
    )]
    topic1: Option<String>,
    /// The third topic is one of these.
    #[param(
        value_type = String, required = false,
        pattern = "^0x[0-9a-fA-F]{64}(,0x[0-9a-fA-F]{64})*$"
    )]
    topic2: Option<String>,
    /// The fourth topic is one of these.
    #[param(
        value_type = String, required = false,
        pattern = "^0x[0-9a-fA-F]{64}(,0x[0-9a-fA-F]{64})*$"
    )]
    topic3: Option<String>,
    /// The ABI that has the `event`: `erc20`, `erc721`, `erc1155`, or one that you uploaded.
    #[param(
        value_type = String, required = false, pattern = "^[0-9A-Za-z._-]{1,64}$", example = "erc20"
    )]
    abi: Option<String>,
    /// The event, by its name or, where several have the name, its signature. It is decoded.
    #[param(value_type = String, required = false, example = "Transfer")]
    event: Option<String>,
    /// An ABI by which every event is decoded, without asking for a certain one.
    #[param(
        value_type = String, required = false, pattern = "^[0-9A-Za-z._-]{1,64}$", example = "erc20"
    )]
    decode: Option<String>,
}

/// Everything that says which events.
pub(crate) struct EventsAsk {
    pub(super) query: EventsQuery,
    wheres: Wheres,
    pub(super) span: SpanQuery,
}

impl FromRequestParts<Shared> for EventsAsk {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        let UrlQuery(query) = UrlQuery::from_request_parts(parts, state).await?;
        let wheres = Wheres::from_request_parts(parts, state).await?;
        let UrlQuery(span) = UrlQuery::from_request_parts(parts, state).await?;
        Ok(Self { query, wheres, span })
    }
}

impl EventsAsk {
    /// Whether it asks for what transfers do not have.
    fn is_about_events(&self) -> bool {
        let EventsQuery { address: _, topic0, topic1, topic2, topic3, abi, event, decode } =
            &self.query;
        let all = [topic0, topic1, topic2, topic3, abi, event, decode];
        all.into_iter().any(Option::is_some) || !self.wheres.0.is_empty()
    }

    /// The filter, and how to decode what it finds.
    pub(super) async fn resolve(
        &self,
        state: &state::State,
        tenant: &str,
        chain: ChainId,
    ) -> Result<(EventFilter, Option<Decoding>), ApiError> {
        let Self { query, wheres: Wheres(wheres), span } = self;
        let mut topics = [
            hashes("topic0", query.topic0.as_deref())?,
            hashes("topic1", query.topic1.as_deref())?,
            hashes("topic2", query.topic2.as_deref())?,
            hashes("topic3", query.topic3.as_deref())?,
        ];
        let addresses = addresses("address", query.address.as_deref())?;
        let span = span.span()?;
        let abi = |name: &str| {
            let name = name.to_owned();
            async move { state.abis.get(&state.store, tenant, &name).await }
        };
        let decoding = match (&query.event, &query.abi, &query.decode) {
            (Some(_), Some(_), None) if query.topic0.is_some() => {
                return Err(invalid("`event` and `topic0` both name the event; give one of them"));
            }
            (Some(event), Some(name), None) => {
                Some(Decoding::of_event(abi(name).await?, event, wheres, &mut topics)?)
            }
            (Some(_), _, Some(_)) => {
                return Err(invalid("`event` is decoded by its `abi`; leave `decode` out"));
            }
            (Some(_), None, None) => {
                return Err(invalid("`event` needs the `abi` that has it, such as abi=erc20"));
            }
            (None, Some(_), _) => {
                return Err(invalid("`abi` goes with `event`; to decode every event use `decode`"));
            }
            (None, None, _) if !wheres.is_empty() => {
                return Err(invalid(
                    "`where` names an argument of an event; give `abi` and `event`",
                ));
            }
            (None, None, Some(name)) => Some(Decoding::all(abi(name).await?)),
            (None, None, None) => None,
        };
        Ok((EventFilter { chain, addresses, topics, span }, decoding))
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventsPage {
    /// The events of this page. They can be fewer than asked for while there is a `next`.
    items: Vec<EventItem>,
    /// Cursor of the next page; `null` on the last one.
    next: Option<String>,
    /// The heights of the chain that are held. What lies outside was not searched.
    held: Vec<Held>,
    /// How many of the items carry a `decodeError`.
    #[schema(minimum = 0)]
    decode_errors: u64,
}

/// A log in quarantine.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OddItem {
    /// The log.
    #[serde(flatten)]
    event: EventItem,
    /// Why it is no transfer.
    #[schema(example = "the length of the data fits no transfer")]
    reason: String,
}

/// Events
///
/// The logs of a followed chain, newest first unless `order` says otherwise. With `abi` and `event`
/// they are found by the event and decoded; with `decode` every log is decoded by an ABI. A log that
/// does not decode is there as it is, with the reason. `where` asks for an argument: of an indexed
/// one the topic is searched; others are compared after decoding, so that pages may be short, even
/// empty, while `next` says that there is more to search.
///
/// `format=csv` and `format=ndjson` (or `Accept: text/csv`, `application/x-ndjson`) stream everything
/// that is asked for. An error in the middle cuts the connection off: a transfer that ended well is
/// whole. In CSV, text from the chain that a spreadsheet would take for a formula has an apostrophe
/// in front. Needs scope `events:read`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/events", tag = "events", operation_id = "listEvents",
    params(
        ChainPath, EventsQuery,
        ("where" = Option<Vec<String>>, Query,
            description = "An argument of the `event` and its value, as `name:value`. The same \
                argument twice means either value, different ones mean all of them.",
            example = json!(["to:0xc94770007dda54cf92009bff0de90c06f603a09f"])),
        SpanQuery, PageAsk,
    ),
    responses(
        (status = 200, description = "The events", content(
            (EventsPage = "application/json"), (String = "text/csv"),
            (String = "application/x-ndjson"))),
        (status = 409, description = "The chain is not followed, or a reorg replaced what earlier \
            pages were read from", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
    visitor: Visitor,
    ask: EventsAsk,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    visitor.caller.require(Scope::EventsRead)?;
    let followed = state.chain(&path.chain)?;
    let chain = followed.id();
    let (filter, decoding) = ask.resolve(&state, visitor.caller.tenant(), chain).await?;
    require_followed(&state, &followed)?;
    let page = match wanted {
        Wanted::Page(page) => page,
        Wanted::Export(format, order) => {
            let slot = state.exports.take(&visitor)?;
            let found = export_events(state.warehouse.clone(), filter, order);
            return Ok(export::answer(EventRows(decoding), found, format, chain, slot));
        }
    };
    // First: what comes in between is then not claimed to have been searched.
    let held = held(&state, chain).await?;
    let (items, next) = read(&*state.warehouse, &filter, decoding.as_ref(), page).await?;
    let failed = items.iter().filter(|item| item.decode_error.is_some()).count();
    body::json_of(&EventsPage {
        items,
        next,
        held,
        decode_errors: u64::try_from(failed).unwrap_or(u64::MAX),
    })
}

/// One page of what is asked for.
async fn read(
    warehouse: &dyn Warehouse,
    filter: &EventFilter,
    decoding: Option<&Decoding>,
    mut page: PageRequest,
) -> Result<(Vec<EventItem>, Option<String>), ApiError> {
    let wanted = page.limit;
    if !decoding.is_some_and(Decoding::sifts) {
        let (items, next) = some(warehouse, filter, decoding, &page).await?;
        return Ok((items.into_iter().map(|(_, item)| item).collect(), next));
    }
    let mut items = Vec::new();
    for _ in 0..SIFTED_PAGES_MAX {
        let room = wanted - u32::try_from(items.len()).unwrap_or(wanted);
        // Many are read, as few may be asked for. When there are too many of those, as many are
        // read again as hold just enough, because a cursor stands only at the end of a page; and
        // when a reorg in between changed that too, no more than there is room for.
        page.limit = PAGE_LIMIT_MAX;
        let (mut found, mut next) = some(warehouse, filter, decoding, &page).await?;
        for attempt in 0..2 {
            let enough = usize::try_from(room).unwrap_or(usize::MAX);
            if found.len() <= enough {
                break;
            }
            let last = found.get(enough.saturating_sub(1)).map_or(room, |(read, _)| *read);
            page.limit = if attempt == 0 { last } else { room };
            (found, next) = some(warehouse, filter, decoding, &page).await?;
        }
        items.extend(found.into_iter().map(|(_, item)| item));
        page.cursor = next;
        if page.cursor.is_none() || items.len() >= usize::try_from(wanted).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok((items, page.cursor))
}

/// What a page of the warehouse holds of what is asked for, each with how many logs were read up to
/// it.
async fn some(
    warehouse: &dyn Warehouse,
    filter: &EventFilter,
    decoding: Option<&Decoding>,
    page: &PageRequest,
) -> Result<(Vec<(u32, EventItem)>, Option<String>), ApiError> {
    let found = warehouse.events(filter, page).await?;
    let mut items = Vec::new();
    for (read, event) in (1..).zip(&found.items) {
        if let Some(item) = event_item(event, decoding)? {
            items.push((read, item));
        }
    }
    Ok((items, found.next))
}

/// Events in quarantine
///
/// Logs that carry the topic of a token transfer but are none that can be decoded, with the reason.
/// They are among the events, not among the transfers. Needs scope `events:read`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/events/odd", tag = "events", operation_id = "listOddEvents",
    params(ChainPath, PlainPageAsk),
    responses(
        (status = 200, description = "The events", body = Items<OddItem>),
        (status = 409, description = "The chain is not followed, or a reorg replaced what earlier \
            pages were read from", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn odd(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(page): UrlQuery<PlainPageAsk>,
) -> Result<Response, ApiError> {
    caller.require(Scope::EventsRead)?;
    let page = page.page()?;
    let chain = state.chain(&path.chain)?;
    require_followed(&state, &chain)?;
    let found = state.warehouse.odd_logs(chain.id(), &page).await?;
    let item = |OddEvent { event, reason }: &OddEvent| {
        let event = raw_item(event.block, event.timestamp, &event.log)?;
        Ok(OddItem { event, reason: reason.to_string() })
    };
    let items = found.items.iter().map(item).collect::<Result<_, ApiError>>()?;
    body::json_of(&Items { items, next: found.next })
}

#[cfg(test)]
pub(crate) mod tests;
