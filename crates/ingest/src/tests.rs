//! The real request functions, fed with good, bad and mutated requests over a log in memory.

mod dedupe;
mod identity;
mod listener;
mod pace;
mod rehearse;
mod usage;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_log::{Durability, Log, Options as LogOptions};
use tracecast_mutate::{INPUT_BYTES_MAX, Mutator};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_rules::{CanAssert, IngestKey, Plan, Snapshot, TraceMemory};
use uuid::Uuid;

use crate::{Auth, Ingest, Options, Reason};

const KEY: &str = "sk-tc-v1-test";
const GATEWAY_KEY: &str = "sk-tc-v1-gateway";
const MANAGEMENT: &str = "sk-tc-mgmt-test";
const OTHER_WORKSPACE: Uuid = Uuid::from_u128(7);

struct Bench {
    ingest: Ingest,
    log: Log,
    /// Slots: everything of the default workspace, one key only, everything of the other workspace.
    slots: [u32; 3],
}

fn destination(workspace: Uuid, name: &str, more: Json) -> Arc<Destination> {
    let mut body = json!({
        "type": "otel-collector", "name": name, "workspace_id": workspace.to_string(),
        "config": { "endpoint": "http://127.0.0.1:9/v1/traces" },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let defaults = CreateDefaults {
        id: Uuid::new_v4(),
        workspace_id: workspace,
        managed_by: ManagedBy::Api,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    Arc::new(Destination::create(&body, defaults).unwrap_or_else(|e| panic!("{e:?}")))
}

fn bench(options: Options) -> Bench {
    let log_options = LogOptions {
        dir: std::env::temp_dir(),
        durability: Durability::Memory,
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        retain: Duration::ZERO,
        segment_bytes: 16 << 20,
        cache_bytes: 16 << 20,
        without_content: None,
    };
    let (log, _) = Log::open(log_options).unwrap();
    let hash = |secret: &str| -> [u8; 32] { Sha256::digest(secret.as_bytes()).into() };
    let all = destination(DEFAULT_WORKSPACE_ID, "all", json!({}));
    let one_key = destination(
        DEFAULT_WORKSPACE_ID,
        "one key",
        json!({ "api_key_hashes": [tracecast_otlp::hex(&hash(KEY))] }),
    );
    let other = destination(OTHER_WORKSPACE, "other", json!({}));
    let slots = [&all, &one_key, &other].map(|d| log.slot(d.id.into_bytes()));
    let key = |name: &str, can_assert| IngestKey {
        name: name.into(),
        label: name.into(),
        workspace_id: DEFAULT_WORKSPACE_ID,
        disabled: false,
        expires_at: None,
        can_assert,
        over_limit: false,
    };
    let mut disabled = key("disabled", CanAssert::None);
    disabled.disabled = true;
    let mut expired = key("expired", CanAssert::None);
    expired.expires_at = Some(1_000);
    let snapshot = Snapshot {
        generation: 1,
        keys: Arc::new(HashMap::from([
            (hash(KEY), Arc::new(key("test", CanAssert::None))),
            (hash(GATEWAY_KEY), Arc::new(key("gateway", CanAssert::AnyWorkspace))),
            (hash("disabled"), Arc::new(disabled)),
            (hash("expired"), Arc::new(expired)),
        ])),
        management_keys: Arc::new(HashSet::from([hash(MANAGEMENT)])),
        workspaces: [
            (
                DEFAULT_WORKSPACE_ID,
                Arc::new(Plan::compile(true, &[(slots[0], all), (slots[1], one_key)]).unwrap()),
            ),
            (OTHER_WORKSPACE, Arc::new(Plan::compile(true, &[(slots[2], other)]).unwrap())),
        ]
        .into(),
    };
    let ingest = Ingest::new(
        options,
        Arc::new(ArcSwap::from_pointee(snapshot)),
        log.clone(),
        Arc::new(TraceMemory::new(1 << 20)),
    );
    Bench { ingest, log, slots }
}

impl Bench {
    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path);
        let authorised = headers.iter().any(|(n, _)| ["authorization", "x-api-key"].contains(n));
        if !authorised {
            request = request.header("authorization", format!("Bearer {KEY}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        Answer::of(self.ingest.handle_http(request).await).await
    }

    async fn otlp(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut all = vec![("content-type", "application/x-protobuf")];
        all.extend_from_slice(headers);
        self.send("/v1/traces", &all, body).await
    }

    /// Another snapshot, in which this key is changed.
    fn change_key(&self, secret: &str, change: impl FnOnce(&mut IngestKey)) {
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut snapshot = Snapshot::clone(&self.ingest.shared.snapshot.load());
        change(Arc::make_mut(Arc::make_mut(&mut snapshot.keys).get_mut(&hash).unwrap()));
        self.ingest.shared.snapshot.store(Arc::new(snapshot));
    }

    fn selected(&self) -> [u64; 3] {
        self.slots.map(|slot| self.log.books(slot).selected)
    }
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn of(response: Response<Full<Bytes>>) -> Answer {
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The message of an error, whichever encoding it came in.
    fn message(&self) -> String {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Status {
            #[prost(int32, tag = "1")]
            code: i32,
            #[prost(string, tag = "2")]
            message: String,
        }
        match self.headers["content-type"].to_str().unwrap() {
            "application/x-protobuf" => Status::decode(&self.body[..]).unwrap().message,
            _ => {
                let json = self.json();
                // The answer to a client of the other listener is in the envelope it reads.
                let error = json.get("error").unwrap_or(&json);
                error["message"].as_str().unwrap().to_owned()
            }
        }
    }
}

fn span(n: u8, attributes: &[(&str, &str)]) -> SpanBuilder {
    SpanBuilder {
        trace_id: [n; 16],
        span_id: [n; 8],
        name: "chat".into(),
        kind: 3,
        start_unix_nano: 1_000_000_000,
        end_unix_nano: 2_000_000_000,
        attributes: [("gen_ai.request.model", "m")]
            .iter()
            .chain(attributes)
            .map(|(k, v)| ((*k).to_owned(), OwnedValue::from(*v)))
            .collect(),
        ..SpanBuilder::default()
    }
}

fn request(spans: &[SpanBuilder]) -> Vec<u8> {
    let mut out = Vec::new();
    resource_spans(&[("service.name".to_owned(), OwnedValue::from("s"))], "scope", "1", spans, &mut out);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_good_request_is_kept_and_counted() {
    let bench = bench(Options::default());
    let answer = bench.otlp(&[], request(&[span(1, &[]), span(2, &[])])).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b""[..]));
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    assert_eq!(bench.log.accepted(), 2);
    assert_eq!(bench.selected(), [2, 2, 0]);
}

#[tokio::test]
async fn every_coding_is_read_to_its_end() {
    let bench = bench(Options::default());
    let (one, two) = (request(&[span(1, &[])]), request(&[span(2, &[])]));
    let whole = [one.clone(), two.clone()].concat();
    let members = [gzip(&one), gzip(&two)].concat();
    let frames = [zstd::encode_all(&one[..], 1).unwrap(), zstd::encode_all(&two[..], 1).unwrap()].concat();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&whole).unwrap();
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(&whole).unwrap();
    let table = [
        ("identity", whole.clone()),
        ("gzip", gzip(&whole)),
        ("gzip", members),
        ("zstd", frames),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
    ];
    for (i, (coding, body)) in table.into_iter().enumerate() {
        let answer = bench.otlp(&[("content-encoding", coding)], body).await;
        assert_eq!(answer.status, StatusCode::OK, "{i} {coding}");
        let seen = bench.log.accepted() + bench.ingest.counters().duplicates();
        assert_eq!(seen, 2 * (i as u64 + 1), "{i} {coding}");
    }
}

#[tokio::test]
async fn a_bad_span_is_refused_alone() {
    let bench = bench(Options::default());
    let mut bad = span(2, &[]);
    bad.trace_id = [0; 16];
    let answer = bench.otlp(&[], request(&[span(1, &[]), bad.clone(), span(3, &[])])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(bench.log.accepted(), 2);
    assert_eq!(bench.ingest.counters().rejected(Reason::InvalidSpan), 1);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("spans[1]"), "{text}");

    let answer = bench.otlp(&[], request(&[bad])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "nothing usable");
    assert!(answer.message().contains("resourceSpans[0].scopeSpans[0].spans[0]"), "{}", answer.message());
}

#[tokio::test]
async fn json_is_the_same_request() {
    let bench = bench(Options::default());
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [
        { "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a",
          "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1544712661000000000u64 },
        { "traceId": "zz", "spanId": "eee19b7ec3c1b174", "name": "b" },
    ]}]}]});
    let answer = bench
        .send("/v1/traces", &[("content-type", "application/json; charset=utf-8")], body.to_string().into())
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "1");
    let message = answer.json()["partialSuccess"]["errorMessage"].to_string();
    assert!(message.contains("resourceSpans[0].scopeSpans[0].spans[1].traceId"), "{message}");
    assert_eq!(bench.log.accepted(), 1);

    let answer =
        bench.send("/v1/traces", &[("content-type", "application/json")], b"{\"a\": ".to_vec()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["code"], 3);
}

