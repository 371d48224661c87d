//! Privacy mode: a canary in every content key of every dialect at every place never gets through.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message as _;
use tracecast_otlp::write::select;
use tracecast_otlp::{Limits, SpanSet, Traces};

use crate::content::{CONTENT, CONTENT_PREFIXES};
use crate::{Generation, Privacy, failed_closed};

const CANARY: &str = "c4n4ry";

fn any(value: any_value::Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn string(text: &str) -> AnyValue {
    any(any_value::Value::StringValue(text.into()))
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

/// The canary as text, as JSON text, nested in structures and as bytes.
fn forms() -> Vec<AnyValue> {
    let nested =
        any(any_value::Value::KvlistValue(KeyValueList { values: vec![pair("text", string(CANARY))] }));
    vec![
        string(CANARY),
        string(&format!(r#"{{"messages":[{{"role":"user","content":"{CANARY}"}}]}}"#)),
        any(any_value::Value::ArrayValue(ArrayValue { values: vec![nested.clone()] })),
        nested,
        any(any_value::Value::BytesValue(CANARY.as_bytes().to_vec())),
    ]
}

/// Every content key we know, in every form.
fn private_attributes() -> Vec<KeyValue> {
    let prefixed = CONTENT_PREFIXES.iter().map(|prefix| format!("{prefix}0.message.content"));
    let names = CONTENT.iter().map(|name| (*name).to_owned()).chain(prefixed);
    let more = ["mastra.agent.output", "my.unknown.prompt", "app.user_message"].map(str::to_owned);
    let long = format!("{CANARY}{}", "x".repeat(1024));
    let mut attributes: Vec<KeyValue> =
        names.chain(more).flat_map(|name| forms().into_iter().map(move |form| pair(&name, form))).collect();
    attributes.push(pair("unknown.long", string(&long)));
    attributes.extend(forms().into_iter().skip(2).map(|form| pair("unknown.structured", form)));
    attributes.push(pair(
        "langfuse.observation.model.parameters",
        string(&format!(r#"{{"temperature":1,"tools":"{CANARY}"}}"#)),
    ));
    attributes.push(pair(
        "trace.metadata.openrouter_generation",
        string(&format!(r#"{{"usage":0.5,"upstream_raw_response_usage":{{"x":"{CANARY}"}}}}"#)),
    ));
    attributes
}

fn kept_attributes() -> Vec<KeyValue> {
    let int = |n| any(any_value::Value::IntValue(n));
    vec![
        pair("gen_ai.operation.name", string("chat")),
        pair("gen_ai.request.model", string("gpt-4o")),
        pair("gen_ai.provider.name", string("openai")),
        pair("gen_ai.usage.input_tokens", int(100)),
        pair("gen_ai.usage.output_tokens", int(20)),
        pair("gen_ai.usage.total_cost", any(any_value::Value::DoubleValue(0.5))),
        pair(
            "gen_ai.response.finish_reasons",
            any(any_value::Value::ArrayValue(ArrayValue { values: vec![string("stop")] })),
        ),
        pair("user.id", string("u-1")),
        pair("session.id", string("s-1")),
        pair("trace.metadata.team", string("search")),
        pair("trace.metadata.notes", string(&"n".repeat(4000))),
        pair("metadata", string(r#"{"free":"text"}"#)),
        pair("my.unknown.flag", any(any_value::Value::BoolValue(true))),
        pair("my.unknown.name", string("short")),
        pair("my.prompt", int(7)),
        pair("ai.response.providerMetadata", string(r#"{"gateway":{"cost":"0.1","x":"c4n4ry"}}"#)),
    ]
}

fn request() -> ExportTraceServiceRequest {
    let event = |name: &str, attributes: Vec<KeyValue>| span::Event {
        name: name.into(),
        attributes,
        time_unix_nano: 1,
        ..Default::default()
    };
    let loose = |key: &str| vec![pair(key, string(CANARY))];
    let mut attributes = private_attributes();
    attributes.extend(kept_attributes());
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "chat gpt-4o".into(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes,
        events: vec![
            // Whole events of messages, with attribute names of no list.
            event("gen_ai.user.message", loose("free.form")),
            event("gen_ai.system.message", loose("free.form")),
            event("gen_ai.choice", loose("free.form")),
            event("gen_ai.content.prompt", loose("free.form")),
            event("llm.content.completion.chunk", loose("free.form")),
            event(&format!("{CANARY} {}", "y".repeat(300)), vec![]),
            event("gen_ai.client.inference.operation.details", private_attributes()),
            event(
                "exception",
                vec![
                    pair("exception.type", string("RateLimitError")),
                    pair("exception.message", string(CANARY)),
                    pair("exception.stacktrace", string(CANARY)),
                ],
            ),
            event("custom", private_attributes()),
        ],
        links: vec![span::Link {
            trace_id: vec![3; 16],
            span_id: vec![4; 8],
            attributes: private_attributes(),
            ..Default::default()
        }],
        status: Some(Status { code: 2, message: CANARY.into() }),
        ..Default::default()
    };
    let scope =
        InstrumentationScope { name: "test".into(), attributes: private_attributes(), ..Default::default() };
    let resource = Resource { attributes: private_attributes(), ..Default::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans: vec![span], ..Default::default() }],
            ..Default::default()
        }],
    }
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

fn indexed(bytes: Vec<u8>) -> Traces {
    let limits = Limits { attributes_per_span: 100_000, ..Limits::default() };
    Traces::index(bytes.into(), &limits).expect("valid request")
}

#[test]
fn no_canary_gets_through_and_the_figures_survive() {
    let given = indexed(request().encode_to_vec());
    assert!(given.rejected().is_empty(), "{:?}", given.rejected());
    let (before, mut out) = (failed_closed(), Vec::new());
    select(&given, &SpanSet::all(1), Some(&Privacy), &mut out);
    assert!(!contains(&out, CANARY));
    assert!(failed_closed() > before);

    let read = indexed(out);
    let span = read.span(0);
    let generation = Generation::new(span);
    assert!(generation.is_generation());
    assert_eq!(generation.model(), Some("gpt-4o"));
    assert_eq!(generation.usage().total, Some(120));
    assert_eq!(generation.cost().total, Some(0.5));
    assert_eq!(generation.finish_reason().as_deref(), Some("stop"));
    assert_eq!((generation.user_id(), generation.session_id()), (Some("u-1"), Some("s-1")));
    assert_eq!(generation.input_json(), None);
    assert_eq!(generation.output_json(), None);
    let metadata = generation.metadata();
    assert_eq!(metadata["team"], "search");
    assert_eq!(metadata["notes"], "n".repeat(4000));
    assert_eq!(metadata["free"], "text");
    assert_eq!(
        metadata["openrouter_generation"],
        r#"{"upstream_raw_response_usage":null,"upstream_raw_response_usage_suppression_reason":"privacy_mode","usage":0.5}"#
    );
    for key in ["my.unknown.flag", "my.unknown.name", "my.prompt"] {
        assert!(span.attribute(key).is_some(), "{key}");
    }
    let reduced = |key| span.attribute(key).and_then(|v| v.as_str());
    assert_eq!(reduced("ai.response.providerMetadata"), Some(r#"{"gateway":{"cost":"0.1"}}"#));
    assert_eq!(reduced("langfuse.observation.model.parameters"), Some(r#"{"temperature":1}"#));
    assert_eq!(span.status_message(), "RateLimitError");
    assert_eq!(span.status_code(), 2);
    let events: Vec<&str> = span.events().map(|event| event.name()).collect();
    assert_eq!(events, ["gen_ai.client.inference.operation.details", "exception", "custom"]);
    assert_eq!(span.links().count(), 1);
}

#[test]
fn unknown_fields_of_the_wire_are_dropped() {
    let mut span =
        Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "s".into(), ..Default::default() }
            .encode_to_vec();
    // Field 100, length-delimited.
    span.extend([0xa2, 0x06, CANARY.len() as u8]);
    span.extend(CANARY.as_bytes());
    let wrap = |content: Vec<u8>| {
        let mut out = vec![0x12, content.len() as u8];
        out.extend(content);
        out
    };
    let mut request = wrap(wrap(wrap(span)));
    request[0] = 0x0a;
    let given = indexed(request);
    let (mut open, mut private) = (Vec::new(), Vec::new());
    select(&given, &SpanSet::all(1), None, &mut open);
    select(&given, &SpanSet::all(1), Some(&Privacy), &mut private);
    assert!(contains(&open, CANARY));
    assert!(!contains(&private, CANARY));
}

#[test]
fn the_status_message_becomes_the_class_of_the_error() {
    let project = |code: i32, attributes: Vec<KeyValue>| {
        let mut request = request();
        let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
        span.events.clear();
        span.attributes = attributes;
        span.status = Some(Status { code, message: CANARY.into() });
        let mut out = Vec::new();
        select(&indexed(request.encode_to_vec()), &SpanSet::all(1), Some(&Privacy), &mut out);
        assert!(!contains(&out, CANARY));
        indexed(out).span(0).status_message().to_owned()
    };
    assert_eq!(project(2, vec![pair("error.type", string("timeout"))]), "timeout");
    assert_eq!(project(2, vec![]), "error");
    assert_eq!(project(2, vec![pair("error.type", string("a sentence, not a class"))]), "error");
    assert_eq!(project(1, vec![]), "");
}
