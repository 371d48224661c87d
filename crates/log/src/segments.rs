//! What the segments hold: which spans of which slot are still wanted in each, and which can be given back.
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::books::Ledger;
use crate::entry::Entry;
use crate::format::Life;
use crate::ranges::Done;
use crate::shared::State;
use crate::types::{Outcome, Sequence, Settlement, Slot};

/// One segment, on disk or (memory mode) a group of records kept together for `give_up`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) file: u32,
    /// The life of the file in which its records lie.
    pub(crate) life: Life,
    /// It stands for the segments from its own number to this one: a carry segment takes the place of several.
    pub(crate) last_number: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) last_sequence: Sequence,
    /// When its newest record was received.
    pub(crate) newest_unix_nano: u64,
    /// It takes no more records.
    pub(crate) sealed: bool,
    /// The file is not used again, and removed when nothing in it is wanted: its seal could not be written, or it holds
    /// content that a copy of it has left out.
    pub(crate) kept: bool,
    /// What is wanted of it is being copied: it is not given back before that is done.
    pub(crate) carrying: bool,
    /// When its index was last looked into: spans that were open, and bytes that a copy would have taken.
    pub(crate) surveyed: Option<(u64, u64)>,
    /// What slots have here that is not final.
    pub(crate) wanted: HashMap<Slot, Held>,
    /// The journal's count of writes when the last span became final.
    pub(crate) settled_at: u64,
}

/// A slot's spans in a segment: its ordinals there lie in `first..end`, and `open` of them are not final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) open: u64,
}

/// Where the spans of a slot from some ordinal on are to be looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Segment numbers; none if no segment has the first of these ordinals.
    pub(crate) segments: Vec<u64>,
    /// Ordinals from here on may be elsewhere.
    pub(crate) limit: u64,
}

impl Segment {
    /// One that was sealed, as recovery finds it.
    pub(crate) fn sealed(file: u32, life: Life) -> Segment {
        Segment { file, life, last_number: life.number, sealed: true, ..Segment::default() }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Spans that are not final, of all slots together.
    pub(crate) fn open_spans(&self) -> u64 {
        self.wanted.values().map(|held| held.open).sum()
    }

    fn settle(&mut self, slot: Slot, spans: u64, written: u64) -> bool {
        let Some(held) = self.wanted.get_mut(&slot) else { return false };
        held.open = held.open.saturating_sub(spans);
        self.settled_at = written;
        if held.open == 0 {
            self.wanted.remove(&slot);
        }
        self.is_settled()
    }
}

/// Segments by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    by_number: BTreeMap<u64, Segment>,
}

