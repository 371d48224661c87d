//! Splicing writer: selected spans of an indexed request as a new request, kept bytes copied, only
//! length prefixes (and what an `Edit` changes) written anew. And a builder for spans made here.

mod build;
mod edit;

pub use build::{OwnedValue, Pairs, SpanBuilder, append_attribute, resource_spans};
pub(crate) use edit::judge;
pub use edit::{Edit, Place, Verdict};

use crate::index::{ResourceRec, ScopeRec, Traces};
use crate::span_set::SpanSet;
use crate::wire::{Fields, Reader, put_prefix, varint_len};

/// Number of the field that holds the attributes of a span, for [`append_attribute`].
pub const SPAN_ATTRIBUTES: u32 = 9;
/// Field number of `attributes` in a `Resource`.
pub const RESOURCE_ATTRIBUTES: u32 = 1;

/// Appends the selected spans as ExportTraceServiceRequest bytes to `out` (concatenation of such
/// outputs is one valid request). Whole, unedited requests are copied as they are. Rejected spans
/// are never written; a resource or scope that keeps no span is left out.
pub fn select(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>, out: &mut Vec<u8>) {
    if let Some(edit) = edit {
        return edit::select(traces, spans, edit, out);
    }
    if traces.is_whole() && spans.is_all() && spans.len() as usize == traces.len() {
        return out.extend_from_slice(&traces.body);
    }
    let kept: usize = kept_resources(traces, spans).map(|rec| resource_len(traces, spans, rec) + 6).sum();
    if kept == 0 {
        return;
    }
    out.reserve(kept);
    let mut splice = Splice::new(&traces.body, out);
    let mut at = 0;
    for rec in &traces.resources {
        splice.others(at, rec.at, 1);
        at = rec.content.to;
        if keeps(traces, spans, rec) {
            splice.resource(traces, spans, rec);
        }
    }
    splice.others(at, traces.body.len() as u32, 1);
    splice.flush();
}

pub(crate) fn scopes_of<'a>(traces: &'a Traces, rec: &ResourceRec) -> &'a [ScopeRec] {
    traces.scopes.get(rec.scopes.from as usize..rec.scopes.to as usize).unwrap_or_default()
}

pub(crate) fn keeps_scope(spans: &SpanSet, rec: &ScopeRec) -> bool {
    (rec.spans.from..rec.spans.to).any(|i| spans.contains(i))
}

pub(crate) fn keeps(traces: &Traces, spans: &SpanSet, rec: &ResourceRec) -> bool {
    scopes_of(traces, rec).iter().any(|scope| keeps_scope(spans, scope))
}

/// The resources of which at least one span is selected.
pub(crate) fn kept_resources<'a>(
    traces: &'a Traces,
    spans: &'a SpanSet,
) -> impl Iterator<Item = &'a ResourceRec> {
    traces.resources.iter().filter(move |rec| keeps(traces, spans, rec))
}

/// Content bytes of a `ScopeSpans` with only the selected spans.
fn scope_len(traces: &Traces, spans: &SpanSet, rec: &ScopeRec) -> usize {
    let selected = (rec.spans.from..rec.spans.to).filter(|&i| spans.contains(i));
    let fields = selected
        .filter_map(|i| traces.spans.get(i as usize))
        .map(|span| (span.content.to - span.at) as usize);
    rec.other as usize + fields.sum::<usize>()
}

/// Content bytes of a `ResourceSpans` with only the selected spans.
fn resource_len(traces: &Traces, spans: &SpanSet, rec: &ResourceRec) -> usize {
    let kept = scopes_of(traces, rec).iter().filter(|scope| keeps_scope(spans, scope));
    let field = |scope| {
        let len = scope_len(traces, spans, scope);
        // A scope kept as it is keeps its length prefix too.
        if len == scope.content.len() {
            (scope.content.to - scope.at) as usize
        } else {
            1 + varint_len(len as u64) + len
        }
    };
    rec.other as usize + kept.map(field).sum::<usize>()
}

/// Copies ranges of a body, adjacent ones in one go.
struct Splice<'a> {
    body: &'a [u8],
    out: &'a mut Vec<u8>,
    from: usize,
    to: usize,
}

impl<'a> Splice<'a> {
    fn new(body: &'a [u8], out: &'a mut Vec<u8>) -> Splice<'a> {
        Splice { body, out, from: 0, to: 0 }
    }

    fn keep(&mut self, from: usize, to: usize) {
        if from != self.to {
            self.flush();
            self.from = from;
        }
        self.to = to;
    }

    fn flush(&mut self) {
        self.out.extend_from_slice(self.body.get(self.from..self.to).unwrap_or_default());
        self.from = self.to;
    }

    /// The fields between two positions, except those of one number.
    fn others(&mut self, from: u32, to: u32, except: u32) {
        for field in Fields(Reader::at(self.body, from as usize, to as usize)).filter(|f| f.number != except)
        {
            self.keep(field.at, field.to);
        }
    }

    fn resource(&mut self, traces: &Traces, spans: &SpanSet, rec: &ResourceRec) {
        let len = resource_len(traces, spans, rec);
        if len == rec.content.len() {
            return self.keep(rec.at as usize, rec.content.to as usize);
        }
        self.flush();
        put_prefix(self.out, 1, len);
        let mut at = rec.content.from;
        for scope in scopes_of(traces, rec) {
            self.others(at, scope.at, 2);
            at = scope.content.to;
            if keeps_scope(spans, scope) {
                self.scope(traces, spans, scope);
            }
        }
        self.others(at, rec.content.to, 2);
    }

    fn scope(&mut self, traces: &Traces, spans: &SpanSet, rec: &ScopeRec) {
        let len = scope_len(traces, spans, rec);
        if len == rec.content.len() {
            return self.keep(rec.at as usize, rec.content.to as usize);
        }
        self.flush();
        put_prefix(self.out, 2, len);
        let mut at = rec.content.from;
        for i in rec.spans.from..rec.spans.to {
            let Some(span) = traces.spans.get(i as usize) else { continue };
            self.others(at, span.at, 2);
            at = span.content.to;
            if spans.contains(i) {
                self.keep(span.at as usize, span.content.to as usize);
            }
        }
        self.others(at, rec.content.to, 2);
    }
}
