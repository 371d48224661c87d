//! A span as an LLM Observability span.

use serde_json::{Map, Value as Json, json};
use tracecast_genai::Generation;
use tracecast_otlp::hex;

use crate::family::cut::{cut, is_over};
use crate::family::rows::Row;
use crate::family::{chat, custom};

/// Datadog cuts longer tags, and says nothing.
const TAG_CHARS_MAX: usize = 200;
/// What a root has for a parent.
const NO_PARENT: &str = "undefined";

pub(super) fn body(ml_app: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let spans: Vec<Json> = rows.iter().map(|row| Json::Object(span(ml_app, row))).collect();
    let tags = request_tags(ml_app).map(Json::from).into_iter().collect();
    let attributes = chat::object([("ml_app", ml_app.into()), ("tags", tags), ("spans", spans.into())]);
    let data = chat::object([("type", "span".into()), ("attributes", attributes)]);
    chat::object([("data", data)]).to_string().into_bytes()
}

/// The same as Datadog's SDK sends it to an agent.
pub(super) fn agent_body(ml_app: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let envelope = |row: &Row<'_>| {
        chat::object([
            ("_dd.stage", "raw".into()),
            ("_dd.tracer_version", concat!("tracecast-", env!("CARGO_PKG_VERSION")).into()),
            ("event_type", "span".into()),
            ("spans", Json::Array(vec![event(ml_app, row).into()])),
        ])
    };
    let envelopes: Vec<Json> = rows.iter().map(envelope).collect();
    Json::from(envelopes).to_string().into_bytes()
}

/// A span as an event of the SDK, which has other places for kind and model, whole nanoseconds, decimal span ids, and
/// no attributes of the request.
fn event(ml_app: &str, row: &Row<'_>) -> Map<String, Json> {
    let span_view = row.span;
    let decimal = |id: [u8; 8]| Json::from(u64::from_be_bytes(id).to_string());
    let trace_id = hex(&span_view.trace_id()).to_string();
    let duration = span_view.end_unix_nano().saturating_sub(span_view.start_unix_nano());
    let mut event = span(ml_app, row);
    event.insert("span_id".into(), decimal(span_view.span_id()));
    if let Some(parent) = span_view.parent_span_id() {
        event.insert("parent_id".into(), decimal(parent));
    }
    event.insert("duration".into(), duration.into());
    event.entry("metrics").or_insert_with(|| json!({}));
    let own = json!({ "span_id": event.get("span_id"), "trace_id": trace_id, "apm_trace_id": trace_id });
    event.insert("_dd".into(), own);
    if let Some(Json::Array(tags)) = event.get_mut("tags") {
        tags.extend(request_tags(ml_app).map(Json::from));
        tags.push(format!("error:{}", u8::from(span_view.status_code() == 2)).into());
    }
    if let Some(Json::Object(meta)) = event.get_mut("meta") {
        let kind = meta.remove("kind");
        meta.insert("span".into(), json!({ "kind": kind }));
        for key in ["model_name", "model_provider"] {
            let said = meta.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()?.remove(key));
            meta.extend(said.map(|value| (key.to_owned(), value)));
        }
    }
    event
}

fn request_tags(ml_app: &str) -> [String; 2] {
    [format!("service:{ml_app}"), "source:tracecast".to_owned()]
}

fn span(ml_app: &str, row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let parent = span.parent_span_id().map_or_else(|| NO_PARENT.to_owned(), |id| hex(&id).to_string());
    let duration = span.end_unix_nano().saturating_sub(span.start_unix_nano());
    let mut fields = chat::compact([
        ("name", Some(span.name().into())),
        ("span_id", Some(hex(&span.span_id()).to_string().into())),
        ("trace_id", Some(hex(&span.trace_id()).to_string().into())),
        ("parent_id", Some(parent.into())),
        ("start_ns", Some(span.start_unix_nano().into())),
        ("duration", Some((duration as f64).into())),
        ("status", Some(if span.status_code() == 2 { "error" } else { "ok" }.into())),
        ("meta", Some(Json::Object(meta(row)))),
        ("session_id", generation.session_id().map(Json::from)),
        ("tags", Some(tags(ml_app, generation).into())),
    ]);
    if generation.is_generation() {
        fields.insert("metrics".into(), Json::Object(metrics(generation)));
    }
    fields
}

