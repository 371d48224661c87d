//! The rate of a workspace: who is refused, how it is told, and who is not.

use super::*;

/// Bytes a second; two seconds' worth may come at once.
const RATE: u64 = 10_000;
const GATEWAY: (&str, &str) = ("authorization", "Bearer sk-tc-v1-gateway");

fn paced() -> Bench {
    bench(Options { workspace_bytes_per_second: RATE.try_into().ok(), ..Options::default() })
}

/// A request of one span with so much content, for the workspace it states if any.
fn large(n: u8, content_bytes: usize, workspace: Option<Uuid>) -> SpanBuilder {
    let content = "x".repeat(content_bytes);
    let workspace = workspace.map(|id| id.to_string());
    let mut attributes = vec![("gen_ai.prompt", content.as_str())];
    attributes.extend(workspace.as_deref().map(|id| ("tracecast.workspace_id", id)));
    span(n, &attributes)
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_workspace_over_its_rate_is_told_when_to_come_back_and_is_taken_then() {
    let bench = paced();
    let body = request(&[large(1, 50_000, None)]);
    // Beyond the burst as it is: taken all the same, and waited for afterwards.
    assert_eq!(bench.otlp(&[], body.clone()).await.status, StatusCode::OK);
    let refused = bench.otlp(&[], request(&[large(2, 1, None)])).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.message().contains("workspace_bytes_per_second"), "{}", refused.message());
    let owed = Duration::from_secs_f64(body.len() as f64 / RATE as f64) - Duration::from_secs(2);
    assert_eq!(retry_after(&refused), owed.as_secs() + 1);
    assert_eq!(bench.ingest.counters().rejected(Reason::RateLimited), 1);
    assert_eq!(bench.selected(), [1, 1, 0], "nothing of it was kept");

    tokio::time::advance(owed - Duration::from_millis(1)).await;
    let early = bench.otlp(&[], request(&[large(2, 1, None)])).await;
    assert_eq!((early.status, retry_after(&early)), (StatusCode::TOO_MANY_REQUESTS, 1));
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(bench.otlp(&[], request(&[large(2, 1, None)])).await.status, StatusCode::OK);
    assert_eq!(bench.ingest.counters().rejected(Reason::RateLimited), 2);
}

#[tokio::test(start_paused = true)]
async fn compression_is_no_discount_and_json_no_way_around() {
    let plain = request(&[large(1, 100_000, None)]);
    let event = json!({ "model": "m", "request": "x".repeat(100_000) }).to_string().into_bytes();
    let json_type = ("content-type", "application/json");
    let cases = [
        ("/v1/traces", ("content-type", "application/x-protobuf"), "identity", plain.clone(), plain.len()),
        ("/v1/traces", ("content-type", "application/x-protobuf"), "gzip", gzip(&plain), plain.len()),
        ("/v1/events", json_type, "identity", event.clone(), event.len()),
        ("/v1/events", json_type, "gzip", gzip(&event), event.len()),
        // What cannot be read has been read as well.
        ("/v1/traces", json_type, "identity", vec![b'x'; 100_000], 100_000),
    ];
    for (path, kind, coding, body, bytes) in cases {
        let bench = paced();
        bench.send(path, &[kind, ("content-encoding", coding)], body).await;
        let refused = bench.send(path, &[kind], b"{}".to_vec()).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path} {coding}");
        let owed = (bytes as u64 - 2 * RATE).div_ceil(RATE);
        assert_eq!(retry_after(&refused), owed, "{path} {coding}");
    }
}

/// A body that never comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_over_is_refused_before_the_body_is_read() {
    let bench = paced();
    assert_eq!(bench.otlp(&[], request(&[large(1, 50_000, None)])).await.status, StatusCode::OK);
    let request = |path: &str, kind: &str| {
        let request = Request::post(path).header("content-type", kind);
        request.header("authorization", format!("Bearer {KEY}")).body(Silent).unwrap()
    };
    let began = tokio::time::Instant::now();
    for (path, kind) in [("/v1/traces", "application/x-protobuf"), ("/v1/events", "application/json")] {
        let answer = Answer::of(bench.ingest.handle_http(request(path, kind)).await).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let response = bench.ingest.handle_grpc(request(export, "application/grpc")).await;
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody has waited for the body");
}

#[tokio::test(start_paused = true)]
async fn grpc_says_it_with_retry_info() {
    let bench = paced();
    let body = request(&[large(1, 50_000, None)]);
    let compressed = grpc_frame(&gzip(&body), true);
    assert_eq!(grpc(&bench, &[("grpc-encoding", "gzip")], compressed).await.0, 0);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {KEY}"));
    let response = bench.ingest.handle_grpc(request.body(Full::new(grpc_frame(&body, false))).unwrap()).await;
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let owed = (body.len() as u64 - 2 * RATE).div_ceil(RATE);
    // google.rpc.RetryInfo { retry_delay: Duration { seconds } }: three nested tags around a small number.
    let told = [0x0a, 2, 0x08, owed as u8];
    assert!(status.details().ends_with(&told), "{:?}", status.details());
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.RetryInfo"));
    assert_eq!(bench.ingest.counters().rejected(Reason::RateLimited), 1);
}

#[tokio::test(start_paused = true)]
async fn one_workspace_over_its_rate_is_not_felt_by_another() {
    let bench = paced();
    bench.change_key("disabled", |key| {
        (key.disabled, key.workspace_id) = (false, OTHER_WORKSPACE);
    });
    assert_eq!(bench.otlp(&[], request(&[large(1, 1_000_000, None)])).await.status, StatusCode::OK);
    let other = ("authorization", "Bearer disabled");
    for n in 1..=10 {
        assert_eq!(
            bench.otlp(&[], request(&[large(n, 1, None)])).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(bench.otlp(&[other], request(&[large(n, 1, None)])).await.status, StatusCode::OK);
    }
    assert_eq!(bench.selected(), [1, 1, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_in_front_of_many_workspaces_is_charged_for_each_of_them() {
    let bench = paced();
    let (mine, other) = (Some(DEFAULT_WORKSPACE_ID), Some(OTHER_WORKSPACE));
    let flood = request(&[large(1, 50_000, other), large(2, 1, mine)]);
    assert_eq!(bench.otlp(&[GATEWAY], flood).await.status, StatusCode::OK);
    // Its spans beside another's: those of the other are kept, and what is not is told.
    let mixed = request(&[large(3, 1, other), large(4, 1, mine), large(5, 1, other)]);
    let answer = bench.otlp(&[GATEWAY], mixed).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(told.contains(&OTHER_WORKSPACE.to_string()), "{told}");
    assert_eq!(bench.ingest.counters().rejected(Reason::RateLimited), 2, "spans");
    assert_eq!(bench.selected(), [2, 0, 1]);
    // Nobody else's among them: it can all come again.
    let alone = bench.otlp(&[GATEWAY], request(&[large(6, 1, other), large(7, 1, other)])).await;
    assert_eq!(alone.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(retry_after(&alone) >= 3);
    assert_eq!(bench.ingest.counters().rejected(Reason::RateLimited), 3, "a request");
    // The key's own workspace may owe without holding up the others.
    assert_eq!(bench.otlp(&[GATEWAY], request(&[large(8, 90_000, None)])).await.status, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.otlp(&[GATEWAY], request(&[large(9, 1, other)])).await.status, StatusCode::OK);
    let own = bench.otlp(&[GATEWAY], request(&[large(10, 1, None)])).await;
    assert_eq!(own.status, StatusCode::TOO_MANY_REQUESTS);
}
