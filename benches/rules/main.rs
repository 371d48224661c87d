//! `crates/rules`: the decision for a request, by number and kind of rules.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value as Json, json};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy, Region};
use tracecast_loadkit::traffic::Template;
use tracecast_otlp::{Limits, Traces};
use tracecast_rules::{Context, Plan, TraceMemory};

const SPANS: usize = 10;
const NOW: u64 = 1_790_000_000_000_000_000;

fn destination(slot: u32, rules: Json) -> (u32, Arc<Destination>) {
    let mut body = json!({
        "type": "webhook", "name": format!("{slot}"), "config": { "url": "https://example.com/hook" },
    });
    if let (Json::Object(body), Json::Object(rules)) = (&mut body, rules) {
        body.extend(rules);
    }
    let defaults = CreateDefaults {
        id: uuid::Uuid::from_u128(u128::from(slot) + 1),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    (slot, Arc::new(Destination::create(&body, defaults).expect("a valid destination")))
}

fn filter(field: &str, operator: &str, value: &str) -> Json {
    json!({ "filter_rules": { "enabled": true, "groups": [
        { "logic": "and", "rules": [{ "field": field, "operator": operator, "value": value }] } ] } })
}

fn benches(criterion: &mut Criterion) {
    let body = Bytes::from(Template::new(1, SPANS, 4096).request(1, 0, NOW));
    let traces = Traces::index(body, &Limits::default()).expect("the template is a valid request");
    let memory = TraceMemory::new(16 << 20);
    let context = Context {
        region: Region::Global,
        api_key_hash: Some([7; 32]),
        api_key_name: None,
        now_unix_nano: NOW,
    };
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(SPANS as u64));
    let kinds = [
        ("none", json!({})),
        ("sampled", json!({ "sampling_rate": 0.5 })),
        ("filter on model", filter("model", "contains", "gpt")),
        ("regex on input", filter("input", "regex", "refund|chargeback [0-9]+")),
    ];
    for (name, rules) in kinds {
        let plan = Plan::compile(true, &[destination(0, rules)]).expect("the rules compile");
        group.bench_function(name, |b| b.iter(|| black_box(&plan).decide(&traces, &context, &memory)));
    }
    for destinations in [1u32, 10, 100] {
        // Of all destinations the last alone selects.
        let all: Vec<_> = (0..destinations)
            .map(|slot| {
                let allowed = if slot + 1 == destinations { "07" } else { "08" };
                destination(slot, json!({ "api_key_hashes": [allowed.repeat(32)] }))
            })
            .collect();
        let plan = Plan::compile(true, &all).expect("the rules compile");
        let id = BenchmarkId::new("one matches of", destinations);
        group.bench_function(id, |b| b.iter(|| black_box(&plan).decide(&traces, &context, &memory)));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
