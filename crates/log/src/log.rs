//! The log as others see it: opening, the calls, closing.
mod threads;

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tracecast_otlp::Payload;

use self::threads::{Handle, start};
use crate::backlog::{Indexes, Pending};
use crate::cache::Cache;
use crate::dead_letters::{DeadLetters, Limits};
use crate::disk::{Disk, DiskFile};
use crate::durations::Durations;
use crate::entry::{Entry, Stored};
use crate::format::{HEADER_PAGE, SLOT_MAX};
use crate::history::Past;
use crate::journal::Intent;
use crate::keeper::Inbox;
use crate::memory::{self, Budget};
use crate::pool::Pool;
use crate::queue::{Queue, prepare};
use crate::reader::Files;
use crate::reads::{self, Reads};
use crate::recovery::{self, Opened};
use crate::settle::{Item, Settlements};
use crate::shared::{Inner, OnDisk, State, lock};
use crate::types::{
    Activity, Backlog, Books, Damage, Durability, LogError, NewRecord, OnFull, Options, Outcome, Recovered,
    Sequence, Settlement, Slot, SlotKey, Subscriber,
};
use crate::world::Mutex;
use crate::writer;

/// Smallest segment file.
const SEGMENT_MIN: u64 = 4 * HEADER_PAGE;
/// How long `flush` waits for a disk that does not answer.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

/// The shared log. Clones are the same log.
///
/// Dropping the last clone without [`Log::close`] is like a crash: nothing acknowledged is lost, the next start
/// reads the tail.
#[derive(Clone, Debug)]
pub struct Log {
    handle: Arc<Handle>,
}

impl Log {
    /// Opens (or creates) the log and recovers. Blocking.
    pub fn open(options: Options) -> Result<(Log, Recovered), LogError> {
        Log::open_on(Disk::default(), options, Limits::default())
    }

    pub(crate) fn open_on(
        disk: Disk,
        mut options: Options,
        limits: Limits,
    ) -> Result<(Log, Recovered), LogError> {
        if options.durability == Durability::Memory {
            let record_max = options.max_bytes;
            let dead_letters = DeadLetters::in_memory(limits);
            let inner = inner(options, record_max, State::default(), None, dead_letters);
            let recovered = Recovered { backlog: Vec::new(), trace_keys: Vec::new(), notes: Vec::new() };
            return Ok((Log { handle: Arc::new(start(inner, 1, 1)?) }, recovered));
        }
        options.segment_bytes =
            options.segment_bytes.min(options.max_bytes / 4).max(SEGMENT_MIN).next_multiple_of(HEADER_PAGE);
        // Below four segments there would be nothing to give up while one is being written.
        options.max_bytes = options.max_bytes.max(4 * options.segment_bytes);
        let dir = options.dir.clone();
        let lock_file = acquire(&disk, &dir)?;
        let opened = recovery::recover(&disk, &dir, &options)?;
        for note in &opened.recovered.notes {
            tracing::warn!("log recovery: {note}");
        }
        let dead_letters = DeadLetters::open(disk.clone(), dir.join("dead-letters"), limits)?;
        let Opened { state, recovered, epoch, next_sequence, next_segment, journal, .. } = opened;
        let pool = Pool::new(
            disk.clone(),
            dir.join("segments"),
            &options,
            opened.free,
            opened.segment_files_bytes,
            opened.next_file,
        );
        let on_disk = OnDisk {
            disk,
            dir,
            epoch,
            journal: Mutex::new(journal),
            slots: Mutex::new(opened.slots),
            pool,
            files: Files::default(),
            indexes: Indexes::default(),
            current: Mutex::new(None),
            unsynced: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            slots_on_disk: AtomicU32::new(state.ledger.len() as u32),
            unsealed: Mutex::new(opened.unsealed),
            checkpointed: Mutex::new(state.applied),
            lock: Mutex::new(Some(lock_file)),
        };
        let record_max = (options.max_bytes / 2).min(u64::from(u32::MAX / 2));
        let inner = inner(options, record_max, state, Some(on_disk), dead_letters);
        let handle = start(inner, next_sequence, next_segment)?;
        Ok((Log { handle: Arc::new(handle) }, recovered))
    }

