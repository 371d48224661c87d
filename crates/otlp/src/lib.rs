//! OTLP trace data as borrowed views over wire bytes, a splicing writer, and OTLP/JSON both ways.
#![allow(unused, missing_docs, clippy::unimplemented)]

use bytes::Bytes;

pub mod json;
pub mod write;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

/// Bounds one request is held to while it is indexed.
#[derive(Clone, Debug)]
pub struct Limits {
    pub depth: u32,
    pub attributes_per_span: u32,
    pub span_bytes: u32,
    pub spans_per_request: u32,
}
impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 64, attributes_per_span: 2048, span_bytes: 8 << 20, spans_per_request: 100_000 }
    }
}

/// The whole body is unusable. `path` is the field path (`resourceSpans[0].scopeSpans[2]`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DecodeError {
    pub path: String,
    pub reason: String,
}

/// One span of an otherwise good request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub path: String,
    pub reason: String,
}

/// An `ExportTraceServiceRequest`, walked once: per span its range, ids, times and attribute ranges.
#[derive(Debug, Clone)]
pub struct Traces {}

impl Traces {
    /// Walks the wire once and checks everything a standard decoder may refuse.
    pub fn index(body: Bytes, limits: &Limits) -> Result<Traces, DecodeError> {
        unimplemented!()
    }
    /// The bytes the index speaks of (canonicalised spans may make it differ from the input).
    pub fn body(&self) -> &Bytes {
        unimplemented!()
    }
    /// Number of good spans.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn rejected(&self) -> &[Rejected] {
        unimplemented!()
    }
    /// Every span in `body` is good: the body can be forwarded as it is.
    pub fn is_whole(&self) -> bool {
        unimplemented!()
    }
    /// Panics if `i >= len()`.
    pub fn span(&self, i: usize) -> SpanView<'_> {
        unimplemented!()
    }
    pub fn spans(&self) -> impl Iterator<Item = SpanView<'_>> {
        (0..self.len()).map(|i| self.span(i))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    traces: &'a Traces,
    i: u32,
}
impl<'a> SpanView<'a> {
    pub fn index(&self) -> usize { self.i as usize }
    pub fn trace_id(&self) -> TraceId { unimplemented!() }
    pub fn span_id(&self) -> SpanId { unimplemented!() }
    pub fn parent_span_id(&self) -> Option<SpanId> { unimplemented!() }
    pub fn trace_state(&self) -> &'a str { unimplemented!() }
    pub fn flags(&self) -> u32 { unimplemented!() }
    pub fn name(&self) -> &'a str { unimplemented!() }
    /// OTLP enum value: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub fn kind(&self) -> i32 { unimplemented!() }
    pub fn start_unix_nano(&self) -> u64 { unimplemented!() }
    pub fn end_unix_nano(&self) -> u64 { unimplemented!() }
    /// 0 unset, 1 ok, 2 error.
    pub fn status_code(&self) -> i32 { unimplemented!() }
    pub fn status_message(&self) -> &'a str { unimplemented!() }
    /// Bytes of the Span message on the wire.
    pub fn encoded_len(&self) -> usize { unimplemented!() }
    pub fn attributes(&self) -> Attributes<'a> { unimplemented!() }
    /// The last attribute of that key (protobuf and map semantics: last wins).
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> { unimplemented!() }
    pub fn events(&self) -> Events<'a> { unimplemented!() }
    pub fn links(&self) -> Links<'a> { unimplemented!() }
    pub fn resource(&self) -> ResourceView<'a> { unimplemented!() }
    pub fn scope(&self) -> ScopeView<'a> { unimplemented!() }
}

