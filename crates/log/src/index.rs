//! The index of a segment: the routing of its records, and for each slot the records that concern it.
//!
//! A reader that lags finds its next records by slot, in the index being built as well as in a sealed one, and reads
//! nothing else of the segment.
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::codec::{Cursor, put_sized, put_varint};
use crate::format::{
    ALIGN, HEADER_PAGE, Meta, RecordHeader, StoredRoute, read_routes, read_routes_of, record_len,
};
use crate::types::{Sequence, Slot};

const INDEX_VERSION: u8 = 1;
/// At most this many bytes per record, and per route, besides the repeated routing.
const RECORD_MOST: u64 = 64;
const ROUTE_MOST: u64 = 48;
/// Version, counts.
const FIXED_MOST: u64 = 32;
/// Every so many records a place is remembered from which the table can be read.
const MARK_EVERY: u64 = 32;

/// Grows with the segment; what it will take at most is kept free at the segment's end.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    table: Vec<u8>,
    marks: Vec<Mark>,
    records: u64,
    last_offset: u64,
    slots: BTreeMap<Slot, SlotList>,
    most: u64,
}

#[derive(Debug)]
struct SlotList {
    first: u64,
    end: u64,
    count: u64,
    last: u64,
    records: Vec<u8>,
}

/// A place in the table, and the offset of the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at: usize,
    offset: u64,
}

/// One record, as far as one slot is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) offset: u64,
    pub(crate) sequence: Sequence,
    pub(crate) received_unix_nano: u64,
    pub(crate) meta_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) spans: u32,
    pub(crate) workspace: [u8; 16],
    /// The slot's routes; usually one.
    pub(crate) routes: Vec<StoredRoute>,
    pub(crate) via: Bytes,
}

/// One record, as a copy of it is judged.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) offset: u64,
    /// Of the record in all.
    pub(crate) bytes: u64,
    /// What it takes in an index at most.
    pub(crate) index_most: u64,
    /// Of the record as it was committed.
    pub(crate) spans: u32,
    payload_len: u32,
    pub(crate) routes: Vec<StoredRoute>,
}

impl Listed {
    /// About how many bytes a copy of so many of its spans takes.
    pub(crate) fn copied(&self, spans: u32) -> u64 {
        let payload = u64::from(self.payload_len);
        let share = payload * u64::from(spans.min(self.spans)) / u64::from(self.spans.max(1));
        self.bytes - payload + share + u64::from(self.spans / 8) + ALIGN
    }
}

/// The index of a sealed segment, still encoded: it is read where it is asked.
#[derive(Debug)]
pub(crate) struct SealedIndex {
    bytes: Vec<u8>,
    table: Range<usize>,
    marks: Vec<Mark>,
    records: u64,
    slots: BTreeMap<Slot, SealedList>,
}

#[derive(Debug)]
struct SealedList {
    first: u64,
    end: u64,
    count: usize,
    records: Range<usize>,
}

/// Encoded records and where reading may begin.
struct Table<'a> {
    bytes: &'a [u8],
    marks: &'a [Mark],
    records: u64,
}

/// The records of one slot: how many, and their positions as deltas.
struct List<'a> {
    count: usize,
    deltas: &'a [u8],
}

/// What a record takes at most.
fn most_of(routing_len: usize, routes: usize) -> u64 {
    RECORD_MOST + routing_len as u64 + ROUTE_MOST * routes as u64
}

impl IndexBuilder {
    /// Upper bound of the index's bytes after one more record with this routing.
    pub(crate) fn most_with(&self, routing_len: usize, routes: usize) -> u64 {
        FIXED_MOST + self.most + most_of(routing_len, routes)
    }

