//! The simulated disk: what was written and not synced is remembered, so that a power cut can decide about it.
//!
//! A file has two contents: what everybody reads (the page cache), and what would be there after a power cut.
//! Between them lie the changes since the last sync. The same holds for names. A sync that fails leaves its
//! changes where they are, and no later sync brings them to the disk: that is how Linux does it.
mod lasting;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tracecast_log::world::{About, Access};

use self::lasting::{Change, Inode, NameChange, Names, What, put};

const PAGE: usize = 4096;

/// Kinds of operations, for their time and their failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Changes content or length.
    Write,
    /// Makes something last.
    Sync,
    /// Reads content or a directory.
    Read,
    /// Changes a name.
    Name,
    /// Asks for a length.
    Stat,
}

/// A disk under one process at a time.
#[derive(Debug)]
pub(super) struct Disk {
    rng: SmallRng,
    inodes: Vec<Inode>,
    names: Names,
    /// Bytes that fit.
    pub(super) capacity: u64,
    /// Operations so far that change something.
    pub(super) operations: u64,
    /// The process ends at that operation, which is done in part.
    pub(super) die_at: Option<u64>,
    /// The process is dead: nothing it does has an effect.
    pub(super) dead: bool,
    /// When it died at an operation.
    pub(super) died: Option<Duration>,
    /// The next so many operations of a kind fail on names that contain a text.
    pub(super) failing: Vec<(Op, &'static str, u32)>,
    /// Kinds of failure that have happened.
    pub(super) failed: BTreeSet<&'static str>,
    /// Segment files of whose first page a write that failed, or with which the process ended, has left a part, and
    /// their bytes, since this was last emptied.
    pub(super) torn_headers: BTreeMap<PathBuf, u64>,
    /// Syncs are answered and not done.
    pub(super) lies: bool,
    /// Writes to names that contain this are answered and not done.
    pub(super) swallows: Option<&'static str>,
    pub(super) wall: u64,
    pub(super) now: Duration,
}

fn failure() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE as u64)
}

impl Disk {
    /// An empty disk.
    pub(super) fn new(seed: u64, capacity: u64) -> Disk {
        Disk {
            rng: SmallRng::seed_from_u64(seed),
            inodes: Vec::new(),
            names: Names::default(),
            capacity,
            operations: 0,
            die_at: None,
            dead: false,
            died: None,
            failing: Vec::new(),
            failed: BTreeSet::new(),
            torn_headers: BTreeMap::new(),
            lies: false,
            swallows: None,
            wall: 0,
            now: Duration::ZERO,
        }
    }

    fn inode(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Counts a change; `Ok(false)` for the one at which the process ends.
    fn change(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(failure());
        }
        self.operations += 1;
        self.dead = self.die_at.is_some_and(|at| self.operations >= at);
        self.died = self.dead.then_some(self.now);
        Ok(!self.dead)
    }

    fn check(&mut self, op: Op, path: &Path) -> io::Result<()> {
        let name = path.to_string_lossy();
        for (kind, part, left) in &mut self.failing {
            if *kind == op && *left > 0 && name.contains(*part) {
                *left -= 1;
                self.failed.insert(match op {
                    Op::Write => "write",
                    Op::Sync => "sync",
                    Op::Read => "read",
                    Op::Name => "name",
                    Op::Stat => "stat",
                });
                return Err(failure());
            }
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let linked: BTreeSet<usize> =
            self.names.cached.values().chain(self.names.durable.values()).copied().collect();
        linked.iter().filter_map(|i| self.inodes.get(*i)).map(|inode| inode.reserved).sum()
    }

    fn reserve(&mut self, inode: usize, upto: u64) -> io::Result<()> {
        let (used, capacity) = (self.used(), self.capacity);
        let found = self.inode(inode)?;
        let more = pages(upto).saturating_sub(found.reserved);
        if more > 0 && used + more > capacity {
            self.failed.insert("full");
            return Err(full());
        }
        found.reserved += more;
        Ok(())
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.dead {
            return Err(failure());
        }
        // Directories are made once and early: they are taken to be there at once.
        self.names.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, how: Access) -> io::Result<usize> {
        if self.dead {
            return Err(failure());
        }
        if let Some(inode) = self.names.cached.get(path) {
            return Ok(*inode);
        }
        if how != Access::Create {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.check(Op::Name, path)?;
        if !self.change()? {
            return Err(failure());
        }
        if self.used() + PAGE as u64 > self.capacity {
            self.failed.insert("full");
            return Err(full());
        }
        let modified = self.wall;
        self.inodes.push(Inode { path: path.to_path_buf(), modified, ..Inode::default() });
        let inode = self.inodes.len() - 1;
        self.set_names(path, vec![(path.to_path_buf(), Some(inode))]);
        Ok(inode)
    }

    fn set_names(&mut self, of: &Path, set: Vec<(PathBuf, Option<usize>)>) {
        for (path, inode) in &set {
            match inode {
                Some(inode) => self.names.cached.insert(path.clone(), *inode),
                None => self.names.cached.remove(path),
            };
        }
        let dir = of.parent().unwrap_or(of).to_path_buf();
        self.names.changes.push(NameChange { dir, set });
    }

    pub(super) fn list(&mut self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        if self.dead {
            return Err(failure());
        }
        if !self.names.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = self.names.cached.keys().chain(&self.names.dirs);
        Ok(files.filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Name, from)?;
        let inode = self.names.cached.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        if self.change()? {
            if let Ok(found) = self.inode(inode) {
                found.path = to.to_path_buf();
            }
            self.set_names(to, vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(inode))]);
            return Ok(());
        }
        Err(failure())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.check(Op::Name, path)?;
        if !self.names.cached.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !self.change()? {
            return Err(failure());
        }
        self.set_names(path, vec![(path.to_path_buf(), None)]);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.check(Op::Sync, dir)?;
        if !self.change()? {
            return Err(failure());
        }
        let (synced, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.names.changes).into_iter().partition(|change| change.dir == dir);
        self.names.changes = left;
        synced.iter().for_each(|change| self.names.settle(change));
        Ok(())
    }

