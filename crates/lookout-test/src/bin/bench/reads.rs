//! Cached reads with all middleware on, beside a bare handler that returns the same bytes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::{self, CONNECTIONS, Paced, Target};
use crate::plan::Plan;
use crate::process::{self, Cores, Server};
use crate::report::{Bound, Figure, Report, median};
use crate::scene::{CHAIN, Scene};
use crate::wire::{Connection, Expected, Request};

/// Longest that a read may take to get into the cache: a few polls of the head.
const CACHED_WITHIN: Duration = Duration::from_secs(10);
/// A checksummed address that the node funds.
const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
/// Share of a core above which it counts as saturated.
const SATURATED: f64 = 0.95;
/// Share of a core that other programs may use before the figures count as disturbed.
const DISTURBED: f64 = 0.1;
/// Share of the bare handler's rate that a cached read must reach.
const RATIO_MIN: f64 = 0.7;
/// Largest p99 at half of the highest load, in milliseconds.
const P99_MS_MAX: f64 = 1.0;

/// One kind of read.
struct Case {
    name: &'static str,
    request: Request,
}

/// What one round of load on one server showed.
#[derive(Debug, Clone, Copy)]
struct Sample {
    per_second: f64,
    /// Processor time of the server for one answer.
    cpu_us: f64,
    /// Share of a core that the server and the generator used.
    server_busy: f64,
    generator_busy: f64,
    /// The same of every other program on the machine.
    others_busy: f64,
}

/// Measures every case.
pub(crate) async fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> Result<()> {
    let open = scene.configure("open")?;
    let keyed = scene.configure("keyed")?;
    let key = scene.make_key(&keyed).await?;
    let with_key = format!("authorization: Bearer {key}\r\n");
    let balance = format!("/address/balance/{ADDRESS}?block=latest");
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["{ADDRESS}","latest"]}}"#
    );
    let get = |path: &str| Request::get(path, "");
    let cases = [
        Case { name: "balance", request: get(&balance) },
        Case { name: "block, 1 transaction", request: get(&format!("/block/{}", scene.small)) },
        Case { name: "block, 100 transactions", request: get(&format!("/block/{}", scene.large)) },
        Case {
            name: "eth_getBalance by RPC",
            request: Request::post(&format!("/v1/rpc/{CHAIN}"), "", &call),
        },
    ];
    Cores::Split.take_load_side().await?;
    if cases.iter().any(|case| plan.wants(case.name)) {
        let server = scene.start_lookout(&open, Cores::Split).await?;
        for case in cases.iter().filter(|case| plan.wants(case.name)) {
            measure_case(scene, plan, &server, case, report).await?;
        }
        tokio::time::sleep(plan.idle).await;
        let megabytes = Figure::megabytes(server.resident_bytes()?);
        report.add(Figure::new("memory after the load", megabytes, "MB"));
        server.stop().await?;
    }
    let case = Case { name: "balance, API key", request: Request::get(&balance, &with_key) };
    if !plan.wants(case.name) {
        return Ok(());
    }
    let server = scene.start_lookout(&keyed, Cores::Split).await?;
    measure_case(scene, plan, &server, &case, report).await?;
    server.stop().await
}

async fn measure_case(
    scene: &Scene,
    plan: &Plan,
    server: &Server,
    case: &Case,
    report: &mut Report,
) -> Result<()> {
    let body = cached_body(server, &case.request).await.context(case.name)?;
    let bare = scene.start_bare(&body, Cores::Split).await?;
    let size = body.len();
    let expected = Expected::Body(body);
    let at = |server: &Server| Target {
        address: server.address,
        request: case.request.clone(),
        expected: expected.clone(),
    };
    let (ours, theirs) = (at(server), at(&bare));
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        // The order turns each round, so that a drift of the machine favours neither.
        if round % 2 == 0 {
            own.push(sample(server, &ours, plan).await.context(case.name)?);
            other.push(sample(&bare, &theirs, plan).await.context(case.name)?);
        } else {
            other.push(sample(&bare, &theirs, plan).await.context(case.name)?);
            own.push(sample(server, &ours, plan).await.context(case.name)?);
        }
    }
    add_throughput(case.name, size, &own, &other, report);
    let rate = median(own.iter().map(|sample| sample.per_second)) / 2.0;
    measure_latency(case.name, rate, [&ours, &theirs], plan, report).await.context(case.name)?;
    bare.stop().await
}

