//! The control plane: store (SQLite, secrets sealed), control API (axum), snapshot building.
//!
//! A write goes through four steps, in this order: the change is committed to SQLite, the adapters are brought in line
//! ([`Runtime::apply`]), the data plane's [`Snapshot`] is swapped, the caller is answered. Writes that come while others
//! go through them wait, and then take the steps together. Each step costs what the writes change: everything else is
//! shared with the version before.
//! So an answered write holds for the very next event, and a write that failed left nothing behind. Reads are
//! answered from an immutable in-memory model that is swapped in the same step; they touch neither the store
//! nor the writer's lock. The one thing that changes without a write is what the keys spent ([`Control::record_usage`]).
//!
//! ```text
//! api ──► queue ──► publish ──► store (SQLite, seal)  api    routes, auth, envelopes
//!            │                                      queue    writes that wait for their turn
//!            │                                      publish  the four steps above
//!            ├──► snapshot ──► Runtime::apply       model    what the store holds, in memory
//!            └──► model, Snapshot (swapped)         bootstrap first start, config_file its destinations and keys
//!                                                   usage    what the keys spent, windows, limits
//! ```
//!
//! Secrets of destinations are in clear only inside [`Destination`]; on disk they are sealed, in answers masked.
//! Keys exist only as SHA-256: they are found by hash lookup, which also makes the comparison constant-time.

mod api;
mod bootstrap;
mod config_file;
mod hex;
mod letters;
mod model;
mod publish;
mod queue;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod usage;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Map, Value as Json};
use tracecast_destination::{Destination, Issue};
use tracecast_rules::{CanAssert, Snapshot};
use uuid::Uuid;

use crate::model::Model;
use crate::snapshot::Touched;
use crate::store::Store;

pub use crate::bootstrap::{read_workspaces, reset_management_key};
pub use crate::letters::{LetterFilter, Letters, Refused};
pub use crate::usage::KeyUsage;

/// What the control plane needs of the running gateway. Implemented by the binary.
pub trait Runtime: Send + Sync + 'static {
    /// The destination's slot in the log.
    fn slot(&self, id: Uuid) -> u32;

    /// Brings the adapters in line with what a write changed; the data plane follows when this returns. The first
    /// call names every destination. To be told the same again changes nothing.
    /// Returns what went wrong, per destination. Called outside the async workers; may block.
    fn apply(&self, changes: &[DestinationChange]) -> Vec<(Uuid, String)>;

    /// What speaks against a valid destination in this process, such as a URL that is one of its own listeners.
    fn check(&self, destination: &Destination) -> Vec<Issue> {
        let _ = destination;
        Vec::new()
    }

    /// Body of `GET .../stats` without the identity fields, plus anything additive. Its `state` is also shown on
    /// the destination object.
    fn stats(&self, id: Uuid) -> Map<String, Json>;

    /// The `gateway` object of `GET /observability/stats`.
    fn gateway_stats(&self) -> Map<String, Json>;

    /// Tests the connection: `{ok, status, url, latency_ms, diagnosis, hint}`.
    fn test(&self, destination: Arc<Destination>) -> futures_like::BoxFuture<Json>;

    /// What would become of an event: `{decisions: [{rule, passed, text}], selected, spans, skipped, requests:
    /// [{method, url, headers, body, body_encoding, json}]}`, without secrets; nothing is sent or remembered. An error
    /// says what is wrong with the event. Called outside the async workers; may block.
    fn preview(&self, preview: &Preview) -> Result<Json, Vec<Issue>>;

    /// Stops sending to the destination; `false` if it is unknown.
    fn pause(&self, id: Uuid) -> bool;

    /// Sends again, at once; `false` if the destination is unknown.
    fn resume(&self, id: Uuid) -> bool;

    /// A page of the dead letters of a destination. Called outside the async workers; may block.
    fn dead_letters(
        &self,
        id: Uuid,
        filter: &LetterFilter,
        offset: usize,
        limit: usize,
    ) -> Result<Letters, Refused>;

    /// One dead letter with its spans; `None` if there is none. May block.
    fn dead_letter(&self, id: Uuid, letter: u64) -> Option<Json>;

    /// Removes dead letters; answers how many. May block.
    fn delete_dead_letters(&self, id: Uuid, filter: &LetterFilter) -> Result<u64, Refused>;

    /// Sends dead letters again: `{matched, requeued, waiting}`.
    fn replay(&self, id: Uuid, filter: LetterFilter) -> futures_like::BoxFuture<Result<Json, Refused>>;

    /// Sends again what the log still holds from a time on (unix nanoseconds):
    /// `{oldest_at, records, requeued, complete, next_from}`.
    fn backfill(&self, id: Uuid, from_unix_nano: u64) -> futures_like::BoxFuture<Result<Json, Refused>>;

    /// What became of a trace: `{trace_id, complete, received_at, destinations}`. May block.
    fn event(&self, trace_id: [u8; 16]) -> Json;

    /// A line per event from now on; `None` once the gateway stops. Whoever reads too slowly loses lines.
    fn tail(&self) -> Option<tokio::sync::broadcast::Receiver<Arc<Json>>>;

    /// `host:port` of the listener that takes OTLP over HTTP; named to those who sent it to the admin listener.
    fn ingest_address(&self) -> Option<String> {
        None
    }

    /// Prometheus text.
    fn metrics(&self) -> String;

    /// Empty = ready; else the reasons it is not.
    fn not_ready(&self) -> Vec<String>;
}

