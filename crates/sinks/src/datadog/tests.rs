//! Spans, answers and the test of the Datadog adapter.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracecast_destination::DatadogConfig;

use super::Datadog;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis, ItemAnswer};

fn adapter(url: &str) -> Datadog {
    let config = DatadogConfig {
        api_key: secret("dd-12345678"),
        ml_app: "shop".into(),
        url: url.into(),
        headers: headers(&[]),
    };
    Datadog::new(&config, &clients()).unwrap()
}

fn body(spans: &[tracecast_otlp::write::SpanBuilder]) -> Json {
    let preview = adapter("http://h").preview(&batch(vec![item(1, spans)])).remove(0);
    serde_json::from_slice(&preview.body).unwrap()
}

#[test]
fn a_generation_is_an_llm_span() {
    let body = body(&[generation(1)]);
    assert_eq!(body["data"]["type"], "span");
    assert_eq!(body["data"]["attributes"]["ml_app"], "shop");
    let span = &body["data"]["attributes"]["spans"][0];
    for (pointer, value) in [
        ("/name", json!("span 1")),
        ("/span_id", json!("0101010101010101")),
        ("/trace_id", json!(TRACE_HEX)),
        ("/parent_id", json!("undefined")),
        ("/start_ns", json!(START)),
        ("/duration", json!(1.5e9)),
        ("/status", json!("ok")),
        ("/session_id", json!("session-9")),
        ("/meta/kind", json!("llm")),
        ("/meta/input/messages", json!([{"role": "user", "content": "Hi"}])),
        ("/meta/output/messages", json!([{"role": "assistant", "content": "Hello"}])),
        ("/meta/metadata/model_name", json!("claude-sonnet-4-20250514")),
        ("/meta/metadata/model_provider", json!("anthropic")),
        ("/meta/metadata/temperature", json!(0.5)),
        ("/meta/metadata/team", json!("search")),
        ("/metrics/input_tokens", json!(100.0)),
        ("/metrics/output_tokens", json!(40.0)),
        ("/metrics/cache_read_input_tokens", json!(30.0)),
        ("/metrics/reasoning_output_tokens", json!(15.0)),
        ("/metrics/total_cost", json!(0.0035)),
    ] {
        assert_eq!(span.pointer(pointer), Some(&value), "{pointer}");
    }
    let tags = span["tags"].as_array().unwrap();
    for tag in ["ml_app:shop", "user_id:user-1", "session_id:session-9"] {
        assert!(tags.contains(&json!(tag)), "{tags:?}");
    }
}

#[test]
fn tool_calls_and_failures() {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"q\":1}"}});
    let mut failed = generation(1);
    failed.attributes.retain(|(key, _)| key != "gen_ai.completion");
    let answer = json!({"completion": null, "reasoning": null, "toolCalls": [call]}).to_string();
    failed.attributes.push(("gen_ai.completion".into(), answer.into()));
    failed.attributes.push(("error.type".into(), "RateLimit".into()));
    failed.status_code = 2;
    failed.status_message = "slow down".into();
    failed.parent_span_id = Some([7; 8]);
    let body = body(&[failed]);
    let span = &body["data"]["attributes"]["spans"][0];
    assert_eq!(span["parent_id"], "0707070707070707");
    assert_eq!(span["status"], "error");
    assert_eq!(span["meta"]["error"], json!({"type": "RateLimit", "message": "slow down"}));
    let expected = json!([{"name": "find", "arguments": {"q": 1}, "tool_id": "c1", "type": "function"}]);
    assert_eq!(span["meta"]["output"]["messages"][0]["tool_calls"], expected);
}

/// As Datadog's SDK writes them (`llmobs/_integrations/utils.py`, `llmobs/utils.py`).
#[test]
fn what_a_tool_said_and_the_tools_that_were_offered() {
    let prompt =
        json!({"messages": [{"role": "tool", "tool_call_id": "c1", "name": "find", "content": "found"}]});
    let schema = json!({"type": "object"});
    let tools = json!([{"type": "function", "function": {"name": "find", "description": "looks", "parameters": schema}}]);
    let mut call = generation(1);
    call.attributes.retain(|(key, _)| key != "gen_ai.prompt");
    call.attributes.extend(attributes(&[
        ("gen_ai.prompt", prompt.to_string().into()),
        ("gen_ai.tool.definitions", tools.to_string().into()),
    ]));
    let body = body(&[call]);
    let meta = &body["data"]["attributes"]["spans"][0]["meta"];
    let result = json!([{"name": "find", "result": "found", "tool_id": "c1", "type": "tool_result"}]);
    assert_eq!(meta["input"]["messages"][0]["tool_results"], result);
    assert_eq!(meta["tool_definitions"], json!([{"name": "find", "description": "looks", "schema": schema}]));
}

#[tokio::test]
async fn spans_go_to_the_intake_with_the_key() {
    let server =
        Server::start(vec![(202, "", b""), (403, "", b""), (429, "x-ratelimit-reset: 9\r\n", b"")]).await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Auth(_)));
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
    let received = server.received().remove(0);
    assert_eq!(received.target, "/api/intake/llm-obs/v1/trace/spans");
    assert_eq!(received.header("dd-api-key"), "dd-12345678");
    assert!(!format!("{adapter:?}").contains("dd-1234"));
}

