//! Carry-over: what is still wanted of old segments is copied into one file, which takes their place.
//!
//! Neighbours become one segment with the number of the first of them, so numbers, sequences and ordinals stay in
//! order, and an entry that knows its old segment finds the new one. Of a record that somebody wants something of the
//! spans are copied that are still wanted, under the positions they have, and without content where only those want
//! them that get none; the rest is left behind, as are records that nobody wants. Done when it gives at least one file
//! back: below half.
//!
//! Nothing of it counts before a checkpoint names the new file instead of the old ones, which keep what they hold
//! until then. Afterwards those that hold content which was left out are removed: in the pool it would still be there.
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::disk::{Disk, DiskFile};
use crate::examine::{Found, read_index};
use crate::format::{ALIGN, HEADER_PAGE, Life, Meta, RECORD_HEADER, RecordHeader, SegmentHeader, is_intact};
use crate::index::IndexBuilder;
use crate::segment::{Active, Prepared, Staged};
use crate::segments::{Segment, Segments};
use crate::shared::{Inner, OnDisk};
use crate::types::LogError;
use crate::want::Want;
use crate::world;

/// Copied at once, so that the keeper's other work does not wait.
const STEP_BYTES: u64 = 1 << 20;
/// Records judged under one lock.
const JUDGED_AT_ONCE: usize = 512;
/// Segments that become one at most.
const SOURCES_MAX: usize = 256;
/// Indexes looked into before the keeper turns to something else.
const SURVEYS_MAX: usize = 16;

/// One copy under way.
pub(crate) struct Carry {
    /// The segments it takes the place of.
    numbers: Vec<u64>,
    /// The last one they stand for.
    last_number: u64,
    /// What is still to be copied, oldest first.
    sources: VecDeque<Source>,
    /// Those of the segments that hold content which the copy has left out.
    narrowed: HashSet<u64>,
    active: Active,
    staged: Staged,
}

/// A segment to be copied.
struct Source {
    number: u64,
    life: Life,
    file: Arc<DiskFile>,
    /// Records of which something was wanted when they were listed: offset and length.
    records: VecDeque<(u64, u64)>,
    /// Content was left out of a copy.
    is_narrowed: bool,
}

/// How a step ended.
pub(crate) enum Step {
    /// There is more to be copied.
    More(Box<Carry>),
    /// The new segment is on disk and in the place of these, which are to be given back once a checkpoint says so.
    Done(Vec<Segment>),
}

/// What a file has room for besides header page and the frame of its index.
fn room(segment_bytes: u64) -> u64 {
    segment_bytes - HEADER_PAGE - RECORD_HEADER as u64 - ALIGN - IndexBuilder::default().most_with(0, 0)
}

/// Neighbours worth a copy, oldest first, as far as is known: whose index was not looked into may hold little.
fn choose(segments: &Segments, segment_bytes: u64, may: impl Fn(&Segment) -> bool) -> Vec<u64> {
    // What is settled goes by itself.
    let held: Vec<(u64, &Segment)> = segments.iter().filter(|(_, s)| !s.is_settled()).collect();
    for from in 0..held.len() {
        let (mut copied, mut freed) = (0, 0);
        let mut chosen = Vec::new();
        for (number, segment) in held.iter().skip(from).take(SOURCES_MAX) {
            copied += about(segment);
            if !may(segment) || copied > room(segment_bytes) {
                break;
            }
            freed += segment.bytes;
            chosen.push(*number);
        }
        if freed >= 2 * segment_bytes {
            return chosen;
        }
    }
    Vec::new()
}

