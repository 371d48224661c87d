//! The conservation oracle: what was promised, what arrived, and whether the two agree.
//!
//! An acknowledged span is an obligation for every destination whose rules select it. The oracle knows each span
//! it let be sent, by id and by a fingerprint of what it says; a receiver keeps [`Receipts`] of the same two; and
//! [`Oracle::judge`] holds one against the other. What is neither met nor in a counted final state of the books is
//! lost, what nobody sent is foreign, what says something else than it did is altered.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};

use bytes::Bytes;
use tracecast_otlp::{Attributes, Limits, SpanId, SpanView, Traces, Value};

use crate::load;
use crate::traffic::Template;

/// What was sent, and what of it was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    spans: HashMap<SpanId, Offered>,
}

#[derive(Clone, Copy, Debug)]
struct Offered {
    fingerprint: u64,
    acknowledged: bool,
}

/// What a receiver took: every span id with what came under it.
#[derive(Clone, Debug, Default)]
pub struct Receipts {
    taken: HashMap<SpanId, Receipt>,
}

#[derive(Clone, Copy, Debug)]
struct Receipt {
    fingerprint: u64,
    times: u64,
    /// Two copies of one span said different things.
    torn: bool,
}

/// How obligations and receipts compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Acknowledged spans that the destination selects.
    pub obligations: u64,
    /// Obligations the receiver has not got: they must be in a counted final state.
    pub missing: u64,
    /// Distinct spans the receiver took.
    pub taken: u64,
    /// Copies beyond the first.
    pub duplicates: u64,
    /// Spans that were never acknowledged and arrived nevertheless: the answer was lost, the span was not.
    pub unanswered: u64,
    /// Spans nobody sent, or that another destination was to get.
    pub foreign: u64,
    /// Spans that do not say what was sent.
    pub altered: u64,
}

impl Oracle {
    /// These spans are on their way: they may arrive from now on.
    pub fn offer(&mut self, body: &[u8]) {
        for (id, fingerprint) in fingerprints(body) {
            self.spans.entry(id).or_insert(Offered { fingerprint, acknowledged: false });
        }
    }

    /// These spans were answered with success: they must arrive.
    pub fn acknowledge(&mut self, body: &[u8]) {
        for (id, fingerprint) in fingerprints(body) {
            self.spans.insert(id, Offered { fingerprint, acknowledged: true });
        }
    }

    /// Everything a load run sent and what was acknowledged of it, made again from its seed.
    pub fn add(&mut self, options: &load::Options, report: &load::Report) {
        let n = options.spans_per_request as u64;
        let templates = options.templates();
        let prints: Vec<Vec<u64>> = templates.iter().map(template_fingerprints).collect();
        for request in 0..report.requests {
            let Some(prints) = prints.get(request as usize % prints.len().max(1)) else { continue };
            for (number, fingerprint) in (request * n..).zip(prints) {
                let offered = Offered { fingerprint: *fingerprint, acknowledged: false };
                self.spans.insert(crate::traffic::span_id(report.run, number), offered);
            }
        }
        for id in report.acked_ids() {
            if let Some(offered) = self.spans.get_mut(&id) {
                offered.acknowledged = true;
            }
        }
    }

    /// Spans that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.spans.values().filter(|s| s.acknowledged).count() as u64
    }

    /// Spans that were sent, acknowledged or not.
    pub fn offered(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Compares with what a destination that selects everything took.
    pub fn judge(&self, receipts: &Receipts) -> Verdict {
        self.judge_selected(receipts, |_| true)
    }

    /// Compares with what a destination took that selects these spans.
    pub fn judge_selected(&self, receipts: &Receipts, selects: impl Fn(&SpanId) -> bool) -> Verdict {
        let mut verdict = Verdict { taken: receipts.taken.len() as u64, ..Verdict::default() };
        for (id, receipt) in &receipts.taken {
            verdict.duplicates += receipt.times - 1;
            match self.spans.get(id).filter(|_| selects(id)) {
                None => verdict.foreign += 1,
                Some(offered) => {
                    let altered = receipt.torn || receipt.fingerprint != offered.fingerprint;
                    verdict.altered += u64::from(altered);
                    verdict.unanswered += u64::from(!offered.acknowledged);
                }
            }
        }
        for (id, _) in self.spans.iter().filter(|(id, offered)| offered.acknowledged && selects(id)) {
            verdict.obligations += 1;
            verdict.missing += u64::from(!receipts.taken.contains_key(id));
        }
        verdict
    }
}

impl Receipts {
    /// Takes note of every span of a request.
    pub fn take(&mut self, traces: &Traces) {
        for span in traces.spans() {
            self.take_one(span);
        }
    }

    /// Takes note of one span.
    pub fn take_one(&mut self, span: SpanView<'_>) {
        let fingerprint = fingerprint(span);
        let receipt =
            self.taken.entry(span.span_id()).or_insert(Receipt { fingerprint, times: 0, torn: false });
        receipt.times += 1;
        receipt.torn |= receipt.fingerprint != fingerprint;
    }

    /// Distinct spans.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Nothing was taken.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether this span was taken.
    pub fn contains(&self, id: &SpanId) -> bool {
        self.taken.contains_key(id)
    }
}

