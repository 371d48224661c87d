//! `POST .../preview`: an event taken through ingest and adapter up to the point where it would be kept and sent.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tracecast_control::Preview as Asked;
use tracecast_destination::{Destination, Issue, Region};
use tracecast_ingest::{Ingest, Mistake, Rehearsal};
use tracecast_log::SkipReason;
use tracecast_otlp::{Limits, SpanSet, Traces};
use tracecast_rules::{Plan, Skip};
use tracecast_sinks::{Batch, Clients, Item, Preview};

use crate::otlp_text::otlp_text;

/// How long the sample's call took.
const SAMPLE_LATENCY: Duration = Duration::from_millis(1500);
/// At a rate of 1 % one of so many samples is kept, but for one time in 20,000.
const SAMPLES_MAX: usize = 1_000;

/// Decisions and requests; the error says what is wrong with the event.
pub(crate) fn preview(ingest: &Ingest, clients: &Clients, asked: &Asked) -> Result<Json, Vec<Issue>> {
    let destination = &asked.destination;
    let issue = |path: &str, message: String| vec![Issue { path: path.to_owned(), message, hint: None }];
    let plan = Plan::compile(asked.is_broadcast_enabled, &[(0, destination.clone())])
        .map_err(|error| issue("", error.to_string()))?;
    let adapter =
        tracecast_sinks::build(destination, clients).map_err(|error| issue("", error.to_string()))?;
    let rehearse = |event: &Json| {
        ingest
            .rehearse(event, destination.workspace_id, &plan)
            .map_err(|mistakes| mistakes.into_iter().map(event_issue).collect::<Vec<_>>())
    };
    let rehearsal = match &asked.event {
        Some(event) => rehearse(event)?,
        None => {
            let mut rehearsal = rehearse(&sample_event(destination))?;
            // Each sample is a trace of its own: one that the sampling keeps shows more.
            for _ in 0..SAMPLES_MAX {
                if !is_sampled_out(&rehearsal) {
                    break;
                }
                rehearsal = rehearse(&sample_event(destination))?;
            }
            rehearsal
        }
    };
    Ok(shown(destination, rehearsal, |batch| adapter.preview(batch)))
}

fn event_issue(mistake: Mistake) -> Issue {
    let path = match mistake.path.as_str() {
        "" => "event".to_owned(),
        path => format!("event.{path}"),
    };
    Issue { path, message: mistake.message, hint: None }
}

/// Only the sampling stopped it.
fn is_sampled_out(rehearsal: &Rehearsal) -> bool {
    let Some(explanation) = rehearsal.explanations.first() else { return false };
    explanation.skips.iter().any(|(reason, _)| *reason == Skip::Sampled)
        && explanation.checks.iter().all(|check| check.passed || check.path == "sampling_rate")
}

fn shown(
    destination: &Destination,
    rehearsal: Rehearsal,
    build: impl FnOnce(&Batch) -> Vec<Preview>,
) -> Json {
    let is_here = rehearsal.workspace == destination.workspace_id;
    let mut decisions = Vec::new();
    if !is_here {
        // Of another workspace the destination is not even asked.
        decisions.push(json!({
            "rule": "workspace_id",
            "passed": false,
            "text": format!(
                "the event states workspace {}, the destination belongs to {}",
                rehearsal.workspace, destination.workspace_id
            ),
        }));
    }
    let explanation = rehearsal.explanations.first();
    for check in explanation.map(|of| of.checks.as_slice()).unwrap_or_default() {
        decisions.push(json!({ "rule": check.path, "passed": check.passed, "text": check.text }));
    }
    let mut skipped = Map::new();
    for (reason, spans) in explanation.map(|of| of.skips.as_slice()).unwrap_or_default() {
        if let Some(reason) = SkipReason::from_code(*reason as u8) {
            skipped.insert(reason.as_str().to_owned(), (*spans).into());
        }
    }
    let mut selected = 0;
    let mut requests = Vec::new();
    if let (true, Some(payload)) = (is_here, rehearsal.payload) {
        selected = payload.spans();
        let item = Item {
            sequence: 1,
            received_unix_nano: rehearsal.received_unix_nano,
            spans: SpanSet::all(selected),
            payload,
            private: destination.privacy_mode,
            shared: false,
        };
        let batch = Batch { token: "preview".to_owned(), items: vec![item], ..Batch::default() };
        requests = build(&batch).into_iter().map(request).collect();
    }
    json!({
        "decisions": decisions,
        "selected": selected,
        "spans": rehearsal.spans,
        "skipped": skipped,
        "requests": requests,
    })
}

