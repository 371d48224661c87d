//! Damaged bytes and files that cannot be understood are set aside, never deleted.
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};

/// Copies made in all; beyond, damage is only counted.
const MAX_BYTES: u64 = 64 << 20;
const CHUNK: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Quarantine {
    disk: Disk,
    dir: PathBuf,
    /// Bytes set aside.
    pub(crate) bytes: u64,
    pub(crate) notes: Vec<String>,
}

impl Quarantine {
    pub(crate) fn new(disk: Disk, dir: PathBuf) -> Quarantine {
        Quarantine { disk, dir, bytes: 0, notes: Vec::new() }
    }

    /// Moves a file away.
    pub(crate) fn set_aside(&mut self, path: &Path) {
        self.keep(path, |disk, to| disk.rename(path, to));
    }

    /// Copies a file that is still needed where it is.
    pub(crate) fn set_aside_copy(&mut self, path: &Path) {
        self.keep(path, |disk, to| disk.copy(path, to));
    }

    fn keep(&mut self, path: &Path, how: impl Fn(&Disk, &Path) -> std::io::Result<()>) {
        let bytes = self.disk.about(path).map_or(0, |about| about.bytes);
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
        let kept = self.make().and_then(|()| how(&self.disk, &self.free_name(name)));
        // A power cut must not bring it back, to be counted again.
        let kept = kept.and_then(|()| self.disk.sync_dir(&self.dir));
        match kept {
            Ok(()) => self.bytes += bytes,
            Err(error) => self.notes.push(format!("{}: not set aside: {error}", path.display())),
        }
    }

    /// Copies `from..to` of a segment.
    pub(crate) fn copy(&mut self, file: &DiskFile, segment: u64, from: u64, to: u64) {
        let copied = self.make().and_then(|()| {
            let out = self.disk.open(&self.free_name(&format!("segment-{segment}-{from}.bin")), true)?;
            let mut at = from;
            while at < to && self.bytes < MAX_BYTES {
                let mut part = vec![0; (to - at).min(CHUNK) as usize];
                let read = file.read_at(&mut part, at)?;
                out.write_at(part.get(..read).unwrap_or_default(), at - from)?;
                self.bytes += read as u64;
                at += read as u64;
                if read == 0 {
                    break;
                }
            }
            Ok(())
        });
        if let Err(error) = copied {
            self.notes.push(format!("damaged bytes of segment {segment} were not copied: {error}"));
        }
    }

    fn make(&self) -> std::io::Result<()> {
        self.disk.make_dir(&self.dir)
    }

    fn free_name(&self, name: &str) -> PathBuf {
        let plain = self.dir.join(name);
        let is_free = |path: &PathBuf| self.disk.about(path).is_err();
        if is_free(&plain) {
            return plain;
        }
        (1..10_000).map(|n| self.dir.join(format!("{name}.{n}"))).find(is_free).unwrap_or(plain)
    }
}
