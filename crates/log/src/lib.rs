//! The shared segment log, its settlement journal and the books.
#![allow(unused, missing_docs, clippy::unimplemented)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

/// A destination's number in log and journal, stable for the life of the data dir.
pub type Slot = u32;
/// Key of a slot: the destination's uuid bytes.
pub type SlotKey = [u8; 16];
pub type Sequence = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability { Durable, Buffered, Memory }

#[derive(Clone, Debug)]
pub struct Options {
    /// Unused in memory mode.
    pub dir: PathBuf,
    pub durability: Durability,
    pub max_bytes: u64,
    pub max_age: Duration,
    pub segment_bytes: u64,
    /// Payload bytes kept in memory for the readers that are up to date.
    pub cache_bytes: u64,
}

macro_rules! reasons { ($(#[$m:meta])* $n:ident { $($v:ident = $c:literal $s:literal),* $(,)? }) => {
    $(#[$m])* #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)] #[repr(u8)]
    pub enum $n { $($v = $c),* }
    impl $n {
        pub const ALL: &'static [$n] = &[$($n::$v),*];
        pub fn as_str(self) -> &'static str { match self { $($n::$v => $s),* } }
        pub fn from_code(code: u8) -> Option<$n> { match code { $($c => Some($n::$v),)* _ => None } }
    }
} }
reasons! { /// Why a destination does not get a span.
    SkipReason { Disabled = 0 "disabled", Region = 1 "region", Key = 2 "key", Sampled = 3 "sampled", Filter = 4 "filter", Kind = 5 "kind" } }
reasons! { /// Why a selected span was given up without being refused.
    DropReason { BacklogFull = 0 "backlog_full", Expired = 1 "expired", DestinationDeleted = 2 "destination_deleted",
        RefusedUnattributed = 3 "refused_unattributed", Shutdown = 4 "shutdown", Damaged = 5 "damaged" } }
reasons! { /// Why a selected span was dead-lettered.
    DeadReason { Rejected = 0 "rejected", TooLarge = 1 "too_large", Unencodable = 2 "unencodable" } }

/// What became of selected spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome { Delivered, DeadLettered(DeadReason), Dropped(DropReason) }

/// How spans go to a destination: bit set, stored per route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Projection(pub u8);
impl Projection {
    pub const AS_IS: Projection = Projection(0);
    pub const PRIVACY: Projection = Projection(1);
    pub fn is_private(self) -> bool { self.0 & 1 != 0 }
}

/// One destination's selection in a record. `spans` are positions in the record's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route { pub slot: Slot, pub projection: Projection, pub spans: SpanSet }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip { pub slot: Slot, pub reason: SkipReason, pub spans: u32 }

/// What ingest asks to be kept: one request of one workspace.
#[derive(Debug)]
pub struct NewRecord {
    pub workspace: [u8; 16],
    pub config_generation: u64,
    /// Receive time, unix nanoseconds.
    pub received_unix_nano: u64,
    /// Spans accepted (selected by anyone or not).
    pub accepted: u32,
    pub routes: Vec<Route>,
    pub skips: Vec<Skip>,
    /// Opaque to the log; handed back at recovery (trace memory of the rules).
    pub trace_keys: Bytes,
    /// OTLP bytes of the union of the routes; empty if nobody selects.
    pub payload: Arc<Payload>,
}

/// A kept record as delivery sees it. Cheap to hold: the payload may have left memory.
#[derive(Debug)]
pub struct Entry { pub sequence: Sequence, pub received_unix_nano: u64, pub workspace: [u8; 16], pub routes: Vec<EntryRoute>, /* payload location, private */ }
#[derive(Debug)]
pub struct EntryRoute { pub slot: Slot, pub projection: Projection, pub spans: SpanSet,
    /// The destination's own number of the first of these spans.
    pub ordinal: u64,
    /// Approximate payload bytes of these spans (what pending_bytes counts).
    pub bytes: u32 }

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log is full")] Full,
    #[error("log is closed")] Closed,
    #[error("{path}: {source}")] Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: locked by another process")] Locked { path: PathBuf },
    #[error("{path}: {reason}")] Format { path: PathBuf, reason: String },
    #[error("record {0} is not readable: {1}")] Damaged(Sequence, String),
}

/// Gets every committed entry, in sequence order, and the log's requests to give up backlog.
pub trait Subscriber: Send + Sync + 'static {
    fn committed(&self, entry: Arc<Entry>);
    /// The cap is reached: drop this slot's pending (not in flight) spans with sequence <= `up_to`,
    /// oldest first, and settle them as `Dropped(BacklogFull)`.
    fn give_up(&self, slot: Slot, up_to: Sequence);
}

