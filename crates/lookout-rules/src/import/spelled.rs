//! Entries of a JSON ABI as human-readable signatures, and the types behind a path of names.

use serde_json::{Map, Value};

use super::{items, text};

/// One argument, or one member of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) name: String,
    /// As the ABI writes it: `tuple` and `tuple[]` for structs.
    pub(super) ty: String,
    pub(super) members: Vec<Argument>,
}

/// An entry of an ABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `event Transfer(address indexed from, …)`
    pub(super) human: String,
    /// `Transfer(address,address,uint256)`
    pub(super) signature: String,
    pub(super) arguments: Vec<Argument>,
}

/// Deepest struct within a struct that is read; contracts have three.
const DEPTH_MAX: usize = 16;

/// The entry of a kind with a signature in an ABI.
pub(super) fn find(abi: &[Value], kind: &str, signature: &str) -> Option<Entry> {
    let wanted = normal(signature);
    let entries = abi.iter().filter_map(Value::as_object);
    let mut entries = entries.filter(|entry| text(entry, "type") == kind);
    entries.find_map(|entry| spell(entry, kind).filter(|entry| entry.signature == wanted))
}

/// Without spaces, with whole type names.
pub(super) fn normal(signature: &str) -> String {
    let mut normal = String::new();
    let mut word = String::new();
    for character in signature.chars().filter(|c| !c.is_whitespace()).chain(['\0']) {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        normal.push_str(match word.as_str() {
            "uint" => "uint256",
            "int" => "int256",
            word => word,
        });
        word.clear();
        if character != '\0' {
            normal.push(character);
        }
    }
    normal
}

fn spell(entry: &Map<String, Value>, kind: &str) -> Option<Entry> {
    let name = text(entry, "name");
    let mut human = Vec::new();
    let mut types = Vec::new();
    let mut arguments = Vec::new();
    for (index, input) in items(entry, "inputs").iter().enumerate() {
        let input = input.as_object()?;
        let argument = argument(input, index, DEPTH_MAX)?;
        let indexed = input.get("indexed").and_then(Value::as_bool).unwrap_or_default();
        let word = if indexed { " indexed" } else { "" };
        let shown = text(input, "name");
        let space = if shown.is_empty() { "" } else { " " };
        human.push(format!("{}{word}{space}{shown}", argument.human_type()));
        types.push(argument.plain_type());
        arguments.push(argument);
    }
    let anonymous = entry.get("anonymous").and_then(Value::as_bool).unwrap_or_default();
    let end = if anonymous { " anonymous" } else { "" };
    Some(Entry {
        human: format!("{kind} {name}({}){end}", human.join(", ")),
        signature: format!("{name}({})", types.join(",")),
        arguments,
    })
}

fn argument(input: &Map<String, Value>, index: usize, left: usize) -> Option<Argument> {
    let left = left.checked_sub(1)?;
    let members = items(input, "components").iter().enumerate();
    let members = members.map(|(index, member)| argument(member.as_object()?, index, left));
    let name = match text(input, "name") {
        // As Lookout calls an argument without a name.
        "" => format!("arg{index}"),
        name => name.to_owned(),
    };
    Some(Argument {
        name,
        ty: text(input, "type").to_owned(),
        members: members.collect::<Option<_>>()?,
    })
}

impl Argument {
    fn human_type(&self) -> String {
        match self.ty.strip_prefix("tuple") {
            None => self.ty.clone(),
            Some(suffix) => {
                let members = self.members.iter().map(|m| format!("{} {}", m.human_type(), m.name));
                format!("({}){suffix}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn plain_type(&self) -> String {
        match self.ty.strip_prefix("tuple") {
            None => normal(&self.ty),
            Some(suffix) => {
                let members: Vec<_> = self.members.iter().map(Self::plain_type).collect();
                format!("({}){suffix}", members.join(","))
            }
        }
    }

    /// The item of a list.
    pub(super) fn item(&self) -> Option<Self> {
        let inner = self.ty.strip_suffix(']')?;
        let ty = inner.get(..inner.rfind('[')?)?.to_owned();
        Some(Self { ty, ..self.clone() })
    }

    /// A member of a struct by name, or by position.
    pub(super) fn member(&self, key: &str) -> Option<&Self> {
        let by_name = self.members.iter().find(|member| member.name == key);
        by_name.or_else(|| key.parse().ok().and_then(|at: usize| self.members.get(at)))
    }
}
