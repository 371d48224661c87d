//! OTLP/HTTP bodies out of stored payloads, and OTLP answers (OTLP specification, "OTLP/HTTP").

use std::time::Duration;

use bytes::Bytes;
use tracecast_otlp::write::Edit;
use tracecast_otlp::{json, write};

use super::fragments::Fragments;
use super::gzip::{Fragment, Member};
use super::http::Reply;
use super::pieces::{Collector, Pieces};
use crate::{Answer, Batch, Item, ItemAnswer};

/// A request body, and the positions of items whose stored bytes could not be read.
#[derive(Debug, Default)]
pub(crate) struct Body<B = Bytes> {
    pub(crate) bytes: B,
    pub(crate) damaged: Vec<usize>,
}

impl From<Body> for Body<Pieces> {
    fn from(body: Body) -> Body<Pieces> {
        Body { bytes: body.bytes.into(), damaged: body.damaged }
    }
}

/// The batch as one `ExportTraceServiceRequest`. A payload that is selected as a whole and not edited is sent as it was
/// received, without a look inside or a copy: concatenated messages are one message.
pub(crate) fn protobuf<'e>(items: &[Item], edit: impl Fn(&Item) -> Option<&'e dyn Edit>) -> Body<Pieces> {
    let mut out = Collector::default();
    let mut damaged = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let edit = edit(item);
        if edit.is_none() && item.spans.is_all() {
            out.share(item.payload.bytes());
            continue;
        }
        match item.payload.traces() {
            Ok(traces) => write::select(traces, &item.spans, edit, out.open()),
            Err(_) => damaged.push(i),
        }
    }
    Body { bytes: out.finish(), damaged }
}

/// Records below this are compressed together: apart they would compress badly.
const FRAGMENT_BYTES_MIN: usize = 4 << 10;

/// The batch as [`protobuf`] makes it, compressed record by record, so that destinations that send the same share the
/// work.
pub(crate) fn packed<'e>(
    items: &[Item],
    edit: impl Fn(&Item) -> Option<&'e dyn Edit>,
    fragments: &Fragments,
) -> Body<Pieces> {
    let mut member = Member::new();
    let mut damaged = Vec::new();
    let mut small = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let edit = edit(item);
        let is_copy = edit.is_none() && item.spans.is_all();
        let traces = if is_copy { None } else { Some(item.payload.traces()) };
        let write = |out: &mut Vec<u8>| match &traces {
            Some(Ok(traces)) => write::select(traces, &item.spans, edit, out),
            Some(Err(_)) => {}
            None => out.extend_from_slice(item.payload.bytes()),
        };
        if let Some(Err(_)) = traces {
            damaged.push(i);
        } else if !item.shared || item.payload.bytes().len() < FRAGMENT_BYTES_MIN {
            write(&mut small);
        } else {
            member.take(&mut small);
            let make = || {
                if is_copy {
                    return Fragment::new(item.payload.bytes());
                }
                let mut written = Vec::with_capacity(item.payload.bytes().len());
                write(&mut written);
                Fragment::new(&written)
            };
            if let Some(fragment) = fragments.of(item, make).get() {
                member.add(fragment);
            }
        }
    }
    member.take(&mut small);
    Body { bytes: member.finish(), damaged }
}

/// The batch as `{"resourceSpans":[...]}`.
pub(crate) fn json<'e>(items: &[Item], edit: impl Fn(&Item) -> Option<&'e dyn Edit>) -> Body {
    let room: usize = items.iter().map(|item| item.payload.bytes().len()).sum();
    let mut out = Vec::with_capacity(room + room / 2 + 32);
    let mut damaged = Vec::new();
    out.extend_from_slice(b"{\"resourceSpans\":[");
    let start = out.len();
    for (i, item) in items.iter().enumerate() {
        let Ok(traces) = item.payload.traces() else {
            damaged.push(i);
            continue;
        };
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        let comma = out.len();
        json::encode(traces, &item.spans, edit(item), &mut out);
        if out.len() == comma {
            out.truncate(before);
        }
    }
    out.extend_from_slice(b"]}");
    Body { bytes: out.into(), damaged }
}

/// `ExportTraceServiceResponse.partial_success`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

/// Reads a 2xx answer by its own content type. What cannot be read is no partial success: the
/// status has already said that the request was taken.
pub(crate) fn partial_success(reply: &Reply) -> Option<PartialSuccess> {
    if reply.body.is_empty() {
        return None;
    }
    let found = match reply.content_type() {
        Some(kind) if kind.contains("json") => json_partial_success(&reply.body),
        Some(kind) if kind.contains("protobuf") => protobuf_partial_success(&reply.body),
        None if reply.body.trim_ascii_start().starts_with(b"{") => json_partial_success(&reply.body),
        _ => None,
    }?;
    (found != PartialSuccess::default()).then_some(found)
}

