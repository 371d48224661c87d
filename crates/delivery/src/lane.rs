//! One destination's place in delivery: its queue, its configuration, its health, and the orders given to
//! its driver. Shared by the log's writer, the control plane and the driver; every lock is short.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracecast_destination::{Destination, Retry};
use tracecast_log::{DropReason, Entry, LogError, Outcome, Pending, Sequence, Slot};
use tracecast_sinks::BatchLimits;
use uuid::Uuid;

use crate::State;
use crate::course::Course;
use crate::driver::{self, Running};
use crate::gap::{Gaps, Lost};
use crate::health::{Gate, Health, Request, Signal};
use crate::history::{History, Memo, Transition};
use crate::job::{Part, Piece, cut};
use crate::limits::{Learned, Size};
use crate::policy::{self, Policy};
use crate::queue::{Queue, Ref};
use crate::rate::Rate;
use crate::reform::{Found, Plan};
use crate::shared::Shared;
use crate::stack::Sender;
use crate::stats::{Meters, Stats, unix_nano};

/// Spans between the first that is not final and the last that was read: beyond, a destination does not read on.
const SPREAD_MAX: u64 = 65_536;
/// References settled under one lock, so that giving up a long backlog does not hold up the log's writer.
const CHUNK: usize = 4096;

/// One configuration of a destination, ready for use.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) destination: Arc<Destination>,
    /// The way out, or why there is none.
    pub(crate) sender: Result<Sender, String>,
}

/// Why a lane takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The destination is gone: everything pending is given up.
    Deleted,
    /// The process ends: everything pending stays in the log.
    Shutdown,
    /// The process ends and the log with it: everything pending is given up.
    Ended,
}

pub(crate) struct Lane {
    pub(crate) slot: Slot,
    pub(crate) id: Uuid,
    pub(crate) shared: Arc<Shared>,
    pub(crate) meters: Meters,
    desk: Mutex<Desk>,
    /// Tells the driver that the desk changed.
    pub(crate) wake: Notify,
}

struct Desk {
    queue: Queue,
    course: Course,
    /// Batches of an earlier process, to be formed again before anything else is read.
    plans: Vec<Plan>,
    setup: Arc<Setup>,
    health: Health,
    paused: bool,
    retired: bool,
    closing: Option<Closing>,
    /// Spans up to this sequence are to be dropped.
    give_up: Option<Sequence>,
    /// Waits of batches are to end.
    nudged: bool,
    learned: Learned,
    rate: Option<Rate>,
    history: History,
    gaps: Gaps,
    shown: State,
    since_unix_nano: u64,
    running: bool,
    driver: Option<AbortHandle>,
}

/// What the driver is to do now.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) closing: Option<Closing>,
    pub(crate) gate: Gate,
    pub(crate) epoch: u64,
    /// The last that is known of the destination is a failure.
    pub(crate) failing: bool,
    /// Batches that may be outstanding, sent or waiting to be sent again.
    pub(crate) outstanding_max: usize,
    pub(crate) nudged: bool,
    pub(crate) give_up: Option<Sequence>,
    /// Taken from the queue, to be settled as dropped.
    pub(crate) dropped: Vec<(Piece, DropReason)>,
    /// There is more to be dropped: ask again at once.
    pub(crate) more: bool,
    /// When the oldest of the queue expires.
    pub(crate) queue_deadline: Option<Instant>,
    /// What to read, now.
    pub(crate) read: Option<Reading>,
    /// Batches must stay as they are once they were sent.
    pub(crate) keeps_batches: bool,
    /// A batch that waits goes when its time comes, and serves as no probe before.
    pub(crate) by_schedule: bool,
    /// When to try again to read on.
    pub(crate) read_at: Option<Instant>,
}

/// What is to be read of the log.
#[derive(Debug)]
pub(crate) enum Reading {
    /// What follows in the queue, from this ordinal on.
    On(u64),
    /// Batches of an earlier process.
    Again(Vec<Plan>),
}

/// What the batcher has.
#[derive(Debug)]
pub(crate) enum Take {
    Batch(Vec<Piece>),
    /// Spans that still wait for company, until then.
    Linger(Instant),
    Empty,
}

