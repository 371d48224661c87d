//! Keys, objects, signing and answers of the S3 adapter.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracecast_destination::{S3AuthMode, S3Config, S3ObjectLayout};
use tracecast_otlp::SpanSet;

mod roles;

use super::S3;
use super::response::{Class, Put, answer, class};
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis, Failure, ItemAnswer};

fn config(endpoint: Option<&str>, layout: S3ObjectLayout) -> S3Config {
    S3Config {
        bucket_name: "traces".into(),
        auth_mode: S3AuthMode::AccessKeys,
        access_key_id: Some(secret("AKIATEST1234")),
        secret_access_key: Some(secret("sekret-access-key")),
        session_token: None,
        role_arn: None,
        external_id: None,
        provider: None,
        region: None,
        endpoint: endpoint.map(str::to_owned),
        prefix: "openrouter-traces".into(),
        path_template: "{prefix}/{date}".into(),
        object_layout: layout,
        headers: headers(&[("x-amz-storage-class", "STANDARD_IA")]),
    }
}

fn adapter(endpoint: &str, layout: S3ObjectLayout) -> S3 {
    S3::new(&config(Some(endpoint), layout), &clients()).unwrap()
}

fn keys(adapter: &S3, items: Vec<crate::Item>) -> Vec<String> {
    let previews = adapter.preview(&batch(items));
    previews.iter().map(|preview| preview.url.strip_prefix("http://h/traces/").unwrap().to_owned()).collect()
}

#[test]
fn one_object_per_trace_and_request() {
    let adapter = adapter("http://h", S3ObjectLayout::PerTrace);
    let mut other = generation(3);
    other.trace_id = [0xcd; 16];
    let items = vec![item(41, &[generation(1), other.clone(), generation(2)]), item(42, &[generation(4)])];
    let expected = [
        format!("openrouter-traces/2026-01-15/{TRACE_HEX}-1768521599-41-0101010101010101.json"),
        format!("openrouter-traces/2026-01-15/{}-1768521599-41-0303030303030303.json", "cd".repeat(16)),
        format!("openrouter-traces/2026-01-15/{TRACE_HEX}-1768521599-42-0404040404040404.json"),
    ];
    assert_eq!(keys(&adapter, items.clone()), expected);
    // A retry, whatever the company, writes the same keys.
    assert_eq!(keys(&adapter, vec![items[1].clone()]), expected[2..]);

    // The parts of a request that had to be split do not overwrite each other.
    let part = |positions: &[u32]| {
        let mut part = items[0].clone();
        part.spans = SpanSet::from_positions(3, positions.iter().copied());
        keys(&adapter, vec![part]).remove(0)
    };
    assert_ne!(part(&[0]), part(&[2]));
}

#[test]
fn api_key_names_are_harmless_in_keys() {
    let mut config = config(Some("http://h"), S3ObjectLayout::PerTrace);
    config.path_template = "{prefix}/{apiKeyName}/{year}-{month}".into();
    let adapter = S3::new(&config, &clients()).unwrap();
    let key = keys(&adapter, vec![item(1, &[generation(1)])]).remove(0);
    assert!(key.starts_with("openrouter-traces/team-..-key one/2026-01/abab"), "{key}");
    let key = keys(&adapter, vec![item(1, &[span(1, &[])])]).remove(0);
    assert!(key.starts_with("openrouter-traces/unknown/2026-01/abab"), "{key}");
}

#[test]
fn jsonl_is_one_file_per_batch_and_path() {
    let adapter = adapter("http://h", S3ObjectLayout::Jsonl);
    let mut late = item(9, &[generation(3)]);
    late.received_unix_nano = RECEIVED + 200_000_000;
    let items = vec![item(7, &[generation(1)]), item(8, &[generation(2)]), late];
    assert_eq!(
        keys(&adapter, items.clone()),
        [
            "openrouter-traces/2026-01-15/23/7-8-0101010101010101.jsonl.gz",
            "openrouter-traces/2026-01-16/00/9-9-0303030303030303.jsonl.gz",
        ]
    );
    let body = adapter.preview(&batch(items)).remove(0).body;
    let lines: Vec<Json> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let ids: Vec<&str> = lines.iter().map(|line| line["observations"][0]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["0101010101010101", "0202020202020202"]);
}

