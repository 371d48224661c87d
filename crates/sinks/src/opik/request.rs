//! Traces and spans as Opik's objects.

use serde_json::{Map, Value as Json};
use tracecast_genai::Generation;
use tracecast_otlp::hex;

use super::ids;
use crate::family::rows::Row;
use crate::family::{chat, custom, json, provider};

/// The bodies of traces and of spans. There is one object per trace whose root is here, told by the root: Opik puts a
/// later object in the place of an earlier one, so that a child that comes late, alone, must not tell one; its own OTLP
/// route does the same. No body of traces without a root.
pub(super) fn bodies(project: &str, rows: &[Row<'_>]) -> (Option<Vec<u8>>, Vec<u8>) {
    // A root's trace and its span say mostly the same: it is written once.
    let shared: Vec<String> = rows.iter().map(|row| Json::Object(common(project, row)).to_string()).collect();
    let objects = |name: &str, all: &[usize], own: fn(&Row<'_>) -> Map<String, Json>| {
        let all = all.iter().filter_map(|i| Some((shared.get(*i)?, rows.get(*i)?)));
        let object = |(shared, row): (&String, &Row<'_>)| {
            format!("{{{},{}}}", members(shared), members(&Json::Object(own(row)).to_string()))
        };
        let all: Vec<String> = all.map(object).collect();
        format!("{{\"{name}\":[{}]}}", all.join(",")).into_bytes()
    };
    let roots = roots(rows);
    let traces = (!roots.is_empty()).then(|| objects("traces", &roots, trace));
    let every: Vec<usize> = (0..rows.len()).collect();
    (traces, objects("spans", &every, span))
}

/// Of each trace the position of its first span without a parent.
fn roots(rows: &[Row<'_>]) -> Vec<usize> {
    let mut roots: Vec<(usize, &Row<'_>)> = Vec::new();
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.span.parent_span_id().is_none()) {
        match roots.iter_mut().find(|(_, root)| root.span.trace_id() == row.span.trace_id()) {
            Some(root) if row.span.start_unix_nano() < root.1.span.start_unix_nano() => *root = (i, row),
            Some(_) => {}
            None => roots.push((i, row)),
        }
    }
    roots.into_iter().map(|(i, _)| i).collect()
}

/// An object without its braces.
fn members(object: &str) -> &str {
    object.get(1..object.len() - 1).unwrap_or_default()
}

fn trace(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let name = generation.trace_name().unwrap_or(span.name());
    chat::compact([
        ("id", Some(ids::of_trace(span.trace_id(), row.trace_start).to_string().into())),
        ("name", Some(name.into())),
        ("start_time", Some(json::rfc3339(row.trace_start).into())),
        ("thread_id", chat::text(generation.session_id())),
    ])
}

fn span(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let id = |span_id| ids::of_span(span.trace_id(), span_id, row.trace_start).to_string();
    let mut fields = chat::compact([
        ("id", Some(id(span.span_id()).into())),
        ("trace_id", Some(ids::of_trace(span.trace_id(), row.trace_start).to_string().into())),
        ("parent_span_id", span.parent_span_id().map(|parent| id(parent).into())),
        ("name", Some(span.name().into())),
        ("type", Some(kind(row).into())),
        ("start_time", Some(json::rfc3339(span.start_unix_nano()).into())),
    ]);
    if generation.is_generation() {
        let (cost, model) = (generation.cost(), generation.response_model().or(generation.model()));
        fields.extend(chat::compact([
            ("model", model.map(Json::from)),
            ("provider", provider::of(generation).map(|provider| provider.opik(model).into())),
            ("usage", usage(generation)),
            ("total_estimated_cost", chat::number(cost.total)),
        ]));
    }
    fields
}

/// What traces and spans have in common.
fn common(project: &str, row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let tags = generation.tags();
    // The traceback is required; in privacy mode there is nothing to say in it.
    let error = generation.error_type().filter(|_| span.status_code() == 2).map(|kind| {
        let mut error = chat::compact([("message", chat::text(generation.error_message()))]);
        error.insert("exception_type".into(), kind.into_owned().into());
        error.insert("traceback".into(), generation.error_message().unwrap_or_default().into());
        Json::Object(error)
    });
    chat::compact([
        ("project_name", Some(project.into())),
        ("end_time", (span.end_unix_nano() > 0).then(|| json::rfc3339(span.end_unix_nano()).into())),
        ("input", chat::input(generation).map(|input| listed("messages", input))),
        ("output", chat::output(generation).map(|output| listed("choices", output))),
        ("metadata", Some(Json::Object(metadata(row)))),
        ("tags", (!tags.is_empty()).then(|| tags.into())),
        ("ttft", chat::number(generation.first_token_ms())),
        ("environment", chat::text(generation.environment())),
        ("error_info", error),
        ("source", Some("sdk".into())),
    ])
}

/// A list of a chat under the name by which it is rendered; anything else as it is.
fn listed(name: &str, content: Json) -> Json {
    if content.is_array() { chat::object([(name, content)]) } else { content }
}

fn kind(row: &Row<'_>) -> &'static str {
    if row.generation.is_generation() {
        return "llm";
    }
    match row.span.attribute("gen_ai.operation.name").and_then(|value| value.as_str()) {
        Some("execute_tool") => "tool",
        _ => "general",
    }
}

fn metadata(row: &Row<'_>) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let trace_id = generation.raw_trace_id().map_or_else(|| hex(&span.trace_id()).to_string(), str::to_owned);
    let cost = generation.cost();
    let cost = chat::compact([
        ("input", chat::number(cost.input)),
        ("output", chat::number(cost.output)),
        ("total", chat::number(cost.total)),
    ]);
    let parameters = generation.model_parameters();
    let own = chat::compact([
        ("openrouter_trace_id", Some(trace_id.into())),
        ("openrouter_observation_id", Some(hex(&span.span_id()).to_string().into())),
        ("user_id", chat::text(generation.user_id())),
        ("cost", (!cost.is_empty()).then_some(Json::Object(cost))),
        ("model_parameters", (!parameters.is_empty()).then_some(Json::Object(parameters))),
        ("finish_reason", generation.finish_reason().map(|reason| reason.into_owned().into())),
    ]);
    // Prompts and graphs of the SDK.
    custom::beside(own, generation, |key| key.starts_with("_opik") || key.starts_with("opik_"))
}

/// Integers by name; nested counts flattened as the SDK does it.
fn usage(generation: &Generation<'_>) -> Option<Json> {
    let usage = generation.usage();
    let usage = chat::compact([
        ("prompt_tokens", chat::count(usage.input)),
        ("completion_tokens", chat::count(usage.output)),
        ("total_tokens", chat::count(usage.total)),
        ("original_usage.prompt_tokens_details.cached_tokens", chat::count(usage.cached)),
        ("original_usage.prompt_tokens_details.cache_write_tokens", chat::count(usage.cache_write)),
        ("original_usage.completion_tokens_details.reasoning_tokens", chat::count(usage.reasoning)),
    ]);
    (!usage.is_empty()).then_some(Json::Object(usage))
}
