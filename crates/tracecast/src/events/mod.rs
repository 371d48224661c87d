//! What became of single events: remembered, looked up, and shown as they come.
//!
//! ```text
//! ingest ──decided──► recent ◄──sending, answered, settled, requeued── delivery
//!           └──► tail    ▲
//!                        └── lookup ──► log (what it still holds), dead letters
//! ```

mod fate;
mod lookup;
mod recent;
mod tail;

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::broadcast;
use tracecast_delivery::LastError;
use tracecast_ingest::{Decided, Kept};
use tracecast_log::{DropReason, Log, Outcome, Sequence, Slot};
use tracecast_otlp::{Payload, SpanSet, TraceId};

use crate::known::Directory;

use self::recent::{Change, Recent, Seen};
use self::tail::Tail;

/// Bytes of remembered events.
const RECENT_BYTES: usize = 16 << 20;

/// Sees every event on its way.
pub(crate) struct Events {
    log: Log,
    known: Arc<Directory>,
    recent: Arc<Recent>,
    tail: Tail,
}

impl Events {
    pub(crate) fn new(log: Log, known: Arc<Directory>) -> Events {
        Events { log, known, recent: Arc::new(Recent::new(RECENT_BYTES)), tail: Tail::default() }
    }

    /// A line per event from now on; `None` once the gateway stops.
    pub(crate) fn tail(&self) -> Option<broadcast::Receiver<Arc<Json>>> {
        self.tail.subscribe()
    }

    /// Ends all tails.
    pub(crate) fn close(&self) {
        self.tail.close();
    }

    /// What became of a trace, per destination. Blocking.
    pub(crate) fn look_up(&self, trace: TraceId) -> Json {
        lookup::look_up(&self.log, &self.recent, &self.known.all(), trace)
    }
}

impl tracecast_ingest::Observer for Events {
    fn decided(&self, decided: &Decided<'_>) -> Kept {
        let seen = Seen::of(decided);
        let lines = self.tail.lines(decided, &self.known);
        let (recent, tail) = (self.recent.clone(), self.tail.clone());
        Box::new(move |sequence| {
            recent.insert(sequence, seen);
            tail.show(lines);
        })
    }
}

impl tracecast_delivery::Observer for Events {
    fn sending(&self, slot: Slot, sequence: Sequence, spans: &SpanSet) {
        self.recent.change(slot, sequence, spans, Change::Sending);
    }

    fn answered(&self, slot: Slot, sequence: Sequence, spans: &SpanSet, trouble: Option<&LastError>) {
        self.recent.change(slot, sequence, spans, Change::Answered(trouble.cloned().map(Arc::new)));
    }

    fn requeued(&self, slot: Slot, sequence: Sequence, payload: &Payload) {
        if let Some(seen) = Seen::again(slot, payload) {
            self.recent.insert(sequence, seen);
        }
    }

    fn settled(&self, slot: Slot, sequence: Sequence, spans: &SpanSet, outcome: Outcome) {
        self.recent.change(slot, sequence, spans, Change::Settled(outcome));
    }

    fn given_up(&self, slot: Slot, records: RangeInclusive<Sequence>, reason: DropReason) {
        self.recent.given_up(slot, records, reason);
    }
}

/// Nanoseconds since 1970.
fn unix_nano() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
