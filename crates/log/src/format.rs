//! Byte layouts of a segment: header page, seal, records (see the crate documentation). Pure.
use bytes::Bytes;
use tracecast_otlp::SpanSet;

use crate::codec::{Cursor, put_at, put_sized, put_varint};
use crate::types::{Origin, Projection, Sequence, Skip, SkipReason, Slot};

/// Format version of segments, journal, checkpoint and dead letters. A newer one is refused.
pub(crate) const VERSION: u16 = 1;
/// That of carry segments, whose payloads may hold less than their records speak of.
pub(crate) const CARRY_VERSION: u16 = 2;
/// The header page: header at 0, seal at 2048, records from here on.
pub(crate) const HEADER_PAGE: u64 = 4096;
pub(crate) const SEAL_AT: usize = 2048;
pub(crate) const RECORD_HEADER: usize = 72;
/// Records start at multiples of this.
pub(crate) const ALIGN: u64 = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"TCASTSEG";
const SEAL_MAGIC: [u8; 8] = *b"TCASTEND";
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"tcR\xF1";
/// Bytes of a seal; that of a carry segment has eight more.
const SEAL_LEN: usize = 68;
const KIND_LOG: u8 = 1;
const KIND_CARRY: u8 = 2;
/// Flag of a record that was copied from an earlier segment.
pub(crate) const CARRIED: u16 = 2;
/// Slot numbers stay below this: they are indexes into tables.
pub(crate) const SLOT_MAX: Slot = 1 << 20;
/// Predecessors a header can name.
pub(crate) const ENDS_MAX: usize = 96;

/// One life of a segment file: a recycled file keeps old records, told apart by this. The nonce is random, so
/// that bytes inside a payload cannot pose as a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) epoch: u32,
    pub(crate) nonce: u32,
}

/// What a segment is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) life: Life,
    /// Its records are copies of what was still wanted of earlier segments.
    pub(crate) is_carry: bool,
    pub(crate) first_sequence: Sequence,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) created_unix_nano: u64,
    /// Segments whose seal is not known to be on disk, and where they end: records beyond were never answered.
    pub(crate) ends: Vec<(u64, u64)>,
}

/// Written when a segment gets no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) life: Life,
    /// Of a carry segment: the last of the segments it stands for; the first has its own number.
    pub(crate) carry: Option<u64>,
    /// Of a carry segment: content that the others held was left out.
    pub(crate) is_narrowed: bool,
    pub(crate) first_sequence: Sequence,
    /// The last sequence; below `first_sequence` if there is no record.
    pub(crate) last_sequence: Sequence,
    pub(crate) records: u64,
    /// Where the records end and the index record begins.
    pub(crate) end: u64,
    /// Bytes of the index.
    pub(crate) index_len: u32,
}

/// What a header page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// All zero: never used.
    Fresh,
    /// Neither header nor seal can be understood.
    Unknown,
    /// Written by a newer version.
    Newer(u16),
    /// At least one of the two is good.
    Known { header: Option<SegmentHeader>, seal: Option<Seal> },
}

impl SegmentHeader {
    /// The whole header page, without a seal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_PAGE as usize);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&[0; 4]);
        let (version, kind) = if self.is_carry { (CARRY_VERSION, KIND_CARRY) } else { (VERSION, KIND_LOG) };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[kind, 0]); // kind, flags
        out.extend_from_slice(&self.life.number.to_le_bytes());
        out.extend_from_slice(&self.life.epoch.to_le_bytes());
        out.extend_from_slice(&self.life.nonce.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.created_unix_nano.to_le_bytes());
        // The newest, if there are more.
        let ends = self.ends.get(self.ends.len().saturating_sub(ENDS_MAX)..).unwrap_or_default();
        out.extend_from_slice(&(ends.len() as u16).to_le_bytes());
        for (number, end) in ends {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.resize(SEAL_AT, 0);
        let crc = crc32c::crc32c(out.get(12..).unwrap_or_default());
        put_at(&mut out, 8, &crc.to_le_bytes());
        out.resize(HEADER_PAGE as usize, 0);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Result<SegmentHeader, u16>> {
        let mut c = Cursor::new(bytes);
        if c.array::<8>()? != SEGMENT_MAGIC || c.u32()? != crc32c::crc32c(c.rest()) {
            return None;
        }
        let version = c.u16()?;
        if version > CARRY_VERSION {
            return Some(Err(version));
        }
        let (is_carry, _flags) = (c.u8()? == KIND_CARRY, c.u8()?);
        let life = read_life(&mut c)?;
        let (first_sequence, bytes, created_unix_nano) = (c.u64()?, c.u64()?, c.u64()?);
        let count = c.u16()?;
        let ends = (0..count).map(|_| Some((c.u64()?, c.u64()?))).collect::<Option<Vec<_>>>()?;
        Some(Ok(SegmentHeader { life, is_carry, first_sequence, bytes, created_unix_nano, ends }))
    }
}

