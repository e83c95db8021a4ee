//! The accept loop: connections within limits, and an end that waits for those under way.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::state::Shared;

/// Connections at once. Each costs a few kilobytes and a file descriptor; above this, new ones
/// wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8192;
/// Longest wait for a whole request head; also how long an idle connection is kept.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head. URLs end at 8 KiB, tokens rarely exceed that.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most header lines of a request.
const HEADERS_MAX: usize = 100;
/// Longest wait at the end for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which mostly means no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two sweeps of rate buckets and metric buffers.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves until cancelled, then waits for requests under way.
pub(crate) async fn serve(
    state: Shared,
    router: Router,
    listener: TcpListener,
    cancel: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let sweeper = tokio::spawn(sweep(state.clone(), cancel.clone()));
    while let Some((stream, peer, slot)) = accept(&listener, &slots, &cancel).await {
        let connection = serve_connection(router.clone(), stream, peer, cancel.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    state.stopping.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        let left = connections.len();
        tracing::warn!(left, "connections were still busy at the end and are cut");
    }
    sweeper.abort();
    Ok(())
}

/// The next connection; `None` once cancelled.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let next = async {
        // Never closed, so there is always a slot to wait for.
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some((stream, peer, slot)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        next = next => next,
    }
}

async fn serve_connection(
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    cancel: CancellationToken,
) {
    // Answers go out at once instead of waiting for more to send. Without it, it is merely slower.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|e| match e {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        // A body is read in pieces of this size at most; the head has to fit as a whole.
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Clients leave in the middle of things all the time.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Keeps the memory of rate buckets and of metric samples bounded.
async fn sweep(state: Shared, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        state.live().limiters.sweep();
        state.prometheus.run_upkeep();
    }
}

#[cfg(test)]
mod tests;
