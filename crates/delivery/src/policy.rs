//! How long to wait before the next try: pure functions of what happened, with the random source passed in.
//!
//! The figures are those of the delivery guarantees, sections 6 to 8. Nothing here knows a clock, a queue
//! or a task, so the numbers can be tested without any of them.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Options;

/// Longest wait a vendor may ask for; above it this is used instead.
pub(crate) const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);
/// First wait of a destination held for its credentials or its address.
pub(crate) const HOLD_FIRST: Duration = Duration::from_secs(60);
/// Longest wait of a held destination.
pub(crate) const HOLD_CAP: Duration = Duration::from_secs(15 * 60);
/// First wait of an open circuit.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// Longest wait of an open circuit.
const PROBE_CAP: Duration = Duration::from_secs(5 * 60);
/// Wait of a destination that failed for days.
const PAUSED_PROBE: Duration = Duration::from_secs(3600);
/// Spans in a probe, at most.
pub(crate) const PROBE_SPANS_MAX: u32 = 10;
/// Tries answered 500 after which a batch is suspected to be the cause and is halved.
pub(crate) const SUSPECT_AFTER: u32 = 3;
/// Requests spent on one batch after which the search for its bad spans slows down.
pub(crate) const PACE_AFTER: u32 = 64;
/// Pause between requests of a slowed search.
pub(crate) const PACE: Duration = Duration::from_millis(100);
/// Tries of one batch that may follow one another at once when the adapter says that it will send the batch
/// differently.
pub(crate) const AT_ONCE_TRIES: u32 = 3;
/// One in so many requests under way may be a retry, and at least one.
pub(crate) const RETRY_ONE_IN: usize = 5;
/// Failed attempts to read a payload or to write a dead letter before its spans are given up as damaged.
pub(crate) const IO_TRIES: u32 = 10;

/// Waits of a batch whose destination asks for the schedule; the last one is repeated.
const SCHEDULE: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];

/// How long a destination is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Upper bound of the first wait.
    pub(crate) base: Duration,
    /// Upper bound of every wait.
    pub(crate) cap: Duration,
    /// Nothing but failures for so long pauses the destination.
    pub(crate) pause_after: Duration,
}

impl From<&Options> for Policy {
    fn from(options: &Options) -> Policy {
        Policy { base: options.retry_base, cap: options.retry_cap, pause_after: options.pause_after }
    }
}

impl Policy {
    /// Full jitter: `random(0, min(cap, base * 2^failures))`, `failures` counted before this one.
    ///
    /// An answer that says "not implemented" or "not for you" is retried at a low rate: from half of the
    /// cap to the cap, whatever the count.
    pub(crate) fn backoff(&self, failures: u32, status: Option<u16>, rng: &mut impl Rng) -> Duration {
        if matches!(status, Some(501 | 505 | 511)) {
            return between(self.cap / 2, self.cap, rng);
        }
        between(Duration::ZERO, doubled(self.base, failures, self.cap), rng)
    }
}

/// Wait of a batch by the schedule, 20 % more or less; `failures` counted before this one.
pub(crate) fn scheduled(failures: u32, rng: &mut impl Rng) -> Duration {
    let [.., last] = SCHEDULE;
    let wait = SCHEDULE.get(failures as usize).copied().unwrap_or(last);
    between(wait - wait / 5, wait + wait / 5, rng)
}

/// What a vendor asked for, at most [`RETRY_AFTER_CAP`], with 0 to 10 % on top so that waiting clients do
/// not come back together. `None` if it asked for nothing, or for no time at all.
pub(crate) fn retry_after(asked: Option<Duration>, rng: &mut impl Rng) -> Option<Duration> {
    let asked = asked.filter(|d| !d.is_zero())?.min(RETRY_AFTER_CAP);
    Some(between(asked, asked + asked / 10, rng))
}

/// Wait of a held destination after `probes` earlier probes: 60 s growing to 15 min, 0 to 10 % on top.
pub(crate) fn hold(probes: u32, rng: &mut impl Rng) -> Duration {
    let wait = doubled(HOLD_FIRST, probes, HOLD_CAP);
    between(wait, wait + wait / 10, rng)
}

/// Wait of an open circuit after `probes` earlier probes: 1 s growing to 5 min, 0 to 10 % on top.
pub(crate) fn probe(probes: u32, rng: &mut impl Rng) -> Duration {
    let wait = doubled(PROBE_FIRST, probes, PROBE_CAP);
    between(wait, wait + wait / 10, rng)
}

/// Wait of a destination that was paused because it only failed: an hour, 0 to 10 % on top.
pub(crate) fn hourly(rng: &mut impl Rng) -> Duration {
    between(PAUSED_PROBE, PAUSED_PROBE + PAUSED_PROBE / 10, rng)
}

