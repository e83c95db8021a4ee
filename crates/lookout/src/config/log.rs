//! `[log]`: what is logged, and in which form.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use super::section::{Check, Kind, Setting, section};
use super::setting::{parsed, quoted, word_setting};
use super::tree::{Entry, Problem};

section! {
    /// What is logged.
    LogSection {
        /// `pretty` for people, `json` for collectors. Takes effect after a restart.
        format: LogFormat = LogFormat::Pretty,
        /// `error`, `warn`, `info`, `debug` or `trace`, also by part: `info,lookout_chain=debug`.
        /// `LOOKOUT_LOG` overrides it.
        level: LogLevel = LogLevel("info".to_owned()),
    }
}

impl Check for LogSection {}

word_setting! {
    /// Form of the log.
    LogFormat {
        /// For people.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
    }
}

/// A checked filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLevel(String);

impl LogLevel {
    /// The filter it stands for.
    pub(crate) fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A bare word that is no level would be taken for the name of a part and silence all else.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let mut parts = text.split(',').map(str::trim);
        let known = |part: &str| part.contains('=') || levels.contains(&part);
        if parts.all(known) && EnvFilter::try_new(text).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is not a log level; expected one of {}", levels.join(", ")))
    }
}

impl Setting for LogLevel {
    const KIND: Kind = Kind::Value("level");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        parsed(entry, "a level such as `info`")
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}
