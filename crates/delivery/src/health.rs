//! What a destination's answers say about the destination as a whole: its state, when it may be sent to
//! again, and how many requests at a time.
//!
//! A pure state machine: time and randomness come in as arguments. Circuit breaker, probes and adaptive
//! concurrency have their place here: they are further reactions to the same signals.
//!
//! **Rounds.** Several requests are usually in flight, and when a destination fails they fail together.
//! Counting each would make the backoff jump. So every change of mind starts a new *epoch*, a request
//! carries the epoch it was started in, and only answers to requests of the present epoch move the waits.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::State;
use crate::policy::{self, Policy};

/// What one answer says about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It took the batch, or refused it for what it holds: either way it is alive.
    Alive,
    /// It took the batch but not all of it, without saying which spans.
    Strained,
    /// Not now.
    Failed { status: Option<u16>, retry_after: Option<Duration> },
    /// Not with these credentials.
    Auth,
    /// Not at this address.
    Config,
    /// Never again.
    Gone,
}

/// Whether requests may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// At most so many in flight.
    Open(usize),
    /// Not before.
    Until(Instant),
    /// Not until somebody acts.
    Shut,
}

/// The state of one destination as its answers show it.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    state: State,
    /// Requests that may be in flight now, and at best.
    window: usize,
    window_max: usize,
    /// Failures in a row, every one counted.
    failures: u32,
    /// Failed rounds in a row.
    rounds: u32,
    /// Rounds in a row that looked like a wrong address.
    strikes: u32,
    /// Probes of the present hold.
    probes: u32,
    until: Option<Instant>,
    epoch: u64,
}

impl Health {
    pub(crate) fn new(policy: Policy, window_max: usize) -> Health {
        let window_max = window_max.max(1);
        Health {
            policy,
            state: State::Healthy,
            window: window_max,
            window_max,
            failures: 0,
            rounds: 0,
            strikes: 0,
            probes: 0,
            until: None,
            epoch: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// To be remembered with every request that is started, and given back with its answer.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the last round failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.rounds > 0
    }

    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match (self.state, self.until) {
            (State::Gone, _) => Gate::Shut,
            (_, Some(until)) if until > now => Gate::Until(until),
            _ => Gate::Open(self.window),
        }
    }

