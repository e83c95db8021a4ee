//! Parses an ABI and finds events and functions in it.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_json_abi::{AbiItem, EventParam, Param as JsonParam};
use bytes::Bytes;
use lookout_types::{Hash, Log};
use serde_json::Value as Json;

use crate::event::selector;
use crate::types::TupleField;
use crate::{
    AbiError, AbiType, DecodeError, Event, Function, Location, MAX_TYPE_DEPTH, Param, Value,
};

/// Largest ABI text: ten times the largest that verified contracts are known to have.
pub const MAX_ABI_BYTES: usize = 2 << 20;
/// Most entries: a proxy with every facet of a large protocol has about 1,500.
pub const MAX_ENTRIES: usize = 4096;
/// Most arguments of one entry; the EVM's stack allows far fewer.
pub const MAX_PARAMS: usize = 64;
/// Names offered when one is not found.
const NEAREST: usize = 3;
/// Longest name that is compared with one that is not found, in bytes: the work grows with the product
/// of the lengths.
const COMPARED: usize = 100;
/// Least similarity (Jaro-Winkler) of a name that is offered.
const SIMILAR: f64 = 0.7;

/// The events and functions of a contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abi {
    events: Vec<Arc<Event>>,
    functions: Vec<Arc<Function>>,
    by_topic0: HashMap<Hash, Vec<usize>>,
    by_selector: HashMap<[u8; 4], usize>,
}

impl Abi {
    /// Parses an ABI: a JSON array of entries, or a compiler's output with an `abi` member. An
    /// entry is an object, or a text such as `event Sent(address indexed from, uint256 value)`.
    /// Such texts can also stand alone, one on a line; empty lines and `//` lines are left out.
    ///
    /// # Errors
    /// [`AbiError`] says which entry is wrong and why.
    pub fn parse(text: &str) -> Result<Self, AbiError> {
        if text.len() > MAX_ABI_BYTES {
            return Err(AbiError::TooLarge { found: text.len(), limit: MAX_ABI_BYTES });
        }
        Self::from_json(read(text)?)
    }

    /// The text of an ABI with nothing but the entry of one event, by its name or signature in `text`.
    ///
    /// # Errors
    /// As [`Abi::parse`] and [`Abi::event`].
    pub fn event_alone(text: &str, asked: &str) -> Result<String, AbiError> {
        let event = Self::parse(text)?.event(asked)?.clone();
        alone(text, |abi| abi.events.first() == Some(&event))
    }

    /// The same with one function.
    ///
    /// # Errors
    /// As [`Abi::parse`] and [`Abi::function`].
    pub fn function_alone(text: &str, asked: &str) -> Result<String, AbiError> {
        let function = Self::parse(text)?.function(asked)?.clone();
        alone(text, |abi| abi.functions.first() == Some(&function))
    }