    pub(super) fn about(&mut self, path: &Path) -> io::Result<About> {
        if self.dead {
            return Err(failure());
        }
        let inode = self.names.cached.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        let found = self.inode(inode)?;
        Ok(About { bytes: found.cached.len() as u64, modified_unix_nano: found.modified })
    }

    pub(super) fn len(&mut self, inode: usize) -> io::Result<u64> {
        if self.dead {
            return Err(failure());
        }
        Ok(self.inode(inode)?.cached.len() as u64)
    }

    pub(super) fn set_len(&mut self, inode: usize, len: u64) -> io::Result<()> {
        let path = self.inode(inode)?.path.clone();
        self.check(Op::Write, &path)?;
        if !self.change()? {
            return Err(failure());
        }
        let wall = self.wall;
        let found = self.inode(inode)?;
        found.cached.resize(len as usize, 0);
        found.reserved = found.reserved.min(pages(len));
        found.modified = wall;
        found.changes.push(Change { what: What::Len(len as usize), doomed: false });
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: usize, len: u64) -> io::Result<()> {
        if self.dead {
            return Err(failure());
        }
        self.reserve(inode, len)?;
        if self.inode(inode)?.cached.len() < len as usize {
            self.set_len(inode, len)?;
        }
        Ok(())
    }

    pub(super) fn read(&mut self, inode: usize, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.dead {
            return Err(failure());
        }
        let path = self.inode(inode)?.path.clone();
        self.check(Op::Read, &path)?;
        let content = &self.inode(inode)?.cached;
        let from = content.get(offset as usize..).unwrap_or_default();
        let read = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..read), from.get(..read)) {
            to.copy_from_slice(from);
        }
        Ok(read)
    }

    pub(super) fn write(&mut self, inode: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let path = self.inode(inode)?.path.clone();
        let failed = self
            .check(Op::Write, &path)
            .and_then(|()| if self.dead { Ok(()) } else { self.reserve(inode, offset + bytes.len() as u64) });
        let whole = self.change()? && failed.is_ok();
        // A write that fails, or during which the process ends, may have done a part of its work.
        let swallowed = self.swallows.is_some_and(|part| path.to_string_lossy().contains(part));
        let done = if swallowed {
            0
        } else if whole {
            bytes.len()
        } else {
            self.rng.random_range(0..=bytes.len())
        };
        if !whole && done > 0 && offset < PAGE as u64 && path.to_string_lossy().ends_with(".seg") {
            let bytes = self.inode(inode)?.cached.len() as u64;
            self.torn_headers.insert(path, bytes);
        }
        let wall = self.wall;
        let found = self.inode(inode)?;
        if let Some(bytes) = bytes.get(..done).filter(|bytes| !bytes.is_empty()) {
            put(&mut found.cached, offset as usize, bytes);
            found.modified = wall;
            let what = What::Bytes(offset as usize, bytes.to_vec());
            found.changes.push(Change { what, doomed: false });
        }
        failed?;
        if whole { Ok(()) } else { Err(failure()) }
    }

    pub(super) fn sync(&mut self, inode: usize) -> io::Result<()> {
        let path = self.inode(inode)?.path.clone();
        let failed = if self.dead { Ok(()) } else { self.check(Op::Sync, &path) };
        if failed.is_err() {
            self.inode(inode)?.changes.iter_mut().for_each(|change| change.doomed = true);
        }
        if !self.change()? {
            return Err(failure());
        }
        failed?;
        if !self.lies {
            self.inode(inode)?.settle();
        }
        Ok(())
    }

    /// The process is gone; what it wrote is still in the page cache.
    pub(super) fn restart(&mut self) {
        self.dead = false;
        self.died = None;
        self.die_at = None;
        self.failing.clear();
    }

    /// Flips one bit of a file whose name contains `part`; answers which.
    pub(super) fn flip(&mut self, part: &str) -> Option<String> {
        let fits = |(path, _): &(&PathBuf, &usize)| path.to_string_lossy().contains(part);
        let files: Vec<usize> = self.names.cached.iter().filter(fits).map(|(_, inode)| *inode).collect();
        let inode = files.get(self.rng.random_range(0..files.len().max(1))).copied()?;
        let found = self.inodes.get_mut(inode)?;
        let written = found.cached.iter().rposition(|byte| *byte != 0)? + 1;
        let (at, bit) = (self.rng.random_range(0..written), 1 << self.rng.random_range(0..8));
        for content in [&mut found.cached, &mut found.durable] {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= bit;
            }
        }
        Some(format!("{} at {at}", found.path.display()))
    }
}
