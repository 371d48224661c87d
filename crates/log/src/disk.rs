//! The file system as the log uses it: private files, positioned vectored writes, syncs, directory syncs.
//!
//! One place, so that tests can fail a write or a sync, and remember what a power cut would leave; and so that a
//! thread in a [`World`](crate::world::World) has that world's files instead.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

use crate::types::LogError;
use crate::world::{self, About, Access, OpenFile, World};

/// The most buffers of one vectored write (Linux's limit).
const IOV_MAX: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) faults: std::sync::Arc<crate::tests::faults::Faults>,
}

/// An open file that knows its name.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Handle,
    /// The same file once more, past the page cache; `None` if it was not asked for, or the file system cannot.
    direct: Option<File>,
    path: PathBuf,
    #[cfg(test)]
    disk: Disk,
}

#[derive(Debug)]
enum Handle {
    Real(File),
    Simulated(Box<dyn OpenFile>),
}

fn world() -> Option<Arc<dyn World>> {
    world::current()
}

impl Disk {
    /// Makes the directory (0700) if it is missing.
    pub(crate) fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if let Some(world) = world() {
            return world.files().make_dir(dir);
        }
        match std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            other => other,
        }
    }

    /// Opens for reading and writing (0600), truncating nothing.
    pub(crate) fn open(&self, path: &Path, create: bool) -> io::Result<DiskFile> {
        #[cfg(test)]
        if create {
            self.faults.on_create(path)?;
        }
        self.handle(path, if create { Access::Create } else { Access::Write })
    }

    /// The same for a file that is written by [`DiskFile::write_blocks`] too, where the file system can.
    pub(crate) fn open_direct(&self, path: &Path, create: bool) -> io::Result<DiskFile> {
        let mut file = self.open(path, create)?;
        if matches!(file.file, Handle::Real(_)) {
            let flags = OFlags::DIRECT.bits().cast_signed();
            file.direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
        }
        Ok(file)
    }

    pub(crate) fn open_read(&self, path: &Path) -> io::Result<DiskFile> {
        self.handle(path, Access::Read)
    }

    fn handle(&self, path: &Path, how: Access) -> io::Result<DiskFile> {
        let file = match world() {
            Some(world) => Handle::Simulated(world.files().open(path, how)?),
            None if how == Access::Read => Handle::Real(File::open(path)?),
            None => {
                let create = how == Access::Create;
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(create).truncate(false).mode(0o600);
                Handle::Real(options.open(path)?)
            }
        };
        Ok(DiskFile {
            file,
            direct: None,
            path: path.to_path_buf(),
            #[cfg(test)]
            disk: self.clone(),
        })
    }

    /// What is in a directory.
    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match world() {
            Some(world) => world.files().list(dir),
            None => std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect(),
        }
    }

    /// The whole content of a file.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if world().is_none() {
            return std::fs::read(path);
        }
        let file = self.open_read(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Length and age of a file.
    pub(crate) fn about(&self, path: &Path) -> io::Result<About> {
        if let Some(world) = world() {
            return world.files().about(path);
        }
        let metadata = std::fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, world::nanos);
        Ok(About { bytes: metadata.len(), modified_unix_nano: modified })
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match world() {
            Some(world) => world.files().remove(path),
            None => std::fs::remove_file(path),
        }
    }

    /// Copies a file's content to another name.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match world() {
            Some(_) => self.open(to, true)?.write_at(&self.read(from)?, 0),
            None => std::fs::copy(from, to).map(|_| ()),
        }
    }

    /// Makes created, renamed and removed names last.
    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match world() {
            Some(world) => world.files().sync_dir(dir),
            None => File::open(dir)?.sync_all(),
        }
    }

    /// Writes a small file so that it is either the old or the new one, whatever happens.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temp = path.with_extension("tmp");
        let result = (|| {
            let file = self.open(&temp, true)?;
            file.set_len(0)?;
            file.write_at(bytes, 0)?;
            file.sync()?;
            self.rename(&temp, path)?;
            #[cfg(test)]
            self.faults.on_rename(&temp, path);
            match path.parent() {
                Some(dir) => self.sync_dir(dir),
                None => Ok(()),
            }
        })();
        if result.is_err() {
            // The room is worth more than the leftover; a later attempt starts over anyway.
            let _ = self.remove(&temp);
        }
        result
    }

    /// Gives a file another name, for good once the directory is synced.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match world() {
            Some(world) => world.files().rename(from, to),
            None => std::fs::rename(from, to),
        }
    }
}

