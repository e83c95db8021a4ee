//! The commands beside `serve`: backfill, rules test, rules import.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lookout_test::app::Builder;
use lookout_test::process::Process;
use lookout_test::{Behaviour, FakeUpstream};
use serde_json::{Value, json};
use tokio::process::Command;

use super::scene::{SIM, Scene, TRANSFER, follow, until};
use crate::LOOKOUT;

const LOGS_MAX: usize = 3;
/// Blocks of the backfill.
const BLOCKS: u64 = 3_000;

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[tokio::test]
async fn a_backfill_goes_on_after_a_kill_and_is_verified() {
    let scene = Scene::new(8, BLOCKS, LOGS_MAX).await;
    let fake = FakeUpstream::start("slow", scene.node.url(), 8).await.unwrap();
    let builder = follow(&[fake.url()]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lookout.toml"), builder.config()).unwrap();
    let to = BLOCKS.to_string();
    let whole = ["backfill", "--chain", SIM, "--from", "0", "--to", &to];

    // Killed in the middle: some stretches are read, later ones are never answered.
    fake.set([Behaviour::latency(Duration::from_millis(150))]);
    let mut command = Command::new(LOOKOUT);
    command.args(whole).current_dir(folder.path());
    let mut process = Process::spawn("backfill", command).unwrap();
    until("some of it is asked for", async || (fake.calls("eth_getLogs") >= 4).then_some(())).await;
    process.kill().await.unwrap();
    fake.set([]);
    let asked = fake.calls("eth_getLogs");
    let done = builder.run(folder.path(), &whole).await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains(&format!("blocks 0 to {BLOCKS} of `sim` are held")));
    assert!(fake.calls("eth_getLogs") > asked, "nothing was left to do: it was killed too late");
    let again = builder.run(folder.path(), &whole).await.unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(said(&again).contains("were held already"), "{}", said(&again));
    let verify = [&whole[..], &["--verify"]].concat();
    let clean = builder.run(folder.path(), &verify).await.unwrap();
    assert_eq!(clean.status.code(), Some(0), "{}", said(&clean));
    let all = BLOCKS + 1;
    let report = format!("{all} as on the chain, 0 missing, 0 different");
    assert!(said(&clean).contains(&report), "{}", said(&clean));

    // What is held is no longer what is on the chain.
    scene.chain.reorg(3, 3, LOGS_MAX);
    let differs = builder.run(folder.path(), &verify).await.unwrap();
    assert_eq!(differs.status.code(), Some(1), "{}", said(&differs));
    assert!(said(&differs).contains("0 missing, 3 different"), "{}", said(&differs));

    let number = (BLOCKS + 1).to_string();
    for (arguments, code, reason) in [
        (["--chain", "nosuch", "--from", "0", "--to", "1"], 2, "configured chains: sim"),
        (["--chain", SIM, "--from", "5", "--to", "1"], 2, "--from 5 is above --to 1"),
        (["--chain", SIM, "--from", "-1", "--to", "1"], 2, "--from"),
        (["--chain", SIM, "--from", "0", "--to", &number], 2, "is above the head of `sim`"),
        (["--chain", SIM, "--from", "x", "--to", "1"], 2, "--from"),
    ] {
        let arguments = [&["backfill"], &arguments[..]].concat();
        let output = builder.run(folder.path(), &arguments).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(reason), "{arguments:?}: {}", said(&output));
    }
    rules_are_tried(folder.path(), &builder, &scene).await;
}

/// `lookout rules test` on the blocks that a backfill left.
async fn rules_are_tried(folder: &Path, builder: &Builder, scene: &Scene) {
    let rule = |condition: &str| {
        json!({"name": "large", "chain": SIM, "condition": condition,
            "watch": {"kind": "event", "event": TRANSFER}})
    };
    std::fs::write(folder.join("rule.json"), rule("value > 900000").to_string()).unwrap();
    let (from, to) = (100_u64, 400_u64);
    let tried = ["rules", "test", "rule.json", "--from", "100", "--to", "400"];
    let tried = builder.run(folder, &tried).await.unwrap();
    assert_eq!(tried.status.code(), Some(0), "{}", said(&tried));
    let canonical = scene.chain.canonical();
    let blocks = canonical.iter().filter(|block| (from..=to).contains(&block.number));
    let matches = blocks.flat_map(|block| &block.logs).filter(|log| log.amount > 900_000).count();
    assert!(said(&tried).contains(&format!("{matches} matches")), "{matches}: {}", said(&tried));
    std::fs::write(folder.join("rule.json"), rule("value > \"x\"").to_string()).unwrap();
    let wrong = builder.run(folder, &["rules", "test", "rule.json"]).await.unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    for part in ["rule.json", "line 1, column 9", "uint256"] {
        assert!(said(&wrong).contains(part), "no {part}: {}", said(&wrong));
    }
}

fn monitor_files(folder: &Path) {
    let network = json!({
        "network_type": "EVM", "slug": "sim_net", "name": "Sim", "chain_id": super::scene::SIM_ID,
        "rpc_urls": [], "block_time_ms": 12000, "confirmation_blocks": 12,
        "cron_schedule": "0 */1 * * * *", "store_blocks": false
    });
    let input = |name: &str, kind: &str, indexed: bool| json!({"name": name, "type": kind, "indexed": indexed});
    let abi = json!([{"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
        input("from", "address", true), input("to", "address", true),
        input("value", "uint256", false)]}]);
    let monitor = json!({
        "name": "Large", "paused": false, "networks": ["sim_net", "far_net"],
        "addresses": [{"address": format!("0x{}", "10".repeat(20)), "contract_spec": abi}],
        "match_conditions": {"functions": [], "transactions": [], "events": [
            {"signature": "Transfer(address,address,uint256)", "expression": "value > 900000"}]},
        "trigger_conditions": [], "triggers": ["hook"]
    });
    let triggers = json!({"hook": {
        "name": "hook", "trigger_type": "webhook",
        "config": {"url": {"type": "plain", "value": "http://127.0.0.1:9/hook"}, "method": "POST",
            "message": {"title": "t", "body": "b"}}
    }});
    for (name, value) in [("networks", network), ("monitors", monitor), ("triggers", triggers)] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("a.json"), value.to_string()).unwrap();
    }
}

#[tokio::test]
async fn files_of_another_monitor_become_rules() {
    let scene = Scene::new(8, 3, 1).await;
    let app = scene.server().roles("api").start().await.unwrap();
    monitor_files(&app.folder().join("oz"));
    let shown = app.run(&["rules", "import", "oz", "oz"]).await.unwrap();
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));
    assert!(said(&shown).contains("far_net"), "the network without a file: {}", said(&shown));
    let rules: Value = app.get("/v1/rules").await.json();
    assert_eq!(rules["items"], json!([]), "nothing is saved unasked");
    let saved = app.run(&["rules", "import", "oz", "oz", "--apply"]).await.unwrap();
    assert_eq!(saved.status.code(), Some(0), "{}", said(&saved));
    let rules = app.get("/v1/rules").await.json();
    assert_eq!(rules["items"].as_array().unwrap().len(), 1, "{rules}");
    let rule = &rules["items"][0]["rule"];
    assert_eq!(rule["condition"], "args.value > 900000", "{rule}");
    assert_eq!(rule["confirmations"], 12, "{rule}");
    let channels = app.get("/v1/channels").await.json();
    assert_eq!(channels["items"][0]["kind"], "webhook", "{channels}");
    let none = app.run(&["rules", "import", "oz", "nosuch"]).await.unwrap();
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    assert!(said(&none).contains("`nosuch` holds no monitors"), "{}", said(&none));
}
