//! The books: per slot the counters, the done set and what is pending. Pure state, no I/O.
//!
//! Records and settlements are applied here by the running log and by recovery with the same code, so that a
//! restart arrives at the same figures.
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::entry::share_of;
use crate::format::StoredRoute;
use crate::ranges::Done;
use crate::types::{Backlog, Books, DropReason, Outcome, SkipReason, Slot, SlotKey};

/// Marks kept per slot to tell the age of the oldest pending record.
const MARKS_MAX: usize = 512;
/// So many of them are kept over a restart.
const MARKS_STORED: usize = 32;

/// Counters of one destination, without what is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) selected: u64,
    pub(crate) requeued: u64,
    pub(crate) delivered: u64,
    pub(crate) skipped: [u64; 6],
    pub(crate) dead_lettered: [u64; 3],
    pub(crate) dropped: [u64; 6],
}

/// One destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// `None`: a number that occurs in records, whose owner is not known any more.
    pub(crate) key: Option<SlotKey>,
    pub(crate) counters: Counters,
    /// The number its next selected span gets.
    pub(crate) next_ordinal: u64,
    pub(crate) done: Done,
    pub(crate) pending_bytes: u64,
    pub(crate) marks: Marks,
    /// Batches that may have been sent.
    pub(crate) intents: Vec<Vec<Range<u64>>>,
}

/// All destinations and the gateway-wide counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) accounts: Vec<Account>,
    by_key: HashMap<SlotKey, Slot>,
    /// Spans accepted since ever.
    pub(crate) accepted: u64,
}

impl Counters {
    fn count(&mut self, outcome: Outcome, spans: u64) {
        let counter = match outcome {
            Outcome::Delivered => Some(&mut self.delivered),
            Outcome::DeadLettered(reason) => self.dead_lettered.get_mut(reason as usize),
            Outcome::Dropped(reason) => self.dropped.get_mut(reason as usize),
        };
        if let Some(counter) = counter {
            *counter += spans;
        }
    }

    fn ended(&self) -> u64 {
        self.delivered + self.dead_lettered.iter().sum::<u64>() + self.dropped.iter().sum::<u64>()
    }
}

impl Account {
    pub(crate) fn pending(&self) -> u64 {
        (self.counters.selected + self.counters.requeued).saturating_sub(self.counters.ended())
    }

    /// Spans selected; their ordinals follow the known ones.
    pub(crate) fn select(&mut self, ordinal: u64, spans: u64, bytes: u64, received_unix_nano: u64) {
        self.counters.selected += spans;
        self.expect(ordinal, spans, bytes, received_unix_nano);
    }

    /// The same for spans that are sent again.
    fn requeue(&mut self, ordinal: u64, spans: u64, bytes: u64, received_unix_nano: u64) {
        self.counters.requeued += spans;
        self.expect(ordinal, spans, bytes, received_unix_nano);
    }

    fn expect(&mut self, ordinal: u64, spans: u64, bytes: u64, received_unix_nano: u64) {
        self.next_ordinal = self.next_ordinal.max(ordinal + spans);
        self.pending_bytes += bytes;
        self.marks.push(ordinal, received_unix_nano);
    }

    /// Ordinals that no record will ever fill: final without being counted.
    pub(crate) fn void(&mut self, start: u64, end: u64) {
        self.done.insert(start, end);
        self.next_ordinal = self.next_ordinal.max(end);
    }

    /// A batch of these ordinals is about to be sent; what was said of any of them before holds no longer.
    pub(crate) fn intend(&mut self, ranges: Vec<Range<u64>>) {
        let touches = |other: &Range<u64>| ranges.iter().any(|r| r.start < other.end && other.start < r.end);
        self.intents = self.open_intents();
        self.intents.retain(|other| !other.iter().any(touches));
        self.intents.push(ranges);
    }

    /// What speaks of ordinals that nobody was given must not speak of those that get them later.
    pub(crate) fn forget_unfounded_intents(&mut self) {
        self.intents = self.open_intents();
    }

    /// Batches that may have been sent and of which nothing is final yet.
    pub(crate) fn open_intents(&self) -> Vec<Vec<Range<u64>>> {
        let is_open = |r: &Range<u64>| {
            r.end <= self.next_ordinal && self.done.missing(r.start, r.end) == [(r.start, r.end)]
        };
        self.intents.iter().filter(|ranges| ranges.iter().all(is_open)).cloned().collect()
    }

    /// Marks ordinals final; answers how many were not before. Ordinals nobody was given are ignored.
    pub(crate) fn settle(&mut self, start: u64, end: u64, bytes: u64, outcome: Outcome) -> u64 {
        let end = end.min(self.next_ordinal);
        let width = end.saturating_sub(start);
        let fresh = self.done.insert(start, end);
        if fresh == 0 {
            return 0;
        }
        let bytes = if fresh == width { bytes } else { bytes * fresh / width };
        self.counters.count(outcome, fresh);
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        if self.pending() == 0 {
            self.pending_bytes = 0;
        }
        self.marks.forget(self.done.low());
        fresh
    }

