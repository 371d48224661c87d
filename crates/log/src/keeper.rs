//! The keeper: seals, syncs, checkpoints, gives segments back, and asks for backlog to be given up.
mod inbox;
mod relief;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(crate) use self::inbox::Inbox;
use self::inbox::Unsealed;
use self::relief::Relief;
use crate::carry::{self, Carry, Step};
use crate::checkpoint::{Checkpoint, Wanted};
use crate::journal::{self, Journal};
use crate::segments::Segment;
use crate::shared::{Inner, OnDisk, State, lock};
use crate::types::{LogError, Options, Sequence, Slot};
use crate::world;

const LOG_SYNC: Duration = Duration::from_millis(100);
const JOURNAL_SYNC: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);
/// A checkpoint after so many bytes of log, or of journal.
const CHECKPOINT_LOG: u64 = 64 << 20;
const CHECKPOINT_JOURNAL: u64 = 16 << 20;
/// A segment is left alone for so long after its last record came: most of what is wanted of it is on its way.
const SETTLE_DOWN: Duration = Duration::from_secs(10);
/// Above so much of the cap in use, segments are carried over without that wait, and retained or not.
const PRESSURE_PERCENT: u64 = 80;
/// Attempts to write a seal, a second apart. What is wanted of a segment without one cannot be carried over.
const SEAL_TRIES: u32 = 30;

pub(crate) struct Keeper {
    inner: Arc<Inner>,
    log_synced: Instant,
    journal_synced: Instant,
    checkpoint_after: Option<Instant>,
    checkpoint_wanted: bool,
    relief: Relief,
    carry: Option<Box<Carry>>,
    /// Not before; after a failure.
    carry_after: Option<Instant>,
    /// Segments whose records were carried over, to be given back with the next checkpoint.
    replaced: Vec<Segment>,
}

