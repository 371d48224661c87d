//! Key, words and rate limits of the Sentry adapter.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracecast_destination::SentryConfig;

use super::Sentry;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Sentry {
    let config = SentryConfig {
        otlp_endpoint: format!("{url}/api/456/integration/otlp/v1/traces"),
        dsn: secret("https://0123456789abcdef@o1.ingest.sentry.io/456"),
        headers: headers(&[]),
    };
    Sentry::new(&config, &clients()).unwrap()
}

#[tokio::test]
async fn the_public_key_alone_travels() {
    let server = Server::start(vec![(202, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert_eq!(adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer, Answer::Delivered);
    let received = server.received().remove(0);
    assert_eq!(received.target, "/api/456/integration/otlp/v1/traces");
    assert_eq!(received.header("x-sentry-auth"), "sentry sentry_key=0123456789abcdef");
    assert!(!format!("{adapter:?}").contains("0123456789abcdef"));
}

#[test]
fn llm_calls_show_under_ai_agents() {
    let sent = spans_sent(&adapter("http://h"), item(1, &[generation(1)])).remove(0);
    for (key, value) in [
        ("sentry.op", "gen_ai.chat"),
        ("sentry.environment", "Production EU"),
        ("gen_ai.cost.total_tokens", "0.0035"),
        ("gen_ai.usage.total_tokens", "140"),
        ("gen_ai.request.model", "anthropic/claude-sonnet-4"),
    ] {
        assert_eq!(attribute(&sent, key).as_deref(), Some(value), "{key}");
    }
    let messages: Json = serde_json::from_str(&attribute(&sent, "gen_ai.input.messages").unwrap()).unwrap();
    assert_eq!(messages, json!([{"role": "user", "content": "Hi"}]));
    // A list of messages, whatever shape the answer came in (sentry-conventions, `gen_ai.output.messages`).
    let messages: Json = serde_json::from_str(&attribute(&sent, "gen_ai.output.messages").unwrap()).unwrap();
    assert_eq!(messages, json!([{"role": "assistant", "parts": [{"type": "text", "content": "Hello"}]}]));
    assert_eq!(attribute(&sent, "gen_ai.conversation.id").as_deref(), Some("session-9"));
    let tool = span(2, &[("gen_ai.operation.name", "execute_tool".into())]);
    let sent = spans_sent(&adapter("http://h"), item(1, &[tool])).remove(0);
    assert_eq!(attribute(&sent, "sentry.op").as_deref(), Some("gen_ai.execute_tool"));
}

#[tokio::test]
async fn a_limit_on_spans_holds_whatever_carried_it() {
    let server = Server::start(vec![
        (202, "x-sentry-rate-limits: 600:error;attachment:org, 60:span:project:quota\r\n", b""),
        (429, "", b""),
        (429, "retry-after: 5\r\nx-sentry-rate-limits: 120::organization\r\n", b""),
    ])
    .await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    let wait = |answer: Answer| match answer {
        Answer::Retry(failure) => failure.retry_after.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    // The limit of 600 s is on other things; the other one holds without a request.
    assert!(wait(adapter.send(&batch).await.answer) <= Duration::from_secs(60));
    assert_eq!(server.received().len(), 1);
    // Over by the clock alone, so that it holds above however slow the machine is.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_eq!(wait(adapter.send(&batch).await.answer), Duration::from_secs(60), "a 429 without a time");
    assert_eq!(server.received().len(), 2);
    assert_eq!(wait(adapter.send(&batch).await.answer), Duration::from_secs(120));
    assert!(wait(adapter.send(&batch).await.answer) > Duration::from_secs(100));
    assert_eq!(server.received().len(), 3);
}

#[tokio::test]
async fn tests_tell_what_is_wrong() {
    let server = Server::start(vec![(202, "", b""), (403, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::NotFound);
}
