//! The form of an API key: `lk_`, 12 public characters that find its row, 43 secret ones.

use lookout_types::{Secret, UnixMillis};
use sha2::{Digest, Sha256};

use crate::{Scopes, StoreError};

/// What every key starts with, so that secret scanners recognise one.
const MARK: &str = "lk_";
/// Length of the public part: 62^12 is about 2^71, so two keys never share one by chance.
const LOOKUP_LENGTH: usize = 12;
/// Length of the secret part: 62^43 is just above 2^256.
const SECRET_LENGTH: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of some text.
pub(crate) type Sha256Hash = [u8; 32];

/// What a new key shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The tenant it belongs to; created when unknown.
    pub tenant: String,
    /// A name for people.
    pub name: String,
    /// What it may do; at least one scope.
    pub scopes: Scopes,
    /// When it stops working; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id, a `UUIDv7`.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// A name for people.
    pub name: String,
    /// The public start of the key, by which people recognise it.
    pub prefix: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it stops working; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked; `None` while it is not.
    pub revoked_at: Option<UnixMillis>,
}

impl KeyInfo {
    /// Whether it opens anything at `now`.
    pub fn is_active(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// The parts of a key that the store works with.
#[derive(Debug)]
pub(crate) struct KeyParts {
    /// The public part, in clear.
    pub(crate) lookup: String,
    /// SHA-256 of the secret part.
    pub(crate) secret_hash: Sha256Hash,
}

/// Makes a key from the operating system's randomness.
pub(crate) fn generate() -> Result<(Secret, KeyParts), StoreError> {
    let text = format!("{MARK}{}", random_text(LOOKUP_LENGTH + SECRET_LENGTH)?);
    let parts = parse(&text).ok_or_else(|| StoreError::Corrupt("a new key".to_owned()))?;
    Ok((Secret::new(text), parts))
}

/// The shown part of the key with this public part.
pub(crate) fn prefix(lookup: &str) -> String {
    format!("{MARK}{lookup}")
}

/// Takes a presented key apart; `None` when it does not have a key's form.
pub(crate) fn parse(presented: &str) -> Option<KeyParts> {
    let body = presented.strip_prefix(MARK)?;
    let plain = body.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain || body.len() != LOOKUP_LENGTH + SECRET_LENGTH {
        return None;
    }
    let (lookup, secret) = body.split_at_checked(LOOKUP_LENGTH)?;
    Some(KeyParts { lookup: lookup.to_owned(), secret_hash: sha256(secret.as_bytes()) })
}

/// SHA-256, for key parts and cache keys.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256Hash {
    Sha256::digest(bytes).into()
}

/// Letters and digits, each equally likely.
pub(crate) fn random_text(length: usize) -> Result<String, StoreError> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
        // Six bits pick one of 64; the two values past the alphabet are drawn again, because
        // folding them back would favour two letters.
        let letters = bytes.iter().filter_map(|b| ALPHABET.get(usize::from(b & 63)));
        text.extend(letters.take(length - text.len()).map(|b| char::from(*b)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_generated_key_parses_to_its_own_parts() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let (key, parts) = generate().unwrap();
            let text = key.expose();
            assert_eq!(text.len(), 58);
            let parsed = parse(text).unwrap();
            assert_eq!(parsed.lookup, parts.lookup);
            assert_eq!(parsed.secret_hash, parts.secret_hash);
            assert!(text.starts_with(&prefix(&parts.lookup)));
            assert!(seen.insert(parts.lookup), "a public part came twice");
        }
    }

    #[test]
    fn every_letter_of_the_alphabet_is_drawn_about_as_often() {
        let text = random_text(62_000).unwrap();
        for letter in ALPHABET {
            let count = text.bytes().filter(|b| b == letter).count();
            // 1000 expected, standard deviation 31: six of them either way.
            assert!((810..1190).contains(&count), "{}: {count}", char::from(*letter));
        }
    }

    #[test]
    fn other_forms_are_no_keys() {
        let (key, _) = generate().unwrap();
        let good = key.expose();
        let short = good.strip_suffix(|_: char| true).unwrap();
        let last = format!("{short}é");
        for bad in ["", "lk_", short, &format!("{good}x"), &good.replace("lk_", "sk_"), &last] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse(&format!("{short}-")).is_none());
        assert!(parse(&format!("lk_{}", "é".repeat(28))).is_none());
    }

    #[test]
    fn nothing_of_the_secret_part_shows_in_debug() {
        let (key, parts) = generate().unwrap();
        let secret: String = key.expose().chars().skip(15).collect();
        assert!(!format!("{key:?} {parts:?}").contains(&secret));
    }

    #[test]
    fn a_key_is_active_until_the_very_millisecond_it_expires() {
        let mut info = KeyInfo {
            id: String::new(),
            tenant: String::new(),
            name: String::new(),
            prefix: String::new(),
            scopes: Scopes::ALL,
            created_at: 0,
            expires_at: Some(10),
            revoked_at: None,
        };
        assert!(info.is_active(9) && !info.is_active(10));
        info.expires_at = None;
        assert!(info.is_active(i64::MAX));
        info.revoked_at = Some(5);
        assert!(!info.is_active(4));
    }
}
