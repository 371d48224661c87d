//! The listeners events arrive at: auth, limits, decoding, admission, acknowledgement.
//!
//! One request goes through these steps, each in a file of its own:
//!
//! ```text
//! listener ─► http / grpc ─► auth ─► pace, body (bounded read, inflate) ─► accept (index, identity, rules, log)
//!                 └──────────────── answer (one refusal, four spellings) ◄──────────┘
//! ```
//!
//! The answer never depends on a destination: success means that the record is in the log, as durable as
//! the log's mode promises.

mod accept;
mod again;
mod answer;
mod auth;
mod body;
mod budget;
mod connections;
mod counters;
mod dedupe;
mod grpc;
mod http;
mod listener;
mod mark;
mod meter;
mod pace;
mod rehearse;

use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tracecast_destination::Region;
use tracecast_log::{Durations, Log, Sequence};
use tracecast_otlp::Traces;
use tracecast_rules::{Decision, Snapshot, TraceMemory};
use uuid::Uuid;

pub use again::Again;
pub use body::RequestBody;
pub use connections::{Bound, Connections};
pub use counters::{Counters, Reason};
pub use listener::{Ending, Listener};
pub use meter::KeyUsage;
pub use rehearse::{Mistake, Rehearsal};

/// Large bodies inflated at the same time.
const INFLATING_MAX: usize = 4;

/// Whether a request must carry a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Every request needs an ordinary key that is known, enabled and not expired.
    Keys,
    /// Loopback only: any credential is hashed and used as the key hash, none at all is fine.
    None,
}

/// What happens to base64 media inside content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Replaced by a marker with media type and size before the log.
    Strip,
    /// Stored and sent as received.
    Keep,
}

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may send.
    pub auth: Auth,
    /// Data region of events that state none.
    pub region: Region,
    /// Largest request body as sent, bytes.
    pub body_bytes: usize,
    /// Largest request body after inflating, bytes.
    pub inflated_body_bytes: usize,
    /// Bytes after inflating that each workspace may send per second; `None` = as many as it likes.
    pub workspace_bytes_per_second: Option<NonZeroU64>,
    /// Bytes all requests in progress may hold together.
    pub memory_bytes: usize,
    /// Bytes of the memory of spans kept lately.
    pub dedupe_bytes: usize,
    /// Embedded media.
    pub media: Media,
    /// `service.name` of spans made from `/v1/events`.
    pub service_name: String,
    /// This gateway's id: a request that carries it in `x-tracecast-via` came back to where it started.
    pub instance_id: String,
    /// Where the other listeners are, for the errors of requests that went to the wrong one.
    pub addresses: Addresses,
}

/// The addresses of the three listeners, as shown to a client that confused them.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Ingest HTTP.
    pub http: String,
    /// Ingest gRPC.
    pub grpc: String,
    /// Admin.
    pub admin: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            auth: Auth::Keys,
            region: Region::Global,
            body_bytes: 20 << 20,
            inflated_body_bytes: 64 << 20,
            workspace_bytes_per_second: None,
            memory_bytes: 256 << 20,
            dedupe_bytes: 16 << 20,
            media: Media::Strip,
            service_name: "tracecast".into(),
            instance_id: String::new(),
            addresses: Addresses::default(),
        }
    }
}

/// A request that was decided and is about to be kept.
#[derive(Debug)]
pub struct Decided<'a> {
    /// Where it goes.
    pub workspace: Uuid,
    /// When it arrived, unix nanoseconds.
    pub received_unix_nano: u64,
    /// All its spans.
    pub traces: &'a Traces,
    /// What became of them. The record's payload holds the spans of `union`.
    pub decision: &'a Decision,
}

/// Told of every request that is kept. Its calls must return at once.
pub trait Observer: Send + Sync + 'static {
    /// What it answers is called with the record's number once the record is kept, and dropped if it is not.
    fn decided(&self, decided: &Decided<'_>) -> Kept;
}

/// See [`Observer::decided`].
pub type Kept = Box<dyn FnOnce(Sequence) + Send>;

/// The data plane's entrance. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: Arc<ArcSwap<Snapshot>>,
    log: Log,
    memory: Arc<TraceMemory>,
    budget: budget::Budget,
    pace: Option<pace::Pace>,
    dedupe: Arc<dedupe::Dedupe>,
    counters: Counters,
    meter: meter::Meter,
    observer: OnceLock<Arc<dyn Observer>>,
    otlp_limits: tracecast_otlp::Limits,
    /// From a request's head to its answer.
    answered: Durations,
    /// Turns of those that inflate: each holds a decoder's window.
    inflating: tokio::sync::Semaphore,
    options: Options,
    draining: std::sync::atomic::AtomicBool,
}

impl Ingest {
    /// Events decided by the current `snapshot` (and `memory`) go to `log`.
    pub fn new(
        options: Options,
        snapshot: Arc<ArcSwap<Snapshot>>,
        log: Log,
        memory: Arc<TraceMemory>,
    ) -> Ingest {
        Ingest {
            shared: Arc::new(Shared {
                snapshot,
                log,
                memory,
                budget: budget::Budget::new(options.memory_bytes),
                pace: options.workspace_bytes_per_second.map(pace::Pace::new),
                dedupe: Arc::new(dedupe::Dedupe::new(options.dedupe_bytes)),
                counters: Counters::default(),
                meter: meter::Meter::default(),
                observer: OnceLock::new(),
                otlp_limits: tracecast_otlp::Limits::default(),
                answered: Durations::default(),
                inflating: tokio::sync::Semaphore::new(INFLATING_MAX),
                options,
                draining: std::sync::atomic::AtomicBool::new(false),
            }),
        }
    }

    /// From now on `observer` is told of every request that is kept; the first one given stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.shared.observer.set(observer);
    }

    /// What was refused, ignored and removed so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What the registered keys' events cost since the last call, earlier days first. Whoever takes it keeps it:
    /// it is counted from 0 again.
    pub fn take_usage(&self) -> Vec<KeyUsage> {
        self.shared.meter.take()
    }

    /// How long requests took, from their head to their answer.
    pub fn answered(&self) -> &Durations {
        &self.shared.answered
    }

    /// Traces forgotten before their time, because more came than can be remembered.
    pub fn traces_forgotten(&self) -> u64 {
        self.shared.memory.evicted()
    }

    /// Bytes held by requests in progress and by what is remembered of earlier ones.
    pub fn memory_bytes(&self) -> usize {
        let Shared { budget, memory, dedupe, .. } = &*self.shared;
        budget.used() + memory.bytes() + dedupe.bytes()
    }

    /// From now on every new request is answered 503, so that clients go elsewhere or wait.
    pub fn drain(&self) {
        self.shared.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
