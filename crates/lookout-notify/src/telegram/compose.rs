//! The one message that a parcel becomes.

use std::collections::BTreeMap;

use lookout_store::{Alert, SpanKind};
use lookout_types::{ChainId, Height};

use super::text::{Styled, UNITS_MAX, cut, inert};
use crate::send::{Parcel, ParcelKind};

/// Rules named in a summary; the rest are counted.
const RULES_SHOWN: usize = 20;
/// Alerts of which a summary shows the first line.
const LINES_SHOWN: usize = 10;
/// Longest of such lines and of a rule's name, in UTF-16 units.
const LINE_UNITS_MAX: usize = 160;
const NAME_UNITS_MAX: usize = 64;

const BETWEEN: &str = "\n\n";

/// Within Telegram's limits, never blank.
pub(super) fn compose(parcel: &Parcel) -> Styled {
    let alerts: Vec<&Alert> = parcel.items.iter().filter_map(|item| item.alert.as_ref()).collect();
    let message = match parcel.kind {
        ParcelKind::Test => {
            let mut test = Styled::default();
            test.push_as("Test message from Lookout", SpanKind::Bold);
            test.push("\nAlerts of this channel will arrive here.");
            test
        }
        ParcelKind::Alert => joined(&alerts).unwrap_or_else(|| summary(&alerts)),
        ParcelKind::Retraction => retraction(&alerts),
    };
    message.within_limits()
}

/// All texts one after the other, if they fit.
fn joined(alerts: &[&Alert]) -> Option<Styled> {
    let mut message = Styled::default();
    for alert in alerts {
        if message.units() > 0 {
            message.push(BETWEEN);
        }
        message.append(&whole(alert));
        if !message.fits() {
            return None;
        }
    }
    (!message.is_blank()).then_some(message)
}

fn whole(alert: &Alert) -> Styled {
    let mut message = Styled::of_alert(&alert.text, &alert.spans, UNITS_MAX);
    if message.is_blank() {
        message = Styled::default();
        message.push("alert of rule ");
        message.push_as(&name(&alert.rule_name), SpanKind::Bold);
    }
    message
}

fn name(name: &str) -> String {
    let name = cut(&inert(name, NAME_UNITS_MAX + 1), NAME_UNITS_MAX).replace('\n', " ");
    if name.trim().is_empty() { "without a name".to_owned() } else { name }
}

/// How many of which rule, the first of them, and where the rest is.
fn summary(alerts: &[&Alert]) -> Styled {
    let mut message = Styled::default();
    message.push_as(&format!("{} alerts", grouped(alerts.len())), SpanKind::Bold);
    push_counts(&mut message, alerts);
    message.push("\n");
    push_first_lines(&mut message, alerts);
    message
}

fn push_counts(message: &mut Styled, alerts: &[&Alert]) {
    let mut counts: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for alert in alerts {
        counts.entry(&alert.rule_id).or_insert((0, &alert.rule_name)).0 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, (many, _)), (b, (more, _))| more.cmp(many).then(a.cmp(b)));
    for (_, (count, rule)) in counts.iter().take(RULES_SHOWN) {
        message.push(&format!("\n{} × {}", grouped(*count), name(rule)));
    }
    let others: usize = counts.iter().skip(RULES_SHOWN).map(|(_, (count, _))| count).sum();
    if others > 0 {
        let rules = counts.len() - RULES_SHOWN;
        message.push(&format!("\n{} of {rules} more rules", grouped(others)));
    }
}

fn push_first_lines(message: &mut Styled, alerts: &[&Alert]) {
    for alert in alerts.iter().take(LINES_SHOWN) {
        message.push("\n");
        message.append(&line(alert));
    }
    if alerts.len() > LINES_SHOWN {
        message.push(&format!("\nand {} more: ", grouped(alerts.len() - LINES_SHOWN)));
        // As code, or Telegram would make a command of it.
        message.push_as("GET /v1/alerts", SpanKind::Code);
    }
}

/// One alert in one line. A message without a template begins with the rule's name, which alone would
/// not tell alerts of a rule apart.
fn line(alert: &Alert) -> Styled {
    let whole = whole(alert);
    let first = whole.first_line(LINE_UNITS_MAX);
    if first.text() == name(&alert.rule_name) {
        return whole.in_one_line().first_line(LINE_UNITS_MAX);
    }
    first
}

fn retraction(alerts: &[&Alert]) -> Styled {
    let mut message = Styled::default();
    message.push_as("Retracted", SpanKind::Bold);
    match alerts {
        [alert] => message.push(&format!(
            ": block {} of chain {} was undone, what this alert told is not on the chain.\n",
            alert.block.number, alert.chain.0
        )),
        _ => {
            message.push(&format!(
                ": {} alerts. {} undone, what they told is not on the chain.",
                grouped(alerts.len()),
                blocks(alerts)
            ));
            push_counts(&mut message, alerts);
            message.push("\n");
        }
    }
    push_first_lines(&mut message, alerts);
    message
}

/// Which blocks alerts are about.
fn blocks(alerts: &[&Alert]) -> String {
    let mut chains: BTreeMap<ChainId, (Height, Height)> = BTreeMap::new();
    for alert in alerts {
        let height = alert.block.number;
        let range = chains.entry(alert.chain).or_insert((height, height));
        *range = (range.0.min(height), range.1.max(height));
    }
    match chains.into_iter().collect::<Vec<_>>().as_slice() {
        [(ChainId(chain), (first, last))] if first == last => {
            format!("Block {first} of chain {chain} was")
        }
        [(ChainId(chain), (first, last))] => {
            format!("Blocks {first} to {last} of chain {chain} were")
        }
        _ => "Their blocks were".to_owned(),
    }
}

/// `10,000`
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
