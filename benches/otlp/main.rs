//! `crates/otlp`: walking a request, selecting spans of it, writing it as JSON.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tracecast_genai::Privacy;
use tracecast_loadkit::traffic::Template;
use tracecast_otlp::write::{Edit, OwnedValue, Place, SPAN_ATTRIBUTES, Verdict, append_attribute, select};
use tracecast_otlp::{Limits, SpanSet, SpanView, Traces, Value, json};

const SPANS: usize = 10;

fn request() -> Bytes {
    Template::new(1, SPANS, 4096).request(1, 0, 1_790_000_000_000_000_000).into()
}

/// Adds three attributes to every span, as a dialect does.
struct Adds;

impl Edit for Adds {
    fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict {
        Verdict::Keep
    }

    fn extra_attributes(&self, _: SpanView<'_>, out: &mut Vec<u8>) {
        for key in ["one.more.name", "one.more.session", "one.more.user"] {
            append_attribute(SPAN_ATTRIBUTES, key, &OwnedValue::Str("value".into()), out);
        }
    }
}

fn benches(criterion: &mut Criterion) {
    let body = request();
    let limits = Limits::default();
    let traces = Traces::index(body.clone(), &limits).expect("the template is a valid request");
    let all = SpanSet::all(SPANS as u32);
    let half = SpanSet::from_positions(SPANS as u32, (0..SPANS as u32).step_by(2));
    let mut group = criterion.benchmark_group("otlp");
    group.throughput(Throughput::Elements(SPANS as u64));
    group.bench_function("walk", |b| {
        b.iter(|| Traces::index(black_box(body.clone()), &limits).map(|traces| traces.len()))
    });
    let splices: [(&str, &SpanSet, Option<&dyn Edit>); 4] = [
        ("splice half as it is", &half, None),
        ("splice without content", &all, Some(&Privacy)),
        ("splice with attributes added", &all, Some(&Adds)),
        ("splice all as it is", &all, None),
    ];
    for (name, spans, edit) in splices {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || Vec::with_capacity(2 * body.len()),
                |out| select(black_box(&traces), spans, edit, out),
                BatchSize::SmallInput,
            )
        });
    }
    group.bench_function("json out", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(2 * body.len()),
            |out| json::encode(black_box(&traces), &all, None, out),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
