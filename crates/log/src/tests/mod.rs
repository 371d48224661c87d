//! Tests of the log as a whole, and what they share.
mod backlog;
mod carry;
mod crash;
mod damage;
mod failures;
pub(crate) mod faults;
mod formats;
mod fuzz;
mod intents;
mod lifecycle;
mod memory;
mod model;
mod narrowing;
mod on_full;
mod power_cut;
mod requeue;
mod retain;
mod space;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::shared::lock;
use crate::world::{Condvar, Mutex};
use crate::*;

/// How often a randomised test repeats itself: more with `TRACECAST_SOAK=n`.
pub(crate) fn soak(times: u64) -> u64 {
    times * std::env::var("TRACECAST_SOAK").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1)
}

pub(crate) const KIB: u64 = 1024;

/// How long a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A small durable log: segments of 16 KiB, 16 of them.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_path_buf(),
        durability: Durability::Durable,
        max_bytes: 256 * KIB,
        max_age: Duration::from_secs(3600),
        retain: Duration::ZERO,
        segment_bytes: 16 * KIB,
        cache_bytes: 64 * KIB,
        without_content: None,
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn key(n: u8) -> SlotKey {
    [n; 16]
}

/// Bytes that can be told apart by their seed.
pub(crate) fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let bytes = (0..len).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    bytes.collect()
}

/// `spans` spans, each of `routes` (slot, positions), a payload of `len` bytes made from `seed`.
pub(crate) fn record(seed: u64, spans: u32, len: usize, routes: &[(Slot, &[u32])]) -> NewRecord {
    let routes = routes.iter().map(|(slot, positions)| Route {
        slot: *slot,
        projection: Projection::AS_IS,
        spans: SpanSet::from_positions(spans, positions.iter().copied()),
    });
    NewRecord {
        workspace: [7; 16],
        config_generation: 3,
        received_unix_nano: 1_000_000 + seed,
        accepted: spans,
        routes: routes.collect(),
        skips: Vec::new(),
        trace_keys: Bytes::from(seed.to_le_bytes().to_vec()),
        origin: Origin::default(),
        payload: Arc::new(Payload::new(content(seed, len), spans)),
    }
}

/// Appends. Where the disk is slow, room may take longer than an append waits for it.
pub(crate) fn keep(log: &Log, new: NewRecord) -> Sequence {
    let started = std::time::Instant::now();
    loop {
        match block_on(log.append(new.clone())) {
            Ok(sequence) => return sequence,
            Err(LogError::Full) => assert!(started.elapsed() < PATIENCE, "no room comes"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Collects what is committed, and gives up what it is asked to.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) entries: Mutex<Vec<Arc<Entry>>>,
    /// The last sequence committed.
    last: Mutex<Sequence>,
    came: Condvar,
    pub(crate) asked: Mutex<Vec<(Slot, Sequence)>>,
    /// Set to settle what is asked for.
    pub(crate) obedient: Mutex<Option<Log>>,
}

impl Subscriber for Collector {
    fn committed(&self, entry: Arc<Entry>) {
        let sequence = entry.sequence;
        lock(&self.entries).push(entry);
        *lock(&self.last) = sequence;
        self.came.notify_all();
    }

    fn give_up(&self, slot: Slot, up_to: Sequence) {
        lock(&self.asked).push((slot, up_to));
        let log = lock(&self.obedient);
        let Some(log) = &*log else { return };
        for entry in lock(&self.entries).iter().filter(|e| e.sequence <= up_to) {
            settle(log, entry, slot, Outcome::Dropped(DropReason::BacklogFull));
        }
    }
}

impl Collector {
    pub(crate) fn on(log: &Log) -> Arc<Collector> {
        let collector = Arc::new(Collector::default());
        log.subscribe(collector.clone());
        collector
    }

    /// Everything committed, once the record of that number is (it may be answered a moment before).
    pub(crate) fn upto(&self, sequence: Sequence) -> Vec<Arc<Entry>> {
        let mut last = lock(&self.last);
        while *last < sequence {
            last = self.came.wait(last);
        }
        drop(last);
        lock(&self.entries).clone()
    }
}

/// What is pending, read page by page, oldest first: one entry per record, with the routes of all slots.
pub(crate) fn read_backlog(log: &Log) -> Vec<Arc<Entry>> {
    let mut found: BTreeMap<Sequence, (Arc<Entry>, Vec<EntryRoute>)> = BTreeMap::new();
    for (slot, _) in log.slots() {
        let mut from = 0;
        loop {
            let page = log.pending_now(slot, from, 3).unwrap();
            for entry in page.entries {
                assert!(entry.routes.iter().all(|r| r.slot == slot && r.end() <= page.next));
                let routes = entry.routes.clone();
                found.entry(entry.sequence).or_insert((entry, Vec::new())).1.extend(routes);
            }
            if page.at_end {
                break;
            }
            assert!(page.next > from);
            from = page.next;
        }
    }
    let whole = found.into_iter().map(|(sequence, (e, routes))| {
        Arc::new(Entry::new(
            sequence,
            e.received_unix_nano,
            e.workspace,
            routes,
            e.via.clone(),
            e.location,
            None,
        ))
    });
    whole.collect()
}

/// Settles everything a slot has in an entry.
pub(crate) fn settle(log: &Log, entry: &Arc<Entry>, slot: Slot, outcome: Outcome) {
    for route in entry.routes.iter().filter(|r| r.slot == slot) {
        log.settle(Settlement { slot, entry: entry.clone(), spans: route.spans.clone(), outcome });
    }
}

/// The only segment file that holds records (the one with the highest number).
pub(crate) fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let list = inspect::list(dir).unwrap();
    list.into_iter().filter(|s| s.records > 0).max_by_key(|s| s.number).unwrap().path
}

/// A copy of the directory of a log that is not open.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
