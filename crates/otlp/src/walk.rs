//! The one walk over the wire: structure checked, spans recorded or rejected.

use bytes::Bytes;

use crate::check::{Checker, Fault, MAX_REPEATS, segment};
use crate::index::{
    AttributeRec, DecodeError, Limits, Range, Rejected, ResourceRec, ScopeRec, SpanRec, Traces,
    resource_path, scope_path, span_path,
};
use crate::key::key_bit;
use crate::plain::{SHORT_KEY_AT, short_attribute};
use crate::schema::{Message, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN};
use crate::wire::{Field, Fields, Reader, Wire};

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
pub(crate) fn walk(body: Bytes, limits: &Limits) -> Result<(Traces, bool), DecodeError> {
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
    if odd && walk.check.repeats > MAX_REPEATS {
        let reason = format!("repeats singular fields more than {MAX_REPEATS} times");
        return Err(DecodeError { path: String::new(), reason });
    }
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
                        self.context(&RESOURCE, &field, 2)
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
                        self.context(&SCOPE, &field, 3)
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

    /// Checks a resource or scope. What is sent with every span is bounded like a span.
    fn context(&mut self, message: &'static Message, field: &Field, level: u32) -> Result<(), Box<Fault>> {
        self.check_len(field)?;
        self.check.message(message, field.from, field.to, level)
    }

    fn check_len(&self, field: &Field) -> Result<(), Box<Fault>> {
        let (len, limit) = (field.to - field.from, self.limits.span_bytes);
        if len > limit as usize {
            return Err(Fault::new(format!("has {len} bytes, the limit is {limit}")));
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
        self.check_len(outer)?;
        const LEVEL: u32 = 3;
        let mut rec = SpanRec { at: outer.at as u32, content: Range::of(outer), ..Default::default() };
        rec.attributes = Range { from: self.attributes.len() as u32, to: 0 };
        let mut seen = 0;
        // What is left of the bound, and whether values are within the depth that is allowed.
        let (mut attributes_left, has_depth) =
            (self.limits.attributes_per_span, LEVEL + 1 < self.check.max_depth);
        let mut reader = Reader::at(self.check.buf, outer.from, outer.to);
        loop {
            while has_depth
                && attributes_left > 0
                && let Some(short) = short_attribute(reader.rest())
            {
                attributes_left -= 1;
                let at = reader.pos();
                if rec.first_attribute == 0 {
                    rec.first_attribute = at as u32;
                }
                rec.keys |= self.keep((at + SHORT_KEY_AT, short.key_len), (at + 2, short.len - 2));
                reader.skip(short.len);
            }
            let Some(field) = reader.next()? else { break };
            if field.number == 9 && field.wire == Wire::Len {
                if attributes_left == 0 {
                    let limit = self.limits.attributes_per_span;
                    return Err(Fault::new(format!("has more than {limit} attributes")).under("attributes"));
                }
                attributes_left -= 1;
                if rec.first_attribute == 0 {
                    rec.first_attribute = field.at as u32;
                }
                let (from, to) = self.check.key_value(&field, LEVEL + 1).map_err(|fault| {
                    fault.under(&segment(self.check.buf, outer.from, &field, &SPAN.fields[8]))
                })?;
                rec.keys |= self.keep((from, to - from), (field.from, field.to - field.from));
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

    /// Records an attribute by where its key and its content are, each with its length; answers the bit of the key.
    #[inline]
    fn keep(&mut self, key: (usize, usize), content: (usize, usize)) -> u128 {
        let (from, len) = key;
        // An empty key is legal; it is found by a scan. Leaving it out bounds the size of the
        // index by a small multiple of the body.
        if len > 0 {
            self.attributes.push(AttributeRec {
                key_from: from as u32,
                key_len: len as u32,
                at: content.0 as u32,
                len: content.1 as u32,
            });
        }
        key_bit(self.check.buf.get(from..from + len).unwrap_or_default())
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
