//! Messages of triggers as templates: `${events.0.args.value}` → `{{ args.value }}`.

use super::{Effect, Notes};
use crate::MAX_TEMPLATE_BYTES;

/// A trigger's message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text {
    pub(super) title: String,
    pub(super) body: String,
}

/// The rule that a message is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// `events` or `functions`, whichever the rule's arguments are of; empty for neither.
    pub(super) group: &'static str,
    pub(super) signature: &'a str,
    pub(super) arguments: &'a [super::spelled::Argument],
    pub(super) network: &'a str,
}

/// The template of a message; `None` when there is nothing to say.
pub(super) fn template(text: &Text, subject: Subject<'_>, notes: &mut Notes<'_>) -> Option<String> {
    let title = translate(&text.title, subject, notes);
    let body = translate(&text.body, subject, notes);
    if text.body.contains(['*', '`', '[']) {
        notes
            .add(Effect::Changed, "messages are plain text: markup in them stays as it is written");
    }
    let template = match (title.trim().is_empty(), body.trim().is_empty()) {
        (true, true) => return None,
        (false, true) => title,
        (true, false) => body,
        (false, false) => format!("{title}\n\n{body}"),
    };
    if template.len() > MAX_TEMPLATE_BYTES {
        notes.add(
            Effect::Dropped,
            format!("the message is longer than {MAX_TEMPLATE_BYTES} bytes; one that lists everything stands in its place"),
        );
        return None;
    }
    Some(template)
}

fn translate(source: &str, subject: Subject<'_>, notes: &mut Notes<'_>) -> String {
    // Two braces would begin a placeholder here.
    let source = source.replace("{{", "{ {");
    let mut out = String::new();
    let mut rest = source.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        match value(name.trim(), subject) {
            Some(text) => out.push_str(&text),
            None => {
                notes.add(
                    Effect::Dropped,
                    format!("`${{{}}}` in the message has no equivalent in this rule", name.trim()),
                );
                out.push('?');
            }
        }
        rest = behind;
    }
    out + rest
}

fn value(name: &str, subject: Subject<'_>) -> Option<String> {
    let plain = match name {
        "monitor.name" => "{{ rule.name }}",
        "transaction.hash" => "{{ tx.hash }}",
        "transaction.from" => "{{ tx.from }}",
        "transaction.to" => "{{ tx.to }}",
        "transaction.value" => "{{ tx.value }}",
        "transaction.nonce" => "{{ tx.nonce }}",
        "block.number" => "{{ block.number }}",
        "network.name" | "network.slug" => return Some(subject.network.to_owned()),
        _ => "",
    };
    if !plain.is_empty() {
        return Some(plain.to_owned());
    }
    let of_first = name.strip_prefix(subject.group).filter(|_| !subject.group.is_empty())?;
    let part = of_first.strip_prefix(".0.")?;
    if part == "signature" {
        return Some(subject.signature.to_owned());
    }
    let argument = part.strip_prefix("args.")?;
    let known = subject.arguments.iter().any(|known| known.name == argument);
    known.then(|| format!("{{{{ args.{argument} }}}}"))
}
