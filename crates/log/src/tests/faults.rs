//! A disk that fails on demand and remembers what a power cut would leave.
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::shared::lock;
use crate::world::Mutex;

/// Switches of one simulated disk.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Syncs of files whose path contains this fail, that many times.
    fail_syncs: Mutex<Option<(String, u64)>>,
    fail_writes: Mutex<Option<(String, u64)>>,
    pub(crate) no_new_files: AtomicBool,
    /// Files can be opened to be written past the page cache, and then take no such write.
    pub(crate) no_blocks: AtomicBool,
    /// Syncs of the keeper do not end.
    pub(crate) hold_keeper: AtomicBool,
    pub(crate) syncs: AtomicU64,
    /// Not 0: after so many operations every other one fails, as if the process had ended there.
    pub(crate) stop_after: AtomicU64,
    /// When recording: per file its content at the last sync.
    pub(crate) synced: Mutex<Option<HashMap<PathBuf, Vec<u8>>>>,
}

fn hit(switch: &Mutex<Option<(String, u64)>>, path: &Path) -> io::Result<()> {
    match &mut *lock(switch) {
        Some((part, left)) if *left > 0 && path.to_string_lossy().contains(part.as_str()) => {
            *left -= 1;
            Err(io::Error::from_raw_os_error(5))
        }
        _ => Ok(()),
    }
}

impl Faults {
    pub(crate) fn fail_syncs(&self, part: &str, times: u64) {
        *lock(&self.fail_syncs) = Some((part.to_owned(), times));
    }

    pub(crate) fn fail_writes(&self, part: &str, times: u64) {
        *lock(&self.fail_writes) = Some((part.to_owned(), times));
    }

    /// Anything that changes what is on disk.
    pub(crate) fn on_change(&self) -> io::Result<()> {
        let left = self.stop_after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(if left > 1 { left - 1 } else { left })
        });
        match left {
            Ok(1) => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    pub(crate) fn on_create(&self, path: &Path) -> io::Result<()> {
        self.on_change()?;
        if self.no_new_files.load(Ordering::SeqCst) && path.extension().is_some_and(|e| e == "seg") {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }

    pub(crate) fn on_write(&self, path: &Path) -> io::Result<()> {
        self.on_change()?;
        hit(&self.fail_writes, path)
    }

    pub(crate) fn on_blocks(&self, path: &Path) -> io::Result<()> {
        if self.no_blocks.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.on_write(path)
    }

    pub(crate) fn on_sync(&self, path: &Path) -> io::Result<()> {
        self.on_change()?;
        while self.hold_keeper.load(Ordering::SeqCst) && std::thread::current().name() == Some("log-keeper") {
            std::thread::yield_now();
        }
        hit(&self.fail_syncs, path)
    }

    pub(crate) fn synced(&self, path: &Path) {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if let Some(synced) = &mut *lock(&self.synced)
            && let Ok(content) = std::fs::read(path)
        {
            synced.insert(path.to_path_buf(), content);
        }
    }

    pub(crate) fn on_rename(&self, from: &Path, to: &Path) {
        if let Some(synced) = &mut *lock(&self.synced)
            && let Some(content) = synced.remove(from)
        {
            synced.insert(to.to_path_buf(), content);
        }
    }
}
