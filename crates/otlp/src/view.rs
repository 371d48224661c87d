//! Borrowed views of spans, resources, scopes, events and links.

use crate::ids::{SpanId, TraceId};
use crate::index::{Range, ResourceRec, ScopeRec, SpanRec, Traces};
use crate::key::{Keys, key_bit};
use crate::value::{Attributes, Value, next_of, text};
use crate::wire::{Fields, find_bytes, find_scalar};

/// One good span of an indexed request.
#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    pub(crate) traces: &'a Traces,
    pub(crate) i: u32,
}

impl<'a> SpanView<'a> {
    pub(crate) fn rec(&self) -> &'a SpanRec {
        // Views are only made for positions within `spans`, which never changes.
        &self.traces.spans[self.i as usize]
    }

    fn id<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.traces.body.get(at as usize..)?.first_chunk().copied()
    }

    fn str(&self, range: Range) -> &'a str {
        text(self.traces.bytes(range))
    }

    /// The content of the Span message.
    pub(crate) fn content(&self) -> &'a [u8] {
        self.traces.bytes(self.rec().content)
    }

    /// The content from the first field that starts at `first` on; empty if there is none.
    fn content_from(&self, first: u32) -> &'a [u8] {
        let from = if first == 0 { self.rec().content.to } else { first };
        self.traces.bytes(Range { from, to: self.rec().content.to })
    }

    /// Position among the good spans of the request.
    pub fn index(&self) -> usize {
        self.i as usize
    }

    /// Field path in the request (`resourceSpans[0].scopeSpans[0].spans[3]`), for messages.
    pub fn path(&self) -> String {
        self.traces.span_path(self.rec().scope, self.rec().position)
    }

    /// Trace id.
    pub fn trace_id(&self) -> TraceId {
        self.id(self.rec().trace_id).unwrap_or_default()
    }

    /// Span id.
    pub fn span_id(&self) -> SpanId {
        self.id(self.rec().span_id).unwrap_or_default()
    }

    /// Id of the parent; `None` for a root (absent, empty or all zero).
    pub fn parent_span_id(&self) -> Option<SpanId> {
        match self.rec().parent {
            0 => None,
            at => self.id(at),
        }
    }

    /// W3C trace state.
    pub fn trace_state(&self) -> &'a str {
        self.str(self.rec().trace_state)
    }

    /// W3C trace flags in the low 8 bits, OTLP's own above.
    pub fn flags(&self) -> u32 {
        self.rec().flags
    }

    /// Name.
    pub fn name(&self) -> &'a str {
        self.str(self.rec().name)
    }

    /// OTLP enum value: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub fn kind(&self) -> i32 {
        self.rec().kind
    }

    /// Start, in nanoseconds since 1970.
    pub fn start_unix_nano(&self) -> u64 {
        self.rec().start
    }

    /// End, in nanoseconds since 1970.
    pub fn end_unix_nano(&self) -> u64 {
        self.rec().end
    }

    /// 0 unset, 1 ok, 2 error.
    pub fn status_code(&self) -> i32 {
        self.rec().status_code
    }

    /// Text that comes with an error status.
    pub fn status_message(&self) -> &'a str {
        self.str(self.rec().status_message)
    }

    /// Bytes of the Span message on the wire, without tag and length prefix.
    pub fn encoded_len(&self) -> usize {
        self.rec().content.len()
    }

    /// All attributes in wire order, duplicates included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.content_from(self.rec().first_attribute), 9)
    }

    /// The last attribute of that key (protobuf and map semantics: last wins).
    #[inline]
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        if self.rec().keys & key_bit(key.as_bytes()) == 0 { None } else { self.look_up(key) }
    }

    /// What `read` makes of the first of these keys that is there and of which it makes something.
    #[inline]
    pub fn first<T>(&self, keys: Keys, mut read: impl FnMut(Value<'a>) -> Option<T>) -> Option<T> {
        if keys.are_missing(self.rec().keys) {
            return None;
        }
        keys.iter().find_map(|key| read(self.attribute(key)?))
    }

    fn look_up(&self, key: &str) -> Option<Value<'a>> {
        if key.is_empty() {
            return self.attributes().find(key);
        }
        let SpanRec { attributes: range, .. } = self.rec();
        let index = self.traces.attributes.get(range.from as usize..range.to as usize)?;
        let found = index.iter().rev().find(|a| {
            a.key_len as usize == key.len()
                && self.traces.body.get(a.key_from as usize..(a.key_from + a.key_len) as usize)
                    == Some(key.as_bytes())
        })?;
        Some(Value::of_key_value(self.traces.bytes(Range { from: found.at, to: found.at + found.len })))
    }

    /// Attributes the sender dropped.
    pub fn dropped_attributes_count(&self) -> u32 {
        find_scalar(self.content(), 10) as u32
    }

    /// Events the sender dropped.
    pub fn dropped_events_count(&self) -> u32 {
        find_scalar(self.content(), 12) as u32
    }

    /// Links the sender dropped.
    pub fn dropped_links_count(&self) -> u32 {
        find_scalar(self.content(), 14) as u32
    }

    /// Span events in wire order.
    pub fn events(&self) -> Events<'a> {
        let content = self.content_from(self.rec().first_event);
        Events { content, fields: Fields::new(content) }
    }

    /// Links in wire order.
    pub fn links(&self) -> Links<'a> {
        let content = self.content_from(self.rec().first_link);
        Links { content, fields: Fields::new(content) }
    }

    /// The resource it came from.
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView { traces: self.traces, i: self.scope().rec().resource }
    }

    /// The instrumentation scope it came from.
    pub fn scope(&self) -> ScopeView<'a> {
        ScopeView { traces: self.traces, i: self.rec().scope }
    }
}

