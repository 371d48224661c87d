//! Real clients: the OpenTelemetry SDK by HTTP and gRPC, the Langfuse SDK.

use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::fakes::{self, Fake, attribute};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY};

use crate::python::{run_json, venv};
use crate::s3;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tracecast-under-test");

/// What the application of `otel_sdk.py` says of every request.
pub(crate) const MODEL: &str = "gpt-4o";
pub(crate) const ANSWERING_MODEL: &str = "gpt-4o-2024-11-20";
pub(crate) const INPUT_TOKENS: u64 = 30;
pub(crate) const OUTPUT_TOKENS: u64 = 12;
pub(crate) const COST: f64 = 0.00125;

/// One request of the application: a parent span and a generation below it. The `n`-th has session
/// `session-{n}` and `INPUT_TOKENS + n` tokens of input.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) trace: String,
    pub(crate) parent: String,
    pub(crate) generation: String,
}

impl Sent {
    fn of(ids: &Json) -> Vec<Sent> {
        let text = |value: &Json| value.as_str().expect("an id").to_owned();
        let ids: Vec<(String, String)> =
            ids.as_array().expect("ids").iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        let request = |pair: &[(String, String)]| {
            assert_eq!(pair[0].0, pair[1].0, "one request is one trace");
            Sent { trace: pair[0].0.clone(), parent: pair[0].1.clone(), generation: pair[1].1.clone() }
        };
        ids.chunks_exact(2).map(request).collect()
    }
}

/// Has the OpenTelemetry SDK send `count` requests to any OTLP endpoint.
pub(crate) fn export(
    protocol: &str,
    endpoint: &str,
    key: &str,
    service: &str,
    prompt: &str,
    count: u64,
) -> Vec<Sent> {
    let count = count.to_string();
    let report = run_json(&venv("otel"), "otel_sdk.py", &[protocol, endpoint, key, service, prompt, &count]);
    assert_eq!(report["flushed"], true, "{report}");
    let results = report["results"].as_array().expect("results");
    assert!(!results.is_empty() && results.iter().all(|r| r == "SUCCESS"), "{report}");
    Sent::of(&report["ids"])
}

/// Has the OpenTelemetry SDK send `count` requests (two spans each) to the gateway.
pub(crate) fn send(gateway: &Gateway, protocol: &str, service: &str, prompt: &str, count: u64) -> Vec<Sent> {
    let endpoint = match protocol {
        "http" => format!("{}/v1/traces", gateway.http),
        _ => format!("http://{}", gateway.grpc),
    };
    export(protocol, &endpoint, INGEST_KEY, service, prompt, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_otel_sdk_sends_by_http_and_grpc() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "sink", json!({ "endpoint": url })).await;
    let mut sent = send(&gateway, "http", "by-http", "hello", 5);
    sent.extend(send(&gateway, "grpc", "by-grpc", "hello", 5));
    gateway.settled(&id, 20).await;
    let arrived: Vec<String> = sink.ids().iter().map(|id| tracecast_otlp::hex(id)).collect();
    assert_eq!(arrived.len(), 20);
    for span in sent.iter().flat_map(|s| [&s.parent, &s.generation]) {
        assert!(arrived.contains(span), "{span} did not arrive");
    }
    assert_eq!(sink.stats().duplicates, 0);
}

/// Its start-up check passes, its own attributes go on to Langfuse as they are, and other kinds read them.
#[tokio::test(flavor = "multi_thread")]
async fn the_langfuse_sdk_sends_unchanged() {
    let langfuse = Fake::start(fakes::langfuse("pk-lf-tests-0001", "sk-lf-tests-0001")).await;
    let home = Home::new(BINARY);
    let root = home.path().join("s3");
    let url = s3::serve(&root).await;
    home.config("");
    let gateway = home.start();
    let config = json!({
        "publicKey": "pk-lf-tests-0001", "secretKey": "sk-lf-tests-0001", "baseUrl": langfuse.url(),
    });
    let to_langfuse = gateway.simple("langfuse", "langfuse", config).await;
    let config = s3::config(&url, s3::SECRET, "per_trace");
    let to_s3 = gateway.simple("s3", "objects", config).await;

    let report =
        run_json(&venv("langfuse"), "langfuse_sdk.py", &[&gateway.http, INGEST_KEY, "hello langfuse"]);
    assert_eq!(report["auth"], true, "{report}");
    let sent = Sent::of(&report["ids"]).remove(0);
    gateway.settled(&to_langfuse, 2).await;
    gateway.settled(&to_s3, 2).await;

    let spans = langfuse.spans();
    assert_eq!(spans.len(), 2);
    let generation = spans.iter().find(|s| tracecast_otlp::hex(&s.span_id) == sent.generation);
    let generation = generation.expect("the generation arrived");
    assert_eq!(tracecast_otlp::hex(&generation.trace_id), sent.trace);
    assert_eq!(tracecast_otlp::hex(&generation.parent_span_id), sent.parent);
    let says =
        |key: &str| attribute(generation, key).unwrap_or_else(|| panic!("{key} is missing: {generation:#?}"));
    assert_eq!(says("langfuse.observation.type"), "generation");
    assert_eq!(says("langfuse.observation.model.name"), MODEL);
    let json = |key: &str| -> Json { serde_json::from_str(&says(key)).expect("it is JSON") };
    assert_eq!(json("langfuse.observation.usage_details"), json!({ "input": 21, "output": 9 }));
    assert_eq!(json("langfuse.observation.cost_details"), json!({ "total": 0.0005 }));
    assert!(says("langfuse.observation.input").contains("hello langfuse"));

    let objects = s3::objects(&root.join("traces/per_trace"));
    assert_eq!(objects.len(), 1, "{objects:?}");
    let object = s3::read(&objects[0]);
    assert_eq!(object["id"], *sent.trace, "{object:#}");
    let observations = object["observations"].as_array().expect("observations");
    let found = observations.iter().find(|o| o["id"] == *sent.generation).expect("the generation is stored");
    assert_eq!(found["parentObservationId"], *sent.parent, "{found:#}");
    assert_eq!(found["type"], "GENERATION", "{found:#}");
    assert_eq!(found["model"], MODEL, "{found:#}");
    assert_eq!(found["promptTokens"], 21, "{found:#}");
    assert_eq!(found["completionTokens"], 9, "{found:#}");
    assert_eq!(found["totalCost"], 0.0005, "{found:#}");
    assert!(found["input"].to_string().contains("hello langfuse"), "{found:#}");
    assert!(found["output"].to_string().contains("answer to hello langfuse"), "{found:#}");
}
