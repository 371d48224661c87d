//! Dead letters on their way back into the log, at a pace that does not bring back the storm they came from.
//!
//! A letter is removed once its spans are requeued as durably as the log promises, so a crash in between leaves
//! both and never neither. What waits for its turn is only a list of ids: after a restart those letters are still
//! dead letters, and can be asked for again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;
use tracecast_log::world;
use tracecast_log::{DeadLetter, LetterFilter, LogError, NewRecord, Origin, Projection, Route, Slot};
use tracecast_otlp::{Payload, SpanSet};
use uuid::Uuid;

use crate::State;
use crate::attempt::project;
use crate::delivery::Inner;
use crate::first_life;
use crate::lane::Lane;
use crate::stats::unix_nano;

/// Letters that go back at once.
const BURST: usize = 1_000;
/// Letters per second at the least.
const FLOOR: f64 = 100.0;
/// Share of what the destination takes.
const SHARE: f64 = 0.1;
const TICK: Duration = Duration::from_millis(200);
/// Letters read at once: so many, or so many bytes.
const CHUNK: usize = 64;
const CHUNK_BYTES: usize = 4 << 20;

/// What a call to replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Letters that were asked for and had not been before.
    pub matched: u64,
    /// Spans that are in the log again.
    pub requeued: u64,
    /// Letters that wait for their turn.
    pub waiting: u64,
}

pub(crate) type Turn = tokio::sync::OwnedMutexGuard<()>;

/// The letters that wait, by destination.
#[derive(Default)]
pub(crate) struct Replays {
    by_id: Mutex<HashMap<Uuid, Arc<Line>>>,
}

/// The letters of one destination that wait.
#[derive(Default)]
struct Line {
    state: Mutex<Waiting>,
    /// Held while letters are on their way, so that none goes twice.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Waiting {
    ids: VecDeque<u64>,
    known: HashSet<u64>,
    /// A task sends the rest.
    running: bool,
}

impl Replays {
    /// Waits until nothing else of the destination is on its way back, and keeps it so.
    pub(crate) async fn turn(&self, id: Uuid) -> Turn {
        self.line(id).turn.clone().lock_owned().await
    }

    fn line(&self, id: Uuid) -> Arc<Line> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    pub(crate) fn waiting(&self, id: Uuid) -> u64 {
        let by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id.get(&id).map_or(0, |line| line.state().known.len() as u64)
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts letters at the end; answers how many were not in line yet.
    fn join(&self, ids: impl Iterator<Item = u64>) -> u64 {
        let mut state = self.state();
        let before = state.known.len();
        for id in ids {
            if state.known.insert(id) {
                state.ids.push_back(id);
            }
        }
        (state.known.len() - before) as u64
    }

    /// Sends up to `most` letters back; answers how many letters and spans that were.
    async fn step(&self, lane: &Lane, most: usize) -> Result<(usize, u64), LogError> {
        let _turn = self.turn.lock().await;
        let (mut letters, mut spans) = (0, 0);
        while letters < most {
            let ids: Vec<u64> = self.state().ids.iter().take(CHUNK.min(most - letters)).copied().collect();
            if ids.is_empty() {
                break;
            }
            let (gone, requeued) = send_back(lane, ids).await?;
            let mut state = self.state();
            for id in &gone {
                state.ids.pop_front();
                state.known.remove(id);
            }
            letters += gone.len();
            spans += requeued;
        }
        Ok((letters, spans))
    }
}

pub(crate) async fn start(
    inner: &Arc<Inner>,
    lane: &Arc<Lane>,
    filter: LetterFilter,
) -> Result<Replay, LogError> {
    let (log, slot) = (lane.shared.log.clone(), lane.slot);
    let line = inner.replays.line(lane.id);
    let matched = {
        // Nothing goes meanwhile: a letter that is found, goes and is out of line then would be put in line again.
        let _turn = line.turn.lock().await;
        let heads = blocking(move || Ok(log.dead_letters().find(slot, &filter))).await?;
        line.join(heads.iter().map(|head| head.id))
    };
    let is_running = line.state().running;
    let (_, requeued) = if is_running { (0, 0) } else { line.step(lane, BURST).await? };
    let waiting = {
        let mut state = line.state();
        let waiting = state.known.len() as u64;
        if waiting > 0 && !state.running {
            state.running = true;
            lane.shared.runtime.spawn(follow(inner.clone(), lane.id, line.clone()));
        }
        waiting
    };
    Ok(Replay { matched, requeued, waiting })
}

/// Sends the rest, at its pace, until nothing is left or the destination is.
async fn follow(inner: Arc<Inner>, id: Uuid, line: Arc<Line>) {
    let mut allowance = 0.0;
    let mut delivered = None;
    let mut at = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(lane) = inner.lane(id).filter(|_| !inner.is_shutting_down()) else {
            *line.state() = Waiting::default();
            return;
        };
        let now = lane.shared.log.books(lane.slot).delivered;
        let taken = now - delivered.replace(now).unwrap_or(now);
        let passed = at.elapsed().as_secs_f64();
        at = Instant::now();
        // What cannot be sent would only grow old in the log.
        if !matches!(lane.stats().state, State::Healthy | State::Degraded) {
            continue;
        }
        allowance += FLOOR * passed + SHARE * taken as f64;
        match line.step(&lane, allowance as usize).await {
            Ok((letters, _)) => allowance -= letters as f64,
            Err(error) => tracing::warn!(destination = %id, %error, "dead letters not replayed yet"),
        }
        let mut state = line.state();
        if state.ids.is_empty() {
            *state = Waiting::default();
            return;
        }
    }
}

