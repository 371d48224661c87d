//! Headers, body and answers of the webhook adapter.

use tracecast_destination::{WebhookConfig, WebhookMethod};

use super::Webhook;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str, method: WebhookMethod, pairs: &[(&str, &str)]) -> Webhook {
    let config = WebhookConfig { url: url.into(), method, headers: headers(pairs) };
    Webhook::new(&config, &clients()).unwrap()
}

#[tokio::test]
async fn sends_otlp_json_with_a_stable_id() {
    let server = Server::start(vec![(204, "", b"")]).await;
    let url = format!("{}/hook?token=secret", server.url);
    let adapter =
        adapter(&url, WebhookMethod::Put, &[("Authorization", "Bearer t"), ("webhook-id", "forged")]);
    let mut batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    batch.attempt = 1;
    let sent = adapter.send(&batch).await;

    let received = server.received();
    for (i, received) in received.iter().enumerate() {
        assert_eq!(received.method, "PUT");
        assert_eq!(received.target, "/hook?token=secret");
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("authorization"), "Bearer t");
        // The token is "dest.1-7"; an id has no dot.
        assert_eq!(received.header("webhook-id"), "dest-1-7");
        assert_eq!(received.header("idempotency-key"), "dest-1-7");
        assert_eq!(received.header("x-tracecast-attempt"), (i + 1).to_string());
        assert_eq!(received.headers.get("content-encoding"), None);
        assert_eq!(received.headers.get("x-test-connection"), None);
    }
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(sent.bytes, received[1].body.len() as u64);
    let json: serde_json::Value = serde_json::from_slice(&received[0].body).unwrap();
    let resources = json["resourceSpans"].as_array().unwrap();
    assert_eq!(resources.len(), 2);
    let span = &resources[0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], TRACE_HEX);
    assert_eq!(span["startTimeUnixNano"], "1768473660500000000");
    let attributes = span["attributes"].as_array().unwrap();
    let user = attributes.iter().find(|attribute| attribute["key"] == "user.id");
    assert_eq!(user.unwrap()["value"]["stringValue"], "user-1");
}

#[test]
fn the_content_type_may_be_the_users() {
    let adapter = adapter("http://h", WebhookMethod::Post, &[("Content-Type", "application/vnd.x+json")]);
    let preview = adapter.preview(&batch(vec![item(1, &[generation(1)])])).remove(0);
    let types: Vec<_> = preview.headers.iter().filter(|(name, _)| name == "content-type").collect();
    assert_eq!(types.len(), 1);
    assert_eq!(preview.method, "POST");
}

#[test]
fn previews_show_no_secret() {
    let adapter = adapter("http://u:pw-123@h/p?token=abcdef", WebhookMethod::Post, &[("x-key", "hidden-1")]);
    let preview = adapter.preview(&batch(vec![item(1, &[generation(1)])])).remove(0);
    assert_eq!(preview.url, "http://h/p?token=***");
    assert!(preview.headers.contains(&("x-key".into(), "***".into())));
    for text in [format!("{preview:?}"), format!("{adapter:?}")] {
        assert!(!text.contains("hidden-1"), "{text}");
    }
}

#[tokio::test]
async fn only_2xx_is_success() {
    let server = Server::start(vec![
        (200, "", b"anything"),
        (410, "", b"unsubscribed"),
        (302, "location: /elsewhere\r\n", b""),
        (400, "", b"no"),
        (500, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url, WebhookMethod::Post, &[]);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let Answer::Gone(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.message, "answered 410 gone: unsubscribed");
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Config(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { by_size: false, .. }));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Retry(_)));
    assert_eq!(server.received().len(), 5);
}

#[tokio::test]
async fn the_test_is_marked_and_passes_on_400() {
    let server = Server::start(vec![(400, "", b"empty"), (200, "", b""), (401, "", b"")]).await;
    let adapter = adapter(&server.url, WebhookMethod::Post, &[]);
    assert!(adapter.test().await.ok);
    assert!(adapter.test().await.ok);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    for received in server.received() {
        assert_eq!(received.header("x-test-connection"), "true");
        assert_eq!(received.body, br#"{"resourceSpans":[]}"#);
    }
}
