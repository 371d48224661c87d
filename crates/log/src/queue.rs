//! Appends on their way to a commit, bounded by bytes; who makes the commit, and when.
//!
//! Those whom the last commit answered may be back soon, and together with those who came meanwhile they make one
//! commit instead of two: they are waited for, as long as that commit took. Who was alone waits for nobody.
//!
//! While commits are quick, the append that completes the company makes the commit itself, on its own thread: a sync
//! of a fraction of a millisecond costs less than the two changes of thread around it. The writer's thread is there
//! for the rest: for those whose company does not come, and while a sync takes longer than a worker may be held up.
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
/// Nobody waits longer than this for the company of others.
const PATIENCE_MAX: Duration = Duration::from_millis(1);
/// A commit that takes longer than this is the thread's: whoever makes it can do nothing else meanwhile.
const QUICK: Duration = Duration::from_millis(1);
/// The thread looks so often whether somebody was left waiting, as long as there are commits. To be told of each would
/// cost a system call per commit.
const TICK: Duration = Duration::from_millis(1);
/// After so many looks without a commit the thread sleeps until it is told.
const IDLE_TICKS: u32 = 8;

/// Where the answer to an append goes.
pub(crate) type Answer = oneshot::Sender<Result<Sequence, LogError>>;
/// Where it comes from.
pub(crate) type Answered = oneshot::Receiver<Result<Sequence, LogError>>;

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

/// Appends that are committed together, oldest first.
pub(crate) type Batch = VecDeque<Waiting>;

#[derive(Debug)]
pub(crate) struct Queue {
    /// Commits may be made by whoever appends.
    may_lead: bool,
    state: Mutex<QueueState>,
    work: Condvar,
}

#[derive(Debug)]
struct QueueState {
    items: Batch,
    bytes: u64,
    /// Somebody makes a commit: the appends that come now are for the next.
    is_committing: bool,
    /// The next commit is due when so many are here.
    company: usize,
    /// It is due when the oldest has waited so long.
    patience: Duration,
    /// The last commit was quick, and whoever completes the next may make it.
    is_quick: bool,
    /// What is here is for the thread: it may take longer.
    is_left: bool,
    /// The thread has something to see to, even if nothing is here.
    is_called: bool,
    commits: u64,
    /// The thread looks only when it is told.
    sleeps: bool,
    /// It has been told, and has not looked yet.
    is_told: bool,
    stopped: bool,
}

impl QueueState {
    fn is_due(&self) -> bool {
        self.items.len() >= self.company || self.bytes >= COMMIT_ENOUGH
    }

