//! OTLP/JSON and plain JSON written straight from the views.

use std::collections::HashMap;

use super::text::{push_base64, push_f64, push_i64, push_string, push_u64};
use crate::ids::digits;
use crate::index::{ResourceRec, ScopeRec, Traces};
use crate::span_set::SpanSet;
use crate::value::{Attributes, MapValue, Value, text};
use crate::view::{EventView, LinkView, ResourceView, ScopeView, SpanView};
use crate::wire::{Fields, find_bytes};
use crate::write::{
    Edit, Place, RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, Verdict, judge, keeps, keeps_scope, scopes_of,
};

/// Appends the comma-separated elements of `resourceSpans` for the selected spans (no brackets), so
/// that several requests can share one envelope. Nothing selected appends nothing.
///
/// Compact and canonical: 64-bit integers and times as strings, ids as lower-case hex, no defaults,
/// not finite doubles as strings. Unknown protobuf fields have no JSON form.
pub fn encode(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>, out: &mut Vec<u8>) {
    let mut writer = Writer { traces, spans, edit, out, extra: Vec::new() };
    let mut comma = Comma::default();
    for (i, rec) in (0..).zip(&traces.resources) {
        if keeps(traces, spans, rec) {
            comma.put(writer.out);
            writer.resource_spans(ResourceView { traces, i }, rec);
        }
    }
}

/// Appends an AnyValue as plain JSON (string, number, array, object; bytes as base64; NaN and
/// infinities as strings; empty as null). Of equal keys in a map the last stays.
pub fn plain_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Empty => out.extend_from_slice(b"null"),
        Value::Str(s) => push_string(s, out),
        Value::Bool(v) => push_bool(*v, out),
        Value::Int(v) => push_i64(*v, out),
        Value::Double(v) => push_f64(*v, out),
        Value::Bytes(bytes) => push_base64(bytes, out),
        Value::Array(values) => {
            out.push(b'[');
            let mut comma = Comma::default();
            for value in values.iter() {
                comma.put(out);
                plain_value(&value, out);
            }
            out.push(b']');
        }
        Value::Map(map) => plain_map(map, out),
    }
}

fn plain_map(map: &MapValue<'_>, out: &mut Vec<u8>) {
    // A JSON object with equal keys means something else to every reader.
    let last: HashMap<&str, usize> = map.iter().raw().map(|a| a.key()).zip(0..).collect();
    out.push(b'{');
    let mut comma = Comma::default();
    for (attribute, at) in map.iter().raw().zip(0..) {
        if last.get(attribute.key()) == Some(&at) {
            comma.put(out);
            push_string(attribute.key(), out);
            out.push(b':');
            plain_value(&attribute.value(), out);
        }
    }
    out.push(b'}');
}

/// Puts a comma before each element but the first.
#[derive(Default)]
struct Comma(bool);

impl Comma {
    fn put(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.0, true) {
            out.push(b',');
        }
    }
}

/// An object being written; members with default values are left out.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    comma: Comma,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, comma: Comma::default() }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// Writes a key that needs no escaping; the value is to follow.
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma.put(self.out);
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            push_string(text, self.key(key));
        }
    }

    fn id(&mut self, key: &str, id: &[u8]) {
        if id.is_empty() {
            return;
        }
        let out = self.key(key);
        out.push(b'"');
        id.iter().for_each(|&byte| out.extend_from_slice(&digits(byte)));
        out.push(b'"');
    }

    fn number(&mut self, key: &str, value: i64) {
        if value != 0 {
            push_i64(value, self.key(key));
        }
    }

    fn time(&mut self, key: &str, nanos: u64) {
        if nanos != 0 {
            let out = self.key(key);
            out.push(b'"');
            push_u64(nanos, out);
            out.push(b'"');
        }
    }
}

