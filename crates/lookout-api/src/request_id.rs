//! One id per request, taken from the client or made here, in the answer and in the logs.

use http::{HeaderMap, HeaderName, HeaderValue};
use lookout_types::UnixMillis;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a client; trace ids of known systems are shorter.
const BYTES_MAX: usize = 128;

/// The client's id if it is harmless in a log line, else a new `UUIDv7`.
pub(crate) fn of(headers: &HeaderMap, now: UnixMillis) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(id) if is_plain(id.as_bytes()) => id.clone(),
        _ => fresh(now),
    }
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=BYTES_MAX).contains(&id.len()) && id.iter().all(plain)
}

/// A `UUIDv7`. Its random part need not be unpredictable, so no system call is spent on it.
fn fresh(now: UnixMillis) -> HeaderValue {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let millis = u64::try_from(now).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text))
        .unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ids_are_kept_and_others_replaced() {
        let of = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
            of(&headers, 1_700_000_000_000).to_str().unwrap().to_owned()
        };
        assert_eq!(of(b"abc-123"), "abc-123");
        let long = [b'a'; BYTES_MAX + 1];
        for bad in [b"".as_slice(), b"a b", b"a\"b", "é".as_bytes(), &long] {
            let id: uuid::Uuid = of(bad).parse().unwrap();
            assert_eq!(id.get_version_num(), 7);
        }
    }

    #[test]
    fn new_ids_carry_the_time_and_differ() {
        let one = fresh(1_700_000_000_000);
        let two = fresh(1_700_000_000_000);
        assert_ne!(one, two);
        assert!(one.to_str().unwrap().starts_with("018bcfe5-6800-7"));
    }
}
