//! Rule files, with the ABIs and labels that lie beside them.

use std::collections::BTreeMap;
use std::path::Path;

use lookout_rules::{RuleDocument, builtin_abi};
use lookout_types::Address;
use serde_json::Value;

/// Largest file that is read, in bytes: an ABI with room to spare.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A rule of a file, with what it refers to.
pub(super) struct Named {
    pub(super) file: String,
    pub(super) document: RuleDocument,
    pub(super) abi: Option<String>,
    pub(super) labels: BTreeMap<String, Vec<Address>>,
}

/// The text of a file within the limit.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("`{shown}` has {size} bytes, the limit is {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The rules of a file: one, or a list of them.
pub(super) fn read(path: &Path) -> Vec<Result<Named, String>> {
    let file = path.display().to_string();
    let documents = match text(path).and_then(|text| parse(&file, &text)) {
        Ok(documents) => documents,
        Err(reason) => return vec![Err(reason)],
    };
    let documents = documents.into_iter();
    documents.map(|document| document.and_then(|it| with_references(path, &file, it))).collect()
}

fn parse(file: &str, text: &str) -> Result<Vec<Result<RuleDocument, String>>, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("{file} is no JSON: {e}"))?;
    let Value::Array(items) = value else {
        // From the text, so that the error has a line and a column.
        let document = serde_json::from_str(text);
        return Ok(vec![document.map_err(|error| format!("{file} is no rule: {error}"))]);
    };
    let rules = items.into_iter().enumerate().map(|(index, item)| {
        serde_json::from_value(item)
            .map_err(|error| format!("{file}, item {index} is no rule: {error}"))
    });
    Ok(rules.collect())
}

fn with_references(path: &Path, file: &str, document: RuleDocument) -> Result<Named, String> {
    let place = |reason: String| format!("{file}, rule `{}`: {reason}", document.name);
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let abi = match document.abi() {
        None => None,
        Some(name) => match builtin_abi(name) {
            Some(text) => Some(text.to_owned()),
            None => Some(uploaded(folder, name).map_err(place)?),
        },
    };
    let mut labels = BTreeMap::new();
    let names = document.label_names();
    if !names.is_empty() {
        let mut known = labels_of(&folder.join("labels.json")).map_err(place)?;
        for name in names {
            // One that is missing is told by the compiler, with its place.
            if let Some(addresses) = known.remove(&name) {
                labels.insert(name, addresses);
            }
        }
    }
    Ok(Named { file: file.to_owned(), document, abi, labels })
}

fn uploaded(folder: &Path, name: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        let shown: String = name.escape_debug().take(80).collect();
        return Err(format!("`{shown}` is no name of an ABI"));
    }
    text(&folder.join(format!("{name}.json"))).map_err(|reason| {
        format!("ABI `{name}` is not built in, and its file beside the rule is missing: {reason}")
    })
}

fn labels_of(path: &Path) -> Result<BTreeMap<String, Vec<Address>>, String> {
    let shown = path.display();
    let text = text(path)
        .map_err(|reason| format!("the labels that it uses stand in a file beside it: {reason}"))?;
    let texts: BTreeMap<String, Vec<String>> = serde_json::from_str(&text)
        .map_err(|error| format!("`{shown}` holds no lists of addresses by name: {error}"))?;
    let sets = texts.into_iter().map(|(name, set)| {
        let set = set.iter().map(|text| {
            text.parse().map_err(|error| format!("`{shown}`, label `{name}`, `{text}`: {error}"))
        });
        Ok((name.clone(), set.collect::<Result<_, String>>()?))
    });
    sets.collect()
}
