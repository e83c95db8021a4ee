//! `make demo` shows what it promises.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use lookout_test::{anvil, part};
use tokio::process::Command;

use crate::LOOKOUT;

/// The tour takes seconds.
const RUN_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_tour_ends_well_and_shows_every_part() {
    let demo = Path::new(LOOKOUT).with_file_name("demo");
    let found = demo.is_file().then_some(&demo);
    let found = found.context("build it with `cargo build -p lookout-test --bin demo`");
    let Some(demo) = part::require("the demo binary", found) else { return };
    if part::require("anvil", anvil::binary()).is_none() {
        return;
    }
    let mut command = Command::new(demo);
    command.args(["--lookout", LOOKOUT, "--once"]).kill_on_drop(true);
    let output = tokio::time::timeout(RUN_WITHIN, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for section in [
        "/block/number",
        "/block/1",
        "/address/balance/0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "invalid_checksum",
        "/v1/chains/anvil/head",
        "?asset=0x",
        "\"formatted\": \"250\"",
        "?verify=proof",
        "\"level\": \"proof\"",
        "eth_getLogs",
        "\"state\": \"healthy\"",
        "lookout_http_requests_total",
        "/docs",
    ] {
        assert!(said.contains(section), "the tour misses {section}:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours in a pipe:\n{said}");
}
