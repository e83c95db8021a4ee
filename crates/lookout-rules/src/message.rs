//! Message templates: plain text with `{{ value }}`, and where in the result what came from a chain.
//!
//! The result is text plus spans, never markup: nothing on a chain can become a link, a mention or
//! a format. Spans count UTF-16 units, as Telegram's message entities do.

mod format;
mod neutral;

use lookout_abi::{AbiText, Value};
use ruint::aliases::U256;

use self::format::Format;
use crate::check;
use crate::scope::{Builtin, Field, Scope};
use crate::syntax::Fault;
use crate::types::Type;
use crate::view::View;

/// Longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 8 << 10;
/// Most placeholders.
const MAX_PLACEHOLDERS: usize = 64;
/// Longest form of one value, in characters; a string on a chain may have a megabyte.
pub const MAX_VALUE_CHARS: usize = 256;
/// Longest message, in UTF-16 units: Telegram's limit, the least of all channels' but SMS.
pub const MAX_MESSAGE_UNITS: usize = 4096;

/// A checked template.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// A position among the slots.
    Value(usize),
}

#[derive(Debug, Clone)]
struct Slot {
    name: String,
    field: Field,
    format: Format,
    bold: bool,
}

/// A message, ready for a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Its text.
    pub text: String,
    /// Stretches of it, in order, not overlapping but for bold code.
    pub spans: Vec<Span>,
}

/// A stretch of a message, in UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
    /// What it is.
    pub kind: SpanKind,
}

/// What a stretch of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// To stand out.
    Bold,
    /// Verbatim: an address, a hash, or text from a chain. Channels show it without making links.
    Code,
}

impl Template {
    /// Parses a template whose placeholders name values of a scope.
    pub(crate) fn parse(source: &str, scope: &Scope) -> Result<Self, Fault> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let reason = format!(
                "the template has {} bytes, the limit is {MAX_TEMPLATE_BYTES}",
                source.len()
            );
            return Err(Fault::new(crate::syntax::Span::default(), reason));
        }
        let mut template = Self { pieces: Vec::new(), slots: Vec::new() };
        let mut at = 0;
        loop {
            let rest = source.get(at..).unwrap_or_default();
            let Some(open) = rest.find("{{") else {
                template.push_text(rest);
                break;
            };
            template.push_text(rest.get(..open).unwrap_or_default());
            let start = at + open + 2;
            let inner = source.get(start..).unwrap_or_default();
            let Some(length) = inner.find("}}") else {
                let span = crate::syntax::Span { start: start - 2, end: start };
                return Err(Fault::new(span, "the placeholder is not closed; end it with }}"));
            };
            let slot = slot(inner.get(..length).unwrap_or_default(), scope).map_err(|fault| {
                let crate::syntax::Span { start: from, end } = fault.span;
                Fault {
                    span: crate::syntax::Span { start: start + from, end: start + end },
                    ..fault
                }
            })?;
            if template.slots.len() == MAX_PLACEHOLDERS {
                let span = crate::syntax::Span { start: start - 2, end: start + length + 2 };
                let reason = format!("the template has more than {MAX_PLACEHOLDERS} placeholders");
                return Err(Fault::new(span, reason));
            }
            template.pieces.push(Piece::Value(template.slots.len()));
            template.slots.push(slot);
            at = start + length + 2;
        }
        Ok(template)
    }

    /// The template of a rule that has none: its name and every value worth showing.
    pub(crate) fn listing(scope: &Scope) -> Self {
        /// Values shown besides arguments, where the scope has them.
        const SHOWN: [&str; 13] = [
            "count", "sum", "asset", "account", "balance", "previous", "change", "from", "to",
            "amount", "tokenId", "value", "address",
        ];
        let mut template = Self { pieces: Vec::new(), slots: Vec::new() };
        let shown = SHOWN.iter().map(|name| (*name).to_owned()).filter(|name| {
            scope.get(name).is_some_and(|entry| matches!(entry.field, Field::Builtin(_)))
        });
        let names = shown.chain(scope.arguments.iter().cloned()).take(MAX_PLACEHOLDERS - 4);
        template.push_name("rule.name", "", true, scope);
        for name in names {
            template.push_name(&name, &format!("\n{name}: "), false, scope);
        }
        template.push_name("lastSeen", "\nnothing since ", false, scope);
        template.push_name("block.number", "\nblock ", false, scope);
        template.push_name("tx.hash", "\ntransaction ", false, scope);
        template
    }

    fn push_name(&mut self, name: &str, before: &str, bold: bool, scope: &Scope) {
        let Some(entry) = scope.get(name) else { return };
        self.push_text(before);
        let format = match &entry.field {
            Field::Builtin(Builtin::LastSeen) => Format::Time,
            _ => Format::Plain,
        };
        self.pieces.push(Piece::Value(self.slots.len()));
        self.slots.push(Slot { name: name.to_owned(), field: entry.field.clone(), format, bold });
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text(neutral::own_text(text)));
        }
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.slots.iter().map(|slot| &slot.field)
    }

    /// The names of the values that a match carries for it, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// The values of a record, in the order of the placeholders.
    pub(crate) fn capture(&self, view: &View<'_>) -> Vec<Value> {
        self.slots.iter().map(|slot| view.capture(&slot.field)).collect()
    }

    /// Sets what only the window knows.
    pub(crate) fn set_window(&self, values: &mut [Value], count: U256, sum: U256) {
        for (slot, value) in self.slots.iter().zip(values) {
            match slot.field {
                Field::Builtin(Builtin::Count) => *value = Value::Uint(count),
                Field::Builtin(Builtin::Sum) => *value = Value::Uint(sum),
                _ => {}
            }
        }
    }

    /// Fills in the values of a match. What is over [`MAX_MESSAGE_UNITS`] is cut with `…`.
    pub fn render(&self, values: &[Value]) -> Message {
        let mut writer = Writer::default();
        let missing = Value::String(AbiText::from("none"));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => writer.push(text, &[]),
                Piece::Value(position) => {
                    let Some(slot) = self.slots.get(*position) else { continue };
                    let value = values.get(*position).unwrap_or(&missing);
                    let (text, code) = slot.format.apply(value);
                    let kinds = match (slot.bold, code) {
                        (true, true) => &[SpanKind::Bold, SpanKind::Code][..],
                        (true, false) => &[SpanKind::Bold],
                        (false, true) => &[SpanKind::Code],
                        (false, false) => &[],
                    };
                    writer.push(&text, kinds);
                }
            }
        }
        writer.message
    }
}

