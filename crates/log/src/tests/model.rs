//! The log against a simple model in memory: random appends, settlements and restarts over tiny segments.
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Spans, payload bytes, per slot the bits of the selected spans.
    Append(u32, usize, [u8; SLOTS as usize]),
    /// Spans sent again to one slot, payload bytes.
    Requeue(u32, usize, u8),
    /// Which pending entry (by position, from the end), which slot, which spans, which outcome.
    Settle(usize, u8, u8, u8),
    /// Settle everything of a slot.
    Drain(u8),
    Reopen {
        close: bool,
    },
    Check,
}

#[derive(Default)]
struct Model {
    books: Vec<Books>,
    accepted: u64,
    /// sequence -> slot -> pending positions
    pending: BTreeMap<Sequence, BTreeMap<Slot, BTreeSet<u32>>>,
    content: BTreeMap<Sequence, (u64, usize)>,
    entries: BTreeMap<Sequence, Arc<Entry>>,
}

impl Model {
    fn settle(&mut self, sequence: Sequence, slot: Slot, positions: &[u32], outcome: Outcome) {
        let Some(left) = self.pending.get_mut(&sequence).and_then(|e| e.get_mut(&slot)) else { return };
        let books = &mut self.books[slot as usize];
        for position in positions {
            if left.remove(position) {
                books.pending -= 1;
                match outcome {
                    Outcome::Delivered => books.delivered += 1,
                    Outcome::DeadLettered(reason) => books.dead_lettered[reason as usize] += 1,
                    Outcome::Dropped(reason) => books.dropped[reason as usize] += 1,
                }
            }
        }
        let entry = self.pending.get_mut(&sequence).unwrap();
        entry.retain(|_, left| !left.is_empty());
        if entry.is_empty() {
            self.pending.remove(&sequence);
        }
    }
}

/// Follows the log; what it is asked to give up, it gives up in the model too.
struct Follower {
    model: Arc<Mutex<Model>>,
    log: Mutex<Option<Log>>,
}

impl Subscriber for Follower {
    fn committed(&self, entry: Arc<Entry>) {
        lock(&self.model).entries.insert(entry.sequence, entry);
    }

    fn give_up(&self, slot: Slot, up_to: Sequence) {
        // Held all the time: a restart must not find this call with the last clone.
        let log = lock(&self.log);
        let Some(log) = &*log else { return };
        let mut model = lock(&self.model);
        let wanted: Vec<_> = model
            .pending
            .range(..=up_to)
            .filter_map(|(sequence, slots)| {
                Some((*sequence, slots.get(&slot)?.iter().copied().collect::<Vec<_>>()))
            })
            .collect();
        for (sequence, positions) in wanted {
            let entry = model.entries[&sequence].clone();
            let len = entry.location.spans;
            let outcome = Outcome::Dropped(DropReason::BacklogFull);
            model.settle(sequence, slot, &positions, outcome);
            log.settle(Settlement { slot, entry, spans: SpanSet::from_positions(len, positions), outcome });
        }
    }
}

/// sequence -> slot -> positions
fn by_slot(entries: &[Arc<Entry>]) -> BTreeMap<Sequence, BTreeMap<Slot, BTreeSet<u32>>> {
    let routes = |e: &Entry| e.routes.iter().map(|r| (r.slot, r.spans.iter().collect())).collect();
    entries.iter().map(|e| (e.sequence, routes(e))).collect()
}

fn start(options: &Options, model: &Arc<Mutex<Model>>) -> (Log, Arc<Follower>) {
    let (log, recovered) = Log::open(options.clone()).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    let mut known = lock(model);
    let pending = read_backlog(&log);
    assert_eq!(by_slot(&pending), known.pending);
    known.entries = pending.iter().map(|e| (e.sequence, e.clone())).collect();
    for n in 0..SLOTS {
        assert_eq!(log.slot(key(n)), Slot::from(n));
        let routes = || pending.iter().flat_map(|e| &e.routes).filter(|r| r.slot == Slot::from(n));
        let pending_bytes = routes().map(|r| u64::from(r.bytes)).sum::<u64>();
        assert_eq!(log.books(n.into()).pending_bytes, pending_bytes);
        let summary = recovered.backlog.iter().find(|b| b.slot == Slot::from(n));
        let spans = routes().map(|r| u64::from(r.spans.count())).sum::<u64>();
        assert_eq!(summary.map_or(0, |b| b.spans), spans);
        assert_eq!(summary.map(|b| b.first_ordinal), routes().map(|r| r.ordinal).min());
    }
    drop(known);
    check(&log, model);
    let follower = Arc::new(Follower { model: model.clone(), log: Mutex::new(Some(log.clone())) });
    log.subscribe(follower.clone());
    (log, follower)
}

fn check(log: &Log, shared: &Arc<Mutex<Model>>) {
    // A request to give up may come between the two looks: look again.
    for _ in 0..100 {
        log.flush().unwrap();
        let found: Vec<Books> = (0..SLOTS).map(|n| log.books(n.into())).collect();
        assert!(found.iter().all(Books::balanced));
        let model = lock(shared);
        let same = found.iter().zip(&model.books).all(|(found, expected)| {
            let found = Books { pending_bytes: 0, oldest_pending_unix_nano: None, ..found.clone() };
            found == *expected
        });
        drop(model);
        let pending = by_slot(&read_backlog(log));
        let model = lock(shared);
        if same && log.accepted() == model.accepted && pending == model.pending {
            return;
        }
    }
    let found: Vec<Books> = (0..SLOTS).map(|n| log.books(n.into())).collect();
    panic!("{found:#?}\nexpected {:#?}", lock(shared).books);
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u32..8, 0usize..6000, any::<[u8; 3]>()).prop_map(|(n, len, bits)| Op::Append(n, len, bits)),
        2 => (1u32..8, 0usize..3000, 0..SLOTS).prop_map(|(n, len, slot)| Op::Requeue(n, len, slot)),
        6 => (0usize..50, 0..SLOTS, any::<u8>(), 0u8..3).prop_map(|(e, s, b, o)| Op::Settle(e, s, b, o)),
        2 => (0..SLOTS).prop_map(Op::Drain),
        1 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        1 => Just(Op::Check),
    ]
}

