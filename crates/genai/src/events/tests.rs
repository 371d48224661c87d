//! `/v1/events`: ids, shapes, times, bad input with its place, and that nothing panics.

mod fuzz;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tracecast_otlp::{Limits, SpanView, Traces, Value, hex};

use super::{Options, Outcome, RecordError, span_id_of, trace_id_of, transcode};
use crate::{Generation, stated_identity};

const RECEIVED: u64 = 1_790_606_300_000_000_000;

fn options() -> Options<'static> {
    Options { strict: false, receive_unix_nano: RECEIVED, service_name: "tracecast", max_records: 1000 }
}

fn run(body: impl AsRef<[u8]>) -> Outcome {
    transcode(body.as_ref(), &options())
}

fn spans(outcome: &Outcome) -> Traces {
    let traces = Traces::index(outcome.protobuf.clone(), &Limits::default()).expect("valid OTLP");
    assert!(traces.rejected().is_empty(), "{:?}", traces.rejected());
    assert_eq!(traces.len(), outcome.spans as usize);
    traces
}

fn accepted(record: Json) -> Traces {
    let outcome = run(record.to_string());
    assert_eq!((outcome.accepted, outcome.rejected), (1, 0), "{:?}", outcome.errors);
    spans(&outcome)
}

fn refused(record: Json) -> (String, String) {
    let outcome = run(record.to_string());
    assert_eq!((outcome.accepted, outcome.rejected, outcome.spans), (0, 1, 0), "{record}");
    let RecordError { path, message, .. } = outcome.errors[0].clone();
    (path, message)
}

fn json_of(text: Option<impl AsRef<str>>) -> Json {
    serde_json::from_str(text.expect("is there").as_ref()).expect("is JSON")
}

fn text_of(span: SpanView<'_>, key: &str) -> Option<String> {
    span.attribute(key).and_then(|value| value.as_str().map(str::to_owned))
}

