//! Who is calling, and what they may do.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use lookout_store::{Actor, KeyInfo, Scope, Scopes, TENANT_DEFAULT};

use crate::error::{ApiError, Code};
use crate::metrics::auth_failed;
use crate::oidc::TokenCaller;
use crate::origin;
use crate::state::{Live, State};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What API keys begin with; anything else in a bearer header is an access token.
const KEY_PREFIX: &str = "lk_";
/// Longest credential that is looked at; tokens with many claims stay below it.
const CREDENTIAL_BYTES_MAX: usize = 8 << 10;

const CHALLENGE: &str = r#"Bearer realm="lookout""#;
const CHALLENGE_INVALID: &str = r#"Bearer realm="lookout", error="invalid_token""#;
const CHALLENGE_SCOPE: &str = r#"Bearer realm="lookout", error="insufficient_scope""#;

/// An admitted caller.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Nobody has a key yet: the person at this machine, who may do everything.
    Open,
    /// No credentials, on a server that lets such callers do some things.
    Anonymous(Scopes),
    /// An API key.
    Key(Arc<KeyInfo>),
    /// An access token.
    Token(Arc<TokenCaller>),
}

impl Caller {
    /// Whose rows they see.
    pub(crate) fn tenant(&self) -> &str {
        match self {
            Self::Open | Self::Anonymous(_) => TENANT_DEFAULT,
            Self::Key(key) => &key.tenant,
            Self::Token(token) => &token.tenant,
        }
    }

    pub(crate) fn scopes(&self) -> Scopes {
        match self {
            Self::Open => Scopes::ALL,
            Self::Anonymous(scopes) => *scopes,
            Self::Key(key) => key.scopes,
            Self::Token(token) => token.scopes,
        }
    }

    /// Whose rate is counted beside the address's.
    pub(crate) fn bucket(&self) -> Option<&String> {
        match self {
            Self::Open | Self::Anonymous(_) => None,
            Self::Key(key) => Some(&key.id),
            Self::Token(token) => Some(&token.bucket),
        }
    }

    /// Who the audit log names.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Open | Self::Anonymous(_) => Actor::Open,
            Self::Key(key) => Actor::Key(key.id.clone()),
            Self::Token(token) => Actor::Token(token.subject.clone()),
        }
    }

    /// Refuses a caller without the scope: 401 when they could still say who they are.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes().allows(scope) {
            return Ok(());
        }
        if matches!(self, Self::Anonymous(_)) {
            auth_failed("missing");
            return Err(unauthenticated(
                format!("this needs an API key with scope `{scope}`; {HOW}"),
                CHALLENGE,
            ));
        }
        auth_failed("scope");
        let detail = format!(
            "this needs scope `{scope}`; these credentials have: {}",
            self.scopes().names().join(", ")
        );
        let mut error = ApiError::new(Code::MissingScope, detail);
        error.challenge = Some(CHALLENGE_SCOPE);
        Err(error)
    }
}

const HOW: &str = "send `Authorization: Bearer lk_…` or `x-api-key: lk_…`";

fn unauthenticated(
    detail: impl Into<std::borrow::Cow<'static, str>>,
    challenge: &'static str,
) -> ApiError {
    let mut error = ApiError::new(Code::Unauthenticated, detail);
    error.challenge = Some(challenge);
    error
}

/// Finds out who is calling.
pub(crate) async fn identify(
    state: &State,
    live: &Live,
    headers: &HeaderMap,
    host: Option<&str>,
) -> Result<Caller, ApiError> {
    match presented(headers)? {
        Some(credential) if credential.starts_with(KEY_PREFIX) => {
            match state.store.authenticate(credential).await? {
                Some(key) => Ok(Caller::Key(key)),
                None => {
                    auth_failed("unknown_key");
                    Err(unauthenticated(
                        "this API key is unknown, expired or revoked",
                        CHALLENGE_INVALID,
                    ))
                }
            }
        }
        Some(credential) => by_token(state, live, credential).await,
        None if !live.config.anonymous.is_empty() => Ok(Caller::Anonymous(live.config.anonymous)),
        // Not reachable is not the same as no keys: an error closes the door.
        None if live.oidc.is_none() && !state.store.has_keys().await? => {
            origin::require_local(headers, host, &live.config.cors_origins)?;
            Ok(Caller::Open)
        }
        None => {
            auth_failed("missing");
            Err(unauthenticated(format!("this needs credentials; {HOW}"), CHALLENGE))
        }
    }
}

