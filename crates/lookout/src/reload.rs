//! A running server takes over a changed configuration: on SIGHUP and when its file changes.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_api::Api;
use lookout_chain::Chains;
use lookout_store::Store;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use crate::app::App;
use crate::config::Settings;
use crate::exposure;
use crate::failure::Failure;
use crate::telemetry::Telemetry;
use crate::watch::Publishers;

/// Quiet time after a change before the file is read: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// The parts of the running server that a reload touches.
pub(crate) struct Running<'a> {
    pub(crate) chains: &'a Chains,
    pub(crate) publishers: &'a mut Publishers,
    pub(crate) api: &'a Api,
    pub(crate) store: &'a Store,
    pub(crate) telemetry: &'a Telemetry,
    /// The address that is listened on.
    pub(crate) listen: SocketAddr,
}

/// Reloads whenever there is a reason to; runs until dropped.
pub(crate) async fn watch(
    app: &App,
    mut settings: Settings,
    mut running: Running<'_>,
    mut hangup: Signal,
) {
    let (sender, mut changes) = mpsc::channel(1);
    let watcher = settings.file.as_deref().and_then(|file| watch_file(file, sender));
    // Without a watcher its channel is closed, and only the signal is left.
    let mut watching = watcher.is_some();
    loop {
        let reason = tokio::select! {
            _ = hangup.recv() => "SIGHUP",
            change = changes.recv(), if watching => match change {
                Some(()) => "file change",
                None => { watching = false; continue }
            },
        };
        if reason == "file change" {
            settle(&mut changes).await;
        }
        match apply(app, &settings, &mut running).await {
            Ok(new) => {
                report(&new, &settings, reason);
                settings = new;
            }
            Err(failure) => {
                let error = failure.to_string();
                tracing::error!(reason, error, "the configuration was not reloaded");
            }
        }
    }
}

/// Waits until no change has come for [`SETTLE`].
async fn settle(changes: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(SETTLE, changes.recv()).await {}
}

/// Reads and checks everything before anything is changed.
async fn apply(app: &App, old: &Settings, running: &mut Running<'_>) -> Result<Settings, Failure> {
    let new = app.settings()?;
    exposure::check(running.listen, &new, running.store.has_keys().await?)?;
    if new.chains != old.chains {
        running.chains.reload(new.chains.clone());
        running.publishers.reload(running.chains).await;
    }
    if new.api() != old.api() {
        running.api.reload(new.api());
    }
    running.telemetry.reload(&new);
    Ok(new)
}

fn report(new: &Settings, old: &Settings, reason: &str) {
    let (changed, restart) = new.changes(old);
    if !restart.is_empty() {
        tracing::warn!(keys = restart.join(", "), "these changes need a restart");
    }
    if !changed.is_empty() {
        tracing::info!(reason, keys = changed.join(", "), "reloaded the configuration");
    } else if restart.is_empty() {
        // Not worth a line at the usual level: saving a file again is no event.
        tracing::debug!(reason, "the configuration is unchanged");
    }
    for notice in new.notices.iter().filter(|notice| !old.notices.contains(notice)) {
        tracing::info!("{notice}");
    }
}

/// Watches the folder of the file, because editors replace files instead of writing into them.
/// `None`, after a word in the log, where that is not possible.
fn watch_file(file: &Path, sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let name = file.file_name()?.to_owned();
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| concerns(&event, &name)) {
            // A full channel means that a reload is due already.
            sender.try_send(()).unwrap_or_default();
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(%error, "cannot watch the configuration file; send SIGHUP to reload");
        })
        .ok()
}

/// Whether an event in the folder may change the file. Names that start with two dots are how
/// Kubernetes swaps the contents of a mounted `ConfigMap`.
fn concerns(event: &notify::Event, name: &OsStr) -> bool {
    let own = |path: &PathBuf| {
        path.file_name().is_some_and(|n| n == name || n.as_encoded_bytes().starts_with(b".."))
    };
    !event.kind.is_access() && event.paths.iter().any(own)
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, EventKind, ModifyKind};

    use super::*;

    #[test]
    fn only_changes_of_the_file_itself_count() {
        let event = |kind, path: &str| notify::Event::new(kind).add_path(path.into());
        let modified = EventKind::Modify(ModifyKind::Any);
        for (event, expected) in [
            (event(modified, "/etc/lookout.toml"), true),
            (event(EventKind::Create(CreateKind::File), "/etc/lookout.toml"), true),
            (event(EventKind::Create(CreateKind::Any), "/etc/..data"), true),
            // Reading the file must not make it be read again.
            (event(EventKind::Access(AccessKind::Any), "/etc/lookout.toml"), false),
            // The store of the same folder is written all the time.
            (event(modified, "/etc/lookout.db-wal"), false),
            (event(modified, "/etc/lookout.toml.swp"), false),
        ] {
            assert_eq!(concerns(&event, OsStr::new("lookout.toml")), expected, "{event:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lookout.toml");
        std::fs::write(&file, "").unwrap();
        let (sender, mut changes) = mpsc::channel(1);
        let watcher = watch_file(&file, sender).unwrap();
        std::fs::write(folder.path().join("new"), "[server]").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
        assert_eq!(change, Ok(Some(())));
        drop(watcher);
    }
}
