//! What the end of an attempt means for its spans, for the rest of its batch and for the destination.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tracecast_log::{DropReason, LogError, Outcome};
use tracecast_sinks::{Answer, Batch, Failure, Sent};

use super::{Driver, Flight};
use crate::attempt::{Done, Unread, WITHHELD};
use crate::health::Request;
use crate::job::{Part, Piece};
use crate::limits::Size;
use crate::policy::{self, IO_TRIES, PACE, PACE_AFTER};
use crate::ruling::{Context, encoded_bytes, rule, take_out};
use crate::stats::{Class, LastError, unix_nano};

impl Driver {
    /// Applies the end of an attempt.
    pub(super) fn finish(&mut self, ended: Result<(Id, Done), JoinError>) {
        let now = Instant::now();
        let (id, done) = match ended {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        let Some(flight) = self.flights.remove(&id) else { return };
        let is_send = flight.part.refusal.is_none();
        if is_send {
            self.count_sending(-1);
            self.retrying -= usize::from(flight.part.tries > 1).min(self.retrying);
        }
        match done {
            Some(Done::Answered { sent, batch, took }) => self.answered(flight, sent, &batch, took, now),
            Some(Done::Unread(unread)) => {
                self.not_sent(&flight.part);
                self.unread(flight, unread, now);
            }
            Some(Done::Unsent) => {
                self.not_sent(&flight.part);
                let part = unsent(flight.part);
                self.wait(flight.job, Some(part));
            }
            Some(Done::Buried(Ok(()))) => self.buried(flight),
            Some(Done::Buried(Err(reason))) => self.not_buried(flight, &reason, now),
            // The panic hook has told what happened; here it is a failure like any other.
            None if is_send => {
                let message = "the adapter panicked".to_owned();
                let answer = Answer::Retry(Failure { status: None, message, retry_after: None });
                let batch = Batch::default();
                self.answered(flight, Sent { answer, bytes: 0 }, &batch, Duration::ZERO, now);
            }
            None => self.not_buried(flight, "the writer panicked", now),
        }
    }

    fn answered(&mut self, flight: Flight, sent: Sent, batch: &Batch, took: Duration, now: Instant) {
        let Flight { mut job, part, epoch } = flight;
        let (tries, attempts) = (part.tries, part.attempts);
        let searched = job.search_requests > 0;
        let size = Size {
            // Shares of a cut record are estimates; while limits are searched they must be exact.
            bytes: if searched { encoded_bytes(batch) } else { part.bytes() },
            spans: part.spans(),
        };
        let asked = part.pieces.clone();
        let meters = &self.lane.meters;
        let context = Context { taken: meters.taken(), shrink_to: &|bytes| self.lane.shrink_to(bytes, now) };
        let ruling = rule(part, batch, sent.answer, context);
        meters.attempted(ruling.class, tries, sent.bytes);
        if searched {
            meters.bisect_requests.fetch_add(1, Relaxed);
        }
        if ruling.too_large {
            self.lane.refused(Size { bytes: encoded_bytes(batch), ..size }, now);
        } else if ruling.class == Class::Ok {
            self.lane.accepted(size, now);
        }
        if ruling.settled.iter().any(|(_, outcome)| *outcome == Outcome::Delivered) {
            let max_age = self.lane.shared.options.max_age;
            let delivered = ruling.settled.iter().filter(|(_, outcome)| *outcome == Outcome::Delivered);
            // A deadline is the time of acceptance and the longest life.
            let age = |p: &Piece| max_age.saturating_sub(p.deadline.saturating_duration_since(now));
            meters.delivered(delivered.map(|(p, _)| (age(p), p.count())));
        }
        let trouble = ruling.note.map(|(status, text)| {
            let private_now = self.lane.setup().destination.privacy_mode;
            let may_quote = private_now && batch.items.iter().any(|item| !item.private);
            let excerpt = if may_quote { WITHHELD.to_owned() } else { text };
            LastError { status, excerpt, at_unix_nano: unix_nano() }
        });
        if let Some(observer) = self.lane.shared.observer.get() {
            for piece in asked.iter() {
                observer.answered(self.lane.slot, piece.entry.sequence, &piece.spans, trouble.as_ref());
            }
        }
        if let Some(LastError { status, excerpt, .. }) = trouble {
            meters.error(status, excerpt);
        }
        self.lane.settle(ruling.settled);
        let request = Request { epoch, tries, attempts, latency: took };
        let left = ruling.retry.iter().chain(&ruling.next).chain(&job.parts).map(|part| part.deadline);
        let oldest = self.outstanding().1.into_iter().chain(left).min();
        let wait = self.lane.react(ruling.signal, request, oldest, now);

        if job.search_requests > 0 || !ruling.next.is_empty() {
            job.search_requests = job.search_requests.saturating_add(1);
        }
        if let Some(mut part) = ruling.retry {
            part.not_before = now + wait;
            if searched {
                // Behind the parts that have not had their turn: both halves are always tried.
                job.parts.insert(0, part);
            } else {
                job.parts.push(part);
            }
        }
        for mut part in ruling.next.into_iter().rev() {
            part.not_before = now;
            job.parts.push(part);
        }
        if let Some(part) = job.parts.last_mut()
            && job.search_requests > PACE_AFTER
            && part.refusal.is_none()
        {
            // A batch with very many bad spans is searched at a low rate.
            part.not_before = part.not_before.max(now + PACE);
        }
        self.wait(job, None);
    }

    /// Tells that what was to be sent is not under way any more.
    fn not_sent(&self, part: &Part) {
        if let Some(observer) = self.lane.shared.observer.get() {
            for piece in part.pieces.iter() {
                observer.answered(self.lane.slot, piece.entry.sequence, &piece.spans, None);
            }
        }
    }

    fn unread(&mut self, flight: Flight, unread: Unread, now: Instant) {
        let Flight { job, part, .. } = flight;
        let part = if part.refusal.is_none() { unsent(part) } else { part };
        let (damaged, left) = take_out(&part, &unread.damaged);
        if !damaged.is_empty() {
            let destination = self.lane.id;
            tracing::error!(%destination, records = damaged.len(), "payload damaged, its spans are dropped");
        }
        self.drop_pieces(damaged, DropReason::Damaged);
        let left = left.and_then(|part| match unread.later {
            // The log is being closed: nothing is lost, the next start goes on.
            Some(LogError::Closed) => Some(Part { not_before: now + self.policy().base, ..part }),
            Some(error) => self.io_failed(part, &error.to_string(), now),
            None => Some(part),
        });
        self.wait(job, left);
    }

    fn buried(&mut self, flight: Flight) {
        let Flight { job, part, .. } = flight;
        if let Some(refusal) = &part.refusal {
            let outcome = Outcome::DeadLettered(refusal.reason);
            self.lane.settle(part.pieces.iter().map(|piece| (piece.clone(), outcome)).collect());
        }
        self.wait(job, None);
    }

    fn not_buried(&mut self, flight: Flight, reason: &str, now: Instant) {
        let left = self.io_failed(flight.part, reason, now);
        self.wait(flight.job, left);
    }

    /// The part waits and is tried again, but not for ever: a destination must not be stuck on its own disk.
    fn io_failed(&self, mut part: Part, reason: &str, now: Instant) -> Option<Part> {
        let destination = self.lane.id;
        part.io_failures = part.io_failures.saturating_add(1);
        if part.io_failures >= IO_TRIES {
            tracing::error!(%destination, reason, spans = part.spans(), "log not usable, spans are dropped");
            self.drop_pieces(part.pieces.to_vec(), DropReason::Damaged);
            return None;
        }
        tracing::warn!(%destination, reason, "log not usable for a destination, trying again");
        part.not_before = now + self.policy().backoff(part.io_failures, None, &mut policy::chance());
        Some(part)
    }
}

/// The attempt did not reach the vendor, so it does not count.
fn unsent(part: Part) -> Part {
    Part { tries: part.tries.saturating_sub(1), attempts: part.attempts.saturating_sub(1), ..part }
}
