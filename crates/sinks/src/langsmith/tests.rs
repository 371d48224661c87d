//! Headers, words and answers of the LangSmith adapter.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tracecast_destination::LangsmithConfig;
use tracecast_otlp::Payload;
use tracecast_otlp::write::{SpanBuilder, resource_spans};

use super::Langsmith;
use crate::testing::*;
use crate::{Adapter, Answer, BuildError, Diagnosis, Item, ItemAnswer};

fn adapter_with(url: &str, own_headers: &[(&str, &str)]) -> Result<Langsmith, BuildError> {
    let config = LangsmithConfig {
        api_key: secret("lsv2_12345678"),
        endpoint: url.into(),
        project: "shop".into(),
        workspace_id: Some("ws-1".into()),
        headers: headers(own_headers),
    };
    Langsmith::new(&config, &clients())
}

fn adapter(url: &str) -> Langsmith {
    adapter_with(url, &[("X-Tracecast-Encoding", "otlp")]).unwrap()
}

/// A request of this scope.
fn request(sequence: u64, scope: &str, spans: &[SpanBuilder]) -> Item {
    let mut bytes = Vec::new();
    resource_spans(&attributes(&[]), scope, "1", spans, &mut bytes);
    let payload = Payload::new(bytes.into(), u32::try_from(spans.len()).unwrap());
    Item { payload: Arc::new(payload), ..item(sequence, spans) }
}

fn child_of(parent: u8, n: u8) -> SpanBuilder {
    SpanBuilder { parent_span_id: Some([parent; 8]), start_unix_nano: START - 1_000_000, ..generation(n) }
}

#[test]
fn whole_traces_go_as_runs_and_pieces_by_otlp() {
    let adapter = adapter_with("http://h", &[]).unwrap();
    let ways = |items: Vec<Item>| -> String {
        let urls: Vec<String> =
            adapter.preview(&batch(items)).into_iter().map(|preview| preview.url).collect();
        urls.join(" ")
    };
    let (runs, otlp) = ("http://h/runs/multipart", "http://h/otel/v1/traces");
    let whole = || request(1, "openrouter", &[child_of(1, 2), generation(1)]);
    assert_eq!(ways(vec![whole()]), runs);
    assert_eq!(ways(vec![request(1, "tracecast", &[generation(1)])]), runs);
    // A root alone may have children that came before.
    assert_eq!(ways(vec![request(1, "opentelemetry", &[generation(1)])]), otlp);
    // A parent that is somewhere else.
    assert_eq!(ways(vec![request(1, "openrouter", &[child_of(1, 2)])]), otlp);
    assert_eq!(ways(vec![whole(), request(2, "x", &[generation(3)])]), format!("{runs} {otlp}"));
}

#[tokio::test]
async fn what_is_sent_in_two_ways_is_answered_as_one() {
    let server = Server::answering(|_, received| match received.target.as_str() {
        "/runs/multipart" => Some((202, String::new(), Vec::new())),
        _ => Some((503, String::new(), Vec::new())),
    })
    .await;
    let adapter = adapter_with(&server.url, &[]).unwrap();
    let two = batch(vec![request(1, "x", &[generation(1)]), request(2, "tracecast", &[generation(2)])]);
    assert!(matches!(adapter.send(&two).await.answer, Answer::Retry(_)));
    // The record that cannot be read is refused where it stands.
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter_with(&server.url, &[]).unwrap();
    let three = batch(vec![
        request(1, "tracecast", &[generation(1)]),
        damaged_item(2),
        request(3, "x", &[generation(3)]),
    ]);
    let Answer::PerItem(items) = adapter.send(&three).await.answer else { panic!() };
    assert_eq!(items[0], ItemAnswer::Delivered);
    assert!(matches!(items[1], ItemAnswer::Refused(_)));
    assert_eq!(items[2], ItemAnswer::Delivered);
}

