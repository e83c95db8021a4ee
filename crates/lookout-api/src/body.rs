//! Request bodies read within a limit, and answers spliced together without copying node JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::error::{ApiError, Code};

/// Below this size one copy is cheaper than a vectored write of several parts.
const COPY_BYTES_MAX: usize = 16 << 10;

/// Most that is read of a body past its limit. Several times what honest clients send by mistake;
/// beyond it the connection may break.
const DISCARD_BYTES_MAX: usize = 16 << 20;

/// Room for all headers of an answer, so that the map need not grow and hash again.
const HEADERS: usize = 16;
/// Room for an answer of a few members, so that its text need not grow either.
const TEXT_BYTES: usize = 512;

/// Several buffers sent as one body of known length.
struct Spliced {
    parts: VecDeque<Bytes>,
    left_bytes: u64,
}

impl HttpBody for Spliced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.left_bytes -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

/// A JSON answer made of parts that are written as they are.
pub(crate) fn json(parts: impl IntoIterator<Item = Bytes>) -> Response {
    let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let size_bytes: usize = parts.iter().map(Bytes::len).sum();
    let body = if size_bytes <= COPY_BYTES_MAX {
        let mut whole = BytesMut::with_capacity(size_bytes);
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        Body::from(whole.freeze())
    } else {
        Body::new(Spliced { parts, left_bytes: size_bytes as u64 })
    };
    json_body(body)
}

fn json_body(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer from a value of ours.
pub(crate) fn json_of(value: &impl serde::Serialize) -> Result<Response, ApiError> {
    let mut bytes = Vec::with_capacity(TEXT_BYTES);
    serde_json::to_writer(&mut bytes, value).map_err(ApiError::internal)?;
    Ok(json_body(Body::from(bytes)))
}

/// The whole request body, or the problem that names the limit.
///
/// What is over the limit is read and thrown away, up to a limit of its own: a connection closed
/// with a body still arriving is reset, and the client never sees why.
pub(crate) async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(Code::BodyTooLarge, format!("a request body has at most {bytes_max} bytes"))
    };
    let mut whole = BytesMut::new();
    let mut seen_bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::new(Code::InvalidBody, "the request body could not be read to its end")
        })?;
        let Some(piece) = frame.data_ref() else { continue };
        seen_bytes = seen_bytes.saturating_add(piece.len());
        if seen_bytes <= bytes_max {
            whole.extend_from_slice(piece);
        } else if seen_bytes > bytes_max.saturating_add(DISCARD_BYTES_MAX) {
            break;
        }
    }
    if seen_bytes > bytes_max { Err(too_large()) } else { Ok(whole.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_arrive_whole_whether_copied_or_spliced() {
        for size in [10, COPY_BYTES_MAX + 1] {
            let middle = Bytes::from(vec![b'x'; size]);
            let parts = [Bytes::from_static(b"<"), middle.clone(), Bytes::from_static(b">")];
            let response = json(parts);
            assert_eq!(response.body().size_hint().exact(), Some(size as u64 + 2));
            let got = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(got, [b"<".as_slice(), &middle, b">"].concat());
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_names_it() {
        let stream =
            futures_util::stream::iter(vec![Ok::<_, Infallible>(Bytes::from_static(b"12345")); 3]);
        for body in [Body::from("123456789012345"), Body::from_stream(stream)] {
            let error = read(body, 14).await.unwrap_err();
            assert_eq!(error.code, Code::BodyTooLarge);
            assert!(error.detail.contains("14 bytes"));
        }
        assert_eq!(read(Body::from("12345"), 5).await.unwrap(), "12345");
    }
}
