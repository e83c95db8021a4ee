//! Which instance this is, and that no other one serves from the same embedded store.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use lookout_bus::BusUrl;
use lookout_store::StoreUrl;

use crate::config::Settings;
use crate::failure::Failure;

/// Ending of the lock file beside a SQLite store.
const LOCK_ENDING: &str = ".serving";

/// This instance; its lock is given back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The same after a restart, and unlike that of any other instance that runs.
    pub(crate) name: String,
    lock: Option<File>,
}

impl Instance {
    /// Claims the store where it is one of this machine.
    pub(crate) fn claim(settings: &Settings) -> Result<Self, Failure> {
        let lock = match settings.store() {
            StoreUrl::SqliteFile(path) => Some(lock(path)?),
            StoreUrl::SqliteMemory | StoreUrl::Postgres { .. } => None,
        };
        Ok(Self { name: name(settings.bus()), lock })
    }
}

impl Instance {
    /// Whether no other instance can be at work on the same store.
    pub(crate) fn is_alone(&self) -> bool {
        self.lock.is_some()
    }
}

/// Where frames are kept tells instances of a machine apart: only one can publish there.
fn name(bus: &BusUrl) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "this machine",
        host => host,
    };
    let place = match bus {
        BusUrl::Local(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
        BusUrl::Kafka { .. } => PathBuf::from(std::process::id().to_string()),
    };
    let name = format!("{host}:{}", place.display());
    // The end of a long path says more than its start.
    let skip = name.chars().count().saturating_sub(150);
    name.chars().skip(skip).collect()
}

fn lock(store: &Path) -> Result<File, Failure> {
    let mut file = store.as_os_str().to_owned();
    file.push(LOCK_ENDING);
    let file = PathBuf::from(file);
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot open the lock file `{}`: {error}", file.display()))
    };
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let opened = open.map_err(failed)?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "another lookout serves from the store `{}` already; stop that one, or give this one \
             its own store.url (instances that share a store need Postgres)",
            store.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_served_by_one_instance_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("lookout.db");
        let first = lock(&store).unwrap();
        let said = lock(&store).unwrap_err().to_string();
        assert!(said.contains("another lookout serves from the store"), "{said}");
        drop(first);
        lock(&store).unwrap();
        let said = lock(&folder.path().join("none/lookout.db")).unwrap_err().to_string();
        assert!(said.contains("cannot open the lock file"), "{said}");
    }

    #[test]
    fn an_instance_is_known_by_its_machine_and_its_frames() {
        let (one, two) = (name(&BusUrl::Local("a".into())), name(&BusUrl::Local("b".into())));
        assert_ne!(one, two);
        assert_eq!(one, name(&BusUrl::Local("a".into())));
        assert!(name(&BusUrl::Local("x".repeat(500).into())).len() <= 200);
    }
}
