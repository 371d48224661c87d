//! Settlements on their way into the journal and, once written there, into the books.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::journal::{Intent, JournalEntry, Settled};
use crate::segments::{Run, runs, runs_of_range};
use crate::shared::{Inner, OnDisk, lock, same_error};
use crate::types::{LogError, Outcome, Settlement, Slot, SlotKey};
use crate::world::{self, Condvar, Mutex};

/// Settlements are gathered this long; with the write itself they are visible within 20 ms.
const GATHER: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Item {
    Settled(Settlement),
    /// Ordinals of a slot, whatever records they lie in.
    Range(Slot, Range<u64>, Outcome),
    Slot(Slot, SlotKey),
    /// A batch about to be sent; answered when it is written.
    Intent(Intent, oneshot::Sender<()>),
}

#[derive(Debug, Default)]
pub(crate) struct Settlements {
    queue: Mutex<Queue>,
    work: Condvar,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Item>,
    pushed: u64,
    finished: u64,
    /// Somebody waits: no gathering.
    urgent: bool,
    stopped: bool,
    error: Option<LogError>,
}

impl Settlements {
    pub(crate) fn push(&self, item: Item) {
        // Who waits for it is not kept waiting for the company of others.
        let urgent = matches!(item, Item::Intent(..));
        self.push_all([item], urgent);
    }

