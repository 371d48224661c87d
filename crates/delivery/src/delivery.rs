//! The set of destinations: where committed records, configuration and recovery come in.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tracecast_destination::Destination;
use tracecast_log::{
    Backlog, DropReason, Entry, LetterFilter, Log, LogError, Outcome, Sequence, Slot, Subscriber,
};
use tracecast_otlp::Payload;
use tracecast_sinks::{Adapter, BuildError, Clients};
use uuid::Uuid;

use crate::backfill::{self, Backfill, Decide};
use crate::fair::{Fair, Limits};
use crate::history::{Memo, Transition};
use crate::lane::{Closing, Lane, Setup};
use crate::queue::Ref;
use crate::replay::{self, Replay, Replays};
use crate::room::Room;
use crate::shared::Shared;
use crate::stack::Sender;
use crate::stats::{Stats, unix_nano};
use crate::{Observer, Options, Standing, Watcher};

/// Makes the adapter of a destination.
pub type Builder = Arc<dyn Fn(&Destination) -> Result<Arc<dyn Adapter>, BuildError> + Send + Sync>;

/// Ages are counted from acceptance; beyond this an age is as good as none.
const MAX_AGE_CAP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long cut drivers get to let go of what they hold.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// Owns one runtime per destination; a [`Subscriber`] of the log. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    build: Builder,
    registry: RwLock<Registry>,
    /// References for slots that no `apply` has named yet, if they cannot be read later. Locked only while
    /// `registry` is.
    aside: Mutex<BTreeMap<Slot, Vec<Ref>>>,
    /// Configurations are applied one after the other.
    applying: Mutex<()>,
    pub(crate) replays: Replays,
}

#[derive(Default)]
struct Registry {
    lanes: HashMap<Slot, Arc<Lane>>,
    slots: HashMap<Uuid, Slot>,
    /// Slots of destinations that were here and are no more: late records for them are dropped.
    deleted: HashSet<Slot>,
    /// Lanes of deleted destinations that may still have requests under way.
    leaving: Vec<Weak<Lane>>,
    shutdown: bool,
}

impl Delivery {
    /// Delivers what `log` commits with the adapters of `tracecast_sinks`. To be subscribed to the log by
    /// the caller.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, whose timers and threads all destinations use.
    pub fn new(log: Log, clients: Clients, options: Options) -> Delivery {
        let build = move |destination: &Destination| tracecast_sinks::build(destination, &clients);
        Delivery::with_builder(log, Arc::new(build), options)
    }

    /// The same with adapters from elsewhere.
    ///
    /// # Panics
    ///
    /// See [`Delivery::new`].
    pub fn with_builder(log: Log, build: Builder, options: Options) -> Delivery {
        let options = Options { max_age: options.max_age.min(MAX_AGE_CAP), ..options };
        // Sending takes about twice the payload.
        let limits = Limits { bytes: options.in_flight_bytes / 2, sockets: options.sockets_max };
        let shared = Shared {
            log,
            runtime: Handle::current(),
            running: watch::Sender::new(0),
            room: Room::new(options.in_flight_bytes),
            fair: Fair::new(limits),
            refs: Arc::default(),
            began: (Instant::now(), unix_nano()),
            observer: OnceLock::new(),
            watcher: OnceLock::new(),
            options,
        };
        let inner = Inner {
            shared: Arc::new(shared),
            build,
            registry: RwLock::default(),
            aside: Mutex::default(),
            applying: Mutex::default(),
            replays: Replays::default(),
        };
        Delivery { inner: Arc::new(inner) }
    }

    /// Makes the set of destinations what it should be: new ones start, changed ones get the new config
    /// (queue kept, waits cut short), unchanged ones notice nothing, missing ones give up what they have
    /// pending as `DestinationDeleted` once their requests under way have ended.
    ///
    /// Returns which destinations cannot be sent to and why; they are held until a later change of them.
    pub fn apply(&self, destinations: &[(Slot, Arc<Destination>)]) -> Vec<(Uuid, String)> {
        let put = |(slot, destination): &(Slot, Arc<Destination>)| {
            self.put(*slot, destination, Standing::Active).err().map(|reason| (destination.id, reason))
        };
        let errors = destinations.iter().filter_map(put).collect();
        let wanted: HashSet<Uuid> = destinations.iter().map(|(_, destination)| destination.id).collect();
        let mut unwanted: Vec<(Slot, Uuid)> =
            self.inner.read().slots.iter().map(|(id, slot)| (*slot, *id)).collect();
        unwanted.retain(|(_, id)| !wanted.contains(id));
        unwanted.sort_unstable();
        unwanted.into_iter().for_each(|(_, id)| self.remove(id));
        errors
    }

