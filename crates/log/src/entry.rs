//! A kept record as delivery sees it: routing in memory, the payload maybe only on disk.
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::format::{Life, StoredRoute};
use crate::types::{Projection, Sequence, Slot};
use crate::world::{Mutex, MutexGuard};

/// A kept record as delivery sees it. Cheap to hold: the payload may have left memory.
#[derive(Debug)]
pub struct Entry {
    /// The record's number.
    pub sequence: Sequence,
    /// Receive time, unix nanoseconds.
    pub received_unix_nano: u64,
    /// Uuid bytes of the workspace.
    pub workspace: [u8; 16],
    /// Who gets what (after recovery: what is still pending of it).
    pub routes: Vec<EntryRoute>,
    /// The gateways it has passed, as [`crate::Origin`] says.
    pub via: Bytes,
    pub(crate) location: Location,
    held: Mutex<Held>,
    unsettled: AtomicU64,
}

/// A record's payload as it is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Spans in their order.
    pub payload: Arc<Payload>,
    /// Positions in the record whose spans the payload has; `None`: all of them.
    pub(crate) kept: Option<Arc<SpanSet>>,
}

impl Stored {
    pub(crate) fn whole(payload: Arc<Payload>) -> Stored {
        Stored { payload, kept: None }
    }

    /// Where spans of the record stand in the payload; `None` if not all of them are there.
    pub fn positions(&self, spans: &SpanSet) -> Option<SpanSet> {
        let found = match &self.kept {
            Some(kept) => spans.within(kept),
            None => spans.clone(),
        };
        let are_there = found.len() <= self.payload.spans() || found.iter().all(|i| i < self.payload.spans());
        (found.count() == spans.count() && are_there).then_some(found)
    }
}

/// One destination's part of an entry.
#[derive(Clone, Debug)]
pub struct EntryRoute {
    /// The destination.
    pub slot: Slot,
    /// The form in which it gets the spans.
    pub projection: Projection,
    /// Positions in the record's payload.
    pub spans: SpanSet,
    /// The destination's own number of the first of these spans.
    pub ordinal: u64,
    /// Approximate payload bytes of these spans (what pending_bytes counts).
    pub bytes: u32,
    /// The route as the record has it, where recovery left only a part of it.
    whole: Option<Box<StoredRoute>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub(crate) file: u32,
    pub(crate) life: Life,
    pub(crate) offset: u64,
    pub(crate) meta_len: u32,
    pub(crate) payload_len: u32,
    /// Spans of the payload.
    pub(crate) spans: u32,
}

#[derive(Debug)]
enum Held {
    /// On disk; whoever reads it shares it while it is in use.
    Weakly(Weak<Payload>),
    /// Memory mode, until the last destination is done.
    Strongly(Arc<Payload>),
}

impl Entry {
    /// Bytes of the record's payload, all spans of it.
    pub fn payload_bytes(&self) -> u32 {
        self.location.payload_len
    }

    /// `payload`: with whether it is to be held until it is settled everywhere.
    pub(crate) fn new(
        sequence: Sequence,
        received_unix_nano: u64,
        workspace: [u8; 16],
        routes: Vec<EntryRoute>,
        via: Bytes,
        location: Location,
        payload: Option<(&Arc<Payload>, bool)>,
    ) -> Entry {
        let unsettled = routes.iter().map(|r| u64::from(r.spans.count())).sum();
        let held = match payload {
            Some((payload, true)) if unsettled > 0 => Held::Strongly(payload.clone()),
            Some((payload, _)) => Held::Weakly(Arc::downgrade(payload)),
            None => Held::Weakly(Weak::new()),
        };
        Entry {
            sequence,
            received_unix_nano,
            workspace,
            routes,
            via,
            location,
            held: Mutex::new(held),
            unsettled: AtomicU64::new(unsettled),
        }
    }

