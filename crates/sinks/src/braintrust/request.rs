//! A span as a row.

use serde_json::{Map, Value as Json, json};
use tracecast_otlp::hex;

use crate::family::rows::Row;
use crate::family::{chat, custom, json};

pub(super) fn body(rows: &[Row<'_>]) -> Vec<u8> {
    let events: Vec<Json> = rows.iter().map(row).collect();
    chat::object([("events", events.into())]).to_string().into_bytes()
}

fn row(row: &Row<'_>) -> Json {
    let (span, generation) = (row.span, &row.generation);
    let (trace_id, span_id) = (hex(&span.trace_id()).to_string(), hex(&span.span_id()).to_string());
    let parent = span.parent_span_id().map(|id| hex(&id).to_string());
    let tags = generation.tags();
    let error = generation.error_type().map(|kind| error(&kind, generation.error_message()));
    let mut fields = chat::compact([
        ("id", Some(format!("{trace_id}-{span_id}").into())),
        ("span_id", Some(span_id.into())),
        // As the SDK has it where spans come from OpenTelemetry: the trace, for all of them.
        ("root_span_id", Some(trace_id.into())),
        ("created", Some(json::rfc3339(span.start_unix_nano()).into())),
        ("span_attributes", Some(json!({ "name": span.name(), "type": kind(row) }))),
        ("input", chat::input(generation)),
        ("output", chat::output(generation)),
        ("metadata", Some(Json::Object(metadata(row)))),
        ("metrics", Some(Json::Object(metrics(row)))),
        ("error", error.filter(|_| span.status_code() == 2)),
        ("tags", (parent.is_none() && !tags.is_empty()).then(|| tags.into())),
    ]);
    if let Some(parent) = parent {
        fields.insert("span_parents".into(), json!([parent]));
    }
    Json::Object(fields)
}

fn error(kind: &str, message: Option<&str>) -> Json {
    match message {
        Some(message) => format!("{kind}: {message}").into(),
        None => kind.into(),
    }
}

fn kind(row: &Row<'_>) -> &'static str {
    if row.generation.is_generation() {
        return "llm";
    }
    match row.span.attribute("gen_ai.operation.name").and_then(|value| value.as_str()) {
        Some("execute_tool") => "tool",
        _ => "task",
    }
}

fn metadata(row: &Row<'_>) -> Map<String, Json> {
    let generation = &row.generation;
    let model = generation.response_model().or(generation.model());
    // Braintrust's price table knows models by their bare names.
    let bare = model.map(|model| model.rsplit_once('/').map_or(model, |(_, bare)| bare));
    let mut own = chat::compact([
        ("model", chat::text(bare)),
        ("model_slug", chat::text(generation.model())),
        ("provider", chat::text(generation.provider_name().or(generation.provider_slug()))),
        ("user_id", chat::text(generation.user_id())),
        ("session_id", chat::text(generation.session_id())),
        ("trace_id", chat::text(generation.raw_trace_id())),
        ("trace_name", chat::text(generation.trace_name())),
        ("environment", chat::text(generation.environment())),
        ("finish_reason", chat::text(generation.finish_reason().as_deref())),
        ("tools", generation.tools()),
    ]);
    for (name, value) in generation.model_parameters() {
        own.entry(name).or_insert(value);
    }
    // Its views take model, tools and the prompt a call was made from out of the metadata.
    let is_read = |key: &str| matches!(key, "model" | "provider" | "tools" | "prompt");
    custom::beside(own, generation, is_read)
}

/// Numbers and nothing else: a text here refuses the row.
fn metrics(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let seconds = |nano: u64| chat::number(Some(nano as f64 / 1e9));
    let mut metrics = chat::compact([
        ("start", seconds(span.start_unix_nano())),
        ("end", seconds(span.end_unix_nano()).filter(|_| span.end_unix_nano() > 0)),
    ]);
    if generation.is_generation() {
        let (usage, cost) = (generation.usage(), generation.cost());
        metrics.extend(chat::compact([
            ("prompt_tokens", chat::count(usage.input)),
            ("completion_tokens", chat::count(usage.output)),
            ("tokens", chat::count(usage.total)),
            ("prompt_cached_tokens", chat::count(usage.cached)),
            ("prompt_cache_creation_tokens", chat::count(usage.cache_write)),
            ("completion_reasoning_tokens", chat::count(usage.reasoning)),
            ("time_to_first_token", chat::number(generation.first_token_ms().map(|ms| ms / 1e3))),
            ("estimated_cost", chat::number(cost.total)),
            ("input_cost", chat::number(cost.input)),
            ("output_cost", chat::number(cost.output)),
        ]));
    }
    metrics
}
