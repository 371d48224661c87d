//! Recovery: checkpoint, journal since, tail of the log. What is pending is counted, and read when it is sent.
//!
//! Nothing is decided again. Damage is counted, set aside and stepped over; only a foreign lock, a newer format
//! or an unusable directory stop the start.
mod segments;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use self::segments::Files;
use crate::books::Account;
use crate::checkpoint::{self, Checkpoint, Unusable};
use crate::disk::Disk;
use crate::entry::EntryRoute;
use crate::format::{Life, Meta, RecordHeader};
use crate::journal::{self, Intent, Journal, JournalEntry, Settled};
use crate::keeper::retained_since;
use crate::quarantine::Quarantine;
use crate::ranges::Done;
use crate::segments::Segment;
use crate::shared::State;
use crate::slots::{self, SlotTable};
use crate::types::{DropReason, LogError, Options, Outcome, Recovered, Sequence, Slot};

/// What the running log starts with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) recovered: Recovered,
    pub(crate) epoch: u32,
    pub(crate) next_sequence: Sequence,
    pub(crate) next_segment: u64,
    pub(crate) journal: Journal,
    pub(crate) slots: SlotTable,
    pub(crate) unsealed: Vec<(u64, u64)>,
    pub(crate) free: Vec<u32>,
    pub(crate) segment_files_bytes: u64,
    pub(crate) next_file: u32,
}

struct Recovery<'a> {
    disk: &'a Disk,
    dir: &'a Path,
    segment_bytes: u64,
    state: State,
    notes: Vec<String>,
    quarantine: Quarantine,
    /// By slot: the ordinals that some segment accounts for.
    readable: Vec<Done>,
    /// Segments that are held, wanted or not, by number: file and life, and when the newest record came.
    ages: BTreeMap<u64, (u32, Life, u64)>,
    /// Records received before this need not be kept.
    retained_since: u64,
    /// Highest sequence seen anywhere.
    highest: Sequence,
    unsealed: Vec<(u64, u64)>,
    /// Counters since the beginning are known.
    has_checkpoint: bool,
}

pub(crate) fn recover(disk: &Disk, dir: &Path, options: &Options) -> Result<Opened, LogError> {
    let segment_bytes = options.segment_bytes;
    let segments_dir = dir.join("segments");
    for made in [dir, &segments_dir] {
        disk.make_dir(made).map_err(|source| LogError::Io { path: made.to_path_buf(), source })?;
    }
    // The directory itself may be new. Whoever may not open what it lies in has made it long ago.
    if let Some(parent) = dir.parent() {
        let _ = disk.sync_dir(parent);
    }
    let mut recovery = Recovery {
        disk,
        dir,
        segment_bytes,
        state: State::default(),
        notes: Vec::new(),
        quarantine: Quarantine::new(disk.clone(), dir.join("quarantine")),
        readable: Vec::new(),
        ages: BTreeMap::new(),
        retained_since: retained_since(options),
        highest: 0,
        unsealed: Vec::new(),
        has_checkpoint: false,
    };
    let checkpoint = recovery.read_checkpoint()?;
    for (slot, key) in slots::read(disk, dir)? {
        recovery.state.ledger.assign(slot, key);
    }
    let (settled, intents, last_journal) = recovery.read_journals(&checkpoint)?;
    let mut files = recovery.find_segments(&segments_dir)?;
    // A file that the last process made may be known by name only to the cache; a power cut must not take it.
    disk.sync_dir(&segments_dir).map_err(|source| LogError::Io { path: segments_dir.clone(), source })?;
    let epoch = files.segments.iter().map(|s| s.life.epoch).max().unwrap_or(0).max(checkpoint.epoch) + 1;
    let highest_segment = files.segments.last().map_or(0, |s| s.life.number).max(checkpoint.segment);

    recovery.read_segments(&checkpoint, &files.segments);
    recovery.replay(&settled);
    for Intent { slot, ranges } in intents {
        if let Some(account) = recovery.state.ledger.account_mut(slot) {
            account.intend(ranges);
        }
    }
    recovery.state.ledger.accounts.iter_mut().for_each(Account::forget_unfounded_intents);
    recovery.drop_unreadable();
    recovery.state.segments.recount(&recovery.state.ledger);
    recovery.retain();

    // From here on the figures are complete: new checkpoint, new journal, and only then is a file used again.
    recovery.note_quarantine();
    let Recovery { mut state, notes, highest, unsealed, .. } = recovery;
    state.applied = highest;
    state.segment = highest_segment + 1;
    let wanted: HashSet<Life> = state.segments.iter().map(|(_, segment)| segment.life).collect();
    let generation = last_journal.max(checkpoint.journal) + 1;
    let make_journal = |files: &mut Files| -> Result<_, LogError> {
        let slots = crate::keeper::slot_table(&state);
        let made = Journal::create(disk, dir, generation, epoch, &slots)
            .and_then(|made| crate::keeper::image(&state, epoch, generation).write(disk, dir).map(|()| made));
        match made {
            Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                // A segment file that nobody wants makes room.
                let unwanted = files.segments.iter().position(|s| !wanted.contains(&s.life));
                let path = match (files.fresh.pop(), unwanted) {
                    (Some((_, path)), _) => path,
                    (None, Some(at)) => files.segments.remove(at).path,
                    (None, None) => return Err(LogError::Io { path: dir.to_path_buf(), source }),
                };
                disk.remove(&path).map_err(|source| LogError::Io { path, source })?;
                let slots = crate::keeper::slot_table(&state);
                let made = Journal::create(disk, dir, generation, epoch, &slots)?;
                crate::keeper::image(&state, epoch, generation).write(disk, dir)?;
                Ok(made)
            }
            other => other,
        }
    };
    let (file, at) = make_journal(&mut files)?;
    for (_, path) in journal::list(disk, dir).unwrap_or_default().into_iter().filter(|(g, _)| *g < generation)
    {
        let _ = disk.remove(&path);
    }

    let slots = SlotTable::create(disk, dir, &crate::keeper::slot_table(&state));

    // Before their removal, or before it was on disk, the last process may have ended.
    let narrowed: Vec<(Life, u64)> = files
        .segments
        .iter()
        .filter_map(|found| found.seal.filter(|seal| seal.is_narrowed))
        .filter_map(|seal| Some((seal.life, seal.carry?)))
        .collect();
    let holds_content = |life: Life| {
        narrowed.iter().any(|(copy, last)| *copy != life && (copy.number..=*last).contains(&life.number))
    };

    let mut free: Vec<u32> = files.fresh.iter().map(|(file, _)| *file).collect();
    let mut total = free.len() as u64 * segment_bytes;
    for segment in &files.segments {
        let bytes = disk.about(&segment.path).map_or(segment.bytes, |about| about.bytes);
        let known = state.segments.get_mut(segment.life.number);
        if let Some(kept) = known.filter(|known| known.life == segment.life) {
            kept.bytes = bytes;
            total += bytes;
        } else if bytes == segment_bytes && !holds_content(segment.life) {
            free.push(segment.file);
            total += bytes;
        } else if disk.remove(&segment.path).is_err() {
            total += bytes;
        }
    }
    let backlog = (0..state.ledger.len() as Slot).filter_map(|slot| state.ledger.backlog(slot));
    let recovered = Recovered { backlog: backlog.collect(), trace_keys: state.traces.to_vec(), notes };
    Ok(Opened {
        state,
        recovered,
        epoch,
        next_sequence: highest + 1,
        next_segment: highest_segment + 1,
        journal: Journal {
            file,
            generation,
            at,
            written: 0,
            synced: 0,
            before: Vec::new(),
            failed: false,
            synced_at: at,
            said: at,
        },
        slots,
        unsealed,
        free,
        segment_files_bytes: total,
        next_file: files.next_file,
    })
}

