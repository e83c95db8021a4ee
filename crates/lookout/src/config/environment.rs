//! Environment variables laid over the file: `LOOKOUT_SERVER__LISTEN` is `server.listen`.

use std::collections::BTreeMap;

use super::tree::{Entry, Origin, Problem, Value};

/// What every variable of Lookout starts with.
const PREFIX: &str = "LOOKOUT_";
/// Variables that are no configuration keys: the file's own path and the log filter.
const NOT_KEYS: [&str; 2] = ["LOOKOUT_CONFIG", "LOOKOUT_LOG"];
/// Read by the test suite only.
const TEST_PREFIX: &str = "LOOKOUT_TEST_";

/// The environment, read once at start: nothing changes it afterwards.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own. Variables that are not UTF-8 are left out, unless they are Lookout's.
    pub(crate) fn of_process() -> Result<Self, Problem> {
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            match value.into_string() {
                Ok(value) => variables.insert(name.to_owned(), value),
                Err(_) if name.starts_with(PREFIX) => {
                    return Err(Problem {
                        origin: Origin::Variable(name.to_owned()),
                        path: String::new(),
                        reason: "the value is not UTF-8".to_owned(),
                    });
                }
                Err(_) => continue,
            };
        }
        Ok(Self(variables))
    }

    /// The value of a variable; an empty one counts as not set, as compose files leave them.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Puts every variable that is a key into the tree, over what the file says.
    pub(crate) fn lay_over(&self, root: &mut Entry) -> Result<(), Problem> {
        for (variable, value) in &self.0 {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            if NOT_KEYS.contains(&variable.as_str()) || variable.starts_with(TEST_PREFIX) {
                continue;
            }
            let mut path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
            if let [section, chain, ..] = path.as_mut_slice()
                && section == "chains"
            {
                // A variable's name cannot hold the dash that a chain's name may.
                *chain = chain.replace('_', "-");
            }
            put(root, &path, variable, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
    }
}

fn put(entry: &mut Entry, path: &[String], variable: &str, value: &str) -> Result<(), Problem> {
    let origin = Origin::Variable(variable.to_owned());
    let Some((name, rest)) = path.split_first() else {
        entry.value = Value::Untyped(value.to_owned());
        entry.origin = origin;
        return Ok(());
    };
    let path = entry.child_path(name);
    match &mut entry.value {
        Value::Table(table) => {
            let child = table.entry(name.clone()).or_insert_with(|| Entry {
                value: Value::Table(BTreeMap::new()),
                origin,
                path,
            });
            put(child, rest, variable, value)
        }
        Value::List(list) => {
            let index = name.parse::<usize>().ok().filter(|index| *index < list.len());
            match index.and_then(|index| list.get_mut(index)) {
                Some(child) => put(child, rest, variable, value),
                None => Err(Problem {
                    origin,
                    path,
                    reason: format!("`{}` has no item `{name}`", entry.path),
                }),
            }
        }
        _ => Err(Problem {
            origin,
            path,
            reason: format!("`{}` is a single value, not a section", entry.path),
        }),
    }
}
