//! Headers, dialect and answers of the Langfuse adapter.

use serde_json::{Value as Json, json};
use tracecast_destination::LangfuseConfig;
use tracecast_otlp::write::OwnedValue;

use super::{Langfuse, response};
use crate::family::redact::Redactor;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(base_url: &str) -> Langfuse {
    let config = LangfuseConfig {
        public_key: secret("pk-lf-1234567890"),
        secret_key: secret("sk-lf-0987654321"),
        base_url: base_url.into(),
        headers: headers(&[("x-team", "t"), ("authorization", "Bearer forged")]),
    };
    Langfuse::new(&config, &clients()).unwrap()
}

/// The spans as they are sent.
fn sent(
    spans: &[tracecast_otlp::write::SpanBuilder],
    private: bool,
) -> Vec<opentelemetry_proto::tonic::trace::v1::Span> {
    let mut item = item(1, spans);
    item.private = private;
    let body = adapter("http://h").preview(&batch(vec![item])).remove(0).body;
    all_spans(&decode(&body)).into_iter().cloned().collect()
}

fn parsed(span: &opentelemetry_proto::tonic::trace::v1::Span, key: &str) -> Json {
    serde_json::from_str(&attribute(span, key).unwrap()).unwrap()
}

#[tokio::test]
async fn request_is_authorised_packed_and_marked() {
    let server = Server::start(vec![(200, "content-type: application/json\r\n", br#"{"queued":1}"#)]).await;
    let adapter = adapter(&format!("{}/", server.url));
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(sent.answer, Answer::Delivered);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/api/public/otel/v1/traces");
    // base64("pk-lf-1234567890:sk-lf-0987654321")
    assert_eq!(received.header("authorization"), "Basic cGstbGYtMTIzNDU2Nzg5MDpzay1sZi0wOTg3NjU0MzIx");
    assert_eq!(received.header("x-langfuse-ingestion-version"), "4");
    assert_eq!(received.header("x-langfuse-public-key"), "pk-lf-1234567890");
    assert_eq!(received.header("x-langfuse-sdk-name"), "tracecast");
    assert_eq!(received.header("x-team"), "t");
    assert_eq!(received.header("content-type"), "application/x-protobuf");
    assert_eq!(received.header("content-encoding"), "gzip");
    assert_eq!(sent.bytes, received.body.len() as u64);
    assert_eq!(all_spans(&decode(&gunzip(&received.body))).len(), 1);
    let shown = format!("{adapter:?}{:?}", adapter.preview(&batch(vec![])));
    assert!(!shown.contains("sk-lf") && !shown.contains("pk-lf") && !shown.contains("cGst"), "{shown}");
}

#[test]
fn generation_is_said_in_langfuse_words() {
    let span = sent(&[generation(1)], false).remove(0);
    let text = |key: &str| attribute(&span, key);
    assert_eq!(text("langfuse.observation.type").as_deref(), Some("generation"));
    assert_eq!(text("langfuse.trace.name").as_deref(), Some("Checkout"));
    assert_eq!(text("langfuse.user.id").as_deref(), Some("user-1"));
    assert_eq!(text("langfuse.session.id").as_deref(), Some("session-9"));
    assert_eq!(text("langfuse.environment").as_deref(), Some("production-eu"));
    assert_eq!(text("langfuse.trace.metadata.team").as_deref(), Some("search"));
    assert_eq!(text("langfuse.observation.model.name").as_deref(), Some("claude-sonnet-4-20250514"));
    // Parts are taken out of the totals: 100 - 30 - 20 and 40 - 15.
    assert_eq!(
        parsed(&span, "langfuse.observation.usage_details"),
        json!({"input": 50, "output": 25, "total": 140, "input_cached_tokens": 30,
               "input_cache_creation": 20, "output_reasoning_tokens": 15})
    );
    assert_eq!(
        parsed(&span, "langfuse.observation.cost_details"),
        json!({"input": 0.001, "output": 0.0025, "total": 0.0035})
    );
    assert_eq!(
        parsed(&span, "langfuse.observation.input"),
        json!({"messages": [{"role": "user", "content": "Hi"}]})
    );
    assert!(text("langfuse.observation.output").unwrap().contains("Hello"));
    // Whatever stands under this prefix is counted as a kind of token.
    let counted = span.attributes.iter().find(|a| a.key.starts_with("gen_ai.usage."));
    assert_eq!(counted, None);
    assert_eq!(text("gen_ai.prompt"), None);
    assert_eq!(text("gen_ai.request.model").as_deref(), Some("anthropic/claude-sonnet-4"));
    assert_eq!(text("user.id").as_deref(), Some("user-1"));
}

#[test]
fn what_the_sender_said_itself_stays() {
    let mut own = generation(1);
    own.attributes.extend(attributes(&[
        ("langfuse.observation.type", "agent".into()),
        ("langfuse.observation.usage_details", r#"{"input":1}"#.into()),
        ("langfuse.environment", "mine".into()),
        ("langfuse.observation.input", "\"mine\"".into()),
        ("langfuse.trace.tags", OwnedValue::Array(vec!["a".into(), "b".into()])),
    ]));
    let span = sent(&[own], false).remove(0);
    assert_eq!(attribute(&span, "langfuse.observation.type").as_deref(), Some("agent"));
    assert_eq!(parsed(&span, "langfuse.observation.usage_details"), json!({"input": 1}));
    assert_eq!(attribute(&span, "langfuse.environment").as_deref(), Some("mine"));
    assert_eq!(attribute(&span, "langfuse.observation.input").as_deref(), Some("\"mine\""));
    assert!(attribute(&span, "langfuse.trace.tags").is_some());
}

#[test]
fn wrappers_count_nothing() {
    let kinds = |pairs: &[(&str, OwnedValue)]| {
        let span = sent(&[span(1, pairs)], false).remove(0);
        assert_eq!(attribute(&span, "langfuse.observation.usage_details"), None);
        attribute(&span, "langfuse.observation.type").unwrap()
    };
    assert_eq!(kinds(&[("span.type", "span".into())]), "span");
    assert_eq!(kinds(&[("span.type", "span".into()), ("gen_ai.operation.name", "chat".into())]), "span");
    assert_eq!(kinds(&[("gen_ai.operation.name", "execute_tool".into())]), "tool");
    assert_eq!(
        kinds(&[("gen_ai.operation.name", "invoke_agent".into()), ("gen_ai.usage.input_tokens", 5.into()),]),
        "agent"
    );
    assert_eq!(kinds(&[("openinference.span.kind", "RETRIEVER".into())]), "retriever");
}

#[test]
fn environments_fit_or_are_made_to() {
    let environment = |name: &str| {
        let pairs = [("langfuse.x", "".into()), ("deployment.environment.name", name.into())];
        attribute(&sent(&[span(1, &pairs)], false).remove(0), "langfuse.environment")
    };
    assert_eq!(environment("prod").as_deref(), Some("prod"));
    assert_eq!(environment("Staging/EU 1").as_deref(), Some("staging-eu-1"));
    assert_eq!(environment("langfuse-x").as_deref(), Some("env-langfuse-x"));
    assert_eq!(environment(&"a".repeat(60)), Some("a".repeat(40)));
}

#[test]
fn private_spans_have_no_input_and_output_but_all_figures() {
    let span = sent(&[generation(1)], true).remove(0);
    assert_eq!(attribute(&span, "langfuse.observation.input"), None);
    assert_eq!(attribute(&span, "langfuse.observation.output"), None);
    assert_eq!(attribute(&span, "gen_ai.completion"), None);
    assert_eq!(parsed(&span, "langfuse.observation.usage_details")["total"], 140);
    assert_eq!(parsed(&span, "langfuse.observation.cost_details")["total"], 0.0035);
    assert_eq!(attribute(&span, "langfuse.trace.metadata.team").as_deref(), Some("search"));
}

#[test]
fn answers() {
    let two = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let answer = |status, body: &str| {
        let reply = reply(status, "application/json", body.as_bytes());
        response::answer(&two, &reply, &Redactor::default())
    };
    assert_eq!(answer(200, "{}"), Answer::Delivered);
    assert_eq!(answer(207, r#"{"successes":[{"id":"a","status":201}],"errors":[]}"#), Answer::Delivered);
    assert_eq!(answer(207, "?"), Answer::Delivered);
    assert_eq!(
        answer(207, r#"{"successes":[],"errors":[{"id":"a","status":400,"message":"bad"}]}"#),
        Answer::Partial { refused: 1, message: "bad".into() }
    );
    assert!(matches!(
        answer(207, r#"{"errors":[{"id":"a","status":400},{"id":"b","status":503,"error":"db"}]}"#),
        Answer::Retry(_)
    ));
    assert!(matches!(answer(207, r#"{"errors":[{"id":"a","status":401}]}"#), Answer::Auth(_)));
    // One bad span refuses the whole body.
    assert!(matches!(
        answer(400, r#"{"error":"Failed to parse: the entire export was rejected"}"#),
        Answer::Isolate { by_size: false, .. }
    ));
    assert!(matches!(answer(401, ""), Answer::Auth(_)));
    assert!(matches!(answer(403, "Ingestion suspended"), Answer::Auth(_)));
    assert!(matches!(answer(404, ""), Answer::Config(_)));
    assert!(matches!(answer(413, ""), Answer::Isolate { by_size: true, .. }));
    assert!(matches!(answer(500, ""), Answer::Retry(_)));
}

#[tokio::test]
async fn test_is_an_empty_json_export() {
    let server = Server::start(vec![(200, "", b"{}"), (401, "", b"{}"), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::NotFound);
    assert!(report.hint.contains("version 3"), "{}", report.hint);
    for received in server.received() {
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.headers.get("content-encoding"), None);
        assert_eq!(received.body, br#"{"resourceSpans":[]}"#);
    }
}

#[test]
fn ids_that_langfuse_would_drop_are_cut() {
    let mut long = generation(1);
    long.attributes.retain(|(key, _)| key != "session.id");
    long.attributes.push(("session.id".into(), "ü".repeat(201).as_str().into()));
    let span = sent(&[long], false).remove(0);
    let session = attribute(&span, "langfuse.session.id").unwrap();
    assert_eq!(session.chars().count(), 200);
    assert!(session.ends_with("[truncated]"), "{session}");
    assert_eq!(attribute(&span, "langfuse.trace.metadata.session.id.truncated").as_deref(), Some("true"));
    assert_eq!(attribute(&span, "langfuse.trace.metadata.user.id.truncated"), None);
}
