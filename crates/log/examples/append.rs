//! Append throughput: `append [--dir DIR] [--record BYTES] [--producers N] [--seconds S] [--mode durable|buffered|memory]`.
//!
//! Producers append records as fast as they are answered; a subscriber settles everything at once, so that segment
//! files come back. The first part runs on fresh files, the second (after a restart) on recycled ones.
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracecast_log::*;
use tracecast_otlp::{Payload, SpanSet};

struct Settler {
    log: Log,
    settle: AtomicBool,
}

impl Subscriber for Settler {
    fn committed(&self, entry: Arc<Entry>) {
        if !self.settle.load(Ordering::Relaxed) {
            return;
        }
        let spans = SpanSet::all(10);
        self.log.settle(Settlement { slot: 0, entry, spans, outcome: Outcome::Delivered });
    }
    fn give_up(&self, _: Slot, _: Sequence) {}
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| after.split_whitespace().nth(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

fn run(label: &str, options: &Options, record: usize, producers: usize, seconds: f64, settle: bool) {
    let started = Instant::now();
    let (log, recovered) = Log::open(options.clone()).expect("open");
    let opened = started.elapsed();
    let slot = log.slot([1; 16]);
    let settler = Arc::new(Settler { log: log.clone(), settle: AtomicBool::new(true) });
    log.subscribe(settler.clone());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let mut page = Pending { entries: Vec::new(), next: 0, at_end: false };
    while !page.at_end {
        page = runtime.block_on(log.pending(slot, page.next, 1000)).expect("a page");
        page.entries.drain(..).for_each(|entry| settler.committed(entry));
    }
    settler.settle.store(settle, Ordering::Relaxed);
    let bytes = Bytes::from((0..record).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let appended = Arc::new(AtomicU64::new(0));
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    runtime.block_on(async {
        let tasks = (0..producers).map(|_| {
            let (log, bytes, latencies, appended) =
                (log.clone(), bytes.clone(), latencies.clone(), appended.clone());
            tokio::spawn(async move {
                let mut own = Vec::new();
                while begin.elapsed() < Duration::from_secs_f64(seconds) {
                    let at = Instant::now();
                    let new = NewRecord {
                        workspace: [0; 16],
                        config_generation: 1,
                        received_unix_nano: 1,
                        accepted: 10,
                        routes: vec![Route { slot, projection: Projection::AS_IS, spans: SpanSet::all(10) }],
                        skips: Vec::new(),
                        trace_keys: Bytes::from_static(&[7; 24]),
                        origin: Origin::default(),
                        payload: Arc::new(Payload::new(bytes.clone(), 10)),
                    };
                    match log.append(new).await {
                        Ok(_) => own.push(at.elapsed()),
                        Err(LogError::Full) => break,
                        Err(error) => panic!("{error}"),
                    }
                    appended.fetch_add(1, Ordering::Relaxed);
                }
                latencies.lock().expect("latencies").extend(own);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("producer");
        }
    });
    let (took, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let n = appended.load(Ordering::Relaxed);
    let mut latencies = std::mem::take(&mut *latencies.lock().expect("latencies"));
    latencies.sort_unstable();
    let at = |q: f64| {
        latencies.get((latencies.len() as f64 * q) as usize).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let activity = log.activity();
    println!(
        "{label:>10}: {:7.1} MB/s {:8.0} records/s  cpu {:6.2} us/record ({:5.2} us per 5 KB)  {:5.1} records/commit  sync {:5.2} ms  p50 {:5.2} ms p99 {:6.2} ms  open {:4.0} ms, {} spans pending",
        n as f64 * record as f64 / 1e6 / took,
        n as f64 / took,
        cpu / n.max(1) as f64 * 1e6,
        cpu / (n.max(1) as f64 * record as f64) * 5000.0 * 1e6,
        activity.records as f64 / activity.commits.max(1) as f64,
        activity.sync_time.as_secs_f64() * 1e3 / activity.syncs.max(1) as f64,
        at(0.5),
        at(0.99),
        opened.as_secs_f64() * 1e3,
        recovered.backlog.iter().map(|b| b.spans).sum::<u64>(),
    );
    log.close();
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arg = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let number = |name: &str, default: f64| arg(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let dir = arg("--dir").map_or_else(|| std::env::temp_dir().join("tracecast-log-append"), PathBuf::from);
    let durability = match arg("--mode").as_deref() {
        Some("buffered") => Durability::Buffered,
        Some("memory") => Durability::Memory,
        _ => Durability::Durable,
    };
    let options = Options {
        dir: dir.clone(),
        durability,
        max_bytes: number("--max-mib", 2048.0) as u64 * 1024 * 1024,
        max_age: Duration::from_secs(3600),
        retain: Duration::ZERO,
        segment_bytes: 64 << 20,
        cache_bytes: 64 << 20,
        without_content: None,
    };
    let (record, producers) = (number("--record", 50_000.0) as usize, number("--producers", 16.0) as usize);
    let seconds = number("--seconds", 5.0);
    let _ = std::fs::remove_dir_all(&dir);
    // Backlog: nothing is settled, so every segment is a new file.
    run("fresh", &options, record, producers, seconds, false);
    // The backlog above is settled first, then its files are written again.
    run("recycled", &options, record, producers, seconds, true);
    run("recycled", &options, record, producers, seconds, true);
    let _ = std::fs::remove_dir_all(&dir);
}
