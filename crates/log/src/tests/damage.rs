//! Torn tails, flipped bits, missing and foreign files.
use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// A log of ten records of slot `a` (one span each, 1000 bytes), the first three settled; not closed.
fn sample(dir: &Path, close: bool) -> Slot {
    let (log, _) = Log::open(Options { segment_bytes: 64 * KIB, ..options(dir) }).unwrap();
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    for seed in 1..=10 {
        block_on(log.append(record(seed, 1, 1000, &[(slot, &[0])]))).unwrap();
    }
    for entry in &collector.upto(10)[..3] {
        settle(&log, entry, slot, Outcome::Delivered);
    }
    log.flush().unwrap();
    if close {
        log.close();
    }
    slot
}

/// The same, made once and copied.
fn copied_sample(dir: &Path, close: bool) -> Slot {
    static MADE: [OnceLock<(tempfile::TempDir, Slot)>; 2] = [OnceLock::new(), OnceLock::new()];
    let (image, slot) = MADE[usize::from(close)].get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let slot = sample(dir.path(), close);
        (dir, slot)
    });
    copy_dir(image.path(), dir);
    *slot
}

fn reopen(dir: &Path) -> (Log, Recovered) {
    Log::open(Options { segment_bytes: 64 * KIB, ..options(dir) }).unwrap()
}

fn sequences(log: &Log) -> Vec<Sequence> {
    read_backlog(log).iter().map(|e| e.sequence).collect()
}

/// Bytes of one sample record on disk: header 72, meta, payload 1000, padded.
fn record_bytes(dir: &Path) -> u64 {
    let list = inspect::list(dir).unwrap();
    let segment = list.iter().find(|s| s.records == 10).unwrap();
    segment.record_bytes / 10
}

#[test]
fn a_torn_tail_is_cut_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let slot = sample(dir.path(), false);
    let len = record_bytes(dir.path());
    let path = newest_segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    // Cut anywhere in the last record: the nine before it stay.
    for cut in [1, 71, 72, 100, 500, len as usize - 8] {
        let image = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), image.path());
        let mut torn = whole.clone();
        let last = 4096 + 9 * len as usize;
        torn[last + cut..].fill(0);
        std::fs::write(newest_segment(image.path()), torn).unwrap();
        let (log, recovered) = reopen(image.path());
        assert_eq!(sequences(&log), [4, 5, 6, 7, 8, 9], "{cut}");
        assert_eq!(recovered.notes, Vec::<String>::new());
        let books = log.books(slot);
        assert_eq!((books.selected, books.delivered, books.pending), (9, 3, 6));
        assert_eq!(log.damage(), Damage::default());
        // The number and the ordinal of the cut record were never answered: used by the next.
        assert_eq!(block_on(log.append(record(50, 1, 100, &[(slot, &[0])]))).unwrap(), 10);
        assert_eq!(log.books(slot).selected, 10);
    }
}

#[test]
fn damage_in_the_middle_is_stepped_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let slot = sample(dir.path(), false);
    let len = record_bytes(dir.path()) as usize;
    let path = newest_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // The payload of the sixth record and the header of the seventh.
    bytes[4096 + 5 * len + 600] ^= 0x10;
    bytes[4096 + 6 * len + 3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (log, recovered) = reopen(dir.path());
    assert_eq!(sequences(&log), [4, 5, 8, 9, 10]);
    let books = log.books(slot);
    assert_eq!((books.selected, books.delivered, books.pending), (10, 3, 5));
    assert_eq!(books.dropped[DropReason::Damaged as usize], 2);
    assert!(books.balanced());
    let damage = log.damage();
    assert_eq!((damage.records, damage.quarantined_bytes), (2, 2 * len as u64));
    assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
    let quarantined: Vec<_> = std::fs::read_dir(dir.path().join("quarantine")).unwrap().collect();
    let copy = std::fs::read(quarantined[0].as_ref().unwrap().path()).unwrap();
    assert_eq!(copy, bytes[4096 + 5 * len..4096 + 7 * len]);
    log.close();
    // Said once, kept for ever.
    let (log, recovered) = reopen(dir.path());
    assert_eq!((log.damage(), recovered.notes.len()), (damage, 0));
    assert_eq!(log.books(slot), books);
}

