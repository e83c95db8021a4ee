//! The accept loop on loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{TestApi, config};

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = String::new();
    let mut buffer = [0; 4096];
    while !got.contains("\r\n\r\n") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "closed after {got:?}");
        got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    got
}

#[tokio::test]
async fn connections_are_kept_and_let_go_at_the_end() {
    let api = TestApi::start(config()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let state = api.api.state.clone();
    let router = api.api.router();
    let server = tokio::spawn(serve(state, router, listener, cancel.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        let got = exchange(&mut stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
    let many: String = (0..HEADERS_MAX + 1).map(|i| format!("x-{i}: 1\r\n")).collect();
    let mut crowded = TcpStream::connect(address).await.unwrap();
    let got = exchange(&mut crowded, &format!("GET /healthz HTTP/1.1\r\n{many}\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    let long = "a".repeat(HEAD_BYTES_MAX);
    let mut heavy = TcpStream::connect(address).await.unwrap();
    let got = exchange(&mut heavy, &format!("GET /healthz HTTP/1.1\r\nx: {long}\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    // A request is under way when the end comes: its body is still on its way.
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/rpc/1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\
                expect: 100-continue\r\n\r\n";
    let got = exchange(&mut busy, head).await;
    assert!(got.starts_with("HTTP/1.1 100"), "{got}");
    cancel.cancel();
    let got = exchange(&mut busy, "5").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    tokio::time::timeout(DRAIN_MAX, server).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

/// Everything until the connection ends.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn a_body_that_fails_lacks_the_end_that_a_whole_one_has() {
    use crate::piped;
    const STALL: Duration = Duration::from_secs(60);
    const LAST_CHUNK: &str = "0\r\n\r\n";
    let api = TestApi::start(config()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let write = |whole: bool| async move {
        piped::body(STALL, move |pipe| async move {
            pipe.send("some").await.unwrap();
            if whole {
                pipe.end().await;
            }
        })
    };
    let router = Router::new()
        .route("/whole", axum::routing::get(move || write(true)))
        .route("/cut", axum::routing::get(move || write(false)));
    let server = tokio::spawn(serve(api.api.state.clone(), router, listener, cancel.clone()));
    for (path, whole) in [("/whole", true), ("/cut", false)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = read_all(&mut stream).await;
        // What was written before the failure may be lost with the connection.
        assert!(!whole || got.contains("4\r\nsome\r\n"), "{got}");
        assert_eq!(got.ends_with(LAST_CHUNK), whole, "{got}");
    }
    cancel.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn live_streams_do_not_hold_up_the_end() {
    let api = TestApi::start(config()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let (state, router) = (api.api.state.clone(), api.api.router());
    let server = tokio::spawn(serve(state, router, listener, cancel.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let got = exchange(&mut stream, "GET /v1/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    cancel.cancel();
    // The connection ends with a whole body, not by being cut after the longest wait.
    let rest = got + &read_all(&mut stream).await;
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
    server.await.unwrap().unwrap();
}
