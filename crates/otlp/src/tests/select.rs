//! What the splicing writer makes decodes to exactly what was asked for.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use proptest::prelude::*;
use prost::Message;

use super::generate::{Rng, requests};
use super::oracle::{Request, index, index_request, prost, seen_by_prost, seen_by_views};
use super::views::{pair, string};
use crate::write::{
    Edit, OwnedValue, Place, RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES, SpanBuilder, Verdict, append_attribute,
    resource_spans, select,
};
use crate::{SpanSet, SpanView, Traces, Value};

pub(super) fn selected(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>) -> Vec<u8> {
    let mut out = Vec::new();
    select(traces, spans, edit, &mut out);
    out
}

pub(super) fn some_of(len: usize, seed: u64) -> SpanSet {
    let mut rng = Rng::new(seed);
    let keep_in = 1 + rng.below(4);
    SpanSet::from_positions(len as u32, (0..len as u32).filter(|_| rng.one_in(keep_in)))
}

/// The same selection on decoded structs.
pub(super) fn filtered(request: &Request, spans: &SpanSet) -> Request {
    let mut request = request.clone();
    let mut next = 0;
    for rs in &mut request.resource_spans {
        for ss in &mut rs.scope_spans {
            ss.spans.retain(|_| {
                next += 1;
                spans.contains(next - 1)
            });
        }
        rs.scope_spans.retain(|ss| !ss.spans.is_empty());
    }
    request.resource_spans.retain(|rs| !rs.scope_spans.is_empty());
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn a_subset_decodes_to_exactly_those_spans(request in requests(), seed: u64) {
        let traces = index_request(&request);
        let spans = some_of(traces.len(), seed);
        let out = selected(&traces, &spans, None);
        if spans.is_all() {
            prop_assert_eq!(&out[..], &traces.body()[..]);
        } else {
            prop_assert_eq!(prost(&out), filtered(&request, &spans));
            // Canonical input gives canonical output.
            prop_assert_eq!(out, filtered(&request, &spans).encode_to_vec());
        }
    }

    #[test]
    fn outputs_concatenate(a in requests(), b in requests(), seed: u64) {
        let (a, b) = (index_request(&a), index_request(&b));
        let (of_a, of_b) = (some_of(a.len(), seed), some_of(b.len(), seed ^ 1));
        let mut out = selected(&a, &of_a, None);
        select(&b, &of_b, None, &mut out);
        prop_assert_eq!(index(&out).len() as u32, of_a.count() + of_b.count());
    }

    #[test]
    fn an_edit_equals_the_same_edit_on_structs(request in requests(), seed: u64) {
        let traces = index_request(&request);
        let spans = some_of(traces.len(), seed);
        let edit = ByHash { seed };
        let out = selected(&traces, &spans, Some(&edit));
        prop_assert_eq!(prost(&out), edit.apply(filtered(&request, &spans)));
    }

    #[test]
    fn an_edit_that_changes_nothing_changes_nothing(request in requests()) {
        struct Same;
        impl Edit for Same {
            fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict { Verdict::Keep }
            fn keep_unknown_fields(&self) -> bool { false }
        }
        let traces = index_request(&request);
        let all = SpanSet::all(traces.len() as u32);
        prop_assert_eq!(prost(&selected(&traces, &all, Some(&Same))), filtered(&request, &all));
    }
}

/// Decides by a hash of place and key, and does everything else an edit can do.
pub(super) struct ByHash {
    pub(super) seed: u64,
}

