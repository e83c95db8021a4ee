//! Parts that tests need: where they are found, and what a missing one means.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Environment variable that, set to `all`, turns a missing part from a skip into a failure.
pub const REQUIRE: &str = "LOOKOUT_TEST_REQUIRE";

/// The one policy for missing parts: `None` is a loud skip, and a panic where all are required.
///
/// # Panics
/// When the part is missing and `LOOKOUT_TEST_REQUIRE=all`.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn require<T>(part: &str, found: Result<T>) -> Option<T> {
    let error = match found {
        Ok(found) => return Some(found),
        Err(error) => error,
    };
    let required = environment(REQUIRE).is_some_and(|value| value == "all");
    assert!(!required, "{REQUIRE}=all, but {part} is missing: {error:#}");
    eprintln!(
        "\n*** SKIPPED: {part} is missing: {error:#}\n*** (`make tools` fetches what can be fetched)\n"
    );
    None
}

/// The repository's root, where `Makefile` and `.cache` are.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// A file below `.cache/tools`, filled by `make tools`.
///
/// # Errors
/// When it is not there; the message names the script that fetches it.
pub fn tool(path: &str, script: &str) -> Result<PathBuf> {
    let found = repository().join(".cache/tools").join(path);
    if !found.exists() {
        bail!("no .cache/tools/{path}; fetch it with `{script}`");
    }
    Ok(found)
}

/// An executable of this name on the `PATH`.
///
/// # Errors
/// When there is none.
pub fn on_path(name: &str) -> Result<PathBuf> {
    let path = environment("PATH").context("PATH is not set")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("no `{name}` on the PATH"))
}

/// Recorded chain data, kept outside the repository because it is not the project's own.
///
/// # Errors
/// When the folder of `LOOKOUT_TEST_DATA` (default `../shared/data`) is not there.
pub fn recorded_data() -> Result<PathBuf> {
    let configured = environment("LOOKOUT_TEST_DATA").unwrap_or_else(|| "../shared/data".into());
    let folder = repository().join(configured);
    if !folder.is_dir() {
        bail!("no recorded blocks in {}; set LOOKOUT_TEST_DATA", folder.display());
    }
    Ok(folder)
}

/// A seed: `LOOKOUT_TEST_SEED` where set, else this test's own, so that runs repeat.
///
/// # Panics
/// When the variable is set to something that is no number.
pub fn seed(default: u64) -> u64 {
    environment("LOOKOUT_TEST_SEED")
        .map_or(default, |text| text.parse().expect("LOOKOUT_TEST_SEED is a number"))
}

#[expect(clippy::disallowed_methods, reason = "tests are configured by the environment, here only")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
