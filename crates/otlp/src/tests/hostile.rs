//! Input nobody should send: refused with a path, and never forwarded where a decoder would refuse it.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};
use proptest::prelude::*;
use prost::Message;

use super::generate::{Rng, request, requests, soup};
use super::oracle::{Request, index, index_request, prost, seen_by_prost, seen_by_views};
use super::select::{ByHash, filtered, selected, some_of};
use super::views::{pair, request_of, simple_span};
use crate::check::Checker;
use crate::schema::{REQUEST, RESOURCE_SPANS, SCOPE_SPANS, SPAN};
use crate::wire::{put_bytes, put_fixed32, put_uint, put_varint};
use crate::write::{Edit, Place, Verdict};
use crate::{DecodeError, Limits, SpanSet, Traces, Value, json};

fn try_index(bytes: &[u8]) -> Result<Traces, DecodeError> {
    Traces::index(Bytes::copy_from_slice(bytes), &Limits::default())
}

/// Whatever was sent: what we forward is accepted by a standard decoder, which sees what we see.
pub(super) fn check_promises(sent: &[u8]) -> Result<bool, TestCaseError> {
    let Ok(traces) = try_index(sent) else { return Ok(false) };
    let all = SpanSet::all(traces.len() as u32);
    if traces.is_whole() {
        let decoded = Request::decode(sent);
        prop_assert!(decoded.is_ok(), "accepted as a whole, but prost says {:?}", decoded);
        // As bytes, because NaN is not equal to itself.
        prop_assert_eq!(decoded.unwrap().encode_to_vec(), prost(traces.body()).encode_to_vec());
        prop_assert_eq!(seen_by_views(&traces), seen_by_prost(&prost(traces.body())));
    } else {
        prop_assert!(!traces.rejected().is_empty() || Request::decode(sent).is_err());
    }
    let good = selected(&traces, &all, None);
    prop_assert_eq!(seen_by_views(&traces), seen_by_prost(&prost(&good)));
    let again = index(&good);
    prop_assert!(again.is_whole() && again.len() == traces.len());

    let some = some_of(traces.len(), sent.len() as u64);
    prop_assert_eq!(index(&selected(&traces, &some, None)).len() as u32, some.count());
    let edited = selected(&traces, &some, Some(&ByHash { seed: 7 }));
    prop_assert_eq!(index(&edited).len() as u32, some.count());
    let expected = ByHash { seed: 7 }.apply(filtered(&prost(&good), &some));
    prop_assert_eq!(prost(&edited).encode_to_vec(), expected.encode_to_vec());
    let mut check = Checker::new(&edited, 64);
    prop_assert!(check.message(&REQUEST, 0, edited.len(), 0).is_ok());
    prop_assert!(!check.unknown && !check.odd, "unknown fields are gone, nothing is repeated");

    let mut text = b"{\"resourceSpans\":[".to_vec();
    json::encode(&traces, &all, None, &mut text);
    text.extend(b"]}");
    let (bytes, rejected) = json::decode(&text, &Limits::default()).expect("our own JSON");
    prop_assert_eq!(rejected, vec![]);
    prop_assert_eq!(seen_by_views(&index(&bytes)), seen_by_views(&traces));
    Ok(traces.is_whole())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn oddities_are_seen_as_a_decoder_sees_them(seed: u64) {
        let bytes = soup(&REQUEST, &mut Rng::new(seed), 0, usize::MAX);
        let whole = check_promises(&bytes)?;
        prop_assert_eq!(whole, Request::decode(&bytes[..]).is_ok());
    }

    #[test]
    fn mistakes_cost_what_they_spoil_and_no_more(seed: u64) {
        let mut rng = Rng::new(seed);
        let mut spans = Vec::new();
        for _ in 0..4 {
            put_bytes(&mut spans, 2, &soup(&SPAN, &mut rng, 3, 25));
        }
        let mut bytes = Vec::new();
        spans.extend(soup(&SCOPE_SPANS, &mut rng, 2, 60));
        let mut resource_spans = soup(&RESOURCE_SPANS, &mut rng, 1, 60);
        put_bytes(&mut resource_spans, 2, &spans);
        put_bytes(&mut bytes, 1, &resource_spans);
        check_promises(&bytes)?;
    }

    #[test]
    fn flipped_and_cut_bytes(request in requests(), seed: u64) {
        let mut bytes = request.encode_to_vec();
        let mut rng = Rng::new(seed);
        for _ in 0..rng.below(3) {
            if bytes.is_empty() { break }
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let len = if rng.one_in(2) { bytes.len() } else { rng.below(bytes.len() + 1) };
        check_promises(&bytes[..len])?;
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_promises(&bytes)?;
        let _ = json::decode(&bytes, &Limits::default());
    }
}

fn rejected(request: &Request) -> Vec<(String, String)> {
    let traces = index_request(request);
    assert!(!traces.is_whole());
    traces.rejected().iter().map(|r| (r.path.clone(), r.reason.clone())).collect()
}

/// The one rejected span (position 1 of 3) of a request, made from bytes of the second span.
fn reject_second(second: &[u8]) -> String {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 2, &simple_span(2).encode_to_vec());
    put_bytes(&mut scope, 2, second);
    put_bytes(&mut scope, 2, &simple_span(4).encode_to_vec());
    let (mut resource, mut body) = (Vec::new(), Vec::new());
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut body, 1, &resource);
    let traces = try_index(&body).expect("only a span is bad");
    assert_eq!(traces.spans().map(|s| s.name().to_owned()).collect::<Vec<_>>(), ["span 2", "span 4"]);
    assert_eq!(traces.span(1).path(), "resourceSpans[0].scopeSpans[0].spans[2]");
    let [one] = traces.rejected() else { panic!("{:?}", traces.rejected()) };
    let path =
        one.path.strip_prefix("resourceSpans[0].scopeSpans[0].spans[1]").expect("path of the second span");
    format!("{path}: {}", one.reason)
}

