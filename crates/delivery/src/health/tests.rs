//! The state machine alone: each state, each way in and out, and that none is a dead end.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const FAILED: Signal = Signal::Failed { status: Some(503), retry_after: None };
const NOT_FOUND: Signal = Signal::Config { status: Some(404) };
const NO_NAME: Signal = Signal::Config { status: None };
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn asks_for(secs: u64) -> Signal {
    Signal::Failed { status: Some(429), retry_after: Some(Duration::from_secs(secs)) }
}

struct Bench {
    health: Health,
    rng: SmallRng,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let policy =
            Policy { base: Duration::from_millis(500), cap: Duration::from_secs(60), pause_after: 5 * DAY };
        Bench {
            health: Health::new(policy, Retry::Backoff, 8),
            rng: SmallRng::seed_from_u64(7),
            now: Instant::now(),
        }
    }

    /// A request started now and answered at once.
    fn answer(&mut self, signal: Signal) -> Duration {
        self.answer_to(self.health.epoch(), signal)
    }

    fn fail(&mut self, times: u32) {
        for _ in 0..times {
            self.answer(FAILED);
        }
    }

    fn answer_to(&mut self, epoch: u64, signal: Signal) -> Duration {
        let request = Request { epoch, tries: 1, attempts: 1, latency: Duration::from_millis(10) };
        self.health.react(signal, request, self.now, &mut self.rng)
    }

    fn gate(&self) -> Gate {
        self.health.gate(self.now)
    }

    fn state(&self) -> State {
        self.health.state()
    }

    fn wait(&self) -> Duration {
        match self.gate() {
            Gate::Until(until) => until - self.now,
            _ => Duration::ZERO,
        }
    }

    fn after_the_wait(&mut self) {
        self.now += self.wait();
    }

    /// `wait` and up to 10 % more.
    fn assert_wait(&self, wait: Duration) {
        let found = self.wait();
        assert!(found >= wait && found <= wait + wait / 10, "{found:?}, not {wait:?}");
    }
}

#[test]
fn a_failure_costs_its_batch_a_wait_and_the_others_nothing() {
    let mut bench = Bench::new();
    assert!(bench.answer(FAILED) <= Duration::from_millis(500));
    assert_eq!((bench.state(), bench.gate()), (State::Degraded, Gate::Open(1)));
    bench.answer(Signal::Alive);
    assert_eq!(bench.state(), State::Healthy);
}

#[test]
fn five_failures_open_the_circuit_and_probes_come_after_doubled_waits() {
    let mut bench = Bench::new();
    bench.fail(4);
    assert_eq!(bench.state(), State::Degraded);
    assert_eq!(bench.answer(FAILED), Duration::ZERO, "the batch waits for the probe, not for itself");
    for secs in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(bench.state(), State::Open);
        bench.assert_wait(Duration::from_secs(secs));
        bench.after_the_wait();
        assert_eq!(bench.gate(), Gate::Probe);
        bench.answer(FAILED);
    }
    bench.after_the_wait();
    bench.answer(Signal::Alive);
    assert_eq!((bench.state(), bench.gate()), (State::Healthy, Gate::Open(2)), "a ramp from one");
    bench.fail(4);
    assert_eq!(bench.state(), State::Degraded, "what was before the outage is forgotten");
}

