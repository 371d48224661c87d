//! The index of a sealed segment: the routing of its records, and for each slot the records that concern it.
//!
//! Recovery rebuilds what is pending from one sequential read per wanted segment; a reader that lags finds its
//! next record by slot.
use std::collections::BTreeMap;

use crate::codec::{Cursor, put_sized, put_varint};
use crate::format::{ALIGN, HEADER_PAGE, RecordHeader, StoredRoute, read_routing};
use crate::types::{Sequence, Slot};

const INDEX_VERSION: u8 = 1;
/// At most this many bytes per record, and per route, besides the repeated routing.
const RECORD_MOST: u64 = 64;
const ROUTE_MOST: u64 = 48;
/// Version, counts.
const FIXED_MOST: u64 = 32;

/// Grows with the segment; what it will take at most is kept free at the segment's end.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    table: Vec<u8>,
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

/// One record with routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) offset: u64,
    pub(crate) sequence: Sequence,
    pub(crate) received_unix_nano: u64,
    pub(crate) meta_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) spans: u32,
    pub(crate) workspace: [u8; 16],
    pub(crate) routes: Vec<StoredRoute>,
}

/// The records of one slot, as positions in `Index::records`, and the ordinals they span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotIndex {
    pub(crate) slot: Slot,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) records: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) records: Vec<Indexed>,
    pub(crate) slots: Vec<SlotIndex>,
}

impl IndexBuilder {
    /// Upper bound of the index's bytes after one more record with this routing.
    pub(crate) fn most_with(&self, routing_len: usize, routes: usize) -> u64 {
        FIXED_MOST + self.most + RECORD_MOST + routing_len as u64 + ROUTE_MOST * routes as u64
    }

    /// A record without routes needs no place in the index.
    pub(crate) fn push(
        &mut self,
        offset: u64,
        header: &RecordHeader,
        routing: &[u8],
        routes: &[StoredRoute],
    ) {
        if routes.is_empty() {
            return;
        }
        self.most += RECORD_MOST + routing.len() as u64 + ROUTE_MOST * routes.len() as u64;
        put_varint(&mut self.table, (offset - self.last_offset) / ALIGN);
        self.last_offset = offset;
        put_varint(&mut self.table, header.sequence);
        put_varint(&mut self.table, header.received_unix_nano);
        put_varint(&mut self.table, u64::from(header.meta_len));
        put_varint(&mut self.table, u64::from(header.payload_len));
        put_varint(&mut self.table, u64::from(header.spans));
        put_sized(&mut self.table, routing);
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
}

impl Index {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Index> {
        let mut c = Cursor::new(bytes);
        if c.u8()? != INDEX_VERSION {
            return None;
        }
        let records = c.varint()?;
        let mut table = Cursor::new(c.sized()?);
        let mut index = Index::default();
        let mut offset = 0u64;
        for _ in 0..records {
            offset = offset.checked_add(table.varint()?.checked_mul(ALIGN)?)?;
            let (sequence, received_unix_nano) = (table.varint()?, table.varint()?);
            let (meta_len, payload_len, spans) = (table.varint32()?, table.varint32()?, table.varint32()?);
            let (workspace, _, routes) = read_routing(&mut Cursor::new(table.sized()?), spans)?;
            if offset < HEADER_PAGE {
                return None;
            }
            index.records.push(Indexed {
                offset,
                sequence,
                received_unix_nano,
                meta_len,
                payload_len,
                spans,
                workspace,
                routes,
            });
        }
        for _ in 0..c.count()? {
            let (slot, first) = (c.varint32()?, c.varint()?);
            let end = first.checked_add(c.varint()?)?;
            let count = c.count()?;
            let mut at = 0u64;
            let mut positions = Vec::with_capacity(count);
            for _ in 0..count {
                at = at.checked_add(c.varint()?)?;
                let position = u32::try_from(at).ok()?;
                if position as usize >= index.records.len() {
                    return None;
                }
                positions.push(position);
            }
            index.slots.push(SlotIndex { slot, first, end, records: positions });
        }
        Some(index)
    }
}