#[test]
fn a_bad_span_is_rejected_with_its_path() {
    let with = |more: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = simple_span(3).encode_to_vec();
        more(&mut bytes);
        reject_second(&bytes)
    };
    let ids = |trace: usize, span: usize| {
        let mut one = simple_span(3);
        one.trace_id.resize(trace, 1);
        one.span_id.resize(span, 1);
        reject_second(&one.encode_to_vec())
    };
    assert_eq!(ids(15, 8), ".traceId: has 15 bytes, must have 16");
    assert_eq!(ids(16, 9), ".spanId: has 9 bytes, must have 8");
    assert_eq!(ids(0, 8), ".traceId: is missing");
    assert_eq!(ids(16, 0), ".spanId: is missing");
    assert_eq!(with(&|b| put_bytes(b, 1, &[0; 16])), ".traceId: is all zero");
    assert_eq!(with(&|b| put_bytes(b, 4, &[1; 7])), ".parentSpanId: has 7 bytes, must have 8");
    assert_eq!(with(&|b| put_bytes(b, 3, b"ab\xff")), ".traceState: is not valid UTF-8 (at byte 2 of 3)");
    assert_eq!(
        with(&|b| put_uint(b, 9, 1)),
        ".attributes[0]: has wire type varint, expected length-delimited"
    );
    assert_eq!(with(&|b| put_uint(b, 16, 1)), ".flags: has wire type varint, expected fixed32");
    assert_eq!(
        with(&|b| put_fixed32(b, 7, 1)),
        ".startTimeUnixNano: has wire type fixed32, expected fixed64"
    );
    assert!(with(&|b| b.push(0x0f)).starts_with(": wire type 6 or 7"));
    assert!(with(&|b| b.extend([0x4a, 0x7f])).starts_with(": a field reaches beyond"));
    assert!(with(&|b| b.extend([0x00, 0x00])).starts_with(": a field tag is invalid"));
    assert!(with(&|b| b.extend([0xa4, 0x01])).starts_with(": a group is not closed"));
    // Varints: 11 bytes, and bits beyond 64.
    assert!(with(&|b| b.extend([&[0x30][..], &[0x80; 10], &[0]].concat())).starts_with(": a varint"));
    assert!(with(&|b| b.extend([&[0x30][..], &[0xff; 9], &[2]].concat())).starts_with(": a varint"));

    let mut deep = simple_span(3);
    deep.attributes = vec![pair("fine", "v"), pair("k", "v")];
    let list = ArrayValue {
        values: vec![AnyValue { value: None }, AnyValue { value: Some(Any::StringValue("x".into())) }],
    };
    deep.attributes[1].value = Some(AnyValue { value: Some(Any::ArrayValue(list)) });
    let mut bytes = deep.encode_to_vec();
    let at = bytes.len() - 1;
    assert_eq!(bytes[at - 2..], [0x0a, 1, b'x']);
    let end = bytes.iter().rposition(|&b| b == b'x').unwrap();
    bytes[end] = 0xff;
    assert_eq!(
        reject_second(&bytes),
        ".attributes[1].value.arrayValue.values[1].stringValue: is not valid UTF-8 (at byte 0 of 1)"
    );
}

