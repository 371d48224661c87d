//! The scheduler: real threads, exactly one of which runs. One random source says which is next; time passes
//! only when nobody can go on, and then jumps to the next moment somebody waits for.
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tracecast_log::world::{About, Access, Files, OpenFile, World};

use super::disk::{Disk, Op};

thread_local! {
    static SELF: Cell<usize> = const { Cell::new(0) };
}

/// Wall clock at the beginning: some day in 2026.
const WALL_START: i128 = 1_780_000_000_000_000_000;

/// The simulated world. The thread that makes it is its thread 0.
#[derive(Debug)]
pub(super) struct Baton {
    own: Weak<Baton>,
    base: Instant,
    running: AtomicUsize,
    state: Mutex<State>,
    disk: Mutex<Disk>,
    failed: Mutex<Sender<String>>,
    trace: bool,
}

#[derive(Debug)]
struct State {
    rng: SmallRng,
    now: Duration,
    wall: i128,
    tasks: Vec<Task>,
    /// Those that have not ended.
    alive: Vec<usize>,
    /// Room for those that can go on.
    ready: Vec<usize>,
    /// Times the baton was passed on, and operations on files.
    activity: u64,
    /// Of who ran when.
    fingerprint: u64,
}

#[derive(Debug)]
struct Task {
    name: String,
    /// `None` until its thread has begun.
    thread: Option<Thread>,
    status: Status,
    /// How its last wait ended.
    timed_out: bool,
}

enum Status {
    Ready,
    Running,
    Parked {
        key: usize,
        until: Option<Duration>,
    },
    /// Waits for a time, or for work that is seen from outside.
    Idle {
        until: Duration,
        has_work: Box<dyn Fn() -> bool + Send>,
    },
    Done {
        panicked: bool,
    },
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Ready => f.write_str("ready"),
            Status::Running => f.write_str("running"),
            Status::Parked { key, until } => write!(f, "parked on {key:x} until {until:?}"),
            Status::Idle { until, .. } => write!(f, "idle until {until:?}"),
            Status::Done { panicked } => write!(f, "done, panicked: {panicked}"),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A simulation that has failed is left where it is.
fn stop_here() -> ! {
    loop {
        std::thread::park();
    }
}

impl Baton {
    /// A world whose thread 0 is the calling thread. Failures are sent to `failed`.
    pub(super) fn new(seed: u64, disk: Disk, failed: Sender<String>, trace: bool) -> Arc<Baton> {
        SELF.set(0);
        let main = Task {
            name: "main".to_owned(),
            thread: Some(std::thread::current()),
            status: Status::Running,
            timed_out: false,
        };
        Arc::new_cyclic(|own| Baton {
            own: own.clone(),
            base: Instant::now(),
            running: AtomicUsize::new(0),
            state: Mutex::new(State {
                rng: SmallRng::seed_from_u64(seed),
                now: Duration::from_secs(1),
                wall: WALL_START,
                tasks: vec![main],
                alive: vec![0],
                ready: Vec::new(),
                activity: 0,
                fingerprint: 0,
            }),
            disk: Mutex::new(disk),
            failed: Mutex::new(failed),
            trace,
        })
    }

    /// Ends the simulation with a finding.
    pub(super) fn fail(&self, finding: String) -> ! {
        let time = locked(&self.state).now;
        let _ = locked(&self.failed).send(format!("{finding} (at {time:?})"));
        stop_here()
    }

