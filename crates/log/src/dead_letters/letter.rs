//! One dead letter: its bytes, and finding letters in a file.
use std::path::Path;

use bytes::Bytes;

use super::LetterHead;
use crate::codec::{Cursor, put_at, put_sized, put_varint};
use crate::disk::{Disk, DiskFile};
use crate::format::VERSION;
use crate::types::{DeadReason, LogError, Sequence, Slot};

const FILE_MAGIC: [u8; 8] = *b"TCASTDLQ";
pub(super) const FILE_HEADER: usize = 16;
const LETTER_MAGIC: [u8; 4] = *b"tcD\xF1";
/// Magic, checksum of the rest, kind, reason (repeated from the body), 0 u16, slot, id, time, body length, checksum of
/// the body.
const LETTER_HEADER: usize = 48;
/// A letter as it was before it said when it was first sent, and by what.
const KIND_BRIEF: u8 = 1;
/// Says that the letter with its id was removed; has no body.
const KIND_REMOVED: u8 = 2;
/// A letter whose spans came straight from a client.
const KIND_LETTER: u8 = 3;
/// A letter whose spans have passed other gateways, and which.
const KIND_FORWARDED: u8 = 4;

/// A copy of refused spans.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Assigned by `append`; rises, never used twice.
    pub id: u64,
    /// The destination that refused.
    pub slot: Slot,
    /// The record it comes from.
    pub sequence: Sequence,
    /// When the record was received, unix nanoseconds.
    pub received_unix_nano: u64,
    /// When it was first sent, unix nanoseconds; `None` if that is not known.
    pub first_sent_unix_nano: Option<u64>,
    /// When it was given up, unix nanoseconds.
    pub at_unix_nano: u64,
    /// Version of the mapping that made the requests; 0 if that is not known.
    pub mapping_version: u32,
    /// The gateways the spans had passed, as [`crate::Origin`] says.
    pub via: Bytes,
    /// Why.
    pub reason: DeadReason,
    /// The last answer's status, if there was one.
    pub status: Option<u16>,
    /// The last answer, redacted and cut.
    pub excerpt: String,
    /// Sends of it.
    pub attempts: u32,
    /// Spans in `payload`.
    pub spans: u32,
    /// OTLP bytes in the destination's projection.
    pub payload: Bytes,
}

/// Where a letter lies, and what its header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) id: u64,
    pub(super) slot: Slot,
    pub(super) at_unix_nano: u64,
    pub(super) reason: DeadReason,
    /// The file it lies in.
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Spot {
    pub(super) fn head(&self) -> LetterHead {
        LetterHead { id: self.id, at_unix_nano: self.at_unix_nano, reason: self.reason }
    }
}

/// What a file of letters holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) letters: Vec<Spot>,
    /// Letters, in this file or an earlier one, that were removed.
    pub(super) removed: Vec<(Slot, u64)>,
}

/// The first bytes of a file: magic, version, zeros, checksum.
pub(super) fn file_header() -> Vec<u8> {
    let mut header = FILE_MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.resize(FILE_HEADER - 4, 0);
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header
}

/// Refuses a file of a newer format. A header that is damaged says nothing against the letters behind it.
pub(super) fn check_version(disk: &Disk, path: &Path) -> Result<(), LogError> {
    let mut header = [0; FILE_HEADER];
    let read = disk.open_read(path).and_then(|file| file.read_at(&mut header, 0));
    let mut c = Cursor::new(&header);
    let (magic, version, crc) = (c.array::<8>(), c.u16(), c.take(2).and(c.u32()));
    let is_whole = matches!(read, Ok(FILE_HEADER))
        && magic == Some(FILE_MAGIC)
        && crc == header.get(..FILE_HEADER - 4).map(crc32c::crc32c);
    match version {
        Some(version) if is_whole && version > VERSION => Err(LogError::newer(path.to_path_buf(), version)),
        _ => Ok(()),
    }
}

