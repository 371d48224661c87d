//! The index of a request: one walk over the wire, ranges and ids recorded, bad spans rejected.

use std::fmt;

use bytes::Bytes;

use crate::canonical;
use crate::check::{Checker, Fault, segment};
use crate::schema::{KEY_VALUE, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN};
use crate::view::SpanView;
use crate::wire::{Field, Fields, Reader, Wire};

/// Bounds one request is held to while it is indexed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Message levels below the request (a span is level 3, an attribute's value level 5); at most
    /// 96 count, because the usual decoders stop at 100.
    pub depth: u32,
    /// Attributes of one span.
    pub attributes_per_span: u32,
    /// Encoded bytes of one span.
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
    rejected: Vec<Rejected>,
    whole: bool,
}

/// A range of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Range {
    fn of(field: &Field) -> Range {
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

struct Walk<'a> {
    check: Checker<'a>,
    limits: &'a Limits,
    seen_spans: u32,
    spans: Vec<SpanRec>,
    attributes: Vec<AttributeRec>,
    scopes: Vec<ScopeRec>,
    resources: Vec<ResourceRec>,
    rejected: Vec<Rejected>,
    whole: bool,
}

/// The index, and whether the body has to be brought into canonical form first.
fn walk(body: Bytes, limits: &Limits) -> Result<(Traces, bool), DecodeError> {
    let mut walk = Walk {
        check: Checker::new(&body, limits.depth),
        limits,
        seen_spans: 0,
        spans: Vec::with_capacity(body.len() / 1024 + 1),
        attributes: Vec::with_capacity(body.len() / 128 + 4),
        scopes: Vec::new(),
        resources: Vec::new(),
        rejected: Vec::new(),
        whole: true,
    };
    walk.request()?;
    let odd = walk.check.odd;
    let Walk { spans, attributes, scopes, resources, rejected, whole, .. } = walk;
    Ok((Traces { body, spans, attributes, scopes, resources, rejected, whole }, odd))
}

