//! `[auth]`: who may call.

use lookout_store::Scopes;

use super::endpoint::Endpoint;
use super::section::{Check, section};
use super::tree::{Entry, Problem};

section! {
    /// Who may call.
    AuthSection {
        /// Scopes of callers without a key, such as `["chains:read"]` for a public API.
        anonymous: Scopes = Scopes::NONE,
        /// Access tokens of an OIDC issuer, as JWTs. All three keys are needed together.
        oidc: Option<OidcSection> = None,
    }
}

section! {
    /// Access tokens of an OIDC issuer; all three keys are needed.
    OidcSection {
        /// The `iss` that a token must carry.
        issuer: Option<String> = None,
        /// The `aud` that a token must carry.
        audience: Option<String> = None,
        /// Where the issuer publishes its keys.
        jwks_url: Option<Endpoint> = None,
    }
}

impl Check for AuthSection {}

impl Check for OidcSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        for (key, there) in [
            ("issuer", filled(&self.issuer)),
            ("audience", filled(&self.audience)),
            ("jwks_url", self.jwks_url.is_some()),
        ] {
            if !there {
                let reason = "missing; issuer, audience and jwks_url are needed together";
                return Err(entry.problem_at(key, reason));
            }
        }
        Ok(())
    }
}
