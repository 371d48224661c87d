//! Reading on: what a slot has not ended yet, from an ordinal on, through the indexes of the segments.
//!
//! Payloads are not read, and nothing is searched: a page costs its records, wherever they lie. A sealed segment
//! whose index is damaged is walked once instead, and what its records do not account for is counted damaged.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::entry::{Entry, EntryRoute, Location};
use crate::examine::{FileState, Found, examine, index_of, read_index, walk_all};
use crate::format::Life;
use crate::index::{IndexBuilder, Indexed, SealedIndex};
use crate::quarantine::Quarantine;
use crate::shared::{Inner, OnDisk, lock};
use crate::types::{DropReason, LogError, Outcome, Slot};
use crate::world::Mutex;

/// Encoded indexes kept for the next page.
const INDEX_BYTES: u64 = 8 << 20;
/// Lines read at once from an index that is still growing: its writer waits as long.
const GROWING_MAX: usize = 256;

/// What follows in a slot, see [`Log::pending`](crate::Log::pending).
#[derive(Debug)]
pub struct Pending {
    /// Records with something that is not final, oldest first; `routes` hold only that, of this slot alone.
    pub entries: Vec<Arc<Entry>>,
    /// The ordinal to read on from.
    pub next: u64,
    /// Nothing more was committed when this was read.
    pub at_end: bool,
}

/// The indexes of segments: those being built, and the last ones read.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    growing: Mutex<BTreeMap<u64, Growing>>,
    sealed: Mutex<Sealed>,
}

/// The index of a segment that has no seal yet.
#[derive(Clone, Debug)]
pub(crate) struct Growing {
    pub(crate) index: Arc<Mutex<IndexBuilder>>,
}

#[derive(Debug, Default)]
struct Sealed {
    /// A number may have another file since its segment was carried over, and a file another number.
    by_life: HashMap<Life, (u64, Arc<Loaded>)>,
    bytes: u64,
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Loaded {
    /// `None`: there is nothing that can be read.
    pub(crate) index: Option<SealedIndex>,
}

impl Loaded {
    fn cost(&self) -> u64 {
        size_of::<Loaded>() as u64 + self.index.as_ref().map_or(0, SealedIndex::cost)
    }
}

impl Indexes {
    pub(crate) fn begin(&self, number: u64, growing: Growing) {
        lock(&self.growing).insert(number, growing);
    }

    /// The segment has its seal, or is no more.
    pub(crate) fn end(&self, number: u64) {
        lock(&self.growing).remove(&number);
    }

    /// The segment is no more.
    pub(crate) fn forget(&self, life: Life) {
        let mut sealed = lock(&self.sealed);
        if let Some((_, loaded)) = sealed.by_life.remove(&life) {
            sealed.bytes -= loaded.cost();
        }
    }

    /// The index of a sealed segment in this life of a file.
    pub(crate) fn loaded(
        &self,
        inner: &Inner,
        on_disk: &OnDisk,
        file: u32,
        life: Life,
    ) -> Result<Arc<Loaded>, LogError> {
        let mut sealed = lock(&self.sealed);
        sealed.used += 1;
        let now = sealed.used;
        if let Some((used, loaded)) = sealed.by_life.get_mut(&life) {
            *used = now;
            return Ok(loaded.clone());
        }
        drop(sealed);
        let loaded = Arc::new(load(inner, on_disk, file, life)?);
        let mut sealed = lock(&self.sealed);
        sealed.bytes += loaded.cost();
        if let Some((_, before)) = sealed.by_life.insert(life, (now, loaded.clone())) {
            sealed.bytes -= before.cost();
        }
        while sealed.bytes > INDEX_BYTES
            && let Some(oldest) = sealed.by_life.iter().min_by_key(|(_, (used, _))| *used).map(|(n, _)| *n)
            && let Some((_, loaded)) = sealed.by_life.remove(&oldest)
        {
            sealed.bytes -= loaded.cost();
        }
        Ok(loaded)
    }
}

/// Reads the index of a segment, or makes it again from the records.
fn load(inner: &Inner, on_disk: &OnDisk, file: u32, life: Life) -> Result<Loaded, LogError> {
    let number = life.number;
    let path = on_disk.pool.path(file);
    let nothing = Loaded { index: None };
    let found = match examine(&on_disk.disk, file, &path) {
        Ok(FileState::Segment(found)) if found.life == life => found,
        Err(LogError::Io { source, .. }) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(LogError::Io { path, source });
        }
        _ => {
            if inner.has_place(file, life) {
                tracing::error!(path = %path.display(), "segment {number} is not there any more");
            }
            return Ok(nothing);
        }
    };
    let handle =
        on_disk.disk.open_read(&path).map_err(|source| LogError::Io { path: path.clone(), source })?;
    if let Some(index) = read_index(&handle, &found) {
        return Ok(Loaded { index: Some(index) });
    }
    let named = named_end(on_disk, &found);
    let walked = walk_all(&handle, &found, named, None);
    // Given back while it was read, it is something else by now.
    if !inner.has_place(file, life) {
        return Ok(nothing);
    }
    tracing::warn!(path = %path.display(), "index of segment {number} is damaged, its records are read instead");
    let mut quarantine = Quarantine::new(on_disk.disk.clone(), on_disk.dir.join("quarantine"));
    walked.lost.iter().for_each(|(from, to)| quarantine.copy(&handle, number, *from, *to));
    quarantine.notes.iter().for_each(|note| tracing::warn!("{note}"));
    inner.state().damage.quarantined_bytes += quarantine.bytes;
    Ok(Loaded { index: SealedIndex::decode(index_of(&walked).encode()) })
}

