//! The dead-letter store: append-only files of refused spans with a cap of their own.
//!
//! A file is `<number>.dead` in `dead-letters/`; an id is the file's number and the letter's place in it, so ids
//! rise for ever without anything being read at the start. What lies in older files is found when first asked.
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::{Cursor, put_at, put_sized, put_varint};
use crate::disk::{Disk, DiskFile};
use crate::format::VERSION;
use crate::shared::{lock, now_unix_nano};
use crate::types::{DeadReason, LogError, Sequence, Slot};

/// Bytes of all letters; the oldest go first.
const CAP_BYTES: u64 = 256 << 20;
const CAP_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Memory mode.
const RING_BYTES: u64 = 64 << 20;
/// A new file begins after so many bytes, or so many letters.
const FILE_BYTES: u64 = 16 << 20;
const FILE_LETTERS: u64 = 1 << FILE_SHIFT;
const FILE_SHIFT: u32 = 20;

const FILE_MAGIC: [u8; 8] = *b"TCASTDLQ";
const FILE_HEADER: usize = 16;
const LETTER_MAGIC: [u8; 4] = *b"tcD\xF1";
/// Magic, checksum of the rest, kind, flags, slot, id, time, body length, checksum of the body.
const LETTER_HEADER: usize = 48;
const KIND_LETTER: u8 = 1; // reserved: 2 = removed by id

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
    /// When it was given up, unix nanoseconds.
    pub at_unix_nano: u64,
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

/// Copies of refused spans, synced before their settlement is journaled.
#[derive(Debug)]
pub struct DeadLetters {
    place: Place,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) cap_bytes: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cap_bytes: CAP_BYTES, ring_bytes: RING_BYTES, file_bytes: FILE_BYTES, age: CAP_AGE }
    }
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<Ring>),
    Files { disk: Disk, dir: PathBuf, store: Mutex<Store>, syncing: Mutex<()> },
}

