//! Looking at a log directory without opening the log: no lock, nothing written, also while a gateway runs.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tracecast_otlp::Payload;

use crate::checkpoint::{self, Checkpoint};
use crate::disk::Disk;
use crate::examine::{FileState, examine, read_index, walk_all};
use crate::format::{Kind, Meta, RECORD_HEADER};
use crate::journal::JournalEntry;
use crate::pool;
use crate::types::{LogError, Sequence, Slot, SlotKey};
use crate::{journal, walk::Walked};

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// The segment's number; `None` for a file that was never written or is not understood.
    pub number: Option<u64>,
    /// First and last sequence of its records.
    pub sequences: Option<(Sequence, Sequence)>,
    /// Intact records.
    pub records: u64,
    /// Bytes of these records.
    pub record_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// It has a seal and an intact index.
    pub sealed: bool,
    /// The checkpoint counts its records, and nobody wants one: its content may be overwritten at any time.
    pub free: bool,
}

/// What `verify` found wrong; empty = nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segment files read.
    pub segments: u64,
    /// Records read in full, payload included.
    pub records: u64,
    /// Journal entries read.
    pub journal_entries: u64,
    /// One sentence per finding: file, place, what.
    pub problems: Vec<String>,
}

/// One record's place and size, as `list_records` finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// The record's number.
    pub sequence: Sequence,
    /// Receive time, unix nanoseconds.
    pub received_unix_nano: u64,
    /// Uuid bytes of the workspace.
    pub workspace: [u8; 16],
    /// Spans accepted.
    pub accepted: u32,
    /// Selecting destinations: slot and spans.
    pub routes: Vec<(u32, u32)>,
    /// Bytes of the payload.
    pub payload_bytes: u32,
}

