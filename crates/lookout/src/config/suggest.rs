//! "Did you mean": the known key nearest to one that is not.

use super::Config;
use super::section::{Key, Kind, Section};
use super::tree::{Entry, Origin, Problem};

/// Most letters by which a suggestion may differ: more is a guess, not a typo.
const DISTANCE_MAX: usize = 3;

/// The problem with a key that is not among `siblings`.
pub(crate) fn unknown_key(siblings: &[Key], entry: &Entry) -> Problem {
    let nearest = nearest_path(&entry.path);
    let hint = match (&entry.origin, nearest) {
        (Origin::Variable(_), Some(path)) => format!("did you mean {}?", variable(&path)),
        (_, Some(path)) => format!("did you mean `{path}`?"),
        (_, None) => {
            let names: Vec<_> = siblings.iter().map(|key| key.name).collect();
            format!("known here: {}", names.join(", "))
        }
    };
    let what = match entry.origin {
        Origin::Variable(_) => "unknown variable",
        _ => "unknown key",
    };
    entry.problem(format!("{what}; {hint}"))
}

/// The environment variable of a key.
pub(crate) fn variable(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "").replace('-', "_");
    format!("LOOKOUT_{}", path.replace('.', "__").to_uppercase())
}

/// The known path nearest to an unknown one: a typo of it, or the same key in another section.
fn nearest_path(unknown: &str) -> Option<String> {
    let mut known = Vec::new();
    collect(<Config as Section>::KEYS, &[], &unknown.split('.').collect::<Vec<_>>(), &mut known);
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let distance = |path: &str| {
        let typo = strsim::damerau_levenshtein(unknown, path);
        let elsewhere = last(path) == last(unknown);
        if elsewhere { typo.min(DISTANCE_MAX) } else { typo }
    };
    let scored = known.into_iter().map(|path| (distance(&path), path));
    scored.filter(|(distance, _)| *distance <= DISTANCE_MAX).min().map(|(_, path)| path)
}

/// Every known path; names that users choose and list indexes are taken from the unknown one.
fn collect(keys: &[Key], prefix: &[&str], unknown: &[&str], known: &mut Vec<String>) {
    for key in keys {
        let mut path = prefix.to_vec();
        path.push(key.name);
        known.push(path.join("."));
        let theirs = unknown.get(path.len() - 1);
        match key.kind {
            Kind::Value(_) => {}
            Kind::Section(keys) => collect(keys, &path, unknown, known),
            Kind::Named(keys) => {
                path.push(unknown.get(path.len()).copied().unwrap_or("NAME"));
                collect(keys, &path, unknown, known);
            }
            Kind::List(keys) => {
                let indexed = theirs.filter(|name| name.starts_with(key.name));
                path.pop();
                path.push(indexed.copied().unwrap_or(key.name));
                collect(keys, &path, unknown, known);
            }
        }
    }
}
