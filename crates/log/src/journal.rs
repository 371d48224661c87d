//! The settlement journal: entries, their checksums, and the file of the running generation.
//!
//! A generation begins with the slot table and is replaced at each checkpoint. Frames carry their own checksum
//! and a marker, so that damage costs the frames it hits and no others.
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Cursor, put_at, put_varint};
use crate::disk::{Disk, DiskFile};
use crate::format::{SLOT_MAX, VERSION};
use crate::types::{LogError, Outcome, Sequence, Slot, SlotKey};

const MAGIC: [u8; 8] = *b"TCASTJNL";
const HEADER: usize = 32;
const FRAME: usize = 8;
const MARKER: u8 = 0xA7;
/// Longest body of a frame (its length is stored in 24 bits).
const BODY_MAX: usize = (1 << 24) - 1;

const KIND_SLOT: u8 = 1;
const KIND_SETTLED: u8 = 2;
const KIND_INTENT: u8 = 3;
const KIND_SYNCED: u8 = 4;
const KIND_TOGETHER: u8 = 6;
// Reserved: 5 slot retired. Unknown kinds are passed over.

/// One journal entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalEntry {
    /// A slot and its owner.
    Slot {
        slot: Slot,
        key: SlotKey,
    },
    Settled(Settled),
    /// Stretches of one slot that ended together: a crash leaves all of it or nothing.
    Together(Slot, Vec<Settled>),
    Intent(Intent),
    /// Everything below this offset of the file was on disk when this was written.
    Synced(u64),
}

/// Ordinals of a slot that became final together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) slot: Slot,
    /// Highest sequence of the records concerned.
    pub(crate) sequence: Sequence,
    pub(crate) first: u64,
    pub(crate) spans: u64,
    pub(crate) outcome: Outcome,
    pub(crate) bytes: u64,
}

/// A batch that is about to be sent for the first time: the ordinals of its spans, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) slot: Slot,
    pub(crate) ranges: Vec<Range<u64>>,
}

impl Settled {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.sequence);
        put_varint(out, self.first);
        put_varint(out, self.spans);
        put_varint(out, self.bytes);
    }

    fn decode(c: &mut Cursor<'_>, slot: Slot, outcome: Outcome) -> Option<Settled> {
        let (sequence, first, spans, bytes) = (c.varint()?, c.varint()?, c.varint()?, c.varint()?);
        let is_sane = first <= u64::MAX / 2 && spans <= u64::MAX / 4;
        is_sane.then_some(Settled { slot, sequence, first, spans, outcome, bytes })
    }
}

pub(crate) fn put_ranges(out: &mut Vec<u8>, ranges: &[Range<u64>]) {
    put_varint(out, ranges.len() as u64);
    for range in ranges {
        put_varint(out, range.start);
        put_varint(out, range.end.saturating_sub(range.start));
    }
}

pub(crate) fn read_ranges(c: &mut Cursor<'_>) -> Option<Vec<Range<u64>>> {
    let read = |c: &mut Cursor<'_>| {
        let start = c.varint()?;
        Some(start..start.checked_add(c.varint()?)?)
    };
    (0..c.count()?).map(|_| read(c)).collect()
}

/// What a journal file holds.
#[derive(Debug, Default)]
pub(crate) struct JournalRead {
    pub(crate) entries: Vec<JournalEntry>,
    /// Bytes that were no entry, although they had been on disk.
    pub(crate) damaged: u64,
    /// Bytes that were no entry and may never have been on disk: a power cut leaves some of the unsynced ones.
    pub(crate) torn: u64,
}