fn read_checkpoint(dir: &Path) -> Result<Option<Checkpoint>, String> {
    let path = dir.join(checkpoint::FILE);
    match Disk::default().read(&path) {
        Ok(bytes) => match Checkpoint::decode(&bytes) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(why) => Err(format!("{}: {why:?}", path.display())),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Reads every segment; `each` gets the file, what is known of it, and its walk.
fn each_segment(
    dir: &Path,
    verify: bool,
    mut each: impl FnMut(SegmentInfo, &[Walked], &[(u64, u64)]),
) -> Result<(), LogError> {
    let disk = Disk::default();
    let segments = dir.join("segments");
    let io = |source| LogError::Io { path: segments.clone(), source };
    let checkpoint = read_checkpoint(dir).ok().flatten();
    let files = pool::list(&disk, &segments).map_err(io)?;
    let states: Vec<_> = files.iter().map(|(file, path)| (path, examine(&disk, *file, path))).collect();
    let known = states.iter().filter_map(|(_, s)| match s {
        Ok(FileState::Segment(found)) => found.header.as_ref(),
        _ => None,
    });
    let ends: std::collections::BTreeMap<u64, u64> = known.flat_map(|h| h.ends.iter().copied()).collect();
    for (path, state) in &states {
        let mut info = SegmentInfo {
            path: path.to_path_buf(),
            number: None,
            sequences: None,
            records: 0,
            record_bytes: 0,
            file_bytes: disk.about(path).map_or(0, |about| about.bytes),
            sealed: false,
            free: matches!(state, Ok(FileState::Fresh)),
        };
        let Ok(FileState::Segment(found)) = state else {
            each(info, &[], &[]);
            continue;
        };
        let Ok(file) = disk.open_read(path) else {
            each(info, &[], &[]);
            continue;
        };
        let named = ends.get(&found.life.number).copied();
        let walked = walk_all(&file, found, named, verify.then_some(0));
        let records: Vec<_> = walked.records.iter().filter(|r| r.header.kind == Kind::Record).collect();
        info.number = Some(found.life.number);
        info.sequences =
            records.first().zip(records.last()).map(|(a, b)| (a.header.sequence, b.header.sequence));
        info.records = records.len() as u64;
        info.record_bytes = records.iter().map(|r| r.header.total_len()).sum();
        info.sealed = read_index(&file, found).is_some();
        info.free = checkpoint.as_ref().is_some_and(|c| {
            let (number, file) = (found.life.number, found.file);
            let held = c.wanted.iter().any(|w| (w.number, w.file) == (number, file))
                || c.ages.iter().any(|(n, f, _)| (*n, *f) == (number, file));
            (number < c.segment || found.is_carry) && !held
        });
        each(info, &walked.records, &walked.lost);
    }
    Ok(())
}

/// The segment files of a log directory, by file name.
pub fn list(dir: &Path) -> Result<Vec<SegmentInfo>, LogError> {
    let mut found = Vec::new();
    each_segment(dir, false, |info, _, _| found.push(info))?;
    Ok(found)
}

/// The records that are still held, by sequence.
pub fn list_records(dir: &Path) -> Result<Vec<RecordInfo>, LogError> {
    let mut found = Vec::new();
    each_segment(dir, false, |info, records, _| {
        if info.free {
            return;
        }
        found.extend(records.iter().filter(|r| r.header.kind == Kind::Record).filter_map(record_info));
    })?;
    found.sort_by_key(|r| r.sequence);
    found.dedup_by_key(|r| r.sequence);
    Ok(found)
}

/// The records that are still held with their payloads, in the order of the files; or why one cannot be read.
pub fn read_records(
    dir: &Path,
    mut each: impl FnMut(RecordInfo, Result<Payload, String>),
) -> Result<(), LogError> {
    let disk = Disk::default();
    let mut seen = BTreeSet::new();
    each_segment(dir, false, |info, records, _| {
        let Ok(file) = disk.open_read(&info.path) else { return };
        if info.free {
            return;
        }
        for record in records.iter().filter(|r| r.header.kind == Kind::Record) {
            if let Some(found) = record_info(record)
                && seen.insert(found.sequence)
            {
                let header = &record.header;
                let offset = record.offset + RECORD_HEADER as u64 + u64::from(header.meta_len);
                let mut bytes = vec![0; header.payload_len as usize];
                let payload = match file.read_at(&mut bytes, offset) {
                    Err(error) => Err(error.to_string()),
                    Ok(read) if read < bytes.len() || crc32c::crc32c(&bytes) != header.payload_crc => {
                        Err("its payload does not match its checksum".to_owned())
                    }
                    Ok(_) => {
                        let kept = Meta::decode(&record.meta, header.spans).and_then(|meta| meta.kept);
                        let spans = kept.map_or(header.spans, |kept| kept.count());
                        Ok(Payload::new(Bytes::from(bytes), spans))
                    }
                };
                each(found, payload);
            }
        }
    })
}

/// Every slot whose destination is known.
pub fn slots(dir: &Path) -> Result<Vec<(Slot, SlotKey)>, LogError> {
    let mut found: BTreeMap<Slot, SlotKey> =
        crate::slots::read(&Disk::default(), dir).unwrap_or_default().into_iter().collect();
    let checkpoint = read_checkpoint(dir).ok().flatten().unwrap_or_default();
    found.extend((0..).zip(&checkpoint.ledger.accounts).filter_map(|(slot, a)| Some((slot, a.key?))));
    let io = |source| LogError::Io { path: dir.to_path_buf(), source };
    for (_, path) in journal::list(&Disk::default(), dir).map_err(io)? {
        // A generation that a running gateway has just replaced says nothing new.
        let Ok(read) = Disk::default().read(&path).map(|bytes| journal::read(&bytes)) else { continue };
        for entry in read.unwrap_or_default().entries {
            if let JournalEntry::Slot { slot, key } = entry {
                found.insert(slot, key);
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn record_info(record: &Walked) -> Option<RecordInfo> {
    let header = &record.header;
    let meta = Meta::decode(&record.meta, header.spans)?;
    Some(RecordInfo {
        sequence: header.sequence,
        received_unix_nano: header.received_unix_nano,
        workspace: meta.workspace,
        accepted: header.accepted,
        routes: meta.routes.iter().map(|r| (r.slot, r.spans.count())).collect(),
        payload_bytes: header.payload_len,
    })
}

/// Reads everything and checks every checksum.
pub fn verify(dir: &Path) -> Result<Report, LogError> {
    let disk = Disk::default();
    let mut report = Report::default();
    if let Err(problem) = read_checkpoint(dir) {
        report.problems.push(problem);
    }
    let mut last: std::collections::BTreeMap<u64, (Sequence, Sequence)> = Default::default();
    each_segment(dir, true, |info, _, lost| {
        report.segments += 1;
        report.records += info.records;
        let path = info.path.display();
        if info.number.is_none() && !info.free {
            report.problems.push(format!("{path}: not understood"));
        }
        if let (Some(number), Some(sequences), false) = (info.number, info.sequences, info.free) {
            last.insert(number, sequences);
        }
        for (from, to) in lost {
            report.problems.push(format!("{path}: bytes {from} to {to} are damaged"));
        }
    })?;
    let io = |source| LogError::Io { path: dir.to_path_buf(), source };
    for (_, path) in journal::list(&disk, dir).map_err(io)? {
        // A generation that a running gateway has just replaced is no finding.
        let Ok(bytes) = disk.read(&path) else { continue };
        match journal::read(&bytes) {
            Ok(read) => {
                report.journal_entries += read.entries.len() as u64;
                if read.damaged > 0 {
                    report.problems.push(format!("{}: {} bytes are damaged", path.display(), read.damaged));
                }
            }
            Err(version) => report.problems.push(format!("{}: format version {version}", path.display())),
        }
    }
    Ok(report)
}
