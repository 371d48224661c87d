//! Address, credential and words of the Grafana adapter.

use tracecast_destination::GrafanaConfig;

use super::Grafana;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(base_url: &str) -> Grafana {
    let config = GrafanaConfig {
        api_key: secret("glc_12345678"),
        instance_id: "998877".into(),
        base_url: base_url.into(),
        headers: headers(&[("authorization", "Bearer forged"), ("x-scope", "a")]),
    };
    Grafana::new(&config, &clients()).unwrap()
}

#[tokio::test]
async fn packed_protobuf_with_instance_and_token() {
    let server = Server::start(vec![(200, "content-type: application/x-protobuf\r\n", b"")]).await;
    // The portal shows the endpoint with `/otlp`.
    for base in
        [server.url.clone(), format!("{}/otlp", server.url), format!("{}/otlp/v1/traces/", server.url)]
    {
        let sent = adapter(&base).send(&batch(vec![item(1, &[generation(1)])])).await;
        assert_eq!(sent.answer, Answer::Delivered);
    }
    for received in server.received() {
        assert_eq!(received.target, "/otlp/v1/traces");
        // base64("998877:glc_12345678")
        assert_eq!(received.header("authorization"), "Basic OTk4ODc3OmdsY18xMjM0NTY3OA==");
        assert_eq!(received.header("content-encoding"), "gzip");
        assert_eq!(received.header("x-scope"), "a");
        assert_eq!(all_spans(&decode(&gunzip(&received.body))).len(), 1);
    }
    let shown = format!("{:?}", adapter("http://h"));
    assert!(!shown.contains("glc_") && !shown.contains("OTk4"), "{shown}");
}

#[test]
fn other_dialects_are_said_in_neutral_words() {
    let openinference = span(
        1,
        &[
            ("openinference.span.kind", "LLM".into()),
            ("llm.model_name", "gpt-4o".into()),
            ("llm.token_count.prompt", 7.into()),
            ("llm.token_count.completion", 5.into()),
            ("llm.cost.total", 0.25.into()),
        ],
    );
    let sent = spans_sent(&adapter("http://h"), item(1, &[openinference])).remove(0);
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.usage.input_tokens", "7"),
        ("gen_ai.usage.output_tokens", "5"),
        ("gen_ai.usage.total_tokens", "12"),
        ("gen_ai.usage.cost", "0.25"),
        ("llm.model_name", "gpt-4o"),
    ] {
        assert_eq!(attribute(&sent, key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn tests_tell_what_is_wrong() {
    let server = Server::start(vec![(200, "", b""), (401, "", b""), (403, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    for (diagnosis, words) in [
        (Diagnosis::Auth, "instance id and token"),
        (Diagnosis::Auth, "traces:write"),
        (Diagnosis::NotFound, "OTLP endpoint"),
    ] {
        let report = adapter.test().await;
        assert_eq!(report.diagnosis, diagnosis);
        assert!(report.hint.contains(words), "{}", report.hint);
    }
}