#[test]
fn a_bad_resource_or_scope_rejects_the_spans_below() {
    let bad_resource = |rs: &mut ResourceSpans| {
        rs.resource =
            Some(Resource { attributes: vec![pair("a", "b"), pair("cc", "XX")], ..Resource::default() });
    };
    let mut two = request_of(vec![simple_span(2), simple_span(3)]);
    bad_resource(&mut two.resource_spans[0]);
    two.resource_spans.extend(request_of(vec![simple_span(4)]).resource_spans);
    let mut bytes = two.encode_to_vec();
    let at = bytes.windows(2).position(|w| w == b"XX").unwrap();
    bytes[at] = 0xfe;
    let traces = try_index(&bytes).unwrap();
    assert_eq!((traces.len(), traces.is_whole()), (1, false));
    assert_eq!(traces.span(0).path(), "resourceSpans[1].scopeSpans[0].spans[0]");
    let paths: Vec<_> = traces.rejected().iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["resourceSpans[0].scopeSpans[0].spans[0]", "resourceSpans[0].scopeSpans[0].spans[1]"]);
    assert_eq!(
        traces.rejected()[0].reason,
        "its resource is unusable: resourceSpans[0].resource.attributes[1].value.stringValue is not valid UTF-8 (at byte 0 of 2)"
    );

    let mut scopes = request_of(vec![simple_span(2)]);
    let good = ScopeSpans { spans: vec![simple_span(5)], ..ScopeSpans::default() };
    scopes.resource_spans[0].scope_spans[0].schema_url = "XX".into();
    scopes.resource_spans[0].scope_spans.push(good);
    let mut bytes = scopes.encode_to_vec();
    let at = bytes.windows(2).position(|w| w == b"XX").unwrap();
    bytes[at] = 0xfe;
    let traces = try_index(&bytes).unwrap();
    assert_eq!(
        traces.spans().map(|s| s.path()).collect::<Vec<_>>(),
        ["resourceSpans[0].scopeSpans[1].spans[0]"]
    );
    assert!(
        traces.rejected()[0]
            .reason
            .starts_with("its scope is unusable: resourceSpans[0].scopeSpans[0].schemaUrl")
    );
    assert_eq!(prost(&selected(&traces, &SpanSet::all(1), None)).resource_spans[0].scope_spans.len(), 1);
}

#[test]
fn bad_framing_outside_of_spans_fails_the_body() {
    let path = |bytes: &[u8]| try_index(bytes).map(|t| t.len()).map_err(|e| e.path);
    assert_eq!(path(&[0x0a, 0x05, 0x00]), Err(String::new()));
    assert_eq!(path(&[0x0a, 0x02, 0x12, 0x09]), Err("resourceSpans[0]".into()));
    assert_eq!(
        path(&[0x0a, 0x00, 0x0a, 0x04, 0x12, 0x02, 0x12, 0x09]),
        Err("resourceSpans[1].scopeSpans[0]".into())
    );
    assert_eq!(path(&[0x08, 0x01]), Err("resourceSpans[0]".into()));
    assert_eq!(path(&[0x0a, 0x02, 0x10, 0x01]), Err("resourceSpans[0].scopeSpans[0]".into()));
    assert_eq!(path(&[0x0a, 0x02, 0x18, 0x01]), Err("resourceSpans[0].schemaUrl".into()));
    let json = try_index(b"{\"resourceSpans\":[]}").unwrap_err();
    assert!(json.reason.contains("looks like JSON"), "{json}");
    let gzip = try_index(&[0x1f, 0x8b, 8, 0, 0, 0]).unwrap_err();
    assert!(gzip.reason.contains("looks like gzip"), "{gzip}");
}

