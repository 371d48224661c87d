//! What was promised, what arrived, and whether the two agree: conservation, span by span.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tracecast_log::{Books, DeadLetter, DropReason};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans, select};
use tracecast_otlp::{Payload, SpanSet};

/// Content that privacy mode must remove.
pub(super) const PROMPT: &str = "the secret of the simulation";

/// A span: its record and its position there.
pub(super) type Span = (usize, u32);

/// One destination's share of a record.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) destination: usize,
    pub(super) positions: Vec<u32>,
    pub(super) private: bool,
}

/// What the client knows of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not answered (yet, or never: the process ended).
    None,
    Refused,
    Accepted(Duration),
}

/// A request that was sent in.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) payload: Bytes,
    /// The same without content.
    pub(super) private_payload: Bytes,
    pub(super) spans: u32,
    /// The destinations there were.
    pub(super) asked: Vec<usize>,
    pub(super) shares: Vec<Share>,
    /// Spans the destinations refuse for good.
    pub(super) poison: BTreeSet<u32>,
    pub(super) answer: Answer,
    /// It may have been lost: acknowledged just before the power went, in a mode that allows it.
    pub(super) excused: bool,
}

/// Why spans may end otherwise than delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Causes {
    /// Bits were flipped: losses are allowed where they are counted.
    pub(super) damage: bool,
    /// Reads failed: a payload may be given up as damaged.
    pub(super) unreadable: bool,
    /// Writes failed.
    pub(super) disk_failed: bool,
    pub(super) small_cap: bool,
    pub(super) expiry: bool,
    /// The log ended with the process.
    pub(super) shutdown: bool,
}

/// Everything that happened, as seen from outside.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) records: Vec<Record>,
    /// By destination: how often it took each span.
    pub(super) taken: BTreeMap<usize, BTreeMap<Span, u32>>,
    /// By destination: what a token stood for.
    tokens: BTreeMap<(usize, String), Vec<Span>>,
    /// Of destinations that know a batch by its token: under which one they have stored a span.
    stored: BTreeMap<(usize, Span), String>,
    /// What a destination has answered for, and the process has heard it: when.
    answered: BTreeMap<(usize, Span), Duration>,
    /// What was sent to a destination at least once.
    tried: BTreeSet<(usize, Span)>,
    /// By destination: the highest sequence of which anything was sent in this life.
    furthest: BTreeMap<usize, u64>,
    was_ended: bool,
    /// Bits were flipped.
    pub(super) is_damaged: bool,
    /// Replays and backfills.
    pub(super) requeues: Vec<Requeue>,
    /// Destinations that refuse nothing any more, whatever it is.
    pub(super) forgiving: BTreeSet<usize>,
    /// The first record of the books: those of a log in memory begin anew with each process.
    pub(super) since: usize,
}

/// Spans that were sent back into the log for a destination.
#[derive(Debug)]
pub(super) struct Requeue {
    pub(super) destination: usize,
    pub(super) spans: BTreeSet<Span>,
    /// A backfill: the destination may get them though it had not selected them.
    pub(super) is_backfill: bool,
    /// Answered: all of them are in the log.
    pub(super) ended: Option<Duration>,
    /// They may have been lost on the way, with the power.
    pub(super) excused: bool,
}

/// One span of a payload, with what is said of its resource and scope.
fn alone(payload: &Payload, position: u32) -> Result<Vec<u8>, String> {
    let traces = payload.traces().map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    select(traces, &SpanSet::from_positions(payload.spans(), [position]), None, &mut bytes);
    Ok(bytes)
}

impl Oracle {
    /// Makes a request of so many spans, with fillers of about that many bytes.
    pub(super) fn request(
        &mut self,
        spans: u32,
        filler: usize,
        asked: Vec<usize>,
        shares: Vec<Share>,
        poison: BTreeSet<u32>,
    ) -> usize {
        let record = self.records.len();
        let filler = ("filler".to_owned(), OwnedValue::from("x".repeat(filler).as_str()));
        let prompt = ("gen_ai.prompt".to_owned(), OwnedValue::from(PROMPT));
        let payload = body(record, spans, &[prompt, filler.clone()]);
        // Privacy takes a long text of no known meaning for content.
        let is_short = matches!(&filler.1, OwnedValue::Str(text) if text.len() <= 1024);
        let private_payload = body(record, spans, if is_short { std::slice::from_ref(&filler) } else { &[] });
        let answer = Answer::None;
        let excused = false;
        self.records.push(Record { payload, private_payload, spans, asked, shares, poison, answer, excused });
        record
    }

