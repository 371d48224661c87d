//! What the threads of one open log share, and the order in which locks are taken.
//!
//! Order: writer, then journal, then state; every other lock is taken alone, or below the writer's. The subscriber is
//! called with no lock held but the writer's.
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;

use crate::backlog::Indexes;
use crate::books::Ledger;
use crate::cache::Cache;
use crate::dead_letters::DeadLetters;
use crate::disk::{Disk, DiskFile};
use crate::durations::Durations;
use crate::format::Life;
use crate::journal::Journal;
use crate::keeper::Inbox;
use crate::memory::Budget;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::reader::Files;
use crate::reads::Reads;
use crate::segments::{Run, Segments};
use crate::settle::Settlements;
use crate::slots::SlotTable;
use crate::types::{Activity, Damage, LogError, Options, Sequence, Slot, Subscriber};
use crate::world::{Mutex, MutexGuard};

/// Trace keys are remembered for so long, and no more than so many bytes of them.
const TRACE_NANOS: u64 = 600 * 1_000_000_000;
const TRACE_BYTES: usize = 16 << 20;
/// What keeping one item costs besides its bytes.
const TRACE_ITEM: usize = 48;

/// Figures and positions that change together.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) segments: Segments,
    /// The last record in the figures.
    pub(crate) applied: Sequence,
    /// The segment being written.
    pub(crate) segment: u64,
    pub(crate) traces: Traces,
    pub(crate) damage: Damage,
    pub(crate) activity: Activity,
}

/// Trace keys of the last ten minutes.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    items: VecDeque<(u64, Bytes)>,
    bytes: usize,
    newest: u64,
}

