//! Answers: right ones, and every kind of odd one.

use super::wire::Head;

/// An HTTP answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers besides `content-length` and `connection`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A plain text answer.
    pub fn new(status: u16, text: &str) -> Reply {
        Reply { status, headers: Vec::new(), body: text.as_bytes().to_vec() }
            .header("content-type", "text/plain")
    }

    /// A JSON answer.
    pub fn json(status: u16, text: &str) -> Reply {
        Reply { status, headers: Vec::new(), body: text.as_bytes().to_vec() }
            .header("content-type", "application/json")
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What OTLP asks for when everything was taken: an empty response in the request's own encoding.
    pub(super) fn ok(head: &Head) -> Reply {
        otlp(head.is_json(), if head.is_json() { b"{}".to_vec() } else { Vec::new() })
    }

    pub(super) fn bytes(&self, stays_open: bool) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} .\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(if stays_open { "\r\n" } else { "connection: close\r\n\r\n" });
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.body);
        out
    }
}

fn otlp(json: bool, body: Vec<u8>) -> Reply {
    let kind = if json { "application/json" } else { "application/x-protobuf" };
    Reply { status: 200, headers: Vec::new(), body }.header("content-type", kind)
}

/// `ExportTraceServiceResponse` with a partial success of these two fields, as protobuf or JSON.
pub fn partial_success(json: bool, rejected: i64, message: &str) -> Reply {
    if json {
        let partial = serde_json::json!({ "rejectedSpans": rejected.to_string(), "errorMessage": message });
        return otlp(true, serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes());
    }
    let mut partial = vec![0x08];
    varint(rejected as u64, &mut partial);
    partial.push(0x12);
    varint(message.len() as u64, &mut partial);
    partial.extend_from_slice(message.as_bytes());
    let mut body = vec![0x0a];
    varint(partial.len() as u64, &mut body);
    body.extend_from_slice(&partial);
    otlp(false, body)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
