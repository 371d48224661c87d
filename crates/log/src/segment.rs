//! The segment being written: staging a commit, writing it in one piece, handing the rest to the keeper.
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tracecast_otlp::Payload;

use crate::blocks::BlockWriter;
use crate::disk::DiskFile;
use crate::entry::Location;
use crate::format::{
    ALIGN, CARRIED, HEADER_PAGE, Kind, Life, Meta, RECORD_HEADER, RecordHeader, SEAL_AT, Seal, SegmentHeader,
    StoredRoute,
};
use crate::index::IndexBuilder;
use crate::shared::lock;
use crate::types::{LogError, Sequence, Slot};
use crate::world::Mutex;

const PADDING: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// A segment that takes records.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file_number: u32,
    pub(crate) file: Arc<DiskFile>,
    pub(crate) header: SegmentHeader,
    header_written: bool,
    /// Where the answered records end.
    pub(crate) at: u64,
    last_sequence: Sequence,
    records: u64,
    /// Shared with those who read on in a segment that is still being written.
    pub(crate) index: Arc<Mutex<IndexBuilder>>,
}

/// A record about to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) sequence: Sequence,
    pub(crate) received_unix_nano: u64,
    pub(crate) accepted: u32,
    pub(crate) meta: Meta,
    pub(crate) payload: Arc<Payload>,
    pub(crate) payload_crc: u32,
}

/// Records encoded for one write.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    frames: Vec<Frame>,
    bytes: u64,
    /// What the index may take at most with these records.
    index_most: u64,
}

#[derive(Debug)]
enum Part {
    Buffer(Range<usize>),
    Payload(Arc<Payload>),
}

#[derive(Debug)]
struct Frame {
    offset: u64,
    header: RecordHeader,
    routing: Range<usize>,
}

/// A segment that takes no more records, on its way to its seal.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) number: u64,
    pub(crate) file_number: u32,
    pub(crate) file: Arc<DiskFile>,
    pub(crate) bytes: u64,
    pub(crate) seal: Seal,
    pub(crate) index: Arc<Mutex<IndexBuilder>>,
    /// Give the unused end of the file back to the file system.
    pub(crate) truncate: bool,
}

impl Prepared {
    /// Marks what goes to these slots as refused. A payload that nobody else wants is not kept.
    pub(crate) fn refuse(&mut self, slots: &[Slot]) {
        let routes = &mut self.meta.routes;
        routes.iter_mut().filter(|route| slots.contains(&route.slot)).for_each(StoredRoute::refuse);
        if routes.iter().all(StoredRoute::is_refused) {
            self.payload = Arc::new(Payload::new(Bytes::new(), self.payload.spans()));
            self.payload_crc = crc32c::crc32c(&[]);
        }
    }

    pub(crate) fn highest_slot(&self) -> Option<Slot> {
        let routes = self.meta.routes.iter().map(|r| r.slot);
        routes.chain(self.meta.skips.iter().map(|s| s.slot)).max()
    }
}

impl Active {
    pub(crate) fn new(file_number: u32, file: DiskFile, header: SegmentHeader) -> Active {
        Active {
            file_number,
            file: Arc::new(file),
            at: HEADER_PAGE,
            last_sequence: header.first_sequence.saturating_sub(1),
            header,
            header_written: false,
            records: 0,
            index: Arc::default(),
        }
    }

