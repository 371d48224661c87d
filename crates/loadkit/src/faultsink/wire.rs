//! HTTP/1.1 by hand over one connection: as much as the gateway's clients speak, and control over every byte.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Heads beyond this are not read.
const HEAD_MAX: usize = 64 << 10;

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) headers: HeaderMap,
}

impl Head {
    pub(super) fn is_json(&self) -> bool {
        self.headers.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/json"))
    }

    fn content_length(&self) -> usize {
        let value = self.headers.get("content-length").and_then(|v| v.to_str().ok());
        value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
    }

    fn parse(text: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(text).ok()?;
        let mut headers = HeaderMap::new();
        for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
        }
        Some(Head { headers })
    }
}

/// A connection and what was read from it ahead of need.
pub(super) struct Wire {
    stream: TcpStream,
    read: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Wire {
        Wire { stream, read: BytesMut::new() }
    }

    /// Waits for the beginning of a request; false if there comes none.
    pub(super) async fn first_byte(&mut self) -> bool {
        !self.read.is_empty() || self.more().await
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(1..))
    }

    /// Waits until so many bytes of the request are there, or no more come.
    pub(super) async fn read_up_to(&mut self, bytes: usize) {
        while self.read.len() < bytes && self.more().await {}
    }

    pub(super) async fn head(&mut self) -> Option<Head> {
        loop {
            let end = self.read.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.read.split_to(end);
                self.read.advance(4);
                return Head::parse(&head);
            }
            if self.read.len() > HEAD_MAX || !self.more().await {
                return None;
            }
        }
    }

    pub(super) async fn body(&mut self, head: &Head) -> Option<Bytes> {
        let length = head.content_length();
        self.read_up_to(length).await;
        (self.read.len() >= length).then(|| self.read.split_to(length).freeze())
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()?;
        self.stream.flush().await.ok()
    }

    /// Waits until the other side gives up.
    pub(super) async fn gone(&mut self) {
        while self.more().await {
            self.read.clear();
        }
    }

    /// Closes with RST: what was not read or sent is lost.
    pub(super) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Closes with FIN.
    pub(super) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}
