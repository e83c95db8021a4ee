//! The bus of one machine: a folder with a log of frames for each chain.
//!
//! The log is files of checksummed records, appended and flushed to the disk before a publisher
//! hears that its frames are kept. It needs no database, because there is one writer, no change in
//! place and no search but by position: a second SQLite file would write every frame twice (its own
//! log, then the table) and keep a b-tree over what is already in order. `segment.rs` is the format,
//! `log.rs` one chain's log, `reader.rs` a subscription.
//!
//! A record is one publication, or a part of a long one, and is flushed before the next is written.
//! So a crash can tear the last record only, and a record that is damaged while a later one is whole
//! was damaged by something else: the former is cut off, the latter is refused.

mod log;
mod reader;
mod recent;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use lookout_types::{ChainId, Cursor, Frame};
use parking_lot::Mutex;

use crate::{Bus, BusError, Claim, FrameStream};
use log::ChainLog;

/// A folder of logs.
#[derive(Debug)]
pub(crate) struct LocalBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// `None` once closed.
    chains: Mutex<Option<HashMap<ChainId, Arc<ChainLog>>>>,
    /// Keeps other instances out.
    lock: Mutex<Option<File>>,
}

impl LocalBus {
    pub(crate) async fn open(folder: PathBuf) -> Result<Self, BusError> {
        blocking(move || {
            let lock = lock(&folder)?;
            let chains = Mutex::new(Some(HashMap::new()));
            Ok(Self(Arc::new(Inner { folder, chains, lock: Mutex::new(Some(lock)) })))
        })
        .await
    }

    /// Runs `work` on a chain's log, off the async threads.
    async fn with<T: Send + 'static>(
        &self,
        chain: ChainId,
        work: impl FnOnce(&ChainLog) -> Result<T, BusError> + Send + 'static,
    ) -> Result<T, BusError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&*inner.log(chain)?)).await
    }
}

impl Inner {
    /// A chain's log, opened when it is asked for first.
    fn log(&self, chain: ChainId) -> Result<Arc<ChainLog>, BusError> {
        let mut chains = self.chains.lock();
        let chains = chains.as_mut().ok_or(BusError::Closed)?;
        if let Some(log) = chains.get(&chain) {
            return Ok(Arc::clone(log));
        }
        let log = Arc::new(ChainLog::open(self.folder.join(chain.to_string()), chain)?);
        chains.insert(chain, Arc::clone(&log));
        Ok(log)
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn claim(&self, chain: ChainId) -> Result<Claim, BusError> {
        let token = self.with(chain, |log| Ok(log.claim())).await?;
        Ok(Claim { chain, token })
    }

    async fn publish(&self, claim: &Claim, frames: Vec<Arc<Frame>>) -> Result<Cursor, BusError> {
        let token = claim.token;
        self.with(claim.chain, move |log| log.publish(token, &frames)).await
    }

    fn subscribe(&self, chain: ChainId, sequence: u64) -> FrameStream {
        let inner = Arc::clone(&self.0);
        // Opening the log reads files, so it is the stream's first step.
        let opened = stream::once(blocking(move || inner.log(chain)));
        opened
            .flat_map(move |log| match log {
                Ok(log) => reader::stream(log, sequence),
                // As if it had been closed a moment later.
                Err(BusError::Closed) => stream::empty().boxed(),
                Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
            })
            .boxed()
    }

    async fn tail(&self, chain: ChainId) -> Result<Cursor, BusError> {
        self.with(chain, |log| Ok(log.tail())).await
    }

    async fn oldest(&self, chain: ChainId) -> Result<u64, BusError> {
        self.with(chain, |log| Ok(log.oldest())).await
    }

    async fn trim(&self, chain: ChainId, sequence: u64) -> Result<u64, BusError> {
        self.with(chain, move |log| log.trim(sequence)).await
    }

    async fn reset(&self, claim: &Claim) -> Result<(), BusError> {
        let token = claim.token;
        self.with(claim.chain, move |log| log.reset(token)).await
    }

    async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let closed = blocking(move || {
            let chains = inner.chains.lock().take();
            for log in chains.into_iter().flat_map(HashMap::into_values) {
                log.close();
            }
            drop(inner.lock.lock().take());
            Ok(())
        });
        // It cannot fail but by a panic, which was printed when it happened.
        drop(closed.await);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BusError::Closed)?
}

/// Makes the folder and takes its lock. The system gives the lock back when the process ends,
/// however it ends.
fn lock(folder: &Path) -> Result<File, BusError> {
    let file = folder.join("lock");
    let failed = |doing, file: &Path| {
        let file = file.to_owned();
        move |source| BusError::file(doing, file, source)
    };
    segment::make_folder(folder).map_err(failed("create the folder of", folder))?;
    let lock = segment::open_private(&file).map_err(failed("open", &file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BusError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &file)(source)),
    }
}
