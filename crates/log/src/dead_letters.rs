//! The dead-letter store: append-only files of refused spans with caps of their own, for each destination and for all.
//!
//! A file is `<number>.dead` in `dead-letters/`; an id is the file's number and the letter's place in it, so ids
//! rise for ever without anything being read at the start. What lies in older files is found when first asked.
//! A letter is removed by a note that names its id, written to the open file: files are only ever appended to.
//!
//! At its own cap a destination loses its oldest letters; at the cap of all the one with the most does. The bytes come
//! back when the oldest file goes: letters that are still there move to the open one, and keep their ids.
use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::Disk;
use crate::shared::lock;
use crate::types::{DeadReason, LogError, Slot};
use crate::world::{Mutex, nanos, unix_nano};

use self::letter::{Spot, read_letter};
use self::store::{Held, Store, sync};

mod letter;
mod store;

pub use self::letter::DeadLetter;

/// Bytes and number of a destination's letters.
const OWN_BYTES: u64 = 256 << 20;
const OWN_LETTERS: u64 = 100_000;
/// Bytes of all files; letters that are still there take half of it at most, and are so many at most.
const CAP_BYTES: u64 = 1 << 30;
const CAP_LETTERS: u64 = 1_000_000;
const CAP_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Memory mode.
const RING_BYTES: u64 = 64 << 20;
/// A new file begins after so many bytes.
const FILE_BYTES: u64 = 16 << 20;

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
    /// Of one destination.
    pub(crate) own_bytes: u64,
    pub(crate) own_letters: u64,
    /// Of all files.
    pub(crate) cap_bytes: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            own_bytes: OWN_BYTES,
            own_letters: OWN_LETTERS,
            cap_bytes: CAP_BYTES,
            ring_bytes: RING_BYTES,
            file_bytes: FILE_BYTES,
            age: CAP_AGE,
        }
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

impl DeadLetters {
    pub(crate) fn in_memory(limits: Limits) -> DeadLetters {
        DeadLetters { place: Place::Memory(Mutex::default()), limits }
    }

    /// Opens the directory (made if missing); reads names and headers only. A file of a newer format is refused.
    pub(crate) fn open(disk: Disk, dir: PathBuf, limits: Limits) -> Result<DeadLetters, LogError> {
        disk.make_dir(&dir).map_err(|source| LogError::Io { path: dir.clone(), source })?;
        let store = Store::open(&disk, &dir)?;
        Ok(DeadLetters {
            place: Place::Files { disk, dir, store: Mutex::new(store), syncing: Mutex::new(()) },
            limits,
        })
    }

    /// Written and synced when it returns (memory mode: ring of 64 MiB). `id` is assigned. Blocking.
    pub fn append(&self, mut letter: DeadLetter) -> Result<u64, LogError> {
        match &self.place {
            Place::Memory(ring) => Ok(lock(ring).push(letter, &self.limits)),
            Place::Files { disk, dir, store, syncing } => {
                let written = lock(store).append(disk, dir, &mut letter, &self.limits)?;
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
                let own = store.letters_of(slot).filter(|spot| spot.at_unix_nano >= limit);
                own.map(Spot::head).filter(passes).collect()
            }
        }
    }

    /// One letter in full; `None` if it is gone, not readable, or another destination's. Blocking.
    pub fn get(&self, slot: Slot, id: u64) -> Option<DeadLetter> {
        match &self.place {
            Place::Memory(ring) => lock(ring).letters.iter().find(|l| l.slot == slot && l.id == id).cloned(),
            Place::Files { disk, dir, store, .. } => {
                let (path, offset) = {
                    let mut store = lock(store);
                    store.read_all(disk, dir);
                    store.place_of(dir, slot, id)?
                };
                // Read without the lock; from a file that goes meanwhile it may have moved.
                let read = |path: &Path, offset| read_letter(&disk.open_read(path).ok()?, offset);
                read(&path, offset).filter(|letter| letter.id == id).or_else(|| {
                    let (path, offset) = lock(store).place_of(dir, slot, id)?;
                    read(&path, offset)
                })
            }
        }
    }

    /// Removes letters of a destination; answers how many there were. On disk when it returns. Blocking.
    pub fn remove(&self, slot: Slot, ids: &[u64]) -> Result<u64, LogError> {
        match &self.place {
            Place::Memory(ring) => Ok(lock(ring).remove(slot, ids)),
            Place::Files { disk, dir, store, syncing } => {
                let removed = lock(store).remove(disk, dir, slot, ids, &self.limits)?;
                let Some((written, count)) = removed else { return Ok(0) };
                sync(store, syncing, &written)?;
                Ok(count)
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

    /// When the oldest letter of a destination was given up, unix nanoseconds. Blocking at the first call.
    pub fn oldest(&self, slot: Slot) -> Option<u64> {
        self.find(slot, &LetterFilter::default()).first().map(|head| head.at_unix_nano)
    }

    /// Letters that went because of the caps, by this process.
    pub fn dropped(&self) -> u64 {
        match &self.place {
            Place::Memory(ring) => lock(ring).dropped,
            Place::Files { store, .. } => lock(store).dropped(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(ring) => lock(ring).bytes,
            Place::Files { store, .. } => lock(store).bytes(),
        }
    }

    fn age_limit(&self) -> u64 {
        unix_nano().saturating_sub(nanos(self.limits.age))
    }
}

impl Ring {
    fn push(&mut self, mut letter: DeadLetter, limits: &Limits) -> u64 {
        self.next_id += 1;
        letter.id = self.next_id;
        self.bytes += ring_cost(&letter);
        self.letters.push_back(letter);
        while self.bytes > limits.ring_bytes
            && let Some(most) = self.with_the_most()
            && let Some(at) = self.letters.iter().position(|letter| letter.slot == most)
            && let Some(oldest) = self.letters.remove(at)
        {
            self.bytes -= ring_cost(&oldest);
            self.dropped += 1;
        }
        self.next_id
    }

    fn with_the_most(&self) -> Option<Slot> {
        let mut held = Held::default();
        self.letters.iter().for_each(|letter| held.add(letter.slot, ring_cost(letter)));
        held.with_the_most()
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

#[cfg(test)]
mod tests;
