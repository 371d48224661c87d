//! One simulation from the first start to the last look at the books.
mod actions;
mod ending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::runtime::Handle;
use tracecast_delivery::Delivery;
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_log::{Books, Damage, Durability, Log, Slot, SlotKey};
use tracecast_sinks::{Adapter, BatchLimits, BuildError};
use uuid::Uuid;

use super::Summary;
use super::baton::Baton;
use super::oracle::Answer;
use super::plan::{End, Plan, limits};
use super::sink::{Mood, Shore, Sink, locked};

/// Acknowledged in buffered mode so long before the power went, nothing may be lost.
const BUFFERED_LOSS: Duration = Duration::from_secs(4);

/// What was settled so long before the end of a life is known to be settled. (A clean stop cuts what is on its way, and
/// with it an answer that comes at that moment.)
const SETTLED: Duration = Duration::from_secs(5);

/// A destination as the control plane knows it.
#[derive(Debug)]
struct Target {
    id: Uuid,
    limits: BatchLimits,
    /// It knows batches by their tokens.
    keeps_batches: bool,
    /// New records are stored in its private form.
    private: bool,
    version: u32,
    paused: bool,
    deleted: bool,
}

impl Target {
    fn key(&self) -> SlotKey {
        *self.id.as_bytes()
    }
}

pub(super) struct Story {
    world: Arc<Baton>,
    plan: Plan,
    rng: SmallRng,
    shore: Arc<Shore>,
    targets: Vec<Target>,
    /// The highest figures anybody has seen.
    shown: BTreeMap<SlotKey, Books>,
    /// Virtual time of the runtime's clock.
    clock: Duration,
    flipped: bool,
    power_was_cut: bool,
    /// Bytes the log had set aside at the last start, and how many of them in all had an excuse.
    set_aside: u64,
    excused_bytes: u64,
    summary: Summary,
}

/// A running process.
pub(super) struct Process {
    pub(super) log: Log,
    pub(super) delivery: Delivery,
}

impl Story {
    pub(super) fn new(world: Arc<Baton>, plan: Plan, mut rng: SmallRng, shore: Arc<Shore>) -> Story {
        let mut story = Story {
            world,
            plan,
            shore,
            targets: Vec::new(),
            shown: BTreeMap::new(),
            clock: Duration::ZERO,
            flipped: false,
            power_was_cut: false,
            set_aside: 0,
            excused_bytes: 0,
            summary: Summary::default(),
            rng: rand::SeedableRng::seed_from_u64(rng.random()),
        };
        (0..rng.random_range(1..5)).for_each(|_| story.add_target());
        story
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        self.world.tell(line);
    }

    /// Nothing outlives the process.
    fn is_in_memory(&self) -> bool {
        self.plan.log.durability == Durability::Memory
    }

    fn is_dead(&self) -> bool {
        self.world.disk().dead
    }

    fn add_target(&mut self) {
        let number = self.targets.len();
        let target = Target {
            id: Uuid::from_u128(number as u128 + 1),
            limits: limits(&mut self.rng),
            keeps_batches: self.rng.random_bool(0.5),
            private: self.rng.random_bool(0.3),
            version: 0,
            paused: false,
            deleted: false,
        };
        self.tell(|| format!("destination {number}: {:?}", target.limits));
        self.targets.push(target);
        locked(&self.shore.moods).push(Mood::Fine);
    }

    /// The whole simulation.
    pub(super) fn run(mut self) -> Summary {
        self.tell(|| format!("{:#?}", self.plan));
        for life in 0..self.plan.lives {
            let end = End::choose(&mut self.rng);
            self.tell(|| format!("--- life {life}, ends with {end:?}"));
            self.live(end);
        }
        self.tell(|| "--- the faults are over".to_owned());
        self.last_life();
        self.summary.fingerprint = self.world.fingerprint();
        self.summary.virtual_seconds = self.world.time().as_secs();
        self.summary.spans = locked(&self.shore.oracle).records.iter().map(|r| u64::from(r.spans)).sum();
        self.summary.duplicates = locked(&self.shore.oracle).duplicates();
        self.summary
    }