    fn inner(&self) -> &Inner {
        &self.handle.inner
    }

    /// Registers the only subscriber; call before the first append. The log lets go of it at `close`.
    pub fn subscribe(&self, subscriber: Arc<dyn Subscriber>) {
        *lock(&self.inner().subscriber) = Some(subscriber);
    }

    /// Says who pays when the cap is reached; the oldest go unless it is called.
    pub fn set_on_full(&self, on_full: OnFull) {
        let is_newest = on_full == OnFull::DropNewest;
        self.inner().drop_newest.store(is_newest, Ordering::Release);
        if !is_newest {
            self.inner().refusing.store(false, Ordering::Release);
        }
        self.inner().inbox.wake();
    }

    /// The slot of this destination, made (and journaled) when new.
    pub fn slot(&self, key: SlotKey) -> Slot {
        self.inner().slot(key)
    }

    /// The destination of a slot.
    pub fn slot_key(&self, slot: Slot) -> Option<SlotKey> {
        self.inner().state().ledger.account(slot)?.key
    }

    /// Every slot that was ever made, with its destination.
    pub fn slots(&self) -> Vec<(Slot, SlotKey)> {
        crate::keeper::slot_table(&self.inner().state())
    }

    /// Resolves when the record is as durable as the mode promises.
    ///
    /// `Full` after up to 2 s without space, up to 8 s while files are on their way back, `Io` while the disk fails: both
    /// mean "try again later".
    /// `Invalid` is final.
    pub async fn append(&self, record: NewRecord) -> Result<Sequence, LogError> {
        let inner = self.inner();
        if inner.is_closed() {
            return Err(LogError::Closed);
        }
        check(inner, &record)?;
        let mut record = prepare(record, inner.on_disk.is_some());
        let writer = &self.handle.writer;
        if inner.on_disk.is_none() {
            record = match memory::keep_now(inner, writer, record) {
                Ok(sequence) => return Ok(sequence),
                Err(record) => *record,
            };
        }
        let (answered, batch) = inner.queue.push(record)?;
        if let (Some(batch), Some(on_disk)) = (batch, &inner.on_disk) {
            writer::commit_now(inner, on_disk, writer, batch);
        }
        answered.await.unwrap_or(Err(LogError::Closed))
    }

    /// The record's payload if it is in memory.
    pub fn in_memory(&self, entry: &Entry) -> Option<Stored> {
        let payload =
            entry.in_memory().or_else(|| Some(entry.share(self.handle.inner.cache.get(entry.sequence)?)));
        payload.map(Stored::whole)
    }

    /// The record's payload, from memory or read back; what was carried over may have only some of its spans left.
    pub async fn stored(&self, entry: &Entry) -> Result<Stored, LogError> {
        if let Some(stored) = self.in_memory(entry) {
            return Ok(stored);
        }
        let stored = reads::payload(&self.handle.inner, entry.sequence, entry.location).await?;
        match stored.kept {
            None => Ok(Stored::whole(entry.share(stored.payload))),
            Some(_) => Ok(stored),
        }
    }

    /// The payload of [`Log::stored`].
    pub async fn payload(&self, entry: &Entry) -> Result<Arc<Payload>, LogError> {
        Ok(self.stored(entry).await?.payload)
    }

    /// What the slot has pending from an ordinal on, oldest first, at most `max_records` records of it. Reads
    /// indexes, never payloads.
    ///
    /// Spans that turn out to be unreadable are settled as `Dropped(Damaged)` on the way. In memory mode entries
    /// live with those who got them from [`Subscriber::committed`], and there is nothing to read on.
    pub async fn pending(
        &self,
        slot: Slot,
        from_ordinal: u64,
        max_records: usize,
    ) -> Result<Pending, LogError> {
        if self.inner().is_closed() {
            return Err(LogError::Closed);
        }
        reads::page(&self.handle.inner, slot, from_ordinal, max_records).await
    }

    #[cfg(test)]
    pub(crate) fn pending_now(&self, slot: Slot, from: u64, max: usize) -> Result<Pending, LogError> {
        crate::backlog::pending(self.inner(), slot, from, max)
    }

