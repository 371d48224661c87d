//! Recent payloads in memory: first in, first out, within a budget of bytes.
use std::collections::BTreeMap;
use std::sync::Arc;

use tracecast_otlp::Payload;

use crate::shared::lock;
use crate::types::Sequence;
use crate::world::Mutex;

/// What an item costs besides its bytes.
const ITEM: u64 = 256;

/// Holds payloads until they are settled everywhere or newer ones need the room. Readers hold their own
/// reference, so letting go never takes bytes away from one.
#[derive(Debug)]
pub(crate) struct Cache {
    max_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_sequence: BTreeMap<Sequence, Arc<Payload>>,
    bytes: u64,
}

fn cost(payload: &Payload) -> u64 {
    payload.bytes().len() as u64 + ITEM
}

impl Cache {
    pub(crate) fn new(max_bytes: u64) -> Cache {
        Cache { max_bytes, held: Mutex::default() }
    }

    pub(crate) fn insert(&self, items: impl Iterator<Item = (Sequence, Arc<Payload>)>) {
        let mut let_go = Vec::new();
        let mut held = lock(&self.held);
        for (sequence, payload) in items {
            held.bytes += cost(&payload);
            held.by_sequence.insert(sequence, payload);
        }
        while held.bytes > self.max_bytes
            && let Some((_, payload)) = held.by_sequence.pop_first()
        {
            held.bytes -= cost(&payload);
            let_go.push(payload);
        }
        // Freeing large buffers is not done under the lock.
        drop(held);
    }

    pub(crate) fn get(&self, sequence: Sequence) -> Option<Arc<Payload>> {
        lock(&self.held).by_sequence.get(&sequence).cloned()
    }

    pub(crate) fn remove(&self, sequences: &[Sequence]) {
        if sequences.is_empty() {
            return;
        }
        let mut let_go = Vec::new();
        let mut held = lock(&self.held);
        for sequence in sequences {
            if let Some(payload) = held.by_sequence.remove(sequence) {
                held.bytes -= cost(&payload);
                let_go.push(payload);
            }
        }
        drop(held);
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.held).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn payload(len: usize) -> Arc<Payload> {
        Arc::new(Payload::new(Bytes::from(vec![0; len]), 1))
    }

    #[test]
    fn the_oldest_goes_first_and_the_budget_holds() {
        let cache = Cache::new(4 * (1000 + ITEM));
        let payloads: Vec<_> = (0..6).map(|_| payload(1000)).collect();
        for (i, p) in payloads.iter().enumerate() {
            cache.insert(std::iter::once((i as u64, p.clone())));
            assert!(cache.bytes() <= 4 * (1000 + ITEM));
        }
        let held: Vec<bool> = payloads.iter().map(|p| Arc::strong_count(p) == 2).collect();
        assert_eq!(held, [false, false, true, true, true, true]);
        assert!(cache.get(1).is_none() && cache.get(4).is_some_and(|p| Arc::ptr_eq(&p, &payloads[4])));
        cache.remove(&[3, 99]);
        assert_eq!(Arc::strong_count(&payloads[3]), 1);
        assert_eq!(cache.bytes(), 3 * (1000 + ITEM));
    }
}
