//! `lookout rules`: rule files checked and tried out on this machine, and other programs' files read.

mod files;
pub(crate) mod import;
mod report;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use lookout_rules::{Backtest, BacktestReport, Rule, RuleId, RuleSource, WatchDocument};
use lookout_types::{ChainId, Height};
use lookout_warehouse::{Warehouse, WarehouseError, WarehouseUrl};

use crate::failure::Failure;
use files::Named;

/// Matches of one rule that are printed; all are counted.
const PRINTED_MAX: usize = 100;

/// Chains by their configured names.
pub(crate) type Chains = Vec<(String, ChainId)>;

/// `lookout rules test`: what it takes.
#[derive(Debug)]
pub(crate) struct TestRules {
    /// Files with one rule each, or a list of rules. ABIs by name (`mine.json`) and `labels.json` lie
    /// beside them.
    pub(crate) files: Vec<PathBuf>,
    /// One block to try them on.
    pub(crate) block: Option<Height>,
    /// The first height to try them on.
    pub(crate) from: Option<Height>,
    /// The last height; the newest held when `None`.
    pub(crate) to: Option<Height>,
    /// The chain to try them on, in the place of their own: its name or its id.
    pub(crate) chain: Option<String>,
    /// The configured chains.
    pub(crate) chains: Chains,
    /// Where blocks are held.
    pub(crate) warehouse: WarehouseUrl,
}

/// Checks rule files, and tries the rules out on held blocks where some are named. Returns what it
/// prints.
///
/// # Errors
/// [`Failure::Failed`] when a rule is wrong, with the place in it; [`Failure::Usage`] for options
/// that do not fit together.
pub(crate) async fn test(args: TestRules) -> Result<String, Failure> {
    let range = match (args.block, args.from, args.to) {
        (None, None, None) => None,
        (Some(block), None, None) => Some((block, Some(block))),
        (None, Some(from), to) if to.is_none_or(|to| from <= to) => Some((from, to)),
        (None, Some(_), Some(_)) => return Err(Failure::usage("--from is above --to")),
        _ => return Err(Failure::usage("name one --block, or --from and perhaps --to")),
    };
    let mut compiled = Vec::new();
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in &args.files {
        for named in files::read(file) {
            read += 1;
            match named.and_then(|named| compile(named, &args)) {
                Ok(rule) => compiled.push(rule),
                Err(reason) => wrong.push(reason),
            }
        }
    }
    if !wrong.is_empty() {
        let reasons = wrong.join("; ");
        return Err(Failure::failed(format!(
            "{} of {read} rules are wrong: {reasons}",
            wrong.len()
        )));
    }
    let mut out: String = compiled.iter().map(report::of_rule).collect();
    if let Some((from, to)) = range {
        let warehouse = open(&args.warehouse).await?;
        for one in compiled {
            let name = format!("{} ({})", one.source.document.name, one.file);
            let ran = backtest(warehouse.as_ref(), one, from, to).await;
            match ran {
                Ok((range, ran)) => out.push_str(&report::of_run(&name, &range, &ran)),
                Err(failure) => {
                    warehouse.close().await;
                    return Err(failure);
                }
            }
        }
        warehouse.close().await;
    }
    Ok(out)
}

/// A rule that compiles.
struct Compiled {
    file: String,
    source: RuleSource,
    rule: Rule,
}

fn compile(named: Named, args: &TestRules) -> Result<Compiled, String> {
    let Named { file, document, abi, labels } = named;
    let place = |reason: String| format!("{file}, rule `{}`: {reason}", document.name);
    let chain = args.chain.as_deref().unwrap_or(&document.chain);
    let chain = chain_of(chain, &args.chains).map_err(place)?;
    let source = RuleSource { chain, document: document.clone(), abi, labels };
    let rule = source.compile(RuleId(0), 1).map_err(|error| place(error.to_string()))?;
    Ok(Compiled { source, rule, file })
}

fn chain_of(text: &str, chains: &Chains) -> Result<ChainId, String> {
    if let Some((_, id)) = chains.iter().find(|(name, _)| name == text) {
        return Ok(*id);
    }
    text.parse().map_err(|_| {
        let known: Vec<_> = chains.iter().map(|(name, _)| name.as_str()).collect();
        let shown: String = text.escape_debug().take(80).collect();
        format!("no chain `{shown}` is configured; there are {}", known.join(", "))
    })
}

async fn open(url: &WarehouseUrl) -> Result<Arc<dyn Warehouse>, Failure> {
    lookout_warehouse::open(url).await.map_err(|error| match error {
        WarehouseError::InUse { .. } => Failure::failed(format!(
            "{error}; or ask the running one: POST /v1/rules/backtest takes the same rule"
        )),
        error => Failure::failed(error.to_string()),
    })
}

async fn backtest(
    warehouse: &dyn Warehouse,
    one: Compiled,
    from: Height,
    to: Option<Height>,
) -> Result<(RangeInclusive<Height>, BacktestReport), Failure> {
    let failed = |error: WarehouseError| Failure::failed(error.to_string());
    let Compiled { file, source, rule } = one;
    let chain = source.chain;
    if matches!(source.document.watch, WatchDocument::Balance { .. }) {
        return Err(Failure::failed(format!(
            "{file}: a balance rule cannot be tried on held blocks, which hold no balances"
        )));
    }
    let Some(held) = warehouse.coverage(chain).await.map_err(failed)?.pop() else {
        return Err(Failure::failed(format!(
            "no block of chain {chain} is held yet; run `lookout backfill` first"
        )));
    };
    let range = from.max(*held.start())..=to.unwrap_or(*held.end()).min(*held.end());
    if range.is_empty() {
        return Err(Failure::failed(format!(
            "none of these blocks is held: of chain {chain}, blocks {} to {} are",
            held.start(),
            held.end()
        )));
    }
    let confirmations = source.document.confirmations;
    let mut backtest =
        Backtest::new(Arc::new(rule), chain, range.clone(), confirmations, PRINTED_MAX);
    let mut after = None;
    loop {
        let frames = warehouse.frames(chain, backtest.reads(), after).await.map_err(failed)?;
        let Some(last) = frames.last() else { break };
        after = Some(last.block);
        for frame in &frames {
            backtest.step(frame).map_err(|error| Failure::failed(error.to_string()))?;
        }
    }
    Ok((range, backtest.finish()))
}
