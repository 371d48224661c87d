//! What the segments hold: which spans of which slot are still wanted in each, and which can be given back.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::books::Ledger;
use crate::entry::Entry;
use crate::ranges::Done;
use crate::types::{Outcome, Sequence, Settlement, Slot};

/// One segment, on disk or (memory mode) a group of records kept together for `give_up`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) file: u32,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) last_sequence: Sequence,
    /// It takes no more records.
    pub(crate) sealed: bool,
    /// Its seal could not be written: the file is not used again by this process.
    pub(crate) kept: bool,
    /// Spans per slot that are not final.
    pub(crate) wanted: HashMap<Slot, u64>,
    /// The journal's count of writes when the last span became final.
    pub(crate) settled_at: u64,
}

impl Segment {
    pub(crate) fn is_settled(&self) -> bool {
        self.wanted.is_empty()
    }
}

/// Segments by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    by_number: BTreeMap<u64, Segment>,
}

impl Segments {
    pub(crate) fn open(&mut self, number: u64, file: u32, bytes: u64) {
        self.by_number.insert(number, Segment { file, bytes, ..Segment::default() });
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

    /// The file a record lies in, if its segment still exists.
    pub(crate) fn file(&self, number: u64) -> Option<u32> {
        self.by_number.get(&number).map(|s| s.file)
    }

    /// A record was added: spans per slot that somebody wants.
    pub(crate) fn want(&mut self, number: u64, sequence: Sequence, spans: impl Iterator<Item = (Slot, u64)>) {
        let Some(segment) = self.by_number.get_mut(&number) else { return };
        segment.last_sequence = segment.last_sequence.max(sequence);
        for (slot, spans) in spans {
            *segment.wanted.entry(slot).or_default() += spans;
        }
    }

    /// Counts spans final; true if this was the segment's last.
    pub(crate) fn settle(&mut self, number: u64, slot: Slot, spans: u64, written: u64) -> bool {
        let Some(segment) = self.by_number.get_mut(&number) else { return false };
        let Some(wanted) = segment.wanted.get_mut(&slot) else { return false };
        *wanted = wanted.saturating_sub(spans);
        segment.settled_at = written;
        if *wanted == 0 {
            segment.wanted.remove(&slot);
        }
        segment.is_settled()
    }

    /// Sealed segments that nobody wants and whose records and settlements are on disk.
    pub(crate) fn returnable(&self, checkpointed: Sequence, journal_synced: u64) -> Vec<u64> {
        let free = |s: &Segment| {
            s.sealed
                && !s.kept
                && s.is_settled()
                && s.last_sequence <= checkpointed
                && s.settled_at <= journal_synced
        };
        self.by_number.iter().filter(|(_, s)| free(s)).map(|(number, _)| *number).collect()
    }

    /// The oldest sealed segment above `asked` in which the slot holds something: its last sequence.
    pub(crate) fn oldest_held_by(&self, slot: Slot, asked: Sequence) -> Option<(u64, Sequence)> {
        self.by_number
            .iter()
            .find(|(_, s)| s.sealed && s.last_sequence > asked && s.wanted.contains_key(&slot))
            .map(|(number, s)| (*number, s.last_sequence))
    }

    /// Whether the slot still wants something of this segment.
    pub(crate) fn is_held_by(&self, number: u64, slot: Slot) -> bool {
        self.by_number.get(&number).is_some_and(|s| s.wanted.contains_key(&slot))
    }
}

/// One settled run of a batch: spans `first..first + spans` of a slot, all of one record.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) slot: Slot,
    pub(crate) first: u64,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) outcome: Outcome,
    pub(crate) entry: Arc<Entry>,
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
                    entry: settlement.entry.clone(),
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
