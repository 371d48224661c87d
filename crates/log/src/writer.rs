//! The writer: one thread that turns the appends waiting for it into one write and one sync.
//!
//! It gathers while the previous sync runs: whoever comes meanwhile is in the next commit, and a lone request
//! is synced at once. Sequence and ordinals are given here, so that their order is the order on disk.
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::entry::{Entry, EntryRoute, Location, share_of};
use crate::format::{Life, Meta, SegmentHeader, StoredRoute};
use crate::segment::{Active, Prepared, Staged};
use crate::shared::{Inner, OnDisk, lock, now_unix_nano, same_error};
use crate::types::{Durability, LogError, NewRecord, Sequence, Slot};

/// An append waits for space this long before it is refused.
const SPACE_WAIT: Duration = Duration::from_secs(2);
/// After a failure of the disk the next attempt is made this much later.
const RETRY: Duration = Duration::from_secs(1);
/// One commit takes at most this many bytes (or one record).
const COMMIT_BYTES: u64 = 16 << 20;
/// Appends waiting hold at most this much; beyond, the log is full.
const QUEUE_BYTES: u64 = 256 << 20;
/// A segment that is full sooner than this asks for more files ahead.
const FAST: Duration = Duration::from_secs(5);
/// Memory mode: records are grouped so that `give_up` speaks of about one in so many parts of the cap.
const MEMORY_GROUPS: u64 = 64;

/// An append on its way.
#[derive(Debug)]
pub(crate) struct Waiting {
    record: Prepared,
    since: Instant,
    answer: oneshot::Sender<Result<Sequence, LogError>>,
}

impl Waiting {
    fn cost(&self) -> u64 {
        self.record.payload.bytes().len() as u64 + self.record.meta.trace_keys.len() as u64 + 512
    }

    fn refuse(self, error: LogError) {
        // Whoever asked may have gone.
        let _ = self.answer.send(Err(error));
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    items: VecDeque<Waiting>,
    bytes: u64,
    stopped: bool,
}

impl Queue {
    /// Hands a record to the writer.
    pub(crate) fn push(
        &self,
        record: NewRecord,
    ) -> Result<oneshot::Receiver<Result<Sequence, LogError>>, LogError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { record: prepare(record), since: Instant::now(), answer };
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(LogError::Closed);
        }
        let bytes = state.bytes + waiting.cost();
        if bytes > QUEUE_BYTES && !state.items.is_empty() {
            return Err(LogError::Full);
        }
        state.bytes = bytes;
        state.items.push_back(waiting);
        drop(state);
        self.work.notify_one();
        Ok(answered)
    }

    /// No more appends; the writer ends when it has done the waiting ones.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.work.notify_all();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// What is waiting, at most one commit of it. Empty after `most`; `None` when stopped and done.
    fn take(&self, most: Option<Duration>) -> Option<VecDeque<Waiting>> {
        let mut state = lock(&self.state);
        while state.items.is_empty() {
            if state.stopped {
                return None;
            }
            match most {
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(most) => {
                    let waited = self.work.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner);
                    state = waited.0;
                    if waited.1.timed_out() && state.items.is_empty() {
                        return Some(VecDeque::new());
                    }
                }
            }
        }
        let mut taken = VecDeque::new();
        let mut bytes = 0;
        while let Some(next) = state.items.front()
            && (taken.is_empty() || bytes + next.cost() <= COMMIT_BYTES)
            && let Some(next) = state.items.pop_front()
        {
            bytes += next.cost();
            taken.push_back(next);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        Some(taken)
    }
}

/// What can be done on the caller's side: the checksum, and the routes without their numbers.
fn prepare(record: NewRecord) -> Prepared {
    let spans = u64::from(record.payload.spans());
    let payload_len = record.payload.bytes().len() as u32;
    let routes = record.routes.into_iter().filter(|route| !route.spans.is_empty()).map(|route| StoredRoute {
        slot: route.slot,
        projection: route.projection,
        ordinal: 0,
        bytes: share_of(payload_len, 0, u64::from(route.spans.count()), spans) as u32,
        spans: route.spans,
    });
    Prepared {
        sequence: 0,
        received_unix_nano: record.received_unix_nano,
        accepted: record.accepted,
        meta: Meta {
            workspace: record.workspace,
            config_generation: record.config_generation,
            routes: routes.collect(),
            skips: record.skips,
            trace_keys: record.trace_keys,
        },
        payload_crc: crc32c::crc32c(record.payload.bytes()),
        payload: record.payload,
    }
}

