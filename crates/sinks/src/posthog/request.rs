//! A span as an AI event.

use serde_json::{Map, Value as Json, json};
use tracecast_otlp::hex;
use uuid::Uuid;

use crate::family::rows::Row;
use crate::family::{chat, custom, json, rows};

/// Deeper values are replaced, as upstream documents it.
const DEPTH_MAX: usize = 3;
/// Of the names that event uuids are made from.
const NAMESPACE: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_706f_7374_686f);

/// The body, and how many bytes its largest event has.
pub(super) fn body(token: &str, rows: &[Row<'_>]) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let mut largest = 0;
    let mut object = json::Object::open(&mut out);
    object.str("api_key", token);
    object.value("historical_migration", &false);
    let batch = object.key("batch");
    for (i, row) in rows.iter().enumerate() {
        batch.push(if i == 0 { b'[' } else { b',' });
        let event = event(row).to_string();
        largest = event.len().max(largest);
        batch.extend_from_slice(event.as_bytes());
    }
    batch.extend_from_slice(if rows.is_empty() { b"[]" } else { b"]" });
    object.close();
    (out, largest)
}

pub(super) fn test(token: &str) -> Vec<u8> {
    json!({ "api_key": token, "distinct_id": "tracecast-connection-test" }).to_string().into_bytes()
}

fn event(row: &Row<'_>) -> Json {
    let (span, generation) = (row.span, &row.generation);
    let name = match generation.operation() {
        _ if !generation.is_generation() && span.parent_span_id().is_none() => "$ai_trace",
        _ if !generation.is_generation() => "$ai_span",
        Some("embeddings" | "embedding") => "$ai_embedding",
        _ => "$ai_generation",
    };
    let ids = format!("{}{}", hex(&span.trace_id()), hex(&span.span_id()));
    let mut properties = properties(row);
    let distinct_id = match generation.user_id() {
        Some(user) => user.to_owned(),
        None => {
            properties.insert("$process_person_profile".into(), false.into());
            hex(&span.trace_id()).to_string()
        }
    };
    chat::object([
        ("event", name.into()),
        ("distinct_id", distinct_id.into()),
        ("timestamp", json::rfc3339(span.start_unix_nano()).into()),
        ("uuid", Uuid::new_v5(&NAMESPACE, ids.as_bytes()).to_string().into()),
        ("properties", properties.into()),
    ])
}

fn properties(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let trace_id = generation.raw_trace_id().map_or_else(|| hex(&span.trace_id()).to_string(), str::to_owned);
    let is_error = span.status_code() == 2;
    let latency = rows::duration_ms(span).map(|ms| ms / 1e3);
    let mut properties = chat::compact([
        ("$ai_trace_id", Some(trace_id.into())),
        ("$ai_span_id", Some(hex(&span.span_id()).to_string().into())),
        ("$ai_parent_id", span.parent_span_id().map(|id| hex(&id).to_string().into())),
        ("$ai_session_id", chat::text(generation.session_id())),
        ("$ai_span_name", Some(span.name().into())),
        ("trace_name", chat::text(generation.trace_name())),
        ("$ai_latency", chat::number(latency)),
        ("$ai_is_error", Some(is_error.into())),
        ("$ai_error_type", generation.error_type().filter(|_| is_error).map(|kind| kind.into_owned().into())),
        ("$ai_error", chat::text(generation.error_message().filter(|_| is_error))),
        ("$geoip_disable", Some(true.into())),
        ("$lib", Some("tracecast".into())),
        ("$lib_version", Some(env!("CARGO_PKG_VERSION").into())),
    ]);
    if generation.is_generation() {
        properties.extend(call(row));
    } else {
        properties.extend(chat::compact([
            ("$ai_input_state", chat::input(generation)),
            ("$ai_output_state", chat::output(generation)),
        ]));
    }
    let tags = generation.tags();
    let own = chat::compact([
        ("environment", chat::text(generation.environment())),
        ("release", chat::text(generation.release())),
        ("tags", (!tags.is_empty()).then(|| tags.into())),
    ]);
    for (key, value) in custom::beside(own, generation, |_| false) {
        properties.insert(format!("metadata_{key}"), shallow(value, DEPTH_MAX));
    }
    properties
}

fn call(row: &Row<'_>) -> Map<String, Json> {
    let generation = &row.generation;
    let (usage, cost) = (generation.usage(), generation.cost());
    let parameters = generation.model_parameters();
    chat::compact([
        ("$ai_stream", parameters.get("stream").filter(|stream| stream.is_boolean()).cloned()),
        ("$ai_model", chat::text(generation.response_model().or(generation.model()))),
        ("$ai_provider", chat::text(generation.provider_slug().or(generation.provider_name()))),
        ("$ai_response_id", chat::text(generation.response_id())),
        ("$ai_input", chat::input(generation)),
        ("$ai_output_choices", chat::output(generation).map(messages)),
        ("$ai_tools", generation.tools()),
        ("$ai_model_parameters", (!parameters.is_empty()).then_some(Json::Object(parameters))),
        ("$ai_input_tokens", chat::count(usage.input)),
        ("$ai_output_tokens", chat::count(usage.output)),
        ("$ai_total_tokens", chat::count(usage.total)),
        ("$ai_reasoning_tokens", chat::count(usage.reasoning)),
        ("$ai_cache_read_input_tokens", chat::count(usage.cached)),
        ("$ai_cache_creation_input_tokens", chat::count(usage.cache_write)),
        // Input holds the cached tokens here.
        ("$ai_cache_reporting_exclusive", usage.cached.map(|_| false.into())),
        ("$ai_input_cost_usd", chat::number(cost.input)),
        ("$ai_output_cost_usd", chat::number(cost.output)),
        ("$ai_total_cost_usd", chat::number(cost.total)),
        ("$ai_time_to_first_token", chat::number(generation.first_token_ms().map(|ms| ms / 1e3))),
        ("$ai_stop_reason", chat::text(generation.finish_reason().as_deref())),
    ])
}

/// The choices as messages: these are what PostHog shows. Why the model stopped has a property of its own.
fn messages(choices: Json) -> Json {
    match choices {
        Json::Array(choices) => choices
            .into_iter()
            .map(|mut choice| match choice.get_mut("message") {
                Some(message) => message.take(),
                None => choice,
            })
            .collect(),
        other => other,
    }
}

/// The value down to so many levels.
fn shallow(value: Json, levels: usize) -> Json {
    match value {
        Json::Object(_) | Json::Array(_) if levels == 0 => "[truncated]".into(),
        Json::Object(object) => {
            object.into_iter().map(|(key, value)| (key, shallow(value, levels - 1))).collect()
        }
        Json::Array(items) => items.into_iter().map(|value| shallow(value, levels - 1)).collect(),
        plain => plain,
    }
}
