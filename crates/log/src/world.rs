//! What the log knows of the outside: threads, locks, time, chance and files, all through one seam.
//!
//! Outside of a simulation everything here is the standard library, for the price of one relaxed load. A thread
//! that has [`enter`]ed a [`World`], and every thread of the log it starts, gets all of it from that world instead:
//! then one seed decides which thread runs next, what the clock says and what a power cut leaves on disk. So code
//! of the log uses nothing of `std::thread`, `std::fs`, `Instant::now`, `SystemTime::now` and `std::sync`'s locks
//! but by this module and `disk`.
use std::cell::RefCell;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A simulated outside. Of its threads exactly one runs at a time; it goes on until it calls one of these.
pub trait World: Send + Sync + Debug {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Wall clock, unix nanoseconds.
    fn unix_nano(&self) -> u64;
    /// A random number.
    fn entropy(&self) -> u64;
    /// Starts a thread; answers what [`World::join`] takes.
    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<u64>;
    /// Waits for the end of a thread; false if it panicked.
    fn join(&self, thread: u64) -> bool;
    /// The number of the calling thread.
    fn this_thread(&self) -> u64;
    /// A moment at which another thread may go first.
    fn pass(&self);
    /// Waits for a [`World::wake`] of the same key; false if none came in time.
    fn park(&self, key: usize, most: Option<Duration>) -> bool;
    /// Wakes one or all that are parked under a key.
    fn wake(&self, key: usize, all: bool);
    /// The file system.
    fn files(&self) -> &dyn Files;
}

/// A simulated file system.
pub trait Files {
    /// Makes a directory and those above it, if missing.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file as `how` says.
    fn open(&self, path: &Path, how: Access) -> io::Result<Box<dyn OpenFile>>;
    /// What is in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Gives a file another name; a file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names that were made, changed or removed last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Length, and when it was last written (unix nanoseconds).
    fn about(&self, path: &Path) -> io::Result<About>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written; it must exist.
    Write,
    /// To be read and written, made if missing.
    Create,
}

/// What a file's directory entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its length.
    pub bytes: u64,
    /// When it was last written, unix nanoseconds.
    pub modified_unix_nano: u64,
}

/// An open file of a simulated file system.
pub trait OpenFile: Send + Sync + Debug {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Whether its length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Makes it this long; what is new reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room for the first `len` bytes and makes it at least that long.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Fills `buf` from `offset` as far as the file goes; answers the bytes read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length last.
    fn sync(&self) -> io::Result<()>;
}

/// Some thread of this process has entered a world at some time.
static ENTERED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static WORLD: RefCell<Option<Arc<dyn World>>> = const { RefCell::new(None) };
}

/// The world of the calling thread; `None` is the real one.
pub(crate) fn current() -> Option<Arc<dyn World>> {
    if !ENTERED.load(Ordering::Relaxed) {
        return None;
    }
    // While a thread ends its world is gone already.
    WORLD.try_with(|world| world.borrow().clone()).ok().flatten()
}

/// Puts the calling thread into a world until the answer is dropped.
pub fn enter(world: Arc<dyn World>) -> Entered {
    ENTERED.store(true, Ordering::Relaxed);
    Entered { before: WORLD.with(|own| own.replace(Some(world))) }
}

/// The calling thread is in a world for as long as this exists.
#[derive(Debug)]
pub struct Entered {
    before: Option<Arc<dyn World>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        WORLD.with(|own| own.replace(before));
    }
}

/// Monotonic time.
pub fn now() -> Instant {
    current().map_or_else(Instant::now, |world| world.now())
}

