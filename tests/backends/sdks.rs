//! Real clients: the OpenTelemetry SDK by HTTP and gRPC, the Langfuse SDK.

use std::path::PathBuf;

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY};

use crate::python::{run_json, venv};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tracecast-under-test");

/// The environment with the OpenTelemetry SDK.
pub(crate) fn otel_sdk() -> PathBuf {
    venv(
        "otel",
        &[
            "opentelemetry-sdk==1.45.2",
            "opentelemetry-exporter-otlp-proto-http==1.45.2",
            "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
        ],
    )
}

/// Sends `count` requests (two spans each) through the SDK; returns the (trace id, span id) pairs.
pub(crate) fn send(gateway: &Gateway, protocol: &str, service: &str, prompt: &str, count: u32) -> Vec<(String, String)> {
    let endpoint = match protocol {
        "http" => format!("{}/v1/traces", gateway.http),
        _ => format!("http://{}", gateway.grpc),
    };
    let count = count.to_string();
    let arguments = [protocol, &endpoint, INGEST_KEY, service, prompt, &count];
    let report = run_json(&otel_sdk(), "otel_sdk.py", &arguments);
    assert_eq!(report["flushed"], true, "{report}");
    let results = report["results"].as_array().expect("results");
    assert!(!results.is_empty() && results.iter().all(|r| r == "SUCCESS"), "{report}");
    let pair = |ids: &serde_json::Value| {
        (ids[0].as_str().expect("a trace id").to_owned(), ids[1].as_str().expect("a span id").to_owned())
    };
    report["ids"].as_array().expect("ids").iter().map(pair).collect()
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
    assert_eq!(sent.len(), 20);
    gateway.settled(&id, 20).await;
    let arrived: Vec<String> = sink.ids().iter().map(|id| tracecast_otlp::hex(id)).collect();
    for (_, span) in &sent {
        assert!(arrived.contains(span), "{span} did not arrive");
    }
    assert_eq!(sink.stats().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_langfuse_sdk_sends_unchanged() {
    let python = venv("langfuse", &["langfuse==5.0.4"]);
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "sink", json!({ "endpoint": url })).await;
    let report = run_json(&python, "langfuse_sdk.py", &[&gateway.http, INGEST_KEY, "hello"]);
    assert_eq!(report["auth"], true, "{report}");
    gateway.settled(&id, 2).await;
    let arrived: Vec<String> = sink.ids().iter().map(|id| tracecast_otlp::hex(id)).collect();
    for pair in report["ids"].as_array().expect("ids") {
        let span = pair[1].as_str().expect("a span id");
        assert!(arrived.iter().any(|a| a == span), "{span} did not arrive");
    }
}
