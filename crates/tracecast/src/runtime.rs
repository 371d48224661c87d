//! What the control plane and the metrics see of the running gateway.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::{Map, Value as Json, json};
use tracecast_control::futures_like::BoxFuture;
use tracecast_control::{LetterFilter, Letters, Preview, Refused, Runtime};
use tracecast_delivery::{Delivery, LastError, State, Transition};
use tracecast_destination::{Destination, Issue};
use tracecast_ingest::{Ingest, Reason};
use tracecast_log::{Books, DeadReason, DropReason, Durations, Log, SkipReason};
use tracecast_sinks::Clients;
use tracecast_telemetry::{Histogram, HistogramSeries, Instrument, Kind as Measure, Metrics, Series, Source};
use uuid::Uuid;

use crate::events::Events;
use crate::gateway::BoundAddresses;
use crate::letters;
use crate::listeners;

/// A connection test ends after this long at the latest.
const TEST_WITHIN: Duration = Duration::from_secs(10);

/// The seam between the crates, as the binary composes them.
pub(crate) struct GatewayRuntime {
    log: Log,
    delivery: Delivery,
    clients: Clients,
    addresses: BoundAddresses,
    known: Arc<ArcSwap<Vec<Known>>>,
    events: Arc<Events>,
    ingest: OnceLock<Ingest>,
    metrics: OnceLock<Metrics>,
    draining: AtomicBool,
}

/// A destination with its number in the log.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) slot: u32,
    pub(crate) destination: Arc<Destination>,
    pub(crate) retired: bool,
}

impl GatewayRuntime {
    pub(crate) fn new(
        log: Log,
        delivery: Delivery,
        clients: Clients,
        addresses: BoundAddresses,
    ) -> GatewayRuntime {
        let known: Arc<ArcSwap<Vec<Known>>> = Arc::default();
        let events = Arc::new(Events::new(log.clone(), known.clone()));
        delivery.observe(events.clone());
        GatewayRuntime {
            log,
            delivery,
            clients,
            addresses,
            known,
            events,
            ingest: OnceLock::new(),
            metrics: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn attach_ingest(&self, ingest: Ingest) {
        ingest.observe(self.events.clone());
        let _ = self.ingest.set(ingest);
    }

    pub(crate) fn attach_metrics(&self, metrics: Metrics) {
        let _ = self.metrics.set(metrics);
    }

    pub(crate) fn stop_metrics(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.shutdown();
        }
    }

    /// From now on the gateway is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.events.close();
    }

    /// The destinations that take events.
    pub(crate) fn destinations(&self) -> Vec<Arc<Destination>> {
        self.known.load().iter().filter(|k| !k.retired).map(|k| k.destination.clone()).collect()
    }

    /// The books of destinations that are gone: their spans are accounted for as well.
    fn deleted_books(&self) -> Map<String, Json> {
        let known = self.known.load();
        let known: HashSet<u32> = known.iter().map(|k| k.slot).collect();
        let mut sum = Books::default();
        for (slot, _) in self.log.slots().into_iter().filter(|(slot, _)| !known.contains(slot)) {
            let books = self.log.books(slot);
            sum.selected += books.selected;
            sum.requeued += books.requeued;
            sum.delivered += books.delivered;
            sum.pending += books.pending;
            sum.dead_lettered.iter_mut().zip(books.dead_lettered).for_each(|(sum, n)| *sum += n);
            sum.dropped.iter_mut().zip(books.dropped).for_each(|(sum, n)| *sum += n);
        }
        let figures = [
            ("selected", sum.selected),
            ("requeued", sum.requeued),
            ("delivered", sum.delivered),
            ("dead_lettered", sum.dead_lettered.iter().sum()),
            ("dropped", sum.dropped.iter().sum()),
            ("pending", sum.pending),
        ];
        figures.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect()
    }

