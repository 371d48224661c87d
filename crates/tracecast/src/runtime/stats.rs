//! What the stats call shows of a destination.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};
use tracecast_delivery::{Delivery, Gap, LastError, Lost, State, Transition};
use tracecast_log::{Books, DropReason, Log, SkipReason};

use crate::known::Known;

/// The object, but for what names the destination.
pub(super) fn of(log: &Log, delivery: &Delivery, known: &Known) -> Map<String, Json> {
    let id = known.destination.id;
    let books = log.books(known.slot);
    let live = delivery.stats(id);
    let mut map = Map::new();
    let state = live.as_ref().map_or(State::Healthy, |live| live.state);
    map.insert("state".into(), state.as_str().into());
    map.insert("since".into(), time(live.as_ref().map(|l| l.since_unix_nano)));
    books_json(&books, &mut map);
    map.insert("dead_letters".into(), log.dead_letters().count(known.slot).into());
    map.insert("warnings".into(), warnings(known, &books, live.as_ref()).into());
    let Some(live) = live else { return map };
    map.insert("in_flight".into(), live.in_flight.into());
    map.insert("attempts".into(), live.attempts.into());
    map.insert("retries".into(), live.retries.into());
    map.insert("bytes_sent".into(), live.bytes_sent.into());
    map.insert("latency_p50_ms".into(), live.latency_p50_ms.into());
    map.insert("latency_p99_ms".into(), live.latency_p99_ms.into());
    map.insert("last_delivered_at".into(), time(live.last_delivered_unix_nano));
    map.insert("retry_wait_seconds".into(), live.retry_wait.as_secs_f64().into());
    map.insert("bisect_requests".into(), live.bisect_requests.into());
    map.insert("last_error".into(), error_json(live.last_error));
    map.insert("history".into(), history_json(delivery.history(id)));
    map
}

/// The books of design 2.4, as the stats call shows them.
fn books_json(books: &Books, map: &mut Map<String, Json>) {
    map.insert("accepted".into(), books.accepted.into());
    map.insert("selected".into(), books.selected.into());
    map.insert("requeued".into(), books.requeued.into());
    map.insert("delivered".into(), books.delivered.into());
    map.insert("dead_lettered".into(), books.dead_lettered.iter().sum::<u64>().into());
    let dropped: Map<String, Json> =
        DropReason::ALL.iter().map(|r| (r.as_str().into(), books.dropped[*r as usize].into())).collect();
    map.insert("dropped".into(), dropped.into());
    let skipped: Map<String, Json> =
        SkipReason::ALL.iter().map(|r| (r.as_str().into(), books.skipped[*r as usize].into())).collect();
    map.insert("skipped".into(), skipped.into());
    map.insert("pending".into(), books.pending.into());
    map.insert("pending_bytes".into(), books.pending_bytes.into());
    map.insert("oldest_pending_seconds".into(), oldest_seconds(books).into());
}

/// Trouble, as people are told.
fn error_json(error: Option<LastError>) -> Json {
    error.map_or(
        Json::Null,
        |e| json!({ "status": e.status, "excerpt": e.excerpt, "at": time(Some(e.at_unix_nano)) }),
    )
}

/// The latest changes of state, the newest first.
fn history_json(history: Vec<Transition>) -> Json {
    let entry = |t: Transition| {
        json!({
            "from": t.from.as_str(),
            "to": t.to.as_str(),
            "at": time(Some(t.at_unix_nano)),
            "times": t.times,
            "error": error_json(t.error),
        })
    };
    history.into_iter().rev().map(entry).collect()
}

pub(super) fn oldest_seconds(books: &Books) -> f64 {
    age_seconds(books.oldest_pending_unix_nano)
}

/// 0 if there is nothing.
pub(super) fn age_seconds(unix_nano: Option<u64>) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    unix_nano.map_or(0.0, |at| now.saturating_sub(at) as f64 / 1e9)
}

pub(crate) fn time(unix_nano: Option<u64>) -> Json {
    unix_nano
        .and_then(|n| jiff::Timestamp::from_nanosecond(i128::from(n)).ok())
        .map_or(Json::Null, |t| format!("{t:.3}").into())
}

fn warnings(known: &Known, books: &Books, live: Option<&tracecast_delivery::Stats>) -> Vec<String> {
    let mut warnings = Vec::new();
    match live.map(|l| l.state) {
        Some(State::HeldAuth) => {
            warnings.push("the destination refuses the credentials: update its config".to_owned())
        }
        Some(State::HeldConfig) => {
            warnings.push("the destination's address or set-up is wrong: see last_error".to_owned())
        }
        Some(State::AutoPaused) => warnings.push(
            "nothing but failures for days: probed once per hour, resume to try at once; what grew too old \
             meanwhile is counted as expired"
                .to_owned(),
        ),
        Some(State::Gone) => {
            warnings.push("the endpoint answered 410 gone: nothing is sent until it is resumed".to_owned())
        }
        _ => {}
    }
    if live.is_some_and(|live| live.state == State::Degraded && live.is_lagging) {
        warnings.push(
            "it lags: events wait for longer than a working destination needs; it takes less than it is sent, or works \
             off what came meanwhile (see oldest_pending_seconds, last_error and its rate_limit)"
                .to_owned(),
        );
    }
    if let Some(gap) = live.and_then(|live| live.gap) {
        warnings.push(gap_warning(known, &gap));
    }
    if !known.destination.enabled {
        warnings.push("disabled: no event is selected".to_owned());
    }
    if books.accepted > 0 && books.selected == 0 {
        warnings.push("events arrive, but no rule lets one through: see skipped".to_owned());
    }
    warnings
}

/// What was lost while the destination was away, and how it is sent again.
fn gap_warning(known: &Known, gap: &Gap) -> String {
    let id = known.destination.id;
    let text = |unix_nano| time(Some(unix_nano)).as_str().unwrap_or_default().to_owned();
    let (since, until) = (text(gap.since_unix_nano), text(gap.until_unix_nano));
    let Lost { dropped, dead_lettered } = gap.lost;
    let mut warning = format!("auto-paused after it had failed since {since}, back since {until}; meanwhile");
    if dropped > 0 {
        warning += &format!(
            " {dropped} spans were given up: `tracecast destination backfill {id} --from {since}` sends again what \
             the log still holds (log.retain)"
        );
    }
    if dead_lettered > 0 {
        let join = if dropped > 0 { "; and" } else { "" };
        warning += &format!(
            "{join} {dead_lettered} spans were refused: `tracecast destination replay {id} --from {since} --to \
             {until}` sends their dead letters again"
        );
    }
    warning
}
