//! What Lookout adds to a call that it has to pass on: beside the same call sent directly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::histogram::Histogram;
use crate::plan::Plan;
use crate::process::Cores;
use crate::report::{Bound, Figure, Report};
use crate::scene::{CHAIN, Scene};
use crate::wire::{Connection, Expected, Request};

/// Largest overhead at p50 and p99, in microseconds.
const P50_US_MAX: f64 = 100.0;
const P99_US_MAX: f64 = 500.0;
/// What every right answer begins with, the stub's and Lookout's.
const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":"0x"#;

/// A method, and its parameters made from a number that never repeats.
type Call = (&'static str, fn(u64) -> String);

const CALLS: [Call; 2] = [
    ("eth_getBalance", |n| format!(r#"["0x{n:040x}","latest"]"#)),
    ("eth_call", |n| {
        format!(
            r#"[{{"to":"0x5fbdb2315678afecb367f032d93f642f64180aa3","data":"0x{n:064x}"}},"latest"]"#
        )
    }),
];

/// Measures every call. Nothing is pinned: a call crosses three programs, as it would in use.
pub(crate) async fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> Result<()> {
    Cores::Free.take_load_side().await?;
    let server = scene.start_lookout(&scene.configure("misses")?, Cores::Free).await?;
    let mut through = Connection::open(server.address).await?;
    let mut direct = Connection::open(scene.upstream).await?;
    let path = format!("/v1/rpc/{CHAIN}");
    let expected = Expected::Prefix(ANSWER);
    for (method, params) in CALLS {
        let (mut with, mut without) = (Histogram::default(), Histogram::default());
        for n in 0..plan.misses + plan.misses / 10 {
            let body = |n| {
                let params = params(n);
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
            };
            let request = Request::post(&path, "", &body(n + 1));
            let a = timed(&mut direct, &request, &expected).await.context(method)?;
            let b = timed(&mut through, &request, &expected).await.context(method)?;
            // The first tenth warms up.
            if n >= plan.misses / 10 {
                without.record(a);
                with.record(b);
            }
        }
        for (name, permille, bound) in [("p50", 500, P50_US_MAX), ("p99", 990, P99_US_MAX)] {
            let micros = |histogram: &Histogram| histogram.permille(permille).as_secs_f64() * 1e6;
            let (a, b) = (micros(&without), micros(&with));
            report.add(
                Figure::new(format!("{method} that misses: added at {name}"), b - a, "us")
                    .target(Bound::AtMost, bound)
                    .note(format!(
                        "{b:.0} us through Lookout, {a:.0} us direct; {} calls",
                        with.len()
                    )),
            );
        }
    }
    let line = metric(&mut through).await?;
    let sent = plan.misses * 11 / 10 * CALLS.len() as u64;
    anyhow::ensure!(line >= sent, "{line} misses counted, {sent} sent: the cache answered some");
    server.stop().await
}

async fn timed(
    connection: &mut Connection,
    request: &Request,
    expected: &Expected,
) -> Result<Duration> {
    let begun = Instant::now();
    connection.exchange(request, expected).await?;
    Ok(begun.elapsed())
}

/// How many cache misses the server has counted.
async fn metric(connection: &mut Connection) -> Result<u64> {
    let (_, _, body) = connection.ask(&Request::get("/metrics", "")).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    let line = text
        .lines()
        .find(|line| line.starts_with("lookout_cache_requests_total") && line.contains("\"miss\""))
        .context("no count of cache misses")?;
    let value = line.rsplit_once(' ').context("no value")?.1;
    value.parse().with_context(|| format!("not a count: {line}"))
}
