//! The writer: turns the appends of one commit into one write and one sync, on its thread or on that of an append (see
//! `queue`). Sequence and ordinals are given here, so that their order is the order on disk.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backlog::Growing;
use crate::blocks::BlockWriter;
use crate::commit::hand_over;
use crate::format::{Life, SegmentHeader};
use crate::pool::Taken;
use crate::queue::{Batch, Waiting};
use crate::segment::{Active, Prepared, Staged};
use crate::shared::{Inner, OnDisk, lock, same_error};
use crate::types::{Durability, LogError, Sequence};
use crate::world::{self, Mutex};

/// An append waits for space this long before it is refused,
pub(crate) const SPACE_WAIT: Duration = Duration::from_secs(2);
/// and so long while files are on their way back: a disk that is slow near the cap is no reason to send clients away.
/// Theirs give up after ten seconds.
const SPACE_WAIT_MAX: Duration = Duration::from_secs(8);
/// After a failure of the disk the next attempt is made this much later.
const RETRY: Duration = Duration::from_secs(1);
/// A segment that is full sooner than this asks for more files ahead.
const FAST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) inner: Arc<Inner>,
    pub(crate) next_sequence: Sequence,
    /// By slot: the number its next span gets.
    pub(crate) ordinals: Vec<u64>,
    pub(crate) next_segment: u64,
    active: Option<Active>,
    /// When the present segment was opened.
    opened_at: Option<Instant>,
    staged: Staged,
    /// Durable mode.
    blocks: Option<BlockWriter>,
    retry_at: Option<Instant>,
    /// Memory mode: bytes in the current group.
    pub(crate) group_bytes: u64,
}

/// Why no segment could be opened.
enum NoSegment {
    /// The cap; the first waiting append has waited long enough.
    Full,
    /// It may take a while, which whoever makes the commit may not.
    NotNow,
    Failed(LogError),
}

/// The writer's thread.
pub(crate) fn run(inner: &Inner, on_disk: &OnDisk, writer: &Mutex<Writer>) {
    loop {
        let most = lock(writer).retry_at.map(|_| RETRY);
        let Some(batch) = inner.queue.next(most) else { break };
        let turn = Turn::begin(inner, &batch);
        lock(writer).commit(on_disk, batch, true);
        drop(turn);
    }
    let mut writer = lock(writer);
    if inner.is_closed()
        && let Some(active) = writer.active.take()
    {
        writer.retire(on_disk, active, true);
    }
}

/// The commit of an append that completes a company, on the caller's thread.
pub(crate) fn commit_now(inner: &Inner, on_disk: &OnDisk, writer: &Mutex<Writer>, batch: Batch) {
    let mut turn = Turn::begin(inner, &batch);
    let mut writer = lock(writer);
    turn.left = writer.commit(on_disk, batch, false);
    let has_failed = writer.retry_at.is_some();
    drop(writer);
    drop(turn);
    if has_failed {
        // The thread tries again: appends are turned away until it works, so none will come to do it.
        inner.queue.call();
    }
}

/// Somebody makes a commit, until this is dropped, however it ends.
struct Turn<'a> {
    inner: &'a Inner,
    began: Instant,
    taken: usize,
    /// What the thread has to go on with.
    left: Batch,
}

