//! Keeps tenants' URLs from reaching what only this server can reach.
//!
//! A name is resolved here, its addresses are checked, and the connection is made to exactly what
//! was checked: there is no second look-up in which a name could point elsewhere. Redirects are
//! not followed, and no proxy of the environment is used, since it would do its own look-up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lookout_store::{DestinationError, GuardSettings};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::Url;

use super::{Names, SEND_TIMEOUT, SendError, SetupError};

/// Longest wait for a connection; a part of the whole request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Unused connections are kept this long: alerts come in bursts.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How the server introduces itself.
const USER_AGENT: &str = concat!("Lookout/", env!("CARGO_PKG_VERSION"));

/// An HTTP client that reaches only what its settings allow.
#[derive(Debug, Clone)]
pub struct Guard {
    settings: GuardSettings,
    client: reqwest::Client,
}

impl Guard {
    /// With this resolver.
    ///
    /// # Errors
    /// [`SetupError::Client`] when the system's certificates cannot be read.
    pub fn new(settings: GuardSettings, names: Arc<dyn Names>) -> Result<Self, SetupError> {
        Self::within(settings, names, SEND_TIMEOUT)
    }

    /// With another time for a whole request.
    pub(crate) fn within(
        settings: GuardSettings,
        names: Arc<dyn Names>,
        timeout: Duration,
    ) -> Result<Self, SetupError> {
        let resolver = Checked { settings: settings.clone(), names };
        let client = builder().timeout(timeout).dns_resolver(resolver);
        Ok(Self { settings, client: client.build().map_err(SetupError::Client)? })
    }

    /// Reads a URL and checks all of it but its name.
    pub(crate) fn check(&self, url: &str) -> Result<Url, SendError> {
        self.settings.check_url(url).map_err(|error| SendError::refused(error.to_string()))
    }

    /// The client; its requests must be for URLs that [`Guard::check`] let through, because a
    /// host that is an address is never resolved.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

/// A client for what the operator configured: it may be anywhere.
pub(crate) fn plain_client() -> Result<reqwest::Client, SetupError> {
    builder().build().map_err(SetupError::Client)
}

fn builder() -> reqwest::ClientBuilder {
    // Clients speak TLS by the process's provider; one that is installed already is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .timeout(SEND_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        // Little of an answer is read, so it need not be small.
        .gzip(false)
}

/// A connection that was not made.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` leads to a forbidden address: {reason}")]
pub(crate) struct Blocked {
    name: String,
    reason: DestinationError,
}

struct Checked {
    settings: GuardSettings,
    names: Arc<dyn Names>,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (settings, names) = (self.settings.clone(), self.names.clone());
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let mut allowed: Vec<SocketAddr> = Vec::new();
            let mut blocked = None;
            for address in names.resolve(&name).await? {
                match settings.check_address(address) {
                    // The port comes from the URL.
                    Ok(()) => allowed.push((address, 0).into()),
                    Err(reason) => blocked = Some(reason),
                }
            }
            match blocked {
                Some(reason) if allowed.is_empty() => Err(Blocked { name, reason }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
