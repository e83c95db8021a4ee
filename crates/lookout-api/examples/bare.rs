//! The measure for cached reads: an axum handler that returns a file's bytes, and nothing else.
//!
//! `make bench` runs it beside the real server. It does what any server must: route, read a
//! request's body, answer with a content type.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::header::CONTENT_TYPE;

type Failure = Box<dyn std::error::Error>;

async fn answer(State(body): State<Bytes>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn answer_post(State(body): State<Bytes>, _request: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (listen, file) = arguments()?;
    let body = Bytes::from(std::fs::read(file)?);
    let router = Router::new()
        .route("/address/balance/{address}", get(answer))
        .route("/block/{number}", get(answer))
        .route("/v1/rpc/{chain}", axum::routing::post(answer_post))
        .with_state(body);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    let listener = listener.tap_io(|stream| {
        // Without it the comparison would be unfair, in our favour.
        stream.set_nodelay(true).unwrap_or_default();
    });
    axum::serve(listener, router).await?;
    Ok(())
}

fn arguments() -> Result<(SocketAddr, PathBuf), Failure> {
    let (mut listen, mut file) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => listen = Some(value.parse()?),
            "--body-file" => file = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let usage = "usage: bare --listen ADDRESS --body-file FILE";
    Ok((listen.ok_or(usage)?, file.ok_or(usage)?))
}
