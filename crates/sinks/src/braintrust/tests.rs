//! Rows, routes and answers of the Braintrust adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::BraintrustConfig;

use super::Braintrust;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Braintrust {
    let config = BraintrustConfig {
        api_key: secret("bt-12345678"),
        project_id: "p 1".into(),
        base_url: url.into(),
        headers: headers(&[]),
    };
    Braintrust::new(&config, &clients()).unwrap()
}

fn rows(spans: &[tracecast_otlp::write::SpanBuilder]) -> Json {
    let preview = adapter("http://h").preview(&batch(vec![item(1, spans)])).remove(0);
    let body: Json = serde_json::from_slice(&preview.body).unwrap();
    body["events"].clone()
}

#[test]
fn a_generation_is_an_llm_row() {
    let row = &rows(&[generation(1)])[0];
    for (pointer, value) in [
        ("/id", json!(format!("{TRACE_HEX}-0101010101010101"))),
        ("/span_id", json!("0101010101010101")),
        ("/root_span_id", json!(TRACE_HEX)),
        ("/created", json!("2026-01-15T10:41:00.500Z")),
        ("/span_attributes", json!({"name": "span 1", "type": "llm"})),
        ("/input", json!([{"role": "user", "content": "Hi"}])),
        ("/output/0/message/content", json!("Hello")),
        ("/metadata/model", json!("claude-sonnet-4-20250514")),
        ("/metadata/model_slug", json!("anthropic/claude-sonnet-4")),
        ("/metadata/provider", json!("Amazon Bedrock")),
        ("/metadata/user_id", json!("user-1")),
        ("/metadata/session_id", json!("session-9")),
        ("/metadata/team", json!("search")),
        ("/metadata/temperature", json!(0.5)),
        ("/metrics/start", json!(1_768_473_660.5)),
        ("/metrics/end", json!(1_768_473_662.0)),
        ("/metrics/prompt_tokens", json!(100)),
        ("/metrics/completion_tokens", json!(40)),
        ("/metrics/tokens", json!(140)),
        ("/metrics/prompt_cached_tokens", json!(30)),
        ("/metrics/prompt_cache_creation_tokens", json!(20)),
        ("/metrics/completion_reasoning_tokens", json!(15)),
        ("/metrics/estimated_cost", json!(0.0035)),
    ] {
        assert_eq!(row.pointer(pointer), Some(&value), "{pointer}");
    }
    assert!(row["metrics"].as_object().unwrap().values().all(Json::is_number), "{row}");
    assert_eq!(row.get("span_parents"), None);
}

#[test]
fn children_errors_and_tools() {
    let mut tool =
        span(2, &[("gen_ai.operation.name", "execute_tool".into()), ("error.type", "Timeout".into())]);
    tool.parent_span_id = Some([1; 8]);
    tool.status_code = 2;
    tool.status_message = "took too long".into();
    let row = &rows(&[tool])[0];
    assert_eq!(row["span_parents"], json!(["0101010101010101"]));
    assert_eq!(row["span_attributes"]["type"], "tool");
    assert_eq!(row["error"], "Timeout: took too long");
}

#[tokio::test]
async fn rows_go_to_the_project_with_the_key() {
    let server =
        Server::start(vec![(200, "", b"{\"row_ids\":[]}"), (421, "", b""), (413, "", b""), (429, "", b"")])
            .await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Config(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { by_size: true, .. }));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    let received = server.received().remove(0);
    assert_eq!(received.target, "/v1/project_logs/p%201/insert");
    assert_eq!(received.header("authorization"), "Bearer bt-12345678");
    assert!(!format!("{adapter:?}").contains("bt-1234"));
}

#[tokio::test]
async fn the_test_reads_the_project_and_inserts_nothing() {
    let server = Server::start(vec![
        (200, "", b"{}"),
        (200, "", b"{\"row_ids\":[]}"),
        (401, "", b""),
        (404, "", b""),
        (200, "", b"{}"),
        (403, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    let report = adapter.test().await;
    assert!(report.hint.contains("not its name"), "{}", report.hint);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("may read but not write"), "{}", report.hint);
    let received = server.received();
    assert_eq!((received[0].method.as_str(), received[0].target.as_str()), ("GET", "/v1/project/p%201"));
    assert_eq!(received[1].target, "/v1/project_logs/p%201/insert");
    assert_eq!(received[1].body, br#"{"events":[]}"#);
}
