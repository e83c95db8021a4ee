//! Everything that a query finds, as a stream in bounded memory.

use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::try_unfold;

use crate::{
    Event, EventFilter, Order, PAGE_LIMIT_MAX, PageRequest, TransferEvent, TransferFilter,
    Warehouse, WarehouseError,
};

/// Where an export is: before its first page, at a page, or done.
enum At {
    Page(PageRequest),
    End,
}

impl At {
    fn first(order: Order) -> Self {
        Self::Page(PageRequest { limit: PAGE_LIMIT_MAX, order, cursor: None })
    }

    fn after(order: Order, next: Option<String>) -> Self {
        match next {
            Some(next) => {
                Self::Page(PageRequest { limit: PAGE_LIMIT_MAX, order, cursor: Some(next) })
            }
            None => Self::End,
        }
    }
}

/// Every log that `filter` finds, in chunks of at most a page.
///
/// No snapshot is held between chunks. Oldest first, a reorg of what was already exported ends the
/// stream with [`WarehouseError::Stale`]; newest first, it only replaces what has passed.
pub fn export_events(
    warehouse: Arc<dyn Warehouse>,
    filter: EventFilter,
    order: Order,
) -> impl Stream<Item = Result<Vec<Event>, WarehouseError>> + Send {
    try_unfold(
        (warehouse, filter, At::first(order)),
        move |(warehouse, filter, mut at)| async move {
            while let At::Page(page) = at {
                let found = warehouse.events(&filter, &page).await?;
                at = At::after(order, found.next);
                if !found.items.is_empty() {
                    return Ok(Some((found.items, (warehouse, filter, at))));
                }
            }
            Ok(None)
        },
    )
}

/// Every transfer that `filter` finds; as [`export_events`].
pub fn export_transfers(
    warehouse: Arc<dyn Warehouse>,
    filter: TransferFilter,
    order: Order,
) -> impl Stream<Item = Result<Vec<TransferEvent>, WarehouseError>> + Send {
    try_unfold(
        (warehouse, filter, At::first(order)),
        move |(warehouse, filter, mut at)| async move {
            while let At::Page(page) = at {
                let found = warehouse.transfers(&filter, &page).await?;
                at = At::after(order, found.next);
                if !found.items.is_empty() {
                    return Ok(Some((found.items, (warehouse, filter, at))));
                }
            }
            Ok(None)
        },
    )
}