async fn by_token(state: &State, live: &Live, token: &str) -> Result<Caller, ApiError> {
    let Some(verifier) = &live.oidc else {
        auth_failed("unknown_key");
        return Err(unauthenticated(
            "this is no API key (they begin with `lk_`), and no token issuer is configured",
            CHALLENGE_INVALID,
        ));
    };
    let seconds = state.clock.now().div_euclid(1000);
    match verifier.verify(token, seconds).await {
        Ok(caller) => Ok(Caller::Token(Arc::new(caller))),
        Err(refused) => {
            auth_failed("bad_token");
            Err(refused.into_problem(CHALLENGE_INVALID))
        }
    }
}

/// The credential in the headers; `None` when there is none at all.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let wrong = |detail: &'static str| {
        auth_failed("malformed");
        unauthenticated(detail, CHALLENGE_INVALID)
    };
    let credential = if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().ok();
        let bearer = text.and_then(|text| text.split_once(' ')).and_then(|(scheme, credential)| {
            scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
        });
        bearer.ok_or_else(|| wrong("the Authorization header must read `Bearer <key or token>`"))?
    } else if let Some(value) = headers.get(X_API_KEY) {
        value.to_str().map_err(|_| wrong("the x-api-key header is not text"))?.trim()
    } else {
        return Ok(None);
    };
    if credential.is_empty() || credential.len() > CREDENTIAL_BYTES_MAX {
        return Err(wrong("the credential is empty or longer than 8192 bytes"));
    }
    Ok(Some(credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn credentials_are_read_from_either_header() {
        for (name, value) in [
            ("authorization", "Bearer lk_a"),
            ("authorization", "bearer  lk_a "),
            ("x-api-key", "lk_a"),
        ] {
            assert_eq!(presented(&headers(name, value)).unwrap(), Some("lk_a"), "{value}");
        }
        assert_eq!(presented(&HeaderMap::new()).unwrap(), None);
        let long = "a".repeat(CREDENTIAL_BYTES_MAX + 1);
        for (name, value) in [
            ("authorization", "Basic dXNlcjpwYXNz"),
            ("authorization", "lk_a"),
            ("authorization", "Bearer "),
            ("x-api-key", ""),
            ("x-api-key", long.as_str()),
        ] {
            let error = presented(&headers(name, value)).unwrap_err();
            assert_eq!(error.code, Code::Unauthenticated, "{name}: {value}");
            assert_eq!(error.challenge, Some(CHALLENGE_INVALID));
        }
    }

    #[test]
    fn a_missing_scope_is_401_without_and_403_with_credentials() {
        let read = Scopes::from(Scope::ChainsRead);
        let anonymous = Caller::Anonymous(read);
        assert!(anonymous.require(Scope::ChainsRead).is_ok());
        assert_eq!(anonymous.require(Scope::ChainsSend).unwrap_err().code, Code::Unauthenticated);
        let token = Caller::Token(Arc::new(TokenCaller {
            subject: "s".into(),
            tenant: "t".into(),
            scopes: read,
            bucket: "token:s".into(),
        }));
        let error = token.require(Scope::ChainsSend).unwrap_err();
        assert_eq!(error.code, Code::MissingScope);
        assert!(error.detail.contains("`chains:send`") && error.detail.contains("chains:read"));
        assert!(Caller::Open.require(Scope::KeysWrite).is_ok());
    }
}
