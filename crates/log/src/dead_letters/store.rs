//! The files of the dead-letter store: which letters are where, what goes at the caps, and what is written.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::shared::lock;
use crate::types::{LogError, Slot};
use crate::world::{Mutex, nanos, unix_nano};

use super::letter::{self, Contents, FILE_HEADER, Spot, encode, encode_removal, file_header, places};
use super::{CAP_LETTERS, DeadLetter, Limits};

const FILE_SHIFT: u32 = 20;
const FILE_LETTERS: u64 = 1 << FILE_SHIFT;
/// At a cap an eighth more than needed goes, so that not every letter makes the next one go.
const MORE_THAN_NEEDED: u64 = 8;

#[derive(Debug, Default)]
pub(super) struct Store {
    /// By number, the last one may be open for writing.
    files: Vec<LetterFile>,
    next_file: u64,
    open: Option<Open>,
    /// Every letter that is there, by destination and id, once the files were read.
    letters: BTreeMap<(Slot, u64), Spot>,
    held: Held,
    dropped: u64,
}

#[derive(Debug)]
struct LetterFile {
    number: u64,
    bytes: u64,
    is_read: bool,
    /// Letters of it that are there.
    letters: u64,
}

#[derive(Debug)]
struct Open {
    file: Arc<DiskFile>,
    at: u64,
    letters: u64,
    synced: u64,
}

/// Bytes and number of letters by destination.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_slot: HashMap<Slot, (u64, u64)>,
    bytes: u64,
    letters: u64,
}

impl Held {
    pub(super) fn add(&mut self, slot: Slot, bytes: u64) {
        let own = self.by_slot.entry(slot).or_default();
        *own = (own.0 + bytes, own.1 + 1);
        (self.bytes, self.letters) = (self.bytes + bytes, self.letters + 1);
    }

    fn take(&mut self, slot: Slot, bytes: u64) {
        let own = self.by_slot.entry(slot).or_default();
        *own = (own.0.saturating_sub(bytes), own.1.saturating_sub(1));
        if own.1 == 0 {
            self.by_slot.remove(&slot);
        }
        (self.bytes, self.letters) = (self.bytes.saturating_sub(bytes), self.letters.saturating_sub(1));
    }

    fn of(&self, slot: Slot) -> (u64, u64) {
        self.by_slot.get(&slot).copied().unwrap_or_default()
    }

    pub(super) fn with_the_most(&self) -> Option<Slot> {
        self.by_slot.iter().max_by_key(|(slot, (bytes, _))| (*bytes, **slot)).map(|(slot, _)| *slot)
    }
}

/// What was written to the open file and is to be synced.
pub(super) struct Written {
    file: Arc<DiskFile>,
    number: u64,
    end: u64,
}

/// Returns when it is on disk. Whoever comes while a sync runs shares the next one.
pub(super) fn sync(store: &Mutex<Store>, syncing: &Mutex<()>, written: &Written) -> Result<(), LogError> {
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

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.dead"))
}

