//! `crates/log`: an append to its answer in each mode, eight at a time, with everything settled at once; and a cursor
//! that reads a backlog.

use std::path::Path;
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

fn appends(criterion: &mut Criterion) {
    let body = Bytes::from(Template::new(1, SPANS as usize, 4096).request(1, 0, 1_790_000_000_000_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(u64::from(SPANS) * TOGETHER as u64));
    for (name, durability) in
        [("durable", Durability::Durable), ("buffered", Durability::Buffered), ("memory", Durability::Memory)]
    {
        // On the disk that builds lie on: a temporary directory may be in memory, where syncs cost nothing.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (log, _) = Log::open(options(dir.path(), durability)).expect("the log opens");
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

/// A destination that lags: its references page by page out of the segments' indexes, and the payloads of a page,
/// which are in no cache of the log's own.
fn cursor(criterion: &mut Criterion) {
    const RECORDS: usize = 2000;
    const PAGE: usize = 256;
    let body = Bytes::from(Template::new(1, SPANS as usize, 4096).request(1, 0, 1_790_000_000_000_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = Options { cache_bytes: 0, ..options(dir.path(), Durability::Buffered) };
    let (log, _) = Log::open(options).expect("the log opens");
    let slot = log.slot([1; 16]);
    runtime.block_on(async {
        for _ in 0..RECORDS {
            log.append(record(slot, &body)).await.expect("the log takes it");
        }
    });
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(u64::from(SPANS) * PAGE as u64));
    let mut from = 0;
    group.bench_function("cursor, references", |b| {
        b.iter(|| {
            let page = runtime.block_on(log.pending(slot, from, PAGE)).expect("the index is readable");
            from = if page.at_end { 0 } else { page.next };
        })
    });
    group.bench_function("cursor, references and payloads", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let page = log.pending(slot, from, PAGE).await.expect("the index is readable");
                for entry in &page.entries {
                    log.payload(entry).await.expect("the payload is readable");
                }
                from = if page.at_end { 0 } else { page.next };
            })
        })
    });
    group.finish();
    log.close();
}

fn options(dir: &Path, durability: Durability) -> Options {
    Options {
        dir: dir.join("log"),
        durability,
        max_bytes: 1 << 30,
        max_age: Duration::from_secs(3600),
        retain: Duration::ZERO,
        segment_bytes: 64 << 20,
        cache_bytes: 64 << 20,
        without_content: None,
    }
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

criterion_group!(all, appends, cursor);
criterion_main!(all);
