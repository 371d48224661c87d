//! The pool of segment files: taken, given back, overwritten in place, grown ahead of need within the cap.
//!
//! Appending to a file that was written before costs a fraction of appending to a fresh one, because no extent
//! has to be converted at each sync. So files are kept, and new ones are filled with zeros in the background.
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::blocks::BlockWriter;
use crate::disk::{Disk, DiskFile};
use crate::types::{Durability, LogError, Options};
use crate::world::{self, Condvar, Mutex, MutexGuard};

/// Free files kept; more than that goes back to the file system.
const FREE_MAX: usize = 8;
/// After a failure to make a file ahead of need. Longer than the writer's own retry: on a full disk the two would
/// otherwise reserve what is left at the same time, and neither would get a whole file.
const REST: Duration = Duration::from_secs(5);
/// Written at once while filling.
const FILL: usize = 1 << 20;
const BLOCK: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Pool {
    disk: Disk,
    dir: PathBuf,
    segment_bytes: u64,
    max_bytes: u64,
    /// Files are opened to be written past the page cache, too.
    is_direct: bool,
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<u32>,
    /// Bytes of all segment files, free ones included.
    total: u64,
    next_file: u32,
    /// Free files wished for.
    ahead: usize,
    growing: bool,
    /// Bytes of the file that the writer waits for.
    demand: u64,
    stopped: bool,
}

/// A segment file to write to.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) file: u32,
    pub(crate) bytes: u64,
    pub(crate) handle: DiskFile,
}

impl Pool {
    /// `free`: files of full size with nothing wanted; `total`: bytes of all files; `next_file`: above all names.
    pub(crate) fn new(
        disk: Disk,
        dir: PathBuf,
        options: &Options,
        free: Vec<u32>,
        total: u64,
        next_file: u32,
    ) -> Pool {
        let state = PoolState { free, total, next_file, ..PoolState::default() };
        let (segment_bytes, max_bytes) = (options.segment_bytes, options.max_bytes);
        let is_direct = options.durability == Durability::Durable;
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let pool = Pool { disk, dir, segment_bytes, max_bytes, is_direct, state, changed };
        let mut state = pool.state();
        while state.free.len() > FREE_MAX
            && let Some(file) = state.free.pop()
        {
            pool.remove(&mut state, file, segment_bytes);
        }
        drop(state);
        pool
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock()
    }

    pub(crate) fn path(&self, file: u32) -> PathBuf {
        path_of(&self.dir, file)
    }

