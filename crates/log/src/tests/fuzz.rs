//! Mutations of everything the log reads back, with the checksums made right again: damage is told by
//! the checksum, so without that only the outermost layer would ever be reached.

use allocation_counter::measure;
use tracecast_mutate::fuzz;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::format::{Meta, Page, RecordHeader};
use crate::index::SealedIndex;
use crate::journal;

/// A closed log with a sealed segment, and its files by name.
fn sample(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (log, _) = Log::open(options(dir)).unwrap();
    let slots = [log.slot(key(1)), log.slot(key(2))];
    let collector = Collector::on(&log);
    for seed in 1..=30 {
        let routes: [(Slot, &[u32]); 2] = [(slots[0], &[0, 2]), (slots[1], &[1])];
        block_on(log.append(record(seed, 3, 400, &routes[..1 + (seed % 2) as usize]))).unwrap();
    }
    for entry in collector.upto(30).iter().step_by(3) {
        settle(&log, entry, slots[0], Outcome::Delivered);
        settle(&log, entry, slots[1], Outcome::Dropped(DropReason::Expired));
    }
    log.flush().unwrap();
    // Until its threads have ended they may begin another journal and remove this one.
    drop((collector, log));
    let journal = journal::list(&crate::disk::Disk::default(), dir).unwrap().pop().unwrap().1;
    (newest_segment(dir), journal)
}

/// Far more than reading needs, far less than a length field can ask for.
fn memory_max(len: usize) -> u64 {
    (1 << 20) + 512 * len as u64
}

fn bounded(bytes: &[u8], read: impl FnOnce()) {
    let taken = measure(read);
    assert!(taken.bytes_max < memory_max(bytes.len()), "{taken:?} for {} bytes", bytes.len());
}

/// Writes the CRC32C of `covered` at `at`, if both are there.
fn repair(bytes: &mut [u8], at: usize, covered: std::ops::Range<usize>) {
    let Some(part) = bytes.get(covered) else { return };
    let crc = crc32c::crc32c(part);
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes the checksum of each journal entry right, as far as the lengths still lead from one to the next.
fn repair_journal(bytes: &mut [u8]) {
    repair(bytes, 8, 12..32);
    let mut at = 32;
    while let Some(word) = bytes.get(at..at + 4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])) {
        let len = word >> 8;
        let Some(body) = bytes.get(at + 8..at + 8 + len as usize) else { break };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), body);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += 8 + len as usize;
    }
}

#[test]
fn mutated_parts_with_good_checksums_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, journal_file) = sample(dir.path());
    let segment = std::fs::read(segment).unwrap();
    let page = segment[..4096].to_vec();
    fuzz("log-page", std::slice::from_ref(&page), 5_000, |input| {
        let mut input = input.to_vec();
        let half = input.len().min(2048);
        repair(&mut input, 8, 12..half);
        repair(&mut input, 2048 + 8, 2048 + 12..2048 + 68);
        bounded(&input, || drop(Page::decode(&input)));
    });
    let records: Vec<Vec<u8>> =
        (0..3).map(|n| segment[4096 + n * 100..4096 + n * 100 + 600].to_vec()).collect();
    fuzz("log-record", &records, 5_000, |input| {
        bounded(input, || {
            if let Some((header, _)) = RecordHeader::decode(input) {
                let meta = input.get(crate::format::RECORD_HEADER..).unwrap_or_default();
                drop(Meta::decode(meta, header.spans));
            }
            drop(Meta::decode(input, 3));
            let index = SealedIndex::decode(input.to_vec());
            for (slot, first, end) in index.iter().flat_map(SealedIndex::slots) {
                drop(index.as_ref().map(|index| index.read(slot, first, end, 100)));
            }
        });
    });
    let checkpoint = std::fs::read(dir.path().join("checkpoint")).unwrap();
    fuzz("log-checkpoint", &[checkpoint], 5_000, |input| {
        let mut input = input.to_vec();
        let end = input.len();
        repair(&mut input, 8, 12.min(end)..end);
        bounded(&input, || drop(Checkpoint::decode(&input)));
    });
    let journal = std::fs::read(journal_file).unwrap();
    fuzz("log-journal", &[journal], 5_000, |input| {
        let mut input = input.to_vec();
        repair_journal(&mut input);
        bounded(&input, || drop(journal::read(&input)));
    });
}

/// A directory whose files say what no log ever wrote, under good checksums: it opens or is refused,
/// and once open its books balance and it takes records.
#[test]
fn mutated_directories_with_good_checksums_are_opened_or_refused() {
    let whole = tempfile::tempdir().unwrap();
    let (_, journal_file) = sample(whole.path());
    let name = journal_file.file_name().unwrap();
    let files =
        [std::fs::read(whole.path().join("checkpoint")).unwrap(), std::fs::read(&journal_file).unwrap()];
    for (which, seed) in files.into_iter().enumerate() {
        fuzz(["log-directory-checkpoint", "log-directory-journal"][which], &[seed], 100, |input| {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(whole.path(), dir.path());
            let mut input = input.to_vec();
            if which == 0 {
                let end = input.len();
                repair(&mut input, 8, 12.min(end)..end);
                std::fs::write(dir.path().join("checkpoint"), &input).unwrap();
            } else {
                repair_journal(&mut input);
                std::fs::write(dir.path().join(name), &input).unwrap();
            }
            match Log::open(options(dir.path())) {
                Err(LogError::Format { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok((log, _)) => {
                    let slot = log.slot(key(9));
                    block_on(log.append(record(50, 1, 100, &[(slot, &[0])]))).unwrap();
                    assert!(log.books(slot).balanced());
                    log.close();
                }
            }
        });
    }
}
