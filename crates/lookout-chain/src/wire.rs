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

#[derive(Deserialize)]
struct BatchItem<'a> {
    id: u64,
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

/// Id of calls that are alone in their request.
pub(crate) const ID: u64 = 1;

/// How most nodes begin an answer to the call with [`ID`] whose result is a list.
const OPENING: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":["#;

/// The body of several calls of one method: a parameter array a line, ids counted from 0.
pub(crate) fn batch_body(method: &str, params: &str) -> Vec<u8> {
    let mut body = vec![b'['];
    for (id, params) in (0_u64..).zip(params.lines()) {
        if id > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&request_body(id, method, params));
    }
    body.push(b']');
    body
}

/// Reads the answer to a batch: the whole of it where it is a list, else what it says.
pub(crate) fn parse_batch_reply(body: &Bytes) -> Result<Reply, WireError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Ok(Reply::Result(body.clone()));
    }
    match parse_reply(body)? {
        Reply::Error(error) => Ok(Reply::Error(error)),
        Reply::Result(_) => Err(WireError::NotJsonRpc),
    }
}

/// Why a batch has no results.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// It is no answer to the batch.
    Wire(WireError),
    /// A call of it failed; the first that did.
    Node(NodeError),
}

/// The results of a batch of `count` calls, in the order of the calls, without copying them.
pub(crate) fn parse_batch(body: &Bytes, count: usize) -> Result<Vec<Bytes>, BatchError> {
    let items: Vec<BatchItem<'_>> =
        serde_json::from_slice(body).map_err(|_| BatchError::Wire(WireError::NotJsonRpc))?;
    let mut results = vec![None; count];
    for item in items {
        let place = usize::try_from(item.id).ok().and_then(|id| results.get_mut(id));
        let Some(place) = place else { return Err(BatchError::Wire(WireError::NotJsonRpc)) };
        match (item.error, item.result) {
            (Some(raw), _) => {
                return Err(node_error(raw).map_or_else(BatchError::Wire, BatchError::Node));
            }
            (None, Some(raw)) if place.is_none() => {
                *place = Some(body.slice_ref(raw.get().as_bytes()));
            }
            (None, _) => return Err(BatchError::Wire(WireError::Empty)),
        }
    }
    let whole: Option<Vec<Bytes>> = results.into_iter().collect();
    whole.ok_or(BatchError::Wire(WireError::Empty))
}

/// Single answers as one to a batch.
pub(crate) fn joined(replies: &[Reply]) -> Bytes {
    let mut body = vec![b'['];
    for (id, reply) in replies.iter().enumerate() {
        let (name, raw) = match reply {
            Reply::Result(result) => ("result", &result[..]),
            Reply::Error(error) => ("error", error.raw.get().as_bytes()),
        };
        if id > 0 {
            body.push(b',');
        }
        body.extend_from_slice(format!("{{\"id\":{id},\"{name}\":").as_bytes());
        body.extend_from_slice(raw);
        body.push(b'}');
    }
    body.push(b']');
    body.into()
}

/// Reads an answer whose result is a long list, without going through it where the answer begins
/// as most do. A strict reader of the result must follow: what comes after it is not checked.
pub(crate) fn parse_open_reply(body: &Bytes) -> Result<Reply, WireError> {
    let trimmed = body.trim_ascii_end();
    if body.starts_with(OPENING) && trimmed.ends_with(b"]}") {
        return Ok(Reply::Result(body.slice(OPENING.len() - 1..trimmed.len() - 1)));
    }
    parse_reply(body)
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
    fn a_batch_is_sorted_by_id_and_must_be_whole() {
        assert_eq!(
            batch_body("eth_x", "[1]\n[2]"),
            br#"[{"jsonrpc":"2.0","id":0,"method":"eth_x","params":[1]},{"jsonrpc":"2.0","id":1,"method":"eth_x","params":[2]}]"#
        );
        let parse = |body: &'static str| parse_batch(&Bytes::from_static(body.as_bytes()), 2);
        let whole = parse(r#"[{"id":1,"result":null},{"id":0,"result":{"a": 1}}]"#).unwrap();
        assert_eq!(whole, [r#"{"a": 1}"#, "null"]);
        for bad in [
            r#"[{"id":0,"result":1}]"#,
            r#"[{"id":0,"result":1},{"id":0,"result":1}]"#,
            r#"[{"id":0,"result":1},{"id":2,"result":1}]"#,
            r#"[{"id":0,"result":1},{"id":1}]"#,
            r#"[{"id":0,"result":1},{"result":1}]"#,
            "{}",
        ] {
            assert!(matches!(parse(bad), Err(BatchError::Wire(_))), "{bad}");
        }
        match parse(r#"[{"id":0,"result":1},{"id":1,"error":{"code":-32005,"message":"slow"}}]"#) {
            Err(BatchError::Node(error)) => assert_eq!(error.code, -32005),
            other => panic!("{other:?}"),
        }
        let singles = [Reply::Result("7".into()), Reply::Result("null".into())];
        assert_eq!(parse_batch(&joined(&singles), 2).unwrap(), ["7", "null"]);
    }

    #[test]
    fn an_open_answer_ends_where_its_body_does() {
        let open = |body: &'static str| match parse_open_reply(&Bytes::from_static(body.as_bytes()))
        {
            Ok(Reply::Result(bytes)) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(open("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[1,2]}\n"), "[1,2]");
        assert_eq!(open("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}"), "[]");
        assert_eq!(open(r#"{"id":1,"result":[1],"jsonrpc":"2.0"}"#), "[1]");
        // Whoever reads this strictly sees that it is no list.
        let forged = open(r#"{"jsonrpc":"2.0","id":1,"result":[1],"error":[2]}"#);
        assert!(serde_json::from_slice::<Vec<u64>>(&forged).is_err());
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