/// Answers in a row that look like a wrong address before the destination is held. Some vendors answer
/// 404 while they are being maintained, and name servers and certificates have bad minutes; 410 and 508
/// mean what they say.
pub(crate) fn config_strikes(status: Option<u16>) -> u32 {
    match status {
        Some(410 | 508) => 1,
        Some(_) => 3,
        None => 5,
    }
}

/// `min(cap, base * 2^n)` without overflow.
fn doubled(base: Duration, n: u32, cap: Duration) -> Duration {
    let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
    base.checked_mul(factor).map_or(cap, |d| d.min(cap))
}

/// A source of jitter.
pub(crate) fn chance() -> SmallRng {
    SmallRng::seed_from_u64(tracecast_log::world::entropy())
}

fn between(low: Duration, high: Duration, rng: &mut impl Rng) -> Duration {
    if high <= low { low } else { rng.random_range(low..=high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        base: Duration::from_millis(500),
        cap: Duration::from_secs(60),
        pause_after: Duration::from_secs(5 * 24 * 3600),
    };

    #[test]
    fn backoff_is_full_jitter_below_the_doubled_base() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (failures, bound_ms) in
            [(0, 500), (1, 1_000), (2, 2_000), (6, 32_000), (7, 60_000), (200, 60_000)]
        {
            let bound = Duration::from_millis(bound_ms);
            let draws: Vec<_> = (0..2_000).map(|_| POLICY.backoff(failures, Some(503), &mut rng)).collect();
            assert!(draws.iter().all(|d| *d <= bound), "failures {failures}");
            // The whole range is used: both the lowest and the highest tenth are drawn.
            assert!(draws.iter().any(|d| *d < bound / 10), "failures {failures}");
            assert!(draws.iter().any(|d| *d > bound / 10 * 9), "failures {failures}");
        }
    }

    #[test]
    fn answers_that_will_not_change_soon_are_asked_rarely() {
        let mut rng = SmallRng::seed_from_u64(2);
        for status in [501, 505, 511] {
            for _ in 0..100 {
                let wait = POLICY.backoff(0, Some(status), &mut rng);
                assert!(wait >= Duration::from_secs(30) && wait <= Duration::from_secs(60));
            }
        }
    }

    #[test]
    fn the_schedule_is_the_published_one_give_or_take_a_fifth() {
        let mut rng = SmallRng::seed_from_u64(6);
        let minute = 60.0;
        let hour = 60.0 * minute;
        let waits =
            [5.0, 5.0 * minute, 30.0 * minute, 2.0 * hour, 5.0 * hour, 10.0 * hour, 10.0 * hour, 10.0 * hour];
        for (failures, secs) in (0..).zip(waits).chain([(u32::MAX, 10.0 * hour)]) {
            let draws: Vec<f64> = (0..500).map(|_| scheduled(failures, &mut rng).as_secs_f64()).collect();
            assert!(draws.iter().all(|d| *d >= secs * 0.8 && *d <= secs * 1.2), "{failures}");
            assert!(draws.iter().any(|d| *d < secs * 0.84) && draws.iter().any(|d| *d > secs * 1.16));
        }
    }

    #[test]
    fn retry_after_is_kept_up_to_an_hour_and_jittered_upwards_only() {
        let mut rng = SmallRng::seed_from_u64(3);
        for (asked, low) in [(1.5, 1.5), (30.0, 30.0), (3_600.0, 3_600.0), (86_400.0, 3_600.0)] {
            for _ in 0..200 {
                let wait = retry_after(Some(Duration::from_secs_f64(asked)), &mut rng).unwrap().as_secs_f64();
                assert!(wait >= low && wait <= low * 1.1 + 1e-6, "{asked}: {wait}");
            }
        }
        assert_eq!(retry_after(None, &mut rng), None);
        assert_eq!(retry_after(Some(Duration::ZERO), &mut rng), None);
        assert!(retry_after(Some(Duration::MAX), &mut rng).unwrap() <= RETRY_AFTER_CAP / 10 * 11);
    }

    #[test]
    fn holds_grow_from_a_minute_to_a_quarter_of_an_hour() {
        let mut rng = SmallRng::seed_from_u64(4);
        for (probes, secs) in [(0, 60.0), (1, 120.0), (2, 240.0), (3, 480.0), (4, 900.0), (40, 900.0)] {
            let wait = hold(probes, &mut rng).as_secs_f64();
            assert!(wait >= secs && wait <= secs * 1.1 + 1e-6, "{probes}: {wait}");
        }
    }

    #[test]
    fn probes_of_an_open_circuit_grow_from_a_second_to_five_minutes() {
        let mut rng = SmallRng::seed_from_u64(5);
        for (probes, secs) in [(0, 1.0), (1, 2.0), (2, 4.0), (7, 128.0), (8, 256.0), (9, 300.0), (99, 300.0)]
        {
            let wait = probe(probes, &mut rng).as_secs_f64();
            assert!(wait >= secs && wait <= secs * 1.1 + 1e-6, "{probes}: {wait}");
        }
    }
}
