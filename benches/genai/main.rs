//! `crates/genai`: reading a span, and making spans of `/v1/events` records.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracecast_genai::{Generation, events};
use tracecast_loadkit::traffic::{Story, Template};
use tracecast_otlp::{Limits, Traces};

const NOW: u64 = 1_790_000_000_000_000_000;

fn benches(criterion: &mut Criterion) {
    let body = Bytes::from(Template::new(1, 1, 4096).request(1, 0, NOW));
    let traces = Traces::index(body, &Limits::default()).expect("the template is a valid request");
    let mut group = criterion.benchmark_group("genai");
    group.throughput(Throughput::Elements(1));
    group.bench_function("model, usage, cost, user", |b| {
        b.iter(|| {
            let view = Generation::new(black_box(traces.span(0)));
            black_box((view.model(), view.usage(), view.cost(), view.user_id()));
        })
    });
    group.bench_function("input and output", |b| {
        b.iter(|| {
            let view = Generation::new(black_box(traces.span(0)));
            black_box((view.input_json(), view.output_json()));
        })
    });
    let record = serde_json::to_vec(&Story::new(1).call(NOW).event("one")).expect("a record is JSON");
    let options =
        events::Options { strict: false, receive_unix_nano: NOW, service_name: "bench", max_records: 10 };
    group.bench_function("a record of /v1/events to spans", |b| {
        b.iter(|| events::transcode(black_box(&record), &options))
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