#[test]
fn a_damaged_record_of_a_sealed_segment_is_found_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let slot = sample(dir.path(), true);
    let len = record_bytes(dir.path()) as usize;
    let path = newest_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 5 * len + 600] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let (log, _) = reopen(dir.path());
    assert_eq!(sequences(&log), [4, 5, 6, 7, 8, 9, 10]);
    let read = block_on(log.payload(&read_backlog(&log)[2]));
    assert!(matches!(read, Err(LogError::Damaged(6, _))), "{read:?}");
    assert!(block_on(log.payload(&read_backlog(&log)[3])).is_ok());
    settle(&log, &read_backlog(&log)[2], slot, Outcome::Dropped(DropReason::Damaged));
    log.flush().unwrap();
    assert!(log.books(slot).balanced());
}

#[test]
fn a_missing_segment_is_a_counted_loss() {
    let dir = tempfile::tempdir().unwrap();
    let slot = sample(dir.path(), true);
    std::fs::remove_file(newest_segment(dir.path())).unwrap();
    let (log, recovered) = reopen(dir.path());
    assert!(recovered.backlog.is_empty());
    let books = log.books(slot);
    assert_eq!((books.selected, books.delivered, books.dropped[5], books.pending), (10, 3, 7, 0));
    assert!(books.balanced());
    assert_eq!(recovered.notes.len(), 1);
    assert_eq!(block_on(log.append(record(50, 1, 100, &[(slot, &[0])]))).unwrap(), 11);
}

#[test]
fn a_lost_header_page_costs_nothing() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path(), close);
        let path = newest_segment(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..4096].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let (log, _) = reopen(dir.path());
        assert_eq!(sequences(&log), [4, 5, 6, 7, 8, 9, 10], "closed: {close}");
        assert!(block_on(log.payload(&read_backlog(&log)[0])).is_ok());
    }
}

#[test]
fn without_checkpoint_the_log_itself_tells() {
    let dir = tempfile::tempdir().unwrap();
    let slot = sample(dir.path(), true);
    let path = dir.path().join("checkpoint");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let (log, recovered) = reopen(dir.path());
    // The journal before the checkpoint is gone: delivered spans are pending again, none is lost.
    assert_eq!(sequences(&log), (1..=10).collect::<Vec<_>>());
    assert_eq!((log.slot_key(slot), log.slot(key(1))), (Some(key(1)), slot));
    assert!(log.books(slot).balanced());
    assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
    assert_eq!(std::fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
}

#[test]
fn without_checkpoint_and_journal_it_is_still_known_whose_the_backlog_is() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let slot = sample(dir.path(), close);
        // Another destination, made and used after the table was first written.
        let (log, _) = reopen(dir.path());
        let other = log.slot(key(2));
        block_on(log.append(record(11, 1, 1000, &[(other, &[0])]))).unwrap();
        drop(log);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "checkpoint" || name.starts_with("journal-") {
                let len = std::fs::metadata(&path).unwrap().len();
                std::fs::write(&path, vec![0x5A; len as usize]).unwrap();
            }
        }
        let (log, _) = reopen(dir.path());
        assert_eq!((log.slot_key(slot), log.slot_key(other)), (Some(key(1)), Some(key(2))));
        assert_eq!(sequences(&log), (1..=11).collect::<Vec<_>>(), "closed: {close}");
        let (books, others) = (log.books(slot), log.books(other));
        assert_eq!((books.pending, books.dropped, others.pending, others.dropped), (10, [0; 6], 1, [0; 6]));
        assert!(books.balanced() && others.balanced());
        // A new destination gets a number of its own.
        assert_eq!(log.slot(key(3)), 2);
    }
}

