//! Carry-over: wanted records move, entries find them, the space comes back, whatever the moment of a crash.
use super::*;
use crate::dead_letters::Limits;
use crate::disk::Disk;
use crate::format::Life;
use crate::keeper::image;
use crate::segments::Segment;
use crate::shared::State;
use crate::world::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans, select};

/// Settles at once whatever it gets.
const FAST: Slot = 0;
/// Settles nothing.
const SLOW: Slot = 1;

#[derive(Default)]
struct Pair {
    log: Mutex<Option<Log>>,
    of_slow: Mutex<Vec<Arc<Entry>>>,
    asked: Mutex<Vec<Slot>>,
}

impl Subscriber for Pair {
    fn committed(&self, entry: Arc<Entry>) {
        if let Some(log) = &*lock(&self.log) {
            settle(log, &entry, FAST, Outcome::Delivered);
        }
        if entry.routes.iter().any(|r| r.slot == SLOW) {
            lock(&self.of_slow).push(entry);
        }
    }

    fn give_up(&self, slot: Slot, _: Sequence) {
        lock(&self.asked).push(slot);
    }
}

fn pair(log: &Log) -> Arc<Pair> {
    assert_eq!((log.slot(key(1)), log.slot(key(2))), (FAST, SLOW));
    let pair = Arc::new(Pair { log: Mutex::new(Some(log.clone())), ..Pair::default() });
    log.subscribe(pair.clone());
    pair
}

fn end(log: Log, pair: &Pair) {
    *lock(&pair.log) = None;
    drop(log);
}

pub(super) fn small(dir: &Path) -> Options {
    Options { cache_bytes: 0, ..options(dir) }
}

/// One record for the fast one; every so many for the slow one too.
fn wanted_by_fast(seed: u64, rare: u64, len: usize) -> NewRecord {
    let both: &[(Slot, &[u32])] = &[(FAST, &[0]), (SLOW, &[0])];
    let routes = if seed.is_multiple_of(rare) { both } else { &both[..1] };
    record(seed, 1, len, routes)
}

fn append(log: &Log, seed: u64, rare: u64, len: usize) -> Result<Sequence, LogError> {
    block_on(log.append(wanted_by_fast(seed, rare, len)))
}

/// Every entry's payload is what its seed says.
fn check_contents(log: &Log, entries: &[Arc<Entry>], len: usize) {
    block_on(async {
        for entry in entries {
            let payload = log.payload(entry).await.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(payload.bytes(), &content(entry.received_unix_nano - 1_000_000, len));
        }
    });
}

fn backlog_of_slow(log: &Log) -> Vec<Arc<Entry>> {
    let all = read_backlog(log).into_iter();
    all.filter(|e| e.routes.iter().any(|r| r.slot == SLOW)).collect()
}

/// Bytes of the files in which something is held.
fn held_bytes(dir: &Path) -> u64 {
    inspect::list(dir).unwrap().iter().filter(|s| !s.free && s.records > 0).map(|s| s.file_bytes).sum()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_destination_that_wants_little_holds_little() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path())).unwrap();
    let pair = pair(&log);
    // Forty times the cap; every fortieth segment has something the slow one wants.
    for seed in 0..10_000 {
        keep(&log, wanted_by_fast(seed, 400, 1000));
    }
    log.flush().unwrap();
    assert!(log.bytes() <= 256 * KIB + 64 * KIB, "{}", log.bytes());
    // It never had to give anything up: its twenty-five kilobytes fit.
    assert!(!lock(&pair.asked).contains(&SLOW));
    let (done, slow) = (log.books(FAST), log.books(SLOW));
    assert_eq!((done.delivered, done.pending), (10_000, 0));
    assert_eq!((slow.selected, slow.pending, slow.dropped), (25, 25, [0; 6]));
    // Entries handed out before are still good, although their segments are long gone.
    let kept = lock(&pair.of_slow).clone();
    assert_eq!(kept.len(), 25);
    check_contents(&log, &kept, 1000);
    let seeds = |entries: &[Arc<Entry>]| -> Vec<u64> {
        entries.iter().map(|e| e.received_unix_nano - 1_000_000).collect()
    };
    assert_eq!(seeds(&backlog_of_slow(&log)), seeds(&kept));
    for entry in &kept[..10] {
        settle(&log, entry, SLOW, Outcome::Delivered);
    }
    log.flush().unwrap();
    let before = log.books(SLOW);
    assert_eq!((before.delivered, before.pending), (10, 15));
    end(log, &pair);

    let (log, recovered) = Log::open(small(dir.path())).unwrap();
    assert_eq!((recovered.notes, log.damage()), (Vec::new(), Damage::default()));
    assert_eq!(log.books(SLOW), before);
    let left = backlog_of_slow(&log);
    assert_eq!(seeds(&left), seeds(&kept[10..]));
    check_contents(&log, &left, 1000);
    log.close();
    assert_eq!(inspect::verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

/// A log of sixty segments of which one record in ten is wanted, opened again: its segments have settled down.
fn sparse(dir: &Path) -> Options {
    let large = Options { max_bytes: 4096 * KIB, ..small(dir) };
    let (log, _) = Log::open(large.clone()).unwrap();
    let pair = pair(&log);
    // Nothing is settled, hence nothing carried over, before it is reopened.
    *lock(&pair.log) = None;
    for seed in 0..600 {
        keep(&log, wanted_by_fast(seed, 10, 1000));
    }
    log.settle_range(FAST, 0..600, Outcome::Delivered);
    log.flush().unwrap();
    drop(log);
    assert!(held_bytes(dir) > 600 * KIB, "{}", held_bytes(dir));
    large
}

#[test]
fn without_pressure_space_comes_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = Log::open(sparse(dir.path())).unwrap();
    assert_eq!((recovered.notes, log.books(SLOW).pending), (Vec::new(), 60));
    wait_until("60 records of 1 KB lie in few files", || held_bytes(dir.path()) <= 12 * 16 * KIB);
    let left = backlog_of_slow(&log);
    assert_eq!(left.len(), 60);
    check_contents(&log, &left, 1000);
    assert_eq!((log.books(SLOW).pending, log.damage()), (60, Damage::default()));
}