fn json_partial_success(body: &[u8]) -> Option<PartialSuccess> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = value.get("partialSuccess").or_else(|| value.get("partial_success"))?;
    let field = |camel: &str, snake: &str| partial.get(camel).or_else(|| partial.get(snake));
    // Proto-JSON writes int64 as a string; many write a number.
    let rejected = match field("rejectedSpans", "rejected_spans") {
        Some(serde_json::Value::String(text)) => text.trim().parse::<i64>().ok(),
        Some(serde_json::Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))
        }
        _ => None,
    };
    Some(PartialSuccess {
        rejected: u64::try_from(rejected.unwrap_or(0)).unwrap_or(0),
        message: field("errorMessage", "error_message")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

fn protobuf_partial_success(body: &[u8]) -> Option<PartialSuccess> {
    let mut found = None;
    for (number, field) in Fields(body) {
        if let (1, Field::Bytes(message)) = (number, field) {
            let mut partial = PartialSuccess::default();
            for (number, field) in Fields(message) {
                match (number, field) {
                    // An int64: negative values are nonsense here.
                    (1, Field::Varint(n)) => {
                        partial.rejected = i64::try_from(n).map_or(0, i64::unsigned_abs);
                    }
                    (2, Field::Bytes(text)) => {
                        partial.message = String::from_utf8_lossy(text).into_owned();
                    }
                    _ => {}
                }
            }
            found = Some(partial);
        }
    }
    found
}

/// The message of a `google.rpc.Status`, which OTLP receivers send with an error in protobuf.
pub(crate) fn status_message(reply: &Reply) -> Option<String> {
    if !reply.content_type()?.contains("protobuf") {
        return None;
    }
    Fields(&reply.body).find_map(|(number, field)| match (number, field) {
        (2, Field::Bytes(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

/// The wait in a `google.rpc.RetryInfo` among the details of a `google.rpc.Status`. None at all, or
/// one that has passed: use backoff.
pub(crate) fn retry_info(reply: &Reply) -> Option<Duration> {
    if !reply.content_type()?.contains("protobuf") {
        return None;
    }
    let bytes = |message: &'_ [u8], number: u64| {
        Fields(message).find_map(|(n, field)| match field {
            Field::Bytes(bytes) if n == number => Some(bytes.to_vec()),
            _ => None,
        })
    };
    let details = Fields(&reply.body).filter_map(|(number, field)| match (number, field) {
        (3, Field::Bytes(any)) => Some(any),
        _ => None,
    });
    let mut infos =
        details.filter(|any| bytes(any, 1).is_some_and(|url| url.ends_with(b"google.rpc.RetryInfo")));
    let delay = bytes(&bytes(infos.next()?, 2)?, 1)?;
    let (mut seconds, mut nanos) = (0, 0);
    for (number, field) in Fields(&delay) {
        match (number, field) {
            (1, Field::Varint(n)) => seconds = n,
            (2, Field::Varint(n)) => nanos = n,
            _ => {}
        }
    }
    // Negative durations come as very large numbers.
    let seconds = i64::try_from(seconds).ok()?.unsigned_abs();
    let nanos = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?;
    let wait = Duration::new(seconds, nanos);
    (!wait.is_zero()).then_some(wait)
}

/// The answer to a batch that was taken with a 2xx.
pub(crate) fn accepted(batch: &Batch, partial: Option<PartialSuccess>) -> Answer {
    let Some(partial) = partial else {
        return Answer::Delivered;
    };
    let spans = u64::from(batch.spans());
    if partial.rejected == 0 {
        tracing::debug!(message = partial.message, "the receiver sent a warning");
        Answer::Delivered
    } else if partial.rejected >= spans {
        // All of it: here the answer does name the spans.
        let refused = ItemAnswer::Refused(partial.message);
        Answer::PerItem(vec![refused; batch.items.len()])
    } else {
        Answer::Partial {
            refused: u32::try_from(partial.rejected).unwrap_or(u32::MAX),
            message: partial.message,
        }
    }
}

/// A protobuf field with the payload of its wire type.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Walks the fields of a message; ends at the first byte that makes no sense.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Field::Other)?,
            _ => return None,
        };
        Some((key >> 3, field))
    }
}
