//! The dead-letter store: append-only files of refused spans with a cap of their own.
//!
//! A file is `<number>.dead` in `dead-letters/`; an id is the file's number and the letter's place in it, so ids
//! rise for ever without anything being read at the start. What lies in older files is found when first asked.
//! A letter is removed by a note that names its id, written to the open file: files are only ever appended to.
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{Disk, DiskFile};
use crate::format::VERSION;
use crate::shared::lock;
use crate::types::{DeadReason, LogError, Slot};
use crate::world::{Mutex, nanos, unix_nano};

use self::letter::{FILE_HEADER, FILE_MAGIC, Spot, encode, encode_removal, places, read_letter};

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

/// Which letters are meant: those for which everything given here is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// This one.
    pub id: Option<u64>,
    /// Given up for this reason.
    pub reason: Option<DeadReason>,
    /// Given up at this time or later, unix nanoseconds.
    pub from_unix_nano: Option<u64>,
    /// Given up before this time, unix nanoseconds.
    pub to_unix_nano: Option<u64>,
}

/// What is known of a letter without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterHead {
    /// See [`DeadLetter::id`].
    pub id: u64,
    /// When it was given up, unix nanoseconds.
    pub at_unix_nano: u64,
    /// Why.
    pub reason: DeadReason,
}

impl LetterFilter {
    fn passes(&self, head: &LetterHead) -> bool {
        self.id.is_none_or(|id| id == head.id)
            && self.reason.is_none_or(|reason| reason == head.reason)
            && self.from_unix_nano.is_none_or(|from| head.at_unix_nano >= from)
            && self.to_unix_nano.is_none_or(|to| head.at_unix_nano < to)
    }
}

impl LetterHead {
    fn of(letter: &DeadLetter) -> LetterHead {
        LetterHead { id: letter.id, at_unix_nano: letter.at_unix_nano, reason: letter.reason }
    }
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
    /// Letters of it that were removed by id.
    removed: usize,
}

#[derive(Debug)]
struct Open {
    file: std::sync::Arc<DiskFile>,
    at: u64,
    letters: u64,
    synced: u64,
}

