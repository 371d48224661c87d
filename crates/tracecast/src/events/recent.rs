//! The memory of recent traces: what was decided about them and what became of it since, within a bound of bytes.
//!
//! Two sides speak of a record by its number: ingest, once it is kept, and delivery, which may be faster. What
//! delivery says first waits in a small queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracecast_delivery::LastError;
use tracecast_ingest::Decided;
use tracecast_log::{DropReason, Outcome, Sequence, Slot};
use tracecast_otlp::{Payload, SpanSet, TraceId, Traces};
use tracecast_rules::{Skip, TraceIndex};

use super::fate::Fate;
use super::unix_nano;

/// Changes that wait for their record.
const EARLY_MAX: usize = 4096;
/// What keeping an item costs besides its own size.
const ITEM: usize = 64;

/// What was decided about one request.
#[derive(Debug)]
pub(crate) struct Seen {
    traces: Vec<SeenTrace>,
    /// Per span of the record's payload the position of its trace; empty if there is one trace only.
    of_span: Vec<u32>,
    /// Per destination and trace.
    fates: Vec<(Slot, Vec<Fate>)>,
    /// Destinations that get nothing of the request, for one reason: usually the most, so they must not cost much.
    passed_by: Vec<(Slot, Skip)>,
    received_unix_nano: u64,
}

/// A trace as one request speaks of it.
#[derive(Debug)]
struct SeenTrace {
    id: TraceId,
    /// The earliest of its spans.
    started_unix_nano: u64,
    spans: u32,
}

/// What happened to spans.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Sending,
    Answered(Option<Arc<LastError>>),
    Settled(Outcome),
}

/// What is remembered of a trace.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// By slot.
    pub(super) fates: BTreeMap<Slot, Fate>,
    /// The records it is remembered from.
    pub(super) sequences: Vec<Sequence>,
    /// Nothing of the trace can have been forgotten.
    pub(super) complete: bool,
}

#[derive(Debug)]
pub(super) struct Recent {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<Sequence, Seen>,
    by_trace: HashMap<TraceId, Vec<Sequence>>,
    bytes: usize,
    /// Everything that came after it is remembered.
    since_unix_nano: u64,
    early: HashMap<Sequence, Vec<(Slot, SpanSet, Change)>>,
    early_order: VecDeque<Sequence>,
}

impl Seen {
    pub(super) fn of(decided: &Decided<'_>) -> Seen {
        let Decided { received_unix_nano, traces, decision, .. } = *decided;
        let mut seen = Seen::empty(received_unix_nano);
        let trace_of = seen.index(traces);
        let spans_of = |fates: &mut Vec<Fate>, i: usize, each: &dyn Fn(&mut Fate)| {
            if let Some(fate) = trace_of.get(i).and_then(|trace| fates.get_mut(*trace as usize)) {
                each(fate);
            }
        };
        for route in &decision.routes {
            let fates = seen.fates_of(route.slot);
            for position in route.spans.iter() {
                spans_of(fates, position as usize, &|fate| fate.selected += 1);
            }
        }
        for (slot, reason, spans) in &decision.skips {
            if *spans as usize == traces.len() {
                seen.passed_by.push((*slot, *reason));
                continue;
            }
            let mixed = decision.mixed.iter().find(|(of, _)| of == slot).map(|(_, reasons)| reasons);
            let selected = decision.routes.iter().find(|r| r.slot == *slot).map(|r| &r.spans);
            let fates = seen.fates_of(*slot);
            for i in 0..traces.len() {
                let skipped = match mixed {
                    Some(reasons) => reasons.get(i).copied().flatten() == Some(*reason),
                    None => !selected.is_some_and(|spans| spans.contains(i as u32)),
                };
                if skipped {
                    spans_of(fates, i, &|fate| {
                        if let Some(count) = fate.skipped.get_mut(*reason as usize) {
                            *count += 1;
                        }
                    });
                }
            }
        }
        // Delivery speaks of positions in the payload, which holds the union only.
        if seen.traces.len() > 1
            && let Some(union) = &decision.union
        {
            seen.of_span = union.iter().filter_map(|i| trace_of.get(i as usize).copied()).collect();
        }
        seen
    }

    /// A record of spans that were here before.
    pub(super) fn again(slot: Slot, payload: &Payload) -> Option<Seen> {
        let traces = payload.traces().ok()?;
        let mut seen = Seen::empty(unix_nano());
        let trace_of = seen.index(traces);
        let fates = seen.fates_of(slot);
        for trace in &trace_of {
            if let Some(fate) = fates.get_mut(*trace as usize) {
                fate.requeued += 1;
            }
        }
        if seen.traces.len() > 1 {
            seen.of_span = trace_of;
        }
        Some(seen)
    }