    /// An entry read back for one slot: what becomes of it says nothing of the others that want the record.
    pub(crate) fn of_one_slot(
        sequence: Sequence,
        received_unix_nano: u64,
        workspace: [u8; 16],
        routes: Vec<EntryRoute>,
        via: Bytes,
        location: Location,
    ) -> Entry {
        let entry = Entry::new(sequence, received_unix_nano, workspace, routes, via, location, None);
        Entry { unsettled: AtomicU64::new(u64::MAX), ..entry }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    /// The payload, if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<Arc<Payload>> {
        match &*self.held() {
            Held::Weakly(payload) => payload.upgrade(),
            Held::Strongly(payload) => Some(payload.clone()),
        }
    }

    /// Shares a payload that was read back with the next reader; the first one wins.
    pub(crate) fn share(&self, payload: Arc<Payload>) -> Arc<Payload> {
        let mut held = self.held();
        match &*held {
            Held::Strongly(known) => known.clone(),
            Held::Weakly(known) => known.upgrade().unwrap_or_else(|| {
                *held = Held::Weakly(Arc::downgrade(&payload));
                payload
            }),
        }
    }

    /// Counts spans final; true when these were the last ones, then the payload is let go.
    pub(crate) fn settled(&self, spans: u64) -> bool {
        if spans == 0 || self.unsettled.fetch_sub(spans, Ordering::AcqRel) != spans {
            return false;
        }
        let mut held = self.held();
        if let Held::Strongly(payload) = &*held {
            let weak = Arc::downgrade(payload);
            *held = Held::Weakly(weak);
        }
        true
    }

    pub(crate) fn payload_len(&self) -> u64 {
        u64::from(self.location.payload_len)
    }
}

impl EntryRoute {
    /// The whole route, as it was committed.
    pub(crate) fn whole(route: StoredRoute) -> EntryRoute {
        let StoredRoute { slot, projection, ordinal, bytes, spans } = route;
        EntryRoute { slot, projection, spans, ordinal, bytes, whole: None }
    }

    /// What is left of a route: the ranks (positions among its own spans) in `left`, in order.
    pub(crate) fn rest(route: StoredRoute, left: &[(u64, u64)]) -> EntryRoute {
        let count = u64::from(route.spans.count());
        let (mut kept, mut bytes) = (Vec::new(), 0);
        let mut positions = route.spans.iter();
        let mut rank = 0;
        for &(start, end) in left {
            let skipped = usize::try_from(start.saturating_sub(rank)).unwrap_or(usize::MAX);
            let wanted = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            if skipped > 0 {
                positions.by_ref().nth(skipped - 1);
            }
            kept.extend(positions.by_ref().take(wanted));
            rank = end;
            bytes += share_of(route.bytes, start, end, count);
        }
        drop(positions);
        let first = left.first().map_or(0, |(start, _)| *start);
        if kept.len() as u64 == count {
            return EntryRoute::whole(route);
        }
        EntryRoute {
            slot: route.slot,
            projection: route.projection,
            spans: SpanSet::from_positions(route.spans.len(), kept),
            ordinal: route.ordinal + first,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            whole: Some(Box::new(route)),
        }
    }

    /// The ordinal behind the last one of the committed route: where reading on begins.
    pub fn end(&self) -> u64 {
        let (first, _, spans) = self.committed();
        first + u64::from(spans.count())
    }

    /// The destination's own numbers of some of the spans, neighbours together.
    pub fn ordinals(&self, spans: &SpanSet) -> Vec<Range<u64>> {
        let (first, _, committed) = self.committed();
        let mut found: Vec<Range<u64>> = Vec::new();
        if spans == committed {
            found.push(first..self.end());
            return found;
        }
        for (ordinal, position) in (first..).zip(committed.iter()) {
            if position >= spans.len() || !spans.contains(position) {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.end == ordinal => last.end += 1,
                _ => found.push(ordinal..ordinal + 1),
            }
        }
        found
    }

