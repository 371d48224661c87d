//! Records of the past on their way back into the log: what a destination would get of them today.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracecast_log::world::{Condvar, Mutex};
use tracecast_log::{LogError, NewRecord, Past, Projection};
use tracecast_otlp::Payload;

use crate::first_life;
use crate::lane::Lane;
use crate::replay::{append, blocking, requeued};

/// Copies on their way to the log.
const AHEAD: usize = 8;
/// One call puts at most this part of the log's cap into it.
const PART_OF_CAP: u64 = 4;

/// What the destination gets of a record of its workspace, and in which form. Called outside the async workers.
pub type Decide = Arc<dyn Fn(&Past<'_>) -> Option<(Payload, Projection)> + Send + Sync>;

/// What a backfill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backfill {
    /// When the oldest record that is still held was received, unix nanoseconds: further back nobody can go.
    pub oldest_unix_nano: Option<u64>,
    /// Records looked at.
    pub records: u64,
    /// Spans that are in the log again.
    pub requeued: u64,
    /// Not all fitted: records received from then on, unix nanoseconds, were not looked at.
    pub next_unix_nano: Option<u64>,
}

/// How many copies are on their way. Not the channel's own bound: who waits for that waits outside of a simulated world.
#[derive(Default)]
struct Way {
    copies: Mutex<usize>,
    freed: Condvar,
}

impl Way {
    /// Waits for a place.
    fn enter(&self) {
        let mut copies = self.copies.lock();
        while *copies >= AHEAD {
            copies = self.freed.wait(copies);
        }
        *copies = copies.saturating_add(1);
    }

    fn leave(&self) {
        let mut copies = self.copies.lock();
        *copies = copies.saturating_sub(1);
        drop(copies);
        self.freed.notify_one();
    }
}

/// The end of the way. When it goes, nobody waits for a place any more.
struct Arriving {
    copies: mpsc::UnboundedReceiver<(u64, NewRecord)>,
    way: Arc<Way>,
}

impl Arriving {
    async fn next(&mut self) -> Option<(u64, NewRecord)> {
        let next = self.copies.recv().await;
        if next.is_some() {
            self.way.leave();
        }
        next
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.copies.close();
        while self.copies.try_recv().is_ok() {
            self.way.leave();
        }
    }
}

pub(crate) async fn run(lane: &Lane, from_unix_nano: u64, decide: Decide) -> Result<Backfill, LogError> {
    let (copies, arriving) = mpsc::unbounded_channel::<(u64, NewRecord)>();
    let way = Arc::new(Way::default());
    let mut arriving = Arriving { copies: arriving, way: way.clone() };
    let (log, slot) = (lane.shared.log.clone(), lane.slot);
    let workspace = *lane.setup().destination.workspace_id.as_bytes();
    let mut room = log.max_bytes() / PART_OF_CAP;
    let reading = blocking(move || {
        let mut found = Backfill::default();
        let oldest = log.history(from_unix_nano, |past| {
            // What was requeued before is a copy of a record that is, or was, here too.
            let is_copy = !past.routes.is_empty() && past.routes.iter().all(|r| r.projection.is_requeued());
            if past.workspace != workspace || is_copy {
                return ControlFlow::Continue(());
            }
            found.records += 1;
            let Some((payload, projection)) = decide(past) else { return ControlFlow::Continue(()) };
            let bytes = payload.bytes().len() as u64;
            if bytes > room {
                found.next_unix_nano = Some(past.received_unix_nano);
                return ControlFlow::Break(());
            }
            room -= bytes;
            let projection = projection.and(Projection::REQUEUED);
            let first_life = first_life::before(past.received_unix_nano, &past.origin.via);
            let copy = requeued(slot, workspace, projection, first_life, payload);
            way.enter();
            match copies.send((past.received_unix_nano, copy)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        Ok(Backfill { oldest_unix_nano: oldest, ..found })
    });
    let appending = async move {
        let mut spans = 0;
        while let Some((received_unix_nano, copy)) = arriving.next().await {
            match append(lane, copy).await {
                Ok(count) => spans += count,
                // Space was given to those who send anew; the rest can be asked for again.
                Err(LogError::Full) => return Ok((spans, Some(received_unix_nano))),
                Err(error) => return Err(error),
            }
        }
        Ok((spans, None))
    };
    let (found, appended) = tokio::join!(reading, appending);
    let (requeued, stopped_at) = appended?;
    let found = found?;
    Ok(Backfill { requeued, next_unix_nano: stopped_at.or(found.next_unix_nano), ..found })
}
