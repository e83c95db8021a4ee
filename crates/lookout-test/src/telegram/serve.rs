//! HTTP for the stand-in: `/bot<token>/<method>` with a JSON body.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::methods::{Answer, answer, ok, refuse};

/// Updates in one answer.
const UPDATES_MAX: usize = 100;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, running: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = running.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A client that is gone before it is greeted is no concern of a stand-in.
        let Ok((stream, _)) = accepted else { continue };
        drop(stream.set_nodelay(true));
        let shared = Arc::clone(&shared);
        let connection = async move {
            let service = hyper::service::service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { respond(&shared, request).await }
            });
            let socket = TokioIo::new(stream);
            let http = hyper::server::conn::http1::Builder::new();
            // Broken connections are part of the play.
            drop(http.serve_connection(socket, service).await);
        };
        tokio::spawn(running.clone().run_until_cancelled_owned(connection));
    }
}

async fn respond(shared: &Shared, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let (token, method) =
        path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')).unwrap_or_default();
    let request = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let now = shared.clock.now();
    let mut answered = answer(&mut shared.state.lock(), token, method, &request, now);
    if let Answer::Poll { offset, seconds } = answered {
        answered = poll(shared, token, offset, Duration::from_secs(seconds)).await;
    }
    let (status, text) = match answered {
        Answer::Json(status, body) => (status, body.to_string()),
        Answer::Bare(status) => (status, "<html>Bad Gateway</html>".to_owned()),
        Answer::Broken | Answer::Poll { .. } => {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    };
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(text)));
    response.map_err(io::Error::other)
}

/// Ends a bot's polling also when the client goes away.
struct Polling<'a>(&'a Shared, &'a str);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        if let Some(bot) = self.0.state.lock().bots.get_mut(self.1) {
            bot.is_polled = false;
        }
    }
}

/// Waits for updates from `offset` on; those before are done for good.
async fn poll(shared: &Shared, token: &str, offset: i64, longest: Duration) -> Answer {
    let first = match shared.state.lock().bots.get_mut(token) {
        Some(bot) if bot.is_polled => {
            let reason = "Conflict: terminated by other getUpdates request; make sure that only \
                          one bot instance is running";
            return refuse(409, reason, &Value::Null);
        }
        Some(bot) => {
            bot.is_polled = true;
            Polling(shared, token)
        }
        None => return refuse(401, "Unauthorized", &Value::Null),
    };
    let until = tokio::time::Instant::now() + longest;
    loop {
        let woken = shared.updates.notified();
        tokio::pin!(woken);
        // Registered before looking, so that what comes in between is not missed.
        woken.as_mut().enable();
        if let Some(bot) = shared.state.lock().bots.get_mut(token) {
            bot.updates.retain(|(number, _)| *number >= offset);
            if !bot.updates.is_empty() {
                let found: Vec<_> =
                    bot.updates.iter().take(UPDATES_MAX).map(|(_, update)| update).collect();
                return ok(&json!(found));
            }
        }
        if tokio::time::timeout_at(until, woken).await.is_err() {
            drop(first);
            return ok(&json!([]));
        }
    }
}
