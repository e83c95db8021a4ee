//! The configuration as it was written: values, each with where it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: a default, or something missing.
    None,
    /// In the file, lines and columns counted from 1.
    File { file: Arc<str>, line: usize, column: usize },
    /// In an environment variable.
    Variable(String),
}

/// What is wrong with the configuration, in one line that quotes no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    /// Dotted path of the key; empty when the file as a whole is wrong.
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { file, line, column } => write!(f, "{file}:{line}:{column}: ")?,
            Origin::Variable(variable) => return write!(f, "{variable}: {}", self.reason),
            Origin::None => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Problem {}

/// One value with its place. `Debug` is left out: values may be secret.
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    pub(crate) path: String,
}

pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Entry>),
    Table(BTreeMap<String, Entry>),
    /// From the environment: its type is that of the key it is for.
    Untyped(String),
    /// A type that no key has; its name.
    Other(&'static str),
}

impl Entry {
    /// An empty table that stands nowhere.
    pub(crate) fn empty() -> Self {
        Self { value: Value::Table(BTreeMap::new()), origin: Origin::None, path: String::new() }
    }

    /// A problem with this value.
    pub(crate) fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem { origin: self.origin.clone(), path: self.path.clone(), reason: reason.into() }
    }

    /// A problem with the key `name` of this table, at its place when it is there.
    pub(crate) fn problem_at(&self, name: &str, reason: impl Into<String>) -> Problem {
        match self.get(name) {
            Some(child) => child.problem(reason),
            None => Problem { path: self.child_path(name), ..self.problem(reason) },
        }
    }

    /// A value of the wrong type; says what it is, never what is in it.
    pub(crate) fn wrong_type(&self, expected: &str) -> Problem {
        let is = match &self.value {
            Value::Text(_) | Value::Untyped(_) => "text",
            Value::Integer(_) => "an integer",
            Value::List(_) => "a list",
            Value::Table(_) => "a section",
            Value::Bool(_) => "a boolean",
            Value::Other(name) => name,
        };
        self.problem(format!("expected {expected}, not {is}"))
    }

    /// The key `name` of this table.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(table) => table.get(name),
            _ => None,
        }
    }

    /// The keys of this table.
    pub(crate) fn table(&self) -> Result<&BTreeMap<String, Entry>, Problem> {
        match (&self.value, &self.origin) {
            (Value::Table(table), _) => Ok(table),
            (Value::Untyped(_), Origin::Variable(variable)) => Err(self.problem(format!(
                "`{}` is a section; set one of its keys, as in {variable}__KEY",
                self.path
            ))),
            _ => Err(self.wrong_type("a section")),
        }
    }

    /// The path of the key `name` of this table.
    pub(crate) fn child_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Reads a TOML text. Errors name the place and quote nothing.
pub(crate) fn parse(file: &str, text: &str) -> Result<Entry, Problem> {
    let reader = Reader { file: file.into(), text };
    match DeTable::parse(text) {
        Ok(root) => Ok(Entry {
            value: reader.table(root.get_ref(), "")?,
            origin: Origin::None,
            path: String::new(),
        }),
        Err(error) => Err(Problem {
            origin: reader.origin(error.span().map_or(0, |span| span.start)),
            path: String::new(),
            reason: error.message().lines().collect::<Vec<_>>().join(", "),
        }),
    }
}

struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Origin::File { file: Arc::clone(&self.file), line, column }
    }

    fn table(&self, table: &DeTable<'_>, path: &str) -> Result<Value, Problem> {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let origin = self.origin(key.span().start);
            let value = self.value(value.get_ref(), &path, &origin)?;
            entries.insert(name.to_string(), Entry { value, origin, path });
        }
        Ok(Value::Table(entries))
    }

    fn value(&self, value: &DeValue<'_>, path: &str, origin: &Origin) -> Result<Value, Problem> {
        Ok(match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(parsed.map_err(|_| Problem {
                    origin: origin.clone(),
                    path: path.to_owned(),
                    reason: "the number is too large".to_owned(),
                })?)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Array(items) => {
                let mut list = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let origin = self.origin(item.span().start);
                    let value = self.value(item.get_ref(), &path, &origin)?;
                    list.push(Entry { value, origin, path });
                }
                Value::List(list)
            }
            DeValue::Table(table) => self.table(table, path)?,
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
        })
    }
}
