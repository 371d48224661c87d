//! Dead letters, replay and backfill as the control plane asks for them.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tracecast_control::{LetterFilter, Letters, Refused};
use tracecast_delivery::{Backfill, Decide, Delivery, Replay};
use tracecast_destination::{Destination, Issue};
use tracecast_genai::Privacy;
use tracecast_ingest::Ingest;
use tracecast_log::{self as log, DeadLetter, DeadReason, Log, LogError, Past, Projection};
use tracecast_otlp::write::Edit;
use tracecast_otlp::{Payload, hex};
use uuid::Uuid;

use crate::known::Known;
use crate::otlp_text::otlp_text;
use crate::runtime::time;

/// Of a letter's traces so many are named.
const TRACES_MAX: usize = 10;

/// A page of a destination's letters. Blocking.
pub(crate) fn page(
    log: &Log,
    delivery: &Delivery,
    known: &Known,
    filter: &LetterFilter,
    offset: usize,
    limit: usize,
) -> Result<Letters, Refused> {
    let heads = log.dead_letters().find(known.slot, &translate(filter)?);
    let mut by_reason = Map::new();
    for reason in DeadReason::ALL {
        let count = heads.iter().filter(|head| head.reason == *reason).count();
        by_reason.insert(reason.as_str().to_owned(), count.into());
    }
    let page = heads.iter().skip(offset).take(limit);
    Ok(Letters {
        // A letter may go between the two looks.
        page: page
            .filter_map(|head| log.dead_letters().get(known.slot, head.id))
            .map(|l| summary(&l))
            .collect(),
        total: heads.len() as u64,
        by_reason,
        replaying: delivery.replaying(known.destination.id),
    })
}

/// One letter with its spans. Blocking.
pub(crate) fn one(log: &Log, known: &Known, id: u64) -> Option<Json> {
    let letter = log.dead_letters().get(known.slot, id)?;
    let mut shown = summary(&letter);
    shown["content"] = content(&letter, &known.destination);
    Some(shown)
}

/// Removes letters. Blocking.
pub(crate) fn delete(log: &Log, known: &Known, filter: &LetterFilter) -> Result<u64, Refused> {
    let heads = log.dead_letters().find(known.slot, &translate(filter)?);
    let ids: Vec<u64> = heads.iter().map(|head| head.id).collect();
    log.dead_letters().remove(known.slot, &ids).map_err(unavailable)
}

pub(crate) async fn replay(delivery: Delivery, id: Uuid, filter: LetterFilter) -> Result<Json, Refused> {
    let Replay { matched, requeued, waiting } =
        delivery.replay(id, translate(&filter)?).await.ok_or_else(unknown)?.map_err(unavailable)?;
    Ok(json!({ "matched": matched, "requeued": requeued, "waiting": waiting }))
}

pub(crate) async fn backfill(
    delivery: Delivery,
    ingest: Ingest,
    slot: u32,
    id: Uuid,
    from_unix_nano: u64,
) -> Result<Json, Refused> {
    let decide: Decide = Arc::new(move |past| decide_again(&ingest, slot, past));
    let done = delivery.backfill(id, from_unix_nano, decide).await.ok_or_else(unknown)?;
    let Backfill { oldest_unix_nano, records, requeued, next_unix_nano } = done.map_err(unavailable)?;
    let reached = oldest_unix_nano.is_some_and(|oldest| oldest <= from_unix_nano);
    Ok(json!({
        "oldest_at": time(oldest_unix_nano),
        "records": records,
        "requeued": requeued,
        "complete": reached && next_unix_nano.is_none(),
        "next_from": time(next_unix_nano),
    }))
}

/// What the destination would get of a record today, beside what it is to get anyway.
fn decide_again(ingest: &Ingest, slot: u32, past: &Past<'_>) -> Option<(Payload, Projection)> {
    let payload = past.payload().ok()?;
    let pending = past.routes.iter().find(|route| route.slot == slot).map(|route| &route.pending);
    let workspace = Uuid::from_bytes(past.workspace);
    let again = ingest.decide_again(
        workspace,
        past.received_unix_nano,
        &past.origin.sender,
        &payload,
        slot,
        pending,
    )?;
    Some((again.payload, if again.private { Projection::PRIVACY } else { Projection::AS_IS }))
}

fn translate(filter: &LetterFilter) -> Result<log::LetterFilter, Refused> {
    let reason = match &filter.reason {
        None => None,
        Some(word) => {
            Some(DeadReason::ALL.iter().find(|r| r.as_str() == word).copied().ok_or_else(|| {
                let words: Vec<&str> = DeadReason::ALL.iter().map(|r| r.as_str()).collect();
                let message = format!("must be one of {}", words.join(", "));
                Refused::Invalid(vec![Issue { path: "reason".into(), message, hint: None }])
            })?)
        }
    };
    let LetterFilter { id, from_unix_nano, to_unix_nano, .. } = *filter;
    Ok(log::LetterFilter { id, reason, from_unix_nano, to_unix_nano })
}

fn unknown() -> Refused {
    Refused::Unavailable("the destination is not known to delivery yet: try again in a moment".to_owned())
}

fn unavailable(error: LogError) -> Refused {
    tracing::warn!(%error, "dead letters");
    Refused::Unavailable(match error {
        LogError::Full => "the log is full: try again when the destination has caught up".to_owned(),
        LogError::Closed => "the gateway is stopping".to_owned(),
        _ => "the log cannot be used at the moment".to_owned(),
    })
}

fn summary(letter: &DeadLetter) -> Json {
    let payload = Payload::new(letter.payload.clone(), letter.spans);
    let mut traces: Vec<String> = Vec::new();
    for span in payload.traces().iter().flat_map(|traces| traces.spans()) {
        let id = hex(&span.trace_id());
        if traces.len() < TRACES_MAX && !traces.contains(&id) {
            traces.push(id);
        }
    }
    json!({
        "id": letter.id,
        "at": time(Some(letter.at_unix_nano)),
        "received_at": time(Some(letter.received_unix_nano)),
        "first_attempt_at": time(letter.first_sent_unix_nano),
        "mapping_version": letter.mapping_version,
        "reason": letter.reason.as_str(),
        "status": letter.status,
        "excerpt": letter.excerpt,
        "attempts": letter.attempts,
        "spans": letter.spans,
        "bytes": letter.payload.len(),
        "trace_ids": traces,
    })
}

/// The spans as OTLP JSON. Privacy was applied when the letter was written, and is again if it is on by now.
fn content(letter: &DeadLetter, destination: &Destination) -> Json {
    let payload = Payload::new(letter.payload.clone(), letter.spans);
    let Ok(traces) = payload.traces() else { return json!({}) };
    let edit: Option<&dyn Edit> = if destination.privacy_mode { Some(&Privacy) } else { None };
    serde_json::from_slice(&otlp_text(traces, edit)).unwrap_or_else(|_| json!({}))
}
