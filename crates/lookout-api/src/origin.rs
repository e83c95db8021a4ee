//! While everybody may do everything, only this machine's own pages and programs may call.
//!
//! A web page anywhere can make a browser on this machine send requests to loopback: by DNS
//! rebinding (its own name resolved to 127.0.0.1, betrayed by `Host`), or plainly across origins
//! (betrayed by `Origin`).

use std::net::IpAddr;

use http::HeaderMap;
use http::header::ORIGIN;

use crate::error::{ApiError, Code};
use crate::metrics::auth_failed;

/// Refuses what a foreign web page sent.
pub(crate) fn require_local(
    headers: &HeaderMap,
    host: Option<&str>,
    allowed_origins: &[String],
) -> Result<(), ApiError> {
    // A browser always sends a host; a request without one is no browser's.
    if let Some(host) = host.filter(|host| !is_loopback(host)) {
        auth_failed("host");
        let shown: String = host.chars().take(80).collect();
        return Err(ApiError::new(
            Code::HostNotLoopback,
            format!(
                "without API keys only loopback hosts are served, not `{shown}`; call \
                 http://127.0.0.1, or create a key with `lookout keys create`"
            ),
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("?");
    let local = origin.split_once("://").is_some_and(|(_, host)| is_loopback(host));
    if local || allowed_origins.iter().any(|allowed| allowed == origin || allowed == "*") {
        return Ok(());
    }
    auth_failed("origin");
    let shown: String = origin.chars().take(80).collect();
    Err(ApiError::new(
        Code::ForeignOrigin,
        format!(
            "without API keys no web page of `{shown}` may call; create a key, or add the origin \
             to server.cors_origins"
        ),
    ))
}

/// Whether `host[:port]` names this machine: `localhost`, a name below it, or a loopback address.
fn is_loopback(authority: &str) -> bool {
    let host = if let Some(rest) = authority.strip_prefix('[') {
        rest.split_once(']').map_or("", |(host, _)| host)
    } else {
        authority.split_once(':').map_or(authority, |(host, _)| host)
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_local() {
        for host in
            ["localhost", "LocalHost:8000", "127.0.0.1:1", "127.9.9.9", "[::1]:8000", "a.localhost"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:80",
            "[::2]",
            "[",
            "localhost.evil",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn foreign_pages_are_refused_whatever_they_send() {
        let check = |host: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let allowed = ["https://app.example".to_owned()];
            require_local(&headers, host, &allowed).map_err(|error| error.code)
        };
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some("127.0.0.1:8000"), Some("http://127.0.0.1:8000")), Ok(()));
        assert_eq!(check(Some("localhost"), Some("https://app.example")), Ok(()));
        assert_eq!(check(Some("rebound.example"), None), Err(Code::HostNotLoopback));
        assert_eq!(
            check(Some("localhost"), Some("https://evil.example")),
            Err(Code::ForeignOrigin)
        );
        assert_eq!(check(Some("localhost"), Some("null")), Err(Code::ForeignOrigin));
    }
}
