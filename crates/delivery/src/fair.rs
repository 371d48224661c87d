//! Who may send next: deficit round robin over workspaces, then over the destinations of one, for the bytes and
//! sockets that all of them share.
//!
//! While there is room nobody waits. When there is none, every workspace gets the same bytes in turn and shares
//! them equally among its destinations, so that a crowd that recovers at once, or a tenant with twenty times the
//! traffic, takes nothing from the others. Destinations that are failing have half of everything at most: requests
//! that hang must not keep the rest from being sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tracecast_log::Slot;
use uuid::Uuid;

/// Bytes a member may send each time its turn comes.
const QUANTUM: u64 = 256 << 10;

/// What all destinations share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) sockets: usize,
}

#[derive(Debug)]
pub(crate) struct Fair {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: Used,
    used_by_failing: Used,
    well: Ring<Uuid, Ring<Slot, VecDeque<Waiter>>>,
    failing: Ring<Uuid, Ring<Slot, VecDeque<Waiter>>>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    bytes: u64,
    sockets: usize,
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    admitted: oneshot::Sender<Permit>,
}

/// A request may be under way for as long as this exists.
#[derive(Debug)]
pub(crate) struct Permit {
    fair: Arc<Fair>,
    bytes: u64,
    failing: bool,
    /// Set when nobody took it: nothing is to be told while the lock is held.
    void: bool,
}

/// Work of which the next piece has a size.
trait Work<T>: Default {
    /// Brings the piece whose turn it is to the front; its size.
    fn size(&mut self) -> Option<u64>;
    /// The piece at the front.
    fn take(&mut self) -> Option<T>;
}

impl Work<Waiter> for VecDeque<Waiter> {
    fn size(&mut self) -> Option<u64> {
        // Those who gave up waiting are not counted.
        while self.front().is_some_and(|waiter| waiter.admitted.is_closed()) {
            self.pop_front();
        }
        self.front().map(|waiter| waiter.bytes)
    }

    fn take(&mut self) -> Option<Waiter> {
        self.pop_front()
    }
}

/// Members that have work, each with what it may still send in this turn.
#[derive(Debug)]
struct Ring<K, W> {
    order: VecDeque<K>,
    members: BTreeMap<K, (u64, W)>,
}

impl<K, W> Default for Ring<K, W> {
    fn default() -> Self {
        Ring { order: VecDeque::new(), members: BTreeMap::new() }
    }
}

impl<K: Copy + Ord, W: Default> Ring<K, W> {
    /// The work of a member, to add to.
    fn work(&mut self, key: K) -> &mut W {
        if !self.members.contains_key(&key) {
            self.order.push_back(key);
        }
        &mut self.members.entry(key).or_default().1
    }
}

