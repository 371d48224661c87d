//! Spans as LangSmith's own runs: the body of `/runs/multipart`, and the JSON of the older `/runs/batch`.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};
use tracecast_genai::Generation;
use tracecast_otlp::{SpanId, TraceId, hex};
use uuid::Uuid;

use super::dialect;
use crate::family::rows::Row;
use crate::family::{chat, custom, json as json_out};

/// Between parts. JSON has no line ends in it but as layout, and ours has none: no content can hold a delimiter.
pub(super) const BOUNDARY: &str = "tracecast-7f3a9c";
/// Of the names that run ids are made from.
const NAMESPACE: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_6c61_6e67_736d);
/// What has a part of its own.
const PARTS: [&str; 5] = ["inputs", "outputs", "events", "extra", "error"];

/// `post.{id}` with the run, then `post.{id}.inputs` and the others that there are.
pub(super) fn multipart(project: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for mut run in runs(project, rows) {
        let id = run.get("id").and_then(Json::as_str).unwrap_or_default().to_owned();
        let parts: Vec<(&str, Json)> =
            PARTS.iter().filter_map(|name| Some((*name, run.remove(*name)?))).collect();
        part(&format!("post.{id}"), &Json::Object(run), &mut out);
        for (name, value) in parts {
            part(&format!("post.{id}.{name}"), &value, &mut out);
        }
    }
    out.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    out
}

fn part(name: &str, value: &Json, out: &mut Vec<u8>) {
    let body = value.to_string();
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The same for servers that know no multipart.
pub(super) fn batch(project: &str, rows: &[Row<'_>]) -> Vec<u8> {
    let runs: Vec<Json> = runs(project, rows).into_iter().map(Json::Object).collect();
    chat::object([("post", runs.into()), ("patch", Json::Array(Vec::new()))]).to_string().into_bytes()
}

/// Where a run stands in its trace.
struct Place {
    trace: Uuid,
    parent: Option<Uuid>,
    dotted_order: String,
}

fn runs(project: &str, rows: &[Row<'_>]) -> Vec<Map<String, Json>> {
    let by_id: HashMap<(TraceId, SpanId), &Row<'_>> =
        rows.iter().map(|row| ((row.span.trace_id(), row.span.span_id()), row)).collect();
    rows.iter().map(|row| run(project, row, &place(row, &by_id))).collect()
}

fn id_of(row: &Row<'_>) -> Uuid {
    let name = format!("{}{}", hex(&row.span.trace_id()), hex(&row.span.span_id()));
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The way up to the root, as far as it is here: LangSmith wants it spelled out, times and ids.
fn place(row: &Row<'_>, by_id: &HashMap<(TraceId, SpanId), &Row<'_>>) -> Place {
    let mut way = vec![row];
    let mut next = row;
    // A loop of parents would never end.
    while let Some(parent) = next.span.parent_span_id()
        && let Some(above) = by_id.get(&(next.span.trace_id(), parent))
        && way.len() <= by_id.len()
    {
        way.push(above);
        next = above;
    }
    way.reverse();
    // A child is never before its parent, whatever the clocks of its machines say.
    let mut latest = 0;
    let steps: Vec<String> = way
        .iter()
        .map(|step| {
            latest = latest.max(step.span.start_unix_nano());
            let time = json_out::timestamp(latest).strftime("%Y%m%dT%H%M%S%6fZ");
            format!("{time}{}", id_of(step))
        })
        .collect();
    let above = way.len().checked_sub(2).and_then(|i| way.get(i));
    Place {
        trace: way.first().map_or_else(|| id_of(row), |root| id_of(root)),
        parent: above.map(|parent| id_of(parent)),
        dotted_order: steps.join("."),
    }
}

fn run(project: &str, row: &Row<'_>, place: &Place) -> Map<String, Json> {
    let (span, generation) = (row.span, &row.generation);
    let end = if span.end_unix_nano() > 0 { span.end_unix_nano() } else { span.start_unix_nano() };
    let name = generation.trace_name().filter(|_| place.parent.is_none()).unwrap_or(span.name());
    let tags = generation.tags();
    let is_error = span.status_code() == 2;
    let error = generation.error_type().filter(|_| is_error).map(|kind| match generation.error_message() {
        Some(message) => format!("{kind}: {message}"),
        None => kind.into_owned(),
    });
    chat::compact([
        ("id", Some(id_of(row).to_string().into())),
        ("trace_id", Some(place.trace.to_string().into())),
        ("parent_run_id", place.parent.map(|parent| parent.to_string().into())),
        ("dotted_order", Some(place.dotted_order.clone().into())),
        ("session_name", Some(project.into())),
        ("name", Some(name.into())),
        ("run_type", Some(dialect::kind(generation).into())),
        ("start_time", Some(json_out::rfc3339(span.start_unix_nano()).into())),
        ("end_time", Some(json_out::rfc3339(end).into())),
        ("tags", (!tags.is_empty()).then(|| tags.into())),
        ("inputs", Some(object("input", dialect::input(generation)))),
        ("outputs", Some(object("output", dialect::output(generation)))),
        ("events", first_token(generation)),
        ("extra", Some(extra(generation))),
        ("error", error.map(Json::from)),
    ])
}

/// Inputs and outputs are objects.
fn object(name: &str, content: Option<Json>) -> Json {
    match content {
        Some(content @ Json::Object(_)) => content,
        Some(content) => chat::object([(name, content)]),
        None => json!({}),
    }
}

fn first_token(generation: &Generation<'_>) -> Option<Json> {
    let delay_ms = generation.first_token_ms().filter(|ms| *ms >= 0.0)?;
    // A float becomes the nearest integer it fits into.
    let time = generation.span().start_unix_nano().checked_add((delay_ms * 1e6) as u64)?;
    Some(json!([{ "name": "new_token", "time": json_out::rfc3339(time) }]))
}

fn extra(generation: &Generation<'_>) -> Json {
    let mut own = dialect::metadata(generation);
    // By these a run is found again where its trace is known under its first ids.
    let span = generation.span();
    own.insert("otel_trace_id".into(), hex(&span.trace_id()).to_string().into());
    own.insert("otel_span_id".into(), hex(&span.span_id()).to_string().into());
    let parameters = if generation.is_generation() { generation.model_parameters() } else { Map::new() };
    if let Some(temperature) = parameters.get("temperature") {
        own.insert("ls_temperature".into(), temperature.clone());
    }
    let metadata = custom::beside(own, generation, dialect::is_read);
    let mut extra = chat::compact([("metadata", Some(Json::Object(metadata)))]);
    if generation.is_generation() {
        let mut invocation = parameters;
        if let Some(model) = generation.model() {
            invocation.insert("model".into(), model.into());
        }
        extra.insert("invocation_params".into(), invocation.into());
    }
    Json::Object(extra)
}