impl ByHash {
    fn verdict(&self, place: Place, key: &str) -> Verdict {
        let hash =
            key.bytes().fold(self.seed ^ place as u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        match Rng::new(hash).below(4) {
            0 => Verdict::Drop,
            1 => Verdict::ReplaceStr("[removed]".into()),
            _ => Verdict::Keep,
        }
    }

    fn pairs(&self, place: Place, pairs: &mut Vec<KeyValue>) {
        pairs.retain_mut(|pair| match self.verdict(place, &pair.key) {
            Verdict::Keep => true,
            Verdict::Drop => false,
            Verdict::ReplaceStr(text) => {
                pair.value = string(&text);
                pair.key_strindex = 0;
                true
            }
        });
    }

    pub(super) fn apply(&self, mut request: Request) -> Request {
        for rs in &mut request.resource_spans {
            let resource = rs.resource.get_or_insert_default();
            self.pairs(Place::Resource, &mut resource.attributes);
            resource.attributes.push(pair("added to the resource", "seen"));
            for ss in &mut rs.scope_spans {
                ss.scope.iter_mut().for_each(|s| self.pairs(Place::Scope, &mut s.attributes));
                for span in &mut ss.spans {
                    self.pairs(Place::Span, &mut span.attributes);
                    span.attributes.push(pair("added", &span.name));
                    span.events.retain(|e| self.keep_event(&e.name));
                    span.events.iter_mut().for_each(|e| self.pairs(Place::Event, &mut e.attributes));
                    span.links.iter_mut().for_each(|l| self.pairs(Place::Link, &mut l.attributes));
                    if let Some(status) = span.status.as_mut().filter(|s| !s.message.is_empty()) {
                        status.message = format!("class of {}", span.name);
                    }
                }
            }
        }
        request
    }
}

impl Edit for ByHash {
    fn attribute_by_key(&self, place: Place, key: &[u8]) -> Option<Verdict> {
        key.len().is_multiple_of(2).then(|| self.verdict(place, std::str::from_utf8(key).unwrap()))
    }
    fn attribute(&self, place: Place, key: &str, _: &Value<'_>) -> Verdict {
        self.verdict(place, key)
    }
    fn status_message(&self, span: SpanView<'_>) -> Option<String> {
        Some(format!("class of {}", span.name()))
    }
    fn keep_event(&self, name: &str) -> bool {
        !name.len().is_multiple_of(3)
    }
    fn keep_unknown_fields(&self) -> bool {
        false
    }
    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        append_attribute(SPAN_ATTRIBUTES, "added", &span.name().into(), out);
    }
    fn extra_resource_attributes(&self, out: &mut Vec<u8>) {
        append_attribute(RESOURCE_ATTRIBUTES, "added to the resource", &"seen".into(), out);
    }
}

#[test]
fn a_large_edit_moves_length_prefixes_right() {
    struct Blank;
    impl Edit for Blank {
        fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict {
            Verdict::Drop
        }
        fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
            if span.index() == 1 {
                append_attribute(SPAN_ATTRIBUTES, "big", &"y".repeat(70_000).into(), out);
            }
        }
    }
    let mut long = super::views::simple_span(2);
    long.attributes = vec![pair("input", &"x".repeat(40_000))];
    let traces = index_request(&super::views::request_of(vec![long, super::views::simple_span(3)]));
    let out = prost(&selected(&traces, &SpanSet::all(2), Some(&Blank)));
    let spans = &out.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans[0].attributes, []);
    assert_eq!(spans[1].attributes, [pair("big", &"y".repeat(70_000))]);
}

#[test]
fn built_spans_read_back() {
    let span = SpanBuilder {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_span_id: Some([3; 8]),
        name: "chat gpt".into(),
        kind: 3,
        start_unix_nano: 5,
        end_unix_nano: 9,
        attributes: vec![
            ("s".into(), "text".into()),
            ("i".into(), OwnedValue::Int(-7)),
            ("d".into(), 0.25.into()),
            ("b".into(), false.into()),
            ("e".into(), OwnedValue::Empty),
            ("x".into(), OwnedValue::Bytes(vec![0, 255])),
            (
                "a".into(),
                OwnedValue::Array(vec!["one".into(), OwnedValue::Int(2), OwnedValue::Array(vec![])]),
            ),
            ("m".into(), OwnedValue::Map(vec![("inner".into(), "x".repeat(300).into())])),
        ],
        events: vec![(7, "exception".into(), vec![("exception.type".into(), "Timeout".into())])],
        status_code: 2,
        status_message: "failed".into(),
    };
    let mut out = Vec::new();
    resource_spans(
        &[("service.name".into(), "tracecast".into())],
        "scope",
        "1.0",
        std::slice::from_ref(&span),
        &mut out,
    );
    let traces = index(&out);
    assert_eq!(seen_by_views(&traces), seen_by_prost(&prost(&out)));
    let view = traces.span(0);
    assert_eq!(view.parent_span_id(), Some([3; 8]));
    assert_eq!(
        (view.name(), view.kind(), view.status_code(), view.status_message()),
        ("chat gpt", 3, 2, "failed")
    );
    assert_eq!((view.start_unix_nano(), view.end_unix_nano()), (5, 9));
    assert_eq!((view.scope().name(), view.scope().version()), ("scope", "1.0"));
    assert_eq!(view.resource().attribute("service.name").and_then(|v| v.as_str()), Some("tracecast"));
    let back: Vec<_> = view.attributes().map(|(k, v)| (k.to_owned(), OwnedValue::from(&v))).collect();
    assert_eq!(back, span.attributes);
    let event = view.events().next().unwrap();
    assert_eq!((event.time_unix_nano(), event.name()), (7, "exception"));
    assert_eq!(event.attribute("exception.type").and_then(|v| v.as_str()), Some("Timeout"));
}
