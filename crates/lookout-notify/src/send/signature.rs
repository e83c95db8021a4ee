//! Signatures of Standard Webhooks: `v1` by HMAC-SHA256, `v1a` by ed25519.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use lookout_store::{SignatureScheme, SigningKey, StoreError};
use lookout_types::UnixMillis;
use sha2::Sha256;

/// The `webhook-signature` header: one signature for every key that signs at `now`, oldest first,
/// so that receivers on either side of a rotation find theirs. Empty when no key signs.
///
/// # Errors
/// [`StoreError::Corrupt`] when a key cannot be read.
pub(crate) fn header(
    keys: &[SigningKey],
    id: &str,
    body: &str,
    now: UnixMillis,
) -> Result<String, StoreError> {
    let content = format!("{id}.{}.{body}", timestamp(now));
    let current = keys.iter().filter(|key| key.is_current(now));
    let signatures: Vec<String> =
        current.map(|key| sign(key, content.as_bytes())).collect::<Result<_, _>>()?;
    Ok(signatures.join(" "))
}

/// The `webhook-timestamp` header: seconds.
pub(crate) fn timestamp(now: UnixMillis) -> i64 {
    now.div_euclid(1000)
}

fn sign(key: &SigningKey, content: &[u8]) -> Result<String, StoreError> {
    let (scheme, bytes) = (key.scheme()?, key.bytes()?);
    let unusable = || StoreError::Corrupt("a signing key has the wrong length".to_owned());
    let signature = match scheme {
        SignatureScheme::Hmac => {
            let mut mac = Hmac::<Sha256>::new_from_slice(&bytes).map_err(|_| unusable())?;
            mac.update(content);
            STANDARD.encode(mac.finalize().into_bytes())
        }
        SignatureScheme::Ed25519 => {
            let seed: [u8; 32] = bytes.try_into().map_err(|_| unusable())?;
            let signature = ed25519_dalek::SigningKey::from_bytes(&seed).sign(content);
            STANDARD.encode(signature.to_bytes())
        }
    };
    Ok(format!("{},{signature}", scheme.as_str()))
}

#[cfg(test)]
mod tests {
    use lookout_types::Secret;

    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &str = r#"{"test": 2432232314}"#;
    const NOW: UnixMillis = 1_614_265_330_999;

    fn key(text: &str) -> SigningKey {
        SigningKey { key: Secret::new(text), created_at: 0, ends_at: None }
    }

    /// The vectors that the reference libraries publish.
    #[test]
    fn published_vectors_are_reproduced() {
        let symmetric = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let v1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(header(std::slice::from_ref(&symmetric), ID, BODY, NOW).unwrap(), v1);
        let private = key(
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        );
        let v1a = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        assert_eq!(header(std::slice::from_ref(&private), ID, BODY, NOW).unwrap(), v1a);
        let both = header(&[symmetric, private], ID, BODY, NOW).unwrap();
        assert_eq!(both, format!("{v1} {v1a}"));
    }

    #[test]
    fn only_current_keys_sign() {
        let mut old = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        old.ends_at = Some(NOW);
        assert_eq!(header(&[old.clone()], ID, BODY, NOW).unwrap(), "");
        assert!(!header(&[old], ID, BODY, NOW - 1).unwrap().is_empty());
        assert!(header(&[key("whsec_%")], ID, BODY, NOW).is_err());
    }
}
