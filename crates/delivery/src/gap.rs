//! What a destination has lost while it only failed, for whoever wants it sent again once it is back.

use std::time::Duration;

use crate::State;

/// An offer is good for so long: nothing of that time is kept longer, neither dead letters nor the log.
const GOOD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A time without a success in which a destination was auto-paused, and what was given up in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first failure, unix nanoseconds.
    pub since_unix_nano: u64,
    /// When it left the pause, unix nanoseconds.
    pub until_unix_nano: u64,
    /// Spans that were given up.
    pub lost: Lost,
}

/// Spans that were selected for a destination and that it did not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Dropped, for whatever reason.
    pub dropped: u64,
    /// Refused; copies are kept.
    pub dead_lettered: u64,
}

/// What is known of a destination's gaps. It is remembered over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// It fails: since when (unix nanoseconds), all it had lost before, and whether that has made it pause.
    pub open: Option<(u64, Lost, bool)>,
    /// The latest gap, until somebody has had it sent again.
    pub offer: Option<Gap>,
}

impl Gaps {
    /// It has changed to `state`, and fails since `since_unix_nano`. `lost` is all it ever lost.
    pub(crate) fn entered(&mut self, state: State, since_unix_nano: u64, lost: Lost) {
        use State::{AutoPaused, Gone, HeldAuth, HeldConfig, Open};
        if !matches!(state, Open | HeldAuth | HeldConfig | AutoPaused | Gone) {
            return;
        }
        let (_, _, paused) = self.open.get_or_insert((since_unix_nano, lost, false));
        *paused |= state == AutoPaused;
    }

    /// It takes something again, or a user says that it is to be tried.
    pub(crate) fn ended(&mut self, now_unix_nano: u64, lost: Lost) {
        let Some((since_unix_nano, before, true)) = self.open.take() else { return };
        let lost = Lost {
            dropped: lost.dropped.saturating_sub(before.dropped),
            dead_lettered: lost.dead_lettered.saturating_sub(before.dead_lettered),
        };
        if lost != Lost::default() {
            self.offer = Some(Gap { since_unix_nano, until_unix_nano: now_unix_nano, lost });
        }
    }

    /// What can still be sent again.
    pub(crate) fn offer(&self, now_unix_nano: u64) -> Option<Gap> {
        let age = |gap: &Gap| Duration::from_nanos(now_unix_nano.saturating_sub(gap.until_unix_nano));
        self.offer.filter(|gap| age(gap) <= GOOD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn lost(dropped: u64, dead_lettered: u64) -> Lost {
        Lost { dropped, dead_lettered }
    }

    #[test]
    fn a_gap_is_what_was_lost_from_the_first_failure_on() {
        let mut gaps = Gaps::default();
        gaps.entered(State::Open, 100, lost(7, 1));
        gaps.entered(State::AutoPaused, 900, lost(50, 1));
        gaps.entered(State::Paused, 950, lost(60, 1));
        gaps.ended(1_000, lost(107, 3));
        let gap = Gap { since_unix_nano: 100, until_unix_nano: 1_000, lost: lost(100, 2) };
        assert_eq!(gaps, Gaps { open: None, offer: Some(gap) });
        assert_eq!(gaps.offer(2_000), Some(gap));
        assert_eq!(gaps.offer(2_000 + GOOD_FOR.as_nanos() as u64), None);
        // A short failure later on does not end the offer.
        gaps.entered(State::Open, 3_000, lost(107, 3));
        gaps.ended(4_000, lost(108, 3));
        assert_eq!(gaps.offer, Some(gap));
    }

    #[test]
    fn nothing_is_offered_where_nothing_was_lost_or_it_was_not_paused() {
        let mut gaps = Gaps::default();
        gaps.entered(State::HeldAuth, 1, Lost::default());
        gaps.ended(2, lost(5, 5));
        assert_eq!(gaps, Gaps::default());
        gaps.entered(State::AutoPaused, 3, lost(5, 5));
        gaps.ended(4, lost(5, 5));
        assert_eq!(gaps, Gaps::default());
        for state in [State::Healthy, State::Degraded, State::Throttled, State::Paused, State::Retired] {
            gaps.entered(state, 5, lost(5, 5));
        }
        gaps.ended(6, lost(9, 9));
        assert_eq!(gaps, Gaps::default());
    }
}
