//! Deterministic simulation of the log and of delivery: virtual time, a disk that forgets, scripted destinations.
//!
//! The product's own code runs, threads and all, but in a world of one seed (`tracecast_log::world`): `baton` says
//! which thread runs and what time it is, `disk` what a power cut leaves, `sink` how destinations answer, `plan`
//! which faults a seed has, `story` what happens in which order, and `oracle` whether the books agree with what was
//! acknowledged and what arrived:
//!
//! - nothing acknowledged is lost: not by `kill -9`, and in durable mode not by a power cut (in buffered mode only
//!   what was acknowledged just before it);
//! - every span ends once, in a state that has a cause, and the books balance at every look;
//! - what a destination has answered for is not sent to it again, unless that answer came less than 5 s before the
//!   end of a life; one that takes a batch at a time gets everything for the first time in the order of the log; and a dead
//!   letter was refused;
//! - no figure that was shown falls over a kill; no destination gets what it has not selected, or content it must
//!   not have; a token stands for one batch for ever, and a destination that knows batches by their tokens gets no
//!   span under two of them, as often as the process is killed (power cuts, failing disks and spans that are given up
//!   may make a batch another one);
//! - when the faults are over, a fresh event reaches every destination within 20 minutes, and the backlog is worked
//!   off; a clean stop after that leaves nothing to do.
//!
//! `cargo run --release -p tracecast-tests -- simulate --seeds 100000`; one seed again, told line by line:
//! `... simulate --seed 4711 --trace`.
mod baton;
mod disk;
mod oracle;
mod plan;
mod requeue;
mod sink;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tracecast_log::world;

use self::baton::Baton;
use self::disk::Disk;
use self::oracle::Oracle;
use self::plan::Plan;
use self::sink::{Shore, locked};
use self::story::Story;

/// A simulation that takes longer than this does not end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a simulation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Spans sent in.
    pub spans: u64,
    /// Starts of the process that may have ended badly.
    pub lives: u64,
    /// Of them, those that ended with `kill -9`,
    pub kills: u64,
    /// and with the power.
    pub power_cuts: u64,
    /// Operations on files that failed, and room that was short: so often that was arranged.
    pub disk_faults: u64,
    /// Bits that flipped while no process ran.
    pub flips: u64,
    /// Times the wall clock went back an hour, or ahead a day.
    pub clock_jumps: u64,
    /// Segments that were carried over.
    pub carried: u64,
    /// Spans a destination took more than once.
    pub duplicates: u64,
    /// How long that would have taken.
    pub virtual_seconds: u64,
    /// The same for every run of a seed: which thread ran when.
    pub fingerprint: u64,
}

impl Summary {
    /// Counts another one in.
    fn add(&mut self, other: &Summary) {
        self.spans += other.spans;
        self.lives += other.lives;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.disk_faults += other.disk_faults;
        self.flips += other.flips;
        self.clock_jumps += other.clock_jumps;
        self.carried += other.carried;
        self.duplicates += other.duplicates;
        self.virtual_seconds += other.virtual_seconds;
    }
}

/// A seed that failed, and how.
#[derive(Clone, Debug)]
pub struct Finding {
    /// To run it again.
    pub seed: u64,
    /// What was not as promised.
    pub what: String,
}

/// Something that must be found: what makes sure that the simulation can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// As it should be.
    None,
    /// The disk answers syncs without doing them: as if the log did not sync.
    NoSync,
    /// What is written to the journal is not there: as if the log did not write it.
    NoJournal,
    /// Destinations do not say that they know batches by their tokens: as if delivery did not note batches.
    NotNoted,
    /// Destinations lose what they said they have taken: as if delivery settled what it did not send.
    NotSent,
    /// The same for what is sent again alone: as if a replay removed letters that it did not requeue.
    NotReplayed,
    /// Answers that settle something do not get through: as if delivery sent what was settled again.
    NotSettled,
    /// Destinations read the log's positions backwards: as if delivery kept no order.
    NotInOrder,
    /// Destinations refuse what is not bad: as if delivery buried what nobody refused.
    NotRefused,
}

