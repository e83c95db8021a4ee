//! Where an answer comes from and how far it can be trusted: as an envelope and as headers.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use lookout_chain::{AnswerMeta, Chain, Level};
use lookout_types::BlockRef;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body;
use crate::error::ApiError;

const LEVEL: HeaderName = HeaderName::from_static("lookout-level");
const BLOCK_NUMBER: HeaderName = HeaderName::from_static("lookout-block-number");
const BLOCK_HASH: HeaderName = HeaderName::from_static("lookout-block-hash");
const UPSTREAM: HeaderName = HeaderName::from_static("lookout-upstream");
const CACHE: HeaderName = HeaderName::from_static("lookout-cache");

/// Which chain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChainName {
    /// Its configured name.
    #[schema(example = "ethereum")]
    pub(crate) name: String,
    /// Its EIP-155 id.
    #[schema(example = 1, minimum = 0)]
    pub(crate) id: u64,
    /// The same in CAIP-2 form.
    #[schema(example = "eip155:1")]
    pub(crate) caip2: String,
}

/// One particular block.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BlockName {
    /// Its height.
    #[schema(example = 19_000_000, minimum = 0)]
    pub(crate) number: u64,
    /// Its hash.
    #[schema(pattern = "^0x[0-9a-f]{64}$")]
    pub(crate) hash: String,
}

/// How far an answer can be trusted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Verification {
    /// `proof`: a Merkle proof leads to the state root of a recomputed header. `quorum`: at least
    /// two upstreams said the same, or the content hashes to a block that they agree on.
    /// `single`: one upstream said so.
    pub(crate) level: LevelName,
    /// Why the level is not higher, where that is worth saying.
    pub(crate) note: Option<String>,
}

/// `single` < `quorum` < `proof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LevelName {
    /// One upstream said so.
    Single,
    /// At least two upstreams agreed.
    Quorum,
    /// Proved against a recomputed header.
    Proof,
}

impl From<Level> for LevelName {
    fn from(level: Level) -> Self {
        match level {
            Level::Single => Self::Single,
            Level::Quorum => Self::Quorum,
            Level::Proof => Self::Proof,
        }
    }
}

/// Provenance, beside the data of every answer about a chain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Provenance {
    /// The chain that was read.
    pub(crate) chain: ChainName,
    /// The block that the answer is about; `null` where it is about none.
    pub(crate) block: Option<BlockName>,
    /// How far it can be trusted.
    pub(crate) verification: Verification,
    /// The upstream that gave it, now or when it was cached.
    #[schema(example = "infura")]
    pub(crate) upstream: Option<String>,
    /// Whether no upstream had to be asked.
    pub(crate) cached: bool,
}

/// An answer about a chain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Envelope<T> {
    /// The answer itself.
    pub(crate) data: T,
    /// Where it comes from.
    #[serde(flatten)]
    pub(crate) provenance: Provenance,
}

/// An object as the node wrote it, byte for byte.
///
/// Its members are those of the Ethereum execution API, plus whatever the chain adds.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[expect(dead_code, reason = "stands for node objects in the OpenAPI document")]
pub(crate) struct NodeObject(serde_json::Map<String, serde_json::Value>);

impl From<&Chain> for ChainName {
    fn from(chain: &Chain) -> Self {
        let id = chain.id();
        Self { name: chain.name().to_owned(), id: id.0, caip2: id.caip2() }
    }
}

impl From<BlockRef> for BlockName {
    fn from(block: BlockRef) -> Self {
        Self { number: block.number, hash: block.hash.to_string() }
    }
}

impl Provenance {
    pub(crate) fn new(chain: ChainName, meta: &AnswerMeta) -> Self {
        Self {
            chain,
            block: meta.block.map(BlockName::from),
            verification: Verification {
                level: meta.level.into(),
                note: meta.note.as_deref().map(str::to_owned),
            },
            upstream: meta.upstream.as_deref().map(str::to_owned),
            cached: meta.cached,
        }
    }

