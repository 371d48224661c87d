//! The threads of an open log: writer, journal, keeper, and the one that grows the pool.
use std::sync::Arc;

use crate::keeper::Keeper;
use crate::memory;
use crate::settle;
use crate::shared::{Inner, lock};
use crate::types::{LogError, Sequence};
use crate::world::{Mutex, Thread};
use crate::writer::{self, Writer};

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) inner: Arc<Inner>,
    /// Whoever makes a commit holds it.
    pub(super) writer: Arc<Mutex<Writer>>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    writer: Option<Thread>,
    settle: Option<Thread>,
    keeper: Option<Thread>,
    pool: Option<Thread>,
}

impl Handle {
    /// Ends the threads one after the other, each when it has done what the one before left it.
    pub(super) fn end(&self) {
        let mut threads = lock(&self.threads);
        let inner = &self.inner;
        inner.queue.stop();
        if let Some(on_disk) = &inner.on_disk {
            on_disk.pool.wake();
        }
        inner.budget.wake();
        join(threads.writer.take());
        inner.settlements.stop();
        join(threads.settle.take());
        inner.inbox.stop();
        join(threads.keeper.take());
        if let Some(on_disk) = &inner.on_disk {
            on_disk.pool.stop();
            join(threads.pool.take());
            // Unlocked by name: a process that is being started elsewhere may hold a copy of the descriptor.
            if let Some(file) = lock(&on_disk.lock).take() {
                file.unlock();
            }
        }
        *lock(&inner.subscriber) = None;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the threads of a log that was opened.
pub(super) fn start(
    inner: Arc<Inner>,
    next_sequence: Sequence,
    next_segment: u64,
) -> Result<Handle, LogError> {
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        let spawned = Thread::spawn(&format!("log-{name}"), run);
        spawned.map_err(|source| LogError::Io { path: inner.options.dir.clone(), source })
    };
    let writer = Arc::new(Mutex::new(Writer::new(inner.clone(), next_sequence, next_segment)));
    let keeper = Keeper::new(inner.clone());
    let (own, of_thread) = (inner.clone(), writer.clone());
    let write = move || match &own.on_disk {
        Some(on_disk) => writer::run(&own, on_disk, &of_thread),
        None => memory::run(&own, &of_thread),
    };
    let handle = Handle { inner: inner.clone(), writer, threads: Mutex::default() };
    let mut threads = lock(&handle.threads);
    threads.writer = Some(spawn("writer", Box::new(write))?);
    threads.keeper = Some(spawn("keeper", Box::new(move || keeper.run()))?);
    if inner.on_disk.is_some() {
        let own = inner.clone();
        threads.settle = Some(spawn("journal", Box::new(move || settle::run(&own)))?);
        let own = inner.clone();
        let grow = move || {
            if let Some(on_disk) = &own.on_disk {
                on_disk.pool.grow_until_stopped();
            }
        };
        threads.pool = Some(spawn("pool", Box::new(grow))?);
    }
    drop(threads);
    Ok(handle)
}

/// Waits for a thread, unless it is this one (the last clone went inside a callback).
fn join(thread: Option<Thread>) {
    if let Some(thread) = thread.filter(|t| !t.is_this_one())
        && !thread.join()
    {
        tracing::error!("a thread of the log panicked");
    }
}
