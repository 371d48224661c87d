//! `crates/sinks`: what each kind makes of ten spans (nothing is sent), and what compressing them costs.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value as Json, json};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_loadkit::traffic::Template;
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::{Adapter, Batch, Clients, Item, build};

const SPANS: u32 = 10;
const NOW: u64 = 1_790_000_000_000_000_000;

/// A config for every kind.
fn kinds() -> Vec<(&'static str, Json)> {
    vec![
        ("arize", json!({ "apiKey": "k-12345678", "spaceKey": "s-12345678", "modelId": "bench" })),
        ("braintrust", json!({ "apiKey": "k-12345678", "projectId": "p" })),
        (
            "clickhouse",
            json!({ "host": "http://127.0.0.1:8123", "database": "d", "username": "u", "password": "p" }),
        ),
        ("datadog", json!({ "apiKey": "k-12345678", "mlApp": "bench" })),
        ("grafana", json!({ "apiKey": "glc_12345678", "instanceId": "1" })),
        ("langfuse", json!({ "publicKey": "pk-lf-bench-1234", "secretKey": "sk-lf-bench-1234" })),
        ("langsmith", json!({ "apiKey": "lsv2_12345678" })),
        ("newrelic", json!({ "licenseKey": "0123456789NRAL" })),
        ("opik", json!({ "apiKey": "k-12345678", "workspace": "w", "projectName": "p" })),
        ("otel-collector", json!({ "endpoint": "http://127.0.0.1:4318" })),
        ("posthog", json!({ "apiKey": "phc_12345678" })),
        ("ramp", json!({ "apiKey": "k-12345678" })),
        (
            "s3",
            json!({ "bucketName": "bench", "accessKeyId": "AKIABENCH", "secretAccessKey": "bench-secret",
                    "region": "us-east-1" }),
        ),
        (
            "sentry",
            json!({ "otlpEndpoint": "https://o1.ingest.sentry.io/api/4/integration/otlp/v1/traces",
                    "dsn": "https://0123456789abcdef@o1.ingest.sentry.io/4" }),
        ),
        ("snowflake", json!({ "account": "abc12345.us-east-1", "token": "pat-12345678" })),
        ("weave", json!({ "apiKey": "k-12345678", "entity": "e", "project": "p" })),
        ("webhook", json!({ "url": "https://example.com/hook" })),
    ]
}

fn adapter(kind: &str, config: &Json) -> Arc<dyn Adapter> {
    let body = json!({ "type": kind, "name": kind, "config": config });
    let defaults = CreateDefaults {
        id: uuid::Uuid::from_u128(1),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let destination = Destination::create(&body, defaults).expect("a valid destination");
    build(&destination, &Clients::new().expect("clients")).expect("an adapter")
}

fn benches(criterion: &mut Criterion) {
    let body = Bytes::from(Template::new(1, SPANS as usize, 4096).request(1, 0, NOW));
    let item = Item {
        sequence: 1,
        received_unix_nano: NOW,
        payload: Arc::new(Payload::new(body.clone(), SPANS)),
        spans: SpanSet::all(SPANS),
        private: false,
        shared: false,
    };
    let batch = Batch { token: "bench".into(), items: vec![item], ..Batch::default() };
    let mut group = criterion.benchmark_group("sinks");
    group.throughput(Throughput::Elements(u64::from(SPANS)));
    for (kind, config) in kinds() {
        let adapter = adapter(kind, &config);
        group.bench_function(kind, |b| b.iter(|| adapter.preview(black_box(&batch))));
    }
    for level in [1, 2] {
        group.bench_function(format!("gzip level {level}"), |b| {
            b.iter(|| {
                let room = Vec::with_capacity(body.len());
                let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::new(level));
                encoder.write_all(black_box(&body)).expect("memory takes everything");
                encoder.finish().expect("memory takes everything")
            })
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
