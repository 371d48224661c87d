//! Spans on their way to one destination: a piece of a record, a part that is sent as one batch, and the
//! job that keeps the parts of one batch together while its bad spans are searched.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracecast_log::{DeadReason, Entry, EntryRoute, Sequence};
use tracecast_otlp::SpanSet;
use uuid::Uuid;

use crate::first_life;

/// Spans of one record. Holds a reference, not the payload.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) entry: Arc<Entry>,
    /// Position of this destination's route in the entry.
    pub(crate) route: u32,
    /// A subset of the route's spans.
    pub(crate) spans: SpanSet,
    /// Share of the route's payload bytes.
    pub(crate) bytes: u64,
    /// From then on the spans are too old to be sent.
    pub(crate) deadline: Instant,
}

impl Piece {
    pub(crate) fn route(&self) -> Option<&EntryRoute> {
        self.entry.routes.get(self.route as usize)
    }

    pub(crate) fn count(&self) -> u32 {
        self.spans.count()
    }

    /// What a batch says of all its pieces: the gateways they have passed, and whether they were put back into the log.
    pub(crate) fn company(&self) -> (Bytes, bool) {
        let past = first_life::read(&self.entry.via);
        let requeued = self.route().is_some_and(|r| r.projection.is_requeued());
        (past.via, requeued && !past.made_here)
    }

    /// When its spans were received, also if they were put back into the log since.
    pub(crate) fn first_seen_unix_nano(&self) -> u64 {
        first_life::read(&self.entry.via).received_unix_nano.unwrap_or(self.entry.received_unix_nano)
    }

    /// The stored decision; private if it cannot be read.
    pub(crate) fn is_private(&self) -> bool {
        self.route().is_none_or(|r| r.projection.is_private())
    }

    /// The destination's own numbers of its spans.
    pub(crate) fn ordinals(&self) -> Vec<Range<u64>> {
        self.route().map(|route| route.ordinals(&self.spans)).unwrap_or_default()
    }

    /// The first `n` spans and the rest; `0 < n < count`.
    pub(crate) fn split_at(&self, n: u32) -> (Piece, Piece) {
        let (universe, count) = (self.spans.len(), self.count().max(1));
        let head = SpanSet::from_positions(universe, self.spans.iter().take(n as usize));
        let tail = SpanSet::from_positions(universe, self.spans.iter().skip(n as usize));
        let head_bytes = self.bytes * u64::from(n.min(count)) / u64::from(count);
        (
            Piece { spans: head, bytes: head_bytes, ..self.clone() },
            Piece { spans: tail, bytes: self.bytes - head_bytes, ..self.clone() },
        )
    }
}

/// What is sent as one batch. Its composition, and with it its token, stays the same over retries.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) pieces: Arc<[Piece]>,
    /// How often this composition was sent, or may have been by an earlier process.
    pub(crate) tries: u32,
    /// This composition is journaled: a start after a crash forms it again.
    pub(crate) is_noted: bool,
    /// How often its spans were sent, in earlier compositions too.
    pub(crate) attempts: u32,
    /// When its spans were first sent by this process, unix nanoseconds.
    pub(crate) first_sent_unix_nano: Option<u64>,
    pub(crate) not_before: Instant,
    /// The earliest deadline of the pieces.
    pub(crate) deadline: Instant,
    /// Made by halving a batch that was answered 500 again and again: how many requests the destination had
    /// taken by then. Only if it takes others meanwhile is this one halved again.
    pub(crate) suspected: Option<u64>,
    /// The single span in it was refused for its size: it is sent again, made smaller than this.
    pub(crate) shrink_to: Option<u64>,
    /// Failures to read the payload or to write the dead letter.
    pub(crate) io_failures: u32,
    /// Set once the single span in it was refused for good: the part waits for its dead letter.
    pub(crate) refusal: Option<Refusal>,
}

/// Why a span was refused for good.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: DeadReason,
    pub(crate) status: Option<u16>,
    /// The vendor's words.
    pub(crate) excerpt: String,
    /// What was refused was sent without content, so the excerpt cannot quote any.
    pub(crate) private: bool,
}

