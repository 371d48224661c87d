//! The segments that are there: which hold what, and the records of those that no checkpoint covers.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Recovery;
use crate::carry;
use crate::checkpoint::{Checkpoint, Wanted};
use crate::disk::DiskFile;
use crate::examine::{FileState, Found, WalkedSegment, examine, index_of, read_index, walk_all};
use crate::format::{Kind, Meta, Seal};
use crate::pool;
use crate::ranges::Done;
use crate::segment::Sealing;
use crate::segments::Segment;
use crate::types::{LogError, Sequence, Slot};
use crate::world::Mutex;

pub(super) struct Files {
    pub(super) segments: Vec<Found>,
    pub(super) fresh: Vec<(u32, PathBuf)>,
    pub(super) next_file: u32,
}

impl Recovery<'_> {
    pub(super) fn find_segments(&mut self, dir: &Path) -> Result<Files, LogError> {
        let io = |source| LogError::Io { path: dir.to_path_buf(), source };
        let mut files = Files { segments: Vec::new(), fresh: Vec::new(), next_file: 1 };
        for (file, path) in pool::list(self.disk, dir).map_err(io)? {
            files.next_file = files.next_file.max(file.saturating_add(1));
            match examine(self.disk, file, &path)? {
                FileState::Newer(version) => return Err(LogError::newer(path, version)),
                FileState::Segment(found) => files.segments.push(found),
                FileState::Fresh => {
                    let full = self.disk.about(&path).is_ok_and(|about| about.bytes == self.segment_bytes);
                    if full {
                        files.fresh.push((file, path));
                    } else if let Err(source) = self.disk.remove(&path) {
                        return Err(LogError::Io { path, source });
                    }
                }
                FileState::Unknown => {
                    self.notes.push(format!("{}: not understood, set aside", path.display()));
                    self.quarantine.set_aside(&path);
                }
            }
        }
        files.segments.sort_by_key(|s| (s.life.number, s.life.epoch));
        Ok(files)
    }

    pub(super) fn read_segments(&mut self, checkpoint: &Checkpoint, segments: &[Found]) {
        let ends: BTreeMap<u64, u64> =
            segments.iter().filter_map(|s| s.header.as_ref()).flat_map(|h| h.ends.iter().copied()).collect();
        let wanted: HashMap<(u64, u32), &Wanted> =
            checkpoint.wanted.iter().map(|w| ((w.number, w.file), w)).collect();
        let doubled = if self.has_checkpoint { HashSet::new() } else { carry::doubled(self.disk, segments) };
        for found in segments.iter().filter(|found| !doubled.contains(&found.life)) {
            let number = found.life.number;
            // What a carry segment holds counts once a checkpoint names it, and only then.
            let is_tail = !self.has_checkpoint || (number >= checkpoint.segment && !found.is_carry);
            if !is_tail {
                let age = checkpoint.ages.iter().find(|(n, file, _)| (*n, *file) == (number, found.file));
                self.ages.extend(age.map(|(_, file, newest)| (number, (*file, found.life, *newest))));
                match wanted.get(&(number, found.file)) {
                    // What is in it is checked when it is read.
                    Some(Wanted { last_sequence, held: Some(held), .. }) => {
                        self.take_segment(found, *last_sequence, held.iter().copied());
                        continue;
                    }
                    Some(_) => {}
                    None => continue,
                }
            }
            let file = match self.disk.open(&found.path, false) {
                Ok(file) => file,
                Err(error) => {
                    self.notes.push(format!("{}: {error}", found.path.display()));
                    continue;
                }
            };
            if !is_tail
                && let Some(seal) = found.seal
                && let Some(index) = read_index(&file, found)
            {
                self.take_segment(found, seal.last_sequence, index.slots());
                continue;
            }
            let named = ends.get(&number).copied();
            let verify_above = is_tail.then_some(checkpoint.applied);
            let walked = walk_all(&file, found, named, verify_above);
            self.set_aside(found, &file, &walked.lost);
            self.take_records(checkpoint.applied, found, &walked, is_tail);
            if found.seal.is_none() && !walked.records.is_empty() {
                self.seal(found, file, &walked);
            }
        }
    }

    fn set_aside(&mut self, found: &Found, file: &DiskFile, lost: &[(u64, u64)]) {
        for &(from, to) in lost {
            self.notes.push(format!(
                "{}: bytes {from} to {to} are damaged, the records there are lost",
                found.path.display()
            ));
            self.quarantine.copy(file, found.life.number, from, to);
        }
    }

    /// A segment of which it is known what slots have there: first ordinal and the one behind the last.
    fn take_segment(&mut self, found: &Found, last: Sequence, held: impl Iterator<Item = (Slot, u64, u64)>) {
        self.highest = self.highest.max(last);
        self.hold(found);
        let held: Vec<_> = held.map(|(slot, first, end)| (slot, first, end - first)).collect();
        self.want(found.life.number, last, &held);
    }

    fn hold(&mut self, found: &Found) {
        let number = found.life.number;
        if self.state.segments.get(number).is_none() {
            self.state.segments.insert(number, segment_of(found));
        }
    }

    /// Spans that can be read: slot, first ordinal, count.
    fn want(&mut self, number: u64, sequence: Sequence, spans: &[(Slot, u64, u64)]) {
        for (slot, first, count) in spans {
            let at = *slot as usize;
            if at >= self.readable.len() {
                self.readable.resize_with(at + 1, Done::default);
            }
            if let Some(readable) = self.readable.get_mut(at) {
                readable.insert(*first, first + count);
            }
        }
        self.state.segments.want(number, sequence, spans.iter().copied());
    }

    /// Records of a walk: those above the checkpoint go into the figures.
    fn take_records(&mut self, covered: Sequence, found: &Found, walked: &WalkedSegment, is_tail: bool) {
        let mut before = None;
        for record in walked.records.iter().filter(|r| r.header.kind == Kind::Record) {
            let header = &record.header;
            // Everything behind a commit that did not finish is part of that commit.
            let is_torn = walked.torn.iter().any(|(from, _)| *from < record.offset);
            let Some(meta) = Meta::decode(&record.meta, header.spans) else { continue };
            if is_tail && header.sequence > covered {
                // A commit that was written twice, because the first segment failed.
                if header.sequence <= self.state.applied {
                    continue;
                }
                // Without a checkpoint nobody knows what was settled and given back, or not copied; within a segment
                // of the log nothing may be missing.
                let knows = self.has_checkpoint || (!found.is_carry && before == Some(self.state.applied));
                self.count(header, &meta, is_torn, knows);
            }
            before = Some(header.sequence);
            self.saw(found, header.received_unix_nano);
            self.highest = self.highest.max(header.sequence);
            self.hold(found);
            let spans: Vec<_> =
                meta.routes.iter().map(|r| (r.slot, r.ordinal, u64::from(r.spans.count()))).collect();
            self.want(found.life.number, header.sequence, &spans);
        }
    }

    fn saw(&mut self, found: &Found, received_unix_nano: u64) {
        let (_, _, newest) = self.ages.entry(found.life.number).or_insert((found.file, found.life, 0));
        *newest = (*newest).max(received_unix_nano);
    }

    /// Index and seal for a segment that the last process left open.
    fn seal(&mut self, found: &Found, file: DiskFile, walked: &WalkedSegment) {
        let records = || walked.records.iter().filter(|r| r.header.kind == Kind::Record);
        let first = records().next().map_or(0, |r| r.header.sequence);
        let seal = Seal {
            life: found.life,
            carry: None,
            is_narrowed: false,
            first_sequence: found.header.as_ref().map_or(first, |h| h.first_sequence),
            last_sequence: records().next_back().map_or(0, |r| r.header.sequence),
            records: records().count() as u64,
            end: walked.end,
            index_len: 0,
        };
        let mut sealing = Sealing {
            number: found.life.number,
            file_number: found.file,
            file: Arc::new(file),
            bytes: found.bytes,
            seal,
            index: Arc::new(Mutex::new(index_of(walked))),
            truncate: true,
        };
        // A seal says that everything before it is there, and the last process may have ended before its sync.
        let synced = sealing.file.sync().map_err(|error| sealing.file.error(error));
        if let Err(error) = synced.and_then(|()| sealing.seal()) {
            self.notes.push(format!("segment {} could not be sealed: {error}", found.life.number));
            self.unsealed.push((found.life.number, walked.end));
        }
    }
}

/// What is known of a segment before its records are.
fn segment_of(found: &Found) -> Segment {
    let segment = Segment::sealed(found.file, found.life);
    let last_number = found.seal.and_then(|seal| seal.carry).unwrap_or(found.life.number);
    Segment { last_number: last_number.max(segment.last_number), ..segment }
}
