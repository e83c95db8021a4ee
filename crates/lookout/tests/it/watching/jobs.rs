//! Each tick of a job gets one run, whatever happens to the server.

use std::collections::BTreeSet;

use lookout_test::TestApp;
use serde_json::json;

use super::scene::{Scene, all, created, until};

/// How often the server is killed.
const KILLS: usize = 2;
/// Runs between two kills.
const RUNS: usize = 2;

#[tokio::test]
async fn a_job_that_runs_every_second_has_one_run_a_tick_through_kills() {
    let scene = Scene::new(7, 1, 0).await;
    let mut app = scene.server().start().await.unwrap();
    let job = json!({"name": "often", "kind": "purge", "schedule": "* * * * * *", "settings": {}});
    created(&app.post("/v1/jobs", &job).await);
    more(&app).await;
    for _ in 0..KILLS {
        app.restart().await.unwrap();
        more(&app).await;
    }
    let ticks: Vec<i64> = all(&app, "/v1/jobs/often/runs")
        .await
        .iter()
        .map(|run| seconds(run["scheduledAt"].as_str().unwrap()))
        .collect();
    let apart: BTreeSet<i64> = ticks.iter().copied().collect();
    assert_eq!(apart.len(), ticks.len(), "a tick has two runs: {ticks:?}");
    let (first, last) = (apart.first().unwrap(), apart.last().unwrap());
    assert_eq!(apart, (*first..=*last).collect(), "a tick has no run");
    let job = app.get("/v1/jobs/often").await.json();
    assert_eq!(job["missedTicks"], 0, "{job}");
}

/// Waits for further runs to end.
async fn more(app: &TestApp) {
    let ended = async || all(app, "/v1/jobs/often/runs?state=done").await.len();
    let before = ended().await;
    until("runs end", async || (ended().await >= before + RUNS).then_some(())).await;
}

/// Seconds since 1970 UTC.
fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}
