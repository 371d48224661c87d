//! The per-destination runtime: batching, concurrency, retry, dead letters, the books.
//!
//! [`Delivery`] subscribes to the log. A committed record becomes one small reference in the queue of each
//! destination that selected it; from there every destination runs on its own:
//!
//! ```text
//!  log ──committed──► queue ──batcher──► part ──► turn ─► concurrency ─► timeout ─► adapter ──► vendor
//!   ▲                (lane)   (driver)    ▲                                   │
//!   │                                     └── retry, halves ◄── ruling ◄─ answer
//!   └───────────────── settlements, dead letters ◄──────────────────┘
//! ```
//!
//! | file | concept |
//! | --- | --- |
//! | `delivery` | the set of destinations; where the log and the control plane come in |
//! | `lane` | one destination's queue, configuration and state, shared under one short lock |
//! | `shared` | what all lanes share |
//! | `course` | how far a destination has read in the log |
//! | `queue` | a bounded number of references in log order, and how a batch is cut from them |
//! | `fair` | whose turn it is, when all destinations together want more than there is |
//! | `first_life` | what is known of spans that are sent once more (pure) |
//! | `reform` | batches of an earlier process, formed again of the same spans |
//! | `driver` | the task that sends, waits and applies answers |
//! | `attempt` | one send, or one dead letter, as a task of its own |
//! | `room` | the memory of what is being sent, shared fairly |
//! | `stack` | the adapter behind tower layers |
//! | `ruling` | from an answer to the fate of each span (pure) |
//! | `health`, `policy` | from answers to the state, the waits and the concurrency of the destination (pure) |
//! | `rate` | how fast a destination may be sent to, if its owner says so (pure) |
//! | `limits` | which sizes a destination takes, as learned from its answers (pure) |
//! | `job` | pieces, parts with their tokens, halving (pure) |
//! | `gap` | what was lost while a destination only failed (pure) |
//! | `lag` | whether what is pending waits for longer than it should (pure) |
//! | `stats`, `history` | counters, latencies and changes of state |
//! | `replay` | dead letters on their way back into the log |
//! | `backfill` | records of the past on their way back into the log |
//!
//! # What holds
//!
//! - Every span handed in by the log is settled exactly once, or is still pending: queued, outstanding, or
//!   kept aside for a destination that is not configured yet. Nothing is settled at shutdown that was not
//!   answered; the log hands it back at the next start.
//! - Nothing a destination does is seen by another one: no lock, task, queue or limit is shared between
//!   them that is held while anybody waits.
//! - A batch keeps its composition, and so its token, until it must be split or loses spans to age. Where the vendor
//!   de-duplicates by it ([`tracecast_sinks::Adapter::keeps_batches`]) it is noted in the journal before it is first
//!   sent, all of it is settled in one write, and a start forms what was noted and has not ended before anything else:
//!   a `kill -9` makes no duplicates there. The token is no part of the note. It is made of the spans, so it can never
//!   come to stand for others.
//! - Payloads are in memory only while a batch is being sent, within one bound for all destinations of which none
//!   gets everything; a destination that fails holds references, 64 KiB of them as a rule. What it cannot hold it reads on from the log when the queue runs low, by its own ordinals,
//!   without gap or repetition, until it has caught up; what it gives up of that is settled by ordinals, unread. It
//!   reads no more than 65,536 spans ahead of its oldest that is not settled. In memory mode the log bounds what
//!   is held.
//! - All requests together stay below a number and a sum of bytes; who waits for a place gets it in turn, by
//!   workspace and then by destination. Those that are failing have half of the places at most.
//! - An idle destination has no task, timer, connection or buffer.

mod attempt;
mod backfill;
mod course;
mod delivery;
mod driver;
mod fair;
mod first_life;
mod gap;
mod health;
mod history;
mod job;
mod lag;
mod lane;
mod limits;
mod policy;
mod queue;
mod rate;
mod reform;
mod replay;
mod room;
mod ruling;
mod shared;
mod stack;
mod stats;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tracecast_destination::Destination;
use tracecast_log::{DropReason, Outcome, Sequence, Slot};
use tracecast_otlp::{Payload, SpanSet};