    fn empty(received_unix_nano: u64) -> Seen {
        Seen {
            traces: Vec::new(),
            of_span: Vec::new(),
            fates: Vec::new(),
            passed_by: Vec::new(),
            received_unix_nano,
        }
    }

    /// Lists the traces; answers which one each span belongs to.
    fn index(&mut self, traces: &Traces) -> Vec<u32> {
        let index = TraceIndex::new(traces);
        let unseen = |id: &TraceId| SeenTrace { id: *id, started_unix_nano: u64::MAX, spans: 0 };
        self.traces = index.ids().iter().map(unseen).collect();
        let trace_of = index.into_numbers();
        for (span, at) in traces.spans().zip(&trace_of) {
            if let Some(trace) = self.traces.get_mut(*at as usize) {
                trace.started_unix_nano = trace.started_unix_nano.min(span.start_unix_nano());
                trace.spans += 1;
            }
        }
        trace_of
    }

    fn fates_of(&mut self, slot: Slot) -> &mut Vec<Fate> {
        let at = self.fates.iter().position(|(of, _)| *of == slot).unwrap_or_else(|| {
            let fate = Fate { received_unix_nano: self.received_unix_nano, ..Fate::default() };
            self.fates.push((slot, vec![fate; self.traces.len()]));
            self.fates.len() - 1
        });
        &mut self.fates[at].1
    }

    fn bytes(&self) -> usize {
        let fates = self.fates.len() * (ITEM + self.traces.len() * size_of::<Fate>());
        let passed_by = self.passed_by.len() * size_of::<(Slot, Skip)>();
        size_of::<Seen>() + self.traces.len() * (ITEM + 40) + self.of_span.len() * 4 + fates + passed_by
    }

    fn change(&mut self, slot: Slot, spans: &SpanSet, change: &Change) {
        let Some((_, fates)) = self.fates.iter_mut().find(|(of, _)| *of == slot) else { return };
        if let ([only], false) = (fates.as_mut_slice(), spans.is_empty()) {
            return only.change(spans.count(), change);
        }
        let mut counts = vec![0u32; fates.len()];
        for position in spans.iter() {
            let trace = self.of_span.get(position as usize).copied().unwrap_or(0);
            if let Some(count) = counts.get_mut(trace as usize) {
                *count += 1;
            }
        }
        for (fate, n) in fates.iter_mut().zip(counts).filter(|(_, n)| *n > 0) {
            fate.change(n, change);
        }
    }
}

impl Fate {
    /// Something happened to so many of its spans.
    fn change(&mut self, n: u32, change: &Change) {
        match change {
            Change::Sending => {
                self.in_flight += n;
                self.attempts += 1;
            }
            Change::Answered(trouble) => {
                self.in_flight = self.in_flight.saturating_sub(n);
                if trouble.is_some() {
                    self.trouble.clone_from(trouble);
                }
            }
            Change::Settled(Outcome::Delivered) => {
                self.delivered += n;
                self.delivered_unix_nano = unix_nano();
            }
            Change::Settled(Outcome::DeadLettered(reason)) => {
                self.dead.get_mut(*reason as usize).into_iter().for_each(|count| *count += n);
            }
            Change::Settled(Outcome::Dropped(reason)) => {
                self.dropped.get_mut(*reason as usize).into_iter().for_each(|count| *count += n);
            }
        }
    }
}

