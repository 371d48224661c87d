//! The control plane: store (SQLite, secrets sealed), control API (axum), snapshot building.
#![allow(unused, missing_docs, clippy::unimplemented)]
use std::path::PathBuf;
use std::sync::Arc;
use arc_swap::ArcSwap;
use tracecast_destination::{Destination, Issue, Kind};
use tracecast_rules::{CanAssert, Snapshot};
use uuid::Uuid;

/// What the control plane needs of the running gateway. Implemented by the binary.
pub trait Runtime: Send + Sync + 'static {
    fn is_available(&self, kind: Kind) -> bool;
    /// The destination's slot in the log.
    fn slot(&self, id: Uuid) -> u32;
    /// The adapters are made; the data plane follows when this returns. Errors per destination.
    fn apply(&self, destinations: &[(u32, Arc<Destination>)]) -> Vec<(Uuid, String)>;
    /// Body of `GET .../stats` without the identity fields (design 3.4), plus anything additive.
    fn stats(&self, id: Uuid) -> serde_json::Map<String, serde_json::Value>;
    fn gateway_stats(&self) -> serde_json::Map<String, serde_json::Value>;
    fn test(&self, destination: Arc<Destination>) -> futures_like::BoxFuture<serde_json::Value>;
    fn pause(&self, id: Uuid) -> bool;
    fn resume(&self, id: Uuid) -> bool;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// Empty = ready; else the reasons it is not.
    fn not_ready(&self) -> Vec<String>;
}
pub mod futures_like { pub type BoxFuture<T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send>>; }

#[derive(Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    /// Given by the operator: no key is generated, only its hash kept.
    pub management_key: Option<secrecy::SecretString>,
    /// Base64 or hex 32 bytes; otherwise a 0600 file in the data dir.
    pub master_key: Option<secrecy::SecretString>,
    /// Destinations and ordinary keys of the config file (validated), shown read-only.
    pub file_destinations: Vec<Destination>,
    pub file_keys: Vec<FileKey>,
    /// API-created destinations per kind and workspace.
    pub destinations_per_kind: u32,
    pub max_body_bytes: usize,
}
#[derive(Clone, Debug)]
pub struct FileKey { pub name: String, pub sha256: [u8; 32], pub workspace: Option<String>, pub can_assert: CanAssert }

pub struct Control {}
impl Control {
    /// Opens (or creates) the store, first-start bootstrap. `generated_management_key` is to be printed once.
    pub async fn open(options: Options, runtime: Arc<dyn Runtime>) -> Result<Opened, Error> { unimplemented!() }
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> { unimplemented!() }
    /// The admin listener's routes: /api/v1, /healthz, /readyz, /metrics.
    pub fn router(self: Arc<Self>) -> axum::Router { unimplemented!() }
}
pub struct Opened { pub control: Arc<Control>, pub generated_management_key: Option<secrecy::SecretString> }
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {reason}")] DataDir { path: PathBuf, reason: String },
    #[error("store: {0}")] Store(#[from] sqlx::Error),
    #[error("{0}")] Invalid(String),
}