    /// The envelope around data that is already JSON, without parsing it again.
    pub(crate) fn around(
        &self,
        data: impl IntoIterator<Item = Bytes>,
    ) -> Result<Response, ApiError> {
        let mut tail = serde_json::to_vec(self).map_err(ApiError::internal)?;
        // The opening brace becomes the comma behind `data`.
        if let Some(first) = tail.first_mut() {
            *first = b',';
        }
        let head = std::iter::once(Bytes::from_static(b"{\"data\":"));
        Ok(body::json(head.chain(data).chain(std::iter::once(Bytes::from(tail)))))
    }
}

/// Provenance as headers, where the body's shape is not ours.
pub(crate) fn write_headers(headers: &mut HeaderMap, meta: &AnswerMeta) {
    headers.insert(LEVEL, HeaderValue::from_static(meta.level.as_str()));
    if let Some(block) = meta.block {
        headers.insert(BLOCK_NUMBER, block.number.into());
        if let Ok(hash) = HeaderValue::try_from(block.hash.to_string()) {
            headers.insert(BLOCK_HASH, hash);
        }
    }
    // A name that does not fit a header is still in the logs and metrics.
    if let Some(Ok(name)) = meta.upstream.as_deref().map(HeaderValue::from_str) {
        headers.insert(UPSTREAM, name);
    }
    headers.insert(CACHE, HeaderValue::from_static(if meta.cached { "hit" } else { "miss" }));
}

/// A block time, in seconds since 1970 UTC, as RFC 3339.
pub(crate) fn rfc3339_seconds(seconds: u64) -> Result<String, ApiError> {
    let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    let time = time.ok_or_else(|| ApiError::internal(format!("no block time: {seconds}")))?;
    Ok(time.to_string())
}

/// A time of the store, in milliseconds since 1970 UTC, as RFC 3339.
pub(crate) fn rfc3339_millis(millis: i64) -> Result<String, ApiError> {
    let time = Timestamp::from_millisecond(millis).map_err(ApiError::internal)?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lookout_types::Hash;
    use serde_json::{Value, json};

    use super::*;

    fn meta() -> AnswerMeta {
        AnswerMeta {
            block: Some(BlockRef { number: 7, hash: Hash([0xab; 32]) }),
            level: Level::Quorum,
            note: Some("header fields of its own".into()),
            upstream: Some("one".into()),
            cached: true,
            upstream_time: Duration::from_millis(3),
        }
    }

    #[tokio::test]
    async fn node_json_is_enveloped_byte_for_byte() {
        let chain = ChainName { name: "a".into(), id: 5, caip2: "eip155:5".into() };
        let provenance = Provenance::new(chain, &meta());
        // Odd spacing and a number beyond every native type must survive.
        let raw = Bytes::from_static(b"{ \"z\":1e999 ,\"a\":0x }".as_slice());
        let response = provenance.around([raw.clone()]).unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        let tail = text.strip_prefix("{\"data\":{ \"z\":1e999 ,\"a\":0x },").unwrap();
        let tail: Value = serde_json::from_str(&format!("{{{tail}")).unwrap();
        assert_eq!(
            tail,
            json!({
                "chain": { "name": "a", "id": 5, "caip2": "eip155:5" },
                "block": { "number": 7, "hash": format!("0x{}", "ab".repeat(32)) },
                "verification": { "level": "quorum", "note": "header fields of its own" },
                "upstream": "one",
                "cached": true,
            })
        );
    }

    #[test]
    fn headers_say_the_same() {
        let mut headers = HeaderMap::new();
        write_headers(&mut headers, &meta());
        let read = |name: &HeaderName| headers[name].to_str().unwrap().to_owned();
        assert_eq!(read(&LEVEL), "quorum");
        assert_eq!(read(&BLOCK_NUMBER), "7");
        assert_eq!(read(&BLOCK_HASH), format!("0x{}", "ab".repeat(32)));
        assert_eq!(read(&UPSTREAM), "one");
        assert_eq!(read(&CACHE), "hit");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339_seconds(1_700_000_000).unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_millis(1_700_000_000_123).unwrap(), "2023-11-14T22:13:20.123Z");
        assert!(rfc3339_seconds(u64::MAX).is_err());
    }
}
