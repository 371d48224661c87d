//! The task that drives one destination: it decides what is sent when, and applies the answers.
//!
//! It never waits for anything but its own events (an attempt that ended, a change on the desk, a time),
//! and it runs no foreign code: attempts are tasks of their own. It ends when nothing is left to do, so an
//! idle destination has no task.
//!
//! At most `concurrency_max` batches are being sent; at most twice as many are outstanding, which is what
//! bounds the payload memory and the references a failing destination takes out of its queue. A batch that
//! waits to be sent again holds no payload. Of the batches being sent, one in five may be a retry, so that
//! a destination that fails is not kept busy with its own past.

mod ended;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::BoxFuture;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tracecast_log::{DropReason, LogError, Outcome, Pending};

use crate::attempt::{self, Done};
use crate::health::Gate;
use crate::job::{Job, Part, Piece};
use crate::lane::{Closing, Lane, Orders, Reading, Take};
use crate::policy::{PROBE_SPANS_MAX, Policy, RETRY_ONE_IN};
use crate::reform::{self, Found, Plan};
use crate::shared::Shared;
use crate::stats::unix_nano;

/// Records of backlog read at once.
const PAGE: usize = 256;

/// What was read of the log.
enum Read {
    On(Result<Pending, LogError>),
    Again(Vec<Plan>, Result<Vec<Vec<Found>>, LogError>),
}

/// Counts a driver among the running ones for as long as it exists, polled or not.
pub(crate) struct Running(Arc<Shared>);

impl Running {
    pub(crate) fn new(shared: Arc<Shared>) -> Running {
        shared.running.send_modify(|n| *n += 1);
        Running(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|n| *n = n.saturating_sub(1));
    }
}

struct Driver {
    lane: Arc<Lane>,
    tasks: JoinSet<Done>,
    flights: HashMap<Id, Flight>,
    /// Flights that are sends: the others write dead letters and take no place with the vendor.
    sending: usize,
    /// Sends of batches that were sent before.
    retrying: usize,
    waiting: Vec<Job>,
    /// Backlog on its way.
    reading: Option<BoxFuture<'static, Read>>,
    /// The last that is known of the destination is a failure.
    failing: bool,
}

/// A job one part of which is under way.
struct Flight {
    job: Job,
    part: Part,
    epoch: u64,
}

/// Runs until there is nothing to do.
pub(crate) async fn run(lane: Arc<Lane>, _running: Running) {
    let mut driver = Driver {
        lane,
        tasks: JoinSet::new(),
        flights: HashMap::new(),
        sending: 0,
        retrying: 0,
        waiting: Vec::new(),
        reading: None,
        failing: false,
    };
    loop {
        while let Some(ended) = driver.tasks.try_join_next_with_id() {
            driver.finish(ended);
        }
        let timer = driver.step();
        if driver.may_end() && driver.lane.dismiss() {
            return;
        }
        let lane = driver.lane.clone();
        tokio::select! {
            biased;
            ended = driver.tasks.join_next_with_id(), if !driver.tasks.is_empty() => {
                if let Some(ended) = ended {
                    driver.finish(ended);
                }
            }
            read = what_is(&mut driver.reading), if driver.reading.is_some() => {
                driver.reading = None;
                let now = Instant::now();
                match read {
                    Read::On(page) => lane.page_read(page, now),
                    Read::Again(plans, found) => {
                        let parts = lane.plans_read(plans, found, now);
                        driver.waiting.extend(parts.into_iter().map(Job::new));
                    }
                }
            }
            () = lane.wake.notified() => {}
            () = sleep_until(timer), if timer.is_some() => {}
        }
    }
}

