//! Events, routes and identity of the PostHog adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::PosthogConfig;

use super::Posthog;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Posthog {
    let config =
        PosthogConfig { api_key: secret("phc_12345678"), endpoint: url.into(), headers: headers(&[]) };
    Posthog::new(&config, &clients()).unwrap()
}

fn event(adapter: &Posthog, spans: &[tracecast_otlp::write::SpanBuilder]) -> Json {
    let preview = adapter.preview(&batch(vec![item(1, spans)])).remove(0);
    let body: Json = serde_json::from_slice(&preview.body).unwrap();
    body["batch"][0].clone()
}

#[test]
fn a_generation_is_an_ai_event() {
    let adapter = adapter("http://h");
    let event = event(&adapter, &[generation(1)]);
    assert_eq!(event["event"], "$ai_generation");
    assert_eq!(event["distinct_id"], "user-1");
    assert_eq!(event["timestamp"], "2026-01-15T10:41:00.500Z");
    for (key, value) in [
        ("$ai_trace_id", json!(TRACE_HEX)),
        ("$ai_span_id", json!("0101010101010101")),
        ("$ai_session_id", json!("session-9")),
        ("$ai_model", json!("claude-sonnet-4-20250514")),
        ("$ai_provider", json!("anthropic")),
        ("$ai_input", json!([{"role": "user", "content": "Hi"}])),
        ("$ai_input_tokens", json!(100)),
        ("$ai_output_tokens", json!(40)),
        ("$ai_reasoning_tokens", json!(15)),
        ("$ai_cache_read_input_tokens", json!(30)),
        ("$ai_total_cost_usd", json!(0.0035)),
        ("$ai_latency", json!(1.5)),
        ("$ai_is_error", json!(false)),
        ("$ai_stop_reason", json!("stop")),
        ("$geoip_disable", json!(true)),
        ("trace_name", json!("Checkout")),
        ("metadata_team", json!("search")),
        ("metadata_environment", json!("Production EU")),
    ] {
        assert_eq!(event["properties"][key], value, "{key}");
    }
    // Messages, not the choices of an answer.
    let message = &event["properties"]["$ai_output_choices"][0];
    assert_eq!((&message["role"], &message["content"]), (&json!("assistant"), &json!("Hello")));
}

#[test]
fn names_of_events_persons_and_depth() {
    let adapter = adapter("http://h");
    let root = span(1, &[("trace.metadata.deep", r#"x"#.into())]);
    let anonymous = event(&adapter, std::slice::from_ref(&root));
    assert_eq!(anonymous["event"], "$ai_trace");
    assert_eq!(anonymous["distinct_id"], TRACE_HEX);
    assert_eq!(anonymous["properties"]["$process_person_profile"], false);
    let mut child = root;
    child.parent_span_id = Some([9; 8]);
    assert_eq!(event(&adapter, &[child])["event"], "$ai_span");
    let embedding = span(
        1,
        &[("gen_ai.operation.name", "embeddings".into()), ("gen_ai.request.model", "embed-1".into())],
    );
    assert_eq!(event(&adapter, &[embedding])["event"], "$ai_embedding");
    use tracecast_otlp::write::OwnedValue::Map;
    let level = |value| Map(vec![("a".into(), value)]);
    let nested = level(level(level(level("deep".into()))));
    let deep = event(&adapter, &[span(1, &[("trace.metadata.nested", nested)])]);
    assert_eq!(deep["properties"]["metadata_nested"], json!({"a": {"a": {"a": "[truncated]"}}}));
}

#[tokio::test]
async fn the_older_route_after_a_404_with_the_same_identity() {
    let server = Server::start(vec![(404, "", b""), (200, "", b"{}")]).await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    let targets: Vec<&str> = received.iter().map(|received| received.target.as_str()).collect();
    assert_eq!(targets, ["/i/v0/ai/batch/", "/batch/", "/batch/"]);
    let bodies: Vec<Json> =
        received.iter().map(|received| serde_json::from_slice(&gunzip(&received.body)).unwrap()).collect();
    assert_eq!(bodies[0], bodies[2]);
    assert_eq!(bodies[0]["api_key"], "phc_12345678");
    assert_eq!(bodies[0]["historical_migration"], false);
    assert!(bodies[0]["batch"][0]["uuid"].as_str().unwrap().len() == 36);
    assert!(!format!("{adapter:?}").contains("phc_1234"));
}

#[tokio::test]
async fn the_test_asks_who_knows_tokens() {
    let server = Server::start(vec![(200, "", b"{}"), (401, "", b"{}"), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::NotFound);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/flags/?v=2");
    let body: Json = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body["api_key"], "phc_12345678");
}

#[tokio::test]
async fn an_event_too_large_for_its_route_is_not_sent() {
    let server = Server::start(vec![(404, "", b"")]).await;
    let adapter = adapter(&server.url);
    let with = |n: u8, bytes: usize| {
        let mut span = generation(n);
        span.attributes.push(("trace.metadata.large".into(), "x".repeat(bytes).as_str().into()));
        span
    };
    let largest = batch(vec![item(1, &[with(1, 8 << 20)])]);
    assert!(matches!(adapter.send(&largest).await.answer, Answer::Isolate { by_size: true, .. }));
    assert!(server.received().is_empty());
    // Small enough for the AI lane, which is not there.
    let large = batch(vec![item(1, &[generation(1), with(2, 900 << 10), generation(3)])]);
    assert!(matches!(adapter.send(&large).await.answer, Answer::Retry(_)));
    assert!(matches!(adapter.send(&large).await.answer, Answer::Isolate { by_size: true, .. }));
    assert_eq!(server.received().len(), 1);
}
