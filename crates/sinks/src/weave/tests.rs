//! Calls, routes and answers of the Weave adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::WeaveConfig;

use super::Weave;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Weave {
    let config = WeaveConfig {
        api_key: secret("wb-12345678"),
        entity: "team".into(),
        project: "shop".into(),
        base_url: url.into(),
        headers: headers(&[]),
    };
    Weave::new(&config, &clients()).unwrap()
}

fn call(spans: &[tracecast_otlp::write::SpanBuilder]) -> Json {
    let preview = adapter("http://h").preview(&batch(vec![item(1, spans)])).remove(0);
    let body: Json = serde_json::from_slice(&preview.body).unwrap();
    body["batch"][0].clone()
}

#[test]
fn a_generation_is_a_completed_call() {
    let call = call(&[generation(1)]);
    for (pointer, value) in [
        ("/project_id", json!("team/shop")),
        ("/id", json!("0101010101010101")),
        ("/trace_id", json!(TRACE_HEX)),
        ("/op_name", json!("span 1")),
        ("/display_name", json!("Checkout")),
        ("/thread_id", json!("session-9")),
        ("/started_at", json!("2026-01-15T10:41:00.500Z")),
        ("/ended_at", json!("2026-01-15T10:41:02.000Z")),
        ("/inputs/model", json!("anthropic/claude-sonnet-4")),
        ("/inputs/messages/0/content", json!("Hi")),
        ("/inputs/temperature", json!(0.5)),
        ("/output/choices/0/message/content", json!("Hello")),
        ("/output/usage/total_tokens", json!(140)),
        ("/attributes/user_id", json!("user-1")),
        ("/attributes/team", json!("search")),
        ("/attributes/cost", json!(0.0035)),
        ("/summary/usage/claude-sonnet-4-20250514/prompt_tokens", json!(100)),
        ("/summary/usage/claude-sonnet-4-20250514/requests", json!(1)),
        ("/summary/status_counts", json!({"success": 1, "error": 0})),
        ("/summary/cost_usd", json!(0.0035)),
    ] {
        assert_eq!(call.pointer(pointer), Some(&value), "{pointer}");
    }
}

#[test]
fn a_text_that_weave_would_replace_is_cut() {
    let mut long = generation(1);
    long.attributes.retain(|(key, _)| key != "gen_ai.prompt");
    let message = json!({"messages": [{"role": "user", "content": "x".repeat(1_000_000)}]}).to_string();
    long.attributes.push(("gen_ai.prompt".into(), message.into()));
    let call = call(&[long]);
    let content = call.pointer("/inputs/messages/0/content").unwrap().as_str().unwrap();
    assert_eq!(content.len(), 900_000);
    assert!(content.ends_with("[truncated]"));
    assert_eq!(call["attributes"]["inputs.truncated"], true);
    assert_eq!(call["attributes"]["output.truncated"], Json::Null);
}

#[tokio::test]
async fn routes_are_changed_both_ways() {
    let server = Server::start(vec![
        (404, "", b""),
        (200, "", b"{}"),
        (400, "", br#"{"error_code":"CALLS_COMPLETE_MODE_REQUIRED"}"#),
        (200, "", b"{}"),
        (422, "", b"{}"),
    ])
    .await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { .. }));
    let received = server.received();
    let targets: Vec<&str> = received.iter().map(|received| received.target.as_str()).collect();
    let (complete, upsert) = ("/v2/team/shop/calls/complete", "/call/upsert_batch");
    assert_eq!(targets, [complete, upsert, upsert, complete, complete]);
    // base64("api:wb-12345678")
    assert_eq!(received[0].header("authorization"), "Basic YXBpOndiLTEyMzQ1Njc4");
    let upserted: Json = serde_json::from_slice(&received[1].body).unwrap();
    assert_eq!(upserted["batch"][0]["req"]["start"]["op_name"], "span 1");
    assert_eq!(upserted["batch"][1]["req"]["end"]["id"], "0101010101010101");
    assert_eq!(upserted["batch"][1]["req"]["end"]["summary"]["status_counts"]["success"], 1);
    assert_eq!(upserted["batch"][1]["req"]["end"].get("inputs"), None);
    assert!(!format!("{adapter:?}").contains("wb-1234"));
}

#[tokio::test]
async fn the_test_counts_calls() {
    // An older server does not know the route of completed calls: no mistake of the user's.
    let server = Server::start(vec![(200, "", b"{}"), (404, "", b""), (401, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(server.received()[1].body, br#"{"batch":[]}"#);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::NotFound);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/calls/query_stats");
    assert_eq!(received.body, br#"{"limit":1,"project_id":"team/shop"}"#);
}