#[test]
fn objects_hold_the_trace_and_its_observations() {
    let mut attempt = span(2, &[("span.type", "span".into()), ("span.level", "DEFAULT".into())]);
    attempt.parent_span_id = Some([1; 8]);
    attempt.name = "provider attempt 1: Amazon Bedrock".into();
    let mut root = generation(1);
    root.name = "LLM Generation".into();
    let item = item(5, &[attempt, root]);
    let adapter = adapter("http://h", S3ObjectLayout::PerTrace);
    let body = adapter.preview(&batch(vec![item.clone()])).remove(0).body;
    let trace: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(trace["schema"], "tracecast.trace/1");
    assert_eq!(trace["id"], TRACE_HEX);
    assert_eq!(trace["name"], "Checkout");
    assert_eq!(trace["userId"], "user-1");
    assert_eq!(trace["sessionId"], "session-9");
    assert_eq!(trace["timestamp"], "2026-01-15T10:41:00.500Z");
    assert_eq!(trace["latencyMs"], 1500);
    assert_eq!(trace["metadata"]["team"], "search");
    assert_eq!(trace["totalCost"], 0.0035);
    let messages = json!({"messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(trace["input"], messages);

    let span = &trace["observations"][0];
    assert_eq!(span["type"], "SPAN");
    assert_eq!(span["parentObservationId"], "0101010101010101");
    assert_eq!(span["name"], "provider attempt 1: Amazon Bedrock");
    let generation = &trace["observations"][1];
    assert_eq!(generation["type"], "GENERATION");
    assert_eq!(generation["name"], "LLM Generation");
    assert_eq!(generation["model"], "claude-sonnet-4-20250514");
    assert_eq!(generation["provider"], "Amazon Bedrock");
    assert_eq!(generation["promptTokens"], 100);
    assert_eq!(generation["completionTokens"], 40);
    assert_eq!(generation["totalTokens"], 140);
    assert_eq!(generation["promptTokensDetails"], json!({"cachedTokens": 30, "cacheWriteTokens": 20}));
    assert_eq!(generation["completionTokensDetails"], json!({"reasoningTokens": 15}));
    assert_eq!(generation["inputCost"], 0.001);
    assert_eq!(generation["outputCost"], 0.0025);
    assert_eq!(generation["totalCost"], 0.0035);
    assert_eq!(generation["finishReason"], "stop");
    assert_eq!(generation["input"], messages);
    assert_eq!(generation["modelParameters"]["temperature"], 0.5);
    // Content is said once.
    assert_eq!(generation["attributes"].get("gen_ai.prompt"), None);

    let mut private = item;
    private.private = true;
    let body = adapter.preview(&batch(vec![private])).remove(0).body;
    let trace: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(trace.get("input").or(trace.get("output")), None);
    assert_eq!(trace["observations"][1].get("input"), None);
    assert_eq!(trace["observations"][1]["promptTokens"], 100);
    assert_eq!(trace["metadata"]["team"], "search");
}

#[tokio::test]
async fn puts_are_signed_whole_and_in_path_style() {
    let server = Server::start(vec![(200, "etag: \"x\"\r\n", b"")]).await;
    let adapter = adapter(&server.url, S3ObjectLayout::PerTrace);
    let batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    let sent = adapter.send(&batch).await;
    assert_eq!(sent.answer, Answer::Delivered);
    let mut received = server.received();
    assert_eq!(received.len(), 2);
    received.sort_by(|a, b| a.target.cmp(&b.target));
    let first = &received[0];
    assert_eq!(first.method, "PUT");
    let path = first.target.split('?').next().unwrap();
    assert_eq!(
        path,
        format!("/traces/openrouter-traces/2026-01-15/{TRACE_HEX}-1768521599-1-0101010101010101.json")
    );
    let authorization = first.header("authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIATEST1234/"), "{authorization}");
    assert!(authorization.contains("/us-east-1/s3/aws4_request"), "{authorization}");
    assert!(authorization.contains("x-amz-storage-class"), "{authorization}");
    assert_eq!(first.header("x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(first.header("content-type"), "application/json");
    // Look-alikes break on streamed signing and on checksums nobody asked for.
    assert_eq!(first.headers.get("content-encoding"), None);
    assert_eq!(first.headers.get("x-amz-trailer"), None);
    assert_eq!(first.headers.get("x-amz-checksum-crc32"), None);
    assert_eq!(first.header("x-amz-content-sha256").len(), 64);
    assert_eq!(sent.bytes, received.iter().map(|put| put.body.len() as u64).sum::<u64>());
    let trace: Json = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(trace["id"], TRACE_HEX);
    assert!(!format!("{adapter:?}").contains("sekret"));
}

#[tokio::test]
async fn jsonl_is_sent_as_gzip() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter(&server.url, S3ObjectLayout::Jsonl);
    let batch = batch(vec![item(1, &[generation(1)]), item(2, &[generation(2)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("content-encoding"), "gzip");
    assert_eq!(received[0].header("content-type"), "application/x-ndjson");
    assert_eq!(gunzip(&received[0].body), &adapter.preview(&batch)[0].body[..]);
}

const NO_SUCH_BUCKET: &[u8] =
    b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
const SLOW_DOWN: &[u8] =
    b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>wait</Message></Error>";
const DENIED: &[u8] = b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";

#[tokio::test]
async fn errors_are_read_and_tests_explain() {
    for (status, body, diagnosis) in [
        (404, NO_SUCH_BUCKET, Diagnosis::NotFound),
        (403, DENIED, Diagnosis::Auth),
        (503, SLOW_DOWN, Diagnosis::RateLimited),
    ] {
        let server =
            Server::start(vec![(status, "content-type: application/xml\r\nretry-after: 3\r\n", body)]).await;
        let adapter = adapter(&server.url, S3ObjectLayout::PerTrace);
        let answer = adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer;
        match (diagnosis, answer) {
            (Diagnosis::NotFound, Answer::Config(failure)) => {
                assert_eq!(failure.message, "answered 404 not found: NoSuchBucket: gone");
            }
            (Diagnosis::Auth, Answer::Auth(failure)) => assert_eq!(failure.status, Some(403)),
            (Diagnosis::RateLimited, Answer::Retry(failure)) => {
                assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
            }
            (_, other) => panic!("{other:?}"),
        }
        // Attempts are counted by the runtime, so the SDK makes one.
        assert_eq!(server.received().len(), 1);
        let report = adapter.test().await;
        assert_eq!(report.diagnosis, diagnosis);
        assert_eq!(report.status, Some(status));
    }
    let server = Server::start(vec![(200, "", b"")]).await;
    let report = adapter(&server.url, S3ObjectLayout::PerTrace).test().await;
    assert!(report.ok);
    assert!(report.hint.contains("openrouter-traces/.tracecast-connection-test"), "{}", report.hint);
    assert_eq!(report.url, format!("{}/traces", server.url));
    let put = server.received().remove(0);
    assert!(put.target.starts_with("/traces/openrouter-traces/.tracecast-connection-test"));
}

#[tokio::test]
async fn a_region_named_by_aws_is_learned() {
    let malformed: &[u8] = b"<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message><Region>eu-west-1</Region></Error>";
    let server = Server::start(vec![(400, "", malformed), (200, "", b"")]).await;
    let mut config = config(Some(&server.url), S3ObjectLayout::PerTrace);
    config.provider = Some(tracecast_destination::S3Provider::Aws);
    // A dot keeps the bucket out of the host name.
    config.bucket_name = "my.traces".into();
    let adapter = S3::new(&config, &clients()).unwrap();
    let batch = batch(vec![item(1, &[generation(1)])]);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::ZERO));
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let received = server.received();
    assert!(received[0].header("authorization").contains("/us-east-1/s3/"));
    assert!(received[1].header("authorization").contains("/eu-west-1/s3/"));
    // AWS gets the SDK's own checksum, in a plain header.
    assert!(received[1].headers.contains_key("x-amz-checksum-crc32"));
    assert_eq!(received[1].headers.get("x-amz-trailer"), None);
}

#[tokio::test]
async fn temporary_keys_send_their_token() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let mut config = config(Some(&server.url), S3ObjectLayout::PerTrace);
    config.session_token = Some(secret("token-1"));
    let adapter = S3::new(&config, &clients()).unwrap();
    adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(server.received()[0].header("x-amz-security-token"), "token-1");
}

#[tokio::test]
async fn what_holds_for_the_bucket_is_asked_once() {
    let server = Server::start(vec![(403, "", DENIED)]).await;
    let adapter = adapter(&server.url, S3ObjectLayout::PerTrace);
    let items = (1..=100).map(|n| item(n, &[generation(n as u8)])).collect();
    assert!(matches!(adapter.send(&batch(items)).await.answer, Answer::Auth(_)));
    assert!(server.received().len() < 40, "{}", server.received().len());
}

#[test]
fn codes_have_their_classes() {
    for (code, status, expected) in [
        ("SlowDown", 503, Class::Retry),
        ("InternalError", 500, Class::Retry),
        ("RequestTimeout", 400, Class::Retry),
        ("OperationAborted", 409, Class::Retry),
        ("ConditionalRequestConflict", 409, Class::Retry),
        ("BadDigest", 400, Class::Retry),
        ("KMS.ThrottlingException", 400, Class::Retry),
        ("KMS.DisabledException", 400, Class::Config),
        ("AccessDenied", 403, Class::Auth),
        ("InvalidAccessKeyId", 403, Class::Auth),
        ("SignatureDoesNotMatch", 403, Class::Auth),
        ("ExpiredToken", 400, Class::Auth),
        ("RequestTimeTooSkewed", 403, Class::Auth),
        ("NoSuchBucket", 404, Class::Config),
        ("PermanentRedirect", 301, Class::Config),
        ("AuthorizationHeaderMalformed", 400, Class::Config),
        ("InvalidRequest", 400, Class::Config),
        ("ExcessHeaderValues", 400, Class::Config),
        ("EntityTooLarge", 400, Class::TooLarge),
        ("KeyTooLongError", 400, Class::Object),
        ("PreconditionFailed", 412, Class::Stored),
        ("", 429, Class::Retry),
        ("", 502, Class::Retry),
        ("", 413, Class::TooLarge),
        ("", 403, Class::Auth),
        ("", 404, Class::Config),
        ("", 307, Class::Config),
        ("SomethingNew", 400, Class::Object),
        ("SomethingNew", 500, Class::Retry),
    ] {
        assert_eq!(class(code, status), expected, "{code} {status}");
    }
}

#[test]
fn batches_are_answered_per_item() {
    let three = batch((1..=3).map(|n| item(n, &[generation(n as u8)])).collect());
    let refused = |class, seconds: Option<u64>| Put::Refused {
        class,
        code: "X".into(),
        failure: Failure {
            status: Some(500),
            message: "m".into(),
            retry_after: seconds.map(Duration::from_secs),
        },
    };
    let of = |puts: [Put; 3], bad: &[(usize, String)]| {
        let items: [&[usize]; 3] = [&[0], &[1], &[2]];
        answer(&three, bad, items.into_iter().zip(puts).collect())
    };
    let retry = |seconds| refused(Class::Retry, seconds);
    assert_eq!(of([Put::Stored, Put::Stored, Put::Stored], &[]), Answer::Delivered);
    assert_eq!(
        of([Put::Stored, retry(None), refused(Class::Object, None)], &[]),
        Answer::PerItem(vec![ItemAnswer::Delivered, ItemAnswer::Retry, ItemAnswer::Refused("m".into())])
    );
    let Answer::Retry(failure) = of([retry(None), retry(Some(9)), retry(Some(2))], &[]) else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
    assert!(matches!(of([Put::Stored, refused(Class::Auth, None), Put::Skipped], &[]), Answer::Auth(_)));
    assert!(matches!(of([retry(None), refused(Class::Config, None), Put::Stored], &[]), Answer::Config(_)));
    assert_eq!(
        of([Put::Stored, Put::Stored, Put::Stored], &[(1, "damaged".into())]),
        Answer::PerItem(vec![
            ItemAnswer::Delivered,
            ItemAnswer::Refused("damaged".into()),
            ItemAnswer::Delivered
        ])
    );
    // One file of several items is halved, not given up.
    let file: Vec<(&[usize], Put)> = vec![(&[0, 1, 2], refused(Class::TooLarge, None))];
    assert!(matches!(answer(&three, &[], file), Answer::Isolate { by_size: true, .. }));
    // An item in two objects is stored only if both are.
    let both: Vec<(&[usize], Put)> = vec![(&[0], retry(None)), (&[0], Put::Stored), (&[1], Put::Stored)];
    let Answer::PerItem(items) = answer(&three, &[], both) else { panic!() };
    assert_eq!(items[0], ItemAnswer::Retry);
}

#[test]
fn damaged_items_do_not_stop_the_others() {
    let adapter = adapter("http://h", S3ObjectLayout::PerTrace);
    let built = adapter.layout.objects(&batch(vec![damaged_item(1), item(2, &[generation(1)])]));
    assert_eq!(built.objects.len(), 1);
    assert_eq!(built.refused.len(), 1);
    assert_eq!(built.refused[0].0, 0);
}

#[tokio::test]
async fn no_connection_is_a_retry_that_names_the_place() {
    let address = closed_port();
    let adapter = adapter(&format!("http://{address}"), S3ObjectLayout::PerTrace);
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(sent.bytes, 0);
    let Answer::Retry(failure) = sent.answer else { panic!("{:?}", sent.answer) };
    assert!(failure.message.starts_with(&format!("cannot connect to {address}")), "{}", failure.message);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Connect);
}

#[tokio::test]
async fn an_answer_that_trickles_holds_no_place() {
    // It has said that it stored the object: waited for to the end of the attempt, that would be a failure.
    let adapter = adapter(&trickling().await, S3ObjectLayout::PerTrace);
    assert_eq!(adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer, Answer::Delivered);
}