pub(super) fn encode(letter: &DeadLetter) -> Vec<u8> {
    let mut out = vec![0; LETTER_HEADER];
    put_varint(&mut out, letter.sequence);
    put_varint(&mut out, letter.received_unix_nano);
    out.push(letter.reason as u8);
    put_varint(&mut out, letter.status.map_or(0, |s| u64::from(s) + 1));
    put_varint(&mut out, u64::from(letter.attempts));
    put_varint(&mut out, u64::from(letter.spans));
    put_varint(&mut out, letter.first_sent_unix_nano.map_or(0, |at| at.saturating_add(1)));
    put_varint(&mut out, u64::from(letter.mapping_version));
    let kind = if letter.via.is_empty() { KIND_LETTER } else { KIND_FORWARDED };
    if kind == KIND_FORWARDED {
        put_sized(&mut out, &letter.via);
    }
    put_sized(&mut out, letter.excerpt.as_bytes());
    out.extend_from_slice(&letter.payload);
    let body = out.get(LETTER_HEADER..).unwrap_or_default();
    let header = LetterHeader {
        kind,
        reason: letter.reason as u8,
        slot: letter.slot,
        id: letter.id,
        at_unix_nano: letter.at_unix_nano,
        len: body.len() as u64,
        crc: crc32c::crc32c(body),
    };
    header.encode(&mut out);
    out
}

/// The note that a letter was removed.
pub(super) fn encode_removal(spot: &Spot) -> Vec<u8> {
    let mut out = vec![0; LETTER_HEADER];
    let header = LetterHeader {
        kind: KIND_REMOVED,
        reason: spot.reason as u8,
        slot: spot.slot,
        id: spot.id,
        at_unix_nano: spot.at_unix_nano,
        len: 0,
        crc: crc32c::crc32c(&[]),
    };
    header.encode(&mut out);
    out
}

#[derive(Clone, Copy, Debug)]
struct LetterHeader {
    kind: u8,
    reason: u8,
    slot: Slot,
    id: u64,
    at_unix_nano: u64,
    len: u64,
    crc: u32,
}

impl LetterHeader {
    /// Into the room at the start of `out`.
    fn encode(&self, out: &mut [u8]) {
        put_at(out, 0, &LETTER_MAGIC);
        put_at(out, 8, &[self.kind, self.reason, 0, 0]);
        put_at(out, 12, &self.slot.to_le_bytes());
        put_at(out, 16, &self.id.to_le_bytes());
        put_at(out, 24, &self.at_unix_nano.to_le_bytes());
        put_at(out, 32, &self.len.to_le_bytes());
        put_at(out, 40, &self.crc.to_le_bytes());
        let crc = crc32c::crc32c(out.get(8..LETTER_HEADER).unwrap_or_default());
        put_at(out, 4, &crc.to_le_bytes());
    }
}

fn decode_header(bytes: &[u8]) -> Option<LetterHeader> {
    let bytes = bytes.get(..LETTER_HEADER)?;
    let mut c = Cursor::new(bytes);
    if c.array::<4>()? != LETTER_MAGIC || c.u32()? != crc32c::crc32c(bytes.get(8..)?) {
        return None;
    }
    let (kind, reason) = (c.u8()?, c.u8()?);
    c.take(2)?;
    Some(LetterHeader {
        kind,
        reason,
        slot: c.u32()?,
        id: c.u64()?,
        at_unix_nano: c.u64()?,
        len: c.u64()?,
        crc: c.u32()?,
    })
}

