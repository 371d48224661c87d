//! Opening, appending, settling, reading back, closing and starting again.
use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn an_appended_record_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert!(recovered.backlog.is_empty() && recovered.notes.is_empty());
    let (a, b) = (log.slot(key(1)), log.slot(key(2)));
    assert_eq!((a, b, log.slot(key(1))), (0, 1, 0));
    let collector = Collector::on(&log);
    let mut new = record(5, 4, 3000, &[(a, &[0, 1, 2, 3]), (b, &[2])]);
    new.skips = vec![Skip { slot: b, reason: SkipReason::Sampled, spans: 3 }];
    assert_eq!(block_on(log.append(new)).unwrap(), 1);
    assert_eq!(block_on(log.append(record(6, 1, 10, &[(b, &[0])]))).unwrap(), 2);
    let entry = &collector.upto(2)[0];
    assert_eq!((entry.sequence, entry.received_unix_nano, entry.workspace), (1, 1_000_005, [7; 16]));
    assert_eq!(entry.routes[0].bytes, 3000);
    assert_eq!((entry.routes[1].bytes, entry.routes[1].ordinal), (750, 0));
    // Two of the four spans end.
    let spans = SpanSet::from_positions(4, [1, 3]);
    log.settle(Settlement { slot: a, entry: entry.clone(), spans, outcome: Outcome::Delivered });
    log.flush().unwrap();
    let before = [log.books(a), log.books(b)];
    assert_eq!(
        before[0],
        Books {
            accepted: 4,
            selected: 4,
            delivered: 2,
            pending: 2,
            pending_bytes: 1500,
            oldest_pending_unix_nano: Some(1_000_005),
            ..Books::default()
        }
    );
    assert_eq!((before[1].accepted, before[1].selected, before[1].pending_bytes), (5, 2, 760));
    assert!(before.iter().all(Books::balanced));
    assert_eq!(log.accepted(), 5);
    assert!(log.is_writable());
    log.close();
    assert!(!log.is_writable());
    assert!(matches!(block_on(log.append(record(7, 1, 1, &[]))), Err(LogError::Closed)));

    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!([log.books(a), log.books(b)], before);
    assert_eq!((log.accepted(), log.slot_key(b), log.slot(key(2))), (5, Some(key(2)), b));
    let pending = read_backlog(&log);
    assert_eq!(pending.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);
    let route = &pending[0].routes[0];
    assert_eq!(route.spans, SpanSet::from_positions(4, [0, 2]));
    assert_eq!((route.slot, route.ordinal, route.bytes), (a, 0, 1500));
    let payload = block_on(log.payload(&pending[0])).unwrap();
    assert_eq!((payload.bytes(), payload.spans()), (&content(5, 3000), 4));
    let keys: Vec<_> = recovered.trace_keys.iter().map(|(at, k)| (*at, k.clone())).collect();
    assert_eq!(keys, [5u64, 6].map(|s| (1_000_000 + s, Bytes::from(s.to_le_bytes().to_vec()))));
    // Settling the rest through the recovered entry, twice: the second changes nothing.
    for _ in 0..2 {
        settle(&log, &pending[0], a, Outcome::DeadLettered(DeadReason::Rejected));
        log.flush().unwrap();
        let books = log.books(a);
        assert_eq!((books.delivered, books.dead_lettered, books.pending), (2, [2, 0, 0], 0));
        assert_eq!((books.pending_bytes, books.oldest_pending_unix_nano), (0, None));
    }
    assert_eq!(block_on(log.append(record(8, 1, 1, &[(a, &[0])]))).unwrap(), 3);
}

#[test]
fn files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    let (log, _) = Log::open(options(&root)).unwrap();
    let slot = log.slot(key(1));
    block_on(log.append(record(1, 1, 10, &[(slot, &[0])]))).unwrap();
    log.close();
    let mut seen = 0;
    let mut check = |path: &Path| {
        let metadata = std::fs::metadata(path).unwrap();
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
        seen += 1;
    };
    check(&root);
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        check(&path);
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|e| check(&e.unwrap().path()));
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_second_open_is_refused_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let Err(LogError::Locked { path }) = Log::open(options(dir.path())) else { panic!("opened twice") };
    assert_eq!(path, dir.path().join("lock"));
    log.close();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    drop(log);
    assert!(Log::open(options(dir.path())).is_ok());
}

#[test]
fn slots_are_stable_without_close() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..5u8 {
        let (log, _) = Log::open(options(dir.path())).unwrap();
        for n in 1..=round {
            assert_eq!(log.slot(key(n)), Slot::from(n) - 1);
        }
        log.flush().unwrap();
        assert_eq!(log.slots().len(), usize::from(round));
        assert_eq!(log.slot_key(99), None);
    }
}

#[test]
fn what_nobody_selects_is_counted_and_keeps_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let slot = log.slot(key(1));
    let mut new = record(1, 0, 0, &[]);
    new.accepted = 3;
    new.skips = vec![
        Skip { slot, reason: SkipReason::Filter, spans: 2 },
        Skip { slot, reason: SkipReason::Kind, spans: 1 },
    ];
    block_on(log.append(new)).unwrap();
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert!(recovered.backlog.is_empty());
    let books = log.books(slot);
    assert_eq!((books.accepted, books.skipped), (3, [0, 0, 0, 0, 2, 1]));
    assert!(books.balanced());
    assert_eq!(log.accepted(), 3);
}