    fn live(&mut self, end: End) {
        let at = match end {
            End::Stop => None,
            End::Kill(at) | End::PowerCut(at) => at,
        };
        {
            let mut disk = self.world.disk();
            disk.die_at = at.map(|at| disk.operations + at);
        }
        self.summary.lives += 1;
        match end {
            End::Stop => {}
            End::Kill(_) => self.summary.kills += 1,
            End::PowerCut(_) => self.summary.power_cuts += 1,
        }
        if let Some(log) = self.open() {
            let runtime = runtime();
            self.clock = self.world.time();
            runtime.block_on(async {
                let process = self.start(log.clone());
                for _ in 0..self.plan.actions {
                    self.act(&process).await;
                    if self.is_dead() {
                        return;
                    }
                }
                if end == End::Stop {
                    if self.rng.random_bool(0.5) {
                        self.write_again(&process).await;
                    }
                    self.stop(&process).await;
                }
            });
            let stopped = end == End::Stop && !self.is_dead();
            if !stopped {
                self.world.disk().dead = true;
            }
            // What is under way ends; on a dead disk that has no effect.
            drop(runtime);
            log.close();
            self.summary.carried += log.activity().carried;
            if stopped {
                self.look(&log);
                if self.is_in_memory() {
                    self.settle_accounts(&log, true);
                }
            }
        }
        self.world.join_all();
        if self.is_in_memory() {
            self.shown.clear();
            let mut oracle = locked(&self.shore.oracle);
            oracle.since = oracle.records.len();
        }
        self.after(end);
    }

    /// What the end leaves behind.
    fn after(&mut self, end: End) {
        let now = self.world.time();
        let power_cut = matches!(end, End::PowerCut(_));
        if power_cut {
            self.power_was_cut = true;
            // The last notes may be gone.
            self.shore.batches_stay.store(false, Ordering::Relaxed);
            self.world.disk().cut_power();
            let durable = self.plan.log.durability == Durability::Durable;
            for books in self.shown.values_mut() {
                let synced = Books {
                    accepted: books.accepted,
                    selected: books.selected,
                    skipped: books.skipped,
                    ..Books::default()
                };
                *books = if durable { synced } else { Books::default() };
            }
            // A sync that failed leaves more than one interval open.
            let syncs_failed = self.world.disk().failed.contains("sync");
            let mut oracle = locked(&self.shore.oracle);
            for record in oracle.records.iter_mut().filter(|_| !durable) {
                if let Answer::Accepted(at) = record.answer {
                    record.excused |= syncs_failed || at + BUFFERED_LOSS > now;
                }
            }
            for requeue in oracle.requeues.iter_mut().filter(|_| !durable) {
                requeue.excused |= syncs_failed || requeue.ended.is_none_or(|at| at + BUFFERED_LOSS > now);
            }
        }
        let mut disk = self.world.disk();
        let known_until = match end {
            _ if self.is_in_memory() || !disk.failed.is_empty() || self.plan.damage => Duration::ZERO,
            _ => disk.died.unwrap_or(now).saturating_sub(SETTLED),
        };
        locked(&self.shore.oracle).end_life(known_until);
        disk.restart();
        disk.capacity = u64::MAX;
        if self.plan.damage && self.rng.random_bool(0.7) {
            let part = [".seg", "journal", "checkpoint", ".dead"][self.rng.random_range(0..4)];
            for _ in 0..self.rng.random_range(1..4) {
                if let Some(place) = disk.flip(part) {
                    self.flipped = true;
                    self.summary.flips += 1;
                    self.world.tell(|| format!("bit flipped: {place}"));
                }
            }
        }
        if self.flipped {
            locked(&self.shore.oracle).is_damaged = true;
            self.shown.clear();
        }
    }

