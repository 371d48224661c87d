//! What a destination is to send next, in log order: references, never payloads, and never many of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tracecast_log::{Entry, EntryRoute, Sequence};
use tracecast_otlp::SpanSet;

use crate::first_life;
use crate::job::Piece;

/// About what a reference holds in memory, its share of the entry included.
const REF_BYTES: usize = 256;
/// References of one destination: 64 KiB, or 2 MiB as long as they do not fill a batch.
const REFS_MAX: usize = (64 << 10) / REF_BYTES;
const BATCH_REFS_MAX: usize = (2 << 20) / REF_BYTES;
/// References of all destinations: 32 MiB. Beyond, each has only the fewest.
const ALL_REFS_MAX: usize = (32 << 20) / REF_BYTES;
const REFS_MIN: usize = 8;

/// One record's spans for this destination.
#[derive(Debug)]
pub(crate) struct Ref {
    entry: Arc<Entry>,
    route: u32,
    deadline: Instant,
    /// What is left of the route, once a batch took its first spans.
    rest: Option<Box<Rest>>,
}

#[derive(Debug)]
struct Rest {
    spans: SpanSet,
    bytes: u64,
}

impl Ref {
    /// `None` if the route does not exist or selects nothing.
    pub(crate) fn new(entry: &Arc<Entry>, route: usize, deadline: Instant) -> Option<Ref> {
        let found = entry.routes.get(route)?;
        if found.spans.is_empty() {
            return None;
        }
        Some(Ref { entry: entry.clone(), route: u32::try_from(route).ok()?, deadline, rest: None })
    }

    /// What is not within `ranges` of it. `None` if nothing is.
    pub(crate) fn without(self, ranges: &[Range<u64>]) -> Option<Ref> {
        let Some(route) = self.route() else { return Some(self) };
        let (gone, gone_bytes) = route.within(ranges);
        if gone.is_empty() {
            return Some(self);
        }
        let left = route.spans.iter().filter(|position| !gone.contains(*position));
        let spans = SpanSet::from_positions(route.spans.len(), left);
        let bytes = u64::from(route.bytes).saturating_sub(gone_bytes);
        (!spans.is_empty()).then(|| Ref { rest: Some(Box::new(Rest { spans, bytes })), ..self })
    }

    pub(crate) fn sequence(&self) -> Sequence {
        self.entry.sequence
    }

    /// The destination's own number of its first span, and the one behind its last.
    pub(crate) fn ordinals(&self) -> (u64, u64) {
        self.route().map_or((0, 0), |route| (route.ordinal, route.end()))
    }

    fn route(&self) -> Option<&EntryRoute> {
        self.entry.routes.get(self.route as usize)
    }

    /// Whether a batch can say the same of both: see [`Piece::company`].
    fn is_company_of(&self, piece: &Piece) -> bool {
        let requeued = |route: Option<&EntryRoute>| route.is_some_and(|r| r.projection.is_requeued());
        let (here, there) = (&self.entry.via, &piece.entry.via);
        if requeued(self.route()) != requeued(piece.route()) {
            return false;
        }
        // What was put back says more than the way it came.
        let same = |here, there| {
            let (here, there) = (first_life::read(here), first_life::read(there));
            here.via == there.via && here.made_here == there.made_here
        };
        here == there || requeued(self.route()) && same(here, there)
    }

    /// Spans and bytes.
    fn size(&self) -> (u32, u64) {
        match (&self.rest, self.route()) {
            (Some(rest), _) => (rest.spans.count(), rest.bytes),
            (None, Some(route)) => (route.spans.count(), u64::from(route.bytes)),
            (None, None) => (0, 0),
        }
    }

    pub(crate) fn into_piece(self) -> Piece {
        let (spans, bytes) = match self.rest {
            Some(rest) => (rest.spans, rest.bytes),
            None => {
                let route = self.entry.routes.get(self.route as usize);
                route.map_or((SpanSet::none(0), 0), |r| (r.spans.clone(), u64::from(r.bytes)))
            }
        };
        Piece { entry: self.entry, route: self.route, spans, bytes, deadline: self.deadline }
    }
}

/// First in, first out. Sums are kept so that the batcher need not walk it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    refs: VecDeque<Ref>,
    spans: u64,
    bytes: u64,
    /// References of all destinations.
    all: Arc<AtomicUsize>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.all.fetch_sub(self.refs.len(), Relaxed);
    }
}

impl Queue {
    pub(crate) fn counted_in(all: Arc<AtomicUsize>) -> Queue {
        Queue { refs: VecDeque::new(), spans: 0, bytes: 0, all }
    }

