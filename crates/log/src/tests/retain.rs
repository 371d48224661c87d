//! What stays although nobody wants it, and how it is read again.
use super::*;
use std::ops::ControlFlow;

/// Sequences and contents of what is still held, from a time on.
fn held(log: &Log, from: u64) -> (Vec<(Sequence, u64)>, Option<u64>) {
    let mut found = Vec::new();
    let oldest = log.history(from, |past| {
        let seed = past.received_unix_nano - start();
        assert_eq!(past.payload().unwrap().bytes(), &content(seed, 900));
        assert_eq!(past.origin.sender, Bytes::from(format!("sender {seed}")));
        found.push((past.sequence, seed));
        ControlFlow::Continue(())
    });
    (found, oldest.unwrap())
}

/// Receive times are near to now, so that a retention in hours tells them apart from nothing.
fn start() -> u64 {
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *START.get_or_init(|| crate::world::unix_nano() - 60_000_000_000)
}

fn append(log: &Log, collector: &Collector, seed: u64, outcome: Option<Outcome>) -> Sequence {
    let mut new = record(seed, 2, 900, &[(0, &[0, 1])]);
    new.received_unix_nano = start() + seed;
    new.origin.sender = Bytes::from(format!("sender {seed}"));
    let sequence = keep(log, new);
    if let Some(outcome) = outcome {
        let entries = collector.upto(sequence);
        settle(log, entries.iter().find(|e| e.sequence == sequence).unwrap(), 0, outcome);
    }
    lock(&collector.entries).clear();
    sequence
}

#[test]
fn settled_records_are_read_again_for_as_long_as_they_are_retained() {
    for (retain, close) in [(3600, true), (3600, false), (0, true)] {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { max_bytes: 1 << 20, retain: Duration::from_secs(retain), ..options(dir.path()) };
        let (log, _) = Log::open(options.clone()).unwrap();
        let collector = Collector::on(&log);
        log.slot(key(0));
        let all: Vec<_> =
            (0..100).map(|seed| (append(&log, &collector, seed, Some(Outcome::Delivered)), seed)).collect();
        log.flush().unwrap();
        if close {
            log.close();
        }
        drop((log, collector));
        let (log, recovered) = Log::open(options.clone()).unwrap();
        assert!(recovered.backlog.is_empty());
        let (found, oldest) = held(&log, 0);
        if retain == 0 {
            assert_eq!((found, oldest), (Vec::new(), None));
            continue;
        }
        assert_eq!(found, all);
        assert_eq!(oldest, Some(start()));
        let (found, oldest) = held(&log, start() + 57);
        assert_eq!(found, all[57..]);
        assert_eq!(oldest, Some(start()), "it is known how far back one could go");
        assert_eq!(held(&log, start() + 1000).0, []);
    }
}

#[test]
fn what_is_retained_gives_way_before_anybody_loses_anything() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { retain: Duration::from_secs(3600), ..options(dir.path()) };
    let (log, _) = Log::open(options.clone()).unwrap();
    let collector = Collector::on(&log);
    log.slot(key(0));
    // Four times what fits; one record in the middle stays pending.
    let mut last = 0;
    let mut kept = 0;
    for seed in 0..1000 {
        let outcome = (seed != 500).then_some(Outcome::Delivered);
        last = append(&log, &collector, seed, outcome);
        if seed == 500 {
            kept = last;
        }
    }
    assert!(lock(&collector.asked).is_empty(), "nobody was asked to give up anything");
    let (found, _) = held(&log, 0);
    assert!(log.bytes() <= 256 * KIB + 64 * KIB, "{}", log.bytes());
    assert!(found.iter().any(|(sequence, _)| *sequence == kept));
    let newest: Vec<_> = found.iter().rev().take(50).map(|(sequence, _)| *sequence).collect();
    assert_eq!(newest, (0..50).map(|i| last - i).collect::<Vec<_>>());
}

#[test]
fn pending_spans_are_told_from_final_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let collector = Collector::on(&log);
    log.slot(key(0));
    log.slot(key(1));
    let new = record(1, 6, 100, &[(0, &[1, 2, 4, 5]), (1, &[0])]);
    let sequence = keep(&log, new);
    let entry = collector.upto(sequence)[0].clone();
    let spans = SpanSet::from_positions(6, [2, 5]);
    log.settle(Settlement { slot: 0, entry: entry.clone(), spans, outcome: Outcome::Delivered });
    settle(&log, &entry, 1, Outcome::Delivered);
    log.flush().unwrap();
    let mut seen = 0;
    log.history(0, |past| {
        let pending: Vec<Vec<u32>> = past.routes.iter().map(|r| r.pending.iter().collect()).collect();
        assert_eq!(pending, [vec![1, 4], vec![]]);
        seen += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, 1);
}
