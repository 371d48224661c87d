//! Whether a destination lags: its oldest pending span has waited for longer than a working destination needs.
//!
//! What it needs is the wait for company of its own batches, and then two attempts that take as long as an attempt
//! may: its target. It lags beyond that and until the wait is back at one such attempt, so that it does not waver.
//!
//! A destination that lags is shown as degraded and told of like any other change of state, but it is sent to as
//! before. Fewer requests at a time help one that fails. They make one worse that answers well and is sent more than it
//! takes, and the lag says nothing of the cause: it may be a rate limit its owner gave it, a pause that has ended, or
//! this process, which was not running. Whether requests at a time slow it down is measured where it can be told apart,
//! by the latency of its answers.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts of full length that are given before it lags.
const ATTEMPTS: u32 = 2;

/// What a working destination needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// How long spans wait for company.
    pub(crate) linger: Duration,
    /// How long an attempt may take.
    pub(crate) attempt: Duration,
    /// How long spans are tried at all: a deadline is the time of acceptance and this.
    pub(crate) max_age: Duration,
}

impl Target {
    /// How long spans may wait.
    pub(crate) fn wait(self) -> Duration {
        self.linger.saturating_add(self.attempt.saturating_mul(ATTEMPTS))
    }

    /// When a span with this deadline has waited for so long; `None` if it expires before.
    fn at(self, deadline: Instant, wait: Duration) -> Option<Instant> {
        deadline.checked_sub(self.max_age.checked_sub(wait)?)
    }
}

/// What is known of a destination's lag.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lag {
    is_above: bool,
}

impl Lag {
    pub(crate) fn is_above(self) -> bool {
        self.is_above
    }

    /// Nothing is pending.
    pub(crate) fn caught_up(&mut self) {
        self.is_above = false;
    }

    /// `oldest`: the deadline of the oldest that is pending. Returns when it lags, unless that span ends before.
    pub(crate) fn note(&mut self, oldest: Instant, target: Target, now: Instant) -> Option<Instant> {
        let lags_at = target.at(oldest, target.wait());
        let back_at = target.at(oldest, target.linger.saturating_add(target.attempt));
        let limit = if self.is_above { back_at } else { lags_at };
        self.is_above = limit.is_some_and(|limit| limit <= now);
        lags_at.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        linger: Duration::from_secs(5),
        attempt: Duration::from_secs(30),
        max_age: Duration::from_secs(3600),
    };

    #[test]
    fn it_begins_at_two_attempts_and_ends_at_one() {
        let start = Instant::now();
        let deadline = |accepted: u64| start + Duration::from_secs(accepted) + TARGET.max_age;
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut lag = Lag::default();
        assert_eq!(lag.note(deadline(0), TARGET, at(64)), Some(at(65)));
        assert!(!lag.is_above());
        assert_eq!(lag.note(deadline(0), TARGET, at(65)), None);
        assert!(lag.is_above());
        // The oldest that is left has waited for less than it takes to lag, and for more than it takes to be back.
        assert_eq!(lag.note(deadline(20), TARGET, at(65)), Some(at(85)));
        assert!(lag.is_above());
        assert_eq!(lag.note(deadline(31), TARGET, at(65)), Some(at(96)));
        assert!(!lag.is_above());
        lag.note(deadline(0), TARGET, at(200));
        assert!(lag.is_above());
        lag.caught_up();
        assert!(!lag.is_above());
    }

    #[test]
    fn what_expires_before_does_not_lag() {
        let now = Instant::now();
        let target = Target { max_age: Duration::from_secs(60), ..TARGET };
        let mut lag = Lag::default();
        assert_eq!(lag.note(now + Duration::from_secs(1), target, now), None);
        assert!(!lag.is_above());
    }
}