#[test]
fn half_of_twenty_answers_failing_opens_the_circuit() {
    let mut bench = Bench::new();
    for _ in 0..9 {
        bench.answer(FAILED);
        bench.answer(Signal::Alive);
    }
    bench.answer(FAILED);
    assert_ne!(bench.state(), State::Open);
    bench.answer(Signal::Alive);
    bench.answer(FAILED);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn refused_payloads_never_open_the_circuit_and_close_it() {
    let mut bench = Bench::new();
    for _ in 0..1_000 {
        assert_eq!(bench.answer(Signal::Refused), Duration::ZERO);
        assert_eq!((bench.state(), bench.gate()), (State::Healthy, Gate::Open(2)));
    }
    bench.fail(5);
    bench.after_the_wait();
    bench.answer(Signal::Refused);
    assert_eq!((bench.state(), bench.gate()), (State::Healthy, Gate::Open(1)));
}

#[test]
fn requests_that_fail_together_move_the_probe_once() {
    let mut bench = Bench::new();
    let epoch = bench.health.epoch();
    for _ in 0..8 {
        bench.answer_to(epoch, FAILED);
    }
    assert_eq!(bench.state(), State::Open);
    bench.assert_wait(Duration::from_secs(1));
    bench.answer_to(epoch, Signal::Alive);
    assert_eq!(bench.state(), State::Open, "the probe decides");
}

#[test]
fn retry_after_stops_the_destination_and_a_ramp_follows() {
    let mut bench = Bench::new();
    let epoch = bench.health.epoch();
    bench.answer(asks_for(100));
    assert_eq!(bench.state(), State::Throttled);
    bench.assert_wait(Duration::from_secs(100));
    bench.answer_to(epoch, FAILED);
    bench.answer_to(epoch, Signal::Alive);
    bench.assert_wait(Duration::from_secs(100));
    // Another request that was under way is told to wait longer.
    bench.answer_to(epoch, asks_for(200));
    bench.assert_wait(Duration::from_secs(200));
    bench.after_the_wait();
    assert_eq!(bench.gate(), Gate::Open(1));
    bench.answer(Signal::Alive);
    assert_eq!((bench.state(), bench.gate()), (State::Healthy, Gate::Open(2)));
}

#[test]
fn an_open_circuit_waits_at_least_as_long_as_it_is_asked_to() {
    let mut bench = Bench::new();
    bench.fail(5);
    bench.after_the_wait();
    bench.answer(asks_for(40));
    assert_eq!(bench.state(), State::Open);
    bench.assert_wait(Duration::from_secs(40));
}

#[test]
fn a_batch_that_will_be_sent_differently_goes_at_once_but_not_for_ever() {
    let mut bench = Bench::new();
    for tries in 1..=4 {
        let request =
            Request { epoch: bench.health.epoch(), tries, attempts: tries, latency: Duration::ZERO };
        let wait = bench.health.react(asks_for(0), request, bench.now, &mut bench.rng);
        let expected = if tries <= 3 { State::Healthy } else { State::Degraded };
        assert_eq!((bench.wait(), bench.state()), (Duration::ZERO, expected));
        assert!(tries == 4 || wait.is_zero());
    }
}

#[test]
fn holds_grow_and_end_with_a_success() {
    let mut bench = Bench::new();
    for minutes in [1, 2, 4, 8, 15, 15] {
        bench.answer(Signal::Auth);
        bench.assert_wait(Duration::from_secs(60 * minutes));
        assert_eq!(bench.state(), State::HeldAuth);
        bench.after_the_wait();
        assert_eq!(bench.gate(), Gate::Probe);
    }
    bench.answer(FAILED);
    assert_eq!(bench.state(), State::HeldAuth, "a failed probe says nothing of the credentials");
    bench.after_the_wait();
    bench.answer(Signal::Alive);
    assert_eq!(bench.state(), State::Healthy);
}

#[test]
fn a_wrong_address_is_believed_at_the_third_time_in_a_row() {
    let mut bench = Bench::new();
    for signal in [NOT_FOUND, NOT_FOUND, Signal::Alive, NOT_FOUND, NOT_FOUND, FAILED, NOT_FOUND, NOT_FOUND] {
        bench.answer(signal);
        assert_ne!(bench.state(), State::HeldConfig, "not three in a row");
        bench.after_the_wait();
    }
    bench.answer(NOT_FOUND);
    assert_eq!(bench.state(), State::HeldConfig);
    bench.assert_wait(Duration::from_secs(60));
    bench.after_the_wait();
    bench.answer(NOT_FOUND);
    bench.assert_wait(Duration::from_secs(120));
}

#[test]
fn a_name_or_a_certificate_is_believed_wrong_at_the_fifth_time() {
    let mut bench = Bench::new();
    for n in 1..=5 {
        assert_ne!(bench.state(), State::HeldConfig, "{n}");
        bench.answer(NO_NAME);
        bench.after_the_wait();
    }
    assert_eq!(bench.state(), State::HeldConfig);
}

#[test]
fn gone_and_a_loop_are_believed_at_once() {
    for status in [410, 508] {
        let mut bench = Bench::new();
        bench.answer(Signal::Config { status: Some(status) });
        assert_eq!(bench.state(), State::HeldConfig);
    }
}

#[test]
fn nothing_but_failures_for_five_days_pauses() {
    for signal in [FAILED, Signal::Auth, NOT_FOUND, NO_NAME, asks_for(60)] {
        let mut bench = Bench::new();
        let start = bench.now;
        while bench.state() != State::AutoPaused {
            assert!(bench.now - start < 5 * DAY + HOUR, "{signal:?}");
            bench.answer(signal);
            bench.now += Duration::from_secs(1);
            bench.after_the_wait();
        }
        assert!(bench.now - start >= 5 * DAY, "{signal:?}");
        for _ in 0..10 {
            assert_eq!(bench.gate(), Gate::Probe);
            bench.answer(signal);
            assert_eq!(bench.state(), State::AutoPaused);
            bench.assert_wait(HOUR);
            bench.after_the_wait();
        }
        bench.answer(Signal::Alive);
        assert_eq!(bench.state(), State::Healthy);
        bench.answer(signal);
        assert_ne!(bench.state(), State::AutoPaused, "five days from the last success");
    }
}

#[test]
fn a_rare_failure_is_not_five_days_of_failures() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.answer(Signal::Auth);
        bench.now += 2 * DAY;
    }
    assert_eq!(bench.state(), State::HeldAuth);
}

