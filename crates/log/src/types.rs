//! The words of the log: records, routes, outcomes, entries, books.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracecast_otlp::{Payload, SpanSet};

use crate::entry::Entry;

/// A destination's number in log and journal, stable for the life of the data dir.
pub type Slot = u32;
/// Key of a slot: the destination's uuid bytes.
pub type SlotKey = [u8; 16];
/// A record's number: rises by one per record, never used twice.
pub type Sequence = u64;

/// What the answer to an append promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Answered after the record is synced: survives a power cut.
    Durable,
    /// Answered after the record is written, synced every 100 ms: survives the process.
    Buffered,
    /// Nothing on disk; lives as long as the process.
    Memory,
}

/// Who pays when what is wanted reaches the cap: always those with the most pending bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The one with the most loses its oldest spans.
    #[default]
    DropOldest,
    /// Those with at least the average, and half of the most, get no new spans while the last eighth of the cap (two
    /// segments at least) is in use. If the others fill that too, the oldest of the one with the most go after all.
    DropNewest,
}

/// Where the log lives and how large it may get.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's own directory, made if missing (0700). Unused in memory mode.
    pub dir: PathBuf,
    /// What the answer to an append promises.
    pub durability: Durability,
    /// Bytes of segment files (or of wanted payload, in memory mode).
    pub max_bytes: u64,
    /// Age at which delivery gives spans up (`Dropped(Expired)`). The log itself expires nothing.
    pub max_age: Duration,
    /// How long sealed segments stay although nobody wants them any more, as far as the cap allows: what
    /// [`crate::Log::history`] can still read.
    pub retain: Duration,
    /// Size of a segment file; at most a quarter of `max_bytes` is used.
    pub segment_bytes: u64,
    /// Payload bytes kept in memory for the readers that are up to date.
    pub cache_bytes: u64,
    /// How content is removed: what nobody wants with its content any more is carried over without. `None`: it is
    /// carried over as it is.
    pub without_content: Option<WithoutContent>,
}

/// These spans of a payload alone, in their order, without content; `None` if its bytes make no sense. The log does not
/// know what content is.
pub type WithoutContent = fn(&Payload, &SpanSet) -> Option<Payload>;