    /// Bytes of everything that is bounded by `limits.memory_bytes`.
    fn memory_bytes(&self) -> u64 {
        let ingest = self.ingest.get().map_or(0, |ingest| ingest.memory_bytes() as u64);
        ingest + self.delivery.in_flight_bytes() + self.log.memory_bytes()
    }

    fn find(&self, id: Uuid) -> Option<Known> {
        self.known.load().iter().find(|k| k.destination.id == id).cloned()
    }
}

impl Runtime for GatewayRuntime {
    fn slot(&self, id: Uuid) -> u32 {
        self.log.slot(id.into_bytes())
    }

    fn apply(
        &self,
        active: &[(u32, Arc<Destination>)],
        retired: &[(u32, Arc<Destination>)],
    ) -> Vec<(Uuid, String)> {
        let known = |retired| {
            move |(slot, destination): &(u32, Arc<Destination>)| Known {
                slot: *slot,
                destination: destination.clone(),
                retired,
            }
        };
        let all: Vec<Known> =
            active.iter().map(known(false)).chain(retired.iter().map(known(true))).collect();
        self.known.store(Arc::new(all));
        let errors = self.delivery.apply(&[active, retired].concat());
        self.delivery.retire(&retired.iter().map(|(_, destination)| destination.id).collect());
        errors
    }

    fn check(&self, destination: &Destination) -> Vec<Issue> {
        let BoundAddresses { http, grpc, admin } = self.addresses;
        listeners::own(destination, &[http, grpc, admin]).into_iter().collect()
    }

    fn stats(&self, id: Uuid) -> Map<String, Json> {
        let Some(known) = self.find(id) else { return Map::new() };
        let books = self.log.books(known.slot);
        let live = self.delivery.stats(id);
        let mut map = Map::new();
        let state = live.as_ref().map_or(State::Healthy, |live| live.state);
        map.insert("state".into(), state.as_str().into());
        map.insert("since".into(), time(live.as_ref().map(|l| l.since_unix_nano)));
        books_json(&books, &mut map);
        map.insert("dead_letters".into(), self.log.dead_letters().count(known.slot).into());
        map.insert("warnings".into(), warnings(&known, &books, live.as_ref()).into());
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
        map.insert("history".into(), history_json(self.delivery.history(id)));
        map
    }

    fn gateway_stats(&self) -> Map<String, Json> {
        let mut map = Map::new();
        map.insert("accepted".into(), self.log.accepted().into());
        map.insert("log_bytes".into(), self.log.bytes().into());
        map.insert("deleted_destinations".into(), self.deleted_books().into());
        if let Some(ingest) = self.ingest.get() {
            let rejected: Map<String, Json> = Reason::ALL
                .iter()
                .map(|r| (r.as_str().to_owned(), ingest.counters().rejected(*r).into()))
                .collect();
            map.insert("rejected".into(), rejected.into());
            map.insert("requests".into(), ingest.counters().requests().into());
            map.insert("duplicate_in".into(), ingest.counters().duplicates().into());
            map.insert("identity_ignored".into(), ingest.counters().identity_ignored().into());
            map.insert("credentials_removed".into(), ingest.counters().credentials_removed().into());
        }
        map
    }

    fn test(&self, destination: Arc<Destination>) -> BoxFuture<Json> {
        let clients = self.clients.clone();
        let own = self.check(&destination).into_iter().next();
        Box::pin(async move {
            let failed = |diagnosis: &str, hint: String| json!({ "ok": false, "status": null, "url": "", "latency_ms": 0, "diagnosis": diagnosis, "hint": hint });
            if let Some(own) = own {
                return failed("loop", format!("{} {}", own.path, own.message));
            }
            let adapter = match tracecast_sinks::build(&destination, &clients) {
                Ok(adapter) => adapter,
                Err(error) => return failed("rejected", error.to_string()),
            };
            match tokio::time::timeout(TEST_WITHIN, adapter.test()).await {
                Ok(report) => serde_json::to_value(report).unwrap_or(Json::Null),
                Err(_) => failed("timeout", "no complete answer within 10 s".into()),
            }
        })
    }