impl Store {
    pub(super) fn open(disk: &Disk, dir: &Path) -> Result<Store, LogError> {
        let mut store = Store::default();
        for path in disk.list(dir).map_err(|source| LogError::Io { path: dir.to_path_buf(), source })? {
            let name = path.file_name().and_then(|n| n.to_str());
            let number = name.and_then(|n| n.strip_suffix(".dead")?.parse::<u64>().ok());
            let (Some(number), Ok(about)) = (number, disk.about(&path)) else { continue };
            letter::check_version(disk, &path)?;
            store.files.push(LetterFile { number, bytes: about.bytes, is_read: false, letters: 0 });
        }
        store.files.sort_by_key(|f| f.number);
        store.next_file = store.files.last().map_or(1, |f| f.number + 1);
        Ok(store)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// The letters of a destination, oldest first.
    pub(super) fn letters_of(&self, slot: Slot) -> impl Iterator<Item = &Spot> {
        self.letters.range((slot, 0)..=(slot, u64::MAX)).map(|(_, spot)| spot)
    }

    pub(super) fn place_of(&self, dir: &Path, slot: Slot, id: u64) -> Option<(PathBuf, u64)> {
        self.letters.get(&(slot, id)).map(|spot| (path_of(dir, spot.file), spot.offset))
    }

    /// Finds what lies in the files; once.
    pub(super) fn read_all(&mut self, disk: &Disk, dir: &Path) {
        let mut removed = Vec::new();
        for i in 0..self.files.len() {
            let Some(file) = self.files.get_mut(i).filter(|file| !file.is_read) else { continue };
            file.is_read = true;
            let (number, bytes) = (file.number, file.bytes);
            let handle = disk.open_read(&path_of(dir, number));
            let Contents { letters, removed: more } =
                handle.map(|handle| places(&handle, number, bytes)).unwrap_or_default();
            // One that was moved is there twice, if the process ended before the old file was gone.
            letters.into_iter().for_each(|spot| self.enter(spot));
            removed.extend(more);
        }
        for key in removed {
            self.forget(key);
        }
    }

    fn enter(&mut self, spot: Spot) {
        self.forget((spot.slot, spot.id));
        self.held.add(spot.slot, spot.bytes);
        self.letters.insert((spot.slot, spot.id), spot);
        if let Some(file) = self.file_mut(spot.file) {
            file.letters += 1;
        }
    }

    fn forget(&mut self, key: (Slot, u64)) {
        let Some(spot) = self.letters.remove(&key) else { return };
        self.held.take(spot.slot, spot.bytes);
        if let Some(file) = self.file_mut(spot.file) {
            file.letters = file.letters.saturating_sub(1);
        }
    }

    fn file_mut(&mut self, number: u64) -> Option<&mut LetterFile> {
        self.files.iter_mut().find(|file| file.number == number)
    }

    /// Writes one letter, which gets its id, after making room for it.
    pub(super) fn append(
        &mut self,
        disk: &Disk,
        dir: &Path,
        letter: &mut DeadLetter,
        limits: &Limits,
    ) -> Result<Written, LogError> {
        self.read_all(disk, dir);
        let bytes = encode(letter).len() as u64;
        self.make_room(disk, dir, (letter.slot, bytes), limits)?;
        self.open_for_writing(disk, dir, limits)?;
        let Some((open, listed)) = self.open.as_mut().zip(self.files.last()) else {
            return Err(LogError::Closed);
        };
        letter.id = listed.number << FILE_SHIFT | open.letters;
        open.letters += 1;
        let DeadLetter { id, slot, at_unix_nano, reason, .. } = *letter;
        let spot = Spot { id, slot, at_unix_nano, reason, file: listed.number, offset: open.at, bytes };
        let written = self.write(&encode(letter))?;
        self.enter(spot);
        Ok(written)
    }

    /// Writes that these letters are gone, and forgets them; `None` if none of them was there.
    pub(super) fn remove(
        &mut self,
        disk: &Disk,
        dir: &Path,
        slot: Slot,
        ids: &[u64],
        limits: &Limits,
    ) -> Result<Option<(Written, u64)>, LogError> {
        self.read_all(disk, dir);
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        let spots: Vec<Spot> =
            ids.into_iter().filter_map(|id| self.letters.get(&(slot, id)).copied()).collect();
        if spots.is_empty() {
            return Ok(None);
        }
        self.open_for_writing(disk, dir, limits)?;
        let written = self.write_removals(&spots)?;
        // What the oldest files say of earlier ones is said of files that are gone.
        while self.files.len() > 1 && self.files.first().is_some_and(|file| file.letters == 0) {
            self.drop_oldest(disk, dir);
        }
        Ok(Some((written, spots.len() as u64)))
    }

    /// Lets go of what a letter of so many bytes has no room beside.
    fn make_room(
        &mut self,
        disk: &Disk,
        dir: &Path,
        (slot, more): (Slot, u64),
        limits: &Limits,
    ) -> Result<(), LogError> {
        let now = unix_nano();
        let aged = now.saturating_sub(nanos(limits.age));
        let old: Vec<Spot> = self.letters_of(slot).take_while(|s| s.at_unix_nano < aged).copied().collect();
        self.let_go(disk, dir, &old, limits)?;
        let (bytes, letters) = self.held.of(slot);
        if bytes + more > limits.own_bytes || letters >= limits.own_letters {
            let spare = (limits.own_bytes / MORE_THAN_NEEDED, limits.own_letters / MORE_THAN_NEEDED);
            let most = (limits.own_bytes.saturating_sub(more + spare.0), limits.own_letters - spare.1);
            self.cut_to(disk, dir, slot, most, limits)?;
        }
        // Half of the files may be letters that are gone.
        while self.held.bytes + more > limits.cap_bytes / 2 || self.held.letters >= CAP_LETTERS {
            let Some(most) = self.held.with_the_most() else { break };
            let (bytes, letters) = self.held.of(most);
            let left = |n: u64| n - n.div_ceil(MORE_THAN_NEEDED);
            self.cut_to(disk, dir, most, (left(bytes), left(letters)), limits)?;
        }
        while self.files.len() > 1 {
            let Some(oldest) = self.files.first() else { break };
            // A file's letters are older than its last write.
            let path = path_of(dir, oldest.number);
            let is_aged = disk.about(&path).is_ok_and(|about| about.modified_unix_nano < aged);
            if is_aged {
                let gone: Vec<_> =
                    self.letters.iter().filter(|(_, s)| s.file == oldest.number).map(|(k, _)| *k).collect();
                self.dropped += gone.len() as u64;
                gone.into_iter().for_each(|key| self.forget(key));
            } else if oldest.letters > 0 && self.bytes() + more <= limits.cap_bytes {
                break;
            } else {
                self.move_oldest(disk, dir, limits)?;
            }
            self.drop_oldest(disk, dir);
        }
        Ok(())
    }

    /// Lets go of a destination's oldest letters until at most so many bytes and letters are left.
    fn cut_to(
        &mut self,
        disk: &Disk,
        dir: &Path,
        slot: Slot,
        (bytes_max, letters_max): (u64, u64),
        limits: &Limits,
    ) -> Result<(), LogError> {
        let (mut bytes, mut letters) = self.held.of(slot);
        let mut gone = Vec::new();
        for spot in self.letters_of(slot) {
            if bytes <= bytes_max && letters <= letters_max {
                break;
            }
            (bytes, letters) = (bytes - spot.bytes, letters - 1);
            gone.push(*spot);
        }
        self.let_go(disk, dir, &gone, limits)
    }

    fn let_go(&mut self, disk: &Disk, dir: &Path, spots: &[Spot], limits: &Limits) -> Result<(), LogError> {
        if spots.is_empty() {
            return Ok(());
        }
        self.open_for_writing(disk, dir, limits)?;
        self.write_removals(spots)?;
        self.dropped += spots.len() as u64;
        Ok(())
    }

    /// Copies the letters of the oldest file that are still there to the open one, synced, under their ids.
    fn move_oldest(&mut self, disk: &Disk, dir: &Path, limits: &Limits) -> Result<(), LogError> {
        let Some(number) = self.files.first().map(|file| file.number) else { return Ok(()) };
        let path = path_of(dir, number);
        let staying: Vec<Spot> = self.letters.values().filter(|s| s.file == number).copied().collect();
        let mut synced = None;
        for spot in staying {
            self.open_for_writing(disk, dir, limits)?;
            let read = disk.open_read(&path).map_err(|source| LogError::Io { path: path.clone(), source })?;
            let Some(bytes) = letter::read_whole(&read, &spot) else {
                // Not readable any more.
                self.forget((spot.slot, spot.id));
                self.dropped += 1;
                continue;
            };
            let Some((open, listed)) = self.open.as_ref().zip(self.files.last()) else { continue };
            let moved = Spot { file: listed.number, offset: open.at, ..spot };
            synced = Some(self.write(&bytes)?);
            self.enter(moved);
        }
        match synced {
            Some(Written { file, .. }) => file.sync().map_err(|source| {
                self.open = None;
                file.error(source)
            }),
            None => Ok(()),
        }
    }

    fn drop_oldest(&mut self, disk: &Disk, dir: &Path) {
        let path = path_of(dir, self.files.remove(0).number);
        if let Err(error) = disk.remove(&path) {
            tracing::warn!(%error, path = %path.display(), "dead letters not removed");
        }
    }

    fn open_for_writing(&mut self, disk: &Disk, dir: &Path, limits: &Limits) -> Result<(), LogError> {
        let full = |open: &Open| open.at >= limits.file_bytes || open.letters >= FILE_LETTERS;
        if self.open.as_ref().is_some_and(|open| !full(open)) {
            return Ok(());
        }
        if let Some(open) = self.open.take()
            && open.synced < open.at
        {
            // Notes and moved letters in it that nobody waits for.
            open.file.sync().map_err(|source| open.file.error(source))?;
        }
        let number = self.next_file;
        let path = path_of(dir, number);
        let io = |source| LogError::Io { path: path.clone(), source };
        let file = disk.open(&path, true).map_err(io)?;
        file.write_at(&file_header(), 0).map_err(io)?;
        disk.sync_dir(dir).map_err(io)?;
        self.next_file += 1;
        let bytes = FILE_HEADER as u64;
        self.files.push(LetterFile { number, bytes, is_read: true, letters: 0 });
        self.open = Some(Open { file: Arc::new(file), at: bytes, letters: 0, synced: 0 });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Written, LogError> {
        let (Some(open), Some(listed)) = (&mut self.open, self.files.last_mut()) else {
            return Err(LogError::Closed);
        };
        open.file.write_at(bytes, open.at).map_err(|e| open.file.error(e))?;
        open.at += bytes.len() as u64;
        listed.bytes = open.at;
        Ok(Written { file: open.file.clone(), number: listed.number, end: open.at })
    }

    fn write_removals(&mut self, spots: &[Spot]) -> Result<Written, LogError> {
        let bytes: Vec<u8> = spots.iter().flat_map(encode_removal).collect();
        let written = self.write(&bytes)?;
        spots.iter().for_each(|spot| self.forget((spot.slot, spot.id)));
        Ok(written)
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
}