impl DiskFile {
    /// Takes the file's lock; false if another process has it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        let Handle::Real(file) = &self.file else { return Ok(true) };
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(source),
        }
    }

    pub(crate) fn unlock(&self) {
        if let Handle::Real(file) = &self.file {
            let _ = file.unlock();
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match &self.file {
            Handle::Real(file) => Ok(file.metadata()?.len()),
            Handle::Simulated(file) => file.len(),
        }
    }

    pub(crate) fn error(&self, source: io::Error) -> LogError {
        LogError::Io { path: self.path.clone(), source }
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.file {
            Handle::Real(file) => file.set_len(len),
            Handle::Simulated(file) => file.set_len(len),
        }
    }

    /// Reserves blocks for the first `len` bytes and makes the file that long.
    pub(crate) fn allocate(&self, len: u64) -> io::Result<()> {
        let file = match &self.file {
            Handle::Real(file) => file,
            Handle::Simulated(file) => return file.allocate(len),
        };
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Not every file system can; a sparse file will do there.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_sync(&self.path)?;
        match &self.file {
            Handle::Real(file) => file.sync_data()?,
            Handle::Simulated(file) => file.sync()?,
        }
        #[cfg(test)]
        self.disk.faults.synced(&self.path);
        Ok(())
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_write(&self.path)?;
        match &self.file {
            Handle::Real(file) => file.write_all_at(bytes, offset),
            Handle::Simulated(file) => file.write_at(bytes, offset),
        }
    }

    /// Writes all slices one after the other from `offset`.
    pub(crate) fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_write(&self.path)?;
        let file = match &self.file {
            Handle::Real(file) => file,
            Handle::Simulated(file) => {
                let mut bytes = Vec::new();
                slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
                return file.write_at(&bytes, offset);
            }
        };
        let mut left = slices;
        while !left.is_empty() {
            let now = left.len().min(IOV_MAX);
            let written = match rustix::io::pwritev(file, left.get(..now).unwrap_or_default(), offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    /// Whether [`DiskFile::write_blocks`] can be called. In a simulation there is no difference.
    pub(crate) fn takes_blocks(&self) -> bool {
        self.direct.is_some() || matches!(self.file, Handle::Simulated(_))
    }

    /// Writes whole blocks past the page cache; with `sync` they are on disk afterwards, and all that was written
    /// before.
    pub(crate) fn write_blocks(&self, mut bytes: &[u8], mut offset: u64, sync: bool) -> io::Result<()> {
        #[cfg(test)]
        {
            self.disk.faults.on_blocks(&self.path)?;
            if sync {
                self.disk.faults.on_sync(&self.path)?;
            }
        }
        match (&self.file, &self.direct) {
            (Handle::Simulated(file), _) => {
                file.write_at(bytes, offset)?;
                if sync {
                    file.sync()?;
                }
            }
            (Handle::Real(_), None) => return Err(io::ErrorKind::Unsupported.into()),
            (Handle::Real(_), Some(file)) => {
                let flags = if sync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
                while !bytes.is_empty() {
                    match rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, flags) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(n) => {
                            offset += n as u64;
                            bytes = bytes.get(n..).unwrap_or_default();
                        }
                        Err(Errno::INTR) => {}
                        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                            return Err(io::ErrorKind::Unsupported.into());
                        }
                        Err(e) => return Err(e.into()),
                    }
                }
            }
        }
        #[cfg(test)]
        if sync {
            self.disk.faults.synced(&self.path);
        }
        Ok(())
    }

    /// Fills `buf` from `offset` as far as the file goes; answers the bytes read.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = match &self.file {
            Handle::Real(file) => file,
            Handle::Simulated(file) => return file.read_at(buf, offset),
        };
        let mut read = 0;
        while let Some(rest) = buf.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }
}