#[tokio::test]
async fn the_test_validates_the_key() {
    let server = Server::start(vec![
        (200, "", b"{\"valid\":true}"),
        (202, "", b""),
        (200, "", b"{\"valid\":true}"),
        (403, "", b""),
        (403, "", b""),
        (404, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("account's plan"), "{}", report.hint);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("site"), "{}", report.hint);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::NotFound);
    assert_eq!(server.received()[0].target, "/api/v1/validate");
}

#[tokio::test]
async fn an_agent_gets_what_the_sdk_sends_and_tells_what_it_takes() {
    let server = Server::start(vec![
        (200, "", b"{}"),
        (200, "", br#"{"version":"7.60","endpoints":["/v0.4/traces","/evp_proxy/v4/"]}"#),
        (200, "", br#"{"version":"7.10","endpoints":["/v0.4/traces"]}"#),
        (200, "", b"<html></html>"),
        (404, "", b""),
    ])
    .await;
    let adapter = adapter(&format!("{}/evp_proxy/v4/", server.url));
    let mut child = generation(2);
    child.parent_span_id = Some([1; 8]);
    assert_eq!(adapter.send(&batch(vec![item(1, &[generation(1), child])])).await.answer, Answer::Delivered);
    for (diagnosis, words) in [
        (Diagnosis::Ok, "its own API key"),
        (Diagnosis::Rejected, "no evp_proxy"),
        (Diagnosis::Rejected, "no Datadog agent"),
        (Diagnosis::NotFound, "no Datadog agent"),
    ] {
        let report = adapter.test().await;
        assert_eq!(report.diagnosis, diagnosis, "{}", report.hint);
        assert!(report.hint.contains(words), "{}", report.hint);
    }
    let received = server.received();
    assert_eq!(received[0].target, "/evp_proxy/v4/api/v2/llmobs");
    assert_eq!(received[0].header("x-datadog-evp-subdomain"), "llmobs-intake");
    assert_eq!(received[1].target, "/info");
    // The agent has a key of its own.
    assert!(received.iter().all(|received| received.header("dd-api-key").is_empty()));
    let envelopes: Json = serde_json::from_slice(&received[0].body).unwrap();
    let event = &envelopes[0]["spans"][0];
    for (pointer, value) in [
        ("/span_id", json!(0x0101_0101_0101_0101_u64.to_string())),
        ("/trace_id", json!(TRACE_HEX)),
        ("/parent_id", json!("undefined")),
        ("/duration", json!(1_500_000_000)),
        ("/meta/span/kind", json!("llm")),
        ("/meta/model_name", json!("claude-sonnet-4-20250514")),
        ("/meta/model_provider", json!("anthropic")),
        ("/meta/metadata/team", json!("search")),
        ("/metrics/total_cost", json!(0.0035)),
        ("/_dd/trace_id", json!(TRACE_HEX)),
    ] {
        assert_eq!(event.pointer(pointer), Some(&value), "{pointer}");
    }
    assert_eq!(event.pointer("/meta/kind").or(event.pointer("/meta/metadata/model_name")), None);
    assert_eq!(envelopes[1]["spans"][0]["parent_id"], 0x0101_0101_0101_0101_u64.to_string());
}

#[tokio::test]
async fn what_datadog_would_lose_is_not_sent() {
    let server = Server::start(vec![(202, "", b"")]).await;
    let adapter = adapter(&server.url);
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    let started = |n: u8, at: u64| {
        let mut span = generation(n);
        (span.start_unix_nano, span.end_unix_nano) = (at, at + 1);
        span
    };
    // The clock of the tests stands at RECEIVED.
    let (old, new) = (started(1, RECEIVED - DAY - 1), started(2, RECEIVED - DAY));
    let both = batch(vec![item(1, std::slice::from_ref(&old)), item(2, std::slice::from_ref(&new))]);
    let Answer::PerItem(answers) = adapter.send(&both).await.answer else { panic!() };
    assert!(matches!(&answers[0], ItemAnswer::Refused(why) if why.contains("24 h")), "{answers:?}");
    assert_eq!(answers[1], ItemAnswer::Delivered);
    let body: Json = serde_json::from_slice(&server.received()[0].body).unwrap();
    let spans = body["data"]["attributes"]["spans"].as_array().unwrap();
    assert_eq!((spans.len(), &spans[0]["span_id"]), (1, &json!("0202020202020202")));
    // In one request: to be told apart by halving.
    let mixed = adapter.send(&batch(vec![item(3, &[old, new])])).await;
    assert!(matches!(mixed.answer, Answer::Isolate { by_size: false, .. }), "{mixed:?}");

    let mut large = generation(3);
    large.attributes.push(("trace.metadata.large".into(), "x".repeat(5_000_000).as_str().into()));
    let large = adapter.send(&batch(vec![item(4, &[large])])).await;
    let Answer::Isolate { by_size: true, failure } = large.answer else { panic!("{large:?}") };
    assert!(failure.message.contains("5000000"), "{}", failure.message);
    assert_eq!(server.received().len(), 1);
}
