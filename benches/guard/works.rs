//! The steps of the data path that the guards count: each on one request of 64 spans, each repeatable.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy, Region};
use tracecast_genai::{Privacy, events};
use tracecast_loadkit::traffic::{Story, Template};
use tracecast_otlp::write::{Edit, select};
use tracecast_otlp::{Limits, Payload, SpanSet, Traces, json as otlp_json};
use tracecast_rules::{Context, Plan, TraceMemory};
use tracecast_sinks::{Batch, Clients, Item, build};

/// Spans of the request.
pub(crate) const SPANS: u32 = 64;
const NOW: u64 = 1_790_000_000_000_000_000;

/// A step; every call does it once.
pub(crate) type Work = Box<dyn FnMut()>;

/// The names of all steps.
pub(crate) const NAMES: [&str; 9] = [
    "walk",
    "decide",
    "splice half as it is",
    "splice without content",
    "json out",
    "otlp body",
    "langfuse body",
    "webhook body",
    "events to spans",
];

/// The step of this name, ready to be done.
pub(crate) fn named(name: &str) -> Work {
    let body = Bytes::from(Template::new(1, SPANS as usize, 4096).request(1, 0, NOW));
    let limits = Limits::default();
    let traces = Traces::index(body.clone(), &limits).expect("the template is a valid request");
    let all = SpanSet::all(SPANS);
    match name {
        "walk" => Box::new(move || drop(Traces::index(body.clone(), &limits))),
        "decide" => decide(traces),
        "splice half as it is" => splice(traces, SpanSet::from_positions(SPANS, (0..SPANS).step_by(2)), None),
        "splice without content" => splice(traces, all, Some(&Privacy)),
        "json out" => {
            let mut out = Vec::with_capacity(2 * body.len());
            Box::new(move || {
                out.clear();
                otlp_json::encode(&traces, &all, None, &mut out);
            })
        }
        "otlp body" => request("otel-collector", json!({ "endpoint": "http://127.0.0.1:4318" }), body),
        "langfuse body" => request(
            "langfuse",
            json!({ "publicKey": "pk-lf-bench-1234", "secretKey": "sk-lf-bench-1234" }),
            body,
        ),
        "webhook body" => request("webhook", json!({ "url": "https://example.com/hook" }), body),
        "events to spans" => transcode(),
        other => panic!("there is no step {other}"),
    }
}

/// The rules a destination has in the comparison: an allowlist of ten keys and a filter on the model.
fn decide(traces: Traces) -> Work {
    let hashes: Vec<String> = (1..=10).map(|i| format!("{i:02x}").repeat(32)).collect();
    let destination = destination(
        "webhook",
        json!({
            "config": { "url": "https://example.com/hook" }, "api_key_hashes": hashes,
            "filter_rules": { "enabled": true, "groups": [{ "logic": "and", "rules": [
                { "field": "model", "operator": "contains", "value": "/" } ] }] },
        }),
    );
    let plan = Plan::compile(true, &[(0, Arc::new(destination))]).expect("the rules compile");
    let memory = TraceMemory::new(16 << 20);
    Box::new(move || {
        let context = Context {
            region: Region::Global,
            api_key_hash: Some([7; 32]),
            api_key_name: None,
            now_unix_nano: NOW,
        };
        drop(plan.decide(&traces, &context, &memory));
    })
}

fn splice(traces: Traces, spans: SpanSet, edit: Option<&'static dyn Edit>) -> Work {
    let mut out = Vec::with_capacity(1 << 20);
    Box::new(move || {
        out.clear();
        select(&traces, &spans, edit, &mut out);
    })
}

/// What an adapter makes of the request; nothing is sent.
fn request(kind: &str, config: Json, body: Bytes) -> Work {
    let adapter = build(&destination(kind, json!({ "config": config })), &Clients::new().expect("clients"))
        .expect("an adapter");
    let item = Item {
        sequence: 1,
        received_unix_nano: NOW,
        payload: Arc::new(Payload::new(body, SPANS)),
        spans: SpanSet::all(SPANS),
        private: false,
        shared: false,
    };
    let batch = Batch { token: "bench".into(), items: vec![item], ..Batch::default() };
    Box::new(move || drop(adapter.preview(&batch)))
}

fn transcode() -> Work {
    let mut story = Story::new(1);
    let mut lines = Vec::new();
    for i in 0..SPANS {
        writeln!(lines, "{}", story.call(NOW).event(&i.to_string())).expect("memory takes everything");
    }
    Box::new(move || {
        let options = events::Options {
            strict: false,
            receive_unix_nano: NOW,
            service_name: "bench",
            max_records: SPANS as usize,
        };
        drop(events::transcode(&lines, &options));
    })
}

fn destination(kind: &str, mut body: Json) -> Destination {
    body["type"] = kind.into();
    body["name"] = kind.into();
    let defaults = CreateDefaults {
        id: uuid::Uuid::from_u128(1),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    Destination::create(&body, defaults).expect("a valid destination")
}
