//! `make demo`, as far as a test can watch it: the tour is right, and nothing outlives it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lookout_test::process::Process;
use lookout_test::{anvil, part};
use tokio::process::Command;

/// The demo is compiled first where it is not yet, which takes its time.
const BUILT_WITHIN: Duration = Duration::from_secs(600);
const TOUR_WITHIN: Duration = Duration::from_secs(120);

/// The demo's binary, up to date. It belongs to another crate, for which cargo gives no path.
async fn demo() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_lookout")).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    // Both packages, so that their dependencies have the features that `make demo` gives them.
    command
        .args(["build", "-q", "-p", "lookout", "-p", "lookout-test", "--bin", "demo"])
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(part::repository())
        .kill_on_drop(true);
    // What cargo tells this test of its package would make the build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = tokio::time::timeout(BUILT_WITHIN, command.output());
    let output = output.await.expect("the demo compiles in time").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("demo")
}

async fn start(arguments: &[&str]) -> Option<Process> {
    part::require("anvil", anvil::binary())?;
    let mut command = Command::new(demo().await);
    command.args(["--lookout", env!("CARGO_BIN_EXE_lookout"), "--port", "0"]).args(arguments);
    Some(Process::spawn("demo", command).unwrap())
}

#[tokio::test]
async fn the_tour_is_right_from_first_to_last() {
    let Some(mut demo) = start(&["--once"]).await else { return };
    let status = demo.wait(TOUR_WITHIN).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", demo.tail());
    let text = demo.lines().join("\n");
    for section in [
        "/block/number\n",
        "/block/1\n",
        "/address/balance/0xc94770007dda54cF92009BFF0dE90c06F603a09f\n",
        "HTTP 400\n",
        "\"code\": \"invalid_checksum\"",
        "/v1/chains/anvil/head\n",
        "\"formatted\": \"1234.56\"",
        "?verify=proof'\n",
        "\"level\": \"proof\"",
        "\"method\":\"eth_getLogs\"",
        "[10,{\"from\":\"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\",",
        "Telegram, you: /start ",
        "Telegram, bot: Linked: alerts of channel shop",
        "\"condition\": \"value > units(\\\"100\\\", 6)\"",
        "[\"pending\",\"250 LKD from ",
        "Telegram, bot: 250 LKD from ",
        "[\"confirmed\",\"250 LKD from ",
        "\"method\":\"anvil_reorg\"",
        "Telegram, bot: in reply to its alert:\n               Retracted: block 14 of chain 31337",
        "[\"retracted\",\"250 LKD from ",
        "\"state\": \"healthy\"",
        "lookout_chain_reorgs_total{chain=\"anvil\"} 1",
        "lookout_rules_alerts_total{chain=\"anvil\",state=\"retracted\"} 1",
        "/docs/ ",
        "dashboard",
    ] {
        assert!(text.contains(section), "no {section:?} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
}

/// What comes after the tour: blocks, and an alert for the second of them once a third confirms it.
#[tokio::test]
async fn alerts_go_on_after_the_tour() {
    let Some(demo) = start(&[]).await else { return };
    let alert = |line: &str| {
        let rest = line.strip_prefix("Telegram, bot: 250 LKD from ")?;
        (!rest.ends_with("in block 14")).then(|| line.to_owned())
    };
    let alert = demo.line(TOUR_WITHIN, alert).await.unwrap();
    assert!(alert.ends_with(" in block 17"), "{alert}");
}

/// `--lookout`, `anvil` and `lookout serve` all end on one signal.
#[tokio::test]
async fn a_signal_ends_everything() {
    for signal in ["INT", "TERM"] {
        let Some(mut demo) = start(&[]).await else { return };
        demo.line(TOUR_WITHIN, |line| line.starts_with("block ").then_some(())).await.unwrap();
        let children = children(demo.id().unwrap());
        assert!(children.len() >= 2, "anvil and lookout run: {children:?}");
        demo.signal(signal).await.unwrap();
        let status = demo.wait(TOUR_WITHIN).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", demo.tail());
        let left: Vec<_> = children.into_iter().filter(|pid| is_alive(*pid)).collect();
        assert!(left.is_empty(), "SIG{signal} leaves {left:?}");
    }
}

#[tokio::test]
async fn a_demo_that_cannot_be_says_why() {
    let demo = demo().await;
    for (arguments, code, reason) in [
        (["--lookout", "/nonexistent"], 2, "no lookout binary at"),
        (["--lookout", "/bin/false"], 1, "lookout did not say what was waited for"),
        (["--once", "--twice"], 2, "unknown option `--twice`"),
    ] {
        if code == 1 && part::require("anvil", anvil::binary()).is_none() {
            continue;
        }
        let output = Command::new(&demo).args(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
}

/// Processes whose parent this is, by what the kernel says.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
