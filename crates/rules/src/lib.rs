//! The compiled decision per destination: switch, region, key, sampling, filter, privacy. Pure: no I/O, no clock.
#![allow(unused, missing_docs, clippy::unimplemented)]
use std::collections::HashMap;
use std::sync::Arc;
use tracecast_destination::{Destination, Region};
use tracecast_otlp::{SpanSet, Traces};
use uuid::Uuid;

/// Everything the data plane needs to know, immutable; swapped as a whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub generation: u64,
    /// Ordinary keys by SHA-256 of the secret. Management keys are in `management_keys` only.
    pub keys: HashMap<[u8; 32], IngestKey>,
    /// So that ingest can say "management keys never ingest" (403).
    pub management_keys: std::collections::HashSet<[u8; 32]>,
    pub workspaces: HashMap<Uuid, Arc<Plan>>,
}
#[derive(Clone, Debug)]
pub struct IngestKey { pub name: String, pub label: String, pub workspace_id: Uuid, pub disabled: bool,
    /// Unix seconds; `None` = never.
    pub expires_at: Option<i64>, pub can_assert: CanAssert }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanAssert { #[default] None, OwnWorkspace, AnyWorkspace }

#[derive(Debug, thiserror::Error)]
#[error("destination {destination}: {reason}")]
pub struct CompileError { pub destination: Uuid, pub reason: String }

/// The compiled rules of one workspace.
#[derive(Debug)]
pub struct Plan {}
impl Plan {
    /// `destinations` with the slot each has in the log.
    pub fn compile(broadcast_enabled: bool, destinations: &[(u32, Arc<Destination>)]) -> Result<Plan, CompileError> { unimplemented!() }
    /// Decides every span of the request for every destination. `memory` is read and updated.
    pub fn decide(&self, traces: &Traces, context: &Context<'_>, memory: &TraceMemory) -> Decision { unimplemented!() }
}
/// Who sent it. The identity here has been authorised already.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> { pub region: Region, pub api_key_hash: Option<[u8; 32]>, pub api_key_name: Option<&'a str>, pub now_unix_nano: u64 }
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub routes: Vec<Selected>,
    pub skips: Vec<(u32, Skip, u32)>,
    /// Union of the routes (positions in the request); what must be kept.
    pub union: Option<SpanSet>,
    /// Every destination that selects anything is in privacy mode: content must go before the log.
    pub all_private: bool,
    /// What the trace memory learned from this request, encoded for the record (`TraceMemory::restore`).
    pub trace_keys: Vec<u8>,
}
#[derive(Clone, Debug)]
pub struct Selected { pub slot: u32, pub private: bool, pub spans: SpanSet }
/// Same order and codes as the log's skip reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Skip { Disabled = 0, Region = 1, Key = 2, Sampled = 3, Filter = 4, Kind = 5 }

/// Trace id -> sampling key, and verdict bits of destinations with filters. At most 10 minutes and 16 MiB, oldest out, counted.
#[derive(Debug, Default)]
pub struct TraceMemory {}
impl TraceMemory {
    pub fn new(max_bytes: usize) -> TraceMemory { unimplemented!() }
    /// Replays what a record stored.
    pub fn restore(&self, received_unix_nano: u64, trace_keys: &[u8]) { unimplemented!() }
    pub fn evicted(&self) -> u64 { unimplemented!() }
}
