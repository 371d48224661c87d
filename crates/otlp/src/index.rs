//! The index of a request: what the walk over the wire found, and the limits and errors of it.

use std::fmt;

use bytes::Bytes;

use crate::canonical;
use crate::view::SpanView;
use crate::walk::walk;
use crate::wire::Field;

/// Bounds one request is held to while it is indexed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Message levels below the request (a span is level 3, an attribute's value level 5); at most
    /// 96 count, because the usual decoders stop at 100.
    pub depth: u32,
    /// Attributes of one span.
    pub attributes_per_span: u32,
    /// Encoded bytes of one span; also of one resource and one scope.
    pub span_bytes: u32,
    /// Spans of one request, rejected ones included; more fail the whole body.
    pub spans_per_request: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 64, attributes_per_span: 2048, span_bytes: 8 << 20, spans_per_request: 100_000 }
    }
}

/// The whole body is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Field path (`resourceSpans[0].scopeSpans[2]`); empty for the body itself.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// One span of an otherwise good request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Field path (`resourceSpans[0].scopeSpans[0].spans[3].traceId`).
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.path, &self.reason)
    }
}

impl std::error::Error for DecodeError {}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.path, &self.reason)
    }
}

fn show(f: &mut fmt::Formatter<'_>, path: &str, reason: &str) -> fmt::Result {
    if path.is_empty() { f.write_str(reason) } else { write!(f, "{path}: {reason}") }
}

/// An `ExportTraceServiceRequest`, walked once: per span its range, ids, times and attribute ranges.
#[derive(Clone)]
pub struct Traces {
    pub(crate) body: Bytes,
    pub(crate) spans: Vec<SpanRec>,
    pub(crate) attributes: Vec<AttributeRec>,
    pub(crate) scopes: Vec<ScopeRec>,
    pub(crate) resources: Vec<ResourceRec>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) whole: bool,
}

/// A range of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Range {
    pub(crate) fn of(field: &Field) -> Range {
        Range { from: field.from as u32, to: field.to as u32 }
    }
    pub(crate) fn len(self) -> usize {
        (self.to - self.from) as usize
    }
}

/// An attribute of a span with a non-empty key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeRec {
    pub(crate) key_from: u32,
    pub(crate) key_len: u32,
    /// Content of the `KeyValue`.
    pub(crate) at: u32,
    pub(crate) len: u32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpanRec {
    /// Where the field (its tag) starts; it ends where the content ends.
    pub(crate) at: u32,
    pub(crate) content: Range,
    pub(crate) scope: u32,
    /// Ordinal in its `ScopeSpans` on the wire, rejected spans counted.
    pub(crate) position: u32,
    pub(crate) attributes: Range,
    /// The bits of their keys: most questions are for keys that are not there.
    pub(crate) keys: u128,
    /// Where the first field of that kind starts, 0 if there is none.
    pub(crate) first_attribute: u32,
    pub(crate) first_event: u32,
    pub(crate) first_link: u32,
    pub(crate) trace_id: u32,
    pub(crate) span_id: u32,
    /// 0 if there is none.
    pub(crate) parent: u32,
    pub(crate) flags: u32,
    pub(crate) kind: i32,
    pub(crate) status_code: i32,
    pub(crate) status_message: Range,
    pub(crate) name: Range,
    pub(crate) trace_state: Range,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Holds a field of unknown number at some level.
    pub(crate) unknown: bool,
}

/// A `ScopeSpans` with at least one good span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScopeRec {
    pub(crate) at: u32,
    pub(crate) content: Range,
    pub(crate) resource: u32,
    pub(crate) position: u32,
    /// Its spans in `Traces::spans`.
    pub(crate) spans: Range,
    pub(crate) scope: Range,
    pub(crate) schema_url: Range,
    /// Content bytes that are not spans.
    pub(crate) other: u32,
    pub(crate) unknown: bool,
}

/// A `ResourceSpans` with at least one good span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResourceRec {
    pub(crate) at: u32,
    pub(crate) content: Range,
    pub(crate) position: u32,
    /// Its scopes in `Traces::scopes`.
    pub(crate) scopes: Range,
    pub(crate) resource: Range,
    pub(crate) schema_url: Range,
    /// Content bytes that are not `ScopeSpans`.
    pub(crate) other: u32,
    pub(crate) unknown: bool,
}

impl Traces {
    /// Walks the wire once and checks everything a standard decoder may refuse: framing, wire
    /// types, UTF-8, depth, ids. A bad span is rejected, a bad resource or scope rejects the spans
    /// below it, bad framing outside of spans fails the body.
    pub fn index(body: Bytes, limits: &Limits) -> Result<Traces, DecodeError> {
        if body.len() > i32::MAX as usize {
            return Err(DecodeError { path: String::new(), reason: "is larger than 2 GiB".into() });
        }
        let (traces, odd) = walk(body, limits)?;
        if !odd {
            return Ok(traces);
        }
        let body = canonical::request(&traces.body, limits.depth);
        match walk(body.into(), limits)? {
            (traces, false) => Ok(traces),
            (_, true) => Err(DecodeError {
                path: String::new(),
                reason: "repeats singular fields in a way that has no canonical form".into(),
            }),
        }
    }

    /// The bytes the index speaks of (canonicalised spans may make it differ from the input).
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Number of good spans.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// There is no good span.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The spans that were refused, and why.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Every span in `body` is good: the body can be forwarded as it is.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The span at that position among the good ones. Panics if `i >= len()`.
    pub fn span(&self, i: usize) -> SpanView<'_> {
        assert!(i < self.spans.len(), "span {i} of {}", self.spans.len());
        SpanView { traces: self, i: i as u32 }
    }

    /// All good spans in wire order.
    pub fn spans(&self) -> impl Iterator<Item = SpanView<'_>> {
        (0..self.len()).map(|i| self.span(i))
    }

    /// Bytes the index itself holds, beside the body.
    pub fn index_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<SpanRec>()
            + self.attributes.capacity() * size_of::<AttributeRec>()
            + self.scopes.capacity() * size_of::<ScopeRec>()
            + self.resources.capacity() * size_of::<ResourceRec>()
    }

    pub(crate) fn bytes(&self, range: Range) -> &[u8] {
        self.body.get(range.from as usize..range.to as usize).unwrap_or_default()
    }

    /// Field path of a span given by its scope and its position there.
    pub(crate) fn span_path(&self, scope: u32, position: u32) -> String {
        let scope = self.scopes.get(scope as usize).copied().unwrap_or_default();
        let resource = self.resources.get(scope.resource as usize).map_or(0, |r| r.position);
        span_path(resource, scope.position, position)
    }
}

impl fmt::Debug for Traces {
    /// Counts only: the body may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces")
            .field("bytes", &self.body.len())
            .field("spans", &self.spans.len())
            .field("rejected", &self.rejected.len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn resource_path(resource: u32) -> String {
    format!("resourceSpans[{resource}]")
}
pub(crate) fn scope_path(resource: u32, scope: u32) -> String {
    format!("resourceSpans[{resource}].scopeSpans[{scope}]")
}
pub(crate) fn span_path(resource: u32, scope: u32, span: u32) -> String {
    format!("resourceSpans[{resource}].scopeSpans[{scope}].spans[{span}]")
}
