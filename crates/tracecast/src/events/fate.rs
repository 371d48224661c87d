//! What became of one trace's spans at one destination, as counts, and how that is told.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tracecast_delivery::LastError;
use tracecast_log::{DeadReason, DropReason, SkipReason};

use crate::runtime::time;

/// Counts of spans. `selected + requeued = delivered + dead + dropped + unknown + pending`.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    pub(super) selected: u32,
    pub(super) requeued: u32,
    pub(super) skipped: [u32; SkipReason::ALL.len()],
    pub(super) delivered: u32,
    pub(super) dead: [u32; DeadReason::ALL.len()],
    pub(super) dropped: [u32; DropReason::ALL.len()],
    /// Final, and nobody remembers how.
    pub(super) unknown: u32,
    /// Being sent at this moment.
    pub(super) in_flight: u32,
    pub(super) attempts: u32,
    pub(super) trouble: Option<Arc<LastError>>,
    pub(super) received_unix_nano: u64,
    pub(super) delivered_unix_nano: u64,
}

impl Fate {
    fn dead(&self) -> u32 {
        self.dead.iter().sum()
    }

    fn dropped(&self) -> u32 {
        self.dropped.iter().sum()
    }

    pub(super) fn pending(&self) -> u32 {
        let ended = self.delivered + self.dead() + self.dropped() + self.unknown;
        (self.selected + self.requeued).saturating_sub(ended)
    }

    /// Adds what became of other spans of the trace, or of the same ones when they were sent again.
    pub(super) fn add(&mut self, other: &Fate) {
        self.selected += other.selected;
        self.requeued += other.requeued;
        self.delivered += other.delivered;
        self.unknown += other.unknown;
        self.in_flight += other.in_flight;
        self.attempts = self.attempts.max(other.attempts);
        add_all(&mut self.skipped, &other.skipped);
        add_all(&mut self.dead, &other.dead);
        add_all(&mut self.dropped, &other.dropped);
        let at = |trouble: &Option<Arc<LastError>>| trouble.as_ref().map(|t| t.at_unix_nano);
        if at(&other.trouble) > at(&self.trouble) {
            self.trouble.clone_from(&other.trouble);
        }
        self.delivered_unix_nano = self.delivered_unix_nano.max(other.delivered_unix_nano);
        if self.received_unix_nano == 0 {
            self.received_unix_nano = other.received_unix_nano;
        }
    }

    /// The one word for it: the least final state a span of it is in.
    fn state(&self) -> &'static str {
        if self.selected + self.requeued == 0 {
            "skipped"
        } else if self.in_flight > 0 {
            "in_flight"
        } else if self.pending() > 0 {
            "pending"
        } else if self.unknown > 0 {
            "unknown"
        } else if self.delivered >= self.selected.max(1) {
            "delivered"
        } else if self.dropped() > 0 {
            "dropped"
        } else if self.dead() > 0 {
            "dead_lettered"
        } else {
            "delivered"
        }
    }

    pub(super) fn json(&self) -> Map<String, Json> {
        let named = |counts: &[u32], name: fn(usize) -> &'static str| -> Map<String, Json> {
            let some = counts.iter().enumerate().filter(|(_, n)| **n > 0);
            some.map(|(i, n)| (name(i).to_owned(), Json::from(*n))).collect()
        };
        let skipped = named(&self.skipped, |i| SkipReason::ALL.get(i).map_or("", |r| r.as_str()));
        let dead = named(&self.dead, |i| DeadReason::ALL.get(i).map_or("", |r| r.as_str()));
        let dropped = named(&self.dropped, |i| DropReason::ALL.get(i).map_or("", |r| r.as_str()));
        let latency = self.delivered_unix_nano.checked_sub(self.received_unix_nano);
        let fields = [
            ("state", self.state().into()),
            ("selected", self.selected.into()),
            ("requeued", self.requeued.into()),
            ("skipped", skipped.into()),
            ("pending", self.pending().into()),
            ("in_flight", self.in_flight.into()),
            ("delivered", self.delivered.into()),
            ("dead_lettered", dead.into()),
            ("dropped", dropped.into()),
            ("unknown", self.unknown.into()),
            ("attempts", self.attempts.into()),
            (
                "last_error",
                self.trouble.as_ref().map_or(
                    Json::Null,
                    |e| json!({ "status": e.status, "excerpt": e.excerpt, "at": time(Some(e.at_unix_nano)) }),
                ),
            ),
            ("delivered_at", time(Some(self.delivered_unix_nano).filter(|at| *at > 0))),
            ("latency_ms", latency.map_or(Json::Null, |nanos| (nanos as f64 / 1e6).into())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn add_all(counts: &mut [u32], more: &[u32]) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_the_least_final_state() {
        let state = |change: fn(&mut Fate)| {
            let mut fate = Fate { selected: 2, ..Fate::default() };
            change(&mut fate);
            fate.state()
        };
        assert_eq!(Fate::default().state(), "skipped");
        assert_eq!(state(|_| {}), "pending");
        assert_eq!(state(|f| (f.delivered, f.in_flight) = (1, 1)), "in_flight");
        assert_eq!(state(|f| f.delivered = 2), "delivered");
        assert_eq!(state(|f| (f.delivered, f.dead[0]) = (1, 1)), "dead_lettered");
        assert_eq!(state(|f| (f.dropped[1], f.dead[0]) = (1, 1)), "dropped");
        // A dead letter that was replayed and arrived.
        assert_eq!(state(|f| (f.dead[0], f.requeued, f.delivered) = (2, 2, 2)), "delivered");
        assert_eq!(state(|f| (f.dead[0], f.requeued) = (2, 2)), "pending");
    }
}
