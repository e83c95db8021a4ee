//! Leases of chains: two holders, the end of one, and what a token is worth.

use lookout_types::{ChainId, ErrorKind};

use super::{NOW, Rig};
use crate::StoreError;

const CHAIN: ChainId = ChainId(u64::MAX);
const LENGTH_MS: i64 = 15_000;

pub(super) async fn one_holder_at_a_time(rig: &Rig) {
    let store = rig.migrated().await;
    assert_eq!(store.chain_lease(CHAIN).await.unwrap(), None);
    let first = store.take_chain_lease(CHAIN, "a", LENGTH_MS).await.unwrap();
    assert_eq!((first.token, first.until), (1, NOW + LENGTH_MS));
    assert_eq!(store.chain_lease(CHAIN).await.unwrap(), Some(first.clone()));
    rig.clock.advance(2_500);
    let error = store.take_chain_lease(CHAIN, "b", LENGTH_MS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(matches!(&error, StoreError::Held { until, .. } if *until == NOW + LENGTH_MS));
    assert!(error.to_string().contains("by `a`, whose lease ends in 13 s"), "{error}");
    // Another chain is another lease.
    assert_eq!(store.take_chain_lease(ChainId(1), "b", LENGTH_MS).await.unwrap().token, 1);
    // Given back, it need not be waited for, and the one before holds nothing any more.
    store.release_chain_lease(&first).await.unwrap();
    let second = store.take_chain_lease(CHAIN, "b", LENGTH_MS).await.unwrap();
    assert_eq!(second.token, 2);
    store.release_chain_lease(&first).await.unwrap();
    assert_eq!(store.chain_lease(CHAIN).await.unwrap(), Some(second));
}

pub(super) async fn an_ended_lease_is_taken_over(rig: &Rig) {
    let store = rig.migrated().await;
    let first = store.take_chain_lease(CHAIN, "a", LENGTH_MS).await.unwrap();
    rig.clock.advance(LENGTH_MS / 3);
    let first = store.renew_chain_lease(&first, LENGTH_MS).await.unwrap();
    assert_eq!((first.token, first.until), (1, NOW + LENGTH_MS / 3 + LENGTH_MS));
    rig.clock.advance(LENGTH_MS - 1);
    assert!(store.take_chain_lease(CHAIN, "b", LENGTH_MS).await.is_err());
    rig.clock.advance(1);
    // Late, but nobody was faster.
    let first = store.renew_chain_lease(&first, LENGTH_MS).await.unwrap();
    rig.clock.advance(LENGTH_MS);
    let second = store.take_chain_lease(CHAIN, "b", LENGTH_MS).await.unwrap();
    assert_eq!(second.token, 2);
    let error = store.renew_chain_lease(&first, LENGTH_MS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().ends_with("`b` has taken over"), "{error}");
    assert_eq!(store.chain_lease(CHAIN).await.unwrap(), Some(second));
}

pub(super) async fn a_holder_that_comes_again_fences_itself(rig: &Rig) {
    let store = rig.migrated().await;
    let before = store.take_chain_lease(CHAIN, "a", LENGTH_MS).await.unwrap();
    let after = store.take_chain_lease(CHAIN, "a", LENGTH_MS).await.unwrap();
    assert_eq!(after.token, before.token + 1);
    assert!(store.renew_chain_lease(&before, LENGTH_MS).await.is_err());
    store.release_chain_lease(&after).await.unwrap();
    let error = store.renew_chain_lease(&after, LENGTH_MS).await.unwrap_err();
    assert!(error.to_string().ends_with("it was given back"), "{error}");
    for (holder, length_ms) in [("", 1), (&*"x".repeat(201), 1), ("a", 0), ("a", i64::MAX)] {
        let error = store.take_chain_lease(CHAIN, holder, length_ms).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

pub(super) async fn of_many_one_takes_it(rig: &Rig) {
    let stores = [rig.migrated().await, rig.open().await];
    let takes: Vec<_> = (0..8)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(
                async move { store.take_chain_lease(CHAIN, &n.to_string(), LENGTH_MS).await },
            )
        })
        .collect();
    let mut taken = Vec::new();
    for take in takes {
        taken.push(take.await.unwrap());
    }
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
    for error in taken.into_iter().filter_map(Result::err) {
        assert!(matches!(error, StoreError::Held { .. }), "{error}");
    }
}

pub(super) async fn what_a_chain_is_followed_for_is_kept(rig: &Rig) {
    let store = rig.migrated().await;
    assert_eq!(store.followed_wants(CHAIN).await.unwrap(), None);
    for wants in ["logs", "blocks"] {
        store.set_followed_wants(CHAIN, wants).await.unwrap();
        assert_eq!(store.followed_wants(CHAIN).await.unwrap().as_deref(), Some(wants));
    }
    assert_eq!(store.followed_wants(ChainId(1)).await.unwrap(), None);
}