    /// Adds a destination or changes one, as in [`Delivery::apply`]; the others are not looked at. One that stands still
    /// does so from the first moment: nothing of its backlog is sent. A pause ends with [`Delivery::resume`] alone.
    ///
    /// # Errors
    ///
    /// Why it cannot be sent to; it is held until a later change of it.
    pub fn put(&self, slot: Slot, destination: &Arc<Destination>, standing: Standing) -> Result<(), String> {
        let inner = &self.inner;
        let _one_at_a_time = inner.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = inner.read().lanes.get(&slot).filter(|lane| lane.id == destination.id).cloned();
        if let Some(lane) = &lane {
            lane.halt(standing);
            let setup = lane.setup();
            if setup.sender.is_ok() && is_same(&setup.destination, destination) {
                lane.retire(standing == Standing::Retired);
                return Ok(());
            }
        }
        let sender = inner.sender(destination);
        let told = sender.as_ref().map(|_| ()).map_err(String::clone);
        let setup = Setup { destination: destination.clone(), sender };
        match lane {
            Some(lane) => {
                lane.reconfigure(setup);
                lane.retire(standing == Standing::Retired);
            }
            None => inner.add(slot, setup, standing),
        }
        told
    }

    /// Takes a destination out, as in [`Delivery::apply`]; nothing happens if it is unknown.
    pub fn remove(&self, id: Uuid) {
        let _one_at_a_time = self.inner.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.remove(id);
    }

    /// Gives up what belongs to destinations that are not configured, as `DestinationDeleted`; call after the
    /// first [`Delivery::apply`]. The others read on where the log says that they were.
    pub fn recover(&self) {
        let shared = &self.inner.shared;
        let unowned: Vec<Backlog> = {
            let registry = self.inner.read();
            let slots = shared.log.slots().into_iter().map(|(slot, _)| slot);
            let unowned = slots.filter(|slot| !registry.lanes.contains_key(slot));
            unowned.filter_map(|slot| shared.log.backlog(slot)).collect()
        };
        for Backlog { slot, first_ordinal, end_ordinal, spans, .. } in unowned {
            tracing::info!(slot, spans, "backlog of a deleted destination dropped");
            let outcome = Outcome::Dropped(DropReason::DestinationDeleted);
            shared.log.settle_range(slot, first_ordinal..end_ordinal, outcome);
        }
        let aside = std::mem::take(&mut *self.inner.aside());
        for (slot, refs) in aside {
            drop_all(shared, slot, refs, DropReason::DestinationDeleted);
        }
    }