    /// As [`Abi::parse`], from JSON that was parsed already.
    ///
    /// # Errors
    /// [`AbiError`] says which entry is wrong and why.
    pub fn from_json(json: Json) -> Result<Self, AbiError> {
        let entries = entries(json)?;
        if entries.len() > MAX_ENTRIES {
            return Err(AbiError::TooMany { found: entries.len(), limit: MAX_ENTRIES });
        }
        let mut abi = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            let named = describe(&entry);
            abi.add(entry).map_err(|reason| AbiError::Entry { index, entry: named, reason })?;
        }
        Ok(abi)
    }

    fn add(&mut self, entry: Json) -> Result<(), String> {
        if json_depth(&entry, 4 * MAX_TYPE_DEPTH).is_none() {
            return Err(format!("its types are nested deeper than {MAX_TYPE_DEPTH}"));
        }
        let item = match entry {
            Json::String(text) => {
                AbiItem::parse(&text).map_err(|error| one_line(&error.to_string()))?
            }
            entry => serde_json::from_value::<AbiItem<'static>>(entry)
                .map_err(|error| one_line(&error.to_string()))?,
        };
        match item {
            AbiItem::Event(event) => {
                let event = event.into_owned();
                let params = named_params(event.inputs.iter().map(Input::Event))?;
                let indexed = params.iter().filter(|param| param.indexed).count();
                let most = if event.anonymous { 4 } else { 3 };
                if indexed > most {
                    return Err(format!("{indexed} arguments are indexed, at most {most} can be"));
                }
                let topic0 = Hash(event.selector().0);
                self.add_event(Event::new(
                    event.name.clone(),
                    event.signature(),
                    event.anonymous,
                    topic0,
                    params,
                ));
            }
            AbiItem::Function(function) => {
                let function = function.into_owned();
                let params = named_params(function.inputs.iter().map(Input::Function))?;
                let selector = function.selector().0;
                self.add_function(Function::new(
                    function.name.clone(),
                    function.signature(),
                    selector,
                    params,
                ))?;
            }
            // Constructors, errors, fallback and receive never appear in a log or a call.
            _ => {}
        }
        Ok(())
    }

    fn add_event(&mut self, event: Event) {
        let same = self.by_topic0.entry(event.topic0).or_default();
        if same.iter().any(|index| self.events.get(*index).is_some_and(|known| **known == event)) {
            return;
        }
        same.push(self.events.len());
        self.events.push(Arc::new(event));
    }

    fn add_function(&mut self, function: Function) -> Result<(), String> {
        if let Some(index) = self.by_selector.get(&function.selector)
            && let Some(known) = self.functions.get(*index)
        {
            if known.signature == function.signature {
                return Ok(());
            }
            return Err(format!("it has the same selector as `{}`", known.signature));
        }
        self.by_selector.insert(function.selector, self.functions.len());
        self.functions.push(Arc::new(function));
        Ok(())
    }

    /// All events, in the ABI's order.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// All functions, in the ABI's order.
    pub fn functions(&self) -> &[Arc<Function>] {
        &self.functions
    }

    /// The events with a signature hash: several where only what is indexed differs.
    pub fn events_by_topic0(&self, topic0: &Hash) -> impl Iterator<Item = &Arc<Event>> {
        let indexes = self.by_topic0.get(topic0).into_iter().flatten();
        indexes.filter_map(|index| self.events.get(*index)).filter(|event| !event.anonymous)
    }

    /// The event of a name, or of a signature such as `Transfer(address, address, uint256)`.
    ///
    /// # Errors
    /// [`AbiError::Unknown`] with the nearest names; [`AbiError::Ambiguous`] with the signatures.
    pub fn event(&self, asked: &str) -> Result<&Arc<Event>, AbiError> {
        let entries = self.events.iter().map(|e| (e, e.name.as_str(), e.signature.as_str()));
        find("event", entries, asked)
    }

    /// The function of a name, or of a signature such as `transfer(address, uint256)`.
    ///
    /// # Errors
    /// [`AbiError::Unknown`] with the nearest names; [`AbiError::Ambiguous`] with the signatures.
    pub fn function(&self, asked: &str) -> Result<&Arc<Function>, AbiError> {
        let entries = self.functions.iter().map(|f| (f, f.name.as_str(), f.signature.as_str()));
        find("function", entries, asked)
    }

    /// Finds a log's event and decodes it. Anonymous events are tried last.
    ///
    /// # Errors
    /// [`DecodeError`] of the event that came nearest.
    pub fn decode_log(&self, log: &Log) -> Result<(Arc<Event>, Vec<Value>), DecodeError> {
        let mut first_error = None;
        let named = log.topics.first().into_iter().flat_map(|topic0| self.events_by_topic0(topic0));
        let anonymous = self.events.iter().filter(|event| event.anonymous && event.fits(log));
        for event in named.chain(anonymous) {
            match event.decode(log) {
                Ok(values) => return Ok((event.clone(), values)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| match log.topics.first() {
            Some(topic0) => DecodeError::UnknownEvent(*topic0),
            None => DecodeError::NoTopics,
        }))
    }

    /// Finds the function that call data calls and decodes its arguments.
    ///
    /// # Errors
    /// [`DecodeError`] when no function has the selector or the arguments do not decode.
    pub fn decode_call(&self, input: &Bytes) -> Result<(Arc<Function>, Vec<Value>), DecodeError> {
        let selector = selector(input)?;
        let function = self.by_selector.get(&selector).and_then(|index| self.functions.get(*index));
        let function = function.ok_or(DecodeError::UnknownFunction(selector))?;
        Ok((function.clone(), function.decode(input)?))
    }
}

