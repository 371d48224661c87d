//! The destinations by id and by their number in the log, changed one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tracecast_destination::Destination;
use tracecast_log::Slot;
use uuid::Uuid;

/// A destination with its number in the log.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) slot: Slot,
    pub(crate) destination: Arc<Destination>,
    pub(crate) retired: bool,
}

/// Those that exist.
#[derive(Default)]
pub(crate) struct Directory {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    by_slot: BTreeMap<Slot, Arc<Known>>,
    slots: HashMap<Uuid, Slot>,
}

impl Directory {
    /// Adds one or replaces what was known of it.
    pub(crate) fn insert(&self, known: Known) {
        let mut inner = self.write();
        inner.slots.insert(known.destination.id, known.slot);
        inner.by_slot.insert(known.slot, Arc::new(known));
    }

    pub(crate) fn remove(&self, id: Uuid) {
        let mut inner = self.write();
        if let Some(slot) = inner.slots.remove(&id) {
            inner.by_slot.remove(&slot);
        }
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<Known>> {
        let inner = self.read();
        inner.slots.get(&id).and_then(|slot| inner.by_slot.get(slot)).cloned()
    }

    pub(crate) fn is_known(&self, slot: Slot) -> bool {
        self.read().by_slot.contains_key(&slot)
    }

    /// All of them at this moment, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Known>> {
        self.read().by_slot.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
