//! The embedded warehouse, in one SQLite file.
//!
//! A block's records are one compact row, and a small index says which blocks hold an address, an
//! event or a topic. `examples/layouts.rs` measures that against the usual row for each log with
//! indexes over it: four to ten times the transfers a second at half a million, a third to a fifth
//! of the bytes, and it does not slow down as the file grows. A reorg deletes a row instead of
//! hundreds. A query finds the blocks in the index and reads the records in them, which decode
//! faster than SQLite steps over rows.
//!
//! The index is cut into epochs of some hundred thousand entries ([`keys`]), so that what one batch
//! touches stays in the page cache however long the chain grows; a query visits each epoch once.
//!
//! One thread writes (`writer.rs`, `apply.rs`); queries run on their own connections (`readers.rs`)
//! on a snapshot each. A file lock keeps a second instance out; where file locks do not work, the
//! writer's epoch, checked in every transaction, stops the older instance.

mod apply;
mod find;
mod keys;
mod pages;
mod prepare;
mod readers;
mod retain;
mod scan;
mod schema;
mod tally;
mod writer;

use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use lookout_types::{BlockRef, ChainId, Cursor, Frame, Height};
use rusqlite::Connection;

use crate::{
    Applied, Event, EventFilter, EventGroup, EventStat, OddEvent, Page, PageRequest, TransferEvent,
    TransferFilter, TransferStat, Warehouse, WarehouseError,
};
use find::OddFilter;
use readers::Readers;
use writer::WriterHandle;

/// The warehouse in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteWarehouse {
    writer: WriterHandle,
    /// `None` for a database in memory, which only the writer's connection can see.
    readers: Option<Arc<Readers>>,
}

impl SqliteWarehouse {
    /// Opens the file, or a database in memory.
    pub(crate) async fn open(file: Option<PathBuf>) -> Result<Self, WarehouseError> {
        let opened = tokio::task::spawn_blocking(move || {
            let writer = WriterHandle::open(file.as_deref())?;
            let readers = file.map(|file| Arc::new(Readers::new(file)));
            Ok(Self { writer, readers })
        });
        opened.await.map_err(|_| WarehouseError::Closed)?
    }

    /// Runs `read` on a snapshot.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        match &self.readers {
            Some(readers) => readers.run(read).await,
            None => self.writer.run(move |writer| read(writer.connection())).await,
        }
    }
}

/// Tells a blocking task that nobody waits for it any more.
struct Canceller(Arc<AtomicBool>);

impl Canceller {
    fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&flag)), flag)
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Warehouse for SqliteWarehouse {
    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Applied, WarehouseError> {
        let Some(first) = frames.first() else {
            return Err(WarehouseError::Invalid("a batch holds at least one frame".to_owned()));
        };
        let chain = first.chain;
        if let Some(other) = frames.iter().find(|frame| frame.chain != chain) {
            return Err(WarehouseError::Invalid(format!(
                "a batch holds frames of one chain, not of {chain} and {}",
                other.chain
            )));
        }
        let prepared = prepare::in_background(frames);
        self.writer.run(move |writer| writer.apply(chain, &prepared)).await
    }

    async fn cursor(&self, chain: ChainId) -> Result<Cursor, WarehouseError> {
        self.read(move |connection| {
            let row = schema::chain_row(connection, chain)?;
            Ok(Cursor {
                chain,
                sequence: row.as_ref().map_or(0, |row| row.sequence),
                head: row.and_then(|row| row.head),
            })
        })
        .await
    }

    async fn coverage(
        &self,
        chain: ChainId,
    ) -> Result<Vec<RangeInclusive<Height>>, WarehouseError> {
        self.read(move |connection| {
            let Some(row) = schema::chain_row(connection, chain)? else { return Ok(Vec::new()) };
            let held = schema::held(connection, &row)?;
            Ok(held.map(|(low, high)| low..=high).into_iter().collect())
        })
        .await
    }

    async fn events(
        &self,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<Event>, WarehouseError> {
        filter.check()?;
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| pages::page(connection, filter.chain, &filter, &page)).await
    }

    async fn transfers(
        &self,
        filter: &TransferFilter,
        page: &PageRequest,
    ) -> Result<Page<TransferEvent>, WarehouseError> {
        filter.check()?;
        let (filter, page) = (filter.clone(), page.clone());
        self.read(move |connection| pages::page(connection, filter.chain, &filter, &page)).await
    }

    async fn odd_logs(
        &self,
        chain: ChainId,
        page: &PageRequest,
    ) -> Result<Page<OddEvent>, WarehouseError> {
        let page = page.clone();
        self.read(move |connection| pages::page(connection, chain, &OddFilter(chain), &page)).await
    }

    async fn event_stats(
        &self,
        filter: &EventFilter,
        bucket_s: Option<NonZeroU64>,
        group: EventGroup,
    ) -> Result<Vec<EventStat>, WarehouseError> {
        filter.check()?;
        let filter = filter.clone();
        let (_canceller, gone) = Canceller::new();
        self.read(move |connection| tally::events(connection, &filter, bucket_s, group, &gone))
            .await
    }

    async fn transfer_stats(
        &self,
        filter: &TransferFilter,
        bucket_s: Option<NonZeroU64>,
    ) -> Result<Vec<TransferStat>, WarehouseError> {
        filter.check()?;
        let filter = filter.clone();
        let (_canceller, gone) = Canceller::new();
        self.read(move |connection| tally::transfers(connection, &filter, bucket_s, &gone)).await
    }

    async fn frames(
        &self,
        chain: ChainId,
        heights: RangeInclusive<Height>,
        after: Option<BlockRef>,
    ) -> Result<Vec<Frame>, WarehouseError> {
        self.read(move |connection| pages::frames(connection, chain, &heights, after)).await
    }

    async fn truncate(&self, chain: ChainId) -> Result<(), WarehouseError> {
        self.writer.run(move |writer| writer.truncate(chain)).await
    }

    async fn retain(&self, chain: ChainId, height: Height) -> Result<u64, WarehouseError> {
        let mut deleted = 0;
        // A transaction at a time, so that frames get their turn in between.
        loop {
            match self.writer.run(move |writer| writer.retain_some(chain, height)).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
        }
    }

    async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close().await;
        }
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests;