struct Writer<'a> {
    traces: &'a Traces,
    spans: &'a SpanSet,
    edit: Option<&'a dyn Edit>,
    out: &'a mut Vec<u8>,
    /// Scratch for what the edit adds to a span.
    extra: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn resource_spans(&mut self, view: ResourceView<'a>, rec: &ResourceRec) {
        let edit = self.edit;
        self.extra.clear();
        if let Some(edit) = edit {
            edit.extra_resource_attributes(&mut self.extra);
        }
        let mut object = Object::open(self.out);
        if view.is_present() || !self.extra.is_empty() {
            let mut resource = Object::open(object.key("resource"));
            let mut list = List::new("attributes");
            list.attributes(&mut resource, edit, Place::Resource, view.attributes());
            let extra = Attributes::new(&self.extra, RESOURCE_ATTRIBUTES);
            list.attributes(&mut resource, None, Place::Resource, extra);
            list.close(&mut resource);
            resource.number("droppedAttributesCount", view.dropped_attributes_count().into());
            entity_refs(&mut resource, view.content());
            resource.close();
        }
        object.key("scopeSpans").push(b'[');
        let mut comma = Comma::default();
        let traces = self.traces;
        for (i, scope) in (rec.scopes.from..).zip(scopes_of(traces, rec)) {
            if keeps_scope(self.spans, scope) {
                comma.put(self.out);
                self.scope_spans(ScopeView { traces, i }, scope);
            }
        }
        self.out.push(b']');
        self.end(view.schema_url());
    }

    fn scope_spans(&mut self, view: ScopeView<'a>, rec: &ScopeRec) {
        let edit = self.edit;
        let mut object = Object::open(self.out);
        if view.is_present() {
            let mut scope = Object::open(object.key("scope"));
            scope.text("name", view.name());
            scope.text("version", view.version());
            attributes(&mut scope, edit, Place::Scope, view.attributes());
            scope.number("droppedAttributesCount", view.dropped_attributes_count().into());
            scope.close();
        }
        object.key("spans").push(b'[');
        let mut comma = Comma::default();
        for i in (rec.spans.from..rec.spans.to).filter(|&i| self.spans.contains(i)) {
            comma.put(self.out);
            self.span(SpanView { traces: self.traces, i });
        }
        self.out.push(b']');
        self.end(view.schema_url());
    }

    /// The last member of a `ResourceSpans` or `ScopeSpans`, and its end.
    fn end(&mut self, schema_url: &str) {
        if !schema_url.is_empty() {
            self.out.extend_from_slice(b",\"schemaUrl\":");
            push_string(schema_url, self.out);
        }
        self.out.push(b'}');
    }

    fn span(&mut self, span: SpanView<'a>) {
        let edit = self.edit;
        self.extra.clear();
        if let Some(edit) = edit {
            edit.extra_attributes(span, &mut self.extra);
        }
        let mut object = Object::open(self.out);
        object.id("traceId", &span.trace_id());
        object.id("spanId", &span.span_id());
        object.text("traceState", span.trace_state());
        if let Some(parent) = span.parent_span_id() {
            object.id("parentSpanId", &parent);
        }
        object.number("flags", span.flags().into());
        object.text("name", span.name());
        object.number("kind", span.kind().into());
        object.time("startTimeUnixNano", span.start_unix_nano());
        object.time("endTimeUnixNano", span.end_unix_nano());
        let mut list = List::new("attributes");
        list.attributes(&mut object, edit, Place::Span, span.attributes());
        list.attributes(&mut object, None, Place::Span, Attributes::new(&self.extra, SPAN_ATTRIBUTES));
        list.close(&mut object);
        object.number("droppedAttributesCount", span.dropped_attributes_count().into());
        let mut list = List::new("events");
        for event in span.events().filter(|event| edit.is_none_or(|edit| edit.keep_event(event.name()))) {
            put_event(edit, event, list.next(&mut object));
        }
        list.close(&mut object);
        object.number("droppedEventsCount", span.dropped_events_count().into());
        let mut list = List::new("links");
        for link in span.links() {
            put_link(edit, link, list.next(&mut object));
        }
        list.close(&mut object);
        object.number("droppedLinksCount", span.dropped_links_count().into());
        status(&mut object, edit, span);
        object.close();
    }
}

/// A list member of an object that is left out when it stays empty.
struct List {
    key: &'static str,
    open: bool,
}

impl List {
    fn new(key: &'static str) -> List {
        List { key, open: false }
    }

    /// Where the next element goes.
    fn next<'o>(&mut self, object: &'o mut Object<'_>) -> &'o mut Vec<u8> {
        if std::mem::replace(&mut self.open, true) {
            object.out.push(b',');
        } else {
            object.key(self.key).push(b'[');
        }
        object.out
    }

    fn close(self, object: &mut Object<'_>) {
        if self.open {
            object.out.push(b']');
        }
    }

