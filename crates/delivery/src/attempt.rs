//! One attempt, as a task of its own so that a panic in an adapter ends only the attempt: reading the
//! payloads and sending a batch, or writing the dead letter of a refused span.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;
use tracecast_genai::{Privacy, shrink};
use tracecast_log::{DeadLetter, Log, LogError, Stored};
use tracecast_otlp::write::{Edit, select};
use tracecast_otlp::{DecodeError, Payload, SpanSet};
use tracecast_sinks::{Batch, Item, Sent};

use crate::job::{Part, Piece, Refusal};
use crate::lane::{Lane, Setup};
use crate::stack::Sender;
use crate::stats::unix_nano;

/// In place of a vendor's words about content that was sent before privacy mode was switched on.
pub(crate) const WITHHELD: &str = "not kept: privacy mode was switched on after this was sent";

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Done {
    Answered {
        sent: Sent,
        batch: Arc<Batch>,
        /// From the first byte sent to the verdict.
        took: Duration,
    },
    /// Nothing was sent, because payloads could not be read.
    Unread(Unread),
    /// Nothing was sent, because the destination cannot be sent to any more.
    Unsent,
    /// The dead letter is written and synced, or why not.
    Buried(Result<(), String>),
}

/// Which payloads could not be read.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Positions of pieces whose payload is lost.
    pub(crate) damaged: Vec<usize>,
    /// Some could not be read now, but perhaps later.
    pub(crate) later: Option<LogError>,
}

impl Unread {
    fn add(&mut self, position: usize, error: LogError) {
        match error {
            LogError::Damaged(..) | LogError::Format { .. } => self.damaged.push(position),
            _ => self.later = Some(error),
        }
    }

    fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.later.is_none()
    }
}

/// Reads the payloads of `part` and sends them once; `attempt` is how often that was done before.
/// Waits for its turn first; `failing` is whether the destination's last answer was a failure.
pub(crate) async fn send(lane: Arc<Lane>, part: Part, attempt: u32, failing: bool) -> Done {
    let (shared, pieces) = (&lane.shared, &part.pieces);
    if !part.is_noted && lane.setup().keeps_batches() {
        // The log is closed: so is everything.
        if shared.log.intend(lane.slot, part.ordinals()).await.is_err() {
            return Done::Unsent;
        }
    }
    let bytes = pieces.iter().map(|piece| piece.bytes).sum();
    let workspace = lane.setup().destination.workspace_id;
    let Some(_turn) = shared.fair.enter(workspace, lane.slot, bytes, failing).await else {
        return Done::Unsent;
    };
    let Some(_room) = shared.room.take(lane.slot, memory_of(pieces)).await else { return Done::Unsent };
    let read = read(&shared.log, pieces).await;
    let mut payloads = Vec::with_capacity(pieces.len());
    let mut unread = Unread::default();
    for ((i, piece), stored) in pieces.iter().enumerate().zip(read) {
        match stored.map(|stored| (stored.positions(&piece.spans), stored.payload)) {
            Ok((Some(spans), payload)) => payloads.push((payload, spans)),
            Ok((None, _)) => unread.damaged.push(i),
            Err(error) => unread.add(i, error),
        }
    }
    if !unread.is_empty() {
        return Done::Unread(unread);
    }
    // Read after the payloads, as late as can be: privacy switched on by now counts.
    let setup = lane.setup();
    let Ok(sender) = &setup.sender else { return Done::Unsent };
    let items = pieces.iter().zip(payloads).map(|(piece, (payload, spans))| Item {
        sequence: piece.entry.sequence,
        received_unix_nano: piece.entry.received_unix_nano,
        payload,
        spans,
        private: is_private(piece, &setup),
        shared: piece.entry.routes.len() > 1,
    });
    let mut items: Vec<Item> = items.collect();
    if let (Some(target_bytes), [item]) = (part.shrink_to, items.as_mut_slice()) {
        match shrunk(item.clone(), target_bytes).await {
            Some(smaller) => *item = smaller,
            None => return Done::Unread(Unread { damaged: vec![0], later: None }),
        }
    }
    let (via, replayed) = pieces.first().map(Piece::company).unwrap_or_default();
    let first_seen_unix_nano = pieces.iter().map(Piece::first_seen_unix_nano).min();
    let token = part.token(lane.id);
    let batch = Arc::new(Batch { token, items, attempt, first_seen_unix_nano, via, replayed });
    let started = Instant::now();
    let sent = sender.send(batch.clone()).await;
    Done::Answered { sent, batch, took: started.elapsed() }
}

