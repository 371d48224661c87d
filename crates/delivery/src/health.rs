//! What a destination's answers say about the destination as a whole: its state, when it may be sent to
//! again, and how many requests at a time.
//!
//! A pure state machine: time and randomness come in as arguments.
//!
//! | state | requests | leaves by |
//! | --- | --- | --- |
//! | healthy, degraded | up to the adaptive window | failures or successes |
//! | throttled | none until the time it asked for, then a ramp from one | time |
//! | open | single probes after 1 s, 2 s, 4 s ... 5 min | an answer to a probe |
//! | held for credentials, held for its address | single probes after 1 min ... 15 min | the same, a change |
//! | auto-paused | one probe an hour | the same, a user |
//! | gone | none | a change, a user |
//!
//! **Epochs.** Several requests are usually under way, and when a destination changes its mind they tell the
//! same news. So every wait begins a new *epoch*, a request carries the epoch it was started in, and answers
//! to requests of an earlier one move nothing but the wait the vendor asked for.

mod breaker;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tracecast_destination::Retry;

use self::breaker::Breaker;
use self::window::Window;
use crate::State;
use crate::policy::{self, Policy};

/// Longer than any wait between two requests of a destination that has something to send.
const QUIET: Duration = Duration::from_secs(2 * 3600);

/// What one answer says about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It took the batch, or told item by item what it took.
    Alive,
    /// It refused the batch for what it holds: alive, and that is all.
    Refused,
    /// It took the batch but not all of it, without saying which spans.
    Strained,
    /// Not now.
    Failed { status: Option<u16>, retry_after: Option<Duration> },
    /// Not with these credentials.
    Auth,
    /// Not at this address.
    Config { status: Option<u16> },
    /// Never again.
    Gone,
}

/// The request an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// [`Health::epoch`] when it was started.
    pub(crate) epoch: u64,
    /// How often its batch was sent, this time included.
    pub(crate) tries: u32,
    /// How often its spans were sent, in other batches too.
    pub(crate) attempts: u32,
    pub(crate) latency: Duration,
}

/// Whether requests may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// At most so many in flight.
    Open(usize),
    /// One, and a small one.
    Probe,
    /// Not before.
    Until(Instant),
    /// Not until somebody acts.
    Shut,
}

/// The state of one destination as its answers show it.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    /// How long a batch that failed waits by itself.
    retry: Retry,
    state: State,
    window: Window,
    breaker: Breaker,
    /// Answers in a row that looked like a wrong address.
    strikes: u32,
    /// Waits of the present state, and of the states of waiting before it.
    probes: u32,
    until: Option<Instant>,
    epoch: u64,
    /// Requests of earlier epochs were sent with an earlier configuration.
    changed: u64,
    /// Nothing but failures: since when, and the latest.
    failing: Option<(Instant, Instant)>,
}

