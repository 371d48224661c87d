//! Forms and words of the Ramp adapter.

use std::time::Duration;

use serde_json::Value as Json;
use tracecast_destination::RampConfig;

use super::Ramp;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(base_url: &str) -> Ramp {
    let config =
        RampConfig { api_key: secret("ramp_12345678"), base_url: base_url.into(), headers: headers(&[]) };
    Ramp::new(&config, &clients()).unwrap()
}

#[tokio::test]
async fn json_first_and_protobuf_after_a_415() {
    let server = Server::start(vec![(200, "", b"{}"), (415, "", b""), (200, "", b"")]).await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::ZERO));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);

    let received = server.received();
    let kinds: Vec<&str> = received.iter().map(|received| received.header("content-type")).collect();
    assert_eq!(kinds, ["application/json", "application/json", "application/x-protobuf"]);
    for received in &received {
        assert_eq!(received.target, "/v1/traces");
        assert_eq!(received.header("authorization"), "Bearer ramp_12345678");
        assert_eq!(received.headers.get("content-encoding"), None);
    }
    let body: Json = serde_json::from_slice(&received[0].body).unwrap();
    let attributes = body.pointer("/resourceSpans/0/scopeSpans/0/spans/0/attributes").unwrap();
    let value = |key: &str| {
        let all = attributes.as_array().unwrap();
        all.iter().find(|attribute| attribute["key"] == key).map(|attribute| attribute["value"].clone())
    };
    assert_eq!(value("gen_ai.usage.prompt_tokens").unwrap()["intValue"], "100");
    assert_eq!(value("gen_ai.usage.cost").unwrap()["doubleValue"], 0.0035);
    assert_eq!(value("gen_ai.system").unwrap()["stringValue"], "anthropic");
    assert_eq!(all_spans(&decode(&received[2].body)).len(), 1);
}

#[tokio::test]
async fn tests_tell_what_is_wrong() {
    let server = Server::start(vec![(200, "", b"{}"), (401, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::NotFound);
    assert!(report.hint.contains("not documented"), "{}", report.hint);
    assert_eq!(server.received()[0].body, br#"{"resourceSpans":[]}"#);
}
