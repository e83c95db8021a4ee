//! Bodies written by a task while the client reads: in bounded memory, ended by whoever leaves.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

/// Pieces written ahead of the client.
const PIECES_AHEAD: usize = 4;

/// What a body is made of.
enum Piece {
    Data(Bytes),
    /// The body is whole. Without it, the connection is cut instead of ended.
    End,
}

/// The writing end of a body.
#[derive(Debug)]
pub(crate) struct Pipe {
    pieces: mpsc::Sender<Piece>,
    stall: Duration,
}

/// The client has left, or reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Pipe {
    /// Hands a piece on; waits while the client is behind, but not for ever.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        let sent = self.pieces.send_timeout(Piece::Data(piece.into()), self.stall).await;
        sent.map_err(|_| Gone)
    }

    /// Says that the body is whole.
    pub(crate) async fn end(self) {
        // Nobody left to tell is no failure.
        drop(self.pieces.send_timeout(Piece::End, self.stall).await);
    }
}

/// A body written by `write`, which runs until it ends or the client leaves.
///
/// When `write` returns without [`Pipe::end`], or panics, or the client does not read for `stall`,
/// the body fails: HTTP/1.1 closes the connection without the last chunk, so that no client takes
/// a part for the whole.
pub(crate) fn body<F>(stall: Duration, write: impl FnOnce(Pipe) -> F) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (pieces, rest) = mpsc::channel(PIECES_AHEAD);
    let left = pieces.clone();
    let writing = write(Pipe { pieces, stall });
    tokio::spawn(async move {
        tokio::select! {
            () = writing => {}
            () = left.closed() => {}
        }
    });
    Body::from_stream(stream::unfold(Some(rest), |rest| async move {
        let mut rest = rest?;
        match rest.recv().await {
            Some(Piece::Data(data)) => Some((Ok(data), Some(rest))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the body was cut short")), None)),
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    async fn read(body: Body) -> Result<Bytes, axum::Error> {
        axum::body::to_bytes(body, usize::MAX).await
    }

    #[tokio::test]
    async fn only_a_body_that_was_ended_ends_well() {
        let whole = body(LONG, |pipe| async move {
            for _ in 0..100 {
                pipe.send("ab").await.unwrap();
            }
            pipe.end().await;
        });
        assert_eq!(read(whole).await.unwrap(), "ab".repeat(100));
        let cut = body(LONG, |pipe| async move {
            pipe.send("ab").await.unwrap();
        });
        assert!(read(cut).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_work() {
        struct Ended(Arc<Semaphore>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.add_permits(1);
            }
        }
        let ended = Arc::new(Semaphore::new(0));
        let guard = Ended(ended.clone());
        let body = body(LONG, |pipe| async move {
            let _guard = guard;
            pipe.send("first").await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut stream = body.into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "first");
        drop(stream);
        drop(ended.acquire().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let body = body(Duration::from_secs(30), |pipe| async move {
            while pipe.send("more").await.is_ok() {}
        });
        let mut stream = body.into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "more");
        tokio::time::sleep(Duration::from_secs(31)).await;
        let rest: Vec<_> = stream.collect().await;
        assert_eq!(rest.len(), PIECES_AHEAD + 1);
        assert!(rest.last().unwrap().is_err());
    }
}
