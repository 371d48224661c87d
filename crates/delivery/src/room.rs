//! Memory for what is being sent: bounded for all destinations together, and never all of it for one.
//!
//! A destination may hold as much as is free: while one alone sends, that is half of the room; with two, a third each;
//! always about as much stays free for the next as each of the others has. So destinations that hang keep what they
//! hold until their attempts time out, and a healthy one still finds room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tracecast_log::Slot;

/// The room of all destinations.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    by_slot: HashMap<Slot, u64>,
    waiting: VecDeque<Waiting>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    slot: Slot,
    bytes: u64,
    granted: oneshot::Sender<Held>,
}

/// Room that is taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<Inner>,
    slot: Slot,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(limit: u64) -> Room {
        Room { inner: Arc::new(Inner { limit, state: Mutex::default() }) }
    }

    /// Bytes taken at this moment.
    pub(crate) fn used(&self) -> u64 {
        self.inner.lock().used
    }

    /// Waits until there is room; `None` once it is closed.
    pub(crate) async fn take(&self, slot: Slot, bytes: u64) -> Option<Held> {
        let granted = {
            let mut state = self.inner.lock();
            if state.closed {
                return None;
            }
            let is_first = !state.waiting.iter().any(|w| w.slot == slot);
            if is_first && state.fits(slot, bytes, self.inner.limit) {
                return Some(self.inner.grant(&mut state, slot, bytes));
            }
            let (granted, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { slot, bytes, granted });
            receiver
        };
        granted.await.ok()
    }

    /// Whoever waits goes away empty-handed, and whoever comes.
    pub(crate) fn close(&self) {
        let mut state = self.inner.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(self: &Arc<Self>, state: &mut State, slot: Slot, bytes: u64) -> Held {
        state.used += bytes;
        *state.by_slot.entry(slot).or_default() += bytes;
        Held { inner: self.clone(), slot, bytes }
    }

    /// Grants what fits by now, the longest waiting first.
    fn serve(self: &Arc<Self>) {
        let mut refused = Vec::new();
        let mut state = self.lock();
        let mut i = 0;
        while let Some(Waiting { slot, bytes, .. }) = state.waiting.get(i) {
            let (slot, bytes) = (*slot, *bytes);
            if !state.fits(slot, bytes, self.limit) {
                i += 1;
                continue;
            }
            let Some(waiting) = state.waiting.remove(i) else { break };
            let held = self.grant(&mut state, slot, bytes);
            // Who has gone meanwhile gives it back, and not while the lock is held.
            if let Err(held) = waiting.granted.send(held) {
                refused.push(held);
            }
        }
        drop(state);
        drop(refused);
    }
}

impl State {
    fn fits(&self, slot: Slot, bytes: u64, limit: u64) -> bool {
        let free = limit.saturating_sub(self.used);
        let own = self.by_slot.get(&slot).copied().unwrap_or(0);
        // What is larger than the whole room goes alone.
        self.used == 0 || (bytes <= free && (own == 0 || own + bytes <= free))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.used = state.used.saturating_sub(self.bytes);
        if let Some(own) = state.by_slot.get_mut(&self.slot) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                state.by_slot.remove(&self.slot);
            }
        }
        let waits = !state.waiting.is_empty();
        drop(state);
        if waits {
            self.inner.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn now(room: &Room, slot: Slot, bytes: u64) -> Option<Held> {
        tokio::time::timeout(std::time::Duration::ZERO, room.take(slot, bytes)).await.ok().flatten()
    }

    #[tokio::test]
    async fn destinations_that_hold_all_they_may_leave_room_for_the_next() {
        let room = Room::new(1000);
        let mut held = Vec::new();
        for slot in 0..20 {
            let mut own = 0;
            while let Some(more) = now(&room, slot, 10).await {
                own += 10;
                held.push(more);
            }
            assert!(own >= 10 || slot > 6, "slot {slot} found nothing: {} used", room.used());
            assert!(slot > 0 || own == 500, "one alone takes half: {own}");
        }
        assert!(room.used() <= 1000);
        held.clear();
        assert_eq!(room.used(), 0);
        assert!(room.inner.lock().by_slot.is_empty());
    }

    #[tokio::test]
    async fn what_is_larger_than_the_room_goes_alone() {
        let room = Room::new(100);
        let first = now(&room, 1, 500).await.unwrap();
        assert!(now(&room, 2, 1).await.is_none());
        drop(first);
        let second = now(&room, 2, 1).await.unwrap();
        assert!(now(&room, 1, 500).await.is_none());
        drop(second);
        assert_eq!(room.used(), 0);
    }

    #[tokio::test]
    async fn the_longest_waiting_is_served_first_and_one_that_left_keeps_nothing() {
        let room = Room::new(100);
        let all = now(&room, 1, 100).await.unwrap();
        let gone = tokio::spawn({
            let room = room.clone();
            async move { room.take(2, 60).await }
        });
        tokio::task::yield_now().await;
        let waiting = tokio::spawn({
            let room = room.clone();
            async move { room.take(3, 60).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(all);
        let held = waiting.await.unwrap();
        assert_eq!(room.used(), 60);
        let late = tokio::spawn({
            let room = room.clone();
            async move { room.take(4, 60).await }
        });
        tokio::task::yield_now().await;
        room.close();
        assert!(late.await.unwrap().is_none());
        assert!(room.take(4, 1).await.is_none());
        drop(held);
        assert_eq!(room.used(), 0);
    }
}