/// A journal of many entries, never synced since its beginning; not closed.
fn journaled(dir: &Path) -> (std::path::PathBuf, Slot) {
    let (log, _) = reopen(dir);
    let slot = log.slot(key(1));
    let collector = Collector::on(&log);
    for seed in 1..=10 {
        let sequence = block_on(log.append(record(seed, 1, 10, &[(slot, &[0])]))).unwrap();
        let entries = collector.upto(sequence);
        settle(&log, entries.last().unwrap(), slot, Outcome::Delivered);
        log.flush().unwrap();
    }
    let journals = crate::journal::list(&crate::disk::Disk::default(), dir).unwrap();
    (journals.last().unwrap().1.clone(), slot)
}

#[test]
fn what_a_power_cut_leaves_of_a_journal_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (path, slot) = journaled(dir.path());
    let whole = std::fs::read(&path).unwrap();
    // The last entry is intact, the ones before it never came to the disk.
    let hole = whole.len() - 60..whole.len() - 30;
    let mut torn = whole.clone();
    torn[hole].fill(0);
    std::fs::write(&path, torn).unwrap();
    let (log, recovered) = reopen(dir.path());
    assert_eq!((recovered.notes, log.damage()), (Vec::new(), Damage::default()));
    let books = log.books(slot);
    assert!(books.balanced() && books.pending > 0 && books.delivered > 0, "{books:?}");
}

#[test]
fn what_was_synced_and_is_no_entry_any_more_is_damage() {
    use crate::journal::{JournalEntry, Settled, read, table};
    let settled = |first| {
        let mut bytes = Vec::new();
        let outcome = Outcome::Delivered;
        JournalEntry::Settled(Settled { slot: 0, sequence: 1, first, spans: 1, outcome, bytes: 1 })
            .encode(&mut bytes);
        bytes
    };
    let mut whole = table(1, 1, &[(0, key(1))]);
    let start = whole.len();
    (0..10).for_each(|first| whole.extend(settled(first)));
    let (each, synced) = ((whole.len() - start) / 10, whole.len());
    let mut said = Vec::new();
    JournalEntry::Synced(synced as u64).encode(&mut said);
    whole.extend(said);
    let unsynced = whole.len();
    (10..20).for_each(|first| whole.extend(settled(first)));
    for (entry, is_damage) in [(start, true), (start + 5 * each, true), (unsynced + 5 * each, false)] {
        let mut bytes = whole.clone();
        bytes[entry + 9] ^= 1;
        let found = read(&bytes).unwrap();
        assert_eq!(found.entries.len(), 20, "one slot and all settlements but one");
        let lost = if is_damage { (each as u64, 0) } else { (0, each as u64) };
        assert_eq!((found.damaged, found.torn), lost);
    }
    // The table of slots is on disk before anything else.
    let mut bytes = whole;
    bytes[40] ^= 1;
    assert!(read(&bytes).unwrap().damaged > 0);
}

#[test]
fn journal_entries_beyond_the_log_are_a_gap_and_never_applied() {
    let dir = tempfile::tempdir().unwrap();
    let slot = {
        let buffered =
            Options { durability: Durability::Buffered, segment_bytes: 64 * KIB, ..options(dir.path()) };
        let (log, _) = Log::open(buffered).unwrap();
        let slot = log.slot(key(1));
        let collector = Collector::on(&log);
        for seed in 1..=10 {
            block_on(log.append(record(seed, 2, 1000, &[(slot, &[0, 1])]))).unwrap();
        }
        for entry in &collector.upto(10)[6..] {
            settle(&log, entry, slot, Outcome::Delivered);
        }
        log.flush().unwrap();
        slot
    };
    // The power cut took the last three records, but not the journal.
    let len = record_bytes(dir.path()) as usize;
    let path = newest_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 7 * len..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (log, recovered) = reopen(dir.path());
    assert_eq!(sequences(&log), [1, 2, 3, 4, 5, 6]);
    let books = log.books(slot);
    assert_eq!((books.selected, books.delivered, books.pending), (14, 2, 12));
    let damage = log.damage();
    assert_eq!((damage.journal_entries, damage.journal_spans), (1, 6));
    assert_eq!(recovered.notes.len(), 1);
    // Later records begin above everything the journal spoke of.
    let collector = Collector::on(&log);
    assert_eq!(block_on(log.append(record(50, 2, 100, &[(slot, &[0, 1])]))).unwrap(), 11);
    assert_eq!(collector.upto(11)[0].routes[0].ordinal, 20);
    assert_eq!(log.books(slot).pending, 14);
    drop(log);
    let (log, _) = reopen(dir.path());
    assert_eq!(sequences(&log), [1, 2, 3, 4, 5, 6, 11]);
    assert_eq!((log.books(slot).pending, log.books(slot).selected), (14, 16));
    assert_eq!(log.damage(), damage);
}