    /// From now on `observer` is told what becomes of every span; the first one given stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.inner.shared.observer.set(observer);
    }

    /// From now on `watcher` is told of every change of state; the first one given stays.
    pub fn watch(&self, watcher: Watcher) {
        let _ = self.inner.shared.watcher.set(watcher);
    }

    /// Puts spans into the log that this gateway has made itself, for one destination alone: they are requeued and not
    /// selected, so nobody else's books know of them. Answers how many; `None` if the destination is unknown.
    pub async fn inform(&self, id: Uuid, payload: Payload) -> Option<Result<u64, LogError>> {
        let lane = self.lane(id)?;
        Some(replay::append(&lane, replay::made_here(&lane, payload)).await)
    }

    /// Sends dead letters of a destination again: those that pass `filter` and are there now. Up to a thousand go
    /// back into the log before this returns, the rest follows at a tenth of the rate at which the destination takes
    /// spans, and while it takes any. `None` if it is unknown.
    pub async fn replay(&self, id: Uuid, filter: LetterFilter) -> Option<Result<Replay, LogError>> {
        let lane = self.lane(id)?;
        lane.took_up_offer();
        Some(replay::start(&self.inner, &lane, filter).await)
    }

    /// Sends records again that were received at `from_unix_nano` or later and that the log still holds, as far as
    /// `decide` says so: their copies are requeued before this returns. `None` if the destination is unknown.
    pub async fn backfill(
        &self,
        id: Uuid,
        from_unix_nano: u64,
        decide: Decide,
    ) -> Option<Result<Backfill, LogError>> {
        let lane = self.lane(id)?;
        lane.took_up_offer();
        let _turn = self.inner.replays.turn(id).await;
        Some(backfill::run(&lane, from_unix_nano, decide).await)
    }

    /// Dead letters of a destination that wait for their turn to be sent again.
    pub fn replaying(&self, id: Uuid) -> u64 {
        self.inner.replays.waiting(id)
    }

    /// Live figures of a destination; `None` if it is not configured.
    pub fn stats(&self, id: Uuid) -> Option<Stats> {
        self.lane(id).map(|lane| lane.stats())
    }

    /// A destination's latest changes of state, oldest first; empty if it is not configured.
    pub fn history(&self, id: Uuid) -> Vec<Transition> {
        self.lane(id).map(|lane| lane.history()).unwrap_or_default()
    }

    /// What is to be remembered of each destination over a restart; those with nothing are left out.
    pub fn memos(&self) -> Vec<(Uuid, Memo)> {
        let lanes: Vec<_> = self.inner.read().lanes.values().cloned().collect();
        let memos = lanes.iter().map(|lane| (lane.id, lane.memo()));
        memos.filter(|(_, memo)| *memo != Memo::default()).collect()
    }

    /// Tells a destination what an earlier process remembered of it; to be called once. Nothing happens if it is
    /// unknown.
    pub fn recall(&self, id: Uuid, memo: Memo) {
        if let Some(lane) = self.lane(id) {
            lane.recall(memo);
        }
    }

    /// Bytes held for what is being sent, in all.
    pub fn in_flight_bytes(&self) -> u64 {
        self.inner.shared.room.used()
    }

    /// Stops sending to a destination; requests under way end, the backlog stays. False if unknown.
    pub fn pause(&self, id: Uuid) -> bool {
        self.lane(id).map(|lane| lane.pause()).is_some()
    }

    /// Ends a pause, and every wait: tries now. False if unknown.
    pub fn resume(&self, id: Uuid) -> bool {
        self.lane(id).map(|lane| lane.resume()).is_some()
    }

    /// Starts nothing new and lets requests under way end, up to `grace`; then cuts them. What was not
    /// answered stays pending in the log.
    pub async fn shutdown(&self, grace: Duration) {
        let lanes = self.inner.all_lanes();
        lanes.iter().for_each(|lane| lane.close(Closing::Shutdown));
        self.inner.shared.fair.close();
        self.inner.shared.room.close();
        if self.inner.is_quiet_within(grace).await {
            return;
        }
        tracing::warn!("requests cut at shutdown, their spans stay pending");
        lanes.iter().for_each(|lane| lane.abort());
        self.inner.is_quiet_within(ABORT_GRACE).await;
    }

    /// For a log that ends with the process (memory mode): goes on sending for up to `grace`, then cuts
    /// requests under way and drops what is left as `Shutdown`. Call it instead of
    /// [`Delivery::shutdown`], once nothing new is accepted.
    pub async fn drain(&self, grace: Duration) {
        if !self.inner.is_quiet_within(grace).await {
            tracing::warn!("backlog dropped at shutdown, it was kept in memory only");
        }
        self.inner.all_lanes().iter().for_each(|lane| lane.close(Closing::Ended));
        self.inner.is_quiet_within(ABORT_GRACE).await;
    }

    /// References in all queues.
    #[cfg(test)]
    pub(crate) fn references(&self) -> usize {
        self.inner.shared.refs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// See [`Inner::is_quiet_within`].
    #[cfg(test)]
    pub(crate) async fn is_quiet_within(&self, time: Duration) -> bool {
        self.inner.is_quiet_within(time).await
    }

    fn lane(&self, id: Uuid) -> Option<Arc<Lane>> {
        self.inner.lane(id)
    }
}

impl Subscriber for Delivery {
    fn committed(&self, entry: Arc<Entry>) {
        let inner = &self.inner;
        let shared = &inner.shared;
        // Called from a thread of the log: time is to be the runtime's.
        let _context = shared.runtime.enter();
        let deadline = Instant::now() + shared.options.max_age;
        let mut late = Vec::new();
        let registry = inner.read();
        for (i, route) in entry.routes.iter().enumerate() {
            let Some(item) = Ref::new(&entry, i, deadline) else { continue };
            if let Some(lane) = registry.lanes.get(&route.slot) {
                lane.push(item);
            } else if registry.deleted.contains(&route.slot) {
                late.push((route.slot, item));
            } else if !shared.log.is_readable() {
                inner.aside().entry(route.slot).or_default().push(item);
            }
        }
        drop(registry);
        for (slot, item) in late {
            drop_all(shared, slot, vec![item], DropReason::DestinationDeleted);
        }
    }