    /// Which spans these are. A payload may have lost spans that nobody wants, but what is selected of it is what
    /// was sent in, byte for byte. Of each span by itself content may be gone already: for a private destination, for one
    /// that is filled from what only private ones had still to get, and for one of which damage made the log forget that
    /// it had ended with the span.
    pub(super) fn spans_of_item(
        &self,
        destination: usize,
        payload: &Payload,
        selected: &SpanSet,
        private: bool,
    ) -> Result<Vec<Span>, String> {
        let traces = payload.traces().map_err(|error| format!("a payload that makes no sense: {error}"))?;
        let spans: Vec<Span> =
            selected.iter().map(|position| span_of(traces.span(position as usize).span_id())).collect();
        let record = spans.first().and_then(|(record, _)| self.records.get(*record));
        let record = record.ok_or("a foreign payload")?;
        let as_sent = Payload::new(record.payload.clone(), record.spans);
        let without_content = Payload::new(record.private_payload.clone(), record.spans);
        for (there, span) in selected.iter().zip(&spans) {
            let came = alone(payload, there)?;
            let content_may_be_gone = private || self.is_damaged || self.is_backfilled(destination, *span);
            if came != alone(&as_sent, span.1)?
                && !(content_may_be_gone && came == alone(&without_content, span.1)?)
            {
                return Err(format!("an altered payload: {span:?} of {spans:?}, private: {private}"));
            }
        }
        Ok(spans)
    }

    /// Whether a destination may be sent this: the finding if not.
    pub(super) fn check_sent(&self, destination: usize, spans: &[Span], private: bool) -> Result<(), String> {
        for (record, position) in spans {
            if self.is_backfilled(destination, (*record, *position)) {
                continue;
            }
            let share = self
                .records
                .get(*record)
                .and_then(|r| r.shares.iter().find(|share| share.destination == destination));
            match share {
                Some(share) if !share.positions.contains(position) => {
                    return Err(format!(
                        "destination {destination} got span {record}/{position}, not selected"
                    ));
                }
                Some(share) if share.private && !private => {
                    return Err(format!("destination {destination} got content of record {record}"));
                }
                Some(_) => {}
                None => return Err(format!("destination {destination} got record {record}, not selected")),
            }
        }
        Ok(())
    }

    fn is_requeued(&self, destination: usize, span: Span) -> bool {
        self.requeues.iter().any(|r| r.destination == destination && r.spans.contains(&span))
    }

    /// Whether these may be sent now: not after an answer that settled them; and `in_order`, for the first time only in
    /// the order of the log.
    pub(super) fn check_turn(
        &mut self,
        destination: usize,
        sequence: u64,
        spans: &[Span],
        in_order: bool,
    ) -> Result<(), String> {
        for span in spans.iter().copied() {
            if self.is_requeued(destination, span) {
                continue;
            }
            if let Some(at) = self.answered.get(&(destination, span)) {
                return Err(format!("destination {destination} is sent {span:?} again, settled at {at:?}"));
            }
            let furthest = self.furthest.entry(destination).or_default();
            if self.tried.insert((destination, span)) && in_order {
                if sequence < *furthest {
                    return Err(format!(
                        "destination {destination} is sent {span:?} of {sequence} after {furthest}"
                    ));
                }
                *furthest = sequence;
            }
        }
        Ok(())
    }

    /// The process has an answer that settles these.
    pub(super) fn answer(&mut self, destination: usize, spans: &[Span], at: Duration) {
        self.answered.extend(spans.iter().map(|span| ((destination, *span), at)));
    }

    /// A process has ended before.
    pub(super) fn was_ended(&self) -> bool {
        self.was_ended
    }

    /// The life ends; what was answered for later than this may be sent again.
    pub(super) fn end_life(&mut self, known_until: Duration) {
        self.was_ended = true;
        self.furthest.clear();
        self.answered.retain(|_, at| *at <= known_until);
    }

    /// A token stands for one composition, always.
    pub(super) fn check_token(
        &mut self,
        destination: usize,
        token: &str,
        spans: &[Span],
    ) -> Result<(), String> {
        let known = self.tokens.entry((destination, token.to_owned())).or_insert_with(|| spans.to_vec());
        if known.as_slice() == spans {
            return Ok(());
        }
        Err(format!("token {token} of destination {destination} stood for {known:?}, now for {spans:?}"))
    }

    /// Whether a destination that knows batches by their tokens has stored anything under this one.
    pub(super) fn knows(&self, destination: usize, token: &str, spans: &[Span]) -> bool {
        let under = |span: &Span| self.stored.get(&(destination, *span)).is_some_and(|known| known == token);
        spans.iter().any(under)
    }