    fn preview(&self, preview: &Preview) -> Result<Json, Vec<Issue>> {
        match self.ingest.get() {
            Some(ingest) => crate::preview::preview(ingest, &self.clients, preview),
            None => Err(vec![Issue {
                path: String::new(),
                message: "the gateway is still starting".into(),
                hint: Some("try again in a moment".into()),
            }]),
        }
    }

    fn pause(&self, id: Uuid) -> bool {
        self.delivery.pause(id)
    }

    fn resume(&self, id: Uuid) -> bool {
        self.delivery.resume(id)
    }

    fn dead_letters(
        &self,
        id: Uuid,
        filter: &LetterFilter,
        offset: usize,
        limit: usize,
    ) -> Result<Letters, Refused> {
        match self.find(id) {
            Some(known) => letters::page(&self.log, &self.delivery, &known, filter, offset, limit),
            None => Ok(Letters::default()),
        }
    }

    fn dead_letter(&self, id: Uuid, letter: u64) -> Option<Json> {
        letters::one(&self.log, &self.find(id)?, letter)
    }

    fn delete_dead_letters(&self, id: Uuid, filter: &LetterFilter) -> Result<u64, Refused> {
        self.find(id).map_or(Ok(0), |known| letters::delete(&self.log, &known, filter))
    }

    fn replay(&self, id: Uuid, filter: LetterFilter) -> BoxFuture<Result<Json, Refused>> {
        Box::pin(letters::replay(self.delivery.clone(), id, filter))
    }

    fn backfill(&self, id: Uuid, from_unix_nano: u64) -> BoxFuture<Result<Json, Refused>> {
        let (delivery, ingest, known) = (self.delivery.clone(), self.ingest.get().cloned(), self.find(id));
        Box::pin(async move {
            match (ingest, known) {
                (Some(ingest), Some(known)) => {
                    letters::backfill(delivery, ingest, known.slot, id, from_unix_nano).await
                }
                _ => Err(Refused::Unavailable("the gateway is still starting".to_owned())),
            }
        })
    }

    fn event(&self, trace_id: [u8; 16]) -> Json {
        self.events.look_up(trace_id)
    }

    fn tail(&self) -> Option<tokio::sync::broadcast::Receiver<Arc<Json>>> {
        self.events.tail()
    }

    fn ingest_address(&self) -> Option<String> {
        Some(self.addresses.http.to_string())
    }

    fn metrics(&self) -> String {
        self.metrics.get().map(Metrics::text).unwrap_or_default()
    }

    fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("stopping".to_owned());
        }
        if self.ingest.get().is_none() {
            reasons.push("starting".to_owned());
        }
        if !self.log.is_writable() {
            reasons.push("the log cannot be written".to_owned());
        }
        reasons
    }
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

fn oldest_seconds(books: &Books) -> f64 {
    age_seconds(books.oldest_pending_unix_nano)
}

/// 0 if there is nothing.
fn age_seconds(unix_nano: Option<u64>) -> f64 {
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
    if !known.destination.enabled {
        warnings.push("disabled: no event is selected".to_owned());
    }
    if books.accepted > 0 && books.selected == 0 {
        warnings.push("events arrive, but no rule lets one through: see skipped".to_owned());
    }
    warnings
}

