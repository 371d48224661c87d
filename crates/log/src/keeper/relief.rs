//! Who pays when space is short: the destination with the most pending bytes, and nobody else.
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::RETRY;
use crate::shared::Inner;
use crate::types::{Sequence, Slot};
use crate::world;

/// What was asked for is given so long to be settled before more is asked.
const GIVE_UP_WAIT: Duration = Duration::from_millis(200);
/// While the newest are refused, nobody is asked to give up the oldest before space was short for so long, with nothing
/// on its way back,
const REFUSE_WAIT: Duration = Duration::from_secs(1);
/// and the keeper saw so as often: on a starved machine the others need longer for what would make room.
const REFUSE_LOOKS: u32 = 25;
/// For so long after a failure of the disk nobody is asked to give anything up.
const MEND_WAIT: Duration = Duration::from_secs(5);

/// What was asked of whom.
#[derive(Debug)]
pub(super) struct Relief {
    /// What each slot was last asked to give up to.
    asked: HashMap<Slot, Sequence>,
    waiting: Option<(Slot, u64, Instant)>,
    asked_at: Instant,
    short: Option<Short>,
    /// When appends or seals were last seen to fail.
    failed_at: Option<Instant>,
}

/// Space is short, and nothing is on its way back.
#[derive(Debug)]
struct Short {
    since: Instant,
    /// How often that was seen.
    looks: u32,
    /// Settlements that were on their way when it began: what they free comes back first.
    settlements: u64,
    /// They have come, and since then the keeper has had a turn in which to give back and to carry over.
    settled: bool,
}

impl Relief {
    pub(super) fn new() -> Relief {
        Relief { asked: HashMap::new(), waiting: None, asked_at: world::now(), short: None, failed_at: None }
    }

    /// The disk failed just now.
    pub(super) fn disk_failed(&mut self) {
        self.failed_at = Some(world::now());
    }

    /// Short of space: the slot with the most pending bytes is asked for its oldest, and nobody else. Files that come
    /// back by themselves are waited for.
    pub(super) fn look(&mut self, inner: &Inner, is_short: bool, comes_back: bool) {
        if inner.failed.load(Ordering::Acquire) {
            self.disk_failed();
        }
        if !is_short {
            self.asked.clear();
            self.waiting = None;
            self.short = None;
            return;
        }
        // A disk that failed is not helped by giving anything up: once it works again, what could not be sealed or
        // copied makes room.
        if self.failed_at.is_some_and(|at| world::elapsed(at) < MEND_WAIT) {
            self.short = None;
            return;
        }
        if comes_back {
            self.short = None;
            return;
        }
        let short = self.short.get_or_insert_with(|| Short {
            since: world::now(),
            looks: 0,
            settlements: inner.settlements.pushed(),
            settled: false,
        });
        short.looks += 1;
        if inner.on_disk.is_some() && !short.settled {
            short.settled = inner.settlements.are_done(short.settlements);
            return;
        }
        // Refusing what is new makes room by itself, as soon as the others have been sent what they have.
        let refuses = inner.drop_newest.load(Ordering::Acquire);
        if refuses && (world::elapsed(short.since) < REFUSE_WAIT || short.looks < REFUSE_LOOKS) {
            return;
        }
        let state = inner.state();
        let Some(slot) = state.ledger.laggard() else { return };
        if let Some((asked, number, at)) = self.waiting
            && asked == slot
            && state.segments.is_held_by(number, slot)
            && world::elapsed(at) < GIVE_UP_WAIT
        {
            return;
        }
        let asked = self.asked.get(&slot).copied().unwrap_or(0);
        let Some((number, up_to)) = state.segments.oldest_held_by(slot, asked) else {
            // Everything was asked for; what was in flight then may be pending again.
            if world::elapsed(self.asked_at) > RETRY {
                self.asked.remove(&slot);
            }
            return;
        };
        drop(state);
        self.asked.insert(slot, up_to);
        self.waiting = Some((slot, number, world::now()));
        self.asked_at = world::now();
        inner.tell(|subscriber| subscriber.give_up(slot, up_to));
    }
}

/// Whether new spans are to be refused for those above their share.
pub(super) fn judge(inner: &Inner, is_carrying: bool) {
    let Some(on_disk) = inner.on_disk.as_ref().filter(|_| inner.drop_newest.load(Ordering::Acquire)) else {
        return;
    };
    let already = inner.refusing.load(Ordering::Acquire);
    // While some is carried over, what is wanted may have room once the rest is gone: it is waited for as long as
    // there is half of that left.
    let is_tight = on_disk.pool.is_tight(already, is_carrying && !already);
    if is_tight != already {
        tracing::info!(refusing = is_tight, "new spans for those with the most pending bytes");
        inner.refusing.store(is_tight, Ordering::Release);
    }
}