/// The resource of some spans.
#[derive(Clone, Copy, Debug)]
pub struct ResourceView<'a> {
    pub(crate) traces: &'a Traces,
    pub(crate) i: u32,
}

impl<'a> ResourceView<'a> {
    fn rec(&self) -> ResourceRec {
        self.traces.resources.get(self.i as usize).copied().unwrap_or_default()
    }

    pub(crate) fn content(&self) -> &'a [u8] {
        self.traces.bytes(self.rec().resource)
    }

    /// The message is on the wire, be it empty.
    pub(crate) fn is_present(&self) -> bool {
        self.rec().resource.from > 0
    }

    /// Position among the `ResourceSpans` that hold good spans: equal for spans that share it.
    pub fn index(&self) -> usize {
        self.i as usize
    }

    /// All attributes in wire order, duplicates included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.content(), 1)
    }

    /// The last attribute of that key.
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        self.attributes().find(key)
    }

    /// Attributes the sender dropped.
    pub fn dropped_attributes_count(&self) -> u32 {
        find_scalar(self.content(), 2) as u32
    }

    /// Schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        text(self.traces.bytes(self.rec().schema_url))
    }
}

/// The instrumentation scope of some spans.
#[derive(Clone, Copy, Debug)]
pub struct ScopeView<'a> {
    pub(crate) traces: &'a Traces,
    pub(crate) i: u32,
}

impl<'a> ScopeView<'a> {
    fn rec(&self) -> ScopeRec {
        self.traces.scopes.get(self.i as usize).copied().unwrap_or_default()
    }

    pub(crate) fn content(&self) -> &'a [u8] {
        self.traces.bytes(self.rec().scope)
    }

    /// The message is on the wire, be it empty.
    pub(crate) fn is_present(&self) -> bool {
        self.rec().scope.from > 0
    }

    /// Position among the `ScopeSpans` that hold good spans, over all resources.
    pub fn index(&self) -> usize {
        self.i as usize
    }

    /// Name of the instrumentation library.
    pub fn name(&self) -> &'a str {
        text(find_bytes(self.content(), 1))
    }

    /// Its version.
    pub fn version(&self) -> &'a str {
        text(find_bytes(self.content(), 2))
    }

    /// All attributes in wire order, duplicates included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.content(), 3)
    }

    /// The last attribute of that key.
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        self.attributes().find(key)
    }

    /// Attributes the sender dropped.
    pub fn dropped_attributes_count(&self) -> u32 {
        find_scalar(self.content(), 4) as u32
    }

    /// Schema of the spans.
    pub fn schema_url(&self) -> &'a str {
        text(self.traces.bytes(self.rec().schema_url))
    }
}

/// Iterator over the events of a span.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    content: &'a [u8],
    fields: Fields<'a>,
}

impl<'a> Iterator for Events<'a> {
    type Item = EventView<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        let field = next_of(&mut self.fields, 11)?;
        Some(EventView { bytes: self.content.get(field.from..field.to).unwrap_or_default() })
    }
}

/// One span event.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    bytes: &'a [u8],
}

impl<'a> EventView<'a> {
    /// When it happened, in nanoseconds since 1970.
    pub fn time_unix_nano(&self) -> u64 {
        find_scalar(self.bytes, 1)
    }

    /// Name.
    pub fn name(&self) -> &'a str {
        text(find_bytes(self.bytes, 2))
    }

    /// All attributes in wire order, duplicates included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes, 3)
    }

    /// The last attribute of that key.
    pub fn attribute(&self, key: &str) -> Option<Value<'a>> {
        self.attributes().find(key)
    }

    /// Attributes the sender dropped.
    pub fn dropped_attributes_count(&self) -> u32 {
        find_scalar(self.bytes, 4) as u32
    }
}

/// Iterator over the links of a span.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    content: &'a [u8],
    fields: Fields<'a>,
}

impl<'a> Iterator for Links<'a> {
    type Item = LinkView<'a>;
    fn next(&mut self) -> Option<Self::Item> {
        let field = next_of(&mut self.fields, 13)?;
        Some(LinkView { bytes: self.content.get(field.from..field.to).unwrap_or_default() })
    }
}

/// One link to another span.
#[derive(Clone, Copy, Debug)]
pub struct LinkView<'a> {
    bytes: &'a [u8],
}

impl<'a> LinkView<'a> {
    /// The bytes of field 1 (trace id) or 2 (span id) as they are, possibly none.
    pub(crate) fn id_bytes(&self, number: u32) -> &'a [u8] {
        find_bytes(self.bytes, number)
    }

    /// Trace id; all zero if the link names none (the SDK specification allows that).
    pub fn trace_id(&self) -> TraceId {
        find_bytes(self.bytes, 1).first_chunk().copied().unwrap_or_default()
    }

    /// Span id; all zero if the link names none.
    pub fn span_id(&self) -> SpanId {
        find_bytes(self.bytes, 2).first_chunk().copied().unwrap_or_default()
    }

    /// W3C trace state of the linked span.
    pub fn trace_state(&self) -> &'a str {
        text(find_bytes(self.bytes, 3))
    }

    /// All attributes in wire order, duplicates included.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.bytes, 4)
    }

    /// Attributes the sender dropped.
    pub fn dropped_attributes_count(&self) -> u32 {
        find_scalar(self.bytes, 5) as u32
    }

    /// W3C trace flags in the low 8 bits, OTLP's own above.
    pub fn flags(&self) -> u32 {
        find_scalar(self.bytes, 6) as u32
    }
}
