//! Byte-accounted admission: what requests in progress hold together is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on bytes, shared by all requests in progress.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes reserved for one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    inner: Arc<Inner>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Budget {
        Budget { inner: Arc::new(Inner { limit, used: AtomicUsize::new(0) }) }
    }

    /// Bytes reserved at this moment.
    pub(crate) fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// An empty reservation to grow as bytes arrive.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation { inner: self.inner.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Another, empty reservation of the same budget.
    pub(crate) fn empty(&self) -> Reservation {
        Reservation { inner: self.inner.clone(), bytes: 0 }
    }

    /// Reserves `bytes` more; false if the budget does not have them (nothing is reserved then).
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let used = self.inner.used.fetch_add(bytes, Ordering::Relaxed);
        if used.saturating_add(bytes) > self.inner.limit {
            self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Whether `bytes` more could be reserved at this moment.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.inner.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.inner.limit
    }

    /// Gives `bytes` of what was reserved back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
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
        assert!(!b.fits(1));
        drop(a);
        assert_eq!(budget.used(), 40);
        assert!(b.fits(60) && !b.fits(61));
        b.shrink(30);
        assert_eq!(budget.used(), 10);
        drop(b);
        assert_eq!(budget.used(), 0);
    }
}
