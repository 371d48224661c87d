//! What follows a commit: figures, answers, the subscriber; and what must precede it: slots on disk.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::entry::{Entry, EntryRoute, Location};
use crate::queue::Answer;
use crate::segment::Prepared;
use crate::shared::{Inner, OnDisk, lock};
use crate::types::{LogError, Sequence, Slot};

/// Tells the subscriber, in sequence order, then answers the waiters: who was answered may count on the subscriber
/// knowing of it (a drain that begins after the last answer misses nothing).
pub(crate) fn hand_over(
    inner: &Inner,
    records: Vec<Prepared>,
    locations: Vec<Location>,
    answers: Vec<Answer>,
    strong: bool,
) {
    let sequences: Vec<Sequence> = records.iter().map(|record| record.sequence).collect();
    for (record, location) in records.into_iter().zip(locations) {
        let open = record.meta.routes.into_iter().filter(|r| !r.is_refused());
        let routes = open.map(EntryRoute::whole).collect();
        let entry = Arc::new(Entry::new(
            record.sequence,
            record.received_unix_nano,
            record.meta.workspace,
            routes,
            record.meta.origin.via,
            location,
            Some((&record.payload, strong)),
        ));
        inner.tell(|subscriber| subscriber.committed(entry.clone()));
    }
    for (sequence, answer) in sequences.into_iter().zip(answers) {
        let _ = answer.send(Ok(sequence));
    }
}

impl Inner {
    /// Puts committed records into the figures; true if a checkpoint is due.
    pub(crate) fn book(&self, records: &[Prepared], locations: &[Location], bytes: u64) -> bool {
        let mut state = self.state();
        for (record, location) in records.iter().zip(locations) {
            state.ledger.accepted += u64::from(record.accepted);
            for route in &record.meta.routes {
                state.ledger.select(route, record.received_unix_nano);
            }
            for skip in &record.meta.skips {
                state.ledger.skip(skip.slot, skip.reason, skip.spans);
            }
            let open = record.meta.routes.iter().filter(|r| !r.is_refused());
            let spans = open.map(|r| (r.slot, r.ordinal, u64::from(r.spans.count())));
            state.segments.want(location.life.number, record.sequence, spans);
            state.segments.saw(location.life.number, record.received_unix_nano);
            state.traces.push(record.received_unix_nano, &record.meta.trace_keys);
            state.applied = record.sequence;
        }
        state.activity.records += records.len() as u64;
        state.activity.commits += 1;
        state.activity.bytes += bytes;
        self.inbox.is_checkpoint_due(state.activity.bytes)
    }

    /// While the log is nearly full and the newest are to go: refuses what goes to those above their share.
    pub(crate) fn refuse_newest(&self, record: &mut Prepared) {
        let is_refusing = match &self.on_disk {
            Some(_) => self.refusing.load(Ordering::Acquire),
            None => self.drop_newest.load(Ordering::Acquire) && self.budget.is_tight(),
        };
        if is_refusing && !record.meta.routes.is_empty() {
            record.refuse(&self.state().ledger.laggards());
        }
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        self.syncs.count(took);
        let mut state = self.state();
        state.activity.syncs += 1;
        state.activity.sync_time += took;
        state.activity.longest_sync = state.activity.longest_sync.max(took);
    }

    /// A record may name a slot only when the slot's owner is on disk: otherwise a power cut could give the
    /// number, and with it the record, to another destination.
    pub(crate) fn is_slot_on_disk(&self, on_disk: &OnDisk, slot: Slot) -> bool {
        slot < on_disk.slots_on_disk.load(Ordering::Acquire)
    }

    /// Brings the owners of all slots on disk.
    pub(crate) fn slots_on_disk(&self, on_disk: &OnDisk) -> Result<(), LogError> {
        let known = self.known_slots();
        self.settlements.flush(Some(Duration::from_secs(2)))?;
        let (journal, failed) = {
            let journal = lock(&on_disk.journal);
            (journal.file.clone(), journal.failed)
        };
        let synced =
            if failed { Err(std::io::Error::other("an earlier sync failed")) } else { journal.sync() };
        if let Err(source) = synced {
            lock(&on_disk.journal).failed = true;
            self.inbox.want_checkpoint();
            return Err(journal.error(source));
        }
        let slots = crate::keeper::slot_table(&self.state());
        lock(&on_disk.slots).extend(&on_disk.disk, &on_disk.dir, &slots);
        on_disk.slots_on_disk.fetch_max(known, Ordering::AcqRel);
        Ok(())
    }
}
