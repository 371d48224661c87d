//! A span as a completed call.

use serde_json::{Map, Value as Json, json};
use tracecast_genai::Generation;
use tracecast_otlp::hex;

use crate::family::cut::{cut, is_over, truncated_key};
use crate::family::rows::Row;
use crate::family::{chat, custom, json};

/// Longest text, characters: below the size at which Weave replaces a value.
const TEXT_CHARS_MAX: usize = 900_000;
const OP_NAME_CHARS_MAX: usize = 128;

/// What of a call is known at its start; the rest comes with its end.
const OF_START: [&str; 11] = [
    "project_id",
    "id",
    "op_name",
    "display_name",
    "trace_id",
    "parent_id",
    "thread_id",
    "turn_id",
    "started_at",
    "attributes",
    "inputs",
];

pub(super) fn complete(project: &str, rows: &[Row<'_>]) -> Vec<u8> {
    batch(rows.iter().map(|row| call(project, row).into()).collect())
}

/// The same for servers that know calls by start and end alone.
pub(super) fn upsert(project: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let parts = rows
        .iter()
        .flat_map(|row| {
            let (start, mut end): (Map<String, Json>, Map<String, Json>) =
                call(project, row).into_iter().partition(|(key, _)| OF_START.contains(&key.as_str()));
            for key in ["project_id", "id"] {
                end.insert(key.into(), start.get(key).cloned().unwrap_or_default());
            }
            [("start", start), ("end", end)].map(|(mode, part)| {
                let request = chat::object([(mode, part.into())]);
                chat::object([("mode", mode.into()), ("req", request)])
            })
        })
        .collect();
    batch(parts)
}

fn batch(parts: Vec<Json>) -> Vec<u8> {
    chat::object([("batch", parts.into())]).to_string().into_bytes()
}

pub(super) fn test(project: &str) -> Vec<u8> {
    json!({ "project_id": project, "limit": 1 }).to_string().into_bytes()
}

fn call(project: &str, row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let id = hex(&span.span_id()).to_string();
    let name = span.name();
    let op_name =
        if is_over(name, OP_NAME_CHARS_MAX) { cut(name, OP_NAME_CHARS_MAX) } else { name.to_owned() };
    let is_root = span.parent_span_id().is_none();
    let session = generation.session_id();
    let error_type = generation.error_type().filter(|_| span.status_code() == 2);
    let exception = generation.error_message().or(error_type.as_deref());
    let end = if span.end_unix_nano() > 0 { span.end_unix_nano() } else { span.start_unix_nano() };
    let mut call = chat::compact([
        ("project_id", Some(project.into())),
        ("id", Some(id.clone().into())),
        ("trace_id", Some(hex(&span.trace_id()).to_string().into())),
        ("parent_id", span.parent_span_id().map(|parent| hex(&parent).to_string().into())),
        ("op_name", Some(op_name.into())),
        ("display_name", chat::text(generation.trace_name().filter(|_| is_root))),
        ("thread_id", session.map(Json::from)),
        ("turn_id", session.filter(|_| is_root).map(|_| id.into())),
        ("started_at", Some(json::rfc3339(span.start_unix_nano()).into())),
        ("ended_at", Some(json::rfc3339(end).into())),
        ("attributes", Some(Json::Object(attributes(row)))),
        ("inputs", Some(Json::Object(inputs(generation)))),
        ("output", output(generation)),
        ("summary", Some(summary(row))),
        ("exception", exception.map(Json::from)),
    ]);
    fit(&mut call);
    call
}

fn inputs(generation: &Generation<'_>) -> Map<String, Json> {
    // The arguments of a tool are its inputs.
    if !generation.is_generation()
        && let Some(Json::Object(arguments)) = chat::input(generation)
    {
        return arguments;
    }
    let mut inputs = if generation.is_generation() { generation.model_parameters() } else { Map::new() };
    inputs.extend(chat::compact([
        ("model", chat::text(generation.model())),
        ("messages", chat::input(generation)),
    ]));
    inputs
}

fn output(generation: &Generation<'_>) -> Option<Json> {
    let choices = chat::output(generation)?;
    if !generation.is_generation() {
        return Some(choices);
    }
    let usage = generation.usage();
    let usage = chat::compact([
        ("prompt_tokens", chat::count(usage.input)),
        ("completion_tokens", chat::count(usage.output)),
        ("total_tokens", chat::count(usage.total)),
    ]);
    Some(Json::Object(chat::compact([
        ("id", chat::text(generation.response_id())),
        ("object", Some("chat.completion".into())),
        ("model", generation.response_model().or(generation.model()).map(Json::from)),
        ("choices", Some(choices)),
        ("usage", (!usage.is_empty()).then_some(Json::Object(usage))),
    ])))
}

fn attributes(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let trace_id = generation.raw_trace_id().map_or_else(|| hex(&span.trace_id()).to_string(), str::to_owned);
    let tags = generation.tags();
    let own = chat::compact([
        ("openrouter_trace_id", Some(trace_id.into())),
        ("user_id", chat::text(generation.user_id())),
        ("session_id", chat::text(generation.session_id())),
        ("organization_id", chat::text(generation.organization_id())),
        ("provider", generation.provider_name().or(generation.provider_slug()).map(Json::from)),
        ("environment", chat::text(generation.environment())),
        ("tags", (!tags.is_empty()).then(|| tags.into())),
        ("time_to_first_token_ms", chat::number(generation.first_token_ms())),
        ("error_type", generation.error_type().map(|kind| kind.into_owned().into())),
        ("cost", chat::number(generation.cost().total)),
    ]);
    // What the SDK says of itself stands under its own name.
    custom::beside(own, generation, |key| key == "weave")
}

fn summary(row: &Row<'_>) -> Json {
    let (span, generation) = (row.span, &row.generation);
    let failed = u64::from(span.status_code() == 2);
    let mut summary = Map::new();
    summary.insert("status_counts".into(), json!({ "success": 1 - failed, "error": failed }));
    if generation.is_generation() {
        let (usage, cost) = (generation.usage(), generation.cost());
        let tokens = chat::compact([
            ("requests", Some(1.into())),
            ("prompt_tokens", chat::count(usage.input)),
            ("completion_tokens", chat::count(usage.output)),
            ("total_tokens", chat::count(usage.total)),
            ("cache_read_input_tokens", chat::count(usage.cached)),
            ("cache_creation_input_tokens", chat::count(usage.cache_write)),
            ("reasoning_tokens", chat::count(usage.reasoning)),
        ]);
        let model = generation.response_model().or(generation.model()).unwrap_or("unknown");
        summary.insert("usage".into(), json!({ model: tokens }));
        summary.extend(chat::compact([("cost_usd", chat::number(cost.total))]));
    }
    Json::Object(summary)
}

/// Cuts the longest texts of what a call was given and gave, each with a visible end, and says so beside them.
fn fit(call: &mut Map<String, Json>) {
    for key in ["inputs", "output"] {
        let Some(value) = call.get_mut(key) else { continue };
        if shorten(value)
            && let Some(Json::Object(attributes)) = call.get_mut("attributes")
        {
            attributes.insert(truncated_key(key), true.into());
        }
    }
}

/// True if a text was too long.
fn shorten(value: &mut Json) -> bool {
    match value {
        Json::String(text) if is_over(text, TEXT_CHARS_MAX) => {
            *text = cut(text, TEXT_CHARS_MAX);
            true
        }
        Json::Array(items) => items.iter_mut().fold(false, |cut, item| shorten(item) | cut),
        Json::Object(object) => object.values_mut().fold(false, |cut, value| shorten(value) | cut),
        _ => false,
    }
}
