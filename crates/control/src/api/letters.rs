//! What became of events: dead letters and their replay, backfill, the look-up of one trace, the tail.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::auth::Caller;
use super::destinations::find;
use super::envelope::{self, ApiError, issue};
use super::openapi::{
    BackfillErrors, DestinationPath, LetterFilters, LetterPath, LettersErrors, ReadErrors, ReplayErrors,
    StatsPaging, TailErrors, TailFilters, TracePath,
};
use super::request::{Body, Params, PathId, PathLetter, PathText};
use crate::{Control, LetterFilter, Refused};

/// Page size of letters, which are read by people.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// A tail that has nothing to say shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[utoipa::path(
    get, path = "/observability/destinations/{id}/dead-letters", operation_id = "listDeadLetters", tag = "destinations",
    summary = "What the destination refused for good, oldest first, and how much of it for which reason.",
    params(DestinationPath, LetterFilters, StatsPaging),
    responses(
        (status = 200, description = "A page.", body = ref("#/components/schemas/DeadLetterPage")),
        LettersErrors,
    ),
)]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, ApiError> {
    let (offset, limit) = (params.offset()?, params.limit(LIMIT_DEFAULT, LIMIT_MAX)?);
    let filter = filter(|name| params.text(name).map(Json::from))?;
    find(&control.model(), id)?;
    let runtime = control.runtime.clone();
    let letters = blocking(move || runtime.0.dead_letters(id, &filter, offset, limit)).await??;
    Ok(envelope::json_response(
        StatusCode::OK,
        &json!({
            "data": letters.page,
            "total_count": letters.total,
            "by_reason": letters.by_reason,
            "replaying": letters.replaying,
        }),
    ))
}

#[utoipa::path(
    get, path = "/observability/destinations/{id}/dead-letters/{letter}", operation_id = "getDeadLetter",
    tag = "destinations",
    summary = "One dead letter with its spans, as the destination would have got them.",
    params(DestinationPath, LetterPath),
    responses(
        (status = 200, description = "The letter.", body = ref("#/components/schemas/DeadLetterData")),
        ReadErrors,
    ),
)]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    PathLetter { destination, letter }: PathLetter,
) -> Result<Response, ApiError> {
    find(&control.model(), destination)?;
    let runtime = control.runtime.clone();
    let shown = blocking(move || runtime.0.dead_letter(destination, letter))
        .await?
        .ok_or_else(ApiError::not_found)?;
    Ok(envelope::data(StatusCode::OK, shown))
}

#[utoipa::path(
    delete, path = "/observability/destinations/{id}/dead-letters", operation_id = "deleteDeadLetters",
    tag = "destinations",
    summary = "Removes dead letters for good: those that pass the filter, or all.",
    params(DestinationPath, LetterFilters),
    responses(
        (status = 200, description = "How many there were.", body = ref("#/components/schemas/DeletedLetters")),
        ReplayErrors,
    ),
)]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, ApiError> {
    let filter = filter(|name| params.text(name).map(Json::from))?;
    find(&control.model(), id)?;
    let runtime = control.runtime.clone();
    let deleted = blocking(move || runtime.0.delete_dead_letters(id, &filter)).await??;
    tracing::info!(actor = %caller.key.label, destination = %id, deleted, "dead letters deleted");
    Ok(envelope::data(StatusCode::OK, json!({ "deleted": deleted })))
}

/// `{}` is all of them; `{id}`, `{reason}`, `{from, to}` are some.
#[utoipa::path(
    post, path = "/observability/destinations/{id}/dead-letters/replay", operation_id = "replayDeadLetters",
    tag = "destinations",
    summary = "Sends dead letters again, with the present configuration: up to a thousand at once, the rest in time.",
    params(DestinationPath),
    request_body = ref("#/components/schemas/ReplayRequest"),
    responses(
        (status = 200, description = "What was begun.", body = ref("#/components/schemas/ReplayData")),
        BackfillErrors,
    ),
)]
pub(super) async fn replay(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let unknown = body.keys().filter(|key| !["id", "reason", "from", "to"].contains(&key.as_str()));
    // A misspelt filter must not be read as "all".
    let issues: Vec<_> =
        unknown.map(|key| issue(key.clone(), "is not a filter: id, reason, from, to are")).collect();
    if !issues.is_empty() {
        return Err(ApiError::invalid(&issues));
    }
    let filter = filter(|name| body.get(name).filter(|value| !value.is_null()).cloned())?;
    find(&control.model(), id)?;
    let answer = control.runtime().replay(id, filter).await?;
    tracing::info!(actor = %caller.key.label, destination = %id, %answer, "dead letters replayed");
    Ok(envelope::data(StatusCode::OK, answer))
}