#[test]
fn limits_reject_the_span_and_spans_per_request_the_body() {
    let limits = Limits { attributes_per_span: 2, span_bytes: 200, spans_per_request: 3, depth: 8 };
    let with = |span: opentelemetry_proto::tonic::trace::v1::Span| {
        let request = request_of(vec![span, simple_span(3)]);
        let traces = Traces::index(request.encode_to_vec().into(), &limits).unwrap();
        assert_eq!(traces.spans().map(|s| s.name().to_owned()).collect::<Vec<_>>(), ["span 3"]);
        traces.rejected()[0].to_string()
    };
    let mut many = simple_span(2);
    many.attributes = vec![pair("k", "v"); 3];
    assert_eq!(with(many), "resourceSpans[0].scopeSpans[0].spans[0].attributes: has more than 2 attributes");
    let mut large = simple_span(2);
    large.name = "n".repeat(300);
    let len = large.encoded_len();
    assert_eq!(
        with(large),
        format!("resourceSpans[0].scopeSpans[0].spans[0]: has {len} bytes, the limit is 200")
    );
    let mut deep = simple_span(2);
    deep.attributes = vec![nested(2)];
    assert!(with(deep).ends_with("is nested deeper than 8 messages"));
    let error =
        Traces::index(request_of(vec![simple_span(2); 4]).encode_to_vec().into(), &limits).unwrap_err();
    assert_eq!(error.path, "resourceSpans[0].scopeSpans[0]");
    assert!(error.reason.contains("more than 3 spans"), "{error}");
}