fn read_life(c: &mut Cursor<'_>) -> Option<Life> {
    Some(Life { number: c.u64()?, epoch: c.u32()?, nonce: c.u32()? })
}

impl Seal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        out.extend_from_slice(&SEAL_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let flags = u16::from(self.carry.is_some()) | u16::from(self.is_narrowed) << 1;
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.life.number.to_le_bytes());
        out.extend_from_slice(&self.life.epoch.to_le_bytes());
        out.extend_from_slice(&self.life.nonce.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.last_sequence.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.index_len.to_le_bytes());
        out.extend(self.carry.iter().flat_map(|last| last.to_le_bytes()));
        let crc = crc32c::crc32c(out.get(12..).unwrap_or_default());
        put_at(&mut out, 8, &crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Seal> {
        let is_carry = bytes.get(14)? & 1 != 0;
        let mut c = Cursor::new(bytes.get(..if is_carry { SEAL_LEN + 8 } else { SEAL_LEN })?);
        if c.array::<8>()? != SEAL_MAGIC || c.u32()? != crc32c::crc32c(c.rest()) || c.u16()? > VERSION {
            return None;
        }
        let flags = c.u16()?;
        Some(Seal {
            is_narrowed: flags & 2 != 0,
            life: read_life(&mut c)?,
            first_sequence: c.u64()?,
            last_sequence: c.u64()?,
            records: c.u64()?,
            end: c.u64()?,
            index_len: c.u32()?,
            carry: if is_carry { Some(c.u64()?) } else { None },
        })
    }
}

impl Page {
    pub(crate) fn decode(page: &[u8]) -> Page {
        if page.iter().all(|b| *b == 0) {
            return Page::Fresh;
        }
        let header = match page.get(..SEAL_AT).and_then(SegmentHeader::decode) {
            Some(Err(version)) => return Page::Newer(version),
            Some(Ok(header)) => Some(header),
            None => None,
        };
        let seal = page.get(SEAL_AT..).and_then(Seal::decode);
        // A seal of an earlier life says nothing about this one.
        let seal = seal.filter(|s| header.as_ref().is_none_or(|h| h.life == s.life));
        if header.is_none() && seal.is_none() { Page::Unknown } else { Page::Known { header, seal } }
    }
}

/// What kind of record this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Record,
    /// The index of a sealed segment.
    Index,
    /// Something a later version wrote.
    Other(u8),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Record => 1,
            Kind::Index => 2,
            Kind::Other(code) => code,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) payload_crc: u32,
    pub(crate) payload_len: u32,
    pub(crate) meta_len: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    pub(crate) sequence: Sequence,
    pub(crate) received_unix_nano: u64,
    pub(crate) life: Life,
    /// Records before this offset had been answered when this one was written: damage there is a loss, damage
    /// above is a commit that did not finish.
    pub(crate) answered: u64,
    pub(crate) accepted: u32,
    /// Spans of the payload, as it was committed.
    pub(crate) spans: u32,
}

impl RecordHeader {
    /// Bytes of the record, padding included.
    pub(crate) fn total_len(&self) -> u64 {
        record_len(self.meta_len, self.payload_len)
    }