async fn what_is(reading: &mut Option<BoxFuture<'static, Read>>) -> Read {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The earlier of two times, if any.
fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Driver {
    fn policy(&self) -> Policy {
        let options = &self.lane.shared.options;
        Policy::from(options)
    }

    /// Nothing under way and nothing waiting. On shutdown what waits is left to the log.
    fn may_end(&self) -> bool {
        self.tasks.is_empty() && (self.waiting.is_empty() || self.lane.is_shutting_down())
    }

    /// Does everything that can be done now. Returns when there will be more to do, by time.
    fn step(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let (low, oldest) = self.outstanding();
        let mut orders = self.lane.orders(low, oldest, now);
        self.failing = orders.failing;
        if let Some(wanted) = orders.read.take() {
            let (log, slot) = (self.lane.shared.log.clone(), self.lane.slot);
            self.reading = Some(Box::pin(async move {
                match wanted {
                    Reading::On(from) => Read::On(log.pending(slot, from, PAGE).await),
                    Reading::Again(plans) => {
                        let found = reform::read(&log, slot, &plans).await;
                        Read::Again(plans, found)
                    }
                }
            }));
        }
        let dropped = std::mem::take(&mut orders.dropped).into_iter();
        self.lane.settle(dropped.map(|(piece, reason)| (piece, Outcome::Dropped(reason))).collect());
        let again = orders.more.then_some(now);
        match orders.closing {
            Some(Closing::Shutdown) => return None,
            Some(Closing::Deleted) => {
                self.drop_waiting(DropReason::DestinationDeleted, |_| true);
                return again;
            }
            Some(Closing::Ended) => {
                self.cut();
                self.drop_waiting(DropReason::Shutdown, |_| true);
                return again;
            }
            None => {}
        }
        if let Some(up_to) = orders.give_up {
            self.drop_waiting(DropReason::BacklogFull, |p| p.entry.sequence <= up_to);
        }
        if self.deadlines().any(|deadline| deadline <= now) {
            self.drop_waiting(DropReason::Expired, |p| p.deadline <= now);
        }
        if orders.nudged {
            self.waiting.iter_mut().flat_map(|job| &mut job.parts).for_each(|part| part.not_before = now);
        }
        while let Some(job) = self.due(now, |part| part.refusal.is_some(), |_| 0) {
            self.start(job, orders.epoch, now);
        }

        let timer = sooner(again, sooner(self.deadlines().min(), orders.queue_deadline));
        let timer = sooner(timer, sooner(orders.read_at, orders.lags_at));
        // Dead letters that could not be written wait for a time only; batches also for the gate.
        let timer = sooner(timer, self.next_due(|part| part.refusal.is_some()));
        let window = match orders.gate {
            Gate::Shut => return timer,
            Gate::Until(until) => return sooner(timer, Some(until)),
            Gate::Open(window) => window,
            Gate::Probe => 1,
        };
        let mut linger = None;
        while self.sending < window {
            if let Some(until) = self.lane.rate_wait(now) {
                return sooner(timer, Some(until));
            }
            let job = match orders.gate {
                Gate::Probe => self.probe(now, &orders, &mut linger),
                _ => self.next_send(now, &orders, window, &mut linger),
            };
            let Some(job) = job else {
                let spare = self.may_retry(window);
                return sooner(timer, sooner(linger, self.next_due(|part| part.is_send(spare))));
            };
            self.start(job, orders.epoch, now);
        }
        timer
    }

    /// What is sent next. Usually what waited longest goes first. While the destination fails, a batch that
    /// failed less often does: a few that fail by themselves must not keep the rest from showing that it is
    /// well.
    fn next_send(
        &mut self,
        now: Instant,
        orders: &Orders,
        window: usize,
        linger: &mut Option<Instant>,
    ) -> Option<Job> {
        let spare = self.may_retry(window);
        if orders.failing {
            let fresh = self.form(now, orders.outstanding_max, u32::MAX, linger);
            fresh.or_else(|| self.due(now, |part| part.is_send(spare), |part| part.tries))
        } else {
            let due = self.due(now, |part| part.is_send(spare), |_| 0);
            due.or_else(|| self.form(now, orders.outstanding_max, u32::MAX, linger))
        }
    }

    /// A small batch that shows whether the destination is back: what was sent least often, whatever its own
    /// wait. One that waits by a schedule keeps to it, unless there is no place for what is new because of it.
    fn probe(&mut self, now: Instant, orders: &Orders, linger: &mut Option<Instant>) -> Option<Job> {
        if let Some(job) = self.form(now, orders.outstanding_max, PROBE_SPANS_MAX, linger) {
            return Some(job);
        }
        let order = |(_, job): &(usize, &Job)| job.next().map(|part| (part.attempts, part.first_sequence()));
        let only_due = orders.by_schedule && (linger.is_some() || orders.queue_deadline.is_none());
        let is_time = |part: &Part| !only_due || part.not_before <= now;
        let sends = |(_, job): &(usize, &Job)| job.next().is_some_and(|p| p.is_send(true) && is_time(p));
        let (i, _) = self.waiting.iter().enumerate().filter(sends).min_by_key(order)?;
        let mut job = self.waiting.swap_remove(i);
        // What may have been stored under its token goes whole.
        if !orders.keeps_batches || job.next().is_some_and(|part| part.tries == 0) {
            job.carve(PROBE_SPANS_MAX);
        }
        Some(job)
    }

    /// Another batch that was sent before may be under way.
    fn may_retry(&self, window: usize) -> bool {
        self.retrying < (window / RETRY_ONE_IN).max(1)
    }

    /// A new batch from the queue, if one is due and may be outstanding; else, when one will be due.
    fn form(
        &self,
        now: Instant,
        outstanding_max: usize,
        spans_max: u32,
        linger: &mut Option<Instant>,
    ) -> Option<Job> {
        if self.waiting.len() + self.flights.len() >= outstanding_max {
            return None;
        }
        match self.lane.take(now, spans_max) {
            Take::Batch(pieces) if pieces.is_empty() => None,
            Take::Batch(pieces) => Some(Job::new(Part::new(pieces, now))),
            Take::Linger(until) => {
                *linger = Some(until);
                None
            }
            Take::Empty => None,
        }
    }

    /// The first ordinal of what is outstanding, and its first deadline.
    fn outstanding(&self) -> (Option<u64>, Option<Instant>) {
        let parts = || {
            let waiting = self.waiting.iter().flat_map(|job| &job.parts);
            waiting.chain(self.flights.values().flat_map(|f| f.job.parts.iter().chain([&f.part])))
        };
        let low = parts().filter_map(|part| part.pieces.first()?.route().map(|r| r.ordinal)).min();
        (low, parts().map(|part| part.deadline).min())
    }

    /// When the waiting parts expire.
    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.waiting.iter().flat_map(|job| &job.parts).map(|part| part.deadline)
    }

    /// Ends what is under way without its answers.
    fn cut(&mut self) {
        self.tasks.abort_all();
        let flights = self.flights.drain().map(|(_, Flight { mut job, part, .. })| {
            job.parts.push(part);
            job
        });
        let mut cut: Vec<Job> = flights.collect();
        cut.sort_by_key(|job| job.next().map(Part::first_sequence));
        self.waiting.append(&mut cut);
        self.count_sending(isize::MIN);
        self.retrying = 0;
    }

    /// Takes a waiting job whose next part is `wanted` and due: the lowest by `rank`, then the oldest.
    fn due(
        &mut self,
        now: Instant,
        wanted: impl Fn(&Part) -> bool,
        rank: impl Fn(&Part) -> u32,
    ) -> Option<Job> {
        let due = |job: &Job| job.next().is_some_and(|part| wanted(part) && part.not_before <= now);
        let order = |(_, job): &(usize, &Job)| job.next().map(|part| (rank(part), part.first_sequence()));
        let (i, _) = self.waiting.iter().enumerate().filter(|(_, job)| due(job)).min_by_key(order)?;
        Some(self.waiting.swap_remove(i))
    }

    fn next_due(&self, wanted: impl Fn(&Part) -> bool) -> Option<Instant> {
        self.waiting
            .iter()
            .filter_map(Job::next)
            .filter(|part| wanted(part))
            .map(|part| part.not_before)
            .min()
    }

    /// Starts the next part of `job`.
    fn start(&mut self, mut job: Job, epoch: u64, now: Instant) {
        let Some(mut part) = job.parts.pop() else { return };
        let lane = self.lane.clone();
        let task = match part.refusal.clone() {
            Some(refusal) => self.tasks.spawn(attempt::bury(lane, part.clone(), refusal)),
            None => {
                let before = part.tries;
                lane.started(part.spans(), now);
                part.tries = before.saturating_add(1);
                part.attempts = part.attempts.saturating_add(1);
                part.first_sent_unix_nano.get_or_insert_with(unix_nano);
                self.count_sending(1);
                self.retrying += usize::from(before > 0);
                if let Some(observer) = self.lane.shared.observer.get() {
                    for piece in part.pieces.iter() {
                        observer.sending(self.lane.slot, piece.entry.sequence, &piece.spans);
                    }
                }
                let sending = attempt::send(lane, part.clone(), before, self.failing);
                part.is_noted = true;
                self.tasks.spawn(sending)
            }
        };
        self.flights.insert(task.id(), Flight { job, part, epoch });
    }

    fn count_sending(&mut self, by: isize) {
        self.sending = self.sending.saturating_add_signed(by);
        self.lane.meters.in_flight.store(u32::try_from(self.sending).unwrap_or(u32::MAX), Relaxed);
    }

    /// Keeps `job`, with `part` as its next, until it is due; a job without parts is done.
    fn wait(&mut self, mut job: Job, part: Option<Part>) {
        job.parts.extend(part);
        if !job.parts.is_empty() {
            self.waiting.push(job);
        }
    }

    fn drop_waiting(&mut self, reason: DropReason, unwanted: impl Fn(&Piece) -> bool) {
        let mut dropped = Vec::new();
        for job in &mut self.waiting {
            job.remove(&unwanted, &mut dropped);
        }
        if !dropped.is_empty() {
            self.waiting.retain(|job| !job.parts.is_empty());
            self.drop_pieces(dropped, reason);
        }
    }

    fn drop_pieces(&self, pieces: Vec<Piece>, reason: DropReason) {
        self.lane.settle(pieces.into_iter().map(|piece| (piece, Outcome::Dropped(reason))).collect());
    }
}