enum Input<'a> {
    Event(&'a EventParam),
    Function(&'a JsonParam),
}

fn named_params<'a>(inputs: impl Iterator<Item = Input<'a>>) -> Result<Vec<Param>, String> {
    let mut params: Vec<Param> = Vec::new();
    for input in inputs {
        let (name, ty, components, indexed) = match input {
            Input::Event(p) => (&p.name, &p.ty, &p.components, p.indexed),
            Input::Function(p) => (&p.name, &p.ty, &p.components, false),
        };
        if params.len() == MAX_PARAMS {
            return Err(format!("it has more than {MAX_PARAMS} arguments"));
        }
        let ty = AbiType::parse(ty, tuple_fields(components)?)
            .map_err(|reason| format!("argument `{name}`: {reason}"))?;
        let name = free_name(name, params.len(), |name| params.iter().any(|p| p.name == name));
        params.push(Param { name, ty, indexed, location: Location::Data(0) });
    }
    Ok(params)
}

fn tuple_fields(components: &[JsonParam]) -> Result<Vec<TupleField>, String> {
    let mut fields: Vec<TupleField> = Vec::new();
    for component in components {
        if fields.len() == MAX_PARAMS {
            return Err(format!("a tuple has more than {MAX_PARAMS} members"));
        }
        let ty = AbiType::parse(&component.ty, tuple_fields(&component.components)?)
            .map_err(|reason| format!("member `{}`: {reason}", component.name))?;
        let taken = |name: &str| fields.iter().any(|field| field.name == name);
        fields.push(TupleField { name: free_name(&component.name, fields.len(), taken), ty });
    }
    Ok(fields)
}

/// A name that conditions can use: never empty, never twice.
fn free_name(name: &str, index: usize, taken: impl Fn(&str) -> bool) -> String {
    let mut free = if name.is_empty() { format!("arg{index}") } else { name.to_owned() };
    while taken(&free) {
        free = format!("{free}_{index}");
    }
    free
}

fn read(text: &str) -> Result<Json, AbiError> {
    match lines(text) {
        Some(entries) => Ok(Json::Array(entries)),
        None => serde_json::from_str(text)
            .map_err(|error| AbiError::NotAnAbi { reason: error.to_string() }),
    }
}

fn entries(json: Json) -> Result<Vec<Json>, AbiError> {
    match json {
        Json::Array(entries) => Ok(entries),
        Json::Object(mut object) => match object.remove("abi") {
            Some(Json::Array(entries)) => Ok(entries),
            Some(_) => Err(not_an_abi("its `abi` member is not an array")),
            None => Err(not_an_abi("the object has no `abi` member")),
        },
        _ => Err(not_an_abi("it is neither array nor object")),
    }
}

/// The first entry that makes the ABI wanted, as the text of an ABI of its own.
fn alone(text: &str, wanted: impl Fn(&Abi) -> bool) -> Result<String, AbiError> {
    for entry in entries(read(text)?)? {
        let one = Json::Array(vec![entry]);
        if wanted(&Abi::from_json(one.clone())?) {
            return Ok(one.to_string());
        }
    }
    Err(not_an_abi("an entry of it is not the same alone"))
}