fn run(durability: Durability, ops: Vec<Op>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability, max_bytes: 160 * KIB, ..options(dir.path()) };
    let model =
        Arc::new(Mutex::new(Model { books: vec![Books::default(); SLOTS.into()], ..Model::default() }));
    let (mut log, mut follower) = start(&options, &model);
    for (seed, op) in (1u64..).zip(ops) {
        match op {
            Op::Append(spans, len, bits) => {
                let positions =
                    |n: usize| (0..spans).filter(move |i| bits[n] >> i & 1 == 1).collect::<Vec<_>>();
                let chosen: Vec<Vec<u32>> = (0..SLOTS.into()).map(positions).collect();
                let routes: Vec<(Slot, &[u32])> =
                    (0..).zip(&chosen).map(|(n, p)| (n, p.as_slice())).collect();
                let mut new = record(seed, spans, len, &routes);
                new.skips = (0..)
                    .zip(&chosen)
                    .map(|(slot, p)| Skip { slot, reason: SkipReason::Region, spans: spans - p.len() as u32 })
                    .collect();
                let sequence = {
                    // Held while appending would stop the keeper's requests; the model learns afterwards.
                    keep(&log, new)
                };
                let mut model = lock(&model);
                model.accepted += u64::from(spans);
                model.content.insert(sequence, (seed, len));
                for (n, positions) in chosen.into_iter().enumerate() {
                    let books = &mut model.books[n];
                    books.accepted += u64::from(spans);
                    books.selected += positions.len() as u64;
                    books.pending += positions.len() as u64;
                    books.skipped[SkipReason::Region as usize] += u64::from(spans) - positions.len() as u64;
                    if !positions.is_empty() {
                        let entry = model.pending.entry(sequence).or_default();
                        entry.insert(n as Slot, positions.into_iter().collect());
                    }
                }
            }
            Op::Requeue(spans, len, slot) => {
                let slot = Slot::from(slot);
                let positions: Vec<u32> = (0..spans).collect();
                let mut new = record(seed, spans, len, &[(slot, &positions)]);
                new.accepted = 0;
                new.routes[0].projection = Projection::REQUEUED;
                let sequence = keep(&log, new);
                let mut model = lock(&model);
                model.content.insert(sequence, (seed, len));
                let books = &mut model.books[slot as usize];
                books.requeued += u64::from(spans);
                books.pending += u64::from(spans);
                let own = BTreeMap::from([(slot, positions.into_iter().collect())]);
                model.pending.insert(sequence, own);
            }
            Op::Settle(which, slot, bits, outcome) => {
                let mut model = lock(&model);
                let Some(sequence) = model.pending.keys().rev().nth(which).copied() else { continue };
                let Some(entry) = model.entries.get(&sequence).cloned() else { continue };
                let len = entry.location.spans;
                let positions: Vec<u32> = (0..len).filter(|i| bits >> i & 1 == 1).collect();
                let outcome = Outcome::from_codes(outcome, 0).unwrap();
                model.settle(sequence, slot.into(), &positions, outcome);
                let spans = SpanSet::from_positions(len, positions);
                log.settle(Settlement { slot: slot.into(), entry, spans, outcome });
            }
            Op::Drain(slot) => {
                let mut model = lock(&model);
                let sequences: Vec<_> = model.pending.keys().copied().collect();
                for sequence in sequences {
                    let Some(entry) = model.entries.get(&sequence).cloned() else { continue };
                    let spans = SpanSet::all(entry.location.spans);
                    let positions: Vec<u32> = spans.iter().collect();
                    model.settle(sequence, slot.into(), &positions, Outcome::Delivered);
                    log.settle(Settlement { slot: slot.into(), entry, spans, outcome: Outcome::Delivered });
                }
            }
            Op::Reopen { close } => {
                log.flush().unwrap();
                *lock(&follower.log) = None;
                if close {
                    log.close();
                }
                drop(log);
                drop(follower);
                (log, follower) = start(&options, &model);
            }
            Op::Check => {
                check(&log, &model);
                let model = lock(&model);
                let held: Vec<_> = model
                    .pending
                    .keys()
                    .rev()
                    .take(3)
                    .filter_map(|s| model.entries.get(s))
                    .cloned()
                    .collect();
                let content = model.content.clone();
                drop(model);
                block_on(async {
                    for entry in held {
                        let (seed, len) = content[&entry.sequence];
                        // It may have been given up meanwhile.
                        if let Ok(payload) = log.payload(&entry).await {
                            assert_eq!(payload.bytes(), &super::content(seed, len));
                        }
                    }
                });
                assert!(log.bytes() <= 160 * KIB + 64 * KIB, "{}", log.bytes());
            }
        }
    }
    check(&log, &model);
    *lock(&follower.log) = None;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: soak(24) as u32, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn durable_log_is_the_model(ops in proptest::collection::vec(op(), 1..90)) {
        run(Durability::Durable, ops);
    }

    #[test]
    fn buffered_log_is_the_model(ops in proptest::collection::vec(op(), 1..90)) {
        run(Durability::Buffered, ops);
    }
}