/// What the log has of the pieces, in their order.
async fn read(log: &Log, pieces: &[Piece]) -> Vec<Result<Stored, LogError>> {
    let here: Vec<Option<Stored>> = pieces.iter().map(|piece| log.in_memory(&piece.entry)).collect();
    let missing = pieces.iter().zip(&here).filter(|(_, here)| here.is_none());
    // Asked for together: what lies together is read together.
    let mut read = join_all(missing.map(|(piece, _)| log.stored(&piece.entry))).await.into_iter();
    here.into_iter().filter_map(|here| here.map(Ok).or_else(|| read.next())).collect()
}

/// The item with its one span made smaller. `None` if its bytes make no sense.
async fn shrunk(item: Item, target_bytes: u64) -> Option<Item> {
    let target_bytes = usize::try_from(target_bytes).unwrap_or(usize::MAX);
    let work = move || {
        let position = item.spans.iter().next()?;
        let smaller = if item.private {
            // What may not be sent need not be cut.
            let without = Payload::new(project(&item.payload, &item.spans, true).ok()?, 1);
            shrink(&without, 0, target_bytes).ok()?
        } else {
            shrink(&item.payload, position, target_bytes).ok()?
        };
        Some(Item { payload: Arc::new(Payload::new(smaller.into(), 1)), spans: SpanSet::all(1), ..item })
    };
    tracecast_log::world::blocking(work).await.flatten()
}

/// Writes the dead letter of a part that was refused, in the destination's projection.
pub(crate) async fn bury(lane: Arc<Lane>, part: Part, refusal: Refusal) -> Done {
    let Some(_room) = lane.shared.room.take(lane.slot, memory_of(&part.pieces)).await else {
        return Done::Buried(Err("the gateway is stopping".to_owned()));
    };
    let mut letters = Vec::with_capacity(part.pieces.len());
    let mut unread = Unread::default();
    for (i, piece) in part.pieces.iter().enumerate() {
        let stored = lane.shared.log.stored(&piece.entry).await;
        match stored.map(|stored| (stored.positions(&piece.spans), stored.payload)) {
            Ok((Some(spans), payload)) => letters.push((piece.clone(), payload, spans)),
            Ok((None, _)) => unread.damaged.push(i),
            Err(error) => unread.add(i, error),
        }
    }
    if !unread.is_empty() {
        return Done::Unread(unread);
    }
    let write = move || {
        let setup = lane.setup();
        for (piece, payload, spans) in letters {
            let private = is_private(&piece, &setup);
            let excerpt = if private && !refusal.private {
                // What was refused still held content, and the vendor's words may quote it.
                WITHHELD.to_owned()
            } else {
                refusal.excerpt.clone()
            };
            let letter = DeadLetter {
                id: 0,
                slot: lane.slot,
                sequence: piece.entry.sequence,
                received_unix_nano: piece.first_seen_unix_nano(),
                first_sent_unix_nano: part.first_sent_unix_nano,
                at_unix_nano: unix_nano(),
                mapping_version: setup.sender.as_ref().map_or(0, Sender::mapping_version),
                via: piece.company().0,
                reason: refusal.reason,
                status: refusal.status,
                excerpt,
                attempts: part.attempts,
                spans: piece.count(),
                payload: project(&payload, &spans, private).map_err(|e| e.to_string())?,
            };
            lane.shared.log.dead_letters().append(letter).map_err(|e| e.to_string())?;
        }
        Ok(())
    };
    // Writing syncs, which blocks; and it reads foreign bytes, so a panic must stay here.
    let written = tracecast_log::world::blocking(write).await;
    Done::Buried(written.unwrap_or_else(|| Err("writing the dead letter failed".to_owned())))
}

/// What sending takes: the payloads as they are in the log, whole, and as much again for what is made of them.
fn memory_of(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| 2 * u64::from(piece.entry.payload_bytes())).sum()
}

/// The stored decision or the destination's privacy mode now, whichever is stricter.
fn is_private(piece: &Piece, setup: &Setup) -> bool {
    piece.is_private() || setup.destination.privacy_mode
}

/// These spans of a payload alone, without content: what the log carries over of spans that nobody gets with theirs.
pub fn without_content(payload: &Payload, spans: &SpanSet) -> Option<Payload> {
    Some(Payload::new(project(payload, spans, true).ok()?, spans.count()))
}

/// The spans as OTLP bytes, without content if `private`.
pub(crate) fn project(payload: &Payload, spans: &SpanSet, private: bool) -> Result<Bytes, DecodeError> {
    let mut out = Vec::new();
    let edit: Option<&dyn Edit> = if private { Some(&Privacy) } else { None };
    select(payload.traces()?, spans, edit, &mut out);
    Ok(out.into())
}
