//! Golden bodies: what each kind makes of one chat, one tool call, one streamed, one failed request and one embedding.
//!
//! `spans.json` holds what comes in. `<kind>/golden.json` holds what has to go out, written from the mapping tables of
//! the vendors (broadcast-contract.md 6 and 7, sinks-llm-platforms.md, sinks-infrastructure.md), not from output:
//!
//! - OTLP kinds: per span what is `added` to the received attributes and what is `removed`, and `events` where they
//!   change; `resource` is what is added to every resource.
//! - bodies of their own: each body, as JSON. Rows of a warehouse by column.
//! - `{"json": x}` is a text that holds x.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Map, Value as Json};
use tracecast_destination::Kind;
use tracecast_otlp::write::{OwnedValue, SpanBuilder};

use crate::testing::*;
use crate::{Preview, build};

const SPANS: &str = include_str!("spans.json");

fn golden(kind: Kind) -> &'static str {
    match kind {
        Kind::Arize => include_str!("../arize/golden.json"),
        Kind::Braintrust => include_str!("../braintrust/golden.json"),
        Kind::Clickhouse => include_str!("../clickhouse/golden.json"),
        Kind::Datadog => include_str!("../datadog/golden.json"),
        Kind::Grafana => include_str!("../grafana/golden.json"),
        Kind::Langfuse => include_str!("../langfuse/golden.json"),
        Kind::Langsmith => include_str!("../langsmith/golden.json"),
        Kind::Newrelic => include_str!("../newrelic/golden.json"),
        Kind::Opik => include_str!("../opik/golden.json"),
        Kind::OtelCollector => include_str!("../otel_collector/golden.json"),
        Kind::Posthog => include_str!("../posthog/golden.json"),
        Kind::Ramp => include_str!("../ramp/golden.json"),
        Kind::S3 => include_str!("../s3/golden.json"),
        Kind::Sentry => include_str!("../sentry/golden.json"),
        Kind::Snowflake => include_str!("../snowflake/golden.json"),
        Kind::Weave => include_str!("../weave/golden.json"),
        Kind::Webhook => include_str!("../webhook/golden.json"),
    }
}