#[derive(Debug, Default)]
struct Ring {
    letters: VecDeque<DeadLetter>,
    bytes: u64,
    next_id: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Store {
    /// By number, the last one may be open for writing.
    files: Vec<LetterFile>,
    next_file: u64,
    open: Option<Open>,
    dropped: u64,
}

#[derive(Debug)]
struct LetterFile {
    number: u64,
    bytes: u64,
    /// `None`: not read yet.
    letters: Option<Vec<Spot>>,
}

/// Where a letter lies.
#[derive(Clone, Copy, Debug)]
struct Spot {
    slot: Slot,
    at_unix_nano: u64,
    offset: u64,
}

#[derive(Debug)]
struct Open {
    file: std::sync::Arc<DiskFile>,
    at: u64,
    letters: u64,
    synced: u64,
}

fn encode(letter: &DeadLetter) -> Vec<u8> {
    let mut out = vec![0; LETTER_HEADER];
    put_varint(&mut out, letter.sequence);
    put_varint(&mut out, letter.received_unix_nano);
    out.push(letter.reason as u8);
    put_varint(&mut out, letter.status.map_or(0, |s| u64::from(s) + 1));
    put_varint(&mut out, u64::from(letter.attempts));
    put_varint(&mut out, u64::from(letter.spans));
    put_sized(&mut out, letter.excerpt.as_bytes());
    out.extend_from_slice(&letter.payload);
    let body = out.get(LETTER_HEADER..).unwrap_or_default();
    let (len, crc) = (body.len() as u64, crc32c::crc32c(body));
    put_at(&mut out, 0, &LETTER_MAGIC);
    put_at(&mut out, 8, &[KIND_LETTER, 0, 0, 0]);
    put_at(&mut out, 12, &letter.slot.to_le_bytes());
    put_at(&mut out, 16, &letter.id.to_le_bytes());
    put_at(&mut out, 24, &letter.at_unix_nano.to_le_bytes());
    put_at(&mut out, 32, &len.to_le_bytes());
    put_at(&mut out, 40, &crc.to_le_bytes());
    let crc = crc32c::crc32c(out.get(8..LETTER_HEADER).unwrap_or_default());
    put_at(&mut out, 4, &crc.to_le_bytes());
    out
}

#[derive(Clone, Copy, Debug)]
struct LetterHeader {
    kind: u8,
    slot: Slot,
    id: u64,
    at_unix_nano: u64,
    len: u64,
    crc: u32,
}

fn decode_header(bytes: &[u8]) -> Option<LetterHeader> {
    let bytes = bytes.get(..LETTER_HEADER)?;
    let mut c = Cursor::new(bytes);
    if c.array::<4>()? != LETTER_MAGIC || c.u32()? != crc32c::crc32c(bytes.get(8..)?) {
        return None;
    }
    let kind = c.u8()?;
    c.take(3)?;
    Some(LetterHeader {
        kind,
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
    let excerpt = String::from_utf8_lossy(c.sized()?).into_owned();
    let payload = body.slice(body.len() - c.rest().len()..);
    Some(DeadLetter {
        id: header.id,
        slot: header.slot,
        sequence,
        received_unix_nano,
        at_unix_nano: header.at_unix_nano,
        reason,
        status,
        excerpt,
        attempts,
        spans,
        payload,
    })
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.dead"))
}

fn id_of(file: u64, place: u64) -> u64 {
    file << FILE_SHIFT | place
}

impl DeadLetters {
    pub(crate) fn in_memory(limits: Limits) -> DeadLetters {
        DeadLetters { place: Place::Memory(Mutex::default()), limits }
    }

    /// Opens the directory (made if missing); reads names only.
    pub(crate) fn open(disk: Disk, dir: PathBuf, limits: Limits) -> Result<DeadLetters, LogError> {
        let io = |source| LogError::Io { path: dir.clone(), source };
        disk.make_dir(&dir).map_err(io)?;
        let mut store = Store::default();
        for entry in std::fs::read_dir(&dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let number =
                entry.file_name().to_str().and_then(|n| n.strip_suffix(".dead")?.parse::<u64>().ok());
            if let (Some(number), Ok(metadata)) = (number, entry.metadata()) {
                store.files.push(LetterFile { number, bytes: metadata.len(), letters: None });
            }
        }
        store.files.sort_by_key(|f| f.number);
        store.next_file = store.files.last().map_or(1, |f| f.number + 1);
        Ok(DeadLetters { place: Place::Files { disk, dir, store: Mutex::new(store), syncing: Mutex::new(()) }, limits })
    }

    /// Written and synced when it returns (memory mode: ring of 64 MiB). `id` is assigned. Blocking.
    pub fn append(&self, mut letter: DeadLetter) -> Result<u64, LogError> {
        match &self.place {
            Place::Memory(ring) => Ok(lock(ring).push(letter, self.limits.ring_bytes)),
            Place::Files { disk, dir, store, syncing } => {
                let (file, number, end) = {
                    let mut store = lock(store);
                    store.make_room(dir, encode(&letter).len() as u64, &self.limits);
                    store.open_for_writing(disk, dir, &self.limits)?;
                    let (file, number, end) = store.write(&mut letter)?;
                    (file, number, end)
                };
                // Appends that come while a sync runs share the next one.
                let _turn = lock(syncing);
                if lock(store).is_synced(number, end) {
                    return Ok(letter.id);
                }
                let upto = lock(store).written(number);
                if let Err(source) = file.sync() {
                    // Never written to again; the next letter begins a new file.
                    lock(store).open = None;
                    return Err(file.error(source));
                }
                lock(store).synced(number, upto);
                Ok(letter.id)
            }
        }
    }

    /// The letters of a destination, oldest first. Blocking.
    pub fn list(&self, slot: Slot) -> Vec<DeadLetter> {
        match &self.place {
            Place::Memory(ring) => lock(ring).letters.iter().filter(|l| l.slot == slot).cloned().collect(),
            Place::Files { disk, dir, store, .. } => {
                let mut store = lock(store);
                store.read_all(disk, dir);
                let limit = self.age_limit();
                let mut found = Vec::new();
                for file in &store.files {
                    let letters = file.letters.iter().flatten();
                    let wanted: Vec<_> =
                        letters.filter(|l| l.slot == slot && l.at_unix_nano >= limit).copied().collect();
                    if wanted.is_empty() {
                        continue;
                    }
                    let Ok(handle) = disk.open_read(&path_of(dir, file.number)) else { continue };
                    found.extend(wanted.iter().filter_map(|place| read_letter(&handle, place.offset)));
                }
                found
            }
        }
    }

    /// How many letters a destination has. Blocking at the first call.
    pub fn count(&self, slot: Slot) -> u64 {
        match &self.place {
            Place::Memory(ring) => lock(ring).letters.iter().filter(|l| l.slot == slot).count() as u64,
            Place::Files { disk, dir, store, .. } => {
                let mut store = lock(store);
                store.read_all(disk, dir);
                let limit = self.age_limit();
                let letters = store.files.iter().flat_map(|f| f.letters.iter().flatten());
                letters.filter(|l| l.slot == slot && l.at_unix_nano >= limit).count() as u64
            }
        }
    }

    /// Letters that went because of the caps, by this process.
    pub fn dropped(&self) -> u64 {
        match &self.place {
            Place::Memory(ring) => lock(ring).dropped,
            Place::Files { store, .. } => lock(store).dropped,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(ring) => lock(ring).bytes,
            Place::Files { store, .. } => lock(store).files.iter().map(|f| f.bytes).sum(),
        }
    }

    fn age_limit(&self) -> u64 {
        now_unix_nano().saturating_sub(self.limits.age.as_nanos() as u64)
    }
}

impl Ring {
    fn push(&mut self, mut letter: DeadLetter, cap: u64) -> u64 {
        self.next_id += 1;
        letter.id = self.next_id;
        self.bytes += ring_cost(&letter);
        self.letters.push_back(letter);
        while self.bytes > cap
            && let Some(oldest) = self.letters.pop_front()
        {
            self.bytes -= ring_cost(&oldest);
            self.dropped += 1;
        }
        self.next_id
    }
}

fn ring_cost(letter: &DeadLetter) -> u64 {
    (letter.payload.len() + letter.excerpt.len() + size_of::<DeadLetter>()) as u64
}

impl Store {
    /// Drops the oldest files beyond the caps.
    fn make_room(&mut self, dir: &Path, more: u64, limits: &Limits) {
        let now = now_unix_nano();
        loop {
            let bytes: u64 = self.files.iter().map(|f| f.bytes).sum();
            let is_open = self.open.is_some() && self.files.len() == 1;
            let Some(oldest) = self.files.first() else { return };
            let path = path_of(dir, oldest.number);
            // A file's letters are older than its last write.
            let written = path.metadata().and_then(|m| m.modified()).ok();
            let age = written.and_then(|at| at.elapsed().ok()).unwrap_or_default();
            let newest = oldest.letters.as_ref().and_then(|l| l.iter().map(|l| l.at_unix_nano).max());
            let aged = age > limits.age
                || newest.is_some_and(|at| at < now.saturating_sub(limits.age.as_nanos() as u64));
            if is_open || !(aged || bytes + more > limits.cap_bytes) {
                return;
            }
            let dropped = oldest.letters.as_ref().map_or(0, |letters| letters.len() as u64);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "dead letters not removed");
            }
            self.dropped += dropped;
            self.files.remove(0);
        }
    }

    fn open_for_writing(&mut self, disk: &Disk, dir: &Path, limits: &Limits) -> Result<(), LogError> {
        let full = |open: &Open| open.at >= limits.file_bytes || open.letters >= FILE_LETTERS;
        if self.open.as_ref().is_some_and(|open| !full(open)) {
            return Ok(());
        }
        let number = self.next_file;
        let path = path_of(dir, number);
        let io = |source| LogError::Io { path: path.clone(), source };
        let mut header = FILE_MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.resize(FILE_HEADER, 0);
        let file = disk.open(&path, true).map_err(io)?;
        file.write_at(&header, 0).map_err(io)?;
        disk.sync_dir(dir).map_err(io)?;
        self.next_file += 1;
        let bytes = FILE_HEADER as u64;
        self.files.push(LetterFile { number, bytes, letters: Some(Vec::new()) });
        self.open = Some(Open { file: std::sync::Arc::new(file), at: bytes, letters: 0, synced: 0 });
        Ok(())
    }

    /// Writes one letter; answers the file, its number and where the letter ends.
    fn write(&mut self, letter: &mut DeadLetter) -> Result<(std::sync::Arc<DiskFile>, u64, u64), LogError> {
        let (Some(open), Some(listed)) = (&mut self.open, self.files.last_mut()) else {
            return Err(LogError::Closed);
        };
        letter.id = id_of(listed.number, open.letters);
        let bytes = encode(letter);
        open.file.write_at(&bytes, open.at).map_err(|e| open.file.error(e))?;
        let place = Spot { slot: letter.slot, at_unix_nano: letter.at_unix_nano, offset: open.at };
        open.at += bytes.len() as u64;
        open.letters += 1;
        listed.bytes = open.at;
        if let Some(letters) = &mut listed.letters {
            letters.push(place);
        }
        Ok((open.file.clone(), listed.number, open.at))
    }

    fn is_open(&self, number: u64) -> bool {
        self.files.last().is_some_and(|f| f.number == number)
    }

    fn is_synced(&self, number: u64, end: u64) -> bool {
        self.is_open(number) && self.open.as_ref().is_some_and(|open| open.synced >= end)
    }

    fn written(&self, number: u64) -> u64 {
        if self.is_open(number) { self.open.as_ref().map_or(0, |open| open.at) } else { 0 }
    }

    fn synced(&mut self, number: u64, upto: u64) {
        if self.is_open(number)
            && let Some(open) = &mut self.open
        {
            open.synced = open.synced.max(upto);
        }
    }

    fn read_all(&mut self, disk: &Disk, dir: &Path) {
        for file in self.files.iter_mut().filter(|f| f.letters.is_none()) {
            let handle = disk.open_read(&path_of(dir, file.number));
            file.letters = Some(handle.map(|handle| places(&handle, file.bytes)).unwrap_or_default());
        }
    }
}

/// Every letter of a file with an intact header; damage is stepped over.
fn places(file: &DiskFile, end: u64) -> Vec<Spot> {
    let mut found = Vec::new();
    let mut at = FILE_HEADER as u64;
    let mut head = [0; LETTER_HEADER];
    while at + (LETTER_HEADER as u64) <= end {
        let header = match file.read_at(&mut head, at) {
            Ok(read) if read == LETTER_HEADER => decode_header(&head),
            _ => return found,
        };
        match header.filter(|h| at.checked_add(h.len).is_some_and(|e| e <= end)) {
            Some(header) => {
                if header.kind == KIND_LETTER {
                    found.push(Spot { slot: header.slot, at_unix_nano: header.at_unix_nano, offset: at });
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
        let hit = candidates.filter(|(_, w)| w.starts_with(&LETTER_MAGIC)).find(|(_, w)| decode_header(w).is_some());
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

fn read_letter(file: &DiskFile, offset: u64) -> Option<DeadLetter> {
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

#[cfg(test)]
mod tests;
