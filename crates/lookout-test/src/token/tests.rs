//! The committed artifact is what the compiler makes of the committed source.

use std::process::Command;

use super::*;
use crate::part;

#[test]
fn recompiling_gives_the_committed_artifact() {
    let found =
        part::tool("solc/node_modules/solc", "dev/get-solc").and_then(|_| part::on_path("node"));
    if part::require("the Solidity compiler", found).is_none() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let script = part::repository().join("dev/compile-contracts");
    let run = Command::new("node").arg(script).arg(out.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let fresh = std::fs::read_to_string(out.path().join("DemoToken.json")).unwrap();
    assert!(fresh == ARTIFACT, "contracts/artifacts is stale: run dev/compile-contracts");
}

#[test]
fn call_data_matches_the_artifact() {
    let artifact: Value = serde_json::from_str(ARTIFACT).unwrap();
    let holder = "0x00000000000000000000000000000000000000Aa";
    let balance = Token::balance_data(holder).unwrap();
    let selector = artifact["methods"]["balanceOf(address)"].as_str().unwrap();
    assert_eq!(balance, format!("0x{selector}{}aa", "0".repeat(62)));
    let transfer = Token::transfer_data(holder, 255).unwrap();
    assert!(transfer.starts_with("0xa9059cbb") && transfer.ends_with("00ff"), "{transfer}");
    assert!(Token::balance_data("0xaa").is_err());
}
