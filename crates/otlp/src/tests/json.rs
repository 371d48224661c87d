//! OTLP/JSON in both directions, against opentelemetry-proto's serde, and the lenient cases.

use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use proptest::prelude::*;

use super::generate::requests;
use super::oracle::{Request, index, index_request, prost, seen_by_prost, seen_by_views};
use super::select::{ByHash, filtered, selected, some_of};
use super::views::{pair, request_of, simple_span};
use crate::json::{decode, encode, plain_value, push_string};
use crate::write::{Edit, OwnedValue, SpanBuilder, resource_spans};
use crate::{DecodeError, Limits, Rejected, SpanSet, Traces, Value};

fn encoded(traces: &Traces, spans: &SpanSet, edit: Option<&dyn Edit>) -> String {
    let mut out = b"{\"resourceSpans\":[".to_vec();
    encode(traces, spans, edit, &mut out);
    out.extend(b"]}");
    String::from_utf8(out).expect("UTF-8")
}

fn decoded(text: &str) -> Request {
    let (bytes, rejected) = decode(text.as_bytes(), &Limits::default()).expect(text);
    assert_eq!(rejected, [], "{text}");
    assert!(index(&bytes).is_whole());
    prost(&bytes)
}

/// An empty status is not written.
fn without_empty_status(mut request: Request) -> Request {
    let scopes = request.resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans);
    for span in scopes.flat_map(|ss| &mut ss.spans) {
        span.status.take_if(|status| *status == Status::default());
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn reads_what_opentelemetry_proto_writes(request in requests()) {
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(decoded(&text), request);
    }

    #[test]
    fn opentelemetry_proto_reads_what_is_written(request in requests(), seed: u64) {
        let traces = index_request(&request);
        let spans = some_of(traces.len(), seed);
        let text = encoded(&traces, &spans, None);
        let read: Request = serde_json::from_str(&text).expect(&text);
        prop_assert_eq!(&read, &without_empty_status(filtered(&request, &spans)));
        prop_assert_eq!(decoded(&text), read);
    }

    #[test]
    fn an_edit_means_the_same_in_both_forms(request in requests(), seed: u64) {
        let traces = index_request(&request);
        let spans = some_of(traces.len(), seed);
        let edit = ByHash { seed };
        let text = encoded(&traces, &spans, Some(&edit));
        prop_assert_eq!(decoded(&text), without_empty_status(prost(&selected(&traces, &spans, Some(&edit)))));
    }

    #[test]
    fn strings_are_escaped(text in any::<String>()) {
        let mut out = Vec::new();
        push_string(&text, &mut out);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }
}

const IDS: &str = r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174""#;

fn in_span(members: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},{members}}}]}}]}}]}}"#)
}