/// What a span says, as one number: everything but its own and its trace's id, and when it was. (Load makes
/// ids and times anew for every request; the duration is counted.)
pub fn fingerprint(span: SpanView<'_>) -> u64 {
    let mut hash = DefaultHasher::new();
    (span.name(), span.kind(), span.parent_span_id(), span.trace_state()).hash(&mut hash);
    span.end_unix_nano().wrapping_sub(span.start_unix_nano()).hash(&mut hash);
    (span.status_code(), span.status_message()).hash(&mut hash);
    hash_attributes(span.attributes(), &mut hash);
    for event in span.events() {
        event.name().hash(&mut hash);
        hash_attributes(event.attributes(), &mut hash);
    }
    for link in span.links() {
        (link.trace_id(), link.span_id()).hash(&mut hash);
        hash_attributes(link.attributes(), &mut hash);
    }
    (span.scope().name(), span.scope().version()).hash(&mut hash);
    hash_attributes(span.resource().attributes(), &mut hash);
    hash.finish()
}

fn hash_attributes(attributes: Attributes<'_>, hash: &mut DefaultHasher) {
    for (key, value) in attributes {
        key.hash(hash);
        hash_value(&value, hash);
    }
    // Where one list ends and the next begins is part of what is said.
    hash.write_u8(0xfe);
}

fn hash_value(value: &Value<'_>, hash: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hash);
    match value {
        Value::Empty => {}
        Value::Str(text) => text.hash(hash),
        Value::Bool(bit) => bit.hash(hash),
        Value::Int(number) => number.hash(hash),
        Value::Double(number) => number.to_bits().hash(hash),
        Value::Bytes(bytes) => bytes.hash(hash),
        Value::Array(items) => items.iter().for_each(|item| hash_value(&item, hash)),
        Value::Map(entries) => hash_attributes(entries.iter(), hash),
    }
}

fn fingerprints(body: &[u8]) -> Vec<(SpanId, u64)> {
    let traces = Traces::index(Bytes::copy_from_slice(body), &Limits::default());
    traces.map_or(Vec::new(), |t| t.spans().map(|s| (s.span_id(), fingerprint(s))).collect())
}

fn template_fingerprints(template: &Template) -> Vec<u64> {
    let body = template.request(1, 0, 2_000_000_000);
    fingerprints(&body).into_iter().map(|(_, fingerprint)| fingerprint).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};

    use super::*;
    use crate::load::{Options, Pace, Report};

    fn body(ids: std::ops::Range<u8>, text: &str) -> Vec<u8> {
        let span = |id| SpanBuilder {
            trace_id: [7; 16],
            span_id: [id; 8],
            name: "chat".into(),
            end_unix_nano: 5,
            attributes: vec![("text".into(), OwnedValue::from(text))],
            ..SpanBuilder::default()
        };
        let spans: Vec<_> = ids.map(span).collect();
        let mut out = Vec::new();
        resource_spans(&[], "tests", "1", &spans, &mut out);
        out
    }

    fn take(receipts: &mut Receipts, body: Vec<u8>) {
        receipts.take(&Traces::index(body.into(), &Limits::default()).unwrap());
    }

    #[test]
    fn every_way_to_break_the_promise_is_told_apart() {
        let mut oracle = Oracle::default();
        oracle.acknowledge(&body(1..6, "hello"));
        oracle.offer(&body(6..8, "hello"));
        let mut receipts = Receipts::default();
        take(&mut receipts, body(1..4, "hello"));
        let fine = Verdict { obligations: 5, missing: 2, taken: 3, ..oracle.judge(&Receipts::default()) };
        assert_eq!(oracle.judge(&receipts), fine);
        take(&mut receipts, body(3..4, "hello"));
        assert_eq!(oracle.judge(&receipts), Verdict { duplicates: 1, ..fine.clone() });
        take(&mut receipts, body(2..3, "hullo"));
        assert_eq!(oracle.judge(&receipts), Verdict { duplicates: 2, altered: 1, ..fine.clone() });
        take(&mut receipts, body(6..7, "hello"));
        take(&mut receipts, body(9..10, "hello"));
        let all = Verdict { duplicates: 2, altered: 1, unanswered: 1, foreign: 1, taken: 5, ..fine.clone() };
        assert_eq!(oracle.judge(&receipts), all);
        // Span 1 is another destination's.
        let selected = oracle.judge_selected(&receipts, |id| id[0] != 1);
        assert_eq!((selected.obligations, selected.missing, selected.foreign), (4, 2, 2));
    }

    #[test]
    fn what_a_run_sent_is_known_from_its_seed() {
        let options = Options {
            url: String::new(),
            key: None,
            pace: Pace::Closed(1),
            spans_per_request: 3,
            body_bytes: 200,
            duration: Duration::from_secs(1),
            spans_max: None,
            until_refused: false,
            gzip: false,
            seed: 11,
        };
        // Ten requests, of which the second was not acknowledged.
        let acked = (0..10).filter(|r| *r != 1).map(|r| (r * 3, 3)).collect();
        let report = Report { requests: 10, run: 77, acked, ..Report::default() };
        let mut oracle = Oracle::default();
        oracle.add(&options, &report);
        assert_eq!((oracle.offered(), oracle.acknowledged()), (30, 27));
        let mut receipts = Receipts::default();
        for (request, template) in (0..10).zip(options.templates().iter().cycle()) {
            take(&mut receipts, template.request(77, request * 3, 3_000_000_000 + request));
        }
        let verdict = oracle.judge(&receipts);
        let expected = Verdict { obligations: 27, taken: 30, unanswered: 3, ..Verdict::default() };
        assert_eq!(verdict, expected);
        // Another seed's texts under the same ids are altered spans.
        let mut others = Receipts::default();
        for (request, template) in (0..10).zip(Options { seed: 99, ..options }.templates().iter().cycle()) {
            take(&mut others, template.request(77, request * 3, 3_000_000_000));
        }
        assert_eq!(oracle.judge(&others).altered, 30);
    }
}