/// `value | units(6) | bold`
fn slot(source: &str, scope: &Scope) -> Result<Slot, Fault> {
    let mut parts = source.split('|');
    let name = parts.next().unwrap_or_default();
    if name.trim().is_empty() {
        let span = crate::syntax::Span { start: 0, end: source.len() };
        return Err(Fault::new(span, "the placeholder is empty; name a value in it"));
    }
    let (field, ty) = check::name(name, scope)?;
    let mut slot = Slot { name: name.trim().to_owned(), field, format: Format::Plain, bold: false };
    let mut at = name.len() + 1;
    for part in parts {
        let text = part.trim();
        let start = at + part.find(text).unwrap_or_default();
        let span = crate::syntax::Span { start, end: start + text.len() };
        if text == "bold" {
            slot.bold = true;
        } else if matches!(slot.format, Format::Plain) {
            slot.format = Format::parse(text, &ty).map_err(|reason| Fault::new(span, reason))?;
        } else {
            return Err(Fault::new(span, "a value has one format, and perhaps `bold`"));
        }
        at += part.len() + 1;
    }
    Ok(slot)
}

#[derive(Default)]
struct Writer {
    message: Message,
    units: usize,
    full: bool,
}

impl Writer {
    fn push(&mut self, text: &str, kinds: &[SpanKind]) {
        if self.full {
            return;
        }
        let offset = self.units;
        let left = MAX_MESSAGE_UNITS - self.units;
        let needed: usize = text.chars().map(char::len_utf16).sum();
        if needed <= left {
            self.message.text.push_str(text);
            self.units += needed;
        } else {
            self.full = true;
            for character in text.chars() {
                // One unit stays for the mark that something was cut.
                if self.units + character.len_utf16() > MAX_MESSAGE_UNITS - 1 {
                    break;
                }
                self.message.text.push(character);
                self.units += character.len_utf16();
            }
        }
        let length = self.units - offset;
        if length > 0 {
            let spans = kinds.iter().map(|kind| Span { offset, length, kind: *kind });
            self.message.spans.extend(spans);
        }
        if self.full {
            // The last piece may have filled the text to the brim.
            if self.units == MAX_MESSAGE_UNITS {
                self.drop_last();
            }
            self.message.text.push('…');
            self.units += 1;
        }
    }

    fn drop_last(&mut self) {
        if let Some(character) = self.message.text.pop() {
            self.units -= character.len_utf16();
            let end = self.units;
            for span in &mut self.message.spans {
                span.length = span.length.min(end.saturating_sub(span.offset));
            }
            self.message.spans.retain(|span| span.length > 0);
        }
    }
}

/// Whether a type can be shown by a number's formats.
pub(crate) fn is_number(ty: &Type) -> bool {
    ty.is_number()
}

#[cfg(test)]
mod tests;
