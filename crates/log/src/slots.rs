//! The file `slots`: who owns which slot, besides journal and checkpoint. Without it, damage to these two would leave a
//! backlog that nobody can be given.
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::journal::{self, JournalEntry};
use crate::types::{LogError, Slot, SlotKey};

const FILE: &str = "slots";

/// The file as far as it was written; nothing depends on it, so a failure is made up for by the next slot.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    /// `None`: it has to be written anew.
    file: Option<Arc<DiskFile>>,
    at: u64,
    slots: usize,
}

/// What the file says; nothing if there is none.
pub(crate) fn read(disk: &Disk, dir: &Path) -> Result<Vec<(Slot, SlotKey)>, LogError> {
    let path = dir.join(FILE);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LogError::Io { path, source }),
    };
    let read = journal::read(&bytes).map_err(|version| LogError::newer(path, version))?;
    let slots = read.entries.into_iter().filter_map(|entry| match entry {
        JournalEntry::Slot { slot, key } => Some((slot, key)),
        _ => None,
    });
    Ok(slots.collect())
}

impl SlotTable {
    /// Writes the file anew.
    pub(crate) fn create(disk: &Disk, dir: &Path, slots: &[(Slot, SlotKey)]) -> SlotTable {
        let mut made = SlotTable::default();
        made.extend(disk, dir, slots);
        made
    }

    /// On disk when this returns, unless the disk fails. `slots`: all there are.
    pub(crate) fn extend(&mut self, disk: &Disk, dir: &Path, slots: &[(Slot, SlotKey)]) {
        let path = dir.join(FILE);
        let written = match self.file.clone() {
            None => {
                let bytes = journal::table(0, 0, slots);
                let replaced = disk.replace(&path, &bytes).and_then(|()| disk.open(&path, false));
                replaced.map(|file| (Arc::new(file), bytes.len() as u64))
            }
            Some(file) => {
                let mut bytes = Vec::new();
                for &(slot, key) in slots.get(self.slots..).unwrap_or_default() {
                    JournalEntry::Slot { slot, key }.encode(&mut bytes);
                }
                if bytes.is_empty() {
                    return;
                }
                let written = file.write_at(&bytes, self.at).and_then(|()| file.sync());
                written.map(|()| (file, self.at + bytes.len() as u64))
            }
        };
        match written {
            Ok((file, at)) => *self = SlotTable { file: Some(file), at, slots: slots.len() },
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the table of slots is not up to date");
                self.file = None;
            }
        }
    }
}