macro_rules! reasons { ($(#[$m:meta])* $n:ident { $($(#[$vm:meta])* $v:ident = $c:literal $s:literal),* $(,)? }) => {
    $(#[$m])* #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)] #[repr(u8)]
    pub enum $n { $($(#[$vm])* $v = $c),* }
    impl $n {
        /// Every reason, in the order of the codes (which are 0, 1, 2, ...).
        pub const ALL: &'static [$n] = &[$($n::$v),*];
        /// The word used in the API and as a metric label.
        pub fn as_str(self) -> &'static str { match self { $($n::$v => $s),* } }
        /// The reason of a stored code.
        pub fn from_code(code: u8) -> Option<$n> { match code { $($c => Some($n::$v),)* _ => None } }
    }
} }
reasons! { /// Why a destination does not get a span.
    SkipReason {
        /// The destination, or the workspace, is switched off.
        Disabled = 0 "disabled",
        /// The span's region is not the destination's.
        Region = 1 "region",
        /// The API key is not on the allowlist.
        Key = 2 "key",
        /// Not in the sample.
        Sampled = 3 "sampled",
        /// A filter rule says no.
        Filter = 4 "filter",
        /// The destination's shape has no place for this span.
        Kind = 5 "kind",
    }
}
reasons! { /// Why a selected span was given up without being refused.
    DropReason {
        /// The log's cap was reached and this destination held the most.
        BacklogFull = 0 "backlog_full",
        /// Older than the age limit.
        Expired = 1 "expired",
        /// The destination was deleted with a backlog.
        DestinationDeleted = 2 "destination_deleted",
        /// Refused by a partial success that names no spans.
        RefusedUnattributed = 3 "refused_unattributed",
        /// Memory mode: not sent when the process ended.
        Shutdown = 4 "shutdown",
        /// The stored record is not readable any more.
        Damaged = 5 "damaged",
    }
}
reasons! { /// Why a selected span was dead-lettered.
    DeadReason {
        /// The destination refused it for good.
        Rejected = 0 "rejected",
        /// Too large for the destination even alone and shrunk.
        TooLarge = 1 "too_large",
        /// It has no form in the destination's shape.
        Unencodable = 2 "unencodable",
    }
}

/// What became of selected spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination took them.
    Delivered,
    /// Refused for good; a copy is in the dead letters.
    DeadLettered(DeadReason),
    /// Given up under a named policy.
    Dropped(DropReason),
}

impl Outcome {
    /// (outcome, reason) as stored in the journal.
    pub(crate) fn codes(self) -> (u8, u8) {
        match self {
            Outcome::Delivered => (0, 0),
            Outcome::DeadLettered(reason) => (1, reason as u8),
            Outcome::Dropped(reason) => (2, reason as u8),
        }
    }

    pub(crate) fn from_codes(outcome: u8, reason: u8) -> Option<Outcome> {
        match outcome {
            0 => Some(Outcome::Delivered),
            1 => DeadReason::from_code(reason).map(Outcome::DeadLettered),
            2 => DropReason::from_code(reason).map(Outcome::Dropped),
            _ => None,
        }
    }
}

/// How spans go to a destination: bit set, stored per route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Projection(pub u8);
impl Projection {
    /// The spans as they came.
    pub const AS_IS: Projection = Projection(0);
    /// Without content.
    pub const PRIVACY: Projection = Projection(1);
    /// No request brought it: a dead letter that is replayed, a backfill, or spans the gateway has made. Counts as
    /// `requeued` instead of `selected`.
    pub const REQUEUED: Projection = Projection(2);
    /// Content must be removed before it leaves.
    pub fn is_private(self) -> bool {
        self.0 & Projection::PRIVACY.0 != 0
    }
    /// The spans were here before.
    pub fn is_requeued(self) -> bool {
        self.0 & Projection::REQUEUED.0 != 0
    }
    /// Both.
    pub fn and(self, other: Projection) -> Projection {
        Projection(self.0 | other.0)
    }
}

/// One destination's selection in a record. `spans` are positions in the record's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub slot: Slot,
    /// The form in which it gets them.
    pub projection: Projection,
    /// Positions in the record's payload.
    pub spans: SpanSet,
}

/// One destination's spans that it does not get, by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The destination.
    pub slot: Slot,
    /// Why.
    pub reason: SkipReason,
    /// How many spans.
    pub spans: u32,
}

/// Where a record came from. Opaque to the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The gateways it has passed; every entry carries it.
    pub via: Bytes,
    /// Who sent it, for those who decide anew.
    pub sender: Bytes,
}

/// What ingest asks to be kept: one request of one workspace.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Uuid bytes of the workspace.
    pub workspace: [u8; 16],
    /// Generation of the snapshot that decided.
    pub config_generation: u64,
    /// Receive time, unix nanoseconds.
    pub received_unix_nano: u64,
    /// Spans accepted (selected by anyone or not).
    pub accepted: u32,
    /// Who gets what. Every span set speaks of `payload`; empty sets are ignored.
    pub routes: Vec<Route>,
    /// Who does not get what, and why.
    pub skips: Vec<Skip>,
    /// Opaque to the log; handed back at recovery (trace memory of the rules).
    pub trace_keys: Bytes,
    /// Where it came from.
    pub origin: Origin,
    /// OTLP bytes of the union of the routes; empty if nobody selects.
    pub payload: Arc<Payload>,
}

/// Why the log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No space within the cap after waiting for it; try again later.
    #[error("log is full")]
    Full,
    /// `close` was called, or the log was dropped.
    #[error("log is closed")]
    Closed,
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the directory open.
    #[error("{path}: locked by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of a format version this binary does not know.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what to do.
        reason: String,
    },
    /// The stored record does not match its checksum, or its place was given away.
    #[error("record {0} is not readable: {1}")]
    Damaged(Sequence, String),
    /// The record can never be kept: it contradicts itself or is larger than half the cap.
    #[error("record refused: {0}")]
    Invalid(String),
}

impl LogError {
    pub(crate) fn newer(path: PathBuf, version: u16) -> LogError {
        let known = crate::format::CARRY_VERSION;
        LogError::Format {
            path,
            reason: format!(
                "format version {version} is newer than {known}: start the version that wrote it, or a later one"
            ),
        }
    }
}