impl Sabotage {
    /// Each that breaks something.
    pub const ALL: [Sabotage; 8] = [
        Sabotage::NoSync,
        Sabotage::NoJournal,
        Sabotage::NotNoted,
        Sabotage::NotSent,
        Sabotage::NotReplayed,
        Sabotage::NotSettled,
        Sabotage::NotInOrder,
        Sabotage::NotRefused,
    ];
}

/// Runs one seed.
pub fn run(seed: u64, trace: bool) -> Result<Summary, Finding> {
    run_with(seed, trace, Sabotage::None)
}

/// Runs one seed with something broken.
pub fn run_with(seed: u64, trace: bool, sabotage: Sabotage) -> Result<Summary, Finding> {
    let (failed, findings) = channel();
    let (done, finished) = (failed.clone(), Arc::new(Mutex::new(None)));
    let result = finished.clone();
    let watched: Arc<Mutex<Option<Arc<Baton>>>> = Arc::default();
    let shown = watched.clone();
    let body = move || {
        let mut rng = SmallRng::seed_from_u64(seed);
        let plan = Plan::new(&mut rng);
        let mut disk = Disk::new(rng.random(), u64::MAX);
        disk.lies = sabotage == Sabotage::NoSync;
        disk.swallows = (sabotage == Sabotage::NoJournal).then_some("journal");
        let baton = Baton::new(rng.random(), disk, failed, trace);
        *locked(&shown) = Some(baton.clone());
        let _entered = world::enter(baton.clone());
        let shore = Shore {
            world: baton.clone(),
            oracle: Mutex::new(Oracle::default()),
            rng: Mutex::new(SmallRng::seed_from_u64(rng.random())),
            moods: Mutex::default(),
            tokens_are_unique: !plan.damage,
            batches_stay: AtomicBool::new(
                !(plan.disk_faults || plan.damage || plan.clock || plan.small_cap || plan.expiry),
            ),
            reads_fail: plan.read_faults,
            sabotage,
        };
        let story = Story::new(baton.clone(), plan, rng, Arc::new(shore));
        match catch_unwind(AssertUnwindSafe(|| story.run())) {
            Ok(summary) => {
                *locked(&result) = Some(summary);
                let _ = done.send(String::new());
            }
            Err(_) => baton.fail("the main thread panicked".to_owned()),
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(body);
    let finding = match (thread, findings.recv_timeout(PATIENCE)) {
        (Err(error), _) => format!("no thread: {error}"),
        (Ok(thread), Ok(finding)) if finding.is_empty() => {
            let _ = thread.join();
            return Ok(locked(&finished).take().unwrap_or_default());
        }
        // The threads of a simulation that failed stay parked where they are.
        (Ok(_), Ok(finding)) => finding,
        (Ok(_), Err(RecvTimeoutError::Timeout)) => {
            let threads = locked(&watched).as_ref().map(|baton| baton.describe());
            format!("does not end: {}", threads.unwrap_or_default())
        }
        (Ok(_), Err(RecvTimeoutError::Disconnected)) => "its main thread is gone".to_owned(),
    };
    Err(Finding { seed, what: finding })
}

/// What many simulations did.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Seeds run.
    pub seeds: u64,
    /// Over all of them.
    pub sum: Summary,
    /// Seeds that failed.
    pub findings: Vec<Finding>,
    /// On the real clock.
    pub took: Duration,
}

/// Runs `count` seeds from `first` on, so many at a time, and stops after so many findings.
pub fn run_many(first: u64, count: u64, at_a_time: usize, findings_max: usize) -> Total {
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.max(1) {
            scope.spawn(|| {
                while locked(&total).findings.len() < findings_max {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let ended = run(seed, false);
                    let mut total = locked(&total);
                    total.seeds += 1;
                    match ended {
                        Ok(one) => {
                            total.sum.add(&one);
                        }
                        Err(finding) => total.findings.push(finding),
                    }
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    total.findings.sort_by_key(|finding| finding.seed);
    total.took = started.elapsed();
    total
}