#[test]
fn bodies_are_what_the_vendors_document() {
    let clients = clients();
    let scenes: Map<String, Json> = serde_json::from_str(SPANS).unwrap();
    assert_eq!(scenes.len(), 5);
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let adapter = build(&destination_at(kind, "http://127.0.0.1:1"), &clients).unwrap();
        let golden: Map<String, Json> = serde_json::from_str(golden(kind)).unwrap();
        assert_eq!(golden.len(), scenes.len(), "{kind}");
        for (scene, spans) in &scenes {
            let spans = spans.as_array().unwrap();
            let built: Vec<SpanBuilder> = spans.iter().map(span_of).collect();
            let previews = adapter.preview(&batch(vec![item(1, &built)]));
            let actual = read(kind, &previews, spans);
            differences(&golden[scene], &actual, &format!("{kind} {scene}"), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn span_of(span: &Json) -> SpanBuilder {
    let id = |key: &str| span[key].as_u64().map(|n| [u8::try_from(n).unwrap(); 8]);
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let attributes = |value: &Json| -> Vec<(String, OwnedValue)> {
        value.as_object().unwrap().iter().map(|(key, value)| (key.clone(), owned(value))).collect()
    };
    let events = span["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    SpanBuilder {
        trace_id: TRACE_ID,
        span_id: id("id").unwrap(),
        parent_span_id: id("parent"),
        name: text(&span["name"]),
        kind: 3,
        start_unix_nano: START,
        end_unix_nano: START + 1_500_000_000,
        attributes: attributes(&span["attributes"]),
        events: events
            .iter()
            .map(|event| (START + 1_500_000_000, text(&event["name"]), attributes(&event["attributes"])))
            .collect(),
        status_code: i32::try_from(span["status"].as_u64().unwrap_or(1)).unwrap(),
        status_message: text(&span["message"]),
    }
}

fn owned(value: &Json) -> OwnedValue {
    match value {
        Json::String(text) => text.as_str().into(),
        Json::Bool(b) => OwnedValue::Bool(*b),
        Json::Number(n) => n.as_i64().map_or_else(|| n.as_f64().unwrap().into(), OwnedValue::from),
        Json::Array(items) => OwnedValue::Array(items.iter().map(owned).collect()),
        other => panic!("{other}"),
    }
}

/// What goes out, in the form of the golden files.
fn read(kind: Kind, previews: &[Preview], spans: &[Json]) -> Json {
    let header = |preview: &Preview| {
        preview.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.clone())
    };
    let json = |preview: &Preview| -> Json { serde_json::from_slice(&preview.body).unwrap() };
    match kind {
        Kind::OtelCollector
        | Kind::Webhook
        | Kind::Arize
        | Kind::Grafana
        | Kind::Langfuse
        | Kind::Newrelic
        | Kind::Ramp
        | Kind::Sentry => {
            let request: ExportTraceServiceRequest = match header(&previews[0]).as_deref() {
                Some("application/json") => serde_json::from_slice(&previews[0].body).unwrap(),
                _ => decode(&previews[0].body),
            };
            edited(&request, spans)
        }
        Kind::Clickhouse => {
            let lines = previews[0].body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice::<Json>(line).unwrap()).collect()
        }
        Kind::Langsmith => multipart(&header(&previews[0]).unwrap(), &previews[0].body).into(),
        Kind::Snowflake => rows_of(&json(&previews[0])),
        _ => previews.iter().map(json).collect(),
    }
}

/// The rows of a binding under the names the statement gives to their places.
fn rows_of(statement: &Json) -> Json {
    let text = statement["statement"].as_str().unwrap();
    let names = text.split_once(" (").unwrap().1.split_once(')').unwrap().0;
    let names: Vec<&str> = names.split(", ").map(|name| name.trim_matches('"')).collect();
    let rows: Vec<Map<String, Json>> =
        serde_json::from_str(statement["bindings"]["1"]["value"].as_str().unwrap()).unwrap();
    let named = |row: Map<String, Json>| -> Json {
        row.into_iter()
            .map(|(place, value)| (names[place[1..].parse::<usize>().unwrap()].to_owned(), value))
            .collect()
    };
    rows.into_iter().map(named).collect()
}

/// What an edit has done to the spans.
fn edited(request: &ExportTraceServiceRequest, received: &[Json]) -> Json {
    let mut out = Map::new();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let mut resource = map(&resource.attributes);
    assert_eq!(resource.remove("service.name"), Some("shop".into()));
    if !resource.is_empty() {
        out.insert("resource".into(), resource.into());
    }
    let sent = all_spans(request);
    assert_eq!(sent.len(), received.len());
    let spans: Vec<Json> = sent.iter().zip(received).map(|(span, received)| change(span, received)).collect();
    out.insert("spans".into(), spans.into());
    out.into()
}

fn change(span: &Span, received: &Json) -> Json {
    assert_eq!(span.name, received["name"]);
    let mut out = Map::new();
    let before = received["attributes"].as_object().unwrap();
    let mut added = map(&span.attributes);
    let removed: Vec<Json> =
        before.keys().filter(|key| !added.contains_key(*key)).map(|key| key.as_str().into()).collect();
    added.retain(|key, value| before.get(key) != Some(value));
    if !added.is_empty() {
        out.insert("added".into(), added.into());
    }
    if !removed.is_empty() {
        out.insert("removed".into(), removed.into());
    }
    let event = |name: &str, attributes: Map<String, Json>| serde_json::json!({"name": name, "attributes": attributes});
    let events: Vec<Json> = span.events.iter().map(|sent| event(&sent.name, map(&sent.attributes))).collect();
    if Json::from(events.clone()) != *received.get("events").unwrap_or(&Json::Array(Vec::new())) {
        out.insert("events".into(), events.into());
    }
    out.into()
}

fn map(attributes: &[KeyValue]) -> Map<String, Json> {
    let mut out = Map::new();
    for attribute in attributes {
        let twice = out.insert(attribute.key.clone(), plain(attribute.value.as_ref()));
        assert_eq!(twice, None, "{} is there twice", attribute.key);
    }
    out
}

fn plain(value: Option<&AnyValue>) -> Json {
    use any_value::Value::{ArrayValue, BoolValue, DoubleValue, IntValue, StringValue};
    match value.and_then(|value| value.value.as_ref()) {
        Some(StringValue(text)) => text.as_str().into(),
        Some(BoolValue(b)) => (*b).into(),
        Some(IntValue(n)) => (*n).into(),
        Some(DoubleValue(n)) => (*n).into(),
        Some(ArrayValue(list)) => list.values.iter().map(|value| plain(Some(value))).collect(),
        other => panic!("{other:?}"),
    }
}

/// Every place where two values differ.
fn differences(expected: &Json, actual: &Json, at: &str, out: &mut Vec<String>) {
    match (expected, actual) {
        (Json::Object(text), Json::String(actual)) if text.len() == 1 && text.contains_key("json") => {
            match serde_json::from_str(actual) {
                Ok(actual) => differences(&text["json"], &actual, at, out),
                Err(_) => out.push(format!("{at}: no JSON: {actual}")),
            }
        }
        (Json::Object(expected), Json::Object(actual)) => {
            for (key, value) in expected {
                match actual.get(key) {
                    Some(actual) => differences(value, actual, &format!("{at}/{key}"), out),
                    None => out.push(format!("{at}/{key}: missing {value}")),
                }
            }
            for (key, value) in actual.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                out.push(format!("{at}/{key}: unexpected {value}"));
            }
        }
        (Json::Array(expected), Json::Array(actual)) if expected.len() == actual.len() => {
            for (i, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                differences(expected, actual, &format!("{at}/{i}"), out);
            }
        }
        (Json::Number(expected), Json::Number(actual)) if expected.as_f64() == actual.as_f64() => {}
        (Json::String(expected), Json::String(actual))
            if expected.replace("<version>", env!("CARGO_PKG_VERSION")) == *actual => {}
        _ if expected == actual => {}
        _ => out.push(format!("{at}: expected {expected}, is {actual}")),
    }
}
