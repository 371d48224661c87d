//! The dead-letter store: append-only files of refused spans with a cap of their own.
//!
//! A file is `<number>.dead` in `dead-letters/`; an id is the file's number and the letter's place in it, so ids
//! rise for ever without anything being read at the start. What lies in older files is found when first asked.
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{Disk, DiskFile};
use crate::format::VERSION;
use crate::shared::lock;
use crate::types::{LogError, Slot};
use crate::world::{Mutex, nanos, unix_nano};

use self::letter::{FILE_HEADER, FILE_MAGIC, Spot, encode, places, read_letter};

mod letter;

pub use self::letter::DeadLetter;

/// Bytes of all letters; the oldest go first.
const CAP_BYTES: u64 = 256 << 20;
const CAP_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Memory mode.
const RING_BYTES: u64 = 64 << 20;
/// A new file begins after so many bytes, or so many letters.
const FILE_BYTES: u64 = 16 << 20;
const FILE_LETTERS: u64 = 1 << FILE_SHIFT;
const FILE_SHIFT: u32 = 20;

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

#[derive(Debug)]
struct Open {
    file: std::sync::Arc<DiskFile>,
    at: u64,
    letters: u64,
    synced: u64,
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
        for path in disk.list(&dir).map_err(io)? {
            let name = path.file_name().and_then(|n| n.to_str());
            let number = name.and_then(|n| n.strip_suffix(".dead")?.parse::<u64>().ok());
            if let (Some(number), Ok(about)) = (number, disk.about(&path)) {
                store.files.push(LetterFile { number, bytes: about.bytes, letters: None });
            }
        }
        store.files.sort_by_key(|f| f.number);
        store.next_file = store.files.last().map_or(1, |f| f.number + 1);
        Ok(DeadLetters {
            place: Place::Files { disk, dir, store: Mutex::new(store), syncing: Mutex::new(()) },
            limits,
        })
    }

    /// Written and synced when it returns (memory mode: ring of 64 MiB). `id` is assigned. Blocking.
    pub fn append(&self, mut letter: DeadLetter) -> Result<u64, LogError> {
        match &self.place {
            Place::Memory(ring) => Ok(lock(ring).push(letter, self.limits.ring_bytes)),
            Place::Files { disk, dir, store, syncing } => {
                let (file, number, end) = {
                    let mut store = lock(store);
                    store.make_room(
                        disk,
                        dir,
                        (letter.payload.len() + letter.excerpt.len()) as u64,
                        &self.limits,
                    );
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
                let limit = self.age_limit();
                let wanted: Vec<(u64, Vec<Spot>)> = {
                    let mut store = lock(store);
                    store.read_all(disk, dir);
                    let of_slot = |f: &LetterFile| {
                        let letters = f.letters.iter().flatten();
                        letters.filter(|l| l.slot == slot && l.at_unix_nano >= limit).copied().collect()
                    };
                    store.files.iter().map(|f| (f.number, of_slot(f))).collect()
                };
                // Read without the lock; a file that goes meanwhile had the oldest.
                let mut found = Vec::new();
                for (number, spots) in wanted.into_iter().filter(|(_, spots)| !spots.is_empty()) {
                    let Ok(file) = disk.open_read(&path_of(dir, number)) else { continue };
                    found.extend(spots.iter().filter_map(|spot| read_letter(&file, spot.offset)));
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
        unix_nano().saturating_sub(nanos(self.limits.age))
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
    fn make_room(&mut self, disk: &Disk, dir: &Path, more: u64, limits: &Limits) {
        let now = unix_nano();
        loop {
            let bytes: u64 = self.files.iter().map(|f| f.bytes).sum();
            let is_open = self.open.is_some() && self.files.len() == 1;
            let Some(oldest) = self.files.first() else { return };
            let path = path_of(dir, oldest.number);
            // A file's letters are older than its last write.
            let written = disk.about(&path).map_or(now, |about| about.modified_unix_nano);
            let newest = oldest.letters.as_ref().and_then(|l| l.iter().map(|l| l.at_unix_nano).max());
            let limit = now.saturating_sub(nanos(limits.age));
            let aged = written < limit || newest.is_some_and(|at| at < limit);
            if is_open || !(aged || bytes + more > limits.cap_bytes) {
                return;
            }
            let dropped = oldest.letters.as_ref().map_or(0, |letters| letters.len() as u64);
            if let Err(error) = disk.remove(&path) {
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

#[cfg(test)]
mod tests;
