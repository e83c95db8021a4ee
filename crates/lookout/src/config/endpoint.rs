//! URLs of other servers; they may hold keys, so only scheme, host and port are ever shown.

use std::fmt;
use std::str::FromStr;

use lookout_chain::redact;
use url::Url;

use super::section::{Kind, Setting};
use super::setting::{parsed, quoted};
use super::tree::{Entry, Problem};

/// An `http` or `https` URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(pub(crate) Url);

/// Where a chain is read: `http`, `https`, `ws` or `wss`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(pub(crate) Url);

/// Text that is no such URL; never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("a text that is not a URL ({0}); expected {1}://HOST")]
    Url(url::ParseError, &'static str),
    #[error("a URL of a scheme that is not supported; expected {0}")]
    Scheme(String),
    #[error("a URL without a host")]
    Host,
}

fn parse(text: &str, schemes: &[&'static str]) -> Result<Url, EndpointError> {
    let first = schemes.first().copied().unwrap_or_default();
    let url = Url::parse(text).map_err(|e| EndpointError::Url(e, first))?;
    if !schemes.contains(&url.scheme()) {
        return Err(EndpointError::Scheme(schemes.join(", ")));
    }
    match url.host_str() {
        None | Some("") => Err(EndpointError::Host),
        Some(_) => Ok(url),
    }
}

macro_rules! endpoint {
    ($name:ident, $schemes:expr) => {
        impl FromStr for $name {
            type Err = EndpointError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, &$schemes).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&redact(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Setting for $name {
            const KIND: Kind = Kind::Value("URL");

            fn read(entry: &Entry) -> Result<Self, Problem> {
                let url: Result<Self, _> = parsed(entry, "a URL");
                url.map_err(|problem| Problem {
                    reason: format!("this is {}", problem.reason),
                    ..problem
                })
            }

            fn show(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    };
}
endpoint!(Endpoint, ["http", "https"]);
endpoint!(UpstreamUrl, ["https", "http", "wss", "ws"]);