    /// `routing` is the first part of the encoded meta. A record without routes needs no place in the index.
    pub(crate) fn push(&mut self, offset: u64, header: &RecordHeader, routing: &[u8], meta: &Meta) {
        let (routes, via) = (&meta.routes, &meta.origin.via);
        if routes.is_empty() {
            return;
        }
        let len = routing.len() + via.len();
        self.most += most_of(len, routes.len());
        if self.records.is_multiple_of(MARK_EVERY) {
            self.marks.push(Mark { at: self.table.len(), offset: self.last_offset });
        }
        put_varint(&mut self.table, (offset - self.last_offset) / ALIGN);
        self.last_offset = offset;
        put_varint(&mut self.table, header.sequence);
        put_varint(&mut self.table, header.received_unix_nano);
        put_varint(&mut self.table, u64::from(header.meta_len));
        put_varint(&mut self.table, u64::from(header.payload_len));
        put_varint(&mut self.table, u64::from(header.spans));
        put_varint(&mut self.table, len as u64);
        self.table.extend_from_slice(routing);
        self.table.extend_from_slice(via);
        for route in routes {
            let end = route.ordinal + u64::from(route.spans.count());
            let list = self.slots.entry(route.slot).or_insert_with(|| SlotList {
                first: route.ordinal,
                end,
                count: 0,
                last: 0,
                records: Vec::new(),
            });
            put_varint(&mut list.records, self.records - list.last);
            (list.last, list.end, list.count) = (self.records, end, list.count + 1);
        }
        self.records += 1;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![INDEX_VERSION];
        put_varint(&mut out, self.records);
        put_sized(&mut out, &self.table);
        put_varint(&mut out, self.slots.len() as u64);
        for (slot, list) in &self.slots {
            put_varint(&mut out, u64::from(*slot));
            put_varint(&mut out, list.first);
            put_varint(&mut out, list.end.saturating_sub(list.first));
            put_varint(&mut out, list.count);
            out.extend_from_slice(&list.records);
        }
        out
    }

    /// See [`SealedIndex::read`].
    pub(crate) fn read(&self, slot: Slot, from: u64, limit: u64, max: usize) -> Option<Vec<Indexed>> {
        let table = Table { bytes: &self.table, marks: &self.marks, records: self.records };
        let Some(list) = self.slots.get(&slot) else { return Some(Vec::new()) };
        table.read(&List { count: list.count as usize, deltas: &list.records }, slot, from, limit, max)
    }
}

impl SealedIndex {
    pub(crate) fn decode(bytes: Vec<u8>) -> Option<SealedIndex> {
        let mut c = Cursor::new(&bytes);
        if c.u8()? != INDEX_VERSION {
            return None;
        }
        let records = c.varint()?;
        let sized = c.sized()?;
        let table_end = bytes.len() - c.rest().len();
        let table = table_end - sized.len()..table_end;
        let mut marks = Vec::new();
        let mut walk = Cursor::new(sized);
        let mut offset = 0;
        for n in 0..records {
            if n.is_multiple_of(MARK_EVERY) {
                marks.push(Mark { at: sized.len() - walk.rest().len(), offset });
            }
            offset = Row::read(&mut walk, offset)?.offset;
        }
        let mut slots = BTreeMap::new();
        for _ in 0..c.count()? {
            let (slot, first) = (c.varint32()?, c.varint()?);
            let end = first.checked_add(c.varint()?)?;
            let count = c.count()?;
            let start = bytes.len() - c.rest().len();
            let mut position = 0u64;
            for _ in 0..count {
                position = position.checked_add(c.varint()?)?;
            }
            if position >= records {
                return None;
            }
            let records = start..bytes.len() - c.rest().len();
            slots.insert(slot, SealedList { first, end, count, records });
        }
        Some(SealedIndex { table, marks, records, slots, bytes })
    }

    /// Bytes it takes in memory, about.
    pub(crate) fn cost(&self) -> u64 {
        let (mark, list) = (size_of::<Mark>(), size_of::<SealedList>() + 2 * size_of::<Slot>());
        (self.bytes.len() + self.marks.len() * mark + self.slots.len() * list) as u64
    }

