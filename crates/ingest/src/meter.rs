//! What each key's events cost: counted where they are acknowledged, handed over about once a second.
//!
//! A key is charged by the events of its own workspace and by those it was presented for itself; a sender
//! that states another workspace's key adds nothing to it. Only registered keys are counted, so what the
//! meter holds is bounded by their number, whatever arrives.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracecast_genai::Generation;
use tracecast_otlp::Traces;

/// Requests of different keys seldom meet at the same lock.
const SHARDS: usize = 16;
const DAY_NANOS: u64 = 86_400 * 1_000_000_000;
/// Dearer than any call: a price list in another unit, not a cost. USD.
const SPAN_COST_MAX: f64 = 1e6;

/// What was counted under one key on one UTC day (that of `last_used_unix_nano`) since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// Cost of generations paid with the platform's credits, in billionths of a USD.
    pub cost_nano_usd: u64,
    /// Cost of generations the provider charged to the caller's own key, in billionths of a USD.
    pub byok_nano_usd: u64,
    /// Spans acknowledged, of every kind.
    pub events: u64,
    /// When the last of them arrived.
    pub last_used_unix_nano: u64,
}

/// Adds up what the keys' events cost.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    shards: [Mutex<Shard>; SHARDS],
}

/// By key and UTC day, so that no sum spans midnight.
type Shard = HashMap<([u8; 32], u64), KeyUsage>;

impl Meter {
    /// Counts what one record cost; called when the log has taken it.
    pub(crate) fn count(&self, usage: &KeyUsage) {
        let day = usage.last_used_unix_nano / DAY_NANOS;
        let mut shard = lock(self.shard(&usage.hash));
        match shard.get_mut(&(usage.hash, day)) {
            Some(sum) => sum.add(usage),
            None => {
                shard.insert((usage.hash, day), usage.clone());
            }
        }
    }

    /// What was counted since the last call, earlier days first.
    pub(crate) fn take(&self) -> Vec<KeyUsage> {
        let taken = self.shards.iter().flat_map(|shard| std::mem::take(&mut *lock(shard)).into_values());
        let mut taken: Vec<KeyUsage> = taken.collect();
        taken.sort_by_key(|usage| usage.last_used_unix_nano);
        taken
    }

    fn shard(&self, hash: &[u8; 32]) -> &Mutex<Shard> {
        let [first, ..] = *hash;
        &self.shards[usize::from(first) % SHARDS]
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeyUsage {
    /// What the spans of one record come to: each span once, money only of generations. A cost that is
    /// unknown, negative or absurd counts as 0.
    pub(crate) fn of(hash: [u8; 32], traces: &Traces, now_unix_nano: u64) -> KeyUsage {
        let mut usage = KeyUsage {
            hash,
            cost_nano_usd: 0,
            byok_nano_usd: 0,
            events: traces.len() as u64,
            last_used_unix_nano: now_unix_nano,
        };
        for span in traces.spans() {
            let generation = Generation::new(span);
            // The cost is asked for first: it is the cheaper question, and few spans have one.
            let cost = generation.total_cost().filter(|usd| *usd > 0.0 && *usd < SPAN_COST_MAX);
            let Some(cost) = cost else { continue };
            if !generation.is_generation() {
                continue;
            }
            let nano = (cost * 1e9).round() as u64;
            let sum = if generation.is_byok() { &mut usage.byok_nano_usd } else { &mut usage.cost_nano_usd };
            *sum = sum.saturating_add(nano);
        }
        usage
    }

    fn add(&mut self, other: &KeyUsage) {
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
        self.byok_nano_usd = self.byok_nano_usd.saturating_add(other.byok_nano_usd);
        self.events = self.events.saturating_add(other.events);
        self.last_used_unix_nano = self.last_used_unix_nano.max(other.last_used_unix_nano);
    }
}
