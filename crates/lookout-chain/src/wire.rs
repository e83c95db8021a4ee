//! JSON-RPC 2.0 on the wire: one request out, one answer in, bytes kept as they came.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::NodeError;

/// A node's answer to one call.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The `result` member, byte for byte; `null` is a result.
    Result(Bytes),
    /// The `error` member.
    Error(NodeError),
}

/// An answer that is no JSON-RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("answered something that is not JSON-RPC")]
    NotJsonRpc,
    #[error("answered neither a result nor an error")]
    Empty,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    // `Option<&RawValue>` alone would read `"result": null` as an absent result.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

/// The body of one call; `params` is the JSON text of the parameter array.
pub(crate) fn request_body(id: u64, method: &str, params: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + method.len() + params.len());
    body.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    body.extend_from_slice(id.to_string().as_bytes());
    body.extend_from_slice(br#","method":""#);
    // Method names come from the allow-list, so they need no escaping.
    body.extend_from_slice(method.as_bytes());
    body.extend_from_slice(br#"","params":"#);
    body.extend_from_slice(params.as_bytes());
    body.push(b'}');
    body
}

/// Reads an answer without copying its result.
pub(crate) fn parse_reply(body: &Bytes) -> Result<Reply, WireError> {
    // Serde would read an array as the envelope's members in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(WireError::NotJsonRpc);
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|_| WireError::NotJsonRpc)?;
    if let Some(raw) = envelope.error {
        return node_error(raw).map(Reply::Error);
    }
    match envelope.result {
        Some(raw) => Ok(Reply::Result(body.slice_ref(raw.get().as_bytes()))),
        None => Err(WireError::Empty),
    }
}

fn node_error(raw: &RawValue) -> Result<NodeError, WireError> {
    let object: ErrorObject = serde_json::from_str(raw.get()).map_err(|_| WireError::NotJsonRpc)?;
    Ok(NodeError { code: object.code, message: object.message, raw: raw.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn result(body: &'static str) -> Bytes {
        match parse_reply(&Bytes::from_static(body.as_bytes())) {
            Ok(Reply::Result(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_come_back_byte_for_byte_and_null_is_one() {
        assert_eq!(
            result(r#"{"jsonrpc":"2.0","id":1,"result":{"b": 1,"a":[ ]}}"#),
            r#"{"b": 1,"a":[ ]}"#
        );
        assert_eq!(result(r#"{"id":1,"result":null}"#), "null");
        assert_eq!(result(r#"{"result":"0x1","error":null}"#), "\"0x1\"");
    }

    #[test]
    fn errors_keep_all_their_members() {
        let body = r#"{"id":1,"error":{"code":3,"message":"execution reverted","data":"0x08"}}"#;
        match parse_reply(&Bytes::from_static(body.as_bytes())) {
            Ok(Reply::Error(error)) => {
                assert_eq!((error.code, error.message.as_str()), (3, "execution reverted"));
                assert!(error.raw.get().ends_with(r#""data":"0x08"}"#));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for body in ["", "<html>busy</html>", "{\"result\":", "[1]", "\"x\"", "{\"error\":7}"] {
            let parsed = parse_reply(&Bytes::from_static(body.as_bytes()));
            assert_eq!(parsed.err(), Some(WireError::NotJsonRpc), "{body}");
        }
        let empty = parse_reply(&Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":1}"));
        assert_eq!(empty.err(), Some(WireError::Empty));
    }
}
