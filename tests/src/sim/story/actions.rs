//! What may happen while the process lives.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tracecast_destination::DEFAULT_WORKSPACE_ID;
use tracecast_log::{LogError, NewRecord, Projection, Route, Skip, SkipReason};
use tracecast_otlp::{Payload, SpanSet};

use super::{Process, Story};
use crate::sim::disk::Op;
use crate::sim::oracle::{Answer, Share};
use crate::sim::requeue::Around;
use crate::sim::sink::{Mood, locked};

/// Forward by a day each: less than the week for which dead letters are kept.
const CLOCK_JUMPS_MAX: u64 = 6;

impl Story {
    pub(super) async fn act(&mut self, process: &Process) {
        let roll = self.rng.random_range(0..100);
        let target = self.rng.random_range(0..self.targets.len());
        match roll {
            0..55 => {
                for _ in 0..self.rng.random_range(1..6) {
                    self.request(process, false);
                }
            }
            55..70 if self.plan.moods => {
                let mood = Mood::ALL[self.rng.random_range(0..Mood::ALL.len())];
                self.tell(|| format!("destination {target} is {mood:?} from now on"));
                if let Some(place) = locked(&self.shore.moods).get_mut(target) {
                    *place = mood;
                }
            }
            70..78 if self.plan.operators => self.operate(process, target),
            78..84 if self.plan.disk_faults => self.fault(),
            84..90 if self.plan.requeues => self.requeue(process, target),
            90..92 if self.plan.clock && self.summary.clock_jumps < CLOCK_JUMPS_MAX => {
                let nanos = if self.rng.random_bool(0.5) { -3_600_000_000_000 } else { 86_400_000_000_000 };
                self.tell(|| format!("the wall clock jumps by {} s", nanos / 1_000_000_000));
                self.world.shift_wall(nanos);
                self.summary.clock_jumps += 1;
            }
            _ => self.look(&process.log),
        }
        let millis = match self.rng.random_range(0..20) {
            0..12 => self.rng.random_range(0..30),
            12..17 => self.rng.random_range(0..500),
            17..19 => self.rng.random_range(0..8_000),
            _ => self.rng.random_range(0..120_000),
        };
        self.pass(Duration::from_millis(millis), || false).await;
    }

    fn operate(&mut self, process: &Process, number: usize) {
        let choice = self.rng.random_range(0..6);
        let live = self.targets.iter().filter(|t| !t.deleted).count();
        let all = self.targets.len();
        let Some(target) = self.targets.get_mut(number).filter(|t| !t.deleted) else { return };
        let done = match choice {
            0 => {
                target.paused = true;
                process.delivery.pause(target.id);
                "paused"
            }
            1 => {
                target.paused = false;
                process.delivery.resume(target.id);
                "resumed"
            }
            2 => {
                target.private = true;
                "made private"
            }
            3 if live > 1 => {
                target.deleted = true;
                "deleted"
            }
            4 if all < 8 => {
                self.add_target();
                "joined by another"
            }
            _ => {
                target.version += 1;
                "renamed"
            }
        };
        self.tell(|| format!("destination {number} is {done}"));
        let slots = self.slots(&process.log);
        self.apply(process, &slots);
    }

    fn fault(&mut self) {
        self.summary.disk_faults += 1;
        let mut disk = self.world.disk();
        let kind = self.rng.random_range(0..5);
        let part = [".seg", "journal", "checkpoint", ".dead", ""][self.rng.random_range(0..5)];
        let times = self.rng.random_range(1..4);
        let done = match kind {
            0 => {
                disk.capacity = self.rng.random_range(0..400_000);
                format!("disk of {} bytes", disk.capacity)
            }
            1 => {
                disk.capacity = u64::MAX;
                "disk has room again".to_owned()
            }
            2 => {
                disk.failing.push((Op::Sync, part, times));
                format!("{times} syncs of {part} fail")
            }
            3 if self.plan.read_faults => {
                disk.failing.push((Op::Read, ".seg", times));
                format!("{times} reads fail")
            }
            _ => {
                disk.failing.push((Op::Write, part, times));
                format!("{times} writes of {part} fail")
            }
        };
        drop(disk);
        self.tell(|| done);
    }

