//! The cap: segments come back, the laggard alone is asked, an append waits and then fails.
use super::*;
use crate::dead_letters::Limits;
use crate::disk::Disk;
use crate::world::Mutex;
use crate::writer::SPACE_WAIT;
use std::sync::atomic::Ordering;

/// Fills the log with records for both slots; `b` is the one that never settles.
fn two_slots(dir: &Path) -> (Log, Arc<Collector>, Slot, Slot) {
    let (log, _) = Log::open(options(dir)).unwrap();
    let (a, b) = (log.slot(key(1)), log.slot(key(2)));
    let collector = Collector::on(&log);
    (log, collector, a, b)
}

#[test]
fn segments_nobody_wants_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, collector, a, _) = two_slots(dir.path());
    // Five times the cap.
    for seed in 0..320 {
        let sequence = keep(&log, record(seed, 1, 4000, &[(a, &[0])]));
        settle(&log, collector.upto(sequence).last().unwrap(), a, Outcome::Delivered);
        lock(&collector.entries).clear();
    }
    log.flush().unwrap();
    assert!(log.bytes() <= 256 * KIB + 64 * KIB, "{}", log.bytes());
    assert_eq!(*lock(&collector.asked), []);
    let books = log.books(a);
    assert_eq!((books.delivered, books.pending), (320, 0));
    let files = std::fs::read_dir(dir.path().join("segments")).unwrap().count();
    assert!(files <= 16, "{files}");
}

#[test]
fn only_the_laggard_is_asked_to_give_up() {
    let dir = tempfile::tempdir().unwrap();
    let (log, collector, a, b) = two_slots(dir.path());
    *lock(&collector.obedient) = Some(log.clone());
    // Every record is wanted by the laggard; the other wants a small record now and then, and keeps it.
    for seed in 0..200 {
        let small: &[(Slot, &[u32])] = if seed % 40 == 0 { &[(a, &[0])] } else { &[] };
        if !small.is_empty() {
            keep(&log, record(1000 + seed, 1, 100, small));
        }
        keep(&log, record(seed, 1, 4000, &[(b, &[0])]));
    }
    *lock(&collector.obedient) = None;
    log.flush().unwrap();
    assert!(log.bytes() <= 256 * KIB + 64 * KIB);
    let asked = lock(&collector.asked).clone();
    assert!(!asked.is_empty() && asked.iter().all(|(slot, _)| *slot == b), "{asked:?}");
    let (kept, lost) = (log.books(a), log.books(b));
    assert_eq!((kept.pending, kept.dropped), (5, [0; 6]));
    assert!(lost.dropped[DropReason::BacklogFull as usize] > 100 && lost.balanced(), "{lost:?}");
    // The oldest went, the newest stayed.
    drop(collector);
    log.close();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let left: Vec<_> =
        read_backlog(&log).iter().filter(|e| e.routes[0].slot == b).map(|e| e.sequence).collect();
    assert_eq!(left.len() as u64, lost.pending);
    assert_eq!(*left.last().unwrap(), 205);
    assert!(left.windows(2).all(|w| w[1] - w[0] <= 2), "no holes: {left:?}");
}

#[test]
fn an_append_without_space_fails_and_the_log_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (log, collector, a, _) = two_slots(dir.path());
    let mut seed = 0;
    let full = loop {
        seed += 1;
        if let Err(error) = block_on(log.append(record(seed, 1, 4000, &[(a, &[0])]))) {
            break error;
        }
        assert!(seed < 1000);
    };
    assert!(matches!(full, LogError::Full), "{full:?}");
    assert!(!log.is_writable());
    assert!(log.books(a).pending + 1 == seed && log.books(a).balanced());
    assert!(!lock(&collector.asked).is_empty());
    for entry in collector.upto(seed - 1) {
        settle(&log, &entry, a, Outcome::Delivered);
    }
    log.flush().unwrap();
    // Space comes back without anyone appending: that is what ingest waits for.
    let started = std::time::Instant::now();
    while !log.is_writable() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(keep(&log, record(seed, 1, 4000, &[(a, &[0])])), seed);
}