    /// It stores them, unless it has them under this token already; `strictly`: nothing happened that may make a
    /// batch another one, so that it has none of them under another.
    pub(super) fn store(
        &mut self,
        destination: usize,
        token: &str,
        spans: &[Span],
        strictly: bool,
    ) -> Result<(), String> {
        for span in spans {
            let known = self.stored.entry((destination, *span)).or_insert_with(|| token.to_owned());
            if known == token {
                continue;
            }
            if strictly
                && !self.requeues.iter().any(|r| r.destination == destination && r.spans.contains(span))
            {
                return Err(format!(
                    "destination {destination} has {span:?} under {known}, and now under {token}"
                ));
            }
            *known = token.to_owned();
        }
        Ok(())
    }

    /// Whether a span is refused for good.
    pub(super) fn is_poisoned(&self, destination: usize, (record, position): Span) -> bool {
        !self.forgiving.contains(&destination)
            && self.records.get(record).is_some_and(|record| record.poison.contains(&position))
    }

    fn is_backfilled(&self, destination: usize, span: Span) -> bool {
        self.requeues.iter().any(|r| r.is_backfill && r.destination == destination && r.spans.contains(&span))
    }

    /// What a destination would get of a past record whose payload this is: what it selected, or all of it if it was
    /// not there yet. Noted as part of a requeue.
    pub(super) fn decide_again(&mut self, requeue: usize, payload: &Payload) -> Option<SpanSet> {
        let traces = payload.traces().ok()?;
        let destination = self.requeues.get(requeue)?.destination;
        let mut positions = Vec::new();
        for (position, span) in (0..).zip(traces.spans()) {
            let span = span_of(span.span_id());
            let record = self.records.get(span.0)?;
            let share = record.shares.iter().find(|share| share.destination == destination);
            if share.is_none_or(|share| share.positions.contains(&span.1)) {
                positions.push(position);
                self.requeues.get_mut(requeue)?.spans.insert(span);
            }
        }
        (!positions.is_empty()).then(|| SpanSet::from_positions(payload.spans(), positions))
    }

    pub(super) fn take(&mut self, destination: usize, spans: &[Span]) {
        let taken = self.taken.entry(destination).or_default();
        spans.iter().for_each(|span| *taken.entry(*span).or_default() += 1);
    }

    pub(super) fn has_taken(&self, destination: usize, span: Span) -> bool {
        self.taken.get(&destination).is_some_and(|taken| taken.contains_key(&span))
    }

    /// Spans taken more than once, over all destinations.
    pub(super) fn duplicates(&self) -> u64 {
        self.taken.values().flat_map(|taken| taken.values()).map(|times| u64::from(*times) - 1).sum()
    }

    fn spans_of(&self, destination: usize, wanted: impl Fn(&Record) -> bool) -> BTreeSet<Span> {
        let mut found = BTreeSet::new();
        for (number, record) in self.records.iter().enumerate().skip(self.since).filter(|(_, r)| wanted(r)) {
            for share in record.shares.iter().filter(|s| s.destination == destination) {
                found.extend(share.positions.iter().map(|position| (number, *position)));
            }
        }
        found
    }

