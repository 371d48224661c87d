//! What lasts: the changes between the page cache and the disk, and what a power cut makes of them.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Disk, PAGE, pages};

const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) cached: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) changes: Vec<Change>,
    /// Bytes that take room.
    pub(super) reserved: u64,
    pub(super) modified: u64,
    pub(super) path: PathBuf,
}

#[derive(Debug)]
pub(super) struct Change {
    pub(super) what: What,
    /// A sync of it failed.
    pub(super) doomed: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) cached: BTreeMap<PathBuf, usize>,
    pub(super) durable: BTreeMap<PathBuf, usize>,
    pub(super) changes: Vec<NameChange>,
}

#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) dir: PathBuf,
    /// Each name with what it stands for from then on; they change together.
    pub(super) set: Vec<(PathBuf, Option<usize>)>,
}

pub(super) fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    if let Some(place) = content.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

impl Disk {
    /// The machine is gone: each change that was not synced has happened, or not, or in part.
    pub(in crate::sim) fn cut_power(&mut self) {
        let style = self.rng.random_range(0..4);
        for inode in &mut self.inodes {
            let changes = std::mem::take(&mut inode.changes);
            let cut = self.rng.random_range(0..=changes.len());
            for (i, change) in changes.into_iter().enumerate() {
                let survives = match style {
                    0 => false,
                    1 => true,
                    2 => i < cut,
                    _ => self.rng.random_bool(0.5),
                };
                match change.what {
                    What::Len(len) if survives => inode.durable.resize(len, 0),
                    What::Len(_) => {}
                    What::Bytes(at, bytes) => {
                        let torn = i == cut || style == 3;
                        write_back(&mut inode.durable, at, &bytes, survives, torn, &mut self.rng);
                    }
                }
            }
            inode.cached.clone_from(&inode.durable);
            inode.reserved = pages(inode.cached.len() as u64);
        }
        let changes = std::mem::take(&mut self.names.changes);
        // A journaling file system keeps the order; not every one does.
        let cut = self.rng.random_range(0..=changes.len());
        let ordered = self.rng.random_bool(0.5);
        for (i, change) in changes.iter().enumerate() {
            let survives = if ordered { i < cut } else { self.rng.random_bool(0.5) };
            if survives {
                self.names.settle(change);
            }
        }
        self.names.cached.clone_from(&self.names.durable);
    }
}

/// Pages come to the disk one by one, each whole, not at all, or up to some sector.
fn write_back(
    durable: &mut Vec<u8>,
    at: usize,
    bytes: &[u8],
    survives: bool,
    torn: bool,
    rng: &mut SmallRng,
) {
    let mut from = 0;
    while from < bytes.len() {
        let page_end = (at + from + 1).next_multiple_of(PAGE) - at;
        let to = page_end.min(bytes.len());
        let keep = match (survives, torn) {
            (survives, false) => survives,
            (_, true) => rng.random_bool(0.5),
        };
        let upto = if torn && keep && rng.random_bool(0.3) {
            ((at + from + rng.random_range(0..=to - from)) / SECTOR * SECTOR)
                .saturating_sub(at)
                .clamp(from, to)
        } else if keep {
            to
        } else {
            from
        };
        if let Some(part) = bytes.get(from..upto).filter(|part| !part.is_empty()) {
            put(durable, at + from, part);
        }
        from = to;
    }
}

impl Inode {
    pub(super) fn settle(&mut self) {
        let mut kept = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            if change.doomed {
                kept.push(change);
                continue;
            }
            match change.what {
                What::Len(len) => self.durable.resize(len, 0),
                What::Bytes(at, bytes) => {
                    put(&mut self.durable, at, &bytes);
                    let end = at + bytes.len();
                    // What was written later is the content of those pages.
                    kept.retain(|old: &Change| match &old.what {
                        What::Bytes(from, old) => *from >= end || from + old.len() <= at,
                        What::Len(_) => true,
                    });
                }
            }
        }
        self.changes = kept;
    }
}

impl Names {
    pub(super) fn settle(&mut self, change: &NameChange) {
        for (path, inode) in &change.set {
            match inode {
                Some(inode) => self.durable.insert(path.clone(), *inode),
                None => self.durable.remove(path),
            };
        }
    }
}
