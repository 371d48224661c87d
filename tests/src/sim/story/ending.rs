//! The faults are over: what must be so then, and the last look at the books.
use std::collections::BTreeMap;
use std::time::Duration;

use tracecast_log::{Durability, Log, Slot, SlotKey};

use super::{Process, Story, runtime};
use crate::sim::oracle::Causes;
use crate::sim::requeue::Around;
use crate::sim::sink::{Mood, locked};

/// A fresh event passes within this time once the faults are over, if nobody helps: the longest hold.
const LIVENESS: Duration = Duration::from_secs(20 * 60);

impl Story {
    pub(super) fn last_life(&mut self) {
        let log = match self.open() {
            Some(opened) => opened,
            None => self.world.fail("dead without a reason".to_owned()),
        };
        let runtime = runtime();
        self.clock = self.world.time();
        runtime.block_on(async {
            locked(&self.shore.moods).iter_mut().for_each(|mood| *mood = Mood::Fine);
            let process = self.start(log.clone());
            let live: Vec<usize> =
                self.targets.iter().enumerate().filter(|(_, t)| !t.deleted).map(|(i, _)| i).collect();
            for target in self.targets.iter_mut().filter(|t| t.paused && !t.deleted) {
                target.paused = false;
                process.delivery.resume(target.id);
            }
            self.pass_a_fresh_event(&process, &live).await;
            let slots: Vec<Slot> = process.log.slots().into_iter().map(|(slot, _)| slot).collect();
            let rest = process.log.clone();
            let is_empty = move || slots.iter().all(|slot| rest.books(*slot).pending == 0);
            self.pass(Duration::from_secs(3 * 3600), &is_empty).await;
            if self.plan.requeues {
                self.bring_letters_home(&process, &live, &is_empty).await;
            }
            self.settle_accounts(&process.log, false);
            self.stop(&process).await;
        });
        drop(runtime);
        log.close();
        self.summary.carried += log.activity().carried;
        self.look(&log);
        drop(log);
        self.world.join_all();
        if self.is_in_memory() {
            return;
        }
        // And once more: a clean stop leaves nothing to do and nothing to say.
        let Some(log) = self.open() else { return };
        if let Some(rest) = log.slots().into_iter().find_map(|(slot, _)| log.backlog(slot)) {
            self.world.fail(format!("pending after a clean stop at rest: {rest:?}"));
        }
        self.compare(&log);
        log.close();
        drop(log);
        self.world.join_all();
    }

    async fn pass_a_fresh_event(&mut self, process: &Process, live: &[usize]) {
        let until = self.world.time() + LIVENESS;
        let mut sent = Vec::new();
        loop {
            sent.push(self.request(process, true));
            let (shore, watched, all) = (self.shore.clone(), sent.clone(), live.to_vec());
            let arrived = move || {
                let oracle = locked(&shore.oracle);
                all.iter().all(|target| watched.iter().any(|record| oracle.has_taken(*target, (*record, 0))))
            };
            self.pass(Duration::from_secs(60), &arrived).await;
            if arrived() {
                return;
            }
            if self.world.time() > until {
                let states: Vec<_> = self.targets.iter().map(|t| process.delivery.stats(t.id)).collect();
                self.world.fail(format!("no fresh event has passed within {LIVENESS:?}: {states:#?}"));
            }
        }
    }

    /// Nobody refuses anything any more: every letter comes home.
    async fn bring_letters_home(&mut self, process: &Process, live: &[usize], is_empty: &impl Fn() -> bool) {
        locked(&self.shore.oracle).forgiving.extend(live);
        for number in live {
            let Some(target) = self.targets.get(*number) else { continue };
            let (id, slot) = (target.id, process.log.slot(target.key()));
            let around = Around { shore: self.shore.clone(), destination: *number, id };
            let task = around.replay(process);
            let delivery = process.delivery.clone();
            let done = || task.is_finished() && delivery.replaying(id) == 0 && is_empty();
            self.pass(LIVENESS, &done).await;
            let left = process.log.dead_letters().list(slot).len();
            // What a broken file holds cannot be read, or is told of again.
            if !done() || (left > 0 && !self.flipped) {
                let stats = process.delivery.stats(id);
                self.world.fail(format!("{left} letters of {number} did not come home: {stats:#?}"));
            }
        }
    }

    pub(super) fn settle_accounts(&mut self, log: &Log, shutdown: bool) {
        if let Err(error) = log.flush() {
            self.world.fail(format!("not flushed at the end: {error}"));
        }
        let known: BTreeMap<SlotKey, Slot> = log.slots().into_iter().map(|(slot, key)| (key, slot)).collect();
        let failed = self.world.disk().failed.clone();
        let causes = Causes {
            damage: self.flipped,
            unreadable: failed.contains("read")
                || (self.power_was_cut && self.plan.log.durability == Durability::Buffered),
            disk_failed: !failed.is_empty(),
            small_cap: self.plan.small_cap || failed.contains("full"),
            // A clock that jumps may age spans over a restart.
            expiry: self.plan.expiry || self.plan.clock,
            shutdown,
        };
        for (number, target) in self.targets.iter().enumerate() {
            let slot = known.get(&target.key()).copied();
            let books = slot.map(|slot| log.books(slot)).unwrap_or_default();
            let letters = slot.map(|slot| log.dead_letters().list(slot)).unwrap_or_default();
            self.tell(|| format!("destination {number} at the end: {books:?}"));
            let oracle = locked(&self.shore.oracle);
            let settled = oracle.settle(number, target.deleted, &books, &letters, causes);
            drop(oracle);
            if let Err(finding) = settled {
                self.world.fail(finding);
            }
        }
    }
}