impl JournalEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; FRAME]);
        match self {
            JournalEntry::Slot { slot, key } => {
                out.push(KIND_SLOT);
                put_varint(out, u64::from(*slot));
                out.extend_from_slice(key);
            }
            JournalEntry::Settled(settled) => {
                let (outcome, reason) = settled.outcome.codes();
                out.extend_from_slice(&[KIND_SETTLED, 0, outcome, reason]); // kind, flags (1 = bitmap, reserved)
                put_varint(out, u64::from(settled.slot));
                settled.encode(out);
            }
            JournalEntry::Together(slot, all) => {
                out.push(KIND_TOGETHER);
                put_varint(out, u64::from(*slot));
                put_varint(out, all.len() as u64);
                for settled in all {
                    let (outcome, reason) = settled.outcome.codes();
                    out.extend_from_slice(&[outcome, reason]);
                    settled.encode(out);
                }
            }
            JournalEntry::Intent(Intent { slot, ranges }) => {
                out.push(KIND_INTENT);
                put_varint(out, u64::from(*slot));
                put_ranges(out, ranges);
            }
            JournalEntry::Synced(offset) => {
                out.push(KIND_SYNCED);
                put_varint(out, *offset);
            }
        }
        let body = out.len() - at - FRAME;
        debug_assert!(body <= BODY_MAX);
        put_at(out, at, &((body as u32) << 8 | u32::from(MARKER)).to_le_bytes());
        let crc = frame_crc(body as u32, out.get(at + FRAME..).unwrap_or_default());
        put_at(out, at + 4, &crc.to_le_bytes());
    }

    /// `Some(None)` is an intact entry of a kind this version does not know.
    fn decode(body: &[u8]) -> Option<Option<JournalEntry>> {
        let mut c = Cursor::new(body);
        Some(Some(match c.u8()? {
            KIND_SLOT => {
                JournalEntry::Slot { slot: c.varint32().filter(|s| *s < SLOT_MAX)?, key: c.array()? }
            }
            KIND_SETTLED => {
                if c.u8()? != 0 {
                    return Some(None);
                }
                let outcome = Outcome::from_codes(c.u8()?, c.u8()?)?;
                let slot = c.varint32()?;
                JournalEntry::Settled(Settled::decode(&mut c, slot, outcome)?)
            }
            KIND_TOGETHER => {
                let slot = c.varint32()?;
                let one = |c: &mut Cursor<'_>| {
                    let outcome = Outcome::from_codes(c.u8()?, c.u8()?)?;
                    Settled::decode(c, slot, outcome)
                };
                let all = (0..c.count()?).map(|_| one(&mut c)).collect::<Option<Vec<_>>>()?;
                JournalEntry::Together(slot, all)
            }
            KIND_INTENT => JournalEntry::Intent(Intent { slot: c.varint32()?, ranges: read_ranges(&mut c)? }),
            KIND_SYNCED => JournalEntry::Synced(c.varint()?),
            _ => return Some(None),
        }))
    }
}

fn frame_crc(len: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), body)
}

/// The frame at the start of `bytes`: its entry (if the kind is known) and its length.
fn read_frame(bytes: &[u8]) -> Option<(Option<JournalEntry>, usize)> {
    let mut c = Cursor::new(bytes);
    let word = c.u32()?;
    let len = word >> 8;
    if word as u8 != MARKER || len == 0 {
        return None;
    }
    let crc = c.u32()?;
    let body = c.take(len as usize)?;
    if frame_crc(len, body) != crc {
        return None;
    }
    Some((JournalEntry::decode(body)?, FRAME + body.len()))
}

fn encode_header(generation: u64, epoch: u32) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]); // flags
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c(out.get(12..).unwrap_or_default());
    put_at(&mut out, 8, &crc.to_le_bytes());
    out
}

/// A file that begins with these slots, all of it to be synced before it counts.
pub(crate) fn table(generation: u64, epoch: u32, slots: &[(Slot, SlotKey)]) -> Vec<u8> {
    let mut bytes = encode_header(generation, epoch);
    for &(slot, key) in slots {
        JournalEntry::Slot { slot, key }.encode(&mut bytes);
    }
    let end = bytes.len() as u64;
    JournalEntry::Synced(end).encode(&mut bytes);
    bytes
}

