//! Spans made here: owned values and a builder, encoded as OTLP.

use crate::ids::{SpanId, TraceId};
use crate::value::Value;
use crate::wire::{close, open, put_bytes, put_fixed64, put_uint};

/// Keys and values in order.
pub type Pairs = Vec<(String, OwnedValue)>;

/// Owned value for building.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// No value is set.
    Empty,
    /// A string.
    Str(String),
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list of values.
    Array(Vec<OwnedValue>),
    /// A list of key-value pairs.
    Map(Pairs),
}

impl From<&str> for OwnedValue {
    fn from(s: &str) -> Self {
        OwnedValue::Str(s.into())
    }
}
impl From<String> for OwnedValue {
    fn from(s: String) -> Self {
        OwnedValue::Str(s)
    }
}
impl From<i64> for OwnedValue {
    fn from(v: i64) -> Self {
        OwnedValue::Int(v)
    }
}
impl From<f64> for OwnedValue {
    fn from(v: f64) -> Self {
        OwnedValue::Double(v)
    }
}
impl From<bool> for OwnedValue {
    fn from(v: bool) -> Self {
        OwnedValue::Bool(v)
    }
}

impl From<&Value<'_>> for OwnedValue {
    fn from(value: &Value<'_>) -> Self {
        match value {
            Value::Empty => OwnedValue::Empty,
            Value::Str(s) => OwnedValue::Str((*s).into()),
            Value::Bool(v) => OwnedValue::Bool(*v),
            Value::Int(v) => OwnedValue::Int(*v),
            Value::Double(v) => OwnedValue::Double(*v),
            Value::Bytes(b) => OwnedValue::Bytes(b.to_vec()),
            Value::Array(a) => OwnedValue::Array(a.iter().map(|v| (&v).into()).collect()),
            Value::Map(m) => OwnedValue::Map(m.iter().map(|(k, v)| (k.into(), (&v).into())).collect()),
        }
    }
}

/// A span made here, to be encoded.
#[derive(Clone, Debug, Default)]
pub struct SpanBuilder {
    /// Trace id; must not be all zero.
    pub trace_id: TraceId,
    /// Span id; must not be all zero.
    pub span_id: SpanId,
    /// `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// Name.
    pub name: String,
    /// OTLP enum value: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Start, in nanoseconds since 1970.
    pub start_unix_nano: u64,
    /// End, in nanoseconds since 1970.
    pub end_unix_nano: u64,
    /// Attributes in this order.
    pub attributes: Pairs,
    /// Time in nanoseconds since 1970, name, attributes.
    pub events: Vec<(u64, String, Pairs)>,
    /// 0 unset, 1 ok, 2 error.
    pub status_code: i32,
    /// Text that comes with an error status.
    pub status_message: String,
}

/// Appends one ResourceSpans with one scope holding `spans`.
pub fn resource_spans(
    resource: &[(String, OwnedValue)],
    scope_name: &str,
    scope_version: &str,
    spans: &[SpanBuilder],
    out: &mut Vec<u8>,
) {
    let outer = open(out, 1, 1 << 10);
    let open_resource = open(out, 1, 1 << 6);
    resource.iter().for_each(|(key, value)| append_attribute(1, key, value, out));
    close(out, open_resource);

    let scope_spans = open(out, 2, 1 << 10);
    let scope = open(out, 1, 1 << 4);
    put_text(out, 1, scope_name);
    put_text(out, 2, scope_version);
    close(out, scope);
    spans.iter().for_each(|span| put_span(out, span));
    close(out, scope_spans);
    close(out, outer);
}

/// Appends one `attributes` field (field number `field`, wire type 2) holding the KeyValue.
pub fn append_attribute(field: u32, key: &str, value: &OwnedValue, out: &mut Vec<u8>) {
    let open = open(out, field, key.len() + guess(value) + 4);
    put_text(out, 1, key);
    put_value(out, 2, value);
    close(out, open);
}

fn put_span(out: &mut Vec<u8>, span: &SpanBuilder) {
    let outer = open(out, 2, 1 << 10);
    put_bytes(out, 1, &span.trace_id);
    put_bytes(out, 2, &span.span_id);
    if let Some(parent) = &span.parent_span_id {
        put_bytes(out, 4, parent);
    }
    put_text(out, 5, &span.name);
    put_enum(out, 6, span.kind);
    put_fixed64(out, 7, span.start_unix_nano);
    put_fixed64(out, 8, span.end_unix_nano);
    span.attributes.iter().for_each(|(key, value)| append_attribute(9, key, value, out));
    for (time, name, attributes) in &span.events {
        let event = open(out, 11, 1 << 7);
        put_fixed64(out, 1, *time);
        put_text(out, 2, name);
        attributes.iter().for_each(|(key, value)| append_attribute(3, key, value, out));
        close(out, event);
    }
    if span.status_code != 0 || !span.status_message.is_empty() {
        let status = open(out, 15, span.status_message.len() + 4);
        put_text(out, 2, &span.status_message);
        put_enum(out, 3, span.status_code);
        close(out, status);
    }
    close(out, outer);
}

/// Singular text is left out when empty.
fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

/// An enum value is left out when 0; negative ones are sign-extended.
fn put_enum(out: &mut Vec<u8>, number: u32, value: i32) {
    if value != 0 {
        put_uint(out, number, i64::from(value) as u64);
    }
}

fn put_value(out: &mut Vec<u8>, number: u32, value: &OwnedValue) {
    let any_value = open(out, number, guess(value));
    match value {
        OwnedValue::Empty => {}
        OwnedValue::Str(s) => put_bytes(out, 1, s.as_bytes()),
        OwnedValue::Bool(v) => put_uint(out, 2, u64::from(*v)),
        OwnedValue::Int(v) => put_uint(out, 3, *v as u64),
        OwnedValue::Double(v) => put_fixed64(out, 4, v.to_bits()),
        OwnedValue::Array(values) => {
            let array = open(out, 5, 1 << 6);
            values.iter().for_each(|value| put_value(out, 1, value));
            close(out, array);
        }
        OwnedValue::Map(entries) => {
            let map = open(out, 6, 1 << 6);
            entries.iter().for_each(|(key, value)| append_attribute(1, key, value, out));
            close(out, map);
        }
        OwnedValue::Bytes(bytes) => put_bytes(out, 7, bytes),
    }
    close(out, any_value);
}

/// Roughly the encoded bytes: a length prefix of the right size saves moving the content.
fn guess(value: &OwnedValue) -> usize {
    match value {
        OwnedValue::Str(s) => s.len() + 4,
        OwnedValue::Bytes(b) => b.len() + 4,
        OwnedValue::Array(_) | OwnedValue::Map(_) => 1 << 7,
        _ => 10,
    }
}