impl Turn<'_> {
    fn begin<'a>(inner: &'a Inner, batch: &Batch) -> Turn<'a> {
        Turn { inner, began: world::now(), taken: batch.len(), left: Batch::new() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.left.is_empty() {
            self.inner.queue.done(self.taken, world::elapsed(self.began));
        } else {
            self.inner.queue.leave(std::mem::take(&mut self.left));
        }
    }
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>, next_sequence: Sequence, next_segment: u64) -> Writer {
        let ordinals = inner.state().ledger.accounts.iter().map(|a| a.next_ordinal).collect();
        let is_durable = inner.options.durability == Durability::Durable;
        Writer {
            inner,
            blocks: is_durable.then(BlockWriter::new),
            next_sequence,
            ordinals,
            next_segment,
            active: None,
            opened_at: None,
            staged: Staged::default(),
            retry_at: None,
            group_bytes: 0,
        }
    }

    /// Writes everything in `waiting`, or answers why not. What would have to wait is given back unless it `may_wait`.
    fn commit(&mut self, on_disk: &OnDisk, mut waiting: Batch, may_wait: bool) -> Batch {
        let highest = waiting.iter().filter_map(|w| w.record.highest_slot()).max();
        let is_known = highest.is_none_or(|slot| self.inner.is_slot_on_disk(on_disk, slot));
        if !may_wait && (self.retry_at.is_some() || !is_known) {
            return waiting;
        }
        if self.retry_at.is_some() && !self.recover_from_failure(on_disk) {
            let path = on_disk.dir.clone();
            let failing = LogError::Io { path, source: std::io::Error::other("the last write failed") };
            waiting.drain(..).for_each(|w| w.refuse(same_error(&failing)));
            return waiting;
        }
        if on_disk.sync_failed.swap(false, Ordering::AcqRel)
            && let Some(active) = self.active.take()
        {
            self.retire(on_disk, active, false);
        }
        if !is_known && let Err(error) = self.inner.slots_on_disk(on_disk) {
            return self.fail(waiting, &error);
        }
        let mut attempts = 0;
        while let Some(first) = waiting.front() {
            if self.active.is_none() {
                let wait_since = may_wait.then_some(first.since);
                match self.open_segment(on_disk, Active::bytes_for(&first.record), wait_since) {
                    Ok(active) => self.active = Some(active),
                    Err(NoSegment::NotNow) => return waiting,
                    Err(NoSegment::Full) => {
                        on_disk.pool.give_up_waiting();
                        self.inner.full.store(true, Ordering::Release);
                        if let Some(first) = waiting.pop_front() {
                            first.refuse(LogError::Full);
                        }
                        continue;
                    }
                    Err(NoSegment::Failed(error)) => return self.fail(waiting, &error),
                }
            }
            let chunk = self.stage(&mut waiting);
            if chunk.is_empty() {
                let need = waiting.front().map_or(0, |w| Active::bytes_for(&w.record));
                match self.active.take() {
                    Some(active) if active.is_empty() && active.header.bytes >= need => {
                        // It was opened for this very record: it cannot be a matter of room.
                        self.active = Some(active);
                        if let Some(first) = waiting.pop_front() {
                            first.refuse(LogError::Invalid("it fits no segment".to_owned()));
                        }
                    }
                    Some(active) => self.retire(on_disk, active, false),
                    None => {}
                }
                continue;
            }
            match self.write(on_disk) {
                Ok(()) => {
                    self.publish(on_disk, chunk);
                    attempts = 0;
                }
                Err(error) => {
                    tracing::error!(%error, "commit failed, the segment is left");
                    self.rewind(&chunk);
                    chunk.into_iter().rev().for_each(|w| waiting.push_front(w));
                    // What was written may or may not be on disk. The segment ends where the answered records
                    // end, which the next segment's header says; the same records go there.
                    if let Some(active) = self.active.take() {
                        self.retire(on_disk, active, false);
                    }
                    attempts += 1;
                    if attempts > 1 {
                        return self.fail(waiting, &error);
                    }
                }
            }
        }
        waiting
    }

    fn fail(&mut self, mut waiting: Batch, error: &LogError) -> Batch {
        self.inner.failed.store(true, Ordering::Release);
        // The keeper asks nobody to give anything up for a disk that fails.
        self.inner.inbox.wake();
        self.retry_at = Some(world::now() + RETRY);
        waiting.drain(..).for_each(|w| w.refuse(same_error(error)));
        waiting
    }

    /// True when a new segment could be opened, written and synced.
    fn recover_from_failure(&mut self, on_disk: &OnDisk) -> bool {
        if self.retry_at.is_some_and(|at| world::now() < at) {
            return false;
        }
        self.retry_at = Some(world::now() + RETRY);
        let Ok(Some(taken)) = on_disk.pool.take(0) else { return false };
        let mut active = self.activate(on_disk, taken);
        let proven =
            active.write_header().and_then(|()| active.file.sync().map_err(|e| active.file.error(e)));
        match proven {
            Ok(()) => {
                self.active = Some(active);
                self.retry_at = None;
                self.inner.failed.store(false, Ordering::Release);
                tracing::info!("the log takes records again");
                true
            }
            Err(_) => {
                *lock(&on_disk.current) = None;
                self.inner.state().segments.remove(active.header.life.number);
                on_disk.indexes.end(active.header.life.number);
                on_disk.pool.give_back_last(active.file_number, active.header.bytes);
                false
            }
        }
    }

    /// A segment with room for `need` bytes; waits for space as long as an append that came at `wait_since` may, or not
    /// at all.
    fn open_segment(
        &mut self,
        on_disk: &OnDisk,
        need: u64,
        wait_since: Option<Instant>,
    ) -> Result<Active, NoSegment> {
        loop {
            if wait_since.is_none() && !on_disk.pool.is_ready() {
                return Err(NoSegment::NotNow);
            }
            match on_disk.pool.take(need) {
                Ok(Some(taken)) => {
                    self.inner.full.store(false, Ordering::Release);
                    return Ok(self.activate(on_disk, taken));
                }
                Ok(None) => {}
                Err(error) => return Err(NoSegment::Failed(error)),
            }
            let Some(since) = wait_since else { return Err(NoSegment::NotNow) };
            let waited = world::elapsed(since);
            let is_hopeless = waited >= SPACE_WAIT && !self.inner.gets_files_back();
            if is_hopeless || waited >= SPACE_WAIT_MAX || self.inner.queue.is_stopped() {
                return Err(NoSegment::Full);
            }
            self.inner.inbox.wake();
            on_disk.pool.wait(Duration::from_millis(20));
        }
    }

    fn activate(&mut self, on_disk: &OnDisk, taken: Taken) -> Active {
        let number = self.next_segment;
        self.next_segment += 1;
        let nonce = world::entropy() as u32;
        let header = SegmentHeader {
            life: Life { number, epoch: on_disk.epoch, nonce },
            is_carry: false,
            first_sequence: self.next_sequence,
            bytes: taken.bytes,
            created_unix_nano: world::unix_nano(),
            ends: lock(&on_disk.unsealed).clone(),
        };
        let active = Active::new(taken.file, taken.handle, header);
        let growing = Growing { index: active.index.clone() };
        on_disk.indexes.begin(number, growing);
        let mut state = self.inner.state();
        state.segments.open(active.life(), taken.file, taken.bytes);
        state.segment = number;
        drop(state);
        *lock(&on_disk.current) = Some(active.file.clone());
        // More files are made ahead when the last one did not last.
        let fast = self.opened_at.is_some_and(|at| world::elapsed(at) < FAST);
        self.opened_at = Some(world::now());
        on_disk.pool.want(if fast { 2 } else { 0 });
        // The last one: whoever is above its share gets nothing of it, also if the keeper has not judged yet.
        if self.inner.drop_newest.load(Ordering::Acquire) && on_disk.pool.is_short() {
            self.inner.refusing.store(true, Ordering::Release);
        }
        active
    }

    /// The segment takes no more records.
    fn retire(&mut self, on_disk: &OnDisk, active: Active, truncate: bool) {
        lock(&on_disk.unsealed).push((active.header.life.number, active.at));
        // In this order: whoever syncs looks at the current segment first and at those waiting afterwards.
        self.inner.inbox.seal(active.sealing(truncate));
        *lock(&on_disk.current) = None;
    }

    /// Stages as many of the waiting records as the segment takes, and numbers them.
    fn stage(&mut self, waiting: &mut Batch) -> Vec<Waiting> {
        self.staged.clear();
        let mut chunk = Vec::with_capacity(waiting.len());
        let Some(active) = &self.active else { return chunk };
        while let Some(mut next) = waiting.pop_front() {
            self.inner.refuse_newest(&mut next.record);
            number(&mut next.record, self.next_sequence, &mut self.ordinals);
            if !active.stage(&mut self.staged, &next.record) {
                unnumber(&next.record, &mut self.ordinals);
                waiting.push_front(next);
                break;
            }
            self.next_sequence += 1;
            chunk.push(next);
        }
        chunk
    }

    /// Takes back the numbers of records that were not committed.
    fn rewind(&mut self, chunk: &[Waiting]) {
        for waiting in chunk.iter().rev() {
            unnumber(&waiting.record, &mut self.ordinals);
            self.next_sequence = waiting.record.sequence;
        }
    }

    fn write(&mut self, on_disk: &OnDisk) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Err(LogError::Closed) };
        if let Some(blocks) = &mut self.blocks {
            let started = world::now();
            active.write_through(&self.staged, blocks).map_err(|e| active.file.error(e))?;
            self.inner.count_sync(world::elapsed(started));
            return Ok(());
        }
        active.write(&self.staged)?;
        // The keeper sleeps while there is nothing to sync.
        if !on_disk.unsynced.swap(true, Ordering::AcqRel) {
            self.inner.inbox.wake();
        }
        Ok(())
    }

    /// The chunk is as safe as promised: into the figures, the answers out, the entries to the subscriber.
    fn publish(&mut self, on_disk: &OnDisk, chunk: Vec<Waiting>) {
        let Some(active) = &mut self.active else { return };
        let (records, answers): (Vec<Prepared>, Vec<_>) =
            chunk.into_iter().map(|w| (w.record, w.answer)).unzip();
        debug_assert_eq!(self.staged.len(), records.len());
        let locations = active.commit(&self.staged, &records);
        if active.at > active.header.bytes / 8 {
            on_disk.pool.want_at_least(1);
        }
        let cached = records.iter().filter(|r| !r.meta.routes.is_empty() && !r.payload.bytes().is_empty());
        self.inner.cache.insert(cached.map(|r| (r.sequence, r.payload.clone())));
        let bytes = self.staged.bytes();
        if self.inner.book(&records, &locations, bytes) {
            self.inner.inbox.wake();
        }
        hand_over(&self.inner, records, locations, answers, false);
    }
}

/// Gives a record its sequence and its routes their ordinals.
pub(crate) fn number(record: &mut Prepared, sequence: Sequence, ordinals: &mut Vec<u64>) {
    record.sequence = sequence;
    for route in &mut record.meta.routes {
        let at = route.slot as usize;
        if at >= ordinals.len() {
            ordinals.resize(at + 1, 0);
        }
        if let Some(next) = ordinals.get_mut(at) {
            route.ordinal = *next;
            *next += u64::from(route.spans.count());
        }
    }
}

fn unnumber(record: &Prepared, ordinals: &mut [u64]) {
    for route in record.meta.routes.iter().rev() {
        if let Some(next) = ordinals.get_mut(route.slot as usize) {
            *next = route.ordinal;
        }
    }
}