    /// One line of the story, if it is told.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let now = locked(&self.state).now;
            println!("{:12.6} {}", now.as_secs_f64(), line());
        }
    }

    /// The disk, for the hand of fate.
    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        locked(&self.disk)
    }

    /// Virtual time since the beginning.
    pub(super) fn time(&self) -> Duration {
        locked(&self.state).now
    }

    /// Sets the wall clock forward or back.
    pub(super) fn shift_wall(&self, nanos: i128) {
        locked(&self.state).wall += nanos;
    }

    /// Grows with whatever happens.
    pub(super) fn activity(&self) -> u64 {
        locked(&self.state).activity
    }

    /// Tells two runs of a seed apart, should they differ.
    pub(super) fn fingerprint(&self) -> u64 {
        locked(&self.state).fingerprint
    }

    /// What the threads are doing, for a simulation that does not end.
    pub(super) fn describe(&self) -> String {
        match self.state.try_lock() {
            Ok(state) => format!("time {:?}, {}", state.now, state.describe()),
            Err(_) => "the scheduler is busy".to_owned(),
        }
    }

    /// Lets the others go on until the time, or until there is work; true in the second case.
    pub(super) fn idle(&self, until: Duration, has_work: impl Fn() -> bool + Send + 'static) -> bool {
        self.switch(Status::Idle { until, has_work: Box::new(has_work) })
    }

    /// Waits for the end of all other threads.
    pub(super) fn join_all(&self) {
        let others = locked(&self.state).tasks.len() as u64;
        (1..others).for_each(|thread| {
            self.join(thread);
        });
        locked(&self.state).tasks.truncate(1);
    }

    fn sleep(&self, time: Duration) {
        let until = Some(locked(&self.state).now + time);
        // Nobody wakes this key.
        self.switch(Status::Parked { key: usize::MAX, until });
    }

    /// Hands the baton on; true if it came back for another reason than time.
    fn switch(&self, status: Status) -> bool {
        let me = SELF.get();
        let mut state = locked(&self.state);
        state.set(me, status);
        let Some(next) = state.next() else {
            let stuck = format!("nobody can go on: {}", state.describe());
            drop(state);
            self.fail(stuck);
        };
        state.set(next, Status::Running);
        state.activity += 1;
        let thread = state.tasks.get(next).and_then(|task| task.thread.clone());
        drop(state);
        self.running.store(next, Ordering::Release);
        if next != me {
            if let Some(thread) = thread {
                thread.unpark();
            }
            self.wait_for_the_baton(me);
        }
        !locked(&self.state).tasks.get(me).is_some_and(|task| task.timed_out)
    }

    fn wait_for_the_baton(&self, me: usize) {
        while self.running.load(Ordering::Acquire) != me {
            std::thread::park();
        }
    }

    /// The last thing a thread does.
    fn end(&self, me: usize, panicked: bool) {
        let mut state = locked(&self.state);
        state.set(me, Status::Done { panicked });
        state.alive.retain(|number| *number != me);
        state.wake(join_key(me), true);
        let Some(next) = state.next() else {
            let stuck = format!("nobody can go on: {}", state.describe());
            drop(state);
            self.fail(stuck);
        };
        state.set(next, Status::Running);
        let thread = state.tasks.get(next).and_then(|task| task.thread.clone());
        drop(state);
        self.running.store(next, Ordering::Release);
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    fn chance(&self, one_in: u32) -> bool {
        locked(&self.state).rng.random_ratio(1, one_in)
    }

    /// One operation on a file: takes its time, and may come after what others do meanwhile.
    pub(super) fn file<T>(&self, op: Op, work: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let micros = {
            let mut state = locked(&self.state);
            state.activity += 1;
            match op {
                Op::Sync if state.rng.random_ratio(1, 300) => state.rng.random_range(100_000..1_500_000),
                Op::Sync => state.rng.random_range(50..4_000),
                Op::Write | Op::Read | Op::Name if state.rng.random_ratio(1, 6) => {
                    state.rng.random_range(5..300)
                }
                _ => 0,
            }
        };
        if micros > 0 {
            self.sleep(Duration::from_micros(micros));
        }
        let (wall, now) = (self.unix_nano(), self.time());
        let mut disk = locked(&self.disk);
        (disk.wall, disk.now) = (wall, now);
        work(&mut disk)
    }
}

impl State {
    fn set(&mut self, task: usize, status: Status) {
        if matches!(status, Status::Running) {
            let word = task as u64 ^ self.now.as_nanos() as u64;
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(task) = self.tasks.get_mut(task) {
            task.status = status;
            if !matches!(task.status, Status::Running) {
                task.timed_out = false;
            }
        }
    }

    fn describe(&self) -> String {
        let alive = self.tasks.iter().filter(|task| !matches!(task.status, Status::Done { .. }));
        alive.map(|task| format!("{} {:?}; ", task.name, task.status)).collect()
    }

    /// Who goes on; lets time pass if nobody can now.
    fn next(&mut self) -> Option<usize> {
        loop {
            self.ready.clear();
            let mut soonest: Option<Duration> = None;
            for &number in &self.alive {
                let Some(task) = self.tasks.get(number) else { continue };
                let until = match &task.status {
                    Status::Ready => Duration::ZERO,
                    Status::Idle { has_work, .. } if has_work() => Duration::ZERO,
                    Status::Idle { until, .. } | Status::Parked { until: Some(until), .. } => *until,
                    _ => continue,
                };
                if until.is_zero() {
                    self.ready.push(number);
                } else {
                    soonest = Some(soonest.map_or(until, |soonest| soonest.min(until)));
                }
            }
            match self.ready.as_slice() {
                [] => {}
                [one] => return Some(*one),
                many => return many.get(self.rng.random_range(0..many.len())).copied(),
            }
            let soonest = soonest?;
            self.wall += soonest.saturating_sub(self.now).as_nanos() as i128;
            self.now = self.now.max(soonest);
            for &number in &self.alive {
                let Some(task) = self.tasks.get_mut(number) else { continue };
                let due = match &task.status {
                    Status::Parked { until, .. } => until.is_some_and(|until| until <= self.now),
                    Status::Idle { until, .. } => *until <= self.now,
                    _ => false,
                };
                if due {
                    task.status = Status::Ready;
                    task.timed_out = true;
                }
            }
        }
    }

    fn wake(&mut self, key: usize, all: bool) {
        let parked = |task: &Task| matches!(&task.status, Status::Parked { key: k, .. } if *k == key);
        let parked = |number: &usize| self.tasks.get(*number).is_some_and(parked);
        let mut found: Vec<usize> = self.alive.iter().copied().filter(parked).collect();
        if !all && found.len() > 1 {
            found = vec![found.swap_remove(self.rng.random_range(0..found.len()))];
        }
        found.into_iter().for_each(|task| self.set(task, Status::Ready));
    }
}

/// Under which the end of a thread is waited for: no address.
fn join_key(thread: usize) -> usize {
    usize::MAX - 1 - thread
}

impl World for Baton {
    fn now(&self) -> Instant {
        self.base + self.time()
    }