impl Lane {
    pub(crate) fn new(slot: Slot, setup: Setup, shared: Arc<Shared>) -> Lane {
        let options = &shared.options;
        let health = Health::new(Policy::from(options), setup.retry(), setup.concurrency());
        let rate = setup.rate();
        let mut desk = Desk {
            queue: Queue::counted_in(shared.refs.clone()),
            course: Course::default(),
            plans: Vec::new(),
            setup: Arc::new(setup),
            health,
            paused: false,
            retired: false,
            closing: None,
            give_up: None,
            nudged: false,
            learned: Learned::default(),
            rate,
            history: History::default(),
            gaps: Gaps::default(),
            shown: State::Healthy,
            since_unix_nano: unix_nano(),
            running: false,
            driver: None,
        };
        desk.shown = desk.state();
        let id = desk.setup.destination.id;
        let lane =
            Lane { slot, id, shared, meters: Meters::default(), desk: Mutex::new(desk), wake: Notify::new() };
        lane.note_setup_error();
        lane
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration in force.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        self.desk().setup.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = Instant::now();
        let (state, since, gate, gap) = {
            let desk = self.desk();
            (desk.shown, desk.since_unix_nano, desk.gate(now), desk.gaps.offer(unix_nano()))
        };
        let wait = if let Gate::Until(until) = gate { until - now } else { Duration::ZERO };
        Stats { gap, ..self.meters.stats(state, since, wait) }
    }

    /// What ended together.
    pub(crate) fn settle(&self, ended: Vec<(Piece, Outcome)>) {
        self.shared.settle(self.slot, ended);
    }

    // What others ask for.

    /// Called by the log's writer: cheap, never waits.
    pub(crate) fn push(self: &Arc<Self>, item: Ref) {
        let mut desk = self.desk();
        let (first, end) = item.ordinals();
        if desk.course.behind {
            desk.course.seen = desk.course.seen.max(end);
            return;
        }
        if first < desk.course.next {
            // Read already.
            return;
        }
        let (spans_max, bytes_max) = desk.maxima(Instant::now());
        if !desk.running {
            // Nothing is outstanding.
            desk.course.low = desk.queue.first().unwrap_or(first);
        }
        let spread = end.saturating_sub(desk.course.low) > SPREAD_MAX;
        if self.shared.log.is_readable() && (spread || desk.queue.is_full(spans_max, bytes_max)) {
            desk.course.behind = true;
            desk.course.seen = end;
            self.rouse(&mut desk);
            return;
        }
        let idle = desk.queue.is_empty();
        let filled = desk.queue.fills(spans_max, bytes_max);
        desk.course.next = end;
        desk.course.taken = item.sequence();
        desk.queue.push(item);
        // The driver is woken for what changes its plans, not for every reference.
        if idle || !desk.running || (!filled && desk.queue.fills(spans_max, bytes_max)) {
            self.rouse(&mut desk);
        }
    }

    /// Reads on in the log, from this ordinal on, until it is caught up with. `plans`: what follows that an earlier
    /// process may have sent as batches.
    pub(crate) fn read_on(self: &Arc<Self>, from: u64, mut plans: Vec<Plan>) {
        let mut desk = self.desk();
        (desk.course.next, desk.course.low, desk.course.behind) = (from, from, true);
        plans.sort_by_key(|plan| plan.first().map(|range| range.start));
        desk.plans = plans;
        self.rouse(&mut desk);
    }

