//! A destination's changes of state, the latest ones, each with the trouble it came with.

use std::collections::VecDeque;
use std::time::Duration;

use crate::State;
use crate::gap::Gaps;
use crate::stats::LastError;

/// Entries kept; with an error of at most 2 KiB each.
const ENTRIES_MAX: usize = 32;

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// When, unix nanoseconds; the latest time if it happened repeatedly.
    pub at_unix_nano: u64,
    /// How often in succession: a destination that wavers between two states takes two entries.
    pub times: u32,
    /// The latest trouble at that time; none if the destination became healthy.
    pub error: Option<LastError>,
}

/// What a destination's process knows of it and the next one should: the log does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memo {
    /// Nothing but failures: how long, and how long ago the latest was.
    pub failing_for: Option<(Duration, Duration)>,
    /// The latest changes of state, oldest first.
    pub history: Vec<Transition>,
    /// What it loses meanwhile, or has lost.
    pub gaps: Gaps,
}

/// The latest changes, oldest first. Takes no memory before the first.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: VecDeque<Transition>,
}

impl History {
    pub(crate) fn push(&mut self, new: Transition) {
        let recent = self.entries.len().saturating_sub(2);
        if let Some(i) = (recent..self.entries.len())
            .find(|i| self.entries.get(*i).is_some_and(|e| (e.from, e.to) == (new.from, new.to)))
            && let Some(old) = self.entries.remove(i)
        {
            self.entries.push_back(Transition { times: old.times.saturating_add(1), ..new });
            return;
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(new);
    }

    /// What was before the first entry.
    pub(crate) fn precede(&mut self, earlier: Vec<Transition>) {
        let room = ENTRIES_MAX.saturating_sub(self.entries.len());
        earlier.into_iter().rev().take(room).for_each(|entry| self.entries.push_front(entry));
    }

    pub(crate) fn entries(&self) -> Vec<Transition> {
        self.entries.iter().cloned().collect()
    }

    /// The vendor's words may quote content that must not be kept any more.
    pub(crate) fn forget_errors(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.error = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(from: State, to: State, at_unix_nano: u64) -> Transition {
        Transition { from, to, at_unix_nano, times: 1, error: None }
    }

    #[test]
    fn wavering_takes_two_entries() {
        let mut history = History::default();
        history.push(change(State::Healthy, State::Open, 1));
        history.push(change(State::Open, State::Healthy, 2));
        for at in 10..100 {
            let (from, to) = [(State::Healthy, State::Degraded), (State::Degraded, State::Healthy)][at % 2];
            history.push(change(from, to, at as u64));
        }
        let shown: Vec<_> = history.entries().iter().map(|e| (e.to, e.times, e.at_unix_nano)).collect();
        assert_eq!(
            shown,
            [
                (State::Open, 1, 1),
                (State::Healthy, 1, 2),
                (State::Degraded, 45, 98),
                (State::Healthy, 45, 99)
            ]
        );
    }

    #[test]
    fn what_was_before_takes_the_room_that_is_left() {
        let mut history = History::default();
        history.push(change(State::Healthy, State::Open, 100));
        history.precede((0..99).map(|at| change(State::Open, State::Healthy, at)).collect());
        let entries = history.entries();
        let at: Vec<_> = entries.iter().map(|e| e.at_unix_nano).collect();
        assert_eq!(at, (99 - (ENTRIES_MAX as u64 - 1)..99).chain([100]).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let mut history = History::default();
        for at in 0..1_000 {
            let to = State::ALL[at % State::ALL.len()];
            history.push(change(State::Healthy, to, at as u64));
        }
        let entries = history.entries();
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries.last().unwrap().at_unix_nano, 999);
        assert!(entries.is_sorted_by_key(|e| e.at_unix_nano));
    }
}