    fn unix_nano(&self) -> u64 {
        u64::try_from(locked(&self.state).wall).unwrap_or(0)
    }

    fn entropy(&self) -> u64 {
        locked(&self.state).rng.next_u64()
    }

    fn spawn(&self, name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<u64> {
        let Some(own) = self.own.upgrade() else { return Err(io::ErrorKind::NotFound.into()) };
        let number = {
            let mut state = locked(&self.state);
            let task = Task { name: name.to_owned(), thread: None, status: Status::Ready, timed_out: false };
            state.tasks.push(task);
            let number = state.tasks.len() - 1;
            state.alive.push(number);
            number
        };
        let name = name.to_owned();
        let body = move || {
            SELF.set(number);
            own.wait_for_the_baton(number);
            let ended = catch_unwind(AssertUnwindSafe(run));
            if ended.is_err() {
                own.fail(format!("thread {name} panicked"));
            }
            own.end(number, false);
        };
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(body)?;
        if let Some(task) = locked(&self.state).tasks.get_mut(number) {
            task.thread = Some(thread.thread().clone());
        }
        Ok(number as u64)
    }

    fn join(&self, thread: u64) -> bool {
        loop {
            let ended = match locked(&self.state).tasks.get(thread as usize).map(|t| &t.status) {
                Some(Status::Done { panicked }) => Some(!panicked),
                Some(_) => None,
                None => Some(true),
            };
            match ended {
                Some(well) => return well,
                None => self.park(join_key(thread as usize), None),
            };
        }
    }

    fn this_thread(&self) -> u64 {
        SELF.get() as u64
    }

    fn pass(&self) {
        if self.chance(12) {
            self.switch(Status::Ready);
        }
    }

    fn park(&self, key: usize, most: Option<Duration>) -> bool {
        let until = most.map(|most| locked(&self.state).now + most);
        self.switch(Status::Parked { key, until })
    }

    fn wake(&self, key: usize, all: bool) {
        locked(&self.state).wake(key, all);
    }

    fn files(&self) -> &dyn Files {
        self
    }
}

impl Files for Baton {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.file(Op::Name, |disk| disk.make_dir(dir))
    }

    fn open(&self, path: &Path, how: Access) -> io::Result<Box<dyn OpenFile>> {
        let inode = self.file(Op::Name, |disk| disk.open(path, how))?;
        let Some(world) = self.own.upgrade() else { return Err(io::ErrorKind::NotFound.into()) };
        Ok(Box::new(Opened { world, inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.file(Op::Read, |disk| disk.list(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.file(Op::Name, |disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.file(Op::Name, |disk| disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.file(Op::Sync, |disk| disk.sync_dir(dir))
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        self.file(Op::Read, |disk| disk.about(path))
    }
}

#[derive(Debug)]
struct Opened {
    world: Arc<Baton>,
    inode: usize,
}

impl OpenFile for Opened {
    fn len(&self) -> io::Result<u64> {
        self.world.file(Op::Stat, |disk| disk.len(self.inode))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.world.file(Op::Write, |disk| disk.set_len(self.inode, len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.world.file(Op::Write, |disk| disk.allocate(self.inode, len))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.world.file(Op::Read, |disk| disk.read(self.inode, buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.world.file(Op::Write, |disk| disk.write(self.inode, bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.world.file(Op::Sync, |disk| disk.sync(self.inode))
    }
}