    /// Every slot with its first ordinal and the one behind its last.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, u64, u64)> + '_ {
        self.slots.iter().map(|(slot, list)| (*slot, list.first, list.end))
    }

    /// Offset, meta length and payload length of the record with this sequence; records are in their order.
    pub(crate) fn find(&self, sequence: Sequence) -> Option<(u64, u32, u32)> {
        let table = Cursor::new(self.bytes.get(self.table.clone())?);
        let row_at = |mark: &Mark| {
            let mut c = Cursor::new(table.rest().get(mark.at..)?);
            let row = Row::read(&mut c, mark.offset)?;
            Some((row, c))
        };
        let first =
            self.marks.partition_point(|m| row_at(m).is_some_and(|(row, _)| row.sequence <= sequence));
        let (mut row, mut c) = row_at(self.marks.get(first.checked_sub(1)?)?)?;
        while row.sequence < sequence && !c.is_empty() {
            row = Row::read(&mut c, row.offset)?;
        }
        (row.sequence == sequence).then_some((row.offset, row.meta_len, row.payload_len))
    }

    /// Every record in its order; `None` where the index contradicts itself.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Option<Listed>> + '_ {
        let mut c = Cursor::new(self.bytes.get(self.table.clone()).unwrap_or_default());
        let mut offset = 0;
        (0..self.records).map(move |_| {
            let row = Row::read(&mut c, offset)?;
            offset = row.offset;
            let routes = read_routes(&mut Cursor::new(row.routing), row.spans)?;
            let bytes = record_len(row.meta_len, row.payload_len);
            let index_most = most_of(row.routing.len(), routes.len());
            let (spans, payload_len) = (row.spans, row.payload_len);
            Some(Listed { offset, bytes, index_most, spans, payload_len, routes })
        })
    }

    /// The slot's records that hold something of `from..limit`, in order, at most `max`. `None`: the index
    /// contradicts itself.
    pub(crate) fn read(&self, slot: Slot, from: u64, limit: u64, max: usize) -> Option<Vec<Indexed>> {
        let table =
            Table { bytes: self.bytes.get(self.table.clone())?, marks: &self.marks, records: self.records };
        let Some(list) = self.slots.get(&slot) else { return Some(Vec::new()) };
        let list = List { count: list.count, deltas: self.bytes.get(list.records.clone())? };
        table.read(&list, slot, from, limit, max)
    }
}

/// One record's line of the table.
struct Row<'a> {
    offset: u64,
    sequence: Sequence,
    received_unix_nano: u64,
    meta_len: u32,
    payload_len: u32,
    spans: u32,
    routing: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(c: &mut Cursor<'a>, last_offset: u64) -> Option<Row<'a>> {
        let offset = last_offset.checked_add(c.varint()?.checked_mul(ALIGN)?)?;
        if offset < HEADER_PAGE {
            return None;
        }
        Some(Row {
            offset,
            sequence: c.varint()?,
            received_unix_nano: c.varint()?,
            meta_len: c.varint32()?,
            payload_len: c.varint32()?,
            spans: c.varint32()?,
            routing: c.sized()?,
        })
    }

    fn for_slot(&self, slot: Slot) -> Option<Indexed> {
        let mut routing = Cursor::new(self.routing);
        let (workspace, routes) = read_routes_of(&mut routing, self.spans, slot)?;
        Some(Indexed {
            offset: self.offset,
            sequence: self.sequence,
            received_unix_nano: self.received_unix_nano,
            meta_len: self.meta_len,
            payload_len: self.payload_len,
            spans: self.spans,
            workspace,
            routes,
            via: Bytes::copy_from_slice(routing.rest()),
        })
    }
}

impl Indexed {
    /// The ordinal of its first span, and the one behind its last.
    pub(crate) fn ordinals(&self) -> (u64, u64) {
        let first = self.routes.first().map_or(0, |r| r.ordinal);
        (first, self.routes.last().map_or(first, StoredRoute::end))
    }
}

impl Table<'_> {
    fn record(&self, n: u64, slot: Slot) -> Option<Indexed> {
        if n >= self.records {
            return None;
        }
        let mark = self.marks.get(usize::try_from(n / MARK_EVERY).ok()?)?;
        let mut c = Cursor::new(self.bytes.get(mark.at..)?);
        let mut row = Row::read(&mut c, mark.offset)?;
        for _ in 0..n % MARK_EVERY {
            row = Row::read(&mut c, row.offset)?;
        }
        row.for_slot(slot)
    }

    fn read(&self, list: &List<'_>, slot: Slot, from: u64, limit: u64, max: usize) -> Option<Vec<Indexed>> {
        let mut deltas = Cursor::new(list.deltas);
        let mut positions = Vec::with_capacity(list.count);
        let mut at = 0u64;
        for _ in 0..list.count {
            at = at.checked_add(deltas.varint()?)?;
            if positions.last() != Some(&at) {
                positions.push(at);
            }
        }
        // The first record that reaches beyond `from`.
        let (mut low, mut high) = (0, positions.len());
        while low < high {
            let middle = low.midpoint(high);
            let (_, end) = self.record(*positions.get(middle)?, slot)?.ordinals();
            if end <= from { low = middle + 1 } else { high = middle }
        }
        let mut found = Vec::new();
        for position in positions.get(low..)?.iter().take(max) {
            let record = self.record(*position, slot)?;
            if record.ordinals().0 >= limit {
                break;
            }
            found.push(record);
        }
        Some(found)
    }
}
