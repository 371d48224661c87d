//! `crates/log`: an append to its answer in each mode, eight at a time, with everything settled at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracecast_loadkit::traffic::Template;
use tracecast_log::{
    Durability, Entry, Log, NewRecord, Options, Outcome, Projection, Route, Sequence, Settlement, Slot,
    Subscriber,
};
use tracecast_otlp::{Payload, SpanSet};

const SPANS: u32 = 10;
/// Appends that wait together: what one commit can gather.
const TOGETHER: usize = 8;

/// Settles what it is told, so that segment files come back.
struct Settler(Log);

impl Subscriber for Settler {
    fn committed(&self, entry: Arc<Entry>) {
        self.0.settle(Settlement { slot: 0, entry, spans: SpanSet::all(SPANS), outcome: Outcome::Delivered });
    }
    fn give_up(&self, _: Slot, _: Sequence) {}
}

fn benches(criterion: &mut Criterion) {
    let body = Bytes::from(Template::new(1, SPANS as usize, 4096).request(1, 0, 1_790_000_000_000_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(u64::from(SPANS) * TOGETHER as u64));
    for (name, durability) in
        [("durable", Durability::Durable), ("buffered", Durability::Buffered), ("memory", Durability::Memory)]
    {
        // On the disk that builds lie on: a temporary directory may be in memory, where syncs cost nothing.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (log, _) = Log::open(Options {
            dir: dir.path().join("log"),
            durability,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(3600),
            retain: Duration::ZERO,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
        })
        .expect("the log opens");
        let slot = log.slot([1; 16]);
        log.subscribe(Arc::new(Settler(log.clone())));
        group.bench_function(format!("append, {name}"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let appends = (0..TOGETHER).map(|_| {
                        let record = record(slot, &body);
                        let log = log.clone();
                        tokio::spawn(async move { log.append(record).await })
                    });
                    for append in appends.collect::<Vec<_>>() {
                        append.await.expect("no panic").expect("the log takes it");
                    }
                })
            })
        });
        log.close();
    }
    group.finish();
}

fn record(slot: Slot, body: &Bytes) -> NewRecord {
    NewRecord {
        workspace: [0; 16],
        config_generation: 1,
        received_unix_nano: 1,
        accepted: SPANS,
        routes: vec![Route { slot, projection: Projection::AS_IS, spans: SpanSet::all(SPANS) }],
        skips: Vec::new(),
        trace_keys: Bytes::new(),
        origin: Default::default(),
        payload: Arc::new(Payload::new(body.clone(), SPANS)),
    }
}

criterion_group!(all, benches);
criterion_main!(all);
