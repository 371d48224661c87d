//! What the control plane and the metrics see of the running gateway.

mod metrics;
mod stats;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tracecast_control::futures_like::BoxFuture;
use tracecast_control::{DestinationChange, LetterFilter, Letters, Preview, Refused, Runtime};
use tracecast_delivery::{Delivery, Standing};
use tracecast_destination::{Destination, Issue};
use tracecast_ingest::{Connections, Ingest, Reason};
use tracecast_log::{Books, Log};
use tracecast_sinks::Clients;
use tracecast_telemetry::Metrics;
use uuid::Uuid;

use crate::events::Events;
use crate::gateway::BoundAddresses;
use crate::known::{Directory, Known};
use crate::letters;
use crate::listeners;
use crate::operations::Operations;

pub(crate) use metrics::INSTRUMENTS;
pub(crate) use stats::time;

/// A connection test ends after this long at the latest.
const TEST_WITHIN: Duration = Duration::from_secs(10);

/// What figures are held against, as metrics of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most that what is counted as used memory can be.
    pub(crate) memory_bytes: u64,
    /// How long an event is tried.
    pub(crate) max_age: Duration,
}

/// The seam between the crates, as the binary composes them.
pub(crate) struct GatewayRuntime {
    log: Log,
    delivery: Delivery,
    clients: Clients,
    addresses: BoundAddresses,
    known: Arc<Directory>,
    events: Arc<Events>,
    operations: Arc<Operations>,
    bounds: Bounds,
    ingest: OnceLock<Ingest>,
    connections: OnceLock<Arc<Connections>>,
    metrics: OnceLock<Metrics>,
    draining: AtomicBool,
}

impl GatewayRuntime {
    pub(crate) fn new(
        log: Log,
        delivery: Delivery,
        clients: Clients,
        addresses: BoundAddresses,
        instance_id: &str,
        operations: Option<String>,
        bounds: Bounds,
    ) -> GatewayRuntime {
        let known: Arc<Directory> = Arc::default();
        let operations = Arc::new(Operations::new(known.clone(), instance_id.to_owned(), operations));
        let told = operations.clone();
        delivery.watch(Arc::new(move |destination, transition| told.changed(destination, transition)));
        let events = Arc::new(Events::new(log.clone(), known.clone()));
        delivery.observe(events.clone());
        GatewayRuntime {
            log,
            delivery,
            clients,
            addresses,
            known,
            events,
            operations,
            bounds,
            ingest: OnceLock::new(),
            connections: OnceLock::new(),
            metrics: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn attach_ingest(&self, ingest: Ingest, connections: Arc<Connections>) {
        ingest.observe(self.events.clone());
        let _ = self.connections.set(connections);
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

    /// What reports changes of state.
    pub(crate) fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// The destinations that take events.
    pub(crate) fn destinations(&self) -> Vec<Arc<Destination>> {
        self.known.all().iter().filter(|k| !k.retired).map(|k| k.destination.clone()).collect()
    }

    /// The books of destinations that are gone: their spans are accounted for as well.
    fn deleted_books(&self) -> Map<String, Json> {
        let mut sum = Books::default();
        for (slot, _) in self.log.slots().into_iter().filter(|(slot, _)| !self.known.is_known(*slot)) {
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
}

impl Runtime for GatewayRuntime {
    fn slot(&self, id: Uuid) -> u32 {
        self.log.slot(id.into_bytes())
    }

    fn apply(&self, changes: &[DestinationChange]) -> Vec<(Uuid, String)> {
        let mut errors = Vec::new();
        let mut put = |slot: u32, destination: &Arc<Destination>, standing: Standing| {
            let retired = standing == Standing::Retired;
            self.known.insert(Known { slot, destination: destination.clone(), retired });
            if let Err(reason) = self.delivery.put(slot, destination, standing) {
                errors.push((destination.id, reason));
            }
        };
        for change in changes {
            match change {
                DestinationChange::Active(slot, destination) => put(*slot, destination, Standing::Active),
                DestinationChange::Paused(slot, destination) => put(*slot, destination, Standing::Paused),
                DestinationChange::Retired(slot, destination) => put(*slot, destination, Standing::Retired),
                DestinationChange::Deleted(id) => {
                    self.delivery.remove(*id);
                    self.known.remove(*id);
                }
            }
        }
        errors
    }

    fn check(&self, destination: &Destination) -> Vec<Issue> {
        let BoundAddresses { http, grpc, admin } = self.addresses;
        listeners::own(destination, &[http, grpc, admin]).into_iter().collect()
    }

    fn stats(&self, id: Uuid) -> Map<String, Json> {
        self.known.find(id).map(|known| stats::of(&self.log, &self.delivery, &known)).unwrap_or_default()
    }

    fn gateway_stats(&self) -> Map<String, Json> {
        let mut map = Map::new();
        map.insert("accepted".into(), self.log.accepted().into());
        map.insert("log_bytes".into(), self.log.bytes().into());
        map.insert("deleted_destinations".into(), self.deleted_books().into());
        map.insert("operational_events_lost".into(), self.operations.lost().into());
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
        match self.known.find(id) {
            Some(known) => letters::page(&self.log, &self.delivery, &known, filter, offset, limit),
            None => Ok(Letters::default()),
        }
    }

    fn dead_letter(&self, id: Uuid, letter: u64) -> Option<Json> {
        letters::one(&self.log, &*self.known.find(id)?, letter)
    }

    fn delete_dead_letters(&self, id: Uuid, filter: &LetterFilter) -> Result<u64, Refused> {
        self.known.find(id).map_or(Ok(0), |known| letters::delete(&self.log, &known, filter))
    }

    fn replay(&self, id: Uuid, filter: LetterFilter) -> BoxFuture<Result<Json, Refused>> {
        Box::pin(letters::replay(self.delivery.clone(), id, filter))
    }

    fn backfill(&self, id: Uuid, from_unix_nano: u64) -> BoxFuture<Result<Json, Refused>> {
        let (delivery, ingest, known) =
            (self.delivery.clone(), self.ingest.get().cloned(), self.known.find(id));
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