    /// Fills in the header in front of the meta; `out[at..]` is `RECORD_HEADER` bytes of room and the meta.
    pub(crate) fn encode_before_meta(&self, out: &mut [u8], at: usize) {
        let mut header = Vec::with_capacity(RECORD_HEADER);
        header.extend_from_slice(&RECORD_MAGIC);
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&self.payload_crc.to_le_bytes());
        header.extend_from_slice(&self.payload_len.to_le_bytes());
        header.extend_from_slice(&self.meta_len.to_le_bytes());
        header.extend_from_slice(&[self.kind.code(), VERSION as u8]);
        header.extend_from_slice(&self.flags.to_le_bytes());
        header.extend_from_slice(&self.sequence.to_le_bytes());
        header.extend_from_slice(&self.received_unix_nano.to_le_bytes());
        header.extend_from_slice(&self.life.number.to_le_bytes());
        header.extend_from_slice(&self.life.epoch.to_le_bytes());
        header.extend_from_slice(&self.life.nonce.to_le_bytes());
        header.extend_from_slice(&self.answered.to_le_bytes());
        header.extend_from_slice(&self.accepted.to_le_bytes());
        header.extend_from_slice(&self.spans.to_le_bytes());
        put_at(out, at, &header);
        let crc = crc32c::crc32c(out.get(at + 8..).unwrap_or_default());
        put_at(out, at + 4, &crc.to_le_bytes());
    }

    /// The header and the checksum it claims; the lengths are not to be trusted before `is_intact`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(RecordHeader, u32)> {
        let mut c = Cursor::new(bytes.get(..RECORD_HEADER)?);
        if c.array::<4>()? != RECORD_MAGIC {
            return None;
        }
        let crc = c.u32()?;
        let (payload_crc, payload_len, meta_len) = (c.u32()?, c.u32()?, c.u32()?);
        let kind = match c.u8()? {
            1 => Kind::Record,
            2 => Kind::Index,
            other => Kind::Other(other),
        };
        let (_version, flags) = (c.u8()?, c.u16()?);
        let (sequence, received_unix_nano) = (c.u64()?, c.u64()?);
        let life = read_life(&mut c)?;
        let header = RecordHeader {
            payload_crc,
            payload_len,
            meta_len,
            kind,
            flags,
            sequence,
            received_unix_nano,
            life,
            answered: c.u64()?,
            accepted: c.u32()?,
            spans: c.u32()?,
        };
        Some((header, crc))
    }
}

/// Whether header and meta match the checksum; `bytes` starts at the record.
pub(crate) fn is_intact(bytes: &[u8], meta_len: u32, crc: u32) -> bool {
    let end = RECORD_HEADER + meta_len as usize;
    bytes.get(8..end).is_some_and(|covered| crc32c::crc32c(covered) == crc)
}

pub(crate) fn record_len(meta_len: u32, payload_len: u32) -> u64 {
    (RECORD_HEADER as u64 + u64::from(meta_len) + u64::from(payload_len)).next_multiple_of(ALIGN)
}

/// A route as stored: with the destination's own number of its first span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRoute {
    pub(crate) slot: Slot,
    pub(crate) projection: Projection,
    pub(crate) ordinal: u64,
    pub(crate) bytes: u32,
    pub(crate) spans: SpanSet,
}

/// Bit of a stored projection: the spans were refused at arrival, because the log was full; they are final.
const REFUSED: u8 = 0x80;

impl StoredRoute {
    pub(crate) fn refuse(&mut self) {
        self.projection.0 |= REFUSED;
    }

    /// The spans were refused at arrival.
    pub(crate) fn is_refused(&self) -> bool {
        self.projection.0 & REFUSED != 0
    }

    /// The ordinal behind its last span's.
    pub(crate) fn end(&self) -> u64 {
        self.ordinal + u64::from(self.spans.count())
    }
}

/// The routing of a record, between header and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) workspace: [u8; 16],
    pub(crate) config_generation: u64,
    pub(crate) routes: Vec<StoredRoute>,
    pub(crate) skips: Vec<Skip>,
    pub(crate) trace_keys: Bytes,
    pub(crate) origin: Origin,
    /// Of a carried record: the positions whose spans the payload still has, if not all of them.
    pub(crate) kept: Option<SpanSet>,
}

