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
