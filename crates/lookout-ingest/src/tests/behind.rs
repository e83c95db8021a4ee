//! Heads below what was published.

use std::time::Duration;

use super::publish::{place, undone};
use super::{CHAIN, Place, assert_is_chain, frames, limits, reached, replay, source, within};
use crate::publish::{Limits, Phase, Publisher, PublisherState, Start};
use crate::sim::SimSource;

/// Publishes with heads as they were announced until `is_it`.
async fn publish_until(
    place: &Place,
    source: &SimSource,
    limits: Limits,
    is_it: impl Fn(&PublisherState) -> bool,
) {
    let mut parts = place.publisher(source, Start::Height(10));
    parts.limits = limits;
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            _ = reached(state, is_it) => {}
        }
    }))
    .await;
}

fn waits(state: &PublisherState, said: &str) -> bool {
    matches!(&state.phase, Phase::Waiting { reason } if reason.starts_with(said))
}

#[tokio::test]
async fn upstreams_that_are_behind_take_nothing_back_however_long_it_lasts() {
    let (_folder, place) = place().await;
    let source = source(5, 300);
    place.publish(place.publisher(&source, Start::Height(10)), &source).await;
    // A little behind, far behind, at the first block, below it, and without any data.
    for lag in [1, 7, 200, 289, 295, 299] {
        source.announce_lag(lag);
        let said = format!("the upstreams are behind: their head is block {}", 299 - lag);
        let lasting = Limits { rollback_after: Duration::ZERO, ..limits() };
        publish_until(&place, &source, lasting, |state| waits(state, &said)).await;
        assert_eq!(undone(&place).await, 0, "{lag} behind");
    }
    // While it lasts, the head may move on, and the process may run on.
    let mut parts = place.publisher(&source, Start::Height(10));
    parts.limits = Limits { rollback_after: Duration::ZERO, ..limits() };
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    let catching_up = async {
        for lag in (1..60).rev() {
            source.announce_lag(lag);
            let said = format!("the upstreams are behind: their head is block {}", 299 - lag);
            reached(state.clone(), |state| waits(state, &said)).await;
        }
        source.extend(3);
        source.announce();
        let tip = source.tip();
        reached(state, |state| state.head == tip && state.phase == Phase::Following).await
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            _ = catching_up => {}
        }
    }))
    .await;
    assert_eq!(undone(&place).await, 0);
}

#[tokio::test]
async fn a_shorter_branch_is_followed_as_it_grows() {
    let (_folder, place) = place().await;
    let source = source(5, 40);
    place.publish(place.publisher(&source, Start::Height(10)), &source).await;
    let left = source.tip();
    source.reorg(11, 2);
    source.announce();
    let mut parts = place.publisher(&source, Start::Height(10));
    parts.limits = Limits { rollback_after: Duration::ZERO, ..limits() };
    let publisher = Publisher::new(parts);
    let state = publisher.state();
    let said = "the upstreams are at block 30 of another branch, 9 below block 39";
    let growing = async {
        // It may be where an upstream has stopped: for that alone nothing is taken back.
        reached(state.clone(), |state| waits(state, said)).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(state.borrow().head, left);
        source.extend(1);
        source.announce();
        let tip = source.tip();
        reached(state, |state| state.head == tip).await
    };
    within(Box::pin(async {
        tokio::select! {
            ended = publisher.run() => panic!("{ended:?}"),
            _ = growing => {}
        }
    }))
    .await;
    assert_eq!(undone(&place).await, 11);
    assert_is_chain(&replay(&frames(&place.bus).await), &source, 10);
    assert_eq!(place.bus.tail(CHAIN).await.unwrap().head.map(|head| head.number), Some(31));
}
