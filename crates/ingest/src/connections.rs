//! How many connections there may be: of some listeners together, from one address, and of one workspace.
//!
//! Whose a connection is turns out with its requests: it belongs to the workspace of the last credential that was seen
//! on it. One that would be too many for its workspace is told so with that request and closed.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// Connections one address may hold; loopback is exempt, since a whole host sits behind it.
const PER_ADDRESS_MAX: usize = 1024;

/// Which bound a connection was refused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Bound {
    /// All connections together.
    Total,
    /// Those from its address.
    Address,
    /// Those of its workspace.
    Workspace,
}

impl Bound {
    /// All bounds, in the order of their codes.
    pub const ALL: [Bound; 3] = [Bound::Total, Bound::Address, Bound::Workspace];

    /// The metric's label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Bound::Total => "total",
            Bound::Address => "address",
            Bound::Workspace => "workspace",
        }
    }
}

/// Places for connections.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    per_workspace_max: usize,
    open: Mutex<Open>,
    refused: [AtomicU64; Bound::ALL.len()],
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    by_workspace: HashMap<Uuid, usize>,
}

/// A place that is taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Connections>,
    address: IpAddr,
    workspace: Mutex<Option<Uuid>>,
    /// It is nobody's, because its workspace has too many.
    turned_away: AtomicBool,
    to_be_closed: Notify,
}

impl Connections {
    /// At most `max` at the same time, and `per_workspace_max` of each workspace if there is a bound.
    pub fn new(max: usize, per_workspace_max: Option<NonZeroUsize>) -> Arc<Connections> {
        Arc::new(Connections {
            max,
            per_workspace_max: per_workspace_max.map_or(usize::MAX, NonZeroUsize::get),
            open: Mutex::default(),
            refused: Default::default(),
        })
    }

    /// Connections open at this moment.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// Connections that were closed because of this bound: as soon as they were accepted, or with the first request.
    pub fn refused(&self, bound: Bound) -> u64 {
        self.refused[bound as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Place>> {
        let mut open = self.lock();
        if open.total >= self.max {
            self.refuse(Bound::Total);
            return None;
        }
        let here = open.by_address.entry(address).or_default();
        if *here >= PER_ADDRESS_MAX && !address.is_loopback() {
            self.refuse(Bound::Address);
            return None;
        }
        *here += 1;
        open.total += 1;
        Some(Arc::new(Place {
            of: self.clone(),
            address,
            workspace: Mutex::default(),
            turned_away: AtomicBool::new(false),
            to_be_closed: Notify::new(),
        }))
    }

    fn refuse(&self, bound: Bound) {
        self.refused[bound as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection is this workspace's from now on. False if it has too many: it stays whose it was, and is to be
    /// closed if it was nobody's.
    pub(crate) fn belong_to(&self, workspace: Uuid) -> bool {
        let mut own = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        if *own == Some(workspace) {
            return true;
        }
        let mut open = self.of.lock();
        let theirs = open.by_workspace.get(&workspace).copied().unwrap_or(0);
        if theirs >= self.of.per_workspace_max {
            self.of.refuse(Bound::Workspace);
            if own.is_none() {
                self.turned_away.store(true, Ordering::Relaxed);
            }
            return false;
        }
        open.by_workspace.insert(workspace, theirs + 1);
        if let Some(before) = own.replace(workspace) {
            leave(&mut open.by_workspace, before);
        }
        true
    }

    /// The request that was refused has been read to its end: closed before, the client could not read why.
    pub(crate) fn refused_request_ended(&self) {
        if self.turned_away.load(Ordering::Relaxed) {
            self.to_be_closed.notify_one();
        }
    }

    /// Resolves once the connection is to be closed, because its workspace has too many.
    pub(crate) async fn turned_away(&self) {
        self.to_be_closed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let own = self.workspace.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut open = self.of.lock();
        open.total = open.total.saturating_sub(1);
        leave(&mut open.by_address, self.address);
        if let Some(workspace) = own {
            leave(&mut open.by_workspace, workspace);
        }
    }
}

/// One less; who has none left needs no entry.
fn leave<K: Eq + Hash>(counts: &mut HashMap<K, usize>, whose: K) {
    if let Some(count) = counts.get_mut(&whose) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let far = IpAddr::from([192, 0, 2, 1]);
        let connections = Connections::new(PER_ADDRESS_MAX + 10, None);
        let mut places: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| connections.enter(far).unwrap()).collect();
        assert!(connections.enter(far).is_none());
        assert_eq!(Bound::ALL.map(|bound| connections.refused(bound)), [0, 1, 0]);
        places.extend((0..10).map(|_| connections.enter(NEAR).unwrap()));
        assert!(connections.enter(NEAR).is_none());
        assert_eq!(connections.open(), PER_ADDRESS_MAX + 10);
        assert_eq!(Bound::ALL.map(|bound| connections.refused(bound)), [1, 1, 0]);
        places.clear();
        assert_eq!(connections.open(), 0);
        assert!(connections.enter(far).is_some());
        assert!(connections.lock().by_address.is_empty());
    }

    #[test]
    fn a_workspace_has_its_own_and_a_connection_moves_with_the_credential() {
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let connections = Connections::new(100, NonZeroUsize::new(2));
        let [one, two, three, four] = [0; 4].map(|_| connections.enter(NEAR).unwrap());
        assert!(one.belong_to(a) && two.belong_to(a) && one.belong_to(a));
        assert!(!three.belong_to(a));
        assert!(three.belong_to(b), "one workspace is no other");
        assert_eq!(connections.refused(Bound::Workspace), 1);
        // The proxy's connection goes to who used it last.
        assert!(two.belong_to(b) && four.belong_to(a));
        assert!(!one.belong_to(b) && one.belong_to(a), "it stays whose it was");
        drop(four);
        assert!(two.belong_to(a));
        drop((one, two, three));
        assert!(connections.lock().by_workspace.is_empty());
    }
}
