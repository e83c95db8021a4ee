//! The house rules that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lookout_test::part::repository;

/// Longest file that is not a test.
const FILE_LINES_MAX: usize = 500;
/// Longest function; clippy holds the same for what it counts.
const FUNCTION_LINES_MAX: usize = 70;

/// Which crates are how far from the binary: an edge must lead to a lower tier, never sideways.
const TIERS: [(&str, u8); 16] = [
    ("lookout-types", 0),
    // What contracts say, for the pure crates that read it.
    ("lookout-abi", 1),
    ("lookout-ledger", 2),
    ("lookout-rules", 2),
    ("lookout-notary", 2),
    ("lookout-store", 3),
    ("lookout-bus", 3),
    ("lookout-warehouse", 3),
    ("lookout-chain", 3),
    ("lookout-ingest", 4),
    ("lookout-notify", 4),
    ("lookout-jobs", 4),
    ("lookout-api", 4),
    ("lookout", 5),
    // Development only: nothing may depend on it but tests.
    ("lookout-test", 6),
    ("lookout-bench", 6),
];

/// Heavy dependencies by the start of their names, and the crates that may know them.
const CONFINED: [(&str, &[&str]); 9] = [
    ("axum", &["lookout-api"]),
    ("sqlx", &["lookout-store"]),
    ("rdkafka", &["lookout-bus"]),
    ("clickhouse", &["lookout-warehouse"]),
    ("rusqlite", &["lookout-warehouse"]),
    // Of the tests' crate only the builder of blocks needs it, for roots and encodings.
    ("alloy", &["lookout-abi", "lookout-chain", "lookout-notary", "lookout-test"]),
    ("bitcoin", &["lookout-chain", "lookout-notary"]),
    ("bdk", &["lookout-chain"]),
    ("miniscript", &["lookout-chain"]),
];

struct Manifest {
    name: String,
    table: toml::Table,
}

fn manifests() -> Vec<Manifest> {
    let crates = std::fs::read_dir(repository().join("crates")).unwrap();
    let manifests: Vec<_> = crates
        .map(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path().join("Cargo.toml")).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let name = table["package"]["name"].as_str().unwrap().to_owned();
            Manifest { name, table }
        })
        .collect();
    assert!(manifests.len() >= 6, "crates are missing");
    manifests
}

impl Manifest {
    fn names(&self, section: &str) -> Vec<String> {
        let table = self.table.get(section).and_then(toml::Value::as_table);
        table.into_iter().flat_map(|table| table.keys().cloned()).collect()
    }
}

fn tier(name: &str) -> u8 {
    let found = TIERS.iter().find(|(of, _)| *of == name);
    found.unwrap_or_else(|| panic!("{name} has no tier yet; give it one in tidy.rs")).1
}

#[test]
fn crates_depend_downwards_only() {
    for manifest in manifests() {
        let own = tier(&manifest.name);
        for dependency in manifest.names("dependencies") {
            if dependency.starts_with("lookout") {
                let theirs = tier(&dependency);
                assert!(theirs < own, "{} may not depend on {dependency}", manifest.name);
            }
        }
    }
}

#[test]
fn heavy_dependencies_stay_where_they_belong() {
    for manifest in manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for dependency in manifest.names(section) {
                let confined = CONFINED.iter().find(|(start, _)| dependency.starts_with(start));
                if let Some((_, allowed)) = confined {
                    let right = allowed.contains(&manifest.name.as_str());
                    assert!(right, "{dependency} belongs to {allowed:?}, not {}", manifest.name);
                }
            }
        }
    }
}