    fn attributes(
        &mut self,
        object: &mut Object<'_>,
        edit: Option<&dyn Edit>,
        place: Place,
        from: Attributes<'_>,
    ) {
        for attribute in from.raw() {
            match edit.map_or(Verdict::Keep, |edit| judge(edit, place, attribute)) {
                Verdict::Keep => put_pair(attribute.key(), &attribute.value(), self.next(object)),
                Verdict::Drop => {}
                Verdict::ReplaceStr(text) => put_pair(attribute.key(), &Value::Str(&text), self.next(object)),
            }
        }
    }
}

fn attributes(object: &mut Object<'_>, edit: Option<&dyn Edit>, place: Place, from: Attributes<'_>) {
    let mut list = List::new("attributes");
    list.attributes(object, edit, place, from);
    list.close(object);
}

fn entity_refs(object: &mut Object<'_>, resource: &[u8]) {
    let mut list = List::new("entityRefs");
    for field in Fields::new(resource).filter(|f| f.number == 3) {
        let content = resource.get(field.from..field.to).unwrap_or_default();
        let mut entity = Object::open(list.next(object));
        // All members, empty or not: receivers built on opentelemetry-proto for Rust require them.
        push_string(text(find_bytes(content, 1)), entity.key("schemaUrl"));
        push_string(text(find_bytes(content, 2)), entity.key("type"));
        for (number, key) in [(3, "idKeys"), (4, "descriptionKeys")] {
            let out = entity.key(key);
            out.push(b'[');
            let mut comma = Comma::default();
            for field in Fields::new(content).filter(|f| f.number == number) {
                comma.put(out);
                push_string(text(content.get(field.from..field.to).unwrap_or_default()), out);
            }
            out.push(b']');
        }
        entity.close();
    }
    list.close(object);
}

fn put_event(edit: Option<&dyn Edit>, event: EventView<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.time("timeUnixNano", event.time_unix_nano());
    object.text("name", event.name());
    attributes(&mut object, edit, Place::Event, event.attributes());
    object.number("droppedAttributesCount", event.dropped_attributes_count().into());
    object.close();
}

fn put_link(edit: Option<&dyn Edit>, link: LinkView<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.id("traceId", link.id_bytes(1));
    object.id("spanId", link.id_bytes(2));
    object.text("traceState", link.trace_state());
    attributes(&mut object, edit, Place::Link, link.attributes());
    object.number("droppedAttributesCount", link.dropped_attributes_count().into());
    object.number("flags", link.flags().into());
    object.close();
}

fn status(object: &mut Object<'_>, edit: Option<&dyn Edit>, span: SpanView<'_>) {
    let message = span.status_message();
    let replaced = edit.filter(|_| !message.is_empty()).and_then(|edit| edit.status_message(span));
    let message = replaced.as_deref().unwrap_or(message);
    if span.status_code() != 0 || !message.is_empty() {
        let mut status = Object::open(object.key("status"));
        status.text("message", message);
        status.number("code", span.status_code().into());
        status.close();
    }
}

fn put_pair(key: &str, value: &Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"key\":");
    push_string(key, out);
    out.extend_from_slice(b",\"value\":");
    put_value(value, out);
    out.push(b'}');
}

fn put_value(value: &Value<'_>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    match value {
        Value::Empty => {}
        Value::Str(s) => push_string(s, object.key("stringValue")),
        Value::Bool(v) => push_bool(*v, object.key("boolValue")),
        Value::Int(v) => {
            let out = object.key("intValue");
            out.push(b'"');
            push_i64(*v, out);
            out.push(b'"');
        }
        Value::Double(v) => push_f64(*v, object.key("doubleValue")),
        Value::Bytes(bytes) => push_base64(bytes, object.key("bytesValue")),
        Value::Array(values) => {
            let out = object.key("arrayValue");
            out.extend_from_slice(b"{\"values\":[");
            let mut comma = Comma::default();
            for value in values.iter() {
                comma.put(out);
                put_value(&value, out);
            }
            out.extend_from_slice(b"]}");
        }
        Value::Map(map) => {
            let out = object.key("kvlistValue");
            out.extend_from_slice(b"{\"values\":[");
            let mut comma = Comma::default();
            for (key, value) in map.iter() {
                comma.put(out);
                put_pair(key, &value, out);
            }
            out.extend_from_slice(b"]}");
        }
    }
    object.close();
}

fn push_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}
