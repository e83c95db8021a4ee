//! The thread that writes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use lookout_types::ChainId;
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::apply::ChainState;
use super::schema;
use crate::WarehouseError;
use crate::error::is_full;

/// Jobs that wait for the writer; a caller beyond them waits itself.
const QUEUE: usize = 8;
/// Page cache of the writer, in kibibytes: some epochs of the index, and the blocks of a batch.
const WRITER_CACHE_KIB: i64 = 48 * 1024;
/// Pages in the log before it is moved into the file: 64 MiB, a few batches.
const CHECKPOINT_PAGES: i64 = 16 * 1024;
/// What the log is cut back to afterwards, so that one large batch does not keep the space.
const LOG_BYTES_KEPT: i64 = 128 << 20;
/// How long a statement waits for another connection: readers never block the writer in WAL mode, so
/// only a checkpoint or another instance can.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept by a connection: all of the statements for several chains.
pub(super) const STATEMENTS_KEPT: usize = 128;

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// The connection that writes, and what it remembers between jobs.
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// This instance's number; another one in the file means that this one is over.
    pub(super) epoch: i64,
    /// What the database says of each chain, as of the last commit.
    pub(super) chains: HashMap<ChainId, ChainState>,
}

/// Hands jobs to the writer's thread.
#[derive(Debug)]
pub(super) struct WriterHandle {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other instances out for as long as the thread may write.
    lock: Mutex<Option<File>>,
}

impl Writer {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl WriterHandle {
    /// Opens the database and starts the thread.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, WarehouseError> {
        let lock = file.map(lock).transpose()?;
        let writer = connect(file)?;
        let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let failed = |reason: std::io::Error| WarehouseError::File {
            file: file.map(Path::to_owned).unwrap_or_default(),
            reason: format!("its thread does not start: {reason}"),
        };
        let thread = std::thread::Builder::new()
            .name("warehouse-writer".to_owned())
            .spawn(move || {
                let mut writer = writer;
                while let Some(job) = jobs.blocking_recv() {
                    job(&mut writer);
                }
            })
            .map_err(failed)?;
        Ok(Self {
            jobs: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            lock: Mutex::new(lock),
        })
    }

    /// Runs `job` on the writer's thread, after those before it. It runs to its end even when the
    /// caller does not wait.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<T, WarehouseError> + Send + 'static,
    ) -> Result<T, WarehouseError> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.lock().clone().ok_or(WarehouseError::Closed)?;
        let job: Job = Box::new(move |writer| {
            // Nobody may be waiting any more, and that is no fault.
            drop(reply.send(job(writer)));
        });
        jobs.send(job).await.map_err(|_| WarehouseError::Closed)?;
        drop(jobs);
        answer.await.map_err(|_| WarehouseError::Closed)?
    }

    /// Ends the thread after the jobs that wait.
    pub(super) async fn close(&self) {
        drop(self.jobs.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic in the thread was printed when it happened; closing goes on.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
        drop(self.lock.lock().take());
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        drop(self.jobs.lock().take());
        // The file must be free when the handle is gone: whoever opens it next finds no lock.
        if let Some(thread) = self.thread.lock().take() {
            drop(thread.join());
        }
    }
}

/// Takes the file's lock, or says who has it. The system gives it back when the process ends, however
/// it ends.
fn lock(file: &Path) -> Result<File, WarehouseError> {
    let failed = |reason: String| WarehouseError::File { file: file.to_owned(), reason };
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(failed(format!(
            "the folder `{}` does not exist; create it or change warehouse.url",
            folder.display()
        )));
    }
    let mut name = file.as_os_str().to_owned();
    name.push("-lock");
    let lock = private(&PathBuf::from(name)).map_err(|error| failed(error.to_string()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(WarehouseError::InUse { file: file.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
    }
    // SQLite gives its other files the permissions of the first.
    private(file).map_err(|error| failed(error.to_string()))?;
    Ok(lock)
}

/// Opens or creates a file that only its owner can read.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A disk that is full already when the file is opened.
fn full(file: &Path) -> WarehouseError {
    let reason = "its disk is full; free some space".to_owned();
    WarehouseError::File { file: file.to_owned(), reason }
}

fn connect(file: Option<&Path>) -> Result<Writer, WarehouseError> {
    let failed = |error: rusqlite::Error| match file {
        Some(file) if is_full(&error) => full(file),
        Some(file) => WarehouseError::File { file: file.to_owned(), reason: error.to_string() },
        None => WarehouseError::Database { doing: "opening it in memory", source: error },
    };
    let mut connection = match file {
        Some(file) => Connection::open(file),
        None => Connection::open_in_memory(),
    }
    .map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // FULL: what a consumer says it has committed may be deleted from the bus, so it must survive a
    // power cut. It costs one flush a batch.
    let pragmas = format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;
        PRAGMA cache_size=-{WRITER_CACHE_KIB}; PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES};
        PRAGMA journal_size_limit={LOG_BYTES_KEPT};"
    );
    connection.execute_batch(&pragmas).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    schema::prepare(&mut connection).map_err(|error| match (error, file) {
        (WarehouseError::Full, Some(file)) => full(file),
        (error, _) => error,
    })?;
    let epoch = next_epoch(&mut connection).map_err(failed)?;
    Ok(Writer { connection, epoch, chains: HashMap::new() })
}

/// Takes over as the one that writes. In a transaction, whose end says whether it is on the disk: a
/// statement that returns a row has not ended by then.
fn next_epoch(connection: &mut Connection) -> Result<i64, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "UPDATE writer SET epoch = epoch + 1 RETURNING epoch";
    let epoch = transaction.query_row(sql, [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(epoch)
}