    /// Takes note of an answer. Returns how long the batch itself has to wait before it is tried again
    /// (the destination's own wait comes on top, through [`Health::gate`]).
    ///
    /// `tries`: how often this batch was sent, this time included; `epoch`: the one it was started in.
    pub(crate) fn react(
        &mut self,
        signal: Signal,
        tries: u32,
        epoch: u64,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Duration {
        let fresh = epoch == self.epoch;
        let earlier = tries.saturating_sub(1);
        match signal {
            Signal::Alive | Signal::Strained => {
                if fresh {
                    self.recovered(signal);
                }
                // Only a batch that was stored in part comes back after such an answer.
                self.policy.backoff(earlier, None, rng)
            }
            // Not a word about the destination: the adapter learned something and asks for another try.
            Signal::Failed { retry_after: Some(Duration::ZERO), .. } if tries <= policy::AT_ONCE_TRIES => {
                Duration::ZERO
            }
            Signal::Failed { status, retry_after } => match policy::retry_after(retry_after, rng) {
                Some(wait) => {
                    self.failed();
                    self.window = 1;
                    self.wait_until(now, wait);
                    self.enter(State::Throttled);
                    Duration::ZERO
                }
                None => self.back_off(fresh, earlier, status, now, rng),
            },
            Signal::Auth => {
                if fresh {
                    self.hold(State::HeldAuth, now, rng);
                }
                Duration::ZERO
            }
            Signal::Config if fresh && self.strikes + 1 >= policy::CONFIG_STRIKES => {
                self.strikes = policy::CONFIG_STRIKES;
                self.hold(State::HeldConfig, now, rng);
                Duration::ZERO
            }
            Signal::Config => {
                if fresh {
                    self.strikes += 1;
                }
                self.back_off(fresh, earlier, None, now, rng)
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
    pub(crate) fn retry_now(&mut self, window_max: usize) {
        self.window_max = window_max.max(1);
        self.window = if self.state == State::Healthy { self.window_max } else { 1 };
        (self.failures, self.rounds, self.strikes, self.probes) = (0, 0, 0, 0);
        self.until = None;
        self.epoch += 1;
        if self.state == State::Gone {
            self.state = State::Degraded;
        }
    }

    fn recovered(&mut self, signal: Signal) {
        (self.failures, self.rounds, self.strikes, self.probes) = (0, 0, 0, 0);
        self.until = None;
        // A ramp from 1 after trouble, so that a destination that just came up is not run over.
        self.window = self.window.saturating_mul(2).min(self.window_max);
        self.state = if signal == Signal::Strained { State::Degraded } else { State::Healthy };
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= policy::FAILURES_TO_NARROW {
            self.window = 1;
        }
    }

    fn back_off(
        &mut self,
        fresh: bool,
        earlier: u32,
        status: Option<u16>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Duration {
        self.failed();
        if fresh {
            let wait = self.policy.backoff(self.rounds, status, rng);
            self.rounds = self.rounds.saturating_add(1);
            self.wait_until(now, wait);
            self.enter(State::Degraded);
        }
        self.policy.backoff(earlier, status, rng)
    }

    fn hold(&mut self, state: State, now: Instant, rng: &mut impl Rng) {
        let wait = policy::hold(self.probes, rng);
        self.probes = self.probes.saturating_add(1);
        self.window = 1;
        self.wait_until(now, wait);
        self.enter(state);
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const FAILED: Signal = Signal::Failed { status: Some(503), retry_after: None };

    struct Bench {
        health: Health,
        rng: SmallRng,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let policy = Policy { base: Duration::from_millis(500), cap: Duration::from_secs(60) };
            Bench { health: Health::new(policy, 8), rng: SmallRng::seed_from_u64(7), now: Instant::now() }
        }

        /// A request started now and answered at once.
        fn answer(&mut self, signal: Signal) -> Duration {
            let epoch = self.health.epoch();
            self.health.react(signal, 1, epoch, self.now, &mut self.rng)
        }

        fn wait(&self) -> Duration {
            match self.health.gate(self.now) {
                Gate::Until(until) => until - self.now,
                _ => Duration::ZERO,
            }
        }

        fn after_the_wait(&mut self) {
            self.now += self.wait();
        }
    }

    #[test]
    fn requests_that_fail_together_are_one_round() {
        let mut bench = Bench::new();
        let epoch = bench.health.epoch();
        for _ in 0..8 {
            bench.health.react(FAILED, 1, epoch, bench.now, &mut bench.rng);
        }
        assert!(bench.wait() <= Duration::from_millis(500), "the first round waits at most the base");
        bench.after_the_wait();
        assert_eq!(bench.health.gate(bench.now), Gate::Open(1), "eight failures: one probe at a time");
    }

    #[test]
    fn five_failures_narrow_to_one_and_successes_ramp_up() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            bench.answer(FAILED);
            bench.after_the_wait();
        }
        assert_eq!(bench.health.gate(bench.now), Gate::Open(8));
        bench.answer(FAILED);
        bench.after_the_wait();
        assert_eq!((bench.health.gate(bench.now), bench.health.state()), (Gate::Open(1), State::Degraded));
        for expected in [2, 4, 8, 8] {
            bench.answer(Signal::Alive);
            assert_eq!(bench.health.gate(bench.now), Gate::Open(expected));
        }
        assert_eq!(bench.health.state(), State::Healthy);
    }

    #[test]
    fn retry_after_stops_the_destination_and_later_failures_do_not_shorten_it() {
        let mut bench = Bench::new();
        let epoch = bench.health.epoch();
        bench.answer(Signal::Failed { status: Some(429), retry_after: Some(Duration::from_secs(100)) });
        let wait = bench.wait();
        assert!(wait >= Duration::from_secs(100) && wait <= Duration::from_secs(110));
        bench.health.react(FAILED, 1, epoch, bench.now, &mut bench.rng);
        bench.health.react(Signal::Alive, 1, epoch, bench.now, &mut bench.rng);
        assert_eq!((bench.wait(), bench.health.state()), (wait, State::Throttled));
    }

    #[test]
    fn a_batch_that_will_be_sent_differently_goes_at_once_but_not_for_ever() {
        let mut bench = Bench::new();
        let again = Signal::Failed { status: Some(429), retry_after: Some(Duration::ZERO) };
        for tries in 1..=3 {
            let epoch = bench.health.epoch();
            let wait = bench.health.react(again, tries, epoch, bench.now, &mut bench.rng);
            assert_eq!(
                (wait, bench.wait(), bench.health.state()),
                (Duration::ZERO, Duration::ZERO, State::Healthy)
            );
        }
        let epoch = bench.health.epoch();
        bench.health.react(again, 4, epoch, bench.now, &mut bench.rng);
        assert_eq!(bench.health.state(), State::Degraded);
    }

    #[test]
    fn holds_grow_and_end_with_a_success() {
        let mut bench = Bench::new();
        for minutes in [1, 2, 4, 8, 15, 15] {
            bench.answer(Signal::Auth);
            let wait = bench.wait().as_secs_f64() / 60.0;
            assert!(wait >= f64::from(minutes) && wait <= f64::from(minutes) * 1.1 + 1e-6);
            assert_eq!(bench.health.state(), State::HeldAuth);
            bench.after_the_wait();
        }
        bench.answer(Signal::Alive);
        assert_eq!(bench.health.state(), State::Healthy);
    }

    #[test]
    fn a_wrong_address_is_believed_at_the_third_time() {
        let mut bench = Bench::new();
        for state in [State::Degraded, State::Degraded, State::HeldConfig] {
            bench.answer(Signal::Config);
            assert_eq!(bench.health.state(), state);
            bench.after_the_wait();
        }
        bench.answer(Signal::Config);
        assert_eq!(bench.health.state(), State::HeldConfig);
        assert!(bench.wait() >= Duration::from_secs(120));
    }

    #[test]
    fn an_answer_to_the_old_configuration_does_not_hold_the_new_one() {
        let mut bench = Bench::new();
        let old = bench.health.epoch();
        bench.health.retry_now(8);
        bench.health.react(Signal::Auth, 1, old, bench.now, &mut bench.rng);
        assert_eq!((bench.health.state(), bench.wait()), (State::Healthy, Duration::ZERO));
    }

    #[test]
    fn gone_stays_until_somebody_acts() {
        let mut bench = Bench::new();
        bench.answer(Signal::Gone);
        assert_eq!((bench.health.gate(bench.now), bench.health.state()), (Gate::Shut, State::Gone));
        bench.health.retry_now(8);
        assert_eq!((bench.health.gate(bench.now), bench.health.state()), (Gate::Open(1), State::Degraded));
    }
}
