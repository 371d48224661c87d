//! The writer: one thread that turns the appends waiting for it into one write and one sync.
//!
//! It gathers while the previous sync runs: whoever comes meanwhile is in the next commit, and whom that sync answered
//! has as long again to be in it too, so that clients who come back at once share one sync instead of taking turns. A
//! lone request is synced at once. Sequence and ordinals are given here, so that their order is the order on disk.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backlog::Growing;
use crate::commit::hand_over;
use crate::format::{Life, SegmentHeader};
use crate::pool::Taken;
use crate::queue::Waiting;
use crate::segment::{Active, Prepared, Staged};
use crate::shared::{Inner, OnDisk, lock, same_error};
use crate::types::{Durability, LogError, Sequence};
use crate::world;

/// An append waits for space this long before it is refused.
pub(crate) const SPACE_WAIT: Duration = Duration::from_secs(2);
/// After a failure of the disk the next attempt is made this much later.
const RETRY: Duration = Duration::from_secs(1);
/// A segment that is full sooner than this asks for more files ahead.
const FAST: Duration = Duration::from_secs(5);
/// Nobody waits longer than this for the company of others.
const PATIENCE_MAX: Duration = Duration::from_millis(1);

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
    retry_at: Option<Instant>,
    /// Memory mode: bytes in the current group.
    pub(crate) group_bytes: u64,
}

/// Why no segment could be opened.
enum NoSegment {
    /// The cap; the first waiting append has waited long enough.
    Full,
    Failed(LogError),
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>, next_sequence: Sequence, next_segment: u64) -> Writer {
        let ordinals = inner.state().ledger.accounts.iter().map(|a| a.next_ordinal).collect();
        Writer {
            inner,
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

    pub(crate) fn run(mut self, on_disk: &OnDisk) {
        let inner = self.inner.clone();
        // As long as the last commit took: it doubles the way of a request at most.
        let mut patience = Duration::ZERO;
        while let Some(batch) = inner.queue.take(self.retry_at.map(|_| RETRY), patience) {
            let began = world::now();
            self.commit(on_disk, batch);
            patience = world::elapsed(began).min(PATIENCE_MAX);
        }
        if inner.is_closed()
            && let Some(active) = self.active.take()
        {
            self.retire(on_disk, active, true);
        }
    }

    /// Writes everything in `waiting`, or answers why not.
    fn commit(&mut self, on_disk: &OnDisk, mut waiting: VecDeque<Waiting>) {
        if self.retry_at.is_some() && !self.recover_from_failure(on_disk) {
            let path = on_disk.dir.clone();
            let failing = LogError::Io { path, source: std::io::Error::other("the last write failed") };
            return waiting.into_iter().for_each(|w| w.refuse(same_error(&failing)));
        }
        if on_disk.sync_failed.swap(false, Ordering::AcqRel)
            && let Some(active) = self.active.take()
        {
            self.retire(on_disk, active, false);
        }
        if let Some(highest) = waiting.iter().filter_map(|w| w.record.highest_slot()).max()
            && let Err(error) = self.inner.slots_on_disk(on_disk, highest)
        {
            return self.fail(waiting, &error);
        }
        let mut attempts = 0;
        while let Some(first) = waiting.front() {
            if self.active.is_none() {
                match self.open_segment(on_disk, Active::bytes_for(&first.record), first.since) {
                    Ok(active) => self.active = Some(active),
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
    }

    fn fail(&mut self, waiting: VecDeque<Waiting>, error: &LogError) {
        self.inner.failed.store(true, Ordering::Release);
        // The keeper asks nobody to give anything up for a disk that fails.
        self.inner.inbox.wake();
        self.retry_at = Some(world::now() + RETRY);
        waiting.into_iter().for_each(|w| w.refuse(same_error(error)));
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

    /// A segment with room for `need` bytes; waits for space as long as an append that came at `since` may.
    fn open_segment(&mut self, on_disk: &OnDisk, need: u64, since: Instant) -> Result<Active, NoSegment> {
        loop {
            match on_disk.pool.take(need) {
                Ok(Some(taken)) => {
                    self.inner.full.store(false, Ordering::Release);
                    return Ok(self.activate(on_disk, taken));
                }
                Ok(None) => {}
                Err(error) => return Err(NoSegment::Failed(error)),
            }
            if world::elapsed(since) >= SPACE_WAIT || self.inner.queue.is_stopped() {
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
    fn stage(&mut self, waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
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
        active.write(&self.staged)?;
        if self.inner.options.durability == Durability::Durable {
            let started = world::now();
            active.file.sync().map_err(|e| active.file.error(e))?;
            self.inner.count_sync(world::elapsed(started));
        } else {
            // The keeper sleeps while there is nothing to sync.
            if !on_disk.unsynced.swap(true, Ordering::AcqRel) {
                self.inner.inbox.wake();
            }
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