/// An attribute whose value is a list in a list ..., `lists` deep: its message levels below the
/// span are `2 + 2 * lists`.
fn nested(lists: usize) -> KeyValue {
    let mut value = AnyValue { value: Some(Any::BoolValue(true)) };
    for _ in 0..lists {
        value = AnyValue { value: Some(Any::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    KeyValue { key: "deep".into(), value: Some(value), key_strindex: 0 }
}

#[test]
fn depth_is_counted_in_messages_and_stays_below_what_decoders_take() {
    let at = |lists: usize, depth: u32| {
        let mut span = simple_span(2);
        span.attributes = vec![nested(lists)];
        let bytes = request_of(vec![span]).encode_to_vec();
        let whole =
            Traces::index(bytes.clone().into(), &Limits { depth, ..Limits::default() }).unwrap().is_whole();
        assert!(!whole || Request::decode(&bytes[..]).is_ok());
        whole
    };
    assert!(at(29, 64), "span at 3, value at 5, the innermost of 29 lists at 63");
    assert!(!at(30, 64));
    assert!(at(45, 1000), "the innermost at 95");
    assert!(!at(46, 1000), "whatever the limit says, 96 is the end");
    assert!(!at(300, 1000));
}

#[test]
fn repeated_singular_fields_are_brought_into_canonical_form() {
    let mut span = simple_span(2).encode_to_vec();
    let clean = span.clone();
    put_bytes(&mut span, 5, b"renamed");
    put_bytes(&mut span, 15, &Status { message: "m".into(), code: 0 }.encode_to_vec());
    put_bytes(&mut span, 15, &Status { message: String::new(), code: 2 }.encode_to_vec());
    put_bytes(&mut span, 99, b"unknown");
    span.extend([0x9b, 0x06, 0x08, 0x01, 0x9c, 0x06]);
    // string "a", then two arrays (merged), all in one oneof.
    let mut value = Vec::new();
    put_bytes(&mut value, 1, b"a");
    let list = |text: &str| {
        let value = AnyValue { value: Some(Any::StringValue(text.into())) };
        ArrayValue { values: vec![value] }.encode_to_vec()
    };
    put_bytes(&mut value, 5, &list("x"));
    put_bytes(&mut value, 5, &list("y"));
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 2, &value);
    put_bytes(&mut attribute, 1, b"key");
    put_bytes(&mut span, 9, &attribute);

    let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, &span);
    put_bytes(&mut scope, 2, &clean);
    put_bytes(
        &mut resource,
        1,
        &Resource { attributes: vec![pair("a", "1")], ..Resource::default() }.encode_to_vec(),
    );
    put_bytes(&mut resource, 2, &scope);
    put_bytes(
        &mut resource,
        1,
        &Resource { attributes: vec![pair("b", "2")], ..Resource::default() }.encode_to_vec(),
    );
    put_bytes(&mut body, 1, &resource);

    let traces = try_index(&body).unwrap();
    assert!(traces.is_whole());
    assert_ne!(traces.body(), &body);
    assert_eq!(prost(traces.body()), prost(&body));
    assert_eq!(seen_by_views(&traces), seen_by_prost(&prost(&body)));
    let view = traces.span(0);
    assert_eq!((view.name(), view.status_code(), view.status_message()), ("renamed", 2, "m"));
    assert!(matches!(view.attribute("key"), Some(Value::Array(a)) if a.iter().count() == 2));
    assert_eq!(view.resource().attributes().count(), 2);
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    assert!(has(traces.body(), b"unknown"), "unknown fields stay");
    assert!(has(traces.body(), &clean), "spans without oddity keep their bytes");
}

#[test]
fn a_refused_span_stays_refused_when_another_is_brought_into_canonical_form() {
    let mut odd = simple_span(2).encode_to_vec();
    put_bytes(&mut odd, 5, b"renamed");
    // A decoder refuses the first name although the second overrides it.
    let mut bad = simple_span(3).encode_to_vec();
    put_bytes(&mut bad, 5, b"\xff");
    put_bytes(&mut bad, 5, b"good");
    let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, &odd);
    put_bytes(&mut scope, 2, &bad);
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut body, 1, &resource);
    let traces = try_index(&body).unwrap();
    assert_eq!((traces.len(), traces.rejected().len()), (1, 1));
    assert_eq!(traces.rejected()[0].path, "resourceSpans[0].scopeSpans[0].spans[1].name");
}

#[test]
fn unknown_fields_are_kept_unless_an_edit_drops_them() {
    struct Drop(bool);
    impl Edit for Drop {
        fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict {
            Verdict::Keep
        }
        fn keep_unknown_fields(&self) -> bool {
            !self.0
        }
    }
    // One at every level; markers are found by their text.
    let tag = |out: &mut Vec<u8>, name: &str| put_bytes(out, 40, format!("<{name}>").as_bytes());
    let mut value = vec![0x0a, 1, b'v'];
    tag(&mut value, "value");
    let mut attribute = vec![0x0a, 1, b'k'];
    put_bytes(&mut attribute, 2, &value);
    tag(&mut attribute, "pair");
    let mut event = Vec::new();
    put_bytes(&mut event, 3, &attribute);
    tag(&mut event, "event");
    let mut status = Vec::new();
    put_uint(&mut status, 3, 2);
    tag(&mut status, "status");
    let mut span = simple_span(2).encode_to_vec();
    put_bytes(&mut span, 9, &attribute);
    put_bytes(&mut span, 11, &event);
    put_bytes(&mut span, 15, &status);
    tag(&mut span, "span");
    let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, &span);
    put_bytes(&mut scope, 2, &simple_span(3).encode_to_vec());
    tag(&mut scope, "scopeSpans");
    put_bytes(&mut resource, 1, &{
        let mut inner = Vec::new();
        put_bytes(&mut inner, 1, &attribute);
        tag(&mut inner, "resource");
        inner
    });
    put_bytes(&mut resource, 2, &scope);
    tag(&mut resource, "resourceSpans");
    put_bytes(&mut body, 1, &resource);
    tag(&mut body, "request");
    let traces = try_index(&body).unwrap();
    assert_eq!(&traces.body()[..], body);
    let first = SpanSet::from_positions(2, [0]);
    let names =
        ["value", "pair", "event", "status", "span", "scopeSpans", "resource", "resourceSpans", "request"];
    let count = |bytes: &[u8]| {
        names.iter().filter(|n| String::from_utf8_lossy(bytes).contains(&format!("<{n}>"))).count()
    };
    assert_eq!(count(&selected(&traces, &first, None)), names.len());
    assert_eq!(count(&selected(&traces, &first, Some(&Drop(false)))), names.len());
    let dropped = selected(&traces, &first, Some(&Drop(true)));
    assert_eq!(count(&dropped), 0);
    assert_eq!(seen_by_prost(&prost(&dropped)), seen_by_prost(&prost(&selected(&traces, &first, None))));
}