#[test]
fn a_user_ends_an_automatic_pause() {
    let mut bench = Bench::new();
    for _ in 0..6 {
        bench.answer(Signal::Auth);
        bench.now += DAY - HOUR;
    }
    bench.answer(Signal::Auth);
    assert_eq!(bench.state(), State::AutoPaused);
    bench.health.retry_now(Retry::Backoff, 8);
    assert_eq!((bench.state(), bench.gate()), (State::Degraded, Gate::Open(1)));
    bench.answer(Signal::Auth);
    assert_eq!(bench.state(), State::HeldAuth, "it has five days again");
}

#[test]
fn an_answer_to_the_old_configuration_does_not_touch_the_new_one() {
    for signal in [Signal::Auth, Signal::Gone, NOT_FOUND, asks_for(100), FAILED] {
        let mut bench = Bench::new();
        let old = bench.health.epoch();
        bench.health.retry_now(Retry::Backoff, 8);
        for _ in 0..10 {
            assert_eq!(bench.answer_to(old, signal), Duration::ZERO);
        }
        assert_eq!((bench.state(), bench.wait()), (State::Healthy, Duration::ZERO), "{signal:?}");
    }
}

#[test]
fn a_change_ends_every_wait() {
    for signal in [Signal::Auth, NO_NAME, asks_for(3600), FAILED] {
        let mut bench = Bench::new();
        for _ in 0..6 {
            bench.answer(signal);
            bench.after_the_wait();
        }
        bench.answer(signal);
        assert!(bench.wait() > Duration::ZERO, "{signal:?}");
        bench.health.retry_now(Retry::Backoff, 8);
        assert!(matches!(bench.gate(), Gate::Probe | Gate::Open(1)), "{signal:?}: {:?}", bench.gate());
    }
}