impl Part {
    /// A batch that an earlier process may have sent.
    pub(crate) fn again(pieces: Vec<Piece>, now: Instant) -> Part {
        Part { tries: 1, is_noted: true, attempts: 1, ..Part::new(pieces, now) }
    }

    /// `pieces` must not be empty.
    pub(crate) fn new(pieces: Vec<Piece>, now: Instant) -> Part {
        debug_assert!(!pieces.is_empty(), "a part has at least one piece");
        let deadline = pieces.iter().map(|p| p.deadline).min().unwrap_or(now);
        Part {
            pieces: pieces.into(),
            tries: 0,
            is_noted: false,
            attempts: 0,
            first_sent_unix_nano: None,
            not_before: now,
            deadline,
            suspected: None,
            shrink_to: None,
            io_failures: 0,
            refusal: None,
        }
    }

    /// The same history with other pieces: a new composition.
    pub(crate) fn with_pieces(&self, pieces: Vec<Piece>) -> Part {
        Part {
            attempts: self.attempts,
            first_sent_unix_nano: self.first_sent_unix_nano,
            suspected: self.suspected,
            shrink_to: self.shrink_to,
            io_failures: self.io_failures,
            refusal: self.refusal.clone(),
            ..Part::new(pieces, self.not_before)
        }
    }

    /// It is to be sent, and `retries` says whether it may have been sent before.
    pub(crate) fn is_send(&self, retries: bool) -> bool {
        self.refusal.is_none() && (retries || self.tries == 0)
    }

    pub(crate) fn spans(&self) -> u32 {
        self.pieces.iter().map(Piece::count).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|p| p.bytes).sum()
    }

    pub(crate) fn first_sequence(&self) -> Sequence {
        self.pieces.first().map_or(Sequence::MAX, |p| p.entry.sequence)
    }

    /// The destination's own numbers of its spans, neighbours together: from them it can be formed again.
    pub(crate) fn ordinals(&self) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        for range in self.pieces.iter().flat_map(Piece::ordinals) {
            match found.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => found.push(range),
            }
        }
        found
    }

    /// Takes out the pieces `unwanted` names. `None` if nothing is left of the part.
    pub(crate) fn without(self, unwanted: impl Fn(&Piece) -> bool, out: &mut Vec<Piece>) -> Option<Part> {
        if !self.pieces.iter().any(&unwanted) {
            return Some(self);
        }
        let (gone, kept): (Vec<_>, Vec<_>) = self.pieces.iter().cloned().partition(|p| unwanted(p));
        out.extend(gone);
        if kept.is_empty() { None } else { Some(self.with_pieces(kept)) }
    }

    /// A pure function of the destination and the composition, so that a retry, in this process or after a
    /// restart, carries the same token: `<destination>-<first ordinal>-<last ordinal>-<spans>-<digest>`.
    ///
    /// A span that was made smaller has a token of its own: a vendor must not hold it against the first.
    /// The digest covers when each record came, its sequence and the positions of its spans: two compositions that
    /// happen to agree in the figures must not be taken for one another by a vendor that de-duplicates by token. Nor
    /// those of two logs: a replica has destinations with the same ids, and a log in memory begins at 1 each time.
    pub(crate) fn token(&self, destination: Uuid) -> String {
        let ordinals = |piece: Option<&Piece>| piece.map(Piece::ordinals).unwrap_or_default();
        let first = ordinals(self.pieces.first()).first().map_or(0, |range| range.start);
        let last = ordinals(self.pieces.last()).last().map_or(0, |range| range.end.saturating_sub(1));
        let mut digest = Digest::default();
        for piece in self.pieces.iter() {
            digest.add(piece.entry.received_unix_nano);
            digest.add(piece.entry.sequence);
            digest.add(u64::from(piece.count()));
            piece.spans.iter().for_each(|position| digest.add(u64::from(position)));
        }
        let kind = if self.shrink_to.is_some() { "-truncated" } else { "" };
        format!("{destination}-{first}-{last}-{}-{:016x}{kind}", self.spans(), digest.finish())
    }
}