impl Health {
    pub(crate) fn new(policy: Policy, retry: Retry, window_max: usize) -> Health {
        Health {
            policy,
            retry,
            state: State::Healthy,
            window: Window::new(window_max),
            breaker: Breaker::default(),
            strikes: 0,
            probes: 0,
            until: None,
            epoch: 0,
            changed: 0,
            failing: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// To be remembered with every request that is started, and given back with its answer.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the latest word was a failure.
    pub(crate) fn is_failing(&self) -> bool {
        self.breaker.is_failing() || !self.flows()
    }

    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match (self.state, self.until) {
            (State::Gone, _) => Gate::Shut,
            (_, Some(until)) if until > now => Gate::Until(until),
            (State::Healthy | State::Degraded | State::Throttled, _) => Gate::Open(self.window.size()),
            _ => Gate::Probe,
        }
    }

    /// How long there was nothing but failures, and how long ago the latest was.
    pub(crate) fn failing_for(&self, now: Instant) -> Option<(Duration, Duration)> {
        let ago = |at| now.saturating_duration_since(at);
        self.failing.map(|(since, latest)| (ago(since), ago(latest)))
    }

    /// Failures of an earlier process count, unless there was a success since.
    pub(crate) fn has_failed_for(&mut self, (since, latest): (Duration, Duration), now: Instant) {
        let Some(since) = now.checked_sub(since) else { return };
        let latest = now.checked_sub(latest).unwrap_or(since);
        let known = self.failing.map_or(latest, |(_, known)| known.max(latest));
        self.failing = Some((since, known));
    }

    /// The latest word was a success or a refusal, not a failure.
    pub(crate) fn is_well(&self) -> bool {
        self.failing.is_none() && self.flows()
    }

    /// Requests go out as they come.
    pub(crate) fn flows(&self) -> bool {
        matches!(self.state, State::Healthy | State::Degraded)
    }

    /// Takes note of an answer. Returns how long the batch itself has to wait before it is tried again
    /// (the destination's own wait comes on top, through [`Health::gate`]).
    pub(crate) fn react(
        &mut self,
        signal: Signal,
        request: Request,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Duration {
        if request.epoch < self.changed {
            return Duration::ZERO;
        }
        let fresh = request.epoch == self.epoch;
        match signal {
            Signal::Alive | Signal::Strained => {
                if fresh {
                    self.succeeded(signal, request.latency);
                }
                // Only a batch that was stored in part comes back after such an answer.
                self.batch_wait(request, None, None, rng)
            }
            Signal::Refused => {
                if fresh {
                    self.refused();
                }
                Duration::ZERO
            }
            // Not a word about the destination: the adapter learned something and asks for another try.
            Signal::Failed { retry_after: Some(Duration::ZERO), .. }
                if request.tries <= policy::AT_ONCE_TRIES =>
            {
                Duration::ZERO
            }
            Signal::Failed { status, retry_after } => {
                let asked = policy::retry_after(retry_after, rng);
                self.failed(fresh, asked, now, rng);
                self.batch_wait(request, status, asked, rng)
            }
            Signal::Auth => {
                if fresh {
                    self.strikes = 0;
                    self.hold(State::HeldAuth, now, rng);
                }
                Duration::ZERO
            }
            Signal::Config { status } => {
                if fresh {
                    self.misled(status, now, rng);
                }
                if self.flows() { self.backoff(request, status, rng) } else { Duration::ZERO }
            }
            Signal::Gone => {
                if fresh {
                    self.until = None;
                    self.enter(State::Gone);
                }
                Duration::ZERO
            }
        }
    }

    /// The configuration changed, or a user said "try now": every wait ends, one request shows the rest.
    /// Answers to requests that are still under way say nothing about what is sent from now on.
    pub(crate) fn retry_now(&mut self, retry: Retry, window_max: usize) {
        self.retry = retry;
        self.window.set_max(window_max);
        if self.state != State::Healthy {
            self.window.restart();
        }
        self.breaker = Breaker::default();
        (self.strikes, self.probes, self.failing) = (0, 0, None);
        self.until = None;
        self.epoch += 1;
        self.changed = self.epoch;
        if matches!(self.state, State::Gone | State::AutoPaused) {
            self.state = State::Degraded;
        }
    }

    /// How long a batch that failed waits by itself. Where the destination as a whole waits that is enough, unless
    /// its owner wants batches to be sent again by the schedule and it did not say when itself.
    fn batch_wait(
        &self,
        request: Request,
        status: Option<u16>,
        asked: Option<Duration>,
        rng: &mut impl Rng,
    ) -> Duration {
        match self.retry {
            Retry::Schedule if asked.is_none() => policy::scheduled(request.attempts.saturating_sub(1), rng),
            _ if self.flows() => self.backoff(request, status, rng),
            _ => Duration::ZERO,
        }
    }

    fn backoff(&self, request: Request, status: Option<u16>, rng: &mut impl Rng) -> Duration {
        self.policy.backoff(request.tries.saturating_sub(1), status, rng)
    }

    fn succeeded(&mut self, signal: Signal, latency: Duration) {
        self.alive();
        self.breaker.succeeded();
        self.window.succeeded(latency);
        if signal == Signal::Strained {
            self.state = State::Degraded;
        } else if self.breaker.is_restored() {
            self.state = State::Healthy;
        }
    }

    /// A server that refuses a payload is alive: waits end, and the breaker does not count it.
    fn refused(&mut self) {
        self.alive();
        self.breaker.alive();
        if self.breaker.is_restored() {
            self.state = State::Healthy;
        }
    }

    /// Ends every wait. What was on record before it says nothing any more.
    fn alive(&mut self) {
        (self.strikes, self.probes, self.failing) = (0, 0, None);
        self.until = None;
        if !self.flows() {
            self.breaker = Breaker::default();
            self.state = State::Degraded;
        }
    }

    fn failed(&mut self, fresh: bool, asked: Option<Duration>, now: Instant, rng: &mut impl Rng) {
        if let (false, Some(asked)) = (fresh, asked) {
            self.wait_until(now, asked);
        }
        if !fresh {
            return;
        }
        self.strikes = 0;
        self.breaker.failed();
        if self.is_beyond_hope(now) {
            self.pause(now, rng);
        } else if matches!(self.state, State::HeldAuth | State::HeldConfig) {
            // A probe that failed otherwise does not show that the cause of the hold is gone.
            self.hold(self.state, now, rng);
        } else if self.breaker.trips() || self.state == State::Open {
            self.probe_later(
                State::Open,
                policy::probe(self.probes, rng).max(asked.unwrap_or_default()),
                now,
            );
        } else if let Some(asked) = asked {
            self.window.restart();
            self.wait_until(now, asked);
            self.enter(State::Throttled);
        } else {
            self.window.failed();
            self.until = None;
            if !self.flows() || self.breaker.is_strained() {
                self.state = State::Degraded;
            }
        }
    }

    /// An answer as a wrong address gives it. Some vendors give it while they are being maintained.
    fn misled(&mut self, status: Option<u16>, now: Instant, rng: &mut impl Rng) {
        self.strikes = self.strikes.saturating_add(1);
        let held = matches!(self.state, State::HeldAuth | State::HeldConfig | State::AutoPaused);
        if held || self.strikes >= policy::config_strikes(status) {
            self.hold(State::HeldConfig, now, rng);
        } else {
            self.is_beyond_hope(now);
            self.window.restart();
            let wait = self.policy.backoff(self.strikes - 1, None, rng);
            self.wait_until(now, wait);
            self.enter(State::Degraded);
        }
    }

    fn hold(&mut self, state: State, now: Instant, rng: &mut impl Rng) {
        if self.is_beyond_hope(now) {
            self.pause(now, rng);
            return;
        }
        if self.state != state {
            self.probes = 0;
        }
        let wait = policy::hold(self.probes, rng);
        self.probe_later(state, wait, now);
    }

    fn pause(&mut self, now: Instant, rng: &mut impl Rng) {
        let wait = policy::hourly(rng);
        self.probe_later(State::AutoPaused, wait, now);
    }

    fn probe_later(&mut self, state: State, wait: Duration, now: Instant) {
        self.window.restart();
        self.probes = self.probes.saturating_add(1);
        self.until = None;
        self.wait_until(now, wait);
        self.enter(state);
    }

    /// Notes a failure; true if there was nothing else for as long as the policy has patience. A long time
    /// without any request proves nothing, so the count begins anew after it.
    fn is_beyond_hope(&mut self, now: Instant) -> bool {
        let patience = self.policy.pause_after;
        let since = match self.failing {
            Some((since, latest)) if now.saturating_duration_since(latest) <= QUIET.max(patience / 5) => {
                since
            }
            _ => now,
        };
        self.failing = Some((since, now));
        now.saturating_duration_since(since) >= patience
    }

    fn wait_until(&mut self, now: Instant, wait: Duration) {
        let until = now + wait;
        self.until = Some(self.until.map_or(until, |u| u.max(until)));
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}
