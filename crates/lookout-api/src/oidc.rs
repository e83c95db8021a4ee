//! Access tokens of an `OpenID` Connect issuer, checked against the keys it publishes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::errors::ErrorKind as JwtErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use lookout_store::{Scope, Scopes};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::config::OidcConfig;
use crate::error::{ApiError, Code};

/// Asymmetric only: with a symmetric algorithm whoever can check a token could also make one.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// Clock difference allowed between the issuer and this machine, in seconds.
const LEEWAY_SECONDS: i64 = 60;
/// Age at which published keys are fetched again, so that a withdrawn one stops working.
const KEYS_AGE_MAX: Duration = Duration::from_secs(600);
/// Shortest time between two fetches, so that tokens with made-up key ids cannot flood the issuer.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Longest a fetch may take; requests with tokens wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key document; real ones are a few kilobytes.
const KEYS_BYTES_MAX: usize = 256 << 10;
/// Longest tenant taken from a token; the store's own limit.
const TENANT_BYTES_MAX: usize = 63;

/// The holder of an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenCaller {
    pub(crate) subject: String,
    pub(crate) tenant: String,
    pub(crate) scopes: Scopes,
    /// Name of its rate bucket; apart from those of keys.
    pub(crate) bucket: String,
}

/// Checks tokens of one issuer.
#[derive(Debug)]
pub(crate) struct Verifier {
    config: OidcConfig,
    keys: ArcSwapOption<Published>,
    fetching: Mutex<Option<Instant>>,
    http: Result<reqwest::Client, String>,
}

#[derive(Debug)]
struct Published {
    set: JwkSet,
    fetched: Instant,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("this access token is not valid: {0}")]
    Refused(String),
    #[error("the issuer's keys cannot be fetched: {0}")]
    Issuer(String),
}

impl TokenError {
    pub(crate) fn into_problem(self, challenge: &'static str) -> ApiError {
        match self {
            Self::Refused(_) => {
                let mut error = ApiError::new(Code::Unauthenticated, self.to_string());
                error.challenge = Some(challenge);
                error
            }
            Self::Issuer(cause) => {
                let detail = "access tokens cannot be checked: their issuer does not answer";
                ApiError { internal: Some(cause), ..ApiError::new(Code::Unavailable, detail) }
            }
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    tenant: Option<String>,
    #[serde(default)]
    scope: ScopeClaim,
}

/// RFC 9068 writes a space-separated text; some issuers write a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
}

impl Default for ScopeClaim {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Verifier {
    pub(crate) fn new(config: OidcConfig) -> Self {
        let http = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead anywhere; the configured URL is the one that is trusted.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string());
        Self { config, keys: ArcSwapOption::empty(), fetching: Mutex::new(None), http }
    }

