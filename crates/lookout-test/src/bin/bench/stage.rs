//! Programs that measure one part alone: run to their end, and their figures read from what they say.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::report::Figure;

/// Longest run of one of them: the slowest takes half a minute on two idle cores.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// What a program printed.
///
/// # Errors
/// When it cannot be run, fails or does not end.
pub(crate) async fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(ENDS_WITHIN, command.output())
        .await
        .with_context(|| format!("{name} does not end"))?
        .with_context(|| format!("cannot run {name}"))?;
    let wrong = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {wrong}");
    String::from_utf8(output.stdout).with_context(|| format!("{name} prints no text"))
}

/// What stands between two texts, the first of them at its first place.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> Result<&'a str> {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    let (found, _) = found.with_context(|| format!("no `{before}…{after}` in: {text}"))?;
    Ok(found.trim())
}

/// The number there.
pub(crate) fn number(text: &str, before: &str, after: &str) -> Result<f64> {
    let found = between(text, before, after)?;
    found.parse().with_context(|| format!("not a number: {found}"))
}

/// Seconds of a duration as Rust prints it: `1.5s`, `20.0ms`, `7µs`, `9ns`.
pub(crate) fn seconds(text: &str) -> Result<f64> {
    let unit =
        text.find(|c: char| c.is_alphabetic()).with_context(|| format!("no unit: {text}"))?;
    let (value, unit) = text.split_at(unit);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        other => anyhow::bail!("{other} is not a unit of time"),
    };
    let value: f64 = value.parse().with_context(|| format!("not a duration: {text}"))?;
    Ok(value * scale)
}

/// How busy the machine was in the last minute, for the notes of figures that other work disturbs.
pub(crate) fn load() -> String {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", told.split(' ').next().filter(|l| !l.is_empty()).unwrap_or("?"))
}

/// The largest memory that a process has used so far, in megabytes of a million; `None` once it is gone.
pub(crate) fn peak_megabytes(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(Figure::megabytes(kilobytes * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_programs_say() {
        let said = "insert: 500000 in 1.25s, 400000 a second; memory 60 MiB\nreorg: 20.5ms\n";
        assert_eq!(number(said, "s, ", " a second").unwrap(), 400_000.0);
        assert_eq!(seconds(between(said, "reorg: ", "\n").unwrap()).unwrap(), 0.0205);
        assert_eq!(seconds("1.5s").unwrap(), 1.5);
        assert_eq!(seconds("900µs").unwrap(), 900.0 * 1e-6);
        assert!(seconds("12").is_err() && seconds("1.5h").is_err());
        assert!(between(said, "undo: ", "\n").is_err() && number(said, "insert", "\n").is_err());
    }

    #[test]
    fn a_process_has_a_peak_until_it_is_gone() {
        assert!(peak_megabytes(std::process::id()).unwrap() > 0.0);
        assert_eq!(peak_megabytes(u32::MAX), None);
        assert!(load().starts_with("load average "));
    }
}