impl Traces {
    /// The window is measured against the newest record, so that a clock set back or forth empties nothing.
    pub(crate) fn push(&mut self, received_unix_nano: u64, keys: &Bytes) {
        if keys.is_empty() {
            return;
        }
        self.newest = self.newest.max(received_unix_nano);
        self.bytes += keys.len() + TRACE_ITEM;
        // A copy: the caller's bytes may be a small part of a large buffer.
        self.items.push_back((received_unix_nano, Bytes::copy_from_slice(keys)));
        let limit = self.newest.saturating_sub(TRACE_NANOS);
        while let Some((received, oldest)) = self.items.front()
            && (*received < limit || self.bytes > TRACE_BYTES)
        {
            self.bytes -= oldest.len() + TRACE_ITEM;
            self.items.pop_front();
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<(u64, Bytes)> {
        self.items.iter().cloned().collect()
    }
}

/// On-disk parts; none in memory mode.
#[derive(Debug)]
pub(crate) struct OnDisk {
    pub(crate) disk: Disk,
    pub(crate) dir: PathBuf,
    pub(crate) epoch: u32,
    pub(crate) journal: Mutex<Journal>,
    pub(crate) slots: Mutex<SlotTable>,
    pub(crate) pool: Pool,
    pub(crate) files: Files,
    pub(crate) indexes: Indexes,
    /// The segment being written, for syncs from outside the writer.
    pub(crate) current: Mutex<Option<Arc<DiskFile>>>,
    /// Written since the last sync (buffered mode).
    pub(crate) unsynced: AtomicBool,
    /// A sync of the current segment failed outside the writer: it must be left.
    pub(crate) sync_failed: AtomicBool,
    /// Slots below this number have their owner on disk.
    pub(crate) slots_on_disk: AtomicU32,
    /// Segments that end without a seal on disk: (number, end).
    pub(crate) unsealed: Mutex<Vec<(u64, u64)>>,
    /// Last record covered by a checkpoint on disk.
    pub(crate) checkpointed: Mutex<Sequence>,
    /// Held while the log is open.
    pub(crate) lock: Mutex<Option<DiskFile>>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    /// Largest record that is taken.
    pub(crate) record_max: u64,
    pub(crate) state: Mutex<State>,
    pub(crate) queue: Queue,
    pub(crate) inbox: Inbox,
    pub(crate) settlements: Settlements,
    pub(crate) cache: Cache,
    pub(crate) reads: Reads,
    pub(crate) budget: Budget,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) syncs: Durations,
    pub(crate) on_disk: Option<OnDisk>,
    pub(crate) subscriber: Mutex<Option<Arc<dyn Subscriber>>>,
    /// Appends fail because of the disk.
    pub(crate) failed: AtomicBool,
    /// Appends fail because of the cap.
    pub(crate) full: AtomicBool,
    /// New spans are refused for those above their share, rather than old ones given up.
    pub(crate) drop_newest: AtomicBool,
    /// It is time to do so.
    pub(crate) refusing: AtomicBool,
    /// Something is carried over, or was and its old files are about to come back.
    pub(crate) carrying: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) slots: AtomicU32,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Waits for the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// The same error for every waiter of a commit.
pub(crate) fn same_error(error: &LogError) -> LogError {
    match error {
        LogError::Full => LogError::Full,
        LogError::Closed => LogError::Closed,
        LogError::Locked { path } => LogError::Locked { path: path.clone() },
        LogError::Format { path, reason } => LogError::Format { path: path.clone(), reason: reason.clone() },
        LogError::Damaged(sequence, reason) => LogError::Damaged(*sequence, reason.clone()),
        LogError::Invalid(reason) => LogError::Invalid(reason.clone()),
        LogError::Io { path, source } => {
            let copy = match source.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(source.kind(), source.to_string()),
            };
            LogError::Io { path: path.clone(), source: copy }
        }
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn subscriber(&self) -> Option<Arc<dyn Subscriber>> {
        lock(&self.subscriber).clone()
    }

    /// Calls the subscriber; its panic is its own problem and must not end a thread of the log.
    pub(crate) fn tell(&self, call: impl Fn(&dyn Subscriber)) {
        let Some(subscriber) = self.subscriber() else { return };
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&*subscriber)));
        if called.is_err() {
            tracing::error!("the subscriber of the log panicked");
        }
    }

    /// Books settled runs whose journal entries are written (`written`: the journal's count of writes).
    /// True if a segment has nothing wanted left.
    pub(crate) fn apply(&self, runs: &[Run], written: u64) -> bool {
        let mut freed = false;
        let mut let_go = 0;
        let mut state = self.state();
        let mut done = Vec::new();
        for run in runs {
            let end = run.first + run.spans;
            let Some(account) = state.ledger.account_mut(run.slot) else { continue };
            let open = account.done.missing(run.first, end);
            let fresh = account.settle(run.first, end, run.bytes, run.outcome);
            if fresh == 0 {
                continue;
            }
            let hint = run.entry.as_ref().map(|entry| entry.location.life.number);
            for (first, end) in open {
                freed |= state.segments.settle(hint, run.slot, first, end, written);
            }
            if let Some(entry) = run.entry.as_ref().filter(|entry| entry.settled(fresh)) {
                done.push(entry.sequence);
                let_go += entry.payload_len();
            }
        }
        drop(state);
        self.cache.remove(&done);
        if self.on_disk.is_none() && let_go > 0 {
            self.budget.release(let_go);
            self.full.store(false, Ordering::Release);
        }
        freed
    }

    /// While no segment is written to: files come back without anything being given up, as soon as the keeper and the
    /// disk have done what comes before.
    pub(crate) fn gets_files_back(&self) -> bool {
        self.carrying.load(Ordering::Acquire) || self.state().segments.iter().any(|(_, s)| s.is_settled())
    }

    /// Whether a segment's records lie there, now.
    pub(crate) fn has_place(&self, file: u32, life: Life) -> bool {
        self.state().segments.place(life.number) == Some((file, life))
    }

    pub(crate) fn known_slots(&self) -> Slot {
        self.slots.load(Ordering::Acquire)
    }
}