/// What is found is decided by the rules of today; what the destination is to get anyway is not sent twice.
#[utoipa::path(
    post, path = "/observability/destinations/{id}/backfill", operation_id = "backfillDestination",
    tag = "destinations",
    summary = "Sends again what the log still holds from a time on; how much that is depends on `log.retain`.",
    params(DestinationPath),
    request_body = ref("#/components/schemas/BackfillRequest"),
    responses(
        (status = 200, description = "How far back it went and what it found.",
         body = ref("#/components/schemas/BackfillData")),
        BackfillErrors,
    ),
)]
pub(super) async fn backfill(
    State(control): State<Arc<Control>>,
    caller: Caller,
    PathId(id): PathId,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let from = body.get("from").ok_or_else(|| ApiError::invalid_field("from", "is required"))?;
    let from = unix_nano("from", from)?;
    find(&control.model(), id)?;
    let answer = control.runtime().backfill(id, from).await?;
    tracing::info!(actor = %caller.key.label, destination = %id, %answer, "backfilled");
    Ok(envelope::data(StatusCode::OK, answer))
}

#[utoipa::path(
    get, path = "/observability/events/{trace_id}", operation_id = "getEvent", tag = "operations",
    summary = "What became of a trace, per destination; `complete` says whether that is known to be all.",
    params(TracePath),
    responses(
        (status = 200, description = "What is known.", body = ref("#/components/schemas/EventData")),
        LettersErrors,
    ),
)]
pub(super) async fn event(
    State(control): State<Arc<Control>>,
    PathText(trace_id): PathText,
) -> Result<Response, ApiError> {
    let Some(trace) = crate::hex::decode::<16>(&trace_id) else {
        return Err(ApiError::invalid_field("trace_id", "must be 32 hexadecimal digits"));
    };
    let runtime = control.runtime.clone();
    let found = blocking(move || runtime.0.event(trace)).await?;
    Ok(envelope::data(StatusCode::OK, found))
}

/// Server-sent events: `span` as they come, `lost` with a count when the reader was too slow.
#[utoipa::path(
    get, path = "/observability/tail", operation_id = "tailEvents", tag = "operations",
    summary = "A line per event as it comes: what it was, where it goes, why not elsewhere. Never content.",
    params(TailFilters),
    responses(
        (status = 200, description = "An endless stream.", content_type = "text/event-stream", body = String),
        TailErrors,
    ),
)]
pub(super) async fn tail(State(control): State<Arc<Control>>, params: Params) -> Result<Response, ApiError> {
    let destination = match params.text("destination_id") {
        Some(id) => {
            let id = Uuid::try_parse(id)
                .map_err(|_| ApiError::invalid_field("destination_id", "must be an id"))?;
            find(&control.model(), id)?;
            Some(id.to_string())
        }
        None => None,
    };
    let filter = TailFilter { destination, skipped: params.flag("skipped")? };
    let stopping = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    let lines = control.runtime().tail().ok_or_else(stopping)?;
    Ok(Sse::new(events(lines, filter)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

struct TailFilter {
    destination: Option<String>,
    /// Also what the destination does not get; without one, only what somebody does not get.
    skipped: bool,
}

impl TailFilter {
    fn passes(&self, line: &Json) -> bool {
        let all = line["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut asked = all.iter().filter(|d| match &self.destination {
            Some(id) => d["destination_id"] == id.as_str(),
            None => true,
        });
        match (&self.destination, self.skipped) {
            (None, false) => true,
            (_, true) => asked.any(|d| d["selected"] == false),
            (Some(_), false) => asked.any(|d| d["selected"] == true),
        }
    }
}

fn events(lines: Receiver<Arc<Json>>, filter: TailFilter) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((lines, filter), |(mut lines, filter)| async move {
        loop {
            let event = match lines.recv().await {
                Ok(line) if !filter.passes(&line) => continue,
                Ok(line) => Event::default().event("span").data(line.to_string()),
                Err(RecvError::Lagged(lost)) => {
                    Event::default().event("lost").data(json!({ "lost": lost }).to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(event), (lines, filter)));
        }
    })
}

/// Reads a filter from query or body; every mistake at once.
fn filter(field: impl Fn(&str) -> Option<Json>) -> Result<LetterFilter, ApiError> {
    let mut found = LetterFilter::default();
    let mut issues = Vec::new();
    if let Some(value) = field("id") {
        let text = value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
        match text.parse() {
            Ok(id) => found.id = Some(id),
            Err(_) => issues.push(issue("id", "must be the id of a dead letter")),
        }
    }
    if let Some(value) = field("reason") {
        match value.as_str() {
            Some(reason) => found.reason = Some(reason.to_owned()),
            None => issues.push(issue("reason", "must be text")),
        }
    }
    for (name, into) in [("from", &mut found.from_unix_nano), ("to", &mut found.to_unix_nano)] {
        if let Some(value) = field(name) {
            match time(&value) {
                Some(at) => *into = Some(at),
                None => issues.push(issue(name, TIME)),
            }
        }
    }
    if issues.is_empty() { Ok(found) } else { Err(ApiError::invalid(&issues)) }
}

const TIME: &str = "must be a time like 2026-01-31T12:00:00Z";

fn unix_nano(name: &str, value: &Json) -> Result<u64, ApiError> {
    time(value).ok_or_else(|| ApiError::invalid_field(name, TIME))
}

fn time(value: &Json) -> Option<u64> {
    let at: Timestamp = value.as_str()?.parse().ok()?;
    u64::try_from(at.as_nanosecond()).ok()
}

/// Work that reads files, or much.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal())
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::Invalid(issues) => ApiError::invalid(&issues),
            Refused::Unavailable(reason) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason),
        }
    }
}
