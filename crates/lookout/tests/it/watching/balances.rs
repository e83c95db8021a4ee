//! Balance rules: a job reads balances of a real node, rules are asked, a reorg takes back.

use lookout_test::{Anvil, Receiver, TestApp, part};
use serde_json::{Value, json};

use super::scene::{created, rule, run_job, until, webhook};
use crate::LOOKOUT;

const CHAIN: &str = "anvil";
const JOB: &str = "balances-anvil";
/// Nobody's account: what it gets it keeps.
const WATCHED: &str = "0x00000000000000000000000000000000000beef1";
/// A contract that answers every call with 31 bytes, one that reverts, and an account.
const SHORT: &str = "0x0000000000000000000000000000000000005501";
const REVERTS: &str = "0x0000000000000000000000000000000000005502";
const NOBODY: &str = "0x0000000000000000000000000000000000005503";
/// `return(0, 31)` and `revert(0, 0)`.
const RETURN_31: &str = "0x601f6000f3";
const REVERT: &str = "0x60006000fd";

#[tokio::test]
async fn a_job_reads_balances_and_a_reorg_takes_back_what_they_alerted_of() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    for (address, code) in [(SHORT, RETURN_31), (REVERTS, REVERT)] {
        anvil.rpc("anvil_setCode", json!([address, code])).await.unwrap();
    }
    anvil.mine(1).await.unwrap();
    let receiver = Receiver::start().await.unwrap();
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &[anvil.url()])
        .chain_extra("follow = \"logs\"\nfollow_from = 0")
        .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]")
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
        .start()
        .await
        .unwrap();
    // Its own ticks would be as good, but a test waits for none.
    let paused = app.post(&format!("/v1/jobs/{JOB}/pause"), &json!({})).await;
    assert_eq!(paused.status, 200, "{}", paused.text());
    let hook = webhook(&app, &receiver).await;
    let watch = json!({"kind": "balance", "addresses": [WATCHED]});
    rule(
        &app,
        &json!({
            "name": "incoming", "chain": CHAIN, "watch": watch, "condition": "change > 0",
            "channels": [hook], "template": "{{ balance }} after {{ previous }}",
        }),
    )
    .await;
    let tokens = rule(
        &app,
        &json!({
            "name": "tokens", "chain": CHAIN, "watch": watch,
            "condition": format!("token in [{}, {SHORT}, {REVERTS}, {NOBODY}]", token.address),
            "channels": [],
        }),
    )
    .await;
    anvil.mine(1).await.unwrap();
    settled(&app, &anvil).await;
    check_first_run(&app, &tokens).await;

    anvil.transfer(0, WATCHED, "0x5").await.unwrap();
    settled(&app, &anvil).await;
    run(&app).await;
    let sent = receiver.wait_for(1).await.unwrap()[0].json();
    assert_eq!(
        (&sent["type"], &sent["data"]["text"]),
        (&json!("alert.confirmed"), &json!("5 after 0"))
    );

    anvil.reorg(1).await.unwrap();
    settled(&app, &anvil).await;
    let taken_back = receiver.wait_for(2).await.unwrap()[1].json();
    assert_eq!(taken_back["type"], "alert.retracted");
    assert_eq!(taken_back["data"]["id"], sent["data"]["id"]);

    // On the new branch nothing has come yet, so what comes now is all there is.
    run(&app).await;
    anvil.transfer(0, WATCHED, "0x7").await.unwrap();
    settled(&app, &anvil).await;
    run(&app).await;
    let sent = receiver.wait_for(3).await.unwrap()[2].json();
    assert_eq!(
        (&sent["type"], &sent["data"]["text"]),
        (&json!("alert.confirmed"), &json!("7 after 0"))
    );
}

/// What could be read is, and each token that is none fails alone, where its owner sees it.
async fn check_first_run(app: &TestApp, tokens: &str) {
    let first = run(app).await;
    assert_eq!(
        (&first["watched"], &first["read"], &first["failed"]),
        (&json!(5), &json!(2), &json!(3)),
        "{first}"
    );
    let mut failed: Vec<_> = first["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["asset"].as_str().unwrap().to_lowercase())
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [SHORT, REVERTS, NOBODY].map(|token| format!("erc20:{token}")));
    until("the rule is asked about the token", async || {
        let alerts = app.get(&format!("/v1/alerts?rule={tokens}")).await.json();
        (alerts["items"].as_array()?.len() == 1).then_some(())
    })
    .await;
    let rule = app.get(&format!("/v1/rules/{tokens}")).await.json();
    let mut reasons: Vec<_> = rule["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["reason"].as_str().unwrap().to_owned())
        .collect();
    reasons.sort_unstable();
    let told = |rest: String| format!("a balance could not be read: {rest}");
    let odd = |token: &str| told(format!("`{token}` does not answer `balanceOf` as a token does"));
    let fails = told(format!("`balanceOf` of `{REVERTS}` fails at that block"));
    assert_eq!(reasons, [odd(SHORT), odd(NOBODY), fails], "{rule}");
}

/// Runs the job now; what the run tells.
async fn run(app: &TestApp) -> Value {
    run_job(app, JOB).await
}

/// Waits until the rules have seen the node's head.
async fn settled(app: &TestApp, anvil: &Anvil) {
    let head = anvil.block(anvil.height().await.unwrap()).await.unwrap()["hash"].clone();
    until("everything is followed", async || {
        let follow = app.get(&format!("/v1/chains/{CHAIN}/follow")).await.json();
        let consumers = follow["consumers"].as_array().cloned().unwrap_or_default();
        let there = consumers.len() == 2 && consumers.iter().all(|c| c["head"]["hash"] == head);
        there.then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_followed_chain_has_a_job_and_only_the_operators_jobs_read() {
    let scene = super::scene::Scene::new(part::seed(11), 3, 0).await;
    let app = scene.server().start().await.unwrap();
    let job = app.get("/v1/jobs/balances-sim").await.json();
    assert_eq!((&job["kind"], &job["misfire"]), (&json!("balances"), &json!("skip")), "{job}");
    assert_eq!(job["settings"], json!({"chain": "sim"}));
    let own = json!({"name": "often", "kind": "balances", "schedule": "*/10 * * * * *",
        "settings": {"chain": "sim"}});
    created(&app.post("/v1/jobs", &own).await);
    for (settings, expected) in [
        (json!({}), "`chain` is missing"),
        (json!({"chain": "other"}), "the chain `other` is not followed"),
        (json!({"chain": "sim", "every": 5}), "no setting `every`"),
    ] {
        let wrong = json!({"name": "wrong", "kind": "balances", "schedule": "@daily",
            "settings": settings});
        let answer = app.post("/v1/jobs", &wrong).await;
        assert!(answer.status == 400 && answer.text().contains(expected), "{}", answer.text());
    }
}
