//! What the driver is to do: asked for at each of its steps, answered from the desk.

use std::ops::{Range, RangeInclusive};

use tokio::time::Instant;
use tracecast_destination::Retry;
use tracecast_log::{DropReason, Outcome, Sequence};

use super::{Closing, Desk, Lane, SPREAD_MAX};
use crate::health::Gate;
use crate::job::Piece;
use crate::reform::Plan;

/// References settled under one lock, so that giving up a long backlog does not hold up the log's writer.
const CHUNK: usize = 4096;

/// What the driver is to do now.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) closing: Option<Closing>,
    pub(crate) gate: Gate,
    pub(crate) epoch: u64,
    /// The last that is known of the destination is a failure.
    pub(crate) failing: bool,
    /// Batches that may be outstanding, sent or waiting to be sent again.
    pub(crate) outstanding_max: usize,
    pub(crate) nudged: bool,
    pub(crate) give_up: Option<Sequence>,
    /// Taken from the queue, to be settled as dropped.
    pub(crate) dropped: Vec<(Piece, DropReason)>,
    /// There is more to be dropped: ask again at once.
    pub(crate) more: bool,
    /// When the oldest of the queue expires.
    pub(crate) queue_deadline: Option<Instant>,
    /// What to read, now.
    pub(crate) read: Option<Reading>,
    /// Batches must stay as they are once they were sent.
    pub(crate) keeps_batches: bool,
    /// A batch that waits goes when its time comes, and serves as no probe before.
    pub(crate) by_schedule: bool,
    /// When to try again to read on.
    pub(crate) read_at: Option<Instant>,
    /// When the destination lags, if nothing happens before.
    pub(crate) lags_at: Option<Instant>,
}

/// What is to be read of the log.
#[derive(Debug)]
pub(crate) enum Reading {
    /// What follows in the queue, from this ordinal on.
    On(u64),
    /// Batches of an earlier process.
    Again(Vec<Plan>),
}

/// What the batcher has.
#[derive(Debug)]
pub(crate) enum Take {
    Batch(Vec<Piece>),
    /// Spans that still wait for company, until then.
    Linger(Instant),
    Empty,
}

/// What is given up without having been queued.
struct Unread {
    ordinals: Vec<Range<u64>>,
    records: RangeInclusive<Sequence>,
    reason: DropReason,
}

impl Desk {
    /// What was not queued yet and ends at this ordinal, in records up to this one.
    fn unread(&self, end: u64, up_to: Sequence, reason: DropReason) -> Unread {
        let course = &self.course;
        let ordinals = course.not_formed(course.next..end);
        Unread { ordinals, records: course.taken.saturating_add(1)..=up_to, reason }
    }
}

