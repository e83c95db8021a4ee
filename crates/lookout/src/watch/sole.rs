//! One instance watches: on a store that others share, frames that are kept on one machine.
//!
//! Consumers go by cursors that the store or the warehouse keeps, and these count the frames of one bus.
//! Two instances with a bus each would take the other's cursor for their own.

use std::time::Duration;

use lookout_bus::BusUrl;
use lookout_store::{ChainLease, Store, StoreError, StoreUrl};
use lookout_types::ChainId;
use tokio_util::sync::CancellationToken;

use super::Ground;
use crate::cli::Role;
use crate::failure::Failure;

/// Stands for all chains in the table of leases; no chain has this id.
const WATCHING: ChainId = ChainId(u64::MAX);
/// How long an instance that died keeps others out.
const LEASE: Duration = Duration::from_secs(15);
/// A lease is renewed when this part of it has gone.
const RENEW_PART: u32 = 3;

/// Claims the right to watch where another instance could; refuses while one does.
pub(super) async fn claim(ground: &Ground<'_>) -> Result<(), Failure> {
    let settings = ground.settings;
    let watches = ground.args.takes(Role::Ingest) || ground.args.takes(Role::Rules);
    let shared = matches!(settings.store(), StoreUrl::Postgres { .. });
    let apart = matches!(settings.bus(), BusUrl::Local(_));
    if !watches || !shared || !apart || settings.follows.is_empty() {
        return Ok(());
    }
    let lease = take(ground.store, &ground.instance.name, LEASE).await?;
    let keeping = keep(ground.store.clone(), lease, LEASE, ground.stop.clone());
    ground.tasks.spawn(keeping);
    Ok(())
}

/// Takes the lease. One that is held is waited for once: whoever holds it may have died.
async fn take(store: &Store, holder: &str, length: Duration) -> Result<ChainLease, Failure> {
    let mut waited = false;
    loop {
        match store.take_chain_lease(WATCHING, holder, millis(length)).await {
            Ok(lease) => return Ok(lease),
            Err(StoreError::Held { holder, .. }) if waited => {
                return Err(Failure::failed(format!(
                    "`{holder}` watches chains on this store already, with a bus of its own; stop that \
                     one, or start this one without the roles `ingest` and `rules`, as in `lookout serve \
                     --roles api,deliver,schedule`"
                )));
            }
            Err(StoreError::Held { holder, .. }) => {
                tracing::info!(
                    holder,
                    "another instance watches chains; it may have died, which is waited for once"
                );
                tokio::time::sleep(length).await;
                waited = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Renews the lease until `stop`, and gives it back. When another instance has taken it over, this one
/// ends: its consumers would go by the other's cursors.
async fn keep(store: Store, lease: ChainLease, length: Duration, stop: CancellationToken) {
    let mut failing = false;
    while stop.run_until_cancelled(tokio::time::sleep(length / RENEW_PART)).await.is_some() {
        match store.renew_chain_lease(&lease, millis(length)).await {
            Ok(_) => failing = false,
            Err(StoreError::LeaseLost { reason, .. }) => {
                tracing::error!(reason, "another instance watches chains now, so this one ends");
                stop.cancel();
                return;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the right to watch chains is not renewed yet");
                }
                failing = true;
            }
        }
    }
    if let Err(error) = store.release_chain_lease(&lease).await {
        tracing::warn!(%error, "the right to watch chains was not given back; it ends by itself");
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lookout_types::FixedClock;

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    async fn store() -> Store {
        let clock = Arc::new(FixedClock::at(1_800_000_000_000));
        let store = Store::open(&StoreUrl::SqliteMemory, clock).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_second_instance_is_refused_until_the_first_has_ended() {
        let store = store().await;
        let lease = take(&store, "one:/frames", SHORT).await.unwrap();
        let said = take(&store, "two:/frames", SHORT).await.unwrap_err().to_string();
        let expected = "`one:/frames` watches chains on this store already, with a bus of its own; \
                        stop that one, or start this one without the roles `ingest` and `rules`";
        assert!(said.starts_with(expected), "{said}");
        // After a crash, the same one need not wait.
        let lease = take(&store, &lease.holder, SHORT).await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        keep(store.clone(), lease, SHORT, stop).await;
        take(&store, "two:/frames", SHORT).await.unwrap();
    }

    #[tokio::test]
    async fn an_instance_whose_lease_was_taken_ends() {
        let store = store().await;
        let lease = take(&store, "one:/frames", SHORT).await.unwrap();
        store.release_chain_lease(&lease).await.unwrap();
        take(&store, "two:/frames", SHORT).await.unwrap();
        let stop = CancellationToken::new();
        keep(store, lease, SHORT, stop.clone()).await;
        assert!(stop.is_cancelled());
    }
}
