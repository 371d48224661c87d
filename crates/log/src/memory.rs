//! Memory mode: the bound on wanted bytes, and the commit without a file. The rest is the log's own code.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::commit::hand_over;
use crate::entry::Location;
use crate::format::Life;
use crate::queue::Waiting;
use crate::segment::Prepared;
use crate::shared::lock;
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
            self.released.notify_all();
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

impl Writer {
    /// Keeps everything in `waiting`, or answers why not.
    pub(crate) fn keep(&mut self, mut waiting: VecDeque<Waiting>) {
        while let Some(first) = waiting.front() {
            let since = first.since;
            let mut chunk = Vec::new();
            while let Some(next) = waiting.front_mut() {
                self.inner.refuse_newest(&mut next.record);
                let wanted =
                    if next.record.meta.routes.is_empty() { 0 } else { next.record.payload.bytes().len() };
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
            if world::elapsed(since) >= SPACE_WAIT || self.inner.queue.is_stopped() {
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
        if state.segment != number || state.segments.get(number).is_none() {
            state.segments.open(Life { number, epoch: 1, nonce: 0 }, 0, 0);
            state.segment = number;
        }
        drop(state);
        let (records, answers): (Vec<Prepared>, Vec<_>) =
            chunk.into_iter().map(|w| (w.record, w.answer)).unzip();
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