impl Lane {
    /// `low`: the first ordinal that is outstanding. `oldest`: the first deadline.
    pub(crate) fn orders(&self, low: Option<u64>, oldest: Option<Instant>, now: Instant) -> Orders {
        let lost = self.lost();
        let unread_end = self.unread_end();
        let mut desk = self.desk();
        let (mut dropped, mut unread) = (Vec::new(), None);
        let (mut give_up, mut is_known) = (None, true);
        match desk.closing {
            Some(Closing::Shutdown) => {}
            Some(closing @ (Closing::Deleted | Closing::Ended)) => {
                let deleted = closing == Closing::Deleted;
                let reason = if deleted { DropReason::DestinationDeleted } else { DropReason::Shutdown };
                dropped.extend(desk.queue.drain(CHUNK).into_iter().map(|p| (p, reason)));
                if let Some((Sequence::MAX, end)) = unread_end
                    && std::mem::take(&mut desk.course.behind)
                {
                    // What has come since was seen.
                    let end = end.max(desk.course.seen);
                    unread = Some(desk.unread(end, Sequence::MAX, reason));
                    desk.course.advance(end);
                }
            }
            None => {
                let pieces = desk.queue.expire(now, CHUNK).into_iter();
                dropped.extend(pieces.map(|p| (p, DropReason::Expired)));
                if let Some(up_to) = desk.give_up {
                    let pieces = desk.queue.give_up(up_to, CHUNK.saturating_sub(dropped.len())).into_iter();
                    dropped.extend(pieces.map(|p| (p, DropReason::BacklogFull)));
                    give_up = Some(up_to);
                    if desk.course.behind && dropped.len() < CHUNK {
                        let end = unread_end.filter(|(asked, _)| *asked == up_to).map(|(_, end)| end);
                        is_known = end.is_some();
                        if let Some(end) = end.filter(|end| *end > desk.course.next) {
                            unread = Some(desk.unread(end, up_to, DropReason::BacklogFull));
                            desk.course.advance(end);
                            desk.course.taken = desk.course.taken.max(up_to);
                        }
                    }
                }
            }
        }
        let more = dropped.len() >= CHUNK;
        let next = desk.course.next;
        desk.course.low = low.into_iter().chain(desk.queue.first()).min().unwrap_or(next);
        let lags_at = self.note_lag(&mut desk, oldest, now);
        let transition = self.transition(&mut desk, lost);
        let (spans_max, bytes_max) = desk.maxima(now);
        let wanted = desk.course.behind
            && !desk.course.reading
            && desk.closing.is_none()
            && desk.queue.is_low(spans_max, bytes_max)
            && next.saturating_sub(desk.course.low) < SPREAD_MAX;
        let read_at = desk.course.not_before.filter(|at| wanted && *at > now);
        let read = (wanted && read_at.is_none()).then(|| match std::mem::take(&mut desk.plans) {
            plans if plans.is_empty() => Reading::On(next),
            plans => Reading::Again(plans),
        });
        desk.course.reading |= read.is_some();
        // If it was only said now, or one is behind only now, the driver was woken for it and asks again.
        if !more && is_known {
            desk.give_up = None;
        }
        let orders = Orders {
            closing: desk.closing,
            gate: desk.gate(now),
            epoch: desk.health.epoch(),
            failing: desk.health.is_failing(),
            outstanding_max: desk.setup.concurrency().saturating_mul(2),
            nudged: std::mem::take(&mut desk.nudged),
            give_up,
            dropped,
            more,
            queue_deadline: desk.queue.deadline(),
            read,
            keeps_batches: desk.setup.keeps_batches(),
            by_schedule: desk.setup.retry() == Retry::Schedule,
            read_at,
            lags_at,
        };
        drop(desk);
        if let Some(unread) = unread {
            self.give_up_unread(unread);
        }
        self.announce(transition);
        orders
    }

    /// Returns when the destination lags, if nothing happens before. `oldest`: the first deadline of what is outstanding.
    pub(super) fn note_lag(&self, desk: &mut Desk, oldest: Option<Instant>, now: Instant) -> Option<Instant> {
        let oldest = oldest.into_iter().chain(desk.queue.deadline()).min();
        let target = desk.target(&self.shared.options)?;
        match oldest {
            Some(oldest) => desk.lag.note(oldest, target, now),
            None => {
                if desk.is_idle() {
                    desk.lag.caught_up();
                }
                None
            }
        }
    }

    /// Where what is to be given up unread ends: up to which record, and behind which ordinal.
    fn unread_end(&self) -> Option<(Sequence, u64)> {
        let (closing, give_up, behind) = {
            let desk = self.desk();
            (desk.closing, desk.give_up, desk.course.behind)
        };
        let log = &self.shared.log;
        match (closing, give_up) {
            (Some(Closing::Deleted | Closing::Ended), _) if behind => {
                let end = log.backlog(self.slot).map_or(0, |backlog| backlog.end_ordinal);
                Some((Sequence::MAX, end))
            }
            (None, Some(up_to)) if behind => Some((up_to, log.end_upto(self.slot, up_to))),
            _ => None,
        }
    }

    fn give_up_unread(&self, Unread { ordinals, records, reason }: Unread) {
        if let Some(observer) = self.shared.observer.get() {
            observer.given_up(self.slot, records, reason);
        }
        for ordinals in ordinals {
            self.shared.log.settle_range(self.slot, ordinals, Outcome::Dropped(reason));
        }
    }

    /// The next batch, if one is due, of at most so many spans.
    pub(crate) fn take(&self, now: Instant, at_most: u32) -> Take {
        let mut desk = self.desk();
        let Some(limits) = desk.setup.limits() else { return Take::Empty };
        let (spans_max, bytes_max) = desk.maxima(now);
        let spans_max = spans_max.min(at_most);
        let Some(ready) = desk.queue.linger_until(limits.age_max, self.shared.options.max_age, now) else {
            return Take::Empty;
        };
        let fills = desk.queue.fills(spans_max, bytes_max);
        if desk.course.reading && !fills {
            // Company is on its way.
            return Take::Empty;
        }
        if ready > now && !fills {
            return Take::Linger(ready);
        }
        Take::Batch(desk.queue.take(spans_max, bytes_max))
    }
}