    /// Those of the spans whose numbers lie within the ranges, and about how many bytes they have.
    pub fn within(&self, ranges: &[Range<u64>]) -> (SpanSet, u64) {
        let (first, bytes, committed) = self.committed();
        let is_within = |ordinal: u64| ranges.iter().any(|range| range.contains(&ordinal));
        let numbered = (first..).zip(committed.iter());
        let found: Vec<(u64, u32)> = numbered
            .filter(|(ordinal, position)| is_within(*ordinal) && self.spans.contains(*position))
            .collect();
        let count = u64::from(committed.count());
        let share = |ordinal: u64| share_of(bytes, ordinal - first, ordinal - first + 1, count);
        let bytes = found.iter().map(|(ordinal, _)| share(*ordinal)).sum();
        (SpanSet::from_positions(committed.len(), found.into_iter().map(|(_, position)| position)), bytes)
    }

    /// The committed route: first ordinal, bytes and positions, on which ordinals are counted.
    pub(crate) fn committed(&self) -> (u64, u32, &SpanSet) {
        match &self.whole {
            Some(route) => (route.ordinal, route.bytes, &route.spans),
            None => (self.ordinal, self.bytes, &self.spans),
        }
    }
}

/// The bytes of the ranks `start..end` of a route of `count` spans and `bytes` bytes. The shares of any
/// partition add up to `bytes` exactly.
pub(crate) fn share_of(bytes: u32, start: u64, end: u64, count: u64) -> u64 {
    let upto = |rank: u64| u64::from(bytes) * rank.min(count) / count.max(1);
    upto(end).saturating_sub(upto(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredRoute {
        StoredRoute {
            slot: 3,
            projection: Projection::PRIVACY,
            ordinal: 100,
            bytes: 103,
            spans: SpanSet::from_positions(10, [1, 2, 5, 7, 9]),
        }
    }

    #[test]
    fn shares_of_a_partition_add_up() {
        for cut in 0..=7 {
            assert_eq!(share_of(1001, 0, cut, 7) + share_of(1001, cut, 7, 7), 1001);
        }
    }

    #[test]
    fn the_rest_of_a_route_keeps_ordinals_of_the_whole() {
        let rest = EntryRoute::rest(stored(), &[(1, 2), (3, 5)]);
        assert_eq!(rest.spans, SpanSet::from_positions(10, [2, 7, 9]));
        assert_eq!(rest.ordinal, 101);
        assert_eq!(u64::from(rest.bytes), share_of(103, 1, 2, 5) + share_of(103, 3, 5, 5));
        assert_eq!(rest.committed(), (100, 103, &SpanSet::from_positions(10, [1, 2, 5, 7, 9])));
    }

    #[test]
    fn numbers_are_those_of_the_committed_route_whatever_is_left() {
        let whole = EntryRoute::whole(stored());
        let rest = EntryRoute::rest(stored(), &[(1, 2), (3, 5)]);
        let some = SpanSet::from_positions(10, [2, 7, 9]);
        for route in [&whole, &rest] {
            assert_eq!(route.ordinals(&some), [101..102, 103..105]);
            assert_eq!(route.within(&[101..102, 104..200]).0, SpanSet::from_positions(10, [2, 9]));
        }
        assert_eq!(whole.ordinals(&whole.spans), std::slice::from_ref(&(100..105)));
        assert_eq!(whole.within(std::slice::from_ref(&(0..200))), (whole.spans.clone(), 103));
        assert_eq!(rest.within(std::slice::from_ref(&(100..101))), (SpanSet::none(10), 0));
    }

    #[test]
    fn nothing_settled_is_the_whole_route() {
        let rest = EntryRoute::rest(stored(), &[(0, 5)]);
        assert_eq!((rest.ordinal, rest.bytes), (100, 103));
        assert_eq!(rest.spans.count(), 5);
    }
}