    /// No more references are to be taken, because more can be read when these are gone. One batch is always
    /// wanted, as far as that is possible.
    pub(crate) fn is_full(&self, spans_max: u32, bytes_max: u64) -> bool {
        let max = if self.all.load(Relaxed) >= ALL_REFS_MAX {
            REFS_MIN
        } else if self.fills(spans_max, bytes_max) {
            REFS_MAX
        } else {
            BATCH_REFS_MAX
        };
        self.refs.len() >= max
    }

    /// So few references are left that the next ones should be read.
    pub(crate) fn is_low(&self, spans_max: u32, bytes_max: u64) -> bool {
        !self.is_full(spans_max, bytes_max)
            && (self.refs.len() < REFS_MAX / 2 || !self.fills(spans_max, bytes_max))
    }

    pub(crate) fn push(&mut self, item: Ref) {
        self.count_in(&item);
        self.refs.push_back(item);
    }

    /// The ordinal it begins with.
    pub(crate) fn first(&self) -> Option<u64> {
        self.refs.front().map(|item| item.ordinals().0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// A batch of these limits would be full.
    pub(crate) fn fills(&self, spans_max: u32, bytes_max: u64) -> bool {
        self.spans >= u64::from(spans_max) || self.bytes >= bytes_max
    }

    /// When the oldest reference is too old to be sent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.refs.front().map(|r| r.deadline)
    }

    /// When the oldest reference has waited `linger` for company; `max_age` is the life its deadline was
    /// made from. `None` if the queue is empty.
    pub(crate) fn linger_until(&self, linger: Duration, max_age: Duration, now: Instant) -> Option<Instant> {
        let deadline = self.deadline()?;
        Some(deadline.checked_sub(max_age).and_then(|t| t.checked_add(linger)).unwrap_or(now).min(deadline))
    }

    /// The next batch, in order. A record is cut only if it is larger than a batch by itself; otherwise a
    /// record that does not fit any more opens the next one, as does one of which a batch says something else. The
    /// first span is taken whatever its size.
    pub(crate) fn take(&mut self, spans_max: u32, bytes_max: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut spans, mut bytes) = (0u32, 0u64);
        while let Some(front) = self.refs.front() {
            if pieces.first().is_some_and(|first| !front.is_company_of(first)) {
                break;
            }
            let (n, b) = front.size();
            let fits = spans.saturating_add(n) <= spans_max && bytes.saturating_add(b) <= bytes_max;
            if fits {
                spans += n;
                bytes += b;
                pieces.extend(self.pop());
                continue;
            }
            if pieces.is_empty() {
                let by_bytes = bytes_max.saturating_mul(u64::from(n)) / b.max(1);
                let fit = spans_max.min(u32::try_from(by_bytes).unwrap_or(u32::MAX)).clamp(1, n.max(1));
                pieces.extend(self.pop_first(fit));
            }
            break;
        }
        pieces
    }

    /// What is too old at `now`, oldest first, at most `max` references.
    pub(crate) fn expire(&mut self, now: Instant, max: usize) -> Vec<Piece> {
        self.pop_while(max, |r| r.deadline <= now)
    }

    /// What stands at `sequence` or before, oldest first, at most `max` references.
    pub(crate) fn give_up(&mut self, sequence: Sequence, max: usize) -> Vec<Piece> {
        self.pop_while(max, |r| r.sequence() <= sequence)
    }

    /// The oldest, at most `max` references.
    pub(crate) fn drain(&mut self, max: usize) -> Vec<Piece> {
        self.pop_while(max, |_| true)
    }

    fn pop_while(&mut self, max: usize, unwanted: impl Fn(&Ref) -> bool) -> Vec<Piece> {
        let mut out = Vec::new();
        while out.len() < max && self.refs.front().is_some_and(&unwanted) {
            out.extend(self.pop());
        }
        out
    }

    fn pop(&mut self) -> Option<Piece> {
        let front = self.refs.pop_front()?;
        self.all.fetch_sub(1, Relaxed);
        let (n, b) = front.size();
        self.spans = self.spans.saturating_sub(u64::from(n));
        self.bytes = self.bytes.saturating_sub(b);
        if self.refs.is_empty() && self.refs.capacity() > 16 {
            self.refs = VecDeque::new();
        }
        Some(front.into_piece())
    }

    /// The first `n` spans of the front reference; the rest stays in front.
    fn pop_first(&mut self, n: u32) -> Option<Piece> {
        let piece = self.pop()?;
        if n >= piece.count() {
            return Some(piece);
        }
        let (head, tail) = piece.split_at(n);
        let rest = Rest { spans: tail.spans, bytes: tail.bytes };
        let back =
            Ref { entry: tail.entry, route: tail.route, deadline: tail.deadline, rest: Some(Box::new(rest)) };
        self.count_in(&back);
        self.refs.push_front(back);
        Some(head)
    }

    fn count_in(&mut self, item: &Ref) {
        let (n, b) = item.size();
        self.spans += u64::from(n);
        self.bytes += b;
        self.all.fetch_add(1, Relaxed);
    }
}