#[tokio::test]
async fn bad_requests_get_their_documented_status() {
    let bench = bench(Options { body_bytes: 4096, inflated_body_bytes: 8192, ..Options::default() });
    let good = request(&[span(1, &[])]);
    let protobuf = ("content-type", "application/x-protobuf");
    let basic_bad = "Basic bm9jb2xvbg==";
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<u8>, u16, &'a str);
    let table: Vec<Case<'_>> = vec![
        ("/v1/traces", vec![protobuf], b"\xff\xff\xff".to_vec(), 400, "OTLP"),
        ("/v1/traces", vec![protobuf], good[..good.len() - 3].to_vec(), 400, "truncated"),
        ("/v1/traces", vec![protobuf], b"\x0a\x02\x12\x05".to_vec(), 400, "resourceSpans[0]"),
        ("/v1/traces", vec![("content-type", "text/plain")], good.clone(), 415, "text/plain"),
        ("/v1/traces", vec![], good.clone(), 415, "content-type is missing"),
        ("/v1/traces", vec![protobuf, ("content-encoding", "br")], good.clone(), 415, "br"),
        ("/v1/traces", vec![protobuf, ("content-encoding", "gzip")], good.clone(), 400, "gzip"),
        ("/v1/traces", vec![protobuf, ("content-encoding", "zstd")], good.clone(), 400, "zstd"),
        ("/v1/traces", vec![protobuf], vec![0; 5000], 413, "4096"),
        ("/v1/traces", vec![protobuf, ("content-encoding", "gzip")], gzip(&vec![0; 100_000]), 413, "8192"),
        ("/v1/traces", vec![protobuf, ("authorization", "Bearer nope")], good.clone(), 401, "unknown key"),
        ("/v1/traces", vec![protobuf, ("authorization", "Bearer disabled")], good.clone(), 401, "disabled"),
        ("/v1/traces", vec![protobuf, ("authorization", "Bearer expired")], good.clone(), 401, "expired"),
        ("/v1/traces", vec![protobuf, ("authorization", "Digest x")], good.clone(), 401, "Bearer"),
        ("/v1/traces", vec![protobuf, ("authorization", basic_bad)], good.clone(), 401, "colon"),
        ("/v1/traces", vec![protobuf, ("x-api-key", "")], good.clone(), 401, "missing key"),
        (
            "/v1/traces",
            vec![protobuf, ("authorization", "Bearer sk-tc-mgmt-test")],
            good.clone(),
            403,
            "management",
        ),
        ("/v1/metrics", vec![protobuf], Vec::new(), 404, "OTEL_METRICS_EXPORTER=none"),
        ("/v1/logs", vec![protobuf], Vec::new(), 404, "OTEL_LOGS_EXPORTER=none"),
        ("/api/v1/keys", vec![], Vec::new(), 404, "admin listener"),
        ("/nowhere", vec![], Vec::new(), 404, "/v1/traces"),
        ("/v1/events", vec![("content-type", "text/html")], b"{}".to_vec(), 415, "text/html"),
    ];
    for (path, headers, body, status, part) in table {
        let answer = bench.send(path, &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {headers:?}");
        let message = answer.message();
        assert!(message.contains(part), "{path} {headers:?}: {message}");
    }
    assert_eq!(bench.log.accepted(), 0, "nothing of it was taken");
    assert_eq!(bench.ingest.shared.budget.used(), 0, "nothing stays reserved");
    let get = Request::get("/v1/traces").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(bench.ingest.handle_http(get).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_full_budget_and_a_draining_gateway_answer_503_with_retry_after() {
    let small = bench(Options { memory_bytes: 10, ..Options::default() });
    let answer = small.otlp(&[], request(&[span(1, &[])])).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(small.ingest.shared.budget.used(), 0);

    let draining = bench(Options::default());
    draining.ingest.drain();
    let answer = draining.otlp(&[], request(&[span(1, &[])])).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn credentials_come_in_three_forms() {
    let bench = bench(Options::default());
    let basic = "Basic cGstbGYteDpzay10Yy12MS10ZXN0"; // pk-lf-x:sk-tc-v1-test
    let headers = [("authorization", "bearer sk-tc-v1-test"), ("authorization", basic), ("x-api-key", KEY)];
    for (n, header) in (1..).zip(headers) {
        let answer = bench.otlp(&[header], request(&[span(n, &[])])).await;
        assert_eq!(answer.status, StatusCode::OK, "{header:?}");
    }
    assert_eq!(bench.selected(), [3, 3, 0]);
}

#[tokio::test]
async fn auth_none_takes_the_hash_of_whatever_is_presented() {
    let bench = bench(Options { auth: Auth::None, ..Options::default() });
    let send = async |n: u8, value: &str| {
        bench.otlp(&[("authorization", value)], request(&[span(n, &[])])).await.status
    };
    assert_eq!(send(1, "Bearer sk-provider").await, StatusCode::OK);
    assert_eq!(bench.selected(), [1, 0, 0], "another key's hash is not in the allowlist");
    assert_eq!(send(2, "Bearer sk-tc-v1-test").await, StatusCode::OK);
    assert_eq!(bench.selected(), [2, 1, 0]);
    let keyless = Request::post("/v1/traces")
        .header("content-type", "application/x-protobuf")
        .body(Full::new(Bytes::from(request(&[span(3, &[])]))))
        .unwrap();
    assert_eq!(bench.ingest.handle_http(keyless).await.status(), StatusCode::OK);
    assert_eq!(bench.selected(), [3, 1, 0]);
}

#[tokio::test]
async fn a_stated_identity_counts_only_with_the_right_to_state_it() {
    let key_hash = tracecast_otlp::hex(&Sha256::digest(KEY.as_bytes()));
    let other = OTHER_WORKSPACE.to_string();
    // Without the right: removed, counted, no error. The spoofed workspace gets nothing.
    let bench = bench(Options::default());
    let spoof = request(&[span(
        1,
        &[("tracecast.workspace_id", &other), ("tracecast.api_key_hash", &"0".repeat(64))],
    )]);
    assert_eq!(bench.otlp(&[], spoof).await.status, StatusCode::OK);
    assert_eq!(bench.selected(), [1, 1, 0]);
    assert_eq!(bench.ingest.counters().identity_ignored(), 1);

    // With it: the stated key reaches the destination of that key, the stated workspace its own.
    let gateway = ("authorization", "Bearer sk-tc-v1-gateway");
    let mixed = request(&[
        span(2, &[("openrouter.api_key_hash", &key_hash)]),
        span(3, &[("tracecast.workspace_id", &other)]),
        span(4, &[]),
    ]);
    assert_eq!(bench.otlp(&[gateway], mixed).await.status, StatusCode::OK);
    assert_eq!(bench.selected(), [3, 2, 1]);

    // An unknown workspace refuses the span; it never falls back to the default.
    let unknown = Uuid::from_u128(99).to_string();
    let body = request(&[span(5, &[("tracecast.workspace_id", &unknown)]), span(6, &[])]);
    let answer = bench.otlp(&[gateway], body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(bench.selected(), [4, 2, 1]);
    assert_eq!(bench.ingest.counters().rejected(Reason::UnknownWorkspace), 1);
    let bad_hash = request(&[span(7, &[("tracecast.api_key_hash", "nonsense")])]);
    assert_eq!(bench.otlp(&[gateway], bad_hash).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn events_are_answered_record_by_record() {
    let bench = bench(Options::default());
    let body = "{\"model\":\"m\",\"input\":\"hello\"}\nnot json\n{\"no\":\"model\"}\n";
    let answer = bench.send("/v1/events", &[("content-type", "application/x-ndjson")], body.into()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    assert_eq!((json["accepted"].as_u64(), json["rejected"].as_u64()), (Some(1), Some(2)), "{json}");
    assert_eq!(json["errors"][0]["line"], 2, "{json}");
    assert_eq!(bench.log.accepted(), json["spans"].as_u64().unwrap());
    let none = bench.send("/v1/events", &[("content-type", "application/json")], b"[]x".to_vec()).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_calls_of_the_langfuse_sdk_are_answered() {
    let bench = bench(Options::default());
    let answer = bench
        .send(
            "/api/public/otel/v1/traces",
            &[("content-type", "application/x-protobuf")],
            request(&[span(1, &[])]),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let get = |path: &str| {
        Request::get(path)
            .header("authorization", format!("Bearer {KEY}"))
            .body(Full::new(Bytes::new()))
            .unwrap()
    };
    let health = bench.ingest.handle_http(get("/api/public/health")).await;
    assert_eq!(health.status(), StatusCode::OK);
    let projects = Answer::of(bench.ingest.handle_http(get("/api/public/projects")).await).await;
    let projects = projects.json();
    assert_eq!(projects["data"].as_array().unwrap().len(), 1);
    // The SDK's model of a project refuses one without these.
    let project = &projects["data"][0];
    assert!(project["id"].is_string() && project["name"].is_string() && project["metadata"].is_object());
    assert!(project["organization"]["id"].is_string() && project["organization"]["name"].is_string());
}

fn grpc_frame(message: &[u8], compressed: bool) -> Bytes {
    let mut out = vec![u8::from(compressed)];
    out.extend((message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

async fn grpc(bench: &Bench, headers: &[(&str, &str)], body: Bytes) -> (i32, String, Bytes) {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !headers.iter().any(|(n, _)| *n == "authorization") {
        request = request.header("authorization", format!("Bearer {KEY}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = bench.ingest.handle_grpc(request.body(Full::new(body)).unwrap()).await;
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let find = |name: &str| {
        let value = parts.headers.get(name).or_else(|| trailers.get(name));
        value.map(|v| v.to_str().unwrap().to_owned())
    };
    let status = find("grpc-status").map_or(0, |s| s.parse().unwrap());
    (status, find("grpc-message").unwrap_or_default(), collected.to_bytes())
}

#[tokio::test]
async fn grpc_export_and_its_errors() {
    let bench = bench(Options { body_bytes: 1 << 20, inflated_body_bytes: 1 << 20, ..Options::default() });
    let body = request(&[span(1, &[]), span(2, &[])]);
    assert_eq!(grpc(&bench, &[], grpc_frame(&body, false)).await.0, 0);
    let compressed = grpc_frame(&gzip(&request(&[span(5, &[]), span(6, &[])])), true);
    assert_eq!(grpc(&bench, &[("grpc-encoding", "gzip")], compressed).await.0, 0);
    assert_eq!(bench.log.accepted(), 4);
    let (status, message, _) = grpc(&bench, &[], grpc_frame(b"\xff\xff", false)).await;
    assert_eq!(status, tonic::Code::InvalidArgument as i32, "{message}");
    let (status, _, _) = grpc(&bench, &[("authorization", "Bearer nope")], grpc_frame(&body, false)).await;
    assert_eq!(status, tonic::Code::Unauthenticated as i32);
    let mut bad = span(3, &[]);
    bad.span_id = [0; 8];
    let (status, _, answer) = grpc(&bench, &[], grpc_frame(&request(&[span(4, &[]), bad]), false)).await;
    assert_eq!(status, 0);
    assert!(String::from_utf8_lossy(&answer).contains("spans[1]"), "partial success names the span");
    let bomb = grpc_frame(&gzip(&vec![0; 4 << 20]), true);
    assert_ne!(grpc(&bench, &[("grpc-encoding", "gzip")], bomb).await.0, 0);
    let plain = Request::post("/v1/traces").body(Full::new(Bytes::new())).unwrap();
    let response = bench.ingest.handle_grpc(plain).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

/// A hundred thousand mutated requests through the real function: each is answered with a documented
/// status, what is acknowledged is in the books, and a good request still passes afterwards.
#[tokio::test]
async fn a_hundred_thousand_mutated_requests_never_panic() {
    let bench = bench(Options { body_bytes: 64 << 10, inflated_body_bytes: 256 << 10, ..Options::default() });
    let protobuf = request(&[span(1, &[("gen_ai.prompt", "hello")]), span(2, &[("tracecast.region", "eu")])]);
    let otlp_json = json!({ "resourceSpans": [{ "resource": { "attributes": [] }, "scopeSpans": [{ "spans": [
        { "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a", "kind": 3,
          "attributes": [{ "key": "k", "value": { "arrayValue": { "values": [{ "intValue": "1" }] } } }] }]}]}]})
    .to_string()
    .into_bytes();
    let event = br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"usage":{"prompt_tokens":1},"cost":0.1}"#;
    let seeds: [(&str, &str, &str, Vec<u8>); 6] = [
        ("/v1/traces", "application/x-protobuf", "identity", protobuf.clone()),
        ("/v1/traces", "application/json", "identity", otlp_json.clone()),
        ("/v1/events", "application/json", "identity", event.to_vec()),
        ("/v1/traces", "application/x-protobuf", "gzip", gzip(&protobuf)),
        ("/v1/traces", "application/x-protobuf", "zstd", zstd::encode_all(&protobuf[..], 1).unwrap()),
        ("/api/public/otel/v1/traces", "application/json", "deflate", otlp_json),
    ];
    let known = [200, 400, 401, 413, 415, 503];
    let (mut ok, mut refused) = (0u32, 0u32);
    for i in 0..tracecast_mutate::runs(100_000) {
        let mut mutator = Mutator::new(i);
        let (path, content_type, coding, body) = &seeds[mutator.below(seeds.len())];
        let mut body = body.clone();
        for _ in 0..mutator.below(4) {
            let other = &seeds[mutator.below(seeds.len())].3;
            mutator.mutate(&mut body, other);
        }
        body.truncate(INPUT_BYTES_MAX);
        let answer =
            bench.send(path, &[("content-type", content_type), ("content-encoding", coding)], body).await;
        assert!(known.contains(&answer.status.as_u16()), "request {i}: {}", answer.status);
        if answer.status == StatusCode::OK { ok += 1 } else { refused += 1 }
    }
    assert!(ok > 1_000 && refused > 1_000, "both ways were taken: {ok} fine, {refused} refused");
    assert_eq!(bench.ingest.shared.budget.used(), 0);
    let before = bench.log.accepted();
    assert_eq!(bench.otlp(&[], request(&[span(9, &[])])).await.status, StatusCode::OK);
    assert_eq!(bench.log.accepted(), before + 1);
    let books = bench.log.books(bench.slots[0]);
    assert!(books.balanced(), "{books:?}");
}