#[test]
fn a_run_names_its_way_up_in_time_order() {
    let adapter = adapter_with("http://h", &[]).unwrap();
    let item = request(1, "openrouter", &[generation(1), child_of(1, 2), child_of(2, 3)]);
    let preview = adapter.preview(&batch(vec![item])).remove(0);
    let content_type = &preview.headers.iter().find(|(name, _)| name == "content-type").unwrap().1;
    let parts = multipart(content_type, &preview.body);
    let runs: Vec<&Json> =
        parts.iter().filter(|(name, _)| name.matches('.').count() == 1).map(|(_, run)| run).collect();
    assert_eq!(runs.len(), 3);
    let root = runs.iter().find(|run| run["parent_run_id"].is_null()).unwrap();
    assert_eq!(root["id"], root["trace_id"]);
    for run in &runs {
        assert_eq!(run["trace_id"], root["id"]);
        let steps: Vec<&str> = run["dotted_order"].as_str().unwrap().split('.').collect();
        // The clock of the children is behind that of the root; their order is not.
        assert!(steps.iter().all(|step| step.starts_with("20260115T104100500000Z")), "{steps:?}");
        assert!(steps[0].ends_with(root["id"].as_str().unwrap()));
        assert!(steps.last().unwrap().ends_with(run["id"].as_str().unwrap()));
        if let Some(parent) = run["parent_run_id"].as_str() {
            assert!(steps[steps.len() - 2].ends_with(parent));
        }
    }
}

#[tokio::test]
async fn older_servers_get_runs_as_json() {
    let server = Server::start(vec![(404, "", b""), (202, "", b"{}")]).await;
    let adapter = adapter_with(&server.url, &[("x-tracecast-encoding", "multipart")]).unwrap();
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received().remove(1);
    assert_eq!(received.target, "/runs/batch");
    assert!(received.header("x-tracecast-encoding").is_empty());
    let body: Json = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body["post"][0]["outputs"]["usage_metadata"]["total_cost"], 0.0035);
    assert_eq!(body["patch"], json!([]));
}

#[test]
fn an_encoding_that_does_not_exist_is_refused() {
    let error = adapter_with("http://h", &[("x-tracecast-encoding", "json")]).unwrap_err().to_string();
    assert!(error.contains("multipart or otlp"), "{error}");
}

#[test]
fn a_generation_is_an_llm_run_with_usage_and_cost() {
    let sent = spans_sent(&adapter("http://h"), item(1, &[generation(1)])).remove(0);
    for (key, value) in [
        ("langsmith.span.kind", "llm"),
        ("langsmith.trace.name", "Checkout"),
        ("langsmith.metadata.session_id", "session-9"),
        ("langsmith.metadata.user_id", "user-1"),
        ("langsmith.metadata.team", "search"),
        ("langsmith.metadata.ls_provider", "anthropic"),
        ("langsmith.metadata.ls_model_name", "claude-sonnet-4-20250514"),
        ("gen_ai.system", "anthropic"),
        ("gen_ai.usage.input_tokens", "100"),
    ] {
        assert_eq!(attribute(&sent, key).as_deref(), Some(value), "{key}");
    }
    let parsed = |key: &str| -> Json { serde_json::from_str(&attribute(&sent, key).unwrap()).unwrap() };
    assert_eq!(parsed("gen_ai.prompt"), json!({"messages": [{"role": "user", "content": "Hi"}]}));
    let output = parsed("gen_ai.completion");
    assert_eq!(output["choices"][0]["message"]["content"], "Hello");
    assert_eq!(
        output["usage_metadata"],
        json!({"input_tokens": 100, "output_tokens": 40, "total_tokens": 140,
               "input_token_details": {"cache_read": 30, "cache_creation": 20},
               "output_token_details": {"reasoning": 15},
               "input_cost": 0.001, "output_cost": 0.0025, "total_cost": 0.0035})
    );
}

#[test]
fn a_private_run_keeps_its_figures() {
    let mut private = item(1, &[generation(1)]);
    private.private = true;
    let sent = spans_sent(&adapter("http://h"), private).remove(0);
    assert_eq!(attribute(&sent, "gen_ai.prompt"), None);
    let output: Json = serde_json::from_str(&attribute(&sent, "gen_ai.completion").unwrap()).unwrap();
    assert_eq!(output["usage_metadata"]["total_cost"], 0.0035);
    assert_eq!(output.as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn key_project_and_workspace_travel_as_headers() {
    let server = Server::start(vec![(200, "", b"{}"), (409, "", b""), (403, "", b"")]).await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("workspaceId"), "{}", report.hint);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/otel/v1/traces");
    assert_eq!(received.header("x-api-key"), "lsv2_12345678");
    assert_eq!(received.header("langsmith-project"), "shop");
    assert_eq!(received.header("x-tenant-id"), "ws-1");
    assert!(!format!("{adapter:?}").contains("lsv2_1234"));
}