#[test]
fn every_dependency_says_why() {
    let text = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let section = text.split("[workspace.dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let mut explained: Option<String> = None;
    let mut after_comment = false;
    for line in section.lines() {
        if line.starts_with('#') {
            // A ruler between groups explains nothing.
            after_comment = !line.starts_with("# ---");
        } else if let Some((name, _)) = line.split_once(" = ") {
            // Crates of one family share the reason of the first.
            let family = name.split(['-', '_']).next().unwrap().to_owned();
            let own = name.starts_with("lookout");
            let right = own || after_comment || explained.as_ref() == Some(&family);
            assert!(right, "Cargo.toml does not say why `{name}` is there");
            explained = Some(family);
            after_comment = false;
        } else {
            (explained, after_comment) = (None, false);
        }
    }
}

/// All files below a folder with this ending, as paths from the repository's root.
fn files(below: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let skipped = ["target", ".git", ".cache", "node_modules"].contains(&name.as_str());
            if skipped {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                // Pictures and the like have no words.
                if let Ok(text) = std::fs::read_to_string(&path) {
                    found.push((path.strip_prefix(repository()).unwrap().to_owned(), text));
                }
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {below}");
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

#[test]
fn files_open_with_what_they_are_and_stay_short() {
    for (path, text) in files("crates", ".rs") {
        let shown = path.display();
        assert!(text.starts_with("//! "), "{shown} does not open with `//!`");
        let own = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = own.lines().count();
        assert!(is_test(&path) || lines <= FILE_LINES_MAX, "{shown} has {lines} lines");
        for vague in ["utils", "helpers", "common"] {
            let stem = path.file_stem().unwrap();
            assert!(stem != vague, "{shown}: say what it is about");
        }
    }
}

#[test]
fn functions_stay_short() {
    for (path, text) in files("crates", ".rs") {
        for (name, lines) in functions(&text) {
            let shown = path.display();
            assert!(lines <= FUNCTION_LINES_MAX, "{shown}: `{name}` has {lines} lines");
        }
    }
}

/// Functions with the number of lines between their braces. In formatted code a body ends at the
/// first closing brace that is indented as its `fn` is.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> = code.split_whitespace().collect();
        let Some(position) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifier =
            |word: &&str| word.starts_with("pub") || ["const", "async", "crate)"].contains(word);
        if !words[..position].iter().all(qualifier) {
            continue;
        }
        let indent = " ".repeat(line.len() - code.len());
        let end = format!("{indent}}}");
        let opens = lines[at..].iter().position(|line| line.ends_with('{'));
        let ends_early =
            lines[at..].iter().position(|line| line.ends_with(';') || line.ends_with('}'));
        let Some(opens) = opens.filter(|opens| ends_early.is_none_or(|early| early >= *opens))
        else {
            continue;
        };
        let body = &lines[at + opens + 1..];
        let name = words.get(position + 1).copied().unwrap_or_default();
        // A macro's `fn $name` is no function yet.
        if name.starts_with('$') {
            continue;
        }
        if let Some(length) = body.iter().position(|line| *line == end) {
            found.push((name.split(['(', '<']).next().unwrap().to_owned(), length));
        }
    }
    found
}

#[test]
fn the_ruler_measures() {
    let code = "fn one() {\n    1\n}\n\nimpl X {\n    pub(crate) async fn two(\n        a: u8,\n    ) -> u8 {\n        a;\n        if a {\n        }\n    }\n    fn none(&self);\n}\n";
    let expected = [("one".to_owned(), 1), ("two".to_owned(), 3)];
    assert_eq!(functions(code), expected);
}

#[test]
fn nothing_of_where_it_was_made_is_left() {
    // In two halves each, so that this file does not hold them itself.
    let words = [
        ["/wo", "rk/"],
        ["/tm", "p/wt"],
        ["registry.npm", "js.org"],
        ["files.python", "hosted.org"],
        ["py", "pi.org"],
        ["static.cra", "tes.io"],
        ["index.cra", "tes.io"],
        ["repo.ma", "ven.apache.org"],
        ["repo1.ma", "ven.org"],
        ["deb.deb", "ian.org"],
    ]
    .map(|halves| halves.concat());
    for (path, text) in files(".", "") {
        for word in &words {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
}

#[test]
fn every_task_is_described() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).unwrap();
    let described: BTreeMap<&str, &str> = makefile
        .lines()
        .filter_map(|line| {
            line.split_once(": ")?.0.split_whitespace().next().zip(line.split_once("## "))
        })
        .map(|(target, (_, about))| (target, about))
        .collect();
    let phony: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "))
        .flat_map(str::split_whitespace)
        .collect();
    let documents = ["README.md", "CONTRIBUTING.md"]
        .map(|name| std::fs::read_to_string(repository().join(name)).unwrap_or_default())
        .concat();
    for target in ["demo", "test", "lint", "services", "bench", "run", "help", "tools"] {
        assert!(phony.contains(target), "the Makefile has no `{target}`");
    }
    for target in &phony {
        let about = described.get(target).copied().unwrap_or_default();
        assert!(!about.is_empty(), "`make {target}` has no description behind ##");
        let named = documents.contains(&format!("make {target}"));
        assert!(named, "neither README.md nor CONTRIBUTING.md names `make {target}`");
    }
}