    /// What the slot has pending; `None` if nothing.
    pub fn backlog(&self, slot: Slot) -> Option<Backlog> {
        self.inner().state().ledger.backlog(slot)
    }

    /// Whether what is pending can be read again, see [`Log::pending`].
    pub fn is_readable(&self) -> bool {
        self.inner().on_disk.is_some()
    }

    /// The ordinal behind the slot's last pending span in segments that end at `sequence` or before: what
    /// [`Subscriber::give_up`] speaks of, for who has not read it.
    pub fn end_upto(&self, slot: Slot, sequence: Sequence) -> u64 {
        self.inner().state().segments.end_upto(slot, sequence)
    }

    /// Marks a stretch of a slot's ordinals final without reading its records; those that are final already stay as
    /// they are. Journaled as [`Log::settle`] is. Does nothing in memory mode.
    pub fn settle_range(&self, slot: Slot, ordinals: Range<u64>, outcome: Outcome) {
        self.inner().settle_range(slot, ordinals, outcome);
    }

    /// Shows the records received at `from_unix_nano` or later that are still held to `each`, oldest first, until it
    /// breaks off; answers when the oldest record still held was received (`None`: there is none). Nothing in memory
    /// mode. Blocking.
    pub fn history(
        &self,
        from_unix_nano: u64,
        each: impl FnMut(&Past<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, LogError> {
        self.inner().history(from_unix_nano, each)
    }

    /// Marks spans final. Cheap; journaled within 20 ms and only then visible in `books`.
    pub fn settle(&self, settlement: Settlement) {
        self.inner().settle(settlement);
    }

    /// The same for what ended together: in one write, so that a start after a crash finds all of it or nothing.
    pub fn settle_all(&self, settlements: Vec<Settlement>) {
        self.inner().settle_all(settlements);
    }

    /// Says that a batch of these spans (ordinals, in its order) is about to be sent for the first time; resolves when
    /// that is journaled, so that a start after a crash can form the same batch. At once in memory mode.
    pub async fn intend(&self, slot: Slot, ranges: Vec<Range<u64>>) -> Result<(), LogError> {
        let inner = self.inner();
        if inner.on_disk.is_none() {
            return Ok(());
        }
        let (written, done) = oneshot::channel();
        inner.settlements.push(Item::Intent(Intent { slot, ranges }, written));
        done.await.map_err(|_| LogError::Closed)
    }

    /// The batches of a slot that may have been sent and of which nothing has ended yet.
    pub fn intents(&self, slot: Slot) -> Vec<Vec<Range<u64>>> {
        self.inner().state().ledger.account(slot).map(|account| account.open_intents()).unwrap_or_default()
    }

    /// Waits until every settlement made so far is journaled and visible. Blocking, 10 s at most.
    pub fn flush(&self) -> Result<(), LogError> {
        match self.inner().on_disk {
            Some(_) => self.inner().settlements.flush(Some(FLUSH_WAIT)),
            None => Ok(()),
        }
    }

    /// Copies of refused spans.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.inner().dead_letters
    }

    /// A destination's figures; zeros for a slot nobody made.
    pub fn books(&self, slot: Slot) -> Books {
        self.inner().state().ledger.account(slot).map(|a| a.books()).unwrap_or_default()
    }

    /// Spans accepted since ever (gateway-wide).
    pub fn accepted(&self) -> u64 {
        self.inner().state().ledger.accepted
    }

    /// Bytes on disk (or held, in memory mode), without dead letters.
    pub fn bytes(&self) -> u64 {
        match &self.inner().on_disk {
            Some(on_disk) => on_disk.pool.bytes() + lock(&on_disk.journal).at,
            None => self.inner().budget.held(),
        }
    }

    /// How much of `max_bytes` is in use: files that hold something or are being filled, not those kept to be written
    /// again.
    pub fn used_bytes(&self) -> u64 {
        match &self.inner().on_disk {
            Some(on_disk) => on_disk.pool.used_bytes(),
            None => self.inner().budget.held(),
        }
    }

    /// Bytes of payloads held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.inner().cache.bytes() + self.inner().budget.held()
    }

