//! Memory mode: the same interface, nothing on disk.
use super::*;

fn open(max_bytes: u64) -> Log {
    let options = Options {
        dir: "/nonexistent/never/made".into(),
        durability: Durability::Memory,
        max_bytes,
        ..options(Path::new("/"))
    };
    let (log, recovered) = Log::open(options).unwrap();
    assert!(recovered.backlog.is_empty());
    log
}

#[test]
fn books_and_payloads_as_on_disk() {
    let log = open(1 << 20);
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    assert_eq!(block_on(log.append(record(1, 3, 600, &[(slot, &[0, 2])]))).unwrap(), 1);
    assert_eq!(block_on(log.append(record(2, 1, 100, &[]))).unwrap(), 2);
    log.close();
    let entry = collector.upto(2).remove(0);
    assert_eq!(log.bytes(), 600);
    assert_eq!(block_on(log.payload(&entry)).unwrap().bytes(), &content(1, 600));
    assert_eq!((log.books(slot).pending, log.books(slot).pending_bytes), (2, 400));
    settle(&log, &entry, slot, Outcome::Delivered);
    let books = log.books(slot);
    assert_eq!((books.delivered, books.pending, books.pending_bytes), (2, 0, 0));
    assert_eq!(log.bytes(), 0);
    // Nobody wants it any more: its memory is free.
    assert!(matches!(block_on(log.payload(&entry)), Err(LogError::Damaged(1, _))));
}

#[test]
fn the_bound_holds_and_the_laggard_pays() {
    let log = open(100_000);
    let (a, b) = (log.slot(key(1)), log.slot(key(2)));
    let collector = Collector::on(&log);
    *lock(&collector.obedient) = Some(log.clone());
    block_on(log.append(record(0, 1, 500, &[(a, &[0])]))).unwrap();
    for seed in 1..200 {
        block_on(log.append(record(seed, 1, 4000, &[(b, &[0])]))).unwrap();
        assert!(log.bytes() <= 100_000);
    }
    *lock(&collector.obedient) = None;
    assert!(lock(&collector.asked).iter().all(|(slot, _)| *slot == b));
    assert_eq!((log.books(a).pending, log.books(a).dropped), (1, [0; 6]));
    let books = log.books(b);
    assert!(books.balanced() && books.dropped[DropReason::BacklogFull as usize] >= 175, "{books:?}");
    // Nothing is given up before the bound.
    assert!(books.pending >= 20, "{books:?}");
}

#[test]
fn without_anyone_giving_up_it_is_full() {
    let log = open(10_000);
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    for seed in 0..2 {
        block_on(log.append(record(seed, 1, 4000, &[(slot, &[0])]))).unwrap();
    }
    let full = block_on(log.append(record(2, 1, 4000, &[(slot, &[0])])));
    assert!(matches!(full, Err(LogError::Full)), "{full:?}");
    assert!(!log.is_writable());
    let entry = collector.upto(2).remove(0);
    settle(&log, &entry, slot, Outcome::Delivered);
    assert!(log.is_writable());
    assert_eq!(block_on(log.append(record(2, 1, 4000, &[(slot, &[0])]))).unwrap(), 3);
    let too_large = block_on(log.append(record(3, 1, 10_001, &[(slot, &[0])])));
    assert!(matches!(too_large, Err(LogError::Invalid(_))));
}
