//! What every command shares: the configuration's sources, the clock, the store.

use std::path::PathBuf;
use std::sync::Arc;

use lookout_store::Store;
use lookout_types::{Clock, SystemClock};

use crate::config::{Environment, Settings};
use crate::failure::Failure;

/// The surroundings of a command.
pub(crate) struct App {
    file: Option<PathBuf>,
    environment: Environment,
    pub(crate) clock: Arc<dyn Clock>,
}

impl App {
    /// Reads the environment; it is not read again.
    pub(crate) fn new(file: Option<PathBuf>) -> Result<Self, Failure> {
        let environment = Environment::of_process()?;
        Ok(Self { file, environment, clock: Arc::new(SystemClock) })
    }

    /// Reads the configuration as it is now.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(self.file.as_deref(), &self.environment)?)
    }

    /// The log filter that stands above the configuration, if any.
    pub(crate) fn log_override(&self) -> Option<&str> {
        self.environment.get("LOOKOUT_LOG")
    }

    /// Opens the store with its schema up to date.
    pub(crate) async fn store(&self, settings: &Settings) -> Result<Store, Failure> {
        let store = Store::open(settings.store(), Arc::clone(&self.clock)).await?;
        for migration in store.migrate().await? {
            tracing::info!(
                version = migration.version,
                name = migration.name,
                "migrated the store"
            );
        }
        Ok(store)
    }

    /// `lookout migrate`.
    pub(crate) async fn migrate(&self) -> Result<String, Failure> {
        let settings = self.settings()?;
        let store = Store::open(settings.store(), Arc::clone(&self.clock)).await?;
        let applied = store.migrate().await?;
        store.close().await;
        if applied.is_empty() {
            return Ok(format!("{} is up to date", settings.store()));
        }
        let line = |m: &lookout_store::AppliedMigration| format!("{:04} {}\n", m.version, m.name);
        let lines: String = applied.iter().map(line).collect();
        Ok(format!("migrated {}:\n{lines}", settings.store()))
    }
}
