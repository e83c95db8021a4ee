//! Connections that only read, a few of them.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::WarehouseError;

/// Queries at once; more would only take the cores from the writer.
const READERS: usize = 4;
/// Page cache of each, in kibibytes: what a page of a query touches.
const READER_CACHE_KIB: i64 = 8 * 1024;

/// A pool of reading connections.
#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, permits: Arc::new(Semaphore::new(READERS)), idle: Mutex::default() }
    }

    /// Runs `read` in a transaction of its own, so that it sees one state of the warehouse.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| WarehouseError::Closed)?;
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            // Held by the task, which goes on when its caller does not wait for it.
            let _permit = permit;
            let idle = readers.idle.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers.connect()?,
            };
            let failed = WarehouseError::database("starting to read");
            let snapshot = connection.unchecked_transaction().map_err(failed)?;
            let answer = read(&snapshot);
            drop(snapshot);
            readers.idle.lock().push(connection);
            answer
        });
        task.await.map_err(|_| WarehouseError::Closed)?
    }

    fn connect(&self) -> Result<Connection, WarehouseError> {
        let failed = WarehouseError::database("opening a reader");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags).map_err(&failed)?;
        let pragmas = format!("PRAGMA query_only=1; PRAGMA cache_size=-{READER_CACHE_KIB};");
        connection.execute_batch(&pragmas).map_err(&failed)?;
        connection.busy_timeout(super::writer::BUSY_TIMEOUT).map_err(&failed)?;
        connection.set_prepared_statement_cache_capacity(super::writer::STATEMENTS_KEPT);
        Ok(connection)
    }

    /// Waits for what is being read, and lets nothing new begin.
    pub(super) async fn close(&self) {
        let all = u32::try_from(READERS).expect("few");
        let held = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(held);
        self.idle.lock().clear();
    }
}
