//! How many bytes a workspace may bring in per second, where there is a limit.
//!
//! A workspace may be ahead of its rate by [`BURST`] and is refused only while it is in debt: a body larger than the
//! burst is taken like any other, and what it was too large by is waited for afterwards. So the rate holds over time
//! whatever the sizes are, and no body is refused for ever.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracecast_rules::CanAssert;
use uuid::Uuid;

use crate::Ingest;
use crate::answer::Refusal;
use crate::auth::Sender;

/// What a workspace that was silent may bring at once, in time at its rate.
const BURST: Duration = Duration::from_secs(2);

/// The rate of every workspace, and where each of them stands.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: NonZeroU64,
    began: Instant,
    /// Up to which moment a workspace has used its rate, since `began`. One that is a burst behind is not in it.
    used_until: Mutex<HashMap<Uuid, Duration>>,
}

impl Pace {
    /// Every workspace may bring so much, each on its own.
    pub(crate) fn new(bytes_per_second: NonZeroU64) -> Pace {
        Pace { bytes_per_second, began: Instant::now(), used_until: Mutex::default() }
    }

    /// Charges `bytes` to the workspace, or says how long it has to wait; then nothing is charged. Zero bytes only ask.
    pub(crate) fn take(&self, workspace: Uuid, bytes: usize, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began) + BURST;
        let rested = now - BURST;
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used_until.get(&workspace).map_or(rested, |used| rested.max(*used));
        if used > now {
            return Err(used - now);
        }
        if bytes == 0 {
            return Ok(());
        }
        if used_until.len() == used_until.capacity() {
            // Before it grows: those that have rested, or are gone, need no place.
            used_until.retain(|_, used| *used > rested);
        }
        used_until.insert(workspace, used.saturating_add(self.time_of(bytes)));
        Ok(())
    }

    fn time_of(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
    }
}

impl Ingest {
    /// Charges a body's bytes after inflating to its sender's workspace. Zero bytes only ask, before it is read. Whoever
    /// may state any workspace is charged by [`Ingest::charge_spans`] when it is known which.
    pub(crate) fn charge_body(&self, sender: &Sender, bytes: usize) -> Result<(), Refusal> {
        match &self.shared.pace {
            Some(pace) if sender.can_assert != CanAssert::AnyWorkspace => {
                pace.take(sender.workspace, bytes, Instant::now()).map_err(Refusal::rate_limited)
            }
            _ => Ok(()),
        }
    }

    /// Charges the spans of a request that are for `workspace` to it, unless they were charged as a body.
    pub(crate) fn charge_spans(&self, sender: &Sender, workspace: Uuid, bytes: usize) -> Result<(), Refusal> {
        match &self.shared.pace {
            Some(pace) if sender.can_assert == CanAssert::AnyWorkspace => {
                pace.take(workspace, bytes, Instant::now()).map_err(Refusal::rate_limited)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: usize = 1_000;
    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    /// A rate of 1,000 bytes a second, and its clock.
    fn pace() -> (Pace, impl Fn(u64) -> Instant) {
        let pace = Pace::new(NonZeroU64::new(RATE as u64).unwrap());
        let began = pace.began;
        (pace, move |millis| began + Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (pace, at) = pace();
        // Two seconds' worth, and the one that goes beyond.
        for _ in 0..5 {
            assert_eq!(pace.take(A, 500, at(0)), Ok(()));
        }
        assert_eq!(pace.take(A, 1, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(pace.take(A, 0, at(499)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(A, 0, at(500)), Ok(()));
        assert_eq!(pace.take(A, 500, at(500)), Ok(()), "asking has cost nothing");
        assert_eq!(pace.take(A, 1, at(999)), Err(Duration::from_millis(1)));
    }

    #[test]
    fn over_time_the_rate_is_what_goes_in_whatever_the_sizes() {
        for bytes in [1, 70, 999, 2_500, 30_000] {
            let (pace, at) = pace();
            let taken =
                (0..100_000).filter(|millis| pace.take(A, bytes, at(*millis)).is_ok()).count() * bytes;
            // 100 s at the rate, the burst, and at most one body beyond.
            assert!((100_000..=102_000 + bytes).contains(&taken), "{bytes}: {taken}");
        }
    }

    #[test]
    fn a_body_larger_than_the_burst_is_waited_for_afterwards() {
        let (pace, at) = pace();
        assert_eq!(pace.take(A, 10_000, at(0)), Ok(()));
        assert_eq!(pace.take(A, 1, at(0)), Err(Duration::from_secs(8)));
        assert_eq!(pace.take(A, 1, at(8_000)), Ok(()));
    }

    #[test]
    fn silence_earns_no_more_than_the_burst() {
        let (pace, at) = pace();
        assert_eq!(pace.take(A, 1, at(0)), Ok(()));
        let day = 86_400_000;
        assert_eq!(pace.take(A, 2_000, at(day)), Ok(()));
        assert_eq!(pace.take(A, 1, at(day)), Ok(()), "at zero, not in debt");
        assert_eq!(pace.take(A, 1, at(day)), Err(Duration::from_millis(1)));
    }

    #[test]
    fn one_workspace_is_no_other() {
        let (pace, at) = pace();
        assert_eq!(pace.take(A, 1_000_000, at(0)), Ok(()));
        assert!(pace.take(A, 0, at(0)).is_err());
        assert_eq!(pace.take(B, 0, at(0)), Ok(()));
        assert_eq!(pace.take(B, 2_000, at(0)), Ok(()));
    }

    #[test]
    fn who_has_rested_is_forgotten_and_who_owes_is_not() {
        let (pace, at) = pace();
        assert_eq!(pace.take(A, 1_000_000, at(0)), Ok(()));
        // A new workspace a second: never more than two of them have not rested yet.
        for n in 0..900 {
            assert_eq!(pace.take(Uuid::from_u128(100 + n), 500, at(n as u64 * 1_000)), Ok(()));
        }
        assert!(pace.used_until.lock().unwrap().capacity() < 32);
        assert!(pace.take(A, 0, at(900_000)).is_err());
    }
}