#[test]
fn ids_of_the_contract() {
    for (raw, trace_id) in [
        ("gen-1790606294-sdYHTGXUVyDKWCLqX5Op", "9b1de41a703bf6c7f0831bba77573c3e"),
        ("gen-1790606272-klALDjkN7Ke6rbM52aHZ", "7195c25a8068522385c817c8cb73fd1d"),
        ("gen-1769028024-jarGYYh8T8HnNfNLExRC", "1c555e8b67d6f2a5706b0ece50f65ab4"),
        ("obsprobe-trace-1788612874", "8b15b51c4f6c36711f217e68ad5c99ac"),
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(hex(&trace_id_of(raw)), trace_id, "{raw}");
    }
    for (raw, span_id) in [
        ("gen-1790606294-sdYHTGXUVyDKWCLqX5Op", "9b1de41a703bf6c7"),
        ("gen-1790606294-sdYHTGXUVyDKWCLqX5Op:attempt-0", "4340790d902cb4a8"),
        ("gen-1790606294-sdYHTGXUVyDKWCLqX5Op:generation", "8ad22c7251dc7442"),
        ("gen-1788612880-8wpoqatoJCppvLlOOwVy", "bfdd7a538241b627"),
        ("00F067AA0BA902B7", "00f067aa0ba902b7"),
    ] {
        assert_eq!(hex(&span_id_of(raw)), span_id, "{raw}");
    }
    // All zero is no id to OTLP, so it is hashed like any other text.
    assert_ne!(trace_id_of(&"0".repeat(32)), [0; 16]);
    assert_ne!(span_id_of(&"0".repeat(16)), [0; 8]);
    // A UUID with dashes is no W3C id.
    assert_ne!(hex(&trace_id_of("0af76519-16cd-43dd-8448-eb211c80319c")), "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn one_request_becomes_the_spans_of_the_contract() {
    let traces = accepted(json!({
        "id": "gen-1790606294-sdYHTGXUVyDKWCLqX5Op",
        "start_time": 1_790_606_294, "end_time": 1_790_606_296_500u64, "first_token_time": "2026-09-28T14:38:14.75Z",
        "model": "anthropic/claude-sonnet-4:nitro", "provider": "Amazon Bedrock",
        "api_key_hash": "ab", "api_key_name": "prod", "workspace_id": "team-a", "region": "europe",
        "user": "u-1", "session_id": "s-1",
        "trace": {"trace_id": "obsprobe-trace-1788612874", "trace_name": "Nightly", "generation_name": "Summarise",
            "parent_span_id": "00f067aa0ba902b7", "environment": "production", "feature": {"a": 1}},
        "request": {"model": "ignored", "stream": true, "temperature": 0.5, "max_tokens": 100,
            "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]},
        "response": {"model": "claude-sonnet-4-20250514", "choices": [{"finish_reason": "stop", "native_finish_reason": "end_turn",
            "message": {"role": "assistant", "content": "hello"}}]},
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 5}},
        "cost": {"input": 0.25, "output": 0.5},
        "attempts": [
            {"provider": "Anthropic", "status_code": 529, "latency_ms": 100},
            {"provider": "Amazon Bedrock", "status_code": 200, "is_byok": false, "endpoint_id": "e1"}],
        "metadata": {"team": "search", "n": 3}, "tags": ["a", "b"], "custom": "yes",
    }));
    assert_eq!(traces.len(), 4);
    let root = traces.span(0);
    assert_eq!(hex(&root.trace_id()), "8b15b51c4f6c36711f217e68ad5c99ac");
    assert_eq!(hex(&root.span_id()), "9b1de41a703bf6c7");
    assert_eq!(root.parent_span_id().map(|id| hex(&id)).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!((root.name(), root.kind(), root.status_code()), ("Summarise", 3, 1));
    assert_eq!(root.start_unix_nano(), 1_790_606_294_000_000_000);
    assert_eq!(root.end_unix_nano(), 1_790_606_296_500_000_000);
    let resource = root.resource();
    let of_resource = |key: &str| resource.attribute(key).and_then(|v| v.as_str());
    assert_eq!(of_resource("service.name"), Some("tracecast"));
    assert_eq!(of_resource("tracecast.trace.id"), Some("obsprobe-trace-1788612874"));
    assert_eq!(of_resource("openrouter.trace.id"), Some("obsprobe-trace-1788612874"));
    assert_eq!(root.scope().name(), "tracecast");

    let read = Generation::new(root);
    assert!(read.is_generation());
    assert_eq!(read.operation(), Some("chat"));
    assert_eq!(read.model(), Some("anthropic/claude-sonnet-4"));
    assert_eq!(read.response_model(), Some("claude-sonnet-4-20250514"));
    assert_eq!(read.response_id(), Some("gen-1790606294-sdYHTGXUVyDKWCLqX5Op"));
    assert_eq!(text_of(root, "gen_ai.system").as_deref(), Some("anthropic"));
    assert_eq!(read.provider_name(), Some("Amazon Bedrock"));
    assert_eq!(read.provider_slug(), Some("amazon-bedrock"));
    assert_eq!((read.user_id(), read.session_id()), (Some("u-1"), Some("s-1")));
    assert_eq!(read.api_key_name(), Some("prod"));
    assert_eq!((read.trace_name(), read.environment()), (Some("Nightly"), Some("production")));
    assert_eq!(read.raw_trace_id(), Some("obsprobe-trace-1788612874"));
    assert_eq!(read.first_token_ms(), Some(750.0));
    assert_eq!(
        (read.usage().input, read.usage().output, read.usage().total),
        (Some(100), Some(20), Some(120))
    );
    assert_eq!((read.usage().cached, read.usage().reasoning), (Some(40), Some(5)));
    assert_eq!(
        (read.cost().input, read.cost().output, read.cost().total),
        (Some(0.25), Some(0.5), Some(0.75))
    );
    assert_eq!(read.finish_reason().as_deref(), Some("stop"));
    assert_eq!(read.native_finish_reason(), Some("end_turn"));
    assert_eq!(json_of(read.input_json()), json!({"messages": [{"role": "user", "content": "hi"}]}));
    assert_eq!(
        json_of(read.output_json()),
        json!({"completion": "hello", "reasoning": null, "toolCalls": []})
    );
    assert_eq!(
        Json::Object(read.metadata()),
        json!({"environment": "production", "feature": "{\"a\":1}", "team": "search", "n": 3, "custom": "yes"})
    );
    assert_eq!(read.tags(), ["a", "b"]);
    assert_eq!(
        Json::Object(read.model_parameters()),
        json!({"stream": true, "temperature": 0.5, "max_tokens": 100})
    );
    assert_eq!(text_of(root, "span.type").as_deref(), Some("generation"));
    assert_eq!(text_of(root, "gen_ai.response.finish_reasons").as_deref(), Some(r#"["stop"]"#));

    let (first, second, streamed) = (traces.span(1), traces.span(2), traces.span(3));
    assert_eq!((first.name(), first.kind(), first.status_code()), ("provider attempt 1: Anthropic", 2, 2));
    assert_eq!(hex(&first.span_id()), "4340790d902cb4a8");
    assert_eq!(first.end_unix_nano() - first.start_unix_nano(), 100_000_000);
    assert!(matches!(first.attribute("span.metadata.attempt_index"), Some(Value::Int(0))));
    assert!(matches!(first.attribute("span.metadata.status_code"), Some(Value::Int(529))));
    assert_eq!(
        text_of(first, "gen_ai.response.id").as_deref(),
        Some("gen-1790606294-sdYHTGXUVyDKWCLqX5Op:attempt-0")
    );
    assert_eq!((second.name(), second.status_code()), ("provider attempt 2: Amazon Bedrock", 1));
    assert_eq!((streamed.name(), streamed.kind()), ("generation", 2));
    assert_eq!(hex(&streamed.span_id()), "8ad22c7251dc7442");
    assert_eq!(streamed.start_unix_nano(), 1_790_606_294_750_000_000);
    for child in [first, second, streamed] {
        assert_eq!(child.parent_span_id(), Some(root.span_id()));
        assert_eq!(child.trace_id(), root.trace_id());
        assert!(!Generation::new(child).is_generation());
        assert!(Generation::new(child).usage().is_empty());
    }
    for span in traces.spans() {
        let stated = stated_identity(span);
        assert_eq!(stated.api_key_hash, Some("ab"));
        assert_eq!(stated.workspace_id, Some("team-a"));
        assert_eq!(stated.region, Some("europe"));
    }
}

#[test]
fn every_api_is_read() {
    let chat_answer = json!({"completion": "hello", "reasoning": null, "toolCalls": []});
    let chat_input =
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]});
    let messages = chat_input["messages"].clone();
    let cases = [
        (
            "openai chat",
            json!({"request": {"model": "m", "messages": messages},
                "response": {"id": "chatcmpl-1", "model": "m-1", "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "hello"}}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                        "prompt_tokens_details": {"cached_tokens": 40}}}}),
        ),
        (
            "openai responses",
            json!({"request": {"model": "m", "instructions": "Be brief.", "input": "hi"},
                "response": {"id": "resp_1", "model": "m-1", "status": "completed", "output": [
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}],
                    "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
                        "input_tokens_details": {"cached_tokens": 40}}}}),
        ),
        (
            "anthropic",
            json!({"request": {"model": "m", "system": "Be brief.", "max_tokens": 9,
                    "messages": [{"role": "user", "content": "hi"}]},
                "response": {"type": "message", "role": "assistant", "model": "m-1", "stop_reason": "end_turn",
                    "content": [{"type": "text", "text": "hello"}],
                    "usage": {"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 40}}}),
        ),
        (
            "json text",
            json!({"request": json!({"model": "m", "messages": messages}).to_string(),
                "response": json!({"model": "m-1", "choices": [{"finish_reason": "stop", "message": {"content": "hello"}}],
                    "usage": {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 40}}}).to_string()}),
        ),
        (
            "top-level parts",
            json!({"model": "m", "messages": messages,
                "choices": [{"finish_reason": "stop", "message": {"content": "hello"}}], "response": {"model": "m-1"},
                "usage": {"input": 100, "output": 20, "cached": 40}}),
        ),
        (
            "system, prompt and output",
            json!({"model": "m", "system": "Be brief.", "prompt": "hi", "output": "hello",
                "response": {"model": "m-1", "stop_reason": "stop_sequence", "finish_reason": "stop"},
                "usage": {"prompt_tokens": "100", "completion_tokens": 20.0, "cached_tokens": 40}}),
        ),
        (
            "openai chat chunks",
            json!({"request": {"model": "m", "messages": messages, "stream": true}, "response": [
                {"object": "chat.completion.chunk", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
                {"object": "chat.completion.chunk", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "hel"}}]},
                {"object": "chat.completion.chunk", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
                {"object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage":
                    {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40}}},
            ]}),
        ),
        (
            "openai chat sse",
            json!({"request": {"model": "m", "messages": messages, "stream": true}, "response":
                ": OPENROUTER PROCESSING\n\ndata: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\n\
                 data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}],\
                 \"usage\":{\"prompt_tokens\":100,\"completion_tokens\":20,\"prompt_tokens_details\":{\"cached_tokens\":40}}}\n\ndata: [DONE]\n\n"}),
        ),
        (
            "anthropic sse",
            json!({"request": {"model": "m", "stream": true, "messages": messages}, "response":
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m-1\",\"usage\":{\"input_tokens\":60,\"cache_read_input_tokens\":40,\"output_tokens\":1}}}\n\n\
                 event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
                 event: ping\ndata: {\"type\":\"ping\"}\n\n\
                 event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hel\"}}\n\n\
                 event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}\n\n\
                 event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":20}}\n\n\
                 event: message_stop\ndata: {\"type\":\"message_stop\"}\n"}),
        ),
        (
            "responses events",
            json!({"request": {"model": "m", "stream": true, "instructions": "Be brief.", "input": [{"role": "user", "content": "hi"}]}, "response": [
                {"type": "response.created", "response": {"id": "resp_1", "model": "m-1"}},
                {"type": "response.output_text.delta", "output_index": 0, "delta": "hel"},
                {"type": "response.completed", "response": {"id": "resp_1", "model": "m-1", "status": "completed",
                    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}],
                    "usage": {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 40}}}},
            ]}),
        ),
    ];
    for (name, record) in cases {
        let traces = accepted(record);
        let read = Generation::new(traces.span(0));
        assert_eq!(read.model(), Some("m"), "{name}");
        assert_eq!(read.response_model(), Some("m-1"), "{name}");
        assert_eq!(json_of(read.input_json()), chat_input, "{name}");
        assert_eq!(json_of(read.output_json()), chat_answer, "{name}");
        assert_eq!(read.finish_reason().as_deref(), Some("stop"), "{name}");
        let usage = read.usage();
        let expected = (Some(100), Some(20), Some(120), Some(40));
        assert_eq!((usage.input, usage.output, usage.total, usage.cached), expected, "{name}");
    }
}

