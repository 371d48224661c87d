//! Compressed fragments that several destinations can use: what one made, the others send.
//!
//! A destination that asks while another compresses waits for that one. The oldest go when the budget is used up;
//! who still sends one holds it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tracecast_otlp::{Payload, SpanSet};

use super::gzip::Fragment;
use crate::Item;

/// What a fragment costs besides its bytes.
const ITEM_BYTES: usize = 256;

/// The payload by its place in memory, the spans of it, and whether they are without content.
type Key = (usize, SpanSet, bool);

#[derive(Debug)]
pub(crate) struct Fragments {
    max_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_key: HashMap<Key, Slot>,
    order: VecDeque<(Key, usize)>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    /// As long as this is there, no other payload takes its place.
    _place: Weak<Payload>,
    fragment: Arc<OnceLock<Fragment>>,
}

impl Fragments {
    pub(crate) fn new(max_bytes: usize) -> Fragments {
        Fragments { max_bytes, held: Mutex::default() }
    }

    /// The fragment of an item, made by `make` if nobody has yet.
    pub(crate) fn of(&self, item: &Item, make: impl FnOnce() -> Fragment) -> Arc<OnceLock<Fragment>> {
        let key = (Arc::as_ptr(&item.payload).addr(), item.spans.clone(), item.private);
        let mut gone = Vec::new();
        let mut held = self.held();
        let known = held.by_key.get(&key).map(|slot| slot.fragment.clone());
        let fragment = known.unwrap_or_else(|| {
            // What it will take at most.
            let bytes = item.payload.bytes().len() + ITEM_BYTES;
            held.bytes += bytes;
            held.order.push_back((key.clone(), bytes));
            let slot = Slot { _place: Arc::downgrade(&item.payload), fragment: Arc::default() };
            let fragment = slot.fragment.clone();
            held.by_key.insert(key, slot);
            while held.bytes > self.max_bytes
                && let Some((key, bytes)) = held.order.pop_front()
            {
                held.bytes -= bytes;
                gone.extend(held.by_key.remove(&key));
            }
            fragment
        });
        // Neither compressing nor freeing is done under the lock.
        drop(held);
        fragment.get_or_init(make);
        fragment
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn item(bytes: usize) -> Item {
        Item {
            sequence: 1,
            received_unix_nano: 0,
            payload: Arc::new(Payload::new(Bytes::from(vec![0; bytes]), 1)),
            spans: SpanSet::all(1),
            private: false,
            shared: true,
        }
    }

    /// How often `item` had to be compressed for one more destination.
    fn made(fragments: &Fragments, item: &Item) -> usize {
        let mut made = 0;
        fragments.of(item, || {
            made += 1;
            Fragment::new(item.payload.bytes())
        });
        made
    }

    #[test]
    fn one_destination_compresses_for_all_that_want_the_same() {
        let fragments = Fragments::new(1 << 20);
        let (one, other) = (item(5000), item(5000));
        assert_eq!([&one, &one, &other, &one].map(|item| made(&fragments, item)), [1, 0, 1, 0]);
        let private = Item { private: true, ..one.clone() };
        let part = Item { spans: SpanSet::none(1), ..one.clone() };
        assert_eq!([&private, &part, &private].map(|item| made(&fragments, item)), [1, 1, 0]);
    }

    #[test]
    fn the_oldest_goes_and_the_budget_holds() {
        let one = 5000 + ITEM_BYTES;
        let fragments = Fragments::new(2 * one);
        let items: Vec<Item> = (0..4).map(|_| item(5000)).collect();
        for item in &items {
            made(&fragments, item);
            assert!(fragments.held().bytes <= 2 * one);
        }
        assert_eq!(fragments.held().by_key.len(), 2);
        assert_eq!([3, 2, 1, 0].map(|i: usize| made(&fragments, &items[i])), [0, 0, 1, 1]);
    }
}
