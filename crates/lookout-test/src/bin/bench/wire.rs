//! One keep-alive HTTP/1.1 connection that costs the load generator as little as possible.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once; an answer that is larger takes several reads.
const READ_BYTES: usize = 64 << 10;
/// Bytes compared at either end of a body, beside its length.
const ENDS_BYTES: usize = 64;
/// Bytes of a wrong answer that the error shows.
const SHOWN_BYTES: usize = 400;

/// A request, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Request(pub(crate) Vec<u8>);

impl Request {
    pub(crate) fn get(path: &str, headers: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n").into_bytes())
    }

    pub(crate) fn post(path: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        );
        Self(text.into_bytes())
    }
}

/// What every answer is held against.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// This very body, by its length and both ends.
    Body(Vec<u8>),
    /// A body that begins like this.
    Prefix(&'static [u8]),
}

impl Expected {
    fn check(&self, body: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => body.starts_with(prefix),
            Self::Body(whole) => {
                let end = whole.len().min(ENDS_BYTES);
                body.len() == whole.len()
                    && body[..end] == whole[..end]
                    && body[body.len() - end..] == whole[whole.len() - end..]
            }
        }
    }
}

/// Where the parts of an answer lie.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    status: u16,
    head_bytes: usize,
    body_bytes: usize,
}

/// A connection with its buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request and waits for its whole answer, which must be what is expected.
    pub(crate) async fn exchange(&mut self, request: &Request, expected: &Expected) -> Result<()> {
        let frame = self.round_trip(request).await?;
        let body = &self.buffer[frame.head_bytes..];
        if frame.status == 200 && expected.check(body) {
            return Ok(());
        }
        let shown = &self.buffer[..self.buffer.len().min(SHOWN_BYTES)];
        bail!("wrong answer: {}", String::from_utf8_lossy(shown))
    }

    /// The status, the head as text and the body of an answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<(u16, String, Vec<u8>)> {
        let frame = self.round_trip(request).await?;
        let (head, body) = self.buffer.split_at(frame.head_bytes);
        Ok((frame.status, String::from_utf8_lossy(head).into_owned(), body.to_vec()))
    }

    async fn round_trip(&mut self, request: &Request) -> Result<Frame> {
        self.stream.write_all(&request.0).await.context("cannot send")?;
        self.buffer.clear();
        let mut frame = None;
        loop {
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await.context("cannot receive")?;
            ensure!(read > 0, "the server closed the connection");
            if frame.is_none() {
                frame = parse_head(&self.buffer)?;
            }
            let Some(found) = &frame else { continue };
            let whole = found.head_bytes + found.body_bytes;
            ensure!(self.buffer.len() <= whole, "more bytes than the answer's content-length");
            if self.buffer.len() == whole
                && let Some(frame) = frame
            {
                return Ok(frame);
            }
        }
    }
}

/// `None` while the head is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<Frame>> {
    const LENGTH: &[u8] = b"content-length:";
    let mut body_bytes = None;
    let mut at = 0;
    while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = bytes[at..at + length].trim_ascii_end();
        at += length + 1;
        if line.is_empty() {
            let status = std::str::from_utf8(bytes.get(9..12).unwrap_or_default())?.parse()?;
            let body_bytes = body_bytes.context("an answer without content-length")?;
            return Ok(Some(Frame { status, head_bytes: at, body_bytes }));
        }
        if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
            let text = std::str::from_utf8(&line[LENGTH.len()..])?;
            body_bytes = Some(text.trim().parse().context("content-length")?);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_framed_once_it_is_whole() {
        let answer = b"HTTP/1.1 404 Not Found\r\ndate: x\r\nContent-Length: 12\r\n\r\nhello";
        let head = answer.len() - 5;
        for cut in 0..head {
            assert_eq!(parse_head(&answer[..cut]).unwrap(), None, "{cut}");
        }
        let whole = Frame { status: 404, head_bytes: head, body_bytes: 12 };
        assert_eq!(parse_head(answer).unwrap(), Some(whole));
    }

    #[test]
    fn a_head_without_length_or_status_is_an_error() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
        assert!(parse_head(b"SMTP\r\ncontent-length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn a_body_is_checked_by_length_and_ends() {
        let whole = vec![b'x'; 1000];
        let expected = Expected::Body(whole.clone());
        assert!(expected.check(&whole));
        assert!(!expected.check(&whole[1..]));
        for at in [0, 63, 936, 999] {
            let mut wrong = whole.clone();
            wrong[at] = b'y';
            assert!(!expected.check(&wrong), "{at}");
        }
        assert!(Expected::Prefix(b"xx").check(&whole) && !Expected::Prefix(b"y").check(&whole));
    }
}
