//! Edited copies: attributes dropped, replaced or added, status messages replaced, events dropped.

use super::{keeps, keeps_scope, scopes_of};
use crate::index::{ResourceRec, ScopeRec, Traces};
use crate::schema::{EVENT, Kind, LINK, Message, RESOURCE, SCOPE, SPAN, STATUS};
use crate::span_set::SpanSet;
use crate::value::{RawAttribute, Value, text};
use crate::view::SpanView;
use crate::wire::{
    Field, Fields, Reader, close, find_bytes, find_scalar, open, put_bytes, put_prefix, put_uint, varint_len,
};

/// Where an attribute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the resource.
    Resource,
    /// On the instrumentation scope.
    Scope,
    /// On the span.
    Span,
    /// On a span event.
    Event,
    /// On a link.
    Link,
}

/// What happens to one attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Copy it as it is.
    Keep,
    /// Leave it out.
    Drop,
    /// Keep the key, put this string value in its place.
    ReplaceStr(String),
}

/// A projection of spans: asked for every attribute, status message and unknown field.
///
/// Attributes of a resource or scope are asked for once per `ResourceSpans` or `ScopeSpans`, those
/// of spans, events and links once per span. Keys inside of structured values are not asked for.
pub trait Edit {
    /// The verdict where the key alone decides it; its bytes are UTF-8. `None` asks [`Edit::attribute`];
    /// answering here saves reading key and value.
    fn attribute_by_key(&self, _place: Place, _key: &[u8]) -> Option<Verdict> {
        None
    }
    /// The verdict on one attribute.
    fn attribute(&self, place: Place, key: &str, value: &Value<'_>) -> Verdict;
    /// `None` keeps the status message; `Some(text)` replaces it. Gets the whole span to find a
    /// class. Asked only if there is a message.
    fn status_message(&self, _span: SpanView<'_>) -> Option<String> {
        None
    }
    /// False drops the whole span event.
    fn keep_event(&self, _name: &str) -> bool {
        true
    }
    /// Unknown protobuf fields are kept unless this says otherwise. False drops them at every level.
    fn keep_unknown_fields(&self) -> bool {
        true
    }
    /// KeyValue-encoded attributes ([`append_attribute`](super::append_attribute) with
    /// [`SPAN_ATTRIBUTES`](super::SPAN_ATTRIBUTES)) added to each span.
    fn extra_attributes(&self, _span: SpanView<'_>, _out: &mut Vec<u8>) {}
    /// The same with [`RESOURCE_ATTRIBUTES`](super::RESOURCE_ATTRIBUTES), added to each resource.
    fn extra_resource_attributes(&self, _out: &mut Vec<u8>) {}
}

/// The verdict of an edit on one attribute.
pub(crate) fn judge(edit: &dyn Edit, place: Place, attribute: RawAttribute<'_>) -> Verdict {
    edit.attribute_by_key(place, attribute.key_bytes())
        .unwrap_or_else(|| edit.attribute(place, attribute.key(), &attribute.value()))
}

pub(super) fn select(traces: &Traces, spans: &SpanSet, edit: &dyn Edit, out: &mut Vec<u8>) {
    let keep_unknown = edit.keep_unknown_fields();
    let mut resource_extra = Vec::new();
    edit.extra_resource_attributes(&mut resource_extra);
    let mut editor = Editor { traces, spans, edit, keep_unknown, resource_extra, out };
    if !traces.resources.iter().any(|rec| keeps(traces, spans, rec)) {
        return;
    }
    let mut at = 0;
    for rec in &traces.resources {
        editor.unknown_between(at, rec.at, 1);
        at = rec.content.to;
        if keeps(traces, spans, rec) {
            editor.resource_spans(rec);
        }
    }
    editor.unknown_between(at, traces.body.len() as u32, 1);
}

struct Editor<'a> {
    traces: &'a Traces,
    spans: &'a SpanSet,
    edit: &'a dyn Edit,
    keep_unknown: bool,
    resource_extra: Vec<u8>,
    out: &'a mut Vec<u8>,
}

impl Editor<'_> {
    fn unknown_between(&mut self, from: u32, to: u32, except: u32) {
        if self.keep_unknown {
            self.others(from, to, except, |_, _| false);
        }
    }