/// What became of a destination.
#[derive(Clone, Debug)]
pub enum DestinationChange {
    /// It takes events, as this says; with its slot in the log.
    Active(u32, Arc<Destination>),
    /// The same, and the user has paused it: not a request is sent.
    Paused(u32, Arc<Destination>),
    /// An earlier config file declared it: it takes no events and keeps its backlog, paused.
    Retired(u32, Arc<Destination>),
    /// It was deleted: its backlog is given up.
    Deleted(Uuid),
}

/// What [`Runtime::preview`] is asked.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Stored, or only described.
    pub destination: Arc<Destination>,
    /// The switch of its workspace.
    pub is_broadcast_enabled: bool,
    /// An OTLP JSON request or records of `/v1/events`; `None` = a sample.
    pub event: Option<Json>,
}

/// The one future type of the [`Runtime`] trait.
pub mod futures_like {
    /// A boxed, sendable future.
    pub type BoxFuture<T> = super::Pin<Box<dyn super::Future<Output = T> + Send>>;
}

/// How to open the control plane.
#[derive(Debug)]
pub struct Options {
    /// Directory of `control.sqlite` and, without [`Options::master_key`], `master.key`. Created 0700.
    pub data_dir: PathBuf,
    /// Given by the operator: no key is generated, only its hash kept. At least 32 characters.
    pub management_key: Option<secrecy::SecretString>,
    /// Base64 or hex 32 bytes; otherwise a 0600 file in the data dir, created at the first start.
    pub master_key: Option<secrecy::SecretString>,
    /// Destinations of the config file (validated), shown read-only.
    pub file_destinations: Vec<Destination>,
    /// Ordinary keys of the config file.
    pub file_keys: Vec<FileKey>,
    /// API-created destinations per kind and workspace.
    pub destinations_per_kind: u32,
    /// Largest request body the control API reads; above it is 413.
    pub max_body_bytes: usize,
}

/// An ordinary key declared in the config file.
#[derive(Clone, Debug)]
pub struct FileKey {
    /// Name shown by the API and usable in filter rules.
    pub name: String,
    /// SHA-256 of the complete key string.
    pub sha256: [u8; 32],
    /// Id or slug; `None` = the default workspace.
    pub workspace: Option<String>,
    /// Which identity events sent with the key may state.
    pub can_assert: CanAssert,
}

/// The open control plane.
#[derive(Debug)]
pub struct Control {
    store: Store,
    runtime: RuntimeHandle,
    model: ArcSwap<Model>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Writes that wait for their turn.
    writes: queue::Queue,
    /// The turn: one group of writes at a time; holds what the data plane failed to take over, for the next one to make up for.
    writer: tokio::sync::Mutex<Touched>,
    /// Usage that is not stored yet. Taken before `writer` where both are.
    tally: tokio::sync::Mutex<usage::Tally>,
    /// Why the data plane runs on an older snapshot than the store says; `None` = it does not.
    stale: ArcSwapOption<String>,
    limits: Limits,
}

/// The runtime, with a `Debug` that says nothing.
#[derive(Clone)]
struct RuntimeHandle(Arc<dyn Runtime>);

impl std::fmt::Debug for RuntimeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    destinations_per_kind: u32,
    max_body_bytes: usize,
}

impl Control {
    /// Opens (or creates) the store, does what a first start needs, brings the runtime in line with what is
    /// stored. `generated_management_key` is to be printed once.
    pub async fn open(options: Options, runtime: Arc<dyn Runtime>) -> Result<Opened, Error> {
        bootstrap::open(options, RuntimeHandle(runtime)).await
    }

    /// What the data plane decides by; swapped as a whole by every write.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// The admin listener's routes: `/api/v1`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`.
    pub fn router(self: Arc<Self>) -> axum::Router {
        api::router(self)
    }

    /// Slugs of the workspaces whose broadcast is switched off: nothing of theirs is sent anywhere.
    pub fn silent_workspaces(&self) -> Vec<String> {
        let model = self.model();
        let silent = model.workspaces.values().filter(|w| !w.settings.is_observability_broadcast_enabled);
        silent.map(|w| w.slug.clone()).collect()
    }

    /// Takes over the destinations and keys of a changed config file. An error changes nothing.
    pub async fn reload(
        self: &Arc<Self>,
        destinations: Vec<Destination>,
        keys: Vec<FileKey>,
    ) -> Result<(), Error> {
        bootstrap::reload(self, destinations, keys).await
    }

    /// Waits for a write under way and closes the store. Writes fail afterwards.
    pub async fn close(&self) {
        let _writer = self.writer.lock().await;
        self.store.close().await;
    }

    fn model(&self) -> Arc<Model> {
        self.model.load_full()
    }

    fn runtime(&self) -> &dyn Runtime {
        self.runtime.0.as_ref()
    }
}

/// What [`Control::open`] returns.
#[derive(Debug)]
pub struct Opened {
    /// The open control plane.
    pub control: Arc<Control>,
    /// Only at the first start without [`Options::management_key`]; stored as a hash, so this is the one chance
    /// to show it.
    pub generated_management_key: Option<secrecy::SecretString>,
}

/// Why the control plane could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used: not writable, locked by another process.
    #[error("{path}: {reason}")]
    DataDir {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The master key is missing, malformed, or not the one the store was sealed with.
    #[error("{path}: {reason}")]
    MasterKey {
        /// The store or the key file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// SQLite failed.
    #[error("store: {0}")]
    Store(#[source] Arc<sqlx::Error>),
    /// Something given (option, destination or key of the config file) is not acceptable.
    #[error("{0}")]
    Invalid(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}
