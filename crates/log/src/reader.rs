//! Payloads read back from segment files.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::disk::DiskFile;
use crate::entry::{Location, Stored};
use crate::format::{CARRIED, Meta, RECORD_HEADER, RecordHeader, is_intact, record_len};
use crate::reads::Blocks;
use crate::shared::{Inner, OnDisk, lock};
use crate::types::{LogError, Sequence};
use crate::world::Mutex;

/// Segment files kept open for reading.
const OPEN_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Files {
    open: Mutex<BTreeMap<u32, Arc<DiskFile>>>,
}

impl Files {
    pub(crate) fn get(&self, on_disk: &OnDisk, file: u32) -> Result<Arc<DiskFile>, LogError> {
        if let Some(handle) = lock(&self.open).get(&file) {
            return Ok(handle.clone());
        }
        let path = on_disk.pool.path(file);
        let handle = on_disk.disk.open_read(&path).map_err(|source| LogError::Io { path, source })?;
        let handle = Arc::new(handle);
        let mut open = lock(&self.open);
        if open.len() >= OPEN_MAX {
            // Files are read from the oldest up, so the lowest is the least likely to be needed again.
            open.pop_first();
        }
        open.insert(file, handle.clone());
        Ok(handle)
    }

    /// The file is removed or given another length.
    pub(crate) fn forget(&self, file: u32) {
        lock(&self.open).remove(&file);
    }
}

/// Reads one payload; blocking.
pub(crate) fn read_payload(
    inner: &Inner,
    blocks: &mut Blocks,
    sequence: Sequence,
    location: Location,
) -> Result<Stored, LogError> {
    let Some(on_disk) = &inner.on_disk else {
        let reason = "it was settled everywhere and has left memory";
        return Err(LogError::Damaged(sequence, reason.to_owned()));
    };
    loop {
        let place = locate(inner, on_disk, sequence, location)?;
        let read = read_at(on_disk, blocks, sequence, place);
        // Carried over since it was located, it is somewhere else.
        if read.is_ok() || inner.has_place(place.file, place.life) {
            return read;
        }
    }
}

/// Where a record lies now: its segment may have been carried over.
fn locate(
    inner: &Inner,
    on_disk: &OnDisk,
    sequence: Sequence,
    location: Location,
) -> Result<Location, LogError> {
    let gone = || {
        let reason = "it was settled everywhere and its segment was given back";
        Err(LogError::Damaged(sequence, reason.to_owned()))
    };
    loop {
        let Some((file, life)) = inner.state().segments.place(location.life.number) else { return gone() };
        if life == location.life {
            return Ok(location);
        }
        let loaded = on_disk.indexes.loaded(inner, on_disk, file, life);
        if !inner.has_place(file, life) {
            continue;
        }
        let row = loaded?.index.as_ref().and_then(|index| index.find(sequence));
        let Some((offset, meta_len, payload_len)) = row else { return gone() };
        return Ok(Location { file, life, offset, meta_len, payload_len, spans: location.spans });
    }
}

fn read_at(
    on_disk: &OnDisk,
    blocks: &mut Blocks,
    sequence: Sequence,
    location: Location,
) -> Result<Stored, LogError> {
    let damaged = |reason: &str| LogError::Damaged(sequence, reason.to_owned());
    let file = on_disk.files.get(on_disk, location.file)?;
    let len = record_len(location.meta_len, location.payload_len);
    let len = usize::try_from(len).map_err(|_| damaged("it is too large for this machine"))?;
    let mut read = |afresh| {
        let read = blocks.read((location.file, &file), location.offset, len, afresh);
        Ok(payload_of(read.map_err(|e| file.error(e))?, sequence, location))
    };
    // A block that was kept may be older than a record that was written since.
    let payload = match read(false)? {
        Ok(payload) => Ok(payload),
        Err(_) => read(true)?,
    };
    payload.map_err(damaged)
}

/// The payload in a record's bytes, or what is wrong with them.
fn payload_of(bytes: Vec<u8>, sequence: Sequence, location: Location) -> Result<Stored, &'static str> {
    let start = RECORD_HEADER + location.meta_len as usize;
    let end = start + location.payload_len as usize;
    if bytes.len() < end {
        return Err("its segment file is too short");
    }
    let Some((header, crc)) = RecordHeader::decode(&bytes) else {
        return Err("there is no record at its place");
    };
    if header.life != location.life || header.sequence != sequence {
        return Err("there is another record at its place");
    }
    let same_shape = header.meta_len == location.meta_len && header.payload_len == location.payload_len;
    if !same_shape || !is_intact(&bytes, header.meta_len, crc) {
        return Err("its header does not match its checksum");
    }
    let bytes = Bytes::from(bytes);
    let payload = bytes.slice(start..end);
    if crc32c::crc32c(&payload) != header.payload_crc {
        return Err("its payload does not match its checksum");
    }
    let kept = match header.flags & CARRIED {
        0 => None,
        _ => Meta::decode(&bytes[RECORD_HEADER..start], header.spans).and_then(|meta| meta.kept),
    };
    let spans = kept.as_ref().map_or(location.spans, SpanSet::count);
    Ok(Stored { payload: Arc::new(Payload::new(payload, spans)), kept: kept.map(Arc::new) })
}
