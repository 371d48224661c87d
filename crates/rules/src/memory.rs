//! What a request cannot say about its traces: the sampling key they got earlier, what the filters said.
//!
//! Only touched by requests that meet a destination with sampling or filter rules, for as long as it takes
//! to look up their traces. The first request of a trace to get here sets the key; the others get it.

use crate::sampling::Key;
use crate::trace_keys::{self, MAX_KEY_BYTES, StoredKey, Verdict, Writer};
use std::collections::{HashMap, VecDeque, hash_map};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracecast_otlp::TraceId;

/// A trace is forgotten this long after it was learned; use in the second half of that time renews it.
pub const MEMORY_WINDOW_NANOS: u64 = 600 * 1_000_000_000;
/// The bound of [`TraceMemory::default`].
pub const DEFAULT_MEMORY_BYTES: usize = 16 << 20;

/// A trace still in use at this age is remembered anew, also in the record.
const REFRESH_NANOS: u64 = MEMORY_WINDOW_NANOS / 2;
/// Traces looked up under one lock.
const TRACES_PER_LOCK: usize = 256;
/// Tables and queues grow by doubling: what they hold is charged twice.
const TRACE_COST: usize = 2 * (size_of::<(TraceId, Trace)>() + 1);
const ORDER_COST: usize = 2 * size_of::<(u64, TraceId)>();
/// Reference counts and allocator overhead of one piece on the heap.
const HEAP_COST: usize = 32;

/// Trace id -> sampling key, and verdict bits of destinations with filters. Bounded in time (10 minutes,
/// see [`MEMORY_WINDOW_NANOS`], by the times it is given) and in bytes; the oldest go first, counted.
#[derive(Debug)]
pub struct TraceMemory {
    inner: Mutex<Inner>,
    evicted: AtomicU64,
}

impl Default for TraceMemory {
    fn default() -> TraceMemory {
        TraceMemory::new(DEFAULT_MEMORY_BYTES)
    }
}

impl TraceMemory {
    /// An empty memory that holds at most `max_bytes`; with 0 it remembers nothing.
    pub fn new(max_bytes: usize) -> TraceMemory {
        let inner = Inner { traces: HashMap::new(), order: VecDeque::new(), bytes: 0, max_bytes };
        TraceMemory { inner: Mutex::new(inner), evicted: AtomicU64::new(0) }
    }

    /// Replays what a record stored ([`crate::Decision::trace_keys`]), oldest record first. Damaged bytes
    /// are read up to the damage.
    pub fn restore(&self, received_unix_nano: u64, trace_keys: &[u8]) {
        let mut inner = self.lock();
        for item in trace_keys::read(trace_keys) {
            let evicted = inner.update(received_unix_nano, item.trace, |trace| {
                // The latest record says what was used last.
                trace.key = item.key.or(trace.key.take());
                trace.merge(item.verdicts.into_iter());
            });
            self.count(evicted);
        }
    }

    /// Traces given up before their time because the bound in bytes was reached. Monotone.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Bytes charged now; never above the bound.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Traces remembered now (some may be past their time).
    pub fn len(&self) -> usize {
        self.lock().traces.len()
    }

    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, evicted: u64) {
        if evicted > 0 {
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
    }
}

/// One request's dealings with the memory.
#[derive(Debug)]
pub(crate) struct Recall<'m> {
    memory: &'m TraceMemory,
    now: u64,
    learn: bool,
    learned: Writer,
}

