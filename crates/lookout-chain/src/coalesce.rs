//! Identical calls under way at the same time become one.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

type Work<V> = BoxFuture<'static, Option<V>>;

/// Calls under way, by key. Everyone who waits drives the work, so that a caller who goes away
/// cancels nothing for the others, and a lone caller pays for no task of its own. The map itself
/// keeps no work alive: what nobody waits for any more is cancelled.
#[derive(Debug)]
pub(crate) struct Coalesce<K, V>(Arc<Mutex<HashMap<K, WeakShared<Work<V>>>>>);

impl<K, V> Default for Coalesce<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Removes the key when the work ends, also by a panic.
struct Landing<K: Eq + Hash, V> {
    flights: Arc<Mutex<HashMap<K, WeakShared<Work<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<K, V> Coalesce<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The outcome of `work` for `key`, shared with all who ask while it runs.
    ///
    /// `None` only when the work panicked.
    pub(crate) async fn run(
        &self,
        key: K,
        work: impl Future<Output = V> + Send + 'static,
    ) -> Option<V> {
        self.flight(key, work).await
    }

    fn flight(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Shared<Work<V>> {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let landing = Landing { flights: self.0.clone(), key: key.clone() };
        let landed = async move {
            let value = AssertUnwindSafe(work).catch_unwind().await.ok();
            drop(landing);
            value
        };
        let flight = landed.boxed().shared();
        // Nobody has polled it yet, so it is not done and there is something to point to.
        flights.extend(flight.downgrade().map(|weak| (key, weak)));
        flight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_thousand_callers_make_one_call_also_when_the_first_leaves() {
        let calls: Arc<Coalesce<u8, u64>> = Arc::default();
        let count = Arc::new(AtomicUsize::new(0));
        let (finish, wait) = oneshot::channel::<u64>();
        let work = {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                wait.await.unwrap()
            }
        };
        let leader = tokio::spawn({
            let calls = calls.clone();
            async move { calls.run(1, work).await }
        });
        while count.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let followers: Vec<_> = (0..1000)
            .map(|_| {
                let (calls, count) = (calls.clone(), count.clone());
                tokio::spawn(async move {
                    let late = async move {
                        count.fetch_add(1, Ordering::SeqCst);
                        0
                    };
                    calls.run(1, late).await
                })
            })
            .collect();
        let waiting = |calls: &Coalesce<u8, u64>| {
            let flight = calls.0.lock().get(&1).and_then(WeakShared::upgrade);
            flight.and_then(|flight| flight.strong_count()).unwrap_or(0)
        };
        // All of them, the leader, and the one that looks.
        while waiting(&calls) < 1002 {
            tokio::task::yield_now().await;
        }
        leader.abort();
        finish.send(42).unwrap();
        for follower in followers {
            assert_eq!(follower.await.unwrap(), Some(42));
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(calls.0.lock().is_empty());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_cancelled_and_begun_anew() {
        let calls: Coalesce<u8, u8> = Coalesce::default();
        let mut forgotten = Box::pin(calls.run(1, std::future::pending()));
        assert_eq!((&mut forgotten).now_or_never(), None);
        drop(forgotten);
        assert!(calls.0.lock().is_empty());
        assert_eq!(calls.run(1, async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn a_panic_ends_only_that_flight() {
        let calls: Coalesce<u8, u8> = Coalesce::default();
        assert_eq!(calls.run(1, async { panic!("on purpose") }).await, None);
        assert_eq!(calls.run(1, async { 7 }).await, Some(7));
    }
}
