//! Failover, hedging and error classes, against small HTTP servers that answer as told.

use std::sync::atomic::{AtomicUsize, Ordering};

use lookout_types::ChainId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::*;
use crate::UpstreamSpec;

/// What a server does with every call but the chain id.
#[derive(Clone)]
enum Answers {
    /// This HTTP status, with these headers and body.
    With(u16, &'static str, &'static str),
    /// The same, after a delay.
    After(Duration, &'static str),
    /// Accepts and never answers.
    Never,
}

struct Server {
    url: Url,
    calls: Arc<AtomicUsize>,
}

const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#;
const OTHER: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x2"}"#;

async fn server(answers: Answers) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-key", listener.local_addr().unwrap()).parse().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, answers.clone(), counted.clone()));
        }
    });
    Server { url, calls }
}

async fn converse(mut socket: TcpStream, answers: Answers, calls: Arc<AtomicUsize>) {
    let mut buffer = Vec::new();
    loop {
        let body = loop {
            if let Some(request) = whole_request(&mut buffer) {
                break request;
            }
            let mut piece = [0; 4096];
            match socket.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
            }
        };
        calls.fetch_add(1, Ordering::SeqCst);
        let (status, headers, body) = match &answers {
            _ if body.contains("eth_chainId") => (200, "", OK),
            Answers::With(status, headers, body) => (*status, *headers, *body),
            Answers::After(delay, body) => {
                tokio::time::sleep(*delay).await;
                (200, "", *body)
            }
            Answers::Never => std::future::pending().await,
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n");
        if socket.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Takes one request's body from the buffer, if it is there whole.
fn whole_request(buffer: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(buffer).to_ascii_lowercase();
    let head = text.find("\r\n\r\n")? + 4;
    let length = text.split("content-length: ").nth(1)?.lines().next()?.trim().parse::<usize>();
    let end = head + length.ok()?;
    (buffer.len() >= end).then(|| {
        let request: Vec<u8> = buffer.drain(..end).collect();
        String::from_utf8_lossy(&request[head..]).into_owned()
    })
}

fn pool(servers: &[&Server], adjust: impl FnOnce(&mut PoolSettings)) -> Pool {
    let mut settings = PoolSettings {
        call_timeout: Duration::from_millis(400),
        request_timeout: Duration::from_secs(5),
        response_bytes_max: 1 << 20,
        ..PoolSettings::default()
    };
    adjust(&mut settings);
    let upstreams = servers
        .iter()
        .enumerate()
        .map(|(i, s)| UpstreamSpec {
            name: format!("u{i}"),
            url: s.url.clone(),
            requests_per_second: None,
        })
        .collect();
    let spec = ChainSpec { name: "test".into(), id: ChainId(1), upstreams, settings };
    let pool = Pool::new(&spec, &CancellationToken::new());
    for upstream in &pool.upstreams {
        upstream.set_identity(Identity::Right);
    }
    pool
}

async fn ask(pool: &Pool, method: &'static str) -> Result<Bytes, Lost> {
    let call = Call {
        method: methods::known(method),
        params: "[]",
        height: None,
        request: Request::One,
        deadline: pool.deadline(),
        except: &[],
    };
    let accept = |json: &Bytes| match &json[..] {
        b"null" => Err(Reject::Missing),
        b"\"0x2\"" => Err(Reject::Lie("not what it should be".to_owned())),
        _ => Ok(()),
    };
    pool.ask(call, accept).await.map(|won| won.result)
}

/// The right answer comes through although one of two upstreams answers like this.
async fn check_failover(answers: Answers) {
    let (bad, good) = (server(answers).await, server(Answers::With(200, "", OK)).await);
    let pool = pool(&[&bad, &good], |_| ());
    for _ in 0..20 {
        assert_eq!(ask(&pool, "eth_gasPrice").await.unwrap(), "\"0x1\"");
    }
    assert!(good.calls.load(Ordering::SeqCst) >= 15);
}

#[tokio::test]
async fn every_fault_of_an_upstream_goes_to_another_one() {
    check_failover(Answers::With(500, "", "oops")).await;
    check_failover(Answers::With(200, "", "<html>busy</html>")).await;
    check_failover(Answers::With(200, "", "")).await;
    check_failover(Answers::With(200, "", "{\"jsonrpc\":\"2.0\",\"id\":1}")).await;
    check_failover(Answers::With(429, "retry-after: 60\r\n", "")).await;
    check_failover(Answers::With(200, "", r#"{"error":{"code":-32005,"message":"limit"}}"#)).await;
    check_failover(Answers::With(200, "", r#"{"error":{"code":-32603,"message":"internal"}}"#))
        .await;
    check_failover(Answers::With(200, "", r#"{"error":{"code":-32601,"message":"no"}}"#)).await;
    check_failover(Answers::With(200, "", OTHER)).await;
    check_failover(Answers::With(200, "", r#"{"result":null}"#)).await;
    check_failover(Answers::With(302, "location: http://127.0.0.1:1/\r\n", "")).await;
    check_failover(Answers::Never).await;
}

#[tokio::test]
async fn the_nodes_word_on_the_request_is_final_and_asked_once() {
    let revert = r#"{"error":{"code":3,"message":"execution reverted","data":"0x08c3"}}"#;
    let (a, b) = (
        server(Answers::With(200, "", revert)).await,
        server(Answers::With(200, "", revert)).await,
    );
    let pool = pool(&[&a, &b], |_| ());
    match ask(&pool, "eth_gasPrice").await {
        Err(Lost::Failed(ChainError::Node(error))) => {
            assert_eq!(
                error.raw.get(),
                r#"{"code":3,"message":"execution reverted","data":"0x08c3"}"#
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(a.calls.load(Ordering::SeqCst) + b.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_rate_limited_upstream_is_left_alone_for_as_long_as_it_says() {
    let limited = server(Answers::With(429, "retry-after: 60\r\n", "")).await;
    let good = server(Answers::With(200, "", OK)).await;
    let pool = pool(&[&limited, &good], |_| ());
    for _ in 0..50 {
        ask(&pool, "eth_gasPrice").await.unwrap();
    }
    assert!(limited.calls.load(Ordering::SeqCst) <= 1);
}

#[tokio::test]
async fn nothing_leaks_the_key_in_the_url() {
    let bad = server(Answers::With(500, "", "")).await;
    let pool = pool(&[&bad], |settings| settings.request_timeout = Duration::from_secs(2));
    let failed = ask(&pool, "eth_gasPrice").await.unwrap_err();
    let error = failed.or_missing(|| panic!("not a miss"));
    assert!(error.to_string().contains("`u0` answered HTTP status 500"), "{error}");
    let told = format!("{error} {error:?} {:?} {:?}", pool.upstreams, pool.upstreams[0].status());
    assert!(!told.contains("secret-key"), "{told}");
}

#[tokio::test]
async fn an_answer_over_the_cap_is_refused_while_it_is_read() {
    let huge: &'static str =
        Box::leak(format!(r#"{{"result":"{}"}}"#, "a".repeat(3 << 20)).into_boxed_str());
    let big = server(Answers::With(200, "", huge)).await;
    let pool = pool(&[&big], |_| ());
    match ask(&pool, "eth_gasPrice").await {
        Err(Lost::Failed(ChainError::Upstreams { attempts, .. })) => {
            assert_eq!(attempts[0].problem, "answered more than 1048576 bytes");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_slow_upstream_is_hedged_within_the_budget() {
    let slow = server(Answers::After(Duration::from_mins(2), OK)).await;
    let fast = server(Answers::With(200, "", OK)).await;
    let pool = pool(&[&slow, &fast], |settings| {
        settings.call_timeout = Duration::from_mins(5);
        settings.request_timeout = Duration::from_mins(5);
    });
    for _ in 0..64 {
        pool.tails[methods::known("eth_gasPrice").index].record(Duration::from_millis(3));
    }
    for _ in 0..40 {
        // Without a hedge, whoever is sent to the slow one first waits for two minutes.
        let answered = tokio::time::timeout(Duration::from_mins(1), ask(&pool, "eth_gasPrice"));
        answered.await.expect("the fast one answered").unwrap();
    }
    let calls = slow.calls.load(Ordering::SeqCst) + fast.calls.load(Ordering::SeqCst);
    assert!(calls <= 40 + 10 + 2, "{calls} calls for 40 requests");
}

#[tokio::test]
async fn an_upstream_of_another_chain_is_never_asked() {
    let wrong = server(Answers::With(200, "", OK)).await;
    let pool = pool(&[&wrong], |settings| settings.request_timeout = Duration::from_secs(1));
    pool.upstreams[0].set_identity(Identity::Wrong);
    match ask(&pool, "eth_gasPrice").await {
        Err(Lost::Failed(ChainError::Unavailable { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(wrong.calls.load(Ordering::SeqCst), 0);
}
