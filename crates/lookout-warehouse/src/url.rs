//! Where the warehouse is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The URL of a warehouse, parsed. `Display` and `Debug` show no credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum WarehouseUrl {
    /// A private database that ends with the process; for tests.
    SqliteMemory,
    /// A SQLite file, created when missing.
    SqliteFile(PathBuf),
    /// A ClickHouse server; credentials are not even kept until it is supported.
    ClickHouse {
        /// Host, port and database, for people.
        shown: String,
    },
}

/// Text that is no warehouse URL. Never quotes the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a warehouse URL: {0}; expected sqlite:FILE or clickhouse://HOST:PORT/DATABASE")]
pub struct WarehouseUrlError(String);

impl FromStr for WarehouseUrl {
    type Err = WarehouseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason: String| Err(WarehouseUrlError(reason));
        let Some((scheme, rest)) = text.split_once(':') else {
            return wrong("it has no scheme".to_owned());
        };
        match scheme {
            "sqlite" => sqlite(rest),
            "clickhouse" => Ok(Self::ClickHouse { shown: without_credentials(rest) }),
            // A scheme is a short word; anything else may be a password in the wrong place.
            _ if scheme.len() <= 16 && scheme.bytes().all(|b| b.is_ascii_lowercase()) => {
                wrong(format!("the scheme `{scheme}` is not supported"))
            }
            _ => wrong("the scheme is not supported".to_owned()),
        }
    }
}

fn sqlite(rest: &str) -> Result<WarehouseUrl, WarehouseUrlError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path == ":memory:" {
        return Ok(WarehouseUrl::SqliteMemory);
    }
    if path.is_empty() {
        return Err(WarehouseUrlError("it names no file".to_owned()));
    }
    if path.contains(['?', '\0']) {
        let reason = "a file name may hold no `?`, and no options follow it";
        return Err(WarehouseUrlError(reason.to_owned()));
    }
    Ok(WarehouseUrl::SqliteFile(PathBuf::from(path)))
}

/// `//user:password@host:port/database?options` without user, password and options.
fn without_credentials(rest: &str) -> String {
    let rest = rest.trim_start_matches('/');
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    format!("clickhouse://{rest}")
}

impl fmt::Display for WarehouseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SqliteMemory => f.write_str("sqlite::memory:"),
            Self::SqliteFile(path) => write!(f, "sqlite:{}", path.display()),
            Self::ClickHouse { shown } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for WarehouseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WarehouseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_parses_and_shows_no_password() {
        for (text, shown) in [
            ("sqlite::memory:", "sqlite::memory:"),
            ("sqlite:events.db", "sqlite:events.db"),
            ("sqlite:///var/lib/events.db", "sqlite:/var/lib/events.db"),
            ("clickhouse://me:hunter2@h:8123/d?password=hunter3", "clickhouse://h:8123/d"),
        ] {
            let url: WarehouseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("WarehouseUrl({shown})"));
        }
    }

    #[test]
    fn wrong_ones_say_why_and_never_quote_a_password() {
        for (text, reason) in [
            ("", "no scheme"),
            ("events.db", "no scheme"),
            ("mysql://hunter2@localhost/x", "`mysql` is not supported"),
            ("Hunter2:x", "the scheme is not supported"),
            ("sqlite:", "names no file"),
            ("sqlite:x.db?mode=ro", "no options"),
        ] {
            let error = text.parse::<WarehouseUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.to_lowercase().contains("hunter"), "{error}");
        }
    }
}