/// Every metric of the gateway, in the names of the public interface.
pub(crate) const INSTRUMENTS: &[Instrument] = &[
    counter("tracecast_events_accepted_total", "Spans accepted, selected by a destination or not."),
    counter("tracecast_events_rejected_total", "Spans and requests refused, by reason."),
    counter(
        "tracecast_events_duplicate_total",
        "Spans that came again and were answered as their first copy was.",
    ),
    counter("tracecast_destination_selected_total", "Spans the destination's rules selected."),
    counter("tracecast_destination_requeued_total", "Spans replayed or backfilled."),
    counter("tracecast_destination_skipped_total", "Spans the rules did not select, by reason."),
    counter("tracecast_destination_delivered_total", "Spans the destination accepted."),
    counter(
        "tracecast_destination_dead_lettered_total",
        "Spans the destination refused for good, by reason.",
    ),
    counter("tracecast_destination_dropped_total", "Spans given up, by reason."),
    counter("tracecast_destination_attempts_total", "Requests made, by the class of their answer."),
    counter(
        "tracecast_destination_bisect_requests_total",
        "Requests made to find the spans a destination refuses.",
    ),
    counter("tracecast_destination_transitions_total", "Changes of state, by the state entered."),
    histogram(
        "tracecast_destination_delivery_latency_seconds",
        "From a span's acceptance here to its acceptance there.",
    ),
    gauge("tracecast_destination_retry_wait_seconds", "How long nothing is sent because of earlier answers."),
    gauge("tracecast_destination_pending_events", "Spans waiting to be delivered."),
    gauge("tracecast_destination_pending_bytes", "Bytes waiting to be delivered."),
    gauge("tracecast_destination_oldest_pending_seconds", "Age of the oldest span that waits."),
    gauge("tracecast_destination_in_flight", "Requests under way."),
    gauge("tracecast_destination_state", "1 for the state the destination is in."),
    gauge("tracecast_destination_dead_letters", "Dead letters kept."),
    gauge(
        "tracecast_destination_dlq_oldest_seconds",
        "Age of the oldest dead letter, since it was given up.",
    ),
    gauge("tracecast_destination_info", "Always 1; carries name and workspace."),
    histogram("tracecast_log_sync_seconds", "Time a sync of the log took."),
    histogram("tracecast_ingest_request_seconds", "Time from a request's head to its answer."),
    gauge("tracecast_log_bytes", "Bytes the log holds."),
    counter("tracecast_quarantined_bytes_total", "Damaged bytes of the log that were set aside."),
    counter("tracecast_sequence_gaps_total", "Records of the log known to have existed that are gone."),
    gauge(
        "tracecast_memory_used_bytes",
        "Bytes accounted for: requests in progress, sends, caches and memories, the log in memory mode.",
    ),
    gauge("tracecast_build_info", "Always 1; carries the version."),
];

const fn counter(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Counter }
}

const fn histogram(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Histogram }
}

const fn gauge(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Gauge }
}

impl Source for GatewayRuntime {
    fn series(&self, name: &str) -> Vec<Series> {
        let one = |value: u64| vec![(Vec::new(), value as f64)];
        match name {
            "tracecast_events_accepted_total" => one(self.log.accepted()),
            "tracecast_events_rejected_total" => self.ingest.get().map_or(Vec::new(), |ingest| {
                Reason::ALL
                    .iter()
                    .map(|r| (vec![("reason", r.as_str().to_owned())], ingest.counters().rejected(*r) as f64))
                    .collect()
            }),
            "tracecast_events_duplicate_total" => {
                self.ingest.get().map_or(Vec::new(), |i| one(i.counters().duplicates()))
            }
            "tracecast_log_bytes" => one(self.log.bytes()),
            "tracecast_memory_used_bytes" => one(self.memory_bytes()),
            "tracecast_quarantined_bytes_total" => one(self.log.damage().quarantined_bytes),
            "tracecast_sequence_gaps_total" => one(self.log.damage().records),
            "tracecast_build_info" => {
                vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)]
            }
            _ => {
                let mut series = Vec::new();
                for known in self.known.load().iter() {
                    self.destination_series(name, known, &mut series);
                }
                series
            }
        }
    }

    fn histograms(&self, name: &str) -> Vec<HistogramSeries> {
        let one = |durations: &Durations| {
            let figures = Histogram {
                buckets: durations.buckets(),
                sum: durations.seconds(),
                count: durations.total(),
            };
            vec![(Vec::new(), figures)]
        };
        match name {
            "tracecast_destination_delivery_latency_seconds" => {}
            "tracecast_log_sync_seconds" => return one(self.log.syncs()),
            "tracecast_ingest_request_seconds" => {
                return self.ingest.get().map_or(Vec::new(), |ingest| one(ingest.answered()));
            }
            _ => return Vec::new(),
        }
        let known = self.known.load();
        let series = known.iter().filter_map(|known| {
            let latency = self.delivery.stats(known.destination.id)?.latency;
            let figures =
                Histogram { buckets: latency.buckets, sum: latency.sum_seconds, count: latency.count };
            Some((destination_labels(&known.destination), figures))
        });
        series.collect()
    }
}