    /// They are written together.
    fn push_all(&self, items: impl IntoIterator<Item = Item>, urgent: bool) {
        let mut queue = lock(&self.queue);
        if queue.stopped {
            return;
        }
        let before = queue.items.len();
        queue.items.extend(items);
        queue.pushed += (queue.items.len() - before) as u64;
        queue.urgent |= urgent;
        let wakes = urgent || (before == 0 && !queue.items.is_empty());
        drop(queue);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Waits until everything pushed so far is written and visible.
    pub(crate) fn flush(&self, most: Option<Duration>) -> Result<(), LogError> {
        let until = most.map(|most| world::now() + most);
        let mut queue = lock(&self.queue);
        let wanted = queue.pushed;
        while queue.finished < wanted {
            if queue.stopped && queue.items.is_empty() {
                return Err(LogError::Closed);
            }
            queue.urgent = true;
            self.work.notify_one();
            let most = until.map_or(RETRY, |until| until.saturating_duration_since(world::now()));
            if most.is_zero() {
                return Err(queue.error.as_ref().map_or(LogError::Closed, same_error));
            }
            queue = self.done.wait_timeout(queue, most).0;
        }
        Ok(())
    }

    /// How many there were so far.
    pub(crate) fn pushed(&self) -> u64 {
        lock(&self.queue).pushed
    }

    /// Whether the first `pushed` are in the books, or cannot be for now.
    pub(crate) fn are_done(&self, pushed: u64) -> bool {
        let queue = lock(&self.queue);
        queue.finished >= pushed || queue.error.is_some()
    }

    /// No more settlements; the thread ends when it has written the waiting ones.
    pub(crate) fn stop(&self) {
        lock(&self.queue).stopped = true;
        self.work.notify_all();
    }

    fn take(&self) -> Option<Vec<Item>> {
        let mut queue = lock(&self.queue);
        while queue.items.is_empty() {
            if queue.stopped {
                return None;
            }
            queue = self.work.wait(queue);
        }
        let until = world::now() + GATHER;
        while !queue.urgent && !queue.stopped {
            let left = until.saturating_duration_since(world::now());
            if left.is_zero() {
                break;
            }
            queue = self.work.wait_timeout(queue, left).0;
        }
        queue.urgent = false;
        Some(std::mem::take(&mut queue.items))
    }

    fn finished(&self, items: usize) {
        let mut queue = lock(&self.queue);
        queue.finished += items as u64;
        queue.error = None;
        drop(queue);
        self.done.notify_all();
    }

    /// Puts items back after a failure and waits; false when the log is stopping.
    fn failed(&self, mut items: Vec<Item>, error: LogError) -> bool {
        let mut queue = lock(&self.queue);
        items.append(&mut queue.items);
        queue.items = items;
        queue.error = Some(error);
        let going_on = !queue.stopped;
        if going_on {
            drop(self.work.wait_timeout(queue, RETRY));
        }
        going_on
    }
}

/// The journal thread.
pub(crate) fn run(inner: &Arc<Inner>) {
    let Some(on_disk) = &inner.on_disk else { return };
    while let Some(items) = inner.settlements.take() {
        let count = items.len();
        match write(inner, on_disk, &items) {
            Ok(freed) => {
                inner.settlements.finished(count);
                for item in items {
                    if let Item::Intent(_, written) = item {
                        // Whoever asked may have gone.
                        let _ = written.send(());
                    }
                }
                if freed && on_disk.pool.is_short() {
                    inner.inbox.wake();
                }
            }
            Err(error) => {
                tracing::error!(%error, "settlement journal not written");
                let full = matches!(&error, LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
                if !(full && on_disk.pool.sacrifice()) {
                    // A new journal may do where this one does not.
                    inner.inbox.want_checkpoint();
                }
                if !inner.settlements.failed(items, error) {
                    return;
                }
            }
        }
    }
}

/// Writes one batch, then books it. The journal stays locked in between, so that a checkpoint sees either both
/// or neither.
fn write(inner: &Inner, on_disk: &OnDisk, items: &[Item]) -> Result<bool, LogError> {
    let mut journal = lock(&on_disk.journal);
    let mut bytes = Vec::new();
    let mut settled: Vec<Run> = Vec::new();
    let mut batch = HashMap::new();
    let state = inner.state();
    for item in items {
        match item {
            Item::Settled(settlement) => runs(&state.ledger, &mut batch, settlement, &mut settled),
            Item::Range(slot, range, outcome) => {
                runs_of_range(&state, &mut batch, (*slot, range.clone()), *outcome, &mut settled);
            }
            Item::Slot(slot, key) => JournalEntry::Slot { slot: *slot, key: *key }.encode(&mut bytes),
            Item::Intent(intent, _) => JournalEntry::Intent(intent.clone()).encode(&mut bytes),
        }
    }
    drop(state);
    // Stretches of one slot become one entry, whatever came in between.
    settled.sort_by_key(|run| (run.slot, run.first));
    encode_runs(&settled, &mut bytes);
    if bytes.is_empty() {
        return Ok(false);
    }
    journal.append(bytes)?;
    let freed = inner.apply(&settled, journal.written);
    let mut intents = items.iter().filter_map(|item| match item {
        Item::Intent(intent, _) => Some(intent),
        _ => None,
    });
    if let Some(first) = intents.next() {
        let mut state = inner.state();
        for Intent { slot, ranges } in std::iter::once(first).chain(intents) {
            if let Some(account) = state.ledger.account_mut(*slot) {
                account.intend(ranges.clone());
            }
        }
    }
    Ok(freed)
}

/// Stretches that one entry may hold.
const STRETCHES_MAX: usize = 1 << 16;

/// One entry per slot, and in it one line per stretch of ordinals with the same end: what ended together is on disk
/// together.
fn encode_runs(settled: &[Run], bytes: &mut Vec<u8>) {
    for of_slot in settled.chunk_by(|a, b| a.slot == b.slot) {
        let mut stretches: Vec<Settled> = Vec::new();
        for run in of_slot {
            match stretches.last_mut() {
                Some(last) if last.outcome == run.outcome && last.first + last.spans == run.first => {
                    last.spans += run.spans;
                    last.bytes += run.bytes;
                    last.sequence = last.sequence.max(run.sequence);
                }
                _ => stretches.push(Settled {
                    slot: run.slot,
                    sequence: run.sequence,
                    first: run.first,
                    spans: run.spans,
                    outcome: run.outcome,
                    bytes: run.bytes,
                }),
            }
        }
        match stretches.as_slice() {
            [one] => JournalEntry::Settled(one.clone()).encode(bytes),
            _ => {
                for part in stretches.chunks(STRETCHES_MAX) {
                    let slot = part.first().map_or(0, |settled| settled.slot);
                    JournalEntry::Together(slot, part.to_vec()).encode(bytes);
                }
            }
        }
    }
}

impl Inner {
    /// Marks spans final: through the journal, or at once when there is none.
    pub(crate) fn settle(&self, settlement: Settlement) {
        match self.on_disk {
            Some(_) => self.settlements.push(Item::Settled(settlement)),
            None => self.settle_now(&[settlement]),
        }
    }

    /// The same for what ended together.
    pub(crate) fn settle_all(&self, settlements: Vec<Settlement>) {
        if self.on_disk.is_some() {
            return self.settlements.push_all(settlements.into_iter().map(Item::Settled), false);
        }
        self.settle_now(&settlements);
    }

    fn settle_now(&self, settlements: &[Settlement]) {
        let mut settled = Vec::with_capacity(settlements.len());
        let mut batch = HashMap::new();
        let state = self.state();
        settlements.iter().for_each(|settlement| runs(&state.ledger, &mut batch, settlement, &mut settled));
        drop(state);
        self.apply(&settled, 0);
    }

    /// Marks a stretch of a slot's ordinals final without its records being read. In memory mode entries belong to
    /// those who hold them, and are settled one by one.
    pub(crate) fn settle_range(&self, slot: Slot, range: Range<u64>, outcome: Outcome) {
        if self.on_disk.is_some() && !range.is_empty() {
            self.settlements.push(Item::Range(slot, range, outcome));
        }
    }

    /// The slot of this destination, made when new.
    pub(crate) fn slot(&self, key: SlotKey) -> Slot {
        let mut state = self.state();
        let (slot, new) = state.ledger.slot(key);
        self.slots.store(state.ledger.len() as u32, Ordering::Release);
        drop(state);
        if new && self.on_disk.is_some() {
            self.settlements.push(Item::Slot(slot, key));
        }
        slot
    }
}