    pub(crate) fn life(&self) -> Life {
        self.header.life
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// What a file needs to hold this record alone, with header, index and seal.
    pub(crate) fn bytes_for(record: &Prepared) -> u64 {
        let mut meta = Vec::new();
        let routing = record.meta.encode(&mut meta);
        let routing = routing + record.meta.origin.via.len();
        let index = IndexBuilder::default().most_with(routing, record.meta.routes.len());
        let body = (RECORD_HEADER + meta.len() + record.payload.bytes().len()) as u64;
        HEADER_PAGE + body.next_multiple_of(ALIGN) + RECORD_HEADER as u64 + index + ALIGN
    }

    /// Adds a record to the next write; false if there is no room for it.
    pub(crate) fn stage(&self, staged: &mut Staged, record: &Prepared) -> bool {
        let start = staged.buffer.len();
        staged.buffer.resize(start + RECORD_HEADER, 0);
        let routing_len = record.meta.encode(&mut staged.buffer);
        let meta_start = start + RECORD_HEADER;
        let meta_len = staged.buffer.len() - meta_start;
        let payload = record.payload.bytes();
        let header = RecordHeader {
            payload_crc: record.payload_crc,
            payload_len: payload.len() as u32,
            meta_len: meta_len as u32,
            kind: Kind::Record,
            flags: if self.header.is_carry { CARRIED } else { 0 },
            sequence: record.sequence,
            received_unix_nano: record.received_unix_nano,
            life: self.life(),
            answered: self.at,
            accepted: record.accepted,
            spans: record.meta.kept.as_ref().map_or(record.payload.spans(), tracecast_otlp::SpanSet::len),
        };
        let routes = record.meta.routes.len();
        let indexed_len = routing_len + record.meta.origin.via.len();
        let index_most = lock(&self.index).most_with(indexed_len, routes) + staged.index_most;
        let end = self.at + staged.bytes + header.total_len();
        if end + RECORD_HEADER as u64 + index_most + ALIGN > self.header.bytes {
            staged.buffer.truncate(start);
            return false;
        }
        header.encode_before_meta(&mut staged.buffer, start);
        let padding = header.total_len() as usize - RECORD_HEADER - meta_len - payload.len();
        staged.push_buffer(start);
        if !payload.is_empty() {
            staged.parts.push(Part::Payload(record.payload.clone()));
        }
        let start = staged.buffer.len();
        staged.buffer.extend_from_slice(PADDING.get(..padding).unwrap_or_default());
        staged.push_buffer(start);
        staged.index_most += IndexBuilder::default().most_with(indexed_len, routes);
        staged.frames.push(Frame {
            offset: self.at + staged.bytes,
            header,
            routing: meta_start..meta_start + routing_len,
        });
        staged.bytes += header.total_len();
        true
    }

    /// Writes the staged records; nothing counts before `commit`.
    pub(crate) fn write(&mut self, staged: &Staged) -> Result<(), LogError> {
        if !self.header_written {
            self.write_header()?;
        }
        self.file.write_vectored_at(&mut staged.slices(), self.at).map_err(|e| self.file.error(e))
    }

    /// The same past the page cache where that can be, and on disk afterwards.
    pub(crate) fn write_through(&mut self, staged: &Staged, blocks: &mut BlockWriter) -> std::io::Result<()> {
        if !self.header_written {
            blocks.write(&self.file, &mut [IoSlice::new(&self.header.encode())], 0, false)?;
            self.header_written = true;
        }
        blocks.write(&self.file, &mut staged.slices(), self.at, true)
    }

    pub(crate) fn write_header(&mut self) -> Result<(), LogError> {
        self.file.write_at(&self.header.encode(), 0).map_err(|e| self.file.error(e))?;
        self.header_written = true;
        Ok(())
    }

    /// The staged records are as safe as promised; answers where each lies.
    pub(crate) fn commit(&mut self, staged: &Staged, records: &[Prepared]) -> Vec<Location> {
        let mut locations = Vec::with_capacity(records.len());
        let mut index = lock(&self.index);
        for (frame, record) in staged.frames.iter().zip(records) {
            let routing = staged.buffer.get(frame.routing.clone()).unwrap_or_default();
            index.push(frame.offset, &frame.header, routing, &record.meta);
            self.last_sequence = record.sequence;
            self.records += 1;
            locations.push(Location {
                file: self.file_number,
                life: self.life(),
                offset: frame.offset,
                meta_len: frame.header.meta_len,
                payload_len: frame.header.payload_len,
                spans: frame.header.spans,
            });
        }
        drop(index);
        self.at += staged.bytes;
        locations
    }

    pub(crate) fn sealing(&self, truncate: bool) -> Sealing {
        let seal = Seal {
            life: self.life(),
            carry: None,
            is_narrowed: false,
            first_sequence: self.header.first_sequence,
            last_sequence: self.last_sequence,
            records: self.records,
            end: self.at,
            index_len: 0,
        };
        Sealing {
            number: self.header.life.number,
            file_number: self.file_number,
            file: self.file.clone(),
            bytes: self.header.bytes,
            seal,
            index: self.index.clone(),
            truncate,
        }
    }
}

impl Staged {
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.parts.clear();
        self.frames.clear();
        (self.bytes, self.index_most) = (0, 0);
        // One huge commit must not hold its buffer for ever.
        if self.buffer.capacity() > 8 << 20 {
            self.buffer = Vec::new();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let slices = self.parts.iter().map(|part| match part {
            Part::Buffer(range) => self.buffer.get(range.clone()).unwrap_or_default(),
            Part::Payload(payload) => payload.bytes(),
        });
        slices.map(IoSlice::new).collect()
    }

    fn push_buffer(&mut self, start: usize) {
        let end = self.buffer.len();
        match self.parts.last_mut() {
            Some(Part::Buffer(range)) if range.end == start => range.end = end,
            _ if start == end => {}
            _ => self.parts.push(Part::Buffer(start..end)),
        }
    }
}

impl Sealing {
    /// Writes index and seal and syncs all of the segment; answers the new length if the file became shorter.
    pub(crate) fn seal(&mut self) -> Result<Option<u64>, LogError> {
        let index = lock(&self.index).encode();
        let mut record = vec![0; RECORD_HEADER];
        record.extend_from_slice(&index);
        let header = RecordHeader {
            payload_crc: 0,
            payload_len: 0,
            meta_len: index.len() as u32,
            kind: Kind::Index,
            flags: 0,
            sequence: self.seal.last_sequence,
            received_unix_nano: 0,
            life: self.seal.life,
            answered: self.seal.end,
            accepted: 0,
            spans: 0,
        };
        header.encode_before_meta(&mut record, 0);
        let end = self.seal.end + record.len() as u64;
        self.seal.index_len = index.len() as u32;
        let io = |e| self.file.error(e);
        if end > self.bytes {
            let reason = std::io::Error::other("no room for the index");
            return Err(io(reason));
        }
        // No sync in between: an index that is not there is seen by its checksum, and the records are walked.
        self.file.write_at(&record, self.seal.end).map_err(io)?;
        self.file.write_at(&self.seal.encode(), SEAL_AT as u64).map_err(io)?;
        // Half a segment or more unused: a process that restarts often must not use up the cap.
        let short = end.next_multiple_of(HEADER_PAGE);
        let shortened = self.truncate && short <= self.bytes / 2;
        if shortened {
            self.file.set_len(short).map_err(io)?;
        }
        self.file.sync().map_err(io)?;
        Ok(shortened.then_some(short))
    }
}
