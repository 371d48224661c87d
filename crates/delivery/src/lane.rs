//! One destination's place in delivery: its queue, its configuration, its health, and the orders given to
//! its driver. Shared by the log's writer, the control plane and the driver; every lock is short, and nobody calls the
//! log while holding the desk's: the log's writer waits for it.

mod orders;
mod reading;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracecast_destination::{Destination, Retry};
use tracecast_log::{Outcome, Sequence, Slot};
use tracecast_sinks::BatchLimits;
use uuid::Uuid;

pub(crate) use self::orders::{Orders, Reading, Take};
use crate::course::Course;
use crate::driver::{self, Running};
use crate::gap::Gaps;
use crate::health::{Gate, Health, Request, Signal};
use crate::history::History;
use crate::job::Piece;
use crate::lag::{Lag, Target};
use crate::limits::{Learned, Size};
use crate::policy::{self, Policy};
use crate::queue::{Queue, Ref};
use crate::rate::Rate;
use crate::reform::Plan;
use crate::shared::Shared;
use crate::stack::Sender;
use crate::stats::{Meters, unix_nano};
use crate::{Options, Standing, State};

/// Spans between the first that is not final and the last that was read: beyond, a destination does not read on.
const SPREAD_MAX: u64 = 65_536;

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
    lag: Lag,
    history: History,
    gaps: Gaps,
    shown: State,
    since_unix_nano: u64,
    running: bool,
    driver: Option<AbortHandle>,
}

impl Lane {
    pub(crate) fn new(slot: Slot, setup: Setup, standing: Standing, shared: Arc<Shared>) -> Lane {
        let options = &shared.options;
        let health = Health::new(Policy::from(options), setup.retry(), setup.concurrency());
        let rate = setup.rate();
        let mut desk = Desk {
            queue: Queue::counted_in(shared.refs.clone()),
            course: Course::default(),
            plans: Vec::new(),
            setup: Arc::new(setup),
            health,
            paused: standing == Standing::Paused,
            retired: standing == Standing::Retired,
            closing: None,
            give_up: None,
            nudged: false,
            learned: Learned::default(),
            rate,
            lag: Lag::default(),
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

    /// Stops sending, if the destination is to stand still.
    pub(crate) fn halt(self: &Arc<Self>, standing: Standing) {
        match standing {
            Standing::Active => {}
            Standing::Paused => self.pause(),
            Standing::Retired => self.retire(true),
        }
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
        let lost = self.lost();
        let mut desk = self.desk();
        apply(&mut desk);
        let transition = self.transition(&mut desk, lost);
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

    /// Takes note of an answer; see [`Health::react`]. `oldest`: the first deadline of what is outstanding after it.
    pub(crate) fn react(
        &self,
        signal: Signal,
        request: Request,
        oldest: Option<Instant>,
        now: Instant,
    ) -> Duration {
        if let Signal::Failed { retry_after: Some(asked), .. } = signal
            && asked > policy::RETRY_AFTER_CAP
        {
            let (destination, asked_secs) = (self.id, asked.as_secs());
            tracing::info!(%destination, asked_secs, "asked to wait for more than an hour: an hour is waited");
        }
        let lost = self.lost();
        let mut desk = self.desk();
        let flowed = desk.health.flows();
        let wait = desk.health.react(signal, request, now, &mut policy::chance());
        // It is back: hours that were to be waited because it was away have no more reason.
        let is_back = !flowed && desk.health.flows();
        desk.nudged |= is_back && desk.setup.retry() == Retry::Schedule;
        self.note_lag(&mut desk, oldest, now);
        let transition = self.transition(&mut desk, lost);
        if desk.health.is_well() {
            desk.gaps.ended(unix_nano(), lost);
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

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.desk().closing == Some(Closing::Shutdown)
    }

    /// The driver has nothing left. True if it may end; false if the desk has something new for it.
    pub(crate) fn dismiss(&self) -> bool {
        let lost = self.lost();
        let mut desk = self.desk();
        let done = desk.closing == Some(Closing::Shutdown) || desk.is_idle();
        if !done {
            return false;
        }
        desk.running = false;
        desk.driver = None;
        let mut transition = None;
        if desk.closing.is_none() {
            desk.lag.caught_up();
            transition = self.transition(&mut desk, lost);
        }
        drop(desk);
        self.announce(transition);
        true
    }

    fn note_setup_error(&self) {
        if let Err(reason) = &self.setup().sender {
            self.meters.error(None, reason.clone());
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

    /// How long what is pending may wait before the destination lags.
    fn target(&self, options: &Options) -> Option<Target> {
        let BatchLimits { age_max: linger, .. } = self.setup.limits()?;
        Some(Target { linger, attempt: options.attempt_timeout, max_age: options.max_age })
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