impl Seen {
    /// What is pending there was never read and never will be.
    fn give_up(&mut self, slot: Slot, reason: DropReason) {
        let fates = self.fates.iter_mut().filter(|(of, _)| *of == slot).flat_map(|(_, fates)| fates);
        for fate in fates {
            let pending = fate.pending();
            fate.dropped.get_mut(reason as usize).into_iter().for_each(|count| *count += pending);
        }
    }
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Recent {
        let state = State {
            records: BTreeMap::new(),
            by_trace: HashMap::new(),
            bytes: 0,
            since_unix_nano: unix_nano(),
            early: HashMap::new(),
            early_order: VecDeque::new(),
        };
        Recent { bytes_max, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, sequence: Sequence, mut seen: Seen) {
        let mut state = self.state();
        if let Some(early) = state.early.remove(&sequence) {
            state.early_order.retain(|of| *of != sequence);
            early.iter().for_each(|(slot, spans, change)| seen.change(*slot, spans, change));
        }
        state.bytes += seen.bytes();
        for SeenTrace { id, .. } in &seen.traces {
            state.by_trace.entry(*id).or_default().push(sequence);
        }
        state.records.insert(sequence, seen);
        while state.bytes > self.bytes_max
            && let Some((sequence, oldest)) = state.records.pop_first()
        {
            state.forget(sequence, &oldest);
        }
    }

    pub(super) fn change(&self, slot: Slot, sequence: Sequence, spans: &SpanSet, change: Change) {
        let mut state = self.state();
        if let Some(seen) = state.records.get_mut(&sequence) {
            return seen.change(slot, spans, &change);
        }
        // Below the oldest it is forgotten; or it was there before this process.
        if state.records.first_key_value().is_some_and(|(oldest, _)| sequence < *oldest) {
            return;
        }
        let waiting = state.early.entry(sequence).or_default();
        let first = waiting.is_empty();
        waiting.push((slot, spans.clone(), change));
        if first {
            state.early_order.push_back(sequence);
        }
        if state.early_order.len() > EARLY_MAX
            && let Some(oldest) = state.early_order.pop_front()
        {
            state.early.remove(&oldest);
        }
    }

    /// What a destination has pending in these records is given up.
    pub(super) fn given_up(&self, slot: Slot, records: RangeInclusive<Sequence>, reason: DropReason) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        state.records.range_mut(records).for_each(|(_, seen)| seen.give_up(slot, reason));
    }

    /// What is remembered of a trace; `None` if nothing is.
    pub(super) fn trace(&self, trace: &TraceId) -> Option<Remembered> {
        let state = self.state();
        let sequences = state.by_trace.get(trace)?.clone();
        let mut remembered = Remembered { complete: true, ..Remembered::default() };
        for sequence in &sequences {
            let Some(seen) = state.records.get(sequence) else { continue };
            let found = seen.traces.iter().enumerate().find(|(_, of)| of.id == *trace);
            let Some((at, of_trace)) = found else { continue };
            for (slot, fates) in &seen.fates {
                if let Some(fate) = fates.get(at) {
                    remembered.fates.entry(*slot).or_default().add(fate);
                }
            }
            for (slot, reason) in &seen.passed_by {
                let mut fate = Fate { received_unix_nano: seen.received_unix_nano, ..Fate::default() };
                fate.skipped.get_mut(*reason as usize).into_iter().for_each(|count| *count = of_trace.spans);
                remembered.fates.entry(*slot).or_default().add(&fate);
            }
            // An event does not arrive before it begins.
            remembered.complete &= of_trace.started_unix_nano >= state.since_unix_nano;
        }
        remembered.sequences = sequences;
        Some(remembered)
    }
}