impl<K: Copy + Ord, W: Work<Waiter>> Work<Waiter> for Ring<K, W> {
    fn size(&mut self) -> Option<u64> {
        loop {
            let key = *self.order.front()?;
            let member = self.members.get_mut(&key).and_then(|(deficit, work)| Some((deficit, work.size()?)));
            match member {
                None => {
                    self.members.remove(&key);
                    self.order.pop_front();
                }
                Some((deficit, size)) if size <= *deficit => return Some(size),
                Some((deficit, _)) => {
                    *deficit += QUANTUM;
                    self.order.rotate_left(1);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Waiter> {
        let size = self.size()?;
        let key = *self.order.front()?;
        let (deficit, work) = self.members.get_mut(&key)?;
        *deficit = deficit.saturating_sub(size);
        work.take()
    }
}

impl Used {
    fn fits(self, bytes: u64, limits: Limits) -> bool {
        // One request larger than everything must go some time.
        self.sockets == 0
            || (self.sockets < limits.sockets && self.bytes.saturating_add(bytes) <= limits.bytes)
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.sockets += 1;
    }

    fn subtract(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.sockets = self.sockets.saturating_sub(1);
    }
}

impl Fair {
    pub(crate) fn new(limits: Limits) -> Arc<Fair> {
        Arc::new(Fair { limits, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request of so many bytes; `None` once it is closed.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        workspace: Uuid,
        slot: Slot,
        bytes: u64,
        failing: bool,
    ) -> Option<Permit> {
        let admitted = {
            let mut state = self.state();
            if state.closed {
                return None;
            }
            let (admitted, waits) = oneshot::channel();
            let ring = if failing { &mut state.failing } else { &mut state.well };
            ring.work(workspace).work(slot).push_back(Waiter { bytes, admitted });
            self.admit(&mut state);
            waits
        };
        admitted.await.ok()
    }

    /// Whoever waits goes away empty-handed, and whoever comes.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        (state.well, state.failing) = (Ring::default(), Ring::default());
    }

    /// Lets in whoever's turn it is, as long as there is room.
    fn admit(self: &Arc<Self>, state: &mut State) {
        let half = Limits { bytes: self.limits.bytes / 2, sockets: (self.limits.sockets / 2).max(1) };
        loop {
            let State { used, used_by_failing, well, failing, .. } = &mut *state;
            let well_next = well.size().filter(|bytes| used.fits(*bytes, self.limits));
            let failing_next = failing
                .size()
                .filter(|bytes| used.fits(*bytes, self.limits) && used_by_failing.fits(*bytes, half));
            let fails = well_next.is_none();
            let waiter = match (well_next, failing_next) {
                (Some(_), _) => well.take(),
                (None, Some(_)) => failing.take(),
                (None, None) => return,
            };
            let Some(Waiter { bytes, admitted }) = waiter else { return };
            used.add(bytes);
            if fails {
                used_by_failing.add(bytes);
            }
            let permit = Permit { fair: self.clone(), bytes, failing: fails, void: false };
            if let Err(mut permit) = admitted.send(permit) {
                permit.void = true;
                used.subtract(bytes);
                if fails {
                    used_by_failing.subtract(bytes);
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.void {
            return;
        }
        let mut state = self.fair.state();
        state.used.subtract(self.bytes);
        if self.failing {
            state.used_by_failing.subtract(self.bytes);
        }
        self.fair.admit(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// Lets `waiting` in one after the other through a single socket; who came when.
    async fn order(waiting: &[(u128, Slot, u64)]) -> Vec<(u128, Slot)> {
        let fair = Fair::new(Limits { bytes: u64::MAX, sockets: 1 });
        let first = fair.enter(workspace(0), 0, 1, false).await.unwrap();
        let (came, mut order) = tokio::sync::mpsc::unbounded_channel();
        for &(owner, slot, bytes) in waiting {
            let (own, came) = (fair.clone(), came.clone());
            let task = async move {
                let permit = own.enter(workspace(owner), slot, bytes, false).await.unwrap();
                came.send((owner, slot)).unwrap();
                drop(permit);
            };
            tokio::spawn(task);
            tokio::task::yield_now().await;
        }
        drop((first, came));
        let mut found = Vec::new();
        while let Some(next) = order.recv().await {
            found.push(next);
        }
        assert_eq!(fair.state().used, Used::default());
        found
    }

    #[tokio::test]
    async fn twenty_times_the_traffic_takes_nothing_from_others() {
        let mut waiting: Vec<_> = (0..200).map(|_| (1, 1, QUANTUM)).collect();
        waiting.extend((0..10).map(|_| (2, 2, QUANTUM)));
        let order = order(&waiting).await;
        assert_eq!(order.len(), 210);
        let last = order.iter().rposition(|(owner, _)| *owner == 2).unwrap();
        assert!(last <= 21, "the small tenant's last request was the {last}th");
    }

    #[tokio::test]
    async fn destinations_of_a_workspace_share_what_it_has() {
        let mut waiting: Vec<_> = (0..60).map(|n| (1, n % 6, QUANTUM)).collect();
        waiting.extend((0..20).map(|_| (2, 50, QUANTUM)));
        let order = order(&waiting).await;
        let of = |owner| order.iter().take(30).filter(|(o, _)| *o == owner).count();
        assert!((14..=16).contains(&of(2)), "workspace 2 was {} of the first 30", of(2));
        let early: Vec<_> = order.iter().filter(|(o, _)| *o == 1).take(12).map(|(_, slot)| *slot).collect();
        for slot in 0..6 {
            let times = early.iter().filter(|s| **s == slot).count();
            assert!((1..=3).contains(&times), "destination {slot} had {times} of twelve turns: {early:?}");
        }
    }

    #[tokio::test]
    async fn turns_are_counted_in_bytes() {
        let mut waiting: Vec<_> = (0..20).map(|_| (1, 1, 4 * QUANTUM)).collect();
        waiting.extend((0..80).map(|_| (2, 2, QUANTUM)));
        let order = order(&waiting).await;
        let large = order.iter().take(50).filter(|(o, _)| *o == 1).count();
        assert!((9..=11).contains(&large), "{large} large ones among the first 50");
    }

    #[tokio::test]
    async fn who_fails_has_half_at_most_and_who_gives_up_takes_nothing() {
        let fair = Fair::new(Limits { bytes: 1000, sockets: 8 });
        let mut held = Vec::new();
        for slot in 0..4 {
            held.push(fair.enter(workspace(1), slot, 10, true).await.unwrap());
        }
        let fifth =
            tokio::time::timeout(std::time::Duration::from_millis(20), fair.enter(workspace(2), 9, 10, true));
        assert!(fifth.await.is_err(), "failing ones had more than half");
        for slot in 10..14 {
            held.push(fair.enter(workspace(1), slot, 10, false).await.unwrap());
        }
        assert_eq!(fair.state().used, Used { bytes: 80, sockets: 8 });
        held.clear();
        assert_eq!(fair.state().used, Used::default());
        assert_eq!(fair.state().used_by_failing, Used::default());
        // Larger than everything: alone.
        assert!(fair.enter(workspace(1), 1, 5000, false).await.is_some());
        fair.close();
        assert!(fair.enter(workspace(1), 1, 1, false).await.is_none());
    }
}