/// Gets every committed entry, in sequence order, and the log's requests to give up backlog.
///
/// Both calls come from threads of the log and must return at once: `committed` holds up the next commit.
/// They may call back into the log (`settle`, `books`, ...).
pub trait Subscriber: Send + Sync + 'static {
    /// A record is as durable as the mode promises. An entry without routes is one that nobody selected.
    fn committed(&self, entry: Arc<Entry>);
    /// The cap is reached: drop this slot's pending (not in flight) spans with sequence <= `up_to`,
    /// oldest first, and settle them as `Dropped(BacklogFull)`.
    ///
    /// Spans in flight keep their segment until they are settled; the log asks again, further up, as long as
    /// it is short of space and this slot has the most pending bytes.
    fn give_up(&self, slot: Slot, up_to: Sequence);
}

/// Per destination figures: monotone counters, and what is pending. All in spans, except bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Spans accepted while this destination was asked: `selected` plus `skipped`.
    pub accepted: u64,
    /// Spans selected.
    pub selected: u64,
    /// Spans that no request brought: replayed, backfilled, or made by the gateway.
    pub requeued: u64,
    /// Spans the destination took.
    pub delivered: u64,
    /// Indexed by reason code.
    pub skipped: [u64; 6],
    /// Indexed by reason code.
    pub dead_lettered: [u64; 3],
    /// Indexed by reason code.
    pub dropped: [u64; 6],
    /// Spans in no final state yet.
    pub pending: u64,
    /// Approximate payload bytes of the pending spans.
    pub pending_bytes: u64,
    /// Receive time of the oldest pending record, unix nanoseconds. Never too young; with more than 512
    /// records pending it may name one slightly older than the oldest.
    pub oldest_pending_unix_nano: Option<u64>,
}

impl Books {
    /// `selected + requeued = delivered + dead_lettered + dropped + pending` and `accepted = selected + skipped`.
    pub fn balanced(&self) -> bool {
        let sum = |counts: &[u64]| counts.iter().fold(0u64, |a, b| a.saturating_add(*b));
        let ended = self.delivered + sum(&self.dead_lettered) + sum(&self.dropped);
        self.selected + self.requeued == ended + self.pending
            && self.accepted == self.selected + sum(&self.skipped)
    }
}

/// One settlement: spans (positions in the record's payload, a subset of the route's) of one entry.
///
/// Spans that are not the route's, or that are final already, are ignored.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The destination.
    pub slot: Slot,
    /// The record.
    pub entry: Arc<Entry>,
    /// Positions in the record's payload.
    pub spans: SpanSet,
    /// What became of them.
    pub outcome: Outcome,
}

/// What `Log::open` found.
#[derive(Debug)]
pub struct Recovered {
    /// What is pending, by slot. The records are read with [`Log::pending`](crate::Log::pending).
    pub backlog: Vec<Backlog>,
    /// `trace_keys` of the records within the window, oldest first: (received_unix_nano, bytes).
    pub trace_keys: Vec<(u64, Bytes)>,
    /// What was not as it should be, one sentence each.
    pub notes: Vec<String>,
}

/// What a slot has pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The destination.
    pub slot: Slot,
    /// The first ordinal that is not final.
    pub first_ordinal: u64,
    /// The ordinal behind the last one.
    pub end_ordinal: u64,
    /// Spans in no final state.
    pub spans: u64,
    /// Approximate payload bytes of these spans.
    pub bytes: u64,
    /// Receive time of the oldest, unix nanoseconds; see [`Books::oldest_pending_unix_nano`].
    pub oldest_unix_nano: u64,
}

/// What was lost or set aside, since the data dir was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Records known to have existed that are gone (missing sequence numbers).
    pub records: u64,
    /// Journal entries about records beyond the recovered end of the log; never applied.
    pub journal_entries: u64,
    /// Spans those journal entries spoke of.
    pub journal_spans: u64,
    /// Bytes copied to `quarantine/` (and files set aside there).
    pub quarantined_bytes: u64,
}

/// Process-lifetime figures of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Records committed.
    pub records: u64,
    /// Bytes of these records, headers included.
    pub bytes: u64,
    /// Commits: writes that answered one or more appends.
    pub commits: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Time spent in these syncs.
    pub sync_time: Duration,
    /// The longest of them.
    pub longest_sync: Duration,
    /// Segments whose wanted records were carried over.
    pub carried: u64,
}
