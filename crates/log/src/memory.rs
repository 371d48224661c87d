//! Memory mode: the bound on wanted bytes, and the commit without a file. The rest is the log's own code.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::commit::hand_over;
use crate::entry::Location;
use crate::format::Life;
use crate::queue::{Answer, Waiting};
use crate::segment::Prepared;
use crate::shared::{Inner, lock};
use crate::types::{LogError, Sequence};
use crate::world::{self, Condvar, Mutex};
use crate::writer::{SPACE_WAIT, Writer, number};

/// Records are grouped so that `give_up` speaks of about one in so many parts of the cap.
const GROUPS: u64 = 64;

/// Bytes of records that some destination still wants.
#[derive(Debug)]
pub(crate) struct Budget {
    max_bytes: u64,
    held: Mutex<u64>,
    /// The writer waits for room.
    asked: AtomicBool,
    released: Condvar,
}

impl Budget {
    pub(crate) fn new(max_bytes: u64) -> Budget {
        Budget { max_bytes, held: Mutex::new(0), asked: AtomicBool::new(false), released: Condvar::new() }
    }

    pub(crate) fn held(&self) -> u64 {
        *lock(&self.held)
    }

    /// Takes `bytes` if they fit. An empty budget takes anything.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let mut held = lock(&self.held);
        if *held > 0 && *held + bytes > self.max_bytes {
            return false;
        }
        *held += bytes;
        self.asked.store(false, Ordering::Release);
        true
    }

    /// There is no room for the next record.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// The last eighth is in use.
    pub(crate) fn is_tight(&self) -> bool {
        self.held() > self.max_bytes / 8 * 7
    }

    pub(crate) fn is_short(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    pub(crate) fn release(&self, bytes: u64) {
        if bytes > 0 {
            let mut held = lock(&self.held);
            *held = held.saturating_sub(bytes);
            drop(held);
            // Telling costs a system call, also when nobody listens.
            if self.is_short() {
                self.released.notify_all();
            }
        }
    }

    /// Waits for a release, at most so long.
    pub(crate) fn wait(&self, most: Duration) {
        drop(self.released.wait_timeout(lock(&self.held), most));
    }

    pub(crate) fn wake(&self) {
        self.released.notify_all();
    }
}

/// The writer's thread: for those that have to wait for room, and those that come behind them.
pub(crate) fn run(inner: &Inner, writer: &Mutex<Writer>) {
    while let Some(mut waiting) = inner.queue.next(None) {
        let taken = waiting.len();
        while let Some(first) = waiting.front() {
            let since = first.since;
            if lock(writer).keep(&mut waiting) > 0 {
                continue;
            }
            if world::elapsed(since) >= SPACE_WAIT || inner.queue.is_stopped() {
                inner.full.store(true, Ordering::Release);
                if let Some(first) = waiting.pop_front() {
                    first.refuse(LogError::Full);
                }
                continue;
            }
            lock(writer).close_group();
            inner.budget.ask();
            inner.inbox.wake();
            inner.budget.wait(Duration::from_millis(20));
        }
        inner.queue.done(taken, Duration::ZERO);
    }
}

/// Keeps a record at once, without a change of thread; gives it back if it has to wait, for room or for others.
pub(crate) fn keep_now(
    inner: &Inner,
    writer: &Mutex<Writer>,
    mut record: Prepared,
) -> Result<Sequence, Box<Prepared>> {
    if !inner.queue.is_clear() {
        return Err(Box::new(record));
    }
    let mut writer = lock(writer);
    if !writer.admit(&mut record) {
        return Err(Box::new(record));
    }
    let sequence = record.sequence;
    writer.keep_all(vec![record], Vec::new());
    Ok(sequence)
}

impl Writer {
    /// Keeps what there is room for; answers how many records that was.
    fn keep(&mut self, waiting: &mut VecDeque<Waiting>) -> usize {
        let mut records = Vec::with_capacity(waiting.len());
        let mut answers = Vec::with_capacity(waiting.len());
        while let Some(next) = waiting.front_mut()
            && self.admit(&mut next.record)
            && let Some(Waiting { record, answer, .. }) = waiting.pop_front()
        {
            records.push(record);
            answers.push(answer);
        }
        let kept = records.len();
        if kept > 0 {
            self.keep_all(records, answers);
        }
        kept
    }

    /// Gives the record its room and its numbers, if there is room for it.
    fn admit(&mut self, record: &mut Prepared) -> bool {
        self.inner.refuse_newest(record);
        let wanted = if record.meta.routes.is_empty() { 0 } else { record.payload.bytes().len() as u64 };
        if !self.inner.budget.take(wanted) {
            return false;
        }
        number(record, self.next_sequence, &mut self.ordinals);
        self.next_sequence += 1;
        self.group_bytes += wanted;
        true
    }

    fn keep_all(&mut self, records: Vec<Prepared>, answers: Vec<Answer>) {
        self.inner.full.store(false, Ordering::Release);
        let number = self.next_segment;
        let mut state = self.inner.state();
        if state.segment != number || state.segments.get(number).is_none() {
            state.segments.open(Life { number, epoch: 1, nonce: 0 }, 0, 0);
            state.segment = number;
        }
        drop(state);
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
        if self.group_bytes > self.inner.options.max_bytes / GROUPS {
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
        for (number, _) in state.segments.returnable(Sequence::MAX, u64::MAX) {
            state.segments.remove(number);
        }
        self.next_segment += 1;
    }
}
