//! Appends on their way to the writer, bounded by bytes.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::entry::share_of;
use crate::format::{Meta, StoredRoute};
use crate::segment::Prepared;
use crate::shared::lock;
use crate::types::{LogError, NewRecord, Sequence};
use crate::world::{self, Condvar, Mutex};

/// One commit takes at most this many bytes (or one record).
const COMMIT_BYTES: u64 = 16 << 20;
/// Appends waiting hold at most this much; beyond, the log is full.
const QUEUE_BYTES: u64 = 256 << 20;

/// Where the answer to an append goes.
pub(crate) type Answer = oneshot::Sender<Result<Sequence, LogError>>;

/// An append on its way.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) record: Prepared,
    pub(crate) since: Instant,
    pub(crate) answer: Answer,
}

impl Waiting {
    fn cost(&self) -> u64 {
        self.record.payload.bytes().len() as u64 + self.record.meta.trace_keys.len() as u64 + 512
    }

    pub(crate) fn refuse(self, error: LogError) {
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
    /// The writer waits for work.
    writer_waits: bool,
    stopped: bool,
}

impl Queue {
    /// Hands a record to the writer.
    pub(crate) fn push(
        &self,
        record: Prepared,
    ) -> Result<oneshot::Receiver<Result<Sequence, LogError>>, LogError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { record, since: world::now(), answer };
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
        // Telling costs a system call, also when nobody listens.
        let writer_waits = std::mem::take(&mut state.writer_waits);
        drop(state);
        if writer_waits {
            self.work.notify_one();
        }
        Ok(answered)
    }

    /// No more appends; the writer ends when it has done the waiting ones.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.work.notify_all();
    }

    /// An append waits for the writer.
    pub(crate) fn is_waiting(&self) -> bool {
        !lock(&self.state).items.is_empty()
    }

    /// Nothing waits, and appends are still taken.
    pub(crate) fn is_clear(&self) -> bool {
        let state = lock(&self.state);
        state.items.is_empty() && !state.stopped
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// What is waiting, at most one commit of it. Empty after `most`; `None` when stopped and done.
    pub(crate) fn take(&self, most: Option<Duration>) -> Option<VecDeque<Waiting>> {
        let mut state = lock(&self.state);
        while state.items.is_empty() {
            if state.stopped {
                return None;
            }
            state.writer_waits = true;
            match most {
                None => state = self.work.wait(state),
                Some(most) => {
                    let (waited, timed_out) = self.work.wait_timeout(state, most);
                    state = waited;
                    if timed_out && state.items.is_empty() {
                        return Some(VecDeque::new());
                    }
                }
            }
        }
        state.writer_waits = false;
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

/// What can be done on the caller's side: the checksum if it is for a disk, and the routes without their numbers.
pub(crate) fn prepare(record: NewRecord, is_for_disk: bool) -> Prepared {
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
            origin: record.origin,
            kept: None,
        },
        payload_crc: if is_for_disk { crc32c::crc32c(record.payload.bytes()) } else { 0 },
        payload: record.payload,
    }
}
