//! Reads the files of `OpenZeppelin` Monitor: networks, monitors and triggers become rules and channels.
//!
//! Nothing is left out silently: whatever has no equivalent, or means something else here, is a
//! [`Finding`]. The shapes are those of version 1.6 of that program's documentation and examples.

mod expression;
mod message;
mod monitor;
mod network;
mod spelled;
mod trigger;

use std::collections::BTreeMap;
use std::fmt;

use lookout_types::ChainId;
use serde_json::{Map, Value};

use crate::document::RuleDocument;

/// Files of one kind: name and text of each.
pub type OzFolder = Vec<(String, String)>;

/// The files of an installation, by folder.
#[derive(Debug, Clone, Default)]
pub struct OzFiles {
    /// `networks/*.json`
    pub networks: OzFolder,
    /// `monitors/*.json`
    pub monitors: OzFolder,
    /// `triggers/*.json`
    pub triggers: OzFolder,
}

/// What the files became.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OzImport {
    /// Rules, each of which compiles. Their channels are slugs of [`OzImport::channels`].
    pub rules: Vec<ImportedRule>,
    /// Channels by slug.
    pub channels: BTreeMap<String, ImportedChannel>,
    /// What has no equivalent, or means something else.
    pub findings: Vec<Finding>,
}

/// A rule made of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRule {
    /// The monitor's file.
    pub file: String,
    /// The rule.
    pub document: RuleDocument,
    /// The chain that its network names.
    pub chain: ChainId,
    /// Whether the monitor was paused.
    pub paused: bool,
}

/// A channel made of a trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedChannel {
    /// The trigger's file.
    pub file: String,
    /// The body that `POST /v1/channels` takes. It may hold secrets.
    pub request: Value,
}

/// What became of a part that does not come over as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing was made of it.
    Dropped,
    /// What was made of it does something else.
    Changed,
    /// Somebody has to do something.
    Manual,
}

/// A part that does not come over as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The network, monitor or trigger; empty for the file itself.
    pub subject: String,
    /// What became of it.
    pub effect: Effect,
    /// What it is, and why.
    pub reason: String,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped",
            Self::Changed => "changed",
            Self::Manual => "to do",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, subject, effect, reason } = self;
        let space = if subject.is_empty() { "" } else { ": " };
        write!(f, "{file}{space}{subject}: {effect}: {reason}")
    }
}

/// Notes findings about one thing of one file.
#[derive(Debug)]
struct Notes<'a> {
    findings: &'a mut Vec<Finding>,
    file: &'a str,
    subject: &'a str,
}

impl Notes<'_> {
    fn add(&mut self, effect: Effect, reason: impl Into<String>) {
        let reason = reason.into().chars().filter(|c| !c.is_control()).collect();
        let (file, subject) = (self.file.to_owned(), self.subject.to_owned());
        let finding = Finding { file, subject, effect, reason };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// The objects of an array member; none when it is missing, `None` when it holds anything else.
    fn objects<'v>(
        &mut self,
        object: &'v Map<String, Value>,
        name: &str,
    ) -> Option<Vec<&'v Map<String, Value>>> {
        self.list(object, name, "objects", Value::as_object)
    }

    /// The texts of an array member, in the same way.
    fn texts<'v>(&mut self, object: &'v Map<String, Value>, name: &str) -> Option<Vec<&'v str>> {
        self.list(object, name, "texts", Value::as_str)
    }

    /// A text member; empty when it is missing, `None` when it is anything else.
    fn text<'v>(&mut self, object: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
        match object.get(name) {
            None | Some(Value::Null) => Some(""),
            Some(Value::String(text)) => Some(text.as_str()),
            Some(_) => {
                self.add(Effect::Dropped, format!("`{name}` is no text"));
                None
            }
        }
    }

    fn list<'v, T>(
        &mut self,
        object: &'v Map<String, Value>,
        name: &str,
        what: &str,
        of: impl Fn(&'v Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = match object.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(of).collect(),
            Some(_) => None,
        };
        if list.is_none() {
            self.add(Effect::Dropped, format!("`{name}` is no list of {what}"));
        }
        list
    }

    /// Names the members of an object that nobody reads, unless they hold nothing.
    fn unread(&mut self, object: &Map<String, Value>, read: &[&str]) {
        for (name, value) in object {
            if !read.contains(&name.as_str()) && !is_nothing(value) {
                self.add(Effect::Dropped, format!("`{name}` has no equivalent"));
            }
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Number(_) => false,
    }
}

/// Translates an installation. `chain_name` gives the name under which a chain is configured here.
pub fn import_oz(files: &OzFiles, chain_name: &dyn Fn(ChainId) -> Option<String>) -> OzImport {
    let mut import = OzImport::default();
    let mut networks = BTreeMap::new();
    for (file, object) in objects(&files.networks, &mut import.findings) {
        let subject = text(&object, "slug").to_owned();
        let mut notes = Notes { findings: &mut import.findings, file: &file, subject: &subject };
        if let Some(network) = network::read(&object, chain_name, &mut notes) {
            networks.insert(subject, network);
        }
    }
    let mut messages = BTreeMap::new();
    for (file, object) in objects(&files.triggers, &mut import.findings) {
        for (slug, value) in object {
            let mut notes = Notes { findings: &mut import.findings, file: &file, subject: &slug };
            let Value::Object(object) = value else {
                notes.add(Effect::Dropped, "the trigger is not a JSON object");
                continue;
            };
            if let Some(trigger) = trigger::read(&slug, &object, &mut notes) {
                messages.insert(slug.clone(), trigger.message);
                let channel = ImportedChannel { file: file.clone(), request: trigger.request };
                import.channels.insert(slug, channel);
            }
        }
    }
    let known = monitor::Known { networks: &networks, messages: &messages };
    for (file, object) in objects(&files.monitors, &mut import.findings) {
        let subject = text(&object, "name").to_owned();
        let mut notes = Notes { findings: &mut import.findings, file: &file, subject: &subject };
        import.rules.extend(monitor::read(&object, &known, &mut notes));
    }
    import
}

/// The files that hold JSON objects.
fn objects(folder: &OzFolder, findings: &mut Vec<Finding>) -> Vec<(String, Map<String, Value>)> {
    let mut objects = Vec::new();
    for (file, text) in folder {
        let reason = match serde_json::from_str(text) {
            Ok(Value::Object(object)) => {
                objects.push((file.clone(), object));
                continue;
            }
            Ok(_) => "the file holds no JSON object".to_owned(),
            Err(error) => format!("the file holds no JSON: {error}"),
        };
        Notes { findings: &mut *findings, file, subject: "" }.add(Effect::Dropped, reason);
    }
    objects
}

/// A text member; empty when it is missing.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of an array member; none when it is missing.
fn items<'a>(object: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