fn in_value(value: &str) -> String {
    in_span(&format!(r#""attributes":[{{"key":"k","value":{value}}}]"#))
}

fn span_of(text: &str) -> Span {
    decoded(text).resource_spans[0].scope_spans[0].spans[0].clone()
}

fn value_of(value: &str) -> OwnedValue {
    let (bytes, rejected) = decode(in_value(value).as_bytes(), &Limits::default()).expect(value);
    assert_eq!(rejected, [], "{value}");
    let traces = index(&bytes);
    OwnedValue::from(&traces.span(0).attribute("k").expect("there"))
}

#[test]
fn lenient_values() {
    use OwnedValue::{Bool, Bytes, Double, Empty, Int, Str};
    for (text, expected) in [
        (r#"{"stringValue":"a\u00e4\n"}"#, Str("a\u{e4}\n".into())),
        (r#"{"string_value":""}"#, Str(String::new())),
        (r#"{"boolValue":false}"#, Bool(false)),
        (r#"{"boolValue":"true"}"#, Bool(true)),
        (r#"{"intValue":"-9223372036854775808"}"#, Int(i64::MIN)),
        (r#"{"intValue":9223372036854775807}"#, Int(i64::MAX)),
        (r#"{"intValue":0}"#, Int(0)),
        (r#"{"intValue":12.0}"#, Int(12)),
        (r#"{"intValue":"1e3"}"#, Int(1000)),
        (r#"{"doubleValue":1}"#, Double(1.0)),
        (r#"{"doubleValue":"2.5"}"#, Double(2.5)),
        (r#"{"doubleValue":"-Infinity"}"#, Double(f64::NEG_INFINITY)),
        (r#"{"doubleValue":"Infinity"}"#, Double(f64::INFINITY)),
        // Needs all digits: the usual fast path is one unit off.
        (r#"{"doubleValue":31.245270191439438}"#, Double(31.245270191439438)),
        (r#"{"bytesValue":"+/8="}"#, Bytes(vec![0xfb, 0xff])),
        (r#"{"bytesValue":"-_8"}"#, Bytes(vec![0xfb, 0xff])),
        (r#"{"bytesValue":""}"#, Bytes(vec![])),
        (r#"{}"#, Empty),
        (r#"null"#, Empty),
        (r#"{"stringValue":null}"#, Empty),
        (r#"{"someFutureValue":{"a":[1,{}]}}"#, Empty),
        (r#"{"stringValue":"a","intValue":"1"}"#, Int(1)),
        (r#"{"stringValue":"a","intValue":null}"#, Str("a".into())),
        (r#"{"arrayValue":{}}"#, OwnedValue::Array(vec![])),
        (r#"{"arrayValue":{"values":null}}"#, OwnedValue::Array(vec![])),
        (
            r#"{"arrayValue":{"values":[{"intValue":1},null,{}]}}"#,
            OwnedValue::Array(vec![Int(1), Empty, Empty]),
        ),
        (
            r#"{"kvlist_value":{"values":[{"key":"a","value":{"boolValue":true}},null]}}"#,
            OwnedValue::Map(vec![("a".into(), Bool(true))]),
        ),
        (r#"{"stringValue":"cut \ud83d"}"#, Str("cut \u{fffd}".into())),
        (r#"{"stringValue":"\udc00 \\ud800 \ud83d\ude00"}"#, Str("\u{fffd} \\ud800 \u{1f600}".into())),
    ] {
        assert_eq!(value_of(text), expected, "{text}");
    }
    assert!(matches!(value_of(r#"{"doubleValue":"NaN"}"#), Double(v) if v.is_nan()));
}

#[test]
fn lenient_spans() {
    let span = span_of(&in_span(
        r#""start_time_unix_nano":1544712660000000000,"endTimeUnixNano":"18446744073709551615","kind":"SPAN_KIND_CLIENT",
           "status":{"code":"STATUS_CODE_ERROR","message":null},"flags":"257","droppedEventsCount":"2","links":null,
           "events":[null,{"name":"e","timeUnixNano":1.0e3}],"parentSpanId":"","unknown":{"x":[[]]},"name":"first","name":"last""#,
    ));
    assert_eq!(span.trace_id[..2], [0x5b, 0x8e]);
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_544_712_660_000_000_000, u64::MAX));
    assert_eq!((span.kind, span.flags, span.dropped_events_count), (3, 257, 2));
    assert_eq!(span.status.unwrap().code, 2);
    assert_eq!((span.events.len(), span.events[0].time_unix_nano), (1, 1000));
    assert_eq!(span.name, "last");
    assert_eq!(span_of(&in_span(r#""kind":3"#)).kind, 3);
    assert_eq!(span_of(&in_span(r#""kind":"4""#)).kind, 4);
    assert_eq!(span_of(&in_span(r#""kind":99"#)).kind, 99);
}

#[test]
fn the_last_of_equal_keys_wins_whole() {
    let span = span_of(&in_span(
        r#""attributes":[{"key":"a","value":{"intValue":1}}],"name":"n","attributes":[{"key":"b","key":"c","value":{"intValue":1,"intValue":2}}],
           "status":{"message":"m"},"status":{"code":1}"#,
    ));
    assert_eq!(span.attributes.len(), 1);
    assert_eq!(span.attributes[0].key, "c");
    assert_eq!(span.name, "n");
    assert_eq!(span.status.map(|s| (s.code, s.message)), Some((1, String::new())));
    let twice = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS}}},{{{IDS}}}]}}],"scopeSpans":[{{"spans":[{{{IDS}}}]}}]}}],"x":1}}"#
    );
    assert_eq!(seen_by_prost(&decoded(&twice)).len(), 1);
}

#[test]
fn structure_may_be_missing_or_null() {
    for text in [
        "{}",
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[null,{},{"scopeSpans":null},{"scopeSpans":[null,{"spans":[null]}],"resource":null}]}"#,
        "\u{feff} {\"other\": [1, 2, {\"a\": \"\\ud800\"}]}",
    ] {
        assert_eq!(seen_by_prost(&decoded(text)).len(), 0, "{text}");
    }
    let order = format!(
        r#"{{"resource_spans":[{{"schema_url":"u","scope_spans":[{{"spans":[{{{IDS}}}],"scope":{{"name":"s"}}}}],"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"x"}}}}]}}}}]}}"#
    );
    let traces = index(&decode(order.as_bytes(), &Limits::default()).unwrap().0);
    let view = traces.span(0);
    assert_eq!((view.scope().name(), view.resource().schema_url()), ("s", "u"));
    assert_eq!(view.resource().attribute("service.name").and_then(|v| v.as_str()), Some("x"));
}

fn only_rejection(text: &str) -> String {
    let (bytes, rejected) = decode(text.as_bytes(), &Limits::default()).expect(text);
    assert_eq!(index(&bytes).len(), 0, "{text}");
    let [Rejected { path, reason }] = &rejected[..] else { panic!("{rejected:?}") };
    format!("{}: {reason}", path.strip_prefix("resourceSpans[0].scopeSpans[0].spans[0]").expect("path"))
}

#[test]
fn bad_spans_are_rejected_with_their_path() {
    for (members, expected) in [
        (r#""kind":"CLIENT""#, ".kind: is a string that is no whole number, expected an enum number or name"),
        (r#""name":5"#, ".name: is a number, expected a string"),
        (r#""attributes":{}"#, ".attributes: is an object, expected an array"),
        (r#""attributes":["x"]"#, ".attributes[0]: is a string, expected an object"),
        (
            r#""events":[{},{"timeUnixNano":-1}]"#,
            ".events[1].timeUnixNano: is out of range, expected an integer from 0 to 2^64-1",
        ),
        (r#""status":{"code":1.5}"#, ".status.code: is not a whole number, expected an enum number or name"),
        (
            r#""parentSpanId":"abc""#,
            ".parentSpanId: must be 16 hex digits, has 3 characters (OTLP/JSON ids are hex, not base64)",
        ),
        (
            r#""links":[{"traceId":"AAAAAAAAAAAAAAAAAAAAAA==","x":[{}]}]"#,
            ".links[0].traceId: must be 32 hex digits, has 24 characters (OTLP/JSON ids are hex, not base64)",
        ),
        (r#""traceId":"00000000000000000000000000000000""#, ".traceId: is all zero"),
        (r#""flags":4294967296"#, ".flags: is out of range, expected an integer of 32 bits"),
        (
            r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[{"bytesValue":"*"}]}}}]"#,
            ".attributes[0].value.arrayValue.values[0].bytesValue: is not valid base64",
        ),
        (
            r#""attributes":[{"key":"k","value":{"intValue":"9223372036854775808"}}]"#,
            ".attributes[0].value.intValue: is out of range, expected an integer of 64 bits",
        ),
        (
            r#""attributes":[{"key":"k","value":{"boolValue":[true]}}]"#,
            ".attributes[0].value.boolValue: is an array, expected true or false",
        ),
    ] {
        assert_eq!(only_rejection(&in_span(members)), expected, "{members}");
    }
    let without = in_span(r#""name":"n""#).replace(r#""spanId":"eee19b7ec3c1b174","#, "");
    assert_eq!(only_rejection(&without), ".spanId: is missing");
    assert_eq!(
        only_rejection(&in_span("").replace(&format!("{{{IDS},}}"), "7")),
        ": is a number, expected an object"
    );
}

#[test]
fn the_rest_goes_on_after_a_bad_span_or_resource() {
    let text = format!(
        r#"{{"resourceSpans":[
            {{"resource":{{"attributes":[{{"key":1}}]}},"scopeSpans":[{{"spans":[{{{IDS}}},{{"traceId":"1"}}]}}]}},
            {{"scopeSpans":[
                {{"scope":{{"name":[]}},"spans":[{{{IDS}}}]}},
                {{"spans":[{{"spanId":3,"attributes":[[{{}}]]}},{{{IDS},"name":"good"}}]}}
            ]}}]}}"#
    );
    let (bytes, rejected) = decode(text.as_bytes(), &Limits::default()).unwrap();
    let traces = index(&bytes);
    assert_eq!(traces.spans().map(|s| s.name().to_owned()).collect::<Vec<_>>(), ["good"]);
    let shown: Vec<String> = rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "resourceSpans[0].scopeSpans[0].spans[1].traceId: must be 32 hex digits, has 1 characters (OTLP/JSON ids are hex, not base64)",
            "resourceSpans[0].scopeSpans[0].spans[0]: its resource is unusable: resourceSpans[0].resource.attributes[0].key is a number, expected a string",
            "resourceSpans[1].scopeSpans[0].spans[0]: its scope is unusable: resourceSpans[1].scopeSpans[0].scope.name is an array, expected a string",
            "resourceSpans[1].scopeSpans[1].spans[0].spanId: is a number, expected 16 hex digits",
        ]
    );
}

#[test]
fn unusable_bodies() {
    let error = |text: &str| decode(text.as_bytes(), &Limits::default()).expect_err(text);
    for (text, path) in [
        ("", ""),
        ("[]", ""),
        ("{\"resourceSpans\":[", ""),
        ("{} {}", ""),
        ("{\"resourceSpans\":{}}", "resourceSpans"),
        ("{\"resourceSpans\":[{},7]}", "resourceSpans[1]"),
        ("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":true}]}]}", "resourceSpans[0].scopeSpans[0].spans"),
    ] {
        assert_eq!(error(text).path, path, "{text}");
    }
    let DecodeError { reason, .. } = error("{\"resourceSpans\":\n [}");
    assert!(reason.contains("line 2 column 3"), "{reason}");
    let broken_later = in_span(r#""kind":"x""#).replace("]}]}]}", "]}]}");
    assert!(error(&broken_later).reason.contains("not valid JSON"), "a syntax error goes first");
}

#[test]
fn limits_hold_while_reading() {
    let limits = Limits { attributes_per_span: 2, span_bytes: 200, spans_per_request: 2, depth: 8 };
    let reason = |text: &str| {
        let (_, rejected) = decode(text.as_bytes(), &limits).unwrap();
        rejected[0].to_string()
    };
    let pair = r#"{"key":"k"}"#;
    let many = in_span(&format!(r#""attributes":[{pair},{pair},{pair}]"#));
    assert!(reason(&many).ends_with("spans[0].attributes: has more than 2 attributes"));
    assert!(
        reason(&in_span(&format!(r#""name":"{}""#, "n".repeat(300))))
            .ends_with("spans[0]: has more than 200 bytes")
    );
    let deep = |lists: usize| {
        in_value(&format!(
            "{}{{\"intValue\":1}}{}",
            r#"{"arrayValue":{"values":["#.repeat(lists),
            "]}}".repeat(lists)
        ))
    };
    assert!(reason(&deep(2)).ends_with("is nested deeper than 8 messages"));
    let spans =
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS}}},{{{IDS}}},{{{IDS}}}]}}]}}]}}"#);
    let error = decode(spans.as_bytes(), &limits).unwrap_err();
    assert_eq!(error.path, "resourceSpans[0].scopeSpans[0].spans[2]");

    // Far deeper than the parser recurses: one span is rejected, not the body.
    let text = deep(3000);
    let (_, rejected) = decode(text.as_bytes(), &Limits { depth: 1000, ..Limits::default() }).unwrap();
    assert_eq!(rejected.len(), 1);
}

#[test]
fn the_form_written_is_compact_and_canonical() {
    let span = SpanBuilder {
        trace_id: [0xab; 16],
        span_id: [1; 8],
        kind: 3,
        start_unix_nano: 1_700_000_000_000_000_000,
        attributes: vec![
            ("i".into(), OwnedValue::Int(-5)),
            ("n".into(), OwnedValue::Double(f64::NAN)),
            ("f".into(), OwnedValue::Double(f64::NEG_INFINITY)),
            ("d".into(), OwnedValue::Double(2.0)),
            ("b".into(), OwnedValue::Bytes(vec![0xfb, 0xff])),
            ("e".into(), OwnedValue::Empty),
        ],
        status_code: 1,
        ..SpanBuilder::default()
    };
    let mut bytes = Vec::new();
    resource_spans(&[("r".into(), true.into())], "s", "", &[span], &mut bytes);
    let mut out = Vec::new();
    encode(&index(&bytes), &SpanSet::all(1), None, &mut out);
    let expected = concat!(
        r#"{"resource":{"attributes":[{"key":"r","value":{"boolValue":true}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":["#,
        r#"{"traceId":"abababababababababababababababab","spanId":"0101010101010101","kind":3,"#,
        r#""startTimeUnixNano":"1700000000000000000","attributes":[{"key":"i","value":{"intValue":"-5"}},"#,
        r#"{"key":"n","value":{"doubleValue":"NaN"}},{"key":"f","value":{"doubleValue":"-Infinity"}},"#,
        r#"{"key":"d","value":{"doubleValue":2.0}},{"key":"b","value":{"bytesValue":"+/8="}},{"key":"e","value":{}}],"#,
        r#""status":{"code":1}}]}]}"#,
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut nothing = Vec::new();
    encode(&index(&bytes), &SpanSet::none(1), None, &mut nothing);
    assert_eq!(nothing, b"");
}

#[test]
fn spans_of_one_resource_stand_together() {
    let mut one = request_of(vec![simple_span(2), simple_span(3)]);
    one.resource_spans.extend(request_of(vec![simple_span(4)]).resource_spans);
    let traces = index_request(&one);
    let mut out = Vec::new();
    encode(&traces, &SpanSet::all(3), None, &mut out);
    let list: serde_json::Value =
        serde_json::from_str(&format!("[{}]", String::from_utf8(out).unwrap())).unwrap();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert_eq!(list[0]["scopeSpans"][0]["spans"].as_array().map(Vec::len), Some(2));
}

#[test]
fn plain_values() {
    let mut span = simple_span(2);
    span.attributes = vec![pair("s", "a\"b")];
    let traces = index_request(&request_of(vec![span]));
    let plain = |value: &Value<'_>| {
        let mut out = Vec::new();
        plain_value(value, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(plain(&traces.span(0).attribute("s").unwrap()), r#""a\"b""#);
    assert_eq!(plain(&Value::Empty), "null");
    assert_eq!(plain(&Value::Double(f64::INFINITY)), r#""Infinity""#);
    assert_eq!(plain(&Value::Double(0.1)), "0.1");
    assert_eq!(plain(&Value::Int(i64::MIN)), "-9223372036854775808");
    let text = in_value(
        r#"{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}},{"key":"b","value":{"arrayValue":{"values":[{"boolValue":true},{}]}}},{"key":"a","value":{"bytesValue":"AQI="}}]}}"#,
    );
    let traces = index(&decode(text.as_bytes(), &Limits::default()).unwrap().0);
    assert_eq!(plain(&traces.span(0).attribute("k").unwrap()), r#"{"b":[true,null],"a":"AQI="}"#);
    assert_eq!(seen_by_views(&traces).len(), 1);
}
