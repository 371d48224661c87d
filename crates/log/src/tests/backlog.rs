//! Reading on: pages through segments old and new, and what is damaged there.
use super::*;

/// Several sealed segments of two slots, the one being written on top; 40 records, the slots in turns.
fn filled(dir: &Path) -> (Log, Slot, Slot) {
    let (log, _) = Log::open(options(dir)).unwrap();
    let (a, b) = (log.slot(key(1)), log.slot(key(2)));
    for seed in 0..40 {
        let slot = if seed % 2 == 0 { a } else { b };
        block_on(log.append(record(seed, 2, 3000, &[(slot, &[0, 1])]))).unwrap();
    }
    (log, a, b)
}

fn read(log: &Log, slot: Slot, from: u64, max: usize) -> (Vec<Sequence>, u64, bool) {
    let page = log.pending_now(slot, from, max).unwrap();
    (page.entries.iter().map(|e| e.sequence).collect(), page.next, page.at_end)
}

#[test]
fn pages_follow_one_another_through_all_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, b) = filled(dir.path());
    assert_eq!(read(&log, a, 0, 3), (vec![1, 3, 5], 6, false));
    // From within a record: all of it, the reader knows what it has.
    assert_eq!(read(&log, a, 5, 2), (vec![5, 7], 8, false));
    assert_eq!(read(&log, b, 0, 100), ((1..=20).map(|n| n * 2).collect(), 40, true));
    assert_eq!(read(&log, b, 40, 100), (vec![], 40, true));
    assert_eq!(read(&log, 99, 0, 100), (vec![], 0, true));
    // What is committed later is found from where reading ended.
    block_on(log.append(record(90, 2, 100, &[(b, &[1])]))).unwrap();
    let page = log.pending_now(b, 40, 10).unwrap();
    assert_eq!((page.entries.len(), page.next), (1, 41));
    assert_eq!(page.entries[0].routes[0].spans, SpanSet::from_positions(2, [1]));
    block_on(async {
        for entry in log.pending_now(a, 0, 100).unwrap().entries {
            let payload = log.payload(&entry).await.unwrap();
            assert_eq!(payload.bytes(), &content(entry.sequence - 1, 3000));
        }
    });
}

#[test]
fn a_range_is_settled_without_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, b) = filled(dir.path());
    let before = log.books(b);
    // Three spans of the second and third record, then everything that was ever selected and more.
    log.settle_range(a, 3..6, Outcome::Delivered);
    log.flush().unwrap();
    let books = log.books(a);
    assert_eq!((books.delivered, books.pending, books.pending_bytes), (3, 37, 3000 * 20 - 4500));
    let page = log.pending_now(a, 0, 3).unwrap();
    let spans: Vec<_> = page.entries.iter().map(|e| (e.sequence, e.routes[0].spans.count())).collect();
    assert_eq!(spans, [(1, 2), (3, 1), (7, 2)]);
    log.settle_range(a, 0..u64::MAX, Outcome::Dropped(DropReason::DestinationDeleted));
    log.flush().unwrap();
    let books = log.books(a);
    assert_eq!((books.dropped[2], books.pending, books.pending_bytes), (37, 0, 0));
    assert!(books.balanced() && log.pending_now(a, 0, 10).unwrap().entries.is_empty());
    assert_eq!(log.books(b), before, "nobody else is concerned");
    // The next spans are not.
    block_on(log.append(record(91, 2, 100, &[(a, &[0, 1])]))).unwrap();
    assert_eq!(log.books(a).pending, 2);
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!((log.books(a).pending, log.books(a).dropped[2], log.books(b)), (2, 37, before));
}

#[test]
fn settled_segments_come_back_when_a_range_ends_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, b) = filled(dir.path());
    log.settle_range(a, 0..40, Outcome::Dropped(DropReason::Expired));
    log.settle_range(b, 0..40, Outcome::Dropped(DropReason::Expired));
    log.flush().unwrap();
    // Ten times the cap fits if every segment comes back.
    for seed in 100..400 {
        block_on(log.append(record(seed, 1, 4000, &[]))).unwrap();
    }
    assert!(log.bytes() <= 256 * KIB + 64 * KIB, "{}", log.bytes());
}

