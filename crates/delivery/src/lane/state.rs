//! The state a destination is shown in, its changes, and what of it is remembered over a restart.

use std::time::Duration;

use tokio::time::Instant;

use super::{Closing, Desk, Lane};
use crate::State;
use crate::gap::Lost;
use crate::health::Gate;
use crate::history::{Memo, Transition};
use crate::stats::{LastError, Stats, unix_nano};

impl Lane {
    pub(crate) fn stats(&self) -> Stats {
        let now = Instant::now();
        let (state, since, gate, is_lagging, gap) = {
            let desk = self.desk();
            let gap = desk.gaps.offer(unix_nano());
            (desk.shown, desk.since_unix_nano, desk.gate(now), desk.lag.is_above(), gap)
        };
        let wait = if let Gate::Until(until) = gate { until - now } else { Duration::ZERO };
        Stats { is_lagging, gap, ..self.meters.stats(state, since, wait) }
    }

    /// The latest changes of state, oldest first.
    pub(crate) fn history(&self) -> Vec<Transition> {
        self.desk().history.entries()
    }

    /// What is to be remembered over a restart.
    pub(crate) fn memo(&self) -> Memo {
        let desk = self.desk();
        Memo {
            failing_for: desk.health.failing_for(Instant::now()),
            history: desk.history.entries(),
            gaps: desk.gaps,
        }
    }

    /// What an earlier process remembered.
    pub(crate) fn recall(&self, memo: Memo) {
        let mut desk = self.desk();
        if let Some(failing_for) = memo.failing_for {
            desk.health.has_failed_for(failing_for, Instant::now());
        }
        desk.history.precede(memo.history);
        desk.gaps = memo.gaps;
    }

    /// What a gap has cost is being sent again.
    pub(crate) fn took_up_offer(&self) {
        self.desk().gaps.offer = None;
    }

    /// All it ever lost.
    pub(super) fn lost(&self) -> Lost {
        let books = self.shared.log.books(self.slot);
        Lost { dropped: books.dropped.iter().sum(), dead_lettered: books.dead_lettered.iter().sum() }
    }

    /// Brings the shown state up to date and notes the change, if there was one. `lost` is what [`Lane::lost`] said.
    pub(super) fn transition(&self, desk: &mut Desk, lost: Lost) -> Option<Transition> {
        let (from, to) = (desk.shown, desk.state());
        if from == to {
            return None;
        }
        desk.shown = to;
        desk.since_unix_nano = unix_nano();
        self.meters.entered(to);
        let error = match to {
            State::Healthy => None,
            State::Degraded if desk.lags_only() => self.lag_error(desk),
            _ => self.meters.last_error(),
        };
        let change = Transition { from, to, at_unix_nano: desk.since_unix_nano, times: 1, error };
        desk.history.push(change.clone());
        if from == State::AutoPaused && to == State::Degraded {
            desk.gaps.ended(change.at_unix_nano, lost);
        }
        let failing_for = desk.health.failing_for(Instant::now()).map_or(0, |(ago, _)| ago.as_nanos() as u64);
        let since_unix_nano = change.at_unix_nano.saturating_sub(failing_for);
        desk.gaps.entered(to, since_unix_nano, lost);
        Some(change)
    }

    /// The trouble of a destination that lags, for its history.
    fn lag_error(&self, desk: &Desk) -> Option<LastError> {
        let target = desk.target(&self.shared.options)?.wait().as_secs_f64();
        let excerpt = format!("the oldest pending event waits for more than {target:.1} s");
        Some(LastError { status: None, excerpt, at_unix_nano: desk.since_unix_nano })
    }

    pub(super) fn announce(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        let setup = self.setup();
        if let Some(watcher) = self.shared.watcher.get() {
            watcher(&setup.destination, &transition);
        }
        let (from, to) = (transition.from, transition.to);
        let weight = |state: State| match state {
            State::HeldAuth | State::HeldConfig | State::AutoPaused | State::Gone => 2,
            State::Throttled | State::Open | State::Paused | State::Draining | State::Retired => 1,
            _ => 0,
        };
        let (heavy_from, heavy_to) = (weight(from), weight(to));
        let lags = to == State::Degraded && self.desk().lags_only();
        let (destination, name) = (self.id, setup.destination.name.as_str());
        let (from, to) = (from.as_str(), to.as_str());
        match (heavy_to, heavy_from) {
            _ if lags => tracing::warn!(%destination, name, from, to, "destination lags, its events wait"),
            (2, _) => {
                tracing::warn!(%destination, name, from, to, "destination needs attention, its data is kept")
            }
            _ => tracing::info!(%destination, name, from, to, "destination changed state"),
        }
    }
}

impl Desk {
    pub(super) fn state(&self) -> State {
        if self.closing == Some(Closing::Deleted) {
            State::Draining
        } else if self.retired {
            State::Retired
        } else if self.is_paused() {
            State::Paused
        } else if self.setup.sender.is_err() {
            State::HeldConfig
        } else if self.lags_only() {
            State::Degraded
        } else {
            self.health.state()
        }
    }

    /// Its answers are good, and there are too few of them.
    fn lags_only(&self) -> bool {
        self.health.state() == State::Healthy && self.lag.is_above()
    }
}