/// What tells the series of a destination from the others.
fn destination_labels(destination: &Destination) -> Vec<(&'static str, String)> {
    vec![("destination", destination.id.to_string()), ("type", destination.config.kind().as_str().to_owned())]
}

impl GatewayRuntime {
    fn destination_series(&self, name: &str, known: &Known, series: &mut Vec<Series>) {
        let id = known.destination.id;
        let labels = destination_labels(&known.destination);
        let mut push = |extra: Option<(&'static str, &str)>, value: f64| {
            let mut labels = labels.clone();
            labels.extend(extra.map(|(name, value)| (name, value.to_owned())));
            series.push((labels, value));
        };
        let Some(what) = name.strip_prefix("tracecast_destination_") else { return };
        if what == "info" {
            let mut labels = labels.clone();
            labels.push(("name", known.destination.name.clone()));
            labels.push(("workspace", known.destination.workspace_id.to_string()));
            series.push((labels, 1.0));
            return;
        }
        if matches!(
            what,
            "attempts_total"
                | "bisect_requests_total"
                | "transitions_total"
                | "retry_wait_seconds"
                | "in_flight"
                | "state"
        ) {
            let Some(live) = self.delivery.stats(id) else { return };
            match what {
                "attempts_total" => {
                    for (class, n) in &live.attempts_by_class {
                        push(Some(("class", *class)), *n as f64);
                    }
                }
                "bisect_requests_total" => push(None, live.bisect_requests as f64),
                "transitions_total" => {
                    for (state, n) in &live.transitions {
                        push(Some(("state", *state)), *n as f64);
                    }
                }
                "retry_wait_seconds" => push(None, live.retry_wait.as_secs_f64()),
                "in_flight" => push(None, f64::from(live.in_flight)),
                _ => {
                    for state in State::ALL {
                        push(Some(("state", state.as_str())), f64::from(u8::from(state == live.state)));
                    }
                }
            }
            return;
        }
        let books = self.log.books(known.slot);
        match what {
            "selected_total" => push(None, books.selected as f64),
            "requeued_total" => push(None, books.requeued as f64),
            "delivered_total" => push(None, books.delivered as f64),
            "skipped_total" => {
                for r in SkipReason::ALL {
                    push(Some(("reason", r.as_str())), books.skipped[*r as usize] as f64);
                }
            }
            "dead_lettered_total" => {
                for r in DeadReason::ALL {
                    push(Some(("reason", r.as_str())), books.dead_lettered[*r as usize] as f64);
                }
            }
            "dropped_total" => {
                for r in DropReason::ALL {
                    push(Some(("reason", r.as_str())), books.dropped[*r as usize] as f64);
                }
            }
            "pending_events" => push(None, books.pending as f64),
            "pending_bytes" => push(None, books.pending_bytes as f64),
            "oldest_pending_seconds" => push(None, oldest_seconds(&books)),
            "dlq_oldest_seconds" => push(None, age_seconds(self.log.dead_letters().oldest(known.slot))),
            "dead_letters" => push(None, self.log.dead_letters().count(known.slot) as f64),
            _ => {}
        }
    }
}
