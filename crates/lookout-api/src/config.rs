//! What of the HTTP surface can be configured, with defaults that suit one machine.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use lookout_store::{GuardSettings, Scopes};

/// Settings of the HTTP surface; swapped as a whole on reload.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiConfig {
    /// Chain behind `/block/number` and `/block/{number}`.
    pub blocks_chain: String,
    /// Chain behind `/address/balance/{address}`.
    pub balance_chain: String,
    /// Scopes of callers without a key.
    pub anonymous: Scopes,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Most calls in one JSON-RPC batch.
    pub batch_max: usize,
    /// Longest that one request may take; above the chain pool's own limit, so that its more
    /// precise error comes first.
    pub request_timeout: Duration,
    /// Rate limits.
    pub limits: Limits,
    /// Proxies whose `X-Forwarded-For` is believed: addresses or CIDR blocks.
    pub trusted_proxies: Vec<String>,
    /// Web origins that may call the API from a browser; `*` for all.
    pub cors_origins: Vec<String>,
    /// Where access tokens come from, if anywhere.
    pub oidc: Option<OidcConfig>,
    /// What channels may be.
    pub channels: ChannelSettings,
}

/// What channels may be on this server, and how long their tests are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// What webhooks may reach beyond the public internet; the senders have the same.
    pub guard: GuardSettings,
    /// The user name of the server's Telegram bot, if it has one and knows its name.
    pub telegram_bot: Option<String>,
    /// Whether the server can send mail.
    pub mail: bool,
    /// How long a test waits for its outcome; below the time of a request.
    pub test_patience: Duration,
}

/// Rate limits; 0 switches one off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second of one key or token subject.
    pub per_key_per_second: u32,
    /// Requests a second from one client address (one /64 for IPv6).
    pub per_address_per_second: u32,
    /// Requests that may come at once before the rate counts.
    pub burst: u32,
}

/// An issuer of access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// Expected `iss`.
    pub issuer: String,
    /// Expected `aud`.
    pub audience: String,
    /// Where the issuer publishes its keys.
    pub jwks_url: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_key_per_second: 1000, per_address_per_second: 1000, burst: 2000 }
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            guard: GuardSettings::default(),
            telegram_bot: None,
            mail: false,
            test_patience: Duration::from_secs(10),
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            blocks_chain: "polygon".to_owned(),
            balance_chain: "ethereum".to_owned(),
            anonymous: Scopes::NONE,
            body_bytes_max: 1 << 20,
            batch_max: 100,
            request_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            oidc: None,
            channels: ChannelSettings::default(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No address and no CIDR block.
    #[error("`{0}` is not a trusted proxy: expected an IP address or a block such as 10.0.0.0/8")]
    Proxy(String),
    /// No origin.
    #[error("`{0}` is not a web origin: expected `*` or scheme://host[:port] without a path")]
    Origin(String),
    /// No https URL.
    #[error("the JWKS URL must be an http or https URL")]
    Jwks,
}

impl ApiConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        for proxy in &self.trusted_proxies {
            proxy.parse::<Network>().map_err(|()| ConfigError::Proxy(proxy.clone()))?;
        }
        for origin in &self.cors_origins {
            let plain = origin
                .split_once("://")
                .is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', ' ', '*']));
            if origin != "*" && !plain {
                return Err(ConfigError::Origin(origin.clone()));
            }
        }
        match self.oidc.as_ref().map(|oidc| reqwest::Url::parse(&oidc.jwks_url)) {
            Some(Ok(url)) if !matches!(url.scheme(), "http" | "https") => Err(ConfigError::Jwks),
            Some(Err(_)) => Err(ConfigError::Jwks),
            _ => Ok(()),
        }
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    base: u128,
    mask: u128,
}

impl Network {
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        widen(address) & self.mask == self.base
    }
}

/// Every address as IPv6, IPv4 in its mapped form, so that one comparison serves both.
fn widen(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| ())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let own_bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(own_bits);
        if length > own_bits {
            return Err(());
        }
        let mask = match 128 - own_bits + length {
            0 => 0,
            bits => u128::MAX << (128 - bits),
        };
        Ok(Self { base: widen(address) & mask, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_exactly_their_addresses() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "10.0.0.1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{address}");
        }
        for bad in ["", "10.0.0.0/33", "host", "10.0.0.0/x", "::/129"] {
            assert_eq!(bad.parse::<Network>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn unusable_settings_are_named() {
        let mut config =
            ApiConfig { cors_origins: vec!["https://a.example".into()], ..ApiConfig::default() };
        assert_eq!(config.check(), Ok(()));
        config.cors_origins.push("a.example".into());
        assert_eq!(config.check(), Err(ConfigError::Origin("a.example".into())));
        let config = ApiConfig { trusted_proxies: vec!["proxy".into()], ..ApiConfig::default() };
        assert_eq!(config.check(), Err(ConfigError::Proxy("proxy".into())));
    }
}
