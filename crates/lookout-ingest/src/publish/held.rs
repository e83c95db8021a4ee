//! What of a chain is held, and how all of it is forgotten.

use std::sync::Arc;

use lookout_bus::Bus;
use lookout_store::Store;
use lookout_types::{BlockRef, ChainId, Height};
use lookout_warehouse::Warehouse;

use super::past::Past;
use super::{Limits, PublishError};

/// What of a chain is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The first height followed, as far as that can still be told.
    pub first: Option<Height>,
    /// The last block published; `None` when nothing is.
    pub head: Option<BlockRef>,
    /// Frames published since the beginning.
    pub frames: u64,
}

/// What of a chain is published.
///
/// # Errors
/// [`PublishError`] when the bus or the warehouse cannot be read.
pub async fn held(
    name: &str,
    chain: ChainId,
    bus: &Arc<dyn Bus>,
    warehouse: &Arc<dyn Warehouse>,
) -> Result<Held, PublishError> {
    let past = Past::new(name.into(), chain, Arc::clone(bus), Arc::clone(warehouse));
    let tail = bus.tail(chain).await?;
    let first = past.first(&tail).await.map_err(|problem| problem.into_error(name))?;
    Ok(Held { first, head: tail.head, frames: tail.sequence })
}

/// Forgets the frames of a chain and what the warehouse holds of it, so that it can begin anew.
///
/// Other consumers find out by themselves: their cursors are ahead of the bus then, and they are built
/// again from its new first frame.
///
/// # Errors
/// [`lookout_store::StoreError::Held`] while another instance publishes the chain, and whatever the
/// bus or the warehouse says.
pub async fn forget(
    chain: ChainId,
    bus: &Arc<dyn Bus>,
    warehouse: &Arc<dyn Warehouse>,
    store: &Store,
    holder: &str,
) -> Result<(), PublishError> {
    let length = Limits::default().lease.as_millis();
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let lease = store.take_chain_lease(chain, holder, length).await?;
    let claim = bus.claim(chain).await?;
    // A crash in between leaves a bus from which the warehouse can be built, or a message that says
    // to do this again.
    warehouse.truncate(chain).await?;
    bus.reset(&claim).await?;
    store.release_chain_lease(&lease).await?;
    Ok(())
}