    /// What was read of `plans`. The batches that are as they were, and the batches of what is left of others.
    pub(crate) fn plans_read(
        &self,
        plans: Vec<Plan>,
        read: Result<Vec<Vec<Found>>, LogError>,
        now: Instant,
    ) -> Vec<Part> {
        let mut desk = self.desk();
        desk.course.reading = false;
        if !desk.course.behind {
            return Vec::new();
        }
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                desk.plans = plans;
                self.unreadable(&mut desk, &error, now);
                return Vec::new();
            }
        };
        (desk.course.failures, desk.course.not_before) = (0, None);
        let (spans_max, bytes_max) = desk.maxima(now);
        // Shares of a cut record are estimates.
        let bytes_max = bytes_max.saturating_add(bytes_max / 8);
        let mut parts = Vec::new();
        for (plan, found) in plans.into_iter().zip(read) {
            let pieces = found.into_iter().map(|Found { entry, route, spans, bytes }| Piece {
                deadline: self.deadline(&entry, now),
                entry,
                route: route as u32,
                spans,
                bytes,
            });
            // What was given up meanwhile is not taken.
            let next = desk.course.next;
            let is_open = |piece: &Piece| piece.ordinals().first().is_some_and(|range| range.start >= next);
            let pieces: Vec<Piece> = pieces.filter(is_open).collect();
            if pieces.is_empty() {
                continue;
            }
            let whole = Part::again(pieces.clone(), now);
            desk.course.formed.append(&mut whole.ordinals());
            let is_whole = whole.ordinals() == plan;
            let mut batches = cut(pieces, spans_max, bytes_max);
            if is_whole && batches.len() == 1 {
                parts.push(whole);
            } else {
                parts.extend(batches.drain(..).map(|pieces| Part::new(pieces, now)));
            }
        }
        desk.course.formed.sort_by_key(|range| range.start);
        parts
    }

    /// When what was received with an entry is too old to be sent.
    fn deadline(&self, entry: &Entry, now: Instant) -> Instant {
        let age = self.shared.age(entry.received_unix_nano, now);
        now + self.shared.options.max_age.saturating_sub(age)
    }

    /// The log could not be read: again later.
    fn unreadable(&self, desk: &mut Desk, error: &LogError, now: Instant) {
        desk.course.failures = desk.course.failures.saturating_add(1);
        let policy = Policy::from(&self.shared.options);
        let wait = policy.backoff(desk.course.failures, None, &mut policy::chance());
        desk.course.not_before = Some(now + wait);
        let destination = self.id;
        tracing::warn!(%destination, %error, "backlog not readable now, trying again");
    }

    /// What was read from `read_from` on.
    pub(crate) fn page_read(&self, page: Result<Pending, LogError>, now: Instant) {
        let mut desk = self.desk();
        desk.course.reading = false;
        if !desk.course.behind {
            return;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.unreadable(&mut desk, &error, now),
        };
        (desk.course.failures, desk.course.not_before) = (0, None);
        let Pending { entries, mut next, mut at_end } = page;
        let bound = desk.course.low.saturating_add(SPREAD_MAX);
        for entry in &entries {
            let first = entry.routes.first().map_or(0, |route| route.ordinal);
            if first >= bound {
                // Read again when what is stuck has ended.
                (next, at_end) = (first, false);
                break;
            }
            desk.course.taken = desk.course.taken.max(entry.sequence);
            let deadline = self.deadline(entry, now);
            for route in 0..entry.routes.len() {
                // What was given up meanwhile is not taken.
                let item = Ref::new(entry, route, deadline).filter(|r| r.ordinals().0 >= desk.course.next);
                let item = item.and_then(|item| item.without(&desk.course.formed));
                item.into_iter().for_each(|item| desk.queue.push(item));
            }
        }
        desk.course.advance(next);
        desk.course.behind = !at_end || desk.course.seen > desk.course.next;
    }

    /// Takes a new configuration: the queue stays, waits end.
    pub(crate) fn reconfigure(self: &Arc<Self>, setup: Setup) {
        self.change(|desk| {
            let privacy_on = setup.destination.privacy_mode && !desk.setup.destination.privacy_mode;
            if privacy_on {
                self.meters.forget_error();
                desk.history.forget_errors();
            }
            desk.health.retry_now(setup.retry(), setup.concurrency());
            if setup.destination.rate_limit != desk.setup.destination.rate_limit {
                desk.rate = setup.rate();
            }
            desk.setup = Arc::new(setup);
            desk.learned = Learned::default();
            desk.nudged = true;
        });
        self.note_setup_error();
    }

    pub(crate) fn pause(self: &Arc<Self>) {
        self.change(|desk| desk.paused = true);
    }

    /// Nobody names the destination any more, or somebody does again: a backlog kept meanwhile is sent.
    pub(crate) fn retire(self: &Arc<Self>, retired: bool) {
        if self.desk().retired == retired {
            return;
        }
        self.change(|desk| {
            desk.retired = retired;
            if !retired {
                desk.health.retry_now(desk.setup.retry(), desk.setup.concurrency());
                desk.nudged = true;
            }
        });
    }

    /// Ends a pause; also means: try now.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.change(|desk| {
            desk.paused = false;
            desk.health.retry_now(desk.setup.retry(), desk.setup.concurrency());
            desk.nudged = true;
        });
    }

    pub(crate) fn give_up(self: &Arc<Self>, up_to: Sequence) {
        let mut desk = self.desk();
        desk.give_up = desk.give_up.max(Some(up_to));
        self.rouse(&mut desk);
    }

    pub(crate) fn close(self: &Arc<Self>, closing: Closing) {
        self.change(|desk| {
            if desk.closing != Some(Closing::Shutdown) {
                desk.closing = Some(closing);
            }
        });
    }

    /// Cuts what is under way.
    pub(crate) fn abort(&self) {
        if let Some(driver) = self.desk().driver.take() {
            driver.abort();
        }
    }

    fn change(self: &Arc<Self>, apply: impl FnOnce(&mut Desk)) {
        let mut desk = self.desk();
        apply(&mut desk);
        let transition = self.transition(&mut desk);
        self.rouse(&mut desk);
        drop(desk);
        self.announce(transition);
    }

    /// Makes sure that a driver looks at the desk, if there is anything to do.
    fn rouse(self: &Arc<Self>, desk: &mut Desk) {
        if desk.running {
            self.wake.notify_one();
        } else if !desk.is_idle() {
            desk.running = true;
            let task = driver::run(self.clone(), Running::new(self.shared.clone()));
            desk.driver = Some(self.shared.runtime.spawn(task).abort_handle());
        }
    }

    // What the driver asks for.

    /// `low`: the first ordinal that is outstanding.
    pub(crate) fn orders(&self, low: Option<u64>, now: Instant) -> Orders {
        let log = &self.shared.log;
        let mut desk = self.desk();
        let mut dropped = Vec::new();
        let mut give_up = None;
        match desk.closing {
            Some(Closing::Shutdown) => {}
            Some(closing @ (Closing::Deleted | Closing::Ended)) => {
                let deleted = closing == Closing::Deleted;
                let reason = if deleted { DropReason::DestinationDeleted } else { DropReason::Shutdown };
                dropped.extend(desk.queue.drain(CHUNK).into_iter().map(|p| (p, reason)));
                if std::mem::take(&mut desk.course.behind)
                    && let Some(backlog) = log.backlog(self.slot)
                {
                    let rest = desk.course.next..backlog.end_ordinal;
                    self.give_up_unread(&desk, rest, Sequence::MAX, reason);
                }
            }
            None => {
                let pieces = desk.queue.expire(now, CHUNK).into_iter();
                dropped.extend(pieces.map(|p| (p, DropReason::Expired)));
                if let Some(up_to) = desk.give_up {
                    let pieces = desk.queue.give_up(up_to, CHUNK.saturating_sub(dropped.len())).into_iter();
                    dropped.extend(pieces.map(|p| (p, DropReason::BacklogFull)));
                    give_up = Some(up_to);
                    let end = if desk.course.behind { log.end_upto(self.slot, up_to) } else { 0 };
                    if end > desk.course.next && dropped.len() < CHUNK {
                        let rest = desk.course.next..end;
                        self.give_up_unread(&desk, rest, up_to, DropReason::BacklogFull);
                        desk.course.advance(end);
                        desk.course.taken = desk.course.taken.max(up_to);
                    }
                }
            }
        }
        let more = dropped.len() >= CHUNK;
        let next = desk.course.next;
        desk.course.low = low.into_iter().chain(desk.queue.first()).min().unwrap_or(next);
        let (spans_max, bytes_max) = desk.maxima(now);
        let wanted = desk.course.behind
            && !desk.course.reading
            && desk.closing.is_none()
            && desk.queue.is_low(spans_max, bytes_max)
            && next.saturating_sub(desk.course.low) < SPREAD_MAX;
        let read_at = desk.course.not_before.filter(|at| wanted && *at > now);
        let read = (wanted && read_at.is_none()).then(|| match std::mem::take(&mut desk.plans) {
            plans if plans.is_empty() => Reading::On(next),
            plans => Reading::Again(plans),
        });
        desk.course.reading |= read.is_some();
        if !more {
            desk.give_up = None;
        }
        Orders {
            closing: desk.closing,
            gate: desk.gate(now),
            epoch: desk.health.epoch(),
            failing: desk.health.is_failing(),
            outstanding_max: desk.setup.concurrency().saturating_mul(2),
            nudged: std::mem::take(&mut desk.nudged),
            give_up,
            dropped,
            more,
            queue_deadline: desk.queue.deadline(),
            read,
            keeps_batches: desk.setup.keeps_batches(),
            by_schedule: desk.setup.retry() == Retry::Schedule,
            read_at,
        }
    }

    /// Gives up what was not queued yet: these ordinals, which lie in records up to this one.
    fn give_up_unread(&self, desk: &Desk, rest: Range<u64>, up_to: Sequence, reason: DropReason) {
        if let Some(observer) = self.shared.observer.get() {
            observer.given_up(self.slot, desk.course.taken.saturating_add(1)..=up_to, reason);
        }
        for rest in desk.course.not_formed(rest) {
            self.shared.log.settle_range(self.slot, rest, Outcome::Dropped(reason));
        }
    }

    /// The next batch, if one is due, of at most so many spans.
    pub(crate) fn take(&self, now: Instant, at_most: u32) -> Take {
        let mut desk = self.desk();
        let Some(limits) = desk.setup.limits() else { return Take::Empty };
        let (spans_max, bytes_max) = desk.maxima(now);
        let spans_max = spans_max.min(at_most);
        let Some(ready) = desk.queue.linger_until(limits.age_max, self.shared.options.max_age, now) else {
            return Take::Empty;
        };
        let fills = desk.queue.fills(spans_max, bytes_max);
        if desk.course.reading && !fills {
            // Company is on its way.
            return Take::Empty;
        }
        if ready > now && !fills {
            return Take::Linger(ready);
        }
        Take::Batch(desk.queue.take(spans_max, bytes_max))
    }

    /// How long the destination's rate limit allows nothing.
    pub(crate) fn rate_wait(&self, now: Instant) -> Option<Instant> {
        self.desk().rate.as_ref().and_then(|rate| rate.wait(now))
    }

    /// A request with so many spans is started.
    pub(crate) fn started(&self, spans: u32, now: Instant) {
        if let Some(rate) = &mut self.desk().rate {
            rate.spend(spans, now);
        }
    }

    /// Takes note of an answer; see [`Health::react`].
    pub(crate) fn react(&self, signal: Signal, request: Request, now: Instant) -> Duration {
        if let Signal::Failed { retry_after: Some(asked), .. } = signal
            && asked > policy::RETRY_AFTER_CAP
        {
            let (destination, asked_secs) = (self.id, asked.as_secs());
            tracing::info!(%destination, asked_secs, "asked to wait for more than an hour: an hour is waited");
        }
        let mut desk = self.desk();
        let flowed = desk.health.flows();
        let wait = desk.health.react(signal, request, now, &mut policy::chance());
        // It is back: hours that were to be waited because it was away have no more reason.
        let is_back = !flowed && desk.health.flows();
        desk.nudged |= is_back && desk.setup.retry() == Retry::Schedule;
        let transition = self.transition(&mut desk);
        if desk.health.is_well() {
            desk.gaps.ended(unix_nano(), || self.lost());
        }
        drop(desk);
        self.announce(transition);
        wait
    }

    /// A request of this size was taken.
    pub(crate) fn accepted(&self, size: Size, now: Instant) {
        self.desk().learned.accepted(size, now);
    }

    /// A request of this size was refused because of it.
    pub(crate) fn refused(&self, size: Size, now: Instant) {
        self.desk().learned.refused(size, now);
    }

    /// How small a single span of `bytes` that was refused is to be made.
    pub(crate) fn shrink_to(&self, bytes: u64, now: Instant) -> u64 {
        self.desk().learned.shrink_to(bytes, now)
    }

    /// What a gap has cost is being sent again.
    pub(crate) fn took_up_offer(&self) {
        self.desk().gaps.offer = None;
    }

    fn lost(&self) -> Lost {
        let books = self.shared.log.books(self.slot);
        Lost { dropped: books.dropped.iter().sum(), dead_lettered: books.dead_lettered.iter().sum() }
    }

    /// The latest changes of state, oldest first.
    pub(crate) fn history(&self) -> Vec<Transition> {
        self.desk().history.entries()
    }

    /// What is to be remembered over a restart.
    pub(crate) fn memo(&self) -> Memo {
        let desk = self.desk();
        Memo {
            failing_for: desk.health.failing_for(Instant::now()),
            history: desk.history.entries(),
            gaps: desk.gaps,
        }
    }

    /// What an earlier process remembered.
    pub(crate) fn recall(&self, memo: Memo) {
        let mut desk = self.desk();
        if let Some(failing_for) = memo.failing_for {
            desk.health.has_failed_for(failing_for, Instant::now());
        }
        desk.history.precede(memo.history);
        desk.gaps = memo.gaps;
    }

    /// Brings the shown state up to date and notes the change, if there was one.
    fn transition(&self, desk: &mut Desk) -> Option<Transition> {
        let (from, to) = (desk.shown, desk.state());
        if from == to {
            return None;
        }
        desk.shown = to;
        desk.since_unix_nano = unix_nano();
        self.meters.entered(to);
        let error = if to == State::Healthy { None } else { self.meters.last_error() };
        let change = Transition { from, to, at_unix_nano: desk.since_unix_nano, times: 1, error };
        desk.history.push(change.clone());
        if from == State::AutoPaused && to == State::Degraded {
            desk.gaps.ended(change.at_unix_nano, || self.lost());
        }
        let failing_for = desk.health.failing_for(Instant::now()).map_or(0, |(ago, _)| ago.as_nanos() as u64);
        let since_unix_nano = change.at_unix_nano.saturating_sub(failing_for);
        desk.gaps.entered(to, since_unix_nano, || self.lost());
        Some(change)
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.desk().closing == Some(Closing::Shutdown)
    }

    /// The driver has nothing left. True if it may end; false if the desk has something new for it.
    pub(crate) fn dismiss(&self) -> bool {
        let mut desk = self.desk();
        let done = desk.closing == Some(Closing::Shutdown) || desk.is_idle();
        if done {
            desk.running = false;
            desk.driver = None;
        }
        done
    }

    fn note_setup_error(&self) {
        if let Err(reason) = &self.setup().sender {
            self.meters.error(None, reason.clone());
        }
    }

    fn announce(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let setup = self.setup();
        if let Some(watcher) = self.shared.watcher.get() {
            watcher(&setup.destination, &transition);
        }
        let (from, to) = (transition.from, transition.to);
        let weight = |state: State| match state {
            State::HeldAuth | State::HeldConfig | State::AutoPaused | State::Gone => 2,
            State::Throttled | State::Open | State::Paused | State::Draining | State::Retired => 1,
            _ => 0,
        };
        let (heavy_from, heavy_to) = (weight(from), weight(to));
        let (destination, name) = (self.id, setup.destination.name.as_str());
        let (from, to) = (from.as_str(), to.as_str());
        match (heavy_to, heavy_from) {
            (2, _) => {
                tracing::warn!(%destination, name, from, to, "destination needs attention, its data is kept")
            }
            (0, 0) => tracing::debug!(%destination, name, from, to, "destination changed state"),
            _ => tracing::info!(%destination, name, from, to, "destination changed state"),
        }
    }
}