impl Meta {
    /// Appends the meta; answers the length of its first part (all that delivery needs), which the index repeats.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&self.workspace);
        put_varint(out, self.config_generation);
        put_varint(out, self.routes.len() as u64);
        for route in &self.routes {
            put_varint(out, u64::from(route.slot));
            out.push(route.projection.0);
            put_varint(out, route.ordinal);
            put_varint(out, u64::from(route.bytes));
            route.spans.encode(out);
        }
        let routing_len = out.len() - start;
        put_varint(out, self.skips.len() as u64);
        for skip in &self.skips {
            put_varint(out, u64::from(skip.slot));
            out.push(skip.reason as u8);
            put_varint(out, u64::from(skip.spans));
        }
        put_sized(out, &self.trace_keys);
        if self.origin != Origin::default() || self.kept.is_some() {
            put_sized(out, &self.origin.via);
            put_sized(out, &self.origin.sender);
        }
        if let Some(kept) = &self.kept {
            kept.encode(out);
        }
        routing_len
    }

    /// Reads a meta whose payload has `spans` spans.
    pub(crate) fn decode(bytes: &[u8], spans: u32) -> Option<Meta> {
        let mut c = Cursor::new(bytes);
        let (workspace, config_generation, routes) = read_routing(&mut c, spans)?;
        let count = c.count()?;
        let mut skips = Vec::with_capacity(count);
        for _ in 0..count {
            let slot = c.varint32().filter(|s| *s < SLOT_MAX)?;
            let reason = SkipReason::from_code(c.u8()?)?;
            skips.push(Skip { slot, reason, spans: c.varint32()? });
        }
        let trace_keys = Bytes::copy_from_slice(c.sized()?);
        let mut origin = Origin::default();
        if !c.is_empty() {
            origin.via = Bytes::copy_from_slice(c.sized()?);
            origin.sender = Bytes::copy_from_slice(c.sized()?);
        }
        let kept = match c.is_empty() {
            true => None,
            false => Some(SpanSet::decode(c.rest())?.0).filter(|kept| kept.len() == spans),
        };
        Some(Meta { workspace, config_generation, routes, skips, trace_keys, origin, kept })
    }
}

/// Workspace, config generation and routes: the first part of a meta, also found in the index.
fn read_routing(c: &mut Cursor<'_>, spans: u32) -> Option<([u8; 16], u64, Vec<StoredRoute>)> {
    let (workspace, config_generation, count) = (c.array()?, c.varint()?, c.count()?);
    let routes = (0..count).map(|_| read_route(c, spans)).collect::<Option<Vec<_>>>()?;
    Some((workspace, config_generation, routes))
}

/// The routes alone.
pub(crate) fn read_routes(c: &mut Cursor<'_>, spans: u32) -> Option<Vec<StoredRoute>> {
    read_routing(c, spans).map(|(_, _, routes)| routes)
}

/// The same, for who asks for one slot's routes only.
pub(crate) fn read_routes_of(
    c: &mut Cursor<'_>,
    spans: u32,
    slot: Slot,
) -> Option<([u8; 16], Vec<StoredRoute>)> {
    let (workspace, _config_generation, count) = (c.array()?, c.varint()?, c.count()?);
    let mut routes = Vec::new();
    for _ in 0..count {
        let route = read_route(c, spans)?;
        if route.slot == slot {
            routes.push(route);
        }
    }
    Some((workspace, routes))
}

fn read_route(c: &mut Cursor<'_>, spans: u32) -> Option<StoredRoute> {
    let slot = c.varint32().filter(|s| *s < SLOT_MAX)?;
    let projection = Projection(c.u8()?);
    let (ordinal, bytes) = (c.varint()?, c.varint32()?);
    let (set, read) = SpanSet::decode(c.rest())?;
    c.take(read)?;
    // Ordinals are added to below: keep far from the end of the number range.
    if set.len() != spans || set.is_empty() || ordinal > u64::MAX / 2 {
        return None;
    }
    Some(StoredRoute { slot, projection, ordinal, bytes, spans: set })
}
