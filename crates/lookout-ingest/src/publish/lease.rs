//! Holds a chain's lease: renews it in the background, and knows by this machine's own clock when it
//! can no longer be relied on.

use std::sync::Arc;
use std::time::Duration;

use lookout_store::{ChainLease, Store, StoreError};
use lookout_types::ChainId;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A lease is renewed when this part of it has gone, so that two renewals may fail.
const RENEW_PART: u32 = 3;
/// A failed renewal is tried again after this part of the lease.
const RETRY_PART: u32 = 30;
/// This part of the lease, at its end, is not used: a publication under way ends within it.
const GUARD_PART: u32 = 5;

/// A lease that is being renewed.
#[derive(Debug)]
pub(super) struct LeaseKeeper {
    store: Store,
    lease: ChainLease,
    shared: Arc<Shared>,
    _renewing: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// When it must no longer be relied on.
    end: Mutex<Instant>,
    lost: CancellationToken,
}

impl LeaseKeeper {
    /// Takes the lease of a chain.
    pub(super) async fn take(
        store: Store,
        chain: ChainId,
        holder: &str,
        length: Duration,
    ) -> Result<Self, StoreError> {
        // Read before asking: the lease runs from some time after this.
        let asked = Instant::now();
        let (taking, holder) = (store.clone(), holder.to_owned());
        let taken =
            whole(async move { taking.take_chain_lease(chain, &holder, millis(length)).await });
        let lease = taken.await?;
        let end = Mutex::new(usable_end(asked, length));
        let shared = Arc::new(Shared { end, lost: CancellationToken::new() });
        let task = renew(store.clone(), lease.clone(), Arc::clone(&shared), length);
        let renewing = AbortOnDropHandle::new(tokio::spawn(task));
        Ok(Self { store, lease, shared, _renewing: renewing })
    }

    /// Whether it can be relied on now.
    pub(super) fn is_held(&self) -> bool {
        !self.shared.lost.is_cancelled() && Instant::now() < *self.shared.end.lock()
    }

    /// Returns once it can no longer be relied on.
    pub(super) async fn lost(&self) {
        self.shared.lost.cancelled().await;
    }

    /// The token of this take-over.
    pub(super) fn token(&self) -> i64 {
        self.lease.token
    }

    /// Gives it back, so that the next one need not wait.
    pub(super) async fn give_back(self) {
        let Self { store, lease, _renewing: renewing, .. } = self;
        drop(renewing);
        if let Err(error) = store.release_chain_lease(&lease).await {
            tracing::warn!(chain = %lease.chain, %error, "the lease was not given back; it ends by itself");
        }
    }
}

async fn renew(store: Store, lease: ChainLease, shared: Arc<Shared>, length: Duration) {
    let mut failing = false;
    let mut pause = length / RENEW_PART;
    loop {
        let end = *shared.end.lock();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tokio::time::sleep_until(end) => break,
        }
        let asked = Instant::now();
        let renewed = tokio::select! {
            renewed = whole({
                let (store, lease) = (store.clone(), lease.clone());
                async move { store.renew_chain_lease(&lease, millis(length)).await }
            }) => renewed,
            () = tokio::time::sleep_until(end) => break,
        };
        match renewed {
            Ok(_) => {
                *shared.end.lock() = usable_end(asked, length);
                pause = length / RENEW_PART;
                failing = false;
            }
            Err(error @ StoreError::LeaseLost { .. }) => {
                tracing::warn!(chain = %lease.chain, %error, "publishing ends here");
                break;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(chain = %lease.chain, %error, "the lease is not renewed yet");
                }
                failing = true;
                pause = length / RETRY_PART;
            }
        }
    }
    shared.lost.cancel();
}

/// Lets a statement run to its end when nobody waits for it any more: one that is cut off costs its
/// connection, and with it a database that is in memory.
async fn whole<T: Send + 'static>(
    statement: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(statement).await {
        Ok(done) => done,
        // It panicked, which was printed when it happened.
        Err(error) => Err(StoreError::Corrupt(format!("a statement was not finished: {error}"))),
    }
}

fn usable_end(asked: Instant, length: Duration) -> Instant {
    asked + (length - length / GUARD_PART)
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}
