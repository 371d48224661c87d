//! One destination's place in delivery: its queue, its configuration, its health, and the orders given to
//! its driver. Shared by the log's writer, the control plane and the driver; every lock is short.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracecast_destination::Destination;
use tracecast_log::{DropReason, Log, Outcome, Sequence, Settlement, Slot};
use tracecast_sinks::BatchLimits;
use uuid::Uuid;

use crate::driver::{self, Running};
use crate::health::{Gate, Health, Request, Signal};
use crate::history::{History, Transition};
use crate::job::Piece;
use crate::limits::{Learned, Size};
use crate::policy::{self, Policy};
use crate::queue::{Queue, Ref};
use crate::room::Room;
use crate::stack::Sender;
use crate::stats::{Meters, Stats, unix_nano};
use crate::{Options, State};

/// References settled under one lock, so that giving up a long backlog does not hold up the log's writer.
const CHUNK: usize = 4096;

/// What all lanes share.
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    pub(crate) room: Room,
    /// How many drivers are running.
    pub(crate) running: watch::Sender<usize>,
}

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
    setup: Arc<Setup>,
    health: Health,
    paused: bool,
    closing: Option<Closing>,
    /// Spans up to this sequence are to be dropped.
    give_up: Option<Sequence>,
    /// Waits of batches are to end.
    nudged: bool,
    learned: Learned,
    history: History,
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
        let health = Health::new(Policy::from(options), setup.concurrency());
        let mut desk = Desk {
            queue: Queue::default(),
            setup: Arc::new(setup),
            health,
            paused: false,
            closing: None,
            give_up: None,
            nudged: false,
            learned: Learned::default(),
            history: History::default(),
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
        let (state, since, gate) = {
            let desk = self.desk();
            (desk.shown, desk.since_unix_nano, desk.gate(now))
        };
        let wait = if let Gate::Until(until) = gate { until - now } else { Duration::ZERO };
        self.meters.stats(state, since, wait)
    }

    pub(crate) fn settle(&self, piece: Piece, outcome: Outcome) {
        settle(&self.shared.log, self.slot, piece, outcome);
    }

    // What others ask for.

    /// Called by the log's writer: cheap, never waits.
    pub(crate) fn push(self: &Arc<Self>, item: Ref) {
        let mut desk = self.desk();
        let (spans_max, bytes_max) = desk.maxima(Instant::now());
        let idle = desk.queue.is_empty();
        let filled = desk.queue.fills(spans_max, bytes_max);
        desk.queue.push(item);
        // The driver is woken for what changes its plans, not for every reference.
        if idle || !desk.running || (!filled && desk.queue.fills(spans_max, bytes_max)) {
            self.rouse(&mut desk);
        }
    }

    /// Puts `items` before everything in the queue.
    pub(crate) fn prepend(self: &Arc<Self>, items: Vec<Ref>) {
        let mut desk = self.desk();
        desk.queue.prepend(items);
        self.rouse(&mut desk);
    }

    /// Takes a new configuration: the queue stays, waits end.
    pub(crate) fn reconfigure(self: &Arc<Self>, setup: Setup) {
        self.change(|desk| {
            let privacy_on = setup.destination.privacy_mode && !desk.setup.destination.privacy_mode;
            if privacy_on {
                self.meters.forget_error();
                desk.history.forget_errors();
            }
            desk.health.retry_now(setup.concurrency());
            desk.setup = Arc::new(setup);
            desk.learned = Learned::default();
            desk.nudged = true;
        });
        self.note_setup_error();
    }

    pub(crate) fn pause(self: &Arc<Self>) {
        self.change(|desk| desk.paused = true);
    }

    /// Ends a pause; also means: try now.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.change(|desk| {
            desk.paused = false;
            desk.health.retry_now(desk.setup.concurrency());
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

    pub(crate) fn orders(&self, now: Instant) -> Orders {
        let mut desk = self.desk();
        let mut dropped = Vec::new();
        let mut give_up = None;
        match desk.closing {
            Some(Closing::Shutdown) => {}
            Some(closing @ (Closing::Deleted | Closing::Ended)) => {
                let deleted = closing == Closing::Deleted;
                let reason = if deleted { DropReason::DestinationDeleted } else { DropReason::Shutdown };
                dropped.extend(desk.queue.drain(CHUNK).into_iter().map(|p| (p, reason)));
            }
            None => {
                let pieces = desk.queue.expire(now, CHUNK).into_iter();
                dropped.extend(pieces.map(|p| (p, DropReason::Expired)));
                if let Some(up_to) = desk.give_up {
                    let pieces = desk.queue.give_up(up_to, CHUNK.saturating_sub(dropped.len())).into_iter();
                    dropped.extend(pieces.map(|p| (p, DropReason::BacklogFull)));
                    give_up = Some(up_to);
                }
            }
        }
        let more = dropped.len() >= CHUNK;
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
        if ready > now && !desk.queue.fills(spans_max, bytes_max) {
            return Take::Linger(ready);
        }
        Take::Batch(desk.queue.take(spans_max, bytes_max))
    }

    /// Takes note of an answer; see [`Health::react`].
    pub(crate) fn react(&self, signal: Signal, request: Request, now: Instant) -> Duration {
        let mut desk = self.desk();
        let wait = desk.health.react(signal, request, now, &mut policy::chance());
        let transition = self.transition(&mut desk);
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

    /// The latest changes of state, oldest first.
    pub(crate) fn history(&self) -> Vec<Transition> {
        self.desk().history.entries()
    }

    /// Brings the shown state up to date and notes the change; (before, after) if there was one.
    fn transition(&self, desk: &mut Desk) -> Option<(State, State)> {
        let (from, to) = (desk.shown, desk.state());
        if from == to {
            return None;
        }
        desk.shown = to;
        desk.since_unix_nano = unix_nano();
        self.meters.entered(to);
        let error = if to == State::Healthy { None } else { self.meters.last_error() };
        desk.history.push(Transition { from, to, at_unix_nano: desk.since_unix_nano, times: 1, error });
        Some((from, to))
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

    fn announce(&self, transition: Option<(State, State)>) {
        let Some((from, to)) = transition else { return };
        let setup = self.setup();
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
    fn limits(&self) -> Option<BatchLimits> {
        self.sender.as_ref().ok().map(Sender::limits)
    }

    fn concurrency(&self) -> usize {
        self.limits().map_or(1, |l| l.concurrency_max)
    }
}

impl Desk {
    fn state(&self) -> State {
        if self.closing == Some(Closing::Deleted) {
            State::Draining
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

    fn gate(&self, now: Instant) -> Gate {
        if self.closing.is_some() || self.is_paused() || self.setup.sender.is_err() {
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
            _ => self.queue.is_empty(),
        }
    }
}

/// Settles `piece` with the log.
pub(crate) fn settle(log: &Log, slot: Slot, piece: Piece, outcome: Outcome) {
    log.settle(Settlement { slot, entry: piece.entry, spans: piece.spans, outcome });
}