impl Open {
    fn write(&mut self, listed: &mut LetterFile, bytes: &[u8]) -> Result<Written, LogError> {
        self.file.write_at(bytes, self.at).map_err(|e| self.file.error(e))?;
        self.at += bytes.len() as u64;
        listed.bytes = self.at;
        Ok(Written { file: self.file.clone(), number: listed.number, end: self.at })
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.dead"))
}

fn id_of(file: u64, place: u64) -> u64 {
    file << FILE_SHIFT | place
}

fn file_of(id: u64) -> u64 {
    id >> FILE_SHIFT
}

/// What was written to the open file and is to be synced.
struct Written {
    file: std::sync::Arc<DiskFile>,
    number: u64,
    end: u64,
}

/// Returns when it is on disk. Whoever comes while a sync runs shares the next one.
fn sync(store: &Mutex<Store>, syncing: &Mutex<()>, written: &Written) -> Result<(), LogError> {
    let _turn = lock(syncing);
    if lock(store).is_synced(written.number, written.end) {
        return Ok(());
    }
    let upto = lock(store).written(written.number);
    if let Err(source) = written.file.sync() {
        // Never written to again; the next letter begins a new file.
        lock(store).open = None;
        return Err(written.file.error(source));
    }
    lock(store).synced(written.number, upto);
    Ok(())
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
                store.files.push(LetterFile { number, bytes: about.bytes, letters: None, removed: 0 });
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
                let written = {
                    let mut store = lock(store);
                    store.make_room(
                        disk,
                        dir,
                        (letter.payload.len() + letter.excerpt.len()) as u64,
                        &self.limits,
                    );
                    store.open_for_writing(disk, dir, &self.limits)?;
                    store.write(&mut letter)?
                };
                sync(store, syncing, &written)?;
                Ok(letter.id)
            }
        }
    }

    /// The letters of a destination that pass, oldest first, without their bodies. Blocking.
    pub fn find(&self, slot: Slot, filter: &LetterFilter) -> Vec<LetterHead> {
        let passes = |head: &LetterHead| filter.passes(head);
        match &self.place {
            Place::Memory(ring) => {
                let ring = lock(ring);
                let own = ring.letters.iter().filter(|l| l.slot == slot);
                own.map(LetterHead::of).filter(passes).collect()
            }
            Place::Files { disk, dir, store, .. } => {
                let limit = self.age_limit();
                let mut store = lock(store);
                store.read_all(disk, dir);
                let letters = store.files.iter().flat_map(|f| f.letters.iter().flatten());
                let own = letters.filter(|l| l.slot == slot && l.at_unix_nano >= limit);
                let head = |spot: &Spot| LetterHead {
                    id: spot.id,
                    at_unix_nano: spot.at_unix_nano,
                    reason: spot.reason,
                };
                own.map(head).filter(passes).collect()
            }
        }
    }

    /// One letter in full; `None` if it is gone, not readable, or another destination's. Blocking.
    pub fn get(&self, slot: Slot, id: u64) -> Option<DeadLetter> {
        match &self.place {
            Place::Memory(ring) => lock(ring).letters.iter().find(|l| l.slot == slot && l.id == id).cloned(),
            Place::Files { disk, dir, store, .. } => {
                let spot = {
                    let mut store = lock(store);
                    store.read_all(disk, dir);
                    store.spot(id).filter(|spot| spot.slot == slot)?
                };
                // Read without the lock; a file that goes meanwhile had the oldest.
                let file = disk.open_read(&path_of(dir, file_of(id))).ok()?;
                read_letter(&file, spot.offset)
            }
        }
    }

    /// Removes letters of a destination; answers how many there were. On disk when it returns. Blocking.
    pub fn remove(&self, slot: Slot, ids: &[u64]) -> Result<u64, LogError> {
        match &self.place {
            Place::Memory(ring) => Ok(lock(ring).remove(slot, ids)),
            Place::Files { disk, dir, store: all, syncing } => {
                let mut store = lock(all);
                store.read_all(disk, dir);
                let ids: BTreeSet<u64> = ids.iter().copied().collect();
                let known = ids.into_iter().filter_map(|id| store.spot(id));
                let spots: Vec<Spot> = known.filter(|spot| spot.slot == slot).collect();
                if spots.is_empty() {
                    return Ok(0);
                }
                store.open_for_writing(disk, dir, &self.limits)?;
                let written = store.write_removals(&spots)?;
                store.drop_emptied(disk, dir);
                drop(store);
                sync(all, syncing, &written)?;
                Ok(spots.len() as u64)
            }
        }
    }

    /// The letters of a destination in full, oldest first. Blocking.
    pub fn list(&self, slot: Slot) -> Vec<DeadLetter> {
        let heads = self.find(slot, &LetterFilter::default());
        heads.into_iter().filter_map(|head| self.get(slot, head.id)).collect()
    }

    /// How many letters a destination has. Blocking at the first call.
    pub fn count(&self, slot: Slot) -> u64 {
        self.find(slot, &LetterFilter::default()).len() as u64
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

impl Ring {
    fn remove(&mut self, slot: Slot, ids: &[u64]) -> u64 {
        let ids: HashSet<u64> = ids.iter().copied().collect();
        let letters = std::mem::take(&mut self.letters).into_iter();
        let (gone, kept): (VecDeque<_>, _) = letters.partition(|l| l.slot == slot && ids.contains(&l.id));
        self.letters = kept;
        self.bytes -= gone.iter().map(ring_cost).sum::<u64>();
        gone.len() as u64
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
            self.dropped += oldest.letters.as_ref().map_or(0, |letters| letters.len() as u64);
            self.drop_oldest(disk, dir);
        }
    }

    fn drop_oldest(&mut self, disk: &Disk, dir: &Path) {
        let path = path_of(dir, self.files.remove(0).number);
        if let Err(error) = disk.remove(&path) {
            tracing::warn!(%error, path = %path.display(), "dead letters not removed");
        }
    }

    /// Drops the oldest files as long as all their letters were removed: what they say of earlier files is said of
    /// files that are gone.
    fn drop_emptied(&mut self, disk: &Disk, dir: &Path) {
        let is_emptied =
            |f: &LetterFile| f.removed > 0 && f.letters.as_ref().is_some_and(|letters| letters.is_empty());
        while self.files.len() > 1 && self.files.first().is_some_and(is_emptied) {
            self.drop_oldest(disk, dir);
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
        self.files.push(LetterFile { number, bytes, letters: Some(Vec::new()), removed: 0 });
        self.open = Some(Open { file: std::sync::Arc::new(file), at: bytes, letters: 0, synced: 0 });
        Ok(())
    }

    /// Writes one letter, which gets its id.
    fn write(&mut self, letter: &mut DeadLetter) -> Result<Written, LogError> {
        let (Some(open), Some(listed)) = (&mut self.open, self.files.last_mut()) else {
            return Err(LogError::Closed);
        };
        letter.id = id_of(listed.number, open.letters);
        let DeadLetter { id, slot, at_unix_nano, reason, .. } = *letter;
        let place = Spot { id, slot, at_unix_nano, reason, offset: open.at };
        let written = open.write(listed, &encode(letter))?;
        open.letters += 1;
        if let Some(letters) = &mut listed.letters {
            letters.push(place);
        }
        Ok(written)
    }

    /// Writes that these letters are gone, and forgets them.
    fn write_removals(&mut self, spots: &[Spot]) -> Result<Written, LogError> {
        let (Some(open), Some(listed)) = (&mut self.open, self.files.last_mut()) else {
            return Err(LogError::Closed);
        };
        let bytes: Vec<u8> = spots.iter().flat_map(encode_removal).collect();
        let written = open.write(listed, &bytes)?;
        self.forget(spots.iter().map(|spot| spot.id));
        Ok(written)
    }

    /// Where a letter lies. Letters of a file are in the order of their ids.
    fn spot(&self, id: u64) -> Option<Spot> {
        let file = self.files.iter().find(|f| f.number == file_of(id))?;
        let letters = file.letters.as_ref()?;
        letters.binary_search_by_key(&id, |spot| spot.id).ok().and_then(|at| letters.get(at)).copied()
    }

    fn forget(&mut self, ids: impl Iterator<Item = u64>) {
        let mut by_file: BTreeMap<u64, HashSet<u64>> = BTreeMap::new();
        ids.for_each(|id| {
            by_file.entry(file_of(id)).or_default().insert(id);
        });
        for (number, ids) in by_file {
            let Some(file) = self.files.iter_mut().find(|f| f.number == number) else { continue };
            let Some(letters) = &mut file.letters else { continue };
            let before = letters.len();
            letters.retain(|spot| !ids.contains(&spot.id));
            file.removed += before - letters.len();
        }
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
        let mut removed = Vec::new();
        for file in self.files.iter_mut().filter(|f| f.letters.is_none()) {
            let handle = disk.open_read(&path_of(dir, file.number));
            let contents = handle.map(|handle| places(&handle, file.bytes)).unwrap_or_default();
            file.letters = Some(contents.letters);
            removed.extend(contents.removed);
        }
        self.forget(removed.into_iter());
    }
}

#[cfg(test)]
mod tests;