#[test]
fn concurrent_appends_share_commits_and_come_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(Options { max_bytes: 4096 * KIB, ..options(dir.path()) }).unwrap();
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut sequences: Vec<Sequence> = runtime.block_on(async {
        let appends = (0..200).map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.append(record(i, 2, 2000, &[(slot, &[0, 1])])).await.unwrap() })
        });
        let mut sequences = Vec::new();
        for append in appends.collect::<Vec<_>>() {
            sequences.push(append.await.unwrap());
        }
        sequences
    });
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=200).collect::<Vec<_>>());
    log.close();
    let entries = collector.upto(200);
    assert!(entries.iter().map(|e| e.sequence).eq(1..=200));
    assert!(entries.iter().map(|e| e.routes[0].ordinal).eq((0..200).map(|i| i * 2)));
    let activity = log.activity();
    assert_eq!(activity.records, 200);
    assert!(activity.commits < 200, "{activity:?}");
}

#[test]
fn payloads_are_read_back_when_the_cache_is_too_small() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(Options { cache_bytes: 0, ..options(dir.path()) }).unwrap();
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    for seed in 0..20 {
        block_on(log.append(record(seed, 1, 4000 + seed as usize, &[(slot, &[0])]))).unwrap();
    }
    block_on(async {
        for (seed, entry) in (0..).zip(collector.upto(20)) {
            let payload = log.payload(&entry).await.unwrap();
            assert_eq!(payload.bytes(), &content(seed, 4000 + seed as usize));
            // While one reader holds it, the next shares it.
            assert!(Arc::ptr_eq(&payload, &log.payload(&entry).await.unwrap()));
        }
    });
}

#[test]
fn buffered_records_survive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let buffered = Options { durability: Durability::Buffered, ..options(dir.path()) };
    let (log, _) = Log::open(buffered.clone()).unwrap();
    let slot = log.slot(key(1));
    for seed in 0..30 {
        block_on(log.append(record(seed, 1, 1500, &[(slot, &[0])]))).unwrap();
    }
    drop(log);
    let (log, _) = Log::open(buffered).unwrap();
    assert_eq!(read_backlog(&log).len(), 30);
    assert_eq!(log.books(slot).pending, 30);
    assert_eq!(log.damage(), Damage::default());
}

#[test]
fn a_record_larger_than_a_segment_gets_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    block_on(log.append(record(1, 1, 100, &[(slot, &[0])]))).unwrap();
    block_on(log.append(record(2, 1, 100_000, &[(slot, &[0])]))).unwrap();
    block_on(log.append(record(3, 1, 100, &[(slot, &[0])]))).unwrap();
    let too_large = block_on(log.append(record(4, 1, 130 * 1024, &[(slot, &[0])])));
    assert!(matches!(too_large, Err(LogError::Invalid(_))), "{too_large:?}");
    drop(collector);
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    let large = &read_backlog(&log)[1];
    assert_eq!(block_on(log.payload(large)).unwrap().bytes(), &content(2, 100_000));
    for entry in &read_backlog(&log) {
        settle(&log, entry, slot, Outcome::Delivered);
    }
    log.close();
    let list = inspect::list(dir.path()).unwrap();
    assert!(list.iter().all(|s| s.file_bytes <= 16 * KIB), "the large file is gone: {list:?}");
}

#[test]
fn contradictions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let slot = log.slot(key(1));
    let unknown = block_on(log.append(record(1, 1, 1, &[(slot + 1, &[0])])));
    assert!(matches!(unknown, Err(LogError::Invalid(_))));
    let mut other = record(1, 2, 1, &[]);
    other.routes = vec![Route { slot, projection: Projection::AS_IS, spans: SpanSet::all(3) }];
    assert!(matches!(block_on(log.append(other)), Err(LogError::Invalid(_))));
    // An empty route is no selection.
    assert_eq!(block_on(log.append(record(1, 2, 1, &[(slot, &[])]))).unwrap(), 1);
    assert_eq!(log.books(slot).selected, 0);
}

#[test]
fn inspection_lists_and_verifies_a_stopped_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let slot = log.slot(key(1));
    for seed in 0..12 {
        block_on(log.append(record(seed, 2, 3000, &[(slot, &[0, 1])]))).unwrap();
    }
    log.close();
    let list = inspect::list(dir.path()).unwrap();
    let held: Vec<_> = list.iter().filter(|s| s.records > 0).collect();
    assert!(held.len() >= 3 && held.iter().all(|s| s.sealed && !s.free), "{held:?}");
    assert_eq!(held.iter().map(|s| s.records).sum::<u64>(), 12);
    assert_eq!(held.iter().filter_map(|s| s.sequences).map(|s| s.0).min(), Some(1));
    assert_eq!(held.iter().filter_map(|s| s.sequences).map(|s| s.1).max(), Some(12));
    let records = inspect::list_records(dir.path()).unwrap();
    assert_eq!(records.len(), 12);
    assert_eq!(
        (records[3].sequence, records[3].routes.clone(), records[3].payload_bytes),
        (4, vec![(slot, 2)], 3000)
    );
    let report = inspect::verify(dir.path()).unwrap();
    assert_eq!((report.records, report.problems), (12, Vec::new()));

    let path = &held[0].path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[4096 + 1000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let report = inspect::verify(dir.path()).unwrap();
    assert_eq!((report.records, report.problems.len()), (11, 1), "{report:?}");
}
