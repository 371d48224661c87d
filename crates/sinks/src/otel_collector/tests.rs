//! Bodies, forms and answers of the OTLP adapter.

use std::time::Duration;

use tracecast_destination::OtelCollectorConfig;
use tracecast_otlp::SpanSet;

use super::OtelCollector;
use crate::testing::*;
use crate::{Adapter, Answer, BuildError, Diagnosis, ItemAnswer};

fn adapter(endpoint: &str, pairs: &[(&str, &str)]) -> OtelCollector {
    let config = OtelCollectorConfig { endpoint: endpoint.into(), headers: headers(pairs) };
    OtelCollector::new(&config, &clients()).unwrap()
}

#[test]
fn url_rule() {
    for (endpoint, url) in [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/v1", "https://h/otlp/v1/traces"),
        ("https://h/custom", "https://h/custom"),
        ("https://h/v1/traces", "https://h/v1/traces"),
    ] {
        assert_eq!(adapter(endpoint, &[]).endpoint.url.as_str(), url);
    }
}

#[test]
fn whole_requests_are_joined_as_they_were_received() {
    let items = vec![item(1, &[generation(1)]), item(2, &[generation(2), generation(3)])];
    let expected = [&items[0].payload.bytes()[..], &items[1].payload.bytes()[..]].concat();
    let both = batch(items);
    let preview = adapter("http://h", &[]).preview(&both).remove(0);
    assert_eq!(preview.body, expected);
    assert_eq!(all_spans(&decode(&preview.body)).len(), 3);

    // A single whole request is not even copied.
    let one = batch(vec![both.items[0].clone()]);
    let preview = adapter("http://h", &[]).preview(&one).remove(0);
    assert_eq!(preview.body.as_ptr(), one.items[0].payload.bytes().as_ptr());
}

#[test]
fn selected_and_private_spans_are_rewritten() {
    let mut some = item(1, &[generation(1), generation(2), generation(3)]);
    some.spans = SpanSet::from_positions(3, [0, 2]);
    let mut private = item(2, &[generation(4)]);
    private.private = true;
    let body = adapter("http://h", &[]).preview(&batch(vec![some, private])).remove(0).body;
    let request = decode(&body);
    let spans = all_spans(&request);
    let ids: Vec<u8> = spans.iter().map(|span| span.span_id[0]).collect();
    assert_eq!(ids, [1, 3, 4]);
    assert!(attribute(spans[1], "gen_ai.prompt").is_some());
    assert_eq!(attribute(spans[2], "gen_ai.prompt"), None);
    assert_eq!(attribute(spans[2], "gen_ai.usage.input_tokens").as_deref(), Some("100"));
}

#[test]
fn forms_follow_the_distance_and_the_header() {
    let kinds = |endpoint: &str, pairs: &[(&str, &str)]| {
        let adapter = adapter(endpoint, pairs);
        let preview = adapter.preview(&batch(vec![item(1, &[generation(1)])])).remove(0);
        let find = |name: &str| {
            let found = preview.headers.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(find("x-tracecast-encoding"), None);
        (find("content-type").unwrap(), find("content-encoding"))
    };
    let protobuf = "application/x-protobuf".to_owned();
    let json = "application/json".to_owned();
    let gzip = Some("gzip".to_owned());
    assert_eq!(kinds("http://127.0.0.1:4318", &[]), (protobuf.clone(), None));
    assert_eq!(kinds("http://collector:4318", &[]), (protobuf.clone(), None));
    assert_eq!(kinds("https://10.0.0.1", &[]), (protobuf.clone(), gzip.clone()));
    assert_eq!(kinds("http://otel.example.com", &[]), (protobuf.clone(), gzip.clone()));
    assert_eq!(kinds("http://h", &[("X-Tracecast-Encoding", "JSON")]), (json, None));
    assert_eq!(kinds("https://h", &[("x-tracecast-encoding", "protobuf")]), (protobuf, gzip));

    let config = OtelCollectorConfig {
        endpoint: "http://h".into(),
        headers: headers(&[("x-tracecast-encoding", "xml")]),
    };
    let error = OtelCollector::new(&config, &clients()).unwrap_err();
    assert!(matches!(error, BuildError::Invalid(text) if text.contains("json or protobuf")));
}

#[tokio::test]
async fn sends_protobuf_with_the_users_headers() {
    let server = Server::start(vec![(200, "content-type: application/x-protobuf\r\n", b"")]).await;
    let adapter = adapter(
        &server.url,
        &[("Authorization", "Bearer xaat-1"), ("Host", "evil"), ("content-type", "text/plain")],
    );
    let batch = batch(vec![item(1, &[generation(1)])]);
    let sent = adapter.send(&batch).await;
    assert_eq!(sent.answer, Answer::Delivered);
    assert_eq!(sent.bytes, batch.items[0].payload.bytes().len() as u64);

    let received = server.received().remove(0);
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/v1/traces"));
    assert_eq!(received.header("authorization"), "Bearer xaat-1");
    assert_eq!(received.header("content-type"), "application/x-protobuf");
    assert!(received.header("host").starts_with("127.0.0.1:"));
    assert!(received.header("user-agent").starts_with("tracecast/"));
    assert_eq!(received.headers.get("content-encoding"), None);
    assert_eq!(received.body, &batch.items[0].payload.bytes()[..]);
    assert!(!format!("{adapter:?}").contains("xaat-1"));
}

#[tokio::test]
async fn the_instance_is_named_against_loops() {
    let server = Server::start(vec![(508, "", b"loop")]).await;
    let config = OtelCollectorConfig {
        endpoint: server.url.clone(),
        headers: headers(&[("x-tracecast-via", "forged")]),
    };
    let options = crate::ClientOptions { instance_id: Some("gateway-1".into()), ..Default::default() };
    let clients = crate::Clients::with_options(options).unwrap();
    let adapter = OtelCollector::new(&config, &clients).unwrap();
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert!(matches!(sent.answer, Answer::Config(_)));
    assert_eq!(server.received()[0].header("x-tracecast-via"), "gateway-1");
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Loop);
}

