//! Splicing writer: selected spans of an indexed request as a new request, kept bytes copied, only
//! length prefixes (and what an `Edit` changes) written anew. And a builder for spans made here.
use super::*;

/// Where an attribute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place { Resource, Scope, Span, Event, Link }

/// What happens to one attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Keep,
    Drop,
    /// Keep the key, put this string value in its place.
    ReplaceStr(String),
}

/// A projection of spans: asked for every attribute, status message and unknown field.
pub trait Edit {
    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict;
    /// `None` keeps the status message; `Some(text)` replaces it. Gets the whole span to find a class.
    fn status_message(&self, span: SpanView<'_>) -> Option<String> { None }
    /// False drops the whole span event.
    fn keep_event(&self, name: &str) -> bool { true }
    /// Unknown protobuf fields are kept unless this says otherwise.
    fn keep_unknown_fields(&self) -> bool { true }
    /// KeyValue-encoded attributes (`append_attribute`) added to each span.
    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {}
}

/// Appends the selected spans as ExportTraceServiceRequest bytes to `out` (concatenation of such
/// outputs is one valid request). Whole, unedited requests are copied as they are.
pub fn select(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>, out: &mut Vec<u8>) { unimplemented!() }

/// Owned value for building and for JSON transcoding.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue { Empty, Str(String), Bool(bool), Int(i64), Double(f64), Bytes(Vec<u8>), Array(Vec<OwnedValue>), Map(Vec<(String, OwnedValue)>) }
impl From<&str> for OwnedValue { fn from(s: &str) -> Self { OwnedValue::Str(s.into()) } }
impl From<String> for OwnedValue { fn from(s: String) -> Self { OwnedValue::Str(s) } }
impl From<i64> for OwnedValue { fn from(v: i64) -> Self { OwnedValue::Int(v) } }
impl From<f64> for OwnedValue { fn from(v: f64) -> Self { OwnedValue::Double(v) } }
impl From<bool> for OwnedValue { fn from(v: bool) -> Self { OwnedValue::Bool(v) } }

/// A span made here, to be encoded.
#[derive(Clone, Debug, Default)]
pub struct SpanBuilder {
    pub trace_id: TraceId, pub span_id: SpanId, pub parent_span_id: Option<SpanId>,
    pub name: String, pub kind: i32, pub start_unix_nano: u64, pub end_unix_nano: u64,
    pub attributes: Vec<(String, OwnedValue)>,
    pub events: Vec<(u64, String, Vec<(String, OwnedValue)>)>,
    pub status_code: i32, pub status_message: String,
}
/// Appends one ResourceSpans with one scope holding `spans`.
pub fn resource_spans(resource: &[(String, OwnedValue)], scope_name: &str, scope_version: &str, spans: &[SpanBuilder], out: &mut Vec<u8>) { unimplemented!() }
/// Appends one `attributes` field (field number `field`, wire type 2) holding the KeyValue.
pub fn append_attribute(field: u32, key: &str, value: &OwnedValue, out: &mut Vec<u8>) { unimplemented!() }
