//! The lease, from the publisher's side: it ends in time, and comes back.

use std::time::Duration;

use super::{CHAIN, Place, reached, source, within};
use crate::publish::{Phase, Publisher, Standby, Start};

#[tokio::test]
async fn a_publisher_whose_lease_is_taken_publishes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(12, 20);
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.limits.lease = Duration::from_millis(90);
    parts.standby = Standby::Wait;
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    let tip = source.tip();
    let taking = async {
        reached(state.clone(), |state| state.head == tip).await;
        // The other's clock says that it is over.
        place.clock.advance(91);
        let taken = place.store.take_chain_lease(CHAIN, "b", 3_600_000).await.unwrap();
        let waits = |phase: &Phase| matches!(phase, Phase::Waiting { reason } if reason.contains("published by `b`"));
        reached(state.clone(), |state| waits(&state.phase)).await;
        source.extend(3);
        source.announce();
        assert_eq!(place.bus.tail(CHAIN).await.unwrap().head, tip);
        // Once it is free, publishing goes on under a higher token.
        place.store.release_chain_lease(&taken).await.unwrap();
        let tip = source.tip();
        reached(state, |state| state.head == tip).await;
        let lease = place.store.chain_lease(CHAIN).await.unwrap().unwrap();
        assert!(lease.holder == "a" && lease.token > taken.token, "{lease:?}");
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            () = taking => {}
        }
    }))
    .await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_nothing_happens() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(13, 20);
    let mut parts = place.publisher(&source, Start::Height(0));
    parts.limits.lease = Duration::from_millis(60);
    let publisher = Publisher::new(parts);
    let renewing = async {
        let mut until = None;
        for _ in 0..3 {
            place.clock.advance(10);
            loop {
                let lease = place.store.chain_lease(CHAIN).await.unwrap();
                let now = lease.map(|lease| lease.until);
                if now > until {
                    until = now;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            () = renewing => {}
        }
    }))
    .await;
}

#[tokio::test]
async fn a_claim_by_another_ends_a_tenure() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path()).await;
    let source = source(14, 20);
    let publisher = Publisher::new(place.publisher(&source, Start::Height(0)));
    let state = publisher.state();
    let tip = source.tip();
    let claiming = async {
        reached(state.clone(), |state| state.head == tip).await;
        let _claim = place.bus.claim(CHAIN).await.unwrap();
        let token = place.store.chain_lease(CHAIN).await.unwrap().unwrap().token;
        source.extend(2);
        source.announce();
        let tip = source.tip();
        // Its publication is refused; it takes everything anew, and goes on at the tail.
        reached(state, |state| state.head == tip).await;
        let lease = place.store.chain_lease(CHAIN).await.unwrap().unwrap();
        assert!(lease.token > token, "{lease:?}");
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            () = claiming => {}
        }
    }))
    .await;
}