    /// Bytes of all segment files.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().total
    }

    /// A file is there to be taken, and none has to be made.
    pub(crate) fn is_ready(&self) -> bool {
        !self.state().free.is_empty()
    }

    /// A file with room for `need` bytes; `None` while the cap allows none.
    pub(crate) fn take(&self, need: u64) -> Result<Option<Taken>, LogError> {
        let bytes = need.next_multiple_of(BLOCK).max(self.segment_bytes);
        let mut state = self.state();
        state.demand = 0;
        // The last place is the copier's: without it nothing could be made free by carrying over.
        if bytes == self.segment_bytes && self.available(&state) < 2 * bytes {
            state.demand = bytes;
            return Ok(None);
        }
        let taken = self.take_any(state, bytes)?;
        if taken.is_none() {
            self.state().demand = bytes;
        }
        Ok(taken)
    }

    /// A file for what is carried over.
    pub(crate) fn take_for_copy(&self) -> Result<Option<Taken>, LogError> {
        self.take_any(self.state(), self.segment_bytes)
    }

    /// Bytes that may still be written to: free files, and what the cap leaves.
    fn available(&self, state: &PoolState) -> u64 {
        self.max_bytes.saturating_sub(state.total) + state.free.len() as u64 * self.segment_bytes
    }

    /// Bytes of the cap that nothing may be written to: it holds something, or is being filled.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.max_bytes.saturating_sub(self.available(&self.state()))
    }

    /// How much of the cap is in use, in percent.
    pub(crate) fn percent_used(&self) -> u64 {
        self.used_bytes() * 100 / self.max_bytes.max(1)
    }

    fn take_any(&self, mut state: MutexGuard<'_, PoolState>, bytes: u64) -> Result<Option<Taken>, LogError> {
        if bytes == self.segment_bytes
            && let Some(file) = state.free.pop()
        {
            let path = self.path(file);
            drop(state);
            self.changed.notify_all();
            return match self.open(&path, false) {
                Ok(handle) => Ok(Some(Taken { file, bytes, handle })),
                Err(source) => {
                    self.state().total -= bytes;
                    Err(LogError::Io { path, source })
                }
            };
        }
        // A record that needs more than a segment gets a file of its own; free files make room for it.
        while state.total + bytes > self.max_bytes && bytes > self.segment_bytes {
            let Some(file) = state.free.pop() else { break };
            self.remove(&mut state, file, self.segment_bytes);
        }
        if state.total + bytes > self.max_bytes {
            return Ok(None);
        }
        let file = state.next_file;
        state.next_file += 1;
        state.total += bytes;
        drop(state);
        match self.create(file, bytes, false) {
            Ok(handle) => Ok(Some(Taken { file, bytes, handle })),
            Err(e) => {
                self.state().total -= bytes;
                Err(e)
            }
        }
    }

    fn open(&self, path: &Path, create: bool) -> std::io::Result<DiskFile> {
        if self.is_direct { self.disk.open_direct(path, create) } else { self.disk.open(path, create) }
    }

    /// A file with nothing wanted in it.
    pub(crate) fn give_back(&self, file: u32, bytes: u64) {
        let mut state = self.state();
        if bytes == self.segment_bytes && state.free.len() < FREE_MAX {
            state.free.push(file);
        } else {
            self.remove(&mut state, file, bytes);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The same for a file that has just failed: it is tried again after the others.
    pub(crate) fn give_back_last(&self, file: u32, bytes: u64) {
        if bytes != self.segment_bytes {
            return self.give_back(file, bytes);
        }
        self.state().free.insert(0, file);
    }

    /// A file that is not to be written to again.
    pub(crate) fn discard(&self, file: u32, bytes: u64) {
        self.remove(&mut self.state(), file, bytes);
        self.changed.notify_all();
    }

    /// A file became shorter.
    pub(crate) fn shrunk(&self, by: u64) {
        let mut state = self.state();
        state.total = state.total.saturating_sub(by);
        drop(state);
        self.changed.notify_all();
    }

    /// The writer waits no longer.
    pub(crate) fn give_up_waiting(&self) {
        self.state().demand = 0;
    }

    /// Little is left: an eighth of the cap, or two segments besides the copier's. `already`: it was so before, and
    /// more must be free for it to be over. `relieved`: some is about to come back, so half of it will do.
    pub(crate) fn is_tight(&self, already: bool, relieved: bool) -> bool {
        let state = self.state();
        let part = self.max_bytes / if relieved { 16 } else { 8 };
        let limit = part.max(2 * self.segment_bytes) + (1 + u64::from(already)) * self.segment_bytes;
        !state.growing && self.available(&state) < limit
    }

    /// Nothing free besides the copier's place, and the cap allows no new file: backlog has to be given up.
    pub(crate) fn is_short(&self) -> bool {
        let state = self.state();
        if state.demand > self.segment_bytes {
            return state.total + state.demand
                > self.max_bytes + state.free.len() as u64 * self.segment_bytes;
        }
        !state.growing && self.available(&state) < 2 * self.segment_bytes
    }

    /// The disk is full: one free file goes, for journal and checkpoint. False if there is none.
    pub(crate) fn sacrifice(&self) -> bool {
        let mut state = self.state();
        match state.free.pop() {
            Some(file) => {
                self.remove(&mut state, file, self.segment_bytes);
                true
            }
            None => false,
        }
    }

    /// Asks for `files` free files, made in the background.
    pub(crate) fn want(&self, files: usize) {
        let mut state = self.state();
        if state.ahead != files {
            state.ahead = files;
            drop(state);
            self.changed.notify_all();
        }
    }

    pub(crate) fn want_at_least(&self, files: usize) {
        let mut state = self.state();
        if state.ahead < files {
            state.ahead = files;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until something changed, at most so long.
    pub(crate) fn wait(&self, most: Duration) {
        let state = self.state();
        drop(self.changed.wait_timeout(state, most));
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    fn remove(&self, state: &mut PoolState, file: u32, bytes: u64) {
        match self.disk.remove(&self.path(file)) {
            Ok(()) => state.total = state.total.saturating_sub(bytes),
            Err(error) => {
                tracing::warn!(%error, path = %self.path(file).display(), "segment file not removed")
            }
        }
    }

    /// Makes a file; `fill`ed ones are written over their whole length.
    fn create(&self, file: u32, bytes: u64, fill: bool) -> Result<DiskFile, LogError> {
        let path = self.path(file);
        let make = || {
            let handle = self.open(&path, true)?;
            handle.allocate(bytes)?;
            if fill {
                let zeros = vec![0; bytes.min(FILL as u64) as usize];
                let mut blocks = BlockWriter::new();
                let mut at = 0;
                while at < bytes {
                    let now = zeros.get(..(bytes - at).min(FILL as u64) as usize).unwrap_or_default();
                    blocks.write(&handle, &mut [IoSlice::new(now)], at, false)?;
                    at += now.len() as u64;
                    if self.state().stopped {
                        return Err(std::io::ErrorKind::Interrupted.into());
                    }
                }
            }
            handle.sync()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(handle)
        };
        make().map_err(|source| {
            let _ = self.disk.remove(&path);
            LogError::Io { path: path.clone(), source }
        })
    }

    /// The background thread: keeps the wished number of files ready.
    pub(crate) fn grow_until_stopped(&self) {
        let mut rest_until: Option<Instant> = None;
        let mut state = self.state();
        while !state.stopped {
            let room = state.total + self.segment_bytes <= self.max_bytes;
            let rest = rest_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(world::now()));
            if state.free.len() >= state.ahead || !room {
                state = self.changed.wait(state);
                continue;
            }
            if !rest.is_zero() {
                state = self.changed.wait_timeout(state, rest).0;
                continue;
            }
            let file = state.next_file;
            state.next_file += 1;
            state.total += self.segment_bytes;
            state.growing = true;
            drop(state);
            let made = self.create(file, self.segment_bytes, true);
            state = self.state();
            state.growing = false;
            match made {
                Ok(_) => state.free.push(file),
                Err(error) => {
                    state.total -= self.segment_bytes;
                    if !state.stopped {
                        tracing::warn!(%error, "segment file not made ahead of need");
                        rest_until = Some(world::now() + REST);
                    }
                }
            }
            self.changed.notify_all();
        }
    }
}

pub(crate) fn path_of(dir: &Path, file: u32) -> PathBuf {
    dir.join(format!("{file:08}.seg"))
}

/// Segment files by name.
pub(crate) fn list(disk: &Disk, dir: &Path) -> std::io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for path in disk.list(dir)? {
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".seg")?.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}
