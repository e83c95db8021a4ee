//! One message for one item or for many: whole where it fits, shorter where it does not.

use lookout_store::Alert;

use super::{Item, Parcel, ParcelKind};

/// What a test says.
pub(crate) const TEST_TEXT: &str =
    "This is a test from Lookout: alerts of this channel will arrive here.";
/// Between two pieces of a message.
pub(crate) const BETWEEN: &str = "\n\n";
/// Longest name of a rule in a summary, in characters.
const NAME_CHARS_MAX: usize = 120;
/// Ends a text that was cut.
const CUT: &str = "…";

/// The pieces of a message, whose costs and those of what stands between them stay within `limit`.
///
/// `cost` is what a text takes in the receiver's units, escapes included; it must grow with the
/// text, by at least 1 a character.
pub(crate) fn pieces(parcel: &Parcel, limit: usize, cost: impl Fn(&str) -> usize) -> Vec<String> {
    let whole: Vec<String> = parcel.items.iter().map(|item| text(item, parcel.kind)).collect();
    if let [only] = whole.as_slice() {
        return vec![cut(only, limit, &cost)];
    }
    let heading = heading(parcel);
    let fits = |pieces: &[String]| {
        let between = cost(BETWEEN).saturating_mul(pieces.len().saturating_sub(1));
        let texts = pieces.iter().map(|piece| cost(piece)).fold(0, usize::saturating_add);
        texts.saturating_add(between) <= limit
    };
    let all: Vec<String> = std::iter::once(heading.clone()).chain(whole).collect();
    if fits(&all) {
        return all;
    }
    let lines: Vec<String> =
        parcel.items.iter().filter_map(|item| Some(line(item.alert.as_ref()?))).collect();
    for summary in [lines.join("\n"), by_rule(parcel)] {
        let short = vec![heading.clone(), summary];
        if fits(&short) {
            return short;
        }
    }
    let room = limit.saturating_sub(cost(&heading)).saturating_sub(cost(BETWEEN));
    let counts = cut(&by_rule(parcel), room, &cost);
    vec![heading, counts]
}

/// The first line of a message: for subjects and notifications.
pub(crate) fn subject(parcel: &Parcel) -> String {
    let of_one = |alert: &Alert| match parcel.kind {
        ParcelKind::Retraction => format!("Retracted: {}", name(alert)),
        _ => name(alert),
    };
    match parcel.items.as_slice() {
        [Item { alert: Some(alert), .. }] => of_one(alert),
        [Item { alert: None, .. }] => "Test".to_owned(),
        _ => heading(parcel),
    }
}

fn heading(parcel: &Parcel) -> String {
    let count = parcel.items.len();
    match parcel.kind {
        ParcelKind::Alert => format!("{count} alerts"),
        ParcelKind::Retraction => format!("{count} alerts are retracted: their blocks were undone"),
        ParcelKind::Test => format!("{count} tests"),
    }
}

fn text(item: &Item, kind: ParcelKind) -> String {
    match (&item.alert, kind) {
        (None, _) => TEST_TEXT.to_owned(),
        (Some(alert), ParcelKind::Retraction) => {
            let (place, text) = (line(alert), clean(&alert.text));
            format!("Retracted, because its block was undone: {place} (alert {})\n{text}", alert.id)
        }
        (Some(alert), _) => clean(&alert.text),
    }
}

/// One alert in one line.
fn line(alert: &Alert) -> String {
    format!("{}, chain {}, block {}", name(alert), alert.chain.0, alert.block.number)
}

fn name(alert: &Alert) -> String {
    let line: String = clean(&alert.rule_name).replace(['\n', '\t'], " ");
    if line.trim().is_empty() {
        return "(unnamed rule)".to_owned();
    }
    let mut short: String = line.chars().take(NAME_CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push_str(CUT);
    }
    short
}

/// How many alerts each rule has, in the order in which they come.
fn by_rule(parcel: &Parcel) -> String {
    let mut counts: Vec<(&str, String, usize)> = Vec::new();
    for alert in parcel.items.iter().filter_map(|item| item.alert.as_ref()) {
        match counts.iter_mut().find(|(id, ..)| *id == alert.rule_id) {
            Some((.., count)) => *count += 1,
            None => counts.push((&alert.rule_id, name(alert), 1)),
        }
    }
    let lines: Vec<String> =
        counts.into_iter().map(|(_, name, count)| format!("{name}: {count}")).collect();
    lines.join("\n")
}

/// Without control characters but for line ends and tabs.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The longest beginning of a text that stays within `limit`, marked as cut where it is.
pub(crate) fn cut(text: &str, limit: usize, cost: impl Fn(&str) -> usize) -> String {
    // No character is free, so that no more of them need looking at.
    let candidate: String = text.chars().take(limit.saturating_add(1)).collect();
    if candidate.len() == text.len() && cost(text) <= limit {
        return candidate;
    }
    let room = limit.saturating_sub(cost(CUT));
    let ends: Vec<usize> = candidate.char_indices().map(|(at, _)| at).collect();
    let fitting = ends.partition_point(|end| {
        candidate.get(..*end).is_some_and(|beginning| cost(beginning) <= room)
    });
    let end = fitting.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
    format!("{}{CUT}", candidate.get(..end).unwrap_or_default())
}

/// UTF-16 units, in which most services count.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
