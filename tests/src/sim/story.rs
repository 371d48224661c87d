//! One simulation from the first start to the last look at the books.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::runtime::Handle;
use tracecast_delivery::Delivery;
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_log::{
    Books, Damage, Durability, Log, LogError, NewRecord, Projection, Route, Skip, SkipReason, Slot, SlotKey,
};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::{Adapter, BatchLimits, BuildError};
use uuid::Uuid;

use super::Summary;
use super::baton::Baton;
use super::disk::Op;
use super::oracle::{Answer, Causes, Share};
use super::plan::{End, Plan, limits};
use super::requeue;
use super::sink::{Mood, Shore, Sink, locked};

/// Acknowledged in buffered mode so long before the power went, nothing may be lost.
const BUFFERED_LOSS: Duration = Duration::from_secs(4);
/// A fresh event passes within this time once the faults are over, if nobody helps: the longest hold.
const LIVENESS: Duration = Duration::from_secs(20 * 60);

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
        disk.restart();
        disk.capacity = u64::MAX;
        if self.plan.damage && self.rng.random_bool(0.7) {
            let part = [".seg", "journal", "checkpoint", ".dead"][self.rng.random_range(0..4)];
            for _ in 0..self.rng.random_range(1..4) {
                if let Some(place) = disk.flip(part) {
                    self.flipped = true;
                    self.world.tell(|| format!("bit flipped: {place}"));
                }
            }
        }
        if self.flipped {
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

    async fn act(&mut self, process: &Process) {
        let roll = self.rng.random_range(0..100);
        let target = self.rng.random_range(0..self.targets.len());
        match roll {
            0..55 => {
                for _ in 0..self.rng.random_range(1..6) {
                    self.request(process, false);
                }
            }
            55..70 if self.plan.moods => {
                let mood = Mood::ALL[self.rng.random_range(0..Mood::ALL.len())];
                self.tell(|| format!("destination {target} is {mood:?} from now on"));
                if let Some(place) = locked(&self.shore.moods).get_mut(target) {
                    *place = mood;
                }
            }
            70..78 if self.plan.operators => self.operate(process, target),
            78..84 if self.plan.disk_faults => self.fault(),
            84..90 if self.plan.requeues => self.requeue(process, target),
            90..92 if self.plan.clock => {
                let nanos = if self.rng.random_bool(0.5) { -3_600_000_000_000 } else { 86_400_000_000_000 };
                self.tell(|| format!("the wall clock jumps by {} s", nanos / 1_000_000_000));
                self.world.shift_wall(nanos);
            }
            _ => self.look(&process.log),
        }
        let millis = match self.rng.random_range(0..20) {
            0..12 => self.rng.random_range(0..30),
            12..17 => self.rng.random_range(0..500),
            17..19 => self.rng.random_range(0..8_000),
            _ => self.rng.random_range(0..120_000),
        };
        self.pass(Duration::from_millis(millis), || false).await;
    }

    fn operate(&mut self, process: &Process, number: usize) {
        let choice = self.rng.random_range(0..6);
        let live = self.targets.iter().filter(|t| !t.deleted).count();
        let all = self.targets.len();
        let Some(target) = self.targets.get_mut(number).filter(|t| !t.deleted) else { return };
        let done = match choice {
            0 => {
                target.paused = true;
                process.delivery.pause(target.id);
                "paused"
            }
            1 => {
                target.paused = false;
                process.delivery.resume(target.id);
                "resumed"
            }
            2 => {
                target.private = true;
                "made private"
            }
            3 if live > 1 => {
                target.deleted = true;
                "deleted"
            }
            4 if all < 8 => {
                self.add_target();
                "joined by another"
            }
            _ => {
                target.version += 1;
                "renamed"
            }
        };
        self.tell(|| format!("destination {number} is {done}"));
        let slots = self.slots(&process.log);
        self.apply(process, &slots);
    }

    fn fault(&mut self) {
        let mut disk = self.world.disk();
        let kind = self.rng.random_range(0..5);
        let part = [".seg", "journal", "checkpoint", ".dead", ""][self.rng.random_range(0..5)];
        let times = self.rng.random_range(1..4);
        let done = match kind {
            0 => {
                disk.capacity = self.rng.random_range(0..400_000);
                format!("disk of {} bytes", disk.capacity)
            }
            1 => {
                disk.capacity = u64::MAX;
                "disk has room again".to_owned()
            }
            2 => {
                disk.failing.push((Op::Sync, part, times));
                format!("{times} syncs of {part} fail")
            }
            3 if self.plan.read_faults => {
                disk.failing.push((Op::Read, ".seg", times));
                format!("{times} reads fail")
            }
            _ => {
                disk.failing.push((Op::Write, part, times));
                format!("{times} writes of {part} fail")
            }
        };
        drop(disk);
        self.tell(|| done);
    }

    /// Sends a request in. A `fresh` one is for everybody and holds nothing bad.
    fn request(&mut self, process: &Process, fresh: bool) -> usize {
        let rng = &mut self.rng;
        let spans = if fresh { 1 } else { rng.random_range(1..7) };
        let filler = [5, 60, 600, 4_000][rng.random_range(0..if fresh { 1 } else { 4 })];
        let (mut shares, mut routes, mut skips) = (Vec::new(), Vec::new(), Vec::new());
        for (number, target) in self.targets.iter().enumerate().filter(|(_, t)| !t.deleted) {
            let slot = process.log.slot(target.key());
            let wanted = match rng.random_range(0..10) {
                _ if fresh => (0..spans).collect(),
                0..5 => (0..spans).collect(),
                5..8 => (0..spans).filter(|_| rng.random_bool(0.5)).collect(),
                _ => Vec::new(),
            };
            let left = spans - wanted.len() as u32;
            if left > 0 {
                skips.push(Skip { slot, reason: SkipReason::Sampled, spans: left });
            }
            if wanted.is_empty() {
                continue;
            }
            let projection = if target.private { Projection::PRIVACY } else { Projection::AS_IS };
            routes.push(Route {
                slot,
                projection,
                spans: SpanSet::from_positions(spans, wanted.iter().copied()),
            });
            shares.push(Share { destination: number, positions: wanted, private: target.private });
        }
        let poison: BTreeSet<u32> = (0..spans).filter(|_| !fresh && rng.random_bool(0.02)).collect();
        let mut oracle = locked(&self.shore.oracle);
        let number = oracle.request(spans, filler, shares, poison);
        let payload = oracle.records.get(number).map(|r| r.payload.clone()).unwrap_or_default();
        drop(oracle);
        let payload = if routes.is_empty() {
            Payload::new(Default::default(), 0)
        } else {
            Payload::new(payload, spans)
        };
        if routes.is_empty() {
            skips.iter_mut().for_each(|skip| skip.spans = spans);
        }
        let record = NewRecord {
            workspace: *DEFAULT_WORKSPACE_ID.as_bytes(),
            config_generation: 1,
            received_unix_nano: tracecast_log::world::unix_nano(),
            accepted: spans,
            routes,
            skips,
            trace_keys: Default::default(),
            origin: Default::default(),
            payload: Arc::new(payload),
        };
        let (log, shore, world) = (process.log.clone(), self.shore.clone(), self.world.clone());
        tokio::spawn(async move {
            let result = log.append(record).await;
            if world.disk().dead {
                return;
            }
            world.tell(|| format!("request {number} of {spans} spans: {result:?}"));
            let answer = match result {
                Ok(_) => Answer::Accepted(world.time()),
                Err(LogError::Invalid(reason)) => {
                    world.fail(format!("request {number} is invalid: {reason}"))
                }
                Err(_) => Answer::Refused,
            };
            if let Some(record) = locked(&shore.oracle).records.get_mut(number) {
                record.answer = answer;
            }
        });
        number
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

    fn last_life(&mut self) {
        let log = match self.open() {
            Some(opened) => opened,
            None => self.world.fail("dead without a reason".to_owned()),
        };
        let runtime = runtime();
        self.clock = self.world.time();
        runtime.block_on(async {
            locked(&self.shore.moods).iter_mut().for_each(|mood| *mood = Mood::Fine);
            let process = self.start(log.clone());
            let live: Vec<usize> =
                self.targets.iter().enumerate().filter(|(_, t)| !t.deleted).map(|(i, _)| i).collect();
            for target in self.targets.iter_mut().filter(|t| t.paused && !t.deleted) {
                target.paused = false;
                process.delivery.resume(target.id);
            }
            self.pass_a_fresh_event(&process, &live).await;
            let slots: Vec<Slot> = process.log.slots().into_iter().map(|(slot, _)| slot).collect();
            let rest = process.log.clone();
            let is_empty = move || slots.iter().all(|slot| rest.books(*slot).pending == 0);
            self.pass(Duration::from_secs(3 * 3600), &is_empty).await;
            if self.plan.requeues {
                self.bring_letters_home(&process, &live, &is_empty).await;
            }
            self.settle_accounts(&process.log, false);
            self.stop(&process).await;
        });
        drop(runtime);
        log.close();
        self.summary.carried += log.activity().carried;
        self.look(&log);
        drop(log);
        self.world.join_all();
        if self.is_in_memory() {
            return;
        }
        // And once more: a clean stop leaves nothing to do and nothing to say.
        let Some(log) = self.open() else { return };
        if let Some(rest) = log.slots().into_iter().find_map(|(slot, _)| log.backlog(slot)) {
            self.world.fail(format!("pending after a clean stop at rest: {rest:?}"));
        }
        self.compare(&log);
        log.close();
        drop(log);
        self.world.join_all();
    }

    /// A replay, or a backfill, while everything else goes on.
    fn requeue(&mut self, process: &Process, number: usize) {
        let Some(target) = self.targets.get(number).filter(|target| !target.deleted) else { return };
        let (id, private) = (target.id, target.private);
        let around = requeue::Around { shore: self.shore.clone(), destination: number, id };
        if self.rng.random_bool(0.3) {
            locked(&self.shore.oracle).forgiving.insert(number);
            self.tell(|| format!("destination {number} refuses nothing any more"));
        }
        if self.rng.random_bool(0.5) {
            around.replay(process);
        } else {
            let back = Duration::from_secs([5, 60, 3600, 24 * 3600][self.rng.random_range(0..4)]);
            around.backfill(process, back, private);
        }
    }

    /// Nobody refuses anything any more: every letter comes home.
    async fn bring_letters_home(&mut self, process: &Process, live: &[usize], is_empty: &impl Fn() -> bool) {
        locked(&self.shore.oracle).forgiving.extend(live);
        for number in live {
            let Some(target) = self.targets.get(*number) else { continue };
            let (id, slot) = (target.id, process.log.slot(target.key()));
            let around = requeue::Around { shore: self.shore.clone(), destination: *number, id };
            let task = around.replay(process);
            let delivery = process.delivery.clone();
            let done = || task.is_finished() && delivery.replaying(id) == 0 && is_empty();
            self.pass(LIVENESS, &done).await;
            let left = process.log.dead_letters().list(slot).len();
            // What a broken file holds cannot be read, or is told of again.
            if !done() || (left > 0 && !self.flipped) {
                let stats = process.delivery.stats(id);
                self.world.fail(format!("{left} letters of {number} did not come home: {stats:#?}"));
            }
        }
    }

    async fn pass_a_fresh_event(&mut self, process: &Process, live: &[usize]) {
        let until = self.world.time() + LIVENESS;
        let mut sent = Vec::new();
        loop {
            sent.push(self.request(process, true));
            let (shore, watched, all) = (self.shore.clone(), sent.clone(), live.to_vec());
            let arrived = move || {
                let oracle = locked(&shore.oracle);
                all.iter().all(|target| watched.iter().any(|record| oracle.has_taken(*target, (*record, 0))))
            };
            self.pass(Duration::from_secs(60), &arrived).await;
            if arrived() {
                return;
            }
            if self.world.time() > until {
                let states: Vec<_> = self.targets.iter().map(|t| process.delivery.stats(t.id)).collect();
                self.world.fail(format!("no fresh event has passed within {LIVENESS:?}: {states:#?}"));
            }
        }
    }

    fn settle_accounts(&mut self, log: &Log, shutdown: bool) {
        if let Err(error) = log.flush() {
            self.world.fail(format!("not flushed at the end: {error}"));
        }
        let known: BTreeMap<SlotKey, Slot> = log.slots().into_iter().map(|(slot, key)| (key, slot)).collect();
        let failed = self.world.disk().failed.clone();
        let causes = Causes {
            damage: self.flipped,
            unreadable: failed.contains("read")
                || (self.power_was_cut && self.plan.log.durability == Durability::Buffered),
            disk_failed: !failed.is_empty(),
            small_cap: self.plan.small_cap || failed.contains("full"),
            // A clock that jumps may age spans over a restart.
            expiry: self.plan.expiry || self.plan.clock,
            shutdown,
        };
        for (number, target) in self.targets.iter().enumerate() {
            let slot = known.get(&target.key()).copied();
            let books = slot.map(|slot| log.books(slot)).unwrap_or_default();
            let letters = slot.map(|slot| log.dead_letters().list(slot)).unwrap_or_default();
            self.tell(|| format!("destination {number} at the end: {books:?}"));
            let oracle = locked(&self.shore.oracle);
            let settled = oracle.settle(number, target.deleted, &books, &letters, causes);
            drop(oracle);
            if let Err(finding) = settled {
                self.world.fail(finding);
            }
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