    /// Opens the log; `None` if the process ended meanwhile.
    fn open(&mut self) -> Option<Log> {
        match Log::open(self.plan.log.clone()) {
            Ok((log, recovered)) => {
                self.tell(|| {
                    format!(
                        "opened: {} pending, notes {:?}",
                        recovered.backlog.iter().map(|b| b.spans).sum::<u64>(),
                        recovered.notes
                    )
                });
                let mut damage = log.damage();
                // A header page of which a part was written when the disk failed or the process ended, so that nothing
                // says that nothing is behind it. Of no other file, of no more bytes than such files have, and only at the next
                // start: what is set aside for good would otherwise pass for that. No acknowledged span can hide
                // here, whatever is excused: it would be missing when accounts are settled.
                let set_aside = damage.quarantined_bytes.saturating_sub(self.set_aside);
                let torn: u64 = std::mem::take(&mut self.world.disk().torn_headers).into_values().sum();
                self.set_aside = damage.quarantined_bytes;
                if set_aside <= torn {
                    self.excused_bytes += set_aside;
                }
                damage.quarantined_bytes = damage.quarantined_bytes.saturating_sub(self.excused_bytes);
                if self.power_was_cut && self.world.disk().failed.contains("sync") {
                    // Records whose sync failed: a restart found them in the page cache, the power cut took them.
                    // Nobody was answered for them.
                    damage.quarantined_bytes = 0;
                }
                let spotless = self.plan.log.durability == Durability::Durable && !self.flipped;
                if spotless && damage != Damage::default() && !self.is_dead() {
                    self.world.fail(format!(
                        "damage without a cause: {:?} {:?}",
                        log.damage(),
                        recovered.notes
                    ));
                }
                Some(log)
            }
            Err(_) if self.is_dead() => None,
            Err(error) => self.world.fail(format!("the log does not open: {error}")),
        }
    }

    fn start(&mut self, log: Log) -> Process {
        let slots = self.slots(&log);
        let shore = self.shore.clone();
        let known: BTreeMap<Uuid, (BatchLimits, bool)> =
            self.targets.iter().map(|t| (t.id, (t.limits, t.keeps_batches))).collect();
        let build = move |destination: &Destination| -> Result<Arc<dyn Adapter>, BuildError> {
            // One that came while the process ran.
            let newcomer = BatchLimits {
                spans_max: 10,
                bytes_max: 8 << 10,
                age_max: Duration::from_millis(20),
                concurrency_max: 2,
            };
            let (limits, keeps_batches) = known.get(&destination.id).copied().unwrap_or((newcomer, false));
            let number = destination.id.as_u128() as usize - 1;
            Ok(Arc::new(Sink { shore: shore.clone(), destination: number, limits, keeps_batches }))
        };
        let delivery = Delivery::with_builder(log.clone(), Arc::new(build), self.plan.delivery.clone());
        log.subscribe(Arc::new(delivery.clone()));
        let process = Process { log, delivery };
        self.apply(&process, &slots);
        process.delivery.recover();
        for target in self.targets.iter().filter(|t| t.paused && !t.deleted) {
            process.delivery.pause(target.id);
        }
        self.compare(&process.log);
        process
    }

    fn slots(&self, log: &Log) -> Vec<(usize, Slot)> {
        let live = self.targets.iter().enumerate().filter(|(_, t)| !t.deleted);
        live.map(|(i, target)| (i, log.slot(target.key()))).collect()
    }

    fn apply(&self, process: &Process, slots: &[(usize, Slot)]) {
        let mut wanted = Vec::new();
        for (number, slot) in slots {
            let Some(target) = self.targets.get(*number) else { continue };
            let body = json!({
                "type": "webhook",
                "name": format!("{number} version {}", target.version),
                "config": {"url": "https://example.com/hook"},
                "privacy_mode": target.private,
            });
            let defaults = CreateDefaults {
                id: target.id,
                workspace_id: DEFAULT_WORKSPACE_ID,
                managed_by: ManagedBy::Api,
                now: jiff::Timestamp::UNIX_EPOCH,
            };
            match Destination::create(&body, defaults) {
                Ok(destination) => wanted.push((*slot, Arc::new(destination))),
                Err(issues) => self.world.fail(format!("destination not valid: {issues:?}")),
            }
        }
        process.delivery.apply(&wanted);
    }

