//! The event warehouse: the logs and transfers of followed chains, kept and queried.
//!
//! Does: commit frames with their cursor, undo them, and answer queries by address, topic and time.
//! Does not: read chains, decode by ABI, or know rules; what to keep is decided by who makes frames.
//! Units: times in seconds since 1970 UTC from block headers; amounts in the asset's smallest unit.
//! Errors: [`WarehouseError`]; a batch of frames is committed whole or not at all.
//! Source: ERC-20, ERC-721, ERC-1155 (transfers); SQLite's WAL mode (one writer, many readers).

mod error;
mod export;
mod page;
mod query;
mod sqlite;
mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod suite;
mod url;
mod warehouse;

pub use error::WarehouseError;
pub use export::{export_events, export_transfers};
pub use page::{Order, PAGE_LIMIT_MAX, Page, PageRequest};
pub use query::{
    AssetFilter, Event, EventFilter, FILTER_VALUES_MAX, OddEvent, Side, Span, TransferEvent,
    TransferFilter,
};
pub use stats::{AssetClass, EventGroup, EventStat, STATS_ROWS_MAX, Total, TransferStat};
pub use url::{WarehouseUrl, WarehouseUrlError};
pub use warehouse::{Applied, Warehouse, open};
