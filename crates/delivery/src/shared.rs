//! What the runtimes of all destinations share: the log, the options, the room, the turns.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tracecast_log::{Log, Outcome, Settlement, Slot};

use crate::fair::Fair;
use crate::job::Piece;
use crate::room::Room;
use crate::stats::unix_nano;
use crate::{Observer, Options, Watcher};

/// What all lanes share.
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    pub(crate) room: Room,
    /// How many drivers are running.
    pub(crate) running: watch::Sender<usize>,
    /// Who may send next.
    pub(crate) fair: Arc<Fair>,
    /// References in all queues.
    pub(crate) refs: Arc<AtomicUsize>,
    /// When this began: (monotonic, unix nanoseconds).
    pub(crate) began: (Instant, u64),
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    /// Told of every change of state.
    pub(crate) watcher: OnceLock<Watcher>,
}

impl Shared {
    /// How long ago something was received, by the wall clock, but never longer than this process and the clock
    /// at its beginning can account for: a clock that jumps forward ages nothing.
    pub(crate) fn age(&self, received_unix_nano: u64, now: Instant) -> Duration {
        let (began, wall) = self.began;
        let before = Duration::from_nanos(wall.saturating_sub(received_unix_nano));
        let since = now.saturating_duration_since(began);
        Duration::from_nanos(unix_nano().saturating_sub(received_unix_nano)).min(before + since)
    }

    /// Settles what ended together with the log.
    pub(crate) fn settle(&self, slot: Slot, ended: impl IntoIterator<Item = (Piece, Outcome)>) {
        let settlement = |(piece, outcome): (Piece, Outcome)| {
            if let Some(observer) = self.observer.get() {
                observer.settled(slot, piece.entry.sequence, &piece.spans, outcome);
            }
            Settlement { slot, entry: piece.entry, spans: piece.spans, outcome }
        };
        self.log.settle_all(ended.into_iter().map(settlement).collect());
    }
}