#[test]
fn many_refused_spans_do_not_disturb_the_good_ones() {
    let mut rng = Rng::new(11);
    for _ in 0..30 {
        let mut sent = request(&mut rng);
        let mut good = 0;
        for ss in sent.resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans) {
            for span in &mut ss.spans {
                if rng.one_in(2) {
                    span.span_id = vec![0; 8];
                } else {
                    good += 1;
                }
            }
        }
        let traces = index_request(&sent);
        assert_eq!(traces.len(), good);
        let mut expected = sent.clone();
        expected.resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans).for_each(|ss| {
            ss.spans.retain(|span| span.span_id != [0; 8]);
        });
        assert_eq!(seen_by_views(&traces), seen_by_prost(&expected));
        if !traces.is_whole() {
            assert_eq!(rejected(&sent).len() + good, seen_by_prost(&sent).len());
        }
    }
}

#[test]
fn overlong_tags_and_lengths_are_refused() {
    // 6 bytes where some decoders read 5.
    let mut long = simple_span(3).encode_to_vec();
    put_varint(&mut long, 5 << 3 | 2);
    long.extend([0x81, 0x80, 0x80, 0x80, 0x80, 0x00, b'n']);
    assert!(reject_second(&long).starts_with(": a field reaches beyond"));
    // Not the shortest form, but within 5 bytes: every decoder takes it.
    let mut padded = simple_span(3).encode_to_vec();
    padded.extend([0x1a, 0x81, 0x80, 0x00, b's']);
    let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, &padded);
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut body, 1, &resource);
    assert_eq!(try_index(&body).unwrap().span(0).trace_state(), "s");
}

#[test]
fn what_is_sent_with_every_span_is_bounded_too() {
    let mut request = request_of(vec![simple_span(2)]);
    request.resource_spans[0].resource =
        Some(Resource { attributes: vec![pair("k", &"v".repeat(300))], ..Resource::default() });
    let limits = Limits { span_bytes: 200, ..Limits::default() };
    let traces = Traces::index(request.encode_to_vec().into(), &limits).unwrap();
    assert_eq!(traces.len(), 0);
    assert!(
        traces.rejected()[0].reason.starts_with("its resource is unusable: resourceSpans[0].resource has 3")
    );
    let text = serde_json::to_vec(&request).unwrap();
    let (bytes, rejected) = json::decode(&text, &limits).unwrap();
    assert_eq!(index(&bytes).len(), 0);
    assert!(
        rejected[0].reason.ends_with("resourceSpans[0].resource has more than 200 bytes"),
        "{rejected:?}"
    );
}

#[test]
fn endless_repetition_is_refused() {
    let mut span = simple_span(3).encode_to_vec();
    (0..70_000).for_each(|_| put_uint(&mut span, 6, 1));
    let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut scope, 2, &span);
    put_bytes(&mut resource, 2, &scope);
    put_bytes(&mut body, 1, &resource);
    let error = try_index(&body).unwrap_err();
    assert!(error.reason.contains("repeats singular fields"), "{error}");
}