#[test]
fn foreign_and_unfinished_files_are_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path(), false);
    let segments = dir.path().join("segments");
    std::fs::write(segments.join("00000900.seg"), b"not a segment, but somebody's file").unwrap();
    std::fs::write(segments.join("00000901.seg"), vec![0; 10_000]).unwrap();
    std::fs::write(segments.join("00000902.seg"), b"").unwrap();
    std::fs::write(segments.join("notes.txt"), b"?").unwrap();
    std::fs::write(dir.path().join("checkpoint.tmp"), b"half").unwrap();
    std::fs::write(dir.path().join("journal-x.log"), b"?").unwrap();
    let (log, recovered) = reopen(dir.path());
    assert_eq!(sequences(&log), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(recovered.notes.len(), 1, "{:?}", recovered.notes);
    assert!(dir.path().join("quarantine/00000900.seg").exists());
    assert!(segments.join("notes.txt").exists());
    assert!(!segments.join("00000901.seg").exists());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    // The version is inside the checksum: write one as a later version would.
    let newer = |bytes: &mut Vec<u8>, covered: std::ops::Range<usize>| {
        bytes[12] = 9;
        let crc = crc32c::crc32c(&bytes[covered]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    };
    for what in ["segment", "journal", "checkpoint"] {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path(), false);
        let path = match what {
            "segment" => newest_segment(dir.path()),
            "journal" => {
                crate::journal::list(&crate::disk::Disk::default(), dir.path()).unwrap().pop().unwrap().1
            }
            _ => dir.path().join("checkpoint"),
        };
        let mut bytes = std::fs::read(&path).unwrap();
        let end = match what {
            "segment" => 2048,
            "journal" => 32,
            _ => bytes.len(),
        };
        newer(&mut bytes, 12..end);
        std::fs::write(&path, &bytes).unwrap();
        let refused = Log::open(options(dir.path()));
        let Err(LogError::Format { path: named, reason }) = refused else { panic!("{what} was read") };
        assert_eq!(named, path);
        assert!(reason.contains("version 9"), "{reason}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: soak(30) as u32, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever happens to a file: no panic, the log opens, balances, and gives out only true payloads.
    #[test]
    fn any_damage_is_survived(
        close: bool, file in 0usize..6, at in 0.0f64..1.0, flips in proptest::collection::vec((0.0f64..1.0, 0u8..8), 0..4), truncate: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let slot = copied_sample(dir.path(), close);
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
        files.extend(crate::journal::list(&crate::disk::Disk::default(), dir.path()).unwrap().into_iter().map(|(_, path)| path));
        files.push(dir.path().join("checkpoint"));
        files.sort();
        let path = &files[file % files.len()];
        let mut bytes = std::fs::read(path).unwrap();
        // Segments are mostly empty: aim at the part in use.
        let used = bytes.len().min(20_000);
        if truncate {
            bytes.truncate((used as f64 * at) as usize);
        }
        for (place, bit) in flips {
            let used = bytes.len().min(20_000);
            if let Some(byte) = bytes.get_mut((used as f64 * place) as usize) {
                *byte ^= 1 << bit;
            }
        }
        std::fs::write(path, bytes).unwrap();
        // Refused only for a version, which a flipped bit cannot make under a checksum.
        let (log, _) = reopen(dir.path());
        prop_assert!(log.books(slot).balanced());
        block_on(async {
            for entry in &read_backlog(&log) {
                if let Ok(payload) = log.payload(entry).await {
                    assert_eq!(payload.bytes(), &content(entry.sequence, 1000));
                }
            }
            log.append(record(50, 1, 100, &[])).await.unwrap();
        });
        log.close();
        let (again, _) = reopen(dir.path());
        prop_assert!(again.books(slot).balanced());
    }
}
