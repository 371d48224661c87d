//! A disk that fails on command: a file system of this process (FUSE) that passes everything on to a directory beside
//! it, until it is told that writes, syncs or reads are to end with EIO.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// The kernel is to ask again each time.
const TTL: Duration = Duration::ZERO;

/// What fails at the moment, and how often it has.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    writes: AtomicBool,
    syncs: AtomicBool,
    reads: AtomicBool,
    failed: AtomicU64,
}

impl Faults {
    /// From now on exactly these end with EIO.
    pub(crate) fn set(&self, writes: bool, syncs: bool, reads: bool) {
        self.writes.store(writes, Ordering::SeqCst);
        self.syncs.store(syncs, Ordering::SeqCst);
        self.reads.store(reads, Ordering::SeqCst);
    }

    /// Calls that ended with EIO so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn check(&self, fails: &AtomicBool) -> io::Result<()> {
        if !fails.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(Errno::EIO.into()))
    }
}

/// The mounted file system. Unmounted when dropped.
pub(crate) struct FailingDisk {
    pub(crate) faults: Arc<Faults>,
    at: PathBuf,
    _session: BackgroundSession,
}

impl FailingDisk {
    /// Mounts at `at` what lies in `behind`; both are made. It must go before the directory it is mounted in.
    pub(crate) fn mount(at: &Path, behind: &Path) -> FailingDisk {
        for directory in [at, behind] {
            std::fs::create_dir_all(directory).expect("the directory of the disk");
        }
        let faults: Arc<Faults> = Arc::default();
        let passed_on = PassedOn {
            faults: faults.clone(),
            paths: Mutex::new(HashMap::from([(INodeNo::ROOT.0, behind.to_owned())])),
            open: Mutex::default(),
            next: AtomicU64::new(1),
        };
        let session = fuser::spawn_mount(passed_on, at, &Config::default())
            .expect("a disk of this process needs /dev/fuse and the right to mount");
        FailingDisk { faults, at: at.to_owned(), _session: session }
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // Also while a process has files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

struct PassedOn {
    faults: Arc<Faults>,
    /// By the inode that the kernel knows: that of the file behind, but for the root.
    paths: Mutex<HashMap<u64, PathBuf>>,
    open: Mutex<HashMap<u64, Arc<File>>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attributes(metadata: &Metadata, inode: INodeNo) -> FileAttr {
    let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: inode,
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: if metadata.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl PassedOn {
    fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        lock(&self.paths).get(&inode.0).cloned().ok_or_else(|| Errno::ENOENT.into_io())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    /// Makes what lies at a path known to the kernel.
    fn entry(&self, path: PathBuf) -> io::Result<FileAttr> {
        let metadata = std::fs::symlink_metadata(&path)?;
        lock(&self.paths).insert(metadata.ino(), path);
        Ok(attributes(&metadata, INodeNo(metadata.ino())))
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        lock(&self.open).get(&handle.0).cloned().ok_or_else(|| Errno::EBADF.into_io())
    }

    fn keep(&self, file: File) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        self.faults.check(&self.faults.reads)?;
        let (file, mut bytes) = (self.file(handle)?, vec![0; size as usize]);
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                n => read += n,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn resize(&self, inode: INodeNo, handle: Option<FileHandle>, size: Option<u64>) -> io::Result<FileAttr> {
        let file = match handle {
            Some(handle) => self.file(handle)?,
            None if size.is_some() => Arc::new(OpenOptions::new().write(true).open(self.path(inode)?)?),
            None => return Ok(attributes(&std::fs::symlink_metadata(self.path(inode)?)?, inode)),
        };
        if let Some(size) = size {
            self.faults.check(&self.faults.writes)?;
            file.set_len(size)?;
        }
        Ok(attributes(&file.metadata()?, inode))
    }

    fn moved(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check(&self.faults.writes)?;
        std::fs::rename(from, to)?;
        self.entry(to.to_owned()).map(drop)
    }

    fn list(&self, inode: INodeNo) -> io::Result<Vec<(u64, FileType, std::ffi::OsString)>> {
        let mut entries =
            vec![(inode.0, FileType::Directory, ".".into()), (inode.0, FileType::Directory, "..".into())];
        for entry in std::fs::read_dir(self.path(inode)?)? {
            let entry = entry?;
            let kind = if entry.file_type()?.is_dir() { FileType::Directory } else { FileType::RegularFile };
            entries.push((entry.metadata()?.ino(), kind, entry.file_name()));
        }
        Ok(entries)
    }
}

/// The number as an error of the standard library.
trait IntoIo {
    fn into_io(self) -> io::Error;
}

impl IntoIo for Errno {
    fn into_io(self) -> io::Error {
        io::Error::from_raw_os_error(self.into())
    }
}

fn done(reply: ReplyEmpty, result: io::Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn shown(reply: ReplyEntry, result: io::Result<FileAttr>) {
    match result {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for PassedOn {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        shown(reply, self.child(parent, name).and_then(|path| self.entry(path)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.resize(inode, handle, None) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.resize(inode, handle, size) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let make = |path: PathBuf| {
            self.faults.check(&self.faults.writes)?;
            std::fs::create_dir(&path)?;
            self.entry(path)
        };
        shown(reply, self.child(parent, name).and_then(make));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = |path: PathBuf| {
            self.faults.check(&self.faults.writes)?;
            std::fs::remove_file(path)
        };
        done(reply, self.child(parent, name).and_then(remove));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let both = self.child(parent, name).and_then(|from| Ok((from, self.child(new_parent, new_name)?)));
        done(reply, both.and_then(|(from, to)| self.moved(&from, &to)));
    }

    fn open(&self, _: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.path(inode).and_then(|path| OpenOptions::new().read(true).write(true).open(path));
        match opened {
            Ok(file) => reply.opened(self.keep(file), FopenFlags::empty()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let create = |path: PathBuf| {
            self.faults.check(&self.faults.writes)?;
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(mode).open(&path)?;
            Ok((self.entry(path)?, file))
        };
        match self.child(parent, name).and_then(create) {
            Ok((attributes, file)) => {
                reply.created(&TTL, &attributes, Generation(0), self.keep(file), FopenFlags::empty());
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_at(handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.faults.check(&self.faults.writes).and_then(|()| self.file(handle));
        match written.and_then(|file| file.write_all_at(data, offset)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.open).remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let synced = self.faults.check(&self.faults.syncs).and_then(|()| self.file(handle)?.sync_data());
        done(reply, synced);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(reply, self.faults.check(&self.faults.syncs));
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.list(inode) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error.into()),
        };
        for (i, (inode, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*inode), i as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