/// Per destination figures: monotone counters, and what is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub accepted: u64, pub selected: u64, pub requeued: u64, pub delivered: u64,
    /// Indexed by reason code.
    pub skipped: [u64; 6], pub dead_lettered: [u64; 3], pub dropped: [u64; 6],
    pub pending: u64, pub pending_bytes: u64,
    /// Receive time of the oldest pending record, unix nanoseconds.
    pub oldest_pending_unix_nano: Option<u64>,
}
impl Books {
    /// `selected + requeued = delivered + dead_lettered + dropped + pending` and `accepted = selected + skipped`.
    pub fn balanced(&self) -> bool { unimplemented!() }
}

/// One settlement: spans (positions in the record's payload, a subset of the route's) of one entry.
#[derive(Clone, Debug)]
pub struct Settlement { pub slot: Slot, pub entry: Arc<Entry>, pub spans: SpanSet, pub outcome: Outcome }

#[derive(Debug)]
pub struct Recovered {
    /// Entries with something pending, oldest first; `routes` hold only what is still pending.
    pub pending: Vec<Arc<Entry>>,
    /// `trace_keys` of the records within the window, oldest first: (received_unix_nano, bytes).
    pub trace_keys: Vec<(u64, Bytes)>,
    pub notes: Vec<String>,
}

#[derive(Clone)]
pub struct Log {}
impl Log {
    /// Opens (or creates) the log and recovers. Blocking.
    pub fn open(options: Options) -> Result<(Log, Recovered), LogError> { unimplemented!() }
    /// Registers the only subscriber; call before the first append.
    pub fn subscribe(&self, subscriber: Arc<dyn Subscriber>) { unimplemented!() }
    /// The slot of this destination, made (and journaled) when new.
    pub fn slot(&self, key: SlotKey) -> Slot { unimplemented!() }
    pub fn slot_key(&self, slot: Slot) -> Option<SlotKey> { unimplemented!() }
    /// Resolves when the record is as durable as the mode promises.
    pub async fn append(&self, record: NewRecord) -> Result<Sequence, LogError> { unimplemented!() }
    /// The record's payload, from memory or read back.
    pub async fn payload(&self, entry: &Entry) -> Result<Arc<Payload>, LogError> { unimplemented!() }
    /// Marks spans final. Cheap; journaled within 20 ms and only then visible in `books`.
    pub fn settle(&self, settlement: Settlement) { unimplemented!() }
    pub fn dead_letters(&self) -> &DeadLetters { unimplemented!() }
    pub fn books(&self, slot: Slot) -> Books { unimplemented!() }
    /// Spans accepted since ever (gateway-wide).
    pub fn accepted(&self) -> u64 { unimplemented!() }
    /// Bytes on disk (or held, in memory mode).
    pub fn bytes(&self) -> u64 { unimplemented!() }
    /// False while the log cannot take records (full, failed disk): ingest answers 503.
    pub fn is_writable(&self) -> bool { unimplemented!() }
    /// Syncs everything and writes the checkpoint. Appends fail with `Closed` afterwards. Blocking.
    pub fn close(&self) { unimplemented!() }
}

/// Copies of refused spans, synced before their settlement is journaled.
#[derive(Debug)]
pub struct DeadLetters {}
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter { pub id: u64, pub slot: Slot, pub sequence: Sequence, pub received_unix_nano: u64, pub at_unix_nano: u64,
    pub reason: DeadReason, pub status: Option<u16>, pub excerpt: String, pub attempts: u32, pub spans: u32,
    /// OTLP bytes in the destination's projection.
    pub payload: Bytes }
impl DeadLetters {
    /// Written and synced when it returns (memory mode: ring of 64 MiB). `id` is assigned. Blocking.
    pub fn append(&self, letter: DeadLetter) -> Result<u64, LogError> { unimplemented!() }
    pub fn list(&self, slot: Slot) -> Vec<DeadLetter> { unimplemented!() }
    pub fn count(&self, slot: Slot) -> u64 { unimplemented!() }
}