    /// About as many bytes as `spans` of the pending ones have.
    pub(crate) fn bytes_of(&self, spans: u64) -> u64 {
        let bytes = u128::from(self.pending_bytes) * u128::from(spans) / u128::from(self.pending().max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    pub(crate) fn books(&self) -> Books {
        let Counters { selected, requeued, delivered, skipped, dead_lettered, dropped } =
            self.counters.clone();
        let pending = self.pending();
        Books {
            accepted: selected + skipped.iter().sum::<u64>(),
            selected,
            requeued,
            delivered,
            skipped,
            dead_lettered,
            dropped,
            pending,
            pending_bytes: self.pending_bytes,
            oldest_pending_unix_nano: if pending == 0 { None } else { self.marks.oldest() },
        }
    }
}

impl Ledger {
    /// The slot of this key; true if it was made just now.
    pub(crate) fn slot(&mut self, key: SlotKey) -> (Slot, bool) {
        if let Some(slot) = self.by_key.get(&key) {
            return (*slot, false);
        }
        let slot = self.accounts.len() as Slot;
        self.assign(slot, key);
        (slot, true)
    }

    /// Records who owns a slot.
    pub(crate) fn assign(&mut self, slot: Slot, key: SlotKey) {
        self.account_made(slot).key = Some(key);
        self.by_key.insert(key, slot);
    }

    /// The account, made without owner if it is missing.
    pub(crate) fn account_made(&mut self, slot: Slot) -> &mut Account {
        let at = slot as usize;
        if at >= self.accounts.len() {
            self.accounts.resize_with(at + 1, Account::default);
        }
        &mut self.accounts[at]
    }

    pub(crate) fn account(&self, slot: Slot) -> Option<&Account> {
        self.accounts.get(slot as usize)
    }

    pub(crate) fn account_mut(&mut self, slot: Slot) -> Option<&mut Account> {
        self.accounts.get_mut(slot as usize)
    }

    /// What a slot has pending; `None` if nothing.
    pub(crate) fn backlog(&self, slot: Slot) -> Option<Backlog> {
        let account = self.account(slot).filter(|account| account.pending() > 0)?;
        Some(Backlog {
            slot,
            first_ordinal: account.done.low(),
            end_ordinal: account.next_ordinal,
            spans: account.pending(),
            bytes: account.pending_bytes,
            oldest_unix_nano: account.marks.oldest().unwrap_or(0),
        })
    }

    /// What a checkpoint needs: no index by key, few marks.
    pub(crate) fn image(&self) -> Ledger {
        let accounts = self.accounts.iter().map(|account| Account {
            key: account.key,
            counters: account.counters.clone(),
            next_ordinal: account.next_ordinal,
            done: account.done.clone(),
            pending_bytes: account.pending_bytes,
            marks: account.marks.few(),
            intents: account.open_intents(),
        });
        Ledger { accounts: accounts.collect(), by_key: HashMap::new(), accepted: self.accepted }
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn select(&mut self, route: &StoredRoute, received_unix_nano: u64) {
        let spans = u64::from(route.spans.count());
        let (account, bytes) = (self.account_made(route.slot), u64::from(route.bytes));
        if route.projection.is_requeued() {
            account.requeue(route.ordinal, spans, bytes, received_unix_nano);
        } else {
            account.select(route.ordinal, spans, bytes, received_unix_nano);
        }
        if route.is_refused() {
            let outcome = Outcome::Dropped(DropReason::BacklogFull);
            account.settle(route.ordinal, route.ordinal + spans, bytes, outcome);
        }
    }

    pub(crate) fn skip(&mut self, slot: Slot, reason: SkipReason, spans: u32) {
        if let Some(counter) = self.account_made(slot).counters.skipped.get_mut(reason as usize) {
            *counter += u64::from(spans);
        }
    }

    /// The slots that hold more than their share: at least the average of those with something pending, and half of
    /// what the first of them holds. A healthy destination whose answers are on their way is no laggard.
    pub(crate) fn laggards(&self) -> Vec<Slot> {
        let holding = || (0..).zip(&self.accounts).filter(|(_, account)| account.pending() > 0);
        let total: u64 = holding().map(|(_, account)| account.pending_bytes).sum();
        let average = total / (holding().count() as u64).max(1);
        let most = holding().map(|(_, account)| account.pending_bytes).max().unwrap_or(0);
        let share = average.max(most / 2);
        holding().filter(|(_, account)| account.pending_bytes >= share).map(|(slot, _)| slot).collect()
    }

    /// The slot with the most pending bytes.
    pub(crate) fn laggard(&self) -> Option<Slot> {
        let most = self.accounts.iter().enumerate().max_by_key(|(_, a)| a.pending_bytes)?;
        (most.1.pending_bytes > 0 || most.1.pending() > 0).then_some(most.0 as Slot)
    }
}

/// The bytes of ordinals `start..end` within a committed route.
pub(crate) fn route_share(route: (u64, u32, u64), start: u64, end: u64) -> u64 {
    let (first, bytes, count) = route;
    share_of(bytes, start.saturating_sub(first), end.saturating_sub(first), count)
}

/// (first ordinal, receive time) of pending records, thinned when there are many.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    marks: VecDeque<(u64, u64)>,
    /// Only every so many records leave a mark.
    stride: u32,
    since: u32,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { marks: VecDeque::new(), stride: 1, since: 0 }
    }
}

impl Marks {
    fn push(&mut self, ordinal: u64, received_unix_nano: u64) {
        if self.marks.is_empty() {
            (self.stride, self.since) = (1, 0);
        }
        self.since += 1;
        if self.since < self.stride && !self.marks.is_empty() {
            return;
        }
        self.since = 0;
        self.marks.push_back((ordinal, received_unix_nano));
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// Drops the marks of records that end below `low`.
    fn forget(&mut self, low: u64) {
        while self.marks.get(1).is_some_and(|(next, _)| *next <= low) {
            self.marks.pop_front();
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.marks.front().map(|(_, received)| *received)
    }

    /// The oldest, and some of the others.
    fn few(&self) -> Marks {
        let step = self.marks.len().div_ceil(MARKS_STORED).max(1);
        Marks { marks: self.marks.iter().copied().step_by(step).collect(), ..Marks::default() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.marks.iter().copied()
    }

    /// Starts over with these records, oldest first.
    pub(crate) fn restart(&mut self, pending: impl Iterator<Item = (u64, u64)>) {
        *self = Marks::default();
        for (ordinal, received) in pending {
            self.push(ordinal, received);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DeadReason;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn balanced_after_any_settlements(
            steps in proptest::collection::vec((1u64..9, 0u64..40, 0u64..12, 0u8..3), 1..60)
        ) {
            let mut account = Account::default();
            for (select, start, width, outcome) in steps {
                let ordinal = account.next_ordinal;
                account.select(ordinal, select, select * 10, ordinal);
                let outcome = match outcome {
                    0 => Outcome::Delivered,
                    1 => Outcome::DeadLettered(DeadReason::TooLarge),
                    _ => Outcome::Dropped(DropReason::Expired),
                };
                account.settle(start, start + width, width * 10, outcome);
                prop_assert!(account.books().balanced());
                prop_assert!(account.books().pending <= account.next_ordinal);
            }
            let end = account.next_ordinal;
            account.settle(0, end, 0, Outcome::Delivered);
            let books = account.books();
            prop_assert_eq!((books.pending, books.pending_bytes, books.oldest_pending_unix_nano), (0, 0, None));
        }
    }

    #[test]
    fn a_span_is_settled_once() {
        let mut account = Account::default();
        account.select(0, 4, 400, 7);
        assert_eq!(account.settle(1, 3, 200, Outcome::Delivered), 2);
        assert_eq!(account.settle(0, 3, 300, Outcome::Dropped(DropReason::Shutdown)), 1);
        let books = account.books();
        assert_eq!((books.delivered, books.dropped[DropReason::Shutdown as usize], books.pending), (2, 1, 1));
        assert_eq!(books.pending_bytes, 100);
    }

    #[test]
    fn settling_what_nobody_was_given_changes_nothing() {
        let mut account = Account::default();
        account.select(0, 2, 20, 7);
        assert_eq!(account.settle(2, 9, 70, Outcome::Delivered), 0);
        assert_eq!(account.books().pending, 2);
        account.select(2, 1, 10, 8);
        assert_eq!(account.books().pending, 3);
    }

    #[test]
    fn the_oldest_is_never_too_young() {
        let mut account = Account::default();
        for i in 0..5000 {
            account.select(i, 1, 1, 1000 + i);
        }
        assert_eq!(account.books().oldest_pending_unix_nano, Some(1000));
        account.settle(0, 4000, 4000, Outcome::Delivered);
        let oldest = account.books().oldest_pending_unix_nano.unwrap();
        assert!((4900..=5000).contains(&oldest), "{oldest}");
        let mut few = Account::default();
        for i in 0..10 {
            few.select(i, 1, 1, 1000 + i);
        }
        few.settle(0, 3, 3, Outcome::Delivered);
        assert_eq!(few.books().oldest_pending_unix_nano, Some(1003));
    }
}