fn kind(row: &Row<'_>) -> &'static str {
    let generation = &row.generation;
    if generation.is_generation() {
        return match generation.operation() {
            Some("embeddings" | "embedding") => "embedding",
            _ => "llm",
        };
    }
    match row.span.attribute("gen_ai.operation.name").and_then(|value| value.as_str()) {
        Some("execute_tool") => "tool",
        Some("invoke_agent" | "create_agent") => "agent",
        Some("retrieval") => "retrieval",
        _ if row.span.parent_span_id().is_none() => "workflow",
        _ => "task",
    }
}

fn meta(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let kind = kind(row);
    let error = generation.error_type().filter(|_| span.status_code() == 2).map(|kind| {
        let mut error = chat::compact([("message", generation.error_message().map(Json::from))]);
        error.insert("type".into(), kind.into_owned().into());
        Json::Object(error)
    });
    let (input, output) = match kind {
        "llm" => (llm_input(generation), llm_output(generation)),
        // A text is shown as it is, not as a message.
        "embedding" => {
            let text = generation.input_text().map(|text| Json::from(text.into_owned()));
            (value(text), value(chat::output(generation)))
        }
        _ => (value(chat::input(generation)), value(chat::output(generation))),
    };
    chat::compact([
        ("kind", Some(kind.into())),
        ("input", input),
        ("output", output),
        ("error", error),
        ("metadata", Some(Json::Object(metadata(generation)))),
        ("tool_definitions", generation.tools().filter(|_| kind == "llm").and_then(tool_definitions)),
    ])
}

/// The tools that were offered, in the SDK's words (`llmobs.types.ToolDefinition`).
fn tool_definitions(tools: Json) -> Option<Json> {
    let definition = |tool: &Json| {
        let function = tool.get("function").unwrap_or(tool);
        let text = |key: &str| function.get(key).filter(|value| value.is_string()).cloned();
        let schema = ["parameters", "input_schema", "schema"].iter().find_map(|key| function.get(*key));
        Some(Json::Object(chat::compact([
            ("name", Some(text("name")?)),
            ("description", text("description")),
            ("schema", schema.filter(|schema| schema.is_object()).cloned()),
        ])))
    };
    let definitions: Vec<Json> = tools.as_array()?.iter().filter_map(definition).collect();
    (!definitions.is_empty()).then(|| definitions.into())
}

fn value(content: Option<Json>) -> Option<Json> {
    content.map(|content| match content {
        text @ Json::String(_) => chat::object([("value", text)]),
        other => chat::object([("value", other.to_string().into())]),
    })
}

fn llm_input(generation: &Generation<'_>) -> Option<Json> {
    match chat::input(generation)? {
        Json::Array(messages) => Some(chat::object([("messages", messages.iter().map(message).collect())])),
        other => value(Some(other)),
    }
}

fn llm_output(generation: &Generation<'_>) -> Option<Json> {
    match chat::output(generation)? {
        Json::Array(choices) => {
            let messages: Vec<_> =
                choices.iter().filter_map(|choice| choice.get("message")).map(message).collect();
            Some(chat::object([("messages", messages.into())]))
        }
        other => value(Some(other)),
    }
}

/// A chat-completions message in the words of the spans API: content is text, tool calls are taken apart.
fn message(message: &Json) -> Json {
    let content = match message.get("content") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(parts)) => {
            let texts: Vec<_> =
                parts.iter().filter_map(|part| part.get("text").and_then(Json::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    };
    let calls = message.get("tool_calls").and_then(Json::as_array).map(|calls| {
        let calls: Vec<_> = calls.iter().map(tool_call).collect();
        Json::from(calls)
    });
    let role = message.get("role").cloned().unwrap_or_else(|| "user".into());
    let result = (role == "tool").then(|| {
        json!([chat::compact([
            ("name", message.get("name").cloned()),
            ("result", Some(content.as_str().into())),
            ("tool_id", message.get("tool_call_id").cloned()),
            ("type", Some("tool_result".into())),
        ])])
    });
    Json::Object(chat::compact([
        ("role", Some(role)),
        ("content", Some(content.into())),
        ("tool_id", message.get("tool_call_id").cloned()),
        ("tool_calls", calls),
        ("tool_results", result),
    ]))
}

fn tool_call(call: &Json) -> Json {
    let function = |key: &str| call.get("function").and_then(|function| function.get(key)).cloned();
    // Arguments are an object here; what is none stands under a name of its own.
    let arguments = match function("arguments") {
        Some(Json::String(text)) => match chat::value(&text) {
            object @ Json::Object(_) => object,
            _ => json!({ "text": text }),
        },
        Some(object @ Json::Object(_)) => object,
        _ => json!({}),
    };
    Json::Object(chat::compact([
        ("name", function("name")),
        ("arguments", Some(arguments)),
        ("tool_id", call.get("id").cloned()),
        ("type", Some("function".into())),
    ]))
}

/// Texts, numbers and booleans; what is nested goes as JSON text.
fn metadata(generation: &Generation<'_>) -> Map<String, Json> {
    let mut own = chat::compact([
        ("environment", generation.environment().map(Json::from)),
        ("release", generation.release().map(Json::from)),
        ("trace_name", generation.trace_name().map(Json::from)),
    ]);
    if generation.is_generation() {
        let provider = generation.provider_slug().or(generation.provider_name());
        own.extend(generation.model_parameters());
        own.extend(chat::compact([
            ("model_name", generation.response_model().or(generation.model()).map(Json::from)),
            // As the SDK writes it.
            ("model_provider", provider.map(|provider| provider.to_lowercase().into())),
            ("finish_reason", generation.finish_reason().map(|reason| reason.into_owned().into())),
        ]));
    }
    // The reference's keys of an LLM span, and what the SDK keeps for Datadog alone.
    let is_read = |key: &str| {
        matches!(key, "model_name" | "model_provider" | "temperature" | "max_tokens")
            || key.starts_with("_dd")
    };
    let mut metadata = custom::beside(own, generation, is_read);
    for value in metadata.values_mut() {
        if value.is_array() || value.is_object() {
            *value = value.to_string().into();
        }
    }
    metadata.retain(|_, value| !value.is_null());
    metadata
}

fn metrics(generation: &Generation<'_>) -> Map<String, Json> {
    let (usage, cost) = (generation.usage(), generation.cost());
    let count = |value: Option<u64>| value.map(|count| (count as f64).into());
    chat::compact([
        ("input_tokens", count(usage.input)),
        ("output_tokens", count(usage.output)),
        ("total_tokens", count(usage.total)),
        ("cache_read_input_tokens", count(usage.cached)),
        ("cache_write_input_tokens", count(usage.cache_write)),
        ("reasoning_output_tokens", count(usage.reasoning)),
        ("time_to_first_token", chat::number(generation.first_token_ms().map(|ms| ms / 1e3))),
        ("input_cost", chat::number(cost.input)),
        ("output_cost", chat::number(cost.output)),
        ("total_cost", chat::number(cost.total)),
    ])
}

fn tags(ml_app: &str, generation: &Generation<'_>) -> Vec<String> {
    let mut tags = vec![format!("ml_app:{ml_app}")];
    if let Some(user) = generation.user_id() {
        tags.push(format!("user_id:{user}"));
    }
    if let Some(session) = generation.session_id() {
        tags.push(format!("session_id:{session}"));
    }
    // A tag of Datadog is a pair; a bare one becomes one of the name `tag`.
    let pair = |tag: String| if tag.contains(':') { tag } else { format!("tag:{tag}") };
    tags.extend(generation.tags().into_iter().map(pair));
    for tag in tags.iter_mut().filter(|tag| is_over(tag, TAG_CHARS_MAX)) {
        *tag = cut(tag, TAG_CHARS_MAX);
    }
    tags
}