/// A request for people. `body` is byte for byte what is sent, before compression: text, or base64. `json` is the
/// same to read with: a JSON body parsed, OTLP protobuf as OTLP JSON; it is absent where a body is neither.
fn request(preview: Preview) -> Json {
    let mut headers = Map::new();
    for (name, value) in preview.headers {
        match headers.get_mut(&name) {
            Some(Json::String(values)) => {
                values.push_str(", ");
                values.push_str(&value);
            }
            _ => {
                headers.insert(name, value.into());
            }
        }
    }
    let mut shown = json!({ "method": preview.method, "url": preview.url, "headers": headers });
    let text = std::str::from_utf8(&preview.body).ok().filter(|_| !is_protobuf(&headers));
    let (body, encoding, json) = match text {
        Some(text) => (text.to_owned(), "text", serde_json::from_str(text).ok()),
        None => (base64(&preview.body), "base64", otlp_json_of(&preview.body)),
    };
    shown["body"] = body.into();
    shown["body_encoding"] = encoding.into();
    if let Some(json) = json {
        shown["json"] = json;
    }
    shown
}

fn is_protobuf(headers: &Map<String, Json>) -> bool {
    headers.get("content-type").and_then(Json::as_str).is_some_and(|of| of.contains("protobuf"))
}

/// OTLP protobuf as OTLP JSON; `None` if it is something else.
fn otlp_json_of(body: &[u8]) -> Option<Json> {
    let traces = Traces::index(body.to_vec().into(), &Limits::default()).ok()?;
    serde_json::from_slice(&otlp_text(&traces, None)).ok()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A call that ended just now, of a key and a region the destination takes.
fn sample_event(destination: &Destination) -> Json {
    let end = jiff::Timestamp::now();
    let start = end - SAMPLE_LATENCY;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let mut event = json!({
        "id": format!("gen-{id}"),
        "start_time": start.to_string(),
        "end_time": end.to_string(),
        "model": "openai/gpt-4o",
        "provider": "OpenAI",
        "user": "test-user",
        "trace": {
            "trace_id": format!("test-trace-{id}"),
            "trace_name": "Test Trace - tracecast preview",
            "generation_name": "Test Generation",
            "environment": "test",
        },
        "request": {
            "model": "openai/gpt-4o",
            "messages": [{ "role": "user", "content": "What is the capital of France?" }],
            "max_tokens": 100,
        },
        "response": {
            "choices": [{
                "message": { "role": "assistant", "content": "Paris is the capital of France." },
                "finish_reason": "stop",
            }],
        },
        "usage": {
            "prompt_tokens": 50,
            "completion_tokens": 100,
            "total_tokens": 150,
            "prompt_tokens_details": { "cached_tokens": 20 },
        },
        "cost": 0.02,
        "metadata": { "source": "preview", "test": true },
        "tags": ["test", "observability"],
    });
    if let Some(hash) = destination.api_key_hashes.as_ref().and_then(|hashes| hashes.first()) {
        event["api_key_hash"] = hash.as_str().into();
    }
    if let Some(region) = destination.regions.first().copied().filter(|region| *region != Region::Global) {
        event["region"] = region.as_str().into();
    }
    event
}