/// Time since `then`.
pub(crate) fn elapsed(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// Wall clock, unix nanoseconds.
pub fn unix_nano() -> u64 {
    match current() {
        Some(world) => world.unix_nano(),
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos),
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A random number, good enough to tell things apart and to spread waits.
pub fn entropy() -> u64 {
    current().map_or_else(|| RandomState::new().build_hasher().finish(), |world| world.entropy())
}

/// Does something that blocks, without holding up the calling task; `None` if it panicked or was cut.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let Some(world) = current() else { return tokio::task::spawn_blocking(work).await.ok() };
    let (done, result) = tokio::sync::oneshot::channel();
    let own = world.clone();
    let run = move || {
        let _entered = enter(own);
        // Whoever asked may have gone.
        let _ = done.send(work());
    };
    world.spawn("blocking", Box::new(run)).ok()?;
    result.await.ok()
}

/// A thread of the log.
#[derive(Debug)]
pub(crate) enum Thread {
    Real(std::thread::JoinHandle<()>),
    Simulated(u64, Arc<dyn World>),
}

impl Thread {
    pub(crate) fn spawn(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<Thread> {
        let Some(world) = current() else {
            return std::thread::Builder::new().name(name.to_owned()).spawn(run).map(Thread::Real);
        };
        let own = world.clone();
        let run = move || {
            let _entered = enter(own);
            run();
        };
        let thread = world.spawn(name, Box::new(run))?;
        Ok(Thread::Simulated(thread, world))
    }

    pub(crate) fn is_this_one(&self) -> bool {
        match self {
            Thread::Real(thread) => thread.thread().id() == std::thread::current().id(),
            Thread::Simulated(thread, world) => world.this_thread() == *thread,
        }
    }

    /// Waits for its end; false if it panicked.
    pub(crate) fn join(self) -> bool {
        match self {
            Thread::Real(thread) => thread.join().is_ok(),
            Thread::Simulated(thread, world) => world.join(thread),
        }
    }
}

/// A lock that does not give up on a panic elsewhere: every critical section leaves its data whole.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    inner: std::sync::Mutex<T>,
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    // In this order: the lock is free when the world hears of it.
    held: std::sync::MutexGuard<'a, T>,
    release: Release,
    mutex: &'a Mutex<T>,
}

/// Tells the world that a lock is free.
#[derive(Debug)]
struct Release(Option<(Arc<dyn World>, usize)>);

impl Drop for Release {
    fn drop(&mut self) {
        if let Some((world, key)) = &self.0 {
            world.wake(*key, true);
        }
    }
}

fn key_of<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { inner: std::sync::Mutex::new(value) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let Some(world) = current() else {
            let held = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            return MutexGuard { held, release: Release(None), mutex: self };
        };
        world.pass();
        let held = loop {
            match self.inner.try_lock() {
                Ok(held) => break held,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => world.park(key_of(self), None),
            };
        };
        MutexGuard { held, release: Release(Some((world, key_of(self)))), mutex: self }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// A condition to wait for.
#[derive(Debug, Default)]
pub struct Condvar {
    inner: std::sync::Condvar,
}

impl Condvar {
    /// With nobody waiting.
    pub const fn new() -> Condvar {
        Condvar { inner: std::sync::Condvar::new() }
    }

    /// Lets go of the lock until it is notified (or for no reason).
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let MutexGuard { held, release, mutex } = guard;
        match &release.0 {
            None => {
                let held = self.inner.wait(held).unwrap_or_else(PoisonError::into_inner);
                MutexGuard { held, release, mutex }
            }
            Some(_) => self.park(MutexGuard { held, release, mutex }, None).0,
        }
    }

    /// The same, at most so long; true if that time is over.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, most: Duration) -> (MutexGuard<'a, T>, bool) {
        let MutexGuard { held, release, mutex } = guard;
        match &release.0 {
            None => {
                let waited = self.inner.wait_timeout(held, most).unwrap_or_else(PoisonError::into_inner);
                (MutexGuard { held: waited.0, release, mutex }, waited.1.timed_out())
            }
            Some(_) => self.park(MutexGuard { held, release, mutex }, Some(most)),
        }
    }

    fn park<'a, T>(&self, guard: MutexGuard<'a, T>, most: Option<Duration>) -> (MutexGuard<'a, T>, bool) {
        let mutex = guard.mutex;
        drop(guard);
        let woken = current().is_none_or(|world| world.park(key_of(self), most));
        (mutex.lock(), !woken)
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        match current() {
            None => self.inner.notify_one(),
            Some(world) => world.wake(key_of(self), false),
        }
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        match current() {
            None => self.inner.notify_all(),
            Some(world) => world.wake(key_of(self), true),
        }
    }
}