impl Recovery<'_> {
    fn read_checkpoint(&mut self) -> Result<Checkpoint, LogError> {
        let path = self.dir.join(checkpoint::FILE);
        let bytes = match self.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(source) => return Err(LogError::Io { path, source }),
        };
        match Checkpoint::decode(&bytes) {
            Ok(checkpoint) => {
                self.has_checkpoint = true;
                self.state.ledger = checkpoint.ledger.clone();
                self.state.applied = checkpoint.applied;
                self.state.damage = checkpoint.damage;
                self.highest = checkpoint.applied;
                for (received, keys) in &checkpoint.traces {
                    self.state.traces.push(*received, keys);
                }
                Ok(checkpoint)
            }
            Err(Unusable::Newer(version)) => Err(LogError::newer(path, version)),
            Err(Unusable::Damaged) => {
                self.quarantine.set_aside(&path);
                self.notes.push(
                    "the checkpoint is damaged: figures begin with what log and journal still hold, and delivered \
                     spans may be sent again"
                        .to_owned(),
                );
                Ok(Checkpoint::default())
            }
        }
    }

    /// Settlements since the checkpoint; slots are assigned at once, because records speak of them.
    fn read_journals(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> Result<(Vec<Settled>, Vec<Intent>, u64), LogError> {
        let io = |source| LogError::Io { path: self.dir.to_path_buf(), source };
        let (mut settled, mut intents, mut last) = (Vec::new(), Vec::new(), 0);
        for (generation, path) in journal::list(self.disk, self.dir).map_err(io)? {
            last = last.max(generation);
            if generation < checkpoint.journal {
                continue;
            }
            let bytes =
                self.disk.read(&path).map_err(|source| LogError::Io { path: path.clone(), source })?;
            let read = journal::read(&bytes).map_err(|version| LogError::newer(path.clone(), version))?;
            if read.damaged > 0 {
                let name = path.display();
                self.notes.push(format!(
                    "{name}: {} bytes in the middle are damaged, their settlements are lost and those spans are sent again",
                    read.damaged
                ));
                self.quarantine.set_aside_copy(&path);
            }
            for entry in read.entries {
                match entry {
                    JournalEntry::Slot { slot, key } => self.state.ledger.assign(slot, key),
                    JournalEntry::Settled(entry) => settled.push(entry),
                    JournalEntry::Together(_, entries) => settled.extend(entries),
                    JournalEntry::Intent(intent) => intents.push(intent),
                    JournalEntry::Synced(_) => {}
                }
            }
        }
        Ok((settled, intents, last))
    }

    /// `knows`: what lies between this record and the one before is missing.
    fn count(&mut self, header: &RecordHeader, meta: &Meta, is_torn: bool, knows: bool) {
        let expected = self.state.applied + 1;
        if knows && header.sequence > expected && !is_torn {
            self.state.damage.records += header.sequence - expected;
        }
        self.state.applied = header.sequence;
        self.state.ledger.accepted += u64::from(header.accepted);
        for route in &meta.routes {
            let account = self.state.ledger.account_made(route.slot);
            let next = account.next_ordinal;
            if route.ordinal > next {
                // Spans between: they were selected, and their records are gone.
                if is_torn || !knows {
                    account.void(next, route.ordinal);
                } else {
                    account.select(next, route.ordinal - next, 0, header.received_unix_nano);
                    account.settle(next, route.ordinal, 0, Outcome::Dropped(DropReason::Damaged));
                }
            }
            self.state.ledger.select(route, header.received_unix_nano);
            let Some(kept) = &meta.kept else { continue };
            // What a copy has left out had ended; in what state, only the lost checkpoint knew.
            let route = EntryRoute::whole(route.clone());
            let account = self.state.ledger.account_made(route.slot);
            for gone in route.ordinals(&route.spans.difference(kept)) {
                let bytes = account.bytes_of(gone.end - gone.start);
                account.settle(gone.start, gone.end, bytes, Outcome::Dropped(DropReason::Damaged));
            }
        }
        for skip in &meta.skips {
            self.state.ledger.skip(skip.slot, skip.reason, skip.spans);
        }
        self.state.traces.push(header.received_unix_nano, &meta.trace_keys);
    }

    /// Applies settlements. What they say of ordinals beyond the log's end is never applied to later records.
    fn replay(&mut self, settled: &[Settled]) {
        let ends: Vec<u64> = self.state.ledger.accounts.iter().map(|a| a.next_ordinal).collect();
        let mut beyond = (0, 0);
        for entry in settled {
            self.highest = self.highest.max(entry.sequence);
            let end = entry.first + entry.spans;
            let known = ends.get(entry.slot as usize).copied().unwrap_or(0);
            if end > known {
                beyond = (beyond.0 + 1, beyond.1 + (end - entry.first.max(known)));
                if let Some(account) = self.state.ledger.account_mut(entry.slot) {
                    account.void(known, end);
                }
            }
            let within = end.min(known);
            if entry.first >= within {
                continue;
            }
            if let Some(account) = self.state.ledger.account_mut(entry.slot) {
                account.settle(entry.first, within, entry.bytes, entry.outcome);
            }
        }
        if beyond.0 > 0 {
            self.state.damage.journal_entries += beyond.0;
            self.state.damage.journal_spans += beyond.1;
            self.notes.push(format!(
                "{} journal entries about {} spans speak of records beyond the end of the log: not applied",
                beyond.0, beyond.1
            ));
        }
    }

    /// Spans that are neither final nor in a segment that is there end here, counted.
    fn drop_unreadable(&mut self) {
        self.readable.resize_with(self.state.ledger.len(), Done::default);
        let mut lost = 0;
        for (account, readable) in self.state.ledger.accounts.iter_mut().zip(&self.readable) {
            let mut accounted = account.done.clone();
            // Without an owner nobody knows where to deliver them.
            if account.key.is_some() {
                accounted.insert(0, readable.low());
                for (start, end) in readable.above() {
                    accounted.insert(start, end);
                }
            }
            for (start, end) in accounted.missing(0, account.next_ordinal) {
                let bytes = account.bytes_of(end - start);
                lost += account.settle(start, end, bytes, Outcome::Dropped(DropReason::Damaged));
            }
        }
        if lost > 0 {
            self.notes.push(format!("{lost} pending spans are not readable any more: dropped as damaged"));
        }
    }

    /// When the newest record of each segment came; those that nobody wants stay until their time is over.
    fn retain(&mut self) {
        for (&number, &(file, life, newest_unix_nano)) in &self.ages {
            match self.state.segments.get_mut(number) {
                Some(segment) => segment.newest_unix_nano = newest_unix_nano,
                None if newest_unix_nano >= self.retained_since => {
                    let segment = Segment { newest_unix_nano, ..Segment::sealed(file, life) };
                    self.state.segments.insert(number, segment);
                }
                None => {}
            }
        }
    }

    fn note_quarantine(&mut self) {
        self.state.damage.quarantined_bytes += self.quarantine.bytes;
        self.notes.append(&mut self.quarantine.notes);
    }
}