impl Walk<'_> {
    fn request(&mut self) -> Result<(), DecodeError> {
        let mut reader = Reader::at(self.check.buf, 0, self.check.buf.len());
        let mut position = 0;
        while let Some(field) = self.next(&mut reader, String::new)? {
            match field.number {
                1 => {
                    structural(&field, || resource_path(position))?;
                    self.resource_spans(&field, position)?;
                    position += 1;
                }
                _ => self.check.odd |= field.wire == Wire::Group,
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, outer: &Field, position: u32) -> Result<(), DecodeError> {
        let (first_span, first_scope) = (self.spans.len(), self.scopes.len());
        let first_attribute = self.attributes.len();
        let odd_before = std::mem::take(&mut self.check.odd);
        let mut rec =
            ResourceRec { at: outer.at as u32, content: Range::of(outer), position, ..Default::default() };
        rec.scopes = Range { from: first_scope as u32, to: first_scope as u32 };
        let (mut seen, mut bad, mut scope_position) = (0, None, 0);
        let mut reader = Reader::at(self.check.buf, outer.from, outer.to);
        while let Some(field) = self.next(&mut reader, || resource_path(position))? {
            self.check.unknown = false;
            if field.number == 2 {
                structural(&field, || scope_path(position, scope_position))?;
                self.scope_spans(&field, position, scope_position)?;
                scope_position += 1;
                continue;
            }
            let known = self.check.known(&RESOURCE_SPANS, &field, &mut seen);
            let checked = match (known, field.number) {
                (Some(spec), number) => {
                    structural(&field, || format!("{}.{}", resource_path(position), spec.name))?;
                    if number == 1 {
                        rec.resource = Range::of(&field);
                        self.check.message(&RESOURCE, field.from, field.to, 2)
                    } else {
                        rec.schema_url = Range::of(&field);
                        self.check.utf8(&field)
                    }
                    .map_err(|fault| fault.under(spec.name))
                }
                (None, _) => Ok(()),
            };
            bad = bad.or(checked.err());
            rec.other += (field.to - field.at) as u32;
            rec.unknown |= self.check.unknown;
        }
        if let Some(fault) = bad {
            let fault = fault.under(&resource_path(position));
            self.whole = false;
            self.check.odd = false;
            for (scope, span) in self.good_spans(first_span) {
                self.reject(span_path(position, scope, span), inherited("resource", &fault));
            }
            self.spans.truncate(first_span);
            self.attributes.truncate(first_attribute);
        }
        self.check.odd |= odd_before;
        if self.spans.len() == first_span {
            self.scopes.truncate(first_scope);
        } else {
            rec.scopes.to = self.scopes.len() as u32;
            self.resources.push(rec);
        }
        Ok(())
    }

    fn scope_spans(&mut self, outer: &Field, resource: u32, position: u32) -> Result<(), DecodeError> {
        let (first_span, first_attribute) = (self.spans.len(), self.attributes.len());
        let odd_before = std::mem::take(&mut self.check.odd);
        let mut rec = ScopeRec {
            at: outer.at as u32,
            content: Range::of(outer),
            resource: self.resources.len() as u32,
            position,
            ..Default::default()
        };
        let (mut seen, mut bad, mut span_position) = (0, None, 0);
        let mut reader = Reader::at(self.check.buf, outer.from, outer.to);
        while let Some(field) = self.next(&mut reader, || scope_path(resource, position))? {
            self.check.unknown = false;
            if field.number == 2 {
                structural(&field, || span_path(resource, position, span_position))?;
                self.span_or_reject(&field, resource, position, span_position)?;
                span_position += 1;
                continue;
            }
            let checked = match self.check.known(&SCOPE_SPANS, &field, &mut seen) {
                Some(spec) => {
                    structural(&field, || format!("{}.{}", scope_path(resource, position), spec.name))?;
                    if field.number == 1 {
                        rec.scope = Range::of(&field);
                        self.check.message(&SCOPE, field.from, field.to, 3)
                    } else {
                        rec.schema_url = Range::of(&field);
                        self.check.utf8(&field)
                    }
                    .map_err(|fault| fault.under(spec.name))
                }
                None => Ok(()),
            };
            bad = bad.or(checked.err());
            rec.other += (field.to - field.at) as u32;
            rec.unknown |= self.check.unknown;
        }
        if let Some(fault) = bad {
            let fault = fault.under(&scope_path(resource, position));
            self.whole = false;
            self.check.odd = false;
            let positions: Vec<u32> = self.spans.iter().skip(first_span).map(|span| span.position).collect();
            for span in positions {
                self.reject(span_path(resource, position, span), inherited("scope", &fault));
            }
            self.spans.truncate(first_span);
            self.attributes.truncate(first_attribute);
        }
        self.check.odd |= odd_before;
        if self.spans.len() > first_span {
            rec.spans = Range { from: first_span as u32, to: self.spans.len() as u32 };
            self.scopes.push(rec);
        }
        Ok(())
    }

    fn span_or_reject(
        &mut self,
        field: &Field,
        resource: u32,
        scope: u32,
        position: u32,
    ) -> Result<(), DecodeError> {
        if self.seen_spans >= self.limits.spans_per_request {
            return Err(DecodeError {
                path: scope_path(resource, scope),
                reason: format!(
                    "the request has more than {} spans; send them in several requests",
                    self.limits.spans_per_request
                ),
            });
        }
        self.seen_spans += 1;
        let first_attribute = self.attributes.len();
        let odd_before = self.check.odd;
        match self.span(field) {
            Ok(mut rec) => {
                rec.scope = self.scopes.len() as u32;
                rec.position = position;
                rec.unknown = self.check.unknown;
                self.spans.push(rec);
            }
            Err(fault) => {
                self.attributes.truncate(first_attribute);
                self.check.odd = odd_before;
                let fault = fault.under(&span_path(resource, scope, position));
                self.reject(fault.path, fault.reason);
            }
        }
        Ok(())
    }

    fn span(&mut self, outer: &Field) -> Result<SpanRec, Box<Fault>> {
        let len = outer.to - outer.from;
        if len > self.limits.span_bytes as usize {
            return Err(Fault::new(format!("has {len} bytes, the limit is {}", self.limits.span_bytes)));
        }
        const LEVEL: u32 = 3;
        let mut rec = SpanRec { at: outer.at as u32, content: Range::of(outer), ..Default::default() };
        rec.attributes = Range { from: self.attributes.len() as u32, to: 0 };
        let (mut seen, mut attributes) = (0, 0);
        let mut reader = Reader::at(self.check.buf, outer.from, outer.to);
        while let Some(field) = reader.next()? {
            if field.number == 9 && field.wire == Wire::Len {
                attributes += 1;
                if attributes > self.limits.attributes_per_span {
                    let limit = self.limits.attributes_per_span;
                    return Err(Fault::new(format!("has more than {limit} attributes")).under("attributes"));
                }
                if rec.first_attribute == 0 {
                    rec.first_attribute = field.at as u32;
                }
                self.attribute(&field, LEVEL + 1).map_err(|fault| {
                    fault.under(&segment(self.check.buf, outer.from, &field, &SPAN.fields[8]))
                })?;
                continue;
            }
            self.check.field(&SPAN, outer.from, &field, LEVEL, &mut seen)?;
            let at = field.from as u32;
            match field.number {
                1 if field.to > field.from => rec.trace_id = at,
                2 if field.to > field.from => rec.span_id = at,
                3 => rec.trace_state = Range::of(&field),
                4 if self.is_set(&field) => rec.parent = at,
                5 => rec.name = Range::of(&field),
                6 => rec.kind = field.value as i32,
                7 => rec.start = field.value,
                8 => rec.end = field.value,
                11 if rec.first_event == 0 => rec.first_event = field.at as u32,
                13 if rec.first_link == 0 => rec.first_link = field.at as u32,
                15 => {
                    for part in Fields(Reader::at(self.check.buf, field.from, field.to)) {
                        match part.number {
                            2 => rec.status_message = Range::of(&part),
                            3 => rec.status_code = part.value as i32,
                            _ => {}
                        }
                    }
                }
                16 => rec.flags = field.value as u32,
                _ => {}
            }
        }
        rec.attributes.to = self.attributes.len() as u32;
        self.require(rec.trace_id, 16, "traceId")?;
        self.require(rec.span_id, 8, "spanId")?;
        Ok(rec)
    }

    /// Checks one attribute of a span and records where its key is.
    #[inline]
    fn attribute(&mut self, outer: &Field, level: u32) -> Result<(), Box<Fault>> {
        if level > self.check.max_depth {
            return self.check.message(&KEY_VALUE, outer.from, outer.to, level);
        }
        let mut reader = Reader::at(self.check.buf, outer.from, outer.to);
        let (mut seen, mut key) = (0, Range::default());
        while let Some(field) = reader.next()? {
            self.check.field(&KEY_VALUE, outer.from, &field, level, &mut seen)?;
            if field.number == 1 {
                key = Range::of(&field);
            }
        }
        // An empty key is legal; it is found by a scan. Leaving it out bounds the size of the
        // index by a small multiple of the body.
        if key.len() > 0 {
            self.attributes.push(AttributeRec {
                key_from: key.from,
                key_len: key.len() as u32,
                at: outer.from as u32,
                len: (outer.to - outer.from) as u32,
            });
        }
        Ok(())
    }

    fn is_set(&self, field: &Field) -> bool {
        self.check.buf.get(field.from..field.to).is_some_and(|id| id.iter().any(|&b| b != 0))
    }

    fn require(&self, at: u32, len: usize, name: &str) -> Result<(), Box<Fault>> {
        let id = self.check.buf.get(at as usize..at as usize + len).unwrap_or_default();
        match at {
            0 => Err(Fault::new("is missing").under(name)),
            _ if id.iter().all(|&b| b == 0) => Err(Fault::new("is all zero").under(name)),
            _ => Ok(()),
        }
    }

    fn reject(&mut self, path: String, reason: String) {
        self.whole = false;
        self.rejected.push(Rejected { path, reason });
    }

    /// Scope and span positions of the good spans from `first` on.
    fn good_spans(&self, first: usize) -> Vec<(u32, u32)> {
        let scope = |span: &SpanRec| self.scopes.get(span.scope as usize).map_or(0, |s| s.position);
        self.spans.iter().skip(first).map(|span| (scope(span), span.position)).collect()
    }

    fn next(&self, reader: &mut Reader<'_>, path: impl Fn() -> String) -> Result<Option<Field>, DecodeError> {
        let at = reader.pos();
        reader.next().map_err(|flaw| {
            let hint = match self.check.buf {
                [b'{' | b'[', ..] => "; the body looks like JSON: send it with content-type application/json",
                [0x1f, 0x8b, ..] => "; the body looks like gzip: send it with content-encoding gzip",
                _ => "",
            };
            DecodeError { path: path(), reason: format!("{} (field at byte {at}){hint}", flaw.text()) }
        })
    }
}

/// Structural fields must be length-delimited: the standard decoders refuse anything else.
fn structural(field: &Field, path: impl Fn() -> String) -> Result<(), DecodeError> {
    if field.wire == Wire::Len {
        return Ok(());
    }
    let reason = format!(
        "has wire type {}, expected {} (field at byte {})",
        field.wire.name(),
        Wire::Len.name(),
        field.at
    );
    Err(DecodeError { path: path(), reason })
}

fn inherited(what: &str, fault: &Fault) -> String {
    format!("its {what} is unusable: {} {}", fault.path, fault.reason)
}
