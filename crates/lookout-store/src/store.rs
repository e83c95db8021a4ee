//! The open store: its pool of connections and what they have in common.

use std::fs::OpenOptions;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lookout_types::{Clock, UnixMillis};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor, Row as _, Transaction};

use crate::auth_cache::AuthCache;
use crate::engine::Engine;
use crate::ids::Ids;
use crate::{Signals, StoreError, StoreUrl};

/// Connections to a SQLite file: readers run side by side in WAL mode, writers one at a time, so
/// more than a few gain nothing.
const SQLITE_CONNECTIONS_MAX: u32 = 4;
/// Connections to Postgres: its default allows 100, to be shared by several instances.
const POSTGRES_CONNECTIONS_MAX: u32 = 10;
/// Longest wait for a free connection; below a client's usual patience, so that it gets an answer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Run on every SQLite connection. WAL lets readers go on while one writes; the busy timeout
/// (milliseconds) waits for another process's write, for example `lookout keys create`;
/// `synchronous = FULL` keeps a revocation through a power cut.
const SQLITE_SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: AnyPool,
    engine: Engine,
    url: StoreUrl,
    clock: Arc<dyn Clock>,
    ids: Ids,
    auth: AuthCache,
    signals: Signals,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.url).finish()
    }
}

impl Store {
    /// Connects to the store; a SQLite file is created when missing. Changes no table: call
    /// [`Store::migrate`] before anything else.
    ///
    /// # Errors
    /// [`StoreError::FolderMissing`], [`StoreError::File`] or [`StoreError::Open`], by what is wrong.
    pub async fn open(url: &StoreUrl, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let failed = |source| StoreError::Open { store: url.to_string(), source };
        let options = match url {
            StoreUrl::SqliteMemory => AnyConnectOptions::from_str("sqlite::memory:"),
            StoreUrl::SqliteFile(path) => {
                create_private(path)?;
                AnyConnectOptions::from_str(&sqlite_url(path)?)
            }
            StoreUrl::Postgres { url, .. } => AnyConnectOptions::from_str(url.expose()),
        };
        let options = options.map_err(failed)?;
        if matches!(url, StoreUrl::Postgres { .. }) {
            probe(&options).await.map_err(failed)?;
        }
        let pool = pool_options(url).connect_with(options).await.map_err(failed)?;
        let (engine, ids, auth) = (Engine::of(url), Ids::new(), AuthCache::default());
        let signals = Signals::default();
        Ok(Self(Arc::new(Inner { pool, engine, url: url.clone(), clock, ids, auth, signals })))
    }

    /// The same database as another instance sees it whose clock shows something else: what is in
    /// memory is not shared, not even the signals.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        let (pool, engine, url) = (self.0.pool.clone(), self.0.engine, self.0.url.clone());
        let (ids, auth, signals) = (Ids::new(), AuthCache::default(), Signals::default());
        Self(Arc::new(Inner { pool, engine, url, clock, ids, auth, signals }))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError::Database`] when it gives none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let doing = "checking that it is there";
        sqlx::query("SELECT 1")
            .fetch_one(self.pool())
            .await
            .map(|_| ())
            .map_err(StoreError::database(doing))
    }

    /// Closes all connections, waiting for those in use. Later calls fail.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Where it is, without credentials.
    pub fn url(&self) -> &StoreUrl {
        &self.0.url
    }

    /// Tells of changes made through this store.
    pub fn signals(&self) -> &Signals {
        &self.0.signals
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        &self.0.pool
    }

    pub(crate) fn engine(&self) -> Engine {
        self.0.engine
    }

    pub(crate) fn auth(&self) -> &AuthCache {
        &self.0.auth
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    /// The time by which all instances agree, in milliseconds since 1970 UTC.
    pub(crate) async fn shared_now(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<UnixMillis, StoreError> {
        let Some(statement) = self.engine().shared_time() else { return Ok(self.now()) };
        let failed = StoreError::database("asking for the time");
        let row = sqlx::query(statement).fetch_one(connection).await.map_err(&failed)?;
        row.try_get("now").map_err(failed)
    }

    pub(crate) fn next_id(&self, now: UnixMillis) -> String {
        self.0.ids.next(now)
    }

    /// Opens a transaction that writes; rolled back when dropped.
    pub(crate) async fn begin_write(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = self.engine().begin_write();
        self.pool().begin_with(begin).await.map_err(StoreError::database(doing))
    }
}

/// Connects once: a pool would keep trying and in the end tell only that time ran out.
async fn probe(options: &AnyConnectOptions) -> Result<(), sqlx::Error> {
    let connect = AnyConnection::connect_with(options);
    let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, connect).await;
    connection.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await
}

fn pool_options(url: &StoreUrl) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
    match url {
        // The database lives and dies with its one connection.
        StoreUrl::SqliteMemory => options
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // A caller who goes away during the test would take the connection along.
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(set_up_sqlite(connection))),
        StoreUrl::SqliteFile(_) => options
            .max_connections(SQLITE_CONNECTIONS_MAX)
            .before_acquire(|connection, _| Box::pin(is_free(connection)))
            .after_connect(|connection, _| Box::pin(set_up_sqlite(connection))),
        StoreUrl::Postgres { .. } => options.max_connections(POSTGRES_CONNECTIONS_MAX),
    }
}

/// Whether a connection can begin a transaction. A COMMIT that fails for want of space has ended its
/// transaction already, so the driver's ROLLBACK fails, and it counts itself as inside for good.
async fn is_free(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    Ok(!connection.is_in_transaction())
}

async fn set_up_sqlite(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(SQLITE_SETUP)).await.map(|_| ())
}

/// Creates the file readable by its owner only; SQLite gives its side files the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(StoreError::FolderMissing { file: path.into(), folder: folder.into() });
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path);
    opened.map(|_| ()).map_err(|source| StoreError::File { file: path.into(), source })
}

/// The driver's URL for a file: it decodes `%xx`, so everything special is encoded.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    let not_text = || {
        let reason = std::io::Error::other("the file name is not UTF-8");
        StoreError::File { file: path.into(), source: reason }
    };
    let mut url = String::from("sqlite:");
    for byte in path.to_str().ok_or_else(not_text)?.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(url)
}
