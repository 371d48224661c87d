//! Headers, words and answers of the LangSmith adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::LangsmithConfig;

use super::Langsmith;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Langsmith {
    let config = LangsmithConfig {
        api_key: secret("lsv2_12345678"),
        endpoint: url.into(),
        project: "shop".into(),
        workspace_id: Some("ws-1".into()),
        headers: headers(&[]),
    };
    Langsmith::new(&config, &clients()).unwrap()
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