/// Puts the spans of these letters into the log again, then removes the letters. Answers which ids are done with
/// (a prefix of `ids`) and how many spans were requeued.
async fn send_back(lane: &Lane, mut ids: Vec<u64>) -> Result<(Vec<u64>, u64), LogError> {
    let (log, slot) = (lane.shared.log.clone(), lane.slot);
    let private = lane.setup().destination.privacy_mode;
    let workspace = *lane.setup().destination.workspace_id.as_bytes();
    let (ids, records) = blocking(move || {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut read = 0;
        for id in &ids {
            read += 1;
            // A letter that is gone was removed, or went because of the caps.
            let Some(letter) = log.dead_letters().get(slot, *id) else { continue };
            bytes += letter.payload.len();
            records.extend(again(letter, private, workspace).map(|record| (*id, record)));
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        ids.truncate(read);
        Ok((ids, records))
    })
    .await?;
    let appended =
        records.into_iter().map(|(id, record)| async move { Ok((id, append(lane, record).await?)) });
    let (mut done, mut spans, mut failed) = (Vec::new(), 0, None);
    for result in join_all(appended).await {
        match result {
            Ok((id, n)) => {
                done.push(id);
                spans += n;
            }
            // It stays a dead letter.
            Err(error @ LogError::Invalid(_)) => tracing::warn!(%error, "a dead letter cannot be replayed"),
            Err(error) => failed = Some(error),
        }
    }
    let log = lane.shared.log.clone();
    blocking(move || log.dead_letters().remove(slot, &done)).await?;
    match failed {
        // Those that made it are gone from the store, so the next try passes over them.
        Some(error) => Err(error),
        None => Ok((ids, spans)),
    }
}

/// Keeps a record made by [`requeued`]; answers how many spans it has.
pub(crate) async fn append(lane: &Lane, record: NewRecord) -> Result<u64, LogError> {
    let payload = record.payload.clone();
    let sequence = lane.shared.log.append(record).await?;
    if let Some(observer) = lane.shared.observer.get() {
        observer.requeued(lane.slot, sequence, &payload);
    }
    Ok(u64::from(payload.spans()))
}

/// The record that sends a letter's spans again. `None` if its content would have to be removed and cannot be.
fn again(letter: DeadLetter, private: bool, workspace: [u8; 16]) -> Option<NewRecord> {
    let payload = Payload::new(letter.payload, letter.spans);
    let (payload, projection) = if private {
        // Privacy may have been switched on since it was written.
        let without = project(&payload, &SpanSet::all(letter.spans), true).ok()?;
        (Payload::new(without, letter.spans), Projection::REQUEUED.and(Projection::PRIVACY))
    } else {
        (payload, Projection::REQUEUED)
    };
    let first_life = first_life::before(letter.received_unix_nano, &letter.via);
    Some(requeued(letter.slot, workspace, projection, first_life, payload))
}

/// A record that no request brought: all its spans are for one destination, none of them is accepted again. What is known
/// of their first life goes with them.
pub(crate) fn requeued(
    slot: Slot,
    workspace: [u8; 16],
    projection: Projection,
    first_life: Bytes,
    payload: Payload,
) -> NewRecord {
    NewRecord {
        workspace,
        config_generation: 0,
        // Its life begins anew.
        received_unix_nano: unix_nano(),
        accepted: 0,
        routes: vec![Route { slot, projection, spans: SpanSet::all(payload.spans()) }],
        skips: Vec::new(),
        trace_keys: Bytes::new(),
        origin: Origin { via: first_life, ..Origin::default() },
        payload: Arc::new(payload),
    }
}

/// A record of spans that this gateway has made for a destination.
pub(crate) fn made_here(lane: &Lane, payload: Payload) -> NewRecord {
    let workspace = *lane.setup().destination.workspace_id.as_bytes();
    requeued(lane.slot, workspace, Projection::REQUEUED, first_life::made_here(), payload)
}

/// Work that reads and writes files.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    world::blocking(work).await.unwrap_or(Err(LogError::Closed))
}
