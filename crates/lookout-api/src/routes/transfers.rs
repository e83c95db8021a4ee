//! `/v1/chains/{chain}/transfers`: what moved on a followed chain.

use axum::extract::State;
use axum::response::Response;
use lookout_store::Scope;
use lookout_types::ChainId;
use lookout_warehouse::{AssetFilter, Side, TransferFilter, export_transfers};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::chains::ChainPath;
use super::events::ask::{PageAsk, SpanQuery, Wanted, address, addresses, assets, invalid};
use super::events::export::{self, TransferRows};
use super::events::item::{Held, TransferItem, transfer_item};
use super::follow::{held, require_followed};
use crate::body;
use crate::error::ApiError;
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::state::Shared;

/// Whose transfers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PartiesQuery {
    /// One of these takes part, separated by commas.
    #[param(
        value_type = String, required = false, example = "0xc94770007dda54cf92009bff0de90c06f603a09f",
        pattern = "^0x([0-9a-f]{40}|[0-9A-F]{40})(,0x([0-9a-f]{40}|[0-9A-F]{40}))*$"
    )]
    address: Option<String>,
}

/// Which transfers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TransfersQuery {
    /// Of transfers: at which end of the transfer an `address` stands.
    #[param(value_type = SideName, required = false, inline)]
    side: Option<SideName>,
    /// Of transfers: one of these assets, separated by commas: `native`, a token contract, or one token of a
    /// collection as `contract:id`, the id decimal or 0x-hex.
    #[param(value_type = String, required = false, example = "native")]
    asset: Option<String>,
}

/// An end of a transfer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "either")]
pub(crate) enum SideName {
    /// Sender or recipient.
    #[default]
    Either,
    /// Sender.
    From,
    /// Recipient.
    To,
}

impl TransfersQuery {
    /// Whether it asks for what events do not have.
    pub(super) fn is_about_transfers(&self) -> bool {
        self.side.is_some() || self.asset.is_some()
    }

    pub(super) fn filter(
        &self,
        chain: ChainId,
        parties: Option<&str>,
        span: &SpanQuery,
    ) -> Result<TransferFilter, ApiError> {
        if self.side.is_some() && parties.is_none() {
            return Err(invalid("`side` says where an `address` stands; give one"));
        }
        Ok(TransferFilter {
            chain,
            parties: addresses("address", parties)?,
            side: match self.side.unwrap_or_default() {
                SideName::Either => Side::Either,
                SideName::From => Side::From,
                SideName::To => Side::To,
            },
            assets: assets(self.asset.as_deref(), asset)?,
            span: span.span()?,
        })
    }
}

fn asset(text: &str) -> Result<AssetFilter, ApiError> {
    if text == "native" {
        return Ok(AssetFilter::Native);
    }
    let Some((contract, id)) = text.split_once(':') else {
        return address(text).map(AssetFilter::Contract);
    };
    let contract = address(contract)?;
    let id = id.parse().map_err(|error| invalid(format!("the id of a token: {error}")))?;
    Ok(AssetFilter::Token { contract, id })
}

/// A page of transfers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TransfersPage {
    /// The transfers of this page. They can be fewer than asked for while there is a `next`.
    items: Vec<TransferItem>,
    /// Cursor of the next page; `null` on the last one.
    next: Option<String>,
    /// The heights of the chain that are held. What lies outside was not searched.
    held: Vec<Held>,
}

/// Transfers
///
/// Of the chain's own coin (by transactions; where the chain is followed whole) and of ERC-20,
/// ERC-721 and ERC-1155 tokens, newest first unless `order` says otherwise. A batch is told transfer
/// by transfer. `format=csv` and `format=ndjson` stream everything that is asked for, as for events.
/// Needs scope `events:read`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/transfers", tag = "events", operation_id = "listTransfers",
    params(ChainPath, PartiesQuery, TransfersQuery, SpanQuery, PageAsk),
    responses(
        (status = 200, description = "The transfers", content(
            (TransfersPage = "application/json"), (String = "text/csv"),
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
    UrlQuery(parties): UrlQuery<PartiesQuery>,
    UrlQuery(query): UrlQuery<TransfersQuery>,
    UrlQuery(span): UrlQuery<SpanQuery>,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    visitor.caller.require(Scope::EventsRead)?;
    let followed = state.chain(&path.chain)?;
    let chain = followed.id();
    let filter = query.filter(chain, parties.address.as_deref(), &span)?;
    require_followed(&state, &followed)?;
    let page = match wanted {
        Wanted::Page(page) => page,
        Wanted::Export(format, order) => {
            let slot = state.exports.take(&visitor)?;
            let found = export_transfers(state.warehouse.clone(), filter, order);
            return Ok(export::answer(TransferRows, found, format, chain, slot));
        }
    };
    // First: what comes in between is then not claimed to have been searched.
    let held = held(&state, chain).await?;
    let found = state.warehouse.transfers(&filter, &page).await?;
    let items = found.items.iter().map(transfer_item).collect::<Result<_, _>>()?;
    body::json_of(&TransfersPage { items, next: found.next, held })
}

#[cfg(test)]
mod tests;