impl Keeper {
    pub(crate) fn new(inner: Arc<Inner>) -> Keeper {
        let now = world::now();
        Keeper {
            inner,
            log_synced: now,
            journal_synced: now,
            checkpoint_after: None,
            checkpoint_wanted: false,
            relief: Relief::new(),
            carry: None,
            carry_after: None,
            replaced: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) {
        let inner = self.inner.clone();
        loop {
            let stopping = inner.inbox.wait(self.timeout());
            if stopping {
                break;
            }
            if let Some(on_disk) = &inner.on_disk {
                self.tend(on_disk);
                self.carry_over(on_disk);
            }
            relief::judge(&inner, self.carry.is_some());
            let is_short = self.is_short();
            let comes_back = is_short && inner.on_disk.is_some() && self.gets_files_back();
            self.relief.look(&inner, is_short, comes_back);
        }
        let Some(on_disk) = &inner.on_disk else { return };
        if let Some(carry) = self.carry.take() {
            carry.abandon(&inner, on_disk);
        }
        if inner.is_closed() {
            self.finish(on_disk);
        }
    }

    fn is_short(&self) -> bool {
        match &self.inner.on_disk {
            Some(on_disk) => on_disk.pool.is_short(),
            None => self.inner.budget.is_short(),
        }
    }

    fn timeout(&self) -> Duration {
        let unsynced = self.inner.on_disk.as_ref().is_some_and(|d| d.unsynced.load(Ordering::Acquire));
        if self.carry.is_some() {
            Duration::ZERO
        } else if self.is_short() {
            SHORT
        } else if unsynced {
            LOG_SYNC
        } else {
            IDLE
        }
    }

    fn tend(&mut self, on_disk: &OnDisk) {
        if world::elapsed(self.log_synced) >= LOG_SYNC {
            self.log_synced = world::now();
            let _ = self.sync_log(on_disk);
        }
        self.seal_waiting(on_disk);
        let short = on_disk.pool.is_short();
        if world::elapsed(self.journal_synced) >= JOURNAL_SYNC || (short && self.has_settled_segments()) {
            self.journal_synced = world::now();
            if let Err(error) = self.sync_journal(on_disk) {
                // A failed sync is not repeated on the same file: a checkpoint and a new journal replace it.
                tracing::error!(%error, "settlement journal not synced");
                self.checkpoint_wanted = true;
            }
        }
        self.checkpoint_if_due(on_disk);
        self.give_back(on_disk);
        if !on_disk.pool.is_short() {
            self.inner.full.store(false, Ordering::Release);
        }
    }

    /// Orderly end: everything on disk.
    fn finish(&mut self, on_disk: &OnDisk) {
        self.seal_waiting(on_disk);
        let synced = self.sync_log(on_disk).and_then(|()| self.sync_journal(on_disk));
        if let Err(error) = synced.and_then(|()| self.checkpoint(on_disk)) {
            tracing::error!(%error, "log closed without its last sync; the next start reads the tail instead");
        }
        self.give_back(on_disk);
    }

    /// Buffered mode: syncs what was written since the last sync.
    fn sync_log(&mut self, on_disk: &OnDisk) -> Result<(), LogError> {
        if !on_disk.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let current = lock(&on_disk.current).clone();
        let waiting: Vec<_> =
            lock(&self.inner.inbox.state).to_seal.iter().map(|u| u.sealing.file.clone()).collect();
        for file in waiting.into_iter().chain(current) {
            let started = world::now();
            if let Err(source) = file.sync() {
                on_disk.sync_failed.store(true, Ordering::Release);
                let error = file.error(source);
                tracing::error!(%error, "segment not synced, it is left");
                return Err(error);
            }
            self.inner.count_sync(world::elapsed(started));
        }
        Ok(())
    }

    fn seal_waiting(&mut self, on_disk: &OnDisk) {
        let waiting = std::mem::take(&mut lock(&self.inner.inbox.state).to_seal);
        let (now, closed) = (world::now(), self.inner.is_closed());
        for Unsealed { mut sealing, tries, after } in waiting {
            if !closed && after.is_some_and(|at| now < at) {
                lock(&self.inner.inbox.state).to_seal.push_back(Unsealed { sealing, tries, after });
                continue;
            }
            let number = sealing.number;
            match sealing.seal() {
                Ok(shorter) => {
                    lock(&on_disk.unsealed).retain(|(n, _)| *n != number);
                    let bytes = shorter.unwrap_or(sealing.bytes);
                    on_disk.pool.shrunk(sealing.bytes - bytes);
                    let mut state = self.inner.state();
                    if let Some(segment) = state.segments.get_mut(number) {
                        (segment.sealed, segment.bytes) = (true, bytes);
                    }
                    drop(state);
                    on_disk.files.forget(sealing.file_number);
                    on_disk.indexes.end(number);
                    self.checkpoint_wanted = true;
                }
                // Each try writes all of the seal again, and the records were synced before: a sync that failed once
                // is not called good.
                Err(error) if tries + 1 < SEAL_TRIES => {
                    if tries == 0 {
                        tracing::warn!(%error, "segment not sealed yet");
                    }
                    self.relief.disk_failed();
                    let again = Unsealed { sealing, tries: tries + 1, after: Some(now + RETRY) };
                    lock(&self.inner.inbox.state).to_seal.push_back(again);
                }
                Err(error) => {
                    tracing::error!(%error, "segment not sealed, its file is not used again");
                    if let Some(segment) = self.inner.state().segments.get_mut(number) {
                        (segment.sealed, segment.kept) = (true, true);
                    }
                }
            }
        }
    }

    /// Files of the log come back without anything being given up.
    fn gets_files_back(&self) -> bool {
        self.carry.is_some() || !self.replaced.is_empty() || self.has_settled_segments()
    }

    fn has_settled_segments(&self) -> bool {
        !self.inner.state().segments.returnable(Sequence::MAX, u64::MAX).is_empty()
    }

    /// Syncs the journal, after the log it speaks of.
    fn sync_journal(&mut self, on_disk: &OnDisk) -> Result<(), LogError> {
        let (files, written, (generation, at)) = {
            let journal = lock(&on_disk.journal);
            if journal.written == journal.synced || journal.failed {
                return Ok(());
            }
            let mut files = journal.before.clone();
            files.push(journal.file.clone());
            (files, journal.written, (journal.generation, journal.at))
        };
        self.sync_log(on_disk)?;
        for file in files {
            if let Err(source) = file.sync() {
                lock(&on_disk.journal).failed = true;
                return Err(file.error(source));
            }
        }
        let mut journal = lock(&on_disk.journal);
        journal.synced = journal.synced.max(written);
        if journal.generation == generation {
            journal.synced_at = journal.synced_at.max(at);
        }
        Ok(())
    }

    fn checkpoint_if_due(&mut self, on_disk: &OnDisk) {
        self.checkpoint_wanted |= std::mem::take(&mut lock(&self.inner.inbox.state).checkpoint);
        let logged = self.inner.state().activity.bytes;
        let journaled = lock(&on_disk.journal).at;
        let due = self.inner.inbox.is_checkpoint_due(logged) || journaled >= CHECKPOINT_JOURNAL;
        let waits = self.checkpoint_after.is_some_and(|at| world::now() < at);
        if waits || !(due || self.checkpoint_wanted) {
            return;
        }
        match self.checkpoint(on_disk) {
            Ok(()) => (self.checkpoint_wanted, self.checkpoint_after) = (false, None),
            Err(error) => {
                tracing::error!(%error, "checkpoint not written");
                let full = matches!(&error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
                if !(full && on_disk.pool.sacrifice()) {
                    self.checkpoint_after = Some(world::now() + RETRY);
                }
            }
        }
    }

    fn checkpoint(&mut self, on_disk: &OnDisk) -> Result<(), LogError> {
        let generation = lock(&on_disk.journal).generation + 1;
        let slots = slot_table(&self.inner.state());
        let (file, at) = Journal::create(&on_disk.disk, &on_disk.dir, generation, on_disk.epoch, &slots)?;
        let mut journal = lock(&on_disk.journal);
        let state = self.inner.state();
        let checkpoint = image(&state, on_disk.epoch, generation);
        let logged = state.activity.bytes;
        drop(state);
        let old = std::mem::replace(&mut journal.file, file);
        journal.before.push(old);
        (journal.generation, journal.at) = (generation, at);
        (journal.synced_at, journal.said) = (at, at);
        let written = journal.written;
        drop(journal);
        // What the checkpoint counts must be in the log for good.
        self.sync_log(on_disk)?;
        checkpoint.write(&on_disk.disk, &on_disk.dir)?;
        *lock(&on_disk.checkpointed) = checkpoint.applied;
        self.inner.inbox.due_at.store(logged + CHECKPOINT_LOG, Ordering::Release);
        lock(&on_disk.slots).extend(&on_disk.disk, &on_disk.dir, &slots);
        on_disk.slots_on_disk.fetch_max(checkpoint.ledger.len() as u32, Ordering::AcqRel);
        let mut journal = lock(&on_disk.journal);
        journal.synced = journal.synced.max(written);
        (journal.before, journal.failed) = (Vec::new(), false);
        drop(journal);
        remove_journals_before(on_disk, generation);
        for segment in self.replaced.drain(..) {
            give_back(on_disk, &segment);
        }
        self.note_carrying();
        Ok(())
    }

    /// Goes on with the copy under way, or looks for segments worth one.
    fn carry_over(&mut self, on_disk: &OnDisk) {
        let inner = self.inner.clone();
        if self.carry.is_none() && self.carry_after.is_some_and(|at| world::now() < at) {
            return;
        }
        let ended = match self.carry.take().map_or_else(|| self.begin_carry(on_disk), |carry| Ok(Some(carry)))
        {
            Ok(None) => return,
            Ok(Some(carry)) => carry.step(&inner, on_disk),
            Err(error) => Err(error),
        };
        match ended {
            Ok(Step::More(carry)) => self.carry = Some(carry),
            Ok(Step::Done(replaced)) => {
                tracing::debug!(segments = replaced.len(), "carried over");
                self.replaced.extend(replaced);
                self.checkpoint_wanted = true;
                self.checkpoint_if_due(on_disk);
            }
            Err(error) => {
                tracing::warn!(%error, "nothing carried over for now");
                self.carry_after = Some(world::now() + RETRY);
            }
        }
        self.note_carrying();
    }

    fn note_carrying(&self) {
        let is_carrying = self.carry.is_some() || !self.replaced.is_empty();
        self.inner.carrying.store(is_carrying, Ordering::Release);
    }

    fn begin_carry(&self, on_disk: &OnDisk) -> Result<Option<Box<Carry>>, LogError> {
        let checkpointed = *lock(&on_disk.checkpointed);
        // What is only retained goes first.
        let gives_way = !self.inner.options.retain.is_zero() && self.has_settled_segments();
        let pressed = on_disk.pool.percent_used() >= PRESSURE_PERCENT && !gives_way;
        let settled_down = world::unix_nano().saturating_sub(world::nanos(SETTLE_DOWN));
        let limit = settled_down.min(retained_since(&self.inner.options));
        carry::begin(&self.inner, on_disk, |segment| {
            let is_old = pressed || segment.newest_unix_nano < limit;
            segment.sealed
                && !segment.kept
                && !segment.carrying
                && segment.last_sequence <= checkpointed
                && is_old
        })
    }

    /// Returns segments that nobody wants to the pool, once they were retained long enough. While space is short, the
    /// oldest of them goes before its time.
    fn give_back(&mut self, on_disk: &OnDisk) {
        let synced = lock(&on_disk.journal).synced;
        let checkpointed = *lock(&on_disk.checkpointed);
        let limit = retained_since(&self.inner.options);
        let short = on_disk.pool.is_short();
        let mut state = self.inner.state();
        let unwanted = state.segments.returnable(checkpointed, synced);
        let aged: Vec<u64> = unwanted.iter().filter(|(_, at)| *at < limit).map(|(n, _)| *n).collect();
        let early = unwanted.first().filter(|_| short && aged.is_empty()).map(|(n, _)| *n);
        let numbers = aged.into_iter().chain(early);
        let segments: Vec<_> = numbers.filter_map(|n| state.segments.remove(n)).collect();
        drop(state);
        for segment in segments {
            give_back(on_disk, &segment);
        }
    }
}

/// Nothing of the segment is wanted there any more.
fn give_back(on_disk: &OnDisk, segment: &Segment) {
    on_disk.indexes.forget(segment.life);
    on_disk.files.forget(segment.file);
    if segment.kept {
        lock(&on_disk.unsealed).retain(|(number, _)| *number != segment.life.number);
        on_disk.indexes.end(segment.life.number);
        on_disk.pool.discard(segment.file, segment.bytes);
    } else {
        on_disk.pool.give_back(segment.file, segment.bytes);
    }
}

/// Records received before this need not be kept once nobody wants them.
pub(crate) fn retained_since(options: &Options) -> u64 {
    match options.retain.as_nanos() {
        0 => u64::MAX,
        retain => world::unix_nano().saturating_sub(u64::try_from(retain).unwrap_or(u64::MAX)),
    }
}

/// All slots whose owner is known.
pub(crate) fn slot_table(state: &State) -> Vec<(Slot, crate::types::SlotKey)> {
    (0..).zip(&state.ledger.accounts).filter_map(|(slot, account)| Some((slot, account.key?))).collect()
}

/// The figures as a checkpoint.
pub(crate) fn image(state: &State, epoch: u32, journal: u64) -> Checkpoint {
    // What is behind them is read at a start. The last one written may have been carried over before there was room
    // for another: a copy is not read unless it is named.
    let earlier = || state.segments.iter().filter(|(n, segment)| *n < state.segment || segment.sealed);
    let wanted = earlier().filter(|(_, s)| !s.is_settled()).map(|(number, segment)| Wanted {
        number,
        file: segment.file,
        last_sequence: segment.last_sequence,
        held: Some(segment.wanted.iter().map(|(slot, held)| (*slot, held.first, held.end)).collect()),
    });
    Checkpoint {
        epoch,
        applied: state.applied,
        segment: state.segment,
        journal,
        ledger: state.ledger.image(),
        wanted: wanted.collect(),
        ages: earlier().map(|(number, s)| (number, s.file, s.newest_unix_nano)).collect(),
        traces: state.traces.to_vec(),
        damage: state.damage,
    }
}

/// Journals that a checkpoint has replaced.
pub(crate) fn remove_journals_before(on_disk: &OnDisk, generation: u64) {
    let Ok(journals) = journal::list(&on_disk.disk, &on_disk.dir) else { return };
    for (_, path) in journals.into_iter().filter(|(g, _)| *g < generation) {
        if let Err(error) = on_disk.disk.remove(&path) {
            tracing::warn!(%error, path = %path.display(), "journal not removed");
        }
    }
}
