//! What a comparison found, for people.

use std::io::Write as _;
use std::ops::RangeInclusive;

use lookout_ingest::verify::VerifyReport;
use lookout_types::Height;

use crate::failure::Failure;
use crate::table::columns;

/// Lines of each kind; the numbers above them count everything.
const LINES_MAX: usize = 50;

/// The numbers, then the map of gaps and differences.
pub(super) fn text(chain: &str, report: &VerifyReport) -> String {
    let (missing, different) = (count(&report.missing), count(&report.different));
    let (from, to) = (report.heights.start(), report.heights.end());
    let mut text = format!(
        "{chain}, blocks {from} to {to}: {} as on the chain, {missing} missing, {different} different\n",
        report.ok
    );
    let mut rows = Vec::new();
    for (what, ranges) in [("missing", &report.missing), ("different", &report.different)] {
        rows.extend(ranges.iter().take(LINES_MAX).map(|range| vec![what.to_owned(), span(range)]));
        rows.extend(rest(ranges.len()));
    }
    let differences = report.differences.iter().take(LINES_MAX);
    rows.extend(differences.map(|d| vec![format!("block {}", d.height), d.what.to_string()]));
    rows.extend(rest(report.differences.len()));
    text.push_str(&columns(&rows));
    text
}

/// One sentence that says what to do.
pub(super) fn verdict(chain: &str, report: &VerifyReport) -> String {
    let (missing, different) = (count(&report.missing), count(&report.different));
    let (from, to) = (report.heights.start(), report.heights.end());
    format!(
        "{missing} blocks are missing and {different} differ; `lookout backfill --chain {chain} --from {from} --to {to}` adds what is missing above what is held, with --rebuild it replaces everything"
    )
}

/// Writes what was found before the command fails.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|e| Failure::failed(format!("cannot write to standard output: {e}")))
}

fn rest(count: usize) -> Option<Vec<String>> {
    let more = count.checked_sub(LINES_MAX).filter(|more| *more > 0)?;
    Some(vec!["…".to_owned(), format!("and {more} more")])
}

fn span(range: &RangeInclusive<Height>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

fn count(ranges: &[RangeInclusive<Height>]) -> u64 {
    ranges.iter().map(|range| (range.end() - range.start()).saturating_add(1)).sum()
}
