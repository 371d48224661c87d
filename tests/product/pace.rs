//! A workspace that sends faster than its rate: told to wait over HTTP and gRPC, and felt by nobody else.

use bytes::{BufMut as _, BytesMut};
use serde_json::{Value as Json, json};
use tracecast_tests::fakes::Fake;
use tracecast_tests::process::{Gateway, Home, INGEST_KEY};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// A gateway that takes 64 KiB a second of each workspace, and a key of another workspace than the default one.
async fn gateway(home: &Home) -> (Gateway, String) {
    home.config("limits: { workspace_bytes_per_second: 64KiB }\n");
    let gateway = home.start();
    let body = json!({ "name": "other", "slug": "other" });
    let (status, workspace) = gateway.api("POST", "/workspaces", Some(&body)).await;
    assert_eq!(status, 201, "{workspace}");
    let body = json!({ "name": "theirs", "workspace_id": workspace["data"]["id"] });
    let (status, key) = gateway.api("POST", "/keys", Some(&body)).await;
    assert_eq!(status, 201, "{key}");
    let secret = key["key"].as_str().expect("a key").to_owned();
    (gateway, secret)
}

/// Status and `Retry-After`.
async fn send(gateway: &Gateway, key: &str, body: Vec<u8>) -> (u16, Option<u64>) {
    let post = reqwest::Client::new().post(format!("{}/v1/traces", gateway.http));
    let post = post.header("content-type", "application/x-protobuf").bearer_auth(key).body(body);
    let answer = post.send().await.expect("an answer");
    let after =
        answer.headers().get("retry-after").map(|v| v.to_str().expect("text").parse().expect("seconds"));
    (answer.status().as_u16(), after)
}

/// The gRPC status, and the details that come with it.
async fn export(gateway: &Gateway, key: &str, message: &[u8]) -> (u16, Vec<u8>) {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let path = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(message);
    let post = client.post(format!("http://{}/{path}", gateway.grpc)).bearer_auth(key);
    let answer = post.header("content-type", "application/grpc").body(body.freeze()).send().await;
    let headers = answer.expect("an answer").headers().clone();
    // A success says so behind its message.
    let status = headers.get("grpc-status").map_or(0, |v| v.to_str().expect("text").parse().expect("a code"));
    let details = headers.get("grpc-status-details-bin").map_or(Vec::new(), |v| v.as_bytes().to_vec());
    (status, details)
}

async fn rejected(gateway: &Gateway) -> u64 {
    let (_, stats) = gateway.api("GET", "/observability/stats", None).await;
    stats["data"]["gateway"]["rejected"]["rate_limited"].as_u64().unwrap_or_else(|| panic!("{stats:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_to_wait_and_its_neighbour_is_not() {
    let fake = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let home = Home::new(BINARY);
    let (gateway, theirs) = gateway(&home).await;
    let id = gateway.simple("otel-collector", "all", json!({ "endpoint": fake.url() })).await;

    // Far beyond the burst: taken as it is, and waited for afterwards, for two minutes.
    let flood = request(&[generation(1, &"x".repeat(8_000_000 / 2))]);
    let owed = 8_000_000 / (64 << 10) + 1;
    assert_eq!(send(&gateway, INGEST_KEY, flood).await.0, 200);
    let one = |n: u64| request(&[generation(n, "x")]);
    let (status, after) = send(&gateway, INGEST_KEY, one(2)).await;
    assert_eq!(status, 429);
    assert!(after.is_some_and(|seconds| (1..=owed).contains(&seconds)), "{after:?}");
    let (status, details) = export(&gateway, INGEST_KEY, &one(2)).await;
    assert_eq!(status, 8, "RESOURCE_EXHAUSTED");
    // Base64 of `google.rpc.RetryInfo`, wherever in three bytes it begins.
    let details = String::from_utf8(details).expect("text");
    assert!(
        ["Z29vZ2xlLnJwYy5SZXRyeUluZm", "dvb2dsZS5ycGMuUmV0cnlJbmZv", "nb29nbGUucnBjLlJldHJ5SW5mb"]
            .iter()
            .any(|text| details.contains(text)),
        "{details}"
    );
    assert_eq!(rejected(&gateway).await, 2);
    for n in 10..20 {
        assert_eq!(send(&gateway, &theirs, one(n)).await.0, 200);
        assert_eq!(export(&gateway, &theirs, &one(n + 10)).await.0, 0);
    }
    let (_, metrics) = gateway.get_admin("/metrics").await;
    let line = "tracecast_events_rejected_total{reason=\"rate_limited\"} 2";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");

    assert_eq!(gateway.settled(&id, 1).await["delivered"], 1);
    let stats: Json = gateway.api("GET", "/observability/stats", None).await.1;
    assert_eq!(stats["data"]["gateway"]["accepted"], 21, "{stats:#}");
}