#[test]
fn what_is_to_be_given_up_is_named_by_ordinals() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, _) = filled(dir.path());
    let held = |sequence| log.end_upto(a, sequence);
    assert_eq!(held(0), 0);
    let ends: Vec<_> = (1..=40).map(held).collect();
    assert!(ends.is_sorted(), "{ends:?}");
    // Never beyond what was committed by then, and at a segment's end exactly that.
    for (sequence, end) in (1u64..).zip(&ends) {
        assert!(*end <= sequence.div_ceil(2) * 2, "{sequence}: {end}");
    }
    assert!(ends.windows(2).enumerate().any(|(i, w)| w[0] < w[1] && w[1] == (i as u64 + 2).div_ceil(2) * 2));
}

/// The files of sealed segments, oldest first, with the offset of their index.
fn sealed(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut list = inspect::list(dir).unwrap();
    list.retain(|s| s.records > 0 && s.sealed);
    list.sort_by_key(|s| s.number);
    list.into_iter().map(|s| (s.path, 4096 + s.record_bytes)).collect()
}

#[test]
fn a_start_does_not_read_what_is_not_its_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, b) = filled(dir.path());
    log.close();
    drop(log);
    // Everything but the header pages of the older segments is gone, and a start does not notice.
    let files = sealed(dir.path());
    let older = &files[..files.len() - 1];
    assert!(older.len() >= 5);
    for (path, _) in older {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[4096..].fill(0);
        std::fs::write(path, bytes).unwrap();
    }
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!((log.books(a).pending, log.books(b).pending), (40, 40));
    // Who reads finds it out, and the loss is counted to the span.
    let left = read_backlog(&log);
    log.flush().unwrap();
    let spans: u64 = left.iter().map(|e| u64::from(e.routes[0].spans.count())).sum();
    let (a, b) = (log.books(a), log.books(b));
    assert!(a.balanced() && b.balanced());
    assert_eq!(a.pending + b.pending, spans);
    assert_eq!(a.dropped[DropReason::Damaged as usize] + b.dropped[DropReason::Damaged as usize], 80 - spans);
    assert!(spans > 0 && spans < 20);
}

#[test]
fn a_damaged_index_costs_nothing_and_a_damaged_record_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, b) = filled(dir.path());
    log.close();
    drop(log);
    let files = sealed(dir.path());
    let mut bytes = std::fs::read(&files[1].0).unwrap();
    bytes[files[1].1 as usize + 80] ^= 1;
    // The first record of that segment too.
    bytes[4096 + 20] ^= 1;
    std::fs::write(&files[1].0, bytes).unwrap();
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!(read_backlog(&log).len(), 39);
    log.flush().unwrap();
    let lost: Vec<_> = [a, b].map(|slot| log.books(slot).dropped[DropReason::Damaged as usize]).to_vec();
    assert_eq!(lost.iter().sum::<u64>(), 2, "{lost:?}");
    assert!([a, b].iter().all(|slot| log.books(*slot).balanced()));
    assert_eq!(read_backlog(&log).len(), 39, "counted once");
    assert_eq!(log.damage().quarantined_bytes, files_quarantined(dir.path()));
    assert!(log.damage().quarantined_bytes > 0);
}

fn files_quarantined(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("quarantine")).unwrap();
    files.map(|f| f.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn the_age_of_the_oldest_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, a, _) = filled(dir.path());
    log.settle_range(a, 0..31, Outcome::Delivered);
    log.flush().unwrap();
    // Ordinal 31 lies in the 16th record of the slot, which is the 31st of all.
    let oldest = log.books(a).oldest_pending_unix_nano;
    assert_eq!(oldest, Some(1_000_030));
    log.close();
    drop(log);
    let (log, recovered) = Log::open(options(dir.path())).unwrap();
    assert_eq!(log.books(a).oldest_pending_unix_nano, oldest);
    assert_eq!(recovered.backlog[0].oldest_unix_nano, 1_000_030);
}