/// Latency of both servers at this rate, in turn.
async fn measure_latency(
    name: &str,
    rate: f64,
    [ours, theirs]: [&Target; 2],
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    let mut all = Paced::default();
    for _ in 0..plan.rounds.div_ceil(2) {
        let one = load::pace(ours, rate, plan.paced).await?;
        own.push(millis(one.latency.permille(990)));
        all.latency.merge(&one.latency);
        all.lateness.merge(&one.lateness);
        other.push(millis(load::pace(theirs, rate, plan.paced).await?.latency.permille(990)));
    }
    let note = format!(
        "at {rate:.0}/s: p50 {:.3}, p99.9 {:.3}, max {:.2} ms; bare p99 {:.3} ms; generator late p99 {:.3} ms",
        millis(all.latency.permille(500)),
        millis(all.latency.permille(999)),
        millis(all.latency.longest()),
        median(other.into_iter()),
        millis(all.lateness.permille(990)),
    );
    let p99 = median(own.iter().copied());
    report.add(
        Figure::new(format!("{name}: p99 at half load"), p99, "ms")
            .spread(own.iter().copied())
            .target(Bound::AtMost, P99_MS_MAX)
            .note(note),
    );
    Ok(())
}

fn add_throughput(name: &str, size: usize, own: &[Sample], other: &[Sample], report: &mut Report) {
    let middle = |samples: &[Sample], of: fn(&Sample) -> f64| median(samples.iter().map(of));
    let pairs = || own.iter().zip(other);
    let ratios: Vec<f64> = pairs().map(|(a, b)| a.per_second / b.per_second).collect();
    let cpu_ratios: Vec<f64> = pairs().map(|(a, b)| b.cpu_us / a.cpu_us).collect();
    let busy = |samples: &[Sample]| {
        let server = middle(samples, |sample| sample.server_busy);
        let generator = middle(samples, |sample| sample.generator_busy);
        let limit = match (server >= SATURATED, generator >= SATURATED) {
            (true, _) => "",
            (false, true) => ", the generator was the limit",
            (false, false) => ", neither core was full",
        };
        let others = middle(samples, |sample| sample.others_busy);
        let disturbed = if others > DISTURBED {
            format!(", DISTURBED: other programs {:.0} %", others * 100.0)
        } else {
            String::new()
        };
        let (server, generator) = (server * 100.0, generator * 100.0);
        format!("server {server:.0} %, generator {generator:.0} %{limit}{disturbed}")
    };
    let rates = own.iter().map(|sample| sample.per_second);
    report.add(
        Figure::new(format!("{name} ({size} bytes)"), median(rates.clone()), "req/s")
            .spread(rates)
            .note(busy(own)),
    );
    let rates = other.iter().map(|sample| sample.per_second);
    report.add(
        Figure::new(format!("{name}: bare handler"), median(rates.clone()), "req/s")
            .spread(rates)
            .note(busy(other)),
    );
    report.add(
        Figure::new(format!("{name}: of bare, by rate"), median(ratios.iter().copied()), "")
            .spread(ratios.iter().copied())
            .target(Bound::AtLeast, RATIO_MIN),
    );
    let (a, b) = (middle(own, |s| s.cpu_us), middle(other, |s| s.cpu_us));
    report.add(
        Figure::new(format!("{name}: of bare, by CPU"), median(cpu_ratios.iter().copied()), "")
            .spread(cpu_ratios.iter().copied())
            .target(Bound::AtLeast, RATIO_MIN)
            .note(format!("{a:.2} us of CPU a request, bare {b:.2} us")),
    );
}

/// The answer once it comes from the cache, the same twice.
async fn cached_body(server: &Server, request: &Request) -> Result<Vec<u8>> {
    let mut connection = Connection::open(server.address).await?;
    let begun = Instant::now();
    let mut last = Vec::new();
    while begun.elapsed() < CACHED_WITHIN {
        let (status, head, body) = connection.ask(request).await?;
        ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(&body));
        let marked = String::from_utf8_lossy(&body).contains(r#""cached":true"#)
            || head.contains("lookout-cache: hit");
        if marked && body == last {
            return Ok(body);
        }
        last = body;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("not answered from the cache within {CACHED_WITHIN:?}")
}

/// One round: warm up, then measure.
async fn sample(server: &Server, target: &Target, plan: &Plan) -> Result<Sample> {
    load::saturate(target, plan.warm_up).await?;
    let (cpu, own, all) = (server.cpu()?, process::own_cpu()?, process::machine_cpu()?);
    let (answers, took) = load::saturate(target, plan.round).await?;
    let (cpu, own) = (server.cpu()?.saturating_sub(cpu), process::own_cpu()?.saturating_sub(own));
    let others = process::machine_cpu()?.saturating_sub(all).saturating_sub(cpu + own);
    ensure!(answers > u64::from(CONNECTIONS), "only {answers} answers");
    let seconds = took.as_secs_f64();
    let answers = answers as f64;
    Ok(Sample {
        per_second: answers / seconds,
        cpu_us: cpu.as_secs_f64() * 1e6 / answers,
        server_busy: cpu.as_secs_f64() / seconds,
        generator_busy: own.as_secs_f64() / seconds,
        others_busy: others.as_secs_f64() / seconds,
    })
}