    /// No figure that was shown has fallen.
    fn compare(&self, log: &Log) {
        let known: BTreeMap<SlotKey, Slot> = log.slots().into_iter().map(|(slot, key)| (key, slot)).collect();
        for (key, shown) in &self.shown {
            let books = known.get(key).map(|slot| log.books(*slot)).unwrap_or_default();
            if self.is_dead() {
                return;
            }
            let figures = |books: &Books| {
                let counts = [books.accepted, books.selected, books.requeued, books.delivered];
                let lists = books.skipped.iter().chain(&books.dead_lettered).chain(&books.dropped);
                counts.into_iter().chain(lists.copied()).collect::<Vec<u64>>()
            };
            let fallen = figures(&books).iter().zip(figures(shown)).any(|(now, then)| *now < then);
            if fallen || !books.balanced() {
                let key = u128::from_be_bytes(*key) - 1;
                self.world.fail(format!("figures of {key} fell: shown {shown:?}, now {books:?}"));
            }
        }
    }

    /// Looks at all figures, as a user would.
    fn look(&mut self, log: &Log) {
        for (slot, key) in log.slots() {
            let books = log.books(slot);
            if self.is_dead() {
                return;
            }
            if !books.balanced() {
                self.world.fail(format!("books of slot {slot} do not balance: {books:?}"));
            }
            self.shown.insert(key, books);
        }
    }

    /// Lets time pass, up to so much, or until something is so.
    async fn pass(&mut self, time: Duration, done: impl Fn() -> bool) {
        let until = self.world.time() + time;
        let metrics = Handle::current().metrics();
        let mut quantum = Duration::from_millis(self.rng.random_range(1..8));
        loop {
            // Until no task can go on.
            tokio::task::yield_now().await;
            let now = self.world.time();
            if self.is_dead() || done() || now >= until {
                return;
            }
            let before = self.world.activity();
            let metrics = metrics.clone();
            self.world.idle((now + quantum).min(until), move || metrics.global_queue_depth() > 0);
            let passed = self.world.time().saturating_sub(self.clock);
            self.clock += passed;
            if !passed.is_zero() {
                tokio::time::advance(passed).await;
            }
            // In quiet times the steps grow; every pass of the baton to here and back counts for two.
            let quiet = self.world.activity() <= before + 2;
            quantum = if quiet { quantum * 2 } else { quantum }.min(Duration::from_secs(2));
            if !quiet && quantum > Duration::from_millis(50) {
                quantum = Duration::from_millis(10);
            }
        }
    }

    /// Once the disk works, the log takes records again, whether somebody asks or not.
    async fn write_again(&mut self, process: &Process) {
        {
            let mut disk = self.world.disk();
            disk.failing.clear();
            disk.capacity = u64::MAX;
        }
        let log = process.log.clone();
        self.pass(Duration::from_secs(60), || log.is_writable()).await;
        if !process.log.is_writable() && !self.is_dead() {
            self.world.fail("the disk works, and the log takes nothing".to_owned());
        }
    }

    /// SIGTERM.
    async fn stop(&mut self, process: &Process) {
        let delivery = process.delivery.clone();
        let grace = Duration::from_millis(self.rng.random_range(0..5_000));
        let in_memory = self.is_in_memory();
        if in_memory {
            // Requests that were begun are answered first.
            let shore = self.shore.clone();
            let answered = move || {
                let oracle = locked(&shore.oracle);
                oracle.records.iter().skip(oracle.since).all(|record| record.answer != Answer::None)
            };
            self.pass(Duration::from_secs(10), &answered).await;
            if !answered() && !self.is_dead() {
                self.world.fail("a request is not answered".to_owned());
            }
        }
        let task = tokio::spawn(async move {
            match in_memory {
                true => delivery.drain(grace).await,
                false => delivery.shutdown(grace).await,
            }
        });
        self.pass(grace + Duration::from_secs(60), || task.is_finished()).await;
        if !task.is_finished() && !self.is_dead() {
            self.world.fail("the stop takes longer than its grace".to_owned());
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    // Every task that can go on has its turn before the story goes on: so `pass` sees when all is quiet.
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .event_interval(u32::MAX)
        .build();
    built.expect("a runtime without sockets can be made")
}