/// About how many bytes a copy would take: in proportion to what it would have taken when the index was looked into.
fn about(segment: &Segment) -> u64 {
    let Some((open, bytes)) = segment.surveyed else { return 0 };
    let now = u128::from(bytes) * u128::from(segment.open_spans()) / u128::from(open.max(1));
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// Looks for neighbours worth a copy among those that `may` be copied, and begins; `None` if there are none, or not
/// yet.
pub(crate) fn begin(
    inner: &Inner,
    on_disk: &OnDisk,
    may: impl Fn(&Segment) -> bool,
) -> Result<Option<Box<Carry>>, LogError> {
    let segment_bytes = inner.options.segment_bytes;
    let mut surveys = 0;
    loop {
        let numbers = choose(&inner.state().segments, segment_bytes, &may);
        if numbers.is_empty() {
            return Ok(None);
        }
        let mut sources = VecDeque::new();
        let mut bytes = 0;
        for number in &numbers {
            surveys += 1;
            let Some((source, copied)) = survey(inner, on_disk, *number) else { break };
            bytes += copied;
            sources.push_back(source);
            if bytes > room(segment_bytes) {
                break;
            }
        }
        if sources.len() == numbers.len() && bytes <= room(segment_bytes) {
            return start(inner, on_disk, sources);
        }
        if surveys >= SURVEYS_MAX {
            return Ok(None);
        }
    }
}

/// Looks into the index of a segment: what is to be copied, and how many bytes that takes. `None`: it cannot be read;
/// whoever wants something of it finds out.
fn survey(inner: &Inner, on_disk: &OnDisk, number: u64) -> Option<(Source, u64)> {
    let open = inner.state().segments.get(number).map_or(0, Segment::open_spans);
    let listed = list(inner, on_disk, number);
    let bytes = listed.as_ref().map_or(inner.options.segment_bytes, |(_, bytes)| *bytes);
    if let Some(segment) = inner.state().segments.get_mut(number) {
        segment.surveyed = Some((open, bytes));
    }
    listed
}

fn list(inner: &Inner, on_disk: &OnDisk, number: u64) -> Option<(Source, u64)> {
    let (file, life) = inner.state().segments.place(number)?;
    let loaded = on_disk.indexes.loaded(inner, on_disk, file, life).ok()?;
    let rows = loaded.index.as_ref()?.rows();
    let handle = on_disk.files.get(on_disk, file).ok()?;
    let mut source = Source { number, life, file: handle, records: VecDeque::new(), is_narrowed: false };
    let mut bytes = 0;
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let ledger = &inner.state().ledger;
        for row in rows.by_ref().take(JUDGED_AT_ONCE) {
            let row = row?;
            let want = Want::of(ledger, &row.routes, row.spans);
            if !want.spans.is_empty() {
                bytes += row.copied(want.spans.count()) + row.index_most;
                source.records.push_back((row.offset, row.bytes));
            }
        }
    }
    Some((source, bytes))
}

fn start(inner: &Inner, on_disk: &OnDisk, sources: VecDeque<Source>) -> Result<Option<Box<Carry>>, LogError> {
    let Some(first) = sources.front() else { return Ok(None) };
    let number = first.number;
    let Some(taken) = on_disk.pool.take_for_copy()? else { return Ok(None) };
    let header = SegmentHeader {
        life: Life { number, epoch: on_disk.epoch, nonce: world::entropy() as u32 },
        is_carry: true,
        first_sequence: 0,
        bytes: taken.bytes,
        created_unix_nano: world::unix_nano(),
        ends: Vec::new(),
    };
    let active = Active::new(taken.file, taken.handle, header);
    let numbers: Vec<u64> = sources.iter().map(|source| source.number).collect();
    let mut last_number = number;
    let mut state = inner.state();
    for number in &numbers {
        if let Some(segment) = state.segments.get_mut(*number) {
            segment.carrying = true;
            last_number = last_number.max(segment.last_number);
        }
    }
    drop(state);
    Ok(Some(Box::new(Carry {
        numbers,
        last_number,
        sources,
        narrowed: HashSet::new(),
        active,
        staged: Staged::default(),
    })))
}

impl Carry {
    /// Copies a little.
    pub(crate) fn step(mut self: Box<Self>, inner: &Inner, on_disk: &OnDisk) -> Result<Step, LogError> {
        let copied = match self.copy_some(inner) {
            Ok(ControlFlow::Continue(())) => return Ok(Step::More(self)),
            Ok(ControlFlow::Break(())) => self.seal(),
            Err(error) => Err(error),
        };
        match copied {
            Ok(()) => Ok(Step::Done(self.take_over(inner))),
            Err(error) => {
                self.abandon(inner, on_disk);
                Err(error)
            }
        }
    }

