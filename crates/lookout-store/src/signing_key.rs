//! Keys with which webhooks are signed, in the forms of Standard Webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lookout_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::channel::{SigningKeyInfo, plain_secret};

/// Starts a key for HMAC-SHA256, which both sides hold.
const SYMMETRIC: &str = "whsec_";
/// Starts a private ed25519 key: its seed and its public half, in base64.
const PRIVATE: &str = "whsk_";
/// Starts a public ed25519 key.
const PUBLIC: &str = "whpk_";
/// Bytes of a new key: the specification asks for 24 to 64, ed25519 for exactly 32.
const KEY_BYTES: usize = 32;

/// How a webhook is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// `v1`: HMAC-SHA256 with a secret that both sides hold.
    Hmac,
    /// `v1a`: ed25519, so that the receiver holds nothing secret.
    Ed25519,
}

impl SignatureScheme {
    /// Its name in the `webhook-signature` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "v1",
            Self::Ed25519 => "v1a",
        }
    }
}

/// One key and the time in which it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// `whsec_…` or `whsk_…`.
    #[serde(with = "plain_secret")]
    pub key: Secret,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it stops signing; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<UnixMillis>,
}

impl SigningKey {
    /// Makes a key from the operating system's randomness.
    ///
    /// # Errors
    /// [`StoreError::Random`].
    pub fn generate(scheme: SignatureScheme, now: UnixMillis) -> Result<Self, StoreError> {
        let mut bytes = [0_u8; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
        let text = match scheme {
            SignatureScheme::Hmac => format!("{SYMMETRIC}{}", STANDARD.encode(bytes)),
            SignatureScheme::Ed25519 => {
                let pair = ed25519_dalek::SigningKey::from_bytes(&bytes).to_keypair_bytes();
                format!("{PRIVATE}{}", STANDARD.encode(pair))
            }
        };
        Ok(Self { key: Secret::new(text), created_at: now, ends_at: None })
    }

    /// How it signs.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it has the form of neither kind.
    pub fn scheme(&self) -> Result<SignatureScheme, StoreError> {
        let text = self.key.expose();
        if text.starts_with(SYMMETRIC) {
            Ok(SignatureScheme::Hmac)
        } else if text.starts_with(PRIVATE) {
            Ok(SignatureScheme::Ed25519)
        } else {
            Err(malformed())
        }
    }

    /// The bytes to sign with: of HMAC the secret, of ed25519 the seed.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it has the form of neither kind.
    pub fn bytes(&self) -> Result<Vec<u8>, StoreError> {
        let text = self.key.expose();
        let (body, private) = match text.strip_prefix(SYMMETRIC) {
            Some(body) => (body, false),
            None => (text.strip_prefix(PRIVATE).ok_or_else(malformed)?, true),
        };
        let mut bytes = STANDARD.decode(body).map_err(|_| malformed())?;
        if private {
            if bytes.len() != 2 * KEY_BYTES {
                return Err(malformed());
            }
            bytes.truncate(KEY_BYTES);
        }
        Ok(bytes)
    }

    /// Whether it signs at `now`.
    pub fn is_current(&self, now: UnixMillis) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    /// What everybody may see of it.
    pub(crate) fn info(&self) -> Result<SigningKeyInfo, StoreError> {
        let scheme = self.scheme()?;
        let public_key = match scheme {
            SignatureScheme::Hmac => None,
            SignatureScheme::Ed25519 => {
                let seed: [u8; KEY_BYTES] = self.bytes()?.try_into().map_err(|_| malformed())?;
                let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
                Some(format!("{PUBLIC}{}", STANDARD.encode(public.as_bytes())))
            }
        };
        let Self { created_at, ends_at, .. } = *self;
        Ok(SigningKeyInfo { scheme, public_key, created_at, ends_at })
    }
}

fn malformed() -> StoreError {
    StoreError::Corrupt("a signing key is neither whsec_ nor whsk_ with base64 behind it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_pair_belongs_together() {
        // From the documentation of Svix, which made the scheme.
        let key = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
        let key = SigningKey { key: Secret::new(key), created_at: 0, ends_at: None };
        let info = key.info().unwrap();
        assert_eq!(info.scheme, SignatureScheme::Ed25519);
        let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
        assert_eq!(info.public_key.as_deref(), Some(public));
    }

    #[test]
    fn keys_have_the_form_and_length_of_the_specification() {
        let hmac = SigningKey::generate(SignatureScheme::Hmac, 7).unwrap();
        assert_eq!(
            (hmac.scheme().unwrap(), hmac.bytes().unwrap().len()),
            (SignatureScheme::Hmac, 32)
        );
        assert_eq!(hmac.info().unwrap().public_key, None);
        let pair = SigningKey::generate(SignatureScheme::Ed25519, 7).unwrap();
        assert_eq!(pair.bytes().unwrap().len(), 32);
        assert_ne!(pair.bytes().unwrap(), hmac.bytes().unwrap());
        for bad in ["", "whsec_%", "whsk_AAAA", "whpk_AAAA", "AAAA"] {
            let key = SigningKey { key: Secret::new(bad), created_at: 0, ends_at: None };
            assert!(key.bytes().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_signs_until_the_very_millisecond_it_ends() {
        let mut key = SigningKey::generate(SignatureScheme::Hmac, 0).unwrap();
        assert!(key.is_current(i64::MAX));
        key.ends_at = Some(10);
        assert!(key.is_current(9) && !key.is_current(10));
    }
}