#[test]
fn an_append_waits_for_files_that_are_on_their_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = Log::open_on(disk.clone(), options(dir.path()), Limits::default()).unwrap();
    let a = log.slot(key(1));
    let collector = Collector::on(&log);
    keep(&log, record(0, 1, 4000, &[(a, &[0])]));
    // Everything ends at once, and a disk that is slow brings no file back.
    disk.faults.hold_keeper.store(true, Ordering::SeqCst);
    let waits_since = Mutex::new(std::time::Instant::now());
    let answers = std::thread::scope(|threads| {
        let appending = threads.spawn(|| {
            // Twice the cap.
            (1..128u64)
                .map(|seed| {
                    *lock(&waits_since) = std::time::Instant::now();
                    let sequence = block_on(log.append(record(seed, 1, 4000, &[(a, &[0])])))?;
                    settle(&log, collector.upto(sequence).last().unwrap(), a, Outcome::Delivered);
                    Ok(sequence)
                })
                .collect::<Vec<Result<Sequence, LogError>>>()
        });
        // One waits for longer than one for which there is nothing to be waited for.
        while lock(&waits_since).elapsed() < SPACE_WAIT + Duration::from_millis(200) {
            assert!(!appending.is_finished(), "nobody has waited");
            std::thread::yield_now();
        }
        disk.faults.hold_keeper.store(false, Ordering::SeqCst);
        appending.join().unwrap()
    });
    let sequences: Vec<Sequence> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    assert_eq!(sequences, (2..129).collect::<Vec<_>>());
    assert!(log.is_writable());
}

#[test]
fn restarts_do_not_use_up_the_cap() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..24 {
        let (log, _) = Log::open(options(dir.path())).unwrap();
        assert_eq!(read_backlog(&log).len(), round);
        let slot = log.slot(key(1));
        keep(&log, record(round as u64, 1, 10, &[(slot, &[0])]));
        if round % 2 == 0 {
            log.close();
        }
    }
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!((read_backlog(&log).len(), recovered.notes.len()), (24, 0));
    assert!(log.is_writable());
}

#[test]
fn records_of_an_earlier_life_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (log, collector, a, b) = two_slots(dir.path());
    // Fill, settle, and fill again: every file now holds old records behind its new ones.
    for seed in 0..120 {
        let sequence = keep(&log, record(seed, 1, 4000, &[(a, &[0])]));
        settle(&log, collector.upto(sequence).last().unwrap(), a, Outcome::Delivered);
        lock(&collector.entries).clear();
    }
    log.flush().unwrap();
    keep(&log, record(500, 1, 200, &[(b, &[0])]));
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!(read_backlog(&log).iter().map(|e| e.sequence).collect::<Vec<_>>(), [121]);
    assert_eq!((log.books(a).selected, log.books(a).delivered, log.books(b).pending), (120, 120, 1));
}

#[test]
fn a_large_record_has_backlog_given_up_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, collector, a, b) = two_slots(dir.path());
    *lock(&collector.obedient) = Some(log.clone());
    for seed in 0..40 {
        keep(&log, record(seed, 1, 4000, &[(b, &[0])]));
    }
    // Room for a segment is left, room for this is not.
    let sequence = keep(&log, record(50, 1, 120_000, &[(a, &[0])]));
    *lock(&collector.obedient) = None;
    assert_eq!(sequence, 41);
    assert!(lock(&collector.asked).iter().all(|(slot, _)| *slot == b));
    log.flush().unwrap();
    assert!(log.books(b).dropped[DropReason::BacklogFull as usize] > 0);
    assert_eq!((log.books(a).pending, log.books(a).pending_bytes), (1, 120_000));
    assert!(log.bytes() <= 256 * KIB + 64 * KIB, "{}", log.bytes());
}