pub(crate) struct Writer {
    inner: Arc<Inner>,
    next_sequence: Sequence,
    /// By slot: the number its next span gets.
    ordinals: Vec<u64>,
    next_segment: u64,
    active: Option<Active>,
    /// When the present segment was opened.
    opened_at: Option<Instant>,
    staged: Staged,
    retry_at: Option<Instant>,
    /// Memory mode: bytes in the current group.
    group_bytes: u64,
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

    pub(crate) fn run(mut self) {
        let inner = self.inner.clone();
        loop {
            let Some(batch) = inner.queue.take(self.retry_at.map(|_| RETRY)) else { break };
            match &inner.on_disk {
                Some(on_disk) => self.commit(on_disk, batch),
                None => self.keep(batch),
            }
        }
        if let (Some(on_disk), Some(active)) = (&inner.on_disk, self.active.take())
            && inner.is_closed()
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
                match self.active.take() {
                    Some(active) if active.is_empty() => {
                        // Opened for this very record: it cannot be a matter of room.
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
        self.retry_at = Some(Instant::now() + RETRY);
        waiting.into_iter().for_each(|w| w.refuse(same_error(error)));
    }

    /// True when a new segment could be opened, written and synced.
    fn recover_from_failure(&mut self, on_disk: &OnDisk) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        self.retry_at = Some(Instant::now() + RETRY);
        let Ok(Some(taken)) = on_disk.pool.take(0) else { return false };
        let mut active = self.activate(on_disk, taken);
        let proven = active.write_header().and_then(|()| active.file.sync().map_err(|e| active.file.error(e)));
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
            if since.elapsed() >= SPACE_WAIT || self.inner.queue.is_stopped() {
                return Err(NoSegment::Full);
            }
            self.inner.inbox.wake();
            on_disk.pool.wait(Duration::from_millis(20));
        }
    }

    fn activate(&mut self, on_disk: &OnDisk, taken: crate::pool::Taken) -> Active {
        let number = self.next_segment;
        self.next_segment += 1;
        let nonce = RandomState::new().build_hasher().finish() as u32;
        let header = SegmentHeader {
            life: Life { number, epoch: on_disk.epoch, nonce },
            first_sequence: self.next_sequence,
            bytes: taken.bytes,
            created_unix_nano: now_unix_nano(),
            ends: lock(&on_disk.unsealed).clone(),
        };
        let active = Active::new(taken.file, taken.handle, header);
        let mut state = self.inner.state();
        state.segments.open(number, taken.file, taken.bytes);
        state.segment = number;
        drop(state);
        *lock(&on_disk.current) = Some(active.file.clone());
        // More files are made ahead when the last one did not last.
        let fast = self.opened_at.is_some_and(|at| at.elapsed() < FAST);
        self.opened_at = Some(Instant::now());
        on_disk.pool.want(if fast { 2 } else { 0 });
        active
    }

    /// The segment takes no more records.
    fn retire(&mut self, on_disk: &OnDisk, active: Active, truncate: bool) {
        lock(&on_disk.unsealed).push((active.header.life.number, active.at));
        *lock(&on_disk.current) = None;
        self.inner.inbox.seal(active.into_sealing(truncate));
    }

