//! Calls and `newHeads` over one WebSocket, reconnected by itself.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Request;
use super::fault::Fault;
use crate::wire::{self, Reply};

/// Calls waiting for the socket; beyond that an upstream is not keeping up and calls fail over.
const QUEUE_MAX: usize = 1024;
/// Pauses between reconnects: full jitter up to this, doubling from a quarter second.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// A socket that is silent this long is pinged; silent twice as long, it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Id of the subscription request; calls count up from 1.
const SUBSCRIBE_ID: u64 = 0;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A handle to the socket's task.
#[derive(Debug)]
pub(super) struct WsTransport {
    calls: mpsc::Sender<Outgoing>,
    heads: watch::Receiver<Subscription>,
}

/// State of the `newHeads` subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscription {
    /// Whether heads are pushed now; otherwise they must be polled.
    pub(crate) active: bool,
    /// The last header pushed, as JSON.
    pub(crate) header: Option<Bytes>,
}

#[derive(Debug)]
struct Outgoing {
    method: Box<str>,
    params: Box<str>,
    answer: oneshot::Sender<Result<Reply, Fault>>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow, default)]
    params: Option<Notification<'a>>,
}

#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

impl WsTransport {
    pub(super) fn start(url: Url, response_bytes_max: usize, stop: CancellationToken) -> Self {
        super::http::install_tls_provider();
        let (calls, queue) = mpsc::channel(QUEUE_MAX);
        let (publish, heads) = watch::channel(Subscription::default());
        let task = SocketTask { url, response_bytes_max, queue, publish };
        let running = Box::pin(task.run());
        tokio::spawn(async move { stop.run_until_cancelled_owned(running).await });
        Self { calls, heads }
    }

    pub(super) fn subscription(&self) -> watch::Receiver<Subscription> {
        self.heads.clone()
    }

    /// A batch is sent as single calls: a socket has no round trips to save.
    pub(super) async fn call_as(
        &self,
        method: &str,
        params: &str,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, Fault> {
        if request != Request::Batch {
            return self.call(method, params, timeout).await;
        }
        let calls = params.lines().map(|params| self.call(method, params, timeout));
        let replies = futures_util::future::try_join_all(calls).await?;
        Ok(Reply::Result(wire::joined(&replies)))
    }

    async fn call(&self, method: &str, params: &str, timeout: Duration) -> Result<Reply, Fault> {
        let (answer, wait) = oneshot::channel();
        let call = Outgoing { method: method.into(), params: params.into(), answer };
        self.calls.try_send(call).map_err(|_| Fault::Connect)?;
        match tokio::time::timeout(timeout, wait).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Fault::Broken),
            Err(_) => Err(Fault::Timeout(timeout)),
        }
    }
}

struct SocketTask {
    url: Url,
    response_bytes_max: usize,
    queue: mpsc::Receiver<Outgoing>,
    publish: watch::Sender<Subscription>,
}

impl SocketTask {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            if let Some(socket) = self.connect().await {
                failures = 0;
                self.converse(socket).await;
            }
            self.publish.send_modify(|s| s.active = false);
            let pause = Duration::from_millis(250).saturating_mul(1 << failures.min(8));
            failures += 1;
            let until = Instant::now() + pause.min(RECONNECT_MAX).mul_f64(fastrand::f64());
            self.refuse_until(until).await;
        }
    }

    async fn connect(&self) -> Option<Socket> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(self.response_bytes_max))
            .max_frame_size(Some(self.response_bytes_max));
        let connecting =
            tokio_tungstenite::connect_async_with_config(self.url.as_str(), Some(config), true);
        // The error's text would contain the URL; the caller sees `Fault::Connect`.
        tokio::time::timeout(RECONNECT_MAX, connecting).await.ok()?.ok().map(|(socket, _)| socket)
    }

    /// Fails queued calls at once while there is no socket, so that they go to other upstreams.
    async fn refuse_until(&mut self, until: Instant) {
        while let Ok(Some(call)) = tokio::time::timeout_at(until, self.queue.recv()).await {
            // A caller that has gone away needs no answer.
            drop(call.answer.send(Err(Fault::Connect)));
        }
    }

    /// Serves one connection until it breaks. Waiting calls fail when `waiting` is dropped.
    async fn converse(&mut self, mut socket: Socket) {
        let subscribe = wire::request_body(SUBSCRIBE_ID, "eth_subscribe", r#"["newHeads"]"#);
        if send(&mut socket, subscribe).await.is_err() {
            return;
        }
        let mut waiting: HashMap<u64, oneshot::Sender<Result<Reply, Fault>>> = HashMap::new();
        let (mut next_id, mut pinged) = (SUBSCRIBE_ID + 1, false);
        loop {
            tokio::select! {
                Some(call) = self.queue.recv() => {
                    let body = wire::request_body(next_id, &call.method, &call.params);
                    waiting.retain(|_, answer| !answer.is_closed());
                    waiting.insert(next_id, call.answer);
                    next_id += 1;
                    if send(&mut socket, body).await.is_err() {
                        return;
                    }
                }
                message = tokio::time::timeout(SILENCE_MAX, socket.next()) => match message {
                    Ok(Some(Ok(Message::Text(text)))) => {
                        pinged = false;
                        self.receive(&Bytes::from(text), &mut waiting);
                    }
                    Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return,
                    Ok(Some(Ok(_))) => pinged = false,
                    Err(_) if pinged => return,
                    Err(_) => {
                        pinged = true;
                        if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                            return;
                        }
                    }
                },
            }
        }
    }

    fn receive(
        &self,
        text: &Bytes,
        waiting: &mut HashMap<u64, oneshot::Sender<Result<Reply, Fault>>>,
    ) {
        let Ok(incoming) = serde_json::from_slice::<Incoming<'_>>(text) else { return };
        match (incoming.id, incoming.params) {
            (Some(SUBSCRIBE_ID), _) => {
                let active = matches!(wire::parse_reply(text), Ok(Reply::Result(_)));
                self.publish.send_modify(|s| s.active = active);
            }
            (Some(id), _) => {
                if let Some(answer) = waiting.remove(&id) {
                    drop(answer.send(wire::parse_reply(text).map_err(Fault::from)));
                }
            }
            (None, Some(note)) => {
                let header = text.slice_ref(note.result.get().as_bytes());
                self.publish.send_modify(|s| s.header = Some(header));
            }
            (None, None) => {}
        }
    }
}

async fn send(socket: &mut Socket, body: Vec<u8>) -> Result<(), ()> {
    let text = String::from_utf8(body).map_err(|_| ())?;
    socket.send(Message::text(text)).await.map_err(|_| ())
}
