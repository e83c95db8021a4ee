//! From a block at the node to its alerts at a webhook.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lookout_test::{Receiver, SimChain, SimNode, TestApp};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::process::{Cores, Programs};
use crate::report::{Bound, Figure, Report};
use crate::stage;

/// Longest from a block to an alert, at p99, in milliseconds.
const P99_MS_MAX: f64 = 1000.0;
/// Most transfers of a block, each of which is an alert; how many it has is the chain's choice.
const TRANSFERS_MAX: usize = 8;
/// Blocks that are sent before any is timed.
const WARM_UP: usize = 3;
/// How often a head is polled, in milliseconds: as users have it by default, and as on a fast chain.
const POLLS_MS: [u64; 2] = [1000, 50];
/// Longest that the alerts of a block may take.
const ARRIVE_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait between two blocks, in milliseconds: so that blocks come at any time between two polls.
const PAUSE_MS_MAX: u64 = 200;
/// Name of the chain, and its id.
const CHAIN: &str = "sim";
const CHAIN_ID: u64 = 31_338;

/// A server that follows a chain, and where its alerts go.
struct Scene {
    sim: std::sync::Arc<SimChain>,
    node: SimNode,
    receiver: Receiver,
    app: TestApp,
}

/// How long the alerts took, in milliseconds, sorted.
#[derive(Default)]
struct Times {
    /// Since the block was there.
    since_mined: Vec<f64>,
    /// Since the node first told of it, which is when the server saw it.
    since_seen: Vec<f64>,
}

/// Measures with each interval of polls.
pub(crate) async fn measure(programs: &Programs, plan: &Plan, report: &mut Report) -> Result<()> {
    Cores::Free.take_load_side().await?;
    for poll in POLLS_MS {
        let mut scene = Scene::set(programs, poll).await?;
        let mut times = Times::default();
        let mut random = fastrand::Rng::with_seed(1);
        for block in 0..WARM_UP + plan.alerts {
            let taken = scene.block().await?;
            if block >= WARM_UP {
                times.since_mined.extend(taken.since_mined);
                times.since_seen.extend(taken.since_seen);
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..PAUSE_MS_MAX))).await;
        }
        scene.app.kill().await?;
        times.since_mined.sort_by(f64::total_cmp);
        times.since_seen.sort_by(f64::total_cmp);
        show(&times, poll, plan, report)?;
    }
    Ok(())
}

fn show(times: &Times, poll: u64, plan: &Plan, report: &mut Report) -> Result<()> {
    for (since, times) in [("seen", &times.since_seen), ("at the node", &times.since_mined)] {
        let name =
            |part: &str| format!("alerts, polls of {poll} ms: {part} since the block was {since}");
        report.add(Figure::new(name("p50"), permille(times, 500)?, "ms"));
        let figure = Figure::new(name("p99"), permille(times, 990)?, "ms");
        let note = format!("{} alerts of {} blocks; {}", times.len(), plan.alerts, stage::load());
        report.add(match since {
            "seen" => figure.target(Bound::AtMost, P99_MS_MAX).note(note),
            // The wait for the next poll is the interval's, not the pipeline's.
            _ => figure.note(format!("with up to {poll} ms of waiting for a poll")),
        });
    }
    Ok(())
}

/// The time that so many of a thousand are at or below.
fn permille(sorted: &[f64], permille: usize) -> Result<f64> {
    let at = (sorted.len() * permille).div_ceil(1000).saturating_sub(1);
    sorted.get(at).copied().context("nothing was measured")
}

impl Scene {
    async fn set(programs: &Programs, poll: u64) -> Result<Self> {
        let sim = SimChain::new(CHAIN_ID, 1);
        sim.extend(1, 0);
        let node = SimNode::start(sim.clone()).await?;
        let receiver = Receiver::start().await?;
        let app = TestApp::builder(&programs.lookout)
            .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]")
            .chain(CHAIN, CHAIN_ID, &[node.url()])
            .chain_extra("follow = \"logs\"")
            .env("LOOKOUT_CHAINS__SIM__POLL_INTERVAL_MS", &poll.to_string())
            .start()
            .await?;
        let channel = json!({"name": "hook", "kind": "webhook", "url": receiver.url("/hook")});
        let channel = created(&app, "/v1/channels", &channel).await?;
        let rule = json!({
            "name": "all", "chain": CHAIN, "confirmations": 0, "channels": [channel["channel"]["id"]],
            "watch": {"kind": "event",
                "event": "event Transfer(address indexed from, address indexed to, uint256 value)"},
        });
        created(&app, "/v1/rules", &rule).await?;
        Ok(Self { sim, node, receiver, app })
    }

    /// Adds a block, waits for all of its alerts, and says how long each took.
    async fn block(&mut self) -> Result<Times> {
        self.receiver.reset();
        let (mined, block) = loop {
            let mined = Instant::now();
            self.sim.extend(1, TRANSFERS_MAX);
            let block = self.sim.head();
            if !block.logs.is_empty() {
                break (mined, block);
            }
        };
        let wait = self.receiver.wait_for(block.logs.len());
        let alerts =
            tokio::time::timeout(ARRIVE_WITHIN, wait).await.context("alerts are late")??;
        let seen = self.node.told_at(block.number).context("nobody asked for the head")?;
        let mut times = Times::default();
        ensure!(alerts.len() == block.logs.len(), "{} alerts too many", alerts.len());
        for alert in alerts {
            let height = &alert.json()["data"]["block"]["number"];
            ensure!(*height == json!(block.number), "an alert of {height}: {}", alert.body);
            let millis = |since| alert.at.saturating_duration_since(since).as_secs_f64() * 1e3;
            times.since_mined.push(millis(mined));
            times.since_seen.push(millis(seen));
        }
        Ok(times)
    }
}

async fn created(app: &TestApp, path: &str, body: &Value) -> Result<Value> {
    let answer = app.post(path, body).await;
    ensure!(answer.status == 201, "{path} answered {}: {}", answer.status, answer.text());
    Ok(answer.json())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(permille(&times, 500).unwrap(), 100.0);
        assert_eq!(permille(&times, 990).unwrap(), 198.0);
        assert_eq!(permille(&[7.0], 990).unwrap(), 7.0);
        assert!(permille(&[], 500).is_err());
    }
}