    /// Copies the fields between two positions except those of one number. `handle` says whether it
    /// took care of a field itself.
    fn others(&mut self, from: u32, to: u32, except: u32, mut handle: impl FnMut(&mut Self, &Field) -> bool) {
        let body: &[u8] = &self.traces.body;
        for field in Fields(Reader::at(body, from as usize, to as usize)) {
            if field.number != except && !handle(self, &field) {
                self.out.extend_from_slice(body.get(field.at..field.to).unwrap_or_default());
            }
        }
    }

    /// Resource, scope or schema URL beside the repeated field 2; unknown fields as the edit wants.
    /// True if the resource (or scope) was among them.
    fn context(&mut self, from: u32, to: u32, place: Place, strip: bool) -> bool {
        let (message, attributes) = match place {
            Place::Resource => (&RESOURCE, 1),
            _ => (&SCOPE, 3),
        };
        let mut found = false;
        self.others(from, to, 2, |this, field| match field.number {
            1 => {
                let content = this.traces.body.get(field.from..field.to).unwrap_or_default();
                let open = open(this.out, 1, content.len());
                this.parts(message, content, (attributes, place), strip, |_, _, _| false);
                if place == Place::Resource {
                    this.out.extend_from_slice(&this.resource_extra);
                }
                close(this.out, open);
                found = true;
                true
            }
            number => strip && number != 3,
        });
        found
    }

    fn resource_spans(&mut self, rec: &ResourceRec) {
        // Looked for only where the index saw some.
        let strip = !self.keep_unknown && rec.unknown;
        let open = open(self.out, 1, rec.content.len());
        let mut at = rec.content.from;
        let mut has_resource = false;
        for scope in scopes_of(self.traces, rec) {
            has_resource |= self.context(at, scope.at, Place::Resource, strip);
            at = scope.content.to;
            if keeps_scope(self.spans, scope) {
                self.scope_spans(scope);
            }
        }
        has_resource |= self.context(at, rec.content.to, Place::Resource, strip);
        if !has_resource && !self.resource_extra.is_empty() {
            put_bytes(self.out, 1, &self.resource_extra);
        }
        close(self.out, open);
    }

    fn scope_spans(&mut self, rec: &ScopeRec) {
        let strip = !self.keep_unknown && rec.unknown;
        let open = open(self.out, 2, rec.content.len());
        let mut at = rec.content.from;
        for i in rec.spans.from..rec.spans.to {
            let Some(span) = self.traces.spans.get(i as usize) else { continue };
            self.context(at, span.at, Place::Scope, strip);
            at = span.content.to;
            if self.spans.contains(i) {
                self.span(SpanView { traces: self.traces, i });
            }
        }
        self.context(at, rec.content.to, Place::Scope, strip);
        close(self.out, open);
    }

    fn span(&mut self, span: SpanView<'_>) {
        let content = span.content();
        let strip = !self.keep_unknown && span.rec().unknown;
        let open = open(self.out, 2, content.len());
        self.parts(&SPAN, content, (9, Place::Span), strip, |this, part, raw| match part.number {
            11 => {
                if this.edit.keep_event(text(find_bytes(raw, 2))) {
                    this.nested(11, &EVENT, raw, (3, Place::Event), strip);
                }
                true
            }
            13 => {
                this.nested(13, &LINK, raw, (4, Place::Link), strip);
                true
            }
            15 => this.status(span, raw, strip),
            _ => false,
        });
        self.edit.extra_attributes(span, self.out);
        close(self.out, open);
    }