impl Segments {
    pub(crate) fn open(&mut self, life: Life, file: u32, bytes: u64) {
        let sealed = Segment::sealed(file, life);
        self.by_number.insert(life.number, Segment { bytes, sealed: false, ..sealed });
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Segment> {
        self.by_number.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Segment> {
        self.by_number.get_mut(&number)
    }

    pub(crate) fn insert(&mut self, number: u64, segment: Segment) {
        self.by_number.insert(number, segment);
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Segment> {
        self.by_number.remove(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.by_number.iter().map(|(number, segment)| (*number, segment))
    }

    /// Counts again what is open, and lets go of what nobody wants.
    pub(crate) fn recount(&mut self, ledger: &Ledger) {
        for segment in self.by_number.values_mut() {
            segment.wanted.retain(|slot, held| {
                let missing = ledger.account(*slot).map(|a| a.done.missing(held.first, held.end));
                held.open = missing.unwrap_or_default().iter().map(|(start, end)| end - start).sum();
                held.open > 0
            });
        }
        self.by_number.retain(|_, segment| !segment.is_settled());
    }

    /// File and life in which a segment's records lie now, if anybody may still want one: its own, or those of the
    /// carry segment in its place.
    pub(crate) fn place(&self, number: u64) -> Option<(u32, Life)> {
        self.standing_for(number).map(|segment| (segment.file, segment.life))
    }

    /// The segment of this number, or the carry segment in its place. Between the numbers a carry segment stands for
    /// there may still be segments that were settled by themselves.
    pub(crate) fn standing_for(&self, number: u64) -> Option<&Segment> {
        let before = self.by_number.range(..=number).rev();
        before.map(|(_, segment)| segment).find(|segment| number <= segment.last_number)
    }

    /// What stands for this number, or the next one.
    pub(crate) fn at_or_behind(&self, number: u64) -> Option<&Segment> {
        self.standing_for(number)
            .or_else(|| self.by_number.range(number..).next().map(|(_, segment)| segment))
    }

    /// Puts a carry segment in the place of those that were copied into it; answers these.
    pub(crate) fn replace(&mut self, numbers: &[u64], mut carry: Segment) -> Vec<Segment> {
        let replaced: Vec<Segment> = numbers.iter().filter_map(|n| self.by_number.remove(n)).collect();
        for segment in &replaced {
            carry.last_number = carry.last_number.max(segment.last_number);
            carry.last_sequence = carry.last_sequence.max(segment.last_sequence);
            carry.newest_unix_nano = carry.newest_unix_nano.max(segment.newest_unix_nano);
            carry.settled_at = carry.settled_at.max(segment.settled_at);
            for (slot, held) in &segment.wanted {
                // Segments are adjacent, so no other one has ordinals in between.
                let all = carry.wanted.entry(*slot).or_insert(Held { open: 0, ..*held });
                (all.first, all.end) = (all.first.min(held.first), all.end.max(held.end));
                all.open += held.open;
            }
        }
        self.by_number.insert(carry.life.number, carry);
        replaced
    }

    /// A record was added: (slot, first ordinal, spans) that somebody wants.
    pub(crate) fn want(
        &mut self,
        number: u64,
        sequence: Sequence,
        spans: impl Iterator<Item = (Slot, u64, u64)>,
    ) {
        let Some(segment) = self.by_number.get_mut(&number) else { return };
        segment.last_sequence = segment.last_sequence.max(sequence);
        for (slot, first, spans) in spans {
            let held = segment.wanted.entry(slot).or_insert(Held { first, end: first, open: 0 });
            held.first = held.first.min(first);
            held.end = held.end.max(first + spans);
            held.open += spans;
        }
    }

    /// A record in it was received at this time.
    pub(crate) fn saw(&mut self, number: u64, received_unix_nano: u64) {
        if let Some(segment) = self.by_number.get_mut(&number) {
            segment.newest_unix_nano = segment.newest_unix_nano.max(received_unix_nano);
        }
    }

    /// Counts the spans `first..end` final, none of which was; true if a segment has nothing wanted left. `hint` is
    /// where they probably are.
    pub(crate) fn settle(
        &mut self,
        hint: Option<u64>,
        slot: Slot,
        first: u64,
        end: u64,
        written: u64,
    ) -> bool {
        if let Some(segment) = hint.and_then(|number| self.by_number.get_mut(&number))
            && segment.wanted.get(&slot).is_some_and(|held| held.first <= first && end <= held.end)
        {
            return segment.settle(slot, end - first, written);
        }
        let mut freed = false;
        for segment in self.by_number.values_mut() {
            let Some(held) = segment.wanted.get(&slot) else { continue };
            let (from, to) = (first.max(held.first), end.min(held.end));
            if from < to {
                freed |= segment.settle(slot, to - from, written);
            }
        }
        freed
    }

    /// Where the ordinal `from` of a slot is, and up to where nothing else need be asked.
    pub(crate) fn window(&self, slot: Slot, from: u64) -> Window {
        let mut window = Window { segments: Vec::new(), limit: u64::MAX };
        let mut reach = 0;
        for (number, segment) in &self.by_number {
            let Some(held) = segment.wanted.get(&slot).filter(|held| held.end > from) else { continue };
            if held.first > from {
                window.limit = window.limit.min(held.first);
            } else {
                window.segments.push(*number);
                reach = reach.max(held.end);
            }
        }
        if !window.segments.is_empty() {
            window.limit = window.limit.min(reach);
        }
        window
    }

    /// The ordinal behind the slot's last one in segments that end at `sequence` or before.
    pub(crate) fn end_upto(&self, slot: Slot, sequence: Sequence) -> u64 {
        let upto = self.by_number.values().filter(|s| s.last_sequence <= sequence);
        upto.filter_map(|s| s.wanted.get(&slot)).map(|held| held.end).max().unwrap_or(0)
    }

    /// Sealed segments that nobody wants and whose records and settlements are on disk: number and age.
    pub(crate) fn returnable(&self, checkpointed: Sequence, journal_synced: u64) -> Vec<(u64, u64)> {
        let free = |s: &Segment| {
            s.sealed
                && !s.carrying
                && s.is_settled()
                && s.last_sequence <= checkpointed
                && s.settled_at <= journal_synced
        };
        let free = self.by_number.iter().filter(|(_, s)| free(s));
        free.map(|(number, s)| (*number, s.newest_unix_nano)).collect()
    }

    /// The oldest sealed segment above `asked` in which the slot holds something: its last sequence.
    pub(crate) fn oldest_held_by(&self, slot: Slot, asked: Sequence) -> Option<(u64, Sequence)> {
        self.by_number
            .iter()
            .find(|(_, s)| s.sealed && s.last_sequence > asked && s.wanted.contains_key(&slot))
            .map(|(number, s)| (*number, s.last_sequence))
    }

    /// The last sequence of the segments in which the slot has something of `first..end`.
    fn last_sequence_of(&self, slot: Slot, first: u64, end: u64) -> Sequence {
        let holds =
            |s: &&Segment| s.wanted.get(&slot).is_some_and(|held| held.first < end && first < held.end);
        self.by_number.values().filter(holds).map(|s| s.last_sequence).max().unwrap_or(0)
    }

    /// Whether the slot still wants something of this segment, or of what is in its place.
    pub(crate) fn is_held_by(&self, number: u64, slot: Slot) -> bool {
        self.standing_for(number).is_some_and(|segment| segment.wanted.contains_key(&slot))
    }
}

/// One settled run of a batch: spans `first..first + spans` of a slot.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) slot: Slot,
    pub(crate) first: u64,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) outcome: Outcome,
    /// The highest of the records concerned.
    pub(crate) sequence: Sequence,
    /// The record, if it is a single one and was read.
    pub(crate) entry: Option<Arc<Entry>>,
}

/// The runs of a stretch of ordinals that are not final yet, whatever records they lie in; see [`runs`].
pub(crate) fn runs_of_range(
    state: &State,
    batch: &mut HashMap<Slot, Done>,
    (slot, range): (Slot, Range<u64>),
    outcome: Outcome,
    out: &mut Vec<Run>,
) {
    let Some(account) = state.ledger.account(slot) else { return };
    let said = batch.entry(slot).or_default();
    let end = range.end.min(account.next_ordinal);
    let open = account.done.missing(range.start, end);
    for (first, end) in open.into_iter().flat_map(|(start, end)| said.missing(start, end)).collect::<Vec<_>>()
    {
        let spans = end - first;
        // Nobody read how large they are.
        let bytes = account.bytes_of(spans);
        let sequence = state.segments.last_sequence_of(slot, first, end).min(state.applied);
        out.push(Run { slot, first, spans, bytes, outcome, sequence, entry: None });
    }
    said.insert(range.start, end);
}

/// The runs of a settlement that are not final yet. `batch` remembers what earlier settlements of the same batch
/// said: the first word on a span holds.
pub(crate) fn runs(
    ledger: &Ledger,
    batch: &mut HashMap<Slot, Done>,
    settlement: &Settlement,
    out: &mut Vec<Run>,
) {
    let Some(account) = ledger.account(settlement.slot) else { return };
    for route in settlement.entry.routes.iter().filter(|r| r.slot == settlement.slot) {
        let (base, bytes, set) = route.committed();
        let count = u64::from(set.count());
        let said = batch.entry(settlement.slot).or_default();
        let mut add = |start: u64, end: u64| {
            let open = account.done.missing(base + start, base + end);
            let fresh: Vec<_> = open.into_iter().flat_map(|(start, end)| said.missing(start, end)).collect();
            said.insert(base + start, base + end);
            for (start, end) in fresh {
                out.push(Run {
                    slot: settlement.slot,
                    first: start,
                    spans: end - start,
                    bytes: crate::books::route_share((base, bytes, count), start, end),
                    outcome: settlement.outcome,
                    sequence: settlement.entry.sequence,
                    entry: Some(settlement.entry.clone()),
                });
            }
        };
        let everything = settlement.spans.is_all() && settlement.spans.len() == set.len();
        if everything || settlement.spans == *set {
            add(0, count);
            continue;
        }
        let mut open: Option<u64> = None;
        for (rank, position) in (0u64..).zip(set.iter()) {
            let chosen = position < settlement.spans.len() && settlement.spans.contains(position);
            match (chosen, open) {
                (true, None) => open = Some(rank),
                (false, Some(start)) => {
                    add(start, rank);
                    open = None;
                }
                _ => {}
            }
        }
        if let Some(start) = open {
            add(start, count);
        }
    }
}