pub use attempt::without_content;
pub use backfill::{Backfill, Decide};
pub use delivery::{Builder, Delivery};
pub use gap::{Gap, Gaps, Lost};
pub use history::{Memo, Transition};
pub use replay::Replay;
pub use stats::{LastError, Latency, Stats};

/// Settings that hold for all destinations.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long spans are tried, counted from their acceptance; then they are dropped as expired.
    pub max_age: Duration,
    /// Upper bound of the first retry's wait; it doubles with every failure.
    pub retry_base: Duration,
    /// Upper bound of any retry's wait, unless the vendor asks for more.
    pub retry_cap: Duration,
    /// Longest time one attempt may take, from connecting to the last byte of the reply.
    pub attempt_timeout: Duration,
    /// A destination with nothing but failures for so long is probed only once per hour.
    pub pause_after: Duration,
    /// Bytes that everything being sent may hold together: payloads and what is made of them.
    pub in_flight_bytes: u64,
    /// Requests under way to all destinations together.
    pub sockets_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_age: Duration::from_secs(24 * 3600),
            retry_base: Duration::from_millis(500),
            retry_cap: Duration::from_secs(60),
            attempt_timeout: Duration::from_secs(30),
            pause_after: Duration::from_secs(5 * 24 * 3600),
            in_flight_bytes: 256 << 20,
            sockets_max: 512,
        }
    }
}

/// Told what becomes of the spans of a record at a destination. Its calls must return at once.
pub trait Observer: Send + Sync + 'static {
    /// They are being sent.
    fn sending(&self, slot: Slot, sequence: Sequence, spans: &SpanSet);

    /// The attempt has ended, with this trouble if any. What is final follows as settled.
    fn answered(&self, slot: Slot, sequence: Sequence, spans: &SpanSet, trouble: Option<&LastError>);

    /// All spans of a new record were here before and are to be sent again.
    fn requeued(&self, slot: Slot, sequence: Sequence, payload: &Payload);

    /// They are final.
    fn settled(&self, slot: Slot, sequence: Sequence, spans: &SpanSet, outcome: Outcome);

    /// Spans that were never read are given up: all that the destination has pending in these records.
    fn given_up(&self, slot: Slot, records: RangeInclusive<Sequence>, reason: DropReason);
}

/// Told of every change of a destination's state, in order for each. It must return at once.
pub type Watcher = Arc<dyn Fn(&Destination, &Transition) + Send + Sync>;

/// Whether a destination is to be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Active,
    /// The user has stopped it: data kept.
    Paused,
    /// The config file names it no longer: data kept.
    Retired,
}

/// Whether and how a destination is being sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Recent successes, or nothing known yet.
    Healthy,
    /// Failing, or storing only part of what it gets; retried with backoff. Or lagging: what is pending waits for longer
    /// than a working destination needs.
    Degraded,
    /// Told to wait: nothing is sent until then.
    Throttled,
    /// Circuit open: single probes only.
    Open,
    /// Refuses the credentials: data kept, probed at a low rate.
    HeldAuth,
    /// Answers as a wrong address does, or cannot be set up: data kept, probed at a low rate.
    HeldConfig,
    /// Nothing but failures for days: data kept, probed once per hour.
    AutoPaused,
    /// Said that it will never come back: data kept, nothing sent until somebody acts.
    Gone,
    /// Stopped by the user, or switched off: data kept.
    Paused,
    /// Deleted: requests under way end, the rest is given up.
    Draining,
    /// No longer named by the config file: takes nothing new, data kept.
    Retired,
}

impl State {
    /// Every state, in the order they are listed in metrics.
    pub const ALL: [State; 11] = [
        State::Healthy,
        State::Degraded,
        State::Throttled,
        State::Open,
        State::HeldAuth,
        State::HeldConfig,
        State::AutoPaused,
        State::Gone,
        State::Paused,
        State::Draining,
        State::Retired,
    ];

    /// The name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Healthy => "healthy",
            State::Degraded => "degraded",
            State::Throttled => "throttled",
            State::Open => "open",
            State::HeldAuth => "held_auth",
            State::HeldConfig => "held_config",
            State::AutoPaused => "auto_paused",
            State::Gone => "gone",
            State::Paused => "paused",
            State::Draining => "draining",
            State::Retired => "retired",
        }
    }
}

#[cfg(test)]
mod tests;
