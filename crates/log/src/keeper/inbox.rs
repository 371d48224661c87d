//! What the other threads of the log leave for the keeper.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::CHECKPOINT_LOG;
use crate::segment::Sealing;
use crate::shared::lock;
use crate::world::{Condvar, Mutex};

/// Messages to the keeper.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(super) state: Mutex<InboxState>,
    work: Condvar,
    /// Log bytes at which the next checkpoint is due.
    pub(super) due_at: AtomicU64,
}

/// A segment that takes no more records and waits for its seal.
#[derive(Debug)]
pub(super) struct Unsealed {
    pub(super) sealing: Sealing,
    pub(super) tries: u32,
    /// Not before; after a failure.
    pub(super) after: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct InboxState {
    pub(super) to_seal: VecDeque<Unsealed>,
    pub(super) checkpoint: bool,
    woken: bool,
    stopped: bool,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { due_at: AtomicU64::new(CHECKPOINT_LOG), ..Inbox::default() }
    }

    pub(crate) fn seal(&self, sealing: Sealing) {
        lock(&self.state).to_seal.push_back(Unsealed { sealing, tries: 0, after: None });
        self.wake();
    }

    pub(crate) fn want_checkpoint(&self) {
        lock(&self.state).checkpoint = true;
        self.wake();
    }

    pub(crate) fn wake(&self) {
        lock(&self.state).woken = true;
        self.work.notify_all();
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.work.notify_all();
    }

    pub(crate) fn is_checkpoint_due(&self, log_bytes: u64) -> bool {
        log_bytes >= self.due_at.load(Ordering::Acquire)
    }

    /// Waits for a message; true when stopping.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let mut state = lock(&self.state);
        if !state.woken && !state.stopped {
            state = self.work.wait_timeout(state, most).0;
        }
        state.woken = false;
        state.stopped
    }
}
