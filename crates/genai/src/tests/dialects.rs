//! The same call written in each dialect reads to the same fields.

use serde_json::{Value as Json, json};
use tracecast_otlp::Traces;
use tracecast_otlp::write::OwnedValue;

use super::{array, builder, one, text, traces};
use crate::{Generation, Usage};

const QUESTION: &str = "What is the capital of France?";
const ANSWER: &str = "Paris.";

fn int(n: i64) -> OwnedValue {
    n.into()
}

fn map(pairs: Vec<(&str, OwnedValue)>) -> OwnedValue {
    OwnedValue::Map(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn chat_messages() -> Json {
    json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}])
}

/// `(dialect, spans)`: one call with 100 input tokens (40 cached), 20 output tokens (5 reasoning).
fn dialects() -> Vec<(&'static str, Traces)> {
    let structured = |role: &str, content: &str| {
        let part = map(vec![("type", text("text")), ("content", text(content))]);
        map(vec![("role", text(role)), ("parts", OwnedValue::Array(vec![part]))])
    };
    let mut with_events = builder(vec![
        ("gen_ai.operation.name", text("chat")),
        ("gen_ai.system", text("openai")),
        ("gen_ai.request.model", text("gpt-4o")),
        ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
        ("gen_ai.usage.input_tokens", int(100)),
        ("gen_ai.usage.output_tokens", int(20)),
        ("gen_ai.usage.cache_read_input_tokens", int(40)),
        ("gen_ai.usage.details.reasoning_tokens", int(5)),
        ("gen_ai.response.finish_reasons", array(&["stop"])),
        ("user.id", text("u-1")),
        ("session.id", text("s-1")),
    ]);
    let event = |name: &str, attributes: Vec<(&str, OwnedValue)>| {
        (0, name.to_owned(), attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    };
    with_events.events = vec![
        event("gen_ai.system.message", vec![("content", text("Be brief."))]),
        event("gen_ai.user.message", vec![("content", text(QUESTION))]),
        event(
            "gen_ai.choice",
            vec![
                ("index", int(0)),
                ("finish_reason", text("stop")),
                ("message", text(&json!({"role": "assistant", "content": ANSWER}).to_string())),
            ],
        ),
    ];
    let mut with_content_events = with_events.clone();
    with_content_events.events = vec![
        event("gen_ai.content.prompt", vec![("gen_ai.prompt", text(&chat_messages().to_string()))]),
        event(
            "gen_ai.content.completion",
            vec![("gen_ai.completion", text(&json!([{"role": "assistant", "content": ANSWER}]).to_string()))],
        ),
    ];
    vec![
        (
            "otel current, structured",
            one(vec![
                ("gen_ai.operation.name", text("chat")),
                ("gen_ai.provider.name", text("openai")),
                ("gen_ai.request.model", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("gen_ai.usage.input_tokens", int(100)),
                ("gen_ai.usage.output_tokens", int(20)),
                ("gen_ai.usage.cache_read.input_tokens", int(40)),
                ("gen_ai.usage.reasoning.output_tokens", int(5)),
                ("gen_ai.response.finish_reasons", array(&["stop"])),
                ("gen_ai.system_instructions", text(r#"[{"type":"text","content":"Be brief."}]"#)),
                ("gen_ai.input.messages", OwnedValue::Array(vec![structured("user", QUESTION)])),
                ("gen_ai.output.messages", OwnedValue::Array(vec![structured("assistant", ANSWER)])),
                ("user.id", text("u-1")),
                ("gen_ai.conversation.id", text("s-1")),
            ]),
        ),
        (
            "otel current, json text and doubles",
            one(vec![
                ("gen_ai.operation.name", text("chat")),
                ("gen_ai.provider.name", text("openai")),
                ("gen_ai.request.model", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("gen_ai.usage.input_tokens", OwnedValue::Double(100.0)),
                ("gen_ai.usage.output_tokens", text("20")),
                ("gen_ai.usage.total_tokens", text("120")),
                ("gen_ai.usage.cache_read.input_tokens", text("40.0")),
                ("gen_ai.usage.reasoning.output_tokens", int(5)),
                ("gen_ai.response.finish_reasons", text(r#"["stop"]"#)),
                (
                    "gen_ai.input.messages",
                    text(
                        &json!([
                            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
                            {"role": "user", "parts": [{"type": "text", "content": QUESTION}]},
                        ])
                        .to_string(),
                    ),
                ),
                (
                    "gen_ai.output.messages",
                    text(
                        &json!([{"role": "assistant", "finish_reason": "stop",
                            "parts": [{"type": "text", "content": ANSWER}]}])
                        .to_string(),
                    ),
                ),
                ("user.id", text("u-1")),
                ("session.id", text("s-1")),
            ]),
        ),
        ("otel 1.28 events", traces(vec![], &[with_events])),
        ("otel 1.27 events", traces(vec![], &[with_content_events])),
        (
            "openllmetry",
            one(vec![
                ("llm.request.type", text("chat")),
                ("gen_ai.system", text("openai")),
                ("gen_ai.request.model", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("gen_ai.usage.prompt_tokens", int(100)),
                ("gen_ai.usage.completion_tokens", int(20)),
                ("llm.usage.total_tokens", int(120)),
                ("gen_ai.usage.cache_read_input_tokens", int(40)),
                ("gen_ai.usage.reasoning_tokens", int(5)),
                ("gen_ai.prompt.0.role", text("system")),
                ("gen_ai.prompt.0.content", text("Be brief.")),
                ("gen_ai.prompt.1.role", text("user")),
                ("gen_ai.prompt.1.content", text(QUESTION)),
                ("gen_ai.completion.0.role", text("assistant")),
                ("gen_ai.completion.0.content", text(ANSWER)),
                ("gen_ai.completion.0.finish_reason", text("stop")),
                ("traceloop.association.properties.user_id", text("u-1")),
                ("traceloop.association.properties.session_id", text("s-1")),
            ]),
        ),
        (
            "openinference",
            one(vec![
                ("openinference.span.kind", text("LLM")),
                ("llm.provider", text("openai")),
                ("llm.model_name", text("gpt-4o")),
                ("llm.response.model_name", text("gpt-4o-2024-08-06")),
                ("llm.token_count.prompt", int(100)),
                ("llm.token_count.completion", int(20)),
                ("llm.token_count.total", int(120)),
                ("llm.token_count.prompt_details.cache_read", int(40)),
                ("llm.token_count.completion_details.reasoning", int(5)),
                ("llm.finish_reason", text("stop")),
                ("llm.input_messages.0.message.role", text("system")),
                ("llm.input_messages.0.message.content", text("Be brief.")),
                ("llm.input_messages.1.message.role", text("user")),
                ("llm.input_messages.1.message.content", text(QUESTION)),
                ("llm.output_messages.0.message.role", text("assistant")),
                ("llm.output_messages.0.message.content", text(ANSWER)),
                ("input.value", text("not this")),
                ("user.id", text("u-1")),
                ("session.id", text("s-1")),
            ]),
        ),
        (
            "vercel inner span",
            one(vec![
                ("ai.operationId", text("ai.generateText.doGenerate")),
                ("ai.model.provider", text("openai")),
                ("ai.model.id", text("gpt-4o")),
                ("ai.response.model", text("gpt-4o-2024-08-06")),
                ("ai.prompt.messages", text(&chat_messages().to_string())),
                ("ai.response.text", text(ANSWER)),
                ("ai.response.finishReason", text("stop")),
                ("ai.usage.inputTokens", int(100)),
                ("ai.usage.outputTokens", int(20)),
                ("ai.usage.totalTokens", int(120)),
                ("ai.usage.cachedInputTokens", int(40)),
                ("ai.usage.reasoningTokens", int(5)),
                ("ai.telemetry.metadata.userId", text("u-1")),
                ("ai.telemetry.metadata.sessionId", text("s-1")),
            ]),
        ),
        (
            "langfuse sdk",
            one(vec![
                ("langfuse.observation.type", text("generation")),
                ("gen_ai.system", text("openai")),
                ("langfuse.observation.model.name", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("langfuse.observation.input", text(&chat_messages().to_string())),
                (
                    "langfuse.observation.output",
                    text(&json!([{"role": "assistant", "content": ANSWER}]).to_string()),
                ),
                (
                    "langfuse.observation.usage_details",
                    text(
                        r#"{"input":60,"input_cached_tokens":40,"output":15,"output_reasoning_tokens":5,"total":120}"#,
                    ),
                ),
                ("llm.finish_reason", text("stop")),
                ("langfuse.user.id", text("u-1")),
                ("langfuse.session.id", text("s-1")),
            ]),
        ),
        (
            "openrouter",
            one(vec![
                ("span.type", text("generation")),
                ("gen_ai.operation.name", text("chat")),
                ("gen_ai.system", text("openai")),
                ("gen_ai.request.model", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("gen_ai.usage.input_tokens", int(100)),
                ("gen_ai.usage.output_tokens", int(20)),
                ("gen_ai.usage.total_tokens", int(120)),
                ("gen_ai.usage.input_tokens.cached", int(40)),
                ("gen_ai.usage.output_tokens.reasoning", int(5)),
                ("gen_ai.prompt", text(&json!({"messages": chat_messages()}).to_string())),
                (
                    "gen_ai.completion",
                    text(&json!({"completion": ANSWER, "reasoning": null, "toolCalls": []}).to_string()),
                ),
                ("gen_ai.response.finish_reason", text("stop")),
                ("trace.metadata.openrouter.finish_reason", text("end_turn")),
                ("user.id", text("u-1")),
                ("session.id", text("s-1")),
            ]),
        ),
        (
            "plain values",
            one(vec![
                ("gen_ai.operation.name", text("chat")),
                ("gen_ai.system", text("openai")),
                ("gen_ai.request.model", text("gpt-4o")),
                ("gen_ai.response.model", text("gpt-4o-2024-08-06")),
                ("gen_ai.usage.input_tokens", int(100)),
                ("gen_ai.usage.output_tokens", int(20)),
                ("gen_ai.usage.input_tokens.cached", int(40)),
                ("gen_ai.usage.output_tokens.reasoning", int(5)),
                ("gen_ai.response.finish_reason", text("end_turn")),
                ("span.input", text(&json!({"messages": chat_messages()}).to_string())),
                ("output.value", text(ANSWER)),
                ("user.id", text("u-1")),
                ("session.id", text("s-1")),
            ]),
        ),
    ]
}

#[test]
fn the_same_call_reads_the_same_in_every_dialect() {
    for (dialect, traces) in dialects() {
        let span = Generation::new(traces.span(0));
        assert!(span.is_generation(), "{dialect}");
        assert_eq!(span.operation(), Some("chat"), "{dialect}");
        assert_eq!(span.model(), Some("gpt-4o"), "{dialect}");
        assert_eq!(span.response_model(), Some("gpt-4o-2024-08-06"), "{dialect}");
        assert_eq!(span.provider_name(), Some("openai"), "{dialect}");
        assert_eq!(span.user_id(), Some("u-1"), "{dialect}");
        assert_eq!(span.session_id(), Some("s-1"), "{dialect}");
        assert_eq!(span.finish_reason().as_deref(), Some("stop"), "{dialect}");
        let expected = Usage {
            input: Some(100),
            output: Some(20),
            total: Some(120),
            cached: Some(40),
            cache_write: None,
            reasoning: Some(5),
        };
        assert_eq!(span.usage(), expected, "{dialect}");
        let input: Json = serde_json::from_str(&span.input_json().expect("has input")).expect("is JSON");
        assert_eq!(input, json!({"messages": chat_messages()}), "{dialect}");
        assert_eq!(span.messages(), *chat_messages().as_array().expect("a list"), "{dialect}");
        let output: Json = serde_json::from_str(&span.output_json().expect("has output")).expect("is JSON");
        assert_eq!(output["completion"], ANSWER, "{dialect}");
        assert_eq!(span.completion().expect("known shape").text.as_deref(), Some(ANSWER), "{dialect}");
        assert_eq!(
            span.input_text().as_deref(),
            Some("Be brief.\nWhat is the capital of France?"),
            "{dialect}"
        );
        assert_eq!(span.output_text().as_deref(), Some(ANSWER), "{dialect}");
    }
}

#[test]
fn parts_of_chat_form_stay_parts() {
    let traces = one(vec![
        ("llm.input_messages.0.message.role", text("user")),
        ("llm.input_messages.0.message.contents.0.message_content.type", text("text")),
        ("llm.input_messages.0.message.contents.0.message_content.text", text("look")),
        ("llm.input_messages.0.message.contents.1.message_content.type", text("image")),
        ("llm.input_messages.0.message.contents.1.message_content.image.image.url", text("https://x/y.png")),
    ]);
    let span = Generation::new(traces.span(0));
    let parts = json!([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]);
    assert_eq!(span.messages(), [json!({"role": "user", "content": parts})]);
    assert_eq!(span.input_text().as_deref(), Some("look"));
}

#[test]
fn tool_calls_read_the_same_in_every_dialect() {
    let call = json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]);
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "42"});
    let cases = [
        (
            "otel",
            one(vec![(
                "gen_ai.input.messages",
                text(
                    &json!([
                        {"role": "assistant", "parts": [
                            {"type": "reasoning", "content": "hm"},
                            {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"x": 1}}]},
                        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
                    ])
                    .to_string(),
                ),
            )]),
        ),
        (
            "openinference",
            one(vec![
                ("llm.input_messages.0.message.role", text("assistant")),
                ("llm.input_messages.0.message.tool_calls.0.tool_call.id", text("c1")),
                ("llm.input_messages.0.message.tool_calls.0.tool_call.function.name", text("f")),
                ("llm.input_messages.0.message.tool_calls.0.tool_call.function.arguments", text("{\"x\":1}")),
                ("llm.input_messages.1.message.role", text("tool")),
                ("llm.input_messages.1.message.tool_call_id", text("c1")),
                ("llm.input_messages.1.message.content", text("42")),
            ]),
        ),
        (
            "openllmetry",
            one(vec![
                ("gen_ai.prompt.0.role", text("assistant")),
                ("gen_ai.prompt.0.tool_calls.0.id", text("c1")),
                ("gen_ai.prompt.0.tool_calls.0.name", text("f")),
                ("gen_ai.prompt.0.tool_calls.0.arguments", text("{\"x\":1}")),
                ("gen_ai.prompt.1.role", text("tool")),
                ("gen_ai.prompt.1.tool_call_id", text("c1")),
                ("gen_ai.prompt.1.content", text("42")),
            ]),
        ),
        (
            "anthropic",
            one(vec![(
                "gen_ai.prompt",
                text(
                    &json!({"messages": [
                        {"role": "assistant", "content": [
                            {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}}]},
                        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "42"}]},
                    ]})
                    .to_string(),
                ),
            )]),
        ),
        (
            "responses",
            one(vec![(
                "input.value",
                text(
                    &json!({"input": [
                        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"},
                        {"type": "function_call_output", "call_id": "c1", "output": "42"},
                    ]})
                    .to_string(),
                ),
            )]),
        ),
        (
            "vercel",
            one(vec![(
                "ai.prompt.messages",
                text(
                    &json!([
                        {"role": "assistant", "content": [
                            {"type": "tool-call", "toolCallId": "c1", "toolName": "f", "input": {"x": 1}}]},
                        {"role": "tool", "content": [
                            {"type": "tool-result", "toolCallId": "c1", "toolName": "f", "output": "42"}]},
                    ])
                    .to_string(),
                ),
            )]),
        ),
    ];
    for (dialect, traces) in cases {
        let span = Generation::new(traces.span(0));
        let messages = span.messages();
        assert_eq!(messages.len(), 2, "{dialect}: {messages:?}");
        assert_eq!(messages[0]["role"], "assistant", "{dialect}");
        assert_eq!(messages[0]["tool_calls"], call, "{dialect}");
        assert_eq!(messages[1], result, "{dialect}");
        assert_eq!(span.input_text().as_deref(), Some("{\"x\":1}\n42"), "{dialect}");
    }
}

#[test]
fn reasoning_and_tool_calls_of_the_answer() {
    let traces = one(vec![(
        "gen_ai.output.messages",
        text(
            &json!([{"role": "assistant", "parts": [
                {"type": "reasoning", "content": "think"},
                {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"x": 1}}]}])
            .to_string(),
        ),
    )]);
    let output: Json =
        serde_json::from_str(&Generation::new(traces.span(0)).output_json().expect("has output"))
            .expect("is JSON");
    let call = json!({"id": "c1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}});
    assert_eq!(output, json!({"completion": null, "reasoning": "think", "toolCalls": [call]}));
}

#[test]
fn json_in_chat_shape_is_handed_on_byte_for_byte() {
    let given = r#"{ "messages" : [ {"role":"user", "content":"hi"} ] }"#;
    let traces = one(vec![
        ("gen_ai.prompt", text(given)),
        ("gen_ai.completion", text(r#"{"z":1, "completion":"x"}"#)),
    ]);
    let span = Generation::new(traces.span(0));
    assert_eq!(span.input_json().as_deref(), Some(given));
    assert_eq!(span.output_json().as_deref(), Some(r#"{"z":1, "completion":"x"}"#));
}

#[test]
fn plain_text_becomes_a_user_message() {
    let traces = one(vec![("input.value", text("hello")), ("output.value", text("{broken"))]);
    let span = Generation::new(traces.span(0));
    assert_eq!(span.input_json().as_deref(), Some(r#"{"messages":[{"content":"hello","role":"user"}]}"#));
    assert_eq!(span.input_text().as_deref(), Some("hello"));
    assert_eq!(span.output_text().as_deref(), Some("{broken"));
    let nothing = one(vec![("input.value", text(""))]);
    assert_eq!(Generation::new(nothing.span(0)).input_json(), None);
}

#[test]
fn kinds_of_span() {
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[("gen_ai.operation.name", "chat")], true),
        (&[("gen_ai.operation.name", "embeddings")], true),
        (&[("gen_ai.operation.name", "generate_content")], true),
        (&[("gen_ai.operation.name", "text_completion")], true),
        (&[("gen_ai.operation.name", "invoke_agent"), ("gen_ai.request.model", "m")], false),
        (&[("gen_ai.operation.name", "create_agent"), ("gen_ai.request.model", "m")], false),
        (&[("gen_ai.operation.name", "execute_tool"), ("gen_ai.tool.name", "t")], false),
        (&[("gen_ai.operation.name", "invoke_workflow")], false),
        (&[("gen_ai.operation.name", "my_own"), ("gen_ai.request.model", "m")], true),
        // OpenRouter's children name the operation of their parent.
        (&[("span.type", "generation"), ("gen_ai.operation.name", "chat")], true),
        (&[("span.type", "span"), ("gen_ai.operation.name", "chat")], false),
        (&[("span.metadata.attempt_index", "0"), ("gen_ai.operation.name", "chat")], false),
        (&[("openinference.span.kind", "LLM")], true),
        (&[("openinference.span.kind", "EMBEDDING")], true),
        (&[("openinference.span.kind", "CHAIN"), ("llm.model_name", "m")], false),
        (&[("openinference.span.kind", "AGENT"), ("llm.model_name", "m")], false),
        (&[("openinference.span.kind", "TOOL")], false),
        (&[("llm.request.type", "chat")], true),
        (&[("traceloop.span.kind", "workflow"), ("gen_ai.request.model", "m")], false),
        (&[("ai.operationId", "ai.generateText"), ("ai.model.id", "m")], false),
        (&[("ai.operationId", "ai.streamText.doStream"), ("ai.model.id", "m")], true),
        (&[("ai.operationId", "ai.embed.doEmbed")], true),
        (&[("ai.operationId", "ai.toolCall")], false),
        (&[("langfuse.observation.type", "generation")], true),
        (&[("langfuse.observation.type", "agent"), ("gen_ai.request.model", "m")], false),
        (&[("langsmith.span.kind", "llm")], true),
        (&[("langsmith.span.kind", "chain"), ("gen_ai.request.model", "m")], false),
        (&[("gen_ai.tool.name", "t"), ("gen_ai.request.model", "m")], false),
        (&[("gen_ai.request.model", "m")], true),
        (&[("http.route", "/x")], false),
    ];
    for (attributes, expected) in cases {
        let traces = one(attributes.iter().map(|(k, v)| (*k, text(v))).collect());
        assert_eq!(Generation::new(traces.span(0)).is_generation(), *expected, "{attributes:?}");
    }
}

#[test]
fn finish_reasons_are_normalised() {
    for (given, expected) in [
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("tool-calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content-filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
        ("error", "error"),
        ("something_new", "something_new"),
    ] {
        let traces = one(vec![("gen_ai.response.finish_reasons", array(&[given]))]);
        let span = Generation::new(traces.span(0));
        assert_eq!(span.finish_reason().as_deref(), Some(expected));
        assert_eq!(span.native_finish_reason(), Some(given));
    }
    let mut failed = builder(vec![("gen_ai.request.model", text("m"))]);
    failed.status_code = 2;
    let traces = traces(vec![], &[failed]);
    assert_eq!(Generation::new(traces.span(0)).finish_reason().as_deref(), Some("error"));
}

#[test]
fn cache_counted_beside_the_input_is_added() {
    let traces = one(vec![
        ("gen_ai.usage.input_tokens", int(10)),
        ("gen_ai.usage.output_tokens", int(5)),
        ("gen_ai.usage.cache_read.input_tokens", int(100)),
        ("gen_ai.usage.cache_creation.input_tokens", int(20)),
    ]);
    let usage = Generation::new(traces.span(0)).usage();
    assert_eq!((usage.input, usage.output, usage.total), (Some(130), Some(5), Some(135)));
    assert_eq!((usage.cached, usage.cache_write), (Some(100), Some(20)));
}

#[test]
fn bad_numbers_are_no_numbers() {
    let traces = one(vec![
        ("gen_ai.usage.input_tokens", int(-1)),
        ("gen_ai.usage.prompt_tokens", int(7)),
        ("gen_ai.usage.output_tokens", text("many")),
        ("gen_ai.usage.total_cost", OwnedValue::Double(f64::NAN)),
        ("gen_ai.usage.cost", text("0.25")),
    ]);
    let span = Generation::new(traces.span(0));
    assert_eq!((span.usage().input, span.usage().output), (Some(7), None));
    assert_eq!(span.cost().total, Some(0.25));
}

#[test]
fn costs_of_each_dialect() {
    let cases = [
        one(vec![
            ("gen_ai.usage.input_cost", OwnedValue::Double(0.25)),
            ("gen_ai.usage.output_cost", OwnedValue::Double(0.5)),
        ]),
        one(vec![
            ("llm.cost.prompt", text("0.25")),
            ("llm.cost.completion", text("0.5")),
            ("llm.cost.total", text("0.75")),
        ]),
        one(vec![("langfuse.observation.cost_details", text(r#"{"input":0.25,"output":0.5,"total":0.75}"#))]),
        one(vec![("ai.response.providerMetadata", text(r#"{"gateway":{"cost":"0.75"}}"#))]),
        one(vec![("gen_ai.usage.cost", OwnedValue::Double(0.75))]),
    ];
    for (i, traces) in cases.iter().enumerate() {
        let read = Generation::new(traces.span(0));
        assert_eq!((read.cost().total, read.total_cost()), (Some(0.75), Some(0.75)), "case {i}");
    }
}

#[test]
fn whose_key_paid_the_provider() {
    let responses = |list: &str| one(vec![("trace.metadata.provider_responses", text(list))]);
    let table = [
        (one(vec![]), false),
        (one(vec![("trace.metadata.openrouter.is_byok", OwnedValue::Bool(true))]), true),
        (one(vec![("span.metadata.is_byok", OwnedValue::Bool(true))]), true),
        (one(vec![("openrouter.is_byok", text("true"))]), true),
        (one(vec![("span.metadata.is_byok", OwnedValue::Bool(false))]), false),
        (one(vec![("span.metadata.is_byok", int(1))]), false),
        // The try that came last is the one that was paid for.
        (responses(r#"[{"is_byok": false}, {"is_byok": true, "status": 200}]"#), true),
        (responses(r#"[{"is_byok": true}, {"is_byok": false, "status": 200}]"#), false),
        (responses(r#"[{"is_byok": true}, {"status": 200}]"#), true),
        (responses(r#"not a list, true"#), false),
    ];
    for (i, (traces, expected)) in table.iter().enumerate() {
        assert_eq!(Generation::new(traces.span(0)).is_byok(), *expected, "{i}");
    }
}

#[test]
fn metadata_tags_and_parameters() {
    let traces = one(vec![
        ("trace.metadata.team", text("search")),
        ("trace.metadata.attempt", int(2)),
        ("trace.metadata.openrouter.api_key_name", text("prod key")),
        ("trace.metadata.openrouter.entity_id", text("org_1")),
        ("trace.metadata.provider_responses", text("[]")),
        ("langfuse.trace.metadata.team", text("later")),
        ("traceloop.association.properties.flow", text("x")),
        ("metadata", text(r#"{"team":"last","depth":{"a":1}}"#)),
        ("trace.tags", text(r#"["a","b"]"#)),
        ("gen_ai.request.model", text("m")),
        ("gen_ai.request.temperature", OwnedValue::Double(0.5)),
        ("gen_ai.request.stop_sequences", array(&["END"])),
        ("llm.invocation_parameters", text(r#"{"max_tokens":9,"messages":[],"tools":[{"name":"t"}]}"#)),
    ]);
    let span = Generation::new(traces.span(0));
    let expected = json!({"team": "search", "attempt": 2, "flow": "x", "depth": {"a": 1}});
    assert_eq!(Json::Object(span.metadata()), expected);
    assert_eq!(span.api_key_name(), Some("prod key"));
    assert_eq!(span.entity_id(), Some("org_1"));
    assert_eq!(span.tags(), ["a", "b"]);
    let parameters = json!({"temperature": 0.5, "stop": ["END"], "max_tokens": 9});
    assert_eq!(Json::Object(span.model_parameters()), parameters);
    assert_eq!(span.tools(), Some(json!([{"name": "t"}])));
    let comma = one(vec![("langsmith.span.tags", text("a, b"))]);
    assert_eq!(Generation::new(comma.span(0)).tags(), ["a", "b"]);
    let list = one(vec![("tag.tags", array(&["a", "b"]))]);
    assert_eq!(Generation::new(list.span(0)).tags(), ["a", "b"]);
}

#[test]
fn names_errors_and_times() {
    let mut span = builder(vec![
        ("trace.name", text("nightly")),
        ("ai.response.msToFirstChunk", OwnedValue::Double(120.5)),
        ("openrouter.trace.id", text("raw-1")),
    ]);
    span.status_code = 2;
    span.status_message = "quota exceeded".into();
    span.events = vec![(0, "exception".into(), vec![("exception.type".into(), text("RateLimit"))])];
    let resource = vec![("deployment.environment.name", text("production"))];
    let failed = traces(resource, &[span]);
    let read = Generation::new(failed.span(0));
    assert_eq!(read.trace_name(), Some("nightly"));
    assert_eq!(read.environment(), Some("production"));
    assert_eq!(read.level(), "ERROR");
    assert_eq!(read.error_type().as_deref(), Some("RateLimit"));
    assert_eq!(read.error_message(), Some("quota exceeded"));
    assert_eq!(read.raw_trace_id(), Some("raw-1"));
    assert_eq!(read.first_token_ms(), Some(120.5));
    let seconds = one(vec![("gen_ai.response.time_to_first_chunk", OwnedValue::Double(0.25))]);
    assert_eq!(Generation::new(seconds.span(0)).first_token_ms(), Some(250.0));
    // 1790606294 is 2026-09-28T14:38:14Z.
    let moment =
        one(vec![("langfuse.observation.completion_start_time", text("\"2026-09-28T14:38:14.5Z\""))]);
    assert_eq!(Generation::new(moment.span(0)).first_token_ms(), Some(500.0));
}

#[test]
fn langchain_messages() {
    let given = json!({"messages": [[
        {"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"type": "human", "content": "hi"}},
        {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"type": "ai", "content": "yes"}},
    ]]});
    let traces = one(vec![("input.value", text(&given.to_string()))]);
    let expected = [json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": "yes"})];
    assert_eq!(Generation::new(traces.span(0)).messages(), expected);
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::keys;

    fn any_value() -> impl Strategy<Value = OwnedValue> {
        let json_like = prop_oneof![
            "[a-z\"\\\\{}\\[\\]:, ]{0,24}",
            Just(r#"[{"role":"user","parts":[{"type":"text","content":"x"}]}]"#.to_owned()),
            Just(
                r#"{"messages":[{"role":"user","content":null},5,[],{"parts":7}],"system":{"parts":3}}"#
                    .to_owned()
            ),
            Just(r#"{"choices":[{"message":"x"},{"delta":{"tool_calls":{}}},null],"output":[1]}"#.to_owned()),
            Just(r#"{"input":1e400,"output":"x"}"#.to_owned()),
        ];
        let leaf = prop_oneof![
            json_like.prop_map(OwnedValue::Str),
            any::<i64>().prop_map(OwnedValue::Int),
            any::<f64>().prop_map(OwnedValue::Double),
            any::<bool>().prop_map(OwnedValue::Bool),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(OwnedValue::Bytes),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let name =
                prop_oneof![Just("role"), Just("parts"), Just("type"), Just("content"), Just("messages")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(OwnedValue::Array),
                proptest::collection::vec((name.prop_map(str::to_owned), inner), 0..3)
                    .prop_map(OwnedValue::Map),
            ]
        })
    }

    fn any_key() -> impl Strategy<Value = String> {
        let all: Vec<&str> = keys::ALL.iter().flat_map(|(_, keys, _)| keys.iter()).collect();
        prop_oneof![
            proptest::sample::select(all).prop_map(str::to_owned),
            "(llm\\.input_messages|llm\\.output_messages|gen_ai\\.prompt|gen_ai\\.completion)\\.[0-9]{1,2}(\\.[a-z0-9]{0,3}){0,4}",
            Just("llm.invocation_parameters".to_owned()),
            Just("metadata.x".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn whatever_a_span_holds_the_reading_is_sound(
            attributes in proptest::collection::vec((any_key(), any_value()), 0..8),
            code in 0i32..3,
        ) {
            let mut span = builder(vec![]);
            span.attributes = attributes.clone();
            span.status_code = code;
            span.events = vec![
                (1, "gen_ai.choice".into(), attributes.clone()),
                (1, "gen_ai.user.message".into(), attributes),
            ];
            let traces = traces(vec![], &[span]);
            let read = Generation::new(traces.span(0));
            for json in [read.input_json(), read.output_json()].into_iter().flatten() {
                prop_assert!(serde_json::from_str::<Json>(&json).is_ok(), "{}", json);
            }
            let cost = read.cost();
            prop_assert!([cost.input, cost.output, cost.total].into_iter().flatten().all(f64::is_finite));
            prop_assert_eq!(read.total_cost(), cost.total);
            let _ = (read.is_byok(), read.is_generation(), read.operation(), read.model(), read.provider_name(), read.usage());
            let _ = (read.finish_reason(), read.native_finish_reason(), read.input_text(), read.output_text());
            let _ = (read.metadata(), read.tags(), read.model_parameters(), read.tools(), read.error_type());
            let _ = (read.error_message(), read.first_token_ms(), read.environment(), read.unit_prices());
        }
    }
}