#[test]
fn tool_calls_of_every_api() {
    let call = json!([{"id": "c1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]);
    let cases = [
        json!({"choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]}}]}),
        json!({"type": "message", "role": "assistant", "stop_reason": "tool_use",
            "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}}]}),
        json!({"status": "completed", "output": [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"}]}),
        json!([
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{\"x\""}}]}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]),
        json!([
            {"type": "message_start", "message": {"model": "m"}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"x\""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}]),
    ];
    for response in cases {
        let traces = accepted(json!({"model": "m", "response": response}));
        let read = Generation::new(traces.span(0));
        assert_eq!(read.finish_reason().as_deref(), Some("tool_calls"), "{response}");
        let output = json_of(read.output_json());
        assert_eq!((&output["completion"], &output["toolCalls"]), (&Json::Null, &call), "{response}");
    }
}

#[test]
fn a_stream_that_was_cut_keeps_what_arrived() {
    let sse =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\ndata: {\"choices\":[{\"ind";
    let traces = accepted(json!({"model": "m", "response": sse}));
    assert_eq!(Generation::new(traces.span(0)).output_text().as_deref(), Some("hel"));
    let events = json!([
        {"type": "response.created", "response": {"id": "r", "model": "m-1"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "hel"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"}]);
    let traces = accepted(json!({"model": "m", "response": events}));
    assert_eq!(Generation::new(traces.span(0)).output_text().as_deref(), Some("hello"));
    assert_eq!(traces.len(), 2, "a streamed answer has its own span");
    let broken = "data: {\"choices\":[]}\n\ndata: {oops\n\ndata: {\"choices\":[]}\n\n";
    let (path, message) = refused(json!({"model": "m", "response": broken}));
    assert_eq!((path.as_str(), message.as_str()), ("response", "event 2 of the stream is not JSON"));
}

#[test]
fn times_by_magnitude_and_rfc3339() {
    let at = 1_790_606_294_250_000_000u64;
    for (given, expected) in [
        (json!(1_790_606_294), at - 250_000_000),
        (json!(1_790_606_294.25), at),
        (json!(1_790_606_294_250u64), at),
        (json!(1_790_606_294_250_000u64), at),
        (json!(1_790_606_294_250_000_000u64), at),
        (json!("1790606294250"), at),
        (json!("2026-09-28T14:38:14.25Z"), at),
        (json!("2026-09-28T16:38:14.25+02:00"), at),
    ] {
        let traces = accepted(json!({"model": "m", "start_time": given, "end_time": "2026-09-28T15:00:00Z"}));
        assert_eq!(traces.span(0).start_unix_nano(), expected, "{given}");
        assert_eq!(text_of(traces.span(0), "tracecast.time.source"), None);
    }
    let traces = accepted(json!({"model": "m"}));
    assert_eq!((traces.span(0).start_unix_nano(), traces.span(0).end_unix_nano()), (RECEIVED, RECEIVED));
    assert_eq!(text_of(traces.span(0), "tracecast.time.source").as_deref(), Some("received"));
    let traces = accepted(json!({"model": "m", "start_time": 1_790_606_294, "end_time": 1_790_606_293}));
    assert_eq!(traces.span(0).end_unix_nano(), 1_790_606_294_000_000_000);
    assert_eq!(text_of(traces.span(0), "tracecast.time.source").as_deref(), Some("adjusted"));
}

#[test]
fn failures() {
    let cases = [
        (json!({"error": "boom"}), "error", "boom"),
        (
            json!({"error": {"type": "rate_limit", "message": "slow down", "code": 429}}),
            "rate_limit",
            "slow down",
        ),
        (json!({"error": {"code": 502, "message": "bad"}}), "502", "bad"),
        (json!({"status_code": 429}), "429", "HTTP status 429"),
        (
            json!({"response": {"error": {"type": "overloaded_error", "message": "busy"}}}),
            "overloaded_error",
            "busy",
        ),
        (
            json!({"response": {"type": "error", "error": {"type": "api_error", "message": "x"}}}),
            "api_error",
            "x",
        ),
    ];
    for (more, kind, message) in cases {
        let mut record = json!({"model": "m", "start_time": 1_790_606_294, "end_time": 1_790_606_295});
        record.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        let traces = accepted(record);
        let span = traces.span(0);
        let read = Generation::new(span);
        assert_eq!((span.status_code(), span.status_message()), (2, message), "{more}");
        assert_eq!(read.error_type().as_deref(), Some(kind), "{more}");
        assert_eq!(read.level(), "ERROR");
        assert_eq!(read.finish_reason().as_deref(), Some("error"));
        assert!(read.usage().is_empty());
        let event = span.events().next().expect("an exception");
        assert_eq!((event.name(), event.time_unix_nano()), ("exception", span.end_unix_nano()));
        assert_eq!(event.attribute("exception.type").and_then(|v| v.as_str()), Some(kind));
    }
    for fine in [json!(null), json!(""), json!(false), json!({})] {
        let traces = accepted(json!({"model": "m", "error": fine}));
        assert_eq!(traces.span(0).status_code(), 1, "{fine}");
    }
}

#[test]
fn unknown_fields_become_metadata_content_or_nothing() {
    let outcome = run(json!({
        "model": "m", "team": "search", "retrieved_documents": ["secret plans"], "raw_prompt": "hi", "prompt_version": "3",
        "authorization": "Bearer x", "Cookie": "a=b", "api_key": "sk-1", "access_token": "t", "client_secret": "s",
        "headers": {"x": "y"}, "x-api-key": "sk-2", "price_per_token": 0.5,
        "litellm": {"api_key": "sk-3", "deployment": "d1"},
    }).to_string());
    assert_eq!((outcome.accepted, outcome.credentials_removed), (1, 8));
    let traces = spans(&outcome);
    let read = Generation::new(traces.span(0));
    let metadata = json!({"team": "search", "prompt_version": "3", "price_per_token": 0.5, "litellm": "{\"deployment\":\"d1\"}"});
    assert_eq!(Json::Object(read.metadata()), metadata);
    assert_eq!(text_of(traces.span(0), "tracecast.content.raw_prompt").as_deref(), Some("hi"));
    assert_eq!(
        text_of(traces.span(0), "tracecast.content.retrieved_documents").as_deref(),
        Some("[\"secret plans\"]")
    );
    for secret in ["sk-1", "sk-2", "sk-3", "Bearer", "a=b"] {
        assert!(memchr::memmem::find(&outcome.protobuf, secret.as_bytes()).is_none(), "{secret}");
    }
    let strict = Options { strict: true, ..options() };
    let refused = transcode(br#"{"model":"m","team":"search"}"#, &strict);
    assert_eq!((refused.rejected, refused.errors[0].path.as_str()), (1, "team"));
    assert_eq!(transcode(br#"{"model":"m","metadata":{"team":"x"}}"#, &strict).accepted, 1);
}

#[test]
fn privacy_leaves_no_word_of_an_event() {
    let outcome = run(json!({
        "model": "m", "messages": [{"role": "user", "content": "c4n4ry"}], "tools": [{"name": "c4n4ry"}],
        "output": "c4n4ry", "error": {"type": "t", "message": "c4n4ry"}, "raw_prompt": "c4n4ry",
        "attempts": [{"provider": "p", "error": "c4n4ry"}], "usage": {"input_tokens": 3, "output_tokens": 4},
    })
    .to_string());
    let traces = spans(&outcome);
    let mut out = Vec::new();
    let all = tracecast_otlp::SpanSet::all(outcome.spans);
    tracecast_otlp::write::select(&traces, &all, Some(&crate::Privacy), &mut out);
    assert!(memchr::memmem::find(&outcome.protobuf, b"c4n4ry").is_some());
    assert!(memchr::memmem::find(&out, b"c4n4ry").is_none());
    let read = Traces::index(out.into(), &Limits::default()).expect("valid");
    assert_eq!(Generation::new(read.span(0)).usage().total, Some(7));
    assert_eq!(read.span(0).status_message(), "t");
}

#[test]
fn bad_fields_are_named() {
    for (record, path, message) in [
        (json!({}), "", "needs `model` or `request`: what was asked of which model"),
        (json!({"response": {}}), "", "needs `model` or `request`: what was asked of which model"),
        (json!([1]), "", "expected an object, got a number"),
        (json!({"model": ["m"]}), "model", "expected a string, got an array"),
        (
            json!({"model": "m", "start_time": "yesterday"}),
            "start_time",
            "not a time: expected RFC 3339 with an offset (2026-09-28T14:31:12Z) or a Unix time",
        ),
        (
            json!({"model": "m", "end_time": -5}),
            "end_time",
            "time out of range: expected one after 1970 and before 2554",
        ),
        (
            json!({"model": "m", "first_token_time": {}}),
            "first_token_time",
            "expected RFC 3339 text or a Unix time, got an object",
        ),
        (json!({"model": "m", "usage": []}), "usage", "expected an object, got an array"),
        (
            json!({"model": "m", "usage": {"prompt_tokens": -1}}),
            "usage.prompt_tokens",
            "expected a whole number of 0 or more, got -1",
        ),
        (
            json!({"model": "m", "usage": {"prompt_tokens_details": {"cached_tokens": "x"}}}),
            "usage.prompt_tokens_details.cached_tokens",
            "expected a whole number of 0 or more, got a string",
        ),
        (
            json!({"model": "m", "cost": "free"}),
            "cost",
            "expected a USD amount of 0 or more, or an object, got a string",
        ),
        (
            json!({"model": "m", "cost": {"total": -1}}),
            "cost.total",
            "expected a USD amount of 0 or more, got -1",
        ),
        (json!({"model": "m", "status_code": "ok"}), "status_code", "expected an HTTP status, got a string"),
        (json!({"model": "m", "trace": "t"}), "trace", "expected an object, got a string"),
        (
            json!({"model": "m", "trace": {"trace_id": {}}}),
            "trace.trace_id",
            "expected a string, got an object",
        ),
        (json!({"model": "m", "metadata": []}), "metadata", "expected an object, got an array"),
        (json!({"model": "m", "tags": [{}]}), "tags[0]", "expected a string, got an object"),
        (json!({"model": "m", "attempts": {}}), "attempts", "expected an array, got an object"),
        (json!({"model": "m", "attempts": [{}, 5]}), "attempts[1]", "expected an object, got a number"),
        (
            json!({"model": "m", "attempts": [{"status": "x"}]}),
            "attempts[0].status",
            "expected an HTTP status, got a string",
        ),
        (json!({"model": "m", "attempts": vec![json!({}); 65]}), "attempts", "at most 64 attempts, got 65"),
        (
            json!({"model": "m", "request": 5}),
            "request",
            "expected the request body as an object or JSON text, got a number",
        ),
        (
            json!({"request": "{\"model\":"}),
            "request",
            "text is not valid JSON: EOF while parsing a value at column 9",
        ),
        (
            json!({"model": "m", "response": 5}),
            "response",
            "expected an object, an array of chunks or text, got a number",
        ),
        (
            json!({"model": "m", "messages": 5}),
            "messages",
            "expected text, an array or an object, got a number",
        ),
    ] {
        assert_eq!(refused(record.clone()), (path.to_owned(), message.to_owned()), "{record}");
    }
}

#[test]
fn one_bad_record_costs_no_other() {
    let ndjson = "{\"model\":\"a\"}\n{\"model\": oops}\n\n{\"model\":\"c\"\n{\"model\":\"d\"}\nnonsense\n{\"model\":\"e\"}";
    let outcome = run(ndjson);
    assert_eq!((outcome.accepted, outcome.rejected), (3, 3));
    let places: Vec<(usize, usize)> = outcome.errors.iter().map(|e| (e.index, e.line)).collect();
    assert_eq!(places, [(1, 2), (2, 4), (4, 6)]);
    let models: Vec<_> =
        spans(&outcome).spans().map(|s| Generation::new(s).model().map(str::to_owned)).collect();
    assert_eq!(models, [Some("a".into()), Some("d".into()), Some("e".into())]);

    let array = "[\n {\"model\":\"a\"},\n {\"model\": oops, \"x\": [1, 2]},\n 7,\n {\"model\":\"b\"}\n]";
    let outcome = run(array);
    assert_eq!((outcome.accepted, outcome.rejected), (2, 2));
    let places: Vec<(usize, usize)> = outcome.errors.iter().map(|e| (e.index, e.line)).collect();
    assert_eq!(places, [(1, 3), (2, 4)]);
}

#[test]
fn bodies_of_every_form() {
    let pretty = "{\n  \"model\": \"a\",\n  \"request\": {\n    \"x\": \"}\"\n  }\n}\n";
    for (body, accepted, rejected) in [
        (pretty.to_owned(), 1, 0),
        (format!("{pretty}{pretty}"), 2, 0),
        ("{\"model\":\"a\"}{\"model\":\"b\"} {\"model\":\"c\"}".to_owned(), 3, 0),
        ("\u{feff}{\"model\":\"a\"}".to_owned(), 1, 0),
        ("{\"model\":\"a\"}\r\n{\"model\":\"b\"}\r\n".to_owned(), 2, 0),
        ("[{\"model\":\"a\"},{\"model\":\"b\"}]\n[{\"model\":\"c\"}]".to_owned(), 3, 0),
        ("[]".to_owned(), 0, 1),
        (String::new(), 0, 1),
        ("  \n ".to_owned(), 0, 1),
        ("null".to_owned(), 0, 1),
        ("[{\"model\":\"a\"},".to_owned(), 1, 1),
        ("[{\"model\":\"a\"},{\"model\":".to_owned(), 1, 1),
        ("[{\"model\":\"a\"},,{\"model\":\"b\"}]".to_owned(), 2, 1),
        ("[{\"model\":\"a\"},]".to_owned(), 1, 1),
        ("[{\"model\":\"a\"} {\"model\":\"b\"}]".to_owned(), 0, 1),
        // Half a surrogate pair, as clients write that cut text.
        ("{\"model\":\"a\",\"prompt\":\"cut \\ud83d\"}".to_owned(), 1, 0),
        ("{\"model\":\"a\",\"prompt\":\"whole \\ud83d\\ude00\"}".to_owned(), 1, 0),
    ] {
        let outcome = run(&body);
        assert_eq!(
            (outcome.accepted, outcome.rejected),
            (accepted, rejected),
            "{body}: {:?}",
            outcome.errors
        );
    }
    let error = &run("{\n\"model\": \"a\",\n\"x\": nope\n}").errors[0];
    assert_eq!((error.line, error.message.as_str()), (3, "not valid JSON: expected ident at column 7"));
}

#[test]
fn limits_and_reports_are_bounded() {
    let many = "{\"model\":\"m\"}\n".repeat(150);
    let outcome = transcode(many.as_bytes(), &Options { max_records: 120, ..options() });
    assert_eq!((outcome.accepted, outcome.rejected, outcome.errors.len()), (120, 30, 20));
    assert_eq!(outcome.errors[0].index, 120);
    assert_eq!(outcome.trace_ids.len(), 100);
    let one_trace = "{\"model\":\"m\",\"trace\":{\"trace_id\":\"t\"}}\n".repeat(3);
    assert_eq!(run(one_trace).trace_ids, [hex(&trace_id_of("t"))]);
}

#[test]
fn records_no_span_can_hold_are_refused() {
    let wide: serde_json::Map<String, Json> = (0..1025).map(|i| (format!("k{i}"), json!(i))).collect();
    assert_eq!(
        refused(json!({"model": "m", "metadata": wide})).1,
        "at most 1024 metadata keys and unknown fields, got 1025"
    );
    let long = json!({"model": "m", "prompt": "x".repeat(9 << 20)}).to_string();
    let outcome = run(format!("{{\"model\":\"a\"}}\n{long}\n{{\"model\":\"b\"}}"));
    assert_eq!((outcome.accepted, outcome.rejected), (2, 1));
    assert!(outcome.errors[0].message.starts_with("record too large: "), "{:?}", outcome.errors);
    assert_eq!(spans(&outcome).len(), 2);
}

#[test]
fn of_equal_keys_the_explicit_one_counts() {
    let traces = accepted(json!({"model": "m", "k": 1, "trace": {"k": 2, "l": 2}, "metadata": {"k": 3}}));
    assert_eq!(Json::Object(Generation::new(traces.span(0)).metadata()), json!({"k": 3, "l": 2}));
    let named: Vec<_> = traces.span(0).attributes().filter(|(key, _)| *key == "trace.metadata.k").collect();
    assert_eq!(named.len(), 1);
}

#[test]
fn a_hostile_stream_takes_linear_time() {
    let lines = format!("data: [\n{}", "data: 1,\n".repeat(80_000));
    let started = std::time::Instant::now();
    assert_eq!(run(json!({"model": "m", "response": lines}).to_string()).accepted, 1);
    let deltas: Vec<Json> = (0..20_000)
        .map(|_| json!({"type": "response.output_text.delta", "output_index": 0, "delta": "abcdefgh"}))
        .collect();
    assert_eq!(run(json!({"model": "m", "response": deltas}).to_string()).accepted, 1);
    let broken = "{\"model\":\"a\"\n".repeat(40_000);
    assert_eq!(run(broken).accepted, 0);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[test]
fn ids_are_derived_where_none_is_given() {
    let body = "{\"model\":\"m\",\"prompt\":\"a\"}\n{\"prompt\":\"a\",\"model\":\"m\"}";
    let ids = |outcome: &Outcome| spans(outcome).spans().map(|s| s.span_id()).collect::<Vec<_>>();
    let (first, again) = (run(body), run(body));
    assert_eq!(ids(&first), ids(&again));
    assert_ne!(ids(&first)[0], ids(&first)[1], "two records are two events");
    let later = transcode(body.as_bytes(), &Options { receive_unix_nano: RECEIVED + 1, ..options() });
    assert_ne!(ids(&first), ids(&later));
    let reordered = run("{\"prompt\":\"a\",\"model\":\"m\"}");
    assert_eq!(ids(&reordered)[0], ids(&first)[0], "the order of keys does not matter");
    let traces = accepted(json!({"model": "m", "response": {"id": "gen-1790606294-sdYHTGXUVyDKWCLqX5Op"}}));
    assert_eq!(hex(&traces.span(0).span_id()), "9b1de41a703bf6c7");
}

#[test]
fn operations_and_names() {
    let embedding = json!({"model": "text-embedding-3-small", "input": ["a", "b"],
        "response": {"object": "list", "data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}});
    let traces = accepted(embedding);
    let read = Generation::new(traces.span(0));
    assert_eq!(read.operation(), Some("embeddings"));
    assert_eq!(read.input_text().as_deref(), Some("a\nb"));
    assert_eq!(json_of(read.output_json())["completion"], Json::Null);
    let local = accepted(json!({"model": "llama3:8b"}));
    assert_eq!(Generation::new(local.span(0)).model(), Some("llama3:8b"));
    assert_eq!(local.span(0).name(), "LLM Generation");
    let user = accepted(json!({"request": {"model": "m", "user": "u-2", "session_id": "s-2",
        "trace": {"trace_id": "t", "x": 1}, "messages": []}}));
    let read = Generation::new(user.span(0));
    assert_eq!((read.user_id(), read.session_id()), (Some("u-2"), Some("s-2")));
    assert_eq!(user.span(0).trace_id(), trace_id_of("t"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&body)?;
    }

    #[test]
    fn json_like_bytes_are_survived(body in "[\\[\\]{},:\"a-c0-9 \\n\\\\ud]{0,200}") {
        check(body.as_bytes())?;
    }

    #[test]
    fn mutated_records_are_survived(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000, which in 0usize..3) {
        let mut body = match which {
            0 => sample().to_string().into_bytes(),
            1 => json!([sample(), sample()]).to_string().into_bytes(),
            _ => format!("{}\n{}", sample(), sample()).into_bytes(),
        };
        let len = body.len();
        body[at % len] = byte;
        check(&body)?;
        check(&body[..cut % len])?;
    }

    #[test]
    fn any_value_in_any_field_is_survived(value in json_value(), field in 0usize..40) {
        let mut record = sample();
        let object = record.as_object_mut().expect("object");
        let name = object.keys().nth(field % object.len()).cloned().expect("a field");
        object.insert(name, value);
        check(record.to_string().as_bytes())?;
    }
}

fn check(body: &[u8]) -> Result<(), TestCaseError> {
    let outcome = run(body);
    let traces = Traces::index(outcome.protobuf.clone(), &Limits::default());
    let traces = traces.map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(traces.len(), outcome.spans as usize);
    prop_assert!(traces.rejected().is_empty());
    prop_assert_eq!(outcome.errors.len(), (outcome.rejected as usize).min(20));
    prop_assert!(outcome.accepted + outcome.rejected > 0);
    for span in traces.spans() {
        let read = Generation::new(span);
        let _ =
            (read.input_json(), read.output_json(), read.input_text(), read.output_text(), read.metadata());
    }
    Ok(())
}

fn sample() -> Json {
    json!({
        "id": "g1", "start_time": 1_790_606_294, "end_time": "2026-09-28T14:38:15Z", "first_token_time": 1_790_606_294.5,
        "model": "m", "provider": "p", "api_key_hash": "h", "workspace_id": "w", "region": "us", "user": "u",
        "session_id": "s", "trace": {"trace_id": "t", "k": [1]},
        "request": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a\u{e9}\""}]}], "stop": ["x"]},
        "response": [{"choices": [{"index": 0, "delta": {"content": "x", "tool_calls": [{"index": 0}]}}]}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}, "cost": 0.1, "status_code": 200, "error": null,
        "attempts": [{"provider": "p", "latency_ms": 5}], "metadata": {"a": 1}, "tags": ["t"], "other": {"token": "x"},
        "messages": [], "choices": [], "content": "c", "output": "o", "completion": "c", "prompt": "p", "system": "s",
    })
}

fn json_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-z{\\[\": ]{0,12}".prop_map(Json::from),
        Just(Json::from("data: {}\n\ndata: {")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop_oneof![
            Just("type"),
            Just("role"),
            Just("content"),
            Just("choices"),
            Just("delta"),
            Just("index"),
            Just("text"),
            Just("message"),
            Just("parts"),
            Just("tool_calls"),
            Just("function"),
            Just("usage"),
            Just("error"),
            Just("input_tokens"),
            Just("output"),
            Just("object"),
            Just("response"),
            Just("source"),
            Just("trace_id"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::vec((name, inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}
