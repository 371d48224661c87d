//! What became of a trace: from the memory of recent ones, else from what the log and the dead letters still hold.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tracecast_delivery::LastError;
use tracecast_log::{DeadLetter, LetterFilter, Log, Sequence, Slot};
use tracecast_otlp::{Payload, SpanSet, TraceId, hex};
use uuid::Uuid;

use super::fate::Fate;
use super::recent::{Recent, Remembered};
use crate::known::Known;
use crate::runtime::time;

/// At most so many bytes are read to answer.
const READ_MAX: usize = 512 << 20;

/// `known` in the order of their numbers.
pub(super) fn look_up(log: &Log, recent: &Recent, known: &[Arc<Known>], trace: TraceId) -> Json {
    let mut found = recent.trace(&trace).unwrap_or_default();
    if !found.complete {
        search(log, known, &trace, &mut found);
    }
    let destinations: Vec<Json> = found
        .fates
        .iter()
        .map(|(slot, fate)| {
            let mut fields = fate.json();
            match known.binary_search_by_key(slot, |known| known.slot) {
                Ok(at) => {
                    let destination = &known[at].destination;
                    fields.insert("destination_id".into(), destination.id.to_string().into());
                    fields.insert("name".into(), destination.name.clone().into());
                    fields.insert("type".into(), destination.config.kind().as_str().into());
                    fields.insert("workspace_id".into(), destination.workspace_id.to_string().into());
                }
                // Deleted: what it was called is gone with it.
                Err(_) => {
                    let id = log.slot_key(*slot).map(|key| Uuid::from_bytes(key).to_string());
                    fields.insert("destination_id".into(), id.into());
                    fields.insert("deleted".into(), true.into());
                }
            }
            fields.into()
        })
        .collect();
    let received = found.fates.values().map(|f| f.received_unix_nano).filter(|at| *at > 0).min();
    json!({
        "trace_id": hex(&trace),
        "complete": found.complete,
        "received_at": time(received),
        "destinations": destinations,
    })
}

/// Adds what is not remembered: records that the log still holds, and dead letters.
fn search(log: &Log, known: &[Arc<Known>], trace: &TraceId, found: &mut Remembered) {
    let remembered: HashSet<Sequence> = found.sequences.iter().copied().collect();
    let mut left = READ_MAX;
    let mut fates: BTreeMap<(Slot, Sequence), Fate> = BTreeMap::new();
    let read = log.history(0, |past| {
        if remembered.contains(&past.sequence) {
            return ControlFlow::Continue(());
        }
        let Ok(payload) = past.payload() else { return ControlFlow::Continue(()) };
        for route in &past.routes {
            let count = |spans: &SpanSet| spans_of(&payload, spans, trace);
            let spans = count(&route.spans);
            if spans == 0 {
                continue;
            }
            let fate = fates.entry((route.slot, past.sequence)).or_default();
            fate.received_unix_nano = past.received_unix_nano;
            fate.unknown = spans - count(&route.pending);
            if route.projection.is_requeued() {
                fate.requeued = spans;
            } else {
                fate.selected = spans;
            }
        }
        take(&mut left, payload.bytes().len())
    });
    if let Err(error) = read {
        tracing::warn!(%error, "the log could not be searched for a trace");
    }
    for slot in known.iter().map(|known| known.slot) {
        for head in log.dead_letters().find(slot, &LetterFilter::default()) {
            let Some(letter) = log.dead_letters().get(slot, head.id) else { continue };
            let more = take(&mut left, letter.payload.len());
            if !remembered.contains(&letter.sequence) {
                bury(&letter, trace, &mut fates);
            }
            if more.is_break() {
                break;
            }
        }
    }
    for ((slot, _), fate) in fates {
        found.fates.entry(slot).or_default().add(&fate);
    }
}

fn take(left: &mut usize, bytes: usize) -> ControlFlow<()> {
    *left = left.saturating_sub(bytes);
    if *left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn bury(letter: &DeadLetter, trace: &TraceId, fates: &mut BTreeMap<(Slot, Sequence), Fate>) {
    let payload = Payload::new(letter.payload.clone(), letter.spans);
    let spans = spans_of(&payload, &SpanSet::all(letter.spans), trace);
    if spans == 0 {
        return;
    }
    // Its record may be gone: then it is known to have been selected all the same.
    let fate = fates.entry((letter.slot, letter.sequence)).or_default();
    fate.received_unix_nano = letter.received_unix_nano;
    match fate.unknown.checked_sub(spans) {
        Some(unknown) => fate.unknown = unknown,
        None => fate.selected += spans,
    }
    if let Some(count) = fate.dead.get_mut(letter.reason as usize) {
        *count += spans;
    }
    fate.attempts = fate.attempts.max(letter.attempts);
    fate.trouble = Some(Arc::new(LastError {
        status: letter.status,
        excerpt: letter.excerpt.clone(),
        at_unix_nano: letter.at_unix_nano,
    }));
}

/// How many of these spans belong to the trace. Most payloads are told by not holding its id at all.
fn spans_of(payload: &Payload, spans: &SpanSet, trace: &TraceId) -> u32 {
    if spans.is_empty() || !payload.bytes().windows(trace.len()).any(|bytes| bytes == trace) {
        return 0;
    }
    let Ok(traces) = payload.traces() else { return 0 };
    let of_trace = |i: &u32| (*i as usize) < traces.len() && traces.span(*i as usize).trace_id() == *trace;
    spans.iter().filter(of_trace).count() as u32
}