impl Setup {
    pub(crate) fn keeps_batches(&self) -> bool {
        self.sender.as_ref().is_ok_and(Sender::keeps_batches)
    }

    fn limits(&self) -> Option<BatchLimits> {
        self.sender.as_ref().ok().map(Sender::limits)
    }

    fn concurrency(&self) -> usize {
        self.limits().map_or(1, |l| l.concurrency_max)
    }

    fn retry(&self) -> Retry {
        self.destination.retry
    }

    fn rate(&self) -> Option<Rate> {
        self.destination.rate_limit.map(|limit| Rate::new(limit, Instant::now()))
    }
}

impl Desk {
    fn state(&self) -> State {
        if self.closing == Some(Closing::Deleted) {
            State::Draining
        } else if self.retired {
            State::Retired
        } else if self.is_paused() {
            State::Paused
        } else if self.setup.sender.is_err() {
            State::HeldConfig
        } else {
            self.health.state()
        }
    }

    /// By the user, or because the destination is switched off: the backlog stays.
    fn is_paused(&self) -> bool {
        self.paused || !self.setup.destination.enabled
    }

    fn is_stopped(&self) -> bool {
        self.closing.is_some() || self.retired || self.is_paused() || self.setup.sender.is_err()
    }

    fn gate(&self, now: Instant) -> Gate {
        if self.is_stopped() {
            return Gate::Shut;
        }
        self.health.gate(now)
    }

    /// Spans and bytes of the largest batch.
    fn maxima(&self, now: Instant) -> (u32, u64) {
        let Some(limits) = self.setup.limits() else { return (u32::MAX, u64::MAX) };
        let (bytes, spans) = self.learned.maxima(now);
        (spans.min(limits.spans_max), bytes.min(limits.bytes_max))
    }

    fn is_idle(&self) -> bool {
        match self.closing {
            Some(Closing::Shutdown) => true,
            _ => self.queue.is_empty() && !self.course.behind,
        }
    }
}
