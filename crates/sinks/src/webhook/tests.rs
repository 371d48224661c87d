//! Headers, body and answers of the webhook adapter.

use http::HeaderMap;
use jiff::Timestamp;
use tracecast_destination::{FormerSecret, WebhookConfig, WebhookMethod};

use super::Webhook;
use super::signature::Signer;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

const CURRENT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FORMER: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl+abcdefg";

fn adapter(url: &str, method: WebhookMethod, pairs: &[(&str, &str)]) -> Webhook {
    Webhook::new(&config(url, method, pairs), &clients()).unwrap()
}

fn config(url: &str, method: WebhookMethod, pairs: &[(&str, &str)]) -> WebhookConfig {
    WebhookConfig {
        url: url.into(),
        method,
        signing_secret: None,
        previous_signing_secrets: Vec::new(),
        headers: headers(pairs),
    }
}

/// What a receiver with the official library says of a request.
fn verifies(secret: &str, received: &Received) -> bool {
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    verifier.verify(&received.body, &received.headers).is_ok()
}

#[tokio::test]
async fn sends_otlp_json_with_a_stable_id() {
    let server = Server::start(vec![(204, "", b"")]).await;
    let url = format!("{}/hook?token=secret", server.url);
    let adapter =
        adapter(&url, WebhookMethod::Put, &[("Authorization", "Bearer t"), ("webhook-id", "forged")]);
    let mut batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    batch.first_seen_unix_nano = Some(1_768_473_660_500_999_999);
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
        assert_eq!(received.header("x-tracecast-first-seen"), "2026-01-15T10:41:00.500Z");
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

#[test]
fn the_published_vector_is_met() {
    // From the tests of the reference library for Rust.
    let mut config = config("http://h", WebhookMethod::Post, &[]);
    config.signing_secret = Some(secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
    let mut signed = HeaderMap::new();
    Signer::new(&config).unwrap().sign(
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        Timestamp::from_second(1_649_367_553).unwrap(),
        br#"{"email":"test@example.com","username":"test_user"}"#,
        &mut signed,
    );
    assert_eq!(signed["webhook-signature"], "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    assert_eq!(signed["webhook-timestamp"], "1649367553");
}

#[tokio::test]
async fn requests_verify_with_the_official_library() {
    let server = Server::start(vec![(503, "", b""), (200, "", b""), (200, "", b"")]).await;
    let mut config = config(&server.url, WebhookMethod::Post, &[]);
    config.signing_secret = Some(secret(CURRENT));
    let adapter = Webhook::new(&config, &clients()).unwrap();
    let mut batch = batch(vec![item(1, &[generation(1)])]);
    let before = Timestamp::now().as_second();
    adapter.send(&batch).await;
    batch.attempt = 1;
    adapter.send(&batch).await;
    assert!(adapter.test().await.ok);
    let after = Timestamp::now().as_second();

    let received = server.received();
    assert_eq!(received.len(), 3);
    for received in &received {
        assert!(verifies(CURRENT, received));
        assert!(!verifies(FORMER, received));
        let time: i64 = received.header("webhook-timestamp").parse().unwrap();
        assert!((before..=after).contains(&time));
    }
    // A retry has the same id, a test one of its own.
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_ne!(received[1].header("webhook-id"), received[2].header("webhook-id"));
    // A changed body, id or time is found out.
    let mut changed = server.received().remove(0);
    changed.body.push(b' ');
    assert!(!verifies(CURRENT, &changed));
    for name in ["webhook-id", "webhook-timestamp"] {
        let mut changed = server.received().remove(0);
        let last = changed.headers[name].to_str().unwrap().to_owned();
        let other = if last.ends_with('1') { "2" } else { "1" };
        let forged = format!("{}{other}", &last[..last.len() - 1]);
        changed.headers.insert(name, forged.parse().unwrap());
        assert!(!verifies(CURRENT, &changed), "{name}");
    }
}

#[test]
fn a_former_secret_signs_until_its_time() {
    let until = Timestamp::from_second(2_000_000_000).unwrap();
    let mut config = config("http://h", WebhookMethod::Post, &[]);
    config.signing_secret = Some(secret(CURRENT));
    config.previous_signing_secrets = vec![FormerSecret { secret: secret(FORMER), signs_until: until }];
    let signer = Signer::new(&config).unwrap();
    let signed_by = |second: i64| {
        let mut signed = HeaderMap::new();
        signer.sign("id", Timestamp::from_second(second).unwrap(), b"body", &mut signed);
        let given: Vec<&str> = signed["webhook-signature"].to_str().unwrap().split(' ').collect();
        let expected =
            |secret| standardwebhooks::Webhook::new(secret).unwrap().sign("id", second, b"body").unwrap();
        [CURRENT, FORMER].map(|secret| given.contains(&expected(secret).as_str()))
    };
    assert_eq!(signed_by(1_999_999_999), [true, true]);
    assert_eq!(signed_by(2_000_000_000), [true, false]);
    assert!(!format!("{signer:?}").contains(&FORMER[6..]));
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter(&server.url, WebhookMethod::Post, &[]);
    adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    let received = server.received().remove(0);
    assert_eq!(received.headers.get("webhook-signature"), None);
    assert_eq!(received.headers.get("webhook-timestamp"), None);
}
