//! What the figures were measured on.

use lookout_test::part;
use tokio::process::Command;

/// The machine, the date and the versions, as they go above every table.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mb: u64,
    pub(crate) kernel: String,
    pub(crate) versions: String,
    pub(crate) pinned: bool,
}

impl Machine {
    pub(crate) async fn look(lookout: &std::path::Path, pinned: bool) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = field(&processors, "model name").unwrap_or("unknown processor").to_owned();
        let memory = read("/proc/meminfo");
        let kilobytes = field(&memory, "MemTotal").and_then(|text| text.split(' ').next());
        let mut versions = vec![said(Command::new(lookout).arg("--version")).await];
        versions.push(said(Command::new("rustc").arg("--version")).await);
        let lock = std::fs::read_to_string(part::repository().join("Cargo.lock"));
        for name in ["axum", "hyper", "tokio"] {
            let version = lock.as_deref().ok().and_then(|lock| locked(lock, name));
            versions.push(format!("{name} {}", version.unwrap_or("?")));
        }
        Self {
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])).await,
            processor: model,
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mb: kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions: versions.join(", "),
            pinned,
        }
    }
}

async fn said(command: &mut Command) -> String {
    match command.output().await {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => "?".to_owned(),
    }
}

/// The value behind the first `NAME :` of a file of the kernel's.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}

/// The version of a package in Cargo.lock.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_versions_are_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nMemTotal:   1024 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU"));
        assert_eq!(field(text, "MemTotal"), Some("1024 kB"));
        assert_eq!(field(text, "absent"), None);
        let lock = "[[package]]\nname = \"axum-core\"\nversion = \"0.5.2\"\n\n[[package]]\nname = \"axum\"\nversion = \"0.8.4\"\n";
        assert_eq!(locked(lock, "axum"), Some("0.8.4"));
    }
}
