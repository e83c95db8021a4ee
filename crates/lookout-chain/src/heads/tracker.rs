//! Watches one upstream: is it the right chain, where is its head, what does it call final.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lookout_types::BlockRef;
use tokio::time::Instant;

use super::Follower;
use crate::methods;
use crate::upstream::{Fault, Identity, Upstream};
use crate::verify;
use crate::wire::Reply;

/// Pause between tries to learn an unreachable upstream's chain id; doubled up to the maximum.
const IDENTIFY_PAUSE: Duration = Duration::from_millis(250);
const IDENTIFY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the chain id is asked again: an endpoint can be pointed at another chain.
const IDENTIFY_EVERY: Duration = Duration::from_mins(1);
/// Polls of the head for one of `safe` and `finalized`, which move once an epoch.
const FINALITY_EVERY: u32 = 4;
/// With a subscription, polls are only a guard against a feed that silently stopped.
const GUARD_POLLS: u32 = 10;

/// Runs until cancelled.
pub(super) async fn track(follower: Arc<Follower>, i: usize) {
    let upstream = follower.pool.upstreams[i].clone();
    let mut feed = upstream.subscription();
    let (mut identified, mut polls) = (None::<Instant>, 0_u32);
    loop {
        if identified.is_none_or(|at| at.elapsed() >= IDENTIFY_EVERY) {
            identify(&follower, &upstream).await;
            identified = Some(Instant::now());
        }
        poll(&follower, i).await;
        follower.decide().await;
        if polls.is_multiple_of(FINALITY_EVERY) {
            poll_finality(&follower, i).await;
            follower.decide().await;
        }
        polls = polls.wrapping_add(1);
        let interval = follower.pool.settings.poll_interval;
        let active = feed.as_ref().is_some_and(|feed| feed.borrow().active);
        let guard = if active { interval * GUARD_POLLS } else { interval };
        let until = Instant::now() + jittered(guard);
        while Instant::now() < until {
            let pushed = async {
                match feed.as_mut() {
                    // The sender lives as long as the upstream, so an error never comes.
                    Some(feed) => feed.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                _ = pushed => {
                    let Some(subscription) = feed.as_ref().map(|f| f.borrow().clone()) else { break };
                    match subscription.header {
                        Some(header) if subscription.active => {
                            receive(&follower, i, &header);
                            follower.decide().await;
                        }
                        _ => break,
                    }
                }
            }
        }
    }
}

/// Within a tenth around `interval`, so that the pollers of many chains spread out.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Asks for the chain id until there is an answer.
async fn identify(follower: &Follower, upstream: &Upstream) {
    let expected = follower.chain_id;
    let mut pause = IDENTIFY_PAUSE;
    let mut failed = false;
    loop {
        let problem = match upstream.call(methods::known("eth_chainId"), "[]").await {
            Ok(Reply::Result(result)) => {
                let told = parse_quantity(&result);
                let identity =
                    if told == Some(expected.0) { Identity::Right } else { Identity::Wrong };
                if identity == Identity::Wrong && upstream.identity() != Identity::Wrong {
                    tracing::error!(chain = %follower.pool.chain, upstream = %upstream.name,
                        expected = expected.0, told = ?told,
                        "the upstream serves another chain and is not used");
                }
                upstream.set_identity(identity);
                if failed {
                    tracing::info!(chain = %follower.pool.chain, upstream = %upstream.name,
                        "the upstream answers");
                }
                return;
            }
            Ok(Reply::Error(error)) => format!("answered: {}", error.message),
            Err(fault) => fault.to_string(),
        };
        if !failed {
            failed = true;
            tracing::warn!(chain = %follower.pool.chain, upstream = %upstream.name,
                "the upstream does not tell its chain id and is tried again: it {problem}");
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(IDENTIFY_PAUSE_MAX);
    }
}

fn parse_quantity(json: &[u8]) -> Option<u64> {
    let text: &str = serde_json::from_slice(json).ok()?;
    lookout_types::parse_quantity(text).ok()
}

/// Asks for the head once and reports it.
pub(super) async fn poll(follower: &Follower, i: usize) {
    let upstream = &follower.pool.upstreams[i];
    if upstream.identity() != Identity::Right {
        return;
    }
    let method = methods::known("eth_getBlockByNumber");
    if let Ok(Reply::Result(result)) = upstream.call(method, "[\"latest\",false]").await {
        receive(follower, i, &result);
    }
}

fn receive(follower: &Follower, i: usize, header: &Bytes) {
    match follower.rules.check(header) {
        Ok(block) => follower.report(i, block),
        Err(error) => {
            let upstream = &follower.pool.upstreams[i];
            let fault = Fault::Lie(error.to_string());
            upstream.note_fault(methods::known("eth_getBlockByNumber"), &fault);
            tracing::warn!(chain = %follower.pool.chain, upstream = %upstream.name,
                "rejected a head: {error}");
        }
    }
}

async fn poll_finality(follower: &Follower, i: usize) {
    let upstream = &follower.pool.upstreams[i];
    if upstream.identity() != Identity::Right {
        return;
    }
    let safe = tagged(upstream, "[\"safe\",false]").await;
    let finalized = tagged(upstream, "[\"finalized\",false]").await;
    follower.report_finality(i, safe, finalized);
}

/// The block behind a tag; `None` where the chain has no such notion or the upstream no answer
/// now, either of which leaves the last known block in force.
async fn tagged(upstream: &Upstream, params: &str) -> Option<BlockRef> {
    let method = methods::known("eth_getBlockByNumber");
    match upstream.call(method, params).await {
        Ok(Reply::Result(json)) => verify::parse_header(&json).ok().map(|h| h.reference),
        Ok(Reply::Error(_)) | Err(_) => None,
    }
}
