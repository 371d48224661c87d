//! What a destination reads of the log: its backlog, page by page, and the batches of an earlier process.

use std::sync::Arc;

use tokio::time::Instant;
use tracecast_log::{Entry, LogError, Pending};

use super::{Desk, Lane, SPREAD_MAX};
use crate::job::{Part, Piece, cut};
use crate::policy::{self, Policy};
use crate::queue::Ref;
use crate::reform::{Found, Plan};

impl Lane {
    /// Reads on in the log, from this ordinal on, until it is caught up with. `plans`: what follows that an earlier
    /// process may have sent as batches.
    pub(crate) fn read_on(self: &Arc<Self>, from: u64, mut plans: Vec<Plan>) {
        let mut desk = self.desk();
        (desk.course.next, desk.course.low, desk.course.behind) = (from, from, true);
        plans.sort_by_key(|plan| plan.first().map(|range| range.start));
        desk.plans = plans;
        self.rouse(&mut desk);
    }

    /// What was read of `plans`. The batches that are as they were, and the batches of what is left of others.
    pub(crate) fn plans_read(
        &self,
        plans: Vec<Plan>,
        read: Result<Vec<Vec<Found>>, LogError>,
        now: Instant,
    ) -> Vec<Part> {
        let mut desk = self.desk();
        desk.course.reading = false;
        if !desk.course.behind {
            return Vec::new();
        }
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                desk.plans = plans;
                self.unreadable(&mut desk, &error, now);
                return Vec::new();
            }
        };
        (desk.course.failures, desk.course.not_before) = (0, None);
        let (spans_max, bytes_max) = desk.maxima(now);
        // Shares of a cut record are estimates.
        let bytes_max = bytes_max.saturating_add(bytes_max / 8);
        let mut parts = Vec::new();
        for (plan, found) in plans.into_iter().zip(read) {
            let pieces = found.into_iter().map(|Found { entry, route, spans, bytes }| Piece {
                deadline: self.deadline(&entry, now),
                entry,
                route: route as u32,
                spans,
                bytes,
            });
            // What was given up meanwhile is not taken.
            let next = desk.course.next;
            let is_open = |piece: &Piece| piece.ordinals().first().is_some_and(|range| range.start >= next);
            let pieces: Vec<Piece> = pieces.filter(is_open).collect();
            if pieces.is_empty() {
                continue;
            }
            let whole = Part::again(pieces.clone(), now);
            desk.course.formed.append(&mut whole.ordinals());
            let is_whole = whole.ordinals() == plan;
            let mut batches = cut(pieces, spans_max, bytes_max);
            if is_whole && batches.len() == 1 {
                parts.push(whole);
            } else {
                parts.extend(batches.drain(..).map(|pieces| Part::new(pieces, now)));
            }
        }
        desk.course.formed.sort_by_key(|range| range.start);
        parts
    }

    /// What was read from `read_from` on.
    pub(crate) fn page_read(&self, page: Result<Pending, LogError>, now: Instant) {
        let mut desk = self.desk();
        desk.course.reading = false;
        if !desk.course.behind {
            return;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.unreadable(&mut desk, &error, now),
        };
        (desk.course.failures, desk.course.not_before) = (0, None);
        let Pending { entries, mut next, mut at_end } = page;
        let bound = desk.course.low.saturating_add(SPREAD_MAX);
        for entry in &entries {
            let first = entry.routes.first().map_or(0, |route| route.ordinal);
            if first >= bound {
                // Read again when what is stuck has ended.
                (next, at_end) = (first, false);
                break;
            }
            desk.course.taken = desk.course.taken.max(entry.sequence);
            let deadline = self.deadline(entry, now);
            for route in 0..entry.routes.len() {
                // What was given up meanwhile is not taken.
                let item = Ref::new(entry, route, deadline).filter(|r| r.ordinals().0 >= desk.course.next);
                let item = item.and_then(|item| item.without(&desk.course.formed));
                item.into_iter().for_each(|item| desk.queue.push(item));
            }
        }
        desk.course.advance(next);
        desk.course.behind = !at_end || desk.course.seen > desk.course.next;
    }

    /// When what was received with an entry is too old to be sent.
    fn deadline(&self, entry: &Entry, now: Instant) -> Instant {
        let age = self.shared.age(entry.received_unix_nano, now);
        now + self.shared.options.max_age.saturating_sub(age)
    }

    /// The log could not be read: again later.
    fn unreadable(&self, desk: &mut Desk, error: &LogError, now: Instant) {
        desk.course.failures = desk.course.failures.saturating_add(1);
        let policy = Policy::from(&self.shared.options);
        let wait = policy.backoff(desk.course.failures, None, &mut policy::chance());
        desk.course.not_before = Some(now + wait);
        let destination = self.id;
        tracing::warn!(%destination, %error, "backlog not readable now, trying again");
    }
}