/// FNV-1a over 64-bit words with a final mix: stable over builds and machines, unlike the standard hasher.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    fn finish(self) -> u64 {
        let h = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^ (h >> 29)
    }
}

/// One formed batch until all of it is settled: the parts still to be sent, the next one last.
///
/// A job is one part until the destination refuses it. Then its halves follow one another, so that the
/// search for bad spans takes one place among the destination's outstanding batches, however long it is.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) parts: Vec<Part>,
    /// Requests made since the first refusal.
    pub(crate) search_requests: u32,
}

impl Job {
    pub(crate) fn new(part: Part) -> Job {
        Job { parts: vec![part], search_requests: 0 }
    }

    pub(crate) fn next(&self) -> Option<&Part> {
        self.parts.last()
    }

    /// Cuts the next part so that it has at most `spans_max` spans; the rest follows it.
    pub(crate) fn carve(&mut self, spans_max: u32) {
        let Some(part) = self.parts.pop_if(|part| part.spans() > spans_max) else { return };
        let (head, tail) = split_at(&part.pieces, spans_max);
        self.parts.push(part.with_pieces(tail));
        self.parts.push(part.with_pieces(head));
    }

    /// Takes out the pieces `unwanted` names, in every part.
    pub(crate) fn remove(&mut self, unwanted: impl Fn(&Piece) -> bool, out: &mut Vec<Piece>) {
        let parts = std::mem::take(&mut self.parts);
        self.parts = parts.into_iter().filter_map(|part| part.without(&unwanted, out)).collect();
    }
}

/// `pieces` halved until each batch keeps the limits; a single span keeps them whatever its size.
pub(crate) fn cut(pieces: Vec<Piece>, spans_max: u32, bytes_max: u64) -> Vec<Vec<Piece>> {
    let spans: u32 = pieces.iter().map(Piece::count).sum();
    let bytes: u64 = pieces.iter().map(|p| p.bytes).sum();
    let too_large = spans > spans_max || bytes > bytes_max;
    match too_large.then(|| halve(&pieces, |_, _| 1)).flatten() {
        Some((first, second)) => {
            let mut batches = cut(first, spans_max, bytes_max);
            batches.append(&mut cut(second, spans_max, bytes_max));
            batches
        }
        None => vec![pieces],
    }
}

/// Halves `pieces` by weight so that neither half is empty; `None` if there is only one span.
///
/// `weight` is given the position of the piece, and of the span among those of the piece.
pub(crate) fn halve(
    pieces: &[Piece],
    weight: impl Fn(usize, usize) -> u64,
) -> Option<(Vec<Piece>, Vec<Piece>)> {
    let spans: u32 = pieces.iter().map(Piece::count).sum();
    if spans < 2 {
        return None;
    }
    let weights: Vec<u64> = pieces
        .iter()
        .enumerate()
        .flat_map(|(i, piece)| {
            let weight = &weight;
            (0..piece.count() as usize).map(move |rank| weight(i, rank).max(1))
        })
        .collect();
    let total = weights.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
    let mut sum = 0u64;
    let mut cut = 0u32;
    for w in &weights {
        if cut > 0 && sum.saturating_add(*w) > total.div_ceil(2) {
            break;
        }
        sum = sum.saturating_add(*w);
        cut += 1;
    }
    Some(split_at(pieces, cut.clamp(1, spans - 1)))
}

/// The first `left` spans of `pieces`, and the rest.
fn split_at(pieces: &[Piece], mut left: u32) -> (Vec<Piece>, Vec<Piece>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for piece in pieces {
        let count = piece.count();
        if left >= count {
            left -= count;
            first.push(piece.clone());
        } else if left == 0 {
            second.push(piece.clone());
        } else {
            let (head, tail) = piece.split_at(left);
            left = 0;
            first.push(head);
            second.push(tail);
        }
    }
    (first, second)
}
