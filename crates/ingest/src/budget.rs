//! Byte-accounted admission: what requests in progress hold together is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on bytes, shared by all requests in progress.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes reserved for one request; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    inner: Arc<Inner>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { inner: Arc::new(Inner { limit, used: AtomicUsize::new(0) }) }
    }

    /// Bytes reserved at this moment.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// An empty reservation to grow as bytes arrive.
    pub fn reservation(&self) -> Reservation {
        Reservation { inner: self.inner.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Another, empty reservation of the same budget.
    pub fn empty(&self) -> Reservation {
        Reservation { inner: self.inner.clone(), bytes: 0 }
    }

    /// Reserves `bytes` more; false if the budget does not have them (nothing is reserved then).
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let used = self.inner.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) > self.inner.limit {
            self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_growth_reserves_nothing_and_a_drop_gives_back() {
        let budget = Budget::new(100);
        let mut a = budget.reservation();
        assert!(a.grow(60));
        let mut b = budget.reservation();
        assert!(!b.grow(41));
        assert_eq!(budget.used(), 60);
        assert!(b.grow(40));
        drop(a);
        assert_eq!(budget.used(), 40);
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