#[test]
fn who_reads_meanwhile_misses_nothing_and_sees_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(sparse(dir.path())).unwrap();
    let mut wanted = Vec::new();
    let mut all = Vec::new();
    log.history(0, |past| {
        if all.is_empty() {
            wait_until("segments are carried over", || held_bytes(dir.path()) <= 12 * 16 * KIB);
        }
        all.push(past.sequence);
        if past.routes.iter().any(|r| r.slot == SLOW) {
            wanted.push(past.received_unix_nano - 1_000_000);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    assert_eq!(wanted, (0..60).map(|n| n * 10).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_copied_stays_and_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let large = sparse(dir.path());
    let seed = 300;
    let payload = content(seed, 1000);
    let damaged = inspect::list(dir.path()).unwrap().into_iter().find_map(|segment| {
        let mut bytes = std::fs::read(&segment.path).unwrap();
        let at = bytes.windows(payload.len()).position(|window| window == payload)?;
        bytes[at + 500] ^= 1;
        std::fs::write(&segment.path, bytes).unwrap();
        Some(at)
    });
    assert!(damaged.is_some());
    let (log, _) = Log::open(large).unwrap();
    wait_until("the others are carried over", || held_bytes(dir.path()) <= 16 * 16 * KIB);
    let left = backlog_of_slow(&log);
    assert_eq!((left.len(), log.books(SLOW).pending, log.books(SLOW).dropped), (60, 60, [0; 6]));
    let unreadable: Vec<u64> = block_on(async {
        let mut unreadable = Vec::new();
        for entry in &left {
            if let Err(error) = log.payload(entry).await {
                assert!(matches!(error, LogError::Damaged(..)), "{error}");
                unreadable.push(entry.sequence - 1);
            }
        }
        unreadable
    });
    assert_eq!(unreadable, [seed]);
}

/// A log that is made to carry over, on a disk that stops after some operation; what is found afterwards.
fn crash(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let small = Options { max_bytes: 160 * KIB, ..small(dir.path()) };
    let (log, _) = Log::open_on(disk.clone(), small.clone(), Limits::default()).unwrap();
    let pair = pair(&log);
    let mut answered = BTreeMap::new();
    let rare = random.random_range(20..60);
    let is_power_cut = random.random_bool(0.4);
    if is_power_cut {
        *lock(&disk.faults.synced) = Some(HashMap::new());
    }
    disk.faults.stop_after.store(random.random_range(200..3000), Ordering::SeqCst);
    for seed in 0..700 {
        let len = random.random_range(200..3000);
        match append(&log, seed, rare, len) {
            Ok(sequence) if seed.is_multiple_of(rare) => drop(answered.insert(sequence, (seed, len))),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // From here on nothing reaches the disk.
    disk.faults.stop_after.store(1, Ordering::SeqCst);
    let seen = [log.books(FAST), log.books(SLOW)];
    end(log, &pair);
    let cut = tempfile::tempdir().unwrap();
    let small = if is_power_cut {
        super::power_cut::image(&disk, dir.path(), cut.path(), &mut random);
        Options { dir: cut.path().to_path_buf(), ..small }
    } else {
        small
    };
    let (log, recovered) = Log::open(small).unwrap();
    assert_eq!((recovered.notes, log.damage()), (Vec::new(), Damage::default()), "seed {seed}");
    for (slot, seen) in (0..).zip(&seen) {
        let now = log.books(slot);
        assert!(now.balanced(), "seed {seed}: {now:?}");
        // No figure that was visible falls; a power cut takes the last second of settlements.
        assert!(now.selected >= seen.selected, "seed {seed}: {seen:?} {now:?}");
        assert!(is_power_cut || now.delivered >= seen.delivered, "seed {seed}: {seen:?} {now:?}");
        assert_eq!(now.dropped, [0; 6], "seed {seed}");
    }
    let found: BTreeMap<Sequence, Arc<Entry>> =
        backlog_of_slow(&log).into_iter().map(|entry| (entry.sequence, entry)).collect();
    block_on(async {
        for (sequence, (content_seed, len)) in &answered {
            let entry =
                found.get(sequence).unwrap_or_else(|| panic!("seed {seed}: record {sequence} is gone"));
            let payload = log.payload(entry).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(payload.bytes(), &content(*content_seed, *len), "seed {seed}");
        }
    });
    // Each once: the figures say as many as were found.
    assert_eq!(log.books(SLOW).pending, found.len() as u64, "seed {seed}");
}

#[test]
fn a_crash_at_any_moment_leaves_each_record_once() {
    (0..soak(40)).for_each(crash);
}

#[test]
fn a_lost_checkpoint_finds_carried_records_too() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path())).unwrap();
    let pair = pair(&log);
    for seed in 0..2000 {
        keep(&log, wanted_by_fast(seed, 50, 1000));
    }
    log.flush().unwrap();
    *lock(&pair.log) = None;
    log.close();
    std::fs::write(dir.path().join("checkpoint"), b"not a checkpoint").unwrap();
    let (log, _) = Log::open(small(dir.path())).unwrap();
    let of_slow = backlog_of_slow(&log);
    let seeds: Vec<u64> = of_slow.iter().map(|e| e.received_unix_nano - 1_000_000).collect();
    assert_eq!(seeds, (0..40).map(|n| n * 50).collect::<Vec<_>>());
    check_contents(&log, &of_slow, 1000);
    let books = log.books(SLOW);
    assert!(books.balanced(), "{books:?}");
    assert_eq!((books.pending, books.dropped, log.damage().records), (40, [0; 6], 0));
}

/// Spans of several resources and scopes, each with text of its own.
pub(super) fn request(seed: u64, spans: u32) -> Payload {
    let mut bytes = Vec::new();
    for group in 0..spans.div_ceil(2) {
        let of_group: Vec<SpanBuilder> = (2 * group..spans.min(2 * group + 2))
            .map(|i| SpanBuilder {
                trace_id: [7; 16],
                span_id: ((seed << 8) | (u64::from(i) + 1)).to_be_bytes(),
                name: format!("span {i} of {seed}"),
                attributes: vec![(
                    "text".to_owned(),
                    OwnedValue::Str("x".repeat(150 + (seed as usize + i as usize) % 200)),
                )],
                ..SpanBuilder::default()
            })
            .collect();
        let resource = [("host".to_owned(), OwnedValue::Str(format!("{seed} {group}")))];
        resource_spans(&resource, "scope", "1", &of_group, &mut bytes);
    }
    Payload::new(bytes.into(), spans)
}

/// Appends one record after the other and settles what has `ended` of each, until some segments were carried over.
/// Answers the sequences of the records.
pub(super) fn until_carried(
    log: &Log,
    mut new: impl FnMut(u64) -> NewRecord,
    mut ended: impl FnMut(&Entry) -> Vec<(Slot, SpanSet)>,
) -> Vec<Sequence> {
    let collector = Collector::on(log);
    let begun = Instant::now();
    let mut sequences = Vec::new();
    while log.activity().carried < 3 {
        assert!(begun.elapsed() < PATIENCE, "nothing is carried");
        let sequence = match block_on(log.append(new(sequences.len() as u64))) {
            Ok(sequence) => sequence,
            Err(LogError::Full) => continue,
            Err(error) => panic!("{error}"),
        };
        let entries = collector.upto(sequence);
        for entry in &entries[sequences.len()..] {
            for (slot, spans) in ended(entry) {
                log.settle(Settlement { slot, entry: entry.clone(), spans, outcome: Outcome::Delivered });
            }
        }
        sequences.push(sequence);
        assert_eq!(entries.len(), sequences.len());
    }
    log.flush().unwrap();
    sequences
}

fn body(payload: &Payload, spans: &SpanSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    select(payload.traces().unwrap(), spans, None, &mut bytes);
    bytes
}

/// What every slot would be sent now is what it would have been sent at first; how many records were cut.
fn check_bodies(log: &Log, sent: &HashMap<Sequence, Payload>) -> usize {
    let mut cut = 0;
    for entry in read_backlog(log) {
        let stored = block_on(log.stored(&entry)).unwrap_or_else(|e| panic!("{e}"));
        let whole = &sent[&entry.sequence];
        cut += usize::from(stored.payload.spans() < whole.spans());
        for route in &entry.routes {
            let positions = stored.positions(&route.spans).expect("all of it is there");
            assert_eq!(body(&stored.payload, &positions), body(whole, &route.spans));
        }
    }
    cut
}

#[test]
fn what_is_carried_are_the_wanted_spans_and_bodies_are_what_they_were() {
    const SPANS: u32 = 6;
    for seed in 0..soak(4) {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(small(dir.path())).unwrap();
        let slots: Vec<Slot> = (1..4).map(|n| log.slot(key(n))).collect();
        let mut ends = StdRng::seed_from_u64(!seed);
        // Everybody wants something of every record, and after a while few of its spans.
        let new = |number| {
            let some = |rng: &mut StdRng| {
                SpanSet::from_positions(SPANS, (0..SPANS).filter(|_| rng.random_bool(0.5)))
            };
            let routes = slots.iter().map(|slot| Route {
                slot: *slot,
                projection: Projection::AS_IS,
                spans: some(&mut rng),
            });
            NewRecord {
                accepted: SPANS,
                routes: routes.collect(),
                payload: Arc::new(request(number, SPANS)),
                ..record(number, SPANS, 0, &[])
            }
        };
        let sequences = until_carried(&log, new, |entry| {
            let ended = entry.routes.iter().map(|route| {
                let kept = ends.random_range(0..SPANS * 4);
                let others = route.spans.iter().filter(|position| *position != kept);
                (route.slot, SpanSet::from_positions(SPANS, others))
            });
            ended.filter(|(_, spans)| !spans.is_empty()).collect()
        });
        let sent: HashMap<Sequence, Payload> = sequences
            .into_iter()
            .zip(0..)
            .map(|(sequence, number)| (sequence, request(number, SPANS)))
            .collect();
        let cut = check_bodies(&log, &sent);
        assert!(cut > 0, "seed {seed}: something is cut");
        // Whoever looks at the past sees what is there, under the positions it has now.
        let mut pending = 0;
        log.history(0, |past| {
            let payload = past.payload().unwrap();
            for route in past.routes.iter().filter(|route| !route.pending.is_empty()) {
                let ids = |payload: &Payload, spans: &SpanSet| -> Vec<[u8; 8]> {
                    spans.iter().map(|i| payload.traces().unwrap().span(i as usize).span_id()).collect()
                };
                let of_record = ids(&payload, &route.pending);
                assert!(
                    of_record
                        .iter()
                        .all(|id| u64::from_be_bytes(*id) >> 8 == sequence_of(&sent, past.sequence))
                );
                pending += of_record.len() as u64;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(pending, slots.iter().map(|slot| log.books(*slot).pending).sum::<u64>());
        log.close();
        drop(log);
        let (log, recovered) = Log::open(small(dir.path())).unwrap();
        assert_eq!(recovered.notes, Vec::<String>::new());
        // More may have been carried since.
        assert!(check_bodies(&log, &sent) >= cut);
    }
}

/// The number a record's spans were made from.
fn sequence_of(sent: &HashMap<Sequence, Payload>, sequence: Sequence) -> u64 {
    u64::from_be_bytes(sent[&sequence].traces().unwrap().span(0).span_id()) >> 8
}

/// The log was full when the last segment was: no other was opened before it was carried over.
#[test]
fn a_copy_of_the_last_segment_is_named() {
    let mut state = State { segment: 14, ..State::default() };
    let (written, copied) =
        (Life { number: 14, epoch: 2, nonce: 1 }, Life { number: 14, epoch: 2, nonce: 2 });
    state.segments.open(written, 24, 16 * KIB);
    state.segments.want(14, 20, [(SLOW, 43, 1)].into_iter());
    let named = |state: &State| -> Vec<(u64, u32)> {
        image(state, 2, 1).wanted.iter().map(|wanted| (wanted.number, wanted.file)).collect()
    };
    assert_eq!(named(&state), [], "it is still written to: it is read at a start");
    state.segments.replace(&[14], Segment::sealed(25, copied));
    assert_eq!(named(&state), [(14, 25)]);
}
