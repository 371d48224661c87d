//! Appends on their way to the writer, bounded by bytes.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::entry::share_of;
use crate::format::{Meta, StoredRoute};
use crate::segment::Prepared;
use crate::shared::lock;
use crate::types::{LogError, NewRecord, Sequence};
use crate::world::{self, Condvar, Mutex, MutexGuard};

/// One commit takes at most this many bytes (or one record).
const COMMIT_BYTES: u64 = 16 << 20;
/// A commit of so many bytes gains little by more company.
const COMMIT_ENOUGH: u64 = 1 << 20;
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
    /// The writer waits until so many are here; 0: it does not wait.
    wanted: usize,
    /// Appends of the last commit.
    taken: usize,
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
        let is_awaited = state.wanted > 0 && (state.items.len() >= state.wanted || bytes >= COMMIT_ENOUGH);
        if is_awaited {
            state.wanted = 0;
        }
        drop(state);
        if is_awaited {
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
    ///
    /// Those whom the last commit answered may be back soon, and together with those who came meanwhile they make one
    /// commit instead of two: they are waited for, as long as `patience`. Who was alone waits for nobody.
    pub(crate) fn take(&self, most: Option<Duration>, patience: Duration) -> Option<VecDeque<Waiting>> {
        let mut state = lock(&self.state);
        let company = state.taken + state.items.len();
        if company > 1 {
            state = self.gather(state, company, patience);
        }
        while state.items.is_empty() {
            if state.stopped {
                return None;
            }
            state.wanted = 1;
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
        state.wanted = 0;
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
        state.taken = taken.len();
        Some(taken)
    }

    /// Waits until so many are here, or enough bytes, or `patience` is over.
    fn gather<'a>(
        &'a self,
        mut state: MutexGuard<'a, QueueState>,
        company: usize,
        patience: Duration,
    ) -> MutexGuard<'a, QueueState> {
        let until = world::now() + patience;
        while !state.stopped && state.items.len() < company && state.bytes < COMMIT_ENOUGH {
            let left = until.saturating_duration_since(world::now());
            if left.is_zero() {
                break;
            }
            state.wanted = company;
            state = self.work.wait_timeout(state, left).0;
        }
        state
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use std::sync::Arc;
    use tracecast_otlp::Payload;

    use super::*;
    use crate::types::Origin;

    /// Longer than any test runs.
    const FOR_EVER: Duration = Duration::from_secs(1 << 20);

    fn push(queue: &Queue, bytes: usize) {
        let record = NewRecord {
            workspace: [7; 16],
            config_generation: 0,
            received_unix_nano: 0,
            accepted: 1,
            routes: Vec::new(),
            skips: Vec::new(),
            trace_keys: Bytes::new(),
            origin: Origin::default(),
            payload: Arc::new(Payload::new(Bytes::from(vec![0; bytes]), 1)),
        };
        queue.push(prepare(record, false)).expect("there is room");
    }

    fn taken(queue: &Queue, patience: Duration) -> usize {
        queue.take(None, patience).expect("not stopped").len()
    }

    /// A queue whose last commit was of two.
    fn two_were_answered() -> Queue {
        let queue = Queue::default();
        push(&queue, 10);
        push(&queue, 10);
        assert_eq!(taken(&queue, FOR_EVER), 2);
        queue
    }

    /// A writer waits for so many, and takes them when the last of them has come.
    fn takes_what_it_waits_for(queue: &Queue, appends: usize) {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| taken(queue, FOR_EVER));
            while lock(&queue.state).wanted != appends {
                std::thread::yield_now();
            }
            let here = lock(&queue.state).items.len();
            (here..appends).for_each(|_| push(queue, 10));
            assert_eq!(writer.join().unwrap(), appends);
        });
    }

    #[test]
    fn who_is_alone_waits_for_nobody() {
        let queue = Queue::default();
        for _ in 0..3 {
            takes_what_it_waits_for(&queue, 1);
        }
    }

    #[test]
    fn those_who_were_answered_are_waited_for() {
        let queue = two_were_answered();
        // One came meanwhile; with the two that were answered that makes three.
        push(&queue, 10);
        takes_what_it_waits_for(&queue, 3);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_there_is_patience() {
        let queue = two_were_answered();
        push(&queue, 10);
        assert_eq!(taken(&queue, Duration::from_millis(1)), 1);
        // The others are gone, and forgotten.
        takes_what_it_waits_for(&queue, 1);
    }

    #[test]
    fn a_large_commit_waits_for_nobody() {
        let queue = two_were_answered();
        push(&queue, COMMIT_ENOUGH as usize);
        assert_eq!(taken(&queue, FOR_EVER), 1);
    }

    #[test]
    fn who_stops_waits_for_nobody() {
        let queue = two_were_answered();
        push(&queue, 10);
        queue.stop();
        assert_eq!(taken(&queue, FOR_EVER), 1);
        assert!(queue.take(None, FOR_EVER).is_none());
    }
}