fn decode_body(header: LetterHeader, body: Bytes) -> Option<DeadLetter> {
    if crc32c::crc32c(&body) != header.crc {
        return None;
    }
    let mut c = Cursor::new(&body);
    let (sequence, received_unix_nano) = (c.varint()?, c.varint()?);
    let reason = DeadReason::from_code(c.u8()?)?;
    let status = c.varint()?.checked_sub(1).and_then(|s| u16::try_from(s).ok());
    let (attempts, spans) = (c.varint32()?, c.varint32()?);
    let (first_sent_unix_nano, mapping_version) = match header.kind {
        KIND_BRIEF => (None, 0),
        _ => (c.varint()?.checked_sub(1), c.varint32()?),
    };
    let via = match header.kind {
        KIND_FORWARDED => Bytes::copy_from_slice(c.sized()?),
        _ => Bytes::new(),
    };
    let excerpt = String::from_utf8_lossy(c.sized()?).into_owned();
    let payload = body.slice(body.len() - c.rest().len()..);
    Some(DeadLetter {
        id: header.id,
        slot: header.slot,
        sequence,
        received_unix_nano,
        first_sent_unix_nano,
        at_unix_nano: header.at_unix_nano,
        mapping_version,
        via,
        reason,
        status,
        excerpt,
        attempts,
        spans,
        payload,
    })
}

/// Every letter and removal of a file with an intact header; damage is stepped over.
pub(super) fn places(file: &DiskFile, number: u64, end: u64) -> Contents {
    let mut found = Contents::default();
    let mut at = FILE_HEADER as u64;
    let mut head = [0; LETTER_HEADER];
    while at + (LETTER_HEADER as u64) <= end {
        let header = match file.read_at(&mut head, at) {
            Ok(read) if read == LETTER_HEADER => decode_header(&head),
            _ => return found,
        };
        match header.filter(|h| at.checked_add(h.len).is_some_and(|e| e <= end)) {
            Some(header) => {
                match (header.kind, DeadReason::from_code(header.reason)) {
                    (KIND_LETTER | KIND_FORWARDED | KIND_BRIEF, Some(reason)) => {
                        let LetterHeader { id, slot, at_unix_nano, len, .. } = header;
                        let bytes = LETTER_HEADER as u64 + len;
                        let spot = Spot { id, slot, at_unix_nano, reason, file: number, offset: at, bytes };
                        found.letters.push(spot);
                    }
                    (KIND_REMOVED, _) => found.removed.push((header.slot, header.id)),
                    _ => {}
                }
                at += LETTER_HEADER as u64 + header.len;
            }
            None => match next_letter(file, at + 1, end) {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    found
}

fn next_letter(file: &DiskFile, from: u64, end: u64) -> Option<u64> {
    let mut window = vec![0; 64 * 1024];
    let mut base = from;
    while base < end {
        let read = file.read_at(&mut window, base).ok()?;
        let part = window.get(..read)?;
        let candidates = part.windows(LETTER_HEADER).enumerate();
        let hit = candidates
            .filter(|(_, w)| w.starts_with(&LETTER_MAGIC))
            .find(|(_, w)| decode_header(w).is_some());
        if let Some((i, _)) = hit {
            return Some(base + i as u64);
        }
        if read < window.len() {
            return None;
        }
        // A header may begin in the last bytes of this window.
        base += (read - LETTER_HEADER + 1) as u64;
    }
    None
}

/// The bytes of a letter, if its header is still good.
pub(super) fn read_whole(file: &DiskFile, spot: &Spot) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(spot.bytes).ok()?];
    let read = file.read_at(&mut bytes, spot.offset).ok()?;
    let header = decode_header(&bytes).filter(|header| header.id == spot.id && header.slot == spot.slot)?;
    (read == bytes.len() && header.len + LETTER_HEADER as u64 == spot.bytes).then_some(bytes)
}

pub(super) fn read_letter(file: &DiskFile, offset: u64) -> Option<DeadLetter> {
    let mut head = [0; LETTER_HEADER];
    if file.read_at(&mut head, offset).ok()? < LETTER_HEADER {
        return None;
    }
    let header = decode_header(&head)?;
    if header.len > file.len().ok()? {
        return None;
    }
    let mut body = vec![0; usize::try_from(header.len).ok()?];
    let wanted = body.len();
    if file.read_at(&mut body, offset + LETTER_HEADER as u64).ok()? < wanted {
        return None;
    }
    decode_body(header, Bytes::from(body))
}