impl<'m> Recall<'m> {
    pub(crate) fn learning(memory: &'m TraceMemory, now: u64) -> Recall<'m> {
        Recall { memory, now, learn: true, learned: Writer::default() }
    }

    /// Looks and changes nothing.
    pub(crate) fn looking(memory: &'m TraceMemory, now: u64) -> Recall<'m> {
        Recall { learn: false, ..Recall::learning(memory, now) }
    }

    /// What was learned, and what was used that the request alone does not say: so each record stands
    /// for itself, whichever records before it are still there at recovery.
    pub(crate) fn into_learned(self) -> Vec<u8> {
        self.learned.into_bytes()
    }

    /// The sampling key of each trace: the remembered one, else its session id in this request, else the
    /// trace id; what is new is remembered.
    pub(crate) fn keys<'a>(&mut self, ids: &[TraceId], sessions: &[Option<&'a str>]) -> Vec<Key<'a>> {
        let mut keys = Vec::with_capacity(ids.len());
        let mut shared: Option<Arc<[u8]>> = None;
        for (ids, sessions) in ids.chunks(TRACES_PER_LOCK).zip(sessions.chunks(TRACES_PER_LOCK)) {
            let mut inner = self.memory.lock();
            for (id, session) in ids.iter().zip(sessions) {
                let own = session.map_or(Key::TraceId(*id), Key::Session);
                let known = inner.get(self.now, id);
                let stale = known.is_some_and(|trace| trace.is_stale(self.now));
                let (stored, known) = match known.and_then(|trace| trace.key.clone()) {
                    Some(stored) => (stored, true),
                    None => match session {
                        None => (StoredKey::TraceId, false),
                        Some(session) if session.len() <= MAX_KEY_BYTES => {
                            let text = match &shared {
                                Some(text) if **text == *session.as_bytes() => text.clone(),
                                _ => Arc::from(session.as_bytes()),
                            };
                            shared = Some(text.clone());
                            (StoredKey::Session(text), false)
                        }
                        Some(_) => {
                            keys.push(own);
                            continue;
                        }
                    },
                };
                let same = match (&stored, session) {
                    (StoredKey::TraceId, None) => true,
                    (StoredKey::Session(text), Some(session)) => **text == *session.as_bytes(),
                    _ => false,
                };
                if self.learn && (!known || stale || !same) {
                    self.learned.key(id, &stored);
                    if !known || stale {
                        let key = Some(stored.clone());
                        self.memory.count(inner.update(self.now, *id, |trace| trace.key = key));
                    }
                }
                keys.push(match stored {
                    _ if same => own,
                    StoredKey::TraceId => Key::TraceId(*id),
                    StoredKey::Session(text) => Key::Remembered(text),
                });
            }
        }
        keys
    }

    /// Adds the request's own verdicts per trace (one row of `slots.len()` per trace, `None` = no
    /// generation was judged) to the remembered ones; leaves both together in `rows`.
    pub(crate) fn verdicts(&mut self, ids: &[TraceId], slots: &[u32], rows: &mut [Option<bool>]) {
        let columns = slots.len();
        if columns == 0 {
            return;
        }
        let mut before: Vec<Option<bool>> = Vec::with_capacity(columns);
        for (ids, rows) in ids.chunks(TRACES_PER_LOCK).zip(rows.chunks_mut(TRACES_PER_LOCK * columns)) {
            let mut inner = self.memory.lock();
            for (id, row) in ids.iter().zip(rows.chunks_mut(columns)) {
                let known = inner.get(self.now, id);
                let stale = known.is_some_and(|trace| trace.is_stale(self.now));
                let mut learned = false;
                before.clear();
                before.extend_from_slice(row);
                for (slot, verdict) in slots.iter().zip(row.iter_mut()) {
                    let remembered = known.and_then(|trace| trace.verdict(*slot));
                    *verdict = match (*verdict, remembered) {
                        (Some(own), Some(remembered)) => Some(own || remembered),
                        (own, remembered) => own.or(remembered),
                    };
                    learned |= *verdict != remembered;
                }
                let any = row.iter().any(Option::is_some);
                if self.learn && any && (learned || stale || before != row) {
                    let verdicts = slots
                        .iter()
                        .zip(row.iter())
                        .filter_map(|(&slot, &passed)| Some(Verdict { slot, passed: passed? }));
                    self.learned.verdicts(id, verdicts.clone());
                    if learned || stale {
                        self.memory.count(inner.update(self.now, *id, |trace| trace.merge(verdicts)));
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct Inner {
    traces: HashMap<TraceId, Trace>,
    /// Oldest first. An item whose time is not its trace's any more is void.
    order: VecDeque<(u64, TraceId)>,
    bytes: usize,
    max_bytes: usize,
}

/// What is known about one trace.
#[derive(Debug)]
struct Trace {
    /// When it was learned or last refreshed.
    since: u64,
    key: Option<StoredKey>,
    /// By slot, rising.
    verdicts: Box<[Verdict]>,
}

impl Trace {
    fn new(since: u64) -> Trace {
        Trace { since, key: None, verdicts: Box::default() }
    }

    fn is_stale(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= REFRESH_NANOS
    }

    fn is_expired(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= MEMORY_WINDOW_NANOS
    }

    fn verdict(&self, slot: u32) -> Option<bool> {
        let at = self.verdicts.binary_search_by_key(&slot, |verdict| verdict.slot).ok()?;
        self.verdicts.get(at).map(|verdict| verdict.passed)
    }

    fn merge(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        let mut all = std::mem::take(&mut self.verdicts).into_vec();
        // Together: those of thousands of destinations come in no order, and to insert one by one moves all for each.
        all.extend(verdicts);
        all.sort_unstable_by_key(|verdict| verdict.slot);
        all.dedup_by(|next, kept| {
            let is_same = next.slot == kept.slot;
            kept.passed |= is_same && next.passed;
            is_same
        });
        self.verdicts = all.into();
    }

    fn cost(&self) -> usize {
        let key = match &self.key {
            Some(StoredKey::Session(text)) => HEAP_COST + text.len(),
            _ => 0,
        };
        let verdicts = match self.verdicts.len() {
            0 => 0,
            n => HEAP_COST + n * size_of::<Verdict>(),
        };
        TRACE_COST + key + verdicts
    }
}

impl Inner {
    fn get(&self, now: u64, id: &TraceId) -> Option<&Trace> {
        self.traces.get(id).filter(|trace| !trace.is_expired(now))
    }

    /// Changes what is known about a trace; returns how many traces had to go for it.
    fn update(&mut self, now: u64, id: TraceId, change: impl FnOnce(&mut Trace)) -> u64 {
        let (trace, before, enqueue) = match self.traces.entry(id) {
            hash_map::Entry::Vacant(vacant) => (vacant.insert(Trace::new(now)), 0, true),
            hash_map::Entry::Occupied(occupied) => {
                let trace = occupied.into_mut();
                let before = trace.cost();
                let (stale, expired) = (trace.is_stale(now), trace.is_expired(now));
                if expired {
                    *trace = Trace::new(now);
                } else if stale {
                    trace.since = now;
                }
                (trace, before, stale)
            }
        };
        change(trace);
        self.bytes = self.bytes + trace.cost() - before;
        if enqueue {
            self.order.push_back((now, id));
            self.bytes += ORDER_COST;
        }
        self.make_room(now)
    }

    /// Lets go of what is past its time and, oldest first, of what is too much. Only the latter counts.
    fn make_room(&mut self, now: u64) -> u64 {
        let mut evicted = 0;
        while let Some(&(since, id)) = self.order.front() {
            let expired = now.saturating_sub(since) >= MEMORY_WINDOW_NANOS;
            if !expired && self.bytes <= self.max_bytes {
                break;
            }
            self.order.pop_front();
            self.bytes -= ORDER_COST;
            if let hash_map::Entry::Occupied(occupied) = self.traces.entry(id)
                && occupied.get().since == since
            {
                self.bytes -= occupied.remove().cost();
                evicted += u64::from(!expired);
            }
        }
        evicted
    }
}