    /// The caller of a token that is right at `now_seconds` (since 1970 UTC).
    pub(crate) async fn verify(
        &self,
        token: &str,
        now_seconds: i64,
    ) -> Result<TokenCaller, TokenError> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Refused("its algorithm is not RS256, ES256 or EdDSA".into()));
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // Checked below, by the clock that everything else goes by.
        validation.validate_exp = false;
        let claims =
            decode::<Claims>(token, &key, &validation).map_err(|error| refused(&error))?.claims;
        check_times(&claims, now_seconds)?;
        caller(claims)
    }

    /// The published key for a token, fetched again when it is not known or too old.
    async fn key(&self, kid: Option<&str>, alg: Algorithm) -> Result<DecodingKey, TokenError> {
        let find = |published: &Published| find(&published.set, kid, alg);
        let known = self.keys.load_full();
        if let Some(key) = known
            .as_ref()
            .filter(|published| published.fetched.elapsed() < KEYS_AGE_MAX)
            .and_then(|published| find(published))
        {
            return Ok(key);
        }
        let fresh = match self.fetch().await {
            Ok(fresh) => fresh,
            // The issuer's outage is not ours, as long as the key was seen before.
            Err(error) => known.ok_or(error)?,
        };
        find(&fresh).ok_or_else(|| TokenError::Refused("its issuer publishes no such key".into()))
    }

    async fn fetch(&self) -> Result<Arc<Published>, TokenError> {
        let mut last = self.fetching.lock().await;
        if last.is_some_and(|at| at.elapsed() < FETCH_INTERVAL_MIN) {
            let known = self.keys.load_full();
            return known.ok_or_else(|| TokenError::Issuer("the last fetch failed".into()));
        }
        *last = Some(Instant::now());
        let set = self.download().await.map_err(TokenError::Issuer)?;
        let published = Arc::new(Published { set, fetched: Instant::now() });
        self.keys.store(Some(published.clone()));
        Ok(published)
    }

    async fn download(&self) -> Result<JwkSet, String> {
        let http = self.http.as_ref().map_err(Clone::clone)?;
        let told = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = http.get(&self.config.jwks_url).send().await.map_err(told)?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > KEYS_BYTES_MAX {
                return Err(format!("more than {KEYS_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("no key document: {error}"))
    }
}

/// The key of that id; without an id, the only one of that algorithm.
fn find(set: &JwkSet, kid: Option<&str>, alg: Algorithm) -> Option<DecodingKey> {
    let fits = |jwk: &&jsonwebtoken::jwk::Jwk| {
        let named = jwk.common.key_algorithm.map(|named| named.to_string().parse());
        named.is_none_or(|named| named == Ok(alg))
    };
    let jwk = match kid {
        Some(kid) => set.find(kid).filter(fits)?,
        None => {
            let mut fitting = set.keys.iter().filter(fits);
            fitting.next().filter(|_| fitting.next().is_none())?
        }
    };
    DecodingKey::from_jwk(jwk).ok()
}

fn check_times(claims: &Claims, now_seconds: i64) -> Result<(), TokenError> {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^53")]
    let (now, leeway) = (now_seconds as f64, LEEWAY_SECONDS as f64);
    if claims.exp + leeway <= now {
        return Err(TokenError::Refused("it has expired".into()));
    }
    if claims.nbf.is_some_and(|nbf| nbf - leeway > now) {
        return Err(TokenError::Refused("it is not valid yet".into()));
    }
    Ok(())
}

fn caller(claims: Claims) -> Result<TokenCaller, TokenError> {
    let words: Vec<&str> = match &claims.scope {
        ScopeClaim::Text(text) => text.split_ascii_whitespace().collect(),
        ScopeClaim::List(list) => list.iter().map(String::as_str).collect(),
    };
    // Tokens carry scopes of other services too (openid, profile, …). `*` is for keys only.
    let scopes =
        Scope::ALL.iter().copied().filter(|scope| words.contains(&scope.as_str())).collect();
    let tenant = claims.tenant.unwrap_or_else(|| claims.sub.clone());
    let printable = tenant.bytes().all(|byte| byte.is_ascii_graphic());
    if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || !printable {
        let problem =
            format!("its tenant is not from 1 to {TENANT_BYTES_MAX} printable ASCII characters");
        return Err(TokenError::Refused(problem));
    }
    let bucket = format!("token:{tenant}:{}", claims.sub);
    Ok(TokenCaller { subject: claims.sub, tenant, scopes, bucket })
}

fn refused(error: &jsonwebtoken::errors::Error) -> TokenError {
    let problem = match error.kind() {
        JwtErrorKind::InvalidSignature => "its signature is wrong",
        JwtErrorKind::InvalidIssuer => "it comes from another issuer",
        JwtErrorKind::InvalidAudience => "it is meant for another audience",
        JwtErrorKind::MissingRequiredClaim(_) => "it lacks one of iss, aud, exp and sub",
        JwtErrorKind::Json(_) => "its claims cannot be read",
        _ => "it is malformed",
    };
    TokenError::Refused(problem.to_owned())
}

#[cfg(test)]
mod tests;
