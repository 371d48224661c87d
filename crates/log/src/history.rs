//! Records read once more, whatever became of their spans: for backfill and look-ups.
//!
//! What can be read is what the segments still hold: everything that somebody wants, and what `retain` keeps.
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::disk::DiskFile;
use crate::entry::EntryRoute;
use crate::format::{HEADER_PAGE, Kind, Life, Meta, Page, RECORD_HEADER, RecordHeader, StoredRoute};
use crate::segments::Segment;
use crate::shared::{Inner, OnDisk};
use crate::types::{LogError, Origin, Projection, Sequence, Slot};
use crate::walk::{Step, Walk, Walked};

/// A record as it was kept.
#[derive(Debug)]
pub struct Past<'a> {
    /// The record's number.
    pub sequence: Sequence,
    /// Receive time, unix nanoseconds.
    pub received_unix_nano: u64,
    /// Uuid bytes of the workspace.
    pub workspace: [u8; 16],
    /// Where it came from.
    pub origin: Origin,
    /// Who got what.
    pub routes: Vec<PastRoute>,
    file: &'a DiskFile,
    offset: u64,
    len: u32,
    crc: u32,
    spans: u32,
}

/// One destination's part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRoute {
    /// The destination.
    pub slot: Slot,
    /// The form in which it was to get the spans.
    pub projection: Projection,
    /// Positions in the record's payload.
    pub spans: SpanSet,
    /// Those of them that are not final yet.
    pub pending: SpanSet,
}

impl Past<'_> {
    /// Reads the payload. Blocking.
    pub fn payload(&self) -> Result<Payload, LogError> {
        let damaged = |why: &str| LogError::Damaged(self.sequence, why.to_owned());
        let mut bytes = vec![0; self.len as usize];
        let read = self.file.read_at(&mut bytes, self.offset).map_err(|e| self.file.error(e))?;
        if read < bytes.len() || crc32c::crc32c(&bytes) != self.crc {
            return Err(damaged("its payload does not match its checksum"));
        }
        Ok(Payload::new(Bytes::from(bytes), self.spans))
    }
}

impl Inner {
    /// Shows the records received at `from` or later to `each`, oldest first, until it breaks off; answers when the
    /// oldest record that is still held was received.
    pub(crate) fn history(
        &self,
        from_unix_nano: u64,
        mut each: impl FnMut(&Past<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, LogError> {
        let Some(on_disk) = &self.on_disk else { return Ok(None) };
        let upto = self.state().applied;
        let mut oldest = None;
        // Segments are in the order of their sequences, also where one took the place of others meanwhile.
        let (mut number, mut last) = (0, 0);
        loop {
            let next = self.state().segments.at_or_behind(number).cloned();
            let Some(Segment { file, life, last_number, newest_unix_nano: newest, .. }) = next else { break };
            let is_early = newest < from_unix_nano;
            if let Some((handle, limit)) = self.open_past(on_disk, file, life)?
                && !(is_early && oldest.is_some())
            {
                let mut walk = Walk::new(&handle, life, limit, None);
                while let Some(step) = walk.step() {
                    let Step::Record(record) = step else { continue };
                    let RecordHeader { kind, sequence, received_unix_nano: received, .. } = record.header;
                    // Beyond lies what is being written now.
                    if sequence > upto || (is_early && oldest.is_some()) {
                        break;
                    }
                    if kind != Kind::Record || sequence <= last {
                        continue;
                    }
                    last = sequence;
                    oldest.get_or_insert(received);
                    if received >= from_unix_nano
                        && let Some(past) = self.past(&handle, &record)
                        && each(&past).is_break()
                    {
                        return Ok(oldest);
                    }
                }
            }
            // Carried over while it was read: what was not seen of it is looked for where it is now.
            number = if self.has_place(file, life) { last_number + 1 } else { life.number };
        }
        Ok(oldest)
    }

    /// The segment's file, if it is still that, and where its records end at the latest.
    fn open_past(
        &self,
        on_disk: &OnDisk,
        file: u32,
        life: Life,
    ) -> Result<Option<(Arc<DiskFile>, u64)>, LogError> {
        let file = match on_disk.files.get(on_disk, file) {
            Ok(file) => file,
            Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut page = vec![0; HEADER_PAGE as usize];
        let read = file.read_at(&mut page, 0).map_err(|e| file.error(e))?;
        page.truncate(read);
        let Page::Known { header, seal } = Page::decode(&page) else { return Ok(None) };
        if header.map(|h| h.life).or(seal.map(|s| s.life)) != Some(life) {
            return Ok(None);
        }
        let end = match seal {
            Some(seal) => seal.end,
            None => file.len().map_err(|e| file.error(e))?,
        };
        Ok(Some((file, end)))
    }

    fn past<'a>(&self, file: &'a DiskFile, record: &Walked) -> Option<Past<'a>> {
        let header = &record.header;
        let meta = Meta::decode(&record.meta, header.spans)?;
        let state = self.state();
        let routes = meta.routes.into_iter().map(|route| {
            let end = route.ordinal + u64::from(route.spans.count());
            let left =
                state.ledger.account(route.slot).map(|account| account.done.missing(route.ordinal, end));
            past_route(route, &left.unwrap_or_default())
        });
        let mut routes: Vec<PastRoute> = routes.collect();
        if let Some(kept) = &meta.kept {
            for route in &mut routes {
                (route.spans, route.pending) = (route.spans.within(kept), route.pending.within(kept));
            }
        }
        Some(Past {
            sequence: header.sequence,
            received_unix_nano: header.received_unix_nano,
            workspace: meta.workspace,
            origin: meta.origin,
            routes,
            file,
            offset: record.offset + RECORD_HEADER as u64 + u64::from(header.meta_len),
            len: header.payload_len,
            crc: header.payload_crc,
            spans: meta.kept.map_or(header.spans, |kept| kept.count()),
        })
    }
}

/// `left`: the ordinals that are not final.
fn past_route(route: StoredRoute, left: &[(u64, u64)]) -> PastRoute {
    let StoredRoute { slot, projection, ordinal, spans, .. } = route.clone();
    let pending = if left.is_empty() {
        SpanSet::none(spans.len())
    } else {
        let ranks: Vec<_> = left.iter().map(|(start, end)| (start - ordinal, end - ordinal)).collect();
        EntryRoute::rest(route, &ranks).spans
    };
    PastRoute { slot, projection, spans, pending }
}
