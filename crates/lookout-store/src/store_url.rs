//! Where the store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lookout_types::Secret;
use url::Url;

/// The URL of a store, parsed. `Display` and `Debug` show no credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A private database that ends with the process; for tests.
    SqliteMemory,
    /// A SQLite file, created when missing.
    SqliteFile(PathBuf),
    /// A Postgres database.
    Postgres {
        /// The whole URL, with its password.
        url: Secret,
        /// Host, port and database, for people.
        shown: String,
    },
}

/// Text that is no store URL. Never quotes the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a store URL: {0}; expected sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE")]
pub struct StoreUrlError(String);

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason: String| Err(StoreUrlError(reason));
        let Some((scheme, rest)) = text.split_once(':') else {
            return wrong("it has no scheme".to_owned());
        };
        match scheme {
            "sqlite" => sqlite(rest),
            "postgres" | "postgresql" => postgres(text),
            // A scheme is a short word; anything else may be a password in the wrong place.
            _ if scheme.len() <= 16 && scheme.bytes().all(|b| b.is_ascii_lowercase()) => {
                wrong(format!("the scheme `{scheme}` is not supported"))
            }
            _ => wrong("the scheme is not supported".to_owned()),
        }
    }
}

fn sqlite(rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path == ":memory:" {
        return Ok(StoreUrl::SqliteMemory);
    }
    if path.is_empty() {
        return Err(StoreUrlError("it names no file".to_owned()));
    }
    if path.contains(['?', '\0']) {
        return Err(StoreUrlError("a file name may hold no `?`, and no options follow it".into()));
    }
    Ok(StoreUrl::SqliteFile(PathBuf::from(path)))
}

fn postgres(text: &str) -> Result<StoreUrl, StoreUrlError> {
    let url: Url = text.parse().map_err(|e: url::ParseError| StoreUrlError(e.to_string()))?;
    let database = url.path().trim_start_matches('/');
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let shown = format!("postgres://{}{port}/{database}", url.host_str().unwrap_or_default());
    Ok(StoreUrl::Postgres { url: Secret::new(text), shown })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SqliteMemory => f.write_str("sqlite::memory:"),
            Self::SqliteFile(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_parse() {
        let check = |text: &str, shown: &str| {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            url
        };
        check("sqlite::memory:", "sqlite::memory:");
        check("sqlite:lookout.db", "sqlite:lookout.db");
        let absolute = check("sqlite:///var/lib/lookout.db", "sqlite:/var/lib/lookout.db");
        assert_eq!(absolute, StoreUrl::SqliteFile("/var/lib/lookout.db".into()));
        check("postgresql://h/d", "postgres://h/d");
    }

    #[test]
    fn a_password_is_never_shown() {
        let text = "postgres://me:hunter2@db.example:5433/lookout?sslpassword=hunter3";
        let url: StoreUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), "postgres://db.example:5433/lookout");
        let debug = format!("{url:?}");
        assert!(!debug.contains("hunter"), "{debug}");
        for bad in ["postgres://me:hunter2@:x/", "hunter2://x", "hunter2", "Hunter2@x:y"] {
            let error = bad.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(!error.to_lowercase().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn wrong_ones_say_why() {
        for (text, reason) in [
            ("", "no scheme"),
            ("lookout.db", "no scheme"),
            ("mysql://localhost/x", "`mysql` is not supported"),
            ("sqlite:", "names no file"),
            ("sqlite:x.db?mode=ro", "no options"),
            ("postgres://h:99999/d", "invalid port"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest::proptest! {
        /// Wherever a password stands in the text, neither the URL nor the error shows it.
        #[test]
        fn no_text_shows_its_password(head in "[ -~]{0,12}", tail in "[ -~]{0,12}") {
            for text in [
                format!("postgres://{head}:hunter2@{tail}"),
                format!("postgres://h/d?{head}=hunter2&{tail}"),
                format!("{head}hunter2@{tail}"),
            ] {
                // In front of the first colon it would be the scheme, in a path or a file name
                // it is no password.
                let shown = match text.parse::<StoreUrl>() {
                    Ok(StoreUrl::SqliteMemory | StoreUrl::SqliteFile(_)) => continue,
                    Ok(url) => format!("{url} {url:?}"),
                    Err(error) => format!("{error} {error:?}"),
                };
                let as_path = head.contains(['/', '\\', '?', '#']);
                proptest::prop_assert!(as_path || !shown.contains("hunter2"), "{}", shown);
            }
        }
    }
}
