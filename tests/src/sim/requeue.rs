//! Spans on their way back into the log: what is asked of delivery, and what the oracle is to know of it.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracecast_delivery::{Backfill, Decide, Replay};
use tracecast_log::{LetterFilter, Past, Projection};
use tracecast_otlp::Payload;
use tracecast_otlp::write::select;
use uuid::Uuid;

use super::oracle::Requeue;
use super::sink::{Shore, locked};
use super::story::Process;

/// Every letter.
const ALL: LetterFilter = LetterFilter { id: None, reason: None, from_unix_nano: None, to_unix_nano: None };

/// Whose spans go back.
pub(super) struct Around {
    pub(super) shore: Arc<Shore>,
    pub(super) destination: usize,
    pub(super) id: Uuid,
}

impl Around {
    /// The number of a requeue that begins now.
    fn begin(&self, spans: BTreeSet<super::oracle::Span>, is_backfill: bool) -> usize {
        let mut oracle = locked(&self.shore.oracle);
        let destination = self.destination;
        oracle.requeues.push(Requeue { destination, spans, is_backfill, ended: None, excused: false });
        oracle.requeues.len() - 1
    }

    /// It is answered.
    fn end(shore: &Shore, requeue: usize) {
        let now = shore.world.time();
        if let Some(requeue) = locked(&shore.oracle).requeues.get_mut(requeue) {
            requeue.ended = Some(now);
        }
    }

    /// All dead letters of the destination.
    pub(super) fn replay(&self, process: &Process) -> JoinHandle<()> {
        let slot = process.log.slot(*self.id.as_bytes());
        let mut spans = BTreeSet::new();
        for letter in process.log.dead_letters().list(slot) {
            match locked(&self.shore.oracle).letter(self.destination, &letter) {
                Ok(found) => spans.extend(found),
                Err(finding) => self.shore.world.fail(finding),
            }
        }
        let (delivery, shore, id, destination) =
            (process.delivery.clone(), self.shore.clone(), self.id, self.destination);
        let letters = spans.len();
        let requeue = self.begin(spans, false);
        tokio::spawn(async move {
            let replayed = delivery.replay(id, ALL).await;
            if shore.world.disk().dead {
                return;
            }
            shore
                .world
                .tell(|| format!("replay of {letters} spans at destination {destination}: {replayed:?}"));
            if let Some(Ok(Replay { waiting: 0, .. })) = replayed {
                Around::end(&shore, requeue);
            }
        })
    }

    /// What the log still holds of the last `back`.
    pub(super) fn backfill(&self, process: &Process, back: Duration, private: bool) -> JoinHandle<()> {
        let requeue = self.begin(BTreeSet::new(), true);
        let decided = Arc::new(AtomicU64::new(0));
        let (own, count) = (self.shore.clone(), decided.clone());
        let decide: Decide = Arc::new(move |past: &Past<'_>| {
            let payload = past.payload().ok()?;
            let spans = locked(&own.oracle).decide_again(requeue, &payload)?;
            let mut bytes = Vec::new();
            select(payload.traces().ok()?, &spans, None, &mut bytes);
            count.fetch_add(u64::from(spans.count()), Ordering::Relaxed);
            let projection = if private { Projection::PRIVACY } else { Projection::AS_IS };
            Some((Payload::new(bytes.into(), spans.count()), projection))
        });
        let from = tracecast_log::world::unix_nano().saturating_sub(back.as_nanos() as u64);
        let (delivery, shore, id, destination) =
            (process.delivery.clone(), self.shore.clone(), self.id, self.destination);
        tokio::spawn(async move {
            let filled = delivery.backfill(id, from, decide).await;
            if shore.world.disk().dead {
                return;
            }
            shore.world.tell(|| format!("backfill of destination {destination}: {filled:?}"));
            let Some(Ok(Backfill { requeued, next_unix_nano: None, .. })) = filled else { return };
            let decided = decided.load(Ordering::Relaxed);
            if requeued != decided {
                shore.world.fail(format!("a backfill of {decided} spans has requeued {requeued}"));
            }
            Around::end(&shore, requeue);
        })
    }
}