/// Reads a whole journal file; `Err` is the version of a newer format.
pub(crate) fn read(bytes: &[u8]) -> Result<JournalRead, u16> {
    let mut found = JournalRead::default();
    let header = bytes.get(..HEADER).unwrap_or_default();
    let mut c = Cursor::new(header);
    let magic_fits = c.array::<8>() == Some(MAGIC);
    let crc_fits = c.u32().is_some_and(|crc| crc == crc32c::crc32c(c.rest()));
    if magic_fits && crc_fits {
        match c.u16() {
            Some(version) if version > VERSION => return Err(version),
            _ => {}
        }
    }
    // A damaged header says nothing against the frames behind it.
    let mut at = HEADER.min(bytes.len());
    let (mut holes, mut synced) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some((entry, len)) = read_frame(rest) {
            match entry {
                Some(JournalEntry::Synced(offset)) => synced = offset.max(synced),
                entry => found.entries.extend(entry),
            }
            at += len;
            continue;
        }
        let next = rest
            .iter()
            .enumerate()
            .skip(1)
            .find_map(|(i, byte)| (*byte == MARKER && read_frame(rest.get(i..)?).is_some()).then_some(i));
        match next {
            Some(skipped) => {
                holes.push((at as u64, (at + skipped) as u64));
                at += skipped;
            }
            None => {
                holes.push((at as u64, bytes.len() as u64));
                break;
            }
        }
    }
    for (from, to) in holes {
        let damaged = to.min(synced).saturating_sub(from);
        found.damaged += damaged;
        found.torn += to - from - damaged;
    }
    Ok(found)
}

/// The file entries are appended to.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) file: Arc<DiskFile>,
    pub(crate) generation: u64,
    /// Where the next entry goes.
    pub(crate) at: u64,
    /// Writes so far, over all generations of this process.
    pub(crate) written: u64,
    /// Writes known to be on disk, in a journal or in a checkpoint.
    pub(crate) synced: u64,
    /// Earlier generations that no checkpoint replaces yet.
    pub(crate) before: Vec<Arc<DiskFile>>,
    /// What of the file is on disk, and what the file says of that.
    pub(crate) synced_at: u64,
    pub(crate) said: u64,
    /// A sync of one of these files failed: what it holds may be gone, whatever a later sync answers. Only a
    /// checkpoint makes up for it.
    pub(crate) failed: bool,
}

impl Journal {
    /// A new generation that begins with the slot table, on disk when this returns.
    pub(crate) fn create(
        disk: &Disk,
        dir: &Path,
        generation: u64,
        epoch: u32,
        slots: &[(Slot, SlotKey)],
    ) -> Result<(Arc<DiskFile>, u64), LogError> {
        let path = path_of(dir, generation);
        let bytes = table(generation, epoch, slots);
        let make = || {
            let file = disk.open(&path, true)?;
            file.set_len(0)?;
            file.write_at(&bytes, 0)?;
            file.sync()?;
            disk.sync_dir(dir)?;
            Ok(file)
        };
        match make() {
            Ok(file) => Ok((Arc::new(file), bytes.len() as u64)),
            Err(source) => {
                // The next attempt gets a file of its own: what a failed sync has left would be called good with it.
                let _ = disk.remove(&path);
                Err(LogError::Io { path, source })
            }
        }
    }

    /// Writes encoded entries. After an error the same place is written again.
    pub(crate) fn append(&mut self, mut bytes: Vec<u8>) -> Result<(), LogError> {
        if self.synced_at > self.said {
            JournalEntry::Synced(self.synced_at).encode(&mut bytes);
        }
        self.file.write_at(&bytes, self.at).map_err(|e| self.file.error(e))?;
        self.said = self.synced_at;
        self.at += bytes.len() as u64;
        self.written += 1;
        Ok(())
    }
}

fn path_of(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("journal-{generation:016}.log"))
}

/// Journal files by generation.
pub(crate) fn list(disk: &Disk, dir: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in disk.list(dir)? {
        let generation = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok());
        if let Some(generation) = generation {
            found.push((generation, path));
        }
    }
    found.sort();
    Ok(found)
}
