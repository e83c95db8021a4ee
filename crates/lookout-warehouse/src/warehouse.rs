//! The warehouse as the rest of Lookout sees it.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use lookout_types::{BlockRef, ChainId, Cursor, Frame, Height};

use crate::sqlite::SqliteWarehouse;
use crate::{
    Event, EventFilter, EventGroup, EventStat, OddEvent, Page, PageRequest, TransferEvent,
    TransferFilter, TransferStat, WarehouseError, WarehouseUrl,
};

/// What a batch of frames did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The cursor after it.
    pub cursor: Cursor,
    /// Frames committed.
    pub frames: u64,
    /// Frames that had been committed before, and were left out.
    pub repeated: u64,
    /// Logs in the frames committed that look like transfers but do not decode.
    pub odd_logs: u64,
}

/// A place that keeps what frames say, and answers queries about it.
///
/// What it holds is a function of the frames committed: a crash, a replay or a rebuild ends in the
/// same answers.
#[async_trait]
pub trait Warehouse: Send + Sync + fmt::Debug {
    /// Commits frames of one chain, in order, together with the cursor: all or none.
    ///
    /// Frames at or below the cursor are compared with what was committed and left out. One after
    /// the other may be under way; they commit in the order in which they were called.
    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Applied, WarehouseError>;

    /// How far a chain was read.
    async fn cursor(&self, chain: ChainId) -> Result<Cursor, WarehouseError>;

    /// Which heights of a chain are held.
    async fn coverage(&self, chain: ChainId)
    -> Result<Vec<RangeInclusive<Height>>, WarehouseError>;

    /// Logs, a page at a time.
    async fn events(
        &self,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<Event>, WarehouseError>;

    /// Transfers, a page at a time.
    async fn transfers(
        &self,
        filter: &TransferFilter,
        page: &PageRequest,
    ) -> Result<Page<TransferEvent>, WarehouseError>;

    /// Logs in quarantine: they look like transfers but do not decode.
    async fn odd_logs(
        &self,
        chain: ChainId,
        page: &PageRequest,
    ) -> Result<Page<OddEvent>, WarehouseError>;

    /// Counts of events, by time bucket and group. Dropping the future ends the work.
    async fn event_stats(
        &self,
        filter: &EventFilter,
        bucket_s: Option<NonZeroU64>,
        group: EventGroup,
    ) -> Result<Vec<EventStat>, WarehouseError>;

    /// Counts and sums of transfers, by time bucket and asset. Dropping the future ends the work.
    async fn transfer_stats(
        &self,
        filter: &TransferFilter,
        bucket_s: Option<NonZeroU64>,
    ) -> Result<Vec<TransferStat>, WarehouseError>;

    /// The blocks held, as the frames that would apply them in a run without reorgs: sequences count
    /// from 1 at the lowest block held. Empty at the end; `after` is the last block of the call
    /// before, and the answer is [`WarehouseError::Stale`] when a reorg replaced it.
    async fn frames(
        &self,
        chain: ChainId,
        heights: RangeInclusive<Height>,
        after: Option<BlockRef>,
    ) -> Result<Vec<Frame>, WarehouseError>;

    /// Forgets a chain, cursor included, so that it can be built again from its first frame.
    async fn truncate(&self, chain: ChainId) -> Result<(), WarehouseError>;

    /// Deletes the blocks below `height`; the head always stays. Returns how many went.
    async fn retain(&self, chain: ChainId, height: Height) -> Result<u64, WarehouseError>;

    /// Ends the work under way and gives the files back; later calls fail.
    async fn close(&self);
}

/// Opens the warehouse at `url` for reading and writing.
///
/// # Errors
/// [`WarehouseError::InUse`] when another instance has it, and whatever else keeps it from opening.
pub async fn open(url: &WarehouseUrl) -> Result<Arc<dyn Warehouse>, WarehouseError> {
    match url {
        WarehouseUrl::SqliteMemory => Ok(Arc::new(SqliteWarehouse::open(None).await?)),
        WarehouseUrl::SqliteFile(path) => {
            Ok(Arc::new(SqliteWarehouse::open(Some(path.clone())).await?))
        }
        WarehouseUrl::ClickHouse { shown } => Err(WarehouseError::Unsupported(shown.clone())),
    }
}
