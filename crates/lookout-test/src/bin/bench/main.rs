//! `make bench`: ingest by logs and by whole blocks, rules, alerts, reorgs, cached reads, cache misses, start and memory, each
//! beside its target.
//!
//! Every answer is checked; a wrong one ends the run with exit code 1. A missed target does not:
//! figures depend on the machine, and it is people who judge them.

mod alerts;
mod histogram;
mod ingest;
mod load;
mod machine;
mod misses;
mod plan;
mod process;
mod reads;
mod reorg;
mod report;
mod rules;
mod scene;
mod stage;
mod start;
mod stub;
mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::process::{Cores, Programs};
use crate::report::Report;
use crate::scene::Scene;

const USAGE: &str = "usage: bench [--quick] [--only WORD] [--lookout FILE] [--json FILE]
  --quick      a smoke run of about two minutes; its figures are worth nothing
  --only WORD  only what has this in its name: ingest, whole, rules, alerts, reorg, start, misses,
               or one of the reads
  --lookout FILE  measure this build of the server, to compare two of them
  --json FILE  write the figures to a file as well";

/// What needs no scene of a server that answers reads.
const PARTS: [&str; 5] = ["ingest", "whole", "rules", "alerts", "reorg"];

#[derive(Debug, Default)]
struct Arguments {
    quick: bool,
    json: Option<PathBuf>,
    only: Option<String>,
    lookout: Option<PathBuf>,
    help: bool,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => parsed.quick = true,
                "--json" => {
                    let file = arguments.next().context("--json needs a file")?;
                    parsed.json = Some(file.into());
                }
                "--only" => parsed.only = Some(arguments.next().context("--only needs a word")?),
                "--lookout" => {
                    let file = arguments.next().context("--lookout needs a file")?;
                    parsed.lookout = Some(file.into());
                }
                "--help" | "-h" => parsed.help = true,
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let outcome = Arguments::parse(std::env::args().skip(1)).and_then(run);
    let written = match &outcome {
        Ok(text) => std::io::stdout().write_all(text.as_bytes()),
        Err(error) => writeln!(std::io::stderr(), "error: {error:#}"),
    };
    if outcome.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: Arguments) -> Result<String> {
    if arguments.help {
        return Ok(format!("{USAGE}\n"));
    }
    // One thread: the load must fit on one core beside the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure(arguments.quick, arguments.only, arguments.lookout))?;
    if let Some(file) = arguments.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.to_string())
}

async fn measure(quick: bool, only: Option<String>, lookout: Option<PathBuf>) -> Result<Report> {
    let plan = if quick { Plan::quick() } else { Plan::full() };
    let plan = Plan { only, ..plan };
    let programs = Programs::find(lookout)?;
    let pinned = Cores::available() == Cores::Split;
    let machine = Machine::look(&programs.lookout, pinned).await;
    let mut report = Report::new(machine, quick);
    if plan.wants("ingest") {
        ingest::measure(&programs, &plan, &mut report).await.context("ingest")?;
    }
    if plan.wants("whole") {
        ingest::measure_whole(&programs, &plan, &mut report).await.context("whole blocks")?;
    }
    if plan.wants("rules") {
        rules::measure(&programs, &mut report).await.context("rules")?;
    }
    if plan.wants("alerts") {
        alerts::measure(&programs, &plan, &mut report).await.context("alerts")?;
    }
    if plan.wants("reorg") {
        reorg::measure(&programs, &plan, &mut report).await.context("reorg")?;
    }
    if plan.only.as_deref().is_some_and(|word| PARTS.contains(&word)) {
        return Ok(report);
    }
    let scene = Scene::set(programs).await?;
    if plan.wants("start") {
        start::measure(&scene, &plan, &mut report).await.context("start")?;
    }
    if plan.wants("misses") {
        misses::measure(&scene, &plan, &mut report).await.context("cache misses")?;
    }
    reads::measure(&scene, &plan, &mut report).await.context("cached reads")?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let parsed = parse("--quick --json out.json --only block").unwrap();
        assert!(parsed.quick && parsed.json == Some("out.json".into()));
        assert_eq!(parsed.only.as_deref(), Some("block"));
        assert!(!parse("").unwrap().quick);
        assert!(parse("--json").is_err());
        assert!(parse("--quik").unwrap_err().to_string().contains("usage:"));
    }
}