impl State {
    fn forget(&mut self, sequence: Sequence, seen: &Seen) {
        self.bytes = self.bytes.saturating_sub(seen.bytes());
        self.since_unix_nano = self.since_unix_nano.max(seen.received_unix_nano);
        for SeenTrace { id, .. } in &seen.traces {
            if let Some(sequences) = self.by_trace.get_mut(id) {
                sequences.retain(|of| *of != sequence);
                if sequences.is_empty() {
                    self.by_trace.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tracecast_log::{DeadReason, SkipReason};
    use tracecast_otlp::Limits;
    use tracecast_otlp::write::{SpanBuilder, resource_spans};
    use tracecast_rules::{Decision, Selected, Skip};
    use uuid::Uuid;

    use super::*;

    fn traces(of_span: &[u8], start_unix_nano: u64) -> Traces {
        let spans: Vec<SpanBuilder> = of_span
            .iter()
            .enumerate()
            .map(|(i, trace)| SpanBuilder {
                trace_id: [*trace; 16],
                span_id: (i as u64 + 1).to_be_bytes(),
                name: "x".into(),
                start_unix_nano,
                end_unix_nano: start_unix_nano + 1,
                ..SpanBuilder::default()
            })
            .collect();
        let mut out = Vec::new();
        resource_spans(&[], "s", "1", &spans, &mut out);
        Traces::index(Bytes::from(out), &Limits::default()).unwrap()
    }

    fn seen(traces: &Traces, decision: &Decision) -> Seen {
        Seen::of(&Decided { workspace: Uuid::nil(), received_unix_nano: 5, traces, decision })
    }

    /// Slot 1 gets spans 1 and 3; of the others one is sampled out and one filtered. Slot 2 gets nothing.
    fn decision() -> Decision {
        let spans = SpanSet::from_positions(4, [1, 3]);
        Decision {
            routes: vec![Selected { slot: 1, private: false, spans: spans.clone() }],
            skips: vec![(1, Skip::Sampled, 1), (1, Skip::Filter, 1), (2, Skip::Key, 4)],
            mixed: vec![(1, vec![Some(Skip::Sampled), None, Some(Skip::Filter), None])],
            union: Some(spans),
            ..Decision::default()
        }
    }

    #[test]
    fn counts_are_kept_per_trace_and_in_the_payloads_positions() {
        let recent = Recent::new(1 << 20);
        // Spans 0 and 1 are of trace 7, 2 and 3 of trace 8.
        recent.insert(10, seen(&traces(&[7, 7, 8, 8], unix_nano() + 1), &decision()));
        let fate = |trace: u8, slot: Slot| recent.trace(&[trace; 16]).unwrap().fates[&slot].clone();
        assert_eq!((fate(7, 1).selected, fate(7, 1).skipped[SkipReason::Sampled as usize]), (1, 1));
        assert_eq!((fate(8, 1).selected, fate(8, 1).skipped[SkipReason::Filter as usize]), (1, 1));
        assert_eq!((fate(8, 2).selected, fate(8, 2).skipped[SkipReason::Key as usize]), (0, 2));
        // The payload has two spans: position 0 is of trace 7, position 1 of trace 8.
        recent.change(1, 10, &SpanSet::from_positions(2, [1]), Change::Sending);
        assert_eq!((fate(7, 1).in_flight, fate(8, 1).in_flight, fate(8, 1).attempts), (0, 1, 1));
        recent.change(1, 10, &SpanSet::from_positions(2, [1]), Change::Answered(None));
        let outcome = Outcome::DeadLettered(DeadReason::Rejected);
        recent.change(1, 10, &SpanSet::from_positions(2, [1]), Change::Settled(outcome));
        assert_eq!((fate(8, 1).in_flight, fate(8, 1).dead[0], fate(7, 1).dead[0]), (0, 1, 0));
        assert!(recent.trace(&[7; 16]).unwrap().complete);
        assert!(recent.trace(&[9; 16]).is_none());
    }

    #[test]
    fn what_is_given_up_unread_is_dropped_and_not_pending() {
        let recent = Recent::new(1 << 20);
        for sequence in 10..13 {
            recent.insert(sequence, seen(&traces(&[sequence as u8; 4], 1), &decision()));
        }
        recent.change(1, 11, &SpanSet::from_positions(2, [0]), Change::Settled(Outcome::Delivered));
        recent.given_up(1, 11..=Sequence::MAX, DropReason::DestinationDeleted);
        let counts = |trace: u8| {
            let fate = recent.trace(&[trace; 16]).unwrap().fates[&1].clone();
            (fate.delivered, fate.dropped[DropReason::DestinationDeleted as usize], fate.pending())
        };
        assert_eq!([counts(10), counts(11), counts(12)], [(0, 0, 2), (1, 1, 0), (0, 2, 0)]);
    }

    #[test]
    fn what_delivery_says_first_is_not_lost() {
        let recent = Recent::new(1 << 20);
        recent.change(1, 4, &SpanSet::all(2), Change::Sending);
        recent.change(1, 4, &SpanSet::all(2), Change::Answered(None));
        recent.change(1, 4, &SpanSet::all(2), Change::Settled(Outcome::Delivered));
        recent.insert(4, seen(&traces(&[7, 7, 8, 8], 1), &decision()));
        let remembered = recent.trace(&[7; 16]).unwrap();
        assert_eq!((remembered.fates[&1].delivered, remembered.fates[&1].attempts), (1, 1));
        // It began before anything was remembered: an earlier part of it may be missing.
        assert!(!remembered.complete);
        for sequence in 100..100 + 2 * EARLY_MAX as u64 {
            recent.change(1, sequence, &SpanSet::all(1), Change::Sending);
        }
        assert!(recent.state().early.len() <= EARLY_MAX);
    }

    #[test]
    fn the_memory_is_bounded_and_knows_what_it_forgot() {
        let recent = Recent::new(20_000);
        for sequence in 1..200u64 {
            let mut one = seen(&traces(&[sequence as u8; 4], unix_nano()), &decision());
            one.received_unix_nano = unix_nano();
            recent.insert(sequence, one);
            assert!(recent.state().bytes <= 20_000);
        }
        assert!(recent.trace(&[1; 16]).is_none() && recent.trace(&[199; 16]).unwrap().complete);
        let state = recent.state();
        assert_eq!(state.by_trace.len(), state.records.len());
    }
}