/// The entries of an ABI that is written in lines; `None` when its first line is none.
fn lines(text: &str) -> Option<Vec<Json>> {
    const KINDS: [&str; 6] = ["event", "function", "constructor", "error", "fallback", "receive"];
    let mut lines = text
        .lines()
        .map(|line| line.trim().trim_end_matches(';'))
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .peekable();
    let first = lines.peek()?;
    let kind = first.split([' ', '(']).next().unwrap_or_default();
    KINDS.contains(&kind).then(|| lines.map(|line| Json::String(line.to_owned())).collect())
}

/// `function transfer`, as far as it can be read.
fn describe(entry: &Json) -> String {
    let text = |key| entry.get(key).and_then(Json::as_str);
    let shown = match (entry, text("type"), text("name")) {
        (Json::String(text), ..) => text.clone(),
        (_, Some(kind), Some(name)) => format!("{kind} {name}"),
        (_, Some(kind), None) => kind.to_owned(),
        (_, None, Some(name)) => format!("{name}, without a type"),
        _ => "neither type nor name".to_owned(),
    };
    shown.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn json_depth(json: &Json, left: usize) -> Option<()> {
    let left = left.checked_sub(1)?;
    match json {
        Json::Array(items) => items.iter().try_for_each(|item| json_depth(item, left)),
        Json::Object(members) => members.values().try_for_each(|item| json_depth(item, left)),
        _ => Some(()),
    }
}

fn not_an_abi(reason: &str) -> AbiError {
    AbiError::NotAnAbi { reason: reason.to_owned() }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `Transfer(address, uint)` → `Transfer(address,uint256)`, without argument names.
fn normalise(signature: &str) -> String {
    let mut normal = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, normal: &mut String| {
        // Of `address indexed from`, the type comes first.
        let first = word.split_whitespace().next().unwrap_or_default();
        let (base, suffix) = first.split_at(first.find('[').unwrap_or(first.len()));
        normal.push_str(match base {
            "uint" => "uint256",
            "int" => "int256",
            base => base,
        });
        normal.push_str(suffix);
        word.clear();
    };
    for character in signature.chars() {
        if matches!(character, '(' | ')' | ',') {
            flush(&mut word, &mut normal);
            normal.push(character);
        } else {
            word.push(character);
        }
    }
    flush(&mut word, &mut normal);
    normal
}

fn find<'a, T>(
    what: &'static str,
    entries: impl Iterator<Item = (&'a T, &'a str, &'a str)> + Clone,
    asked: &str,
) -> Result<&'a T, AbiError> {
    let by_signature = asked.contains('(');
    let wanted = if by_signature { normalise(asked) } else { asked.trim().to_owned() };
    let mut found =
        entries.clone().filter(
            |(_, name, signature)| {
                if by_signature { *signature == wanted } else { *name == wanted }
            },
        );
    let shown: String = asked.chars().take(120).collect();
    match (found.next(), found.next()) {
        (Some((entry, ..)), None) => Ok(entry),
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(found);
            let signatures = all.map(|(_, _, signature)| signature.to_owned()).collect();
            Err(AbiError::Ambiguous { what, name: shown, signatures })
        }
        (None, _) => {
            let base = wanted.split('(').next().unwrap_or_default();
            let base: String = base.chars().take(COMPARED).collect();
            let mut scored: Vec<(f64, &str)> = entries
                .filter(|(_, name, _)| name.len() <= COMPARED)
                .map(|(_, name, signature)| (strsim::jaro_winkler(name, &base), signature))
                .filter(|(score, _)| *score >= SIMILAR)
                .collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
            let nearest = scored.into_iter().take(NEAREST).map(|(_, s)| s.to_owned()).collect();
            Err(AbiError::Unknown { what, name: shown, nearest })
        }
    }
}

#[cfg(test)]
mod tests;
