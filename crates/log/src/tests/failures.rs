//! Failing writes, syncs and file creation.
use super::*;
use crate::dead_letters::Limits;
use crate::disk::Disk;
use std::sync::atomic::Ordering;
use std::time::Instant;

fn open(disk: &Disk, dir: &Path) -> (Log, Recovered) {
    Log::open_on(disk.clone(), options(dir), Limits::default()).unwrap()
}

/// Appends until it works again.
fn append_when_it_works(log: &Log, seed: u64, slot: Slot) -> Sequence {
    let started = Instant::now();
    loop {
        match block_on(log.append(record(seed, 1, 1000, &[(slot, &[0])]))) {
            Ok(sequence) => return sequence,
            Err(LogError::Io { .. } | LogError::Full) => {
                assert!(started.elapsed() < PATIENCE, "nothing is accepted any more");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_failed_sync_moves_the_commit_to_a_new_segment() {
    for failing in ["sync", "write"] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let (log, _) = open(&disk, dir.path());
        let slot = log.slot(key(1));
        keep(&log, record(1, 1, 1000, &[(slot, &[0])]));
        match failing {
            "sync" => disk.faults.fail_syncs(".seg", 1),
            _ => disk.faults.fail_writes(".seg", 1),
        }
        let answers = [2, 3].map(|seed| keep(&log, record(seed, 1, 1000, &[(slot, &[0])])));
        assert_eq!(answers, [2, 3]);
        assert!(log.is_writable());
        drop(log);
        // The failed commit may lie complete in the old segment: it counts once.
        let (log, recovered) = Log::open(options(dir.path())).unwrap();
        assert_eq!(recovered.notes, Vec::<String>::new());
        assert_eq!(read_backlog(&log).iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((log.books(slot).selected, log.books(slot).pending, log.accepted()), (3, 3, 3));
        assert_eq!(log.damage(), Damage::default());
        for (seed, entry) in (1..).zip(&read_backlog(&log)) {
            assert_eq!(block_on(log.payload(entry)).unwrap().bytes(), &content(seed, 1000));
        }
    }
}

#[test]
fn a_disk_that_fails_for_a_while_stops_appends_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = open(&disk, dir.path());
    let slot = log.slot(key(1));
    keep(&log, record(1, 1, 1000, &[(slot, &[0])]));
    disk.faults.fail_syncs(".seg", u64::MAX);
    let failed = block_on(log.append(record(2, 1, 1000, &[(slot, &[0])])));
    assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
    assert!(!log.is_writable());
    assert_eq!((log.books(slot).selected, log.accepted()), (1, 1));
    disk.faults.fail_syncs(".seg", 0);
    // A different record takes the number; what the failed commit left behind must not be taken for it.
    assert_eq!(append_when_it_works(&log, 77, slot), 2);
    assert!(log.is_writable());
    drop(log);
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let sequences: Vec<_> = read_backlog(&log).iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, [1, 2]);
    assert_eq!(block_on(log.payload(&read_backlog(&log)[1])).unwrap().bytes(), &content(77, 1000));
    assert_eq!(log.books(slot).selected, 2);
}

#[test]
fn a_disk_that_works_again_is_noticed_though_nobody_appends() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = open(&disk, dir.path());
    let slot = log.slot(key(1));
    for round in 0..3 {
        // Whoever makes this commit: the thread sleeps by now, or looks every millisecond.
        let after = Duration::from_millis(40 * round);
        std::thread::sleep(after);
        disk.faults.fail_syncs(".seg", u64::MAX);
        let failed = block_on(log.append(record(1, 1, 1000, &[(slot, &[0])])));
        assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
        disk.faults.fail_syncs(".seg", 0);
        let started = Instant::now();
        while !log.is_writable() {
            assert!(started.elapsed() < PATIENCE, "still not writable, {after:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        keep(&log, record(2, 1, 1000, &[(slot, &[0])]));
    }
}

#[test]
fn a_disk_that_fails_again_and_again_loses_no_segment_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let four = Options { max_bytes: 64 * KIB, ..options(dir.path()) };
    let (log, _) = Log::open_on(disk.clone(), four, Limits::default()).unwrap();
    let slot = log.slot(key(1));
    // Each time two files are begun and left; together they would be twice the cap.
    for _ in 0..4 {
        disk.faults.fail_syncs(".seg", u64::MAX);
        let failed = block_on(log.append(record(2, 1, 1000, &[(slot, &[0])])));
        assert!(matches!(failed, Err(LogError::Io { .. } | LogError::Full)), "{failed:?}");
        disk.faults.fail_syncs(".seg", 0);
        append_when_it_works(&log, 77, slot);
    }
    assert!(log.is_writable());
    assert_eq!(log.books(slot).dropped.iter().sum::<u64>(), 0, "nobody has to give anything up for it");
}

#[test]
fn a_full_disk_is_an_error_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = open(&disk, dir.path());
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    disk.faults.no_new_files.store(true, Ordering::SeqCst);
    let failed = block_on(log.append(record(1, 1, 1000, &[(slot, &[0])])));
    assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
    disk.faults.no_new_files.store(false, Ordering::SeqCst);
    assert_eq!(append_when_it_works(&log, 1, slot), 1);
    assert_eq!(collector.upto(1).len(), 1);
}

#[test]
fn settlements_wait_for_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = open(&disk, dir.path());
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    keep(&log, record(1, 2, 1000, &[(slot, &[0, 1])]));
    disk.faults.fail_writes("journal", 1);
    settle(&log, &collector.upto(1)[0], slot, Outcome::Delivered);
    // Written at the second attempt, and not visible before.
    log.flush().unwrap();
    assert_eq!((log.books(slot).delivered, log.books(slot).pending), (2, 0));
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert!(recovered.backlog.is_empty());
    assert_eq!(log.books(slot).delivered, 2);
}

#[test]
fn a_failed_journal_sync_ends_in_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (log, _) = open(&disk, dir.path());
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    // Enough to seal a segment, which needs the settlements on disk to come back.
    for seed in 0..8 {
        keep(&log, record(seed, 1, 4000, &[(slot, &[0])]));
    }
    disk.faults.fail_syncs("journal", 1);
    for entry in collector.upto(8) {
        settle(&log, &entry, slot, Outcome::Delivered);
    }
    log.flush().unwrap();
    for seed in 0..200 {
        let sequence = keep(&log, record(seed, 1, 4000, &[(slot, &[0])]));
        let last = collector.upto(sequence).pop().unwrap();
        settle(&log, &last, slot, Outcome::Delivered);
    }
    log.close();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    assert_eq!((read_backlog(&log).len(), log.books(slot).delivered), (0, 208));
}