    /// At most one commit of what is waiting.
    fn take(&mut self) -> Batch {
        self.is_committing = true;
        (self.is_left, self.is_called) = (false, false);
        let mut taken = VecDeque::new();
        let mut bytes = 0;
        while let Some(next) = self.items.front()
            && (taken.is_empty() || bytes + next.cost() <= COMMIT_BYTES)
            && let Some(next) = self.items.pop_front()
        {
            bytes += next.cost();
            taken.push_back(next);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}

impl Queue {
    /// `may_lead`: appends make commits themselves as long as these are quick.
    pub(crate) fn new(may_lead: bool) -> Queue {
        let state = QueueState {
            items: VecDeque::new(),
            bytes: 0,
            is_committing: false,
            company: 1,
            patience: Duration::ZERO,
            is_quick: may_lead,
            is_left: false,
            is_called: false,
            commits: 0,
            sleeps: false,
            is_told: false,
            stopped: false,
        };
        Queue { may_lead, state: Mutex::new(state), work: Condvar::new() }
    }

    /// Takes a record in. With a batch the caller has to make the commit, and to say [`Queue::done`] or
    /// [`Queue::leave`] after it.
    pub(crate) fn push(&self, record: Prepared) -> Result<(Answered, Option<Batch>), LogError> {
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
        if state.is_committing {
            return Ok((answered, None));
        }
        if state.is_due() && state.is_quick && !state.is_left {
            return Ok((answered, Some(state.take())));
        }
        self.tell(state);
        Ok((answered, None))
    }

    /// A commit of so many was made, and took so long.
    pub(crate) fn done(&self, taken: usize, took: Duration) {
        let mut state = lock(&self.state);
        state.is_committing = false;
        state.commits += 1;
        state.patience = took.min(PATIENCE_MAX);
        state.is_quick = self.may_lead && took <= QUICK;
        state.company = (taken + state.items.len()).max(1);
        if !state.items.is_empty() || state.stopped {
            self.tell(state);
        }
    }

    /// These could not be committed at once: the thread may wait for what they need.
    pub(crate) fn leave(&self, mut left: Batch) {
        let mut state = lock(&self.state);
        state.is_committing = false;
        state.is_left = true;
        state.bytes += left.iter().map(Waiting::cost).sum::<u64>();
        left.append(&mut state.items);
        state.items = left;
        self.tell(state);
    }

    /// Has [`Queue::next`] return, whether anything waits or not.
    pub(crate) fn call(&self) {
        let mut state = lock(&self.state);
        state.is_called = true;
        self.tell(state);
    }

    /// Has the thread look. Telling costs a system call, also when nobody listens.
    fn tell(&self, mut state: MutexGuard<'_, QueueState>) {
        let is_urgent =
            state.is_left || state.is_called || state.stopped || (!state.is_quick && state.is_due());
        if (state.sleeps || is_urgent) && !state.is_told {
            state.is_told = true;
            drop(state);
            self.work.notify_one();
        }
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

    /// The thread's next commit, when it is due and nobody else makes it; to be ended by [`Queue::done`]. Empty after
    /// `most`, and when called; `None` when stopped and done.
    pub(crate) fn next(&self, most: Option<Duration>) -> Option<Batch> {
        let until = most.map(|most| world::now() + most);
        let mut state = lock(&self.state);
        let (mut seen, mut idle) = (state.commits, 0);
        loop {
            let now = world::now();
            let left = |until: Instant| until.saturating_duration_since(now);
            let waits = state.items.front().map(|oldest| left(oldest.since + state.patience));
            if !state.is_committing {
                match waits {
                    None if state.stopped => return None,
                    None if state.is_called || until.is_some_and(|until| left(until).is_zero()) => {
                        return Some(state.take());
                    }
                    Some(left) if left.is_zero() || state.is_left || state.stopped || state.is_due() => {
                        return Some(state.take());
                    }
                    _ => {}
                }
            }
            idle = if state.commits == seen { idle + 1 } else { 0 };
            seen = state.commits;
            let wait = match waits {
                Some(left) if !state.is_committing => Some(left),
                None if idle > IDLE_TICKS && !state.is_committing => until.map(left),
                _ => Some(TICK),
            };
            state.sleeps = waits.is_none() && idle > IDLE_TICKS && !state.is_committing;
            state = match wait {
                Some(wait) => self.work.wait_timeout(state, wait).0,
                None => self.work.wait(state),
            };
            if std::mem::take(&mut state.is_told) {
                idle = 0;
            }
            state.sleeps = false;
        }
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

    /// What a quick commit took.
    const QUICKLY: Duration = Duration::from_micros(1);

    /// Pushes; answers what the caller has to commit.
    fn push_to(queue: &Queue, bytes: usize) -> Option<Batch> {
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
        queue.push(prepare(record, false)).expect("there is room").1
    }

    fn push(queue: &Queue, bytes: usize) -> Option<usize> {
        push_to(queue, bytes).map(|batch| batch.len())
    }

    /// What the thread gets to commit.
    fn thread(queue: &Queue) -> usize {
        queue.next(None).expect("not stopped").len()
    }

    /// One is being committed while another came.
    fn one_came_meanwhile() -> Queue {
        let queue = Queue::new(true);
        assert_eq!(push(&queue, 10), Some(1));
        assert_eq!(push(&queue, 10), None);
        queue
    }

    #[test]
    fn who_is_alone_commits_at_once() {
        let queue = Queue::new(true);
        for _ in 0..3 {
            assert_eq!(push(&queue, 10), Some(1));
            queue.done(1, QUICKLY);
        }
    }

    #[test]
    fn who_completes_the_company_commits() {
        let queue = one_came_meanwhile();
        queue.done(1, QUICK);
        // The one that was answered comes back; then both were answered, and a third comes.
        assert_eq!(push(&queue, 10), Some(2));
        assert_eq!(push(&queue, 10), None);
        queue.done(2, QUICK);
        assert_eq!(push(&queue, 10), None);
        assert_eq!(push(&queue, 10), Some(3));
    }

    #[test]
    fn the_thread_commits_those_whose_company_does_not_come() {
        let queue = one_came_meanwhile();
        queue.done(1, QUICKLY);
        assert_eq!(thread(&queue), 1);
        queue.done(1, QUICKLY);
        // Who is missing is forgotten.
        assert_eq!(push(&queue, 10), Some(1));
    }

    #[test]
    fn the_thread_that_sleeps_is_told_of_those_left_waiting() {
        let queue = Queue::new(true);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| thread(&queue));
            while !lock(&queue.state).sleeps {
                std::thread::yield_now();
            }
            assert_eq!(push(&queue, 10), Some(1));
            assert_eq!(push(&queue, 10), None);
            queue.done(1, QUICKLY);
            assert_eq!(waits.join().unwrap(), 1);
        });
    }

    #[test]
    fn a_large_commit_waits_for_nobody() {
        let queue = one_came_meanwhile();
        queue.done(1, QUICK);
        lock(&queue.state).company = 100;
        assert_eq!(push(&queue, COMMIT_ENOUGH as usize), Some(2));
    }

    #[test]
    fn while_commits_are_slow_the_thread_makes_them() {
        let queue = Queue::new(true);
        assert_eq!(push(&queue, 10), Some(1));
        queue.done(1, QUICK + QUICKLY);
        assert_eq!(push(&queue, 10), None);
        assert_eq!(thread(&queue), 1);
        // It was quick again.
        queue.done(1, QUICK);
        assert_eq!(push(&queue, 10), Some(1));
    }

    #[test]
    fn what_has_to_wait_is_the_threads_and_goes_first() {
        let queue = Queue::new(true);
        let left = push_to(&queue, 1).expect("it is alone");
        assert_eq!(push(&queue, 2), None);
        queue.leave(left);
        assert_eq!(push(&queue, 3), None, "the thread comes first");
        let taken = queue.next(None).unwrap();
        let lengths: Vec<usize> = taken.iter().map(|w| w.record.payload.bytes().len()).collect();
        assert_eq!(lengths, [1, 2, 3]);
    }

    #[test]
    fn the_thread_that_sleeps_comes_when_it_is_called() {
        let queue = Queue::new(true);
        std::thread::scope(|scope| {
            let comes = scope.spawn(|| thread(&queue));
            while !lock(&queue.state).sleeps {
                std::thread::yield_now();
            }
            queue.call();
            assert_eq!(comes.join().unwrap(), 0, "there is nothing to commit");
        });
    }

    #[test]
    fn in_memory_the_thread_makes_every_commit() {
        let queue = Queue::new(false);
        for _ in 0..2 {
            assert_eq!(push(&queue, 10), None);
            assert_eq!(thread(&queue), 1);
            queue.done(1, Duration::ZERO);
        }
    }

    #[test]
    fn who_stops_waits_for_nobody() {
        let queue = one_came_meanwhile();
        queue.done(1, QUICK);
        queue.stop();
        assert_eq!(thread(&queue), 1);
        queue.done(1, QUICKLY);
        assert!(queue.next(None).is_none());
    }
}
