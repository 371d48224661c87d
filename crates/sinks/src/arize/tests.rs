//! Headers, project and OpenInference words of the Arize adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::ArizeConfig;

use super::Arize;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(base_url: &str) -> Arize {
    let config = ArizeConfig {
        api_key: secret("ak-12345678"),
        space_key: secret("space-87654321"),
        model_id: "shop".into(),
        base_url: base_url.into(),
        headers: headers(&[]),
    };
    Arize::new(&config, &clients()).unwrap()
}

#[tokio::test]
async fn key_space_and_project() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert_eq!(adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer, Answer::Delivered);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/v1/traces");
    // Without a scheme: that is how Arize wants it.
    assert_eq!(received.header("authorization"), "ak-12345678");
    assert_eq!(received.header("arize-space-id"), "space-87654321");
    assert_eq!(received.header("space_key"), "space-87654321");
    let request = decode(&gunzip(&received.body));
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let projects: Vec<_> = resource
        .attributes
        .iter()
        .filter(|attribute| attribute.key == "openinference.project.name")
        .collect();
    assert_eq!(projects.len(), 1);
    assert!(format!("{:?}", projects[0].value).contains("shop"));
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"));
    let shown = format!("{adapter:?}");
    assert!(!shown.contains("ak-1234") && !shown.contains("space-8765"), "{shown}");
}

#[test]
fn a_chat_is_said_in_openinference_words() {
    let sent = spans_sent(&adapter("http://h"), item(1, &[generation(1)])).remove(0);
    for (key, value) in [
        ("openinference.span.kind", "LLM"),
        ("llm.model_name", "claude-sonnet-4-20250514"),
        ("llm.provider", "anthropic"),
        ("llm.token_count.prompt", "100"),
        ("llm.token_count.completion", "40"),
        ("llm.token_count.total", "140"),
        ("llm.token_count.prompt_details.cache_read", "30"),
        ("llm.token_count.prompt_details.cache_write", "20"),
        ("llm.token_count.completion_details.reasoning", "15"),
        ("llm.cost.prompt", "0.001"),
        ("llm.cost.completion", "0.0025"),
        ("llm.cost.total", "0.0035"),
        ("llm.input_messages.0.message.role", "user"),
        ("llm.input_messages.0.message.content", "Hi"),
        ("llm.output_messages.0.message.role", "assistant"),
        ("llm.output_messages.0.message.content", "Hello"),
        ("input.mime_type", "application/json"),
        ("user.id", "user-1"),
        ("session.id", "session-9"),
    ] {
        assert_eq!(attribute(&sent, key).as_deref(), Some(value), "{key}");
    }
    let parsed = |key: &str| -> Json { serde_json::from_str(&attribute(&sent, key).unwrap()).unwrap() };
    assert_eq!(parsed("llm.invocation_parameters"), json!({"temperature": 0.5}));
    assert_eq!(parsed("metadata")["team"], "search");
    assert_eq!(parsed("metadata")["environment"], "Production EU");
}

#[test]
fn tool_calls_of_both_sides_are_taken_apart() {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"q\":1}"}});
    let prompt = json!({"messages": [
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]});
    let answer = json!({"completion": null, "reasoning": null, "toolCalls": [call]});
    let mut span = generation(1);
    span.attributes.retain(|(key, _)| !matches!(key.as_str(), "gen_ai.prompt" | "gen_ai.completion"));
    span.attributes.extend(attributes(&[
        ("gen_ai.prompt", prompt.to_string().into()),
        ("gen_ai.completion", answer.to_string().into()),
    ]));
    let sent = spans_sent(&adapter("http://h"), item(1, &[span])).remove(0);
    for message in ["llm.input_messages.0.message", "llm.output_messages.0.message"] {
        let text = |key: &str| attribute(&sent, &format!("{message}.tool_calls.0.tool_call.{key}"));
        assert_eq!(text("id").as_deref(), Some("c1"), "{message}");
        assert_eq!(text("function.name").as_deref(), Some("find"), "{message}");
        assert_eq!(text("function.arguments").as_deref(), Some("{\"q\":1}"), "{message}");
    }
    assert_eq!(attribute(&sent, "llm.input_messages.1.message.tool_call_id").as_deref(), Some("c1"));
}

#[test]
fn what_the_sender_said_in_these_words_stays() {
    let own = span(
        1,
        &[
            ("openinference.span.kind", "AGENT".into()),
            ("llm.model_name", "mine".into()),
            ("llm.input_messages.0.message.role", "system".into()),
            ("input.value", "mine".into()),
            ("metadata", "{\"a\":1}".into()),
        ],
    );
    let sent = spans_sent(&adapter("http://h"), item(1, &[own])).remove(0);
    for (key, value) in [
        ("openinference.span.kind", "AGENT"),
        ("llm.model_name", "mine"),
        ("llm.input_messages.0.message.role", "system"),
        ("input.value", "mine"),
        ("metadata", "{\"a\":1}"),
    ] {
        assert_eq!(attribute(&sent, key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn tests_tell_what_is_wrong() {
    let server = Server::start(vec![(200, "", b""), (401, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::NotFound);
    assert!(report.hint.contains("otlp.arize.com"), "{}", report.hint);
}
