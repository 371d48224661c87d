//! How many requests may be under way: additive increase on success with stable latency, multiplicative
//! decrease on failure or doubled latency.

use std::time::Duration;

/// Requests under way with a destination nothing is known of yet.
const START: f64 = 2.0;
/// Never more, whatever the adapter allows.
pub(super) const MAX: usize = 32;
/// What is left after a decrease.
const FAILED: f64 = 0.5;
const SLOWED: f64 = 0.75;
/// Latencies closer than this are the same: schedulers and networks are not more exact.
const NOISE_SECONDS: f64 = 0.05;
/// How much of a round's latency goes into the usual one.
const LEARNED: f64 = 0.2;

#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    size: f64,
    max: f64,
    /// Up to here the size grows by one with every success: it was reached before.
    ramp_to: f64,
    /// Latency to expect.
    usual_seconds: Option<f64>,
    /// Answers of the present round (as many as there are places) and the sum of their latencies.
    round: (u32, f64),
    /// Answers that belong to requests started before the last decrease.
    stale: u32,
}

impl Window {
    pub(super) fn new(max: usize) -> Window {
        let max = max.clamp(1, MAX) as f64;
        Window {
            size: START.min(max),
            max,
            ramp_to: START.min(max),
            usual_seconds: None,
            round: (0, 0.0),
            stale: 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.clamp(1, MAX) as f64;
        self.size = self.size.min(self.max);
    }

    /// One request shows whether more are taken; then the size ramps up to half of what it was.
    pub(super) fn restart(&mut self) {
        self.ramp_to = self.ramp_to.max((self.size * FAILED).floor());
        self.size = 1.0;
        (self.round, self.stale) = ((0, 0.0), 0);
    }

    pub(super) fn succeeded(&mut self, latency: Duration) {
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        let (answers, sum) = (self.round.0 + 1, self.round.1 + latency.as_secs_f64());
        self.round = (answers, sum);
        if self.size < self.ramp_to {
            self.size = (self.size + 1.0).min(self.max);
        } else {
            // By one in a round.
            self.size = (self.size + 1.0 / self.size).min(self.max);
        }
        if f64::from(answers) >= self.size {
            self.end_of_round(sum / f64::from(answers));
        }
    }

    pub(super) fn failed(&mut self) {
        if self.stale > 0 {
            self.stale -= 1;
        } else {
            self.decrease(FAILED);
        }
    }

    fn end_of_round(&mut self, seconds: f64) {
        self.round = (0, 0.0);
        let usual = *self.usual_seconds.get_or_insert(seconds);
        // Also learned from slow rounds: a destination that stays slower gets a new usual.
        self.usual_seconds = Some(usual + (seconds - usual) * LEARNED);
        if seconds > usual * 2.0 && seconds > usual + NOISE_SECONDS {
            self.decrease(SLOWED);
        }
    }

    /// Requests that were under way at the same time speak of the same trouble: it is counted once.
    fn decrease(&mut self, left: f64) {
        self.stale = (self.size as u32).saturating_sub(1);
        self.size = (self.size * left).max(1.0);
        self.ramp_to = self.size;
        self.round = (0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(100);

    fn grown(to: usize) -> Window {
        let mut window = Window::new(64);
        for _ in 0..10_000 {
            if window.size() >= to {
                break;
            }
            window.succeeded(FAST);
        }
        assert_eq!(window.size(), to);
        window
    }

    #[test]
    fn starts_with_two_and_grows_by_one_a_round_to_thirty_two() {
        let mut window = Window::new(64);
        assert_eq!(window.size(), 2);
        let mut answers = 0;
        for size in 3..=32 {
            while window.size() < size {
                window.succeeded(FAST);
                answers += 1;
            }
        }
        // A round is as many answers as there are places: 2 + 3 + ... + 31, rounded up a little.
        assert!((495..=530).contains(&answers), "{answers}");
        (0..1_000).for_each(|_| window.succeeded(FAST));
        assert_eq!(window.size(), 32);
    }

    #[test]
    fn keeps_to_the_limit_of_the_adapter() {
        let mut window = Window::new(4);
        (0..1_000).for_each(|_| window.succeeded(FAST));
        assert_eq!(window.size(), 4);
        assert_eq!(Window::new(1).size(), 1);
        assert_eq!(Window::new(0).size(), 1);
        window.set_max(3);
        assert_eq!(window.size(), 3);
    }

    #[test]
    fn failures_of_one_round_halve_it_once() {
        let mut window = grown(16);
        (0..16).for_each(|_| window.failed());
        assert_eq!(window.size(), 8);
        window.failed();
        assert_eq!(window.size(), 4);
        (0..100).for_each(|_| window.failed());
        assert_eq!(window.size(), 1, "never none");
    }

    #[test]
    fn doubled_latency_is_answered_with_fewer_requests() {
        let mut window = grown(16);
        // Twenty places are well above what the first round of slow answers takes to end.
        for _ in 0..40 {
            window.succeeded(FAST * 5);
            if window.size() < 16 {
                break;
            }
        }
        assert_eq!(window.size(), 12);
    }

    #[test]
    fn a_latency_that_stays_becomes_the_usual_one() {
        let mut window = grown(16);
        (0..2_000).for_each(|_| window.succeeded(FAST * 5));
        assert!(window.size() >= 16, "{}", window.size());
    }

    #[test]
    fn small_differences_are_noise() {
        let mut window = grown(8);
        for n in 0..2_000 {
            window.succeeded(Duration::from_millis(if n % 2 == 0 { 1 } else { 30 }));
        }
        assert_eq!(window.size(), 32);
    }

    #[test]
    fn a_ramp_from_one_grows_with_every_success_to_half_of_before() {
        let mut window = grown(16);
        window.restart();
        let sizes: Vec<usize> = (0..9)
            .map(|_| {
                let size = window.size();
                window.succeeded(FAST);
                size
            })
            .collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8, 8]);
    }
}
