//! From the start of the process to its first answers, and its memory when idle.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::plan::Plan;
use crate::process::Cores;
use crate::report::{Bound, Figure, Report, median};
use crate::scene::Scene;
use crate::wire::{Connection, Request};

/// Longest time to the first answer, in milliseconds.
const START_MS_MAX: f64 = 200.0;
/// Largest memory when idle, in megabytes.
const IDLE_MB_MAX: f64 = 50.0;
/// Longest wait for a right answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Starts the server several times, each with a new database.
pub(crate) async fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> Result<()> {
    Cores::Free.take_load_side().await?;
    let right = format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{:#x}"}}"#, scene.head);
    let (mut health, mut number, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.starts {
        let config = scene.configure(&format!("start-{run}"))?;
        let begun = Instant::now();
        let server = scene.start_lookout(&config, Cores::Free).await?;
        let mut connection = Connection::open(server.address).await?;
        let (status, _, _) = connection.ask(&Request::get("/healthz", "")).await?;
        health.push(begun.elapsed());
        ensure!(status == 200, "/healthz answered {status}");
        loop {
            let (status, _, body) = connection.ask(&Request::get("/block/number", "")).await?;
            if status == 200 {
                ensure!(body == right.as_bytes(), "{}", String::from_utf8_lossy(&body));
                break;
            }
            ensure!(begun.elapsed() < ANSWER_WITHIN, "/block/number answers {status}");
        }
        number.push(begun.elapsed());
        if run < plan.idle_starts {
            tokio::time::sleep(plan.idle).await;
            memory.push(Figure::megabytes(server.resident_bytes()?));
        }
        server.stop().await?;
    }
    let millis = |times: &[Duration]| -> Vec<f64> {
        times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
    };
    for (name, times) in [("/healthz", health), ("/block/number", number)] {
        let times = millis(&times);
        report.add(
            Figure::new(format!("start to {name}"), median(times.iter().copied()), "ms")
                .spread(times.iter().copied())
                .target(Bound::AtMost, START_MS_MAX)
                .note(format!("{} starts, each with a new database", times.len())),
        );
    }
    report.add(
        Figure::new("idle memory", median(memory.iter().copied()), "MB")
            .spread(memory.iter().copied())
            .target(Bound::AtMost, IDLE_MB_MAX)
            .note(format!("resident, {:.0} s after the start", plan.idle.as_secs_f64())),
    );
    Ok(())
}
