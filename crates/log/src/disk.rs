//! The file system as the log uses it: private files, positioned vectored writes, syncs, directory syncs.
//!
//! One place, so that tests can fail a write or a sync, and remember what a power cut would leave.
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::types::LogError;

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
    file: File,
    path: PathBuf,
    #[cfg(test)]
    disk: Disk,
}

impl Disk {
    /// Makes the directory (0700) if it is missing.
    pub(crate) fn make_dir(&self, dir: &Path) -> io::Result<()> {
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
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(self.file(file, path))
    }

    pub(crate) fn open_read(&self, path: &Path) -> io::Result<DiskFile> {
        Ok(self.file(File::open(path)?, path))
    }

    fn file(&self, file: File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_path_buf(),
            #[cfg(test)]
            disk: self.clone(),
        }
    }

    /// Makes created, renamed and removed names last.
    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Writes a small file so that it is either the old or the new one, whatever happens.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temp = path.with_extension("tmp");
        let result = (|| {
            let file = self.open(&temp, true)?;
            file.set_len(0)?;
            file.write_at(bytes, 0)?;
            file.sync()?;
            self.rename(&temp, path)
        })();
        if result.is_err() {
            // The room is worth more than the leftover; a later attempt starts over anyway.
            let _ = std::fs::remove_file(&temp);
        }
        result
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        #[cfg(test)]
        self.faults.on_rename(from, to);
        match to.parent() {
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }
}

impl DiskFile {
    /// The file itself, for its lock.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn error(&self, source: io::Error) -> LogError {
        LogError::Io { path: self.path.clone(), source }
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Reserves blocks for the first `len` bytes and makes the file that long.
    pub(crate) fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Not every file system can; a sparse file will do there.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.file.set_len(len),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_sync(&self.path)?;
        self.file.sync_data()?;
        #[cfg(test)]
        self.disk.faults.synced(&self.path);
        Ok(())
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_write(&self.path)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Writes all slices one after the other from `offset`.
    pub(crate) fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.on_write(&self.path)?;
        let mut left = slices;
        while !left.is_empty() {
            let now = left.len().min(IOV_MAX);
            let written = match rustix::io::pwritev(&self.file, left.get(..now).unwrap_or_default(), offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    /// Fills `buf` from `offset` as far as the file goes; answers the bytes read.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buf.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }
}