#[derive(Clone, Copy, Debug)]
pub struct ResourceView<'a> { traces: &'a Traces, i: u32 }
impl<'a> ResourceView<'a> {
    /// Position of its `ResourceSpans` in the request: equal for spans that share it.
    pub fn index(&self) -> usize { self.i as usize }
    pub fn attributes(&self) -> Attributes<'a> { unimplemented!() }
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> { unimplemented!() }
    pub fn schema_url(&self) -> &'a str { unimplemented!() }
}
#[derive(Clone, Copy, Debug)]
pub struct ScopeView<'a> { traces: &'a Traces, i: u32 }
impl<'a> ScopeView<'a> {
    pub fn index(&self) -> usize { self.i as usize }
    pub fn name(&self) -> &'a str { unimplemented!() }
    pub fn version(&self) -> &'a str { unimplemented!() }
    pub fn attributes(&self) -> Attributes<'a> { unimplemented!() }
    pub fn schema_url(&self) -> &'a str { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct Attributes<'a> { bytes: &'a [u8] }
impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, Value<'a>);
    fn next(&mut self) -> Option<Self::Item> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct Events<'a> { bytes: &'a [u8] }
impl<'a> Iterator for Events<'a> {
    type Item = EventView<'a>;
    fn next(&mut self) -> Option<Self::Item> { unimplemented!() }
}
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> { bytes: &'a [u8] }
impl<'a> EventView<'a> {
    pub fn time_unix_nano(&self) -> u64 { unimplemented!() }
    pub fn name(&self) -> &'a str { unimplemented!() }
    pub fn attributes(&self) -> Attributes<'a> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct Links<'a> { bytes: &'a [u8] }
impl<'a> Iterator for Links<'a> {
    type Item = LinkView<'a>;
    fn next(&mut self) -> Option<Self::Item> { unimplemented!() }
}
#[derive(Clone, Copy, Debug)]
pub struct LinkView<'a> { bytes: &'a [u8] }
impl<'a> LinkView<'a> {
    pub fn trace_id(&self) -> TraceId { unimplemented!() }
    pub fn span_id(&self) -> SpanId { unimplemented!() }
    pub fn attributes(&self) -> Attributes<'a> { unimplemented!() }
}

/// A borrowed `AnyValue`.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Empty,
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    Array(ArrayValue<'a>),
    Map(MapValue<'a>),
}
impl<'a> Value<'a> {
    pub fn as_str(&self) -> Option<&'a str> { match self { Value::Str(s) => Some(s), _ => None } }
}
#[derive(Clone, Debug)]
pub struct ArrayValue<'a> { bytes: &'a [u8] }
impl<'a> ArrayValue<'a> {
    pub fn iter(&self) -> ArrayIter<'a> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct ArrayIter<'a> { bytes: &'a [u8] }
impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;
    fn next(&mut self) -> Option<Self::Item> { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct MapValue<'a> { bytes: &'a [u8] }
impl<'a> MapValue<'a> {
    pub fn iter(&self) -> Attributes<'a> { unimplemented!() }
}

/// A set of span positions out of `len` spans. All-selected costs no allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanSet {}
impl SpanSet {
    pub fn all(len: u32) -> SpanSet { unimplemented!() }
    pub fn none(len: u32) -> SpanSet { unimplemented!() }
    pub fn from_positions(len: u32, positions: impl IntoIterator<Item = u32>) -> SpanSet { unimplemented!() }
    /// Size of the universe.
    pub fn len(&self) -> u32 { unimplemented!() }
    pub fn count(&self) -> u32 { unimplemented!() }
    pub fn is_all(&self) -> bool { unimplemented!() }
    pub fn is_empty(&self) -> bool { unimplemented!() }
    pub fn contains(&self, i: u32) -> bool { unimplemented!() }
    pub fn insert(&mut self, i: u32) { unimplemented!() }
    pub fn iter(&self) -> impl Iterator<Item = u32> { std::iter::empty() }
    pub fn union(&self, other: &SpanSet) -> SpanSet { unimplemented!() }
    /// The same spans as positions within `kept` (what remains after only `kept` was written).
    pub fn within(&self, kept: &SpanSet) -> SpanSet { unimplemented!() }
    /// Compact: varint len, then 0 = all / 1 = bitmap bytes.
    pub fn encode(&self, out: &mut Vec<u8>) { unimplemented!() }
    /// Returns the set and the bytes read; `None` if damaged.
    pub fn decode(bytes: &[u8]) -> Option<(SpanSet, usize)> { unimplemented!() }
}

/// Stored OTLP bytes, indexed on first need and shared.
#[derive(Debug)]
pub struct Payload {}
impl Payload {
    pub fn new(bytes: Bytes, spans: u32) -> Payload { unimplemented!() }
    /// From a request that is already indexed (`is_whole`).
    pub fn from_traces(traces: Traces) -> Payload { unimplemented!() }
    pub fn bytes(&self) -> &Bytes { unimplemented!() }
    pub fn spans(&self) -> u32 { unimplemented!() }
    pub fn traces(&self) -> Result<&Traces, DecodeError> { unimplemented!() }
}