#[test]
fn failures_of_an_earlier_process_count_until_a_success() {
    let mut bench = Bench::new();
    bench.answer(FAILED);
    bench.now += 100 * HOUR;
    let told = bench.health.failing_for(bench.now).unwrap();
    assert_eq!(told, (100 * HOUR, 100 * HOUR));
    let mut next = Bench::new();
    next.now += 100 * DAY;
    next.health.has_failed_for((5 * DAY, HOUR), next.now);
    next.answer(FAILED);
    assert_eq!(next.state(), State::AutoPaused);

    let mut well = Bench::new();
    well.now += 100 * DAY;
    well.health.has_failed_for((5 * DAY, HOUR), well.now);
    well.answer(Signal::Alive);
    well.answer(FAILED);
    assert_ne!(well.state(), State::AutoPaused);
}

#[test]
fn gone_stays_until_somebody_acts() {
    let mut bench = Bench::new();
    bench.answer(Signal::Gone);
    bench.now += 100 * DAY;
    assert_eq!((bench.gate(), bench.state()), (Gate::Shut, State::Gone));
    bench.health.retry_now(Retry::Backoff, 8);
    assert_eq!((bench.gate(), bench.state()), (Gate::Open(1), State::Degraded));
}

#[test]
fn unattributed_refusals_degrade_until_all_is_stored() {
    let mut bench = Bench::new();
    bench.answer(Signal::Strained);
    assert_eq!(bench.state(), State::Degraded);
    bench.answer(Signal::Alive);
    assert_eq!(bench.state(), State::Healthy);
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let status = prop::option::of(prop::sample::select(vec![404u16, 410, 429, 500, 501, 503, 508]));
    let wait = prop::option::of((0u64..200_000).prop_map(Duration::from_millis));
    prop_oneof![
        2 => Just(Signal::Alive),
        1 => Just(Signal::Refused),
        1 => Just(Signal::Strained),
        6 => (status.clone(), wait).prop_map(|(status, retry_after)| Signal::Failed { status, retry_after }),
        1 => Just(Signal::Auth),
        2 => status.prop_map(|status| Signal::Config { status }),
        1 => Just(Signal::Gone),
    ]
}

proptest! {
    /// Whatever came before: once a destination answers well again, it is healthy after at most one wait,
    /// which is no longer than the longest anybody may ask for (a destination that is gone: after a user
    /// acted), and within the limits at any time.
    #[test]
    fn no_state_is_a_dead_end(
        steps in prop::collection::vec((any_signal(), 0u64..4, 0u64..100_000, 1u32..9), 0..200),
        max in 1usize..64,
    ) {
        let mut bench = Bench::new();
        bench.health = Health::new(bench.health.policy, Retry::Backoff, max);
        let mut rest = Duration::ZERO;
        for (signal, age, pause_s, tries) in steps {
            let epoch = bench.health.epoch().saturating_sub(age);
            let request = Request { epoch, tries, attempts: tries, latency: Duration::from_millis(pause_s) };
            rest = rest.max(bench.health.react(signal, request, bench.now, &mut bench.rng));
            match bench.gate() {
                Gate::Open(n) => prop_assert!(n >= 1 && n <= max.min(32)),
                Gate::Until(until) => {
                    prop_assert!(until - bench.now <= HOUR + HOUR / 10);
                    if pause_s % 3 == 0 { bench.after_the_wait() }
                }
                Gate::Probe => prop_assert!(!matches!(bench.state(), State::Healthy | State::Degraded)),
                Gate::Shut => prop_assert_eq!(bench.state(), State::Gone),
            }
            bench.now += Duration::from_secs(pause_s / 10);
        }
        prop_assert!(rest <= Duration::from_secs(60), "a batch never waits longer by itself");

        // The faults end.
        if bench.gate() == Gate::Shut {
            bench.health.retry_now(Retry::Backoff, max);
        }
        bench.after_the_wait();
        for _ in 0..20 {
            prop_assert!(matches!(bench.gate(), Gate::Open(_) | Gate::Probe));
            bench.answer(Signal::Alive);
        }
        prop_assert_eq!(bench.state(), State::Healthy);
    }
}