    /// The books of a destination at rest against what was acknowledged and what arrived.
    pub(super) fn settle(
        &self,
        destination: usize,
        is_deleted: bool,
        books: &Books,
        letters: &[DeadLetter],
        causes: Causes,
    ) -> Result<(), String> {
        let name = format!("destination {destination}");
        let fail = |what: String| Err(format!("{name}: {what}; {books:?}"));
        if !books.balanced() || books.pending != 0 {
            return fail("the books do not balance, or something is pending at rest".to_owned());
        }
        let accepted = |r: &Record| matches!(r.answer, Answer::Accepted(_));
        let mut promised = self.spans_of(destination, |r| accepted(r) && !r.excused);
        let possible = self.spans_of(destination, |_| true);
        let selected_least = promised.len() as u64;
        let asked = |wanted: &dyn Fn(&Record) -> bool| -> u64 {
            let all =
                self.records.iter().skip(self.since).filter(|r| wanted(r) && r.asked.contains(&destination));
            all.map(|r| u64::from(r.spans)).sum()
        };
        let (asked_least, asked_most) = (asked(&|r| accepted(r) && !r.excused), asked(&|_| true));
        let mut all_requeues_kept = true;
        // What came back and was lost with the power is a gap in the ordinals: nobody knows any more that it had come
        // back, so it is counted as selected, and dropped.
        let mut lost_again = 0;
        for requeue in self.requeues.iter().filter(|r| r.destination == destination) {
            if requeue.excused {
                promised.retain(|span| !requeue.spans.contains(span));
                all_requeues_kept = false;
                lost_again += requeue.spans.len() as u64;
            } else if requeue.is_backfill && requeue.ended.is_some() {
                promised.extend(requeue.spans.iter().filter(|(record, _)| *record >= self.since));
            }
        }
        let of_now = |(span, times): (&Span, &u32)| (span.0 >= self.since).then_some((*span, *times));
        let taken: BTreeMap<Span, u32> =
            self.taken.get(&destination).into_iter().flatten().filter_map(of_now).collect();
        let mut buried = BTreeSet::new();
        for letter in letters {
            buried.extend(self.letter(destination, letter)?);
        }
        let dropped: u64 = books.dropped.iter().sum();
        let dead: u64 = books.dead_lettered.iter().sum();
        if !causes.damage {
            let selected_most = possible.len() as u64 + lost_again;
            if books.selected < selected_least || books.selected > selected_most {
                return fail(format!("between {selected_least} and {selected_most} spans were selected"));
            }
            if books.accepted < asked_least || books.accepted > asked_most + lost_again {
                return fail(format!("between {asked_least} and {asked_most} spans were accepted"));
            }
            if dead > buried.len() as u64 + books.requeued && all_requeues_kept {
                return fail(format!("{} spans are in the dead letters", buried.len()));
            }
        }
        if books.delivered > taken.len() as u64 + books.requeued {
            return fail(format!("{} spans were taken", taken.len()));
        }
        let missing: Vec<Span> =
            promised.iter().filter(|s| !taken.contains_key(s) && !buried.contains(s)).copied().collect();
        if missing.len() as u64 > dropped && !causes.damage {
            let (n, first) = (missing.len(), missing.first());
            return fail(format!("{n} acknowledged spans ended nowhere, the first is {first:?}"));
        }
        let is_poison = |(record, position): &Span| {
            self.records.get(*record).is_some_and(|record| record.poison.contains(position))
        };
        let poisoned: BTreeSet<Span> = possible.iter().filter(|span| is_poison(span)).copied().collect();
        // Of what was backfilled too.
        if let Some(span) = buried.iter().find(|span| !is_poison(span)) {
            return fail(format!("{span:?} is a dead letter, and was not refused"));
        }
        for (reason, count) in DropReason::ALL.iter().zip(books.dropped) {
            let allowed = match reason {
                DropReason::DestinationDeleted => is_deleted,
                // Copies of what was there before fill a log too. Who has most pending then pays, whoever they are for.
                DropReason::BacklogFull => causes.small_cap || self.requeues.iter().any(|r| r.is_backfill),
                DropReason::Expired => causes.expiry,
                // A dead letter that cannot be written is given up after some tries; also one that a process had written
                // that ended before it was counted.
                DropReason::Damaged => {
                    let written = |span: &&Span| buried.contains(span) && !self.was_ended;
                    let unwritten = poisoned.iter().filter(|span| !written(span)).count() as u64;
                    causes.damage || causes.unreadable || (causes.disk_failed && count <= unwritten)
                }
                // A partial success that names no spans.
                DropReason::RefusedUnattributed => true,
                DropReason::Shutdown => causes.shutdown,
            };
            if count > 0 && !allowed {
                return fail(format!("{count} spans dropped as {} without a cause", reason.as_str()));
            }
        }
        Ok(())
    }

    /// The spans of a dead letter, which must be this destination's own and without content if private.
    pub(super) fn letter(&self, destination: usize, letter: &DeadLetter) -> Result<Vec<Span>, String> {
        let payload = Payload::new(letter.payload.clone(), letter.spans);
        let traces = payload.traces().map_err(|e| format!("dead letter {}: {e}", letter.id))?;
        let spans: Vec<Span> = traces.spans().map(|span| span_of(span.span_id())).collect();
        let has_content = traces.spans().any(|span| span.attribute("gen_ai.prompt").is_some());
        self.check_sent(destination, &spans, !has_content).map_err(|e| format!("dead letter: {e}"))?;
        Ok(spans)
    }
}

/// A request: spans of a record, all with these attributes.
fn body(record: usize, spans: u32, attributes: &[(String, OwnedValue)]) -> Bytes {
    let built: Vec<SpanBuilder> = (0..spans)
        .map(|i| SpanBuilder {
            trace_id: [7; 16],
            span_id: span_id((record, i)),
            name: "chat".to_owned(),
            kind: 3,
            start_unix_nano: 1,
            end_unix_nano: 2,
            attributes: attributes.to_vec(),
            ..SpanBuilder::default()
        })
        .collect();
    let mut payload = Vec::new();
    resource_spans(&[], "sim", "1", &built, &mut payload);
    Bytes::from(payload)
}

fn span_id((record, position): Span) -> [u8; 8] {
    ((record as u64 + 1) << 16 | u64::from(position)).to_be_bytes()
}

fn span_of(id: [u8; 8]) -> Span {
    let number = u64::from_be_bytes(id);
    (((number >> 16) as usize).wrapping_sub(1), (number & 0xffff) as u32)
}
