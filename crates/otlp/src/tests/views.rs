//! What the views say equals what a standard decoder says.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::generate::requests;
use super::oracle::{Request, index_request, seen_by_prost, seen_by_views};
use crate::{Hex, Limits, Payload, Traces, Value, hex};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_field_of_a_valid_request_is_seen(request in requests()) {
        let bytes = request.encode_to_vec();
        let traces = index_request(&request);
        prop_assert!(traces.is_whole());
        prop_assert_eq!(traces.rejected(), &[]);
        prop_assert_eq!(&traces.body()[..], &bytes[..]);
        prop_assert_eq!(seen_by_views(&traces), seen_by_prost(&request));
    }

    #[test]
    fn attribute_finds_the_last_of_a_key(request in requests()) {
        for view in index_request(&request).spans() {
            let pairs: Vec<_> = view.attributes().collect();
            for (key, _) in &pairs {
                let last = pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| format!("{v:?}"));
                prop_assert_eq!(view.attribute(key).map(|v| format!("{v:?}")), last);
            }
            prop_assert!(view.attribute("no such key").is_none());
        }
    }
}

pub(super) fn string(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(text.into())) })
}

pub(super) fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: string(value), key_strindex: 0 }
}

pub(super) fn simple_span(id: u8) -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![id; 8], name: format!("span {id}"), ..Span::default() }
}

pub(super) fn request_of(spans: Vec<Span>) -> Request {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    Request { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

#[test]
fn an_empty_body_is_a_request_without_spans() {
    let traces = Traces::index(bytes::Bytes::new(), &Limits::default()).unwrap();
    assert!(traces.is_empty() && traces.is_whole());
}

#[test]
fn empty_and_repeated_keys() {
    let mut span = simple_span(2);
    span.attributes = vec![pair("", "first"), pair("a", "1"), pair("", "last"), pair("a", "2")];
    let traces = index_request(&request_of(vec![span]));
    let get = |key| traces.span(0).attribute(key).and_then(|v| v.as_str().map(str::to_owned));
    assert_eq!(get("").as_deref(), Some("last"));
    assert_eq!(get("a").as_deref(), Some("2"));
    assert_eq!(get("b"), None);
}

#[test]
fn a_zero_parent_is_no_parent() {
    let mut span = simple_span(2);
    span.parent_span_id = vec![0; 8];
    assert_eq!(index_request(&request_of(vec![span])).span(0).parent_span_id(), None);
}

#[test]
fn a_key_without_value_is_empty() {
    let mut span = simple_span(2);
    span.attributes = vec![KeyValue { key: "k".into(), value: None, key_strindex: 0 }];
    let traces = index_request(&request_of(vec![span]));
    assert!(matches!(traces.span(0).attribute("k"), Some(Value::Empty)));
}

#[test]
fn payloads_index_once_and_leave_rejected_spans_out() {
    let mut bad = simple_span(3);
    bad.trace_id = vec![0; 16];
    let traces = index_request(&request_of(vec![simple_span(2), bad, simple_span(4)]));
    let payload = Payload::from_traces(traces);
    assert_eq!(payload.spans(), 2);
    let again = Payload::new(payload.bytes().clone(), 2);
    assert_eq!(again.traces().unwrap().span(1).name(), "span 4");
    assert!(Payload::new(payload.bytes().clone(), 3).traces().is_err());
    assert!(Payload::new(bytes::Bytes::from_static(b"\x0a\xff"), 1).traces().is_err());
}

#[test]
fn hex_text() {
    assert_eq!(hex(&[0x00, 0xab, 0x7f]), "00ab7f");
    assert_eq!(Hex(&[0x5c; 40]).to_string(), "5c".repeat(40));
    assert_eq!(format!("{}", Hex(&[])), "");
}