    /// The cap on segment files (or on wanted payload, in memory mode).
    pub fn max_bytes(&self) -> u64 {
        self.inner().options.max_bytes
    }

    /// What was lost or set aside since the data dir was made.
    pub fn damage(&self) -> Damage {
        self.inner().state().damage
    }

    /// Commits and syncs of this process.
    pub fn activity(&self) -> Activity {
        self.inner().state().activity
    }

    /// How long the syncs of segments took, since the start of the process.
    pub fn syncs(&self) -> &Durations {
        &self.inner().syncs
    }

    /// The newest are to be refused, and the keeper has not seen yet that room is short.
    #[cfg(test)]
    pub(crate) fn has_yet_to_refuse(&self) -> bool {
        let inner = self.inner();
        let is_tight = inner.on_disk.as_ref().is_some_and(|on_disk| on_disk.pool.is_tight(false, true));
        is_tight && inner.drop_newest.load(Ordering::Acquire) && !inner.refusing.load(Ordering::Acquire)
    }

    /// False while the log cannot take records (full, failed disk): ingest answers 503.
    pub fn is_writable(&self) -> bool {
        let inner = self.inner();
        !inner.is_closed() && !inner.failed.load(Ordering::Acquire) && !inner.full.load(Ordering::Acquire)
    }

    /// Syncs everything and writes the checkpoint. Appends fail with `Closed` afterwards. Blocking.
    pub fn close(&self) {
        self.inner().closed.store(true, Ordering::Release);
        self.handle.end();
    }
}

fn inner(
    options: Options,
    record_max: u64,
    state: State,
    on_disk: Option<OnDisk>,
    dead_letters: DeadLetters,
) -> Arc<Inner> {
    Arc::new(Inner {
        record_max,
        slots: AtomicU32::new(state.ledger.len() as u32),
        state: Mutex::new(state),
        queue: Queue::new(on_disk.is_some()),
        inbox: Inbox::new(),
        settlements: Settlements::default(),
        cache: Cache::new(if on_disk.is_some() { options.cache_bytes } else { 0 }),
        reads: Reads::default(),
        budget: Budget::new(options.max_bytes),
        dead_letters,
        syncs: Durations::default(),
        on_disk,
        options,
        subscriber: Mutex::new(None),
        failed: AtomicBool::new(false),
        full: AtomicBool::new(false),
        drop_newest: AtomicBool::new(false),
        refusing: AtomicBool::new(false),
        carrying: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    })
}

/// Makes the directory and takes its lock.
fn acquire(disk: &Disk, dir: &Path) -> Result<DiskFile, LogError> {
    disk.make_dir(dir).map_err(|source| LogError::Io { path: dir.to_path_buf(), source })?;
    let path = dir.join("lock");
    let io = |source| LogError::Io { path: path.clone(), source };
    let file = disk.open(&path, true).map_err(io)?;
    if file.try_lock().map_err(io)? { Ok(file) } else { Err(LogError::Locked { path }) }
}

/// Refuses what could never be kept, before it takes a number.
fn check(inner: &Inner, record: &NewRecord) -> Result<(), LogError> {
    let invalid = |reason: String| Err(LogError::Invalid(reason));
    let known = inner.known_slots().min(SLOT_MAX);
    let slots = record.routes.iter().map(|r| r.slot).chain(record.skips.iter().map(|s| s.slot));
    if let Some(slot) = slots.filter(|slot| *slot >= known).max() {
        return invalid(format!("slot {slot} was never made"));
    }
    let spans = record.payload.spans();
    if let Some(route) = record.routes.iter().find(|r| r.spans.len() != spans) {
        let len = route.spans.len();
        return invalid(format!(
            "a route of slot {} speaks of {len} spans, the payload has {spans}",
            route.slot
        ));
    }
    // Header, routing and index come on top; they are small against half the cap.
    let bytes = record.payload.bytes().len() as u64 + record.trace_keys.len() as u64;
    if bytes > inner.record_max {
        return invalid(format!("{bytes} bytes, at most {} fit the log", inner.record_max));
    }
    Ok(())
}
