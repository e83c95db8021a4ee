//! `[server]`: where HTTP is served and what a request may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::section::{Check, Kind, Setting, section};
use super::setting::{Millis, quoted_list, texts};
use super::tree::{Entry, Problem};

section! {
    /// Where HTTP is served and what a request may be.
    ServerSection {
        /// Address and port to listen on; port 0 takes a free one. Beyond loopback it needs an
        /// API key, `auth.anonymous` or `auth.oidc`. Takes effect after a restart.
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
        /// Largest request body in bytes; a larger one is answered with 413.
        body_bytes_max: usize = 2 << 20,
        /// Most calls in one JSON-RPC batch.
        batch_max: usize = 100,
        /// Longest that one request may take, in milliseconds. Keep it above the chains' own
        /// `request_timeout_ms`, whose error says more.
        request_timeout_ms: Millis = Millis(Duration::from_secs(30)),
        /// Proxies whose `X-Forwarded-For` is believed: addresses or blocks such as `10.0.0.0/8`.
        trusted_proxies: Proxies = Proxies::default(),
        /// Web origins whose pages may call the API, such as `https://app.example`; `*` for all.
        cors_origins: WebOrigins = WebOrigins::default(),
    }
}

impl Check for ServerSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        for (key, value) in [("body_bytes_max", self.body_bytes_max), ("batch_max", self.batch_max)]
        {
            if value == 0 {
                return Err(entry.problem_at(key, "0 allows no request; expected at least 1"));
            }
        }
        Ok(())
    }
}

/// Addresses and CIDR blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Proxies(pub(crate) Vec<String>);

impl Setting for Proxies {
    const KIND: Kind = Kind::Value("list of addresses");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let check = |(item, text): (&Entry, &str)| {
            if is_network(text) {
                return Ok(text.to_owned());
            }
            Err(item.problem(format!("`{text}` is not an address or a block such as 10.0.0.0/8")))
        };
        texts(entry, "an address")?.into_iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Option<String> {
        Some(quoted_list(self.0.iter().map(String::as_str)))
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= bits))
}

/// Origins of web pages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WebOrigins(pub(crate) Vec<String>);

impl Setting for WebOrigins {
    const KIND: Kind = Kind::Value("list of origins");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let check = |(item, text): (&Entry, &str)| {
            if text == "*" || is_origin(text) {
                return Ok(text.to_owned());
            }
            Err(item.problem(format!(
                "`{text}` is not a web origin: expected scheme://host[:port] and nothing after it"
            )))
        };
        texts(entry, "an origin")?.into_iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Option<String> {
        Some(quoted_list(self.0.iter().map(String::as_str)))
    }
}

/// Whether a browser would send the text as an `Origin`, which is compared letter by letter.
fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}
