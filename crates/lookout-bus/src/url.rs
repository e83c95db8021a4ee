//! Where the bus is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The folder of `local:`, beside the other files of a default installation.
const LOCAL_FOLDER: &str = "lookout-frames";

/// The URL of a bus, parsed. `Display` and `Debug` show no credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum BusUrl {
    /// A folder of this machine, for consumers in this process.
    Local(PathBuf),
    /// A Kafka cluster; credentials are not even kept until it is supported.
    Kafka {
        /// Host, port and prefix, for people.
        shown: String,
    },
}

/// Text that is no bus URL. Never quotes the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a bus URL: {0}; expected local:, local:FOLDER or kafka://HOST:PORT/PREFIX")]
pub struct BusUrlError(&'static str);

impl FromStr for BusUrl {
    type Err = BusUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None => Err(BusUrlError("it has no scheme")),
            Some(("local", rest)) => {
                let folder = rest.strip_prefix("//").unwrap_or(rest);
                if folder.contains(['?', '\0']) {
                    return Err(BusUrlError("a folder may hold no `?`, and no options follow it"));
                }
                let folder = if folder.is_empty() { LOCAL_FOLDER } else { folder };
                Ok(Self::Local(PathBuf::from(folder)))
            }
            Some(("kafka", rest)) => {
                let rest = rest.trim_start_matches('/');
                let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                Ok(Self::Kafka { shown: format!("kafka://{rest}") })
            }
            Some(_) => Err(BusUrlError("the scheme is not supported")),
        }
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(folder) => write!(f, "local:{}", folder.display()),
            Self::Kafka { shown } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_parses_and_shows_no_password() {
        for (text, shown) in [
            ("local:", "local:lookout-frames"),
            ("local:data/frames", "local:data/frames"),
            ("local:///var/frames", "local:/var/frames"),
            ("kafka://me:hunter2@h:9092/lookout?x=hunter3", "kafka://h:9092/lookout"),
        ] {
            let url: BusUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("BusUrl({shown})"));
        }
        for (text, reason) in [
            ("local", "no scheme"),
            ("redis://hunter2@h", "not supported"),
            ("local:x?y=1", "no options"),
        ] {
            let error = text.parse::<BusUrl>().unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("hunter"), "{error}");
        }
    }
}
