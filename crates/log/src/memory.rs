//! Memory mode: the bound on wanted bytes. Everything else is the log's own code with no file behind it.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::shared::lock;

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
        drop(self.released.wait_timeout(lock(&self.held), most).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wake(&self) {
        self.released.notify_all();
    }
}