    /// Breaks off when nothing is left to be copied.
    fn copy_some(&mut self, inner: &Inner) -> Result<ControlFlow<()>, LogError> {
        let Some(source) = self.sources.front_mut() else { return Ok(ControlFlow::Break(())) };
        self.staged.clear();
        let mut chunk = Vec::new();
        let mut read = 0;
        while read < STEP_BYTES
            && let Some((offset, len)) = source.records.pop_front()
        {
            read += len;
            let copied = source.copy(inner, offset, len);
            let staged = copied.and_then(|copy| match copy {
                Some(copy) if self.active.stage(&mut self.staged, &copy) => Ok(Some(copy)),
                Some(_) => Err(source.file.error(std::io::Error::other("more is wanted of it than before"))),
                None => Ok(None),
            });
            match staged {
                Ok(copy) => chunk.extend(copy),
                Err(error) => {
                    // Not again before much less of it is wanted.
                    if let Some(segment) = inner.state().segments.get_mut(source.number) {
                        segment.surveyed = Some((segment.open_spans(), segment.bytes));
                    }
                    return Err(error);
                }
            }
        }
        if source.records.is_empty() {
            self.narrowed.extend(source.is_narrowed.then_some(source.number));
            self.sources.pop_front();
        }
        if !chunk.is_empty() {
            self.active.write(&self.staged)?;
            self.active.commit(&self.staged, &chunk);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Index and seal, all of it on disk.
    fn seal(&mut self) -> Result<(), LogError> {
        // If all that was wanted has ended meanwhile.
        self.active.write_header()?;
        let mut sealing = self.active.sealing(false);
        (sealing.seal.carry, sealing.seal.is_narrowed) = (Some(self.last_number), !self.narrowed.is_empty());
        sealing.seal().map(|_| ())
    }

    fn take_over(self, inner: &Inner) -> Vec<Segment> {
        let (file, life) = (self.active.file_number, self.active.life());
        let carried = Segment { bytes: self.active.header.bytes, ..Segment::sealed(file, life) };
        let used = self.active.at - HEADER_PAGE;
        let mut state = inner.state();
        let mut replaced = state.segments.replace(&self.numbers, carried);
        for segment in &mut replaced {
            segment.kept |= self.narrowed.contains(&segment.life.number);
        }
        state.activity.carried += replaced.len() as u64;
        if let Some(segment) = state.segments.get_mut(life.number) {
            segment.surveyed = Some((segment.open_spans(), used));
        }
        replaced
    }

    /// Leaves everything where it was.
    pub(crate) fn abandon(self, inner: &Inner, on_disk: &OnDisk) {
        on_disk.pool.give_back_last(self.active.file_number, self.active.header.bytes);
        let mut state = inner.state();
        for number in self.numbers {
            if let Some(segment) = state.segments.get_mut(number) {
                segment.carrying = false;
            }
        }
    }
}

impl Source {
    /// The record at `offset`; `None` if nobody wants anything of it any more.
    fn copy(&mut self, inner: &Inner, offset: u64, len: u64) -> Result<Option<Prepared>, LogError> {
        let damaged = || self.file.error(std::io::Error::other(format!("the record at {offset} is damaged")));
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| damaged())?];
        let read = self.file.read_at(&mut bytes, offset).map_err(|e| self.file.error(e))?;
        bytes.truncate(read);
        let (header, crc) = RecordHeader::decode(&bytes).ok_or_else(damaged)?;
        let body = RECORD_HEADER + header.meta_len as usize;
        let end = body + header.payload_len as usize;
        if header.life != self.life || !is_intact(&bytes, header.meta_len, crc) || end > bytes.len() {
            return Err(damaged());
        }
        let bytes = Bytes::from(bytes);
        let payload = bytes.slice(body..end);
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Err(damaged());
        }
        let meta = bytes.get(RECORD_HEADER..body).and_then(|meta| Meta::decode(meta, header.spans));
        let meta = meta.ok_or_else(damaged)?;
        let want = Want::of(&inner.state().ledger, &meta.routes, header.spans);
        if want.spans.is_empty() {
            return Ok(None);
        }
        self.is_narrowed |=
            inner.options.without_content.is_some() && want.is_without_content_of(&meta.routes);
        let there = meta.kept.clone().unwrap_or_else(|| SpanSet::all(header.spans));
        let whole = Payload::new(payload, there.count());
        let (payload, kept) = match want.part_of(&whole, &there, inner.options.without_content) {
            Some(part) if want.spans == there => (part, meta.kept),
            Some(part) => (part, Some(want.spans)),
            None => (whole, meta.kept),
        };
        Ok(Some(Prepared {
            sequence: header.sequence,
            received_unix_nano: header.received_unix_nano,
            accepted: header.accepted,
            meta: Meta { kept, ..meta },
            payload_crc: crc32c::crc32c(payload.bytes()),
            payload: Arc::new(payload),
        }))
    }
}

/// Without a checkpoint nobody says what took whose place: a copy that was finished does, and one that was not
/// if there is nothing else of its number.
pub(crate) fn doubled(disk: &Disk, segments: &[Found]) -> HashSet<Life> {
    let stands_for = |found: &Found| {
        let last = found.seal.and_then(|seal| seal.carry)?;
        let file = disk.open_read(&found.path).ok()?;
        read_index(&file, found).map(|_| (found.life.number, last))
    };
    let mut copies: Vec<(u64, u64, &Found)> = segments
        .iter()
        .filter(|found| found.is_carry)
        .map(|found| {
            let (first, last) = stands_for(found).unwrap_or((found.life.number, found.life.number));
            (first, last, found)
        })
        .collect();
    // Of copies of copies the one that stands for the most, and the newest of them.
    let created = |found: &Found| found.header.as_ref().map_or(0, |header| header.created_unix_nano);
    copies.sort_by_key(|(first, last, found)| {
        (std::cmp::Reverse(last - first), std::cmp::Reverse(created(found)))
    });
    let mut doubled = HashSet::new();
    for (first, last, copy) in copies {
        let others = || segments.iter().filter(|found| found.life != copy.life);
        if doubled.contains(&copy.life) {
            continue;
        }
        if stands_for(copy).is_some() {
            let replaced = others().filter(|found| (first..=last).contains(&found.life.number));
            doubled.extend(replaced.map(|found| found.life));
        } else if others().any(|found| found.life.number == first) {
            doubled.insert(copy.life);
        }
    }
    doubled
}