    /// Stages as many of the waiting records as the segment takes, and numbers them.
    fn stage(&mut self, waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
        self.staged.clear();
        let mut chunk = Vec::with_capacity(waiting.len());
        let Some(active) = &self.active else { return chunk };
        while let Some(mut next) = waiting.pop_front() {
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
            let started = Instant::now();
            active.file.sync().map_err(|e| active.file.error(e))?;
            self.inner.count_sync(started.elapsed());
        } else {
            on_disk.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The chunk is as safe as promised: into the figures, the answers out, the entries to the subscriber.
    fn publish(&mut self, on_disk: &OnDisk, chunk: Vec<Waiting>) {
        let Some(active) = &mut self.active else { return };
        let (records, answers): (Vec<Prepared>, Vec<_>) = chunk.into_iter().map(|w| (w.record, w.answer)).unzip();
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

    /// Memory mode: the same without a file.
    fn keep(&mut self, mut waiting: VecDeque<Waiting>) {
        while let Some(first) = waiting.front() {
            let since = first.since;
            let mut chunk = Vec::new();
            while let Some(next) = waiting.front() {
                let wanted = if next.record.meta.routes.is_empty() { 0 } else { next.record.payload.bytes().len() };
                if !self.inner.budget.take(wanted as u64) {
                    break;
                }
                let Some(mut next) = waiting.pop_front() else { break };
                number(&mut next.record, self.next_sequence, &mut self.ordinals);
                self.next_sequence += 1;
                self.group_bytes += wanted as u64;
                chunk.push(next);
            }
            if !chunk.is_empty() {
                self.keep_chunk(chunk);
                continue;
            }
            if since.elapsed() >= SPACE_WAIT || self.inner.queue.is_stopped() {
                self.inner.full.store(true, Ordering::Release);
                if let Some(first) = waiting.pop_front() {
                    first.refuse(LogError::Full);
                }
                continue;
            }
            self.close_group();
            self.inner.budget.ask();
            self.inner.inbox.wake();
            self.inner.budget.wait(Duration::from_millis(20));
        }
    }

    fn keep_chunk(&mut self, chunk: Vec<Waiting>) {
        self.inner.full.store(false, Ordering::Release);
        let number = self.next_segment;
        let mut state = self.inner.state();
        if state.segment != number || state.segments.file(number).is_none() {
            state.segments.open(number, 0, 0);
            state.segment = number;
        }
        drop(state);
        let (records, answers): (Vec<Prepared>, Vec<_>) = chunk.into_iter().map(|w| (w.record, w.answer)).unzip();
        let locations: Vec<Location> = records
            .iter()
            .map(|record| Location {
                file: 0,
                life: Life { number, epoch: 1, nonce: 0 },
                offset: 0,
                meta_len: 0,
                payload_len: record.payload.bytes().len() as u32,
                spans: record.payload.spans(),
            })
            .collect();
        let bytes = locations.iter().map(|l| u64::from(l.payload_len)).sum();
        self.inner.book(&records, &locations, bytes);
        hand_over(&self.inner, records, locations, answers, true);
        if self.group_bytes > self.inner.options.max_bytes / MEMORY_GROUPS {
            self.close_group();
        }
    }

    fn close_group(&mut self) {
        if self.group_bytes == 0 {
            return;
        }
        self.group_bytes = 0;
        let mut state = self.inner.state();
        if let Some(group) = state.segments.get_mut(self.next_segment) {
            group.sealed = true;
        }
        for number in state.segments.returnable(Sequence::MAX, u64::MAX) {
            state.segments.remove(number);
        }
        self.next_segment += 1;
    }
}

/// Gives a record its sequence and its routes their ordinals.
fn number(record: &mut Prepared, sequence: Sequence, ordinals: &mut Vec<u64>) {
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

/// Answers the waiters, then tells the subscriber, in sequence order.
fn hand_over(
    inner: &Inner,
    records: Vec<Prepared>,
    locations: Vec<Location>,
    answers: Vec<oneshot::Sender<Result<Sequence, LogError>>>,
    strong: bool,
) {
    for (record, answer) in records.iter().zip(answers) {
        let _ = answer.send(Ok(record.sequence));
    }
    for (record, location) in records.into_iter().zip(locations) {
        let routes = record.meta.routes.into_iter().map(EntryRoute::whole).collect();
        let entry = Arc::new(Entry::new(
            record.sequence,
            record.received_unix_nano,
            record.meta.workspace,
            routes,
            location,
            Some(&record.payload),
            strong,
        ));
        inner.tell(|subscriber| subscriber.committed(entry.clone()));
    }
}

impl Inner {
    /// Puts committed records into the figures; true if a checkpoint is due.
    fn book(&self, records: &[Prepared], locations: &[Location], bytes: u64) -> bool {
        let mut state = self.state();
        for (record, location) in records.iter().zip(locations) {
            state.ledger.accepted += u64::from(record.accepted);
            for route in &record.meta.routes {
                state.ledger.select(route, record.received_unix_nano);
            }
            for skip in &record.meta.skips {
                state.ledger.skip(skip.slot, skip.reason, skip.spans);
            }
            let spans = record.meta.routes.iter().map(|r| (r.slot, u64::from(r.spans.count())));
            state.segments.want(location.life.number, record.sequence, spans);
            state.traces.push(record.received_unix_nano, &record.meta.trace_keys);
            state.applied = record.sequence;
        }
        state.activity.records += records.len() as u64;
        state.activity.commits += 1;
        state.activity.bytes += bytes;
        self.inbox.is_checkpoint_due(state.activity.bytes)
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        let mut state = self.state();
        state.activity.syncs += 1;
        state.activity.sync_time += took;
        state.activity.longest_sync = state.activity.longest_sync.max(took);
    }

    /// A record may name a slot only when the slot's owner is on disk: otherwise a power cut could give the
    /// number, and with it the record, to another destination.
    fn slots_on_disk(&self, on_disk: &OnDisk, highest: Slot) -> Result<(), LogError> {
        if highest < on_disk.slots_on_disk.load(Ordering::Acquire) {
            return Ok(());
        }
        let known = self.known_slots();
        self.settlements.flush(Some(Duration::from_secs(2)))?;
        let journal = lock(&on_disk.journal).file.clone();
        journal.sync().map_err(|e| journal.error(e))?;
        on_disk.slots_on_disk.fetch_max(known, Ordering::AcqRel);
        Ok(())
    }
}
