//! Where messages may go: which addresses and URLs of tenants a server talks to.
//!
//! Checked when a channel is saved and again for the very address of every connection, because a
//! name can point elsewhere by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Longest URL of a channel, in bytes: what every server takes.
pub(crate) const URL_BYTES_MAX: usize = 2048;

/// IPv4 blocks that are not the public internet: the IANA special-purpose registry, multicast, and
/// the address at which Azure's machines find their platform.
const SPECIAL_V4: [(Ipv4Addr, u8); 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only IPv6 block from which addresses are assigned to networks. What lies outside is
/// loopback, local, multicast, or another form of an IPv4 address (mapped, NAT64).
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Blocks inside it that are special: protocol assignments with Teredo, documentation, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// A block of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// No address and no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: expected an IP address or a block such as 10.0.0.0/8")]
pub struct NetworkError(String);

impl Network {
    /// Whether the address is in the block. An IPv4 address is in no IPv6 block.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let block = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        block.map(Self).map_err(|_| NetworkError(text.chars().take(80).collect()))
    }
}

/// What a server's operator allows beyond the public internet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuardSettings {
    /// Networks that webhooks may reach although they are not public.
    pub allow_private: Vec<Network>,
    /// Whether webhooks may go over plain HTTP.
    pub allow_http: bool,
}

/// Why a destination is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// No URL.
    #[error("the url cannot be read: {0}")]
    Malformed(url::ParseError),
    /// A very long URL.
    #[error("the url has {0} bytes, the limit is {URL_BYTES_MAX}")]
    TooLong(usize),
    /// Neither https nor, where that is allowed, http.
    #[error("the url must begin with https://, not {0}://")]
    Scheme(String),
    /// `user:password@` in front of the host.
    #[error("the url may hold no user name or password; receivers check the signature instead")]
    Credentials,
    /// Without a host.
    #[error("the url names no host")]
    NoHost,
    /// A name of this machine.
    #[error("the url leads to this server's own machine (`{0}`)")]
    Local(String),
    /// An address that is not on the public internet.
    #[error(
        "{0} is not on the public internet; the operator can allow a private network for webhooks"
    )]
    NotPublic(IpAddr),
}

impl GuardSettings {
    /// Whether a connection may be made to this very address.
    ///
    /// # Errors
    /// [`DestinationError::NotPublic`].
    pub fn check_address(&self, address: IpAddr) -> Result<(), DestinationError> {
        if is_public(address) || self.allow_private.iter().any(|block| block.contains(address)) {
            Ok(())
        } else {
            Err(DestinationError::NotPublic(address))
        }
    }

    /// Reads a webhook's URL and checks all of it that can be checked without asking for a name.
    ///
    /// # Errors
    /// [`DestinationError`] says what is wrong with it.
    pub fn check_url(&self, text: &str) -> Result<Url, DestinationError> {
        if text.len() > URL_BYTES_MAX {
            return Err(DestinationError::TooLong(text.len()));
        }
        let url: Url = text.parse().map_err(DestinationError::Malformed)?;
        if url.scheme() != "https" && !(url.scheme() == "http" && self.allow_http) {
            return Err(DestinationError::Scheme(url.scheme().chars().take(20).collect()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(DestinationError::Credentials);
        }
        match url.host() {
            None => return Err(DestinationError::NoHost),
            Some(Host::Ipv4(address)) => self.check_address(address.into())?,
            Some(Host::Ipv6(address)) => self.check_address(address.into())?,
            Some(Host::Domain(name)) => self.check_name(name)?,
        }
        Ok(url)
    }

    /// RFC 6761: `localhost` and what is below it are loopback, whatever a resolver says.
    fn check_name(&self, name: &str) -> Result<(), DestinationError> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        let local = bare == "localhost" || bare.ends_with(".localhost");
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let allowed = loopback.iter().any(|address| self.check_address(*address).is_ok());
        if local && !allowed {
            return Err(DestinationError::Local(bare.chars().take(80).collect()));
        }
        Ok(())
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4
            .iter()
            .any(|(base, length)| Ipv4Net::new_assert(*base, *length).contains(&v4)),
        IpAddr::V6(v6) => {
            let within =
                |(base, length): &(Ipv6Addr, u8)| Ipv6Net::new_assert(*base, *length).contains(&v6);
            within(&GLOBAL_V6) && !SPECIAL_V6.iter().any(within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> GuardSettings {
        GuardSettings::default()
    }

    #[test]
    fn only_the_public_internet_is_reached() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2003::1",
            "3ffe::1",
        ] {
            assert_eq!(strict().check_address(public.parse().unwrap()), Ok(()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address = other.parse().unwrap();
            assert_eq!(
                strict().check_address(address),
                Err(DestinationError::NotPublic(address)),
                "{other}"
            );
        }
    }

    #[test]
    fn what_the_operator_allows_is_allowed_and_no_more() {
        let allow_private = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let settings = GuardSettings { allow_private, allow_http: true };
        for (address, allowed) in [
            ("10.9.9.9", true),
            ("::1", true),
            ("::2", false),
            ("11.0.0.1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(
                settings.check_address(address.parse().unwrap()).is_ok(),
                allowed,
                "{address}"
            );
        }
        settings.check_url("http://10.0.0.7:8080/hook").unwrap();
        settings.check_url("http://localhost/").unwrap();
        for bad in ["", "10.0.0.0/33", "host", "10.0.0.0/x"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_refused_by_what_is_wrong_with_them() {
        let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
        for (url, reason) in [
            ("https://127.0.0.1/hook", "127.0.0.1 is not on the public internet"),
            ("https://127.1/", "127.0.0.1 is not"),
            ("https://2130706433/", "127.0.0.1 is not"),
            ("https://0x7f.1/", "127.0.0.1 is not"),
            ("https://[::ffff:127.0.0.1]/", "not on the public internet"),
            ("https://10.0.0.8/", "10.0.0.8 is not"),
            ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is not"),
            ("https://localhost:8000/", "own machine (`localhost`)"),
            ("https://LOCALHOST./", "own machine (`localhost`)"),
            ("https://x.localhost/", "own machine"),
            ("http://example.com/", "must begin with https://, not http://"),
            ("file:///etc/passwd", "not file://"),
            ("https://user:secret@example.com/", "no user name or password"),
            ("https://user@example.com/", "no user name or password"),
            ("https://", "cannot be read"),
            ("example.com/hook", "cannot be read"),
            ("https://exa mple.com/", "cannot be read"),
            (long.as_str(), "the limit is 2048"),
        ] {
            let error = strict().check_url(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for good in
            ["https://example.com/hook?a=b", "https://1.1.1.1:8443/", "https://bücher.example/"]
        {
            assert!(strict().check_url(good).is_ok(), "{good}");
        }
    }
}