    fn give_up(&self, slot: Slot, up_to: Sequence) {
        let inner = &self.inner;
        let registry = inner.read();
        if let Some(lane) = registry.lanes.get(&slot) {
            lane.give_up(up_to);
            return;
        }
        let log = &inner.shared.log;
        log.settle_range(slot, 0..log.end_upto(slot, up_to), Outcome::Dropped(DropReason::BacklogFull));
        let refs = {
            let mut aside = inner.aside();
            let Some(refs) = aside.get_mut(&slot) else { return };
            let end = refs.partition_point(|r| r.sequence() <= up_to);
            refs.drain(..end).collect()
        };
        drop(registry);
        drop_all(&inner.shared, slot, refs, DropReason::BacklogFull);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("destinations", &self.inner.read().lanes.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn lane(&self, id: Uuid) -> Option<Arc<Lane>> {
        let registry = self.read();
        registry.slots.get(&id).and_then(|slot| registry.lanes.get(slot)).cloned()
    }

    /// Nothing is to be started any more.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.read().shutdown
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self) -> MutexGuard<'_, BTreeMap<Slot, Vec<Ref>>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way out of a destination, or why there is none. A builder that panics is no reason to fall.
    fn sender(&self, destination: &Destination) -> Result<Sender, String> {
        let timeout = self.shared.options.attempt_timeout;
        let build = || (self.build)(destination).map(|adapter| Sender::new(adapter, timeout));
        match catch_unwind(AssertUnwindSafe(build)) {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the adapter could not be made: internal error".to_owned()),
        }
    }

    /// Every lane that may still do something, and the mark that new ones are not to start.
    fn all_lanes(&self) -> Vec<Arc<Lane>> {
        let mut registry = self.write();
        registry.shutdown = true;
        let leaving = registry.leaving.iter().filter_map(Weak::upgrade);
        let mut lanes: Vec<_> = leaving.chain(registry.lanes.values().cloned()).collect();
        lanes.sort_by_key(|lane| lane.slot);
        lanes
    }

    /// Waits until no driver runs; false if some still do after `time`.
    async fn is_quiet_within(&self, time: Duration) -> bool {
        let mut running = self.shared.running.subscribe();
        tokio::time::timeout(time, running.wait_for(|n| *n == 0)).await.is_ok()
    }

    fn add(&self, slot: Slot, setup: Setup, standing: Standing) {
        let lane = Arc::new(Lane::new(slot, setup, standing, self.shared.clone()));
        let mut registry = self.write();
        let before = registry.remove(slot);
        let was_deleted = registry.deleted.remove(&slot);
        registry.slots.insert(lane.id, slot);
        registry.lanes.insert(slot, lane.clone());
        if registry.shutdown {
            lane.close(Closing::Shutdown);
        }
        for item in self.aside().remove(&slot).into_iter().flatten() {
            lane.push(item);
        }
        // What is committed from here on waits for the registry, and comes to the lane. What a deleted destination
        // had is given up, even where that is not journaled yet.
        if !was_deleted
            && self.shared.log.is_readable()
            && let Some(backlog) = self.shared.log.backlog(slot)
        {
            lane.read_on(backlog.first_ordinal, self.shared.log.intents(slot));
        }
        drop(registry);
        before.inspect(|lane| lane.close(Closing::Deleted));
    }

    fn remove(&self, id: Uuid) {
        let mut registry = self.write();
        registry.leaving.retain(|lane| lane.strong_count() > 0);
        let removed = registry.slots.get(&id).copied().and_then(|slot| registry.remove(slot));
        drop(registry);
        // Nobody finds this lane any more, so nothing is queued after it is closed.
        removed.inspect(|lane| lane.close(Closing::Deleted));
    }
}

impl Registry {
    /// Takes a destination out; the caller closes it.
    fn remove(&mut self, slot: Slot) -> Option<Arc<Lane>> {
        let lane = self.lanes.remove(&slot)?;
        self.deleted.insert(slot);
        self.slots.remove(&lane.id);
        self.leaving.push(Arc::downgrade(&lane));
        Some(lane)
    }
}

fn drop_all(shared: &Shared, slot: Slot, refs: Vec<Ref>, reason: DropReason) {
    let ended = refs.into_iter().map(|item| (item.into_piece(), Outcome::Dropped(reason)));
    shared.settle(slot, ended);
}

/// Whether the two say the same, whenever it was said.
fn is_same(a: &Arc<Destination>, b: &Arc<Destination>) -> bool {
    let content = |destination: &Destination| {
        let (mut plain, secrets) = destination.to_stored();
        if let Some(fields) = plain.as_object_mut() {
            fields.remove("created_at");
            fields.remove("updated_at");
        }
        (plain, secrets)
    };
    Arc::ptr_eq(a, b) || content(a) == content(b)
}
