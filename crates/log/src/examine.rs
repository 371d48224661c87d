//! What a segment file holds: its life, its index, its records and the gaps between them. Read only.
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::format::{
    CARRIED, HEADER_PAGE, Kind, Life, Meta, Page, RECORD_HEADER, RecordHeader, Seal, SegmentHeader, is_intact,
};
use crate::index::{IndexBuilder, SealedIndex};
use crate::types::{LogError, Sequence};
use crate::walk::{Step, Walk, Walked};

/// A segment file on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: u32,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) life: Life,
    /// Its records are copies of what was wanted of earlier segments.
    pub(crate) is_carry: bool,
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) seal: Option<Seal>,
}

/// What a segment file turns out to be.
#[derive(Debug)]
pub(crate) enum FileState {
    Segment(Found),
    /// Never written.
    Fresh,
    /// Nobody can say what it holds.
    Unknown,
    Newer(u16),
}

/// A segment walked from end to end.
pub(crate) struct WalkedSegment {
    pub(crate) records: Vec<Walked>,
    /// Stretches that are no records, although they were once answered.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Stretches of commits that did not finish.
    pub(crate) torn: Vec<(u64, u64)>,
    pub(crate) end: u64,
}

/// Reads a segment file's header page and says what the file is.
pub(crate) fn examine(disk: &Disk, file: u32, path: &Path) -> Result<FileState, LogError> {
    let io = |source| LogError::Io { path: path.to_path_buf(), source };
    let handle = disk.open_read(path).map_err(io)?;
    let bytes = handle.len().map_err(io)?;
    let mut page = vec![0; HEADER_PAGE as usize];
    let Ok(read) = handle.read_at(&mut page, 0) else { return Ok(FileState::Unknown) };
    let found = |(life, is_carry), header, seal| {
        FileState::Segment(Found { file, path: path.to_path_buf(), bytes, life, is_carry, header, seal })
    };
    page.truncate(read);
    let without_page = match Page::decode(&page) {
        Page::Newer(version) => return Ok(FileState::Newer(version)),
        Page::Known { header, seal } => {
            let life = header.as_ref().map(|h| (h.life, h.is_carry));
            let life = life.or(seal.map(|s| (s.life, s.carry.is_some())));
            return Ok(life.map_or(FileState::Unknown, |life| found(life, header, seal)));
        }
        Page::Fresh => FileState::Fresh,
        Page::Unknown => FileState::Unknown,
    };
    // A lost page: the first record says which life this is.
    Ok(match first_record(&handle) {
        Some(life) => found(life, None, None),
        None => without_page,
    })
}

/// The life of the first record, and whether it was carried.
fn first_record(file: &DiskFile) -> Option<(Life, bool)> {
    let mut head = vec![0; RECORD_HEADER];
    if file.read_at(&mut head, HEADER_PAGE).ok()? < RECORD_HEADER {
        return None;
    }
    let (header, crc) = RecordHeader::decode(&head)?;
    if HEADER_PAGE + header.total_len() > file.len().ok()? {
        return None;
    }
    head.resize(RECORD_HEADER + header.meta_len as usize, 0);
    let rest = head.get_mut(RECORD_HEADER..)?;
    file.read_at(rest, HEADER_PAGE + RECORD_HEADER as u64).ok()?;
    is_intact(&head, header.meta_len, crc).then_some((header.life, header.flags & CARRIED != 0))
}

/// The index of a sealed segment, if it is intact.
pub(crate) fn read_index(file: &DiskFile, found: &Found) -> Option<SealedIndex> {
    let seal = found.seal?;
    let len = RECORD_HEADER as u64 + u64::from(seal.index_len);
    if seal.end.checked_add(len)? > found.bytes {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let wanted = bytes.len();
    if file.read_at(&mut bytes, seal.end).ok()? < wanted {
        return None;
    }
    let (header, crc) = RecordHeader::decode(&bytes)?;
    let fits = header.kind == Kind::Index && header.life == found.life && header.meta_len == seal.index_len;
    if !fits || !is_intact(&bytes, header.meta_len, crc) {
        return None;
    }
    SealedIndex::decode(bytes.split_off(RECORD_HEADER))
}

/// The index that a walked segment should have.
pub(crate) fn index_of(walked: &WalkedSegment) -> IndexBuilder {
    let mut index = IndexBuilder::default();
    for record in walked.records.iter().filter(|r| r.header.kind == Kind::Record) {
        let Some(meta) = Meta::decode(&record.meta, record.header.spans) else { continue };
        let mut again = Vec::new();
        let routing = meta.encode(&mut again);
        index.push(record.offset, &record.header, again.get(..routing).unwrap_or_default(), &meta);
    }
    index
}

/// Walks all of a segment. `named_end`: where a later segment says that the one of this number ends.
pub(crate) fn walk_all(
    file: &DiskFile,
    found: &Found,
    named_end: Option<u64>,
    verify_above: Option<Sequence>,
) -> WalkedSegment {
    // That is said of the one whose place a carry segment took.
    let named_end = named_end.filter(|_| !found.is_carry);
    let known_end = match (found.seal.map(|s| s.end), named_end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let mut walk =
        Walk::new(file, found.life, known_end.unwrap_or(found.bytes).min(found.bytes), verify_above);
    let mut answered = known_end.unwrap_or(0);
    let (mut records, mut holes) = (Vec::new(), Vec::new());
    while let Some(step) = walk.step() {
        match step {
            Step::Hole { from, to } => holes.push((from, to)),
            // An index without its seal: the crash came between the two.
            Step::Record(record) if record.header.kind == Kind::Index => {
                answered = answered.max(record.offset);
                break;
            }
            Step::Record(record) => {
                answered = answered.max(record.header.answered);
                records.push(record);
            }
        }
    }
    let end = records.last().map_or(HEADER_PAGE, |r: &Walked| r.offset + r.header.total_len());
    if end < answered && holes.last().is_none_or(|(from, _)| *from < end) {
        holes.push((end, answered));
    }
    let (lost, torn): (Vec<_>, Vec<(u64, u64)>) = holes.into_iter().partition(|(from, _)| *from < answered);
    if let Some((from, _)) = torn.first() {
        // What stands behind a torn place is of the same commit, and nobody was answered for it either. Kept, it would
        // make the place look like damage to whoever comes after the segment is sealed.
        records.retain(|record| record.offset < *from);
    }
    let end = records.last().map_or(HEADER_PAGE, |r: &Walked| r.offset + r.header.total_len());
    WalkedSegment { records, lost, torn, end: end.max(answered.min(found.bytes)) }
}
