//! How many connections there may be: of some listeners together, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections one address may hold; loopback is exempt, since a whole host sits behind it.
const PER_ADDRESS_MAX: usize = 1024;

/// Places for connections.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    open: Mutex<Open>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place that is taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// At most `max` at the same time.
    pub fn new(max: usize) -> Arc<Connections> {
        Arc::new(Connections { max, open: Mutex::default(), refused: AtomicU64::new(0) })
    }

    /// Connections open at this moment.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// Connections closed as soon as they were accepted, because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if open.total >= self.max || (here >= PER_ADDRESS_MAX && !address.is_loopback()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        open.by_address.insert(address, here + 1);
        open.total += 1;
        Some(Place { of: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let (near, far) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let connections = Connections::new(PER_ADDRESS_MAX + 10);
        let mut places: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| connections.enter(far).unwrap()).collect();
        assert!(connections.enter(far).is_none());
        places.extend((0..10).map(|_| connections.enter(near).unwrap()));
        assert!(connections.enter(near).is_none());
        assert_eq!((connections.open(), connections.refused()), (PER_ADDRESS_MAX + 10, 2));
        places.clear();
        assert_eq!(connections.open(), 0);
        assert!(connections.enter(far).is_some());
        assert!(connections.lock().by_address.is_empty());
    }
}
