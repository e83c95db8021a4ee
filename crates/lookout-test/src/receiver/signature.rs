//! Checks signatures of Standard Webhooks as a receiver does, with other code than makes them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, signature};

/// Of each signature in the header, whether one of the keys made it over this body.
pub(super) fn check(keys: &[String], headers: &BTreeMap<String, String>, body: &str) -> Vec<bool> {
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let content = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let signatures = header("webhook-signature").split_ascii_whitespace();
    signatures
        .map(|signature| keys.iter().any(|key| made_by(key, signature, content.as_bytes())))
        .collect()
}

fn made_by(key: &str, signature: &str, content: &[u8]) -> bool {
    let Some((version, signature)) = signature.split_once(',') else { return false };
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    let bytes = |start: &str| STANDARD.decode(key.strip_prefix(start)?).ok();
    match version {
        "v1" => bytes("whsec_").is_some_and(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            hmac::verify(&key, content, &signature).is_ok()
        }),
        "v1a" => bytes("whpk_").is_some_and(|public| {
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
            key.verify(content, &signature).is_ok()
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_verify_and_others_do_not() {
        let headers = |signature: &str| {
            BTreeMap::from([
                ("webhook-id".to_owned(), "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
                ("webhook-timestamp".to_owned(), "1614265330".to_owned()),
                ("webhook-signature".to_owned(), signature.to_owned()),
            ])
        };
        let body = r#"{"test": 2432232314}"#;
        let keys = [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=".to_owned(),
        ];
        let v1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let v1a = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let both = headers(&format!("{v1} {v1a} v1,AAAA v2,AAAA none"));
        assert_eq!(check(&keys, &both, body), [true, true, false, false, false]);
        assert_eq!(check(&keys[..1], &both, body), [true, false, false, false, false]);
        assert_eq!(check(&keys, &headers(v1), "{}"), [false]);
        assert_eq!(check(&keys, &BTreeMap::new(), body), [] as [bool; 0]);
    }
}
