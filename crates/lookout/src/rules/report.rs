//! What `lookout rules` prints.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use lookout_rules::{BacktestReport, Unanswered};
use lookout_types::Height;

use super::Compiled;

/// One line for a rule that compiles, and one for each thing to know about it.
pub(super) fn of_rule(compiled: &Compiled) -> String {
    let mut out = format!("ok: {} ({})\n", compiled.source.document.name, compiled.file);
    let needs = compiled.rule.needs();
    let needed = match (needs.transactions, needs.receipts) {
        (false, false) => "",
        (_, false) => "  needs transactions\n",
        (_, true) => "  needs transactions and receipts\n",
    };
    out.push_str(needed);
    for note in compiled.rule.notes() {
        // Writing to a string cannot fail.
        writeln!(out, "  note: {note}").unwrap_or_default();
    }
    out
}

/// The matches of a rule as messages, and what they amount to.
pub(super) fn of_run(name: &str, range: &RangeInclusive<Height>, ran: &BacktestReport) -> String {
    let mut out = String::new();
    for sample in &ran.samples {
        let (number, text) = (sample.block.number, sample.message.text.replace('\n', "\n  "));
        writeln!(out, "\nblock {number}\n  {text}").unwrap_or_default();
    }
    let hidden = ran.matches.saturating_sub(ran.samples.len() as u64);
    if hidden > 0 {
        writeln!(out, "\n… and {hidden} more matches").unwrap_or_default();
    }
    writeln!(
        out,
        "\n{name}: {} matches in {} blocks ({} to {}), {} alerts, at most {} a minute",
        ran.matches,
        ran.blocks,
        range.start(),
        range.end(),
        ran.alerts,
        ran.peak_per_minute
    )
    .unwrap_or_default();
    for pace in ran.paces.iter().filter(|pace| pace.minutes_exceeded > 0) {
        writeln!(
            out,
            "  {}: more than {} a minute in {} minutes; ungrouped, an alert would wait up to {} s",
            pace.channel.channel,
            pace.channel.per_minute,
            pace.minutes_exceeded,
            pace.longest_wait_s
        )
        .unwrap_or_default();
    }
    for Unanswered { error, count, decode, .. } in &ran.failures {
        let newest = decode.as_ref().map(|decode| format!("; the newest: {decode}"));
        let newest = newest.unwrap_or_default();
        writeln!(out, "  no answer for {count} records: {error}{newest}").unwrap_or_default();
    }
    out
}