/// Where the running log, which has no seal of this segment, knows that it ends.
fn named_end(on_disk: &OnDisk, found: &Found) -> Option<u64> {
    let unsealed = lock(&on_disk.unsealed);
    unsealed.iter().find(|(number, _)| *number == found.life.number).map(|(_, end)| *end)
}

/// See [`Log::pending`](crate::Log::pending); blocking.
pub(crate) fn pending(inner: &Inner, slot: Slot, from: u64, max: usize) -> Result<Pending, LogError> {
    let mut page = Pending { entries: Vec::new(), next: from, at_end: false };
    let Some(on_disk) = &inner.on_disk else {
        return Ok(Pending { at_end: true, ..page });
    };
    while page.entries.len() < max {
        let (places, end) = {
            let state = inner.state();
            let Some(account) = state.ledger.account(slot) else {
                return Ok(Pending { at_end: true, ..page });
            };
            page.next = account.done.next_missing(page.next);
            if page.next >= account.next_ordinal {
                return Ok(Pending { at_end: true, ..page });
            }
            let window = state.segments.window(slot, page.next);
            let places: Vec<_> = window.segments.iter().filter_map(|n| state.segments.place(*n)).collect();
            (places, window.limit.min(account.next_ordinal))
        };
        let wanted = (max - page.entries.len()).min(GROWING_MAX);
        let read = read(inner, on_disk, slot, &places, (page.next, end), wanted);
        // What was carried over meanwhile is somewhere else, and where it was may be something else by now.
        if !places.iter().all(|(file, life)| inner.has_place(*file, *life)) {
            continue;
        }
        let (mut found, limit) = read?;
        found.retain(|(_, record)| record.ordinals().0 < limit);
        found.sort_by_key(|(_, record)| record.ordinals().0);
        for ((file, life), record) in found {
            let (first, end) = record.ordinals();
            // A commit that was written twice, because the first segment failed.
            if end <= page.next {
                continue;
            }
            lost(inner, slot, page.next, first);
            page.next = page.next.max(end);
            page.entries.extend(entry(inner, slot, file, life, record));
        }
        lost(inner, slot, page.next, limit);
        page.next = page.next.max(limit);
    }
    Ok(page)
}

/// A record, and file and life in which it lies.
type Placed = ((u32, Life), Indexed);

/// Records of a slot within `from..end`, at most so many of each segment, and up to which ordinal all of these
/// segments have said what they hold.
fn read(
    inner: &Inner,
    on_disk: &OnDisk,
    slot: Slot,
    places: &[(u32, Life)],
    (from, end): (u64, u64),
    wanted: usize,
) -> Result<(Vec<Placed>, u64), LogError> {
    let (mut found, mut limit) = (Vec::new(), end);
    for &(file, life) in places {
        let growing = lock(&on_disk.indexes.growing).get(&life.number).cloned();
        let records = match growing {
            Some(growing) => lock(&growing.index).read(slot, from, end, wanted),
            None => {
                let loaded = on_disk.indexes.loaded(inner, on_disk, file, life)?;
                loaded.index.as_ref().and_then(|index| index.read(slot, from, end, wanted))
            }
        };
        let records = records.unwrap_or_default();
        if records.len() == wanted
            && let Some(last) = records.last()
        {
            limit = limit.min(last.ordinals().1);
        }
        found.extend(records.into_iter().map(|record| ((file, life), record)));
    }
    Ok((found, limit))
}

/// Ordinals that no record accounts for.
fn lost(inner: &Inner, slot: Slot, from: u64, to: u64) {
    if from >= to {
        return;
    }
    let open: u64 = {
        let state = inner.state();
        let missing = state.ledger.account(slot).map(|a| a.done.missing(from, to)).unwrap_or_default();
        missing.into_iter().map(|(start, end)| end - start).sum()
    };
    if open > 0 {
        tracing::error!(slot, spans = open, "pending spans are not readable any more: dropped as damaged");
        inner.settle_range(slot, from..to, Outcome::Dropped(DropReason::Damaged));
    }
}

/// What is left of a record for the slot, if anything is.
fn entry(inner: &Inner, slot: Slot, file: u32, life: Life, record: Indexed) -> Option<Arc<Entry>> {
    let state = inner.state();
    let done = &state.ledger.account(slot)?.done;
    let left = record.routes.into_iter().filter_map(|route| {
        let missing = done.missing(route.ordinal, route.end());
        let ranks: Vec<_> = missing.iter().map(|(a, b)| (a - route.ordinal, b - route.ordinal)).collect();
        (!ranks.is_empty()).then(|| EntryRoute::rest(route, &ranks))
    });
    let routes: Vec<_> = left.collect();
    drop(state);
    let location = Location {
        file,
        life,
        offset: record.offset,
        meta_len: record.meta_len,
        payload_len: record.payload_len,
        spans: record.spans,
    };
    (!routes.is_empty()).then(|| {
        let entry = Entry::of_one_slot(
            record.sequence,
            record.received_unix_nano,
            record.workspace,
            routes,
            record.via,
            location,
        );
        Arc::new(entry)
    })
}