    /// Sends a request in. A `fresh` one is for everybody and holds nothing bad.
    pub(super) fn request(&mut self, process: &Process, fresh: bool) -> usize {
        let rng = &mut self.rng;
        let spans = if fresh { 1 } else { rng.random_range(1..7) };
        let filler = [5, 60, 600, 4_000][rng.random_range(0..if fresh { 1 } else { 4 })];
        let (mut asked, mut shares, mut routes, mut skips) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, target) in self.targets.iter().enumerate().filter(|(_, t)| !t.deleted) {
            let slot = process.log.slot(target.key());
            asked.push(number);
            let wanted = match rng.random_range(0..10) {
                _ if fresh => (0..spans).collect(),
                0..5 => (0..spans).collect(),
                5..8 => (0..spans).filter(|_| rng.random_bool(0.5)).collect(),
                _ => Vec::new(),
            };
            let left = spans - wanted.len() as u32;
            if left > 0 {
                skips.push(Skip { slot, reason: SkipReason::Sampled, spans: left });
            }
            if wanted.is_empty() {
                continue;
            }
            let projection = if target.private { Projection::PRIVACY } else { Projection::AS_IS };
            routes.push(Route {
                slot,
                projection,
                spans: SpanSet::from_positions(spans, wanted.iter().copied()),
            });
            shares.push(Share { destination: number, positions: wanted, private: target.private });
        }
        let poison: BTreeSet<u32> = (0..spans).filter(|_| !fresh && rng.random_bool(0.02)).collect();
        let mut oracle = locked(&self.shore.oracle);
        let number = oracle.request(spans, filler, asked, shares, poison);
        let Some(sent) = oracle.records.get_mut(number) else { return number };
        let payload = sent.payload.clone();
        // Ingest asks first.
        if !process.log.is_writable() {
            sent.answer = Answer::Refused;
            return number;
        }
        drop(oracle);
        let payload = if routes.is_empty() {
            Payload::new(Default::default(), 0)
        } else {
            Payload::new(payload, spans)
        };
        if routes.is_empty() {
            skips.iter_mut().for_each(|skip| skip.spans = spans);
        }
        let record = NewRecord {
            workspace: *DEFAULT_WORKSPACE_ID.as_bytes(),
            config_generation: 1,
            received_unix_nano: tracecast_log::world::unix_nano(),
            accepted: spans,
            routes,
            skips,
            trace_keys: Default::default(),
            origin: Default::default(),
            payload: Arc::new(payload),
        };
        let (log, shore, world) = (process.log.clone(), self.shore.clone(), self.world.clone());
        tokio::spawn(async move {
            let result = log.append(record).await;
            if world.disk().dead {
                return;
            }
            world.tell(|| format!("request {number} of {spans} spans: {result:?}"));
            let answer = match result {
                Ok(_) => Answer::Accepted(world.time()),
                Err(LogError::Invalid(reason)) => {
                    world.fail(format!("request {number} is invalid: {reason}"))
                }
                Err(_) => Answer::Refused,
            };
            if let Some(record) = locked(&shore.oracle).records.get_mut(number) {
                record.answer = answer;
            }
        });
        number
    }

    /// A replay, or a backfill, while everything else goes on.
    fn requeue(&mut self, process: &Process, number: usize) {
        let Some(target) = self.targets.get(number).filter(|target| !target.deleted) else { return };
        let (id, private) = (target.id, target.private);
        let around = Around { shore: self.shore.clone(), destination: number, id };
        if self.rng.random_bool(0.3) {
            locked(&self.shore.oracle).forgiving.insert(number);
            self.tell(|| format!("destination {number} refuses nothing any more"));
        }
        if self.rng.random_bool(0.5) {
            around.replay(process);
        } else {
            let back = Duration::from_secs([5, 60, 3600, 24 * 3600][self.rng.random_range(0..4)]);
            around.backfill(process, back, private);
        }
    }
}