    /// An event or a link.
    fn nested(
        &mut self,
        number: u32,
        message: &'static Message,
        content: &[u8],
        attributes: (u32, Place),
        strip: bool,
    ) {
        let open = open(self.out, number, content.len());
        self.parts(message, content, attributes, strip, |_, _, _| false);
        close(self.out, open);
    }

    /// Writes a message part by part. `attributes` are in the field of that number. `handle` gets any other message
    /// in a field and says whether it wrote (or dropped) it; everything else is copied, in runs.
    fn parts(
        &mut self,
        message: &'static Message,
        content: &[u8],
        attributes: (u32, Place),
        strip: bool,
        mut handle: impl FnMut(&mut Self, &Field, &[u8]) -> bool,
    ) {
        let mut run = 0..0;
        for field in Fields::new(content) {
            let verdict = (field.number == attributes.0).then(|| {
                let raw = RawAttribute::new(content.get(field.from..field.to).unwrap_or_default());
                (judge(self.edit, attributes.1, raw), raw)
            });
            if !strip && field.at == run.end && matches!(verdict, Some((Verdict::Keep, _))) {
                run.end = field.to;
                continue;
            }
            let kind = message.field(field.number).map(|spec| spec.kind);
            let drop = kind.is_none() && strip;
            if drop || field.at != run.end || matches!(kind, Some(Kind::Message(_))) {
                // What is written next must come behind the run, so the run goes first.
                self.out.extend_from_slice(content.get(run).unwrap_or_default());
                run = field.at..field.at;
            }
            if drop {
                continue;
            }
            if let Some(Kind::Message(sub)) = kind {
                let raw = content.get(field.from..field.to).unwrap_or_default();
                let is_done = match verdict {
                    None => handle(self, &field, raw),
                    Some((Verdict::Keep, _)) => false,
                    Some((Verdict::Drop, _)) => true,
                    Some((Verdict::ReplaceStr(value), attribute)) => {
                        put_string_attribute(self.out, field.number, attribute.key_bytes(), &value);
                        true
                    }
                };
                if is_done {
                    continue;
                }
                if strip {
                    stripped(field.number, sub, raw, self.out);
                    continue;
                }
            }
            run.end = field.to;
        }
        self.out.extend_from_slice(content.get(run).unwrap_or_default());
    }

    /// False: copy it as it is.
    fn status(&mut self, span: SpanView<'_>, raw: &[u8], strip: bool) -> bool {
        if span.status_message().is_empty() {
            return false;
        }
        let Some(message) = self.edit.status_message(span) else { return false };
        let open = open(self.out, 15, raw.len());
        if !message.is_empty() {
            put_bytes(self.out, 2, message.as_bytes());
        }
        match find_scalar(raw, 3) {
            0 => {}
            code => put_uint(self.out, 3, code),
        }
        if !strip {
            for field in Fields::new(raw).filter(|f| STATUS.field(f.number).is_none()) {
                self.out.extend_from_slice(raw.get(field.at..field.to).unwrap_or_default());
            }
        }
        close(self.out, open);
        true
    }
}

fn put_string_attribute(out: &mut Vec<u8>, number: u32, key: &[u8], value: &str) {
    let field = |len: usize| 1 + varint_len(len as u64) + len;
    let any_value = field(value.len());
    put_prefix(out, number, field(key.len()) + field(any_value));
    put_bytes(out, 1, key);
    put_prefix(out, 2, any_value);
    put_bytes(out, 1, value.as_bytes());
}

/// A message without its unknown fields, at every level.
fn stripped(number: u32, message: &'static Message, content: &[u8], out: &mut Vec<u8>) {
    let open = open(out, number, content.len());
    for field in Fields::new(content) {
        match message.field(field.number).map(|spec| spec.kind) {
            None => {}
            Some(Kind::Message(sub)) => {
                stripped(field.number, sub, content.get(field.from..field.to).unwrap_or_default(), out);
            }
            Some(_) => out.extend_from_slice(content.get(field.at..field.to).unwrap_or_default()),
        }
    }
    close(out, open);
}
