//! Text with entities: plain words, and where they are bold or verbatim, in UTF-16 units.
//!
//! Nothing in it is markup, so nothing that it quotes can become any.

use lookout_store::{AlertSpan, SpanKind};
use serde_json::{Value, json};

/// Longest text of a message, in UTF-16 units.
pub(crate) const UNITS_MAX: usize = 4096;
/// Most entities of a message; Telegram ignores or refuses more.
pub(crate) const ENTITIES_MAX: usize = 100;

/// A stretch of text, in UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) kind: SpanKind,
}

/// Text and its entities, in order and never overlapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Styled {
    text: String,
    units: usize,
    entities: Vec<Entity>,
}

impl Styled {
    /// The text of an alert with those of its spans that are sound. What is too long is cut.
    pub(crate) fn of_alert(text: &str, spans: &[AlertSpan], units_max: usize) -> Self {
        let mut styled = Self::default();
        styled.push(&cut(&inert(text, units_max.saturating_add(2)), units_max));
        styled.entities = sound(&styled.text, spans);
        styled
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.units += units(text);
    }

    pub(crate) fn push_as(&mut self, text: &str, kind: SpanKind) {
        let entity = Entity { offset: self.units, length: units(text), kind };
        if entity.length > 0 {
            self.entities.push(entity);
        }
        self.push(text);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        let moved = |entity: &Entity| Entity { offset: entity.offset + self.units, ..*entity };
        let moved: Vec<_> = other.entities.iter().map(moved).collect();
        self.entities.extend(moved);
        self.push(&other.text);
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    #[cfg(test)]
    pub(crate) fn entities(&self) -> &[Entity] {
        &self.entities
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Whether Telegram takes it as one message.
    pub(crate) fn fits(&self) -> bool {
        self.units <= UNITS_MAX && self.entities.len() <= ENTITIES_MAX
    }

    /// Its first line that says something, cut.
    pub(crate) fn first_line(&self, units_max: usize) -> Self {
        let mut start = 0;
        let line = self.text.split('\n').find(|line| {
            let is_blank = line.trim().is_empty();
            if is_blank {
                start += units(line) + 1;
            }
            !is_blank
        });
        let mut first = Self::default();
        first.push(&cut(line.unwrap_or_default(), units_max));
        for entity in &self.entities {
            let offset = entity.offset.max(start);
            // A cut line ends in a mark of its own, which no entity covers.
            let is_cut = units(line.unwrap_or_default()) > units_max;
            let shown = start + first.units - usize::from(is_cut);
            let end = (entity.offset + entity.length).min(shown);
            if offset < end {
                let length = end - offset;
                first.entities.push(Entity { offset: offset - start, length, kind: entity.kind });
            }
        }
        first
    }

    /// The same with spaces for line breaks, which take as much room, so that entities stay in place.
    pub(crate) fn in_one_line(mut self) -> Self {
        self.text = self.text.replace('\n', " ");
        self
    }

    /// Within Telegram's limits, whatever it was.
    pub(crate) fn within_limits(mut self) -> Self {
        if self.units > UNITS_MAX {
            self.text = cut(&self.text, UNITS_MAX);
            self.units = units(&self.text);
        }
        let end = self.units;
        self.entities.retain(|entity| entity.offset + entity.length <= end);
        self.entities.truncate(ENTITIES_MAX);
        self
    }

    /// As the `entities` of a message.
    pub(crate) fn entities_json(&self) -> Value {
        let one = |entity: &Entity| {
            let kind = match entity.kind {
                SpanKind::Bold => "bold",
                SpanKind::Code => "code",
            };
            json!({ "type": kind, "offset": entity.offset, "length": entity.length })
        };
        self.entities.iter().map(one).collect()
    }

    /// The text for a message without entities: what only `code` kept from becoming a command, a
    /// mention or a tag is written with look-alikes.
    pub(crate) fn bare(&self) -> String {
        let mut bare = String::with_capacity(self.text.len());
        let mut before = ' ';
        for character in self.text.chars() {
            let starts = !before.is_alphanumeric();
            bare.push(match character {
                '/' if starts => '\u{2215}',
                '@' => '\u{ff20}',
                '#' if starts => '\u{ff03}',
                '$' if starts => '\u{ff04}',
                other => other,
            });
            before = character;
        }
        bare
    }
}

/// Length in UTF-16 units.
pub(crate) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// At most so many units; what is cut ends in `…`.
pub(crate) fn cut(text: &str, units_max: usize) -> String {
    if text.len() <= units_max || units(text) <= units_max {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.len_utf16();
        if used > units_max {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

/// The start of a text, at most so many units, without characters that hide or turn others. What is
/// replaced keeps its length, so that offsets stay true.
pub(crate) fn inert(text: &str, units_max: usize) -> String {
    let mut plain = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.len_utf16();
        if used > units_max {
            break;
        }
        match character {
            '\n' | '\t' => plain.push(character),
            hidden if is_hidden(hidden) => {
                plain.extend(std::iter::repeat_n('\u{fffd}', hidden.len_utf16()));
            }
            visible => plain.push(visible),
        }
    }
    plain
}

/// Control characters, marks of direction, and what takes no space.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The spans within a text, from the edge of a character to another. Code holds nothing else, as
/// Telegram wants it; what overlaps otherwise is dropped.
fn sound(text: &str, spans: &[AlertSpan]) -> Vec<Entity> {
    let mut edges = vec![0];
    for character in text.chars() {
        let last = edges.last().copied().unwrap_or(0);
        edges.push(last + character.len_utf16());
    }
    let whole = edges.last().copied().unwrap_or(0);
    let mut found = Vec::new();
    for span in spans {
        let end = span.offset.saturating_add(span.length).min(whole);
        // A span that splits a character takes all of it: what is verbatim stays so.
        let first = edges.partition_point(|edge| *edge <= span.offset).saturating_sub(1);
        let last = edges.partition_point(|edge| *edge < end);
        let (Some(from), Some(to)) = (edges.get(first), edges.get(last)) else { continue };
        if span.offset < end && from < to {
            found.push(Entity { offset: *from, length: to - from, kind: span.kind });
        }
    }
    // Code first among those that begin together: it matters more than what stands out.
    found.sort_by_key(|entity| (entity.kind != SpanKind::Code, entity.offset, entity.length));
    let mut kept: Vec<Entity> = Vec::new();
    for entity in found {
        let next = kept.partition_point(|other| other.offset < entity.offset);
        let after =
            kept.get(next).is_none_or(|other| entity.offset + entity.length <= other.offset);
        let before = next.checked_sub(1).and_then(|at| kept.get(at));
        if after && before.is_none_or(|other| other.offset + other.length <= entity.offset) {
            kept.insert(next, entity);
        }
    }
    kept
}
