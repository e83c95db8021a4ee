//! Load on a server: as much as it takes, or at a given rate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::histogram::Histogram;
use crate::wire::{Connection, Expected, Request};

/// Connections at once: enough that a server always has the next request waiting.
pub(crate) const CONNECTIONS: u32 = 32;

/// What to send where, and what must come back.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) request: Request,
    pub(crate) expected: Expected,
}

/// What a load at a given rate showed.
#[derive(Debug, Default)]
pub(crate) struct Paced {
    /// From when a request was due to its answer, whether or not it could be sent in time.
    pub(crate) latency: Histogram,
    /// How late requests were sent on connections that were free: the generator's own delay.
    pub(crate) lateness: Histogram,
}

/// Closed loop: every connection sends its next request as soon as it has an answer. Gives the
/// answers received and the time it took.
///
/// # Errors
/// At the first answer that is not the expected one.
pub(crate) async fn saturate(target: &Target, time: Duration) -> Result<(u64, Duration)> {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let target = target.clone();
        tasks.spawn(async move {
            let mut connection = Connection::open(target.address).await?;
            let mut answers = 0_u64;
            while begun.elapsed() < time {
                connection.exchange(&target.request, &target.expected).await?;
                answers += 1;
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = 0;
    while let Some(ended) = tasks.join_next().await {
        answers += ended.context("a load task panicked")??;
    }
    Ok((answers, begun.elapsed()))
}

/// Open loop: requests are due at a steady rate, whatever the server does. A request that has to
/// wait for its connection counts that wait (no coordinated omission).
///
/// # Errors
/// At the first answer that is not the expected one.
pub(crate) async fn pace(target: &Target, per_second: f64, time: Duration) -> Result<Paced> {
    // Each connection has its own beat; together they are the rate, evenly spread.
    let gap = Duration::from_secs_f64(1.0 / per_second);
    let beat = gap * CONNECTIONS;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(target.address).await?);
    }
    let mut tasks = JoinSet::new();
    let begun = Instant::now() + Duration::from_millis(5);
    for (connection, index) in connections.into_iter().zip(0_u32..) {
        let due = begun + gap * index;
        tasks.spawn(keep_beat(connection, target.clone(), due, beat, begun + time));
    }
    let mut result = Paced::default();
    while let Some(ended) = tasks.join_next().await {
        let one = ended.context("a load task panicked")??;
        result.latency.merge(&one.latency);
        result.lateness.merge(&one.lateness);
    }
    Ok(result)
}

async fn keep_beat(
    mut connection: Connection,
    target: Target,
    mut due: Instant,
    beat: Duration,
    end: Instant,
) -> Result<Paced> {
    let mut own = Paced::default();
    while due < end {
        if Instant::now() < due {
            // A timer is too coarse (1 ms), so the generator's core spins.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            own.lateness.record(due.elapsed());
        }
        connection.exchange(&target.request, &target.expected).await?;
        own.latency.record(due.elapsed());
        due += beat;
    }
    Ok(own)
}