#[tokio::test]
async fn falls_back_to_json_after_415_and_stays_there() {
    let server = Server::start(vec![(415, "", b"json only"), (200, "", b"{}")]).await;
    let adapter = adapter(&server.url, &[]);
    let batch = batch(vec![item(1, &[generation(1)])]);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!((failure.status, failure.retry_after), (Some(415), Some(Duration::ZERO)));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    assert_eq!(received[0].header("content-type"), "application/x-protobuf");
    for received in &received[1..] {
        assert_eq!(received.header("content-type"), "application/json");
        let json: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"], TRACE_HEX);
    }
}

#[tokio::test]
async fn a_fixed_encoding_does_not_fall_back() {
    let server = Server::start(vec![(415, "", b"")]).await;
    let adapter = adapter(&server.url, &[("x-tracecast-encoding", "protobuf")]);
    let batch = batch(vec![item(1, &[generation(1)])]);
    for _ in 0..2 {
        assert!(matches!(adapter.send(&batch).await.answer, Answer::Config(_)));
    }
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn partial_success_and_refusals() {
    let server = Server::start(vec![
        (
            200,
            "content-type: application/json\r\n",
            br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#,
        ),
        (200, "content-type: application/x-protobuf\r\n", b"\x0a\x02\x08\x02"),
        (200, "content-type: text/html\r\n", b"<html>"),
        (429, "retry-after: 2.5\r\n", b"slow down"),
        (301, "location: http://127.0.0.1:1/\r\n", b""),
        (413, "", b""),
    ])
    .await;
    let adapter = adapter(&server.url, &[]);
    let batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Partial { refused: 1, message: "too old".into() });
    assert_eq!(
        adapter.send(&batch).await.answer,
        Answer::PerItem(vec![ItemAnswer::Refused(String::new()); 2])
    );
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_millis(2500)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Config(_)));
    assert!(matches!(adapter.send(&batch).await.answer, Answer::Isolate { by_size: true, .. }));
}

#[tokio::test]
async fn no_connection_is_a_retry_without_bytes() {
    let address = closed_port();
    let adapter = adapter(&format!("http://{address}/secret-path?key=hidden"), &[]);
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(sent.bytes, 0);
    let Answer::Retry(failure) = sent.answer else { panic!() };
    assert!(failure.message.starts_with(&format!("cannot connect to {address}")), "{}", failure.message);
    assert!(!failure.message.contains("secret-path") && !failure.message.contains("hidden"));

    let report = adapter.test().await;
    assert_eq!((report.ok, report.diagnosis, report.status), (false, Diagnosis::Connect, None));
    assert_eq!(report.url, format!("http://{address}/secret-path?key=***"));
}

#[tokio::test]
async fn metadata_addresses_are_never_called() {
    let adapter = adapter("http://169.254.169.254", &[]);
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert!(matches!(sent.answer, Answer::Config(_)));
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::BlockedAddress);
}

#[tokio::test]
async fn a_closed_connection_and_garbage_are_retried() {
    for bytes in [&b""[..], b"SSH-2.0-OpenSSH_9\r\n"] {
        let address = blurting(bytes).await;
        let adapter = adapter(&format!("http://{address}"), &[]);
        let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
        assert!(matches!(sent.answer, Answer::Retry(_)), "{:?}", sent.answer);
    }
}

#[tokio::test]
async fn plain_http_behind_https_is_a_tls_failure() {
    let address = blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let adapter = adapter(&format!("https://{address}"), &[]);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Tls);
    // The peer broke the handshake; no certificate was judged.
    let answer = adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer;
    assert!(matches!(answer, Answer::Retry(_)), "{answer:?}");
}

#[tokio::test]
async fn connection_test_sends_nothing_and_explains() {
    for (status, body, diagnosis) in [
        (200, &b""[..], Diagnosis::Ok),
        (400, b"request is empty", Diagnosis::Ok),
        (400, b"bad", Diagnosis::Rejected),
        (401, b"", Diagnosis::Auth),
        (404, b"", Diagnosis::NotFound),
        (308, b"", Diagnosis::NotFound),
        (429, b"", Diagnosis::RateLimited),
        (503, b"", Diagnosis::Unavailable),
    ] {
        let server = Server::start(vec![(status, "", body)]).await;
        let report = adapter(&server.url, &[]).test().await;
        assert_eq!(report.diagnosis, diagnosis, "{status}");
        assert_eq!(report.ok, diagnosis == Diagnosis::Ok);
        assert_eq!(report.status, Some(status));
        assert_eq!(report.url, format!("{}/v1/traces", server.url));
        assert!(server.received().iter().all(|received| received.body.is_empty()));
    }
    let server = Server::start(vec![(415, "", b""), (200, "", b"")]).await;
    assert!(adapter(&server.url, &[]).test().await.ok);
    assert_eq!(server.received()[1].body, br#"{"resourceSpans":[]}"#);
}
