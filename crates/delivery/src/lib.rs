//! The per-destination runtime: batching, concurrency, retry, dead letters, the books.
#![allow(unused, missing_docs, clippy::unimplemented)]
use std::sync::Arc;
use std::time::Duration;
use tracecast_destination::Destination;
use tracecast_log::{Entry, Log, Recovered, Sequence, Slot, Subscriber};
use tracecast_sinks::Clients;
use uuid::Uuid;

/// Owns one runtime per destination; a `Subscriber` of the log.
#[derive(Clone)]
pub struct Delivery {}
impl Delivery {
    pub fn new(log: Log, clients: Clients, options: Options) -> Delivery { unimplemented!() }
    /// Makes the set of destinations what it should be: new ones start, changed ones get the new config
    /// (queue kept), missing ones are drained as `DestinationDeleted` unless listed as retired/paused.
    pub fn apply(&self, destinations: &[(Slot, Arc<Destination>)]) -> Vec<(Uuid, String)> { unimplemented!() }
    /// Hands over what recovery found; call after the first `apply`.
    pub fn recover(&self, pending: Vec<Arc<Entry>>) { unimplemented!() }
    pub fn stats(&self, id: Uuid) -> Option<Stats> { unimplemented!() }
    pub fn pause(&self, id: Uuid) -> bool { unimplemented!() }
    pub fn resume(&self, id: Uuid) -> bool { unimplemented!() }
    /// Lets in-flight sends finish up to `grace`, starts nothing new.
    pub async fn shutdown(&self, grace: Duration) { unimplemented!() }
}
impl Subscriber for Delivery {
    fn committed(&self, entry: Arc<Entry>) { unimplemented!() }
    fn give_up(&self, slot: Slot, up_to: Sequence) { unimplemented!() }
}
#[derive(Clone, Debug)]
pub struct Options { pub max_age: Duration, pub retry_base: Duration, pub retry_cap: Duration, pub attempt_timeout: Duration }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State { Healthy, Degraded, Throttled, Open, HeldAuth, HeldConfig, AutoPaused, Gone, Paused, Draining, Retired }
impl State { pub fn as_str(self) -> &'static str { unimplemented!() } }
/// What the books do not know: live state, last error, latencies.
#[derive(Clone, Debug)]
pub struct Stats { pub state: State, pub since_unix_nano: u64, pub in_flight: u32, pub attempts: u64, pub retries: u64, pub bytes_sent: u64,
    pub last_error: Option<LastError>, pub last_delivered_unix_nano: Option<u64>,
    /// Accepted-to-accepted latency: p50 and p99 in milliseconds, from a histogram over the process's life.
    pub latency_p50_ms: Option<f64>, pub latency_p99_ms: Option<f64> }
#[derive(Clone, Debug)]
pub struct LastError { pub status: Option<u16>, pub excerpt: String, pub at_unix_nano: u64 }
